"""What the rules ask of the external filters; `appliance.filters` answers it, and `server.py` puts the two together.

The types are structural, because the filters stand below the rules and import nothing of them.
"""

from __future__ import annotations

from typing import Protocol

from appliance.transfer.message import QueuedMessage

__all__ = ["FilterAnswer", "Filters"]


class FilterAnswer(Protocol):
    """What a filter said of a message (manual, chapter 28, Content Filtering API)."""

    @property
    def action(self) -> str:
        """`accept`, `discard`, `reject` (with `text` for the sender's report), or `postpone`: it is asked again later."""
        ...

    @property
    def text(self) -> str: ...

    @property
    def added_header(self) -> bytes:
        """Whole header lines, each with its LF, that the message gets; may be empty, and goes with `accept` only."""
        ...


class Filters(Protocol):
    """All external filters of the server."""

    async def ask(self, name: str, message: QueuedMessage, added: bytes = b"") -> FilterAnswer:
        """Have the message looked at by the filter of that name; "" is all of them in their order. `added`: header lines that
        rules have put on so far.

        Waits as long as the filter needs, over restarts of its program too. A filter that is switched off, or that does not
        exist, accepts everything. Never raises for what the program does.
        """
        ...
