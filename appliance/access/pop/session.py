"""One POP session: the dialogue from the greeting to QUIT, over a Channel, the protocol object and the account gate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import trio

from appliance.access.pop.gate import Login, LoginRefused, Surroundings
from appliance.access.pop.maildrop import Maildrop, NoSuchMessage
from appliance.access.pop.settings import CLEAR_LOGIN, IDLE_TIMEOUT, UNIQUE_IDS
from appliance.access.pop.submission import Rejected, take_message
from appliance.accounts.client import AccountError, AccountSession
from appliance.accounts.shared import resolved
from appliance.kernel.channel import Channel
from appliance.kernel.log import Logger
from appliance.kernel.notices import Subscription
from appliance.protocols import pop, sasl
from appliance.protocols.lines import Apop, Auth, Pass, Response, Stls, User
from appliance.protocols.pop import DotStuffer, PopServer, State, TopCutter
from appliance.transfer.message import Source

SERVICE = "POP"
#: A guesser starts a new connection after so many, and meets the listener's limits there.
MAX_FAILURES = 5
MAX_WRONG = 50
"""Wrong commands of somebody who has not logged in, until he is disconnected."""
_FLUSH = 64 * 1024
#: Seconds to give the views back inside the process at the end; no wait for the network is among it.
_GIVE_BACK = 5


class _BrokenOff(Exception):
    """The client has left in the middle of its message."""


class PopSession:
    """Replies are collected and go out when the client has nothing more in the buffer (RFC 2449, 6.6, PIPELINING)."""

    __slots__ = (
        "_around",
        "_channel",
        "_drop",
        "_failures",
        "_foreign",
        "_log",
        "_login",
        "_messages",
        "_news",
        "_out",
        "_over",
        "_server",
        "_stamp",
        "_wrong",
    )

    def __init__(self, around: Surroundings, channel: Channel, log: Logger) -> None:
        self._around = around
        self._channel = channel
        self._log = log
        self._server = PopServer()
        self._stamp = f"<{around.unique()}@{around.host()}>"
        self._out = bytearray()
        self._login: Login | None = None
        self._drop: Maildrop | None = None
        self._foreign: AccountSession | None = None
        self._news: Subscription | None = None
        self._messages = around.statistics.counter("pop.messages")
        self._failures = 0
        self._wrong = 0
        self._over = False

    async def run(self) -> None:
        """The whole session. Raises ChannelError when the connection breaks; messages marked are then kept."""
        self._channel.timeout = self._around.settings[IDLE_TIMEOUT]
        prompt = self._around.strings.text("POPPrompt", self._around.version)
        self._put(pop.ok(f"{prompt} {self._stamp}"))
        try:
            while not self._over:
                event = await self._next()
                if event is None:
                    return
                self._busy(True)
                await self._handle(event)
            await self._flush()
        finally:
            if self._news is not None:
                self._news.close()
            if self._login is not None:
                await self._give_back(self._login.session)

    # -- wire ---------------------------------------------------------------------------------------------------------

    async def _next(self) -> pop.Event | None:
        channel, deadline = self._channel, trio.current_time() + self._channel.timeout
        while (event := self._server.next_event()) is None:
            await self._flush()
            self._busy(False)
            # A stranger has its time for a whole command: dripping bytes do not hold a channel.
            data = await (channel.receive_before(deadline) if self._login is None else channel.receive())
            if not data:
                return None
            self._server.receive(data)
        if self._log.enabled(5):
            self._log.all("inp: %s", repr(event))
        return event

    def _put(self, data: bytes) -> None:
        if self._log.enabled(5):
            self._log.all("out: %s", data[:120].partition(b"\r\n")[0])
        self._out += data

    async def _flush(self) -> None:
        if self._drop is not None:
            await self._drop.settle()
        if self._out:
            data, self._out = self._out, bytearray()
            await self._channel.send(data)

    def _count(self, name: str, amount: int = 1) -> None:
        self._around.statistics.counter("pop." + name).add(amount)

    def _busy(self, busy: bool) -> None:
        if self._channel.session is not None:
            self._channel.session.busy = busy

    def _error(self, text: str, code: str = "") -> None:
        self._put(pop.error(text, code))

    # -- commands -----------------------------------------------------------------------------------------------------

    async def _handle(self, event: pop.Event) -> None:
        try:
            match event:
                case pop.Retr(number) if self._drop is not None:  # first, because there are many
                    await self._retrieve(self._drop, number, None)
                case pop.Bad(text):
                    self._wrong += self._drop is None
                    self._over = self._over or self._wrong > MAX_WRONG
                    self._error(self._around.strings.text("POPTooManyErrors") if self._over else text)
                case pop.Noop():
                    self._put(pop.ok())
                case pop.Capa():
                    self._put(pop.listing("capabilities follow", self._capabilities()))
                case pop.Quit(update):
                    await self._quit(update)
                case _ if self._drop is None:
                    await self._log_in(event)
                case _:
                    await self._transaction(self._drop, event)
        except AccountError as error:
            self._log.problem("account request failed: %s %s", error.code, error.text)
            if error.code == "CLOSED":
                self._over = True
            self._error(error.text, "SYS/TEMP")
        except NoSuchMessage as error:
            self._error(str(error))

    def _capabilities(self) -> list[bytes]:
        lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER"]
        if self._server.state is State.AUTHORIZATION:
            if self._clear_allowed():
                lines.append("USER")
            if self._channel.can_start_tls:
                lines.append("STLS")
        if methods := self._methods():
            lines.append("SASL " + " ".join(methods))
        if self._server.state is State.TRANSACTION:
            lines.append("IMPLEMENTATION Pillarbox-" + self._around.version)
        return [line.encode("ascii") for line in lines]

    # -- log-in -------------------------------------------------------------------------------------------------------

    def _clear_allowed(self) -> bool:
        return self._channel.secure or self._channel.client or self._around.settings[CLEAR_LOGIN]

    def _methods(self) -> list[str]:
        """The methods worth offering here and now, strongest first."""
        secure = sasl.SECURE_METHODS if self._around.digests() else ("SCRAM-SHA-256",)
        if not self._around.advertise_secure():
            return list(sasl.CLEAR_METHODS) if self._clear_allowed() else []
        return [*secure, *(sasl.CLEAR_METHODS if self._clear_allowed() else ())]

    async def _log_in(self, event: pop.Event) -> None:
        logins, channel = self._around.logins, self._channel
        try:
            match event:
                case pop.AuthList():
                    self._put(pop.listing("", [method.encode("ascii") for method in self._methods()]))
                case Stls():
                    await self._start_tls()
                case User():
                    # A client that would send its password next is stopped before it does.
                    if self._clear_allowed():
                        self._put(b"+OK, " + self._around.strings.wire("POPSendPassword") + b"\r\n")
                    else:
                        self._error(self._around.strings.text("POPSecureOnly"), "AUTH")
                case Pass(name, password):
                    if not self._clear_allowed():
                        self._error(self._around.strings.text("POPSecureOnly"), "AUTH")
                        return
                    await self._granted(await logins.password(name, password, SERVICE, channel))
                case Apop(name, digest):
                    proof = sasl.apop_proof(self._stamp.encode("utf-8"), digest)
                    await self._granted(await logins.proven(sasl.Done(name, "", proof), SERVICE, channel))
                case Auth(method, initial):
                    await self._authenticate(method, initial)
                case _:
                    self._error("command is not valid now")
        except LoginRefused as error:
            self._refused(error.text, error.temporary)
        except sasl.SaslError as error:
            self._error(str(error))

    def _refused(self, text: str, temporary: bool) -> None:
        self._failures += 1
        self._count("failures")
        self._error(text, "SYS/TEMP" if temporary else "AUTH")
        if self._failures >= MAX_FAILURES:
            self._over = True

    async def _authenticate(self, method: str, initial: bytes | None) -> None:
        mechanism = sasl.server_mechanism(
            method, challenge=self._stamp.encode("utf-8"), nonce=self._around.unique().encode("ascii")
        )
        if mechanism is None:
            self._error("the authentication method is not supported")
            return
        if method in sasl.CLEAR_METHODS and not self._clear_allowed():
            self._error(self._around.strings.text("POPSecureOnly"), "AUTH")
            return
        name = ""
        step = mechanism.step(initial)
        while not isinstance(step, sasl.Done):
            if isinstance(step, sasl.Lookup):
                name = step.authcid
                step = mechanism.keys(await self._around.logins.keys(step.authcid, step.method, self._channel))
                continue
            self._out += pop.challenge(sasl.encode(step.data))
            self._server.challenge_sent()
            event = await self._next()
            if event is None:
                self._over = True
                return
            if not isinstance(event, Response):
                raise sasl.SaslMalformed(event.text if isinstance(event, pop.Bad) else "no response")
            try:
                step = mechanism.step(sasl.decode(event.line))
            except sasl.SaslRefused:
                await self._around.logins.refuse(name, SERVICE, self._channel)
                raise
        await self._granted(await self._around.logins.proven(step, SERVICE, self._channel))

    async def _granted(self, login: Login) -> None:
        """The password was right: alerts first, then the mailbox, then the positive reply."""
        account = login.session
        try:
            if alert := await self._alert(login):
                self._error(self._around.strings.text("POPAlert", alert))
                await account.aclose()
                return
            holder, mailbox = await self._holder(account, login.mailbox or "INBOX")
            news = self._news = self._around.notices.subscribe(("mailbox", holder.name, mailbox))
            self._drop = await Maildrop.open(
                holder, mailbox, login.detail, self._around.recipients_field(), changed=lambda: bool(news.take())
            )
        except AccountError as error:
            await self._give_back(account)
            temporary = error.code in ("TEMPORARY", "CLOSED", "INUSE", "LIMIT")
            self._error(self._around.strings.text("POPNoMailbox", error.text), "SYS/TEMP" if temporary else "SYS/PERM")
            return
        except BaseException:
            await self._give_back(account)
            raise
        self._login = login
        self._server.logged_in()
        self._count("logins")
        if self._channel.session is not None:
            self._channel.session.account = account.name
        count, octets = self._drop.total()
        self._log.major("%s logged in from [%s], %d message(s)", account.name, self._channel.peer.address, count)
        self._put(pop.ok(self._around.strings.text("POPMessages", str(count), str(octets))))

    async def _holder(self, account: AccountSession, name: str) -> tuple[AccountSession, str]:
        """The account that has the mailbox, opened, and the mailbox's name there: `~boss/INBOX` and mailbox aliases are
        mailboxes of others (manual, Accessing Additional Mailboxes). AccountError."""
        owner, mailbox = resolved(await account.aliases(), name)
        if not owner:
            return account, mailbox
        if self._around.foreign is None:
            raise AccountError("NONEXISTENT", "there are no mailboxes of others here")
        self._foreign = await self._around.foreign(account, owner)
        return self._foreign, mailbox or "INBOX"

    async def _give_back(self, account: AccountSession) -> None:
        foreign, self._foreign = self._foreign, None
        with trio.CancelScope(deadline=trio.current_time() + _GIVE_BACK, shield=True):
            if foreign is not None:
                await foreign.aclose()
            await account.aclose()

    async def _alert(self, login: Login) -> str:
        """The next alert that the user has to see: one for each attempt (manual, Notification Alerts)."""
        try:
            return "".join(await login.session.alerts(most=1))
        except AccountError as error:
            self._log.problem("alerts cannot be read: %s", error.text)
            return ""

    async def _start_tls(self) -> None:
        if self._channel.encrypted:
            self._error("TLS is on already")
        elif not self._channel.can_start_tls:
            self._error("TLS is not available here")
        else:
            self._put(pop.ok("begin TLS"))
            await self._flush()
            await self._channel.start_tls()
            self._server.secured()

    # -- the maildrop -------------------------------------------------------------------------------------------------

    async def _transaction(self, drop: Maildrop, event: pop.Event) -> None:
        match event:
            case pop.Stat():
                await drop.refresh()
                count, octets = drop.total()
                self._put(pop.ok(f"{count} {octets}"))
            case pop.List(number):
                await drop.refresh()
                await self._list(drop, number, lambda n: str(drop.size(n)))
            case pop.Uidl(number):
                prefix = f"{drop.uidvalidity}-" if self._around.settings[UNIQUE_IDS] != "UID" else ""
                await self._list(drop, number, lambda n: f"{prefix}{drop.uid(n)}")
            case pop.Top(number, lines):
                await self._retrieve(drop, number, lines)
            case pop.Dele(number):
                drop.check(number)
                if drop.may_delete:
                    drop.marked.add(number)
                    drop.last = max(drop.last, number)
                    self._put(pop.ok())
                else:
                    self._error(self._around.strings.text("POPNoDelete"))
            case pop.Rset():
                drop.marked.clear()
                drop.last = 0
                self._put(pop.ok())
            case pop.Last():
                self._put(pop.ok(str(drop.last)))
            case pop.Xmit():
                await self._submit()
            case _:
                self._error("command is not valid now")

    async def _list(self, drop: Maildrop, number: int | None, value: Callable[[int], str]) -> None:
        if number is not None:
            drop.check(number)
            self._put(pop.ok(f"{number} {value(number)}"))
            return
        self._put(pop.ok())
        for one in drop.numbers():
            self._out += f"{one} {value(one)}\r\n".encode("ascii")
            if len(self._out) >= _FLUSH:
                await self._flush()
        self._out += b".\r\n"

    async def _retrieve(self, drop: Maildrop, number: int, lines: int | None) -> None:
        """RETR, or TOP with that many lines of the body. What fails before the first piece is an -ERR."""
        drop.check(number)
        drop.last = max(drop.last, number)
        stuffer = DotStuffer()
        text = await drop.text(number) if lines is None else None
        if text is not None:
            drop.shown(number)
            self._messages.add()
            self._put(b"+OK %d octets\r\n" % drop.size(number))
            self._out += stuffer.feed(text)
            self._out += stuffer.finish()
            if len(self._out) >= _FLUSH:
                await self._flush()
            return
        cutter = None if lines is None else TopCutter(lines)
        begun = False
        async with aclosing(drop.content(number, whole=cutter is None)) as pieces:
            try:
                async for piece in pieces:
                    if not begun:
                        begun = True
                        self._put(pop.ok(f"{drop.size(number)} octets" if cutter is None else ""))
                    self._out += stuffer.feed(piece if cutter is None else cutter.feed(piece))
                    if len(self._out) >= _FLUSH:
                        await self._flush()
                    if cutter is not None and cutter.done:
                        break
            except (AccountError, NoSuchMessage) as error:
                if not begun:
                    raise
                # The client has a part of the message: only a broken connection tells it so.
                self._log.problem("message %d broke off: %s", number, str(error))
                self._out.clear()
                self._over = True
                return
        if cutter is None:
            drop.shown(number)
            self._count("messages")
        self._out += stuffer.finish()

    async def _submit(self) -> None:
        """XTND XMIT; the positive reply at the end says that the message is on the disk."""
        around, channel = self._around, self._channel
        if around.receiver is None or self._login is None:
            self._error("messages are not taken here")
            return
        sender = self._login.session.name
        source = Source(SERVICE, channel.peer.address, channel.local.address, sender, True, channel.client)
        self._put(pop.ok("send the message"))
        self._server.body_wanted()
        try:
            number = await take_message(self._body(), around.receiver, source, sender)
        except Rejected as error:
            self._log.problem("message refused: %s", str(error))
            self._error(str(error), "SYS/TEMP" if error.temporary else "SYS/PERM")
            return
        except _BrokenOff:
            self._over = True
            return
        self._log.major("[%d] received from %s", number, sender)
        self._put(pop.ok("message accepted"))

    async def _body(self) -> AsyncGenerator[bytes, None]:
        while True:
            event = await self._next()
            if not isinstance(event, pop.Body):
                raise _BrokenOff
            yield event.data
            if event.last:
                return

    async def _quit(self, update: bool) -> None:
        self._over = True
        if update and self._drop is not None and self._drop.marked:
            marked = len(self._drop.marked)
            try:
                await self._drop.update()
            except AccountError as error:
                self._log.problem("marked messages are not removed: %s", error.text)
                self._error(self._around.strings.text("POPNotRemoved", error.text), "SYS/TEMP")
                return
            self._count("removed", marked)
            self._log.major("%d message(s) removed", marked)
        self._put(b"+OK " + self._around.strings.wire("POPBye") + b"\r\n")
