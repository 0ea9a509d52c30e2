"""APPEND and REPLACE (RFC 3501, 6.3.11; RFC 8508; several messages: RFC 3502; APPENDUID: RFC 4315, 3; messages that are put
together: RFC 4469; binary parts: RFC 3516).

A message of up to 256 KiB is collected and stored in one request; larger ones go through the gate in pieces as they come,
and the gate's pace is the client's. All messages of a command are stored, or none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from appliance.access.imap.downgrading import downgraded
from appliance.access.imap.flagging import bits, may_expunge, may_store
from appliance.access.imap.references import contents
from appliance.access.imap.searching import named
from appliance.access.imap.selected import Selected
from appliance.access.imap.session import Ok, Refused
from appliance.access.imap.settings import MAX_APPEND
from appliance.accounts.client import AccountError, AccountSession, Flag
from appliance.kernel.channel import ChannelClosed
from appliance.protocols.imap import Bad, Data, Event, LiteralWanted, Message, MessageEnd, TextPart, Url, render
from appliance.protocols.imap.commands import Target
from appliance.protocols.imap.sequence import compact

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

#: The gate takes 256 KiB in one request; a line end may have to be added.
INLINE: Final = 256 * 1024 - 2
#: Messages of one command that wait in memory until the last has come.
_COLLECTED: Final = 1024 * 1024
#: Seconds to take back what was begun, all of it inside the process.
_GIVE_UP: Final = 5
MAX_MESSAGES: Final = 100
"""Most messages of one APPEND."""
MAX_BINARY: Final = 16 * 1024 * 1024
"""Largest message with binary parts, which is in memory while they are encoded."""


class _Whole(NamedTuple):
    """A message that waits to be stored in one request."""

    flags: int
    keywords: tuple[str, ...]
    date: int
    zone: int
    data: bytes


class _Appending:
    """The messages of one command: finished ones wait as whole messages or as streams of the gate."""

    __slots__ = ("account", "name", "ready", "size")

    def __init__(self, account: AccountSession, name: str) -> None:
        self.account = account
        self.name = name
        self.ready: list[_Whole | int] = []
        self.size = 0

    async def commit(self) -> tuple[int, list[int]]:
        """Store all, or none. UIDVALIDITY and the UIDs. A stream ends with its commit, whatever comes of it."""
        validity, uids = 0, []
        try:
            while self.ready:
                message = self.ready.pop(0)
                if isinstance(message, _Whole):
                    validity, uid = await self.account.append(self.name, *message)
                else:
                    validity, uid = await self.account.append_commit(message)
                uids.append(uid)
        except AccountError:
            await self._undo(uids)
            raise
        return validity, uids

    async def abort(self) -> None:
        for message in self.ready:
            if isinstance(message, int):
                await self.account.append_abort(message)
        self.ready.clear()

    async def _undo(self, uids: list[int]) -> None:
        if uids:
            opened = await self.account.open(self.name)
            try:
                await self.account.remove(opened.view, uids)
            finally:
                await self.account.release(opened.view)


async def append(session: ImapSession, first: Message) -> Ok:
    """The whole command; a refused message is refused before it is sent, if the client waits."""
    replaced: tuple[Selected, int] | None = None
    try:
        if first.target.replaced is not None:
            replaced = _replaced(session, first.target)
        work = _Appending(*await _target(session, first.target.name))
    except (Refused, AccountError):
        session.server.refuse()
        raise
    message: Message = first
    try:
        while True:
            event = await _take(session, work, message)
            if isinstance(event, MessageEnd) and event.last:
                break
            if isinstance(event, MessageEnd):
                event = await session.next_event()
            if isinstance(event, Bad):
                raise Refused(event.text, event.code, bad=True)
            if not isinstance(event, Message):
                raise ChannelClosed("the connection ended within a message")
            message = event
        validity, uids = await work.commit()
    except BaseException:
        session.server.refuse()
        if work.ready:
            with trio.CancelScope(deadline=trio.current_time() + _GIVE_UP, shield=True):
                await work.abort()
        raise
    session.around.statistics.counter("imap.appended").add(len(uids))
    if session.selected is not None and session.selected.holds(work.account, work.name):
        session.selected.mine.update(uids)
    code = b"APPENDUID %d %b" % (validity, compact(uids))
    if replaced is None:
        return Ok("APPEND completed", code)
    # The code comes before the EXPUNGE of the old message (RFC 8508, 3.5).
    session.put(render.note("replaced", code))
    selected, uid = replaced
    selected.view.vanish(await selected.account.remove(selected.view_number, [uid]))
    return Ok("REPLACE completed", uid=first.target.uid, ask=True)


def _replaced(session: ImapSession, target: Target) -> tuple[Selected, int]:
    """The one message that REPLACE takes away."""
    if session.selected is None:
        raise Refused("no mailbox is selected", bad=True)
    selected, numbers = session.selected, target.replaced
    assert numbers is not None
    if selected.read_only:
        raise Refused("the mailbox is open for reading only", b"NOPERM")
    if not (may_expunge(selected.rights) and may_store(Flag.DELETED, (), selected.rights)):
        raise Refused("you have no right to remove messages here", b"NOPERM")
    uids = named(selected, numbers, uid=target.uid)
    if len(uids) != 1 or selected.view.gone(uids[0]):
        raise Refused("REPLACE is of one message that is there", b"NONEXISTENT")
    return selected, uids[0]


async def _target(session: ImapSession, name: str) -> tuple[AccountSession, str]:
    """Before log-in nothing is taken; a missing mailbox can be made first (TRYCREATE)."""
    account, inner = await session.resolve(name)
    try:
        await account.status(inner)
    except AccountError as error:
        if error.code == "NONEXISTENT":
            raise Refused(error.text, b"TRYCREATE") from None
        if error.code != "NOPERM":  # who may insert need not be able to read
            raise
    return account, inner


async def _take(session: ImapSession, work: _Appending, message: Message) -> Event | None:
    """Let one message come. The event behind it."""
    head = message.head
    limit = session.around.settings[MAX_APPEND]
    if limit is not None and head.size > limit:
        raise Refused("the message is too large", b"TOOBIG")
    if not head.size and not head.parts:
        raise Refused("an empty message is not stored")  # RFC 3502, 4: zero takes the command back
    if head.binary and head.size > MAX_BINARY:
        raise Refused("the message is too large for one with binary parts", b"TOOBIG")
    if head.utf8 and not session.utf8:
        raise Refused("ENABLE UTF8=ACCEPT comes first", bad=True)  # RFC 6855, 4
    if len(work.ready) >= MAX_MESSAGES:
        raise Refused("too many messages in one command", b"LIMIT")
    flags, keywords = bits(head.flags)
    date, zone = (int(session.around.now()), 0) if head.date is None else head.date
    place = (flags, keywords, date, zone)
    if head.parts:
        return await _put_together(session, work, place)
    if head.binary:
        pieces = _octets(session, head.size)
        data = downgraded(b"".join([piece async for piece in pieces]))
        if data is None:
            raise Refused("the message holds octets that are in no part", b"UNKNOWN-CTE")
        await _store(work, place, _once(data), len(data))
    else:
        await _store(work, place, _octets(session, head.size), head.size)
    return await session.next_event()


async def _once(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), INLINE):
        yield data[start : start + INLINE]


async def _octets(session: ImapSession, size: int) -> AsyncIterator[bytes]:
    """The octets of the announced literal as they come."""
    session.put(session.server.accept_message())
    left = size
    while left:
        event = await session.next_event()
        if not isinstance(event, Data):
            raise ChannelClosed("the connection ended within a message")
        left -= len(event.octets)
        yield event.octets


async def _store(
    work: _Appending, place: tuple[int, tuple[str, ...], int, int], octets: AsyncIterator[bytes], size: int
) -> None:
    """A message of known size; it ends with a line end, added if it has none (manual, IMAP module)."""
    account = work.account
    stream = size > INLINE or work.size + size > _COLLECTED
    if stream:
        handle = await account.append_begin(work.name, *place, size)
        work.ready.append(handle)
    pieces: list[bytes] = []
    tail = b""
    async for tail in octets:
        if stream:
            await account.append_chunk(handle, tail)
        else:
            pieces.append(tail)
    if not tail.endswith(b"\n"):
        if stream:
            await account.append_chunk(handle, b"\r\n")
        else:
            pieces.append(b"\r\n")
    if not stream:
        work.size += size
        work.ready.append(_Whole(*place, b"".join(pieces)))


async def _put_together(
    session: ImapSession, work: _Appending, place: tuple[int, tuple[str, ...], int, int]
) -> Event | None:
    """A message from texts and from messages that are here already (RFC 4469)."""
    account = work.account
    limit = session.around.settings[MAX_APPEND]
    handle = await account.append_begin(work.name, *place, 0)
    work.ready.append(handle)
    session.server.accept_message()
    total, tail = 0, b""
    while True:
        event = await session.next_event()
        if isinstance(event, LiteralWanted):
            session.put(session.server.GO_ON)
            continue
        if isinstance(event, TextPart):
            if limit is not None and total + event.size > limit:
                raise Refused("the message is too large", b"TOOBIG")
            octets = _octets(session, event.size)
        elif isinstance(event, Url):
            octets = contents(session, event.url)
        else:
            break
        async for piece in octets:
            total += len(piece)
            if limit is not None and total > limit:
                raise Refused("the message is too large", b"TOOBIG")
            await account.append_chunk(handle, piece)
            tail = piece or tail
    if isinstance(event, MessageEnd):
        if not total:
            raise Refused("an empty message is not stored")
        if not tail.endswith(b"\n"):
            await account.append_chunk(handle, b"\r\n")
    return event
