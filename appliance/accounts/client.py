"""The client's side of the gate to an account: what sessions and modules may ask.

Every call is one request: a name and arguments that are data only (None, bool, int, str, bytes, tuples, lists, dicts), and
an answer of the same kind. `Transport` carries it: directly into the account's own task, through the loopback that
serialises both ways (tests), or to another member. No answer holds a path, a row or a callback.

Numbers: `view` is a handle of an open mailbox, valid until `release` or the end of the session; UIDs travel packed as
little-endian unsigned 32-bit words (see `pack`/`unpack`). Flags are a bit mask (`Flag`), keywords a tuple of names.
Errors are `AccountError` with a code that protocols turn into their own words.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from enum import IntFlag
from typing import Any, NamedTuple, Protocol


class Flag(IntFlag):
    """System flags as bits; the letters are those of the stored form (manual, chapter 23)."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16
    RECENT = 32
    REDIRECTED = 64
    MDN_SENT = 128
    MEDIA = 256


class AccountError(Exception):
    """A request that failed. `code`: NONEXISTENT, ALREADYEXISTS, NOPERM, OVERQUOTA, INUSE, CANNOT, LIMIT, TEMPORARY, CLOSED, BADNAME."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Transport(Protocol):
    """Carries requests of one opened account session. Raises AccountError."""

    async def call(self, name: str, *arguments: Any) -> Any: ...

    async def aclose(self) -> None: ...


def pack(uids: Iterable[int]) -> bytes:
    words = array("I", uids)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def unpack(data: bytes) -> array[int]:
    words = array("I")
    words.frombytes(data)
    if sys.byteorder == "big":
        words.byteswap()
    return words


class Listed(NamedTuple):
    """One name of a mailbox list. `selectable`: a mailbox (else only a folder); `children`: names below it exist."""

    name: str
    selectable: bool
    children: bool
    rights: str


class Opened(NamedTuple):
    """What SELECT tells. `uids` packed, all messages; `keywords` the names known in the mailbox; `rights` RFC 4314 letters."""

    view: int
    uidvalidity: int
    uidnext: int
    modseq: int
    recent: int
    first_unseen: int
    keywords: tuple[str, ...]
    rights: str
    uids: bytes


class FlagRow(NamedTuple):
    uid: int
    flags: int
    keywords: tuple[str, ...]
    modseq: int


class Changes(NamedTuple):
    """What happened since `modseq`: `new` messages and changed flags as rows, `vanished` packed UIDs."""

    modseq: int
    uidnext: int
    new: tuple[FlagRow, ...]
    changed: tuple[FlagRow, ...]
    vanished: bytes


class Row(NamedTuple):
    """One message of `fetch`. Bytes fields are finished IMAP text or None when not asked for; `size` is the wire size;
    `date` seconds since 1970 with `zone` minutes; `content` the requested section in wire form if it was asked for inline."""

    uid: int
    flags: int
    keywords: tuple[str, ...]
    modseq: int
    size: int
    date: int
    zone: int
    envelope: bytes | None
    bodystructure: bytes | None
    body: bytes | None
    content: bytes | None


class Columns(NamedTuple):
    """Many messages as columns of the same length, by ascending UID; texts as in `Row`, None for those not asked for."""

    uids: list[int]
    flags: list[int]
    keywords: list[tuple[str, ...]]
    modseqs: list[int]
    sizes: list[int]
    dates: list[int]
    envelopes: list[bytes] | None
    structures: list[bytes] | None
    bodies: list[bytes] | None


class Fetch(IntFlag):
    """What the rows of `fetch` shall carry beside UID, flags, size and date."""

    NOTHING = 0
    ENVELOPE = 1
    BODYSTRUCTURE = 2
    BODY = 4


class AccountSession:
    """One opened account (a log-in or a module at work). Close it when done."""

    __slots__ = ("_transport", "name")

    def __init__(self, name: str, transport: Transport) -> None:
        #: The real name `user@domain` at opening; display only, names change under open sessions.
        self.name = name
        self._transport = transport

    async def aclose(self) -> None:
        """Gives back all views; harmless twice."""
        await self._transport.aclose()

    # Mailboxes as names ------------------------------------------------------------------------------------------

    async def mailboxes(self) -> list[Listed]:
        """All names, sorted, INBOX first. Patterns are the face's work."""
        return [Listed(*row) for row in await self._transport.call("mailboxes")]

    async def create(self, name: str) -> None:
        """Durable when it returns. `name.mbox`/`name.mdir` selects the format; missing parents become folders."""
        await self._transport.call("create", name)

    async def delete(self, name: str, *, subtree: bool = False) -> None:
        """The mailbox alone, or with all that lies below it. INUSE for a folder that is not empty."""
        await self._transport.call("delete", name, subtree)

    async def rename(self, old: str, new: str, *, subtree: bool = True) -> None:
        """With what lies below; renaming INBOX moves its messages (RFC 3501, 6.3.5)."""
        await self._transport.call("rename", old, new, subtree)

    async def my_rights(self, name: str) -> str:
        """The letters of RFC 4314 that this session has in the mailbox."""
        return str(await self._transport.call("my_rights", name))

    async def acl(self, name: str) -> dict[str, str]:
        """The access control list: names and stored rights (letters l r s w i p c d a). NOPERM without the right a."""
        return dict(await self._transport.call("acl", name))

    async def set_acl(self, name: str, who: str, mode: str, rights: str) -> None:
        """Change one element by "+", "-" or "=" (set); an element without rights goes. Durable when it returns."""
        await self._transport.call("set_acl", name, who, mode, rights)

    async def subscriptions(self) -> list[str]:
        return list(await self._transport.call("subscriptions"))

    async def subscribe(self, name: str, on: bool) -> None:
        await self._transport.call("subscribe", name, on)

    async def aliases(self) -> dict[str, str]:
        """Mailbox aliases: names of the top level and what they stand for, `~account`, `~account/mailbox` or an own mailbox.
        `accounts.shared.resolved` follows them."""
        return dict(await self._transport.call("aliases"))

    async def set_aliases(self, aliases: Mapping[str, str]) -> None:
        """All aliases anew; durable. BADNAME, ALREADYEXISTS (a mailbox has the name), LIMIT."""
        await self._transport.call("set_aliases", dict(aliases))

    async def metadata(self, name: str) -> dict[str, bytes]:
        """All annotations that this session may see (RFC 5464): entry names in small letters, `/private/...` and
        `/shared/...`, and their values. The empty name is the account. NONEXISTENT, NOPERM."""
        return dict(await self._transport.call("metadata", name))

    async def set_metadata(self, name: str, changes: Mapping[str, bytes | None]) -> None:
        """Set entries, None takes one away; all or none, durable. CANNOT (not a name), NOPERM, LIMIT (a value of more than
        8,192 octets, more than 64 entries)."""
        await self._transport.call("set_metadata", name, dict(changes))

    async def status(self, name: str) -> dict[str, int]:
        """MESSAGES, RECENT, UIDNEXT, UIDVALIDITY, UNSEEN, SIZE, DELETED, HIGHESTMODSEQ."""
        return dict(await self._transport.call("status", name))

    # An open mailbox ---------------------------------------------------------------------------------------------

    async def open(self, name: str, *, write: bool = True) -> Opened:
        """`write` takes over the \\Recent marks."""
        return Opened(*await self._transport.call("open", name, write))

    async def release(self, view: int) -> None:
        await self._transport.call("release", view)

    async def changes(self, view: int, modseq: int) -> Changes:
        got = await self._transport.call("changes", view, modseq)
        return Changes(got[0], got[1], tuple(FlagRow(*r) for r in got[2]), tuple(FlagRow(*r) for r in got[3]), got[4])

    async def flags(self, view: int, uids: Sequence[int]) -> list[FlagRow]:
        """Flags of messages that still exist, at most 2,000 a call."""
        return list(map(FlagRow._make, await self._transport.call("flags", view, pack(uids))))

    async def columns(self, view: int, uids: Sequence[int], what: Fetch) -> Columns:
        """As `fetch` without a section, for long lists: messages that still exist, at most 2,000 a call."""
        return Columns(*await self._transport.call("columns", view, pack(uids), int(what)))

    async def fetch(self, view: int, uids: Sequence[int], what: Fetch, section: str | None = None) -> list[Row]:
        """Rows of messages that still exist, at most 500 a call; fewer come back when their content passes 1 MiB (ask for
        the rest again). `section` ("" whole, "HEADER", "TEXT", "1.2.MIME" ...) puts it into `content`, wire form, unless it
        is larger than 256 KiB: then `content` is None and `read` streams it."""
        return [Row(*row) for row in await self._transport.call("fetch", view, pack(uids), int(what), section)]

    async def read(self, view: int, uid: int, section: str, offset: int, length: int) -> tuple[int, bytes]:
        """The section's whole wire size and at most `length` (256 KiB) bytes from `offset`. Size -1: no such part."""
        size, data = await self._transport.call("read", view, uid, section, offset, length)
        return size, data

    async def header_fields(
        self, view: int, uids: Sequence[int], names: Sequence[str]
    ) -> list[tuple[int, tuple[bytes | None, ...]]]:
        """The raw values of these header fields (the first of each name, at most 16 KiB, None: there is none), for at most
        500 messages that still exist."""
        rows = await self._transport.call("header_fields", view, pack(uids), tuple(names))
        return [(uid, tuple(values)) for uid, values in rows]

    async def decoded(self, view: int, uid: int, section: str, offset: int, length: int) -> tuple[int, bytes]:
        """A part without its transfer encoding: its whole size and at most `length` (256 KiB) bytes from `offset`. Size -1: no
        such part, -2: an unknown encoding, -3: too large."""
        size, data = await self._transport.call("decoded", view, uid, section, offset, length)
        return size, data

    async def previews(self, view: int, uids: Sequence[int]) -> dict[int, str]:
        """The first words of the text, at most 200 characters, of at most 500 messages that still exist."""
        return dict(await self._transport.call("previews", view, pack(uids)))

    async def identities(self, view: int, uids: Sequence[int]) -> dict[int, str]:
        """A word for the content of each of at most 500 messages; copies have the same."""
        return dict(await self._transport.call("identities", view, pack(uids)))

    async def untold(self, view: int, uids: Sequence[int], what: Fetch, section: str | None = None) -> list[Row]:
        """As `fetch`, of messages that others have removed and that this view was not `told` of, as far as they can be had."""
        return [Row(*row) for row in await self._transport.call("untold", view, pack(uids), int(what), section)]

    async def untold_read(self, view: int, uid: int, section: str, offset: int, length: int) -> tuple[int, bytes]:
        """As `read`, of such a message. NONEXISTENT."""
        size, data = await self._transport.call("untold_read", view, uid, section, offset, length)
        return size, data

    async def untold_store(
        self, view: int, uids: Sequence[int], mode: str, flags: int, keywords: Sequence[str]
    ) -> list[FlagRow]:
        """As `store`, of such messages; it lasts as long as they do."""
        rows = await self._transport.call("untold_store", view, pack(uids), mode, flags, tuple(keywords))
        return [FlagRow(*row) for row in rows]

    async def told(self, view: int, uids: Sequence[int]) -> None:
        """The client knows by now that these are gone."""
        await self._transport.call("told", view, pack(uids))

    async def validities(self) -> dict[str, int]:
        """All mailboxes that the session may know of, and their UIDVALIDITY values, which no other mailbox ever has."""
        return dict(await self._transport.call("validities"))

    async def totals(self, name: str) -> dict[str, int]:
        """DELETED-STORAGE: wire bytes of the messages marked \\Deleted."""
        return dict(await self._transport.call("totals", name))

    async def store(
        self, view: int, uids: Sequence[int], mode: str, flags: int, keywords: Sequence[str], unchanged_since: int = -1
    ) -> list[FlagRow]:
        """`mode` is "+", "-" or "=" (set). At most 2,000 a call. The new state of those that still exist; messages that
        changed after the mod-sequence `unchanged_since` (RFC 7162, -1: none is asked) stay as they are and are left out."""
        rows = await self._transport.call("store", view, pack(uids), mode, flags, tuple(keywords), unchanged_since)
        return [FlagRow(*row) for row in rows]

    async def expunge(self, view: int, uids: Sequence[int] | None = None) -> array[int]:
        """Remove messages marked \\Deleted (among `uids` if given); durable when it returns. The removed UIDs."""
        return unpack(await self._transport.call("expunge", view, None if uids is None else pack(uids)))

    async def remove(self, view: int, uids: Sequence[int]) -> array[int]:
        """Remove these messages whatever their flags (POP QUIT); durable when it returns."""
        return unpack(await self._transport.call("remove", view, pack(uids)))

    async def search(self, view: int, program: Any, charset: str = "UTF-8") -> array[int]:
        """`program` is a nested list, e.g. ["AND", ["SINCE", day], ["NOT", ["BODY", "text"]]]; see accounts.search. UIDs, ascending."""
        return unpack(await self._transport.call("search", view, program, charset))

    async def copy(
        self, view: int, uids: Sequence[int], target: str, *, move: bool = False
    ) -> tuple[int, list[int], list[int]]:
        """Within the account; all or nothing, durable. UIDVALIDITY of the target, source UIDs, new UIDs."""
        validity, source, made = await self._transport.call("copy", view, pack(uids), target, move)
        return validity, list(unpack(source)), list(unpack(made))

    # Storing -----------------------------------------------------------------------------------------------------

    async def append(
        self, name: str, flags: int, keywords: Sequence[str], date: int, zone: int, data: bytes
    ) -> tuple[int, int]:
        """Store a message in wire form of at most 256 KiB, durably. UIDVALIDITY and UID. Raises OVERQUOTA, NONEXISTENT."""
        validity, uid = await self._transport.call("append", name, flags, tuple(keywords), date, zone, data)
        return validity, uid

    async def append_begin(
        self, name: str, flags: int, keywords: Sequence[str], date: int, zone: int, size: int
    ) -> int:
        """Open a streamed append of `size` wire bytes (0: unknown); refuses what the quota cannot take. A handle."""
        return int(await self._transport.call("append_begin", name, flags, tuple(keywords), date, zone, size))

    async def append_chunk(self, handle: int, data: bytes) -> None:
        """At most 256 KiB; returns when it is taken, which is the back-pressure."""
        await self._transport.call("append_chunk", handle, data)

    async def append_commit(self, handle: int) -> tuple[int, int]:
        validity, uid = await self._transport.call("append_commit", handle)
        return validity, uid

    async def append_abort(self, handle: int) -> None:
        await self._transport.call("append_abort", handle)

    # The account -------------------------------------------------------------------------------------------------

    async def info(self) -> dict[str, Any]:
        """The `#` values of account.info, storage used (bytes) and limit (None: unlimited)."""
        return dict(await self._transport.call("info"))

    async def alerts(self, *, confirm: bool = True, most: int = 0) -> list[str]:
        """Alerts not shown yet, the oldest first, at most so many (0: all); `confirm` marks them as shown."""
        return list(await self._transport.call("alerts", confirm, most))

    async def keywords(self, view: int) -> tuple[str, ...]:
        return tuple(await self._transport.call("keywords", view))
