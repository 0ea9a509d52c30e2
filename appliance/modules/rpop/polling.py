"""One poll of one remote account: schedule, connection, listing, messages, removal, memory.

Order is everything. A message is removed on the other server only after `submit` has returned here; its UID is remembered in
the same moment (`Memory.add` here, its mark in the journal). With POP3 the QUIT removes; a QUIT that is not confirmed leaves
the UIDs in memory, and the next poll removes those messages without fetching them again. A server without UIDs gets its QUIT
after a few messages, because what is not confirmed there has to be fetched again.
"""

from __future__ import annotations

import email.utils
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.modules.rpop.collecting import Incoming, NotNow, Unwanted
from appliance.modules.rpop.connecting import Connector, Opened
from appliance.modules.rpop.distribution import Distribution
from appliance.modules.rpop.mailbox import Broken, Denied, Item, NotGiven
from appliance.modules.rpop.memory import Mark, Memory
from appliance.modules.rpop.records import Remote
from appliance.modules.rpop.settings import TAG
from appliance.objects.domain import Account
from appliance.transfer.message import Source
from appliance.transfer.receiver import Receiver
from appliance.transfer.settings import MAX_SIZE

__all__ = ["Poll", "Poller"]

WITHOUT_UIDS: Final = 10
"""Messages of one session with a server that has no UIDs."""
SESSIONS: Final = 1000
"""Connections of one poll at most: each of them has made progress."""
_SAVE: Final = 1.0
"""Seconds between two writes of the memory while messages come in."""


@dataclass(slots=True)
class Poll:
    """One poll. `save()` writes the memory; `about(text)` tells what is being done; `submitting()` is called before a message
    becomes durable, so that the journal keeps its mark until the memory is written."""

    remote: Remote
    account: Account | None
    memory: Memory
    log: Logger
    save: Callable[[], Awaitable[None]]
    about: Callable[[str], None]
    submitting: Callable[[], None]
    collected: int = 0
    dealt_with: int = 0
    """Messages that were collected, or refused for good."""
    note: str = ""
    saved: float = 0.0
    more: bool = False


class Poller:
    """Polls; `host()` is the name that Received fields give this server."""

    def __init__(
        self,
        connector: Connector,
        distribution: Distribution,
        receiver: Receiver,
        settings: Settings,
        clock: Clock,
        statistics: Statistics,
        host: Callable[[], str],
    ) -> None:
        self.connector = connector
        self._distribution = distribution
        self._receiver = receiver
        self._settings = settings
        self._clock = clock
        self._host = host
        self._messages = statistics.counter("rpop.received", "messages collected from other servers")
        self._octets = statistics.counter("rpop.received.bytes", "octets of messages collected from other servers")
        self._failures = statistics.counter("rpop.failures", "polls of remote accounts that failed")

    async def poll(self, poll: Poll) -> None:
        """Collect what is there. Raises HostFailed, Broken, Denied, NotNow (no message can be taken in)."""
        poll.saved = trio.current_time()
        try:
            for _ in range(SESSIONS):
                poll.more = False
                before = poll.dealt_with
                poll.about("connects")
                opened = await self.connector.open(poll.remote, poll.log)
                try:
                    await self._session(poll, opened)
                except Broken as error:
                    # With UIDs nothing that came is lost or comes again: as long as there is progress, go on.
                    if not (poll.dealt_with > before and opened.mailbox.has_uids):
                        raise
                    poll.log.problem("%s; goes on after %d messages", error, poll.dealt_with - before)
                    poll.more = True
                finally:
                    opened.channel.close()
                if not poll.more:
                    return
        except Exception:
            self._failures.add()
            raise
        finally:
            with trio.CancelScope(shield=True):  # our own disk only
                await poll.save()

    async def _session(self, poll: Poll, opened: Opened) -> None:
        remote, memory, mailbox = poll.remote, poll.memory, opened.mailbox
        poll.about("looks what is there")
        items = await mailbox.listing()
        poll.log.low("%s@%s: %d messages", remote.name, remote.host, len(items))
        if remote.leave and items and not mailbox.has_uids:
            raise Denied("the server has no unique message identifiers (UIDL): messages cannot be left on it")
        if mailbox.has_uids or not items:
            memory.begin(mailbox.validity)
            memory.keep([item.uid for item in items])
        here = [item for item in items if item.uid and memory.has(item.uid)]
        new = self._new(poll, items)
        if not mailbox.has_uids and len(new) > WITHOUT_UIDS:
            new, poll.more = new[:WITHOUT_UIDS], True
        problem: NotNow | None = None
        taken: list[Item] = []
        for place, item in enumerate(new):
            poll.about(f"message {place + 1} of {len(new)}")
            following = new[place + 1] if place + 1 < len(new) else None
            try:
                if await self._message(poll, opened, item, following):
                    taken.append(item)
            except NotNow as error:
                poll.note = str(error)
                if error.all:
                    problem = error
                    break
            if trio.current_time() - poll.saved > _SAVE:
                await poll.save()
                poll.saved = trio.current_time()
        gone = [] if remote.leave else here + taken
        confirmed = False
        if gone:
            poll.about("removes what was collected")
            confirmed = await mailbox.remove(gone)
        try:
            good = await mailbox.close()
        except Broken as error:
            if gone and not confirmed:
                raise Broken(f"the removal was not confirmed: {error}") from None
            good = True
        if gone and not (confirmed or good):
            raise Broken("the server did not confirm the removal")
        memory.forget(item.uid for item in gone)
        if poll.more and not taken:
            poll.more = False
        if problem is not None:
            raise problem

    def _new(self, poll: Poll, items: Sequence[Item]) -> list[Item]:
        """What is to be fetched."""
        limit = self._receiver.settings[MAX_SIZE]
        found: list[Item] = []
        for item in items:
            if item.deleted or (item.uid and (poll.memory.has(item.uid) or poll.memory.refused(item.uid))):
                continue
            if limit is not None and item.size > limit:
                self._refuse(poll, item, f"a message of {item.size} octets is larger than the limit of this server")
                continue
            found.append(item)
        return found

    def _refuse(self, poll: Poll, item: Item, reason: str) -> None:
        poll.memory.refuse(item.uid, reason)
        poll.dealt_with += 1
        poll.note = f"message {item.number} stays on the server: {reason}"
        poll.log.problem("%s", poll.note)

    async def _message(self, poll: Poll, opened: Opened, item: Item, following: Item | None) -> bool:
        """Fetch and submit one; whether it is here now. Raises Broken, NotNow."""
        owner = poll.account.full_name if poll.account is not None else ""
        channel = opened.channel
        source = Source(
            TAG,
            channel.peer.address,
            channel.local.address,
            mark=Mark(owner, poll.remote.key, item.uid).render() if item.uid else "",
        )
        incoming = Incoming(
            self._receiver,
            self._distribution,
            source,
            poll.remote,
            poll.account,
            lambda: self._received(poll.remote, opened),
            poll.log,
        )
        try:
            try:
                await opened.mailbox.fetch(item, incoming, following)
            except NotGiven as error:
                poll.note = f"message {item.number}: {error}"
                poll.log.problem("message %d is not given: %s", item.number, error)
                return False
            except Broken:
                if not incoming.wanted:
                    try:
                        await incoming.finish(lambda _: None)
                    except Unwanted as reason:
                        self._refuse(poll, item, str(reason))
                raise
            poll.submitting()
            number = await incoming.finish(lambda number: poll.memory.add(item.uid, number))
        except Unwanted as error:
            self._refuse(poll, item, str(error))
            return False
        finally:
            with trio.CancelScope(shield=True):  # our own disk only
                await incoming.abandon()
        poll.collected += 1
        poll.dealt_with += 1
        self._messages.add()
        self._octets.add(item.size)
        poll.log.major(
            "[%d] collected from %s@%s (%s)", number, poll.remote.name, poll.remote.host, item.uid or item.number
        )
        return True

    def _received(self, remote: Remote, opened: Opened) -> bytes:
        """The trace field, which also ends mail that goes round in circles (RFC 5321, 4.4 and 6.3)."""
        protocol = {"POP": "POP3", "IMAP": "IMAP"}[remote.protocol] + ("S" if opened.channel.encrypted else "")
        date = email.utils.format_datetime(self._clock.local(self._clock.now()).replace(microsecond=0))
        text = f"Received: from [{opened.channel.peer.address}]\n  by {self._host()} with {protocol} (RPOP); {date}\n"
        return text.encode("utf-8", "surrogateescape")
