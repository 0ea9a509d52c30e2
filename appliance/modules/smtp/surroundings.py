"""What the SMTP module needs of the rooms around it, handed to each session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.accounts.door import Door
from appliance.accounts.login import LoginRefused as LoginRefused
from appliance.kernel.channel import Channel
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.operations import Authority, Caller
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.modules.smtp.protection.guard import Guard
from appliance.modules.smtp.relaying import Relaying
from appliance.modules.smtp.verifying import PathVerifier
from appliance.protocols.smtp import Reply
from appliance.router.route import Purpose, Route
from appliance.transfer.receiver import Receiver


@dataclass(frozen=True, slots=True)
class Sender:
    """Who has authenticated: the account's full name, and whether account and domain have the Relay service."""

    account: str
    relay: bool


Logins = Door[Sender]


class Routing(Protocol):
    """The router."""

    async def route(self, address: str, purpose: Purpose = Purpose.MAIL, caller: Caller | None = None) -> Route: ...


def _nothing_waits(host: str) -> bool:
    return False


Turned = Callable[[Channel], Awaitable[None]]
"""What goes on with a connection whose roles were turned: we are the client then."""


async def _no_turning(domains: Sequence[str], account: str | None, caller: Caller) -> tuple[Reply, Turned | None]:
    return Reply(502, "this command is not supported", "5.5.1"), None


@dataclass(slots=True)
class Surroundings:
    """`host()` is the main domain's name; `unique()` a fresh random token; `digests()` whether methods that need a
    readable password are listed, `advertise_secure()` whether any that send no password; `authority` answers for rights;
    `guard` protects from strangers; `release` starts the queue of a host and says whether there was one; `turn` answers ATRN
    and TURN of an authenticated account, with what sends the mail after a positive reply."""

    settings: Settings
    strings: Strings
    log: Logger
    statistics: Statistics
    clock: Clock
    router: Routing
    receiver: Receiver
    relaying: Relaying
    verifier: PathVerifier
    guard: Guard
    logins: Logins
    authority: Authority
    host: Callable[[], str]
    unique: Callable[[], str]
    digests: Callable[[], bool]
    version: str
    release: Callable[[str], bool] = _nothing_waits
    advertise_secure: Callable[[], bool] = lambda: True
    turn: Callable[[Sequence[str], str | None, Caller], Awaitable[tuple[Reply, Turned | None]]] = _no_turning
