"""Creating, renaming and removing objects with everybody who has a part in it: check all, do in order, undo on failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from appliance.objects.domain import Account, Domain


@dataclass(frozen=True, slots=True)
class Change:
    """What is about to happen: `kind` is create, rename or remove; an account change has `account`, else the domain is meant.
    `new_name` (and `new_domain` when it moves) are set for a rename."""

    kind: str
    domain: Domain
    account: Account | None = None
    new_name: str = ""
    new_domain: Domain | None = None


class Participant(Protocol):
    """A room with state of its own about accounts or domains."""

    async def check(self, change: Change) -> None:
        """Raises OperationError to refuse (an account in use); changes nothing."""
        ...

    async def do(self, change: Change) -> None:
        """The participant's part. Raises OperationError or OSError; then the parts done before are undone."""
        ...

    async def undo(self, change: Change) -> None:
        """Take back `do`."""
        ...

    def done(self, change: Change) -> None:
        """All parts are done, the objects have their new names; must not fail."""
        ...


class Lifecycle:
    """The registered participants, in the order in which they act."""

    def __init__(self) -> None:
        self.participants: list[Participant] = []

    async def perform(self, change: Change, *last: Participant) -> None:
        """All checks, then all parts; `last` act after the registered ones (the change of the objects themselves)."""
        participants: Sequence[Participant] = (*self.participants, *last)
        for participant in participants:
            await participant.check(change)
        done: list[Participant] = []
        try:
            for participant in participants:
                await participant.do(change)
                done.append(participant)
        except BaseException:
            for participant in reversed(done):
                await participant.undo(change)
            raise
        for participant in participants:
            participant.done(change)
