"""`account.index`: a SQLite file that keeps what would cost a scan, and is never believed against the mailboxes.

For each mailbox: the rows of its messages, and the finished IMAP texts of those that were once asked for. It carries a
version, and for each mailbox the generation, size and time of the file it describes; where they disagree with the file, the
mailbox is read again. Nothing here is synced, so a power cut may leave any mixture of old and new pages: a checksum over the
rows of a mailbox, and one over each message's texts, tell. A file that SQLite finds damaged is thrown away.

At most `IndexPool.limit` files are open in the process; one that is in use is never closed.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar
from zlib import crc32

from appliance.kernel.files import Files
from appliance.mailstore.table import Table

__all__ = ["IndexPool", "Indexed", "Texts"]

VERSION: Final = 2
_BATCH: Final = 500
_T = TypeVar("_T")

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE box (id INTEGER PRIMARY KEY, generation INTEGER, size INTEGER, modified REAL, dead INTEGER, crc INTEGER);
CREATE TABLE message (box INTEGER, uid INTEGER, place INTEGER, length INTEGER, wire INTEGER, date INTEGER, flags INTEGER,
    keywords INTEGER, modseq INTEGER, PRIMARY KEY (box, uid)) WITHOUT ROWID;
CREATE TABLE text (box INTEGER, uid INTEGER, envelope BLOB, structure BLOB, body BLOB, crc INTEGER,
    PRIMARY KEY (box, uid)) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
COMMIT;
"""


class Indexed(NamedTuple):
    """What the index says about a mailbox file."""

    generation: int
    size: int
    modified: float
    dead: int


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
            known = db.execute("SELECT generation, size, modified, dead, crc FROM box WHERE id = ?", (box,)).fetchone()
            if known is None:
                return None, table
            cursor = db.execute(
                "SELECT uid, place, length, wire, date, flags, keywords, modseq FROM message WHERE box = ? ORDER BY uid",
                (box,),
            )
            while rows := cursor.fetchmany(_BATCH):
                table.extend(list(zip(*rows, strict=True)))
            if table.checksum() != known[4]:
                return None, Table()
            return Indexed(*known[:4]), table

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
            numbers: Iterable[int] = range(len(table)) if changed is None else changed
            if changed is None:
                db.execute("DELETE FROM message WHERE box = ?", (box,))
            elif gone:
                db.executemany("DELETE FROM message WHERE box = ? AND uid = ?", ((box, uid) for uid in gone))
            if gone:
                db.executemany("DELETE FROM text WHERE box = ? AND uid = ?", ((box, uid) for uid in gone))
            db.executemany("REPLACE INTO message VALUES (?,?,?,?,?,?,?,?,?)", ((box, *table.row(at)) for at in numbers))
            db.execute("REPLACE INTO box VALUES (?,?,?,?,?,?)", (box, *state, table.checksum()))

        self._use(files, path, work)

    def texts(self, files: Files, path: str, box: int, uids: Sequence[int]) -> dict[int, Texts]:
        """The texts that are kept for these messages."""

        def work(db: sqlite3.Connection) -> dict[int, Texts]:
            found: dict[int, Texts] = {}
            for at in range(0, len(uids), _BATCH):
                part = uids[at : at + _BATCH]
                marks = ",".join("?" * len(part))
                query = f"SELECT uid, envelope, structure, body, crc FROM text WHERE box = ? AND uid IN ({marks})"  # noqa: S608
                for uid, envelope, structure, body, crc in db.execute(query, (box, *part)):
                    if _sum(envelope, structure, body) == crc:
                        found[uid] = Texts(envelope, structure, body)
            return found

        return self._use(files, path, work)

    def save_texts(self, files: Files, path: str, box: int, texts: dict[int, Texts]) -> None:
        def work(db: sqlite3.Connection) -> None:
            rows = ((box, uid, *row, _sum(*row)) for uid, row in texts.items())
            db.executemany("REPLACE INTO text VALUES (?,?,?,?,?,?)", rows)

        self._use(files, path, work)

    def drop(self, files: Files, path: str, box: int, *, texts: bool = True) -> None:
        """Forget a mailbox."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM box WHERE id = ?", (box,))
            db.execute("DELETE FROM message WHERE box = ?", (box,))
            if texts:
                db.execute("DELETE FROM text WHERE box = ?", (box,))

        self._use(files, path, work)


def _sum(envelope: bytes, structure: bytes, body: bytes) -> int:
    return crc32(body, crc32(structure, crc32(envelope)))


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level="DEFERRED", cached_statements=16)
    try:
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
