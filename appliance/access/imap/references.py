"""IMAP URLs that name a message or a part of it in one of the mailboxes of this server (RFC 5092; RFC 4469, 3)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from appliance.access.imap.session import Refused
from appliance.accounts.client import AccountError, AccountSession
from appliance.formats.headers import select_fields
from appliance.protocols.imap.cursor import Cursor, ParseError
from appliance.protocols.imap.fetchitem import Section
from appliance.protocols.imap.names import normal

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

PIECE: Final = 256 * 1024
_URL = re.compile(
    r"(?:imaps?://(?P<user>[^/;@]*)(?:;AUTH=[^/@]*)?@?(?P<host>[^/]*))?"
    r"(?:/(?P<mailbox>[^;]*?))?(?:;UIDVALIDITY=(?P<validity>[1-9][0-9]*))?"
    r"/?;UID=(?P<uid>[1-9][0-9]{0,9})(?:/?;SECTION=(?P<section>[^;]*?))?"
    r"(?:/?;PARTIAL=(?P<offset>[0-9]{1,19})(?:\.(?P<length>[1-9][0-9]{0,18}))?)?",
    re.I,
)


class Reference(NamedTuple):
    """What a URL names. An empty `mailbox` is the selected one, `validity` 0 any."""

    mailbox: str
    validity: int
    uid: int
    section: Section
    offset: int
    length: int


def parsed(url: str, user: str) -> Reference:
    """Raises ValueError for what is no URL of a message, or one of another user."""
    found = _URL.fullmatch(url)
    if found is None or (
        found["user"] and unquote_to_bytes(found["user"]).decode() not in (user, user.partition("@")[0])
    ):
        raise ValueError("not a message of this user")
    mailbox = normal(unquote_to_bytes(found["mailbox"] or ""), utf8=True)
    cursor = Cursor(unquote_to_bytes(found["section"] or ""))
    section = Section.parse(cursor)
    cursor.end()
    return Reference(
        mailbox,
        int(found["validity"] or 0),
        int(found["uid"]),
        section,
        int(found["offset"] or 0),
        int(found["length"] or 1 << 62),
    )


async def contents(session: ImapSession, url: str) -> AsyncIterator[bytes]:
    """The octets that a URL stands for, in pieces. Refused with BADURL (RFC 4469, 3)."""
    code = b"BADURL " + re.sub(rb"[^ -Z^-~\x80-\xfe]", b"?", url.encode("utf-8", "surrogateescape")[:1000])
    try:
        reference = parsed(url, session.user().name)
        if reference.mailbox:
            account, inner = await session.resolve(reference.mailbox)
        elif session.selected is not None:
            account, inner = session.selected.account, session.selected.inner
        else:
            raise ValueError("no mailbox is selected")
        opened = await account.open(inner, write=False)
    except (ValueError, ParseError, Refused, AccountError):
        raise Refused("the URL cannot be followed", code) from None
    try:
        if reference.validity not in (0, opened.uidvalidity):
            raise Refused("the UIDVALIDITY of the URL is another", code)
        async for piece in _pieces(account, opened.view, reference):
            yield piece
    except AccountError:
        raise Refused("the URL cannot be followed", code) from None
    except LookupError:
        raise Refused("there is no such part", code) from None
    finally:
        await account.release(opened.view)


async def _pieces(account: AccountSession, view: int, reference: Reference) -> AsyncIterator[bytes]:
    section = reference.section
    if section.fields:
        size, data = await account.read(view, reference.uid, section.source, 0, PIECE)
        if size < 0:
            raise LookupError
        data = select_fields(data, section.fields, others=section.text.endswith(".NOT"))
        yield data[reference.offset : reference.offset + reference.length]
        return
    offset, left = reference.offset, reference.length
    while left > 0:
        size, data = await account.read(view, reference.uid, section.source, offset, min(PIECE, left))
        if size < 0:
            raise LookupError
        if not data:
            return
        offset += len(data)
        left -= len(data)
        yield data
