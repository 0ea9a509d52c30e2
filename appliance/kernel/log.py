"""The System Log: every component writes time-stamped, levelled, tagged records into one file of text lines (manual, chapter 6).

A record is `HH:MM:SS.mmm L TAG text` in local time; the first one of a file states date, zone and version. Writing a record
never waits: it joins a bounded queue, and one task stores what waits about twenty times a second. When the disk does not
keep up, records of levels 5 and 4 are dropped beyond the bound, all beyond twice the bound, and a record says how many.
Nothing that a stranger sends can break a line: control characters are escaped, and a line has at most 64 KB.

`log.source(tag, level)` gives a component its Logger; `logger.session(17)` the one of a session (`POP-17`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import trio

from appliance.kernel.clock import Clock
from appliance.kernel.disk import Disk
from appliance.kernel.files import Files
from appliance.kernel.settings import Group, Setting, Settings, Size, Time
from appliance.kernel.tasks import TaskStatus, in_thread

__all__ = [
    "ALL",
    "CRASH",
    "FAILURE",
    "LOG",
    "LOW",
    "MAJOR",
    "MAX_RECORD",
    "PROBLEM",
    "Log",
    "Logger",
    "MemoryLog",
    "Sink",
    "escape",
]

CRASH: Final = 0
FAILURE: Final = 1
MAJOR: Final = 2
PROBLEM: Final = 3
LOW: Final = 4
ALL: Final = 5

MAX_RECORD: Final = 64 * 1024
"""Most bytes of a line."""

_QUEUE: Final = 20_000  # records; about 4 MB of usual ones
_QUEUE_BYTES: Final = 16 << 20
_BATCH: Final = 500  # records that are composed without a break
_BATCH_BYTES: Final = 256 * 1024
_PAUSE: Final = 0.05  # seconds between two stores, so that many records share one hop to a worker
_IDLE: Final = 30.0
_RETRY: Final = 5.0
_CONSOLE: Final = 10_000

START_NEW_FILE = Setting("StartNewFileEvery", Time(60, 86400), 86400, "Start New File every", synonyms=("Period",))
IF_LARGER = Setting("OrIfLargerThan", Size(), 10 << 20, "or if Larger than", synonyms=("SizeLimit",))
DELETE_OLD = Setting(
    "DeleteOldFilesIn", Time(60, 366 * 86400), 7 * 86400, "Delete Old Files in", synonyms=("KeepTime",)
)
LOG = Group("Log", "Log Engine Options", [START_NEW_FILE, IF_LARGER, DELETE_OLD])

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAMES = {"\r": "\\r", "\n": "\\n", "\t": "\\t"}


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that was no UTF-8
    return _NAMES.get(char) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def escape(text: str) -> str:
    """One printable line of `text`: control characters, line ends of all kinds and stray bytes become `\\xNN` and the like."""
    return _UNSAFE.sub(_escaped, text) if _UNSAFE.search(text) else text


class Sink(Protocol):
    """Where records go."""

    everything: bool
    """All levels are stored (--LogAll)."""

    def put(self, level: int, tag: str, text: str) -> None: ...


class Logger:
    """Writes the records of one component or session. Texts are %-formats; bytes among the arguments are shown as text."""

    __slots__ = ("_level", "_sink", "tag")

    def __init__(self, sink: Sink, tag: str, level: Callable[[], int]) -> None:
        self._sink = sink
        self._level = level
        self.tag = tag

    def session(self, number: int, detail: str = "") -> Logger:
        """The logger of one session: its tag is `TAG-number`, or `TAG-number(detail)`."""
        return Logger(self._sink, f"{self.tag}-{number}({detail})" if detail else f"{self.tag}-{number}", self._level)

    def enabled(self, level: int) -> bool:
        """Whether a record of that level is stored now; ask before composing something dear."""
        return level <= self._level() or self._sink.everything

    def record(self, level: int, text: str, *arguments: Any) -> None:
        if level <= self._level() or self._sink.everything:
            self._sink.put(level, self.tag, _compose(text, arguments) if arguments else text)

    def crash(self, text: str, *arguments: Any) -> None:
        self.record(CRASH, text, *arguments)

    def failure(self, text: str, *arguments: Any) -> None:
        self.record(FAILURE, text, *arguments)

    def major(self, text: str, *arguments: Any) -> None:
        self.record(MAJOR, text, *arguments)

    def problem(self, text: str, *arguments: Any) -> None:
        self.record(PROBLEM, text, *arguments)

    def low(self, text: str, *arguments: Any) -> None:
        self.record(LOW, text, *arguments)

    def all(self, text: str, *arguments: Any) -> None:
        self.record(ALL, text, *arguments)

    def dump(self, text: str, data: bytes) -> None:
        """Binary data in hexadecimal, at the lowest level, 32 bytes a record."""
        if self.enabled(ALL):
            for start in range(0, min(len(data), MAX_RECORD), 32):
                piece = data[start : start + 32]
                self._sink.put(ALL, self.tag, f"{text} {start:04x}: {piece.hex(' ')}")


def _compose(text: str, arguments: tuple[Any, ...]) -> str:
    try:
        return text % tuple(
            [bytes(a).decode("utf-8", "surrogateescape") if isinstance(a, bytes | bytearray) else a for a in arguments]
        )
    except (TypeError, ValueError):  # a wrong format in some corner must not end a session
        return f"{text} {arguments!r}"


class MemoryLog:
    """Records in a list, (level, tag, text). For tests, and before there is a disk."""

    def __init__(self, level: int = ALL) -> None:
        self.records: list[tuple[int, str, str]] = []
        self.everything = False
        self.level = level

    def source(self, tag: str, level: Callable[[], int] | None = None) -> Logger:
        return Logger(self, tag, level or (lambda: self.level))

    def put(self, level: int, tag: str, text: str) -> None:
        self.records.append((level, tag, escape(text)))

    def text(self) -> str:
        """All records as lines `level tag text`."""
        return "\n".join(f"{level} {tag} {text}" for level, tag, text in self.records)


class Log:
    """The server's log: a Sink whose records `run` stores in the files of `directory`.

    `console` gets every line too (--LogToConsole), in a thread of its own. `trouble` is told once when the files cannot be
    written (the operating system's log), because mail goes on without them.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str,
        settings: Settings,
        clock: Clock,
        *,
        everything: bool = False,
        console: Callable[[bytes], object] | None = None,
        trouble: Callable[[str], None] | None = None,
        version: str = "Pillarbox",
    ) -> None:
        self.disk = disk
        self.directory = directory
        self.settings = settings
        self.clock = clock
        self.everything = everything
        self.version = version
        self.current = ""
        """Name of the file that is being written."""
        self.records = 0
        self.bytes = 0
        self.dropped = 0
        self._trouble = trouble
        self._in_trouble = False
        self._queue: deque[tuple[float, int, str, str]] = deque()
        self._held = 0
        self._lost_low = 0
        self._lost = 0
        self._wake: trio.Event | None = None
        self._written = trio.Event()
        self._size = 0
        self._slot: tuple[str, int] = ("", -1)
        self._since = 0.0
        self._check = 0.0
        self._offset = ""
        self._second = -1
        self._stamp = ""
        self._console = console
        self._console_lines: deque[bytes] = deque(maxlen=_CONSOLE)
        self._console_wake = trio.Event()

    def source(self, tag: str, level: Callable[[], int]) -> Logger:
        """The logger of a component; `level` is asked at each record, so a changed setting counts at once."""
        return Logger(self, tag, level)

    def put(self, level: int, tag: str, text: str) -> None:
        """Queue a record. Never waits, and keeps within the bounds."""
        queue = self._queue
        if len(queue) >= _QUEUE or self._held >= _QUEUE_BYTES:
            if level >= LOW:
                self._lost_low += 1
                return
            if len(queue) >= 2 * _QUEUE or self._held >= 2 * _QUEUE_BYTES:
                self._lost += 1
                return
        if len(text) > MAX_RECORD:
            text = text[:MAX_RECORD] + f" [{len(text) - MAX_RECORD} more]"
        queue.append((self.clock.now(), level, tag, text))
        self._held += len(text)
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    async def wait_written(self) -> None:
        """Until records are stored or a new file begins."""
        await self._written.wait()

    # -- lines --------------------------------------------------------------------------------------------------------

    def _line(self, moment: float, level: int, tag: str, text: str) -> bytes:
        second = int(moment)
        if second != self._second:
            self._second = second
            self._stamp = self.clock.local(second).strftime("%H:%M:%S")
        line = f"{self._stamp}.{int((moment - second) * 1000):03d} {level} {escape(tag)} {escape(text)}\n"
        data = line.encode("utf-8", "backslashreplace")
        if len(data) > MAX_RECORD:
            end = f" [{len(data) - MAX_RECORD} more bytes]\n".encode()
            data = data[: MAX_RECORD - len(end)].decode("utf-8", "ignore").encode() + end
        return data

    def _take(self) -> list[tuple[float, int, str, str]]:
        """The next records that belong to one file."""
        queue, size = self._queue, 0
        batch: list[tuple[float, int, str, str]] = []
        while queue and len(batch) < _BATCH and size < _BATCH_BYTES:
            record = queue[0]
            if batch and not self._since - 7200 <= record[0] < self._check:
                break
            batch.append(queue.popleft())
            size += len(record[3])
        self._held -= size
        return batch

    # -- the writer ---------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Store records until cancelled; what waits then is stored before it returns."""
        async with trio.open_nursery() as nursery:
            if self._console is not None:
                nursery.start_soon(self._feed_console, self._console)
            try:
                await self._store()
                task_status.started()
                while True:
                    if not self._queue:
                        self._wake = trio.Event()
                        with trio.move_on_after(_IDLE):
                            await self._wake.wait()
                    await self._store()
                    await trio.sleep(_RETRY if self._in_trouble else _PAUSE)
            finally:
                with trio.CancelScope(shield=True):  # disk work only
                    await self._store(to_the_end=True)
                if self._console is not None and self._console_lines:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.5):
                        await in_thread(partial(self._last_of_console, self._console), abandon=True)

    async def _store(self, *, to_the_end: bool = False) -> None:
        """What waits now; what comes meanwhile waits for the next turn, so that a busy server writes seldom and much."""
        try:
            if not self._queue or not self.current:
                await self._turn(self._queue[0][0] if self._queue else self.clock.now())
            goal = self.records + len(self._queue)
            while self.records < goal or self._lost or self._lost_low or (to_the_end and self._queue):
                if not await self._store_batch():
                    break
        except OSError as error:
            self._failed(error)
        else:
            self._in_trouble = False

    async def _store_batch(self) -> bool:
        if not self._in_trouble:
            self._report_losses()
        batch = self._take()
        if not batch:
            return False
        try:
            await self._turn(batch[0][0])
            data = b"".join([self._line(*record) for record in batch])
            limit = self.settings[IF_LARGER]
            if limit is not None and self._size + len(data) > limit and self._size > 200:
                await self._begin(batch[0][0])
            await self._append(data)
        except BaseException:  # also cancellation: a disk job that was cancelled has not begun
            self._queue.extendleft(reversed(batch))
            self._held += sum(len(record[3]) for record in batch)
            raise
        self.records += len(batch)
        return True

    def _report_losses(self) -> None:
        low, other = self._lost_low, self._lost
        self._lost_low = self._lost = 0
        self.dropped += low + other
        now = self.clock.now()
        if low:
            self._queue.append((now, FAILURE, "SYSTEM", f"{low} log records of levels 4 and 5 were dropped"))
        if other:
            self._queue.append((now, FAILURE, "SYSTEM", f"{other} log records were dropped"))

    def _failed(self, error: OSError) -> None:
        if not self._in_trouble and self._trouble is not None:
            self._trouble(f"the System Log cannot be written: {error.strerror or error}")
        self._in_trouble = True

    async def _append(self, data: bytes) -> None:
        await self.disk.append(f"{self.directory}/{self.current}", data)
        self._size += len(data)
        self.bytes += len(data)
        self._tell(data)

    def _tell(self, data: bytes) -> None:
        written, self._written = self._written, trio.Event()
        written.set()
        if self._console is not None:
            self._console_lines.append(data)
            self._console_wake.set()

    def write_now(self) -> None:
        """Store what waits at once, without the event loop: the last act of a process that stops on a failure."""
        if not self.current or not self._queue:
            return
        data = b"".join([self._line(*record) for record in self._queue])
        self._queue.clear()
        self._held = 0
        try:
            self.disk.files.append_file(f"{self.directory}/{self.current}", data)
        except OSError as error:
            self._failed(error)

    # -- files --------------------------------------------------------------------------------------------------------

    def _slot_of(self, moment: float) -> tuple[tuple[str, int], float]:
        """Date and number of the period that a moment lies in, and when that is to be looked at again."""
        local = self.clock.local(moment)
        period = self.settings[START_NEW_FILE]
        second = local.hour * 3600 + local.minute * 60 + local.second
        slot = second // period
        left = min((slot + 1) * period, 86400) - second - local.microsecond / 1e6
        # A zone change moves the end of the day, so never look too far ahead.
        return (local.strftime("%Y-%m-%d"), slot), moment + min(max(left, 0.001), 900)

    async def _turn(self, moment: float) -> None:
        """Begin a new file if the moment lies in another period than the file's."""
        if self.current and self._since - 7200 <= moment < self._check:
            return
        slot, check = self._slot_of(moment)
        if not self.current:
            await self.disk.mkdir(self.directory, parents=True)
            if not await self._continue(slot):
                await self._begin(moment)
            else:
                await self._head(moment, "Log continued")
        elif slot != self._slot:
            await self._begin(moment)
        elif self.clock.local(moment).strftime("%z") != self._offset:
            await self._head(moment, "Time zone changed")
        self._slot, self._check, self._since = slot, check, moment

    async def _continue(self, slot: tuple[str, int]) -> bool:
        """At a start: go on with the newest file, if it is of this very period and not full."""
        date, number = slot
        names = sorted(name for name in await self.disk.listdir(self.directory) if name.startswith(date))
        if not names:
            return False
        newest = names[-1]
        clock = re.fullmatch(re.escape(date) + r"_(\d\d)-(\d\d)(?:-\d+)?", newest)
        began = int(clock[1]) * 3600 + int(clock[2]) * 60 if clock else 0 if newest == date else -1
        info = await self.disk.stat(f"{self.directory}/{newest}")
        limit = self.settings[IF_LARGER]
        if began < 0 or began // self.settings[START_NEW_FILE] != number or (limit is not None and info.size >= limit):
            return False
        self.current, self._size = newest, info.size
        return True

    async def _begin(self, moment: float) -> None:
        """Begin a new file and remove the old ones."""
        local = self.clock.local(moment)
        name = local.strftime("%Y-%m-%d")
        if await self.disk.exists(f"{self.directory}/{name}"):
            name = base = local.strftime("%Y-%m-%d_%H-%M")
            number = 0
            while await self.disk.exists(f"{self.directory}/{name}"):
                number += 1
                name = f"{base}-{number}"
        self.current, self._size = name, 0
        await self._head(moment, "Log opened")
        oldest = self.clock.now() - self.settings[DELETE_OLD]
        ends = self.clock.local(oldest).strftime("%Y-%m-%d")
        await self.disk.run(_remove_old, self.directory, name, oldest, ends)

    async def _head(self, moment: float, text: str) -> None:
        local = self.clock.local(moment)
        self._offset = local.strftime("%z")
        zone = f"{self._offset[:3]}:{self._offset[3:5]} ({local.strftime('%Z')})"
        line = f"{text}: {local.strftime('%Y-%m-%d')}, UTC{zone}, {self.version}"
        await self._append(self._line(moment, CRASH, "SYSTEM", line))

    # -- the console --------------------------------------------------------------------------------------------------

    async def _feed_console(self, write: Callable[[bytes], object]) -> None:
        """Lines for a slow terminal wait in a bounded queue of their own, so that it holds nobody up."""
        while True:
            await self._console_wake.wait()
            self._console_wake = trio.Event()
            while self._console_lines:
                data = self._console_lines.popleft()
                try:
                    await in_thread(partial(write, data), abandon=True)
                except OSError:
                    return

    def _last_of_console(self, write: Callable[[bytes], object]) -> None:
        try:
            while self._console_lines:
                write(self._console_lines.popleft())
        except OSError:
            pass


_FILE_NAME = re.compile(r"(\d{4}-\d\d-\d\d)(?:_\d\d-\d\d(?:-\d+)?)?(?:\.log)?")


def _remove_old(files: Files, directory: str, current: str, oldest: float, ends: str) -> Sequence[str]:
    """Remove log files that were last written before `oldest`, or that are named by a day before the date `ends`."""
    removed = []
    for name in files.listdir(directory):
        match = _FILE_NAME.fullmatch(name)
        if match is None or name == current:
            continue
        path = f"{directory}/{name}"
        try:
            if match[1] < ends or files.stat(path).modified < oldest:
                files.unlink(path)
                removed.append(name)
        except OSError:
            continue
    return removed
