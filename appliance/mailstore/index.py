"""`account.index`: a SQLite file that keeps what would cost a scan, and is never believed against the mailboxes.

For each mailbox: the rows of its messages, and the finished IMAP texts of those that were once asked for. It carries a
version, and for each mailbox the generation, size and time of the file it describes; where they disagree with the file, the
mailbox is read again. Nothing here is synced, so a power cut may leave any mixture of old and new pages: a checksum over the
rows of a mailbox, and one over each block of texts, tell. A file that SQLite finds damaged is thrown away.

Rows and texts lie in blocks, by the upper bits of the UIDs: a thousand messages are a few records for SQLite, and a worker
does not ask for the interpreter's lock at each message. Rows are columns as they stand in memory.

At most `IndexPool.limit` files are open in the process; one that is in use is never closed.
"""

from __future__ import annotations

import marshal
import sqlite3
import sys
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Final, NamedTuple, TypeVar
from zlib import crc32

from appliance.kernel.files import Files
from appliance.mailstore.table import Table

__all__ = ["IndexPool", "Indexed", "Texts"]

VERSION: Final = 3 if sys.byteorder == "little" else 1003
_ROW_BITS: Final = 10
_TEXT_BITS: Final = 6
_FORMAT: Final = 4
"""Of `marshal`: the blocks are checked by a checksum before they are loaded."""
_PAGE: Final = 16384
_T = TypeVar("_T")

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE box (id INTEGER PRIMARY KEY, generation INTEGER, size INTEGER, modified REAL, dead INTEGER, crc INTEGER,
    modseq INTEGER);
CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB);
CREATE TABLE text (id INTEGER PRIMARY KEY, data BLOB, crc INTEGER, bodies BLOB, bodies_crc INTEGER);
PRAGMA user_version = {VERSION};
COMMIT;
"""

Rendered = tuple[bytes, bytes, bytes | None]
"""ENVELOPE, BODYSTRUCTURE and, if it was asked for, BODY."""


class Indexed(NamedTuple):
    """What the index says about a mailbox file. `modseq`: the highest of its messages."""

    generation: int
    size: int
    modified: float
    dead: int
    modseq: int = 0


class Texts(NamedTuple):
    """Finished IMAP texts of a message: ENVELOPE, BODYSTRUCTURE, BODY."""

    envelope: bytes
    structure: bytes
    body: bytes


class _Open:
    __slots__ = ("connection", "users")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.users = threading.Lock()


class IndexPool:
    """The open index files. Its methods are parts of disk jobs; calls for one file wait for each other."""

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._lock = threading.Lock()

    def close(self, path: str | None = None) -> None:
        """Close one file or all; what is in use is waited for."""
        with self._lock:
            if path is None:
                victims = list(self._open.values())
                self._open.clear()
            else:
                victims = [self._open.pop(path)] if path in self._open else []
        for victim in victims:
            with victim.users:
                victim.connection.close()

    def forget(self, files: Files, path: str) -> None:
        """Remove the file."""
        self.close(path)
        for name in (path, path + "-journal"):
            with suppress(FileNotFoundError):
                files.unlink(name)

    def _use(self, files: Files, path: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work`; a file that is damaged is made anew once."""
        for attempt in (1, 2):
            entry = self._enter(files, path)
            try:
                result = work(entry.connection)
                entry.connection.commit()
                return result
            except sqlite3.DatabaseError:
                with suppress(sqlite3.Error):
                    entry.connection.rollback()
                if attempt == 2:
                    raise
            finally:
                entry.users.release()
            self.forget(files, path)
        raise AssertionError

    def _enter(self, files: Files, path: str) -> _Open:
        while True:
            with self._lock:
                entry = self._open.get(path)
                if entry is None:
                    entry = _Open(self._connect(files, path))
                    entry.users.acquire()
                    self._open[path] = entry
                    self._shrink()
                    return entry
                self._open.move_to_end(path)
            entry.users.acquire()
            with self._lock:
                if self._open.get(path) is entry:
                    return entry
            entry.users.release()  # closed while we waited

    def _shrink(self) -> None:
        if len(self._open) > self.limit:
            for path, entry in list(self._open.items())[: len(self._open) - self.limit]:
                if entry.users.acquire(blocking=False):
                    del self._open[path]
                    entry.connection.close()
                    entry.users.release()

    def _connect(self, files: Files, path: str) -> sqlite3.Connection:
        try:
            return _connect(path)
        except sqlite3.DatabaseError:
            for name in (path, path + "-journal"):
                with suppress(FileNotFoundError):
                    files.unlink(name)
            return _connect(path)

    # -- what is kept -------------------------------------------------------------------------------------------------

    def load(self, files: Files, path: str, box: int) -> tuple[Indexed | None, Table]:
        """What is known of the mailbox."""

        def work(db: sqlite3.Connection) -> tuple[Indexed | None, Table]:
            table = Table()
            known = db.execute(
                "SELECT generation, size, modified, dead, modseq, crc FROM box WHERE id = ?", (box,)
            ).fetchone()
            if known is None:
                return None, table
            for (data,) in db.execute(
                "SELECT data FROM rows WHERE id BETWEEN ? AND ? ORDER BY id", _span(box, _ROW_BITS)
            ):
                if not table.take_block(data):
                    return None, Table()
            if table.checksum() != known[5]:
                return None, Table()
            return Indexed(*known[:5]), table

        return self._use(files, path, work)

    def save(
        self,
        files: Files,
        path: str,
        box: int,
        state: Indexed,
        table: Table,
        changed: Iterable[int] | None,
        gone: Sequence[int] = (),
    ) -> None:
        """Keep the whole table. `changed`: the indices of rows that the index does not have as they are (None: all of them),
        `gone`: UIDs that it has and the table has not."""

        def work(db: sqlite3.Connection) -> None:
            uids = table.uids
            base = box << 32 - _ROW_BITS
            if changed is None:
                db.execute("DELETE FROM rows WHERE id BETWEEN ? AND ?", _span(box, _ROW_BITS))
                blocks = _blocks(uids, _ROW_BITS)
            else:
                blocks = {uids[at] >> _ROW_BITS for at in changed}
                blocks.update(uid >> _ROW_BITS for uid in gone)
            if gone:
                _forget_texts(db, box, gone)
            for block in sorted(blocks):
                low = bisect_left(uids, block << _ROW_BITS)
                high = bisect_left(uids, block + 1 << _ROW_BITS, low)
                if low == high:
                    db.execute("DELETE FROM rows WHERE id = ?", (base | block,))
                else:
                    db.execute("REPLACE INTO rows VALUES (?, ?)", (base | block, table.block(low, high)))
            db.execute("REPLACE INTO box VALUES (?,?,?,?,?,?,?)", (box, *state[:4], table.checksum(), state.modseq))

        self._use(files, path, work)

    def texts(
        self, files: Files, path: str, box: int, uids: Sequence[int], *, bodies: bool = True
    ) -> dict[int, Rendered]:
        """The texts that are kept for these messages (ascending) and some of their neighbours."""

        def work(db: sqlite3.Connection) -> dict[int, Rendered]:
            base = box << 32 - _TEXT_BITS
            blocks = sorted({uid >> _TEXT_BITS for uid in uids})
            found: dict[int, Rendered] = {}
            at = 0
            while at < len(blocks):
                # Neighbours are read in one go; a few unasked blocks between them cost less than another question.
                end = at
                while end + 1 < len(blocks) and blocks[end + 1] - blocks[end] < 4:
                    end += 1
                more = ", bodies, bodies_crc" if bodies else ""
                query = f"SELECT data, crc{more} FROM text WHERE id BETWEEN ? AND ?"  # noqa: S608 - our own words
                for row in db.execute(query, (base | blocks[at], base | blocks[end])):
                    if crc32(row[0]) != row[1] or (bodies and crc32(row[2]) != row[3]):
                        continue
                    numbers, envelopes, structures = marshal.loads(row[0])  # noqa: S302 - the checksum is right
                    last = marshal.loads(row[2]) if bodies else repeat(None)  # noqa: S302
                    found.update(zip(numbers, zip(envelopes, structures, last, strict=False), strict=False))
                at = end + 1
            return found

        return self._use(files, path, work) if uids else {}

    def save_texts(self, files: Files, path: str, box: int, texts: Mapping[int, Texts]) -> None:
        """Keep these beside those that are kept."""

        def work(db: sqlite3.Connection) -> None:
            blocks: dict[int, dict[int, Texts]] = {}
            for uid, row in texts.items():
                blocks.setdefault(uid >> _TEXT_BITS, {})[uid] = row
            for block, fresh in blocks.items():
                number = box << 32 - _TEXT_BITS | block
                _put_texts(db, number, {**_get_texts(db, number), **fresh})

        self._use(files, path, work)

    def drop(self, files: Files, path: str, box: int, *, texts: bool = True) -> None:
        """Forget a mailbox."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM box WHERE id = ?", (box,))
            db.execute("DELETE FROM rows WHERE id BETWEEN ? AND ?", _span(box, _ROW_BITS))
            if texts:
                db.execute("DELETE FROM text WHERE id BETWEEN ? AND ?", _span(box, _TEXT_BITS))

        self._use(files, path, work)


def _span(box: int, bits: int) -> tuple[int, int]:
    """The numbers of all blocks of a mailbox."""
    return box << 32 - bits, (box + 1 << 32 - bits) - 1


def _blocks(uids: Sequence[int], bits: int) -> set[int]:
    """The blocks of ascending UIDs, with a look at each block's first."""
    found: set[int] = set()
    at = 0
    while at < len(uids):
        block = uids[at] >> bits
        found.add(block)
        at = bisect_left(uids, block + 1 << bits, at)
    return found


def _get_texts(db: sqlite3.Connection, number: int) -> dict[int, Texts]:
    row = db.execute("SELECT data, crc, bodies, bodies_crc FROM text WHERE id = ?", (number,)).fetchone()
    if row is None or crc32(row[0]) != row[1] or crc32(row[2]) != row[3]:
        return {}
    numbers, envelopes, structures = marshal.loads(row[0])  # noqa: S302 - the checksum is right
    bodies = marshal.loads(row[2])  # noqa: S302
    return dict(zip(numbers, map(Texts, envelopes, structures, bodies), strict=True))


def _put_texts(db: sqlite3.Connection, number: int, texts: Mapping[int, Texts]) -> None:
    if not texts:
        db.execute("DELETE FROM text WHERE id = ?", (number,))
        return
    rows = [texts[uid] for uid in sorted(texts)]
    data = marshal.dumps((sorted(texts), [row[0] for row in rows], [row[1] for row in rows]), _FORMAT)
    bodies = marshal.dumps([row[2] for row in rows], _FORMAT)
    db.execute("REPLACE INTO text VALUES (?,?,?,?,?)", (number, data, crc32(data), bodies, crc32(bodies)))


def _forget_texts(db: sqlite3.Connection, box: int, uids: Iterable[int]) -> None:
    blocks: dict[int, set[int]] = {}
    for uid in uids:
        blocks.setdefault(uid >> _TEXT_BITS, set()).add(uid)
    for block, gone in blocks.items():
        number = box << 32 - _TEXT_BITS | block
        texts = _get_texts(db, number)
        _put_texts(db, number, {uid: row for uid, row in texts.items() if uid not in gone})


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level="DEFERRED", cached_statements=16)
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA cache_size = -256")
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (name,) in tables:
                connection.execute(f'DROP TABLE "{name}"')
            connection.executescript(_SCHEMA)
        else:
            connection.execute("SELECT count(*) FROM box").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection
