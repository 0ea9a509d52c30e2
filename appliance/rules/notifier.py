"""FingerNotify: tells a program on the user's machine that mail has come (manual, chapter 28, FingerNotify)."""

from __future__ import annotations

from collections import deque
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import trio

from appliance.kernel.log import Logger
from appliance.kernel.settings import Group, LogLevel, Number, Setting, Settings
from appliance.kernel.tasks import TaskStatus

__all__ = ["NOTIFIER", "NOTIFIER_LOG", "Notifier"]

FINGER: Final = 79
_SECONDS: Final = 10.0

NOTIFIER_LOG = Setting("LogLevel", LogLevel(), 1, "Log", "Notifier")
QUEUE_SIZE = Setting("QueueSize", Number(0, 10_000), 100, "Notices that may wait", "Notifier")
NOTIFIER = Group("Notifier", "Notifier", (NOTIFIER_LOG, QUEUE_SIZE))


class Line(Protocol):
    """The schedule of outgoing traffic."""

    def session(self, kind: str) -> AbstractAsyncContextManager[object]: ...


class Notifier:
    """Notices wait in a queue of bounded length, one goes out at a time. A notice that cannot be given is logged, no more."""

    def __init__(self, settings: Settings, log: Logger, line: Line, port: int = FINGER) -> None:
        self.port = port
        self._settings = settings
        self._log = log
        self._line = line
        self._waiting: deque[str] = deque()
        self._wake = trio.Event()

    def notify(self, address: str) -> bool:
        """Put a network address or host name into the queue; False if the queue is full."""
        if address in self._waiting:
            return True
        if len(self._waiting) >= self._settings[QUEUE_SIZE]:
            self._log.problem("the queue is full, [%s] is not notified", address)
            return False
        self._waiting.append(address)
        self._wake.set()
        return True

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            while self._waiting:
                address = self._waiting.popleft()
                try:
                    async with self._line.session("Notifier"):
                        with trio.fail_after(_SECONDS):
                            stream = await trio.open_tcp_stream(address, self.port)
                            async with stream:
                                await stream.send_all(b"nm_notifyuser\r\n")
                    self._log.low("[%s] is notified", address)
                except (OSError, trio.TooSlowError, trio.BrokenResourceError, ValueError) as error:
                    self._log.problem("[%s] cannot be notified: %s", address, error or "no answer in time")
            self._wake = trio.Event()
            await self._wake.wait()
