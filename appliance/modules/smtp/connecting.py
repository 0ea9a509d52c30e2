"""From a plan of hosts to a dialogue that is ready for mail: connect, greet, encrypt as the settings demand, log in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from appliance.formats.wildcards import matches
from appliance.kernel.channel import Channel, ChannelError, connect
from appliance.kernel.log import Logger
from appliance.kernel.settings import Secret, Settings
from appliance.modules.smtp.dialogue import Dialogue, Disconnected, Refused
from appliance.modules.smtp.hosts import LOOP, Host, HostFinder, Plan, split_queue
from appliance.modules.smtp.names import Unresolved
from appliance.modules.smtp.settings import AUTH_NAME, AUTH_PASSWORD, LOST_AFTER, TLS_DOMAINS, TLS_POSSIBLE

if TYPE_CHECKING:
    import ssl

#: TLS begins before the greeting there.
SECURE_PORT: Final = 465
_CONNECT: Final = 60.0
_GREETING: Final = 300.0
#: Where there is another host to try, a slow one is not waited for so long.
_GREETING_NEXT: Final = 120.0


class Unreachable(Exception):
    """No host took us. `code` is an enhanced status; `final`: it will not be otherwise later (no TLS where it must be)."""

    def __init__(self, text: str, *, code: str = "4.4.1", final: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.final = final


class Connect(Protocol):
    """`kernel.channel.connect`, or a test's."""

    def __call__(
        self, addresses: tuple[str, ...], port: int, *, source: str | None = None, timeout: float, lost: int = 0
    ) -> Awaitable[Channel]: ...


@dataclass(frozen=True, slots=True)
class Login:
    """What a server is told who wants to know who we are; `methods` are tried in this order."""

    name: str
    password: Secret
    methods: tuple[str, ...] = ("CRAM-MD5", "PLAIN", "LOGIN")


class Attempt(NamedTuple):
    """How TLS is used: `verify` names whose certificate is demanded, empty for anybody's."""

    tls: bool
    must: bool = False
    verify: str = ""


@dataclass(slots=True)
class Connector:
    """`context(verify)` gives a client's TLS context; `own_name()` is what EHLO says."""

    settings: Settings
    finder: HostFinder
    context: Callable[[bool], Awaitable[ssl.SSLContext]]
    own_name: Callable[[], str]
    connect: Connect = connect

    def must_encrypt(self, queue: str) -> bool:
        """Whether the queue's mail goes out in TLS or not at all."""
        name = split_queue(queue)[1].partition(":")[0].lower()
        return any(matches(picture, name) for picture in self.settings[TLS_DOMAINS])

    def _attempts(self, queue: str, plan: Plan, host: Host) -> Iterator[Attempt]:
        """What is tried with one host, best first."""
        if self.must_encrypt(queue):
            if plan.forwarding:
                yield Attempt(True, must=True)
                return
            for name in dict.fromkeys((host.name.partition(":")[0], split_queue(queue)[1].partition(":")[0])):
                yield Attempt(True, must=True, verify=name.strip("[]"))
        else:
            if self.settings[TLS_POSSIBLE] or host.port == SECURE_PORT:
                yield Attempt(True)
            if host.port != SECURE_PORT:
                yield Attempt(False)

    async def open(
        self, queue: str, plan: Plan, log: Logger, login: Login | None = None
    ) -> tuple[Dialogue, Channel, str]:
        """A dialogue with the first host that takes us, its channel, and the host's name. Raises Unreachable."""
        if plan.forwarding and self.settings[AUTH_NAME]:
            login = Login(self.settings[AUTH_NAME], self.settings[AUTH_PASSWORD])
        failure = Unreachable("there is no host", code="4.4.1")
        for place, candidate in enumerate(plan.hosts):
            limit = _GREETING if place == len(plan.hosts) - 1 else _GREETING_NEXT
            try:
                host = await self.finder.resolve(candidate)
            except Unresolved as error:
                if error.code == LOOP:
                    # Those that are left are no better than we are; the better ones did not take us, for now.
                    raise failure if place else Unreachable(str(error), code=LOOP, final=True) from None
                failure = Unreachable(str(error), code=error.code, final=not error.temporary and len(plan.hosts) == 1)
                log.problem("%s: %s", candidate.name, error)
                continue
            for attempt in self._attempts(queue, plan, host):
                try:
                    dialogue, channel = await self._try(host, attempt, plan, login, limit, log)
                except _NextAttempt as error:
                    log.problem("%s: %s", host.name, error)
                    failure = Unreachable(f"{host.name}: {error}", code="5.7.10", final=attempt.must)
                    continue
                except (ChannelError, Disconnected, Refused) as error:
                    log.problem("%s: %s", host.name, error)
                    failure = Unreachable(f"{host.name}: {error}")
                    break
                return dialogue, channel, host.name
        raise failure

    async def _try(
        self, host: Host, attempt: Attempt, plan: Plan, login: Login | None, limit: float, log: Logger
    ) -> tuple[Dialogue, Channel]:
        channel = await self.connect(
            host.addresses,
            host.port,
            source=plan.source or None,
            timeout=_CONNECT,
            lost=self.settings[LOST_AFTER],
        )
        try:
            log.low("connected to %s [%s]:%d", host.name, channel.peer.address, host.port)
            dialogue = Dialogue(channel, log)
            name = self.own_name()
            hostname = attempt.verify or host.name.partition(":")[0].strip("[]")
            if attempt.tls and host.port == SECURE_PORT:
                try:
                    await channel.start_tls(
                        await self.context(bool(attempt.verify)), server_side=False, hostname=hostname
                    )
                except ChannelError as error:
                    raise _NextAttempt(f"TLS: {error}") from None
            await dialogue.greet(name, limit=limit)
            if attempt.tls and not channel.encrypted:
                await self._encrypt(dialogue, attempt, hostname, name)
            if login is not None:
                await dialogue.authenticate(login.name, login.password.reveal(), login.methods)
        except BaseException:
            channel.close()
            raise
        return dialogue, channel

    async def _encrypt(self, dialogue: Dialogue, attempt: Attempt, hostname: str, name: str) -> None:
        if not dialogue.offers_tls:
            if attempt.must:
                raise _NextAttempt("the server does not offer STARTTLS")
            return
        try:
            await dialogue.start_tls(await self.context(bool(attempt.verify)), hostname, name)
        except (Disconnected, Refused) as error:
            raise _NextAttempt(str(error)) from None


class _NextAttempt(Exception):
    """TLS did not work out; another way of using it may."""
