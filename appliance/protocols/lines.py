"""Input of protocols that speak in lines, and the commands of a log-in that POP and PWD have in common: pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

__all__ = ["TOO_LONG", "Apop", "Auth", "LineBuffer", "Pass", "Response", "Stls", "TooLong", "User"]


class TooLong:
    """In place of a line that was longer than allowed; what more comes of it is dropped."""


TOO_LONG: Final = TooLong()


class LineBuffer:
    """What was received and not taken yet. Lines end with LF or CR-LF."""

    __slots__ = ("_scanned", "_skipping", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        self._scanned = 0
        self._skipping = False

    def next(self, limit: int) -> bytes | TooLong | None:
        """The next line without its end, TOO_LONG once for one of more than `limit` bytes, None if more input is needed."""
        while True:
            end = self.data.find(b"\n", self._scanned)
            if end < 0:
                if len(self.data) > limit + 1:
                    self.clear()
                    if not self._skipping:
                        self._skipping = True
                        return TOO_LONG
                self._scanned = len(self.data)
                return None
            line = bytes(self.data[:end]).removesuffix(b"\r")
            del self.data[: end + 1]
            self._scanned = 0
            if self._skipping:
                self._skipping = False
                continue
            return line if len(line) <= limit else TOO_LONG

    def clear(self) -> None:
        """Forget what was received."""
        self.data.clear()
        self._scanned = 0


@dataclass(frozen=True, slots=True)
class User:
    """USER: the name stays with the protocol until PASS."""

    name: str


@dataclass(frozen=True, slots=True)
class Pass:
    """PASS, with the name of the USER before it."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Apop:
    """APOP: name and digest of the greeting's challenge and the password (RFC 1939, 7)."""

    name: str
    digest: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH with a method and perhaps the decoded initial response (RFC 5034, 4)."""

    method: str
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """The line after a challenge: base64, or "*" to give up; `sasl.decode` reads it."""

    line: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stls:
    """STLS; no input is buffered behind it (RFC 2595, 4)."""
