"""Putting messages into mailboxes: what delivery, APPEND and COPY have in common.

`put` writes and changes the state, but makes nothing durable: a delivery is safe by its D and the next K, a client's write by
`settle` (its D and the sync of the files it touched).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from appliance.accounts.box import Box
from appliance.accounts.client import AccountError
from appliance.accounts.frames import Moved, Placed, Writing
from appliance.accounts.state import State
from appliance.formats.bodystructure import summary
from appliance.formats.wire import wire_size
from appliance.kernel.disk import DELIVERY, FILES
from appliance.kernel.files import Files
from appliance.kernel.journal import Ticket
from appliance.mailstore.flags import KEYWORDS, NO_EOL, SETTABLE
from appliance.mailstore.index import Texts
from appliance.mailstore.mdir import MdirStore
from appliance.mailstore.store import Changed, Found, Record, Store, Taken
from appliance.mailstore.table import Row

__all__ = ["Item", "check_quota", "keyword_bits", "put", "put_file", "settle"]

MAX_KEYWORD: Final = 64
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
    #: The path of a file of just these bytes, for a hard link.
    twin: str = ""


Work = tuple[Store, int, list[Record], list[str], list[tuple[bytes, ...]]]
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
            plan.append((box.store, box.size, records, [item.twin for item in items], came))
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
        for store, size, records, twins, _ in plan:
            done.append(_put_one(files, store, size, records, twins))
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


def _put_one(files: Files, store: Store, size: int, records: list[Record], twins: list[str]) -> tuple[list[int], int]:
    if not isinstance(store, MdirStore) or not any(twins):
        return store.append(files, size, records)
    places: list[int] = []
    for record, twin in zip(records, twins, strict=True):
        if twin:
            lines = sum(part.count(b"\n") for part in record.content)
            message = Found(record.uid, lines, 0, record.flags, record.keywords, record.date)
            try:
                store.link(files, twin, message)
            except OSError:
                pass  # gone or refused: a file of its own
            else:
                path = store.file_of(message)
                if files.read_bytes(path) == b"".join(record.content):
                    store.fresh[record.uid] = path
                    places.append(lines)
                    continue
                files.unlink(path)  # the name is another message's by now
        made, size = store.append(files, size, [record])
        places += made
    return places, size


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
            taken = await state.shared.disk.run(_take, box.store, box.size, record, source)
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


def _take(files: Files, store: Store, size: int, record: Record, source: str) -> Taken:
    return store.take(files, size, record, source)


async def settle(state: State, written: Sequence[tuple[Box, Sequence[Placed]]], moved: Moved | None = None) -> None:
    """Clients' writes are on disk, and the journal knows which messages are whole: one flush for all of them."""
    ticket: Ticket | None = None
    for box, placed in written:
        info = box.info
        writing = Writing(
            state.name, box.name, info.id, info.generation, -1, info.uid_mark, info.modseq_mark, list(placed), moved
        )
        ticket = state.shared.journal.append(writing.frame())
    if ticket is not None:
        state.shared.journal.hurry()
        await state.sync([box for box, _ in written])
        await ticket.durable()
