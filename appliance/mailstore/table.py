"""The messages of one mailbox in memory: columns of numbers, one row a message, by ascending UID.

45 bytes a message, so a mailbox of 100,000 messages takes less than 5 MB while it is open and nothing while it is not.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import NamedTuple
from zlib import crc32

from appliance.mailstore.flags import DELETED, SEEN
from appliance.mailstore.store import Found

__all__ = ["Counts", "Row", "Table"]


class Row(NamedTuple):
    """One message as the table and the index hold it. `wire` is its size in wire form."""

    uid: int
    place: int
    length: int
    wire: int
    date: int
    flags: int
    keywords: int
    modseq: int


class Counts(NamedTuple):
    """What a mailbox tells of all its messages; `size` in wire bytes, `oldest` in seconds since 1970 (0: none)."""

    messages: int
    unseen: int
    deleted: int
    recent: int
    size: int
    oldest: int


_CODES = ("I", "q", "Q", "Q", "q", "H", "I", "Q")
_WIDTH = sum(array(code).itemsize for code in _CODES)
_RUN = 100_000
_LOW = 0 if sys.byteorder == "little" else 1
_SEEN = bytes(value & SEEN for value in range(256))


def _cut(column: array[int], indices: Sequence[int]) -> array[int]:
    """Without these; the runs between them are copied whole."""
    kept = array(column.typecode)
    begin = 0
    for index in indices:
        kept += column[begin:index]
        begin = index + 1
    kept += column[begin:]
    return kept


class Table:
    """Columns `uids`, `places`, `lengths`, `wires`, `dates`, `flags`, `keywords`, `modseqs`, all of the same length."""

    __slots__ = ("dates", "flags", "keywords", "lengths", "modseqs", "places", "uids", "wires")

    def __init__(self) -> None:
        self.uids: array[int]
        self.places: array[int]
        self.lengths: array[int]
        self.wires: array[int]
        self.dates: array[int]
        self.flags: array[int]
        self.keywords: array[int]
        self.modseqs: array[int]
        self._set([array(code) for code in _CODES])

    def _set(self, columns: Sequence[array[int]]) -> None:
        (
            self.uids,
            self.places,
            self.lengths,
            self.wires,
            self.dates,
            self.flags,
            self.keywords,
            self.modseqs,
        ) = columns

    def columns(self) -> tuple[array[int], ...]:
        """The columns in the order of `Row`."""
        return (
            self.uids,
            self.places,
            self.lengths,
            self.wires,
            self.dates,
            self.flags,
            self.keywords,
            self.modseqs,
        )

    def checksum(self) -> int:
        """Over all rows, as they are on this machine."""
        value = 0
        for column in self.columns():
            value = crc32(column, value)
        return value

    def block(self, low: int, high: int) -> bytes:
        """These rows as bytes of this machine."""
        return b"".join([column[low:high].tobytes() for column in self.columns()])

    def take_block(self, data: bytes) -> bool:
        """Add rows as `block` gave them; whether they can be that."""
        count, rest = divmod(len(data), _WIDTH)
        at = 0
        for column in self.columns() if not rest else ():
            column.frombytes(data[at : at + count * column.itemsize])
            at += count * column.itemsize
        return not rest

    def __len__(self) -> int:
        return len(self.uids)

    def append(self, row: Row) -> None:
        """A message with a higher UID than all others."""
        for column, value in zip(self.columns(), row, strict=True):
            column.append(value)

    def extend(self, rows: Sequence[Iterable[int]]) -> None:
        """Many messages at once, as columns."""
        for column, values in zip(self.columns(), rows, strict=True):
            column.extend(values)

    def row(self, index: int) -> Row:
        return Row(*[column[index] for column in self.columns()])

    def found(self, index: int) -> Found:
        """What a store needs to know of the message."""
        return Found(
            self.uids[index],
            self.places[index],
            self.lengths[index],
            self.flags[index],
            self.keywords[index],
            self.dates[index],
        )

    def index(self, uid: int) -> int:
        """Where the message is; -1 if it is not."""
        uids = self.uids
        at = bisect_left(uids, uid)
        return at if at < len(uids) and uids[at] == uid else -1

    def from_uid(self, uid: int) -> int:
        """The index of the first message with this UID or a higher one."""
        return bisect_left(self.uids, uid)

    def indices(self, uids: Iterable[int]) -> list[int]:
        """Where these messages are; those that are gone are left out."""
        return [at for uid in uids if (at := self.index(uid)) >= 0]

    def without(self, indices: Sequence[int]) -> list[array[int]]:
        """The columns without these rows (ascending): a job for a worker when there are many rows."""
        if indices[-1] - indices[0] + 1 == len(indices):
            return [column[: indices[0]] + column[indices[-1] + 1 :] for column in self.columns()]
        if len(indices) * 50 < len(self):
            return [_cut(column, indices) for column in self.columns()]
        keep = bytearray(b"\x01") * len(self)
        for index in indices:
            keep[index] = 0
        return [array(column.typecode, compress(column, keep)) for column in self.columns()]

    def replace(self, columns: Sequence[array[int]]) -> None:
        """Take columns as `without` made them."""
        self._set(columns)

    def remove(self, indices: Sequence[int]) -> None:
        """Take these rows out (ascending)."""
        if indices:
            self._set(self.without(indices))

    def settle(self, modseq: int) -> int:
        """Give this mod-sequence to rows that have none (0); the highest of all."""
        if 0 in self.modseqs:
            self.modseqs = array("Q", (value or modseq for value in self.modseqs))
        return max(self.modseqs, default=0)

    def first_unseen(self) -> int:
        """The index of the first message without \\Seen, -1 if there is none."""
        for start in range(0, len(self), _RUN):
            plane = self.flags[start : start + _RUN].tobytes()[_LOW::2].translate(_SEEN)
            if (at := plane.find(b"\0")) >= 0:
                return start + at
        return -1

    def count(self, recent_from: int) -> Counts:
        """Over all rows."""
        return Counts(
            len(self),
            sum(1 for flags in self.flags if not flags & SEEN),
            sum(1 for flags in self.flags if flags & DELETED),
            len(self) - self.from_uid(recent_from),
            sum(self.wires),
            min(self.dates, default=0),
        )
