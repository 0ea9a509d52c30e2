"""What an IMAP session needs of the rooms around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.accounts.client import AccountSession
from appliance.accounts.door import Door
from appliance.accounts.login import LoginRefused as LoginRefused
from appliance.kernel.log import Logger
from appliance.kernel.notices import Notices
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings


class Login(Protocol):
    """A log-in that was granted."""

    @property
    def session(self) -> AccountSession:
        """The opened account; the IMAP session closes it."""
        ...


Logins = Door[Login]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Handed to each session.

    `strings` has the module's TEXTS declared; `unique()` gives a fresh random token, as `secrets.token_hex` makes them;
    `digests()` whether methods that need a readable password are offered; `now()` seconds since 1970; `foreign(session,
    name)` opens another account for the one who is logged in (None: there are no foreign mailboxes), raising AccountError;
    `advertise_secure()` whether methods that send no password are listed.
    """

    logins: Logins
    settings: Settings
    notices: Notices
    log: Logger
    strings: Strings
    statistics: Statistics
    host: Callable[[], str]
    unique: Callable[[], str]
    digests: Callable[[], bool]
    now: Callable[[], float]
    version: str
    foreign: Callable[[AccountSession, str], Awaitable[AccountSession]] | None = None
    advertise_secure: Callable[[], bool] = lambda: True
