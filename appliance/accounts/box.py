"""One mailbox of an open account, as the account's task and its readers see it.

All of this is changed on the event loop only, by the account's task; a reader may look at any moment between two awaits.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from appliance.mailstore.flags import DELETED, SEEN
from appliance.mailstore.index import Texts
from appliance.mailstore.info import BoxInfo
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.mdir import MdirStore
from appliance.mailstore.store import Found
from appliance.mailstore.table import Counts, Row, Table

if TYPE_CHECKING:
    from appliance.accounts.untold import Untold

__all__ = ["Box", "View"]

_MOST_MISSING: Final = 1_000_000
_HISTORY: Final = 20_000
"""Changes remembered, so that a session asks what is new without a look at every message."""


class Box:
    """A mailbox. Until `loaded`, the table holds only what was stored since the account was opened."""

    __slots__ = (
        "changed",
        "changed_floor",
        "compacting",
        "dirty",
        "flags_dirty",
        "foreign",
        "gone",
        "gone_floor",
        "gone_index",
        "idle",
        "indexed_uid",
        "info",
        "loaded",
        "modseq",
        "name",
        "opened",
        "readers",
        "searched",
        "size",
        "stamped",
        "store",
        "table",
        "texts",
        "uidnext",
        "unsafe",
        "untold",
        "views",
    )

    def __init__(self, name: str, store: MboxStore | MdirStore, info: BoxInfo, opened: tuple[int, float]) -> None:
        self.name = name
        self.store = store
        self.info = info
        #: Size of the .mbox file as we left it.
        self.size = opened[0]
        #: Size and time of the file when the account was opened; what was stored since stands in the table, loaded or not.
        self.opened = opened
        #: The counts of `info` are true for the file as it is.
        self.stamped = (info.file_size, info.file_time) == opened
        self.table = Table()
        self.loaded = False
        self.foreign: set[int] = set()
        self.uidnext = info.uid_mark
        self.modseq = max(0, info.modseq_mark - 1)
        #: Stored bytes are not synced.
        self.dirty = False
        #: A W of this mailbox stands in the journal with no K behind it.
        self.unsafe = False
        #: First UID that the index does not have; all rows below it are there but for those in `flags_dirty`.
        self.indexed_uid = info.uid_mark
        self.flags_dirty: set[int] = set()
        self.gone_index: list[int] = []
        #: Finished texts of messages that were just stored; the index gets them at the next checkpoint.
        self.texts: dict[int, Texts] = {}
        #: The UID up to which the full-text index knows the mailbox; -1 until it was asked.
        self.searched = -1
        self.changed: list[tuple[int, int]] = []
        self.changed_floor = self.modseq
        self.gone: list[tuple[int, int]] = []
        self.gone_floor = self.modseq
        self.views: set[View] = set()
        #: Messages that are gone and that some view still has, see `untold`.
        self.untold: dict[int, Untold] = {}
        self.readers = 0
        self.idle: trio.Event | None = None
        #: Set at the end of what readers wait for, see `moving`.
        self.compacting: trio.Event | None = None

    async def __aenter__(self) -> Box:
        """Reading: offsets stay true meanwhile."""
        while self.compacting is not None:
            await self.compacting.wait()
        self.readers += 1
        return self

    async def __aexit__(self, *error: object) -> None:
        self.readers -= 1
        if not self.readers and self.idle is not None:
            self.idle.set()

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Files or offsets are about to change: who wants to read waits; who is reading may find a file gone, tries again,
        and waits then."""
        done = self.compacting = trio.Event()
        try:
            yield
        finally:
            self.compacting = None
            done.set()

    async def unread(self) -> None:
        """Wait until nobody is reading."""
        while self.readers:
            self.idle = trio.Event()
            await self.idle.wait()
        self.idle = None

    def unload(self) -> None:
        """Forget the table; counts and numbers stay. The index has it all."""
        self.table = Table()
        self.loaded = False
        self.changed.clear()
        self.gone.clear()
        self.changed_floor = self.gone_floor = self.modseq

    def next_modseq(self) -> int:
        self.modseq += 1
        return self.modseq

    def added(self, row: Row) -> None:
        """A message was stored."""
        self.table.append(row)
        self.uidnext = row.uid + 1
        info = self.info
        info.messages += 1
        info.size += row.wire
        info.recent += 1
        if not row.flags & SEEN:
            info.unseen += 1
        if row.flags & DELETED:
            info.deleted += 1
        if not info.oldest or row.date < info.oldest:
            info.oldest = row.date

    def flagged(self, index: int, flags: int, keywords: int, modseq: int) -> None:
        """A message has other flags now."""
        table, info = self.table, self.info
        old = table.flags[index]
        info.unseen += (not flags & SEEN) - (not old & SEEN)
        info.deleted += bool(flags & DELETED) - bool(old & DELETED)
        table.flags[index] = flags
        table.keywords[index] = keywords
        table.modseqs[index] = modseq
        uid = table.uids[index]
        self.flags_dirty.add(uid)
        self.changed.append((modseq, uid))
        if len(self.changed) > _HISTORY:
            self.changed_floor = self.changed[_HISTORY // 2][0]
            del self.changed[: _HISTORY // 2 + 1]

    def removed(self, indices: list[int], modseq: int, columns: list[array[int]]) -> int:
        """Messages are gone, and what is left of the table; the wire bytes that they had."""
        table, info = self.table, self.info
        freed = 0
        oldest = False
        recent_from = info.recent_from
        for index in indices:
            flags = table.flags[index]
            uid = table.uids[index]
            freed += table.wires[index]
            oldest = oldest or table.dates[index] == info.oldest
            info.unseen -= not flags & SEEN
            info.deleted -= bool(flags & DELETED)
            info.recent -= uid >= recent_from
            self.gone.append((modseq, uid))
            self.gone_index.append(uid)
            self.flags_dirty.discard(uid)
            self.texts.pop(uid, None)
        info.messages -= len(indices)
        info.size -= freed
        table.replace(columns)
        if oldest:
            info.oldest = min(table.dates, default=0)
        if len(self.gone) > _HISTORY:
            self.gone_floor = self.gone[_HISTORY // 2][0]
            del self.gone[: _HISTORY // 2 + 1]
        return freed

    def counted(self, counts: Counts) -> None:
        """Counts from the whole table."""
        info = self.info
        info.messages, info.unseen, info.deleted, info.recent, info.size, info.oldest = counts

    def founds(self, indices: list[int]) -> list[Found]:
        return [self.table.found(index) for index in indices]

    def since(self, modseq: int, below: int) -> list[int]:
        """UIDs under `below` whose flags changed after `modseq`, ascending."""
        if modseq >= self.modseq:
            return []
        if modseq >= self.changed_floor:
            at = bisect_right(self.changed, (modseq, 1 << 33))
            found = {uid for _, uid in self.changed[at:] if uid < below}
            return sorted(found)
        stop = self.table.from_uid(below)
        modseqs, uids = self.table.modseqs, self.table.uids
        return [uids[at] for at in range(stop) if modseqs[at] > modseq]

    def vanished(self, modseq: int, below: int) -> list[int]:
        """UIDs under `below` that were expunged after `modseq`, ascending; where history is too short, all that are missing."""
        if modseq >= self.modseq:
            return []
        if modseq >= self.gone_floor:
            at = bisect_right(self.gone, (modseq, 1 << 33))
            return sorted(uid for _, uid in self.gone[at:] if uid < below)
        missing: list[int] = []
        expected = max(1, below - _MOST_MISSING)
        for uid in self.table.uids:
            if uid >= below:
                break
            if uid >= expected:
                missing.extend(range(expected, uid))
                expected = uid + 1
        missing.extend(range(expected, below))
        return missing


class View:
    """A session's handle of a mailbox: what it was told last, and which messages are \\Recent for it."""

    __slots__ = ("box", "reading", "recent", "uidnext", "write")

    def __init__(self, box: Box, write: bool) -> None:
        self.box = box
        self.write = write
        self.uidnext = box.uidnext
        self.recent: list[tuple[int, int]] = []
        #: The last piece of a message that was read, see `sections`.
        self.reading: object | None = None

    def take_recent(self) -> None:
        """Who may write takes over the \\Recent marks; the others only see them."""
        box = self.box
        if self.write and box.info.recent_from < box.uidnext:
            low = box.info.recent_from
            if self.recent and self.recent[-1][1] == low:
                low = self.recent.pop()[0]
            self.recent.append((low, box.uidnext))
            box.info.recent_from = box.uidnext
            box.info.recent = 0

    def recent_ranges(self) -> list[tuple[int, int]]:
        """UIDs that are \\Recent here: the first, and the one behind the last, of each run."""
        return self.recent if self.write else [(self.box.info.recent_from, 1 << 32)]

    def is_recent(self, uid: int) -> bool:
        return any(low <= uid < high for low, high in self.recent_ranges())
