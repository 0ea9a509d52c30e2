"""One message on its way in: from the wire form of the other server to a message of the queue.

The header is held until it is complete, for it tells whom the message is for; everything behind it streams. What is wrong
with a message is kept and told at the end, so that the rest of it can be read off the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from appliance.formats.headers import header_end
from appliance.formats.wire import ToStore
from appliance.kernel.journal import JournalError
from appliance.kernel.log import Logger
from appliance.modules.rpop.distribution import Distribution, Later
from appliance.modules.rpop.records import Remote
from appliance.objects.domain import Account
from appliance.transfer.message import Source
from appliance.transfer.receiver import Malformed, NoSpace, Receiver, Submission, TooLarge

__all__ = ["Incoming", "NotNow", "Unwanted"]

MAX_HEADER: Final = 1 << 20
_PIECE: Final = 64 << 10


class Unwanted(Exception):
    """This message is not taken, now or later; the text says why."""


class NotNow(Exception):
    """This message cannot be taken now. `all`: nor can any other (no space)."""

    def __init__(self, text: str, *, all: bool = False) -> None:
        super().__init__(text)
        self.all = all


class Incoming:
    """Takes one message; `finish` makes it durable. Always end with `abandon`, which is harmless then."""

    def __init__(
        self,
        receiver: Receiver,
        distribution: Distribution,
        source: Source,
        remote: Remote,
        account: Account | None,
        received: Callable[[], bytes],
        log: Logger,
    ) -> None:
        self._receiver = receiver
        self._distribution = distribution
        self._source = source
        self._remote = remote
        self._account = account
        self._received = received
        self._log = log
        self._convert = ToStore()
        self._header: list[bytes] = []
        self._held = 0
        self._tail = b"\n"
        self._submission: Submission | None = None
        self._parts: list[bytes] = []
        self._buffered = 0
        self._problem: Unwanted | NotNow | None = None

    @property
    def wanted(self) -> bool:
        """Whether more of it is of any use."""
        return self._problem is None

    async def take(self, data: bytes) -> None:
        """The next piece, wire form. What is wrong with the message is told by `finish`."""
        if self._problem is None:
            await self._guarded(self._convert.feed(data), last=False)

    async def _guarded(self, data: bytes, *, last: bool) -> None:
        try:
            if self._submission is None:
                await self._in_header(data, last)
            else:
                await self._write(data)
            if last and self._parts:
                await self._flush()
        except (Malformed, TooLarge) as error:
            self._problem = Unwanted(str(error))
        except Later as error:
            self._problem = NotNow(str(error))
        except (NoSpace, JournalError, OSError) as error:
            self._problem = NotNow(str(error) or "no space", all=True)

    async def _in_header(self, data: bytes, last: bool) -> None:
        # The empty line may be cut by the border of two pieces: the end of the one before is looked at again.
        joined = self._tail + data
        complete = last or b"\n\n" in joined or joined.startswith(b"\n\n")
        self._tail = joined[-2:] if data else self._tail
        self._header.append(data)
        self._held += len(data)
        if not complete:
            if self._held > MAX_HEADER:
                raise Malformed("the header is too long")
            return
        whole = b"".join(self._header)
        self._header = []
        end = header_end(whole)
        if end > MAX_HEADER:
            raise Malformed("the header is too long")
        addressing = await self._distribution.address(whole[:end], self._remote, self._account, self._log)
        submission = self._submission = self._receiver.begin(self._source)
        submission.sender = addressing.sender
        for recipient in addressing.recipients:
            submission.add(recipient)
        submission.smtputf8 = not (addressing.sender + "".join(one.address for one in addressing.recipients)).isascii()
        await submission.write(self._received() + addressing.header)
        await self._write(whole[end:])

    async def _write(self, data: bytes) -> None:
        """Small pieces are put together."""
        self._parts.append(data)
        self._buffered += len(data)
        if self._buffered > _PIECE:
            await self._flush()

    async def _flush(self) -> None:
        assert self._submission is not None
        data = b"".join(self._parts)
        self._parts, self._buffered = [], 0
        await self._submission.write(data)

    async def finish(self, taken: Callable[[int], None]) -> int:
        """Make the message durable; its id. `taken(id)` is called in the same breath: nothing comes between. Raises Unwanted
        and NotNow."""
        if self._problem is None:
            await self._guarded(self._convert.finish(), last=True)
        if self._problem is not None:
            raise self._problem
        submission = self._submission
        assert submission is not None
        # A cancellation in here would leave open whether there is a message. It waits for our own disk only.
        with trio.CancelScope(shield=True):
            try:
                number = await submission.submit()
            except (Malformed, TooLarge, ValueError) as error:
                raise Unwanted(str(error)) from None
            except (NoSpace, JournalError, OSError) as error:
                raise NotNow(str(error) or "no space", all=True) from None
            taken(number)
        return number

    async def abandon(self) -> None:
        """Leave nothing behind."""
        if self._submission is not None:
            await self._submission.abandon()
