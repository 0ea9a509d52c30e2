"""Requests that open, watch and read a mailbox. All but `open` and `status` run beside the account's task."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

import trio

from appliance.accounts.acl import need, rights_of
from appliance.accounts.box import View
from appliance.accounts.client import AccountError, Fetch, pack, unpack
from appliance.accounts.columns import pick, texts_of, words
from appliance.accounts.sections import Reader, cut, section_path
from appliance.accounts.session import MAX_VIEWS, Session
from appliance.accounts.state import State
from appliance.accounts.untold import sweep
from appliance.formats.wire import to_wire
from appliance.kernel.files import Files
from appliance.mailstore.flags import RECENT, SETTABLE
from appliance.mailstore.index import Rendered
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
        unseen = table.first_unseen() + 1
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
        if view.box.untold:
            await sweep(state, view.box)
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
    """As `row_of` for each that is there."""
    rows: list[FlagTuple] = []
    for start in range(0, len(uids), _PACE):
        if start:
            await trio.lowlevel.checkpoint()
        part = uids[start : start + _PACE]
        picked = pick(view, part if isinstance(part, array) else array("I", part))
        rows += zip(*picked[:4], strict=True)
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
    texts: Mapping[int, Rendered] = {}
    if what:
        texts = await texts_of(state, box, uids, bodies=bool(what & Fetch.BODY))
    for attempt in range(_TRIES):
        async with box:
            table = box.table
            founds: list[tuple[Found, int]] = []
            total = 0
            for uid in uids:
                at = table.index(uid)
                if at < 0 or (what and uid not in texts):
                    continue
                wire = table.wires[at]
                if path is not None and wire <= INLINE:
                    if total and total + wire > _ANSWER:
                        break
                    total += wire
                founds.append((table.found(at), wire))
            if path is None:
                got: list[bytes | None] = [None] * len(founds)
                break
            try:
                got = await state.shared.disk.run(_contents, box.store, founds, path)
                break
            except FileNotFoundError:
                if attempt == _TRIES - 1:
                    raise AccountError("TEMPORARY", "The mailbox is being changed") from None
    rows: list[tuple[object, ...]] = []
    envelopes, structures, bodies = what & Fetch.ENVELOPE, what & Fetch.BODYSTRUCTURE, what & Fetch.BODY
    table = box.table
    for (found, wire), content in zip(founds, got, strict=True):
        at = table.index(found.uid)
        if at < 0:
            continue
        uid, bits, names, modseq = row_of(view, at)
        envelope = structure = body = None
        if what:
            text = texts[uid]
            envelope = text[0] if envelopes else None
            structure = text[1] if structures else None
            body = text[2] if bodies else None
        rows.append((uid, bits, names, modseq, wire, found.date, 0, envelope, structure, body, content))
    return rows


def _contents(
    files: Files, store: Store, founds: list[tuple[Found, int]], section: tuple[tuple[int, ...], str]
) -> list[bytes | None]:
    """The section of each message in one job; None for one that is too large to come along."""
    wanted = [found for found, wire in founds if wire <= INLINE]
    pieces: dict[int, bytes | None] = {}
    for at in range(0, len(wanted), 64):
        part = wanted[at : at + 64]
        for found, content in zip(part, store.read(files, part), strict=True):
            piece = cut(content, section)
            if piece is None:
                pieces[found.uid] = b""
            elif len(piece) <= INLINE:
                wire_piece = to_wire(piece)
                pieces[found.uid] = wire_piece if len(wire_piece) <= INLINE else None
    return [pieces.get(found.uid) for found, _ in founds]


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
