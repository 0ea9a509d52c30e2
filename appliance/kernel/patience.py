"""Time limits of connections: one timer for all of them, because a timer for each wait is a good part of a short session's work.

A channel says until when it waits (`deadline`) and goes on; `Patience` looks at all of them when the earliest time has come.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import trio

from appliance.kernel.tasks import TaskStatus

__all__ = ["Patience", "Waiting"]

_GRACE: Final = 0.05
"""Seconds between two looks at least."""


class Waiting(Protocol):
    """What has a time limit: `deadline` on trio's clock (infinite while it does not wait), and is told when it is over."""

    deadline: float

    def expire(self) -> None: ...


class Patience:
    """`run` is a component; until it runs (`running`), channels keep their own time."""

    def __init__(self) -> None:
        self.running = False
        #: When the next look is due. Who has an earlier deadline calls `sooner`.
        self.next = math.inf
        self._waiting: set[Waiting] = set()
        self._wake = trio.Event()

    def add(self, one: Waiting) -> None:
        """Look after this one too."""
        self._waiting.add(one)

    def discard(self, one: Waiting) -> None:
        """It is gone."""
        self._waiting.discard(one)

    def sooner(self, deadline: float) -> None:
        """Look not later than at this time."""
        self.next = deadline
        self._wake.set()

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Expire what has waited too long, for ever."""
        self.running = True
        task_status.started()
        try:
            while True:
                with trio.move_on_at(self.next):
                    await self._wake.wait()
                self._wake = trio.Event()
                now = trio.current_time()
                if self.next > now:
                    continue
                for one in [one for one in self._waiting if one.deadline <= now]:
                    one.expire()
                earliest = min((one.deadline for one in self._waiting), default=math.inf)
                self.next = max(earliest, now + _GRACE)
        finally:
            self.running = False
