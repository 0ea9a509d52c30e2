"""`account.search`: which messages may have a text, by the groups of three symbols that they have (SQLite FTS5, trigram).

The index only spares reading: it names the messages that have all groups of the text that is looked for, and those are read
and compared as ever, so what is found is found as a substring and no more. It knows up to which UID it goes in each mailbox;
what lies behind is read. Unlike `account.index` it is written durably, because an entry that is missing would be believed.
Texts of fewer than three symbols have no groups.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from typing import Final

from appliance.formats.charsets import text_of, unicode_casemap
from appliance.formats.encodedwords import decode_words
from appliance.formats.mime import parse_structure
from appliance.kernel.files import Files
from appliance.mailstore.store import Found, Store

__all__ = ["SHORTEST", "add", "available", "candidates", "forget", "reached", "searchable"]

SHORTEST: Final = 3
VERSION: Final = 1
LARGEST: Final = 4 << 20
"""Larger messages are always read."""
_MOST: Final = 64
"""Groups of a text that are asked for."""
_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE box (id INTEGER PRIMARY KEY, validity INTEGER, upto INTEGER);
CREATE TABLE large (id INTEGER PRIMARY KEY);
CREATE VIRTUAL TABLE body USING fts5(text, content='', detail=none, columnsize=0, tokenize='trigram case_sensitive 1');
PRAGMA user_version = {VERSION};
COMMIT;
"""


def available() -> bool:
    """Whether this SQLite can do it."""
    with closing(sqlite3.connect(":memory:")) as db:
        try:
            db.execute("CREATE VIRTUAL TABLE x USING fts5(t, tokenize='trigram case_sensitive 1')")
        except sqlite3.Error:
            return False
    return True


def searchable(content: bytes) -> str:
    """All that BODY and TEXT compare of a message, in the form in which it is compared."""
    parts: list[str] = []
    for part in parse_structure(content).walk():
        parts.append(decode_words(content[part.header_start : part.body_start]))
        if part.type.lower() == b"text" and not part.is_multipart and not part.is_message:
            parts.append(text_of(content, part))
    text = unicode_casemap("\n".join(parts)).replace("\0", "\n")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _connect(files: Files, path: str) -> sqlite3.Connection:
    for attempt in (1, 2):
        db = sqlite3.connect(path, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -1024")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == VERSION:
                return db
            if not version and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                db.executescript(_SCHEMA)
                return db
        except sqlite3.Error:
            db.close()
            if attempt == 2:
                raise
        db.close()
        forget(files, path)  # damaged, or of another version
    raise sqlite3.DatabaseError(path)


def forget(files: Files, path: str) -> None:
    """Remove the file."""
    for name in (path, path + "-journal"):
        with suppress(FileNotFoundError):
            files.unlink(name)


def reached(files: Files, path: str, box: int, validity: int) -> int:
    """The UID up to which the index knows the mailbox. sqlite3.Error."""
    with closing(_connect(files, path)) as db:
        row = db.execute("SELECT upto FROM box WHERE id = ? AND validity = ?", (box, validity)).fetchone()
        return row[0] if row is not None else 0


def add(files: Files, path: str, store: Store, box: int, validity: int, founds: Sequence[Found], upto: int) -> None:
    """Take these messages in; afterwards the index goes up to this UID. OSError, sqlite3.Error."""
    small = [found for found in founds if found.length <= LARGEST]
    texts = [searchable(content) for content in store.read(files, small)]
    with closing(_connect(files, path)) as db:
        db.execute("BEGIN IMMEDIATE")
        known = db.execute("SELECT upto FROM box WHERE id = ? AND validity = ?", (box, validity)).fetchone()
        if known is not None and founds and founds[0].uid <= known[0]:
            db.execute("ROLLBACK")
            return
        rows = ((box << 32 | found.uid, text) for found, text in zip(small, texts, strict=True))
        db.executemany("INSERT INTO body (rowid, text) VALUES (?, ?)", rows)
        large = ((box << 32 | found.uid,) for found in founds if found.length > LARGEST)
        db.executemany("REPLACE INTO large VALUES (?)", large)
        db.execute("REPLACE INTO box VALUES (?, ?, ?)", (box, validity, upto))
        db.execute("COMMIT")


def candidates(files: Files, path: str, box: int, validity: int, text: str) -> tuple[int, set[int]]:
    """Up to which UID the index goes, and which of those messages may have the text (casemapped, at least three symbols).
    sqlite3.Error."""
    with closing(_connect(files, path)) as db:
        row = db.execute("SELECT upto FROM box WHERE id = ? AND validity = ?", (box, validity)).fetchone()
        if row is None:
            return 0, set()
        groups = dict.fromkeys(text[at : at + SHORTEST] for at in range(len(text) - SHORTEST + 1))
        wanted = " AND ".join('"' + group.replace('"', '""') + '"' for group in _some(list(groups)))
        low, high = box << 32, box << 32 | 0xFFFFFFFF
        query = "SELECT rowid FROM body WHERE body MATCH ? AND rowid BETWEEN ? AND ?"
        found = {number & 0xFFFFFFFF for (number,) in db.execute(query, (wanted, low, high))}
        large = db.execute("SELECT id FROM large WHERE id BETWEEN ? AND ?", (low, high))
        found.update(number & 0xFFFFFFFF for (number,) in large)
        return row[0], found


def _some(groups: list[str]) -> Iterable[str]:
    """At most so many, from all of the text."""
    return groups if len(groups) <= _MOST else groups[:: len(groups) // _MOST + 1]


def drop(files: Files, path: str, box: int) -> None:
    """What was known of the mailbox is not believed any more; its entries cost a look at most. sqlite3.Error."""
    if files.exists(path):
        with closing(_connect(files, path)) as db:
            db.execute("DELETE FROM box WHERE id = ?", (box,))
