"""One PWD session: log-in, change of one's own password, and the command line, over a Channel."""

from __future__ import annotations

import trio

from appliance.access.pwd.gate import Login, LoginRefused, Surroundings
from appliance.access.pwd.settings import CLEAR_LOGIN, IDLE_TIMEOUT
from appliance.formats.data import Value, render
from appliance.formats.passwords import PasswordError, check_new
from appliance.kernel.channel import Channel
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, OperationError, Right
from appliance.objects import declarations
from appliance.protocols import pwd, sasl
from appliance.protocols.lines import Apop, Auth, Pass, Response, Stls, User
from appliance.protocols.pwd import PwdServer

SERVICE = "PWD"
#: A guesser starts a new connection after so many, and meets the listener's limits there.
MAX_FAILURES = 5
MAX_WRONG = 50
"""Wrong commands of somebody who has not logged in, until he is disconnected."""
#: Seconds to close the account inside the process at the end; no wait for the network is among it.
_GIVE_BACK = 5


class PwdSession:
    """Each command is answered before the next one is read off the buffer."""

    __slots__ = (
        "_around",
        "_channel",
        "_failures",
        "_inline",
        "_log",
        "_login",
        "_over",
        "_server",
        "_stamp",
        "_wrong",
    )

    def __init__(self, around: Surroundings, channel: Channel, log: Logger) -> None:
        self._around = around
        self._channel = channel
        self._log = log
        self._server = PwdServer()
        self._stamp = f"<{around.unique()}@{around.host()}>"
        self._login: Login | None = None
        self._failures = 0
        self._wrong = 0
        self._inline = False
        self._over = False

    async def run(self) -> None:
        """The whole session. Raises ChannelError when the connection breaks."""
        self._channel.timeout = self._around.settings[IDLE_TIMEOUT]
        prompt = self._around.strings.text("PWDPrompt", self._around.version, self._around.host())
        await self._reply(pwd.SUCCESS, f"{prompt} {self._stamp}")
        try:
            while not self._over:
                event = await self._next()
                if event is None:
                    return
                await self._handle(event)
        finally:
            if self._login is not None:
                with trio.CancelScope(deadline=trio.current_time() + _GIVE_BACK, shield=True):
                    await self._login.session.aclose()

    # -- wire ---------------------------------------------------------------------------------------------------------

    async def _next(self) -> pwd.Event | None:
        channel, deadline = self._channel, trio.current_time() + self._channel.timeout
        while (event := self._server.next_event()) is None:
            self._busy(False)
            # A stranger has its time for a whole command: dripping bytes do not hold a channel.
            data = await (channel.receive_before(deadline) if self._login is None else channel.receive())
            if not data:
                return None
            self._server.receive(data)
        self._busy(True)
        if self._log.enabled(5):
            self._log.all("inp: %s", repr(event))
        return event

    async def _send(self, data: bytes) -> None:
        if self._log.enabled(5):
            self._log.all("out: %s", data.partition(b"\r\n")[0])
        await self._channel.send(data)

    async def _reply(self, code: int, text: str) -> None:
        await self._send(pwd.reply(code, text))

    def _count(self, name: str, amount: int = 1) -> None:
        self._around.statistics.counter("pwd." + name).add(amount)

    def _busy(self, busy: bool) -> None:
        if self._channel.session is not None:
            self._channel.session.busy = busy

    # -- commands -----------------------------------------------------------------------------------------------------

    async def _handle(self, event: pwd.Event) -> None:
        match event:
            case pwd.Bad(code, text):
                self._wrong += self._login is None
                self._over = self._wrong > MAX_WRONG
                await self._reply(code, self._around.strings.text("PWDTooManyErrors") if self._over else text)
            case pwd.Quit():
                self._over = True
                await self._reply(pwd.SUCCESS, self._around.strings.text("PWDBye"))
            case pwd.NewPass(password) if self._login is not None:
                await self._change_password(self._login, password)
            case pwd.Line(text) if self._login is not None:
                await self._command(self._login, text)
            case _:
                await self._log_in(event)

    def _clear_allowed(self) -> bool:
        return self._channel.secure or self._channel.client or self._around.settings[CLEAR_LOGIN]

    async def _log_in(self, event: pwd.Event) -> None:
        logins, channel, strings = self._around.logins, self._channel, self._around.strings
        try:
            match event:
                case User():
                    # The same answer for every name; a client that would send its password next is stopped before it does.
                    if self._clear_allowed():
                        await self._reply(pwd.CONTINUE, strings.text("PWDSendPassword"))
                    else:
                        await self._reply(pwd.FAILED, strings.text("PWDSecureOnly"))
                case Pass(name, password):
                    if self._clear_allowed():
                        await self._granted(await logins.password(name, password, SERVICE, channel))
                    else:
                        await self._reply(pwd.FAILED, strings.text("PWDSecureOnly"))
                case Apop(name, digest):
                    proof = sasl.apop_proof(self._stamp.encode("utf-8"), digest)
                    await self._granted(await logins.proven(sasl.Done(name, "", proof), SERVICE, channel))
                case Auth(method, initial):
                    await self._authenticate(method, initial)
                case Stls():
                    await self._start_tls()
                case _:
                    await self._reply(pwd.FAILED, "command is not valid now")
        except LoginRefused as error:
            self._failures += 1
            self._count("failures")
            self._over = self._failures >= MAX_FAILURES
            await self._reply(pwd.FAILED if error.temporary else pwd.INCORRECT, error.text)
        except sasl.SaslError as error:
            await self._reply(pwd.SYNTAX, str(error))

    async def _authenticate(self, method: str, initial: bytes | None) -> None:
        logins = self._around.logins
        mechanism = sasl.server_mechanism(
            method, challenge=self._stamp.encode("utf-8"), nonce=self._around.unique().encode("ascii")
        )
        if mechanism is None:
            await self._reply(pwd.FAILED, "the authentication method is not supported")
            return
        if method in sasl.CLEAR_METHODS and not self._clear_allowed():
            await self._reply(pwd.FAILED, self._around.strings.text("PWDSecureOnly"))
            return
        name = ""
        step = mechanism.step(initial)
        while not isinstance(step, sasl.Done):
            if isinstance(step, sasl.Lookup):
                name = step.authcid
                step = mechanism.keys(await logins.keys(name, step.method, self._channel))
                continue
            await self._channel.send(pwd.challenge(sasl.encode(step.data)))
            self._server.challenge_sent()
            event = await self._next()
            if event is None:
                self._over = True
                return
            if not isinstance(event, Response):
                raise sasl.SaslMalformed(event.text if isinstance(event, pwd.Bad) else "no response")
            try:
                step = mechanism.step(sasl.decode(event.line))
            except sasl.SaslRefused:
                await logins.refuse(name, SERVICE, self._channel)
                raise
        await self._granted(await logins.proven(step, SERVICE, self._channel))

    async def _granted(self, login: Login) -> None:
        self._login = login
        self._server.logged_in()
        self._count("logins")
        name = login.session.name
        if self._channel.session is not None:
            self._channel.session.account = name
        if self._caller(login).has(Right.SETTINGS):
            self._server.limit = pwd.MAX_ADMINISTRATOR_LINE  # a Router table is one line
        self._log.low("%s logged in from [%s]", name, self._channel.peer.address)
        await self._reply(pwd.SUCCESS, self._around.strings.text("PWDLoggedIn"))

    async def _start_tls(self) -> None:
        if self._channel.encrypted:
            await self._reply(pwd.FAILED, "TLS is on already")
        elif not self._channel.can_start_tls:
            await self._reply(pwd.FAILED, "TLS is not available here")
        else:
            await self._reply(pwd.SUCCESS, "begin TLS")
            await self._channel.start_tls()
            self._server.secured()

    def _caller(self, login: Login) -> Caller:
        """Who asks, made anew for each command: the account may have another name by now."""
        account, channel = login.account, self._channel
        return Caller(
            account.full_name,
            account.domain.name,
            SERVICE,
            self._around.domains,
            channel.peer.address,
            channel.secure,
            channel.client,
        )

    async def _change_password(self, login: Login, password: str) -> None:
        account = login.account
        try:
            if account.removed:
                raise OperationError("the account is removed")
            if not account.settings[declarations.PASSWORD_CHANGE]:
                raise OperationError("you are not allowed to change the password")
            check_new(password)
            if password == "default":  # the word takes a setting away, which would leave no password
                raise PasswordError("this password is not allowed")
            await self._around.domains.set_password(account, password)
        except OperationError as error:
            await self._reply(error.code, error.text)
        except PasswordError as error:
            await self._reply(pwd.FAILED, str(error))
        else:
            self._count("changes")
            self._log.major("%s has changed the password from [%s]", account.full_name, self._channel.peer.address)
            await self._reply(pwd.SUCCESS, self._around.strings.text("PWDChanged"))

    async def _command(self, login: Login, line: str) -> None:
        """One line of the command line; the log names the command and leaves its parameters out."""
        word = line.strip().partition(" ")[0][:40]
        if word.upper() == "INLINE":
            self._inline = True
            await self._reply(pwd.SUCCESS, self._around.strings.text("PWDOK"))
            return
        caller = self._caller(login)
        self._count("commands")
        try:
            answer = await self._around.commands.perform(caller, line)
        except OperationError as error:
            self._log.problem("%s: %s refused: %d %s", caller.account, word, error.code, error.text)
            await self._reply(error.code, error.text)
            return
        self._log.low("%s: %s done", caller.account, word)
        await self._send(self._answer(answer))

    def _answer(self, value: Value | None) -> bytes:
        if value is None:
            return pwd.reply(pwd.SUCCESS, self._around.strings.text("PWDOK"))
        rendered = render(value)
        return pwd.inline_data(rendered) if self._inline else pwd.data(rendered)
