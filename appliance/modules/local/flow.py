"""Message Flow Control: an account that gets too many messages within a time has its queue suspended (manual, chapter 30)."""

from __future__ import annotations

from collections import deque
from typing import Final

from appliance.kernel.clock import Clock
from appliance.kernel.settings import Settings
from appliance.modules.local.settings import FLOW_COUNT, FLOW_PERIOD

__all__ = ["FlowControl"]

_MANY: Final = 1000


class FlowControl:
    """Counts what is to be delivered, whatever becomes of it."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._times: dict[str, deque[float]] = {}

    def room(self, account: str) -> int | None:
        """How many messages more the account may have now; None: any number."""
        limit = self._settings[FLOW_COUNT]
        if not limit:
            self._times.clear()
            return None
        times = self._times.get(account)
        if times is None:
            return limit
        since = self._clock.monotonic() - self._settings[FLOW_PERIOD]
        while times and times[0] <= since:
            times.popleft()
        return max(0, limit - len(times))

    def count(self, account: str, messages: int) -> None:
        """So many are about to be delivered."""
        limit = self._settings[FLOW_COUNT]
        if not limit:
            return
        now = self._clock.monotonic()
        times = self._times.get(account)
        if times is None:
            if len(self._times) >= _MANY:
                self._forget(now)
            times = self._times[account] = deque()
        times.extend([now] * messages)
        while len(times) > limit:
            times.popleft()

    def _forget(self, now: float) -> None:
        """Accounts that got nothing lately."""
        since = now - self._settings[FLOW_PERIOD]
        self._times = {name: times for name, times in self._times.items() if times and times[-1] > since}
