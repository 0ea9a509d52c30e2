"""The grammar of commands of the session: log-in, ID, ENABLE, COMPRESS, NOTIFY."""

from __future__ import annotations

from typing import Final

from appliance.protocols.imap import names
from appliance.protocols.imap.authentication import Authenticate, Login
from appliance.protocols.imap.commands import Compress, Enable, Identity, Nothing, Notify, NotifyEvents, NotifyGroup
from appliance.protocols.imap.cursor import Cursor, ParseError
from appliance.protocols.imap.fetchitem import FetchItem, parse_item

MAX_OPTIONS: Final = 32
"""Most names of ENABLE, groups and events of NOTIFY."""
MAX_FIELDS: Final = 30
"""Most pairs of ID (RFC 2971, 3.3)."""
MAX_IDENTITY: Final = 1024
"""Longest value of ID."""
MAX_WATCHED: Final = 200
"""Most mailboxes of one group of NOTIFY."""

EVENTS: Final = frozenset(
    {
        "MESSAGENEW",
        "MESSAGEEXPUNGE",
        "FLAGCHANGE",
        "ANNOTATIONCHANGE",
        "MAILBOXNAME",
        "SUBSCRIPTIONCHANGE",
        "MAILBOXMETADATACHANGE",
        "SERVERMETADATACHANGE",
    }
)
_GROUPS: Final = frozenset({"SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED"})


def nothing(cursor: Cursor) -> Nothing:
    return Nothing()


def login(cursor: Cursor) -> Login:
    cursor.space()
    return Login.parse(cursor)


def authenticate(cursor: Cursor) -> Authenticate:
    cursor.space()
    return Authenticate.parse(cursor)


def identity(cursor: Cursor) -> Identity:
    cursor.space()
    if not cursor.ahead(b"("):
        if cursor.nstring() is not None:
            raise ParseError("expected NIL or a list")
        return Identity(())

    def pair(inner: Cursor) -> tuple[str, str]:
        name = inner.string()
        inner.space()
        value = inner.nstring() or b""
        if len(name) > 30 or len(value) > MAX_IDENTITY:
            raise ParseError("too long")
        return name.decode("utf-8", "replace").lower(), value.decode("utf-8", "replace")

    return Identity(tuple(cursor.listed(pair, most=MAX_FIELDS, empty=True)))


def enable(cursor: Cursor) -> Enable:
    found: list[str] = []
    while not found or not cursor.at_end():
        cursor.space()
        if len(found) >= MAX_OPTIONS:
            raise ParseError("too many capabilities")
        found.append(cursor.word("a capability"))
    return Enable(tuple(found))


def compress(cursor: Cursor) -> Compress:
    cursor.space()
    return Compress(cursor.word("an algorithm"))


def notify(cursor: Cursor) -> Notify:
    """NOTIFY SET or NONE (RFC 5465, 8)."""
    cursor.space()
    word = cursor.word("SET or NONE")
    if word == "NONE":
        return Notify(())
    if word != "SET":
        raise ParseError("expected SET or NONE")
    cursor.space()
    status = False
    if not cursor.ahead(b"("):
        if cursor.word("STATUS") != "STATUS":
            raise ParseError("expected STATUS")
        status = True
        cursor.space()
    groups = [_group(cursor)]
    while not cursor.at_end():
        cursor.space()
        if len(groups) >= MAX_OPTIONS:
            raise ParseError("too many groups")
        groups.append(_group(cursor))
    return Notify(tuple(groups), status)


def _group(cursor: Cursor) -> NotifyGroup:
    cursor.expect(b"(")
    which = cursor.word("a group of mailboxes")
    found: tuple[str, ...] = ()
    if which in ("SUBTREE", "MAILBOXES"):
        cursor.space()
        if cursor.ahead(b"("):
            found = tuple(cursor.listed(names.mailbox, most=MAX_WATCHED))
        else:
            found = (names.mailbox(cursor),)
    elif which not in _GROUPS:
        raise ParseError("unknown group of mailboxes")
    cursor.space()
    events = NotifyEvents(())
    if cursor.ahead(b"("):
        events = _events(cursor)
    elif cursor.word("NONE") != "NONE":
        raise ParseError("expected a list of events or NONE")
    cursor.expect(b")")
    return NotifyGroup(which, found, events)


def _events(cursor: Cursor) -> NotifyEvents:
    items: list[FetchItem] = []
    found: list[str] = []
    cursor.expect(b"(")
    while True:
        name = cursor.word("an event")
        if len(found) >= MAX_OPTIONS:
            raise ParseError("too many events")
        found.append(name)
        if cursor.skip(b")"):
            break
        cursor.space()
        if name == "MESSAGENEW" and cursor.ahead(b"("):
            items = cursor.listed(parse_item, most=MAX_OPTIONS)
            if cursor.skip(b")"):
                break
            cursor.space()
    return NotifyEvents(tuple(found), tuple(items))
