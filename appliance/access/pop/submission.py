"""XTND XMIT: a message that a logged-in user submits on his POP connection (manual, The XTND XMIT Extension).

Recipients are those of To, Cc and Bcc; Bcc is taken out; the return-path is the user's own address. There is no relay
restriction, because the user is known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol

from appliance.formats.addresses import join_address
from appliance.formats.headers import get_all, header_end, remove_fields
from appliance.formats.mailboxes import parse_mailboxes
from appliance.formats.wire import ToStore
from appliance.kernel.journal import JournalError
from appliance.transfer.message import Envelope, Source
from appliance.transfer.receiver import MAX_HEADER, Malformed, NoSpace, TooLarge

#: Recipients of one message; a mailer of this kind has no lists.
MAX_RECIPIENTS = 1000
_FIELDS = (b"To", b"Cc", b"Bcc")


class Submission(Protocol):
    """A message in the making (transfer.receiver)."""

    sender: str

    def add(self, recipient: Envelope) -> None: ...
    async def write(self, store_form: bytes) -> None: ...
    async def submit(self) -> int: ...
    async def abandon(self) -> None: ...


class Receiver(Protocol):
    """Begins submissions (transfer.receiver)."""

    def begin(self, source: Source) -> Submission: ...


class Rejected(Exception):
    """The message is not taken; the text says why."""

    def __init__(self, text: str, temporary: bool = False) -> None:
        super().__init__(text)
        self.temporary = temporary


def recipients(header: bytes, domain: str) -> list[str]:
    """The addresses of To, Cc and Bcc, each once; those without a domain are completed with `domain`."""
    found: dict[str, None] = {}
    for name in _FIELDS:
        for value in get_all(header, name):
            for mailbox in parse_mailboxes(value):
                if mailbox.is_address and mailbox.local:
                    local = mailbox.local.decode("utf-8", "surrogateescape")
                    host = (mailbox.domain or b"").decode("utf-8", "surrogateescape") or domain
                    found[join_address(local, host)] = None
    return list(found)


async def take_message(pieces: AsyncIterator[bytes], receiver: Receiver, source: Source, sender: str) -> int:
    """Read the message to its end, whatever becomes of it, and submit it: its id, durable. Raises Rejected."""
    refused: Rejected | None = None
    message = _Message(receiver, source, sender)
    try:
        async for piece in pieces:
            if refused is None:
                refused = await _tried(message.feed(piece))
        if refused is None:
            refused = await _tried(message.finish())
        if refused is not None:
            raise refused
        return message.id
    finally:
        await message.abandon()


async def _tried(step: Coroutine[Any, Any, None]) -> Rejected | None:
    try:
        await step
    except Rejected as error:
        return error
    except (Malformed, TooLarge) as error:
        return Rejected(str(error))
    except (NoSpace, JournalError, OSError):
        return Rejected("the message cannot be stored now", temporary=True)
    return None


class _Message:
    """The header is held back until it is complete, because the recipients stand in it."""

    def __init__(self, receiver: Receiver, source: Source, sender: str) -> None:
        self._receiver = receiver
        self._source = source
        self._sender = sender
        self._codec = ToStore()
        self._header: bytearray | None = bytearray()
        self._submission: Submission | None = None
        self.id = 0

    async def feed(self, piece: bytes) -> None:
        await self._take(self._codec.feed(piece), False)

    async def finish(self) -> None:
        await self._take(self._codec.finish(), True)
        assert self._submission is not None
        self.id = await self._submission.submit()
        self._submission = None

    async def abandon(self) -> None:
        submission, self._submission = self._submission, None
        if submission is not None:
            await submission.abandon()

    async def _take(self, data: bytes, last: bool) -> None:
        if self._header is not None:
            self._header += data
            data = bytes(self._header)
            end = header_end(data)
            if end == len(data) and not last and not data.endswith(b"\n\n"):
                if len(data) > MAX_HEADER:
                    raise Rejected("the header is too long")
                return
            self._header = None
            self._begin(data[:end])
            data = remove_fields(data[:end], [b"Bcc"]) + data[end:]
        if data:
            assert self._submission is not None
            await self._submission.write(data)

    def _begin(self, header: bytes) -> None:
        addresses = recipients(header, self._sender.rpartition("@")[2])
        if not addresses:
            raise Rejected("the message has no recipients")
        if len(addresses) > MAX_RECIPIENTS:
            raise Rejected("too many recipients")
        submission = self._submission = self._receiver.begin(self._source)
        submission.sender = self._sender
        for address in addresses:
            submission.add(Envelope(address))
