"""The grammar of commands on messages: SEARCH, SORT, THREAD, FETCH, STORE, COPY, EXPUNGE, and the heads of APPEND's messages."""

from __future__ import annotations

import re
from typing import Final

from appliance.protocols.imap import names
from appliance.protocols.imap.commands import (
    Copy,
    Expunge,
    Fetch,
    MessageHead,
    Search,
    Sort,
    SortKey,
    Store,
    Target,
    Thread,
    Window,
)
from appliance.protocols.imap.cursor import Cursor, ParseError
from appliance.protocols.imap.dates import parse_date_time
from appliance.protocols.imap.fetchitem import parse_item, parse_items
from appliance.protocols.imap.flags import FlagList
from appliance.protocols.imap.searchkey import KeyParser
from appliance.protocols.imap.sequence import SequenceSet

MAX_OPTIONS: Final = 32
"""Most options and modifiers of one command."""
SORT_KEYS: Final = frozenset({"ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"})
_WINDOW = re.compile(rb"(-?)([1-9][0-9]{0,9}):(-?)([1-9][0-9]{0,9})")


def target(cursor: Cursor, name: str) -> Target:
    """What stands before the first message of APPEND, REPLACE or UID REPLACE."""
    cursor.space()
    if name == "APPEND":
        return Target(names.mailbox(cursor))
    numbers = SequenceSet.parse(cursor)
    cursor.space()
    return Target(names.mailbox(cursor), numbers, name.startswith("UID"))


def message_head(cursor: Cursor) -> MessageHead:
    """`[SP flag-list] [SP date-time] SP append-data`, the cursor on the first space (RFC 3501, 6.3.11; RFC 3502, 3516, 4469,
    6855). Of CATENATE the parts are left; the closing parenthesis of UTF8 comes after the literal."""
    cursor.space()
    flags, date, utf8 = FlagList((), ()), None, False
    if cursor.ahead(b"("):
        flags = FlagList.parse(cursor)
        cursor.space()
    if cursor.ahead(b'"'):
        date = parse_date_time(cursor)
        cursor.space()
    if not cursor.ahead(b"{") and not cursor.ahead(b"~"):
        word = cursor.word("a literal")
        cursor.space()
        cursor.expect(b"(")
        if word == "CATENATE":
            return MessageHead(flags, date, 0, False, parts=True)
        if word != "UTF8" or not cursor.ahead(b"~"):
            raise ParseError("expected a literal, CATENATE or UTF8")
        utf8 = True
    size, waiting_not, binary = cursor.message_literal()
    return MessageHead(flags, date, size, not waiting_not, binary, utf8=utf8)


def window(cursor: Cursor) -> Window:
    """`partial-range` (RFC 9394, 4)."""
    found = cursor.match(_WINDOW, "a range")
    if found[1] != found[3]:
        raise ParseError("a range counts from the first or from the last result")
    sign = -1 if found[1] else 1
    return Window(sign * int(found[2]), sign * int(found[4]))


def search(cursor: Cursor, *, uid: bool = False) -> Search:
    cursor.space()
    returned, part = _returned(cursor)
    charset = None
    if _ahead_word(cursor, b"CHARSET"):
        cursor.position += 7
        cursor.space()
        charset = cursor.astring().decode("ascii", "replace").upper()
        cursor.space()
    return Search(KeyParser(cursor).program(), charset, uid, returned, part)


def _returned(cursor: Cursor) -> tuple[tuple[str, ...] | None, Window | None]:
    """`RETURN (...)` and a space, if they are there."""
    if not _ahead_word(cursor, b"RETURN"):
        return None, None
    cursor.position += 6
    cursor.space()
    part: Window | None = None

    def option(inner: Cursor) -> str:
        nonlocal part
        word = inner.word("an option")
        if word == "PARTIAL":
            if part is not None:
                raise ParseError("PARTIAL twice")
            inner.space()
            part = window(inner)
        return word

    returned = tuple(cursor.listed(option, most=MAX_OPTIONS, empty=True))
    if part is not None and "ALL" in returned:
        raise ParseError("ALL and PARTIAL together")  # RFC 9394, 3.1
    cursor.space()
    return returned, part


def _ahead_word(cursor: Cursor, word: bytes) -> bool:
    end = cursor.position + len(word)
    return cursor.text[cursor.position : end].upper() == word and cursor.text[end : end + 1] == b" "


def sort(cursor: Cursor, *, uid: bool = False) -> Sort:
    """`SORT [RETURN (...)] (keys) charset search-key` (RFC 5256, 5; RFC 5267, 3)."""
    cursor.space()
    returned, part = _returned(cursor)
    keys = []
    for reverse, name in _directions(cursor.listed(lambda inner: inner.word("a sort key"), most=MAX_OPTIONS)):
        if name not in SORT_KEYS:
            raise ParseError(f"unknown sort key {name}")
        keys.append(SortKey(name, reverse))
    return Sort(tuple(keys), _charset_and_keys(cursor, uid)._replace(returned=returned, window=part))


def _directions(words: list[str]) -> list[tuple[bool, str]]:
    found: list[tuple[bool, str]] = []
    reverse = False
    for word in words:
        if word == "REVERSE" and not reverse:
            reverse = True
        else:
            found.append((reverse, word))
            reverse = False
    if reverse:
        raise ParseError("REVERSE of nothing")
    return found


def thread(cursor: Cursor, *, uid: bool = False) -> Thread:
    """`THREAD algorithm charset search-key` (RFC 5256, 5)."""
    cursor.space()
    return Thread(cursor.word("an algorithm"), _charset_and_keys(cursor, uid))


def _charset_and_keys(cursor: Cursor, uid: bool) -> Search:
    cursor.space()
    charset = cursor.astring().decode("ascii", "replace").upper()
    cursor.space()
    return Search(KeyParser(cursor).program(), charset, uid)


def fetch(cursor: Cursor, *, uid: bool = False) -> Fetch:
    cursor.space()
    numbers = SequenceSet.parse(cursor)
    cursor.space()
    items = parse_items(cursor)
    if cursor.at_end():
        return Fetch(numbers, items, uid)
    cursor.space()
    since: int | None = None
    vanished = False
    part: Window | None = None

    def modifier(inner: Cursor) -> None:
        nonlocal since, vanished, part
        word = inner.word("a modifier")
        if word == "CHANGEDSINCE":
            inner.space()
            since = inner.number64()
        elif word == "VANISHED" and uid:
            vanished = True
        elif word == "PARTIAL" and uid and part is None:
            inner.space()
            part = window(inner)
        else:
            raise ParseError("unknown modifier")

    cursor.listed(modifier, most=MAX_OPTIONS)
    if vanished and since is None:
        raise ParseError("VANISHED without CHANGEDSINCE")
    return Fetch(numbers, items, uid, since, vanished, part)


def _modifier(cursor: Cursor, name: str) -> int:
    """`(NAME mod-sequence)`."""
    cursor.expect(b"(")
    if cursor.word("a modifier") != name:
        raise ParseError(f"expected {name}")
    cursor.space()
    value = cursor.number64()
    cursor.expect(b")")
    return value


def store(cursor: Cursor, *, uid: bool = False) -> Store:
    cursor.space()
    numbers = SequenceSet.parse(cursor)
    cursor.space()
    unchanged_since = -1
    if cursor.ahead(b"("):
        unchanged_since = _modifier(cursor, "UNCHANGEDSINCE")
        cursor.space()
    mode = "+" if cursor.skip(b"+") else "-" if cursor.skip(b"-") else "="
    item = cursor.word("FLAGS")
    if item not in ("FLAGS", "FLAGS.SILENT"):
        raise ParseError(f"unknown store item {item}")
    cursor.space()
    return Store(numbers, mode, FlagList.parse(cursor), item.endswith(".SILENT"), uid, unchanged_since)


def copy(cursor: Cursor, *, uid: bool = False) -> Copy:
    cursor.space()
    numbers = SequenceSet.parse(cursor)
    return Copy(numbers, _name(cursor), uid)


def partial(cursor: Cursor) -> Fetch:
    """PARTIAL number item first count (RFC 1730, 6.4.6): as a FETCH of a partial text, counted from 1."""
    cursor.space()
    numbers = SequenceSet.parse(cursor)
    cursor.space()
    item = parse_item(cursor)
    cursor.space()
    first = cursor.number()
    cursor.space()
    count = cursor.number()
    if item.section is None or item.partial is not None or not first or not count:
        raise ParseError("PARTIAL wants the text of a message, a first octet from 1 and a count")
    return Fetch(numbers, (item._replace(partial=(first - 1, count)),), False)


def expunge(cursor: Cursor) -> Expunge:
    return Expunge(None)


def uid_expunge(cursor: Cursor) -> Expunge:
    cursor.space()
    return Expunge(SequenceSet.parse(cursor))


def _name(cursor: Cursor) -> str:
    cursor.space()
    return names.mailbox(cursor)
