"""What one opened account session holds on the account's side: its views and its unfinished appends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.accounts.box import View
from appliance.accounts.client import AccountError

if TYPE_CHECKING:
    from appliance.accounts.appending import Append

__all__ = ["MAX_APPENDS", "MAX_VIEWS", "OWNER", "Session"]

OWNER = "lrswipkxtecda"
"""The rights of the owner and of who may act as the owner (RFC 4314)."""
MAX_VIEWS = 32
MAX_APPENDS = 4


class Session:
    """Handles are small numbers, never used twice in a session."""

    __slots__ = ("_last", "appends", "closed", "views", "who")

    def __init__(self, who: str | None = None) -> None:
        #: Another user at work here, as `user@domain`; None: the owner, or who may act as the owner.
        self.who = who
        self.views: dict[int, View] = {}
        self.appends: dict[int, Append] = {}
        self.closed = False
        self._last = 0

    def handle(self) -> int:
        self._last += 1
        return self._last

    def view(self, number: int) -> View:
        """The view of this handle. CLOSED if there is none, or its mailbox was deleted."""
        view = self.views.get(number)
        if view is None or view not in view.box.views:
            raise AccountError("CLOSED", "The mailbox is not open any more")
        return view
