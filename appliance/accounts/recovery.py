"""After a crash: each account back to what was promised, before anybody may open it (DURABILITY: the start).

For every mailbox that was about to be written since its account was last safe:

- the marks of the W frames count, so no number is given out twice;
- an .mbox is checked from the length in its first W on, message by message, against what deliverers and clients recorded; one
  that is not there as recorded costs no other one, and the file is cut behind the last good one, never before that length;
- what is missing of deliveries is stored again under its old UID, with the content that the spool still has. What a client
  wrote was synced before it was answered, so nothing of it can be missing;
- whole messages that no record speaks of were never answered for: they go (a delivery of them comes again);
- of an .mdir, files that are not as recorded are removed, missing ones are written again;
- what was moved and has arrived leaves the mailbox that it came from.

Then the mailboxes are synced, `account.info` written, and K frames stand in the journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from appliance.accounts.box import Box
from appliance.accounts.frames import Moved, Placed, Safe, Writing, decode, unpack_record
from appliance.accounts.state import Shared, State
from appliance.kernel.files import Files
from appliance.kernel.journal import Frame, Position
from appliance.mailstore.external import ExternalStore
from appliance.mailstore.flags import EXPUNGED, INTERNAL
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.mdir import MdirStore
from appliance.mailstore.store import Damaged, Found, Record
from appliance.objects.domain import Account

__all__ = ["Redo", "Replay"]

Content = Callable[[], Awaitable[bytes | None]]


@dataclass(slots=True)
class Redo:
    """A deliverer's record of a store. `content` gives the message's store form, None if nobody has it any more."""

    position: Position
    account: str
    record: bytes
    content: Content


@dataclass(slots=True)
class _Mailbox:
    number: int
    generation: int
    length: int = -1
    uid_mark: int = 0
    modseq_mark: int = 0
    placed: list[tuple[Placed, Content | None]] = field(default_factory=list)
    moved: list[tuple[Moved, list[int]]] = field(default_factory=list)
    """What leaves other mailboxes, with the UIDs that it has here."""


@dataclass(slots=True)
class _Account:
    since: Position = 0
    touched: bool = False
    mailboxes: dict[str, _Mailbox] = field(default_factory=dict)


class Replay:
    """Takes the frames of the journal in their order, then makes the accounts whole."""

    def __init__(self, shared: Shared, find: Callable[[str], Account | None]) -> None:
        self._shared = shared
        self._find = find
        self._accounts: dict[str, _Account] = {}

    def take(self, position: Position, frame: Frame) -> None:
        """Look at a frame; those of other rooms are passed over."""
        known = decode(frame)
        if known is None:
            return
        account = self._accounts.setdefault(known.account, _Account())
        if isinstance(known, Safe):
            account.mailboxes.clear()
            account.since = position
            account.touched = False
            return
        assert isinstance(known, Writing)
        account.touched = True
        mailbox = account.mailboxes.setdefault(known.mailbox, _Mailbox(known.number, known.generation))
        if mailbox.number != known.number:  # deleted and made again under the same name
            mailbox = account.mailboxes[known.mailbox] = _Mailbox(known.number, known.generation)
        if mailbox.length < 0:
            mailbox.length = known.length
            mailbox.generation = known.generation
        mailbox.uid_mark = max(mailbox.uid_mark, known.uid_mark)
        mailbox.modseq_mark = max(mailbox.modseq_mark, known.modseq_mark)
        mailbox.placed.extend((place, None) for place in known.placed if place.generation == known.generation)
        if known.moved is not None:
            mailbox.moved.append((known.moved, [place.uid for place in known.placed]))

    async def finish(self, stored: AsyncIterator[Redo] | None = None) -> list[str]:
        """Make all accounts whole; the names of those that were touched. OSError: the server cannot start."""
        if stored is not None:
            async for redo in stored:
                account = self._accounts.get(redo.account)
                if account is None or redo.position < account.since:
                    continue
                for place in unpack_record(redo.record):
                    mailbox = account.mailboxes.get(place.mailbox)
                    # A deliverer writes its frame a little after the store. If the file was written anew meanwhile, its K
                    # covers the message, and the recorded offset is one of the old file.
                    if mailbox is not None and (mailbox.number, mailbox.generation) == (place.number, place.generation):
                        mailbox.placed.append((place, redo.content))
        names = [name for name, account in self._accounts.items() if account.touched]
        for name in names:
            found = self._find(name)
            if found is None:
                self._shared.log.problem("%s is in the journal, but there is no such account", name)
                continue
            await self._account(found, self._accounts[name])
        self._accounts.clear()
        return names

    async def _account(self, account: Account, replay: _Account) -> None:
        state = State(account, self._shared)
        await state.peek()
        leaving: list[tuple[Moved, list[int]]] = []
        for name, mailbox in replay.mailboxes.items():
            box = state.boxes.get(name)
            if box is None or (box.info.id != mailbox.number and not state.rebuilt):
                continue
            box.info.uid_mark = max(box.info.uid_mark, mailbox.uid_mark)
            box.info.modseq_mark = max(box.info.modseq_mark, mailbox.modseq_mark)
            box.info.file_size = -1
            if mailbox.length >= 0:
                if isinstance(box.store, ExternalStore):
                    # Each addition was on disk before its lock was given back; what is not there is delivered again.
                    there = {place.uid for place, _ in mailbox.placed}
                elif isinstance(box.store, MdirStore):
                    there = await self._mdir(box, box.store, mailbox)
                else:
                    there = await self._mbox(box, box.store, mailbox)
                for moved, made in mailbox.moved:
                    leaving.append((moved, [uid for uid, new in zip(moved.uids, made, strict=False) if new in there]))
            box.dirty = True
        for moved, uids in leaving:
            box = state.boxes.get(moved.mailbox)
            if box is not None and uids and (box.info.id == moved.number or state.rebuilt):
                await self._shared.disk.run(_expunge, box.store, set(uids))
                box.dirty = True
        state.info_behind = True
        state.echo = True
        await state.barrier()
        self._shared.log.low("%s: checked after a restart", account.full_name)

    async def _mbox(self, box: Box, store: MboxStore, mailbox: _Mailbox) -> set[int]:
        """The UIDs of the recorded messages that are there in the end."""
        disk, start = self._shared.disk, mailbox.length
        placed = sorted(mailbox.placed, key=lambda entry: entry[0].start)
        placed = [entry for entry in placed if entry[0].start >= start]
        expected = [(place.start, place.uid, place.length, place.crc, content is None) for place, content in placed]
        checked = await disk.run(_check_mbox, store, start, expected)
        if checked.strays:
            self._shared.log.problem("%s: %d pieces without a record are removed", box.name, checked.strays)
        there = {placed[number][0].uid for number in checked.good}
        size = checked.end
        for number, (place, content) in enumerate(placed):
            if number not in checked.good and place.uid not in there:
                record = await self._record(store, place, content)
                if record is not None:
                    _, size = await disk.run(_append, store, size, record)
                    there.add(place.uid)
        return there

    async def _mdir(self, box: Box, store: MdirStore, mailbox: _Mailbox) -> set[int]:
        disk = self._shared.disk
        expected = {place.uid: (place.length, place.crc) for place, _ in mailbox.placed}
        # What a client was told is durable since then: it stays whatever it looks like.
        synced = {place.uid for place, content in mailbox.placed if content is None}
        there = await disk.run(_check_mdir, store, mailbox.length, expected, synced)
        for place, content in mailbox.placed:
            if place.uid >= mailbox.length and place.uid not in there:
                record = await self._record(store, place, content)
                if record is not None:
                    await disk.run(_append, store, 0, record)
                    there.add(place.uid)
        return there

    async def _record(self, store: MboxStore | MdirStore, place: Placed, content: Content | None) -> Record | None:
        data = None if content is None else await content()
        if data is None:
            self._shared.log.failure("message %d of %s cannot be stored again: it is lost", place.uid, place.mailbox)
            return None
        added, one = store.prepare(place.added)
        main, two = store.prepare(data)
        flags = place.flags & ~INTERNAL | one | two
        record = Record(place.uid, flags, place.keywords, place.date, place.return_path, (added, main))
        if crc32(main, crc32(added)) != place.crc:
            self._shared.log.failure("message %d of %s is not what it was", place.uid, place.mailbox)
        return record._replace(content=(main,)) if not added else record


def _append(files: Files, store: MboxStore | MdirStore, size: int, record: Record) -> tuple[list[int], int]:
    return store.append(files, size, [record])


def _expunge(files: Files, store: MboxStore | MdirStore, uids: set[int]) -> None:
    """Take messages out, those that are gone already apart."""
    if isinstance(store, MdirStore):
        store.remove(files, [message for message in store.names(files) if message.uid in uids])
        return
    found = [message for message in store.scan(files).messages if message.uid in uids]
    store.set_flags(files, [(message, message._replace(flags=message.flags | EXPUNGED)) for message in found])


@dataclass(slots=True)
class _Checked:
    """`good`: which of the expected are there; `end`: where the file ends now; `strays`: pieces that were taken out."""

    good: set[int]
    end: int
    strays: int = 0


def _check_mbox(
    files: Files, store: MboxStore, start: int, expected: Sequence[tuple[int, int, int, int, bool]]
) -> _Checked:
    """Look for each message, (offset, UID, length, CRC, told to a client), and take out what nobody has recorded.

    One that is not as recorded never costs another one: what lies between two good ones is marked as expunged, or
    written over where it is no mailbox, and the file is cut behind the last good one only. A message that is not at its
    offset is looked for by its UID; and one that a client was told of stays even if its bytes are not the recorded ones.
    """
    good: dict[int, tuple[int, int]] = {}
    places: dict[int, tuple[int, int]] | None = None
    for number, (begin, uid, length, crc, told) in enumerate(expected):
        there, end = store.verified(files, begin, [(uid, length, crc)])
        if not there:
            if places is None:
                places = store.where(files, start)
            begin, behind = places.get(uid, (-1, -1))
            if begin < 0:
                continue
            there, end = store.verified(files, begin, [(uid, length, crc)])
            if not there and not told:
                continue
            end = end if there else behind
        good[number] = begin, end
    at = start
    strays = 0
    kept: set[int] = set()
    for number, (begin, end) in sorted(good.items(), key=lambda item: item[1]):
        if begin < at:
            if end > at:
                continue  # two records of one place: the first one counts
            kept.add(number)
            continue
        if begin > at:
            strays += _take_out(files, store, at, begin)
        kept.add(number)
        at = end
    if files.stat(store.path).size > at:
        files.truncate(store.path, at)
    return _Checked(kept, at, strays)


def _take_out(files: Files, store: MboxStore, begin: int, end: int) -> int:
    try:
        return store.strike(files, begin, end)
    except Damaged:
        store.blank(files, begin, end)
        return 1


def _check_mdir(
    files: Files, store: MdirStore, first: int, expected: dict[int, tuple[int, int]], synced: set[int]
) -> set[int]:
    good: set[int] = set()
    bad: list[Found] = []
    for message in store.names(files):
        if message.uid < first:
            continue
        wanted = expected.get(message.uid)
        data = files.read_bytes(store.file_of(message))
        if message.uid in synced or (wanted is not None and (len(data), crc32(data)) == wanted):
            good.add(message.uid)
            store.fresh[message.uid] = store.file_of(message)
        else:
            bad.append(message)
    store.remove(files, bad)
    for name in files.listdir(store.path):
        if name.startswith("new-"):
            files.unlink(f"{store.path}/{name}")
    return good
