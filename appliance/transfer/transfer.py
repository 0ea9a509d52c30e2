"""The transfer room as a whole: spool, enqueuer, queues and dequeuer, wired to each other.

Start: `await transfer.recovery.replay_all()` (or each frame of the journal to `recovery.replay`, K frames to
`recovery.safe`), `await transfer.recovery.finish()`, the accounts' redo of `recovery.stored()`, then `run`, then
`transfer.begin()`. End: cancel `run`, then `await transfer.close()` while the journal still runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import trio

from appliance.kernel.clock import Clock
from appliance.kernel.disk import Disk
from appliance.kernel.journal import Journal
from appliance.kernel.log import Logger
from appliance.kernel.memory import give_back
from appliance.kernel.operations import Operations
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.tasks import TaskStatus
from appliance.transfer import banned as banned_lines
from appliance.transfer import operations as queue_operations
from appliance.transfer.banned import BannedLines
from appliance.transfer.dequeuer import Dequeuer
from appliance.transfer.enqueuer import Enqueuer, Routing
from appliance.transfer.foreign import ForeignQueue
from appliance.transfer.message import Envelope, Kind, Outcome, QueuedMessage, Source
from appliance.transfer.queues import DeliveryModule, Queues
from appliance.transfer.receiver import Receiver, Submission
from appliance.transfer.recovery import Recovery
from appliance.transfer.reports import Texts
from appliance.transfer.settings import (
    CACHE,
    DEQUEUER_LOG,
    ENQUEUER_LOG,
    MIN_FREE,
    QUEUE_LOG,
    RECYCLE,
    TEMPFILE_LOG,
)
from appliance.transfer.spool import Spool

__all__ = ["LogSource", "Transfer"]


_MANY: Final = 10_000


class LogSource(Protocol):
    """Gives loggers: the Log."""

    def source(self, tag: str, level: Callable[[], int]) -> Logger: ...


class Transfer:
    """`settings` are those of the Queue page, `temp_files` those of the Obscure page, `banned` the banned lines; `host` is the
    name in reports and new Message-IDs. Delivery modules register themselves in `modules`; server rules in `enqueuer.rules`."""

    def __init__(
        self,
        disk: Disk,
        journal: Journal,
        base: str,
        clock: Clock,
        log: LogSource,
        settings: Settings,
        temp_files: Settings,
        routing: Routing,
        texts: Texts,
        host: Callable[[], str] = lambda: "localhost",
        banned: Settings | None = None,
    ) -> None:
        self.journal = journal
        queue_log = log.source("QUEUE", lambda: settings[QUEUE_LOG])
        self.spool = Spool(
            disk,
            journal,
            os.path.join(base, "Queue"),
            clock,
            queue_log,
            cache=lambda: settings[CACHE],
            min_free=lambda: settings[MIN_FREE],
        )
        file_log = log.source("TEMPFILE", lambda: temp_files[TEMPFILE_LOG])
        self.receiver = Receiver(self.spool, settings, clock, file_log, host)
        self._banned = banned
        if banned is not None:
            self.receiver.banned = BannedLines(banned)
        self.queues = Queues(self.spool, clock, queue_log)
        dequeuer_log = log.source("DEQUEUER", lambda: settings[DEQUEUER_LOG])
        self.dequeuer = Dequeuer(self.spool, self.receiver, settings, clock, dequeuer_log, texts, host)
        self.queues.dequeuer = self.dequeuer
        enqueuer_log = log.source("ENQUEUER", lambda: settings[ENQUEUER_LOG])
        rules_log = log.source("ENQUEUERRULES", lambda: settings[ENQUEUER_LOG])
        self.enqueuer = Enqueuer(
            self.spool, self.queues, self.dequeuer, routing, settings, clock, enqueuer_log, rules_log
        )
        self.spool.arrived = self.enqueuer.put
        self.spool.revived = self.enqueuer.put_old
        self.spool.damaged = self._lost
        self.recovery = Recovery(self.spool, os.path.join(base, "BadFiles"))
        self.foreign = ForeignQueue(self.spool, self.recovery, os.path.join(base, "ForeignQueue"))
        self._clock = clock
        self._temp_files = temp_files
        journal.recycle(temp_files[RECYCLE])

    @property
    def modules(self) -> dict[str, DeliveryModule]:
        return self.queues.modules

    def _lost(self, message: QueuedMessage) -> None:
        """Its content is gone: those who wait for it will not get it, and its sender is told so."""
        waiting = [recipient for recipient in message.waiting if not recipient.taken]
        self.queues.finish(
            message, waiting, Outcome(Kind.FAILED, "5.3.0", "the message was damaged on the disk of the server")
        )
        self.queues.forget(message)

    def begin(self, source: Source) -> Submission:
        """A new message in the making (`Receiver.begin`)."""
        return self.receiver.begin(source)

    def start(self) -> int:
        """Enqueue what survived the restart; how many messages. All modules must be registered."""
        count = self.recovery.begin()
        if count >= _MANY:
            give_back()
        return count

    def safe(self, account: str, position: int) -> None:
        """The account's K is durable: all that it stored by frames before `position` (`Spool.safe`)."""
        self.spool.safe(account, position)

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """All tasks of the room; a vital component."""

        def changed(keys: frozenset[str]) -> None:
            del keys
            self.journal.recycle(self._temp_files[RECYCLE])

        end_watch = self._temp_files.watch(changed)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.spool.run)
                await nursery.start(self.dequeuer.run)
                await nursery.start(self.queues.run)
                await nursery.start(self.enqueuer.run)
                await nursery.start(self.foreign.run)
                task_status.started()
        finally:
            end_watch()

    async def close(self) -> None:
        """After `run` has ended and before the journal ends: the Queue directory alone tells all."""
        await self.spool.close()

    async def submit_text(
        self,
        sender: str,
        recipients: Iterable[str | Envelope],
        message: bytes,
        source: Source,
        *,
        because_of: tuple[QueuedMessage, str] | None = None,
    ) -> int:
        """Make a message of store-form octets; durable when its id is returned. `because_of` as in `Submission.submit`.

        ValueError for an empty list of recipients, and what `Submission.submit` raises.
        """
        async with self.receiver.begin(source) as submission:
            submission.sender = sender
            for recipient in recipients:
                submission.add(Envelope(recipient) if isinstance(recipient, str) else recipient)
            await submission.write(message)
            return await submission.submit(because_of=because_of)

    def declare(self, operations: Operations) -> None:
        """The queue monitors, and the banned lines, as operations."""
        queue_operations.declare(operations, self.spool, self.queues, self._clock)
        if self._banned is not None:
            banned_lines.declare(operations, self._banned)

    def count(self, statistics: Statistics) -> None:
        """What SNMP, events and metrics read."""
        statistics.gauge("numQueuedMessages", lambda: len(self.spool.live), "Messages in the Queue")
        statistics.gauge("numToEnqueue", lambda: len(self.enqueuer), "Messages that wait for the Enqueuer")
        statistics.gauge("numMessageQueues", lambda: len(self.queues.all()), "Queues of all modules that have messages")
        statistics.gauge("numAcceptedMessages", lambda: self.spool.accepted, "Messages accepted since the start")
        statistics.gauge("numReports", lambda: self.dequeuer.reports, "Delivery reports made since the start")
