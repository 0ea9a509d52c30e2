"""The loop's watch-dog: which tasks hold the event loop for longer than they may."""

from __future__ import annotations

import time
from collections import deque
from typing import Final, NamedTuple

import trio
from trio.abc import Instrument

__all__ = ["Hold", "LoopWatch"]

LIMIT: Final = 0.010
"""Seconds that one step of a task may take."""


class Hold(NamedTuple):
    task: str
    seconds: float


class LoopWatch(Instrument):
    """Counts the steps of tasks that took longer than `limit` seconds: `holds`, `worst`, and the last ones by name.

    It costs half a microsecond a step, so it is switched on for tests and for a search only:
    `with LoopWatch() as watch: ...`, or `trio.lowlevel.add_instrument(watch)`.
    """

    def __init__(self, limit: float = LIMIT) -> None:
        self.limit = limit
        self.holds = 0
        self.worst = Hold("", 0.0)
        self.last: deque[Hold] = deque(maxlen=50)
        self._began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.perf_counter()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        seconds = time.perf_counter() - self._began
        if seconds > self.limit and self._began:
            hold = Hold(task.name, seconds)
            self.holds += 1
            self.last.append(hold)
            if seconds > self.worst.seconds:
                self.worst = hold

    def __enter__(self) -> LoopWatch:
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *error: object) -> None:
        trio.lowlevel.remove_instrument(self)
