"""What time it is, as a thing that is handed in.

Every room that asks for the time asks the Clock it was given; none imports `time`. So a test of a retry schedule of five
days runs in no time, on trio's mock clock, and sees dates that never change from run to run.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, tzinfo
from typing import Protocol

import trio

__all__ = ["Clock", "SystemClock", "TrioClock"]


class Clock(Protocol):
    """The wall and the stop-watch."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC. May jump when the machine's time is set."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back. For intervals only."""
        ...

    def local(self, moment: float) -> datetime:
        """`moment` (as from `now`) in the server's own time zone, daylight saving included; the result knows its zone."""
        ...


class SystemClock:
    """The machine's clock and time zone."""

    __slots__ = ()

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def local(self, moment: float) -> datetime:
        return datetime.fromtimestamp(moment).astimezone()


class TrioClock:
    """A clock that follows `trio.current_time()`: with a mock clock it stands still, or jumps, together with the sleepers.

    `epoch` is the wall time (Unix seconds) at the first call, `zone` the local time zone. Usable inside a trio run only.
    """

    __slots__ = ("_epoch", "_start", "_zone")

    def __init__(self, epoch: float = 1_700_000_000.0, zone: tzinfo = UTC) -> None:
        self._epoch = epoch
        self._zone = zone
        self._start: float | None = None

    def monotonic(self) -> float:
        moment = trio.current_time()
        if self._start is None:
            self._start = moment
        return moment

    def now(self) -> float:
        moment = self.monotonic()
        assert self._start is not None
        return self._epoch + (moment - self._start)

    def local(self, moment: float) -> datetime:
        return datetime.fromtimestamp(moment, self._zone)
