"""Messages with binary parts become such that any program can read them: these parts are encoded (RFC 3516, 4.5)."""

from __future__ import annotations

import base64
import re
from typing import Final

from appliance.formats.mime import Part, parse_structure

_LINE: Final = 57
_ENCODING = re.compile(rb"(?im)^content-transfer-encoding[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*")


def downgraded(message: bytes) -> bytes | None:
    """A message in wire form without binary parts; None if octets are left that no text can hold."""
    changes: list[tuple[int, int, bytes]] = []
    for part in parse_structure(message).walk():
        binary = part.encoding.lower() == b"binary"
        if part.is_multipart or part.is_message:
            if binary:
                changes.append(_field(message, part, b"8bit"))
            continue
        end = part.end
        if message[end - 1 : end] == b"\r" and message[end : end + 1] == b"\n":
            end -= 1  # the line end belongs to the boundary
        body = message[part.body_start : end]
        if binary or b"\0" in body:
            changes.append(_field(message, part, b"base64"))
            changes.append((part.body_start, end, _encoded(body)))
    for start, end, text in sorted(changes, reverse=True):
        message = message[:start] + text + message[end:]
    return None if b"\0" in message else message


def _encoded(body: bytes) -> bytes:
    lines = [base64.b64encode(body[at : at + _LINE]) for at in range(0, len(body), _LINE)]
    return b"\r\n".join(lines)


def _field(message: bytes, part: Part, encoding: bytes) -> tuple[int, int, bytes]:
    """The change that makes this the part's encoding."""
    line = b"Content-Transfer-Encoding: %b\r\n" % encoding
    found = _ENCODING.search(message, part.header_start, part.body_start)
    return (found.start(), found.end(), line) if found else (part.header_start, part.header_start, line)
