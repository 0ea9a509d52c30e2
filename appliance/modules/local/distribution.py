"""Mail to all: `all@domain` into the INBOX of every account of the domain, `alldomains@main` of all domains (manual, chapters
18 and 30).

Accounts come in the order of their names, some at a time. Where the distribution stands is kept in the reason of the
recipient's wait, which the journal keeps, so that a restart goes on behind the last account that is done. Accounts that
cannot be written to now get a message of their own, which waits in their queues; those that are full are left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

import trio

from appliance.accounts.client import AccountError
from appliance.accounts.delivery import Delivery, DeliveryResult, Store
from appliance.accounts.gate import Accounts
from appliance.kernel.clock import Clock
from appliance.kernel.journal import JournalError
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller
from appliance.kernel.strings import Strings
from appliance.kernel.tasks import in_thread, pace
from appliance.modules.local.content import added_header, content_of
from appliance.modules.local.routing import MODULE, may_send_to_all
from appliance.objects import declarations as d
from appliance.objects.domain import Account, Domain
from appliance.objects.domains import Domains
from appliance.objects.names import split_name
from appliance.transfer.message import Envelope, Kind, Outcome, QueuedMessage, Recipient, Source, Stored
from appliance.transfer.queues import QueueEntry
from appliance.transfer.recovery import stored_alone
from appliance.transfer.spool import NoSpace
from appliance.transfer.transfer import Transfer

__all__ = ["Distribution"]

RETRY: Final = 60.0
_TOGETHER: Final = 16
_SLICE: Final = 2000
_MARK: Final = "distributed up to "
_FROM_OUTSIDE: Final = ("SMTP", "RPOP")
"""Rooms whose messages come from people; what other rooms of this server send as trusted may go to all."""


class Distribution:
    """The part of LOCAL that serves the addresses of all accounts."""

    def __init__(
        self,
        domains: Domains,
        accounts: Accounts,
        transfer: Transfer,
        logger: Logger,
        clock: Clock,
        strings: Strings,
    ) -> None:
        self.domains = domains
        self.accounts = accounts
        self.transfer = transfer
        self.log = logger
        self.clock = clock
        self.strings = strings

    def domains_of(self, host: str) -> list[Domain] | None:
        """The domains that a queue stands for; None for the queue of an account."""
        if not host.startswith(("all@", "alldomains@")):
            return None
        local, name = split_name(host, self.domains.main.name)
        domain = self.domains.get(name)
        if domain is None or domain.settings[d.MAIL_TO_ALL_FOR] == "nobody":
            return None
        if local == "all":
            return [domain]
        return self.domains.all() if domain.is_main else None

    async def distribute(self, entry: QueueEntry, domains: list[Domain]) -> None:
        """Give a message to all accounts that take such mail."""
        message, recipients = entry.message, entry.recipients
        if not message.sender:
            entry.finish(recipients, Outcome(Kind.FAILED, "5.7.1", self.strings.text("LocalAllNull")))
            return
        domains = [domain for domain in domains if self._may_send(message.source, domain)]
        if not domains:
            entry.finish(recipients, Outcome(Kind.FAILED, "5.7.1", self.strings.text("LocalAllNobody")))
            return
        if message.test:
            entry.finish(recipients, Outcome(Kind.DELIVERED, "2.0.0", self.strings.text("LocalTest")))
            return
        try:
            content = await content_of(message)
            if not await self._accounts(entry, domains, content):
                return
            await self._forwarders(message, domains)
        except (OSError, JournalError, NoSpace, ValueError) as error:
            self.log.failure("[%d] cannot be distributed to all now: %s", message.id, error)
            self._wait(entry)
            return
        entry.finish(recipients, Outcome(Kind.DELIVERED, "2.0.0", self.strings.text("LocalAllDelivered")))

    def _may_send(self, source: Source, domain: Domain) -> bool:
        if source.trusted and source.account is None and source.module not in _FROM_OUTSIDE:
            return True
        allowed = domain.settings[d.MAIL_TO_ALL_FOR]
        if allowed == "nobody":
            return False
        if source.account is None:
            # What was collected came by a method that counts as one of clients (manual, chapter 18, Mail to all).
            return allowed == "anybody" or (allowed == "Clients" and (source.client or source.module == "RPOP"))
        local, name = split_name(source.account, self.domains.main.name)
        caller = Caller(f"{local}@{name}", name, source.module, self.domains, client=source.client)
        return may_send_to_all(caller, allowed, domain.name)

    @staticmethod
    def _wait(entry: QueueEntry) -> None:
        """Later, from where it stands."""
        for recipient in entry.recipients:
            entry.delay(recipient, RETRY, recipient.reason)

    # -- accounts -----------------------------------------------------------------------------------------------------

    async def _accounts(
        self, entry: QueueEntry, domains: list[Domain], content: bytes | Callable[[], AsyncIterator[bytes]]
    ) -> bool:
        message = entry.message
        sender = message.sender.encode("utf-8", "surrogateescape")
        size = len(content) if isinstance(content, bytes) else message.size
        store = Store(added=added_header(message, sender, "", ()))
        delivery = Delivery(message.id, content, size, sender, int(self.clock.now()), (store,))
        done = _done(entry.recipients)
        for domain in domains:
            if done is not None and _key(domain.name, domain.is_main) < _key(
                done[1], done[1] == self.domains.main.name
            ):
                continue
            names = await _names(domain)
            if done is not None and done[1] == domain.name:
                names = [name for name in names if name > done[0]]
            for start in range(0, len(names), _TOGETHER):
                if not await self._part(entry, domain, names[start : start + _TOGETHER], delivery):
                    self._wait(entry)
                    return False
        return True

    async def _part(self, entry: QueueEntry, domain: Domain, names: list[str], delivery: Delivery) -> bool:
        """Some accounts at the same time. False if not one of them can be written to."""
        results: dict[Account, DeliveryResult | AccountError] = {}
        was_open: set[Account] = set()
        async with trio.open_nursery() as nursery:
            for name in names:
                account = domain.account(name)
                if account is not None and account.name == name and not _had(entry.message, account):
                    if self.accounts.is_open(account):
                        was_open.add(account)
                    nursery.start_soon(self._one, account, delivery, results)
        late: list[str] = []
        stored = 0
        for account, result in results.items():
            if isinstance(result, DeliveryResult):
                stored += 1
                outcome = Outcome(Kind.DELIVERED)
                entry.finish((), outcome, Stored(account.full_name, result.record))
            elif result.code == "OVERQUOTA":
                self.log.problem("[%d] %s is full, it gets no mail to all", entry.message.id, account.full_name)
            elif not account.removed:
                self.log.problem("[%d] %s gets mail to all later: %s", entry.message.id, account.full_name, result.text)
                late.append(account.full_name)
        if late and not stored:
            return False
        mark = f"{_MARK}{names[-1]}@{domain.name}"
        if late:
            await self._resend(entry.message, mark, (Envelope(name, "N") for name in late))
        for recipient in entry.recipients:
            recipient.reason = mark
        self.transfer.spool.note(entry.message, entry.recipients)  # before any of these accounts is said to be safe
        async with trio.open_nursery() as nursery:
            for account in results:
                if account not in was_open:
                    nursery.start_soon(self.accounts.close_unused, account)
        return True

    async def _one(
        self, account: Account, delivery: Delivery, results: dict[Account, DeliveryResult | AccountError]
    ) -> None:
        try:
            await account.ready()
            if account.settings[d.MAIL_TO_ALL] and account.serves("Mail"):
                results[account] = await self.accounts.deliver(account, delivery)
        except AccountError as error:
            results[account] = error
        except OSError as error:
            results[account] = AccountError("TEMPORARY", str(error))

    # -- forwarders ---------------------------------------------------------------------------------------------------

    async def _forwarders(self, message: QueuedMessage, domains: list[Domain]) -> None:
        """One new message to the addresses of all forwarders of the domains that want it."""
        found: dict[str, None] = {}
        for domain in domains:
            if domain.settings[d.ALL_WITH_FORWARDERS]:
                for forwarder in domain.forwarders():
                    found[forwarder.address()] = None
        if found:
            await self._resend(message, "forwarders", (Envelope(address, "N") for address in found))

    async def _resend(self, message: QueuedMessage, name: str, recipients: Iterable[Envelope]) -> None:
        """The same message to these, once under this name. NoSpace, JournalError, OSError, ValueError."""
        async with self.transfer.begin(Source(MODULE, trusted=True)) as submission:
            submission.sender = message.sender
            submission.smtputf8 = message.smtputf8
            for recipient in recipients:
                submission.add(recipient)
            if message.added_header:
                await submission.write(message.added_header)
            async for piece in message.chunks():
                await submission.write(piece)
            await submission.submit(because_of=(message, f"ALL {name}"))


def _key(name: str, is_main: bool) -> tuple[bool, str]:
    """The order of domains: the main one first."""
    return not is_main, name


def _had(message: QueuedMessage, account: Account) -> bool:
    """Whether the account has stored it before a crash that came before the part was marked as done."""
    return message.made_for(stored_alone(account.full_name)) is not None


def _done(recipients: list[Recipient]) -> tuple[str, str] | None:
    """Name and domain of the last account that is done."""
    reason = recipients[0].reason
    if not reason.startswith(_MARK):
        return None
    name, _, domain = reason[len(_MARK) :].rpartition("@")
    return name, domain


async def _names(domain: Domain) -> list[str]:
    """The names of the domain's accounts, in order."""
    objects = list(domain.objects.values())
    names: list[str] = []
    for start in range(0, len(objects), _SLICE):
        names += [item.name for item in objects[start : start + _SLICE] if isinstance(item, Account)]
        await pace()
    if len(names) > _SLICE:
        return await in_thread(lambda: sorted(names))
    return sorted(names)
