"""The journal: where "it is on disk" comes from.

Rooms hand over frames; one commit task takes all that wait, writes them with one call, flushes once, and wakes those who
wait. So a session alone pays one flush for a message, and fifty sessions share one. What a frame means is its owner's
business; the journal knows only its own marks.

Invariants:
- Frames are durable in the order of their positions. A frame that was handed over is written even if its waiter goes away.
- A flush or write that fails is final: every waiter gets `JournalFailed`, nothing more is taken, `run` raises. The process
  starts again and replays; a flush that succeeds after one that failed would prove nothing.
- An old segment goes only after every owner has said that it needs no frame in it, and after the directory was synced, so
  that files removed on the ground of a frame are gone for good before that frame is. Segments go oldest first, each durably.
- When there is no space for another segment, frames that bring in something new are refused (`JournalFull`, a temporary
  error); those that finish what was accepted go on in the space that is held in reserve.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

import trio

from appliance.kernel.disk import JOURNAL, Disk
from appliance.kernel.files import Files
from appliance.kernel.packing import PackingError, pack, unpack
from appliance.kernel.segments import (
    FRAME_HEAD,
    Frame,
    FrameType,
    Segment,
    SegmentWriter,
    find_segments,
    read_frame,
    read_segment,
)
from appliance.kernel.tasks import TaskStatus

__all__ = ["Frame", "FrameType", "Journal", "JournalError", "JournalFailed", "JournalFull", "Position", "Ticket"]

Position: TypeAlias = int
"""Where a frame stands; later frames have larger positions, over restarts too."""

SEGMENT_SIZE: Final = 8 << 20
KEEP: Final = 4
"""Segments kept before owners are asked to write their live state again."""
LINGER: Final = 0.05
"""Seconds that an appended frame waits for a flush that happens anyway."""
_RETRY_SPACE: Final = 1.0


class JournalError(Exception):
    """The frames are not durable."""


class JournalFailed(JournalError):
    """The journal cannot write any more; the process has to start again. To a client: a temporary error."""


class JournalFull(JournalError):
    """No space to take in anything new; try later. Nothing was written. To a client: 452."""


class Ticket:
    """A hand-over of frames that will be durable soon. `position` is that of the first, `end` lies behind the last."""

    __slots__ = ("_error", "_waiters", "done", "end", "position")

    def __init__(self, position: Position, end: Position) -> None:
        self.position = position
        self.end = end
        self.done = False
        """True when durable, or failed."""
        self._error: JournalError | None = None
        self._waiters: list[trio.lowlevel.Task] | None = None

    async def durable(self) -> Position:
        """Wait until the frames are on disk; their position. JournalFailed if they never will be for certain.

        Cancelling the wait changes nothing for the frames.
        """
        if not self.done:
            task = trio.lowlevel.current_task()
            waiters = self._waiters
            if waiters is None:
                waiters = self._waiters = []
            waiters.append(task)

            def abort(_: object) -> trio.lowlevel.Abort:
                waiters.remove(task)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        return self.position

    def _settle(self, error: JournalError | None) -> None:
        self.done = True
        self._error = error
        if self._waiters is not None:
            for task in self._waiters:
                trio.lowlevel.reschedule(task)
            self._waiters = None


class _Owner:
    __slots__ = ("needs", "relocate")

    def __init__(
        self, needs: Callable[[], Position | None], relocate: Callable[[Position], Awaitable[None]] | None
    ) -> None:
        self.needs = needs
        self.relocate = relocate


class Journal:
    """Open it with `Journal.open`, start `run`, read `replay` to its end, then use it."""

    def __init__(
        self, disk: Disk, directory: str, writer: SegmentWriter, old: list[Segment], position: Position
    ) -> None:
        self.directory = directory
        self.failed: JournalFailed | None = None
        self.damaged: list[str] = []
        """Segments in which the replay missed frames."""
        self.flushes = 0
        """How many flushes have been made."""
        self.commits = 0
        """How many frames have been written."""
        self._disk = disk
        self._writer = writer
        self._found = old
        self._segments = list(old)
        self._next = position
        self._pending: list[tuple[Position, Frame]] = []
        self._tickets: list[Ticket] = []
        self._writing: Ticket | None = None
        self._due = math.inf
        self._sleeper: trio.lowlevel.Task | None = None
        self._owners: list[_Owner] = [_Owner(self._marks_need, self._relocate_marks)]
        self._marks: dict[str, tuple[int, Position]] = {}
        self._replayed = False
        self._running = False
        self._space_tried = -math.inf
        self._tidy_wanted = trio.Event()

    @classmethod
    async def open(cls, disk: Disk, directory: str, *, segment_size: int = SEGMENT_SIZE) -> Journal:
        """Find the segments in `directory` (which exists) and begin a new epoch in a segment of its own.

        OSError if the directory cannot be read or written.
        """

        def begin(files: Files) -> tuple[SegmentWriter, list[Segment], Position]:
            files.sync_directory(os.path.dirname(directory))  # it may have been made a moment ago
            old = find_segments(files, directory)
            epoch = max((segment.epoch for segment in old), default=0) + 1
            position = max((segment.ceiling for segment in old), default=0) + 1
            writer = SegmentWriter(directory, segment_size, epoch)
            try:
                current = writer.begin(files, position)
            except BaseException:
                writer.close(files)
                raise
            writer.replenish(files)
            return writer, [*old, current], position

        writer, segments, position = await disk.run_in(JOURNAL, begin)
        journal = cls(disk, directory, writer, segments[:-1], position)
        journal._segments = segments
        return journal

    @property
    def epoch(self) -> int:
        return self._writer.epoch

    def recycle(self, wanted: bool) -> None:
        """Whether segments that nobody needs are used again instead of being removed."""
        self._writer.recycling = wanted

    @property
    def position(self) -> Position:
        """Where the next frame will stand."""
        return self._next

    @property
    def largest(self) -> int:
        """The largest payload of one frame, in octets."""
        return self._writer.room

    async def replay(self) -> AsyncIterator[tuple[Position, Frame]]:
        """All frames that survived from earlier epochs, in their order; once, before anything is appended by its owners.

        A torn tail is what a crash leaves, and is passed over. Where frames are missing though later ones are there, the
        segment is named in `damaged`. Frames of unknown type are handed out too.
        """
        before: tuple[Segment, Position] | None = None
        for segment in self._found:
            if (
                before is not None
                and segment.ceiling
                and before[0].epoch == segment.epoch
                and before[1] != segment.base
            ):
                self.damaged.append(before[0].path)
            end = segment.base
            for position, frame in await self._disk.run(read_segment, segment):
                if frame.type == FrameType.MARK:
                    self._take_mark(position, frame.payload)
                end = position + FRAME_HEAD + len(frame.payload)
                yield position, frame
            if segment.ceiling:
                before = (segment, end)
        self._replayed = True

    def segment_of(self, position: Position) -> Segment:
        """The segment that holds a frame whose owner still needs it; for disk jobs that use `read_frame`. OSError if it is
        gone."""
        for segment in reversed(self._segments):
            if segment.ceiling and segment.base <= position < segment.ceiling:
                return segment
        raise OSError(errno.ENOENT, f"the journal has no segment for {position}")

    async def read(self, position: Position) -> Frame:
        """A frame that is durable and that its owner still needs. OSError."""
        return await self._disk.run(read_frame, self.segment_of(position), position)

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(self, *frames: Frame, refusable: bool = False) -> Ticket:
        """Hand frames over; they ride with the next flush, at most 50 ms later. Does not wait.

        `refusable` is for frames that bring in something new: they get JournalFull when space is short. JournalFailed
        when the journal writes no more; ValueError for a payload over `largest`.
        """
        ticket = self._take(frames, refusable)
        if self._due == math.inf:
            self._due = trio.current_time() + LINGER
            self._wake()
        return ticket

    async def commit(self, *frames: Frame, refusable: bool = False) -> Position:
        """Hand frames over and wait until they are durable. Returns the position of the first; errors as `append`.

        A cancelled wait withdraws nothing: the frames will be written all the same.
        """
        if refusable:
            await self.room()
        ticket = self._take(frames, refusable)
        self.hurry()
        return await ticket.durable()

    def hurry(self) -> None:
        """Flush now what was appended."""
        if self._pending:
            self._due = -math.inf
            self._wake()

    async def flush(self) -> None:
        """Wait until everything that was appended so far is durable."""
        if self._tickets:
            ticket = self._tickets[-1]
            self.hurry()
            await ticket.durable()
        elif self._writing is not None:
            await self._writing.durable()

    def _take(self, frames: tuple[Frame, ...], refusable: bool) -> Ticket:
        if self.failed is not None:
            raise JournalFailed(*self.failed.args)
        if refusable and self._writer.short:
            raise JournalFull("no space for the journal")
        largest = self._writer.room
        for frame in frames:
            if len(frame.payload) > largest:
                raise ValueError("frame larger than a segment")
        position = self._next
        at = position
        pending = self._pending
        for frame in frames:
            pending.append((at, frame))
            at += FRAME_HEAD + len(frame.payload)
        self._next = at
        ticket = Ticket(position, at)
        self._tickets.append(ticket)
        return ticket

    async def room(self) -> None:
        """Before something new is appended: if space was short, look whether it still is (once a second at most)."""
        if not self._writer.short:
            return
        now = trio.current_time()
        if now - self._space_tried >= _RETRY_SPACE and self.failed is None:
            self._space_tried = now
            await self._disk.run_in(JOURNAL, self._writer.replenish)

    def _wake(self) -> None:
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """The commit task, a vital component. On cancellation it writes what was handed over, then refuses the rest."""
        self._running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_tidy)
                task_status.started()
                while True:
                    if self._pending and self._due <= trio.current_time():
                        await self._flush()
                    else:
                        await self._sleep()
        finally:
            self._running = False
            with trio.CancelScope(shield=True):
                while self.failed is None and self._pending:
                    await self._flush()
                if self.failed is None:
                    self._fail(JournalFailed("the journal is closed"))
                await self._disk.run_in(JOURNAL, self._writer.close)

    def _fail(self, failure: JournalFailed, *tickets: Ticket) -> None:
        """Nothing is written any more; whoever waits hears of it."""
        self.failed = failure
        tickets = (*tickets, *self._tickets)
        self._pending, self._tickets = [], []
        for ticket in tickets:
            ticket._settle(failure)

    async def _sleep(self) -> None:
        self._sleeper = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        if self._due == math.inf:
            await trio.lowlevel.wait_task_rescheduled(abort)
            return
        with trio.move_on_at(self._due):
            await trio.lowlevel.wait_task_rescheduled(abort)

    async def _flush(self) -> None:
        batch, self._pending = self._pending, []
        tickets, self._tickets = self._tickets, []
        self._due = math.inf
        self._writing = tickets[-1]
        try:
            begun = await self._disk.run_in(JOURNAL, self._writer.write, batch)
        except OSError as error:
            failure = JournalFailed(f"the journal cannot be written: {error}")
            self._fail(failure, *tickets)
            raise failure from error
        self._writing = None
        self.flushes += 1
        self.commits += len(batch)
        for ticket in tickets:
            ticket._settle(None)
        if begun:
            self._segments.extend(begun)
            self._tidy_wanted.set()

    # -- keeping and dropping -----------------------------------------------------------------------------------------

    def register(
        self, needs: Callable[[], Position | None], relocate: Callable[[Position], Awaitable[None]] | None = None
    ) -> None:
        """Name an owner of frames, before `replay` has ended.

        `needs()` is the oldest position that the owner would miss after a crash (None: nothing). It may count on frames
        that were only appended: they are made durable before anything is dropped.
        `await relocate(before)` asks it to write its live state again, so that it needs nothing before that position.
        """
        self._owners.append(_Owner(needs, relocate))

    async def _keep_tidy(self) -> None:
        while True:
            await self._tidy_wanted.wait()
            self._tidy_wanted = trio.Event()
            try:
                await self._disk.run_in(JOURNAL, self._writer.replenish)
                if self._replayed:
                    await self.tidy()
            except OSError as error:
                failure = JournalFailed(f"the journal cannot be kept in order: {error}")
                self._fail(failure)
                raise failure from error

    async def tidy(self) -> int:
        """Drop the old segments that nobody needs, after asking owners to move if there are too many; how many went."""
        if not self._replayed:
            return 0
        dropped = await self._drop()
        if len(self._segments) > KEEP:
            limit = self._segments[-KEEP].base
            for owner in self._owners:
                oldest = owner.needs()
                if owner.relocate is not None and oldest is not None and oldest < limit:
                    await owner.relocate(limit)
            dropped += await self._drop()
        return dropped

    async def _drop(self) -> int:
        floor = min((needed for owner in self._owners if (needed := owner.needs()) is not None), default=self._next)
        victims: list[Segment] = []
        for segment, following in zip(self._segments, self._segments[1:], strict=False):
            if following.base > floor:
                break
            victims.append(segment)
        if not victims:
            return 0
        await self.flush()

        def drop(files: Files) -> int:
            files.sync_directory(self.directory)
            for count, victim in enumerate(victims):
                if not self._writer.recycle(files, victim):
                    return count
            return len(victims)

        count = await self._disk.run_in(JOURNAL, drop)
        del self._segments[:count]
        return count

    # -- marks --------------------------------------------------------------------------------------------------------

    async def reserve(self, name: str, count: int, *, at_least: int = 1) -> int:
        """The first of `count` numbers that were never given out under this name, in the life of the base directory.

        The mark is durable before it returns; numbers that are not used are lost. `at_least` lifts the count over numbers
        known from elsewhere. After `replay` only.
        """
        if not self._replayed:
            raise RuntimeError("marks are known after the replay only")
        first = max(self._marks[name][0] if name in self._marks else 1, at_least)
        ticket = self._mark(name, first + count)
        self.hurry()
        await ticket.durable()
        return first

    def _mark(self, name: str, value: int) -> Ticket:
        ticket = self._take((Frame(FrameType.MARK, pack([1, name, value])),), False)
        self._marks[name] = (value, ticket.position)
        return ticket

    def _take_mark(self, position: Position, payload: bytes) -> None:
        try:
            fields = unpack(payload)
        except PackingError:
            return
        if isinstance(fields, list) and len(fields) >= 3:
            _, name, value = fields[:3]
            if isinstance(name, str) and isinstance(value, int) and value >= self._marks.get(name, (0, 0))[0]:
                self._marks[name] = (value, position)

    def _marks_need(self) -> Position | None:
        return min((position for _, position in self._marks.values()), default=None)

    async def _relocate_marks(self, before: Position) -> None:
        tickets = [self._mark(name, value) for name, (value, at) in list(self._marks.items()) if at < before]
        self.hurry()
        for ticket in tickets:
            await ticket.durable()
