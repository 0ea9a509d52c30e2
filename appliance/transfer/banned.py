"""Banned lines: messages that come in RFC 822 form are refused if one of their header fields or body lines is on the lists of
the Protection page (manual, chapter 7, Banning Mail by Header and Body Lines).

Case counts, `*` stands for any text, nothing is decoded; a folded field is compared with its line ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from appliance.formats.data import Value
from appliance.formats.headers import fields
from appliance.formats.wildcards import matches
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import Group, Raw, Setting, SettingError, Settings

__all__ = ["BANNED", "SOURCES", "BannedLines", "BodyCheck", "declare"]

SOURCES: Final = frozenset({"SMTP", "RPOP", "POP", "PIPE"})
"""The modules whose messages are compared."""
MAX_LINES: Final = 10_000
MAX_LINE: Final = 4096
_LONGEST: Final = 64 << 10
"""A body line is compared up to this length."""


def _lines(value: Value) -> Value:
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise ValueError("an array of strings is expected")
    if len(value) > MAX_LINES or any(isinstance(line, str) and len(line) > MAX_LINE for line in value):
        raise ValueError("too many lines, or a line that is too long")
    return [line.replace("\r\n", "\n") for line in value if isinstance(line, str) and line.strip()]


HEADER_LINES: Setting[Any] = Setting("HeaderLines", Raw(_lines), [], "Banned Header Lines")
BODY_LINES: Setting[Any] = Setting("BodyLines", Raw(_lines), [], "Banned Body Lines")
BANNED = Group("Banned", "Banned Lines", (HEADER_LINES, BODY_LINES))


class _Pictures:
    """A list of lines, ready to be compared with."""

    __slots__ = ("exact", "wild")

    def __init__(self, lines: Sequence[str]) -> None:
        octets = [line.encode("utf-8", "surrogateescape") for line in lines]
        self.exact = frozenset(line for line in octets if b"*" not in line)
        self.wild = [(line.partition(b"*")[0], line.decode("latin-1")) for line in octets if b"*" in line]

    def __bool__(self) -> bool:
        return bool(self.exact or self.wild)

    def hit(self, line: bytes) -> bool:
        if line in self.exact:
            return True
        return any(
            line.startswith(head) and matches(picture, line[:_LONGEST].decode("latin-1"), casefold=False)
            for head, picture in self.wild
        )


class BannedLines:
    """The two lists; compiled again when the settings change."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._header = _Pictures(())
        self._body = _Pictures(())
        self._header_lines: object = None
        self._body_lines: object = None

    def header(self, header: bytes) -> bool:
        """Whether a field of this header (store form) is banned."""
        lines = self.settings[HEADER_LINES]
        if lines is not self._header_lines:
            self._header, self._header_lines = _Pictures(lines), lines
        pictures = self._header
        return bool(pictures) and any(
            pictures.hit(header[field.start : field.end].rstrip(b"\n")) for field in fields(header)
        )

    def body(self) -> BodyCheck | None:
        """What compares the lines of one body; None if there are no lines to compare with."""
        lines = self.settings[BODY_LINES]
        if lines is not self._body_lines:
            self._body, self._body_lines = _Pictures(lines), lines
        return BodyCheck(self._body) if self._body else None


class BodyCheck:
    """Takes a body piece by piece; a line may begin in one and end in another."""

    __slots__ = ("_pictures", "_rest")

    def __init__(self, pictures: _Pictures) -> None:
        self._pictures = pictures
        self._rest = b""

    def feed(self, piece: bytes) -> bool:
        """True if a banned line was found."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()[:_LONGEST]
        return self._any(lines)

    def end(self) -> bool:
        """The same for a last line without a line end."""
        return self._any([self._rest]) if self._rest else False

    def _any(self, lines: list[bytes]) -> bool:
        pictures = self._pictures
        if not pictures.exact.isdisjoint(lines):
            return True
        return bool(pictures.wild) and any(pictures.hit(line) for line in lines)


def declare(operations: Operations, settings: Settings) -> None:
    """GetBanned and SetBanned."""

    @operations.declare(
        "GetBanned",
        right=Right.SETTINGS,
        section="Server settings",
        summary="The Banned Message Lines.",
        result="dictionary",
    )
    async def get_banned(caller: Caller) -> Value:
        del caller
        return settings.stored()

    @operations.declare(
        "SetBanned newSettings{}",
        right=Right.SETTINGS,
        section="Server settings",
        summary="Replaces the Banned Message Lines.",
    )
    async def set_banned(caller: Caller, new_settings: dict[str, Value]) -> None:
        del caller
        try:
            await settings.replace(new_settings)
        except SettingError as error:
            raise OperationError(str(error)) from None
