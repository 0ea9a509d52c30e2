"""One connection to another server: greeting, EHLO, TLS, log-in and transactions, over a Channel and the protocol object.

Time limits are those of RFC 5321, 4.5.3.2, and hold for a whole answer. Every failure that ends the connection is a
Disconnected; refusals are replies.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from appliance.formats.addresses import Path
from appliance.kernel.channel import Channel, ChannelError, ChannelTimeout
from appliance.kernel.log import ALL, Logger
from appliance.protocols.sasl import client_mechanism
from appliance.protocols.smtp import DataWriter, ProtocolError, Reply, SmtpClient

if TYPE_CHECKING:
    import ssl

_COMMAND: Final = 300.0
_DATA: Final = 120.0
_BLOCK: Final = 180.0
_END: Final = 600.0
_TLS: Final = 60.0


class Disconnected(Exception):
    """The connection is of no more use; the text says why."""


class Refused(Exception):
    """The server does not want us: what it answered."""

    def __init__(self, command: str, reply: Reply) -> None:
        super().__init__(f"{command}: {reply}" if command else str(reply))
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Sending:
    """One transaction: the envelope of a message for some recipients. `size` is in octets of the wire form."""

    sender: Path
    recipients: Sequence[tuple[Path, tuple[str, ...] | None, str]]
    """Path, NOTIFY words, ORCPT."""
    size: int = 0
    eight_bit: bool = True
    ret: str = ""
    envid: str = ""
    utf8: bool = False


@dataclass(slots=True)
class Answers:
    """What was said: to MAIL, to each RCPT (None if it was not asked), and to the message (or to DATA, if refused)."""

    mail: Reply
    recipients: list[Reply | None]
    message: Reply | None = None


class Dialogue:
    """Not for two tasks at a time. Close the channel when it is done."""

    __slots__ = ("_channel", "_client", "_dirty", "_log", "in_doubt")

    def __init__(self, channel: Channel, log: Logger) -> None:
        self._channel = channel
        self._client = SmtpClient()
        self._log = log
        self._dirty = False
        self.in_doubt = False
        """A message was sent as a whole and has no answer yet: the other server may have taken it."""

    @property
    def dsn(self) -> bool:
        """The server makes reports itself (RFC 3461)."""
        return "DSN" in self._client.capabilities

    @property
    def utf8(self) -> bool:
        """The server takes addresses in UTF-8 (RFC 6531)."""
        return "SMTPUTF8" in self._client.capabilities

    @property
    def offers_tls(self) -> bool:
        """STARTTLS is offered."""
        return "STARTTLS" in self._client.capabilities

    async def _answer(self, limit: float = _COMMAND) -> Reply:
        """The next answer. Raises Disconnected."""
        client, channel = self._client, self._channel
        greeted = client.greeted
        channel.timeout = limit
        try:
            out = client.data_to_send()
            answer = None if out else client.next_answer()  # most answers of a batch are there already
            if answer is None:
                deadline = trio.current_time() + limit
                while True:
                    if out:
                        await channel.send(out)
                    if (answer := client.next_answer()) is not None:
                        break
                    if out := client.data_to_send():
                        continue
                    data = await channel.receive_before(deadline)
                    if not data:
                        raise Disconnected("the connection was closed by the other server")
                    client.receive(data)
        except ChannelTimeout:
            raise Disconnected(f"no answer within {limit:g} seconds") from None
        except (ChannelError, ProtocolError) as error:
            raise Disconnected(str(error)) from None
        if self._log.enabled(ALL):
            self._log.all("%s: %s", answer.command or "inp", answer.reply)
        if answer.reply.code == 421 or (greeted and not answer.command):
            raise Disconnected(f"the other server says {answer.reply}")
        return answer.reply

    async def greet(self, name: str, *, limit: float = _COMMAND) -> None:
        """Wait for the greeting, say EHLO, or HELO if that is not known. Raises Refused, Disconnected."""
        reply = await self._answer(limit)
        if not reply.positive:
            raise Refused("", reply)
        await self._hello(name)

    async def _hello(self, name: str) -> None:
        self._client.hello(name)
        reply = await self._answer()
        if reply.permanent:
            self._client.hello(name, extended=False)
            reply = await self._answer()
        if not reply.positive:
            raise Refused("EHLO", reply)

    async def start_tls(self, context: ssl.SSLContext, hostname: str, name: str) -> None:
        """STARTTLS, the handshake, and EHLO again. Raises Refused, Disconnected."""
        self._client.start_tls()
        reply = await self._answer()
        if not reply.positive:
            raise Refused("STARTTLS", reply)
        self._channel.timeout = _TLS
        try:
            await self._channel.start_tls(context, server_side=False, hostname=hostname)
        except ChannelError as error:
            raise Disconnected(f"TLS: {error}") from None
        self._client.secured()
        await self._hello(name)

    async def authenticate(self, name: str, password: str, methods: Sequence[str]) -> None:
        """AUTH by the first of the methods that the server knows too; clear passwords only where nobody listens. Raises
        Refused, Disconnected."""
        offered = self._client.capabilities.methods
        usable = [one for one in methods if one in offered and (one == "CRAM-MD5" or self._channel.secure)]
        if not usable:
            raise Disconnected("the server offers no method of authentication that may be used here")
        mechanism = client_mechanism(usable[0], name, password, nonce=secrets.token_hex(12).encode())
        assert mechanism is not None
        self._client.auth(usable[0], mechanism)
        reply = await self._answer()
        if not reply.positive:
            raise Refused("AUTH", reply)

    async def etrn(self, domain: str) -> Reply:
        """Ask for the queue of a domain to be started (RFC 1985). Raises Disconnected."""
        self._client.etrn(domain)
        return await self._answer()

    async def atrn(self, domains: Sequence[str]) -> Reply:
        """Ask for mail over this connection (RFC 2645). After a positive answer the server waits for our greeting. Raises
        Disconnected, also if it does not wait."""
        self._client.atrn(",".join(domains))
        reply = await self._answer()
        if reply.positive and self._client.buffered:
            raise Disconnected("the other server talks out of turn after ATRN")
        return reply

    async def transact(self, sending: Sending, content: AsyncIterable[bytes] | None) -> Answers:
        """One transaction; without content it ends before DATA. Raises Disconnected."""
        client = self._client
        if self._dirty:
            client.rset()
            self._dirty = False
            await self._answer()
        batch = "PIPELINING" in client.capabilities
        self._dirty = True
        client.mail(
            sending.sender,
            size=sending.size,
            eight_bit=sending.eight_bit,
            ret=sending.ret.upper(),
            envid=sending.envid or None,
            utf8=sending.utf8,
        )
        if batch:
            for path, notify, orcpt in sending.recipients:
                client.rcpt(path, notify=notify, orcpt=orcpt or None)
            if content is not None:
                client.data()
        answers = Answers(await self._answer(), [])
        if not batch and not answers.mail.positive:
            answers.recipients = [None] * len(sending.recipients)
            return answers
        for path, notify, orcpt in sending.recipients:
            if not batch:
                client.rcpt(path, notify=notify, orcpt=orcpt or None)
            answers.recipients.append(await self._answer())
        accepted = answers.mail.positive and any(reply is not None and reply.positive for reply in answers.recipients)
        if content is None:
            return answers
        if not batch:
            if not accepted:
                return answers
            client.data()
        reply = await self._answer(_DATA)
        if reply.code == 354 and accepted:
            reply = await self._send(content)
            self._dirty = False
        elif reply.code == 354:
            client.abandon_message()
            await self._answer(_END)
            return answers
        elif reply.positive:
            raise Disconnected(f"a strange answer to DATA: {reply}")
        answers.message = reply
        return answers

    async def _send(self, content: AsyncIterable[bytes]) -> Reply:
        writer, channel = DataWriter(), self._channel
        channel.timeout = _BLOCK
        last = b""
        try:
            async for chunk in content:
                if last:
                    await channel.send(last)
                last = writer.feed(chunk)
            # The final dot goes in one piece with the end of the text: some firewalls lose it otherwise.
            self.in_doubt = True
            await channel.send(last + writer.finish())
        except ChannelError as error:
            raise Disconnected(str(error)) from None
        self._client.message_sent()
        reply = await self._answer(_END)
        self.in_doubt = False
        return reply

    async def quit(self) -> None:
        """QUIT; how it is answered does not matter."""
        self._client.quit()
        try:
            await self._answer(10.0)
        except Disconnected:
            pass

    def leave(self) -> None:
        """QUIT, and close without waiting for anything."""
        self._client.quit()
        self._channel.send_now(self._client.data_to_send())
        self._channel.close()
