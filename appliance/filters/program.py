"""One filter program: kept running, asked about message files, asked again when it comes back (manual, chapter 11).

- At most `limit()` requests are with the program at a time, the others wait here, in order.
- A request that has no answer within the time-out ends the program. When a program ends, what it had is sent to the next one.
- A request that was with three programs when they ended is put off, so that one message cannot hold up the others; from the
  second time on it is sent alone, so that others do not suffer with it.
- A program that talks without answering is ended: a mebibyte of it is enough.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from appliance.filters.answers import ACCEPT, FilterAnswer, UnknownAnswer, parse_answer
from appliance.filters.settings import FilterSettings
from appliance.kernel.helpers import HelperError, Helpers
from appliance.kernel.log import Logger
from appliance.kernel.tasks import TaskStatus
from appliance.protocols.helper import Answer, HelperConversation, Remark, Stray

__all__ = ["INTERFACE", "FilterProgram"]

INTERFACE: Final = 2
"""The version of the interface that the server speaks."""
_CRASHES: Final = 3
_ALONE: Final = 2
_NOISE: Final = 1 << 20
_WARN: Final = 300.0
"""Seconds between two records that tell how much mail waits for a program that is down."""


class LogSource(Protocol):
    """Gives loggers: the Log."""

    def source(self, tag: str, level: Callable[[], int]) -> Logger: ...


class _Request:
    __slots__ = ("answer", "crashes", "done", "number", "sent", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.number = 0
        self.sent = math.inf
        self.crashes = 0
        self.answer: FilterAnswer | None = None
        self.done = trio.Event()

    def finish(self, answer: FilterAnswer) -> None:
        self.answer = answer
        self.done.set()


class FilterProgram:
    """`change` puts new settings at any time; `command(path)` gives the arguments of a start."""

    def __init__(
        self,
        settings: FilterSettings,
        helpers: Helpers,
        directory: str,
        command: Callable[[str], Sequence[str]],
        log: LogSource,
        limit: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.answered = 0
        self.log = log.source("EXTFILTER", lambda: self.settings.log_level)
        self._limit = limit
        self._conversation = HelperConversation(INTERFACE)
        self._waiting: deque[_Request] = deque()
        self._sent: dict[int, _Request] = {}
        self._noise = 0
        self._blamed: list[_Request] | None = None
        self._look = trio.Event()
        self.helper = helpers.helper(
            settings.name,
            lambda: command(self.settings.path),
            self.log,
            self._received,
            started=self._started,
            ended=self._ended,
            directory=directory,
            pause=lambda: self.settings.restart,
            raw=True,
        )

    @property
    def version(self) -> int | None:
        """The interface that was agreed on; None if the program has not told its own, or is not running."""
        return self._conversation.agreed if self.helper.running else None

    @property
    def backlog(self) -> int:
        """Requests that have no answer yet."""
        return len(self._waiting) + len(self._sent)

    async def ask(self, file: str) -> FilterAnswer:
        """The answer about a message file, however long it takes. Cancelling takes the request back."""
        request = _Request(f"FILE {file}")
        self._waiting.append(request)
        self._look.set()
        self._pump()
        try:
            await request.done.wait()
        finally:
            if request.answer is None:
                self._forget(request)
        assert request.answer is not None
        return request.answer

    def change(self, settings: FilterSettings) -> None:
        """New settings; another path is another program, which is started at once."""
        before, self.settings = self.settings, settings
        self._look.set()
        if before.path != settings.path:
            self.restart()

    def release(self) -> None:
        """The filter is switched off: nobody waits for it any more."""
        for request in (*self._waiting, *self._sent.values()):
            request.finish(ACCEPT)
        for number in self._sent:
            self._conversation.forget(number)
        self._waiting.clear()
        self._sent.clear()

    def _forget(self, request: _Request) -> None:
        if request in self._waiting:
            self._waiting.remove(request)
        if self._sent.pop(request.number, None) is not None:
            self._conversation.forget(request.number)
            self._pump()

    # -- sending ------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._waiting and self.helper.running:
            suspect = self._waiting[0].crashes >= _ALONE or any(r.crashes >= _ALONE for r in self._sent.values())
            if len(self._sent) >= (1 if suspect else max(1, self._limit())):
                return
            request = self._waiting[0]
            if not request.number:
                request.number, line = self._conversation.ask(request.text)
            else:
                line = dict(self._conversation.again())[request.number]
            try:
                self.helper.send(line)
            except HelperError:
                return  # it does not read; an answer or a new program starts this again
            self._waiting.popleft()
            self._sent[request.number] = request
            request.sent = trio.current_time()
            self._look.set()
            self.log.all("%s: %s", self.settings.name, line.decode("utf-8", "replace"))

    # -- the program --------------------------------------------------------------------------------------------------

    def _started(self) -> None:
        self._noise = 0
        self._blamed = None
        self.helper.send(self._conversation.hello())
        self._pump()

    def _received(self, data: bytes) -> None:
        self._noise += len(data)
        for event in self._conversation.receive(data):
            if isinstance(event, Answer):
                self._answered(event)
            elif isinstance(event, Remark):
                self.log.low("%s: * %s", self.settings.name, event.text)
            else:
                assert isinstance(event, Stray)
                self.log.problem("%s: not asked for: %s", self.settings.name, event.text[:200])
        if self._noise > _NOISE:
            self.log.failure("%s talks without answering, it is ended", self.settings.name)
            self._noise = 0
            self.helper.terminate()

    def _answered(self, event: Answer) -> None:
        request = self._sent.get(event.number)
        if request is None:
            # A second answer, or one to a request that is still here.
            self.log.problem("%s: not asked for: %05d %s", self.settings.name, event.number, event.word)
            return
        try:
            answer = parse_answer(event.word, event.rest, self._conversation.agreed)
        except UnknownAnswer as error:
            self.log.problem("%s: [%d] %s", self.settings.name, event.number, error)
            return
        self._noise = 0
        self.answered += 1
        self.log.all("%s: %05d %s %s", self.settings.name, event.number, event.word, event.rest)
        if event.cut:
            self.log.problem("%s: [%d] the answer is too long and was cut", self.settings.name, event.number)
        for remark in answer.remarks:
            self.log.problem("%s: [%d] %s", self.settings.name, event.number, remark)
        del self._sent[event.number]
        self._conversation.forget(event.number)
        request.finish(answer)
        self._pump()

    def _ended(self) -> None:
        blamed = list(self._sent.values()) if self._blamed is None else self._blamed
        for request in blamed:
            request.crashes += 1
        for request in reversed(self._sent.values()):
            request.sent = math.inf
            if request.crashes < _CRASHES:
                self._waiting.appendleft(request)
                continue
            self._conversation.forget(request.number)
            self.log.failure("%s: %s has ended it %d times and waits", self.settings.name, request.text, _CRASHES)
            request.finish(FilterAnswer("postpone", "the filter program ends at this message"))
        self._sent.clear()

    def restart(self) -> None:
        """End the program if it runs, and start it: nothing that it has is to blame."""
        self._blamed = []
        self.helper.restart()

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the program running, until cancelled."""
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.helper.run)
                await self._watch()
        finally:
            self._blamed = []

    async def _watch(self) -> None:
        """End a program that does not answer in time; tell now and then what waits for one that is down."""
        told = trio.current_time()
        while True:
            oldest = min((request.sent for request in self._sent.values()), default=math.inf)
            due = min(oldest + self.settings.timeout, told + _WARN if self.backlog else math.inf)
            self._look = trio.Event()
            with trio.move_on_at(due):
                await self._look.wait()
                continue
            now = trio.current_time()
            late = [r for r in self._sent.values() if r.sent + self.settings.timeout <= now]
            if late and self.helper.running:
                self.log.problem("%s: no answer in %d s, it is ended", self.settings.name, self.settings.timeout)
                self._blamed = late
                self.helper.terminate()
                with trio.move_on_after(6):
                    while self.helper.running:  # noqa: ASYNC110 - it is ending
                        await trio.sleep(0.05)
            if now >= told + _WARN:
                told = now
                if self.backlog and not self.helper.running:
                    self.log.failure("%s is down, %d messages wait for it", self.settings.name, self.backlog)
