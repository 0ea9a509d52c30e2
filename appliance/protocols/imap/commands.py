"""Commands and their arguments: one small class for each kind, and the table from names to parsers.

A parser reads what follows the name of the command. Wrong syntax raises ParseError; what a command may do, and when, is
the session's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from appliance.protocols.imap import names
from appliance.protocols.imap.authentication import Authenticate, Login
from appliance.protocols.imap.cursor import Cursor, ParseError
from appliance.protocols.imap.dates import Moment, parse_date_time
from appliance.protocols.imap.fetchitem import FetchItem, parse_item, parse_items
from appliance.protocols.imap.flags import FlagList
from appliance.protocols.imap.searchkey import KeyParser, SearchKey
from appliance.protocols.imap.sequence import SequenceSet

MAX_PATTERNS: Final = 32
"""Most patterns of one LIST."""
MAX_OPTIONS: Final = 32
"""Most options of LIST, items of STATUS, names of ENABLE."""
MAX_FIELDS: Final = 30
"""Most pairs of ID (RFC 2971, 3.3)."""
MAX_IDENTITY: Final = 1024
"""Longest value of ID."""


class Nothing(NamedTuple):
    """A command without arguments."""


class Resync(NamedTuple):
    """What a client remembers of a mailbox (RFC 7162, 3.2.5). `known`: the UIDs it has, None for all."""

    uidvalidity: int
    modseq: int
    known: SequenceSet | None


class Select(NamedTuple):
    """SELECT and EXAMINE. `condstore`: the client asks for mod-sequences (RFC 7162, 3.1.8)."""

    name: str
    condstore: bool = False
    resync: Resync | None = None


class Mailbox(NamedTuple):
    """DELETE, SUBSCRIBE, UNSUBSCRIBE, GETACL, MYRIGHTS, GETQUOTAROOT."""

    name: str


class Create(NamedTuple):
    """`folder`: the name ended in the separator, so only names below it are announced (RFC 3501, 6.3.3)."""

    name: str
    folder: bool


class Rename(NamedTuple):
    old: str
    new: str


class List(NamedTuple):
    """LIST and LSUB. Options in capitals: `selection` before the reference, `returned` after RETURN (RFC 5258);
    `status`: the items of RETURN (STATUS (...)) (RFC 5819)."""

    reference: str
    patterns: tuple[names.ListPattern, ...]
    selection: tuple[str, ...] = ()
    returned: tuple[str, ...] | None = None
    status: tuple[str, ...] = ()


class Status(NamedTuple):
    """Items in capitals, known or not."""

    name: str
    items: tuple[str, ...]


class Append(NamedTuple):
    """Its messages come as events (`Message`, `Data`, `MessageEnd`)."""

    name: str


class MessageHead(NamedTuple):
    """What stands before the literal of a message to append. `waits`: the client waits for a `+` line."""

    flags: FlagList
    date: Moment | None
    size: int
    waits: bool


class Search(NamedTuple):
    """`charset` in capitals, None for US-ASCII by default; `uid`: answer with UIDs; `returned`: options of RFC 4731."""

    key: SearchKey
    charset: str | None
    uid: bool
    returned: tuple[str, ...] | None = None


class Fetch(NamedTuple):
    """`changed_since`: only messages with a higher mod-sequence (RFC 7162, 3.1.4.1), None for all; `vanished`: tell also
    which of these UIDs were removed since (3.2.6)."""

    numbers: SequenceSet
    items: tuple[FetchItem, ...]
    uid: bool
    changed_since: int | None = None
    vanished: bool = False


class Store(NamedTuple):
    """`mode` is "=", "+" or "-"; `unchanged_since`: not where the mod-sequence is higher (RFC 7162, 3.1.3), -1 for anyway."""

    numbers: SequenceSet
    mode: str
    flags: FlagList
    silent: bool
    uid: bool
    unchanged_since: int = -1


class Copy(NamedTuple):
    """COPY and MOVE (RFC 6851)."""

    numbers: SequenceSet
    name: str
    uid: bool


class Expunge(NamedTuple):
    """`uids` only for UID EXPUNGE (RFC 4315, 2.1)."""

    uids: SequenceSet | None


class Identity(NamedTuple):
    """ID: what the client says of itself, names in lower case (RFC 2971)."""

    fields: tuple[tuple[str, str], ...]


class Enable(NamedTuple):
    """Capabilities in capitals (RFC 5161)."""

    names: tuple[str, ...]


class SetAcl(NamedTuple):
    """`mode` is "=", "+" or "-" (RFC 4314, 3.1)."""

    name: str
    identifier: str
    mode: str
    rights: str


class Identifier(NamedTuple):
    """DELETEACL and LISTRIGHTS."""

    name: str
    identifier: str


class QuotaRoot(NamedTuple):
    """GETQUOTA."""

    root: str


class SetQuota(NamedTuple):
    root: str
    limits: tuple[tuple[str, int], ...]


Arguments = (
    Nothing
    | Login
    | Authenticate
    | Select
    | Mailbox
    | Create
    | Rename
    | List
    | Status
    | Append
    | Search
    | Fetch
    | Store
    | Copy
    | Expunge
    | Identity
    | Enable
    | SetAcl
    | Identifier
    | QuotaRoot
    | SetQuota
)


class Command(NamedTuple):
    """A whole command. `name` in capitals, without UID: the arguments say `uid`."""

    tag: bytes
    name: str
    arguments: Arguments


def _text(cursor: Cursor) -> str:
    return cursor.astring().decode("utf-8", "surrogateescape")


def _nothing(cursor: Cursor) -> Nothing:
    return Nothing()


def _login(cursor: Cursor) -> Login:
    cursor.space()
    return Login.parse(cursor)


def _authenticate(cursor: Cursor) -> Authenticate:
    cursor.space()
    return Authenticate.parse(cursor)


def _mailbox(cursor: Cursor) -> Mailbox:
    cursor.space()
    return Mailbox(names.mailbox(cursor))


def _select(cursor: Cursor) -> Select:
    name = _mailbox(cursor).name
    if cursor.at_end():
        return Select(name)
    cursor.space()
    resync: Resync | None = None

    def parameter(inner: Cursor) -> str:
        nonlocal resync
        word = inner.word("a parameter")
        if word == "QRESYNC":
            inner.space()
            resync = _resync(inner)
        elif word != "CONDSTORE":
            raise ParseError("unknown parameter")
        return word

    cursor.listed(parameter, most=MAX_OPTIONS)
    return Select(name, True, resync)


def _resync(cursor: Cursor) -> Resync:
    """`(uidvalidity mod-sequence [known-uids] [(numbers uids)])`; the last is a hint that is not needed here."""
    cursor.expect(b"(")
    uidvalidity = cursor.number()
    cursor.space()
    modseq = cursor.number64()
    known = None
    if cursor.skip(b" ") and not cursor.ahead(b"("):
        known = SequenceSet.parse(cursor)
        cursor.skip(b" ")
    if cursor.skip(b"("):
        SequenceSet.parse(cursor)
        cursor.space()
        SequenceSet.parse(cursor)
        cursor.expect(b")")
    cursor.expect(b")")
    return Resync(uidvalidity, modseq, known)


def _modifier(cursor: Cursor, name: str) -> int:
    """`(NAME mod-sequence)`."""
    cursor.expect(b"(")
    if cursor.word("a modifier") != name:
        raise ParseError(f"expected {name}")
    cursor.space()
    value = cursor.number64()
    cursor.expect(b")")
    return value


def _create(cursor: Cursor) -> Create:
    name = _mailbox(cursor).name
    folder = name.endswith(names.SEPARATOR)
    name = name.rstrip(names.SEPARATOR)
    if not name:
        raise ParseError("empty mailbox name")
    return Create(name, folder)


def _rename(cursor: Cursor) -> Rename:
    old = _mailbox(cursor).name
    return Rename(old, _mailbox(cursor).name)


def _option(cursor: Cursor) -> str:
    return cursor.word("an option")


def _list(cursor: Cursor) -> List:
    cursor.space()
    selection: tuple[str, ...] = ()
    if cursor.ahead(b"("):
        selection = tuple(cursor.listed(_option, most=MAX_OPTIONS, empty=True))
        cursor.space()
    reference = names.normal(cursor.astring())
    cursor.space()
    if cursor.ahead(b"("):
        patterns = tuple(cursor.listed(names.ListPattern.parse, most=MAX_PATTERNS))
    else:
        patterns = (names.ListPattern.parse(cursor),)
    returned: list[str] | None = None
    status: tuple[str, ...] = ()
    if not cursor.at_end():
        cursor.space()
        if cursor.word("RETURN") != "RETURN":
            raise ParseError("expected RETURN")
        cursor.space()

        def option(inner: Cursor) -> str:
            nonlocal status
            name = inner.word("an option")
            if name == "STATUS":
                inner.space()
                status = tuple(inner.listed(_option, most=MAX_OPTIONS))
            return name

        returned = cursor.listed(option, most=MAX_OPTIONS, empty=True)
    return List(reference, patterns, selection, None if returned is None else tuple(returned), status)


def _lsub(cursor: Cursor) -> List:
    cursor.space()
    reference = names.normal(cursor.astring())
    cursor.space()
    return List(reference, (names.ListPattern.parse(cursor),))


def _status(cursor: Cursor) -> Status:
    name = _mailbox(cursor).name
    cursor.space()
    return Status(name, tuple(cursor.listed(_option, most=MAX_OPTIONS)))


def message_head(cursor: Cursor) -> MessageHead:
    """`[SP flag-list] [SP date-time] SP literal`, the cursor on the first space (RFC 3501, 6.3.11; RFC 3502)."""
    cursor.space()
    flags, date = FlagList((), ()), None
    if cursor.ahead(b"("):
        flags = FlagList.parse(cursor)
        cursor.space()
    if cursor.ahead(b'"'):
        date = parse_date_time(cursor)
        cursor.space()
    size, waiting_not = cursor.message_literal()
    return MessageHead(flags, date, size, not waiting_not)


def _search(cursor: Cursor, *, uid: bool = False) -> Search:
    cursor.space()
    returned: tuple[str, ...] | None = None
    if _ahead_word(cursor, b"RETURN"):
        cursor.position += 6
        cursor.space()
        returned = tuple(cursor.listed(_option, most=MAX_OPTIONS, empty=True))
        cursor.space()
    charset = None
    if _ahead_word(cursor, b"CHARSET"):
        cursor.position += 7
        cursor.space()
        charset = cursor.astring().decode("ascii", "replace").upper()
        cursor.space()
    return Search(KeyParser(cursor).program(), charset, uid, returned)


def _ahead_word(cursor: Cursor, word: bytes) -> bool:
    end = cursor.position + len(word)
    return cursor.text[cursor.position : end].upper() == word and cursor.text[end : end + 1] == b" "


def _fetch(cursor: Cursor, *, uid: bool = False) -> Fetch:
    cursor.space()
    numbers = SequenceSet.parse(cursor)
    cursor.space()
    items = parse_items(cursor)
    if cursor.at_end():
        return Fetch(numbers, items, uid)
    cursor.space()
    since, vanished = -1, False

    def modifier(inner: Cursor) -> None:
        nonlocal since, vanished
        word = inner.word("a modifier")
        if word == "CHANGEDSINCE":
            inner.space()
            since = inner.number64()
        elif word == "VANISHED" and uid:
            vanished = True
        else:
            raise ParseError("unknown modifier")

    cursor.listed(modifier, most=MAX_OPTIONS)
    if since < 0:
        raise ParseError("expected CHANGEDSINCE")
    return Fetch(numbers, items, uid, since, vanished)


def _store(cursor: Cursor, *, uid: bool = False) -> Store:
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


def _copy(cursor: Cursor, *, uid: bool = False) -> Copy:
    cursor.space()
    numbers = SequenceSet.parse(cursor)
    return Copy(numbers, _mailbox(cursor).name, uid)


def _partial(cursor: Cursor) -> Fetch:
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


def _expunge(cursor: Cursor) -> Expunge:
    return Expunge(None)


def _uid_expunge(cursor: Cursor) -> Expunge:
    cursor.space()
    return Expunge(SequenceSet.parse(cursor))


def _id(cursor: Cursor) -> Identity:
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


def _enable(cursor: Cursor) -> Enable:
    found: list[str] = []
    while not found or not cursor.at_end():
        cursor.space()
        if len(found) >= MAX_OPTIONS:
            raise ParseError("too many capabilities")
        found.append(cursor.word("a capability"))
    return Enable(tuple(found))


def _set_acl(cursor: Cursor) -> SetAcl:
    name = _mailbox(cursor).name
    cursor.space()
    identifier = _text(cursor)
    cursor.space()
    rights = _text(cursor)
    mode = "="
    if rights[:1] in ("+", "-"):
        mode, rights = rights[0], rights[1:]
    return SetAcl(name, identifier, mode, rights)


def _identifier(cursor: Cursor) -> Identifier:
    name = _mailbox(cursor).name
    cursor.space()
    return Identifier(name, _text(cursor))


def _quota(cursor: Cursor) -> QuotaRoot:
    cursor.space()
    return QuotaRoot(_text(cursor))


def _set_quota(cursor: Cursor) -> SetQuota:
    cursor.space()
    root = _text(cursor)
    cursor.space()

    def limit(inner: Cursor) -> tuple[str, int]:
        name = inner.word("a resource")
        inner.space()
        return name, inner.number()

    return SetQuota(root, tuple(cursor.listed(limit, most=MAX_OPTIONS, empty=True)))


PARSERS: Final[dict[str, Callable[[Cursor], Arguments]]] = {
    "AUTHENTICATE": _authenticate,
    "CAPABILITY": _nothing,
    "CHECK": _nothing,
    "CLOSE": _nothing,
    "COPY": _copy,
    "CREATE": _create,
    "DELETE": _mailbox,
    "DELETEACL": _identifier,
    "ENABLE": _enable,
    "EXAMINE": _select,
    "EXPUNGE": _expunge,
    "FETCH": _fetch,
    "GETACL": _mailbox,
    "GETQUOTA": _quota,
    "GETQUOTAROOT": _mailbox,
    "ID": _id,
    "IDLE": _nothing,
    "LIST": _list,
    "LISTRIGHTS": _identifier,
    "LOGIN": _login,
    "LOGOUT": _nothing,
    "LSUB": _lsub,
    "MOVE": _copy,
    "MYRIGHTS": _mailbox,
    "NAMESPACE": _nothing,
    "NOOP": _nothing,
    "PARTIAL": _partial,
    "RENAME": _rename,
    "SEARCH": _search,
    "SELECT": _select,
    "SETACL": _set_acl,
    "SETQUOTA": _set_quota,
    "STARTTLS": _nothing,
    "STATUS": _status,
    "STORE": _store,
    "SUBSCRIBE": _mailbox,
    "UNSELECT": _nothing,
    "UNSUBSCRIBE": _mailbox,
}
"""Every command but APPEND, whose messages are streamed, by its name."""

UID_PARSERS: Final[dict[str, Callable[[Cursor], Arguments]]] = {
    "COPY": lambda cursor: _copy(cursor, uid=True),
    "EXPUNGE": _uid_expunge,
    "FETCH": lambda cursor: _fetch(cursor, uid=True),
    "MOVE": lambda cursor: _copy(cursor, uid=True),
    "SEARCH": lambda cursor: _search(cursor, uid=True),
    "STORE": lambda cursor: _store(cursor, uid=True),
}


def parse_name(cursor: Cursor) -> tuple[bytes, str]:
    """The tag and the name in capitals; "UID FETCH" and the like in one. Raises ParseError when there is no such command."""
    tag = cursor.tag()
    cursor.space()
    name = cursor.word("a command")
    if name == "UID":
        cursor.space()
        name = cursor.word("a command")
        if name in UID_PARSERS:
            return tag, f"UID {name}"
    elif name in PARSERS or name == "APPEND":
        return tag, name
    raise ParseError("unknown command")


def parse(cursor: Cursor) -> Command:
    """A whole command that is not APPEND. Raises ParseError, and LiteralNeeded when octets are missing."""
    tag, name = parse_name(cursor)
    if name.startswith("UID "):
        name = name[4:]
        arguments = UID_PARSERS[name](cursor)
    elif name == "APPEND":
        cursor.space()
        names.mailbox(cursor)
        raise ParseError("APPEND without a message")
    else:
        arguments = PARSERS[name](cursor)
    cursor.end()
    return Command(tag, name, arguments)
