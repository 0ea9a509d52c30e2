"""Hosts that try names: after so many unknown recipients within a period an address is turned away for the period."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from appliance.kernel.clock import Clock
from appliance.kernel.peers import same_address
from appliance.kernel.settings import Settings
from appliance.modules.smtp.protection.settings import HARVEST_LIMIT, HARVEST_PERIOD

_ADDRESSES: Final = 20_000


class Harvesters:
    """Counts over all sessions. Addresses without unknown recipients cost nothing."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """When the period began, or when the limit was reached; how many."""

    def barred(self, address: str) -> bool:
        """Whether nothing is taken from there for now."""
        if not self._counts:
            return False
        limit = self.settings[HARVEST_LIMIT]
        began, count = self._counts.get(same_address(address), (0.0, 0))
        return limit is not None and count >= limit and self._clock.monotonic() - began < self.settings[HARVEST_PERIOD]

    def turned_away(self) -> list[str]:
        """The addresses (of IPv6 the networks) from which nothing is taken now."""
        limit, since = self.settings[HARVEST_LIMIT], self._clock.monotonic() - self.settings[HARVEST_PERIOD]
        return [
            key
            for key, (began, count) in self._counts.items()
            if limit is not None and count >= limit and began > since
        ]

    def reset(self, key: str) -> bool:
        """Forget what came from there; whether anything was known of it."""
        return self._counts.pop(key, None) is not None

    def note(self, address: str) -> bool:
        """One unknown recipient more; whether the limit is reached by it."""
        limit = self.settings[HARVEST_LIMIT]
        if limit is None:
            return False
        key, now = same_address(address), self._clock.monotonic()
        began, count = self._counts.pop(key, (now, 0))
        if now - began >= self.settings[HARVEST_PERIOD]:
            began, count = now, 0
        count += 1
        self._counts[key] = (now if count == limit else began), count
        while len(self._counts) > _ADDRESSES:
            self._counts.popitem(last=False)
        return count == limit
