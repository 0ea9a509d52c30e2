"""One session of a client that sends mail to us: from the greeting to QUIT, over a Channel and the protocol object.

Invariants:
- A positive reply to a message is given when the message is durable, never before.
- Replies of a batch are collected and go out together when the client has nothing more in the buffer (RFC 2920, 3.2).
- Each command has a time limit as a whole, and so has each 64 KiB of a message, so a client that sends a byte now and then
  is not served for ever (RFC 5321, 4.5.3.2 has the least times).
"""

from __future__ import annotations

import trio

from appliance.formats.addresses import join_address
from appliance.kernel.channel import Channel, ChannelError, ChannelTimeout
from appliance.kernel.log import ALL, Logger
from appliance.kernel.operations import Caller
from appliance.modules.smtp.authenticating import Authentication
from appliance.modules.smtp.intake import Intake
from appliance.modules.smtp.protection.devices import Device
from appliance.modules.smtp.protection.settings import IDLE_LIMIT, MESSAGE_LIMIT
from appliance.modules.smtp.senders import SenderCheck, qualified, temporary
from appliance.modules.smtp.settings import (
    ADVERTISE_8BIT,
    COMMAND_TIMEOUT,
    DATA_TIMEOUT,
    ERROR_LIMIT,
    HOLD_DOMAINS,
    LINE_ENDS,
    RCPT_LIMIT,
    SIZE_LIMIT,
    UNKNOWN_LIMIT,
    WAKEUP_FROM,
    applies,
)
from appliance.modules.smtp.surroundings import Surroundings, Turned
from appliance.protocols.smtp import Reply, SmtpServer, State, ehlo_reply
from appliance.protocols.smtp import events as e
from appliance.router.parsing import is_simple
from appliance.router.route import Purpose, Refused, Route
from appliance.transfer.message import Envelope

_MAX_LOGIN_FAILURES = 5
_COMMANDS = "commands: EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY AUTH STARTTLS ETRN QUIT"

_IDLE = (e.Noop, e.Rset, e.Helo, e.Ehlo, e.Vrfy, e.Expn, e.Help, e.Mail)
_TRAP_CODE = "5.7.0"
_UNKNOWN_NAME = "5.1.1"


class ReceivingSession:
    """`run` is the whole session. `called`: we made the connection and asked for the mail (ATRN); what protects us from
    strangers is not for the host that keeps our mail."""

    __slots__ = (
        "_around",
        "_authentication",
        "_called",
        "_channel",
        "_device",
        "_errors",
        "_idle",
        "_intake",
        "_listed",
        "_log",
        "_looking",
        "_mail",
        "_out",
        "_recipients",
        "_sender",
        "_server",
        "_trapped",
        "_turned",
        "_unknown",
    )

    def __init__(self, around: Surroundings, channel: Channel, log: Logger, *, called: bool = False) -> None:
        self._around = around
        self._called = called
        self._turned: Turned | None = None
        self._channel = channel
        self._log = log
        self._server = SmtpServer(utf8=True)
        self._authentication = Authentication(around, channel)
        self._intake = Intake(around, channel, self._server, log)
        self._sender = SenderCheck(around, channel, called=called)
        self._out = bytearray()
        self._errors = 0
        self._idle = 0
        self._unknown = 0
        #: Who says that the host is blacklisted; None if nobody does. Not known before `_looking` is set.
        self._listed: str | None = None
        self._looking: trio.Event | None = None
        self._device: Device | None = None
        self._mail: e.Mail | None = None
        self._recipients: list[Envelope] = []
        self._trapped = False

    # -- the session --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the greeting to the end. Raises ChannelError when the connection breaks; an unfinished message is gone."""
        guard, channel = self._around.guard, self._channel
        if channel.client or channel.member or self._called or guard.device(channel) is not None:
            await self._talk()
        elif guard.barred(channel):
            await channel.send(Reply(421, self._text("SMTPHarvest"), "4.7.0").render())
        elif not guard.blacklists.active():
            await self._talk()
        else:
            await self._talk_and_look()

    async def _talk_and_look(self) -> None:
        """The lists are asked while the client says who he is; the answer is waited for when mail comes."""
        broken: ChannelError | None = None
        self._looking = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look, self._looking)
            try:
                await self._talk()
            except ChannelError as error:
                broken = error
            nursery.cancel_scope.cancel()
        if broken is not None:
            raise broken

    async def _look(self, done: trio.Event) -> None:
        try:
            found = await self._around.guard.check(self._channel)
            if self._looking is done:
                self._listed = found
        finally:
            done.set()

    async def _looked(self) -> None:
        if self._looking is not None:
            await self._looking.wait()
            self._looking = None

    async def _talk(self) -> None:
        channel = self._channel
        self._intake.host = self._host()
        try:
            await channel.send(Reply(220, self._text("SMTPNormalPrompt", self._around.version, self._host())).render())
            while (event := await self._next()) is not None:
                if isinstance(event, e.DataChunk):
                    await self._intake.write(event.data)
                    continue
                if isinstance(event, e.Bdat):
                    self._chunk(event)
                    continue
                await self._answer(event, await self._reply(event))
                if self._server.state is State.TLS:
                    await self._start_tls()
                elif self._server.state is State.ENDED:
                    break
            await self._flush()
            if self._turned is not None:
                channel.restore(self._server.unused())
                await self._turned(channel)
        finally:
            await self._intake.abandon()

    async def _next(self) -> e.Event | None:
        """The next event; None at the end of the connection or of the client's time."""
        if (event := self._server.next_event()) is None:
            await self._flush()
            self._busy(self._server.in_message)
            settings = self._around.settings
            limit = settings[DATA_TIMEOUT if self._server.in_message else COMMAND_TIMEOUT]
            self._channel.timeout = limit
            deadline = trio.current_time() + limit
            try:
                while event is None:
                    data = await self._channel.receive_before(deadline)
                    if not data:
                        return None
                    self._server.receive(data)
                    event = self._server.next_event()
            except ChannelTimeout:
                self._log.low("the client took more than %g seconds", limit)
                self._channel.send_now(Reply(421, self._text("SMTPTimeout"), "4.4.2").render())
                return None
        self._busy(True)
        if self._log.enabled(ALL):
            self._log.all("inp: %s", repr(event))
        return event

    async def _answer(self, event: e.Event, reply: Reply) -> None:
        """Count what was wrong, and put the reply into the batch."""
        if reply.permanent and not self._channel.member and not self._called:
            reply = await self._punish(event, reply)
        elif isinstance(event, _IDLE):
            reply = self._idled(reply)
        if self._authentication.failures >= _MAX_LOGIN_FAILURES and self._authentication.sender is None:
            reply = Reply(421, self._text("SMTPTooManyErrors"), "4.7.0")
        if self._log.enabled(ALL):
            self._log.all("out: %s", reply)
        self._out += self._server.reply(reply)

    async def _punish(self, event: e.Event, reply: Reply) -> Reply:
        """An error: the reply comes later if there were several, or is the last one."""
        guard, settings, stranger = self._around.guard, self._around.settings, not self._channel.client
        self._errors += 1
        if isinstance(event, e.Rcpt):
            self._unknown += 1
            trial = reply.status == _UNKNOWN_NAME and stranger and self._authentication.sender is None
            trial = trial and self._device is None
            if trial and guard.unknown_recipient(self._channel):
                return Reply(421, self._text("SMTPHarvest"), "4.7.0")
        if self._errors > settings[ERROR_LIMIT] or self._unknown > settings[UNKNOWN_LIMIT]:
            self._log.problem("too many errors")
            return Reply(421, self._text("SMTPTooManyErrors"), "4.7.0")
        if stranger and (delay := guard.delay(self._errors)):
            await self._flush()
            await trio.sleep(delay)
        return reply

    def _idled(self, reply: Reply) -> Reply:
        """A command that does nothing: there is an end to these too."""
        self._idle += 1
        stranger = not (self._channel.client or self._channel.member or self._called)
        if stranger and self._idle > self._around.guard.settings[IDLE_LIMIT]:
            self._log.problem("too many commands without a message")
            return Reply(421, self._text("SMTPTooManyErrors"), "4.7.0")
        return reply

    async def _flush(self) -> None:
        if self._out:
            data = bytes(self._out)
            self._out.clear()
            await self._channel.send(data)

    async def _start_tls(self) -> None:
        await self._flush()
        await self._channel.start_tls()
        self._server.secured()
        self._authentication = Authentication(self._around, self._channel)
        await self._forget()

    def _busy(self, busy: bool) -> None:
        if self._channel.session is not None:
            self._channel.session.busy = busy

    def _text(self, key: str, *values: object) -> str:
        return self._around.strings.text(key, *values)

    def _host(self) -> str:
        return self._channel.domain or self._around.host()

    def _caller(self) -> Caller:
        sender, channel = self._authentication.sender, self._channel
        account = sender.account if sender is not None else None
        domain = account.rpartition("@")[2] if account is not None else self._around.host()
        return Caller(
            account, domain, "SMTP", self._around.authority, channel.peer.address, channel.secure, channel.client
        )

    # -- commands -----------------------------------------------------------------------------------------------------

    async def _reply(self, event: e.Event) -> Reply:
        match event:
            case e.Bad(reply):
                return reply
            case e.Rcpt():
                return await self._rcpt(event)
            case e.Mail():
                return await self._begin(event)
            case e.Data():
                return self._message_refusal() or Reply(354, "enter mail, end with a line with only a dot")
            case e.DataEnd():
                return await self._end(event)
            case e.ChunkEnd():
                return await self._chunk_end(event)
            case e.Helo() | e.Ehlo():
                await self._forget()
                return self._hello(event)
            case e.Auth(method, initial):
                return self._authenticated(await self._authentication.begin(method, initial))
            case e.AuthResponse(line):
                return self._authenticated(await self._authentication.respond(line))
            case e.StartTls():
                return self._tls_reply()
            case e.Rset():
                await self._forget()
                return Reply(250, "OK", "2.0.0")
            case e.Noop():
                return Reply(250, "OK", "2.0.0")
            case e.Vrfy() | e.Expn():
                return Reply(252, "send mail, and it will be tried", "2.5.2")
            case e.Help():
                return Reply(214, _COMMANDS, "2.0.0")
            case e.Quit():
                return Reply(221, self._text("SMTPByeBye"), "2.0.0")
            case e.Etrn():
                return await self._etrn(event)
            case e.Atrn() | e.Turn():
                return await self._turn(event)
            case _:
                return Reply(502, "this command is not supported", "5.5.1")

    def _hello(self, event: e.Helo | e.Ehlo) -> Reply:
        if isinstance(event, e.Helo):
            return Reply(250, f"{self._host()} is pleased to meet you")
        around, channel = self._around, self._channel
        limit = around.settings[SIZE_LIMIT]
        size = f"SIZE {limit}" if limit else "SIZE"
        offers = ["PIPELINING", size, "CHUNKING", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "ETRN"]
        if limits := self._limits():
            offers.append("LIMITS " + limits)
        if applies(around.settings[ADVERTISE_8BIT], channel):
            offers.append("8BITMIME")
        if channel.can_start_tls:
            offers.append("STARTTLS")
        if around.settings[HOLD_DOMAINS]:
            offers.append("ATRN")
        methods = self._authentication.methods()
        if methods and self._authentication.sender is None:
            offers.append("AUTH " + " ".join(methods))
        return ehlo_reply(self._host(), (*offers, "HELP"))

    def _limits(self) -> str:
        """What a client need not try (RFC 9422)."""
        recipients = self._around.settings[RCPT_LIMIT]
        messages = self._around.guard.settings[MESSAGE_LIMIT]
        words = [f"{name}={number}" for name, number in (("RCPTMAX", recipients), ("MAILMAX", messages)) if number]
        return " ".join(words)

    def _tls_reply(self) -> Reply:
        if self._channel.encrypted:
            return Reply(503, "TLS is on already", "5.5.1")
        if not self._channel.can_start_tls:
            return Reply(454, "TLS is not available", "4.7.0")
        return Reply(220, "please start a TLS connection", "2.0.0")

    def _authenticated(self, reply: Reply) -> Reply:
        sender = self._authentication.sender
        if sender is not None:
            self._listed = self._looking = None
            if self._channel.session is not None:
                self._channel.session.account = sender.account
            self._log.low("authenticated as %s", sender.account)
            self._around.statistics.counter("smtp.logins").add()
        elif reply.permanent:
            self._log.problem("authentication failed: %s", reply.text)
        return reply

    async def _etrn(self, event: e.Etrn) -> Reply:
        around = self._around
        if not applies(around.settings[WAKEUP_FROM], self._channel) and self._authentication.sender is None:
            return Reply(459, "you may not start queues here", "4.7.1")
        try:
            route = await around.router.route(f"wakeup@{event.node}", Purpose.WAKEUP, self._caller())
        except Refused as refused:
            return Reply(459, refused.text, "4.7.1")
        if route.module != "SMTP":
            return Reply(459, f"{event.node} is not served by queues", "4.7.1")
        if around.release(route.host):
            self._log.major("queue %s is released by ETRN", route.host)
            return Reply(250, f"queue {event.node} is started", "2.0.0")
        return Reply(251, f"no messages wait for {event.node}", "2.0.0")

    async def _turn(self, event: e.Atrn | e.Turn) -> Reply:
        """ATRN (RFC 2645) and TURN: after a positive reply we are the client on this connection."""
        sender = self._authentication.sender
        domains = event.domains if isinstance(event, e.Atrn) else ()
        account = sender.account if sender is not None else None
        reply, self._turned = await self._around.turn(domains, account, self._caller())
        return reply

    # -- envelope -----------------------------------------------------------------------------------------------------

    async def _forget(self) -> None:
        self._mail = None
        self._recipients = []
        self._trapped = False
        await self._intake.abandon()

    async def _begin(self, event: e.Mail) -> Reply:
        await self._forget()
        await self._looked()
        settings, guard = self._around.settings, self._around.guard
        if guard.session_is_full(self._intake.messages) and not self._called:
            return Reply(421, self._text("SMTPSessionLimit"), "4.5.3")
        limit = settings[SIZE_LIMIT]
        if limit and event.size is not None and event.size > limit:
            return Reply(552, f"message is larger than {limit} octets", "5.3.4")
        self._server.size_limit = limit or 0
        self._server.clean = settings[LINE_ENDS] == "correct"
        known = self._authentication.sender is not None
        self._device = None if known or self._called else guard.device(self._channel)
        if self._listed is None and self._device is None:
            refusal = await self._sender.objection(event, self._server.helo, known=known)
            if refusal is not None:
                self._log.problem("sender %s refused: %s", event.path.address, refusal)
                return refusal
        self._mail = event
        return Reply(250, f"{event.path.address or '<>'} {self._text('SMTPSenderAccepted')}", "2.1.0")

    async def _rcpt(self, event: e.Rcpt) -> Reply:
        around = self._around
        limit = around.settings[RCPT_LIMIT]
        if limit is not None and len(self._recipients) >= limit:
            return Reply(452, self._text("SMTPTooMany"), "4.5.3")
        path = event.path
        address = qualified(self._channel, path.local, path.domain)
        if self._listed is not None:
            local = f"{path.local}%{path.domain}" if path.domain else path.local
            address = join_address(local, "blacklisted")
        try:
            route = await around.router.route(address, Purpose.MAIL, self._caller())
        except Refused as refused:
            return await self._refused(event, address, refused)
        if not await self._may_relay(event, route):
            return self._no_relay(path.address)
        if (cap := await self._cap(route)) is not None:
            return cap
        self._recipients.append(Envelope(address, _notify(event.notify), event.orcpt or "", route))
        return Reply(250, f"{path.address} {self._fate(route)}", "2.1.5")

    async def _may_relay(self, event: e.Rcpt, route: Route) -> bool:
        around, channel, sender = self._around, self._channel, self._authentication.sender
        path = event.path
        simple = is_simple(path.local) and '"' not in path.address
        trusted = self._device is not None if sender is None else sender.relay
        if await around.relaying.allowed(route, channel, trusted=trusted, simple=simple):
            return True
        if channel.client or not around.guard.is_client(channel.peer.address):
            return False
        channel.client = True  # its user has read his mail since the session began
        return await around.relaying.allowed(route, channel, trusted=trusted, simple=simple)

    async def _cap(self, route: Route) -> Reply | None:
        """A device, or an account, has sent as much as it may in an hour."""
        guard, sender = self._around.guard, self._authentication.sender
        if self._device is not None:
            if not guard.device_permits(self._channel, self._device):
                return Reply(450, self._text("SMTPDeviceLimit"), "4.7.1")
        elif sender is not None and route.module == "SMTP" and not await guard.outflow.permits(sender.account):
            return Reply(450, self._text("SMTPAccountLimit"), "4.7.1")
        return None

    def _fate(self, route: Route) -> str:
        return self._text("SMTPWillRelay" if route.module == "SMTP" else "SMTPNonInternet")

    def _no_relay(self, address: str) -> Reply:
        self._log.problem("relaying to %s refused", address)
        if self._sender.local and self._authentication.sender is None:
            # A user of ours on the road: his mailer keeps the message and asks for the password.
            return Reply(450, f"{address} {self._text('SMTPNoRelay')}; {self._text('SMTPAuthFirst')}", "4.7.1")
        return Reply(550, f"{address} {self._text('SMTPNoRelay')}", "5.7.1")

    async def _refused(self, event: e.Rcpt, address: str, refused: Refused) -> Reply:
        shown = event.path.address
        self._log.problem("recipient %s refused: %s", address, refused.text)
        if self._listed is not None:
            return await self._blacklisted(self._listed)
        if refused.code == _TRAP_CODE:
            # The trap is not told: the whole message is refused at its end, for everybody.
            self._trapped = True
            self._recipients.append(Envelope("null"))
            return Reply(250, f"{shown} {self._text('SMTPNonInternet')}", "2.1.5")
        if not refused.permanent:
            return Reply(450, f"{shown} {refused.text}", temporary(refused.code))
        return Reply(550, f"{shown} {refused.text}", refused.code)

    async def _blacklisted(self, by: str) -> Reply:
        """591, with the address of the one who can help if the router knows him (manual, chapter 29)."""
        around = self._around
        peer = self._channel.peer.address + (f" ({by})" if by else "")
        try:
            await around.router.route("blacklist-admin@blacklisted")
        except Refused:
            return Reply(591, self._text("SMTPBlacklisted", peer), "5.7.1")
        return Reply(591, self._text("SMTPBlacklistedAdmin", peer, f"blacklist-admin@{around.host()}"), "5.7.1")

    # -- message ------------------------------------------------------------------------------------------------------

    def _message_refusal(self) -> Reply | None:
        """A message is about to come: why it is not taken."""
        assert self._mail is not None
        if self._trapped:
            self._log.problem("message for a spam trap refused")
            return Reply(550, self._text("SMTPSpamTrap"), "5.7.1")
        return self._intake.begin(self._mail, self._recipients, self._authentication.sender, self._device)

    def _chunk(self, event: e.Bdat) -> None:
        """A chunk comes, whether we want it or not."""
        if event.first and (refusal := self._message_refusal()) is not None:
            self._server.refuse_message(refusal)

    async def _chunk_end(self, event: e.ChunkEnd) -> Reply:
        if event.refusal is not None:
            self._log.problem("message refused: %s", event.refusal)
            await self._forget()
            return event.refusal
        return Reply(250, f"{event.size} octets received", "2.0.0")

    async def _end(self, event: e.DataEnd) -> Reply:
        reply = await self._intake.end(event)
        self._idle = 0
        await self._forget()
        return reply


def _notify(words: tuple[str, ...] | None) -> str:
    return "" if words is None else "".join(word[0] for word in words)


__all__ = ["ReceivingSession"]
