"""A session with an IMAP server: greeting, TLS, log-in, one mailbox, its messages by UID, and their removal."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from appliance.kernel.channel import Channel, ChannelError, ChannelTimeout
from appliance.kernel.log import ALL, Logger
from appliance.modules.rpop.mailbox import COMMAND, DRAIN, LOGOUT, Broken, Denied, Item, NotGiven, Sink, patience
from appliance.protocols.imapclient import (
    Body,
    Event,
    Fetched,
    Greeting,
    ImapClient,
    ImapError,
    Tagged,
    Untagged,
    uid_set,
)
from appliance.protocols.sasl import SECURE_METHODS, client_mechanism

if TYPE_CHECKING:
    import ssl

__all__ = ["ImapMailbox"]

_MAX_MESSAGES: Final = 200_000
_DELETED: Final = "\\DELETED"


class ImapMailbox:
    """Over a connected channel; TLS that begins before the greeting is on already. `leave`: nothing will be removed."""

    has_uids = True

    def __init__(self, channel: Channel, log: Logger, mailbox: str, *, leave: bool) -> None:
        self.validity = 0
        self._channel = channel
        self._log = log
        self._mailbox = mailbox
        self._leave = leave
        self._client = ImapClient()
        #: UIDs of FETCH commands whose end has not come. A server may send the next message before it (RFC 3501, 5.5).
        self._asked: deque[int] = deque()
        self._came: set[int] = set()
        self._authenticated = False
        self._exists = 0

    # -- answers ------------------------------------------------------------------------------------------------------

    async def _event(self, deadline: float) -> Event:
        client, channel = self._client, self._channel
        try:
            while True:
                if out := client.data_to_send():
                    await channel.send(out)
                event = client.next_event()
                if event is not None:
                    break
                if out := client.data_to_send():
                    await channel.send(out)
                data = await channel.receive_before(deadline)
                if not data:
                    raise Broken("the connection was closed by the other server")
                client.receive(data)
        except ChannelTimeout:
            raise Broken("the other server takes too long") from None
        except (ChannelError, ImapError) as error:
            raise Broken(str(error)) from None
        if self._log.enabled(ALL) and not isinstance(event, (Body, Fetched)):
            self._log.all("%s", event)
        return event

    async def _done(self, seconds: float = COMMAND) -> Tagged:
        """The end of the command in hand; data on the way is noted."""
        self._channel.timeout = seconds
        deadline = trio.current_time() + seconds
        while True:
            event = await self._event(deadline)
            if isinstance(event, Tagged):
                return event
            self._note(event)

    def _note(self, event: Event) -> None:
        if isinstance(event, Untagged):
            if event.name == "EXISTS":
                self._exists = event.number
            elif event.name == "OK" and event.code == "UIDVALIDITY" and event.value.isdigit():
                self.validity = int(event.value)
            elif event.name == "BYE":
                raise Broken(f"the server says {event.text}")

    # -- opening ------------------------------------------------------------------------------------------------------

    async def greet(self) -> None:
        """The greeting and the capabilities. Raises Denied."""
        self._channel.timeout = COMMAND
        event = await self._event(trio.current_time() + COMMAND)
        if not isinstance(event, Greeting) or event.kind == "BYE":
            raise Denied(f"the server says {event.text}" if isinstance(event, Greeting) else "no greeting")
        self._authenticated = event.kind == "PREAUTH"
        if not self._client.capabilities:
            await self._ask_capabilities()

    async def _ask_capabilities(self) -> None:
        self._client.capability()
        await self._done()

    @property
    def offers_tls(self) -> bool:
        return "STARTTLS" in self._client.capabilities

    async def start_tls(self, context: ssl.SSLContext, hostname: str) -> None:
        """STARTTLS and the handshake."""
        self._client.start_tls()
        answer = await self._done()
        if not answer.positive:
            raise Broken(f"STARTTLS: {answer.text}")
        self._channel.timeout = 60.0
        try:
            await self._channel.start_tls(context, server_side=False, hostname=hostname)
        except ChannelError as error:
            raise Broken(f"TLS: {error}") from None
        self._client.secured()
        await self._ask_capabilities()

    async def log_in(self, name: str, password: str, *, apop: bool) -> None:
        """By a method that sends no password if `apop` asks for one and there is one; else LOGIN, or AUTHENTICATE PLAIN.

        Raises Denied.
        """
        if self._authenticated:
            return
        client = self._client
        offered = client.capabilities
        strong = [one for one in SECURE_METHODS if f"AUTH={one}" in offered]
        try:
            if apop and strong:
                method = strong[0]
            elif "LOGINDISABLED" not in offered:
                method = "LOGIN command"
                client.login(name, password)
            elif "AUTH=PLAIN" in offered and self._channel.secure:
                method = "PLAIN"
            else:
                raise Denied("the server takes no password on this connection: TLS is needed")
            if method != "LOGIN command":
                mechanism = client_mechanism(method, name, password, nonce=secrets.token_hex(12).encode())
                assert mechanism is not None
                client.authenticate(method, mechanism)
        except ValueError as error:
            raise Denied(str(error)) from None
        answer = await self._done()
        if not answer.positive:
            raise Denied(f"{answer.command}: {answer.text}")
        if not client.capabilities & {"UIDPLUS"}:
            await self._ask_capabilities()  # some tell it only behind the log-in

    # -- the mailbox --------------------------------------------------------------------------------------------------

    async def listing(self) -> Sequence[Item]:
        """SELECT and a look at all UIDs, sizes and flags. Raises Denied."""
        self._client.select(self._mailbox, readonly=self._leave)
        answer = await self._done()
        if not answer.positive:
            raise Denied(f"{self._mailbox}: {answer.text}")
        if not self.validity:
            raise Denied(f"{self._mailbox}: the server gives no UIDVALIDITY")
        if not self._exists:
            return []
        self._client.survey()
        found: dict[int, Item] = {}
        deadline = trio.current_time() + COMMAND
        while not isinstance(event := await self._event(deadline), Tagged):
            if isinstance(event, Fetched):
                # Flags alone are news of a message, perhaps of one that is known already.
                known = event.uid in found and not event.size
                if event.uid and event.flags is not None and not known and len(found) < _MAX_MESSAGES:
                    deleted = _DELETED in event.flags
                    found[event.uid] = Item(f"{self.validity}/{event.uid}", event.uid, event.size, deleted)
            else:
                self._note(event)
            if len(found) % 500 == 499:
                await trio.lowlevel.checkpoint()
        if not event.positive:
            raise Denied(f"{self._mailbox}: {event.text}")
        return [found[uid] for uid in sorted(found)]

    async def fetch(self, item: Item, sink: Sink, following: Item | None) -> None:
        """UID FETCH; the one that follows is asked for meanwhile."""
        self._ask(item)
        if following is not None:
            self._ask(following)
        deadline = trio.current_time() + patience(item.size)
        received = 0
        while True:
            event = await self._event(deadline)
            if isinstance(event, Body):
                received += len(event.data)
                await sink.take(event.data)
                if not sink.wanted and (item.size - received > DRAIN or received > 2 * item.size + DRAIN):
                    raise Broken("the rest of a message that is not wanted is not read")
            elif isinstance(event, Tagged):
                if self._ended() == item.number:
                    raise NotGiven(event.text if not event.positive else "the message is gone")
            elif isinstance(event, Fetched):
                if event.body and event.uid != item.number:
                    raise Broken("the server sent another message than the one that was asked for")
                if event.body:
                    self._came.add(item.number)
                    return
            else:
                self._note(event)

    def _ended(self) -> int:
        """A FETCH has ended: the UID that has not come by it, or 0."""
        uid = self._asked.popleft() if self._asked else 0
        if uid in self._came:
            self._came.discard(uid)
            return 0
        return uid

    def _ask(self, item: Item) -> None:
        if item.number not in self._asked:
            self._client.fetch(item.number)
            self._asked.append(item.number)

    async def remove(self, items: Sequence[Item]) -> bool:
        """\\Deleted and UID EXPUNGE. Without UIDPLUS, EXPUNGE only if nobody else has marked anything."""
        await self._drain()
        client = self._client
        for uids in uid_set(item.number for item in items):
            client.mark_deleted(uids)
            answer = await self._done()
            if not answer.positive:
                raise Broken(f"STORE: {answer.text}")
        if "UIDPLUS" in client.capabilities:
            for uids in uid_set(item.number for item in items):
                client.expunge(uids)
                answer = await self._done()
                if not answer.positive:
                    raise Broken(f"UID EXPUNGE: {answer.text}")
            return True
        mine = {item.number for item in items}
        others = await self._marked_by_others(mine)
        if others:
            self._log.problem("%d messages that others have marked as deleted are in the way of EXPUNGE", len(others))
            return True
        client.expunge()
        answer = await self._done()
        if not answer.positive:
            raise Broken(f"EXPUNGE: {answer.text}")
        return True

    async def _marked_by_others(self, mine: set[int]) -> set[int]:
        self._client.survey()
        others: set[int] = set()
        deadline = trio.current_time() + COMMAND
        while not isinstance(event := await self._event(deadline), Tagged):
            if isinstance(event, Fetched) and _DELETED in (event.flags or ()) and event.uid not in mine:
                others.add(event.uid)
        return others

    async def _drain(self) -> None:
        """Messages that were asked for in advance and are not wanted."""
        deadline = trio.current_time() + patience(0)
        while self._asked:
            if isinstance(await self._event(deadline), Tagged):
                self._ended()

    async def close(self) -> bool:
        """LOGOUT."""
        if self._asked:
            await self._drain()
        self._client.logout()
        self._channel.timeout = LOGOUT
        deadline = trio.current_time() + LOGOUT
        while not isinstance(event := await self._event(deadline), Tagged):
            pass
        return event.positive
