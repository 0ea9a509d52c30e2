"""The spool: every message that the server has taken responsibility for, from "250" until its last recipient is done.

Invariants:
- A message is live from the moment its frame M is handed to the journal; `add` returns when M is durable.
- Its content is in the M (journal) or in `Queue/N.msg`; memory has copies of what came last, and is never the only place.
- M goes (with its segment) only when the message is finished and N.msg is unlinked, or after a new M without content was
  written, and then N.msg is durable with all of the content.
- A message is finished when every recipient has a result, every result is told or need not be told, and every account that
  stored it is safe. Then F, then the file goes.
- Positions in the journal only rise, so the oldest need is the smallest `position` of the live messages.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import trio

from appliance.kernel.clock import Clock
from appliance.kernel.disk import SYNC, Disk
from appliance.kernel.files import Files
from appliance.kernel.journal import Frame, Journal, JournalError, JournalFull, Position, Ticket
from appliance.kernel.log import Logger
from appliance.kernel.memory import give_back
from appliance.kernel.segments import Segment, read_frame
from appliance.kernel.tasks import TaskStatus, in_thread, pace
from appliance.router.route import Route
from appliance.transfer import frames
from appliance.transfer.aside import put_aside
from appliance.transfer.envelope import DONE, find_marks, render_head
from appliance.transfer.message import QueuedMessage, Recipient, Source, Stored, compact

__all__ = ["INLINE", "NoSpace", "Spool"]

INLINE: Final = 128 << 10
"""Larger contents go to a file of their own instead of the journal."""
AGE: Final = 30.0
"""Seconds after which a message that still waits gets its N.msg."""
CHUNK: Final = 256 << 10
_KEEP_HOUSE: Final = 5.0
_IDS: Final = 1000
_WATCH_EVERY: Final = 64  # messages after which the space is looked at, at most every few seconds
_REMOVE_DELAY: Final = 0.2
_VERIFY: Final = 200
_TOGETHER: Final = 64
_MANY: Final = 1000
_MUCH: Final = 4 << 20
_AT_ONCE: Final = 256
_BREATH: Final = 0.05
_SHORTEST: Final = 8


class NoSpace(Exception):
    """Nothing new is taken in for want of disk space; try later (452, RFC 5321, 4.2.2)."""


class Spool:
    """Live messages by id. `arrived` is called with each message that is to be enqueued, in order."""

    def __init__(
        self,
        disk: Disk,
        journal: Journal,
        directory: str,
        clock: Clock,
        log: Logger,
        *,
        cache: Callable[[], int | None] = lambda: 16 << 20,
        min_free: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.disk = disk
        self.journal = journal
        self.directory = directory
        self.clock = clock
        self.log = log
        self.live: dict[int, QueuedMessage] = {}
        self.arrived: Callable[[QueuedMessage], None] = lambda message: None
        self.revived: Callable[[QueuedMessage], None] = lambda message: self.arrived(message)
        """As `arrived`, with each one that survived a restart."""
        self.bad_files = os.path.join(os.path.dirname(directory), "BadFiles")
        self.damaged: Callable[[QueuedMessage], None] = lambda message: None
        """Called with a message whose N.msg turned out to be damaged or gone; the file, if any, is in BadFiles."""
        self.finished: Callable[[QueuedMessage], None] = lambda message: None
        self.queue_delays: dict[tuple[str, str], tuple[float, str, Position]] = {}
        """Queues that wait: until when, why."""
        self.make_safe: Callable[[], object] = lambda: None
        """Asks the accounts for a check-point, because the journal grows long."""
        self.accepted = 0
        self.space_low = False
        self._cache = cache
        self._min_free = min_free
        self._held = 0
        self._aging: deque[tuple[float, QueuedMessage]] = deque()
        self._cached: deque[QueuedMessage] = deque()
        self._freed = 0
        self._next_id = 0
        self._last_id = 0
        self._id_lock = trio.Lock()
        self._stored: dict[str, deque[tuple[Position, QueuedMessage]]] = {}
        self._patches: list[tuple[QueuedMessage, int]] = []
        self._suspect: deque[QueuedMessage] = deque()
        self.sources: dict[Source, Source] = {}
        self.common: dict[tuple[object, ...], Route] = {}
        """What routes of recipients that wait have in common."""
        self._leaving: list[QueuedMessage] = []
        self._file_locks: dict[int, trio.Lock] = {}
        self._wake = trio.Event()
        self._floor_id = 1
        journal.register(self._needs, self._relocate)

    # -- ids and paths ------------------------------------------------------------------------------------------------

    def path(self, number: int, extension: str = "msg") -> str:
        return os.path.join(self.directory, f"{number}.{extension}")

    async def new_id(self) -> int:
        """A message id that was never given out in the life of the base directory. JournalError if none can be had."""
        async with self._id_lock:
            if self._next_id >= self._last_id:
                self._next_id = await self.journal.reserve("message", _IDS, at_least=self._floor_id)
                self._last_id = self._next_id + _IDS
            number = self._next_id
            self._next_id += 1
            return number

    def lift_ids(self, used: int) -> None:
        """That number is taken by a file found in the directory."""
        self._floor_id = max(self._floor_id, used + 1)
        if self._next_id <= used:
            self._next_id = self._last_id = 0

    # -- taking in ----------------------------------------------------------------------------------------------------

    def check_space(self) -> None:
        """NoSpace if nothing new can be taken in."""
        if self.space_low:
            raise NoSpace("disk space is low")

    async def add(
        self,
        message: QueuedMessage,
        content: bytes | None,
        *,
        refusable: bool = True,
        reported: tuple[QueuedMessage, Sequence[Recipient]] | None = None,
        because_of: tuple[QueuedMessage, str] | None = None,
    ) -> None:
        """Take responsibility: durable when it returns. `content` is None if N.msg is durable already.

        NoSpace when there is no room (`refusable`), JournalError when the journal has failed. Once the frame is handed
        over, a cancelled caller waits for it all the same: the message must not exist on the disk only.
        """
        about = None if reported is None else (reported[0].id, [recipient.index for recipient in reported[1]])
        try:
            if refusable:
                self.check_space()
                await self.journal.room()
            cause = None if because_of is None else (because_of[0].id, because_of[1])
            if len(message.recipients) > _MANY:
                frame = await in_thread(lambda: frames.message(message, content, about, cause))
            else:
                frame = frames.message(message, content, about, cause)
            ticket = self.journal.append(frame, refusable=refusable)
        except JournalFull as error:
            raise NoSpace(str(error)) from error
        message.position = ticket.position
        if content is not None:
            message.held = content
            self._held += len(content)
        if because_of is not None:  # now: frames of that message that come behind this one must tell it too
            because_of[0].remember(because_of[1], message.id)
        self._enlist(message)
        self.journal.hurry()
        with trio.CancelScope(shield=True):
            try:
                await ticket.durable()
            except JournalError:
                self._forget(message)
                raise
        if reported is not None:
            for recipient in reported[1]:
                recipient.reported = True
        if content is not None:
            self._aging.append((self.clock.now() + AGE, message))
            self._keep(message)
        self.accepted += 1
        if self.accepted % _WATCH_EVERY == 1:
            self._wake.set()
        self.log.low("[%d] accepted from <%s>, %d bytes", message.id, message.sender, message.size)
        self.arrived(message)

    def _enlist(self, message: QueuedMessage) -> None:
        self.live[message.id] = message
        message.contents = self

    def _keep(self, message: QueuedMessage) -> None:
        """Its content is in memory and durable elsewhere: those that came first go when it is too much."""
        self._cached.append(message)
        limit = self._cache()
        while self._cached and (self._cached[0].held is None or (limit is not None and self._held > limit)):
            self._release_content(self._cached.popleft())

    def _forget(self, message: QueuedMessage) -> None:
        self.live.pop(message.id, None)
        self._release_content(message)

    def _release_content(self, message: QueuedMessage) -> None:
        if message.held is not None:
            self._held -= len(message.held)
            message.held = None

    def adopt(self, message: QueuedMessage, content: bytes | None) -> None:
        """Put a message that survived a restart among the live ones. Without content it is in N.msg (`filed`), which is
        looked at soon, or in the journal."""
        self._enlist(message)
        if message.filed:
            self.suspect(message)
        else:
            self._aging.append((self.clock.now() + AGE, message))
        if content is None:
            compact(message, self.sources, self.common)
        else:
            message.held = content
            self._held += len(content)
            self._keep(message)

    def suspect(self, message: QueuedMessage) -> None:
        """See soon whether its N.msg is there and whole."""
        self._suspect.append(message)
        if len(self._suspect) == 1:
            self._wake.set()

    # -- contents -----------------------------------------------------------------------------------------------------

    async def content(self, message: QueuedMessage) -> bytes:
        """The whole content, in store form. For large messages use `chunks`. OSError if the disk fails."""
        if message.held is not None:
            return message.held
        if message.filed:
            return await self._read(message, 0, message.size)
        try:
            content = _content_of(await self.journal.read(message.position))
        except OSError:
            if message.filed:  # meanwhile
                return await self._read(message, 0, message.size)
            raise
        limit = self._cache()
        if message.held is None and not message.done and (limit is None or self._held + len(content) <= limit):
            message.held = content
            self._held += len(content)
            self._keep(message)
        return content

    async def _read(self, message: QueuedMessage, start: int, size: int) -> bytes:
        try:
            return await self.disk.run(_read_part, self.path(message.id), message.size, start, size)
        except OSError:
            self.suspect(message)
            raise

    async def head(self, message: QueuedMessage, limit: int = 256 << 10) -> bytes:
        """The first `limit` octets of the content."""
        if message.held is not None:
            return message.held[:limit]
        if not message.filed:
            return (await self.content(message))[:limit]
        return await self._read(message, 0, min(limit, message.size))

    async def chunks(self, message: QueuedMessage) -> AsyncIterator[bytes]:
        """The content in pieces of at most 256 KiB."""
        content = message.held
        if content is None and not message.filed:
            content = await self.content(message)
        if content is not None:
            for start in range(0, len(content), CHUNK):
                yield content[start : start + CHUNK]
            return
        for start in range(0, message.size, CHUNK):
            yield await self._read(message, start, min(CHUNK, message.size - start))

    async def file(self, message: QueuedMessage) -> str:
        """The path of N.msg, made now if need be: for programs that want a file name."""
        if not message.filed:
            async with self._file_locks.setdefault(message.id, trio.Lock()):
                if not message.filed:
                    await self.disk.run(_write_message, self._paper(message))
                    message.filed = True
            self._file_locks.pop(message.id, None)
        return self.path(message.id)

    def _paper(self, message: QueuedMessage) -> _Paper:
        number = message.id
        segment = self.journal.segment_of(message.position) if message.held is None else None
        head = render_head(message)[0]
        return _Paper(self.path(number, "tmp"), self.path(number), head, message.held, segment, message.position)

    # -- results ------------------------------------------------------------------------------------------------------

    def record(self, message: QueuedMessage, recipients: Iterable[Recipient], stored: Stored | None = None) -> Ticket:
        """Write down that these recipients have their results; rides with the next flush."""
        done = list(recipients)
        ticket = self.journal.append(frames.delivered(message, done, stored))
        if stored is not None:
            if message.unsafe is None:
                message.unsafe = {}
            message.unsafe[stored.account] = ticket.position
            self._stored.setdefault(stored.account, deque()).append((ticket.position, message))
        if message.filed:
            if not self._patches:
                self._wake.set()
            self._patches += [(message, recipient.index) for recipient in done]
        if message.done and message.held is not None and not self._needs_report(message):
            self._release_content(message)  # the redo after a crash reads the journal
        return ticket

    def note(self, message: QueuedMessage, recipients: Iterable[Recipient]) -> Ticket:
        """Write down how these recipients wait."""
        return self.journal.append(frames.status(message, recipients))

    def done(self, message: QueuedMessage, name: str) -> Ticket:
        """Write down that something was done because of the message, so that it is not done again after a crash:
        `message.made_for(name)` is 0 from now on. For what makes no message of its own (a program of a rule, a copy in another
        account); rides with the next flush, in one with what was recorded just before."""
        message.remember(name, 0)
        return self.journal.append(frames.done(message, name))

    def enqueued(self, message: QueuedMessage) -> Ticket:
        """Write down that server rules are done."""
        return self.journal.append(frames.enqueued(message))

    def delay_queue(self, module: str, host: str, until: float, reason: str) -> None:
        """Write down that a whole queue waits until that time; 0 ends it."""
        key = (module, host)
        if not until and key not in self.queue_delays:
            return
        position = self.journal.append(frames.queue_state(module, host, until, reason)).position
        if until:
            self.queue_delays[key] = (until, reason, position)
        else:
            del self.queue_delays[key]

    def safe(self, account: str, position: Position) -> None:
        """All that the account has stored by frames before `position` is durable (its K covers it)."""
        waiting = self._stored.get(account)
        while waiting and waiting[0][0] < position:
            at, message = waiting.popleft()
            if message.unsafe is not None and message.unsafe.get(account) == at:
                del message.unsafe[account]
                self.settle(message)
        if not waiting:
            self._stored.pop(account, None)

    def watch_stored(self, account: str, position: Position, message: QueuedMessage) -> None:
        """After a restart: the account has stored the message and is not safe yet."""
        self._stored.setdefault(account, deque()).append((position, message))

    @staticmethod
    def _needs_report(message: QueuedMessage) -> bool:
        return any(not recipient.reported for recipient in message.recipients)

    def settle(self, message: QueuedMessage) -> None:
        """If nothing is left to do for the message, let it go."""
        if message.finished or message.unsafe or not message.done or self._needs_report(message):
            return
        if message.id not in self.live:
            return
        message.finished = True
        self._release_content(message)
        self._leaving.append(message)
        if len(self._leaving) == 1:
            self._wake.set()
        self.finished(message)

    # -- house-keeping ------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Removes what is finished, writes N.msg for what waits long, watches the space. A vital component."""
        task_status.started()
        looked, seen = -_KEEP_HOUSE, -1
        while True:
            with trio.move_on_after(self._pause(seen)):
                await self._wake.wait()
                if self._leaving or self._patches:
                    await trio.sleep(_REMOVE_DELAY)  # let some more come together
            self._wake = trio.Event()
            now = trio.current_time()
            if now - looked >= _KEEP_HOUSE and (self.space_low or seen != self.accepted):
                looked, seen = now, self.accepted
                await self._watch_space()
            await self._remove()
            await self._patch()
            await self._age()
            await self._verify()

    async def _verify(self) -> None:
        """Look at some of the files that may be damaged."""
        batch: list[QueuedMessage] = []
        while self._suspect and len(batch) < _VERIFY:
            message = self._suspect.popleft()
            if message.held is None and not message.done:
                batch.append(message)
        if self._suspect:
            self._wake.set()
        if not batch:
            return
        bad = await self.disk.run(_damaged, [(self.path(message.id), message.size) for message in batch])
        for number in bad:
            message = batch[number]
            if message.held is None and not message.done:
                self.log.failure("[%d] is lost, its file is damaged or gone", message.id)
                try:
                    await put_aside(self.disk, self.path(message.id), self.bad_files)
                except OSError as error:
                    self.log.failure("[%d] cannot be moved to BadFiles: %s", message.id, error)
                message.filed = False
                self.damaged(message)

    def _pause(self, seen: int) -> float:
        """Seconds until there is something to do by itself; an idle server sleeps."""
        if self._aging and self._aging[0][0] <= self.clock.now():
            return _BREATH  # very many came together: new mail is not to wait for their files
        if self.space_low or seen != self.accepted or self._patches:
            return _KEEP_HOUSE
        while self._aging and (self._aging[0][1].filed or self._aging[0][1].finished):
            self._aging.popleft()
        return max(_KEEP_HOUSE, self._aging[0][0] - self.clock.now()) if self._aging else math.inf

    async def close(self) -> None:
        """Before the end: every message that waits gets its N.msg, so that the directory alone tells all."""
        await self._remove()
        await self._patch()
        await self._write_files([message for message in self.live.values() if not message.filed and not message.done])

    async def _watch_space(self) -> None:
        limit = self._min_free()
        low = False
        if limit:
            try:
                low = await self.disk.free_space(self.directory) < limit
            except OSError as error:
                self.log.failure("free space of the Queue is not known: %s", error)
        if low and not self.space_low:
            self.log.failure("disk space is low, no new messages are accepted")
        elif self.space_low and not low:
            self.log.major("disk space is sufficient again")
        self.space_low = low

    async def _remove(self) -> None:
        leaving, self._leaving = self._leaving, []
        if not leaving:
            return
        ticket: Ticket | None = None
        for message in leaving:
            ticket = self.journal.append(frames.finished(message))
        assert ticket is not None
        await ticket.durable()
        await self.disk.run(
            _unlink_all, [self.path(message.id) for message in leaving if message.filed or message.leftover]
        )
        for message in leaving:
            self.live.pop(message.id, None)
            self._file_locks.pop(message.id, None)
            self.log.low("[%d] finished", message.id)

    async def _patch(self) -> None:
        patches, self._patches = self._patches, []
        wanted: dict[str, list[int]] = {}
        for message, index in patches:
            if not message.finished:
                wanted.setdefault(self.path(message.id), []).append(index)
        if wanted:
            await self.disk.run(_patch_all, wanted)

    async def _age(self) -> None:
        """Write N.msg for messages that are old, and let go of their contents."""
        now = self.clock.now()
        old: list[QueuedMessage] = []
        while self._aging and self._aging[0][0] <= now and len(old) < _AT_ONCE:
            message = self._aging.popleft()[1]
            if not message.filed and not message.finished:
                old.append(message)
        await self._write_files(old)
        before = self._held
        for message in old:
            if message.filed:
                self._release_content(message)
                compact(message, self.sources, self.common)
        self._freed += before - self._held
        if self._freed >= _MUCH:
            self._freed = 0
            await in_thread(give_back)

    async def _write_files(self, messages: Sequence[QueuedMessage]) -> None:
        """N.msg for each; those that cannot be written now are tried again later."""
        for start in range(0, len(messages), _TOGETHER):
            work: list[tuple[QueuedMessage, _Paper, trio.Lock]] = []
            for message in messages[start : start + _TOGETHER]:
                if message.filed or message.id in self._file_locks:
                    continue
                try:
                    paper = self._paper(message)
                except OSError as error:
                    self._not_written(message, error)
                    continue
                self._file_locks[message.id] = lock = trio.Lock()
                lock.acquire_nowait()
                work.append((message, paper, lock))
            try:
                errors = await self.disk.run(_write_messages, [paper for _, paper, _ in work])
                for (message, _, _), trouble in zip(work, errors, strict=True):
                    if trouble is None:
                        message.filed = True
                    else:
                        self._not_written(message, trouble)
            finally:
                for message, _, lock in work:
                    self._file_locks.pop(message.id, None)
                    lock.release()

    def _not_written(self, message: QueuedMessage, error: OSError) -> None:
        self.log.failure("[%d] cannot be written to the Queue: %s", message.id, error)
        self._aging.append((self.clock.now() + AGE, message))

    # -- what the journal asks ----------------------------------------------------------------------------------------

    def _needs(self) -> Position | None:
        """`live` is in the order of the positions, so the first one is the oldest."""
        needed = [position for _, _, position in self.queue_delays.values()]
        if self.live:
            needed.append(next(iter(self.live.values())).position)
        return min(needed, default=None)

    def _older(self, before: Position) -> list[QueuedMessage]:
        older: list[QueuedMessage] = []
        for message in self.live.values():
            if message.position >= before:
                break
            older.append(message)
        return older

    async def _relocate(self, before: Position) -> None:
        """Make what is older than `before` independent of the old segments."""
        await self._remove()
        older = self._older(before)
        if any(message.unsafe for message in older):
            self.make_safe()
        movers = [message for message in older if not message.unsafe and not message.finished]
        await self._write_files(movers)
        await self._patch()
        movers = [message for message in movers if message.filed and not message.unsafe and not message.finished]
        fresh = [message for message in movers if not message.synced]
        for start in range(0, len(fresh), _TOGETHER):  # others wait for flushes too
            paths = [self.path(message.id) for message in fresh[start : start + _TOGETHER]]
            try:
                await self.disk.run_in(SYNC, _sync_messages, paths, self.directory)
            except OSError as error:
                self.log.failure("the Queue cannot be synced: %s", error)
                return
        for message in movers:
            if message.id in self.live and not message.unsafe:
                message.synced = True
                message.position = self.journal.append(frames.message(message, None)).position
                del self.live[message.id]
                self.live[message.id] = message
                self._release_content(message)
                compact(message, self.sources, self.common)
                await pace()
        for (module, host), (until, reason, position) in list(self.queue_delays.items()):
            if position < before:
                if until <= self.clock.now():
                    del self.queue_delays[module, host]
                else:
                    self.delay_queue(module, host, until, reason)
        await self.journal.flush()


# -- jobs of the disk workers -----------------------------------------------------------------------------------------


def _read_part(files: Files, path: str, total: int, start: int, size: int) -> bytes:
    """A part of the content, which is the last `total` octets of the file and comes behind an empty line."""
    handle = files.open(path)
    try:
        at = _content_at(files, handle, total)
        data = files.pread(handle, size, at + start) if at else b""
    finally:
        files.close(handle)
    if not at or len(data) != size:
        raise OSError(f"{path} is not as it was")
    return data


def _content_at(files: Files, handle: int, total: int) -> int:
    """Where the content begins; 0 if the file is not a head and that much of content."""
    at = files.size(handle) - total
    if at < _SHORTEST or not files.pread(handle, 3, at - 3).endswith((b"\n\n", b"\n\r\n")):
        return 0
    return at


def _damaged(files: Files, suspects: Sequence[tuple[str, int]]) -> list[int]:
    """Which of the files are gone or not as they were. Trouble with the disk is not taken for damage."""
    found: list[int] = []
    for number, (path, total) in enumerate(suspects):
        try:
            handle = files.open(path)
        except FileNotFoundError:
            found.append(number)
            continue
        except OSError:
            continue
        try:
            if not files.pread(handle, 1, 0).isupper() or not _content_at(files, handle, total):
                found.append(number)
        except OSError:
            continue
        finally:
            files.close(handle)
    return found


class _Paper(NamedTuple):
    """A message file to be written; content that is not in memory is in that segment of the journal."""

    temporary: str
    path: str
    head: bytes
    content: bytes | None
    segment: Segment | None
    position: Position


def _content_of(frame: Frame) -> bytes:
    try:
        content = frames.read_message(frames.read(frame))[1]
    except (ValueError, TypeError, IndexError) as error:
        raise OSError("a frame of the journal is not what it was") from error
    if content is None:
        raise OSError("the journal has no content of this message")
    return content


def _write_message(files: Files, paper: _Paper) -> None:
    """Not durable; the journal still has it all."""
    content = paper.content
    if content is None:
        assert paper.segment is not None
        content = _content_of(read_frame(files, paper.segment, paper.position))
    handle = files.open(paper.temporary, write=True, create=True, truncate=True)
    try:
        files.pwritev(handle, (paper.head, content), 0)
    except BaseException:
        files.close(handle)
        files.unlink(paper.temporary)
        raise
    files.close(handle)
    files.rename(paper.temporary, paper.path)


def _write_messages(files: Files, papers: Sequence[_Paper]) -> list[OSError | None]:
    errors: list[OSError | None] = []
    for paper in papers:
        try:
            _write_message(files, paper)
        except OSError as error:
            errors.append(error)
        else:
            errors.append(None)
    return errors


def _sync_messages(files: Files, paths: Sequence[str], directory: str) -> None:
    for path in paths:
        try:
            files.sync(path)
        except FileNotFoundError:
            continue  # finished meanwhile
    files.sync_directory(directory)


def _unlink_all(files: Files, paths: Sequence[str]) -> None:
    for path in paths:
        try:
            files.unlink(path)
        except FileNotFoundError:
            continue


def _patch_all(files: Files, wanted: Mapping[str, Sequence[int]]) -> None:
    for path, indexes in wanted.items():
        try:
            handle = files.open(path, write=True)
        except FileNotFoundError:
            continue
        try:
            marks = find_marks(lambda size, at, handle=handle: files.pread(handle, size, at))  # type: ignore[misc]
            for index in indexes:
                if index < len(marks):
                    files.pwrite(handle, DONE, marks[index])
        finally:
            files.close(handle)
