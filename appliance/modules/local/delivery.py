"""The LOCAL module: takes mail from the queues of accounts into the accounts (manual, chapter 30, Local Delivery).

One queue an account, `host` is its full name. Before a message goes in: is there such an account, is its Mail service on, is it
full, does it get too much at once. What holds an account holds its whole queue; it is looked at again every minute, until the
time is up that the settings give. What waits in one queue goes to the account together, so that it costs one hop to the disk.

Everything is decided first; then the account stores, and one frame D tells what it stored and the results of the recipients.
Trouble with the disk or the account's files delays, it never bounces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import trio

from appliance.accounts.client import AccountError
from appliance.accounts.delivery import Delivery, DeliveryResult, Store
from appliance.accounts.gate import Accounts
from appliance.accounts.state import State
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.modules.local.content import added_header, content_of, envelope_addresses
from appliance.modules.local.counting import Counting
from appliance.modules.local.distribution import Distribution
from appliance.modules.local.flow import FlowControl
from appliance.modules.local.following import Following
from appliance.modules.local.routing import MODULE
from appliance.modules.local.settings import (
    ALWAYS_ADD,
    ENVELOPE_FIELD,
    FULL_PERCENT,
    KEEP_DISABLED,
    KEEP_FULL,
    PROCESSORS,
    WARN_AFTER,
)
from appliance.modules.local.texts import TEXTS
from appliance.objects import declarations as d
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.rules.ruling import Ruling
from appliance.transfer.message import Kind, Outcome, QueuedMessage, Recipient, Stored
from appliance.transfer.queues import ModuleQueue, QueueEntry
from appliance.transfer.transfer import Transfer

__all__ = ["AccountRules", "LocalModule"]

RECHECK: Final = 60.0
"""Seconds until an account that holds its mail back is looked at again."""
TROUBLE: Final = 60.0
"""Seconds until a delivery is tried again that failed for want of space, a lock, or by an error of the disk."""
_BATCH: Final = 32
_BATCH_BYTES: Final = 1 << 20


class AccountRules(Protocol):
    """The rules of a domain and of an account (manual, chapter 28), as seen from here."""

    def concern(self, account: Account) -> bool:
        """Whether there are any for the account; costs nothing if there are none."""
        ...

    async def rule(self, account: Account, message: QueuedMessage, recipients: Sequence[Recipient]) -> Ruling:
        """Apply them to a message that `recipients` brought to the account. Asked again (after a delay or a restart), it does
        nothing twice. OSError if the message cannot be read."""
        ...


class _Job(NamedTuple):
    """One delivery: the recipients of an entry that get the same copy, and what they are told if not "delivered"."""

    entry: QueueEntry
    recipients: list[Recipient]
    delivery: Delivery
    outcome: Outcome | None = None


class LocalModule:
    """`attach` registers it with the queues. `logger` has the tag LOCAL; `statistics` may be None."""

    def __init__(
        self,
        domains: Domains,
        settings: Settings,
        accounts: Accounts,
        transfer: Transfer,
        logger: Logger,
        clock: Clock,
        strings: Strings,
        statistics: Statistics | None = None,
    ) -> None:
        self.rules: AccountRules | None = None
        self.domains = domains
        self.settings = settings
        self.accounts = accounts
        self.transfer = transfer
        self.log = logger
        self.clock = clock
        self.strings = strings
        self._flow = FlowControl(settings, clock)
        self.counting = Counting(domains, settings, accounts, clock, logger)
        self._to_all = Distribution(domains, accounts, transfer, logger, clock, strings)
        strings.declare_all(TEXTS)
        statistics = statistics or Statistics()
        self._delivered = statistics.counter("local.delivered", "messages stored in accounts")
        self._bytes = statistics.counter("local.delivered.bytes", "octets of messages stored in accounts")
        self._failed = statistics.counter("local.failed", "recipients that local delivery refused")

    def attach(self) -> None:
        """Register with the queues, and follow the settings and the names of accounts."""
        self.transfer.modules[MODULE] = self
        self.domains.lifecycle.participants.append(Following(self.transfer.queues))
        self.settings.watch(lambda keys: self.transfer.queues.reconsider(MODULE))

    # -- what the queues ask ------------------------------------------------------------------------------------------

    def concurrency(self) -> int:
        """How many accounts are served at a time."""
        return self.settings[PROCESSORS]

    def warn_after(self, host: str) -> Sequence[int]:
        del host
        after = self.settings[WARN_AFTER]
        return (after,) if after else ()

    async def process(self, queue: ModuleQueue) -> None:
        every = self._to_all.domains_of(queue.host)
        if every is not None:
            async for entry in queue:
                await self._to_all.distribute(entry, every)
            return
        account = self.domains.find_account(queue.host)
        while entries := _take(queue):
            try:
                if account is None or account.removed:
                    for entry in entries:
                        self._fail(entry, entry.recipients, "5.1.1", self.strings.text("LocalUnknown"))
                else:
                    await self._deliver(queue, account, entries)
            finally:
                for entry in entries:
                    queue.put_back(entry)

    # -- before the account -------------------------------------------------------------------------------------------

    async def _deliver(self, queue: ModuleQueue, account: Account, entries: list[QueueEntry]) -> None:
        """Deliver as many of the entries as the account may have now; the queue is delayed if it may not have all."""
        name = account.full_name
        try:
            await account.ready()
            if not account.serves("Mail"):
                self._hold(queue, entries, self.settings[KEEP_DISABLED], "5.2.1", self.strings.text("LocalDisabled"))
                return
            limit = account.settings[d.MAX_ACCOUNT_SIZE]
            if limit is not None and await self._used(account) * 100 >= limit * self.settings[FULL_PERCENT]:
                self._hold(queue, entries, self.settings[KEEP_FULL], "5.2.2", self.strings.text("LocalFull"))
                return
        except (AccountError, OSError) as error:
            self._trouble(queue, name, error)
            return
        room = None if queue.released else self._flow.room(name)
        suspend = room is not None and room < len(entries)
        if suspend:
            entries = entries[:room]
        if entries:
            self._flow.count(name, len(entries))
            await self._store(queue, account, entries)
        if suspend:
            self.log.problem("%s received too many messages, its queue is suspended", name)
            queue.delay(RECHECK, self.strings.text("LocalFlow"))

    async def _used(self, account: Account) -> int:
        known = self.accounts.used(account)
        return known[0] if known is not None else await self.accounts.with_state(account, _used)

    def _hold(self, queue: ModuleQueue, entries: list[QueueEntry], keep: int, code: str, text: str) -> None:
        """What has waited for `keep` seconds fails, the rest waits."""
        now = self.clock.now()
        waiting = False
        for entry in entries:
            if now - entry.message.arrived >= keep or entry.message.test:
                self._fail(entry, entry.recipients, code, text)
            else:
                waiting = True
        if waiting:
            queue.delay(RECHECK, text)

    def _fail(self, entry: QueueEntry, recipients: Sequence[Recipient], code: str, text: str) -> None:
        self._failed.add(len(recipients))
        entry.finish(recipients, Outcome(Kind.FAILED, code, text))

    def _trouble(self, queue: ModuleQueue, name: str, error: Exception) -> None:
        self.log.problem("%s cannot be delivered to now: %s", name, error)
        queue.delay(TROUBLE, str(error))

    # -- into the account ---------------------------------------------------------------------------------------------

    async def _store(self, queue: ModuleQueue, account: Account, entries: list[QueueEntry]) -> None:
        jobs: list[_Job] = []
        for entry in entries:
            if entry.message.test:
                entry.finish(entry.recipients, Outcome(Kind.DELIVERED, "2.0.0", self.strings.text("LocalTest")))
                continue
            try:
                await self._prepare(account, entry, jobs)
            except OSError as error:
                self.log.failure("[%d] cannot be read: %s", entry.message.id, error)
                entry.delay(None, TROUBLE, str(error))
        results: list[DeliveryResult | AccountError]
        if len(jobs) == 1:
            try:
                results = [await self.accounts.deliver(account, jobs[0].delivery)]
            except AccountError as error:
                results = [error]
        else:
            results = await self.accounts.deliver_all(account, [job.delivery for job in jobs])
        received: list[int] = []
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, AccountError):
                self._refused(account, job, result)
                continue
            received.append(job.entry.message.wire_size)
            message = job.entry.message
            outcome = job.outcome or Outcome(Kind.DELIVERED, "2.0.0", self.strings.text("LocalDelivered"))
            job.entry.finish(job.recipients, outcome, Stored(account.full_name, result.record))
            if outcome.kind == Kind.FAILED:
                self._failed.add(len(job.recipients))
            else:
                self._delivered.add()
                self._bytes.add(message.size)
            if self.log.enabled(4):
                self.log.low("[%d] stored in %s", message.id, account.full_name)
        if received:
            await self.counting.count(account, received)

    async def _prepare(self, account: Account, entry: QueueEntry, jobs: list[_Job]) -> None:
        """The deliveries of an entry: one, unless a mailbox is addressed or the account is unified for some of them only."""
        message = entry.message
        ruling: Ruling | None = None
        if self.rules is not None and self.rules.concern(account):
            # An addressed mailbox is beyond the rules (manual, chapter 30, Direct Mailbox).
            ruled = [r for r in entry.recipients if r.route is not None and not r.route.mailbox]
            if ruled:
                ruling = await self.rules.rule(account, message, ruled)
        content = await content_of(message)
        size = len(content) if isinstance(content, bytes) else message.size
        sender = message.sender.encode("utf-8", "surrogateescape")
        now = int(self.clock.now())
        for (mailbox, unified), recipients in _copies(entry.recipients):
            field, addresses = "", []
            if unified or self.settings[ALWAYS_ADD]:
                field, addresses = self.settings[ENVELOPE_FIELD], envelope_addresses(recipients, unified)
            added = added_header(message, sender, field, addresses)
            stores: tuple[Store, ...] = (Store(mailbox or "INBOX", added=added),)
            outcome: Outcome | None = None
            if ruling is not None and not mailbox:
                if ruling.action == "later":
                    for recipient in recipients:
                        entry.delay(recipient, ruling.seconds, ruling.text)
                    continue
                outcome = _verdict(ruling)
                stores = _stores(ruling, added)
                ruling.copies = []  # stored with the first of the copies
                if not stores:
                    assert outcome is not None
                    if outcome.kind == Kind.FAILED:
                        self._failed.add(len(recipients))
                    entry.finish(recipients, outcome)
                    continue
            jobs.append(_Job(entry, recipients, Delivery(message.id, content, size, sender, now, stores), outcome))

    def _refused(self, account: Account, job: _Job, error: AccountError) -> None:
        """The account did not take it: what that means for the recipients."""
        entry, code = job.entry, error.code
        if code == "OVERQUOTA":
            text = self.strings.text("LocalFull")
            if self.clock.now() - entry.message.arrived >= self.settings[KEEP_FULL]:
                self._fail(entry, job.recipients, "5.2.2", text)
                return
            reason, seconds = text, RECHECK
        elif code in ("NONEXISTENT", "BADNAME"):
            route = job.recipients[0].route
            if route is not None and route.mailbox:
                self._fail(entry, job.recipients, "5.1.1", self.strings.text("LocalNoMailbox", route.mailbox))
                return
            reason, seconds = error.text, 1.0  # a mailbox that rules named went away just now: they are asked again
        elif code == "CLOSED" and account.removed:
            self._fail(entry, job.recipients, "5.1.1", self.strings.text("LocalUnknown"))
            return
        else:
            reason, seconds = error.text, TROUBLE
        self.log.problem("[%d] not stored in %s now: %s", entry.message.id, account.full_name, reason)
        for recipient in job.recipients:
            entry.delay(recipient, seconds, reason)


def _verdict(ruling: Ruling) -> Outcome | None:
    """What the recipients are told because of the rules; None is what they are told without."""
    if ruling.action == "discard":
        return Outcome(Kind.DELIVERED, "2.0.0", "discarded")
    return Outcome(Kind.FAILED, "5.7.1", ruling.text) if ruling.action == "reject" else None


def _stores(ruling: Ruling, added: bytes) -> tuple[Store, ...]:
    """The copies that rules asked for, then the one for the INBOX."""
    stores = [Store(copy.mailbox, copy.flags, added=added + copy.added) for copy in ruling.copies]
    if ruling.action == "keep":
        stores.append(Store("INBOX", ruling.flags, added=added + ruling.added))
    return tuple(stores)


def _take(queue: ModuleQueue) -> list[QueueEntry]:
    """What is due, as much as goes to the account at once."""
    entries: list[QueueEntry] = []
    size = 0
    while len(entries) < _BATCH and size < _BATCH_BYTES and (entry := queue.take()) is not None:
        entry.task = trio.lowlevel.current_task()
        entries.append(entry)
        size += entry.message.size
    return entries


def _copies(recipients: list[Recipient]) -> list[tuple[tuple[str, bool], list[Recipient]]]:
    """The recipients by what they get: the mailbox that is addressed, and whether the account is unified for them."""
    first = recipients[0].route
    assert first is not None
    if len(recipients) == 1:
        return [((first.mailbox, first.unified), recipients)]
    copies: dict[tuple[str, bool], list[Recipient]] = {}
    for recipient in recipients:
        route = recipient.route
        assert route is not None
        copies.setdefault((route.mailbox, route.unified), []).append(recipient)
    return list(copies.items())


async def _used(state: State) -> int:
    return state.used
