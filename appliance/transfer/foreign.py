"""The Foreign Queue: the rescued Queue directory of another server, taken in while this one runs (manual, chapter 33).

Every three minutes: `.msg` files are moved into the Queue under new numbers and enqueued, `.tmp` files are deleted, others
are left. Journal segments of the other server are read too: messages that were never written to a file of their own are
taken from there, results that stand there count, and files of finished messages are removed. Both directories must be on
one file system. A crash on the way may take a message twice, never lose one.
"""

from __future__ import annotations

import os

import trio

from appliance.kernel.files import Files
from appliance.kernel.segments import find_segments, read_segment
from appliance.kernel.tasks import TaskStatus
from appliance.transfer.envelope import DONE, parse_head, render_head
from appliance.transfer.message import QueuedMessage
from appliance.transfer.recovery import Recovery, Replay
from appliance.transfer.spool import Spool

__all__ = ["ForeignQueue"]

PERIOD = 180.0


class ForeignQueue:
    """Looks at the directory now and then; it need not exist."""

    def __init__(self, spool: Spool, recovery: Recovery, directory: str) -> None:
        self.directory = directory
        self._spool = spool
        self._recovery = recovery
        self._lock = trio.Lock()

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            await trio.sleep(PERIOD)
            try:
                await self.scan()
            except OSError as error:
                self._spool.log.failure("the Foreign Queue cannot be read: %s", error)

    async def scan(self) -> int:
        """Take in what is there; how many messages."""
        async with self._lock:
            return await self._scan()

    async def _scan(self) -> int:
        disk = self._spool.disk
        if self._spool.space_low or not await disk.exists(self.directory):
            return 0
        taken = await self._segments()
        for name in sorted(await disk.listdir(self.directory)):
            path = os.path.join(self.directory, name)
            if name.endswith(".tmp"):
                await disk.unlink(path, missing_ok=True)
            elif name.endswith(".msg"):
                taken += await self._recovery.take_foreign(path, None, enqueue=True)
        return taken

    async def _segments(self) -> int:
        disk, spool = self._spool.disk, self._spool
        segments = await disk.run(find_segments, self.directory)
        if not segments:
            return 0
        replay = Replay()
        for segment in segments:
            for position, frame in await disk.run(read_segment, segment):
                replay.take(position, frame)
        taken = 0
        for number in replay.gone:
            await disk.unlink(os.path.join(self.directory, f"{number}.msg"), missing_ok=True)
        for number, message in replay.messages.items():
            content, message.held = message.held, None
            path = os.path.join(self.directory, f"{number}.msg")
            if message.done:
                await disk.unlink(path, missing_ok=True)
            elif content is None:
                await disk.run(_mark_done, path, message)
            else:
                await disk.unlink(path, missing_ok=True)
                message.id = await spool.new_id()
                message.unsafe = None
                await spool.add(message, content)
                taken += 1
        for segment in segments:
            await disk.unlink(segment.path, missing_ok=True)
        spool.log.major("%d messages taken from the journal of the Foreign Queue", taken)
        return taken


def _mark_done(files: Files, path: str, message: QueuedMessage) -> None:
    """Bring the status letters of the file up to what the journal says."""
    try:
        handle = files.open(path, write=True)
    except FileNotFoundError:
        return
    try:
        length = len(render_head(message)[0]) + 4096
        head = parse_head(files.pread(handle, length, 0))
        for recipient in message.recipients:
            if recipient.outcome is not None and recipient.index < len(head.marks):
                files.pwrite(handle, DONE, head.marks[recipient.index])
    except ValueError:
        return  # it goes to BadFiles when it is taken
    finally:
        files.close(handle)
