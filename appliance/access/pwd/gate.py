"""What a PWD session needs of the rooms around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.accounts.client import AccountSession
from appliance.accounts.login import LoginRefused as LoginRefused
from appliance.administration.cli import CommandLine
from appliance.formats.passwords import ScramKeys
from appliance.kernel.channel import Channel
from appliance.kernel.log import Logger
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.protocols.sasl import Done


class Login(Protocol):
    """A log-in that was granted."""

    @property
    def session(self) -> AccountSession:
        """The opened account; the PWD session closes it."""
        ...

    @property
    def account(self) -> Account:
        """Whose account it is; its name may change while the session lasts."""
        ...


class Logins(Protocol):
    """The account gate's door. Its calls raise LoginRefused."""

    async def password(self, name: str, password: str, service: str, channel: Channel) -> Login:
        """A log-in by clear password."""
        ...

    async def keys(self, name: str, method: str, channel: Channel) -> ScramKeys:
        """The keys for a SCRAM log-in; decoys for a name without any."""
        ...

    async def proven(self, done: Done, service: str, channel: Channel) -> Login:
        """A log-in by what a mechanism came to."""
        ...

    async def refuse(self, name: str, service: str, channel: Channel) -> None:
        """Count a proof that a mechanism found wrong as a wrong password, and raise LoginRefused as for one."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Handed to each session.

    `strings` has the module's TEXTS declared; `unique()` gives a fresh random token, as `secrets.token_hex` makes them.
    """

    logins: Logins
    domains: Domains
    commands: CommandLine
    settings: Settings
    log: Logger
    strings: Strings
    statistics: Statistics
    host: Callable[[], str]
    unique: Callable[[], str]
    version: str
