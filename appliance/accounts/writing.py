"""Putting messages into mailboxes: what delivery, APPEND and COPY have in common.

`put` writes and changes the state, but makes nothing durable: a delivery is safe by its D and the next K, a client's write by
`settle` (its D and the sync of the files it touched).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final, NamedTuple
from zlib import crc32

from appliance.accounts.box import Box
from appliance.accounts.client import AccountError
from appliance.accounts.frames import Moved, Placed, Writing
from appliance.accounts.state import State
from appliance.formats.bodystructure import summary
from appliance.formats.wire import wire_size
from appliance.kernel.disk import DELIVERY, FILES
from appliance.kernel.files import Files
from appliance.kernel.journal import Frame, Ticket
from appliance.mailstore.flags import KEYWORDS, NO_EOL, SETTABLE
from appliance.mailstore.index import Texts
from appliance.mailstore.mdir import MdirStore
from appliance.mailstore.store import Changed, Found, Record, Store, Taken
from appliance.mailstore.table import Row

__all__ = ["Item", "Twins", "check_quota", "keyword_bits", "put", "put_file", "put_twin", "settle"]

MAX_KEYWORD: Final = 64
_MANY: Final = 500
_CHUNK: Final = 1 << 20
_MANY_TEXTS: Final = 1024
"""Finished texts of a mailbox that wait in memory for a checkpoint."""


@dataclass(slots=True)
class Item:
    """One message for one mailbox. `content` is its store form, `added` header lines in front of it (ending with LF)."""

    flags: int
    keywords: int
    date: int
    return_path: bytes
    content: bytes
    added: bytes = b""
    #: The id of the message that these bytes are of, and where its copies in other .mdir mailboxes are: for hard links.
    message: int = 0
    twins: Twins | None = None


class Twin(NamedTuple):
    """A file of an .mdir mailbox: its octets, their CRC, its lines."""

    path: str
    length: int
    crc: int
    lines: int


class Twins:
    """Where messages were stored last as files of their own. Asked and told by disk workers, just before and after a file is
    made, so that mailboxes of accounts that are served at the same time share one too."""

    LIMIT: Final = 256

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, bytes], Twin] = OrderedDict()
        self._lock = Lock()

    def find(self, item: Item) -> Twin | None:
        return self._known.get((item.message, item.added)) if item.message else None

    def keep(self, item: Item, twin: Twin) -> None:
        if item.message:
            with self._lock:
                self._known[item.message, item.added] = twin
                if len(self._known) > self.LIMIT:
                    self._known.popitem(last=False)


Work = tuple[Store, int, list[Record], Sequence[Item], list[tuple[bytes, ...]]]
"""The mailbox and its size, what goes into it as stored, files to link, and the messages as they came in pieces."""

_RENDERED: Final = 1 << 18
"""The texts of a larger message are left to its first reader."""


def check_quota(state: State, size: int) -> None:
    """OVERQUOTA if so many bytes more are too many."""
    limit = state.limit
    if limit is not None and state.used + size > limit:
        raise AccountError("OVERQUOTA", "The account is over its storage limit")


async def keyword_bits(state: State, box: Box, names: Sequence[str], *, make: bool = True) -> int:
    """The bits of these keywords; new ones get a letter, which is durable before it is used. LIMIT."""
    bits = 0
    known = box.info.keywords
    fresh = False
    for name in names:
        folded = name.casefold()
        at = next((number for number, word in enumerate(known) if word.casefold() == folded), -1)
        if at < 0:
            if not make:
                continue
            if len(known) >= KEYWORDS or not 0 < len(name) <= MAX_KEYWORD:
                raise AccountError("LIMIT", "The mailbox takes no more keywords")
            at = len(known)
            known.append(name)
            fresh = True
        bits |= 1 << at
    if fresh:
        await state.save_info()
    return bits


async def put(state: State, batch: Sequence[tuple[Box, Sequence[Item]]], *, hurry: bool = True) -> list[list[Placed]]:
    """Store all or nothing, in one hop. OSError; AccountError."""
    for attempt in range(3):
        for box, items in batch:
            if not box.stamped:
                await state.read(box)
            await state.ensure(box, uids=len(items), modseqs=len(items), write=True, hurry=hurry)
        plan: list[Work] = []
        for box, items in batch:
            records = []
            for uid, item in enumerate(items, box.uidnext):
                content, internal = box.store.prepare(item.content)
                parts: tuple[bytes, ...] = (content,)
                if item.added:
                    added, more = box.store.prepare(item.added)
                    internal |= more
                    parts = (added, content)
                flags = item.flags & SETTABLE | internal
                records.append(Record(uid, flags, item.keywords, item.date, item.return_path, parts))
            came: list[tuple[bytes, ...]] = [
                (item.added, item.content) if item.added else (item.content,) for item in items
            ]
            plan.append((box.store, box.size, records, items, came))
        try:
            done = await state.shared.disk.run_in(FILES if hurry else DELIVERY, _put, plan)
            break
        except Changed:
            if attempt == 2:
                raise AccountError("TEMPORARY", "The mailbox is being changed by another program") from None
            for box, _ in batch:
                await state.reread(box)
    result: list[list[Placed]] = []
    for (box, items), (_, _, records, _, _), (places, size, texts) in zip(batch, plan, done, strict=True):
        placed: list[Placed] = []
        start = box.size
        is_mdir = isinstance(box.store, MdirStore)
        for item, record, place in zip(items, records, places, strict=True):
            length = crc = 0
            for part in record.content:
                length += len(part)
                crc = crc32(part, crc)
            wire = wire_size(item.content) + (wire_size(item.added) if item.added else 0)
            flags = record.flags
            if not is_mdir and not record.content[-1].endswith(b"\n"):
                flags |= NO_EOL
            modseq = box.next_modseq()
            box.added(Row(record.uid, place, length, wire, item.date, flags, item.keywords, modseq))
            state.used += wire
            placed.append(
                Placed(
                    box.name,
                    box.info.id,
                    box.info.generation,
                    record.uid,
                    flags,
                    item.keywords,
                    item.date,
                    item.return_path,
                    item.added,
                    record.uid if is_mdir else start,
                    length,
                    crc,
                )
            )
            start = place + length + (2 if flags & NO_EOL else 1)
        state.wrote(box, max(0, size - box.size))
        if not is_mdir:
            box.size = size
        state.publish(box)
        result.append(placed)
        box.texts.update(texts)
        if len(box.texts) >= _MANY_TEXTS:
            await state.keep_texts(box)
    return result


def _put(files: Files, plan: list[Work]) -> list[tuple[list[int], int, dict[int, Texts]]]:
    done: list[tuple[list[int], int]] = []
    try:
        for store, size, records, items, _ in plan:
            done.append(_put_one(files, store, size, records, items))
    except (OSError, Changed):
        for (store, size, records, _, _), (places, _) in zip(plan, done, strict=False):
            founds = [
                Found(record.uid, place, 0, record.flags, record.keywords, record.date)
                for record, place in zip(records, places, strict=True)
            ]
            store.take_back(files, size, founds)
        raise
    return [
        (places, size, _texts(records, came))
        for (places, size), (_, _, records, _, came) in zip(done, plan, strict=True)
    ]


def _texts(records: Sequence[Record], came: Sequence[tuple[bytes, ...]]) -> dict[int, Texts]:
    """While the message is at hand, what a listing will ask for costs no reading."""
    made = {}
    for record, parts in zip(records, came, strict=True):
        content = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(content) <= _RENDERED:
            found = summary(content)
            made[record.uid] = Texts(found.envelope, found.bodystructure, found.body)
    return made


def _put_one(
    files: Files, store: Store, size: int, records: list[Record], items: Sequence[Item]
) -> tuple[list[int], int]:
    if not isinstance(store, MdirStore) or not any(item.twins for item in items):
        return store.append(files, size, records)
    places: list[int] = []
    for record, item in zip(records, items, strict=True):
        twin = item.twins.find(item) if item.twins is not None else None
        if twin is not None and _linked(files, store, record, twin):
            places.append(twin.lines)
            continue
        made, size = store.append(files, size, [record])
        places += made
        if item.twins is not None:
            whole = b"".join(record.content)
            item.twins.keep(item, Twin(store.fresh[record.uid], len(whole), crc32(whole), made[0]))
    return places, size


def _linked(files: Files, store: MdirStore, record: Record, twin: Twin) -> bool:
    """Make the message a hard link to its twin, if that is there still and is what it was."""
    message = Found(record.uid, twin.lines, 0, record.flags, record.keywords, record.date)
    try:
        store.link(files, twin.path, message)
    except OSError:
        return False  # gone or refused: a file of its own
    path = store.file_of(message)
    try:
        same = _same(files, path, twin)
    except OSError:
        same = False
    if not same:
        files.unlink(path)  # the name is another message's by now
        return False
    store.fresh[record.uid] = path
    return True


def _same(files: Files, path: str, twin: Twin) -> bool:
    crc = at = 0
    handle = files.open(path)
    try:
        if files.size(handle) != twin.length:
            return False
        while at < twin.length:
            chunk = files.pread(handle, _CHUNK, at)
            crc, at = crc32(chunk, crc), at + len(chunk)
            if not chunk:
                return False
    finally:
        files.close(handle)
    return crc == twin.crc


async def put_file(state: State, box: Box, item: Item, source: str) -> Placed:
    """Store one message whose store form is `item.content` and then that of a file. OSError; AccountError."""
    for attempt in range(3):
        if not box.stamped:
            await state.read(box)
        await state.ensure(box, uids=1, modseqs=1, write=True)
        flags = item.flags & SETTABLE
        content = (item.added + item.content,)
        record = Record(box.uidnext, flags, item.keywords, item.date, item.return_path, content)
        try:
            taken = await state.shared.disk.run(_take, box.store, box.size, record, source, item)
            break
        except Changed:
            if attempt == 2:
                raise AccountError("TEMPORARY", "The mailbox is being changed by another program") from None
            await state.reread(box)
    modseq = box.next_modseq()
    box.added(Row(record.uid, taken.place, taken.length, taken.wire, item.date, taken.flags, item.keywords, modseq))
    state.used += taken.wire
    state.wrote(box, taken.length)
    start = record.uid if isinstance(box.store, MdirStore) else box.size
    if not isinstance(box.store, MdirStore):
        box.size = taken.end
    state.publish(box)
    return Placed(
        box.name,
        box.info.id,
        box.info.generation,
        record.uid,
        taken.flags,
        item.keywords,
        item.date,
        item.return_path,
        item.added,
        start,
        taken.length,
        taken.crc,
    )


async def put_twin(state: State, box: Box, item: Item) -> Placed | None:
    """Store a message whose content is not at hand as a link to its twin; None if there is none. OSError; AccountError."""
    if not isinstance(box.store, MdirStore) or item.twins is None or item.twins.find(item) is None:
        return None
    try:
        return await put_file(state, box, item, "")
    except _NoTwin:
        return None


class _NoTwin(Exception):
    """There is no twin any more, and nothing to copy from."""


def _take(files: Files, store: Store, size: int, record: Record, source: str, item: Item) -> Taken:
    if not isinstance(store, MdirStore) or item.twins is None:
        return store.take(files, size, record, source)
    twin = item.twins.find(item)
    if twin is not None and _linked(files, store, record, twin):
        length, lines = twin.length, twin.lines
        return Taken(lines, length, twin.crc, length + lines, record.flags, size + length)
    if not source:
        raise _NoTwin
    taken = store.take(files, size, record, source)
    item.twins.keep(item, Twin(store.fresh[record.uid], taken.length, taken.crc, taken.place))
    return taken


async def settle(state: State, written: Sequence[tuple[Box, Sequence[Placed]]], moved: Moved | None = None) -> None:
    """Clients' writes are on disk, and the journal knows which messages are whole: one flush for all of them."""
    ticket: Ticket | None = None
    for box, placed in written:
        info = box.info
        writing = Writing(
            state.name, box.name, info.id, info.generation, -1, info.uid_mark, info.modseq_mark, list(placed), moved
        )
        frame = writing.frame() if len(placed) < _MANY else await state.shared.disk.run(_frame, writing)
        ticket = state.shared.journal.append(frame)
    if ticket is not None:
        state.shared.journal.hurry()
        await state.sync([box for box, _ in written])
        await ticket.durable()


def _frame(files: Files, writing: Writing) -> Frame:
    """Of thousands of messages it takes longer to pack than others should wait."""
    return writing.frame()
