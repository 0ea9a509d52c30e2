"""Replies of SMTP: how a server writes them (RFC 5321, 4.2; RFC 2034) and how a client reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_REPLY_LINE: Final = 512
"""Octets of a reply line that is sent, its end included (RFC 5321, 4.5.3.1.5)."""
MAX_READ_LINE: Final = 4096
"""Octets of a reply line that is taken from a server."""
MAX_READ_LINES: Final = 100
"""Lines of a reply that are taken from a server."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")


class ProtocolError(Exception):
    """The peer does not speak SMTP, or goes beyond a bound. The connection is of no more use; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: three digits, text of one or more lines (separated by LF), and the enhanced status code, if any.

    The greeting, the replies to HELO and EHLO, and replies 3xx carry no enhanced status code (RFC 2034, 3).
    """

    code: int
    text: str
    status: str = ""

    @property
    def positive(self) -> bool:
        """2xx."""
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        """4xx: the same may succeed later."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5xx."""
        return self.code >= 500

    def __str__(self) -> str:
        """As one line, for logs and reports."""
        words = [str(self.code), self.status, self.text.replace("\n", " ")]
        return " ".join(word for word in words if word)

    def render(self) -> bytes:
        """The bytes on the wire. Text that is too long for a line goes on in the next one; control symbols are blanked."""
        prefix = f"{self.status} " if self.status else ""
        if len(self.text) < 160 and self.text.isprintable():
            return f"{self.code} {prefix}{self.text}\r\n".encode("utf-8", "surrogateescape")
        room = MAX_REPLY_LINE - 6 - len(prefix)
        lines: list[bytes] = []
        for line in self.text.split("\n"):
            data = _UNPRINTABLE.sub(" ", line).encode("utf-8", "surrogateescape")
            while len(data) > room:
                cut = data.rfind(b" ", room // 2, room) + 1 or room
                lines.append(data[:cut].rstrip())
                data = data[cut:]
            lines.append(data)
        head, code = prefix.encode(), b"%d" % self.code
        last = len(lines) - 1
        return b"".join(
            code + (b" " if index == last else b"-") + head + line + b"\r\n" for index, line in enumerate(lines)
        )


class ReplyReader:
    """Bytes of a server in, replies out. Forgives bare LF, a missing text and lines whose codes differ (the last counts)."""

    __slots__ = ("_buffer", "_lines", "_scanned")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._scanned = 0

    @property
    def buffered(self) -> bool:
        """Whether bytes wait that are not part of a reply that was given out."""
        return bool(self._buffer or self._lines)

    def receive(self, data: bytes) -> None:
        """Bytes off the connection. The caller takes all replies before it reads more, which bounds the buffer."""
        self._buffer += data

    def next_reply(self) -> Reply | None:
        """The next whole reply, None if more input is needed. Raises ProtocolError."""
        while True:
            end = self._buffer.find(b"\n", self._scanned)
            if (len(self._buffer) if end < 0 else end) > MAX_READ_LINE:
                raise ProtocolError("a reply line is too long")
            if end < 0:
                self._scanned = len(self._buffer)
                return None
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            self._scanned = 0
            match = _LINE.fullmatch(line)
            if match is None:
                shown = line[:80].decode("ascii", "backslashreplace")
                raise ProtocolError(f"this is not an SMTP reply: {shown}")
            self._lines.append(match[3] or b"")
            if len(self._lines) > MAX_READ_LINES:
                raise ProtocolError("a reply has too many lines")
            if match[2] != b"-":
                lines, self._lines = self._lines, []
                return _reply(int(match[1]), lines)


def _reply(code: int, lines: list[bytes]) -> Reply:
    texts = [_UNPRINTABLE.sub(" ", line.decode("utf-8", "replace")) for line in lines]
    match = _STATUS.match(texts[-1])
    if match is None or int(match[1][0]) != code // 100:
        return Reply(code, "\n".join(texts))
    status = match[1]
    bare = (text[len(status) :].lstrip(" ") if text.startswith(status) else text for text in texts)
    return Reply(code, "\n".join(bare), status)
