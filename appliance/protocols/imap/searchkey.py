"""Search keys (RFC 3501, 6.4.4) as a small tree of plain objects.

Texts stay octets here; the charset says how to read them (`Search.charset`). OR and AND hold any number of keys, because
clients chain hundreds of ORs, and a chain must not become a deep tree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Final, NamedTuple

from appliance.protocols.imap.cursor import Cursor, ParseError
from appliance.protocols.imap.dates import parse_date
from appliance.protocols.imap.fetchitem import field_name
from appliance.protocols.imap.flags import keyword
from appliance.protocols.imap.sequence import SequenceSet

MAX_PARENTHESES: Final = 30
"""Levels of parentheses that are understood."""
MAX_DEPTH: Final = 100
"""Levels of NOT and OR."""
MAX_KEYS: Final = 1000
"""Most keys of one search."""


class All(NamedTuple):
    """Every message."""


class Flagged(NamedTuple):
    """A system flag is set (or not): `flag` as `\\Seen`; also `\\Recent`."""

    flag: str
    on: bool


class Keyword(NamedTuple):
    name: str
    on: bool


class Header(NamedTuple):
    """A field of this name holds `text`, whatever its case; any such field if `text` is empty."""

    field: bytes
    text: bytes


class Text(NamedTuple):
    """`where` is BODY or TEXT (which is header and body)."""

    where: str
    text: bytes


class Dated(NamedTuple):
    """`relation` is BEFORE, ON or SINCE; `sent`: the Date field instead of the internal date. Zones are disregarded."""

    relation: str
    day: date
    sent: bool


class Saved(NamedTuple):
    """As `Dated`, of the day on which the message came into this mailbox (RFC 8514)."""

    relation: str
    day: date


class SaveDates(NamedTuple):
    """Messages whose save dates are known (RFC 8514)."""


class Within(NamedTuple):
    """The internal date is at most so many seconds ago (YOUNGER), or more (OLDER; RFC 5032)."""

    seconds: int
    younger: bool


class Identified(NamedTuple):
    """`kind` is EMAILID or THREADID (RFC 8474)."""

    kind: str
    identifier: str


class Size(NamedTuple):
    """`larger` than `octets`, or smaller."""

    octets: int
    larger: bool


class ModSeq(NamedTuple):
    """A mod-sequence of this or higher (RFC 7162, 3.1.5); the name of a single flag in the key makes no difference here."""

    least: int


class Numbers(NamedTuple):
    """Sequence numbers or UIDs."""

    numbers: SequenceSet
    uid: bool


class Not(NamedTuple):
    key: SearchKey


class And(NamedTuple):
    keys: tuple[SearchKey, ...]


class Or(NamedTuple):
    keys: tuple[SearchKey, ...]


SearchKey = (
    All
    | Flagged
    | Keyword
    | Header
    | Text
    | Dated
    | Saved
    | SaveDates
    | Within
    | Identified
    | Size
    | ModSeq
    | Numbers
    | Not
    | And
    | Or
)

_PLAIN: Final[dict[str, SearchKey]] = {
    "ALL": All(),
    "ANSWERED": Flagged("\\Answered", True),
    "DELETED": Flagged("\\Deleted", True),
    "DRAFT": Flagged("\\Draft", True),
    "FLAGGED": Flagged("\\Flagged", True),
    "NEW": And((Flagged("\\Recent", True), Flagged("\\Seen", False))),
    "OLD": Flagged("\\Recent", False),
    "RECENT": Flagged("\\Recent", True),
    "SAVEDATESUPPORTED": SaveDates(),
    "SEEN": Flagged("\\Seen", True),
    "UNANSWERED": Flagged("\\Answered", False),
    "UNDELETED": Flagged("\\Deleted", False),
    "UNDRAFT": Flagged("\\Draft", False),
    "UNFLAGGED": Flagged("\\Flagged", False),
    "UNSEEN": Flagged("\\Seen", False),
}


def _mod_seq(cursor: Cursor) -> ModSeq:
    if cursor.ahead(b'"'):
        cursor.string()
        cursor.space()
        if cursor.word("priv, shared or all") not in ("PRIV", "SHARED", "ALL"):
            raise ParseError("expected priv, shared or all")
        cursor.space()
    return ModSeq(cursor.number64())


def _seconds(cursor: Cursor) -> int:
    seconds = cursor.number()
    if not seconds:
        raise ParseError("expected a number of seconds")
    return seconds


def _identified(kind: str) -> Callable[[Cursor], SearchKey]:
    return lambda cursor: Identified(kind, cursor.match(_OBJECT_ID, "an object identifier")[0].decode("ascii"))


_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}")

_WITH_ARGUMENT: Final[dict[str, Callable[[Cursor], SearchKey]]] = {
    "BCC": lambda cursor: Header(b"Bcc", cursor.astring()),
    "BEFORE": lambda cursor: Dated("BEFORE", parse_date(cursor), False),
    "BODY": lambda cursor: Text("BODY", cursor.astring()),
    "CC": lambda cursor: Header(b"Cc", cursor.astring()),
    "EMAILID": _identified("EMAILID"),
    "FROM": lambda cursor: Header(b"From", cursor.astring()),
    "KEYWORD": lambda cursor: Keyword(keyword(cursor), True),
    "LARGER": lambda cursor: Size(cursor.number64(), True),
    "MODSEQ": _mod_seq,
    "OLDER": lambda cursor: Within(_seconds(cursor), False),
    "ON": lambda cursor: Dated("ON", parse_date(cursor), False),
    "SAVEDBEFORE": lambda cursor: Saved("BEFORE", parse_date(cursor)),
    "SAVEDON": lambda cursor: Saved("ON", parse_date(cursor)),
    "SAVEDSINCE": lambda cursor: Saved("SINCE", parse_date(cursor)),
    "SENTBEFORE": lambda cursor: Dated("BEFORE", parse_date(cursor), True),
    "SENTON": lambda cursor: Dated("ON", parse_date(cursor), True),
    "SENTSINCE": lambda cursor: Dated("SINCE", parse_date(cursor), True),
    "SINCE": lambda cursor: Dated("SINCE", parse_date(cursor), False),
    "SMALLER": lambda cursor: Size(cursor.number64(), False),
    "SUBJECT": lambda cursor: Header(b"Subject", cursor.astring()),
    "TEXT": lambda cursor: Text("TEXT", cursor.astring()),
    "THREADID": _identified("THREADID"),
    "TO": lambda cursor: Header(b"To", cursor.astring()),
    "UID": lambda cursor: Numbers(SequenceSet.parse(cursor), True),
    "UNKEYWORD": lambda cursor: Keyword(keyword(cursor), False),
    "YOUNGER": lambda cursor: Within(_seconds(cursor), True),
}


class KeyParser:
    """Parses the keys of one search under its bounds."""

    __slots__ = ("_cursor", "_left")

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._left = MAX_KEYS

    def program(self) -> SearchKey:
        """`search-key *(SP search-key)` to the end of the command: all of them hold."""
        keys = [self._key(0, 0)]
        while not self._cursor.at_end():
            self._cursor.space()
            keys.append(self._key(0, 0))
        return _all(keys)

    def _key(self, parentheses: int, depth: int) -> SearchKey:
        cursor = self._cursor
        self._left -= 1
        if self._left < 0:
            raise ParseError("too many search keys")
        if depth > MAX_DEPTH:
            raise ParseError("search keys nested too deep")
        if cursor.ahead(b"("):
            if parentheses >= MAX_PARENTHESES:
                raise ParseError("search keys nested too deep")
            return _all(cursor.listed(lambda _: self._key(parentheses + 1, depth), most=MAX_KEYS))
        if cursor.text[cursor.position : cursor.position + 1] in _SET_START:
            return Numbers(SequenceSet.parse(cursor), False)
        name = cursor.word("a search key")
        if name in _PLAIN:
            return _PLAIN[name]
        if name == "NOT":
            cursor.space()
            inner = self._key(parentheses, depth + 1)
            return inner.key if isinstance(inner, Not) else Not(inner)
        if name == "OR":
            return self._or(parentheses, depth)
        cursor_key = _WITH_ARGUMENT.get(name)
        if cursor_key is not None:
            cursor.space()
            return cursor_key(cursor)
        if name == "HEADER":
            cursor.space()
            field = field_name(cursor)
            cursor.space()
            return Header(field, cursor.astring())
        raise ParseError(f"unknown search key {name}")

    def _or(self, parentheses: int, depth: int) -> SearchKey:
        """Both forms of a chain, `OR a OR b c` and `OR OR a b c`, become one flat Or without recursion on the chain."""
        cursor = self._cursor
        keys: list[SearchKey] = []
        wanted = 2
        while wanted:
            cursor.space()
            if cursor.text[cursor.position : cursor.position + 3].upper() == b"OR ":
                cursor.position += 2
                wanted += 1
                self._left -= 1
                if self._left < 0:
                    raise ParseError("too many search keys")
                continue
            key = self._key(parentheses, depth + 1)
            keys.extend(key.keys if isinstance(key, Or) else (key,))
            wanted -= 1
        return Or(tuple(keys))


_SET_START: Final = (b"$", b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"*")


def _all(keys: list[SearchKey]) -> SearchKey:
    if len(keys) == 1:
        return keys[0]
    return And(tuple(inner for key in keys for inner in (key.keys if isinstance(key, And) else (key,))))
