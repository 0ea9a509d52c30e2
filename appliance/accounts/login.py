"""Log-ins: from a name, a password or proof, and a connection to an opened account (manual, chapters 8 and 34).

The order: may this address log in at all; the name is completed (`%` is `@`, a simple name belongs to the domain of the local
address) and routed; is the account suspended; is the password right; are the services on; is the method secure enough.
What a stranger is told is the same for a name that does not exist and for a wrong password, and takes the same time.

Checking a password is slow on purpose, so it is done in a worker thread, two at a time; a good check is remembered for some
minutes as a keyed digest over the stored form and the password, so a changed password is a different digest.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import trio

from appliance.accounts.alerts import set_value
from appliance.accounts.client import AccountError, AccountSession
from appliance.accounts.external import Authenticator
from appliance.accounts.gate import Accounts
from appliance.accounts.state import State
from appliance.formats import passwords
from appliance.formats.dates import format_gmt, from_epoch
from appliance.formats.passwords import ScramKeys
from appliance.kernel.channel import Channel
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.peers import Peers
from appliance.kernel.settings import Settings
from appliance.kernel.strings import Strings
from appliance.kernel.tasks import in_thread
from appliance.objects import declarations as d
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.protocols.sasl import Done
from appliance.protocols.sasl.exchange import DigestProof, PlainPassword
from appliance.router.route import Purpose, Refused, Route

__all__ = ["TEXTS", "Attempts", "Login", "LoginRefused", "Logins", "SenderLogins"]

TEXTS: Final = {
    "LoginIncorrect": "Incorrect Account Name or Password",
    "LoginUnknown": "Unknown Account",
    "LoginPassword": "Incorrect Password",
    "LoginNetwork": "access from your network is denied",
    "LoginUnassigned": "unassigned local network address",
    "LoginElsewhere": "this name is not an account of this server",
    "LoginService": "this service is not enabled for the account",
    "LoginSecure": "a secure method is required for this account",
    "LoginLater": "the account cannot be used now, try again later",
}

DELAY: Final = 2.0
"""Seconds that a wrong password or name waits for its answer."""
_REMEMBERED: Final = 2000
_REMEMBER: Final = 300.0
_ACCOUNTS: Final = 20_000


class LoginRefused(Exception):
    """A log-in that was not granted; `text` is for the client. `referral`: the address the name was routed to, if it is an
    account of another host."""

    def __init__(self, text: str, temporary: bool = False, referral: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.temporary = temporary
        self.referral = referral


@dataclass(frozen=True, slots=True)
class Login:
    """A log-in that was granted: the opened account (close it), the mailbox before `#` in the name, and the local part that
    the Router left of a unified account's name."""

    session: AccountSession
    account: Account
    mailbox: str = ""
    detail: str = ""


S = TypeVar("S")


class RouteFunction(Protocol):
    def __call__(self, address: str, purpose: Purpose) -> Awaitable[Route]: ...


class Attempts:
    """Failed log-ins of accounts: after so many within a period, all log-ins are refused for that period."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self._clock = clock
        self._settings = settings
        self._failed: OrderedDict[Account, list[float]] = OrderedDict()

    def suspended(self, account: Account) -> bool:
        limit = self._settings[d.LOGIN_ATTEMPTS]
        times = self._failed.get(account)
        if limit is None or times is None or len(times) < limit:
            return False
        return self._clock.monotonic() - times[-1] < self._settings[d.LOGIN_PERIOD]

    def failed(self, account: Account) -> None:
        now = self._clock.monotonic()
        period = self._settings[d.LOGIN_PERIOD]
        limit = self._settings[d.LOGIN_ATTEMPTS] or 0
        times = [moment for moment in self._failed.pop(account, []) if now - moment < period]
        if limit and len(times) >= limit:  # suspended: further tries do not make it longer
            self._failed[account] = times
            return
        self._failed[account] = [*times, now]
        while len(self._failed) > _ACCOUNTS:
            self._failed.popitem(last=False)

    def good(self, account: Account) -> None:
        self._failed.pop(account, None)


class Logins:
    """The door. `route` is the Router; `security` the settings of Login Security; texts are entries of `strings`."""

    def __init__(
        self,
        accounts: Accounts,
        domains: Domains,
        route: RouteFunction,
        peers: Peers,
        security: Settings,
        strings: Strings,
        clock: Clock,
        log: Logger,
    ) -> None:
        self.accounts = accounts
        self.domains = domains
        self.route = route
        self.peers = peers
        self.security = security
        self.strings = strings
        self.clock = clock
        self.log = log
        self.attempts = Attempts(clock, security)
        #: Asked for accounts whose external password may be used.
        self.external: Authenticator | None = None
        strings.declare_all(TEXTS)
        self._secret = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, float] = OrderedDict()
        self._threads = trio.CapacityLimiter(2)

    # -- the four calls of a face ---------------------------------------------------------------------------------

    async def password(self, name: str, password: str, service: str, channel: Channel) -> Login:
        """A log-in by clear password. LoginRefused."""
        route, account = await self.by_password(name, password, service, channel)
        return await self._open(route, account, service, channel)

    async def by_password(
        self, name: str, password: str, service: str, channel: Channel
    ) -> tuple[Route | None, Account]:
        """Who it is, without opening the account. LoginRefused."""
        route, account = await self._find(name, channel)
        stored = self._stored(account)
        right = await self._check(stored, password, name)
        if not right and account is not None and not self.attempts.suspended(account):
            right = await self._elsewhere(account, password, service)
        if account is None or self.attempts.suspended(account) or not right:
            raise await self._wrong(name, account, service, channel)
        if account.settings[d.SECURE_METHOD] and not channel.secure:
            raise self._no("LoginSecure", name, service, channel)
        self._admit(account, name, service, channel)
        return route, account

    async def keys(self, name: str, method: str, channel: Channel) -> ScramKeys:
        """The keys for a SCRAM log-in; decoys for a name without any. LoginRefused."""
        _, account = await self._find(name, channel)
        stored = self._stored(account)
        decoys = passwords.decoy_keys(name.lower(), method, self._decoy_secret)
        if account is None or not stored or self.attempts.suspended(account):
            return decoys
        work = partial(passwords.scram_keys, stored, method, key=self.domains.server_key, salt=decoys.salt)
        return await in_thread(work, limiter=self._threads) or decoys

    async def proven(self, done: Done, service: str, channel: Channel) -> Login:
        """A log-in by what a mechanism came to. LoginRefused."""
        route, account = await self.by_proof(done, service, channel)
        return await self._open(route, account, service, channel)

    async def by_proof(self, done: Done, service: str, channel: Channel) -> tuple[Route | None, Account]:
        """Who it is, without opening the account. LoginRefused."""
        name, evidence = done.authcid, done.evidence
        if done.authzid and done.authzid.lower() != name.lower():
            raise self._no("LoginIncorrect", name, service, channel)
        if isinstance(evidence, PlainPassword):
            return await self.by_password(name, evidence.password, service, channel)
        route, account = await self._find(name, channel)
        right = True
        if isinstance(evidence, DigestProof):
            clear = passwords.clear_text(self._stored(account), self.domains.server_key)
            right = bool(clear) and evidence.holds(clear or "")
            if not right and account is not None and account.settings[d.USE_EXTERNAL] and self.external is not None:
                key = evidence.challenge.decode("utf-8", "surrogateescape")
                asked = self.external.proves(evidence.method, account.full_name, evidence.digest, key, service)
                right = self._known(await asked)
        if account is None or not right or self.attempts.suspended(account):
            raise await self._wrong(name, account, service, channel)
        self._admit(account, name, service, channel)
        return route, account

    async def refuse(self, name: str, service: str, channel: Channel) -> None:
        """Count a proof that a mechanism found wrong as a wrong password, and raise LoginRefused as for one."""
        _, account = await self._find(name, channel)
        raise await self._wrong(name, account, service, channel)

    async def verify(self, account: Account, password: str) -> bool:
        """Whether this is a password of the account, without a log-in; False also while nobody can tell."""
        await account.ready()
        if await self._check(self._stored(account), password, account.full_name):
            return True
        try:
            return await self._elsewhere(account, password)
        except LoginRefused:
            return False

    # -- steps ----------------------------------------------------------------------------------------------------

    @property
    def _decoy_secret(self) -> bytes:
        """Of the base directory, so that decoys are the same after a restart too."""
        return hashlib.sha256(b"decoy" + self.domains.server_key).digest()

    async def _find(self, name: str, channel: Channel) -> tuple[Route | None, Account | None]:
        """Where the name leads; no account for unknown names. LoginRefused where no password matters."""
        if not self.peers.may_log_in(channel.peer.address):
            raise LoginRefused(self.strings.text("LoginNetwork"))
        mailbox, mark, account_name = name.rpartition("#")
        full = account_name.replace("%", "@") if "@" not in account_name else account_name
        if "@" not in full:
            if not channel.domain and not channel.peer.loopback:
                raise LoginRefused(self.strings.text("LoginUnassigned"))
            full = f"{full}@{channel.domain or self.domains.main.name}"
        if not full.partition("@")[0] or len(full) > 512:
            return None, None
        try:
            route = await self.route(mailbox + mark + full, Purpose.ACCESS)
        except Refused as refused:
            if not refused.permanent:
                raise LoginRefused(refused.text, temporary=True) from None
            return None, None
        except ValueError:
            return None, None
        if route.module != "LOCAL":
            referral = f"{route.address}@{route.host}" if route.module == "SMTP" and "@" not in route.address else ""
            raise LoginRefused(self.strings.text("LoginElsewhere"), referral=referral or route.address)
        account = self.domains.find_account(route.host)
        if account is not None:
            try:
                await account.ready()
            except OSError as error:
                self.log.failure("%s: settings cannot be read: %s", route.host, error)
                raise LoginRefused(self.strings.text("LoginLater"), temporary=True) from None
        return route, account

    @staticmethod
    def _stored(account: Account | None) -> str:
        if account is None or not account.settings[d.USE_PASSWORD]:
            return ""
        return account.settings[d.PASSWORD].reveal()

    async def _check(self, stored: str, password: str, name: str) -> bool:
        """Whether the password is right; where there is none to compare with, no less time passes."""
        if not password or len(password) > passwords.MAX_PASSWORD:
            return False
        secret = password.encode("utf-8", "surrogateescape")
        digest = hmac.digest(self._secret, stored.encode("utf-8", "surrogateescape") + b"\0" + secret, "sha256")
        now = self.clock.monotonic()
        until = self._good.get(digest)
        if until is not None and now < until and stored:
            return True
        real = bool(stored)
        if not real:
            keys = passwords.decoy_keys(name.lower(), "SCRAM-SHA-256", self._decoy_secret)
            stored = passwords.ONE_WAY + passwords.scram_text("SCRAM-SHA-256", keys)
        work = partial(passwords.verify, stored, password, self.domains.server_key)
        right = await in_thread(work, limiter=self._threads) and real
        if right:
            self._good[digest] = now + _REMEMBER
            self._good.move_to_end(digest)
            while len(self._good) > _REMEMBERED:
                self._good.popitem(last=False)
        return right

    async def _elsewhere(self, account: Account, password: str, service: str = "") -> bool:
        """Whether it is the account's password outside of this server. LoginRefused if nobody can tell now."""
        if not password or self.external is None or not account.settings[d.USE_EXTERNAL] or not self.external.enabled:
            return False
        return self._known(await self.external.verify(account.full_name, password, service))

    def _known(self, answer: bool | None) -> bool:
        if answer is None:
            raise LoginRefused(self.strings.text("LoginLater"), temporary=True)
        return answer

    async def _wrong(self, name: str, account: Account | None, service: str, channel: Channel) -> LoginRefused:
        """Count it, let the client wait, and what to raise."""
        if account is not None:
            self.attempts.failed(account)
        await trio.sleep(DELAY)
        key = "LoginIncorrect"
        if not self.security[d.HIDE_UNKNOWN]:
            key = "LoginUnknown" if account is None else "LoginPassword"
        return self._no(key, name, service, channel)

    def _no(self, key: str, name: str, service: str, channel: Channel) -> LoginRefused:
        self.log.failure("%s log-in of %s from [%s] failed: %s", service, name[:256], channel.peer.address, key)
        return LoginRefused(self.strings.text(key))

    def _admit(self, account: Account, name: str, service: str, channel: Channel) -> None:
        """The password was right: may he come in this way? LoginRefused."""
        if service in d.SERVICES and not account.serves(service):
            raise self._no("LoginService", name, service, channel)
        if channel.encrypted and not account.serves("TLS"):
            raise self._no("LoginService", name, service, channel)
        if not account.serves("Mobile") and not self.peers.listed(channel.peer.address):
            raise self._no("LoginNetwork", name, service, channel)
        self.attempts.good(account)

    async def _open(self, route: Route | None, account: Account, service: str, channel: Channel) -> Login:
        address = channel.peer.address
        relay = account.serves("Relay")
        ended = partial(self.peers.logged_out, address) if relay else None
        try:
            session = await self.accounts.open(account, ended=ended)
        except AccountError as error:
            self.log.failure("%s cannot be opened: %s", account.full_name, error.text)
            raise LoginRefused(self.strings.text("LoginLater"), temporary=True) from None
        if relay:
            self.peers.logged_in(address)
        try:
            await self.accounts.with_state(account, partial(_last_login, moment=self.clock.now(), address=address))
        except AccountError:
            pass
        except BaseException:
            await session.aclose()
            raise
        self.log.low("%s log-in of %s from [%s]", service, account.full_name, address)
        if route is None:
            return Login(session, account)
        return Login(session, account, route.mailbox, route.address if route.unified else "")


class SenderLogins(Generic[S]):
    """The same door for sessions that only send mail: no account is opened. `make` is given the account's full name and
    whether it may relay (the service Relay)."""

    def __init__(self, logins: Logins, make: Callable[[str, bool], S]) -> None:
        self._logins = logins
        self._make = make

    async def password(self, name: str, password: str, service: str, channel: Channel) -> S:
        """A log-in by clear password. LoginRefused."""
        _, account = await self._logins.by_password(name, password, service, channel)
        return self._make(account.full_name, account.serves("Relay"))

    async def keys(self, name: str, method: str, channel: Channel) -> ScramKeys:
        """As `Logins.keys`."""
        return await self._logins.keys(name, method, channel)

    async def proven(self, done: Done, service: str, channel: Channel) -> S:
        """A log-in by what a mechanism came to. LoginRefused."""
        _, account = await self._logins.by_proof(done, service, channel)
        return self._make(account.full_name, account.serves("Relay"))

    async def refuse(self, name: str, service: str, channel: Channel) -> None:
        """As `Logins.refuse`."""
        await self._logins.refuse(name, service, channel)


async def _last_login(state: State, *, moment: float, address: str) -> None:
    await set_value(state, "LastLogin", format_gmt(from_epoch(moment)))
    await set_value(state, "LastAddress", f"[{address}]")
