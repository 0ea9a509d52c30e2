"""A session with a POP3 server: greeting, TLS, log-in, listing, messages, and the QUIT that removes what was marked.

Time limits hold for a whole answer, so that a server that drips does not hold a channel for ever.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from appliance.kernel.channel import Channel, ChannelError, ChannelTimeout
from appliance.kernel.log import ALL, Logger
from appliance.modules.rpop.mailbox import COMMAND, DRAIN, LOGOUT, Broken, Denied, Item, NotGiven, Sink, patience
from appliance.modules.rpop.memory import plain_uid
from appliance.protocols.popclient import Answer, Event, Lines, Piece, PopClient, PopError, numbered, size_of
from appliance.protocols.sasl import CLEAR_METHODS, SECURE_METHODS, client_mechanism

if TYPE_CHECKING:
    import ssl

__all__ = ["PopMailbox"]

_MAX_MESSAGES: Final = 100_000


class PopMailbox:
    """Over a connected channel; TLS that begins before the greeting is on already."""

    def __init__(self, channel: Channel, log: Logger) -> None:
        self.has_uids = False
        self._channel = channel
        self._log = log
        self._client = PopClient()
        self._asked: deque[int] = deque()
        self._marked = False

    @property
    def validity(self) -> int:
        return 0

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
        except (ChannelError, PopError) as error:
            raise Broken(str(error)) from None
        if isinstance(event, Answer) and self._log.enabled(ALL):
            said = f"{event.command} {event.argument}".strip() or "inp"
            self._log.all("%s: %s%s", said, "+OK " if event.positive else "-ERR ", event.text)
        return event

    async def _answer(self, seconds: float = COMMAND) -> Answer:
        """The next status."""
        self._channel.timeout = seconds
        event = await self._event(trio.current_time() + seconds)
        if not isinstance(event, Answer):
            raise Broken("lines that nobody asked for")
        return event

    async def _lines(self, seconds: float = COMMAND) -> list[bytes]:
        """The lines behind a positive status."""
        found: list[bytes] = []
        deadline = trio.current_time() + seconds
        while True:
            event = await self._event(deadline)
            if not isinstance(event, Lines):
                raise Broken("an answer within a listing")
            found += event.lines
            if event.last:
                return found
            await trio.lowlevel.checkpoint()

    # -- opening ------------------------------------------------------------------------------------------------------

    async def greet(self) -> None:
        """The greeting and the capabilities. Raises Denied."""
        answer = await self._answer()
        if not answer.positive:
            raise Denied(f"the server says {answer}")
        await self._ask_capabilities()

    async def _ask_capabilities(self) -> None:
        self._client.capa()
        if (await self._answer()).positive:
            await self._lines()

    @property
    def offers_tls(self) -> bool:
        return "STLS" in self._client.capabilities

    async def start_tls(self, context: ssl.SSLContext, hostname: str) -> None:
        """STLS and the handshake."""
        self._client.stls()
        answer = await self._answer()
        if not answer.positive:
            raise Broken(f"STLS: {answer}")
        self._channel.timeout = 60.0
        try:
            await self._channel.start_tls(context, server_side=False, hostname=hostname)
        except ChannelError as error:
            raise Broken(f"TLS: {error}") from None
        self._client.secured()
        await self._ask_capabilities()

    async def log_in(self, name: str, password: str, *, apop: bool) -> None:
        """APOP where it is wanted and possible; else USER and PASS, or AUTH where the server has nothing else. Raises Denied."""
        client = self._client
        methods = client.capabilities.methods
        strong = [one for one in SECURE_METHODS if one in methods]
        try:
            if apop and client.stamp:
                client.apop(name, password)
                answer = await self._answer()
            elif apop and strong:
                answer = await self._auth(strong[0], name, password)
            elif client.capabilities and "USER" not in client.capabilities and methods:
                usable = [one for one in (*CLEAR_METHODS, *strong) if one in methods]
                if not usable:
                    raise Denied("the server offers no way to log in that is known here")
                answer = await self._auth(usable[0], name, password)
            else:
                client.user(name)
                answer = await self._answer()
                if answer.positive:
                    client.password(password)
                    answer = await self._answer()
        except ValueError as error:
            raise Denied(str(error)) from None
        if not answer.positive:
            code = f" [{answer.code}]" if answer.code and answer.code not in answer.text else ""
            raise Denied(f"{answer.command}: {answer}{code}")

    async def _auth(self, method: str, name: str, password: str) -> Answer:
        mechanism = client_mechanism(method, name, password, nonce=secrets.token_hex(12).encode())
        assert mechanism is not None
        self._client.auth(method, mechanism)
        return await self._answer()

    # -- the mailbox --------------------------------------------------------------------------------------------------

    async def listing(self) -> Sequence[Item]:
        """LIST and UIDL. UIDs that are there twice tell nothing, so they count as none. Raises Denied."""
        client = self._client
        client.list()
        answer = await self._answer()
        if not answer.positive:
            raise Denied(f"LIST: {answer}")
        sizes = await self._numbered()
        if len(sizes) > _MAX_MESSAGES:
            # The oldest are taken; the others come when those are gone, or seen.
            sizes = dict(list(sizes.items())[:_MAX_MESSAGES])
        uids: dict[int, bytes] = {}
        if sizes:
            client.uidl()
            answer = await self._answer()
            if answer.positive:
                uids = await self._numbered()
        found = {number: plain_uid(uid) for number, uid in uids.items() if uid and number in sizes}
        repeated = [uid for uid, count in Counter(found.values()).items() if count > 1]
        if repeated:
            self._log.problem("the server gives the same UID to several messages: %s", repeated[0])
        self.has_uids = not repeated and len(found) == len(sizes)
        if not self.has_uids:
            found = {}
        return [Item(found.get(number, ""), number, size_of(rest)) for number, rest in sizes.items()]

    async def _numbered(self) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for place, line in enumerate(await self._lines()):
            parsed = numbered(line)
            if parsed is not None and parsed[0]:
                found.setdefault(*parsed)
            if place % 500 == 499:
                await trio.lowlevel.checkpoint()
        return found

    async def fetch(self, item: Item, sink: Sink, following: Item | None) -> None:
        """RETR; the one that follows is asked for meanwhile if the server takes commands in advance."""
        self._ask(item)
        if following is not None and "PIPELINING" in self._client.capabilities:
            self._ask(following)
        answer = await self._answer()
        if answer.command != "RETR" or answer.argument != str(item.number):
            raise Broken(f"an answer to {answer.command} where the message was expected")
        self._asked.popleft()
        if not answer.positive:
            raise NotGiven(str(answer))
        await self._pieces(item.size, sink)

    def _ask(self, item: Item) -> None:
        if item.number not in self._asked:
            self._client.retrieve(item.number)
            self._asked.append(item.number)

    async def _pieces(self, size: int, sink: Sink) -> None:
        deadline = trio.current_time() + patience(size)
        received = 0
        while True:
            event = await self._event(deadline)
            if not isinstance(event, Piece):
                raise Broken("an answer within a message")
            received += len(event.data)
            await sink.take(event.data)
            if event.last:
                return
            if not sink.wanted and (size - received > DRAIN or received > 2 * size + DRAIN):
                raise Broken("the rest of a message that is not wanted is not read")

    async def remove(self, items: Sequence[Item]) -> bool:
        """DELE: a mark that QUIT carries out."""
        await self._drain()
        batch = 200 if "PIPELINING" in self._client.capabilities else 1
        for start in range(0, len(items), batch):
            part = items[start : start + batch]
            for item in part:
                self._client.delete(item.number)
            for _ in part:
                answer = await self._answer()
                if not answer.positive:
                    self._log.problem("DELE %s: %s", answer.argument, answer)
        return False

    async def _drain(self) -> None:
        """Messages that were asked for in advance and are not wanted."""
        while self._asked:
            self._asked.popleft()
            if (await self._answer()).positive:
                await self._pieces(0, _Nowhere())

    async def close(self) -> bool:
        """QUIT; only a positive answer says that what was marked is gone (RFC 1939, 6)."""
        if self._asked:
            await self._drain()
        self._client.quit()
        return (await self._answer(LOGOUT)).positive


class _Nowhere:
    wanted = True

    async def take(self, data: bytes) -> None:
        del data
