"""The grammar of commands on mailboxes by name: SELECT to STATUS, LIST, rights, quota, annotations."""

from __future__ import annotations

from typing import Final

from appliance.protocols.imap import names
from appliance.protocols.imap.commands import (
    Create,
    GetMetadata,
    Identifier,
    List,
    Mailbox,
    QuotaRoot,
    Rename,
    Resync,
    Select,
    SetAcl,
    SetMetadata,
    SetQuota,
    Status,
)
from appliance.protocols.imap.cursor import Cursor, ParseError
from appliance.protocols.imap.sequence import SequenceSet

MAX_PATTERNS: Final = 32
"""Most patterns of one LIST."""
MAX_OPTIONS: Final = 32
"""Most options of LIST, items of STATUS, entries of annotations."""
MAX_ENTRY: Final = 1024
"""Longest name of an annotation."""


def _text(cursor: Cursor) -> str:
    return cursor.astring().decode("utf-8", "surrogateescape")


def mailbox(cursor: Cursor) -> Mailbox:
    cursor.space()
    return Mailbox(names.mailbox(cursor))


def select(cursor: Cursor) -> Select:
    name = mailbox(cursor).name
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


def create(cursor: Cursor) -> Create:
    name = mailbox(cursor).name
    folder = name.endswith(names.SEPARATOR)
    name = name.rstrip(names.SEPARATOR)
    if not name:
        raise ParseError("empty mailbox name")
    uses: list[str] = []
    if not cursor.at_end():

        def parameter(inner: Cursor) -> None:
            if inner.word("a parameter") != "USE":
                raise ParseError("unknown parameter")
            inner.space()
            uses.extend(inner.listed(special_use, most=MAX_OPTIONS, empty=True))

        cursor.space()
        cursor.listed(parameter, most=MAX_OPTIONS)
    return Create(name, folder, tuple(dict.fromkeys(uses)))


def special_use(cursor: Cursor) -> str:
    """`\\Drafts` and the like, in capitals but for the backslash's sake."""
    cursor.expect(b"\\")
    return "\\" + cursor.word("a special use").capitalize()


def rename(cursor: Cursor) -> Rename:
    old = mailbox(cursor).name
    return Rename(old, mailbox(cursor).name)


def option(cursor: Cursor) -> str:
    return cursor.word("an option")


def list_(cursor: Cursor) -> List:
    cursor.space()
    selection: tuple[str, ...] = ()
    if cursor.ahead(b"("):
        selection = tuple(cursor.listed(option, most=MAX_OPTIONS, empty=True))
        cursor.space()
    reference = names.normal(cursor.astring(), utf8=cursor.utf8)
    cursor.space()
    if cursor.ahead(b"("):
        patterns = tuple(cursor.listed(names.ListPattern.parse, most=MAX_PATTERNS))
    else:
        patterns = (names.ListPattern.parse(cursor),)
    returned: list[str] | None = None
    items: tuple[str, ...] = ()
    if not cursor.at_end():
        cursor.space()
        if cursor.word("RETURN") != "RETURN":
            raise ParseError("expected RETURN")
        cursor.space()

        def answer(inner: Cursor) -> str:
            nonlocal items
            name = inner.word("an option")
            if name == "STATUS":
                inner.space()
                items = tuple(inner.listed(option, most=MAX_OPTIONS))
            return name

        returned = cursor.listed(answer, most=MAX_OPTIONS, empty=True)
    return List(reference, patterns, selection, None if returned is None else tuple(returned), items)


def lsub(cursor: Cursor) -> List:
    cursor.space()
    reference = names.normal(cursor.astring(), utf8=cursor.utf8)
    cursor.space()
    return List(reference, (names.ListPattern.parse(cursor),))


def status(cursor: Cursor) -> Status:
    name = mailbox(cursor).name
    cursor.space()
    return Status(name, tuple(cursor.listed(option, most=MAX_OPTIONS)))


def set_acl(cursor: Cursor) -> SetAcl:
    name = mailbox(cursor).name
    cursor.space()
    identifier = _text(cursor)
    cursor.space()
    rights = _text(cursor)
    mode = "="
    if rights[:1] in ("+", "-"):
        mode, rights = rights[0], rights[1:]
    if rights.upper() == rights and rights.isalpha():
        raise ParseError("rights are small letters")  # RFC 4314, 3.1
    return SetAcl(name, identifier, mode, rights)


def identifier(cursor: Cursor) -> Identifier:
    name = mailbox(cursor).name
    cursor.space()
    return Identifier(name, _text(cursor))


def quota_root(cursor: Cursor) -> QuotaRoot:
    cursor.space()
    return QuotaRoot(_text(cursor))


def set_quota(cursor: Cursor) -> SetQuota:
    cursor.space()
    root = _text(cursor)
    cursor.space()

    def limit(inner: Cursor) -> tuple[str, int]:
        name = inner.word("a resource")
        inner.space()
        return name, inner.number64()

    return SetQuota(root, tuple(cursor.listed(limit, most=MAX_OPTIONS, empty=True)))


def entry(cursor: Cursor) -> str:
    """The name of an annotation, in small letters (RFC 5464, 3.2)."""
    name = cursor.astring()
    if (
        not name.startswith(b"/")
        or name.endswith(b"/")
        or len(name) > MAX_ENTRY
        or not name.isascii()
        or any(sign in name for sign in (b"//", b"*", b"%"))
        or not name.decode("ascii").isprintable()
    ):
        raise ParseError("malformed entry name")
    return name.decode("ascii").lower()


def get_metadata(cursor: Cursor) -> GetMetadata:
    """Options may stand before the mailbox name or behind it (RFC 5464 as corrected)."""
    cursor.space()
    depth, largest = 0, None

    def parameter(inner: Cursor) -> None:
        nonlocal depth, largest
        name = inner.word("an option")
        inner.space()
        if name == "MAXSIZE":
            largest = inner.number()
        elif name == "DEPTH":
            word = inner.astring().lower()
            if word not in _DEPTHS:
                raise ParseError("DEPTH is 0, 1 or infinity")
            depth = _DEPTHS[word]
        else:
            raise ParseError("unknown option")

    if cursor.ahead(b"("):
        cursor.listed(parameter, most=MAX_OPTIONS)
        cursor.space()
    name = names.normal(cursor.astring(), utf8=cursor.utf8)
    cursor.space()
    if cursor.ahead(b"(") and cursor.text[cursor.position + 1 : cursor.position + 2].isalpha():
        cursor.listed(parameter, most=MAX_OPTIONS)
        cursor.space()
    entries = cursor.listed(entry, most=MAX_OPTIONS) if cursor.ahead(b"(") else [entry(cursor)]
    return GetMetadata(name, tuple(dict.fromkeys(entries)), depth, largest)


_DEPTHS: Final = {b"0": 0, b"1": 1, b"infinity": -1}


def set_metadata(cursor: Cursor) -> SetMetadata:
    cursor.space()
    name = names.normal(cursor.astring(), utf8=cursor.utf8)
    cursor.space()

    def change(inner: Cursor) -> tuple[str, bytes | None]:
        key = entry(inner)
        inner.space()
        if not inner.at_string() and not inner.ahead(b"~"):
            return key, inner.nstring()
        return key, inner.string8()

    return SetMetadata(name, tuple(cursor.listed(change, most=MAX_OPTIONS)))
