"""The header of a message or of a part: where it ends, its fields, and changes to it. Store form and wire form alike.

Everything here is a scan over bytes that never refuses: a line that is neither a field nor a continuation is taken as
a part of the field before it, and a header without an empty line behind it reaches to the end of the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple

MAX_FIELDS: Final = 10_000
"""Most fields that are looked at; what follows is left as it is."""

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
# A line end in front instead of MULTILINE: the engine then jumps from line to line.
_NAME: Final = re.compile(rb"\n([!-9;-~\x80-\xff]+)[ \t]*:")
_FIELD: Final = re.compile(rb"\n([!-9;-~\x80-\xff]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)")


class Field(NamedTuple):
    """One field: its name as written, its raw value (folded, without the last line end), its place in the data."""

    name: bytes
    value: bytes
    start: int
    end: int

    @property
    def text(self) -> bytes:
        """The value on one line."""
        return unfold(self.value)


def header_end(data: bytes, start: int = 0, limit: int | None = None) -> int:
    """The offset behind the empty line that ends the header, which is the start of the body; `limit` if there is none."""
    if limit is None:
        limit = len(data)
    if data.startswith(b"\n", start, limit):
        return start + 1
    if data.startswith(b"\r\n", start, limit):
        return start + 2
    match = _BLANK_LINE.search(data, start, limit)
    return match.end() if match else limit


def unfold(value: bytes) -> bytes:
    """A raw value on one line: line ends taken out (RFC 5322, 2.2.3), blanks at both ends too."""
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    return value.strip(b" \t\r")


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the header that begins at `start`, in order. Pass `end` if the end of the header is known."""
    if end is None:
        end = header_end(data, start)
    header = b"\n" + data[start:end]
    place = start - 1
    last: re.Match[bytes] | None = None
    for number, match in enumerate(_NAME.finditer(header)):
        if last is not None:
            yield _field(header, last, match.start() + 1, place)
        last = match
        if number >= MAX_FIELDS:
            return
    if last is not None:
        stop = len(header)
        if header.endswith(b"\n\n"):
            stop -= 1
        elif header.endswith(b"\n\r\n"):
            stop -= 2
        yield _field(header, last, stop, place)


def _field(header: bytes, match: re.Match[bytes], stop: int, place: int) -> Field:
    value = header[match.end() : stop]
    if value.endswith(b"\n"):
        value = value[:-1]
    if value.endswith(b"\r"):
        value = value[:-1]
    return Field(match[1], value, match.start() + 1 + place, stop + place)


def first_fields(data: bytes, start: int = 0, end: int | None = None) -> dict[bytes, bytes]:
    """Raw values by lower-case name; of fields that are repeated, the first. The quickest way to know a header."""
    if end is None:
        end = header_end(data, start)
    result: dict[bytes, bytes] = {}
    keep = result.setdefault
    for name, value in _FIELD.findall(b"\n" + data[start:end]):
        keep(name.lower(), value)
    return result


def get(data: bytes, name: bytes, start: int = 0, end: int | None = None) -> bytes | None:
    """The unfolded value of the first field of that name (any case); None if there is none."""
    wanted = name.lower()
    return next((field.text for field in fields(data, start, end) if field.name.lower() == wanted), None)


def get_all(data: bytes, name: bytes, start: int = 0, end: int | None = None) -> list[bytes]:
    """The unfolded values of all fields of that name (any case), in order."""
    wanted = name.lower()
    return [field.text for field in fields(data, start, end) if field.name.lower() == wanted]


def _pick(data: bytes, wanted: Callable[[bytes], bool], start: int, end: int) -> list[bytes]:
    return [data[field.start : field.end] for field in fields(data, start, end) if wanted(field.name.lower())]


def select_fields(
    data: bytes, names: Collection[bytes], *, others: bool = False, start: int = 0, end: int | None = None
) -> bytes:
    """The header cut down to the named fields, or to all `others`, with the empty line behind it.

    This is what IMAP's HEADER.FIELDS and HEADER.FIELDS.NOT give (RFC 9051, 6.4.5.1).
    """
    if end is None:
        end = header_end(data, start)
    wanted = {name.lower() for name in names}
    picked = _pick(data, lambda name: (name in wanted) != others, start, end)
    line_end = b"\r\n" if data.endswith(b"\r\n", start, end) else b"\n"
    if picked and not picked[-1].endswith(b"\n"):
        picked[-1] += line_end
    return b"".join([*picked, line_end])


def remove_fields(data: bytes, names: Collection[bytes]) -> bytes:
    """The whole message without the named fields; the same object if there are none. What is no field stays."""
    unwanted = {name.lower() for name in names}
    parts: list[bytes] = []
    position = 0
    for field in fields(data):
        if field.name.lower() in unwanted:
            parts.append(data[position : field.start])
            position = field.end
    if not position:
        return data
    return b"".join([*parts, data[position:]])
