"""Small tools of asynchronous code: the type of a start report, breaks in long loops, blocking work in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

import trio

__all__ = ["Pace", "TaskStatus", "in_thread", "pace"]

_T = TypeVar("_T")

TURN: Final = 0.003
"""Seconds that a loop may hold the event loop between two breaks; 10 ms is the limit for all that runs in one turn."""


TaskStatus: TypeAlias = Any
"""What `run(*, task_status)` reports to: `started()` means "ready to serve". (Type packages disagree about its name.)"""


async def pace() -> None:
    """A break in a loop over data of a stranger's size: lets all others run. Call it every few hundred short steps."""
    await trio.lowlevel.checkpoint()


class Pace:
    """The same for steps of unknown length: `await pace.step()` at each step makes a break when a turn's time is used up."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def step(self) -> None:
        if time.perf_counter() - self._since > TURN:
            await trio.lowlevel.checkpoint()
            self._since = time.perf_counter()


async def in_thread(
    function: Callable[[], _T], *, limiter: trio.CapacityLimiter | None = None, abandon: bool = False
) -> _T:
    """`function()` in a worker thread. With `abandon` a cancelled caller leaves at once and the thread's result is lost."""
    return await trio.to_thread.run_sync(function, abandon_on_cancel=abandon, limiter=limiter)  # type: ignore[call-arg]
