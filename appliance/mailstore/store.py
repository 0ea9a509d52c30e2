"""What the two formats of mailboxes have in common: the records that go in, and what a scan finds.

All functions of a store are synchronous jobs over `Files`; the account's task calls one at a time for a mailbox, readers
may run beside it. A `place` is what the format needs to find a message again: the offset of its content in an .mbox file,
the count of its lines (a part of the file name) in an .mdir directory.
"""

from __future__ import annotations

import calendar
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from appliance.kernel.files import Files

__all__ = ["Changed", "Damaged", "Found", "Record", "Scan", "Store", "Taken", "asctime", "from_asctime"]


class Damaged(OSError):
    """The mailbox cannot be read as it stands; the text says what an administrator has to repair."""


class Changed(Exception):
    """The mailbox is not what it was when it was last read: another program wrote to it. Read it again."""


class Record(NamedTuple):
    """One message to store. `content` is what goes into the file, in pieces, as `Store.prepare` made it."""

    uid: int
    flags: int
    keywords: int
    date: int
    return_path: bytes
    content: tuple[bytes, ...]


class Found(NamedTuple):
    """One message that a scan found. `uid` 0: another program's, it has none. `date` in seconds since 1970."""

    uid: int
    place: int
    length: int
    flags: int
    keywords: int
    date: int


class Scan(NamedTuple):
    """All messages in their order in the file, bytes that expunged ones still take, and the size of the mailbox."""

    messages: list[Found]
    dead: int
    size: int


class Taken(NamedTuple):
    """What came of a message that was taken from a file: as stored, with the internal flags; `end` is the new size."""

    place: int
    length: int
    crc: int
    wire: int
    flags: int
    end: int


class Store(Protocol):
    """One mailbox on disk. `path` is its file or directory."""

    path: str

    def create(self, files: Files) -> None: ...

    def prepare(self, content: bytes) -> tuple[bytes, int]:
        """What is stored for this store form, or this piece of one that ends with a line, and the internal flags of that."""
        ...

    def scan(self, files: Files, start: int = 0) -> Scan:
        """Read it all, or what lies behind `start`. Damaged if that is not possible."""
        ...

    def append(self, files: Files, size: int, records: Sequence[Record]) -> tuple[list[int], int]:
        """Store all or nothing behind `size`; the places and the new size. Changed if the size is not that."""
        ...

    def take(self, files: Files, size: int, record: Record, source: str) -> Taken:
        """Store the message whose store form is the record's content and then that of the file `source`, which is used up
        or left to the caller. Errors as `append`."""
        ...

    def take_back(self, files: Files, size: int, uids: Sequence[Found]) -> None:
        """Undo appends: these messages and all behind `size`."""
        ...

    def set_flags(self, files: Files, changes: Sequence[tuple[Found, Found]]) -> None:
        """Write flags and keywords of these messages, each from the old to the new state."""
        ...

    def read(self, files: Files, messages: Sequence[Found]) -> list[bytes]:
        """The contents in store form. FileNotFoundError if one is gone."""
        ...

    def raw(self, files: Files, message: Found, start: int, size: int) -> bytes:
        """A piece of what is stored (`length` bytes in all), as it stands."""
        ...

    def sync(self, files: Files) -> None:
        """All that was stored is durable afterwards."""
        ...


_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_NUMBER = {name: number for number, name in enumerate(_MONTHS, 1)}
_LAST = 253402300799  # the end of the year 9999: the field has four digits


def asctime(moment: int) -> bytes:
    """The 24 bytes of a From-line, in GMT; moments outside the years 1970 to 9999 become the nearest of them."""
    t = time.gmtime(min(max(moment, 0), _LAST))
    return b"%s %s %2d %02d:%02d:%02d %04d" % (_DAYS[t[6]], _MONTHS[t[1] - 1], t[2], t[3], t[4], t[5], t[0])


def from_asctime(text: bytes) -> int:
    """Seconds since 1970; 0 for what is not such a text."""
    try:
        month = _NUMBER[text[4:7]]
        day, hour, minute, second = int(text[8:10]), int(text[11:13]), int(text[14:16]), int(text[17:19])
        year = int(text[20:24])
    except (KeyError, ValueError):
        return 0
    if not (year >= 1970 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 62):
        return 0
    return calendar.timegm((year, month, day, hour, minute, second))
