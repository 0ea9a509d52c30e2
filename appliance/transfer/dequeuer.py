"""The Dequeuer: takes the result of every recipient, tells the sender what he wants to know, and lets the message go.

Results gather for the Reporting Delay, so that one report tells of several recipients; the report is made at once when the
last recipient has its result. Who is told (RFC 3461, 5.2 and 6.2):

- a failure, unless the sender asked not to be told, or there is no return-path;
- a delivery only if it was asked for (NOTIFY=SUCCESS, or Return-Receipt-To and delivery into an account here);
- a delay, unless NOTIFY was given without DELAY;
- never anything about a report: it has no return-path.

With Copy Failure Reports on, reports of failures go to that address too; so do failures of messages without a return-path,
once, and what fails on that way is not told to anybody.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from appliance.formats.headers import first_fields, header_end
from appliance.kernel.clock import Clock
from appliance.kernel.journal import JournalError
from appliance.kernel.log import Logger
from appliance.kernel.settings import Settings
from appliance.kernel.tasks import TaskStatus
from appliance.transfer.message import Envelope, Kind, Outcome, QueuedMessage, Recipient, Source, Stored
from appliance.transfer.receiver import Receiver
from appliance.transfer.reports import Texts, compose
from appliance.transfer.settings import COPY_ADDRESS, COPY_REPORTS, DEQUEUER_PROCESSORS, REPORTING_DELAY, RETURN
from appliance.transfer.spool import NoSpace, Spool

__all__ = ["Dequeuer"]

MODULE: Final = "DEQUEUER"
RETRY: Final = 60.0
"""Seconds until a report that could not be made is tried again."""
_HEADER: Final = 64 << 10
"""Most octets of a returned header."""


class Dequeuer:
    """`finish`, `warn` and `resume` only note what is to be done; the processors of `run` make the reports."""

    def __init__(
        self,
        spool: Spool,
        receiver: Receiver,
        settings: Settings,
        clock: Clock,
        log: Logger,
        texts: Texts,
        host: Callable[[], str] = lambda: "localhost",
    ) -> None:
        self.reports = 0
        """How many reports have been made."""
        self._spool = spool
        self._receiver = receiver
        self._settings = settings
        self._clock = clock
        self._log = log
        self._texts = texts
        self._host = host
        self._due: list[tuple[float, int]] = []
        self._warnings: deque[tuple[QueuedMessage, tuple[Recipient, ...]]] = deque()
        self._working: set[int] = set()
        self._wake = trio.Event()
        self._limiter = trio.CapacityLimiter(1)

    def finish(
        self, message: QueuedMessage, recipients: Sequence[Recipient], outcome: Outcome, stored: Stored | None = None
    ) -> None:
        """The final result of these recipients. A recipient that has one already keeps it."""
        fresh = [recipient for recipient in recipients if recipient.outcome is None]
        for recipient in fresh:
            recipient.outcome = outcome
            recipient.reported = not self._wanted(message, recipient)
            if outcome.kind == Kind.FAILED:
                self._log.major("[%d] %s failed: %s", message.id, recipient.address, outcome.text)
            elif self._log.enabled(2):
                self._log.major("[%d] %s %s", message.id, recipient.address, outcome.kind)
        if fresh or stored is not None:
            self._spool.record(message, fresh, stored)
        if not message.done and all(recipient.reported for recipient in fresh):
            return  # what there was to be told before has its time already
        self.resume(message)

    def resume(self, message: QueuedMessage) -> None:
        """See what is left to be told about the message, and let it go if nothing is."""
        if any(recipient.outcome is not None and not recipient.reported for recipient in message.recipients):
            now = self._clock.now()
            due = now if message.done else now + self._settings[REPORTING_DELAY]
            if not message.report_due or due < message.report_due:
                message.report_due = due
                heapq.heappush(self._due, (due, message.id))
                self._wake.set()
        else:
            self._spool.settle(message)

    def warn(self, message: QueuedMessage, recipients: Sequence[Recipient]) -> None:
        """These recipients wait for long: tell the sender, if he wants to know."""
        wanted = tuple(recipient for recipient in recipients if recipient.wants("D"))
        if wanted and message.sender and message.source.module != MODULE:
            self._warnings.append((message, wanted))
            self._wake.set()

    def _wanted(self, message: QueuedMessage, recipient: Recipient) -> bool:
        """Whether somebody is to be told of this result."""
        assert recipient.outcome is not None
        if recipient.outcome.kind == Kind.FAILED:
            if not message.sender:
                return bool(self._settings[COPY_REPORTS] and self._settings[COPY_ADDRESS] and recipient.notify != "N")
            return recipient.wants("F")
        if not message.sender:
            return False
        if message.test:
            return False
        if recipient.wants("S"):
            return True
        if recipient.notify == "N":
            return False
        here = recipient.route is not None and recipient.route.module == "LOCAL"
        return message.receipt and here and recipient.outcome.kind == Kind.DELIVERED

    # -- making reports -----------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """The processors; as many reports at a time as the setting says."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._wake = trio.Event()
                self._limiter.total_tokens = self._settings[DEQUEUER_PROCESSORS]
                now = self._clock.now()
                while self._warnings:
                    message, recipients = self._warnings.popleft()
                    nursery.start_soon(self._work, message, recipients, await self._slot())
                while self._due and self._due[0][0] <= now:
                    _, number = heapq.heappop(self._due)
                    due = self._spool.live.get(number)
                    if due is None or number in self._working:
                        continue
                    self._working.add(number)
                    nursery.start_soon(self._work, due, None, await self._slot())
                pause = min(60.0, max(0.01, self._due[0][0] - now)) if self._due else math.inf
                with trio.move_on_after(pause):
                    await self._wake.wait()

    async def _slot(self) -> object:
        slot = object()
        await self._limiter.acquire_on_behalf_of(slot)
        return slot

    async def _work(self, message: QueuedMessage, late: tuple[Recipient, ...] | None, slot: object) -> None:
        again = False
        try:
            if late is not None:
                # In the meantime some may have got their result: then the warning is out of place.
                late = tuple(recipient for recipient in late if recipient.waiting)
                if late:
                    await self._report(message, late, warning=True)
                return
            message.report_due = 0.0
            results = [r for r in message.recipients if r.outcome is not None and not r.reported]
            if results:
                await self._report(message, results, warning=False)
        except (OSError, JournalError, NoSpace, ValueError) as error:
            self._log.failure("[%d] the report cannot be made: %s", message.id, error)
            message.report_due = self._clock.now() + RETRY
            heapq.heappush(self._due, (message.report_due, message.id))
            again = True
        finally:
            self._limiter.release_on_behalf_of(slot)
            if late is None:
                self._working.discard(message.id)
                if not again:  # results that came meanwhile, and their time, were passed over
                    message.report_due = 0.0
                    self.resume(message)
            self._wake.set()

    def _addressees(self, message: QueuedMessage, failure: bool) -> list[Envelope]:
        people = [Envelope(message.sender, "N")] if message.sender else []
        if failure and self._settings[COPY_REPORTS] and self._settings[COPY_ADDRESS]:
            copy = self._settings[COPY_ADDRESS]
            if copy != message.sender:
                people.append(Envelope(copy, "N"))
        return people

    async def _report(self, message: QueuedMessage, recipients: Sequence[Recipient], *, warning: bool) -> None:
        failure = any(r.outcome is not None and r.outcome.kind == Kind.FAILED for r in recipients)
        people = self._addressees(message, failure)
        if not people:  # the copy was switched off meanwhile
            self._told(message, recipients)
            return
        full = failure and self._return_all(message)
        header = b""
        try:
            data = await message.head(_HEADER)
            header = data[: header_end(data)]
        except OSError as error:
            self._log.failure("[%d] cannot be read for its report: %s", message.id, error)
            full = False
        zone = self._clock.local
        now = self._clock.now()
        report = compose(
            message,
            recipients,
            to=[envelope.address for envelope in people],
            host=self._host() or "localhost",
            now=zone(now).replace(microsecond=0),
            arrived=zone(message.arrived).replace(microsecond=0),
            message_id=self._receiver.message_id(),
            texts=self._texts,
            full=full,
            original_id=_message_id(header),
        )
        async with self._receiver.begin(Source(MODULE, trusted=True), reserve=True) as submission:
            submission.smtputf8 = message.smtputf8
            for envelope in people:
                submission.add(envelope)
            await submission.write(report.head)
            if full:
                async for piece in message.chunks():
                    await submission.write(piece)
            else:
                await submission.write(header)
            await submission.write(report.tail)
            number = await submission.submit(reported=None if warning else (message, recipients))
        self.reports += 1
        self._log.low("[%d] report on [%d] to %s", number, message.id, ", ".join(e.address for e in people))

    def _told(self, message: QueuedMessage, recipients: Sequence[Recipient]) -> None:
        for recipient in recipients:
            recipient.reported = True
        self._spool.note(message, recipients)

    def _return_all(self, message: QueuedMessage) -> bool:
        """RET= of the sender, under what the administrator says (manual, On Failure, Return; RFC 3461, 4.3)."""
        choice = self._settings[RETURN]
        if choice == "alwaysBody":
            return True
        if choice == "alwaysHeaders":
            return False
        return message.ret == "full" if message.ret else choice == "body"


def _message_id(header: bytes) -> str:
    value = first_fields(header).get(b"message-id", b"").strip()
    fits = value.startswith(b"<") and value.endswith(b">") and len(value) < 250 and b"\n" not in value
    return value.decode("ascii") if fits and value.isascii() else ""
