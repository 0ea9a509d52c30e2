"""The state of an open account, and what keeps it true on disk.

Everything here runs in the account's own task, one request after the other; readers see the state between two awaits.

- Before the first write to a mailbox since the account was last safe, and before the first number beyond a mark is given out,
  a W is durable (`ensure`).
- `checkpoint` syncs what is dirty and writes K; `barrier` also waits for it, and stands before stored bytes are removed.
- Marks in `account.info` are on disk before the K behind which a W with the same marks is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from appliance.accounts.box import Box
from appliance.accounts.client import AccountError
from appliance.accounts.frames import Safe, Writing
from appliance.accounts.indexing import close_index, drop_index, drop_search, extend_index, index_box, keep_texts
from appliance.accounts.jobs import changed, compact, create, look, settle, stamps, sync
from appliance.kernel.clock import Clock
from appliance.kernel.disk import LONG, SYNC, Disk
from appliance.kernel.files import FILE_MODE
from appliance.kernel.journal import Journal, Position, Ticket
from appliance.kernel.log import Logger
from appliance.kernel.notices import Notices
from appliance.mailstore import names
from appliance.mailstore.external import ExternalStore
from appliance.mailstore.index import IndexPool
from appliance.mailstore.info import Info, InfoDamaged
from appliance.mailstore.loading import Loaded, load, open_store
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.mdir import MdirStore
from appliance.mailstore.table import Counts
from appliance.objects import declarations as d
from appliance.objects.domain import MAILDIR, MULTI, TEXT, Account

__all__ = ["Shared", "State", "SyncFailed"]

UID_BLOCK: Final = 1000
MODSEQ_BLOCK: Final = 10_000
_KEPT: Final = 4
"""Tables of mailboxes that nobody has open any more."""
_SMALL_DEAD: Final = 1 << 16
_MUCH_DEAD: Final = 1 << 26
MAX_UID: Final = (1 << 32) - 2


class SyncFailed(Exception):
    """The disk did not take what was written. A second try would prove nothing: the process has to start again."""


@dataclass(slots=True)
class Shared:
    """What all accounts of a server use."""

    disk: Disk
    journal: Journal
    clock: Clock
    notices: Notices
    log: Logger
    pool: IndexPool
    #: Told about each K that is durable: the account's full name and the position of the K.
    safe: Callable[[str, Position], None] = lambda name, position: None
    #: Whether `account.info` is to be written at each change.
    conservative: Callable[[], bool] = lambda: False
    #: Told how many bytes were written.
    wrote: Callable[[int], None] = lambda size: None


class State:
    """One open account. `load` before anything else."""

    def __init__(self, account: Account, shared: Shared) -> None:
        self.account = account
        self.shared = shared
        self.log = shared.log
        self.info = Info()
        #: account.info was lost: numbers and UIDVALIDITY values are new.
        self.rebuilt = False
        #: Nobody ever opened the account before: it gets what the domain's template says.
        self.new = False
        self.boxes: dict[str, Box] = {}
        self.folders: set[str] = set()
        #: The file system does not tell names by the case of their letters.
        self.caseless = False
        #: Wire bytes of all messages.
        self.used = 0
        #: Marks in memory are ahead of the file.
        self.info_behind = False
        #: Something else in the file is old (counts, last log-in); written at the next good moment.
        self.info_stale = False
        #: The oldest frame that a crash would need.
        self.unsafe_from: Position | None = None
        #: A K is to be written once more: deliverers append their frames a little after the store.
        self.echo = False
        self._temporary = 0
        self._covering: list[tuple[Position | None, Ticket]] = []

    # -- paths ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.account.full_name

    @property
    def single(self) -> bool:
        return self.account.kind != MULTI

    @property
    def index_path(self) -> str:
        return self.account.file("index")

    def path(self, name: str, ending: str) -> str:
        """The file or directory of a mailbox."""
        if name == names.INBOX and self.external:
            return self.external
        if self.single:
            return self.account.file(ending[1:])
        return f"{self.account.directory}/{names.relative(name)}{ending}"

    @property
    def external(self) -> str:
        """The file of INBOX in the spool of other programs; empty if it is among the account's own files."""
        account = self.account
        location = account.domain.settings[d.EXTERNAL_LOCATION]
        if not location or not account.settings[d.EXTERNAL_INBOX] or account.kind == MAILDIR:
            return ""
        return location.replace("*", account.name)

    def store_of(self, name: str, ending: str) -> MboxStore | MdirStore:
        """The store of a mailbox, whether it is there or not."""
        path = self.path(name, ending)
        if name == names.INBOX and path == self.external:
            return ExternalStore(
                path, self.account.file("external-save"), self.account.domain.settings[d.EXTERNAL_LOCK]
            )
        return open_store(path)

    def folder(self, name: str) -> str:
        """The directory of what lies below a name."""
        return f"{self.account.directory}/{names.relative(name)}{names.FOLDER}"

    def temporary(self) -> str:
        """A path for a file that is still coming; what is left of such files goes at the next opening."""
        self._temporary += 1
        return self.account.file(f"{self._temporary}.tmp")

    @property
    def new_format(self) -> str:
        return ".mdir" if self.account.settings[d.MAILBOX_TYPE].startswith("MailDir") else ".mbox"

    @property
    def limit(self) -> int | None:
        """Most bytes of mail."""
        return self.account.settings[d.MAX_ACCOUNT_SIZE]

    # -- opening and closing --------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read `account.info`, find the mailboxes, read those that changed. OSError, AccountError."""
        await self.peek()
        for box in self.boxes.values():
            if not box.stamped:
                with suppress(AccountError):  # one that cannot be read, which is logged, does not cost the others
                    await self.read(box)
        self.used = sum(box.info.size for box in self.boxes.values())

    async def peek(self) -> None:
        """`account.info` and the mailboxes that there are, without a look into them. OSError."""
        await self.account.ready()
        data, found, folders, stamps, self.caseless = await self.shared.disk.run(look, self)
        damaged = data is None
        if data is not None:
            try:
                self.info = Info.parse(data)
            except InfoDamaged as error:
                damaged = True
                self.log.failure("%s: account.info is damaged (%s), it is made anew", self.name, error)
        now = int(self.shared.clock.now())
        self.rebuilt = damaged
        if damaged:
            self.info = Info(next_id=max(1, now), last_validity=now)
        self.folders = set(folders)
        made = False
        for name, ending in found.items():
            stored = self.info.boxes.get(name)
            if stored is None:
                made = True
                stored = self.info.boxes[name] = self.info.new_box(now)
            self.boxes[name] = Box(name, self.store_of(name, ending), stored, stamps[name])
        for name in set(self.info.boxes) - set(found):
            made = True
            del self.info.boxes[name]
        if names.INBOX not in self.boxes:
            ending = self.new_format if not self.single else (".mbox" if self.account.kind == TEXT else ".mdir")
            if self.external:
                ending = ".mbox"
            box = await self.add_box(names.INBOX, ending)
            made = made or box.loaded
            self.new = damaged and data is None
        if made or damaged:
            await self.save_info()

    async def add_box(self, name: str, ending: str) -> Box:
        """Make the mailbox on disk and in memory; `save_info` makes it durable."""
        store = self.store_of(name, ending)
        stamp = await self.shared.disk.run(create, store)
        box = Box(name, store, self.info.new_box(int(self.shared.clock.now())), stamp)
        box.info.file_size, box.info.file_time = stamp
        box.loaded = box.stamped = True
        box.indexed_uid = 0
        self.info.boxes[name] = box.info
        self.boxes[name] = box
        return box

    async def read(self, box: Box) -> None:
        """Fill the table. AccountError TEMPORARY if the mailbox cannot be read."""
        if box.loaded:
            return
        info = box.info
        try:
            loaded = await self.shared.disk.run_in(
                LONG, load, box.store, self.shared.pool, self.index_path, info.id, info.generation
            )
        except OSError as error:
            self.log.failure("%s: mailbox %s cannot be read: %s", self.name, box.name, error)
            raise AccountError("CANNOT", "The mailbox cannot be read") from error
        await self._take(box, loaded)

    async def _take(self, box: Box, loaded: Loaded) -> None:
        tail = [box.table.row(index) for index in range(len(box.table))]
        table = loaded.table
        complete = loaded.complete
        uids = table.uids
        highest = uids[-1] if len(uids) else 0
        for row in tail:
            at = table.index(row.uid)
            if at >= 0:
                table.modseqs[at] = row.modseq
        if loaded.anew:
            await self.drop_index(box)
            await self.shared.disk.run(drop_search, self.account.file("search"), box.info.id)
        box.searched = -1
        box.size = loaded.size
        strange = len(table) > 0 and table.uids[-1] > MAX_UID - UID_BLOCK
        if strange:
            raise AccountError("CANNOT", "The mailbox has no UIDs left")
        box.uidnext = max(box.uidnext, table.uids[-1] + 1 if len(table) else 1)
        if box.uidnext > box.info.uid_mark or loaded.foreign or loaded.scanned:
            await self.ensure(box, uids=len(loaded.foreign), modseqs=1)
        if loaded.foreign:
            self.log.problem("%s: %d messages of %s have no UID", self.name, len(loaded.foreign), box.name)
            for row in loaded.foreign:
                box.foreign.add(box.uidnext)
                table.append(row._replace(uid=box.uidnext))
                box.uidnext += 1
        if loaded.foreign or loaded.scanned:
            box.next_modseq()
        counts: Counts | None = None
        if complete and box.stamped:
            highest_modseq = loaded.modseq  # nothing to find out that is not known
        else:
            highest_modseq, counts = await self.shared.disk.run(settle, table, box.modseq, box.info.recent_from)
        box.table = table
        if box.modseq < highest_modseq:
            box.modseq = highest_modseq
            await self.ensure(box, modseqs=1)
        box.info.dead = loaded.dead
        box.changed_floor = box.gone_floor = box.modseq
        box.changed.clear()
        box.gone.clear()
        box.loaded = True
        if counts is not None:
            before = box.info.size
            box.counted(counts)
            self.used += box.info.size - before
            self.info_stale = True
        if complete:
            box.indexed_uid = highest + 1
        else:
            box.indexed_uid = 0
            await self.index(box)
        box.stamped = True

    async def reread(self, box: Box) -> None:
        """Another program changed the mailbox: look again."""
        self.log.problem("%s: mailbox %s was changed by another program", self.name, box.name)
        if box.unsafe or box.dirty or self.echo:
            await self.barrier()
        # Records that deliverers still have to write speak of the file as it was; what they speak of is safe by now.
        box.info.generation += 1
        self.info_behind = True
        box.loaded = box.stamped = False
        box.foreign.clear()
        before = set(box.table.uids)
        box.table = type(box.table)()
        await self.read(box)
        for uid in sorted(before - set(box.table.uids)):
            box.gone.append((box.modseq, uid))
        self.publish(box)

    async def look_outside(self) -> None:
        """See what other programs have done to an external INBOX that somebody has open."""
        box = self.boxes.get(names.INBOX)
        if box is None or not box.loaded or not isinstance(box.store, ExternalStore):
            return
        try:
            if await self.shared.disk.run(changed, box.store):
                await self.reread(box)
        except OSError:
            pass  # it is locked, or gone for now: the next look will tell

    async def index(self, box: Box) -> None:
        """Bring the index up to date; failures only cost time later."""
        if isinstance(box.store, ExternalStore):
            return  # it is read each time
        numbers = (box.info.id, box.info.generation, box.info.dead, box.modseq)
        if not box.loaded:
            rows = [box.table.row(at) for at in range(len(box.table))]
            if rows:
                await self.shared.disk.run(
                    extend_index, self.shared.pool, self.index_path, box.store, box.size, numbers, box.opened, rows
                )
            return
        if box.foreign:
            await self.drop_index(box)
            return
        table = box.table
        changed: list[int] | None = None
        if box.indexed_uid:
            changed = [at for at in table.indices(box.flags_dirty) if table.uids[at] < box.indexed_uid]
            changed += range(table.from_uid(box.indexed_uid), len(table))
            if not changed and not box.gone_index:
                return
        done = await self.shared.disk.run(
            index_box,
            self.shared.pool,
            self.index_path,
            box.store,
            box.size,
            numbers,
            table,
            changed,
            list(box.gone_index),
        )
        if done:
            box.flags_dirty.clear()
            box.gone_index.clear()
            box.indexed_uid = box.uidnext

    async def keep_texts(self, box: Box) -> None:
        """What was rendered while messages were stored goes into the index; failures only cost time later."""
        texts = dict(box.texts)
        if texts:
            await self.shared.disk.run(keep_texts, self.shared.pool, self.index_path, box.info.id, texts)
            for uid in texts:
                box.texts.pop(uid, None)

    async def close(self) -> None:
        """Everything to disk, the index up to date, the account safe."""
        for box in self.boxes.values():
            if box.info.dead * 20 > box.size:
                await self.compact(box)
            await self.index(box)
        if (
            self.info_stale
            or self.info_behind
            or self.unsafe_from is not None
            or any(b.dirty for b in self.boxes.values())
        ):
            now = await self.shared.disk.run(stamps, [(box.name, box.store) for box in self.boxes.values()])
            for box in self.boxes.values():
                info = box.info
                info.file_size, info.file_time = now.get(box.name, (-1, 0.0))
                # A mailbox that could not be read must not pass for one that is known: mail would be put behind what is broken.
                if not box.stamped or (not isinstance(box.store, MdirStore) and info.file_size != box.size):
                    info.file_size = -1
                info.uid_mark, info.modseq_mark = box.uidnext, box.modseq + 1
            self.info_behind = True
        await self.barrier()
        await self.shared.disk.run(close_index, self.shared.pool, self.index_path)

    # -- numbers and safety ---------------------------------------------------------------------------------------

    async def ensure(
        self, box: Box, *, uids: int = 0, modseqs: int = 0, write: bool = False, hurry: bool = True
    ) -> None:
        """So many numbers may be given out, and with `write` the mailbox may be written to."""
        info = box.info
        changed = False
        if box.uidnext + uids > info.uid_mark:
            if box.uidnext + uids > MAX_UID:
                raise AccountError("LIMIT", "The mailbox has no UIDs left")
            info.uid_mark = min(box.uidnext + uids + UID_BLOCK, MAX_UID)
            changed = True
        if box.modseq + modseqs >= info.modseq_mark:
            info.modseq_mark = box.modseq + modseqs + MODSEQ_BLOCK
            changed = True
        first = write and not box.unsafe
        if not (changed or first):
            return
        self.info_behind = self.info_behind or changed
        length = -1
        if first:
            length = box.uidnext if isinstance(box.store, MdirStore) else box.size
            box.unsafe = True
        writing = Writing(self.name, box.name, info.id, info.generation, length, info.uid_mark, info.modseq_mark)
        ticket = self.shared.journal.append(writing.frame())
        if self.unsafe_from is None:
            self.unsafe_from = ticket.position
        if hurry:
            self.shared.journal.hurry()
        await ticket.durable()

    def wrote(self, box: Box, size: int) -> None:
        """Bytes went into the mailbox."""
        box.dirty = True
        self.info_stale = True
        self.shared.wrote(size)

    async def checkpoint(self) -> Ticket | None:
        """Sync what is dirty; the ticket of the K, if one was needed. Raises SyncFailed."""
        if self.info_behind:
            await self.save_info()
        for box in [box for box in self.boxes.values() if box.texts]:
            await self.keep_texts(box)
        await self.sync([box for box in self.boxes.values() if box.dirty])
        if self.unsafe_from is None and not self.echo:
            return None
        ticket = self.shared.journal.append(Safe(self.name).frame())
        self.announce()
        self._covering.append((self.unsafe_from, ticket))
        self.echo = self.echo and self.unsafe_from is not None
        self.unsafe_from = None
        for box in self.boxes.values():
            box.unsafe = False
        return ticket

    async def sync(self, boxes: Sequence[Box]) -> None:
        """What was stored in these mailboxes is on disk. Raises SyncFailed, which is final for the process."""
        if boxes:
            try:
                await self.shared.disk.run_in(SYNC, sync, [box.store for box in boxes])
            except OSError as error:
                raise SyncFailed(f"{self.name}: a mailbox cannot be made durable: {error}") from error
            for box in boxes:
                box.dirty = False

    async def barrier(self) -> None:
        """All that was written is safe, and the journal says so."""
        await self.checkpoint()
        if self._covering:
            self.shared.journal.hurry()
            await self._covering[-1][1].durable()
            self.announce()

    def announce(self) -> None:
        """Tell the deliverers about each K that is durable: what they recorded before it is safe."""
        while self._covering and self._covering[0][1].done:
            _, ticket = self._covering.pop(0)
            self.shared.safe(self.name, ticket.position)

    @property
    def unsafe(self) -> bool:
        """A checkpoint has something to do."""
        return (
            self.unsafe_from is not None
            or self.echo
            or self.info_behind
            or any(box.dirty for box in self.boxes.values())
        )

    def needs(self) -> Position | None:
        """The oldest frame that a crash would need."""
        for position, ticket in self._covering:
            if position is not None and not ticket.done:
                return position
        return self.unsafe_from

    async def save_info(self) -> None:
        """Write `account.info`, durably. OSError."""
        behind, self.info_behind = self.info_behind, False
        self.info_stale = False
        try:
            await self.shared.disk.write_file(self.account.file("info"), self.info.render(), mode=FILE_MODE)
        except BaseException:
            self.info_behind = behind
            self.info_stale = True
            raise
        self.shared.notices.publish(("info", self.name))

    async def compact(self, box: Box) -> bool:
        """Write an .mbox without its expunged messages, if nobody is reading in it. Whether it was done."""
        if isinstance(box.store, MdirStore) or not box.info.dead:
            return False
        await self.read(box)
        await self.barrier()
        if box.readers:
            return False
        try:
            await self.rewrite(box, set())
        except OSError as error:
            self.log.failure("%s: mailbox %s cannot be compacted: %s", self.name, box.name, error)
            return False
        return True

    async def rewrite(self, box: Box, without: set[int]) -> None:
        """Write an .mbox anew without what is expunged and the messages at these places; behind a barrier, no readers."""
        with box.moving():
            box.table.places, stamp = await self.shared.disk.run_in(LONG, compact, box.store, without, box.table.places)
            box.untold.clear()
            box.info.generation += 1
            box.info.dead = 0
            box.size = stamp[0]
            box.indexed_uid = 0
            box.gone_index.clear()
            box.flags_dirty.clear()
        self.info_stale = True
        await self.index(box)

    async def maybe_compact(self, box: Box) -> None:
        """Compact when a fifth is dead."""
        # While somebody may still want to read what is gone, much of it is borne.
        if box.info.dead > (_MUCH_DEAD if box.untold else _SMALL_DEAD) and box.info.dead * 5 > box.size:
            await self.compact(box)

    async def trim(self) -> None:
        """Keep only some tables of mailboxes that nobody has open."""
        unused = [
            box for box in self.boxes.values() if box.loaded and not box.views and not box.readers and len(box.table)
        ]
        for box in unused[: max(0, len(unused) - _KEPT)]:
            await self.index(box)
            if not box.flags_dirty and not box.gone_index and not box.foreign and not box.views and not box.readers:
                box.unload()

    async def drop_index(self, box: Box, *, texts: bool = True) -> None:
        """The index forgets the mailbox; without `texts` only where its messages lie."""
        await self.shared.disk.run(drop_index, self.shared.pool, self.index_path, box.info.id, texts)

    def publish(self, box: Box) -> None:
        """Tell the sessions that watch the mailbox."""
        self.shared.notices.publish(("mailbox", self.name, box.name))

    def find(self, name: str) -> Box:
        """The mailbox of this name. BADNAME, NONEXISTENT."""
        box = self.boxes.get(name) or self.boxes.get(self.normal(name))
        if box is None:
            raise AccountError("NONEXISTENT", "There is no such mailbox")
        return box

    @staticmethod
    def normal(name: str) -> str:
        try:
            return names.normal(name)
        except names.BadName as error:
            raise AccountError("BADNAME", str(error)) from error
