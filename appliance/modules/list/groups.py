"""Mail to groups: one new message with the members in its envelope (manual, chapter 21).

The header stays as it is, but for a Received field, by which loops end, and a Reply-To if the group wants one. The new message
keeps the return-path; it may be relayed, because the administrator chose the members.

Report Delivery to Group on: the message counts as delivered once the copy is durable, and nobody hears of its members. Off: it
counts as relayed, and what the sender wants to be told goes with each member.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.formats.compose import Correspondent, addresses_field
from appliance.formats.dates import format_date_time
from appliance.formats.headers import get_all, header_end, remove_fields
from appliance.kernel.clock import Clock
from appliance.kernel.journal import JournalError
from appliance.kernel.log import Logger
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.modules.list.members import TooManyMembers, addresses_of, expand, is_empty, without
from appliance.modules.list.settings import PROCESSORS
from appliance.objects import declarations as d
from appliance.objects.domain import Group
from appliance.objects.domains import Domains
from appliance.objects.names import split_name
from appliance.transfer.message import Envelope, Kind, Outcome, QueuedMessage, Recipient, Source
from appliance.transfer.queues import ModuleQueue, QueueEntry
from appliance.transfer.receiver import Malformed, TooLarge, TooManyHops
from appliance.transfer.spool import NoSpace
from appliance.transfer.transfer import Transfer

__all__ = ["MODULE", "TEXTS", "GroupModule"]

MODULE: Final = "LIST"
TROUBLE: Final = 60.0
"""Seconds until a copy is tried again that could not be made."""
_HEADER: Final = 2 << 20

TEXTS: Final = {
    "GroupUnknown": "unknown account",
    "GroupEmpty": "group has no members",
    "GroupLoop": "mail loop: the message has been through this group before",
    "GroupTooMany": "group has too many members",
    "GroupDelivered": "delivered to group",
    "GroupRelayed": "relayed to the members of the group",
    "GroupNobody": "no member is left to send it to",
}


class GroupModule:
    """The delivery module LIST; `attach` registers it with the queues. `logger` has the tag LIST."""

    def __init__(
        self,
        domains: Domains,
        settings: Settings,
        transfer: Transfer,
        logger: Logger,
        clock: Clock,
        strings: Strings,
        statistics: Statistics | None = None,
    ) -> None:
        self.domains = domains
        self.settings = settings
        self.transfer = transfer
        self.log = logger
        self.clock = clock
        self.strings = strings
        strings.declare_all(TEXTS)
        self._copies = (statistics or Statistics()).counter("list.groups", "messages distributed to groups")

    def attach(self) -> None:
        """Register with the queues, and follow the settings."""
        self.transfer.modules[MODULE] = self
        self.settings.watch(lambda keys: self.transfer.queues.reconsider(MODULE))

    def concurrency(self) -> int:
        """How many groups are served at a time."""
        return self.settings[PROCESSORS]

    async def process(self, queue: ModuleQueue) -> None:
        local, name = split_name(queue.host, self.domains.main.name)
        async for entry in queue:
            domain = self.domains.get(name)
            group = domain.find(local) if domain is not None else None
            if not isinstance(group, Group):
                self._fail(entry, "5.1.1", "GroupUnknown")
                continue
            try:
                await self._distribute(entry, group)
            except TooManyHops:
                self._fail(entry, "5.4.6", "GroupLoop")
            except TooManyMembers:
                self._fail(entry, "5.2.4", "GroupTooMany")
            except (Malformed, TooLarge) as error:
                entry.finish(entry.recipients, Outcome(Kind.FAILED, "5.6.0", str(error)))
            except (OSError, JournalError, NoSpace) as error:
                self.log.problem("[%d] not sent to %s now: %s", entry.message.id, group.full_name, error)
                entry.delay(None, TROUBLE, str(error))

    def _fail(self, entry: QueueEntry, code: str, text: str) -> None:
        entry.finish(entry.recipients, Outcome(Kind.FAILED, code, self.strings.text(text)))

    async def _distribute(self, entry: QueueEntry, group: Group) -> None:
        message = entry.message
        if is_empty(group):
            self._fail(entry, "5.2.4", "GroupEmpty")
            return
        data = await message.head(_HEADER)
        header = data[: header_end(data)]
        mark = _mark(group)
        if any(value.startswith(mark) for value in get_all(header, b"received")):
            self._fail(entry, "5.4.6", "GroupLoop")
            return
        final = group.settings[d.GROUP_REPORT_DELIVERY]
        if message.made_for(_name(group)) is not None:  # a crash came between the copy and its record
            self._sent(entry, final)
            return
        members = await self._members(group, message, header)
        if not members:
            entry.finish(entry.recipients, Outcome(Kind.DELIVERED, "2.0.0", self.strings.text("GroupNobody")))
            return
        notify, original = ("N", "") if final else _wishes(entry.recipients)
        number = await self._submit(group, message, header, [Envelope(name, notify, original) for name in members])
        self._copies.add()
        self.log.low("[%d] sent as [%d] to %d members of %s", message.id, number, len(members), group.full_name)
        self._sent(entry, final)

    def _sent(self, entry: QueueEntry, final: bool) -> None:
        if final:
            outcome = Outcome(Kind.DELIVERED, "2.0.0", self.strings.text("GroupDelivered"))
        else:
            outcome = Outcome(Kind.RELAYED, "2.0.0", self.strings.text("GroupRelayed"))
        entry.finish(entry.recipients, outcome)

    async def _members(self, group: Group, message: QueuedMessage, header: bytes) -> list[str]:
        """The members that are to get it: never the sender, and as the group's settings say."""
        removed = [message.sender]
        if group.settings[d.GROUP_REMOVE_AUTHOR]:
            removed += addresses_of(get_all(header, b"from"))
        if group.settings[d.GROUP_REMOVE_TO_CC]:
            removed += addresses_of([*get_all(header, b"to"), *get_all(header, b"cc")])
        return await without(self.domains, await expand(self.domains, group), removed)

    async def _submit(self, group: Group, message: QueuedMessage, header: bytes, people: Sequence[Envelope]) -> int:
        source = message.source
        made = Source(MODULE, source.address, source.local_address, source.account, True, source.client)
        async with self.transfer.begin(made) as submission:
            submission.sender = message.sender
            submission.ret, submission.envid = message.ret, message.envid
            submission.smtputf8 = message.smtputf8
            for envelope in people:
                submission.add(envelope)
            await submission.write(self._received(group, message) + message.added_header)
            skip = 0
            if group.settings[d.GROUP_SET_REPLY_TO]:
                person = Correspondent(group.settings[d.GROUP_REAL_NAME], group.full_name)
                # RFC 5322, 3.6: a message has one Reply-To, so that of the author goes.
                await submission.write(addresses_field("Reply-To", [person]) + remove_fields(header, (b"reply-to",)))
                skip = len(header)
            async for piece in message.chunks():
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                await submission.write(piece[skip:] if skip else piece)
                skip = 0
            return await submission.submit(because_of=(message, _name(group)))

    def _received(self, group: Group, message: QueuedMessage) -> bytes:
        host = self.domains.main.name
        date = format_date_time(self.clock.local(self.clock.now()))
        text = f"by {host} (Pillarbox LIST)\n  with LOCAL id {message.id}; {date}\n"
        return b"Received: " + _mark(group) + text.encode("ascii", "replace")


def _mark(group: Group) -> bytes:
    """How a Received field begins that was put on here."""
    return b"from GROUP %s " % group.full_name.encode("ascii", "replace")


def _name(group: Group) -> str:
    """What the copy for the group is called among the messages that are made because of one."""
    return f"GROUP {group.full_name}"


def _wishes(recipients: Sequence[Recipient]) -> tuple[str, str]:
    """What the sender wants to be told, and the original recipient, to go on with each member (RFC 3461, 5.2.7)."""
    first = recipients[0]
    return first.notify, first.orcpt
