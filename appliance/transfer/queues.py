"""The queues of the modules: SMTP has one for each domain, LOCAL one for each account, and so on (manual, chapter 26).

A message stands in the queue of every (module, host) that one of its recipients was routed to. A queue as a whole, a message
in it, or a single recipient can be delayed; each has a time before which nothing happens. A delivery module takes what is
due from a queue, entry by entry, and says for each recipient what became of it.

Times are wall times, because they outlive the process; the dispatcher never sleeps longer than a minute, so a clock that is
set does no lasting harm.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

import trio

from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.tasks import Pace, TaskStatus
from appliance.router.route import Route
from appliance.transfer.message import Kind, Outcome, QueuedMessage, Recipient, Stored, share
from appliance.transfer.spool import Spool

if TYPE_CHECKING:
    from appliance.transfer.dequeuer import Dequeuer

__all__ = ["DeliveryModule", "ModuleQueue", "QueueEntry", "Queues"]

NO_RESULT: Final = 60
"""Seconds that a recipient waits for whom a module gave no result."""
CRASHED: Final = 120
"""Seconds that a queue waits after its processing failed."""
_LOOK: Final = 60.0
_WATCH: Final = 3600.0
_TICK: Final = 0.01  # a wall time has too few digits for shorter sleeps


class DeliveryModule(Protocol):
    """What delivers: registered as `queues.modules["SMTP"] = module`.

    It may also have: `channels(host) -> int`, how many tasks may work on one queue (1); `holds(host) -> bool`, the queue
    waits until it is released; `warn_after(host) -> Sequence[int]`, ages in seconds at which the sender of a waiting message
    is warned; `keep(host) -> int | None`, the age at which a waiting recipient fails; `place(message, route) -> Route`, the
    route with another queue.
    """

    def concurrency(self) -> int:
        """How many queues are processed at the same time; 0 stops the module. Asked again at each start of a queue."""
        ...

    async def process(self, queue: ModuleQueue) -> None:
        """Take entries until there are no more that are due, or the queue was delayed."""
        ...


class _Place:
    """A message's place in one queue."""

    __slots__ = ("listed", "message", "recipients")

    def __init__(self, message: QueuedMessage) -> None:
        self.message = message
        self.recipients: Sequence[Recipient] = ()
        self.listed = False


class QueueEntry:
    """A message in the hands of a module, with the recipients that are due. Each needs a result: finish or delay."""

    __slots__ = ("_place", "_queue", "message", "recipients", "task")

    def __init__(self, queue: ModuleQueue, place: _Place, recipients: list[Recipient]) -> None:
        self._queue = queue
        self._place = place
        self.message = place.message
        self.recipients = recipients
        self.task: trio.lowlevel.Task | None = None

    def finish(
        self, recipient: Recipient | Iterable[Recipient], outcome: Outcome, stored: Stored | None = None
    ) -> None:
        """The final result of one recipient, or the same one of several. `stored` is what an account did (module LOCAL).

        Durable within 50 ms. JournalError when nothing can be written any more.
        """
        several = [recipient] if isinstance(recipient, Recipient) else list(recipient)
        for one in several:
            one.taken = False
        self._queue.queues.finish(self.message, [one for one in several if one.waiting], outcome, stored)

    def delay(self, recipient: Recipient | None, seconds: float, reason: str) -> None:
        """This recipient, or with None all of the entry that have no result yet, waits that long."""
        clock = self._queue.queues.clock
        waiting = [one for one in self.recipients if one.taken and (recipient is None or one is recipient)]
        for one in waiting:
            one.taken = False
            one.due = clock.now() + seconds
            one.attempts += 1
            one.reason = reason
        if waiting:
            self._queue.queues.delayed(self.message, waiting)


class ModuleQueue:
    """What waits for one host (domain, account, list, program) of one module. `async for entry in queue` takes what is due."""

    __slots__ = (
        "_entries",
        "_later",
        "_listed",
        "_places",
        "_ready",
        "_timed",
        "active",
        "host",
        "module",
        "queues",
        "reason",
        "released",
        "target",
        "until",
    )

    def __init__(self, queues: Queues, module: str, host: str) -> None:
        self.queues = queues
        self.module = module
        self.host = host
        self.until = 0.0
        """The whole queue waits until this wall time."""
        self.reason = ""
        self.released = False
        """Somebody asked for it: what holds it back does not count until it has been processed."""
        self.target: Callable[[Recipient], str] | None = None
        """Set when the host is no more: its recipients are routed again, by that address (`Queues.reroute`)."""
        self.active = 0
        self._places: dict[int, _Place] = {}
        self._ready: deque[_Place] | None = (
            None  # very many queues wait with nothing to do, and an empty deque is large
        )
        self._later: list[tuple[float, int]] | None = None
        self._entries: list[QueueEntry] = []
        self._listed = False
        self._timed = 0.0

    def __len__(self) -> int:
        """How many messages are in it."""
        return len(self._places)

    @property
    def messages(self) -> list[QueuedMessage]:
        return [place.message for place in self._places.values()]

    def recipients(self, message: QueuedMessage) -> list[Recipient]:
        """Those of the message that wait in this queue."""
        place = self._places.get(message.id)
        return [] if place is None else [recipient for recipient in place.recipients if recipient.waiting]

    @property
    def held(self) -> bool:
        """Waits for a release."""
        return not self.released and self.queues.holds(self)

    def delay(self, seconds: float, reason: str) -> None:
        """The whole queue waits that long; kept over a restart. Recipients that the caller has in hand are given back."""
        self.released = False
        if self.target is None:
            self.until = self.queues.clock.now() + seconds
            self.reason = reason
            self.queues.spool.delay_queue(self.module, self.host, self.until, reason)
        task = trio.lowlevel.current_task()
        for entry in self._entries:
            if entry.task is task or entry.task is None:
                self._give_back(entry, None)
        self.queues.log.low("%s(%s) delayed for %d seconds: %s", self.module, self.host, seconds, reason)

    def add(self, message: QueuedMessage, recipients: Iterable[Recipient]) -> None:
        place = self._places.get(message.id)
        if place is None:
            place = self._places[message.id] = _Place(message)
        more = list(recipients)
        if place.recipients:
            place.recipients = [*place.recipients, *more]
        else:
            place.recipients = message.recipients if more == message.recipients else more
        self._list(place)

    def _list(self, place: _Place) -> None:
        """Put the place where its next turn will be."""
        if self.target is not None:
            self._send_back(place, self.target)
        due = min((r.due for r in place.recipients if r.waiting and not r.taken), default=None)
        if due is None:
            if not any(recipient.waiting for recipient in place.recipients):
                self._places.pop(place.message.id, None)
        elif due <= self.queues.clock.now():
            if not place.listed:
                place.listed = True
                if self._ready is None:
                    self._ready = deque()
                self._ready.append(place)
        else:
            if self._later is None:
                self._later = []
            heapq.heappush(self._later, (due, place.message.id))

    def _send_back(self, place: _Place, target: Callable[[Recipient], str]) -> None:
        """What nobody has in hand is routed again."""
        leaving = [recipient for recipient in place.recipients if recipient.waiting and not recipient.taken]
        if not leaving:
            return
        place.recipients = [recipient for recipient in place.recipients if recipient not in leaving]
        for recipient in leaving:
            recipient.target = target(recipient) or recipient.target
            recipient.route = None
            recipient.due = 0.0
        self.queues.spool.note(place.message, leaving)
        self.queues.spool.arrived(place.message)

    def next_due(self) -> float | None:
        """When something can be done: a wall time, 0 for now, None if nothing waits."""
        now = self.queues.clock.now()
        self._promote(now)
        if self._ready:
            due = 0.0
        elif self._later:
            due = self._later[0][0]
        else:
            return None
        return max(due, self.until if self.until > now else 0.0)

    def _promote(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, number = heapq.heappop(self._later)
            place = self._places.get(number)
            if place is not None:
                self._list(place)
        if not self._later:
            self._later = None

    def backlog(self) -> int:
        """How many messages are due."""
        return len(self._ready or ())

    def clear_delays(self) -> None:
        """Everything is due now."""
        if self.until:
            self.until = 0.0
            self.reason = ""
            self.queues.spool.delay_queue(self.module, self.host, 0.0, "")
        self._later = None
        for place in list(self._places.values()):
            for recipient in place.recipients:
                recipient.due = 0.0
            self._list(place)

    def take(self) -> QueueEntry | None:
        """The next entry that is due, or None."""
        now = self.queues.clock.now()
        if self.until > now:
            return None
        self._promote(now)
        while self._ready:
            place = self._ready.popleft()
            place.listed = False
            due = [r for r in place.recipients if r.waiting and not r.taken and r.due <= now]
            if not due:
                self._list(place)
                continue
            for recipient in due:
                recipient.taken = True
            entry = QueueEntry(self, place, due)
            self._entries.append(entry)
            return entry
        self._ready = None
        return None

    def put_back(self, entry: QueueEntry) -> None:
        """The module is done with the entry; recipients that it forgot wait a minute."""
        if entry in self._entries:
            self._entries.remove(entry)
            self._give_back(entry, "no result")
        self._list(entry._place)

    def _give_back(self, entry: QueueEntry, reason: str | None) -> None:
        for recipient in entry.recipients:
            if recipient.taken:
                recipient.taken = False
                if reason is not None:
                    recipient.due = self.queues.clock.now() + NO_RESULT
                    recipient.reason = reason
                else:
                    recipient.attempts += 1

    async def __aiter__(self) -> AsyncIterator[QueueEntry]:
        while True:
            entry = self.take()
            if entry is None:
                return
            entry.task = trio.lowlevel.current_task()
            try:
                yield entry
            finally:
                self.put_back(entry)
            await trio.lowlevel.checkpoint()

    def put_back_of(self, task: trio.lowlevel.Task) -> None:
        """All that a task that has ended still had in hand."""
        for entry in [entry for entry in self._entries if entry.task is task]:
            self.put_back(entry)


class Queues:
    """All queues, and the dispatcher that lets the modules work on them."""

    def __init__(self, spool: Spool, clock: Clock, log: Logger) -> None:
        self.spool = spool
        self.clock = clock
        self.log = log
        self.modules: dict[str, DeliveryModule] = {}
        self.dequeuer: Dequeuer | None = None
        self._queues: dict[tuple[str, str], ModuleQueue] = {}
        self._runnable: dict[str, deque[ModuleQueue]] = {}
        self._timers: list[tuple[float, int, ModuleQueue]] = []
        self._watched: list[int] = []
        self._watched_at: dict[int, list[int]] = {}
        self._serial = 0
        self._active: dict[str, int] = {}
        self._wake = trio.Event()
        self._again: set[str | None] = set()
        self._pace = Pace()

    # -- what modules say ---------------------------------------------------------------------------------------------

    def finish(
        self, message: QueuedMessage, recipients: Sequence[Recipient], outcome: Outcome, stored: Stored | None = None
    ) -> None:
        assert self.dequeuer is not None
        self.dequeuer.finish(message, recipients, outcome, stored)

    def delayed(self, message: QueuedMessage, recipients: Sequence[Recipient]) -> None:
        self.spool.note(message, recipients)
        if self.log.enabled(4):
            for one in recipients:
                self.log.low("[%d] %s delayed: %s", message.id, one.address, one.reason)

    # -- filling ------------------------------------------------------------------------------------------------------

    def get(self, module: str, host: str) -> ModuleQueue | None:
        return self._queues.get((module, host))

    def all(self, module: str | None = None) -> list[ModuleQueue]:
        """The queues that have something, of one module or of all."""
        return [queue for queue in self._queues.values() if len(queue) and module in (None, queue.module)]

    async def enqueue(self, message: QueuedMessage, recipients: Iterable[Recipient]) -> None:
        """Put routed recipients into the queues of their modules."""
        groups: dict[tuple[str, str], list[Recipient]] = {}
        stays = message.held is None
        for recipient in recipients:
            assert recipient.way is not None
            if stays:
                share(recipient, self.spool.common)
            groups.setdefault((recipient.way.module, recipient.way.host), []).append(recipient)
        pace = Pace()
        for key, group in groups.items():
            await pace.step()
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = ModuleQueue(self, *key)
                kept = self.spool.queue_delays.get(key)
                if kept is not None:
                    queue.until, queue.reason = kept[0], kept[1]
            queue.add(message, group)
            self._schedule(queue)
        self._watch(message)

    def placed(self, message: QueuedMessage, route: Route) -> Route:
        """The route of a recipient, with the queue that its module wants for this message."""
        place: Callable[[QueuedMessage, Route], Route] | None = getattr(self.modules.get(route.module), "place", None)
        return route if place is None else place(message, route)

    def holds(self, queue: ModuleQueue) -> bool:
        holds: Callable[[str], bool] | None = getattr(self.modules.get(queue.module), "holds", None)
        return holds is not None and holds(queue.host)

    def _channels(self, queue: ModuleQueue) -> int:
        channels: Callable[[str], int] | None = getattr(self.modules.get(queue.module), "channels", None)
        return 1 if channels is None else max(1, channels(queue.host))

    # -- releasing and rejecting --------------------------------------------------------------------------------------

    def release(self, module: str, host: str) -> bool:
        """Start a queue at once, whatever holds or delays it. False if there is no such queue."""
        queue = self._queues.get((module, host))
        if queue is None:
            return False
        queue.released = True
        queue.clear_delays()
        self.log.low("%s(%s) released", module, host)
        self._schedule(queue)
        return True

    def reroute(self, module: str, host: str, target: Callable[[Recipient], str] = lambda recipient: "") -> int:
        """The host of this queue is gone or has another name: what waits is routed again, by the address that `target` gives
        for a recipient (empty: as before), over restarts too. What a module has in hand follows when it gives it back. How
        many messages."""
        queue = self._queues.pop((module, host), None)
        if queue is None:
            return 0
        count = len(queue)
        self.spool.delay_queue(module, host, 0.0, "")
        queue.until = 0.0
        queue.target = target
        queue._ready = queue._later = None
        for place in list(queue._places.values()):
            place.listed = False
            queue._list(place)
        self.log.low("%s(%s): %d messages are routed again", module, host, count)
        return count

    def reconsider(self, module: str | None = None) -> None:
        """Something changed that may let queues go (a schedule, a setting, a new module): look at all of them again soon."""
        self._again.add(module)
        self._wake.set()

    async def _reconsider(self) -> None:
        modules, self._again = self._again, set()
        every = None in modules
        for queue in list(self._queues.values()):
            if every or queue.module in modules:
                self._schedule(queue)
                await self._pace.step()

    def reject(self, message: QueuedMessage, text: str, queue: ModuleQueue | None = None) -> int:
        """Fail the recipients that wait, in one queue or in all; how many. Those in the hands of a module are left to it."""
        waiting = message.waiting if queue is None else queue.recipients(message)
        waiting = [recipient for recipient in waiting if not recipient.taken]
        if waiting:
            self.finish(message, waiting, Outcome(Kind.FAILED, "5.7.0", text))
            self.forget(message)
        return len(waiting)

    def forget(self, message: QueuedMessage) -> None:
        """Take finished recipients of a message out of their queues."""
        keys = {(r.way.module, r.way.host) for r in message.recipients if r.way is not None}
        for key in keys:
            queue = self._queues.get(key)
            if queue is not None and (place := queue._places.get(message.id)) is not None:
                queue._list(place)
                self._schedule(queue)

    # -- dispatching --------------------------------------------------------------------------------------------------

    def _schedule(self, queue: ModuleQueue) -> None:
        """See when the queue can be processed, and note it."""
        key = (queue.module, queue.host)
        due = queue.next_due()
        if due is None:
            if (
                not len(queue)
                and not queue.active
                and queue.until <= self.clock.now()
                and self._queues.get(key) is queue
            ):
                del self._queues[key]
            return
        if queue.held or queue._listed:
            return
        if due > self.clock.now():
            if queue._timed and queue._timed <= due:
                return  # it is looked at then, or before
            queue._timed = due
            self._serial += 1
            heapq.heappush(self._timers, (due, self._serial, queue))
        elif queue.active < self._channels(queue) and queue.backlog() > queue.active:
            queue._listed = True
            self._runnable.setdefault(queue.module, deque()).append(queue)
        else:
            return
        self._wake.set()

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """The dispatcher: starts modules on queues that are due."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            looked = self.clock.now()
            while True:
                self._wake = trio.Event()
                now = self.clock.now()
                while self._timers and self._timers[0][0] <= now:
                    due, _, queue = heapq.heappop(self._timers)
                    if queue._timed == due:
                        queue._timed = 0.0
                    if self._queues.get((queue.module, queue.host)) is queue:
                        self._schedule(queue)
                for name, runnable in self._runnable.items():
                    module = self.modules.get(name)
                    while module is not None and runnable and self._active.get(name, 0) < module.concurrency():
                        queue = runnable.popleft()
                        queue._listed = False
                        if queue.next_due() == 0.0 and not queue.held:
                            self._active[name] = self._active.get(name, 0) + 1
                            queue.active += 1
                            nursery.start_soon(self._process, module, queue)
                            self._schedule(queue)
                        else:
                            self._schedule(queue)
                await self._look_after(now)
                pause = _LOOK if self._queues else math.inf
                if self._timers:
                    pause = min(pause, max(_TICK, self._timers[0][0] - now))
                if self._watched:
                    pause = min(pause, max(_TICK, self._watched[0] - now))
                with trio.move_on_after(pause):
                    await self._wake.wait()
                if now - looked >= _LOOK or now < looked:
                    looked = now
                    self._again.add(None)
                if self._again:
                    await self._reconsider()

    async def _process(self, module: DeliveryModule, queue: ModuleQueue) -> None:
        try:
            async with self._turn(queue):
                await module.process(queue)
        except Exception as error:
            self.log.record(0, "%s(%s) failed: %r", queue.module, queue.host, error)
            queue.delay(CRASHED, "internal error")
        finally:
            self._active[queue.module] -= 1
            queue.active -= 1
            if not queue.active:
                queue.released = False
            self._schedule(queue)
            self._wake.set()

    @asynccontextmanager
    async def _turn(self, queue: ModuleQueue) -> AsyncIterator[None]:
        try:
            yield
        finally:
            queue.put_back_of(trio.lowlevel.current_task())

    @asynccontextmanager
    async def session(self, module: str, host: str) -> AsyncIterator[ModuleQueue | None]:
        """Process a queue outside of the dispatcher's turn, released: an ATRN client that fetches its mail. None if empty.

        `async with queues.session("SMTP", host) as queue: async for entry in queue: ...`
        """
        queue = self._queues.get((module, host))
        if queue is None:
            yield None
            return
        queue.active += 1
        queue.clear_delays()
        try:
            async with self._turn(queue):
                yield queue
        finally:
            queue.active -= 1
            self._schedule(queue)

    # -- warnings and expiry ------------------------------------------------------------------------------------------

    def _watch(self, message: QueuedMessage) -> None:
        """Note when the message will have waited so long that something is to be said."""
        now = self.clock.now()
        moments: list[float] = []
        for recipient in message.waiting:
            for age in self._ages(recipient):
                moments.append(message.arrived + age)
        if moments:
            self._watch_at(min(max(min(moments), now), now + _WATCH), message.id)

    def _watch_at(self, moment: float, number: int) -> None:
        """Messages are many, so they stand together by whole seconds."""
        second = math.ceil(moment)
        together = self._watched_at.get(second)
        if together is None:
            self._watched_at[second] = [number]
            heapq.heappush(self._watched, second)
            if self._watched[0] == second:
                self._wake.set()
        else:
            together.append(number)

    def _ages(self, recipient: Recipient) -> Iterable[float]:
        if recipient.way is None:
            return
        module, host = self.modules.get(recipient.way.module), recipient.way.host
        steps = self._warnings(module, host)
        if recipient.warned < len(steps):
            yield steps[recipient.warned]
        keep = self._keep(module, host)
        if keep is not None:
            yield keep

    @staticmethod
    def _warnings(module: DeliveryModule | None, host: str) -> Sequence[int]:
        warn_after: Callable[[str], Sequence[int]] | None = getattr(module, "warn_after", None)
        return () if warn_after is None else warn_after(host)

    @staticmethod
    def _keep(module: DeliveryModule | None, host: str) -> int | None:
        keep: Callable[[str], int | None] | None = getattr(module, "keep", None)
        return None if keep is None else keep(host)

    async def _look_after(self, now: float) -> None:
        """Warn about and fail what has waited too long."""
        while self._watched and self._watched[0] <= now:
            for number in self._watched_at.pop(heapq.heappop(self._watched)):
                message = self.spool.live.get(number)
                if message is not None and not message.done:
                    self._look_at(message, now)
                    await self._pace.step()

    def _look_at(self, message: QueuedMessage, now: float) -> None:
        age = now - message.arrived
        warned: list[Recipient] = []
        expired: list[Recipient] = []
        for recipient in message.waiting:
            if recipient.way is None:
                continue
            module, host = self.modules.get(recipient.way.module), recipient.way.host
            keep = self._keep(module, host)
            if keep is not None and age >= keep and not recipient.taken:
                expired.append(recipient)
                continue
            steps = self._warnings(module, host)
            before = recipient.warned
            while recipient.warned < len(steps) and age >= steps[recipient.warned]:
                recipient.warned += 1
            if recipient.warned > before:
                warned.append(recipient)
        for recipient in expired:
            text = f"delivery time expired: {recipient.reason}" if recipient.reason else "delivery time expired"
            self.finish(message, [recipient], Outcome(Kind.FAILED, "5.4.7", text))
        if expired:
            self.forget(message)
        if warned:
            self.spool.note(message, warned)
            assert self.dequeuer is not None
            self.dequeuer.warn(message, warned)
        if any(recipient.taken for recipient in message.waiting) and not warned and not expired:
            self._watch_at(now + NO_RESULT, message.id)
        else:
            self._watch(message)
