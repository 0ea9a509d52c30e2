"""Requests that change messages: flags, expunge, copy and move."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from zlib import crc32

from appliance.accounts.acl import allowed_flags, need, rights_of
from appliance.accounts.box import Box
from appliance.accounts.client import AccountError, pack, unpack
from appliance.accounts.columns import pick, words
from appliance.accounts.frames import Moved, Placed
from appliance.accounts.reading import FlagTuple
from appliance.accounts.session import Session
from appliance.accounts.state import State
from appliance.accounts.untold import keep
from appliance.accounts.writing import check_quota, keyword_bits, settle
from appliance.formats.wire import wire_size
from appliance.kernel.disk import LONG
from appliance.kernel.files import Files
from appliance.kernel.tasks import pace
from appliance.mailstore.external import ExternalStore
from appliance.mailstore.flags import DELETED, EXPUNGED, INTERNAL, NO_EOL, SETTABLE
from appliance.mailstore.mdir import MdirStore
from appliance.mailstore.store import Changed, Found, Record, Store
from appliance.mailstore.table import Row, Table

__all__ = ["copy", "expunge", "remove", "remove_messages", "store"]

_MAX_STORE = 2000
_SLICE_BYTES = 4 << 20
_SLICE = 64
_PACE = 500


async def store(
    state: State,
    session: Session,
    number: int,
    packed: bytes,
    mode: str,
    flags: int,
    keywords: Sequence[str],
    unchanged_since: int,
) -> list[FlagTuple]:
    view = session.view(number)
    if not view.write:
        raise AccountError("NOPERM", "The mailbox is open for reading only")
    uids = unpack(packed)
    if len(uids) > _MAX_STORE or mode not in ("+", "-", "="):
        raise AccountError("LIMIT", "Too many messages in one request")
    box = view.box
    rights = rights_of(state, session, box)
    allowed = allowed_flags(rights)
    flags &= SETTABLE
    if not allowed or (mode != "=" and (flags & ~allowed or (keywords and "w" not in rights))):
        raise AccountError("NOPERM", "You do not have the right to do this")
    bits = await keyword_bits(state, box, keywords, make=mode != "-")
    await state.ensure(box, modseqs=1)
    table = box.table
    changes: list[tuple[int, int, int]] = []
    same = array("I")
    for count, uid in enumerate(uids, 1):
        if not count % _PACE:
            await pace()
        at = table.index(uid)
        if at < 0:
            continue
        old, old_bits = table.flags[at], table.keywords[at]
        if 0 <= unchanged_since < table.modseqs[at]:
            continue
        if mode == "+":
            new, new_bits = old | flags, old_bits | bits
        elif mode == "-":
            new, new_bits = old & ~flags, old_bits & ~bits
        else:
            new = old & (INTERNAL | ~allowed) | flags & allowed
            new_bits = bits if "w" in rights else old_bits
        same.append(uid)
        if new != old or new_bits != old_bits:
            changes.append((at, new, new_bits))
    if changes:
        pairs = []
        for at, new, new_bits in changes:
            found = table.found(at)
            if found.uid not in box.foreign:
                pairs.append((found, found._replace(flags=new, keywords=new_bits)))
        modseq = box.next_modseq()
        with box.moving() if isinstance(box.store, MdirStore) else nullcontext():
            try:
                await state.shared.disk.run(_set_flags, box.store, pairs)
            except FileNotFoundError:
                raise AccountError("TEMPORARY", "The mailbox is being changed by another program") from None
            for count, (at, new, new_bits) in enumerate(changes, 1):
                box.flagged(at, new, new_bits, modseq)
                if not count % _PACE:
                    await pace()
        box.dirty = True
        state.info_stale = True
        state.publish(box)
    if len(same) > 1 and any(one >= other for one, other in pairwise(same)):
        same = array("I", sorted(set(same)))
    return list(zip(*pick(view, same)[:4], strict=True))


def _set_flags(files: Files, store: Store, pairs: list[tuple[Found, Found]]) -> None:
    store.set_flags(files, pairs)


async def expunge(state: State, session: Session, number: int, packed: bytes | None) -> bytes:
    view = session.view(number)
    if not view.write:
        raise AccountError("NOPERM", "The mailbox is open for reading only")
    need(state, session, view.box, "d")
    table = view.box.table
    if packed is None:
        if not view.box.info.deleted:
            return b""
        indices = [at for at, flags in enumerate(table.flags) if flags & DELETED]
    else:
        indices = [at for at in table.indices(sorted(set(unpack(packed)))) if table.flags[at] & DELETED]
    return await remove_messages(state, view.box, indices)


async def remove(state: State, session: Session, number: int, packed: bytes) -> bytes:
    view = session.view(number)
    if not view.write:
        raise AccountError("NOPERM", "The mailbox is open for reading only")
    need(state, session, view.box, "d")
    indices = view.box.table.indices(sorted(set(unpack(packed))))
    return await remove_messages(state, view.box, indices)


async def remove_messages(state: State, box: Box, indices: list[int], *, moved: bool = False) -> bytes:
    """Take messages out of a mailbox, durably; their UIDs packed. `moved`: the journal says that they go, so no K must come
    before they are gone: a crash between would leave them here and there."""
    if not indices:
        return b""
    founds = box.founds(indices)
    await state.ensure(box, modseqs=1)
    await keep(state, box, indices)
    if isinstance(box.store, MdirStore):
        if not moved:
            await state.barrier()
        with box.moving():
            await state.shared.disk.run(_unlink, box.store, founds)
            await _gone(state, box, indices)
    elif isinstance(box.store, ExternalStore):
        await _mark_foreign(state, box, founds)  # other programs know no marks: what is expunged goes at once
        await _gone(state, box, indices)
    else:
        ours = [
            (found, found._replace(flags=found.flags | EXPUNGED)) for found in founds if found.uid not in box.foreign
        ]
        await state.shared.disk.run(_set_flags, box.store, ours)
        if len(ours) < len(founds):
            await _mark_foreign(state, box, [found for found in founds if found.uid in box.foreign])
        await _gone(state, box, indices)
        box.info.dead += sum(found.length for found in founds)
    state.info_stale = True
    state.publish(box)
    await state.maybe_compact(box)
    return pack(found.uid for found in founds)


async def _gone(state: State, box: Box, indices: list[int]) -> None:
    """The removal is on disk, and the table without them."""
    box.dirty = True
    await state.sync([box])
    # Only this task changes the table: readers see the old one while a worker makes the new one.
    columns = await state.shared.disk.run(_without, box.table, indices)
    state.used -= box.removed(indices, box.next_modseq(), columns)


async def _mark_foreign(state: State, box: Box, founds: list[Found]) -> None:
    """Other programs' messages have no place for a mark: the file is written without them."""
    await state.barrier()
    await box.unread()
    await state.rewrite(box, {found.place for found in founds})
    box.foreign -= {found.uid for found in founds}


def _without(files: Files, table: Table, indices: list[int]) -> list[array[int]]:
    return table.without(indices)


def _unlink(files: Files, store: MdirStore, founds: list[Found]) -> None:
    store.remove(files, founds)


async def copy(
    state: State, session: Session, number: int, packed: bytes, target: str, move: bool
) -> tuple[int, bytes, bytes]:
    view = session.view(number)
    source = view.box
    box = state.find(target)
    if move and not view.write:
        raise AccountError("NOPERM", "The mailbox is open for reading only")
    need(state, session, box, "i")
    if move:
        need(state, session, source, "d")
    if move and box is source:
        move = False
    if not box.stamped:
        await state.read(box)
    indices = source.table.indices(sorted(set(unpack(packed))))
    if not indices:
        return box.info.validity, b"", b""
    if not move:
        check_quota(state, sum(source.table.wires[at] for at in indices))
    names = words(source, _all(source.table.keywords[at] for at in indices))
    bits = {name: await keyword_bits(state, box, [name]) for name in names}
    founds = source.founds(indices)
    for attempt in range(3):
        await state.ensure(box, uids=len(founds), modseqs=len(founds), write=True)
        records: list[Record] = []
        masks = {mask: sum(bits[name] for name in words(source, mask)) for mask in {found.keywords for found in founds}}
        for uid, found in enumerate(founds, box.uidnext):
            records.append(Record(uid, found.flags & SETTABLE, masks[found.keywords], found.date, b"", ()))
            if not len(records) % _PACE:
                await pace()
        try:
            made, size = await state.shared.disk.run_in(LONG, _copy, source.store, founds, box.store, box.size, records)
            break
        except Changed:
            if attempt == 2:
                raise AccountError("TEMPORARY", "The mailbox is being changed by another program") from None
            await state.reread(box)
    placed: list[Placed] = []
    is_mdir = isinstance(box.store, MdirStore)
    start = box.size
    for record, (found, wire, crc) in zip(records, made, strict=True):
        row = Row(
            record.uid, found.place, found.length, wire, record.date, found.flags, record.keywords, box.next_modseq()
        )
        box.added(row)
        state.used += wire
        placed.append(
            Placed(
                box.name,
                box.info.id,
                box.info.generation,
                record.uid,
                found.flags,
                record.keywords,
                record.date,
                b"",
                b"",
                record.uid if is_mdir else start,
                found.length,
                crc,
            )
        )
        start = found.place + found.length + (2 if found.flags & NO_EOL else 1)
        if not len(placed) % _PACE:
            await pace()
    state.wrote(box, max(0, size - box.size))
    if not is_mdir:
        box.size = size
    moved = Moved(source.name, source.info.id, [found.uid for found in founds]) if move else None
    await settle(state, [(box, placed)], moved)
    state.publish(box)
    new = pack(place.uid for place in placed)
    old = pack(found.uid for found in founds)
    if move:
        await remove_messages(state, source, indices, moved=True)
    return box.info.validity, old, new


def _all(values: Iterable[int]) -> int:
    bits = 0
    for value in values:
        bits |= value
    return bits


def _copy(
    files: Files, source: Store, founds: list[Found], target: Store, size: int, records: list[Record]
) -> tuple[list[tuple[Found, int, int]], int]:
    """All or nothing, a slice in memory at a time. The messages as stored, with wire size and CRC."""
    made: list[tuple[Found, int, int]] = []
    start = size
    at = 0
    try:
        while at < len(founds):
            stop, total = at, 0
            while (
                stop < len(founds) and stop - at < _SLICE and (stop == at or total + founds[stop].length < _SLICE_BYTES)
            ):
                total += founds[stop].length
                stop += 1
            slice_records: list[Record] = []
            sizes: list[tuple[int, int]] = []
            for record, content in zip(records[at:stop], source.read(files, founds[at:stop]), strict=True):
                stored, internal = target.prepare(content)
                slice_records.append(record._replace(flags=record.flags | internal, content=(stored,)))
                sizes.append((wire_size(content), crc32(stored)))
            places: list[int] = []
            if isinstance(source, MdirStore) and isinstance(target, MdirStore):
                for record, found in zip(slice_records, founds[at:stop], strict=True):
                    lines = record.content[0].count(b"\n")
                    message = Found(record.uid, lines, 0, record.flags, record.keywords, record.date)
                    target.link(files, source.file_of(found), message)
                    target.fresh[record.uid] = target.file_of(message)
                    places.append(lines)
            else:
                places, size = target.append(files, size, slice_records)
            for record, place, (wire, crc) in zip(slice_records, places, sizes, strict=True):
                length = len(record.content[0])
                flags = record.flags
                if not isinstance(target, MdirStore) and not record.content[0].endswith(b"\n"):
                    flags |= NO_EOL
                made.append((Found(record.uid, place, length, flags, record.keywords, record.date), wire, crc))
            at = stop
    except (OSError, Changed):
        target.take_back(files, start, [found for found, _, _ in made])
        raise
    return made, size
