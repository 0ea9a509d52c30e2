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
from appliance.kernel.channel import Channel, ChannelTimeout
from appliance.kernel.journal import JournalError
from appliance.kernel.log import ALL, Logger
from appliance.kernel.operations import Caller
from appliance.modules.smtp.authenticating import Authentication
from appliance.modules.smtp.received import has_header, missing_header, received_field
from appliance.modules.smtp.settings import (
    ADVERTISE_8BIT,
    COMMAND_TIMEOUT,
    DATA_TIMEOUT,
    ERROR_LIMIT,
    FORCE_AUTH,
    HOLD_DOMAINS,
    LINE_ENDS,
    NON_CLIENTS,
    RCPT_LIMIT,
    SIZE_LIMIT,
    UNKNOWN_LIMIT,
    VERIFY_PATH,
    WAKEUP_FROM,
    applies,
)
from appliance.modules.smtp.surroundings import Surroundings, Turned
from appliance.protocols.smtp import Reply, SmtpServer, State, ehlo_reply
from appliance.protocols.smtp import events as e
from appliance.router.parsing import is_simple
from appliance.router.route import Purpose, Refused, Route
from appliance.transfer.message import Envelope, Source
from appliance.transfer.receiver import Malformed, NoSpace, Submission, TooLarge, TooManyHops

#: Errors after which replies to errors come later and later.
_PATIENCE = 5
_DELAY = 1.0
_MAX_DELAY = 10.0
_MAX_LOGIN_FAILURES = 5

_TRAP_CODE = "5.7.0"
_UNKNOWN_DOMAIN = "5.1.2"


class ReceivingSession:
    """`run` is the whole session. `called`: we made the connection and asked for the mail (ATRN); what protects us from
    strangers is not for the host that keeps our mail."""

    __slots__ = (
        "_around",
        "_authentication",
        "_called",
        "_channel",
        "_errors",
        "_listed",
        "_local_sender",
        "_log",
        "_mail",
        "_messages",
        "_out",
        "_recipients",
        "_server",
        "_submission",
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
        self._out = bytearray()
        self._errors = 0
        self._unknown = 0
        self._messages = 0
        self._listed: str | None = None
        self._submission: Submission | None = None
        self._mail: e.Mail | None = None
        self._recipients: list[Envelope] = []
        self._local_sender = False
        self._trapped = False

    # -- the session --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From the greeting to the end. Raises ChannelError when the connection breaks; an unfinished message is gone."""
        around, channel = self._around, self._channel
        if not (channel.client or channel.member or self._called):
            self._listed = await around.blacklisted(channel.peer.address)
            if self._listed is not None:
                self._log.problem("host %s is blacklisted %s", channel.peer.address, self._listed)
        try:
            await channel.send(
                Reply(220, around.strings.text("SMTPNormalPrompt", around.version, self._host())).render()
            )
            while (event := await self._next()) is not None:
                if isinstance(event, e.DataChunk):
                    await self._write(event.data)
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
            await self._abandon()

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
            self._errors += 1
            if isinstance(event, e.Rcpt):
                self._unknown += 1
            settings = self._around.settings
            if self._errors > settings[ERROR_LIMIT] or self._unknown > settings[UNKNOWN_LIMIT]:
                reply = Reply(421, self._text("SMTPTooManyErrors"), "4.7.0")
                self._log.problem("too many errors")
            elif self._errors > _PATIENCE and not self._channel.client:
                await self._flush()
                await trio.sleep(min(_MAX_DELAY, _DELAY * (self._errors - _PATIENCE)))
        if self._authentication.failures >= _MAX_LOGIN_FAILURES and self._authentication.sender is None:
            reply = Reply(421, self._text("SMTPTooManyErrors"), "4.7.0")
        if self._log.enabled(ALL):
            self._log.all("out: %s", reply)
        self._out += self._server.reply(reply)

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
        self._forget()

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
                return self._data()
            case e.DataEnd():
                return await self._end(event)
            case e.Helo() | e.Ehlo():
                self._forget()
                return self._hello(event)
            case e.Auth(method, initial):
                return self._authenticated(await self._authentication.begin(method, initial))
            case e.AuthResponse(line):
                return self._authenticated(await self._authentication.respond(line))
            case e.StartTls():
                return self._tls_reply()
            case e.Rset():
                self._forget()
                return Reply(250, "OK", "2.0.0")
            case e.Noop():
                return Reply(250, "OK", "2.0.0")
            case e.Vrfy() | e.Expn():
                return Reply(252, "send mail, and it will be tried", "2.5.2")
            case e.Help():
                return Reply(214, "commands: EHLO HELO MAIL RCPT DATA RSET NOOP VRFY AUTH STARTTLS ETRN QUIT", "2.0.0")
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
        offers = ["PIPELINING", f"SIZE {limit}" if limit else "SIZE", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8", "ETRN"]
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

    def _tls_reply(self) -> Reply:
        if self._channel.encrypted:
            return Reply(503, "TLS is on already", "5.5.1")
        if not self._channel.can_start_tls:
            return Reply(454, "TLS is not available", "4.7.0")
        return Reply(220, "please start a TLS connection", "2.0.0")

    def _authenticated(self, reply: Reply) -> Reply:
        sender = self._authentication.sender
        if sender is not None:
            self._listed = None
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

    def _forget(self) -> None:
        self._mail = None
        self._recipients = []
        self._trapped = False

    async def _begin(self, event: e.Mail) -> Reply:
        self._forget()
        settings = self._around.settings
        limit = settings[SIZE_LIMIT]
        if limit and event.size is not None and event.size > limit:
            return Reply(552, f"message is larger than {limit} octets", "5.3.4")
        self._server.size_limit = limit or 0
        self._server.clean = settings[LINE_ENDS] == "correct"
        self._local_sender = False
        if not event.path.is_null and self._listed is None:
            refusal = await self._sender_refusal(event)
            if refusal is not None:
                self._log.problem("sender %s refused: %s", event.path.address, refusal)
                return refusal
        self._mail = event
        return Reply(250, f"{event.path.address or '<>'} {self._text('SMTPSenderAccepted')}", "2.1.0")

    async def _sender_refusal(self, event: e.Mail) -> Reply | None:
        """Why the return-path is not accepted."""
        around, channel, path = self._around, self._channel, event.path
        known = self._authentication.sender is not None
        verify = not (known or channel.member or self._called) and applies(around.settings[VERIFY_PATH], channel)
        if verify and not path.domain:
            return Reply(553, "a return-path needs a domain", "5.1.7")
        try:
            route = await around.router.route(self._qualified(path.local, path.domain), Purpose.RETURN_PATH)
        except Refused as refused:
            if not refused.permanent:
                return Reply(451, refused.text, _temporary(refused.code))
            # A scanner or a phone may call itself what it likes; a name of ours that is nobody's is refused always.
            if refused.code == _UNKNOWN_DOMAIN and not verify:
                return None
            return Reply(550, f"{path.address}: {refused.text}", "5.1.8" if refused.code == "5.1.2" else refused.code)
        self._local_sender = route.module not in ("SMTP", "SYSTEM")
        if self._local_sender and not known and self._must_authenticate():
            return Reply(530, self._text("SMTPForceAuth"), "5.7.0")
        return await around.verifier.objection(route, channel) if verify else None

    def _must_authenticate(self) -> bool:
        """Force AUTH; an address that is a client's for a time only does not help."""
        whom, fixed = self._around.settings[FORCE_AUTH], self._around.fixed_client
        if whom != NON_CLIENTS or fixed is None:
            return applies(whom, self._channel)
        return not fixed(self._channel.peer.address)

    def _qualified(self, local: str, domain: str) -> str:
        """The address; a name without a domain is one of the domain that the local address belongs to."""
        return join_address(local, domain or self._channel.domain or "")

    async def _rcpt(self, event: e.Rcpt) -> Reply:
        around = self._around
        limit = around.settings[RCPT_LIMIT]
        if limit is not None and len(self._recipients) >= limit:
            return Reply(452, self._text("SMTPTooMany"), "4.5.3")
        path = event.path
        address = self._qualified(path.local, path.domain)
        if self._listed is not None:
            local = f"{path.local}%{path.domain}" if path.domain else path.local
            address = join_address(local, "blacklisted")
        try:
            route = await around.router.route(address, Purpose.MAIL, self._caller())
        except Refused as refused:
            return await self._refused(event, address, refused)
        sender = self._authentication.sender
        simple = is_simple(path.local) and '"' not in path.address
        if not await around.relaying.allowed(
            route, self._channel, trusted=sender is not None and sender.relay, simple=simple
        ):
            return self._no_relay(path.address)
        self._recipients.append(Envelope(address, _notify(event.notify), event.orcpt or "", route))
        return Reply(250, f"{path.address} {self._fate(route)}", "2.1.5")

    def _fate(self, route: Route) -> str:
        return self._text("SMTPWillRelay" if route.module == "SMTP" else "SMTPNonInternet")

    def _no_relay(self, address: str) -> Reply:
        self._log.problem("relaying to %s refused", address)
        if self._local_sender and self._authentication.sender is None:
            # A user of ours on the road: his mailer keeps the message and asks for the password.
            return Reply(450, f"{address} {self._text('SMTPNoRelay')}; {self._text('SMTPAuthFirst')}", "4.7.1")
        return Reply(550, f"{address} {self._text('SMTPNoRelay')}", "5.7.1")

    async def _refused(self, event: e.Rcpt, address: str, refused: Refused) -> Reply:
        shown = event.path.address
        self._log.problem("recipient %s refused: %s", address, refused.text)
        if self._listed is not None:
            return await self._blacklisted()
        if refused.code == _TRAP_CODE:
            # The trap is not told: the whole message is refused at its end, for everybody.
            self._trapped = True
            self._recipients.append(Envelope("null"))
            return Reply(250, f"{shown} {self._text('SMTPNonInternet')}", "2.1.5")
        if not refused.permanent:
            return Reply(450, f"{shown} {refused.text}", _temporary(refused.code))
        return Reply(550, f"{shown} {refused.text}", refused.code)

    async def _blacklisted(self) -> Reply:
        """591, with the address of the one who can help if the router knows him (manual, chapter 29)."""
        around = self._around
        peer = self._channel.peer.address + (f" ({self._listed})" if self._listed else "")
        try:
            await around.router.route("blacklist-admin@blacklisted")
        except Refused:
            return Reply(591, self._text("SMTPBlacklisted", peer), "5.7.1")
        return Reply(591, self._text("SMTPBlacklistedAdmin", peer, f"blacklist-admin@{around.host()}"), "5.7.1")

    # -- message ------------------------------------------------------------------------------------------------------

    def _data(self) -> Reply:
        around, channel, mail = self._around, self._channel, self._mail
        assert mail is not None
        if self._trapped:
            self._log.problem("message for a spam trap refused")
            return Reply(550, self._text("SMTPSpamTrap"), "5.7.1")
        sender = self._authentication.sender
        account = sender.account if sender is not None else None
        trusted = account is not None or channel.client
        source = Source("SMTP", channel.peer.address, channel.local.address, account, trusted, channel.client)
        try:
            submission = around.receiver.begin(source)
        except NoSpace:
            return Reply(452, self._text("SMTPNoSpace"), "4.3.1")
        submission.sender = self._qualified(mail.path.local, mail.path.domain) if not mail.path.is_null else ""
        submission.ret = mail.ret.lower()
        submission.envid = mail.envid or ""
        submission.smtputf8 = mail.utf8
        for recipient in self._recipients:
            submission.add(recipient)
        self._submission = submission
        self._messages += 1
        return Reply(354, "enter mail, end with a line with only a dot")

    def _number(self) -> str:
        session = self._channel.session
        return f"{session.number if session is not None else 0}.{self._messages}"

    async def _write(self, piece: bytes) -> None:
        submission = self._submission
        assert submission is not None
        if not submission.size:
            piece = self._trace() + (b"" if has_header(piece) else missing_header(submission.sender)) + piece
        await self._store(submission, piece)

    def _trace(self) -> bytes:
        sender = self._authentication.sender
        return received_field(
            self._channel,
            self._server,
            host=self._host(),
            version=self._around.version,
            number=self._number(),
            account=sender.account if sender is not None else None,
            recipient=self._recipients[0].address if len(self._recipients) == 1 else "",
            clock=self._around.clock,
        )

    async def _store(self, submission: Submission, piece: bytes) -> None:
        try:
            await submission.write(piece)
        except (ValueError, NoSpace, JournalError, OSError) as error:
            self._server.refuse_message(self._refusal(error))

    def _refusal(self, error: Exception) -> Reply:
        """The reply to a message that could not be taken."""
        if isinstance(error, TooLarge):
            return Reply(552, str(error), "5.3.4")
        if isinstance(error, TooManyHops):
            return Reply(554, str(error), "5.4.6")
        if isinstance(error, Malformed):
            return Reply(554, str(error), "5.6.0")
        if isinstance(error, NoSpace):
            return Reply(452, self._text("SMTPNoSpace"), "4.3.1")
        self._log.failure("message cannot be stored: %s", error)
        return Reply(451, self._text("SMTPTrouble"), "4.3.0")

    async def _end(self, event: e.DataEnd) -> Reply:
        submission, statistics = self._submission, self._around.statistics
        assert submission is not None
        try:
            if event.refusal is not None:
                self._log.problem("message refused: %s", event.refusal)
                return event.refusal
            if not submission.size:
                await submission.write(self._trace() + missing_header(submission.sender))
            number = await submission.submit()
        except (ValueError, NoSpace, JournalError, OSError) as error:
            reply = self._refusal(error)
            self._log.problem("message refused: %s", reply)
            return reply
        finally:
            await self._abandon()
            self._forget()
        statistics.counter("smtp.received").add()
        statistics.counter("smtp.received.bytes").add(event.size)
        statistics.counter("smtp.received.recipients").add(len(submission.recipients))
        self._log.low("[%d] received, %d bytes, from <%s>", number, event.size, submission.sender)
        return Reply(250, self._text("SMTPAccepted", number), "2.0.0")

    async def _abandon(self) -> None:
        submission, self._submission = self._submission, None
        if submission is not None:
            await submission.abandon()


def _notify(words: tuple[str, ...] | None) -> str:
    return "" if words is None else "".join(word[0] for word in words)


def _temporary(code: str) -> str:
    return "4" + code[1:]


__all__ = ["ReceivingSession"]
