"""APPEND (RFC 3501, 6.3.11; several messages: RFC 3502; APPENDUID: RFC 4315, 3).

A message of up to 256 KiB is collected and stored in one request; larger ones go through the gate in pieces as they come,
and the gate's pace is the client's. All messages of a command are stored, or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from appliance.access.imap.flagging import bits
from appliance.access.imap.session import Ok, Refused
from appliance.access.imap.settings import MAX_APPEND
from appliance.accounts.client import AccountError, AccountSession
from appliance.kernel.channel import ChannelClosed
from appliance.protocols.imap import Bad, Data, Message, MessageEnd
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
    try:
        work = _Appending(*await _target(session, first.name))
    except (Refused, AccountError):
        session.server.refuse()
        raise
    message: Message = first
    try:
        while True:
            await _take(session, work, message)
            event = await session.next_event()
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
    return Ok("APPEND completed", b"APPENDUID %d %b" % (validity, compact(uids)))


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


async def _take(session: ImapSession, work: _Appending, message: Message) -> None:
    """Let one message come."""
    head = message.head
    limit = session.around.settings[MAX_APPEND]
    if limit is not None and head.size > limit:
        raise Refused("the message is too large", b"TOOBIG")
    if not head.size:
        raise Refused("an empty message is not stored")  # RFC 3502, 4: zero takes the command back
    if len(work.ready) >= MAX_MESSAGES:
        raise Refused("too many messages in one command", b"LIMIT")
    flags, keywords = bits(head.flags)
    date, zone = (int(session.around.now()), 0) if head.date is None else head.date
    account = work.account
    stream = head.size > INLINE or work.size + head.size > _COLLECTED
    if stream:
        handle = await account.append_begin(work.name, flags, keywords, date, zone, head.size)
        work.ready.append(handle)
    session.put(session.server.accept_message())
    pieces: list[bytes] = []
    left = head.size
    tail = b""
    while left:
        event = await session.next_event()
        if not isinstance(event, Data):
            raise ChannelClosed("the connection ended within a message")
        left -= len(event.octets)
        tail = event.octets
        if stream:
            await account.append_chunk(handle, event.octets)
        else:
            pieces.append(event.octets)
    if not tail.endswith(b"\n"):  # a stored message ends with a line end (manual, IMAP module)
        if stream:
            await account.append_chunk(handle, b"\r\n")
        else:
            pieces.append(b"\r\n")
    if not stream:
        work.size += head.size
        work.ready.append(_Whole(flags, keywords, date, zone, b"".join(pieces)))
