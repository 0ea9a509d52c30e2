"""Strings as IMAP writes them (RFC 3501, 4.3; RFC 9051, 4.3): quoted if possible, else a literal."""

from __future__ import annotations

import re
from typing import Final

_PLAIN: Final = re.compile(rb"[\t\x20\x21\x23-\x5b\x5d-\x7e]*")
_QUOTABLE: Final = re.compile(rb"[\t\x20-\x7e]*")


def string(data: bytes) -> bytes:
    """A quoted string, or a literal if there are line ends or bytes above 127. NUL, which IMAP cannot carry, is left out."""
    if _PLAIN.fullmatch(data):
        return b'"%s"' % data
    if _QUOTABLE.fullmatch(data):
        return b'"%s"' % data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    data = data.replace(b"\0", b"")
    return b"{%d}\r\n%s" % (len(data), data)


def nstring(data: bytes | None) -> bytes:
    """A string, or NIL for None."""
    return b"NIL" if data is None else string(data)
