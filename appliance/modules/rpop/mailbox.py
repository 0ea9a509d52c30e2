"""A remote mailbox as the poller sees it, whichever protocol leads there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

__all__ = ["Broken", "Denied", "Item", "Mailbox", "NotGiven", "Sink", "patience"]

COMMAND: Final = 300.0
"""Seconds for an answer; a POP3 server may take that long to open a maildrop."""
LOGOUT: Final = 60.0
_SLOWEST: Final = 200
"""Octets a second: a message that comes more slowly holds a channel for nothing."""
_UNKNOWN: Final = 3600.0
DRAIN: Final = 1 << 20
"""So many octets of a message that is not wanted are read to keep the connection; for more it is given up."""


class Broken(Exception):
    """The connection is of no more use; the text says why."""


class Denied(Exception):
    """The other server does not open the mailbox; the text is its answer."""


class NotGiven(Exception):
    """The other server does not give this message now."""


class Item(NamedTuple):
    """A message that the server lists: `uid` is empty where there are none; `size` 0 if it is not told; `number` is what
    the protocol calls it by; `deleted`: somebody has marked it so."""

    uid: str
    number: int
    size: int = 0
    deleted: bool = False


class Sink(Protocol):
    """Takes a message in wire form."""

    @property
    def wanted(self) -> bool:
        """Whether the rest is of any use."""
        ...

    async def take(self, data: bytes) -> None:
        """The next piece; it raises nothing about the message itself."""
        ...


class Mailbox(Protocol):
    """An open remote mailbox. Everything raises Broken."""

    @property
    def has_uids(self) -> bool:
        """Whether its messages can be known again. After `listing`."""
        ...

    @property
    def validity(self) -> int:
        """The UIDVALIDITY of an IMAP mailbox; 0 for POP3."""
        ...

    async def listing(self) -> Sequence[Item]:
        """Its messages, oldest first. Raises Denied."""
        ...

    async def fetch(self, item: Item, sink: Sink, following: Item | None) -> None:
        """The message into the sink; `following` is the one that will be asked for next. Raises NotGiven."""
        ...

    async def remove(self, items: Sequence[Item]) -> bool:
        """Remove messages; whether that is confirmed already (else `close` does it)."""
        ...

    async def close(self) -> bool:
        """Say good-bye; whether the server confirmed it."""
        ...


def patience(size: int) -> float:
    """Seconds that the transfer of a message may take."""
    return COMMAND + size / _SLOWEST if size else _UNKNOWN
