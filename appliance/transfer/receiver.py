"""The receiver: a message in the making, from the first octet to "250".

A submission takes content in store form, piece by piece. It stays in memory up to 128 KiB and then streams to
`Queue/N.tmp`; the header is looked at as soon as it is complete, so what is wrong with it is said before the rest comes.
`submit` makes the message durable: one journal frame for a small one, a synced `N.msg` and a frame for a large one. A
submission that is abandoned, or whose session breaks, leaves nothing behind.

Missing header fields are put in front: Date always, Message-ID for trusted sources only (RFC 6409, 8; manual, chapter 57),
and a From if the text has no header at all.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from appliance.formats.headers import first_fields, header_end
from appliance.kernel.clock import Clock
from appliance.kernel.disk import FILES, SYNC
from appliance.kernel.files import Files
from appliance.kernel.log import Logger
from appliance.kernel.settings import Settings
from appliance.transfer.banned import SOURCES, BannedLines, BodyCheck
from appliance.transfer.envelope import render_head
from appliance.transfer.message import Envelope, QueuedMessage, Recipient, Source
from appliance.transfer.settings import HOP_LIMIT, MAX_SIZE
from appliance.transfer.spool import INLINE, NoSpace, Spool

__all__ = ["Malformed", "NoSpace", "Receiver", "Submission", "TooLarge", "TooManyHops"]

MAX_FIELD: Final = 100 << 10
"""A header field that is longer is refused."""
MAX_HEADER: Final = 2 << 20
"""So is a header that is longer."""
MAX_RECIPIENTS: Final = 100_000
_SPILL: Final = 256 << 10

_FIELD_START: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
_LONG_LINE_RUN: Final = re.compile(rb"\n(?![ \t])")
_BULK: Final = (b"bulk", b"list", b"junk")


class Malformed(ValueError):
    """The message is not taken (554); the text says why."""


class TooManyHops(Malformed):
    """More Received fields than the hop limit: a loop (RFC 5321, 6.3; 5.4.6)."""


class TooLarge(ValueError):
    """Larger than any message may be (552)."""


class Submission:
    """A message in the making. Set the envelope first, then write, then submit or abandon."""

    def __init__(self, receiver: Receiver, source: Source, refusable: bool) -> None:
        self.source = source
        self._refusable = refusable
        self.sender = ""
        """The return-path; empty for the null one."""
        self.ret = ""
        """"full", "hdrs" or empty (RFC 3461, 4.3)."""
        self.envid = ""
        self.smtputf8 = False
        self.recipients: list[Envelope] = []
        self.size = 0
        self.lines = 0
        self.id = 0
        """Chosen when it is needed; a maker that must know it beforehand puts one of `Spool.new_id` here before it writes."""
        self._receiver = receiver
        self._parts: list[bytes] = []
        self._buffered = 0
        self._header_seen = False
        self._handle = -1
        self._at = 0
        self._over = False
        self._message: QueuedMessage | None = None
        self._receipt = False
        self._test = False
        banned = receiver.banned if source.module in SOURCES else None
        self._banned = banned
        self._body: BodyCheck | None = None if banned is None else banned.body()

    def add(self, recipient: Envelope) -> None:
        """One recipient more; before the first `write`. ValueError beyond 100,000."""
        if len(self.recipients) >= MAX_RECIPIENTS:
            raise ValueError("too many recipients")
        self.recipients.append(recipient)

    async def write(self, store_form: bytes) -> None:
        """The next piece of the content, LF line ends. Malformed, TooLarge or OSError end the submission."""
        self.size += len(store_form)
        limit = self._receiver.settings[MAX_SIZE]
        if limit is not None and self.size > limit:
            raise TooLarge("the message is too large")
        self.lines += store_form.count(b"\n")
        self._parts.append(store_form)
        self._buffered += len(store_form)
        if self._header_seen and self._body is not None and self._body.feed(store_form):
            raise Malformed("the message contains a banned line")
        if not self._header_seen:
            if self._buffered > INLINE:
                self._look_at_header(False)
            if not self._header_seen:
                return
        if self._buffered > (_SPILL if self._handle >= 0 else INLINE):
            await self._spill()

    def _look_at_header(self, complete: bool) -> None:
        """Check and complete the header, if it is all there."""
        data = b"".join(self._parts)
        self._parts = [data]
        has_header = _FIELD_START.match(data) is not None
        end = header_end(data) if has_header else 0
        if has_header and end == len(data) and not complete and not data.endswith((b"\n\n", b"\n\r\n")):
            if len(data) > MAX_HEADER:
                raise Malformed("the header is too long")
            self._check_fields(data)
            return
        header = data[:end]
        self._check_fields(header)
        if (self._banned is not None and self._banned.header(header)) or (
            self._body is not None and self._body.feed(data[end:])
        ):
            raise Malformed("the message contains a banned line")
        added = self._complete(header, has_header)
        if added:
            self._parts = [added, data]
            self._buffered += len(added)
            self.size += len(added)
            self.lines += added.count(b"\n")
        self._header_seen = True

    def _check_fields(self, header: bytes) -> None:
        if len(header) > MAX_HEADER:
            raise Malformed("the header is too long")
        if len(header) > MAX_FIELD and any(len(field) > MAX_FIELD for field in _LONG_LINE_RUN.split(header)):
            raise Malformed("a header field is too long")

    def _complete(self, header: bytes, has_header: bool) -> bytes:
        folded = b"\n" + header.lower()
        hops = folded.count(b"\nreceived:")
        if hops > self._receiver.settings[HOP_LIMIT]:
            raise TooManyHops(f"too many hops ({hops})")
        added: list[str] = []
        if b"\ndate:" not in folded:
            added.append(f"Date: {self._receiver.date()}\n")
        if b"\nmessage-id:" not in folded and self.source.trusted:
            added.append(f"Message-ID: {self._receiver.message_id()}\n")
        if not has_header:
            added.append(f"From: <{self.sender or 'MAILER-DAEMON'}>\n\n")
        self._test = b"\nx-special-delivery:" in folded and b"test" in _value(header, b"x-special-delivery")
        if b"\nreturn-receipt-to:" in folded and self.sender:
            self._receipt = _value(header, b"precedence") not in _BULK
        return "".join(added).encode("utf-8", "surrogateescape")

    async def _spill(self) -> None:
        """Pass what is in memory on to N.tmp."""
        spool = self._receiver.spool
        if self._handle < 0:
            if self._refusable:
                spool.check_space()
            self.id = self.id or await spool.new_id()
            message = self._make()
            head = render_head(message)[0]
            self._message = message
            self._parts.insert(0, head)
            self._handle = await spool.disk.run(_create, spool.path(self.id, "tmp"))
            self._receiver.log.low("[%d] %d.tmp created", self.id, self.id)
        parts, self._parts, self._buffered = self._parts, [], 0
        self._at += await spool.disk.run(_write_parts, self._handle, parts, self._at)

    def _make(self) -> QueuedMessage:
        recipients = [
            Recipient(index, envelope.address, envelope.notify, envelope.orcpt)
            for index, envelope in enumerate(self.recipients)
        ]
        message = QueuedMessage(
            self.id, self.sender, self.source, [*recipients], self._receiver.clock.now(), ret=self.ret, envid=self.envid
        )
        message.smtputf8 = self.smtputf8
        message.receipt = self._receipt
        message.test = self._test
        message.routes = tuple(envelope.route for envelope in self.recipients)
        return message

    async def submit(
        self,
        *,
        reported: tuple[QueuedMessage, Sequence[Recipient]] | None = None,
        because_of: tuple[QueuedMessage, str] | None = None,
    ) -> int:
        """The message is durable, and the server answers for it, when this returns its id.

        Raises Malformed, NoSpace, ValueError (no recipients), JournalError, OSError; then there is no message. When the
        caller is cancelled there is one, or none. `reported`: it tells these results of another message (dequeuer).

        `because_of`: it is made because of a message that is still in the queue, under a name that its maker chooses (a copy
        for a group, the third action of a rule for an account). Each name is used once in the life of that message, over
        crashes too: when there is such a message already, nothing is made and its id is returned. So a maker that is asked
        again after a crash does again what it did. `QueuedMessage.made_for` tells beforehand.
        """
        if self._over:
            raise ValueError("the submission is over")
        if because_of is not None and (known := because_of[0].made_for(because_of[1])) is not None:
            await self.abandon()
            return known
        try:
            if not self.recipients:
                raise ValueError("no recipients")
            if not self._header_seen:
                self._look_at_header(True)
            if self._body is not None and self._body.end():
                raise Malformed("the message contains a banned line")
            if self._receiver.caps is not None and self.source.account is not None:
                await self._receiver.caps(self.source, self.recipients)
            if self._handle < 0 and self._buffered <= INLINE:
                self.id = self.id or await self._receiver.spool.new_id()
                message, content = self._make(), b"".join(self._parts)
            else:
                message, content = await self._close_file(), None
            message.size, message.lines = self.size, self.lines
            await self._receiver.spool.add(
                message, content, refusable=self._refusable, reported=reported, because_of=because_of
            )
        except BaseException:
            await self.abandon()
            raise
        self._over = True
        self._parts = []
        return self.id

    async def _close_file(self) -> QueuedMessage:
        spool = self._receiver.spool
        await self._spill()
        assert self._message is not None
        handle, self._handle = self._handle, -1
        temporary, path = spool.path(self.id, "tmp"), spool.path(self.id)
        await spool.disk.run_in(SYNC, _seal, handle, temporary, path, spool.directory)
        self._message.filed = self._message.synced = True
        return self._message

    async def abandon(self) -> None:
        """Leave nothing behind. Harmless after `submit`, and twice."""
        if self._over:
            return
        self._over = True
        self._parts = []
        handle, self._handle = self._handle, -1
        if self.id and (handle >= 0 or self._message is not None):
            spool = self._receiver.spool
            if self.id in spool.live:
                return
            with trio.CancelScope(shield=True):
                paths = [spool.path(self.id, "tmp"), spool.path(self.id)]
                await spool.disk.run_in(FILES, _discard, handle, paths)
            self._receiver.log.low("[%d] discarded", self.id)

    async def __aenter__(self) -> Submission:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.abandon()


class Receiver:
    """Begins submissions. `host` gives the name that new Message-IDs end in."""

    def __init__(
        self, spool: Spool, settings: Settings, clock: Clock, log: Logger, host: Callable[[], str] = lambda: "localhost"
    ) -> None:
        self.spool = spool
        self.settings = settings
        self.clock = clock
        self.log = log
        self.banned: BannedLines | None = None
        """The lines of the Protection page."""
        self.caps: Callable[[Source, Sequence[Envelope]], Awaitable[None]] | None = None
        """Raises Malformed if the account of the source has sent too much."""
        self._host = host
        self._serial = 0

    def begin(self, source: Source, *, reserve: bool = False) -> Submission:
        """A new message in the making. NoSpace when nothing can be taken in; with `reserve` (reports) there is room then."""
        if not reserve:
            self.spool.check_space()
        return Submission(self, source, not reserve)

    def date(self) -> str:
        """Now, as in a Date field."""
        return email.utils.format_datetime(self.clock.local(self.clock.now()).replace(microsecond=0))

    def message_id(self) -> str:
        """A new Message-ID with its angle brackets."""
        self._serial += 1
        return f"<{self.clock.now():.6f}.{self.spool.journal.epoch}.{self._serial}@{self._host() or 'localhost'}>"


def _value(header: bytes, name: bytes) -> bytes:
    return first_fields(header).get(name, b"").strip().lower()


def _create(files: Files, path: str) -> int:
    return files.open(path, write=True, create=True, truncate=True)


def _write_parts(files: Files, handle: int, parts: Sequence[bytes], offset: int) -> int:
    return files.pwritev(handle, parts, offset)


def _seal(files: Files, handle: int, temporary: str, path: str, directory: str) -> None:
    try:
        files.fsync(handle)
    finally:
        files.close(handle)
    files.rename(temporary, path)
    files.sync_directory(directory)


def _discard(files: Files, handle: int, paths: Sequence[str]) -> None:
    if handle >= 0:
        files.close(handle)
    for path in paths:
        try:
            files.unlink(path)
        except FileNotFoundError:
            continue
