"""Requests that open, watch and read a mailbox. All but `open` and `status` run beside the account's task."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from appliance.accounts.acl import need, rights_of
from appliance.accounts.box import Box, View
from appliance.accounts.client import AccountError, Fetch, pack, unpack
from appliance.accounts.sections import Reader, cut, section_path
from appliance.accounts.session import MAX_VIEWS, Session
from appliance.accounts.state import State
from appliance.formats.bodystructure import summary
from appliance.formats.wire import to_wire
from appliance.kernel.files import Files
from appliance.mailstore.flags import RECENT, SEEN, SETTABLE
from appliance.mailstore.index import IndexPool, Texts
from appliance.mailstore.store import Found, Store

__all__ = ["changes", "fetch", "flags", "keywords", "open_view", "read", "release", "status"]

INLINE = 256 * 1024
"""Wire bytes of a section that `fetch` brings along, and of one `read`."""
_ANSWER = 1 << 20
_PACE = 500
_MAX_FETCH = 500
_MAX_FLAGS = 2000
_TRIES = 5

FlagTuple = tuple[int, int, tuple[str, ...], int]


def words(box: Box, bits: int) -> tuple[str, ...]:
    """The names of keyword bits."""
    if not bits:
        return ()
    return tuple(name for number, name in enumerate(box.info.keywords) if bits >> number & 1)


def row_of(view: View, at: int) -> FlagTuple:
    """UID, flags, keywords and mod-sequence of the message at an index."""
    box = view.box
    table = box.table
    uid = table.uids[at]
    flags = table.flags[at] & SETTABLE
    if view.is_recent(uid):
        flags |= RECENT
    return uid, flags, words(box, table.keywords[at]), table.modseqs[at]


async def status(state: State, session: Session, name: str) -> dict[str, int]:
    box = state.find(name)
    need(state, session, box, "r")
    if not box.stamped:
        await state.read(box)
    info = box.info
    return {
        "MESSAGES": info.messages,
        "RECENT": info.recent,
        "UIDNEXT": box.uidnext,
        "UIDVALIDITY": info.validity,
        "UNSEEN": info.unseen,
        "SIZE": info.size,
        "DELETED": info.deleted,
        "HIGHESTMODSEQ": max(1, box.modseq),
        "INTERNALSIZE": info.size if box.size == 0 else box.size,
        "OLDEST": info.oldest,
    }


async def open_view(state: State, session: Session, name: str, write: bool) -> tuple[object, ...]:
    box = state.find(name)
    need(state, session, box, "r")
    if len(session.views) >= MAX_VIEWS:
        raise AccountError("LIMIT", "Too many mailboxes are open")
    await state.read(box)
    table = box.table
    view = View(box, write)
    recent = len(table) - table.from_uid(box.info.recent_from)
    view.take_recent()
    if write and recent:
        state.info_stale = True
    unseen = 0
    if box.info.unseen:
        unseen = next((at for at, flags in enumerate(table.flags, 1) if not flags & SEEN), 0)
    handle = session.handle()
    session.views[handle] = view
    box.views.add(view)
    return (
        handle,
        box.info.validity,
        box.uidnext,
        max(1, box.modseq),
        recent,
        unseen,
        tuple(box.info.keywords),
        rights_of(state, session, box) if write else "lr",
        pack(table.uids),
    )


async def release(state: State, session: Session, number: int) -> None:
    view = session.views.pop(number, None)
    if view is not None:
        view.box.views.discard(view)
        await state.trim()


async def keywords(state: State, session: Session, number: int) -> tuple[str, ...]:
    return tuple(session.view(number).box.info.keywords)


async def changes(state: State, session: Session, number: int, modseq: int) -> tuple[object, ...]:
    view = session.view(number)
    box = view.box
    now, uidnext, told = max(1, box.modseq), box.uidnext, view.uidnext
    if now <= modseq and uidnext == told:
        return now, uidnext, (), (), b""
    changed_uids = box.since(modseq, told)
    vanished = pack(box.vanished(modseq, told))
    new: list[FlagTuple] = []
    if uidnext > told:
        view.take_recent()
        view.uidnext = uidnext
        new_uids = box.table.uids[box.table.from_uid(told) :]
        new = await _rows(view, new_uids)
    changed = await _rows(view, changed_uids)
    return now, uidnext, tuple(new), tuple(changed), vanished


async def _rows(view: View, uids: Sequence[int]) -> list[FlagTuple]:
    """As `row_of` for each that is there. A UID mostly stands right behind the one before it, so few are looked up."""
    rows: list[FlagTuple] = []
    append = rows.append
    at = 0
    for start in range(0, len(uids), _PACE):
        if start:
            await trio.lowlevel.checkpoint()
        box = view.box
        table = box.table
        known, flags, keywords, modseqs = table.uids, table.flags, table.keywords, table.modseqs
        count = len(known)
        recent = view.recent_ranges()
        names: dict[int, tuple[str, ...]] = {0: ()}
        for uid in uids[start : start + _PACE]:
            if at >= count or known[at] != uid:
                at = table.from_uid(uid)
                if at >= count or known[at] != uid:
                    continue
            bits = flags[at] & SETTABLE
            for low, high in recent:
                if low <= uid < high:
                    bits |= RECENT
            mask = keywords[at]
            if mask not in names:
                names[mask] = words(box, mask)
            append((uid, bits, names[mask], modseqs[at]))
            at += 1
    return rows


async def flags(state: State, session: Session, number: int, packed: bytes) -> list[FlagTuple]:
    uids = unpack(packed)
    if len(uids) > _MAX_FLAGS:
        raise AccountError("LIMIT", "Too many messages in one request")
    return await _rows(session.view(number), uids)


async def fetch(
    state: State, session: Session, number: int, packed: bytes, what: int, section: str | None
) -> list[tuple[object, ...]]:
    view = session.view(number)
    uids = unpack(packed)
    if len(uids) > _MAX_FETCH:
        raise AccountError("LIMIT", "Too many messages in one request")
    path = None if section is None else section_path(section)
    box = view.box
    for attempt in range(_TRIES):
        async with box:
            table = box.table
            founds: list[tuple[Found, int]] = []
            total = 0
            for uid in uids:
                at = table.index(uid)
                if at < 0:
                    continue
                wire = table.wires[at]
                if path is not None and wire <= INLINE:
                    if total and total + wire > _ANSWER:
                        break
                    total += wire
                founds.append((table.found(at), wire))
            shared = state.shared
            try:
                got = (
                    await shared.disk.run(
                        _collect, box.store, shared.pool, state.index_path, box.info.id, founds, what, path
                    )
                    if what or path is not None
                    else [(None, None)] * len(founds)
                )
                break
            except FileNotFoundError:
                if attempt == _TRIES - 1:
                    raise AccountError("TEMPORARY", "The mailbox is being changed") from None
    rows: list[tuple[object, ...]] = []
    envelopes, structures, bodies = what & Fetch.ENVELOPE, what & Fetch.BODYSTRUCTURE, what & Fetch.BODY
    table = box.table
    for (found, wire), (texts, content) in zip(founds, got, strict=True):
        at = table.index(found.uid)
        if at < 0:
            continue
        uid, bits, names, modseq = row_of(view, at)
        envelope = structure = body = None
        if texts is not None:
            envelope = texts.envelope if envelopes else None
            structure = texts.structure if structures else None
            body = texts.body if bodies else None
        rows.append((uid, bits, names, modseq, wire, found.date, 0, envelope, structure, body, content))
    return rows


def _collect(
    files: Files,
    store: Store,
    pool: IndexPool,
    path: str,
    box: int,
    founds: list[tuple[Found, int]],
    what: int,
    section: tuple[tuple[int, ...], str] | None,
) -> list[tuple[Texts | None, bytes | None]]:
    """Texts and contents, from the index or from the messages themselves, in one job."""
    known: dict[int, Texts] = {}
    if what:
        known = pool.texts(files, path, box, [found.uid for found, _ in founds])
    wanted = [
        found for found, wire in founds if (section is not None and wire <= INLINE) or (what and found.uid not in known)
    ]
    fresh: dict[int, Texts] = {}
    result: dict[int, bytes | None] = {}
    for at in range(0, len(wanted), 64):
        part = wanted[at : at + 64]
        for found, content in zip(part, store.read(files, part), strict=True):
            if what and found.uid not in known:
                made = summary(content)
                known[found.uid] = fresh[found.uid] = Texts(made.envelope, made.bodystructure, made.body)
            if section is not None:
                piece = cut(content, section)
                if piece is None:
                    result[found.uid] = b""
                elif len(piece) <= INLINE:
                    wire_piece = to_wire(piece)
                    result[found.uid] = wire_piece if len(wire_piece) <= INLINE else None
    if fresh:
        pool.save_texts(files, path, box, fresh)
    return [(known.get(found.uid), result.get(found.uid)) for found, _ in founds]


async def read(
    state: State, session: Session, number: int, uid: int, section: str, offset: int, length: int
) -> tuple[int, bytes]:
    view = session.view(number)
    box = view.box
    path = section_path(section)
    length = max(0, min(length, INLINE))
    for _ in range(_TRIES):
        async with box:
            at = box.table.index(uid)
            if at < 0:
                raise AccountError("NONEXISTENT", "The message is gone")
            found = box.table.found(at)
            reader = view.reading
            if not isinstance(reader, Reader) or not reader.fits(uid, section, offset):
                reader = Reader(uid, section, path)
            view.reading = None
            try:
                answer = await state.shared.disk.run(reader.read, box.store, found, offset, length)
            except FileNotFoundError:
                continue
            view.reading = reader
            return answer
    raise AccountError("TEMPORARY", "The mailbox is being changed")
