"""What the spool does at start: journal frames first, then the files of the Queue directory.

`Recovery.replay` is given every frame of the journal in order (the accounts look at theirs in the same loop); `finish` then
reads the directory: files that belong to live messages, files of messages that are finished (a crash came before the
removal), and files that nobody knows - written by an earlier life of this server, or brought from another one. What cannot
be read goes to BadFiles; `.tmp` files go.

What accounts had stored since they were last safe is told by `stored`, in order; those messages stay live until the accounts
say that they are safe again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from appliance.kernel.disk import SYNC
from appliance.kernel.files import Files
from appliance.kernel.journal import Frame, FrameType, Position
from appliance.kernel.tasks import pace
from appliance.router.route import Route
from appliance.transfer import frames
from appliance.transfer.aside import keep_aside, put_aside
from appliance.transfer.envelope import MAX_HEAD, Head, HeadError, parse_head
from appliance.transfer.message import Kind, Outcome, QueuedMessage, Recipient, Source, Stored, compact
from appliance.transfer.spool import Spool

__all__ = ["Recovery", "Replay", "StoredBefore", "stored_alone"]

_FIRST_READ: Final = 64 << 10
_STORED_ALONE: Final = -1
_UNREAD: Final = 1000
_NO_ROUTES: Final[dict[tuple[object, ...], Route]] = {}  # nothing is routed yet
_CONTENTS: Final = 1 << 20
"""Octets of contents that a start takes into memory."""


def stored_alone(account: str) -> str:
    """The name under which a message remembers after a crash that an account has stored it, while no recipient had a result
    by that: one of many accounts that mail to all goes to. It is kept until the next status of the message."""
    return f"stored {account}"


@dataclass(slots=True)
class StoredBefore:
    """A delivery that an account has to look at again: what it had recorded, and the message."""

    position: Position
    stored: Stored
    message: QueuedMessage
    content: bytes | None
    """None: it is not in memory; ask `Spool.content`."""


class Replay:
    """What a series of frames adds up to, pure. No more than `keep` octets of contents are kept (None: all)."""

    def __init__(self, keep: int | None = None) -> None:
        self.messages: dict[int, QueuedMessage] = {}
        """Messages that are not finished, with their contents (`held`) unless those are in N.msg (`filed`) or are left in
        the journal."""
        self._sources: dict[Source, Source] = {}
        self._keep = keep
        self._kept = 0
        self.gone: set[int] = set()
        """Messages that are finished; their files may still be there."""
        self._stored: dict[str, deque[tuple[Position, Stored, int]]] = {}
        self.queue_delays: dict[tuple[str, str], tuple[float, str, Position]] = {}
        self.marks: dict[int, str] = {}
        """The marks of messages whose sources put one on, finished or not."""

    def take(self, position: Position, frame: Frame) -> bool:
        """One frame; frames of other rooms are passed over. False if it is damaged."""
        if frame.type not in _OURS:
            return True
        try:
            self._apply(position, frame.type, frames.read(frame))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return False
        return True

    def _apply(self, position: Position, kind: int, fields: list[Any]) -> None:
        number: int = fields[0]
        if kind == FrameType.MESSAGE:
            message, content, reported = frames.read_message(fields)
            message.position = position
            if message.source.mark:
                self.marks[number] = message.source.mark
            known = self.messages.get(number)
            if known is not None:
                self._kept -= len(known.held or b"")
                del self.messages[number]  # so that they stand in the order of their positions
                message.unsafe = known.unsafe
                if known.made:
                    message.made = {**known.made, **(message.made or {})}
            if content is None:
                message.filed = True
            elif self._keep is not None:
                self._kept += len(content)
                if self._kept > self._keep:
                    self._kept -= len(content)
                    content = None
            message.held = content
            compact(message, self._sources, _NO_ROUTES)
            self.messages[number] = message
            if reported is not None and reported[0] in self.messages:
                about = self.messages[reported[0]]
                for index in reported[1]:
                    about.recipients[index].reported = True
            because_of = frames.read_because_of(fields)
            if because_of is not None and because_of[0] in self.messages:
                self.messages[because_of[0]].remember(because_of[1], number)
            return
        if kind == FrameType.STATUS and number == 0:
            _, module, host, until, reason = fields[:5]
            if until:
                self.queue_delays[module, host] = (float(until), reason, position)
            else:
                self.queue_delays.pop((module, host), None)
            return
        known = self.messages.get(number)
        if kind == FrameType.FINISHED:
            if known is not None:
                self._kept -= len(known.held or b"")
            self.messages.pop(number, None)
            self.gone.add(number)
        elif known is None:
            return  # of a message that is finished, its M is gone
        elif kind == FrameType.ENQUEUED:
            frames.apply_enqueued(known, fields)
        elif kind == FrameType.DELIVERED:
            frames.apply_delivered(known, fields)
            stored = frames.read_stored(fields)
            if stored is not None:
                if known.unsafe is None:
                    known.unsafe = {}
                known.unsafe[stored.account] = position
                self._stored.setdefault(stored.account, deque()).append((position, stored, number))
                if not fields[1]:
                    known.remember(stored_alone(stored.account), _STORED_ALONE)
        elif kind == FrameType.STATUS:
            frames.apply_status(known, fields)
            if known.made is not None:  # it stands further on than those stores
                known.made = {name: made for name, made in known.made.items() if made != _STORED_ALONE} or None

    def safe(self, account: str, position: Position) -> None:
        """What the account stored before `position` needs no second look."""
        waiting = self._stored.get(account)
        while waiting and waiting[0][0] < position:
            at, _, number = waiting.popleft()
            known = self.messages.get(number)
            if known is not None and known.unsafe is not None and known.unsafe.get(account) == at:
                del known.unsafe[account]

    @property
    def stored(self) -> list[tuple[Position, Stored, int]]:
        """What accounts stored and were not safe since, in the order in which it was stored, with the message ids."""
        return sorted((entry for entries in self._stored.values() for entry in entries), key=lambda entry: entry[0])


class Recovery:
    """One start of a spool: `replay` every frame, tell `safe`, then `finish`; the accounts look at `stored`; then `begin`."""

    def __init__(self, spool: Spool, bad_files: str) -> None:
        self.spool = spool
        self.bad_files = bad_files
        self.damaged = 0
        """Frames that could not be understood."""
        self.foreign = 0
        """Messages taken from files that the journal does not know."""
        self._replay = Replay(_CONTENTS)
        self._unread: list[tuple[Position, bytes]] = []

    async def replay_all(self) -> None:
        """All frames of the journal, for a server without accounts (and for tests)."""
        async for position, frame in self.spool.journal.replay():
            self.replay(position, frame)

    def replay(self, position: Position, frame: Frame) -> None:
        """One frame. Frames of other rooms are passed over, damaged ones are counted and logged."""
        if not self._replay.take(position, frame):
            self.damaged += 1
            self.spool.log.failure("a journal record at %d is not understood", position)
            if frame.type == FrameType.MESSAGE and len(self._unread) < _UNREAD:
                self._unread.append((position, frame.payload))

    def safe(self, account: str, position: Position) -> None:
        """A K of the journal: what the account stored before `position` needs no second look."""
        self._replay.safe(account, position)

    @property
    def marks(self) -> dict[int, str]:
        """Message id -> mark of all messages in the journal that have one. Until `begin`."""
        return self._replay.marks

    async def finish(self) -> None:
        """Read the directory and put what is to be done into the spool; nothing is enqueued yet (`begin`)."""
        await self.spool.disk.run(_make_directories, self.spool.directory, self.bad_files)
        names = await self.spool.disk.listdir(self.spool.directory)
        files: dict[int, str] = {}
        others: list[str] = []
        for name in names:
            stem, extension = os.path.splitext(name)
            if extension == ".tmp":
                await self.spool.disk.unlink(os.path.join(self.spool.directory, name), missing_ok=True)
            elif extension == ".msg":
                if stem.isdecimal() and stem.isascii() and len(stem) < 18 and str(int(stem)) == stem:
                    files[int(stem)] = name
                else:
                    others.append(name)
        if files:
            self.spool.lift_ids(max(files))
        if self._replay.messages:
            self.spool.lift_ids(max(self._replay.messages))
        for number in self._replay.gone & files.keys():
            await self.spool.disk.unlink(self.spool.path(number), missing_ok=True)
            del files[number]
        for path in self.spool.journal.damaged:
            self.spool.log.failure("%s is damaged, messages may be lost; a copy of it goes to BadFiles", path)
            try:
                await self.spool.disk.run(_copy, path, os.path.join(self.bad_files, os.path.basename(path)))
            except OSError as error:
                self.spool.log.failure("%s cannot be copied to BadFiles: %s", path, error)
        for position, payload in self._unread:
            try:
                await keep_aside(self.spool.disk, f"{position}.frame", self.bad_files, payload)
            except OSError as error:
                self.spool.log.failure("a journal record at %d cannot be put into BadFiles: %s", position, error)
        self._unread.clear()
        self.spool.queue_delays.update(self._replay.queue_delays)
        messages, self._replay.messages = self._replay.messages, {}
        for message in messages.values():
            self._revive(message, message.id in files)
            files.pop(message.id, None)
            await pace()
        for number, name in sorted(files.items()):
            await self.take_foreign(os.path.join(self.spool.directory, name), number)
        for name in sorted(others):
            await self.take_foreign(os.path.join(self.spool.directory, name), None)

    def _revive(self, message: QueuedMessage, has_file: bool) -> None:
        content, message.held = message.held, None
        if message.filed:
            message.synced = True
        else:
            message.leftover = has_file
        self.spool.adopt(message, content)

    def stored(self) -> Iterator[StoredBefore]:
        """What accounts have to look at again, in the order in which it was stored. After `finish`, before `begin`."""
        for position, stored, number in self._replay.stored:
            message = self.spool.live.get(number)
            if message is not None:
                yield StoredBefore(position, stored, message, message.held)

    def knows(self, number: int) -> bool:
        """Whether the message of that id was taken in before the restart, finished or not. After `finish`, before `begin`."""
        return number in self.spool.live or number in self._replay.gone

    def begin(self) -> int:
        """Hand everything over to the enqueuer; how many messages there are. After the accounts have made their redo."""
        messages = list(self.spool.live.values())
        for position, stored, number in self._replay.stored:
            message = self.spool.live.get(number)
            if message is not None and message.unsafe is not None and message.unsafe.get(stored.account) == position:
                self.spool.watch_stored(stored.account, position, message)
        self._replay = Replay()
        for message in messages:
            if not message.done or any(not recipient.reported for recipient in message.recipients):
                self.spool.revived(message)
            else:
                self.spool.settle(message)
        return len(messages)

    # -- files that the journal does not know -------------------------------------------------------------------------

    async def take_foreign(self, path: str, number: int | None, *, enqueue: bool = False) -> bool:
        """Make a message of a `.msg` file in the Queue directory or on its file system; False if it went to BadFiles.

        `number` is its name if that may serve as its id. With `enqueue` the message goes to the enqueuer at once (Foreign
        Queue of a running server), otherwise with all others (`begin`).
        """
        spool = self.spool
        try:
            head, size = await self._read_head(path)
        except HeadError as error:
            spool.log.failure("%s cannot be read, it goes to BadFiles: %s", path, error)
            await self._put_aside(path)
            return False
        except OSError as error:
            spool.log.failure("%s cannot be read: %s", path, error)
            return False
        if number is None or number in spool.live:
            number = await spool.new_id()
        target = spool.path(number)
        message = _from_head(number, head, size - head.length)
        if message.arrived <= 0:
            message.arrived = spool.clock.now()
        await spool.disk.run_in(SYNC, _move_in, path, target, spool.directory)
        message.filed = message.synced = True
        ticket = spool.journal.append(frames.message(message, None))
        message.position = ticket.position
        spool.adopt(message, None)
        spool.journal.hurry()
        await ticket.durable()
        self.foreign += 1
        spool.log.major("[%d] taken from %s", number, os.path.basename(path))
        if enqueue:
            spool.arrived(message)
        return True

    async def _read_head(self, path: str) -> tuple[Head, int]:
        disk = self.spool.disk
        size = (await disk.stat(path)).size
        limit = _FIRST_READ
        while True:
            data = await disk.read_bytes(path, limit)
            try:
                return parse_head(data), size
            except HeadError:
                if limit >= size or limit >= MAX_HEAD or b"\n\n" in data or b"\n\r\n" in data:
                    raise
                limit *= 4

    async def _put_aside(self, path: str) -> None:
        try:
            await put_aside(self.spool.disk, path, self.bad_files)
        except OSError as error:
            self.spool.log.failure("%s cannot be moved to BadFiles: %s", path, error)


_OURS: Final = frozenset(
    {FrameType.MESSAGE, FrameType.ENQUEUED, FrameType.DELIVERED, FrameType.STATUS, FrameType.FINISHED}
)


def _from_head(number: int, head: Head, size: int) -> QueuedMessage:
    recipients = []
    for index, (envelope, done) in enumerate(head.recipients):
        recipient = Recipient(index, envelope.address, envelope.notify, envelope.orcpt)
        if done:
            recipient.outcome, recipient.reported = Outcome(Kind.DELIVERED), True
        recipients.append(recipient)
    message = QueuedMessage(
        number,
        head.sender,
        head.source,
        recipients,
        head.arrived,
        size,
        0,
        head.ret,
        head.envid,
        head.added_header,
    )
    message.smtputf8, message.ruled = head.smtputf8, head.ruled
    return message


def _copy(files: Files, path: str, target: str) -> None:
    if not files.exists(target):
        files.copy(path, target)


def _make_directories(files: Files, *paths: str) -> None:
    for path in paths:
        files.make_directories(path)


def _move_in(files: Files, path: str, target: str, directory: str) -> None:
    """The file becomes N.msg, durably with its contents; a link first, so that nothing is ever replaced."""
    if path != target:
        if files.exists(target):
            raise FileExistsError(target)
        files.rename(path, target)
    files.sync(target)
    files.sync_directory(directory)
    if os.path.dirname(path) != directory:
        files.sync_directory(os.path.dirname(path))
