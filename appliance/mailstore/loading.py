"""Opening a mailbox: the index where it agrees with the file, a look at the file where it does not.

An .mbox whose size and time are those of the index is believed. One that has grown is checked From-line by From-line (which
also brings the flags up to date) and only its tail is read. Anything else is read from the beginning. An .mdir is
listed each time, since the names are its truth, and the index only saves the look at the size of each file; but a large one is
believed while the time of the directory is that of the index.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

from appliance.formats.wire import UnquoteFrom
from appliance.kernel.files import Files
from appliance.mailstore.external import ExternalStore
from appliance.mailstore.flags import EXPUNGED, QUOTED
from appliance.mailstore.index import Indexed, IndexPool
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.mdir import NO_LINES, MdirStore
from appliance.mailstore.store import Damaged, Found, Scan, Store
from appliance.mailstore.table import Row, Table

__all__ = ["LARGE", "Loaded", "load", "open_store", "stamp_of"]

_CHUNK = 1 << 18
_SLICE = 2000
LARGE = 5000
"""Messages from which on listing a directory is worth avoiding."""


class Loaded(NamedTuple):
    """An open mailbox. `foreign`: messages without a UID in the file, in their order; `scanned`: how many were read anew,
    their mod-sequence is 0; `complete`: the index holds just this; `anew`: all of it was read, what the index knows of single
    messages may be of others."""

    table: Table
    foreign: list[Row]
    dead: int
    size: int
    modified: float
    scanned: int
    complete: bool
    anew: bool = False
    modseq: int = 0


def open_store(path: str) -> MboxStore | MdirStore:
    """The store for a path, by its extension."""
    return MdirStore(path) if path.endswith(".mdir") else MboxStore(path)


def stamp_of(files: Files, store: Store) -> tuple[int, float]:
    """Size and time by which a change from outside is seen. A directory has no size."""
    info = files.stat(store.path)
    return (0 if info.is_directory else info.size), info.modified


def load(
    files: Files,
    store: Store,
    pool: IndexPool,
    path: str,
    box: int,
    generation: int,
) -> Loaded:
    """Read a mailbox. `path` is the index file. OSError, Damaged."""
    known: Indexed | None = None
    table = Table()
    with suppress(sqlite3.Error):
        known, table = pool.load(files, path, box)
    if known is not None and known.generation != generation:
        known = None
    if isinstance(store, MdirStore):
        return _load_mdir(files, store, table if known is not None else Table(), known)
    assert isinstance(store, MboxStore)
    if isinstance(store, ExternalStore):
        # Other programs write here too, and no index tells what they did.
        scan = store.scan(files)
        return _build(files, store, Table(), scan, stamp_of(files, store)[1])._replace(anew=True)
    size, modified = stamp_of(files, store)
    if known is not None and known.size == size and known.modified == modified:
        return Loaded(table, [], known.dead, size, modified, 0, True, modseq=known.modseq)
    if store.end_line(files):
        size, modified = stamp_of(files, store)
    if known is not None and known.size <= size and (grown := _grown(files, store, table, known)) is not None:
        return grown
    return _build(files, store, Table(), store.scan(files), modified)._replace(anew=True)


def _grown(files: Files, store: MboxStore, table: Table, known: Indexed) -> Loaded | None:
    """The table with the flags of the file and the messages behind the indexed ones; None if the file is another."""
    now = store.checked(files, zip(table.uids, table.places, strict=True))
    if now is None:
        return None
    _, modified = stamp_of(files, store)
    try:
        tail = store.scan(files, known.size)
    except Damaged:
        return None
    changed = 0
    gone: list[int] = []
    for index, (flags, keywords) in enumerate(now):
        if flags & EXPUNGED:
            gone.append(index)
        elif flags != table.flags[index] or keywords != table.keywords[index]:
            table.flags[index], table.keywords[index], table.modseqs[index] = flags, keywords, 0
            changed += 1
    dead = known.dead + sum(table.lengths[index] for index in gone)
    table.remove(gone)
    loaded = _build(files, store, table, tail._replace(dead=dead + tail.dead), modified)
    return loaded._replace(scanned=loaded.scanned + changed)


def _build(files: Files, store: MboxStore, table: Table, scan: Scan, modified: float) -> Loaded:
    foreign: list[Row] = []
    rows: list[Row] = []
    used = set(table.uids)
    for message in scan.messages:
        row = Row(*message[:3], _wire_size(files, store, message), message.date, message.flags, message.keywords, 0)
        if message.uid == 0 or message.uid in used:
            foreign.append(row._replace(uid=0))
        else:
            used.add(message.uid)
            rows.append(row)
    _merge(table, rows)
    return Loaded(table, foreign, scan.dead, scan.size, modified, len(rows), False)


def _load_mdir(files: Files, store: MdirStore, table: Table, known: Indexed | None) -> Loaded:
    modified = files.stat(store.path).modified
    if known is not None and known.modified == modified and not known.dead and len(table) >= LARGE:
        # Whatever adds, removes or renames a file changes the time of the directory.
        return Loaded(table, [], 0, 0, modified, 0, True, modseq=known.modseq)
    rows: list[Row] = []
    scanned = 0
    for message in store.names(files):
        at = table.index(message.uid)
        if at >= 0 and table.lengths[at]:
            old = table.row(at)
            same = (old.flags, old.keywords) == (message.flags, message.keywords)
            row = old._replace(
                place=message.place,
                flags=message.flags,
                keywords=message.keywords,
                date=message.date,
                modseq=old.modseq if same else 0,
            )
        else:
            try:
                length = files.stat(store.file_of(message)).size
                lines = message.place
                if lines == NO_LINES:
                    lines = sum(chunk.count(b"\n") for chunk in _chunks(files, store, message._replace(length=length)))
            except FileNotFoundError:
                continue
            row = Row(
                message.uid, message.place, length, length + lines, message.date, message.flags, message.keywords, 0
            )
        scanned += not row.modseq
        rows.append(row)
    complete = not scanned and len(rows) == len(table) and not store.odd
    fresh = Table()
    _merge(fresh, rows)
    return Loaded(fresh, [], 0, 0, modified, scanned, complete)


def _merge(table: Table, rows: list[Row]) -> None:
    """Add rows wherever their UIDs belong."""
    if not rows:
        return
    if len(table) and rows[0].uid < table.uids[-1]:
        rows = rows + [table.row(index) for index in range(len(table))]
        table.remove(range(len(table)))
    if any(one.uid > other.uid for one, other in pairwise(rows)):
        rows = sorted(rows)
    # In slices: one long call of C code would hold all other threads.
    for at in range(0, len(rows), _SLICE):
        table.extend(list(zip(*rows[at : at + _SLICE], strict=True)))


def _chunks(files: Files, store: Store, message: Found) -> Iterable[bytes]:
    at = 0
    while at < message.length:
        chunk = store.raw(files, message, at, _CHUNK)
        if not chunk:
            return
        at += len(chunk)
        yield chunk


def _wire_size(files: Files, store: MboxStore, message: Found) -> int:
    if not message.flags & QUOTED:
        return message.length + sum(chunk.count(b"\n") for chunk in _chunks(files, store, message))
    unquote = UnquoteFrom()
    total = 0
    for chunk in _chunks(files, store, message):
        piece = unquote.feed(chunk)
        total += len(piece) + piece.count(b"\n")
    rest = unquote.finish()
    return total + len(rest) + rest.count(b"\n")
