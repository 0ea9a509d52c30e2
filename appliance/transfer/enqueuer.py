"""The Enqueuer: routes every recipient, lets server rules decide once, and puts the message into the modules' queues.

Several processors work in parallel, so that one message with a slow rule does not stop the others. A recipient whose route
cannot be found for now waits here; one that is refused for good is a failed one. After a restart a message is routed again,
but rules that have run never run again.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import trio

from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller
from appliance.kernel.settings import Settings
from appliance.kernel.tasks import Pace, TaskStatus
from appliance.router.route import Purpose, Refused, Route
from appliance.transfer.dequeuer import Dequeuer
from appliance.transfer.message import Kind, Outcome, QueuedMessage, Recipient
from appliance.transfer.queues import Queues
from appliance.transfer.settings import ENQUEUER_PROCESSORS
from appliance.transfer.spool import Spool

__all__ = ["Enqueuer", "Routing", "ServerRules", "Verdict"]

RETRY: Final = 120.0
"""Seconds until a route that was not known is asked for again."""
MAX_OUTSIDE: Final = 2000
"""Messages that may wait for something outside at a time; beyond them a processor waits with its message."""
KEEP: Final = 4 * 86400.0
"""Seconds that a recipient waits for a route."""
_TESTED: Final = ("SMTP", "LOCAL", "LIST")
"""Modules that can look at an address without delivering (manual, chapter 57, Address Testing)."""


class Routing(Protocol):
    """The router, as seen from here."""

    async def route(self, address: str, purpose: Purpose = Purpose.MAIL, caller: Caller | None = None) -> Route: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What server rules decided about a message: go on, discard it quietly, reject it with a text, or be asked again later.
    The fields of `added_header` (whole lines, LF) go in front of the message from now on."""

    action: Literal["accept", "discard", "reject", "later"] = "accept"
    text: str = ""
    added_header: bytes = b""
    fired: bool = True
    """Whether some rule did something; if not, nothing has to be written down."""


ServerRules = Callable[[QueuedMessage], Awaitable[Verdict]]
"""Runs once in the life of a message, after all its recipients are routed. Messages that it makes it submits itself."""


class Enqueuer:
    """`put` takes messages; the processors of `run` do the work. `rules` may be set at any time before `run`."""

    def __init__(
        self,
        spool: Spool,
        queues: Queues,
        dequeuer: Dequeuer,
        routing: Routing,
        settings: Settings,
        clock: Clock,
        log: Logger,
        rules_log: Logger,
    ) -> None:
        self.rules: ServerRules | None = None
        self.current: Callable[[Route], bool] = lambda route: False
        """Whether a route that came with a recipient still holds (`Router.current`)."""
        self._spool = spool
        self._queues = queues
        self._dequeuer = dequeuer
        self._routing = routing
        self._settings = settings
        self._clock = clock
        self._log = log
        self._rules_log = rules_log
        self._waiting: deque[QueuedMessage] = deque()
        self._old: deque[QueuedMessage] = deque()
        self._later: list[tuple[float, int]] = []
        self._idle: deque[trio.Event] = deque()
        self._running = 0
        self._outside = 0
        self._sooner = trio.Event()
        self._changed = trio.Event()

    def __len__(self) -> int:
        """How many messages wait to be enqueued."""
        return len(self._waiting) + len(self._old)

    def put(self, message: QueuedMessage) -> None:
        """Enqueue this message soon. If everybody has a result, only the reports are left to be made."""
        self._waiting.append(message)
        if self._idle:
            self._idle.popleft().set()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Around a wait of server rules for something outside (an external filter): meanwhile another processor works, so that
        mail that does not need it never waits for it."""
        if self._outside >= MAX_OUTSIDE:
            yield
            return
        self._outside += 1
        self._running -= 1
        self._changed.set()
        try:
            yield
        finally:
            self._outside -= 1
            self._running += 1

    def put_old(self, message: QueuedMessage) -> None:
        """As `put`, but what is new goes first: very many messages may have waited for a restart."""
        self._old.append(message)
        if self._idle:
            self._idle.popleft().set()

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """The processors; their number follows the setting."""

        def changed(keys: frozenset[str]) -> None:
            if ENQUEUER_PROCESSORS.key in keys:
                self._changed.set()
                for event in self._idle:
                    event.set()

        end_watch = self._settings.watch(changed)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._retry)
                task_status.started()
                while True:
                    while self._running < self._settings[ENQUEUER_PROCESSORS]:
                        self._running += 1
                        nursery.start_soon(self._processor)
                    self._changed = trio.Event()
                    await self._changed.wait()
        finally:
            self._running = self._outside = 0
            end_watch()

    async def _processor(self) -> None:
        while self._running <= self._settings[ENQUEUER_PROCESSORS]:
            if not self._waiting and not self._old:
                event = trio.Event()
                self._idle.append(event)
                try:
                    await event.wait()
                finally:
                    if event in self._idle:
                        self._idle.remove(event)
                continue
            message = self._waiting.popleft() if self._waiting else self._old.popleft()
            try:
                await self._enqueue(message)
            except Exception as error:
                self._log.record(0, "[%d] cannot be enqueued: %r", message.id, error)
                self._delay(message, message.waiting, "internal error")
            await trio.lowlevel.checkpoint()
        self._running -= 1

    async def _retry(self) -> None:
        while True:
            now = self._clock.now()
            while self._later and self._later[0][0] <= now:
                _, number = heapq.heappop(self._later)
                message = self._spool.live.get(number)
                if message is not None and not message.done:
                    self.put(message)
            pause = min(60.0, max(1.0, self._later[0][0] - now)) if self._later else math.inf
            self._sooner = trio.Event()
            with trio.move_on_after(pause):
                await self._sooner.wait()

    async def _enqueue(self, message: QueuedMessage) -> None:
        now = self._clock.now()
        routed: list[tuple[Recipient, Route]] = []
        unknown: list[tuple[Recipient, Refused]] = []
        known, message.routes = message.routes, None
        pace = Pace()
        for recipient in message.waiting:
            await pace.step()
            if recipient.route is not None or recipient.taken:
                continue
            route = None if known is None else known[recipient.index]
            if route is None or recipient.target or not self.current(route):
                try:
                    route = await self._route(recipient)
                except Refused as refusal:
                    unknown.append((recipient, refusal))
                    continue
            routed.append((recipient, route))
            if self._log.enabled(5):
                self._log.all(
                    "[%d] %s -> %s(%s)%s", message.id, recipient.address, route.module, route.host, route.address
                )
        if not message.ruled and self.rules is not None:
            verdict = await self.rules(message)
            if verdict.action == "later":
                self._delay(message, message.waiting, verdict.text)
                return
            message.ruled = True
            message.added_header += verdict.added_header
            if verdict.fired:
                self._spool.enqueued(message)
            if verdict.action != "accept":
                self._dismiss(message, verdict)
                return
        self._unrouted(message, unknown, now)
        await self._place(message, routed)
        self._dequeuer.resume(message)

    async def _route(self, recipient: Recipient) -> Route:
        """By the address that it has now; by its own if that is none (a crash came before it had the new name). Refused."""
        if recipient.target:
            try:
                return await self._routing.route(recipient.target)
            except Refused as refusal:
                if not refusal.permanent:
                    raise
        return await self._routing.route(recipient.address)

    def _dismiss(self, message: QueuedMessage, verdict: Verdict) -> None:
        waiting = [recipient for recipient in message.waiting if not recipient.taken]
        if verdict.action == "discard":
            self._rules_log.low("[%d] discarded by a rule", message.id)
            self._dequeuer.finish(message, waiting, Outcome(Kind.DELIVERED, "2.0.0", "discarded"))
        else:
            self._rules_log.low("[%d] rejected by a rule: %s", message.id, verdict.text)
            text = verdict.text or "rejected by a server rule"
            self._dequeuer.finish(message, waiting, Outcome(Kind.FAILED, "5.7.1", text))

    def _unrouted(self, message: QueuedMessage, unknown: list[tuple[Recipient, Refused]], now: float) -> None:
        late: list[Recipient] = []
        for recipient, refusal in unknown:
            if refusal.permanent or now - message.arrived > KEEP:
                self._dequeuer.finish(message, [recipient], Outcome(Kind.FAILED, refusal.code, refusal.text))
            else:
                recipient.reason = refusal.text
                late.append(recipient)
        if late:
            self._delay(message, late, "")

    def _delay(self, message: QueuedMessage, recipients: list[Recipient], reason: str) -> None:
        due = self._clock.now() + RETRY
        for recipient in recipients:
            recipient.reason = reason or recipient.reason
            recipient.attempts += 1
        self._log.problem("[%d] is routed again in %d seconds", message.id, RETRY)
        heapq.heappush(self._later, (due, message.id))
        self._sooner.set()

    async def _place(self, message: QueuedMessage, routed: list[tuple[Recipient, Route]]) -> None:
        going: list[Recipient] = []
        pace = Pace()
        for recipient, route in routed:
            await pace.step()
            if not recipient.waiting:
                continue
            if route.module == "SYSTEM" or (message.test and route.module not in _TESTED):
                self._dequeuer.finish(message, [recipient], Outcome(Kind.DELIVERED, "2.0.0", "discarded"))
            elif route.module not in self._queues.modules:
                text = f"the {route.module} module is not available"
                self._dequeuer.finish(message, [recipient], Outcome(Kind.FAILED, "5.3.5", text))
            else:
                recipient.route = self._queues.placed(message, route)
                going.append(recipient)
        if going:
            await self._queues.enqueue(message, going)
