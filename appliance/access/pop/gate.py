"""What a POP session needs of the rooms around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.access.pop.submission import Receiver
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
        """The opened account; the POP session closes it."""
        ...

    @property
    def mailbox(self) -> str:
        """What stood before `#` in the name, or what the Router made of it; empty: INBOX."""
        ...

    @property
    def detail(self) -> str:
        """The local part that the Router left of a unified account's name; empty: all messages."""
        ...


Logins = Door[Login]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Handed to each session.

    `strings` has the module's TEXTS declared; `unique()` gives a fresh random token, as `secrets.token_hex` makes them;
    `digests()` whether methods that need a readable password are listed; `recipients_field()` the header field with the
    envelope recipients of unified accounts; `receiver` takes the messages of XTND XMIT, if that is wanted;
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
    recipients_field: Callable[[], str]
    version: str
    receiver: Receiver | None = None
    advertise_secure: Callable[[], bool] = lambda: True
    #: Opens another account for the one who is logged in (None: there are no foreign mailboxes), raising AccountError.
    foreign: Callable[[AccountSession, str], Awaitable[AccountSession]] | None = None
