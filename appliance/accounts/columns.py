"""What clients list of whole mailboxes: numbers, flags and finished texts of many messages, as columns.

A listing of ten thousand messages is a few slices of arrays and some blocks of the index; nothing is done for each message
but what its row needs. Texts that nobody has made yet are made here, from the messages, and kept.
"""

from __future__ import annotations

import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

from appliance.accounts.box import Box, View
from appliance.accounts.client import AccountError, Fetch, unpack
from appliance.accounts.session import Session
from appliance.accounts.state import State
from appliance.formats.bodystructure import summary
from appliance.kernel.disk import FILES
from appliance.kernel.files import Files
from appliance.mailstore.flags import RECENT, SETTABLE
from appliance.mailstore.index import IndexPool, Rendered, Texts
from appliance.mailstore.store import Found, Store

__all__ = ["MAX_COLUMNS", "Picked", "columns", "pick", "texts_of", "words"]

MAX_COLUMNS: Final = 2000
_TRIES: Final = 5
_PART: Final = 64


class Picked(NamedTuple):
    """Columns of messages that are there, in the order of their UIDs. Flags with \\Recent as the view has it."""

    uids: list[int]
    flags: list[int]
    keywords: list[tuple[str, ...]]
    modseqs: list[int]
    wires: list[int]
    dates: list[int]


def words(box: Box, bits: int) -> tuple[str, ...]:
    """The names of keyword bits."""
    if not bits:
        return ()
    return tuple(name for number, name in enumerate(box.info.keywords) if bits >> number & 1)


def _column(values: array[int], where: slice | Sequence[int]) -> list[int]:
    if isinstance(where, slice):
        return values[where].tolist()
    if len(where) < 2:
        return [values[at] for at in where]
    return list(itemgetter(*where)(values))


def pick(view: View, uids: array[int]) -> Picked:
    """The columns of those of the UIDs (ascending) that are there."""
    box = view.box
    table = box.table
    at = table.from_uid(uids[0]) if len(uids) else 0
    run = slice(at, at + len(uids))
    where: slice | Sequence[int] = run if table.uids[run] == uids else table.indices(uids)
    numbers = _column(table.uids, where)
    bits = [value & SETTABLE for value in _column(table.flags, where)]
    for low, high in view.recent_ranges():
        begin, end = bisect_left(numbers, low), bisect_left(numbers, high)
        bits[begin:end] = [value | RECENT for value in bits[begin:end]]
    masks = _column(table.keywords, where)
    names = {mask: words(box, mask) for mask in set(masks)}
    keywords = [names[mask] for mask in masks] if len(names) > 1 else list(names.values()) * len(masks)
    return Picked(
        numbers, bits, keywords, _column(table.modseqs, where), _column(table.wires, where), _column(table.dates, where)
    )


async def columns(state: State, session: Session, number: int, packed: bytes, what: int) -> tuple[Any, ...]:
    """The gate's request: see `AccountSession.columns`."""
    uids = unpack(packed)
    if len(uids) > MAX_COLUMNS:
        raise AccountError("LIMIT", "Too many messages in one request")
    view = session.view(number)
    if any(one >= other for one, other in pairwise(uids)):
        uids = array("I", sorted(set(uids)))
    if not what:
        return (*pick(view, uids), None, None, None)
    texts = await texts_of(state, view.box, uids, bodies=bool(what & Fetch.BODY))
    picked = pick(view, uids)
    if len(picked.uids) > len(texts) or any(uid not in texts for uid in picked.uids):
        # A message that another session removed while its texts were made has none; the table is newer than the texts.
        uids = array("I", [uid for uid in uids if uid in texts])
        picked = pick(view, uids)
    rows = [texts[uid] for uid in picked.uids]
    return (
        *picked,
        [row[0] for row in rows] if what & Fetch.ENVELOPE else None,
        [row[1] for row in rows] if what & Fetch.BODYSTRUCTURE else None,
        [row[2] for row in rows] if what & Fetch.BODY else None,
    )


async def texts_of(state: State, box: Box, uids: Sequence[int], *, bodies: bool) -> Mapping[int, Rendered]:
    """The texts of those that are there (and perhaps of others), from memory, the index or the messages themselves."""
    shared = state.shared
    for _ in range(_TRIES):
        async with box:
            pending = box.texts
            rest = [uid for uid in uids if uid not in pending] if pending else uids
            known: dict[int, Rendered] = {uid: pending[uid] for uid in uids if uid in pending} if pending else {}
            if rest:
                known.update(
                    await shared.disk.run_in(FILES, _kept, shared.pool, state.index_path, box.info.id, rest, bodies)
                )
            table = box.table
            founds = [table.found(at) for uid in rest if uid not in known and (at := table.index(uid)) >= 0]
            if not founds:
                return known
            try:
                fresh = await shared.disk.run(_make, box.store, shared.pool, state.index_path, box.info.id, founds)
            except FileNotFoundError:
                continue
            known.update(fresh)
            return known
    raise AccountError("TEMPORARY", "The mailbox is being changed")


def _kept(files: Files, pool: IndexPool, path: str, box: int, uids: Sequence[int], bodies: bool) -> dict[int, Rendered]:
    try:
        return pool.texts(files, path, box, uids, bodies=bodies)
    except sqlite3.Error:
        return {}  # no disk space for its journal, for example: then they are made anew


def _make(files: Files, store: Store, pool: IndexPool, path: str, box: int, founds: list[Found]) -> dict[int, Texts]:
    """Render and keep."""
    fresh: dict[int, Texts] = {}
    for at in range(0, len(founds), _PART):
        part = founds[at : at + _PART]
        for found, content in zip(part, store.read(files, part), strict=True):
            made = summary(content)
            fresh[found.uid] = Texts(made.envelope, made.bodystructure, made.body)
    with suppress(sqlite3.Error):
        pool.save_texts(files, path, box, fresh)
    return fresh
