"""What a PWD session needs of the rooms around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.accounts.client import AccountSession
from appliance.accounts.door import Door
from appliance.accounts.login import LoginRefused as LoginRefused
from appliance.administration.cli import CommandLine
from appliance.kernel.log import Logger
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.objects.domain import Account
from appliance.objects.domains import Domains


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


Logins = Door[Login]


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
