"""The disk, as asynchronous code sees it: a bounded set of worker threads around one `Files`.

A hop to a thread and back costs 80 to 160 us, several times the work of a typical job, so a worker takes *all* the jobs that
wait when it starts, and answers them together (those that are done early are answered after a millisecond or two, so a slow
job holds nobody back for long).

Jobs queue in **lanes**, each with its own small number of workers, so that a flush of the journal never stands behind a
search through a mailbox: `FILES` for ordinary work, `SYNC` for flushes, `JOURNAL` for the commit task alone, `DELIVERY` for
mail into accounts, which lingers for company.

There is no task to start and none to stop. The first to come while a worker is free leads: it takes the batch into the
thread; when it returns it wakes the others, and hands the lead to one of those that came meanwhile.

Cancellation: a job is either not queued at all or runs to its end, and its caller waits for that end. So a caller always
knows what has been done, and a cancelled session never leaves half a job.
"""

from __future__ import annotations

import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar, cast

import trio

from appliance.kernel.files import DIRECTORY_MODE, FILE_MODE, FileInfo, Files, OsFiles

__all__ = ["DELIVERY", "FILES", "JOURNAL", "LONG", "SYNC", "Disk", "InLoopDisk", "WorkerDisk"]

FILES: Final = "files"
SYNC: Final = "sync"
LONG: Final = "long"
JOURNAL: Final = "journal"
DELIVERY: Final = "delivery"

LINGER: Final = 0.008
"""Seconds that a job of the delivery lane may wait for company: nobody waits for it who waits for an answer, and a thread hop
costs several times the write of a message."""

_EARLY = 0.002  # seconds after which finished jobs of a batch are answered although the batch goes on

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Disk(ABC):
    """Asynchronous file operations; all are jobs over one `Files`. See `Files` for what each does and raises."""

    def __init__(self, files: Files) -> None:
        self.files = files

    @abstractmethod
    async def run_in(
        self, lane: str, job: Callable[Concatenate[Files, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """`job(files, *args)` in a worker of that lane; its result or exception comes back."""

    async def run(self, job: Callable[Concatenate[Files, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """`job(files, *args)` as one piece in a worker: composite work costs one hop."""
        return await self.run_in(FILES, job, *args, **kwargs)

    async def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        return await self.run(Files.read_bytes, path, limit)

    async def write_file(self, path: str, data: bytes, *, mode: int = FILE_MODE, durable: bool = True) -> None:
        """Put `data` in place of the file; a crash leaves the old or the new one, and `durable` waits for the new one."""
        await self.run_in(SYNC if durable else FILES, Files.write_file, path, data, mode=mode, durable=durable)

    async def append(self, path: str, data: bytes, *, mode: int = FILE_MODE, durable: bool = False) -> int:
        """Append to the file, made if missing; returns the offset where the data begins."""
        return await self.run_in(SYNC if durable else FILES, Files.append_file, path, data, mode=mode, durable=durable)

    async def pread(self, path: str, size: int, offset: int) -> bytes:
        return await self.run(_pread, path, size, offset)

    async def pwrite(self, path: str, data: bytes, offset: int) -> None:
        await self.run(_pwrite, path, data, offset)

    async def rename(self, source: str, target: str) -> None:
        await self.run(_call_rename, source, target)

    async def link(self, source: str, target: str) -> bool:
        return await self.run(Files.link, source, target)

    async def unlink(self, path: str, *, missing_ok: bool = False) -> None:
        await self.run(_unlink, path, missing_ok)

    async def mkdir(self, path: str, *, parents: bool = False, mode: int = DIRECTORY_MODE) -> None:
        """Make the directory; with `parents` also those above it, and no error if it exists."""
        await self.run(_mkdir, path, parents, mode)

    async def rmdir(self, path: str) -> None:
        await self.run(_call_rmdir, path)

    async def remove_tree(self, path: str) -> None:
        await self.run(Files.remove_tree, path)

    async def listdir(self, path: str) -> list[str]:
        return await self.run(_call_listdir, path)

    async def stat(self, path: str) -> FileInfo:
        return await self.run(_call_stat, path)

    async def exists(self, path: str) -> bool:
        return await self.run(Files.exists, path)

    async def truncate(self, path: str, size: int) -> None:
        await self.run(Files.truncate, path, size)

    async def preallocate(self, path: str, size: int) -> None:
        """Make the file if missing and reserve `size` bytes for it."""
        await self.run(_preallocate, path, size)

    async def sync(self, paths: Iterable[str]) -> None:
        """All these files and directories are durable afterwards. Who waits at the same time shares the flushes."""
        await self.run_in(SYNC, _sync_all, tuple(paths))

    async def sync_directory(self, path: str) -> None:
        await self.run_in(SYNC, _call_sync_directory, path)

    async def free_space(self, path: str) -> int:
        return await self.run(_call_free_space, path)


# Jobs call the methods of the object that they are given, never `Files.method` of an abstract one.


def _call_rename(files: Files, source: str, target: str) -> None:
    files.rename(source, target)


def _call_rmdir(files: Files, path: str) -> None:
    files.rmdir(path)


def _call_listdir(files: Files, path: str) -> list[str]:
    return files.listdir(path)


def _call_stat(files: Files, path: str) -> FileInfo:
    return files.stat(path)


def _call_sync_directory(files: Files, path: str) -> None:
    files.sync_directory(path)


def _call_free_space(files: Files, path: str) -> int:
    return files.free_space(path)


def _pread(files: Files, path: str, size: int, offset: int) -> bytes:
    handle = files.open(path)
    try:
        return files.pread(handle, size, offset)
    finally:
        files.close(handle)


def _pwrite(files: Files, path: str, data: bytes, offset: int) -> None:
    handle = files.open(path, write=True)
    try:
        files.pwrite(handle, data, offset)
    finally:
        files.close(handle)


def _unlink(files: Files, path: str, missing_ok: bool) -> None:
    try:
        files.unlink(path)
    except FileNotFoundError:
        if not missing_ok:
            raise


def _mkdir(files: Files, path: str, parents: bool, mode: int) -> None:
    if parents:
        files.make_directories(path, mode=mode)
    else:
        files.mkdir(path, mode=mode)


def _preallocate(files: Files, path: str, size: int) -> None:
    handle = files.open(path, write=True, create=True)
    try:
        files.preallocate(handle, size)
    finally:
        files.close(handle)


def _sync_all(files: Files, paths: Sequence[str]) -> None:
    for path in paths:
        files.sync(path)


class InLoopDisk(Disk):
    """No threads: each job runs at once, on the event loop. For tests, where a mock clock would jump while a thread works."""

    def __init__(self, files: Files | None = None) -> None:
        super().__init__(files or OsFiles())

    async def run_in(
        self, lane: str, job: Callable[Concatenate[Files, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        await trio.lowlevel.checkpoint()
        return job(self.files, *args, **kwargs)


class _Job:
    __slots__ = ("args", "done", "error", "function", "kwargs", "task", "value", "woken")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.task: trio.lowlevel.Task | None = None
        self.woken = False

    def work(self, files: Files) -> None:
        try:
            self.value = self.function(files, *self.args, **self.kwargs)
        except BaseException as error:  # the caller gets it, whatever it is
            self.error = error
        self.done = True


class _Lane:
    """Jobs that wait, and the threads that serve them; threads are started when they are first needed."""

    __slots__ = ("alone", "busy", "pause", "threads", "waiting", "work", "workers")

    def __init__(self, workers: int, pause: float = 0.0, *, alone: bool = False) -> None:
        self.workers = workers
        self.pause = pause
        #: Each job has a thread to itself: none waits behind another that was there at the same moment.
        self.alone = alone
        self.busy = 0
        self.threads = 0
        self.waiting: deque[_Job] = deque()
        self.work: SimpleQueue[_Batch | None] = SimpleQueue()

    def end(self) -> None:
        for _ in range(self.threads):
            self.work.put(None)


class _Batch(NamedTuple):
    """What a thread is given: jobs to do, and the task to wake when all are done."""

    jobs: tuple[_Job, ...]
    files: Files
    token: trio.lowlevel.TrioToken
    leader: trio.lowlevel.Task


def _never(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


class WorkerDisk(Disk):
    """Worker threads: `workers` for ordinary jobs, `sync_workers` for flushes, one for the journal, one for deliveries,
    two for long jobs.

    The threads are its own, because trio's way into a thread (a limiter, a context, a name for each call) costs as much as
    the job; they end when the disk is forgotten.
    """

    def __init__(self, files: Files | None = None, *, workers: int = 3, sync_workers: int = 2) -> None:
        super().__init__(files or OsFiles())
        self._lanes = {
            FILES: _Lane(workers),
            SYNC: _Lane(sync_workers),
            JOURNAL: _Lane(1),
            DELIVERY: _Lane(1, LINGER),
            LONG: _Lane(2, alone=True),
        }
        for lane in self._lanes.values():
            weakref.finalize(self, lane.end)

    async def run_in(
        self, lane: str, job: Callable[Concatenate[Files, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        await trio.lowlevel.checkpoint_if_cancelled()
        queue = self._lanes[lane]
        mine = _Job(job, args, kwargs)
        queue.waiting.append(mine)
        if queue.alone and queue.busy < queue.workers:
            queue.busy += 1
            await self._lead(queue)
        elif queue.busy < queue.workers and len(queue.waiting) == 1:
            # Lead, but first let everybody who is ready in this turn of the loop put his job in.
            queue.busy += 1
            await self._gather(queue)
            await self._lead(queue)
        else:
            mine.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_never)
            if not mine.done:
                if queue.pause:
                    await self._gather(queue)
                await self._lead(queue)
        if mine.error is not None:
            try:
                raise mine.error
            finally:
                del mine  # the traceback holds this frame: no cycle
        return cast(_T, mine.value)

    @staticmethod
    async def _gather(queue: _Lane) -> None:
        """Let others put their jobs in: all of this turn of the loop, and in a lane that may linger those of its pause."""
        if queue.pause:
            with trio.CancelScope(shield=True):
                await trio.sleep(queue.pause)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _lead(self, queue: _Lane) -> None:
        """Take everything that waits into a thread, the leader's own job first, then pass the lead on."""
        batch = (queue.waiting.popleft(),) if queue.alone else tuple(queue.waiting)
        if not queue.alone:
            queue.waiting.clear()
        try:
            if queue.threads < queue.busy:
                threading.Thread(target=_serve, args=(queue.work,), name="disk", daemon=True).start()
                queue.threads += 1
            token, task = trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()
            queue.work.put(_Batch(batch, self.files, token, task))
            await trio.lowlevel.wait_task_rescheduled(_never)
        except BaseException as error:  # no thread to be had: nobody may wait for ever
            for job in batch:
                if not job.done:
                    job.error = error
                    job.done = True
        finally:
            _wake(batch)
            if queue.waiting and (heir := queue.waiting[0]).task is not None and not heir.woken:
                heir.woken = True
                trio.lowlevel.reschedule(heir.task)
            else:
                queue.busy -= 1


def _serve(work: SimpleQueue[_Batch | None]) -> None:
    """A thread's life: batches until there is no disk any more. Holds no reference to the disk."""
    while (batch := work.get()) is not None:
        answered = 0
        due = time.monotonic() + _EARLY
        with suppress(trio.RunFinishedError):
            for index, job in enumerate(batch.jobs, 1):
                job.work(batch.files)
                if index < len(batch.jobs) and time.monotonic() > due:
                    batch.token.run_sync_soon(_wake, batch.jobs[answered:index])
                    answered = index
                    due = time.monotonic() + _EARLY
            batch.token.run_sync_soon(trio.lowlevel.reschedule, batch.leader)
        del batch


def _wake(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        if job.done and job.task is not None and not job.woken:
            job.woken = True
            trio.lowlevel.reschedule(job.task)
