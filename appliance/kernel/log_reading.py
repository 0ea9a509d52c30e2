"""Reading the System Log: the list of files, filtered and live views, deletion, and the operations of these.

A view is filtered in the disk workers, so only matching records travel. A view of the current file with an end in the future
goes on with new records until that time, or until a new file begins.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

import trio

from appliance.formats.data import Value
from appliance.kernel.files import Files
from appliance.kernel.log import ALL, Log, Logger
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import LogLevel, SettingError

__all__ = ["LogFile", "LogReader", "View", "declare"]

_PIECE = 128 * 1024
_RESULT = 1 << 20  # most bytes of one READLOG answer
_LINE = re.compile(rb"(\d\d:\d\d:\d\d\.\d{3}) (\d) ")
_TIME = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,3}))?)?")


@dataclass(frozen=True, slots=True)
class LogFile:
    name: str
    size: int
    modified: float
    current: bool


@dataclass(frozen=True, slots=True)
class View:
    """Which records are wanted: `level` and all more important ones, those that contain `filter`, times of day (inclusive).

    `end` empty or `*`: everything stored by now. Times are `H:MM`, `H:MM:SS` or `H:MM:SS.mmm`.
    """

    level: int = ALL
    filter: str = ""
    start: str = ""
    end: str = ""
    ignore_case: bool = False

    def compiled(self) -> _Test:
        """Raises ValueError for a bad time."""
        start = _time(self.start, last=False) if self.start.strip() else b""
        end = _time(self.end, last=True) if self.end.strip() not in ("", "*") else b""
        needle = self.filter.encode("utf-8", "surrogateescape")
        return _Test(self.level, needle.lower() if self.ignore_case else needle, start, end, self.ignore_case)


def _time(text: str, *, last: bool) -> bytes:
    match = _TIME.fullmatch(text.strip())
    if match is None or int(match[1]) > 24 or int(match[2]) > 59 or int(match[3] or 0) > 59:
        raise ValueError(f"{text[:20]!r} is not a time of day")
    seconds = match[3] or ("59" if last else "00")
    fraction = match[4].ljust(3, "0") if match[4] else ("999" if last else "000")
    return f"{int(match[1]):02d}:{match[2]}:{seconds}.{fraction}".encode()


@dataclass(frozen=True, slots=True)
class _Test:
    level: int
    needle: bytes
    start: bytes
    end: bytes
    ignore_case: bool

    def select(self, lines: list[bytes]) -> bytes:
        if self.needle:
            if self.ignore_case:
                lines = [line for line in lines if self.needle in line.lower()]
            else:
                lines = [line for line in lines if self.needle in line]
        if self.level < ALL or self.start or self.end:
            lines = [line for line in lines if self._fits(line)]
        return b"".join(lines)

    def _fits(self, line: bytes) -> bool:
        match = _LINE.match(line)
        if match is None:
            return False
        return int(match[2]) <= self.level and self.start <= match[1] and (not self.end or match[1] <= self.end)


def _read(files: Files, path: str, offset: int, limit: int, test: _Test) -> tuple[int, bytes]:
    """The offset after the last whole line of the next piece, and what passes the test."""
    handle = files.open(path)
    try:
        data = files.pread(handle, min(_PIECE, limit), offset)
    finally:
        files.close(handle)
    whole = data.rfind(b"\n") + 1
    return offset + whole, test.select(data[:whole].splitlines(keepends=True)) if whole else b""


def _list(files: Files, directory: str) -> list[tuple[str, int, float]]:
    try:
        names = files.listdir(directory)
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            info = files.stat(f"{directory}/{name}")
        except OSError:
            continue
        if not info.is_directory:
            found.append((name, info.size, info.modified))
    return sorted(found, reverse=True)


class LogReader:
    """The files of a Log as pages and the CLI see them."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def files(self, filter: str = "") -> list[LogFile]:
        """The files whose names contain `filter`, newest first."""
        log = self._log
        found = await log.disk.run(_list, log.directory)
        return [LogFile(name, size, time, name == log.current) for name, size, time in found if filter in name]

    async def _path(self, name: str) -> str:
        if name not in [file.name for file in await self.files()]:  # so no name leads outside the directory
            raise OperationError("There is no such log file")
        return f"{self._log.directory}/{name}"

    async def delete(self, name: str) -> None:
        """Raises OperationError for the current file and for unknown ones."""
        path = await self._path(name)
        if name == self._log.current:
            raise OperationError("The current log file cannot be deleted")
        await self._log.disk.unlink(path, missing_ok=True)

    async def view(self, name: str, view: View) -> AsyncGenerator[bytes, None]:
        """Pieces of whole lines. Close the generator when the reader goes away (`contextlib.aclosing`).

        Raises OperationError for an unknown file and a bad view.
        """
        log = self._log
        try:
            test = view.compiled()
        except ValueError as error:
            raise OperationError(str(error)) from None
        path = await self._path(name)
        size = (await log.disk.stat(path)).size
        offset = 0
        while offset < size:
            following, data = await log.disk.run(_read, path, offset, size - offset, test)
            if following == offset:
                break
            offset = following
            if data:
                yield data
        until = self._until(name, test)
        while until is not None:
            stored = log._written
            following, data = await log.disk.run(_read, path, offset, _PIECE, test)
            if data:
                yield data
            if following > offset:
                offset = following
                continue
            if log.current != name or log.clock.now() >= until:
                return
            with trio.move_on_after(min(until - log.clock.now(), 30)):
                await stored.wait()

    def _until(self, name: str, test: _Test) -> float | None:
        """When a live view ends; None if it is not live."""
        log = self._log
        if not test.end or name != log.current:
            return None
        now = log.clock.local(log.clock.now())
        hour, minute, second = int(test.end[:2]), int(test.end[3:5]), float(test.end[6:])
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        end = (midnight + timedelta(hours=hour, minutes=minute, seconds=second)).timestamp()
        return end if end > log.clock.now() else None


def declare(operations: Operations, reader: LogReader, log: Log, system: Logger) -> None:
    """Declare the operations of the System Log. `system` writes the records of WRITELOG, with the tag SYSTEM."""

    def parse_level(level: str | int) -> int:
        try:
            return LogLevel().parse(str(level))
        except ValueError as error:
            raise OperationError(f"logLevel: {error}") from None

    @operations.declare(
        "WRITELOG logLevel logRecord", right=Right.MONITOR, summary="Stores a record in the System Log.", section="Logs"
    )
    async def write_log(caller: Caller, log_level: str, log_record: str) -> Value | None:
        system.record(parse_level(log_level), "%s", log_record)
        return None

    @operations.declare(
        "LISTLOGS [FILTER text]", right=Right.MONITOR, summary="Lists the System Log files.", section="Logs"
    )
    async def list_logs(caller: Caller, text: str = "") -> Value | None:
        return {
            file.name: {"Size": str(file.size), **({"Current": "YES"} if file.current else {})}
            for file in await reader.files(text)
        }

    @operations.declare(
        "READLOG fileName [LEVEL level] [FILTER text] [FROM startTime] [TO endTime]",
        right=Right.MONITOR,
        summary="Reads the selected records of a System Log file, at most one megabyte, the last ones.",
        section="Logs",
    )
    async def read_log(
        caller: Caller,
        file_name: str,
        level: str = "5",
        text: str = "",
        start_time: str = "",
        end_time: str = "",
    ) -> Value | None:
        view = View(parse_level(level), text, start_time, end_time)
        now = log.clock.local(log.clock.now()).strftime("%H:%M:%S.999").encode()
        try:
            if view.compiled().end > now:
                view = View(view.level, text, start_time, "*")  # a command answers, it does not follow
        except ValueError as error:
            raise OperationError(str(error)) from None
        kept = b""
        async with aclosing(reader.view(file_name, view)) as pieces:
            async for piece in pieces:
                kept = (kept + piece)[-_RESULT:]
        if len(kept) == _RESULT:
            kept = kept[kept.find(b"\n") + 1 :]
        return kept.decode("utf-8", "surrogateescape")

    @operations.declare(
        "DELETELOG fileName", right=Right.TUNE_LOGGER, summary="Deletes a System Log file.", section="Logs"
    )
    async def delete_log(caller: Caller, file_name: str) -> Value | None:
        await reader.delete(file_name)
        system.major("log file %s is deleted by %s", file_name, caller.account or "the server")
        return None

    @operations.declare("GETLOGSETTINGS", right=Right.MONITOR, summary="Reads the Log Engine options.", section="Logs")
    async def get_settings(caller: Caller) -> Value | None:
        return log.settings.effective()

    @operations.declare(
        "UPDATELOGSETTINGS newSettings{}",
        right=Right.TUNE_LOGGER,
        summary="Changes the Log Engine options.",
        section="Logs",
    )
    async def update_settings(caller: Caller, new_settings: dict[str, Value]) -> Value | None:
        try:
            changed = await log.settings.update(new_settings)
        except SettingError as error:
            raise OperationError(str(error)) from None
        if changed:
            system.major("Log Engine options %s are changed by %s", ", ".join(sorted(changed)), caller.account)
        return None
