"""Copies of a message that a filter has asked for (MIRRORTO)."""

from __future__ import annotations

from appliance.filters.filters import COPIES
from appliance.transfer.message import Envelope, QueuedMessage, Source
from appliance.transfer.transfer import Transfer

__all__ = ["Mirroring"]


class Mirroring:
    """Sends them: the message as it is, with its return-path; nobody is told if the copy fails. The same copy is never sent
    twice, over a crash too."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer

    async def __call__(self, message: QueuedMessage, address: str) -> None:
        """Durable when it returns. Raises what `Submission.submit` does."""
        name = f"FILTER {address}"
        if message.made_for(name) is not None:
            return
        source = message.source
        made = Source(COPIES, source.address, source.local_address, source.account, True, source.client)
        async with self._transfer.begin(made) as submission:
            submission.sender = message.sender
            submission.smtputf8 = message.smtputf8
            submission.add(Envelope(address, "N"))
            if message.added_header:
                await submission.write(message.added_header)
            async for piece in message.chunks():
                await submission.write(piece)
            await submission.submit(because_of=(message, name))
