"""A message on its way: where it came from, whom it is for, and what has become of each recipient."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Literal, Protocol

from appliance.router.route import Route

__all__ = [
    "FAILED",
    "Envelope",
    "Kind",
    "Outcome",
    "QueuedMessage",
    "Recipient",
    "Source",
    "Stored",
    "compact",
    "share",
]


class Kind(StrEnum):
    """What a module did for a recipient."""

    DELIVERED = "delivered"
    RELAYED = "relayed"
    """Passed to a host that does not know delivery status notifications (RFC 3461, 6.2.5)."""
    FAILED = "failed"


FAILED: Final = Kind.FAILED
_COMMON: Final = -2
_ROUTES: Final = 20_000
_SOURCES: Final = 4096


@dataclass(frozen=True, slots=True)
class Source:
    """The attributes that a message keeps of where it came from, over restarts too.

    `module` names the room (SMTP, RPOP, LOCAL, PIPE, DEQUEUER, ...); `account` the one that was authenticated; `client` says
    that the peer has a client address; `trusted` that the message may relay and gets missing header fields. `mark` is the
    source's own: it is in the message's frame, so a restart tells it again (`Recovery.marks`); `N.msg` has it not.
    """

    module: str
    address: str = ""
    local_address: str = ""
    account: str | None = None
    trusted: bool = False
    client: bool = False
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A recipient as the sender gave it. `notify` is "" (failures and delays), "N" (never), or letters of S (success),
    F (failure), D (delay) (RFC 3461, 4.1); `orcpt` the original recipient `type;address`, decoded (4.2). `route` is what the
    router said a moment ago, so that it need not be asked again if nothing has changed."""

    address: str
    notify: str = ""
    orcpt: str = ""
    route: Route | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a recipient. `code` is an enhanced status (RFC 3463), `text` goes into reports, `remote` names the host
    that gave the answer."""

    kind: Kind | Literal["delivered", "relayed", "failed"]
    code: str = "2.0.0"
    text: str = ""
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """What an account did with a message: kept in the delivery frame for the redo after a crash. `record` is the accounts'
    own business; the message stays until the account says that it is safe (`Spool.safe`)."""

    account: str
    record: bytes


@dataclass(slots=True)
class Recipient:
    """One recipient of a message in the queue."""

    index: int
    address: str
    notify: str = ""
    orcpt: str = ""
    outcome: Outcome | None = None
    """None while it waits."""
    reported: bool = False
    """Nothing is left to be told to the sender."""
    way: Route | None = None
    """The route, or the one that it has in common with others (`share`)."""
    due: float = 0.0
    """Not before this wall time."""
    attempts: int = 0
    reason: str = ""
    """Why it waits."""
    warned: int = 0
    """How many delay warnings were due so far."""
    taken: bool = False
    """A module has it in hand."""
    target: str = ""
    """The address it is routed by instead of its own: what it was accepted for has another name now."""

    @property
    def waiting(self) -> bool:
        return self.outcome is None

    @property
    def route(self) -> Route | None:
        """Where it goes; None until it is routed."""
        way = self.way
        if way is None or way.generation != _COMMON:
            return way
        return replace(way, address=self.address, original=self.address, generation=-1)

    @route.setter
    def route(self, route: Route | None) -> None:
        self.way = route

    def wants(self, letter: str) -> bool:
        """Whether the sender wants to hear of success (S), failure (F) or delay (D). RFC 3461, 4.1 and 5.2."""
        return letter in self.notify if self.notify else letter != "S"


def compact(message: QueuedMessage, sources: dict[Source, Source], common: dict[tuple[object, ...], Route]) -> None:
    """The message will wait for a while: what it has in common with others is kept once, in these."""
    message.sender = sys.intern(message.sender)
    if len(sources) >= _SOURCES:
        sources.clear()
    message.source = sources.setdefault(message.source, message.source)
    for recipient in message.recipients:
        recipient.reason = sys.intern(recipient.reason)
        recipient.due = recipient.due or 0.0
        share(recipient, common)


def share(recipient: Recipient, common: dict[tuple[object, ...], Route]) -> None:
    """The recipient may wait for long: what its route has in common with others is kept once, in `common`."""
    way = recipient.way
    if way is None or way.generation == _COMMON or not way.address == way.original == recipient.address:
        return
    key = (way.module, way.host, way.simple, way.relay, way.mailbox, way.unified, way.detail)
    known = common.get(key)
    if known is None:
        if len(common) >= _ROUTES:
            common.clear()
        common[key] = known = replace(way, address="", original="", generation=_COMMON)
    recipient.way = known


class Contents(Protocol):
    """Gives the contents of messages (the spool)."""

    async def content(self, message: QueuedMessage) -> bytes: ...

    async def head(self, message: QueuedMessage, limit: int) -> bytes: ...

    def chunks(self, message: QueuedMessage) -> AsyncIterator[bytes]: ...

    async def file(self, message: QueuedMessage) -> str: ...


class _Flag:
    """A bit of `marks`, as an attribute."""

    def __init__(self, bit: int, text: str) -> None:
        self.bit = bit
        self.__doc__ = text

    def __get__(self, message: QueuedMessage, owner: object = None) -> bool:
        return message.marks & self.bit != 0

    def __set__(self, message: QueuedMessage, value: bool) -> None:
        message.marks = message.marks | self.bit if value else message.marks & ~self.bit


@dataclass(slots=True, eq=False)
class QueuedMessage:
    """A message that the server has taken responsibility for. Identity is the object; `id` is never used twice.

    Contents are in store form: LF line ends. They are there until the last recipient has its result and it was told.
    """

    id: int
    sender: str
    """The return-path; empty for the null one."""
    source: Source
    recipients: list[Recipient]
    arrived: float
    size: int = 0
    """Octets of the content in store form."""
    lines: int = 0
    ret: str = ""
    """RET=: "full", "hdrs" or empty."""
    envid: str = ""
    added_header: bytes = b""
    """Fields that server rules and filters put on; they go in front of the content into every delivery."""
    marks: int = 0
    """The bits of the flags below: there may be very many messages."""
    position: int = 0
    """The oldest frame that is needed to know this message again."""
    held: bytes | None = None
    """The content, as long as it is held in memory."""
    contents: Contents | None = None
    """Who has the content: the spool."""
    unsafe: dict[str, int] | None = None
    """Accounts that have stored it and are not safe yet, with the position of the frame."""
    report_due: float = 0.0
    """When the results that are not told yet are to be reported; 0: nothing is planned."""
    routes: tuple[Route | None, ...] | None = None
    """What is known of its recipients' routes from its reception; until it is enqueued."""
    settled: int = 0
    """So many of its first recipients have their results, at least."""
    made: dict[str, int] | None = None
    """Messages that were made because of this one, by the names that their makers gave them (`made_for`)."""

    receipt = _Flag(1, "Has a Return-Receipt-To field and may have an answer.")
    test = _Flag(2, "X-Special-Delivery: test - routed and offered, never delivered.")
    smtputf8 = _Flag(4, "Needs SMTPUTF8.")
    ruled = _Flag(8, "Server rules have run, they never run again.")
    filed = _Flag(16, "N.msg exists with all of the content.")
    leftover = _Flag(32, "A file N.msg of an earlier run is there; it does not count, but goes with the message.")
    synced = _Flag(64, "N.msg is durable.")
    finished = _Flag(128, "Nothing is left to be done for it.")

    @property
    def wire_size(self) -> int:
        """Octets with CR-LF line ends."""
        return self.size + self.lines

    @property
    def waiting(self) -> list[Recipient]:
        return [recipient for recipient in self.recipients if recipient.outcome is None]

    async def content(self) -> bytes:
        """All of the content. For large messages use `chunks`. OSError if it cannot be read."""
        assert self.contents is not None
        return await self.contents.content(self)

    async def head(self, limit: int = 256 << 10) -> bytes:
        """The first `limit` octets of the content."""
        assert self.contents is not None
        return await self.contents.head(self, limit)

    def chunks(self) -> AsyncIterator[bytes]:
        """The content in pieces of at most 256 KiB."""
        assert self.contents is not None
        return self.contents.chunks(self)

    async def file(self) -> str:
        """The path of `Queue/N.msg`, made if need be: envelope lines, an empty line, the content."""
        assert self.contents is not None
        return await self.contents.file(self)

    def made_for(self, name: str) -> int | None:
        """The id of the message that was made because of this one under that name, in this life or before a crash."""
        return None if self.made is None else self.made.get(name)

    def remember(self, name: str, number: int) -> None:
        """That message was made because of this one."""
        if self.made is None:
            self.made = {}
        self.made[name] = number

    @property
    def done(self) -> bool:
        """Whether all recipients have their results. A result stays, so it is not looked for from the beginning each time."""
        recipients = self.recipients
        at, end = self.settled, len(recipients)
        while at < end and recipients[at].outcome is not None:
            at += 1
        self.settled = at
        return at >= end
