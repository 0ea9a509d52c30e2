"""The jobs that keep `account.index` up to date. A failure of one only costs time later, so it is told, not raised."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from appliance.kernel.files import Files
from appliance.mailstore import fulltext
from appliance.mailstore.index import Indexed, IndexPool, Texts
from appliance.mailstore.loading import LARGE, stamp_of
from appliance.mailstore.mdir import MdirStore
from appliance.mailstore.store import Store
from appliance.mailstore.table import Row, Table

__all__ = ["close_index", "drop_index", "drop_search", "extend_index", "index_box", "keep_texts"]

_TICK: Final = 0.012
"""Seconds in which two changes of a file may carry the same time."""


def index_box(
    files: Files,
    pool: IndexPool,
    path: str,
    store: Store,
    size: int,
    numbers: tuple[int, int, int, int],
    table: Table,
    changed: list[int] | None,
    gone: list[int],
) -> bool:
    number, generation, dead, modseq = numbers
    try:
        stamp = _settled(files, store, len(table))
        if isinstance(store, MdirStore):
            dead = len(store.odd)
        elif stamp[0] != size:
            return False
        pool.save(files, path, number, Indexed(generation, *stamp, dead, modseq), table, changed, gone)
    except (sqlite3.Error, FileNotFoundError):
        return False
    return True


def _settled(files: Files, store: Store, count: int) -> tuple[int, float]:
    """The stamp of a mailbox. Files of one tick of the system's clock have the same time, so one that was written just now could
    change once more without a trace: such a stamp is not to be believed, and for a large mailbox the tick is waited for."""
    stamp = stamp_of(files, store)
    if abs(time.time() - stamp[1]) < _TICK:
        if count < LARGE:
            return stamp[0], -1.0
        time.sleep(_TICK)
        stamp = stamp_of(files, store)
    return stamp


def extend_index(
    files: Files,
    pool: IndexPool,
    path: str,
    store: Store,
    size: int,
    numbers: tuple[int, int, int, int],
    opened: tuple[int, float],
    rows: list[Row],
) -> bool:
    """Add what was stored while the table was not loaded, if the index is that of the file as it was before."""
    number, generation, dead, _ = numbers
    try:
        known, table = pool.load(files, path, number)
        if known is None or (isinstance(store, MdirStore) and known.dead):
            return False
        if (known.generation, known.size, known.modified) != (generation, *opened):
            return False
        if len(table) and rows[0].uid <= table.uids[-1]:
            return False
        before = len(table)
        for row in rows:
            table.append(row)
        numbers = (number, generation, dead, max(known.modseq, *(row.modseq for row in rows)))
        return index_box(files, pool, path, store, size, numbers, table, list(range(before, len(table))), [])
    except sqlite3.Error:
        return False


def keep_texts(files: Files, pool: IndexPool, path: str, box: int, texts: dict[int, Texts]) -> None:
    try:
        pool.save_texts(files, path, box, texts)
    except sqlite3.Error:
        pass


def drop_index(files: Files, pool: IndexPool, path: str, box: int, texts: bool) -> None:
    try:
        pool.drop(files, path, box, texts=texts)
    except sqlite3.Error:
        pass


def close_index(files: Files, pool: IndexPool, path: str) -> None:
    pool.close(path)


def drop_search(files: Files, path: str, box: int) -> None:
    """The full-text index forgets the mailbox."""
    try:
        fulltext.drop(files, path, box)
    except sqlite3.Error:
        fulltext.forget(files, path)
