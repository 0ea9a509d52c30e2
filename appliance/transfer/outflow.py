"""How much an account may send out: a stolen password must not become a source of spam.

One bucket for each account: it holds as many recipients as the limit has for an hour, and fills up again within an hour.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.router.route import Refused, Route
from appliance.transfer.message import Envelope, Source
from appliance.transfer.receiver import Malformed

SUBMITTING: Final = frozenset({"POP", "IMAP", "WEBUSER", "HTTP"})
_HOUR: Final = 3600.0
_KEYS: Final = 20_000


class Rates:
    """Buckets by key; the least used go first when there are too many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is used up, at which moment."""
        self._told: dict[str, float] = {}

    def take(self, key: str, limit: int, count: int = 1) -> bool:
        """Use up `count` of the `limit` for an hour; False, and nothing is used, if there is not enough left."""
        now = self._clock.monotonic()
        used, at = self._buckets.pop(key, (0.0, now))
        used = max(0.0, used - (now - at) * limit / _HOUR)
        granted = used + count <= limit + 1e-6
        self._buckets[key] = used + count if granted else used, now
        while len(self._buckets) > _KEYS:
            self._buckets.popitem(last=False)
        return granted

    def news(self, key: str) -> bool:
        """Whether a refusal is the first one within an hour: then it is worth a record and an alert."""
        now = self._clock.monotonic()
        if now - self._told.get(key, -_HOUR) < _HOUR:
            return False
        if len(self._told) >= _KEYS:
            self._told.clear()
        self._told[key] = now
        return True

    def exceeded(self) -> list[str]:
        """The keys that were refused something within an hour."""
        now = self._clock.monotonic()
        return [key for key, moment in self._told.items() if now - moment < _HOUR]

    def reset(self, key: str) -> bool:
        """Begin anew with a key; whether anything was known of it."""
        self._told.pop(key, None)
        return self._buckets.pop(key, None) is not None


class Router(Protocol):
    """The router, as seen from here. Raises Refused."""

    async def route(self, address: str) -> Route: ...


class Outflow:
    """The caps of accounts. `limit_of` gives the recipients outside that an account may have in an hour, None for any
    number; `alarm(account, text)` tells people.

    SMTP sessions ask for each recipient (`permits`), because a client can be told which ones are too many; for other ways of
    a user to submit mail (`SUBMITTING`) the receiver asks for the whole message (`check`).
    """

    def __init__(
        self,
        clock: Clock,
        log: Logger,
        limit_of: Callable[[str], int | None],
        alarm: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        self.rates = Rates(clock)
        self._log = log
        self._limit_of = limit_of
        self.alarm = alarm

    async def permits(self, account: str, count: int = 1) -> bool:
        """Whether the account (full name) may send to so many more recipients outside; they are counted then."""
        limit = self._limit_of(account)
        if limit is None or self.rates.take(account, limit, count):
            return True
        if self.rates.news(account):
            text = f"the limit of outgoing mail is reached: {limit} recipients an hour"
            self._log.failure("%s: %s", account, text)
            if self.alarm is not None:
                await self.alarm(account, text)
        return False

    async def check(self, router: Router, source: Source, recipients: Sequence[Envelope]) -> None:
        """Count a message that a user submits. Raises Malformed if it is too much."""
        account = source.account
        if account is None or source.module not in SUBMITTING or self._limit_of(account) is None:
            return
        outside = 0
        for recipient in recipients:
            with suppress(Refused):
                outside += (recipient.route or await router.route(recipient.address)).module == "SMTP"
        if outside and not await self.permits(account, outside):
            raise Malformed("this account has sent too much mail, try again later")
