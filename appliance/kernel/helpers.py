"""Programs that the server starts: helpers that stay, and commands that run once. All of them through here.

There is never a shell: a program is a list of arguments. Variables of our own loader are taken out of its environment (a frozen
server sets LD_LIBRARY_PATH for itself, and the program would load our libraries). Output is bounded, time is limited, and the
user is switched by arguments of the start, never by a changed identity of the server. Each program leads a process group of its
own, and what is killed is the group. At the end a helper sees the end of its input, has five seconds, and is killed.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import trio

from appliance.kernel.log import Logger
from appliance.kernel.tasks import TaskStatus

__all__ = ["Finished", "Helper", "HelperError", "Helpers", "TooSlow", "clean_environment", "split_command"]

GRACE: Final = 5.0
"""Seconds between the end of its input and the end of a helper."""
MAX_LINE: Final = 65536
_WAITING: Final = 256
_FIRST_DELAY: Final = 1.0
_LAST_DELAY: Final = 60.0
_HEALTHY: Final = 60.0
_BRIEF: Final = 1.0
"""A program that lived for less than these seconds is started again with growing pauses, whatever its settings say."""
_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 5.0
_LAST_WORDS: Final = 0.5
"""Seconds that the output of a program which has ended may still come: a child of it can hold the pipe for ever."""
_COMPLAINT: Final = 1000
_COMPLAINTS: Final = 200
"""Octets of a line of error output that the log gets, and lines a minute."""
_FLOOD: Final = 64
"""A program that says this many times what is kept is ended."""
_REAP: Final = 1.0
_LOADER: Final = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "DYLD_INSERT_LIBRARIES",
    "LIBPATH",
    "SHLIB_PATH",
)
_OURS: Final = ("PYTHONHOME", "PYTHONPATH", "_MEIPASS2", "_PYI_ARCHIVE_FILE", "_PYI_APPLICATION_HOME_DIR")

State = Literal["down", "running", "pausing"]


class HelperError(Exception):
    """The program could not be started, took too long, or said too much. `errno`: the system's reason for no start, or 0."""

    def __init__(self, text: str, errno: int = 0) -> None:
        super().__init__(text)
        self.errno = errno


class TooSlow(HelperError):
    """It took longer than it may."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left: its exit code (negative: the signal that ended it), output and error output, both bounded.
    `took_all` is False if it ended before it had taken all of its input."""

    code: int
    output: bytes
    errors: bytes
    took_all: bool = True


def split_command(text: str) -> list[str]:
    """The arguments of a command line of the settings: words, quotes, no other meaning. Raises ValueError."""
    if os.name == "nt":
        return [word.strip('"') for word in shlex.split(text, posix=False)]
    return shlex.split(text)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for another program: loader variables as they were before our own start, ours removed."""
    cleaned = {name: value for name, value in environment.items() if name not in _OURS}
    for name in _LOADER:
        original = cleaned.pop(name + "_ORIG", None)
        cleaned.pop(name, None)
        if original:
            cleaned[name] = original
    return cleaned


def _identity(user: int | str | None, group: int | str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Options of a start as another user of the system, and what the environment says of him. The group is his own unless
    one is given, so that a program never keeps a group of the server. Raises HelperError for a name that is unknown."""
    if sys.platform == "win32":
        return {}, {}
    if os.getuid() != os.geteuid():  # root was dropped for now: programs are like the server, and get no way back
        return {"user": os.geteuid(), "group": os.getegid()}, {}
    if user is None and group is None:
        return {}, {}
    import grp
    import pwd

    try:
        options: dict[str, Any] = {}
        described: dict[str, str] = {}
        if group is not None:
            options["group"] = grp.getgrnam(group).gr_gid if isinstance(group, str) else group
        if user is not None:
            entry = pwd.getpwnam(user) if isinstance(user, str) else pwd.getpwuid(user)
            described = {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
            options.setdefault("group", entry.pw_gid)
            if entry.pw_uid == os.geteuid() and options["group"] == os.getegid():
                return {}, described
            options["user"] = entry.pw_uid
            options["extra_groups"] = os.getgrouplist(entry.pw_name, options["group"])
    except KeyError:
        raise HelperError(f"there is no user {user!r} or group {group!r} in the operating system") from None
    return options, described


def _kill(process: trio.Process, number: int | None = None) -> None:
    """End the process and all of its group that did not leave it."""
    if sys.platform == "win32":
        process.kill()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL if number is None else number)


class Helpers:
    """Starts programs, and knows which are running."""

    def __init__(self, environment: Mapping[str, str] | None = None, *, grace: float = GRACE) -> None:
        self.grace = grace
        self._environment = clean_environment(os.environ if environment is None else environment)
        self._running: set[trio.Process] = set()
        self._staying: set[Helper] = set()
        self._leaving: float | None = None

    def __len__(self) -> int:
        return len(self._running)

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The first step of the shutdown: all helpers see the end of their input, and have their five seconds from now."""
        if self._leaving is None:
            self._leaving = trio.current_time()
            for helper in tuple(self._staying):
                helper.leave()

    def kill_all(self) -> None:
        """The last step of the shutdown."""
        for process in tuple(self._running):
            _kill(process)

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """A component that ends after all that use helpers: it waits for those that are ending, and kills what stays."""
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.close()
            assert self._leaving is not None
            with trio.CancelScope(shield=True):
                # Less than the whole time, because the shutdown as a whole has no more.
                with trio.move_on_at(self._leaving + self.grace * 0.96):
                    await self._all_ended()
                self.kill_all()
                with trio.move_on_after(_REAP):
                    await self._all_ended()

    async def _all_ended(self) -> None:
        for process in tuple(self._running):
            await process.wait()
            self._running.discard(process)

    # -- starting and ending one --------------------------------------------------------------------------------------

    async def _start(
        self,
        arguments: Sequence[str],
        directory: str | None,
        environment: Mapping[str, str] | None,
        user: int | str | None,
        group: int | str | None,
        stdin: int = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
    ) -> trio.Process:
        if not arguments or any("\0" in argument for argument in arguments):
            raise HelperError("there is no program to start")
        options, described = _identity(user, group)
        if os.name != "nt":
            options["start_new_session"] = True  # signals for the server's terminal are not for it
        try:
            process = await trio.lowlevel.open_process(
                list(arguments),
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                cwd=directory,
                env={**self._environment, **described, **(environment or {})},
                **options,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            code = error.errno if isinstance(error, OSError) and error.errno is not None else 0
            raise HelperError(f"{arguments[0]} cannot be started: {reason}", code) from None
        self._running.add(process)
        return process

    async def _end(self, process: trio.Process, grace: float) -> None:
        """Close its input, wait, kill. Shielded, but never longer than `grace` seconds: this is no network. In a shutdown
        nobody waits here: `run` does."""
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + grace):
                if process.stdin is not None:
                    await process.stdin.aclose()
                if self._leaving is None or not grace:
                    await process.wait()
            if process.returncode is None and self._leaving is None:
                _kill(process)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _REAP):
                    await process.wait()
        finally:
            if process.returncode is not None or self._leaving is None:
                self._running.discard(process)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _REAP):
                for stream in (process.stdin, process.stdout, process.stderr):
                    if stream is not None:
                        await stream.aclose()

    # -- commands -----------------------------------------------------------------------------------------------------

    async def execute(
        self,
        arguments: Sequence[str],
        *,
        input: bytes | AsyncIterable[bytes] | None = b"",
        timeout: float = 60.0,
        limit: int = 1 << 20,
        directory: str | None = None,
        environment: Mapping[str, str] | None = None,
        user: int | str | None = None,
        group: int | str | None = None,
        cut: bool = False,
        discard: bool = False,
    ) -> Finished:
        """Run a command to its end. `input` may come in pieces; with None its input is empty from the start.

        Raises HelperError if it does not start, runs longer than `timeout` seconds, or writes more than `limit` bytes of
        output or of errors; it is killed then with all of its process group, and also when the caller is cancelled. With
        `cut` the first `limit` bytes are kept and the others dropped; with `discard` its output goes nowhere. Children
        that it leaves behind are not waited for. An error of `input` is raised as it is.
        """
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        stdout = subprocess.DEVNULL if discard else subprocess.PIPE
        process = await self._start(arguments, directory, environment, user, group, stdin, stdout)
        running = _Execution(process, limit, cut)
        try:
            with trio.move_on_after(timeout) as scope:
                await running.run(input)
        finally:
            if process.returncode is None:
                _kill(process)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + _REAP):
                    await process.wait()
            elif scope.cancelled_caught or running.too_much or running.failure is not None:
                _kill(process)
            await self._end(process, 0.0)
            self._running.discard(process)
        if running.failure is not None:
            raise running.failure
        if running.too_much:
            raise HelperError(f"{arguments[0]} wrote more than {limit} bytes")
        if scope.cancelled_caught:
            raise TooSlow(f"{arguments[0]} took more than {timeout:g} seconds")
        return Finished(process.returncode or 0, bytes(running.output), bytes(running.errors), running.took_all)

    def helper(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        log: Logger,
        received: Callable[[bytes], None],
        *,
        started: Callable[[], None] | None = None,
        ended: Callable[[], None] | None = None,
        directory: str | None = None,
        pause: Callable[[], float | None] | None = None,
        raw: bool = False,
    ) -> Helper:
        """A program that stays. `command()` is asked at each start and may raise HelperError; `received(line)` gets each line
        of its output, without the line end, or with `raw` the octets as they come; `started` and `ended` tell when it is
        there. `pause()` gives the seconds between its end and a new start, None for never; without it they grow from 1 to
        60."""
        return Helper(self, name, command, log, received, started, ended, directory, pause, raw)


class _Execution:
    """One command: its input goes in, its output comes out."""

    def __init__(self, process: trio.Process, limit: int, cut: bool) -> None:
        self.output = bytearray()
        self.errors = bytearray()
        self.too_much = False
        self.took_all = True
        self.failure: Exception | None = None
        """What its input has raised."""
        self._process = process
        self._limit = limit
        self._cut = cut
        self._open = 0
        self._closed = trio.Event()

    async def run(self, input: bytes | AsyncIterable[bytes] | None) -> None:
        process = self._process
        async with trio.open_nursery() as nursery:
            for stream, into in ((process.stdout, self.output), (process.stderr, self.errors)):
                if stream is not None:
                    self._open += 1
                    nursery.start_soon(self._collect, stream, into, nursery.cancel_scope)
            if process.stdin is not None and input is not None:
                nursery.start_soon(self._feed, process.stdin, input, nursery.cancel_scope)
            await process.wait()
            with trio.move_on_after(_LAST_WORDS):
                await self._closed.wait()
            nursery.cancel_scope.cancel()

    async def _collect(self, stream: trio.abc.ReceiveStream, into: bytearray, scope: trio.CancelScope) -> None:
        seen = 0
        while data := await stream.receive_some(65536):
            seen += len(data)
            room = self._limit - len(into)
            into += data[: max(0, room)]
            if seen > self._limit * (_FLOOD if self._cut else 1):
                self.too_much = True
                scope.cancel()
                return
        self._open -= 1
        if not self._open:
            self._closed.set()

    async def _feed(
        self, stream: trio.abc.SendStream, input: bytes | AsyncIterable[bytes], scope: trio.CancelScope
    ) -> None:
        self.took_all = False
        try:
            if isinstance(input, bytes):
                await stream.send_all(input)
            else:
                async for piece in input:
                    await stream.send_all(piece)
            await stream.aclose()
        except trio.BrokenResourceError:
            return  # it does not want all of it
        except Exception as error:
            self.failure = error
            scope.cancel()
            return
        self.took_all = True


class Helper:
    """A program that speaks over its input and output, and is started again when it ends: a component."""

    def __init__(
        self,
        helpers: Helpers,
        name: str,
        command: Callable[[], Sequence[str]],
        log: Logger,
        received: Callable[[bytes], None],
        started: Callable[[], None] | None,
        ended: Callable[[], None] | None,
        directory: str | None = None,
        pause: Callable[[], float | None] | None = None,
        raw: bool = False,
    ) -> None:
        self.name = name
        self.state: State = "down"
        self.error = ""
        """Why it is not running; empty if it is, or was never started."""
        self.pid = 0
        self.starts = 0
        self._helpers = helpers
        self._command = command
        self._log = log
        self._received = received
        self._started = started
        self._ended = ended
        self._directory = directory
        self._pause = pause
        self._raw = raw
        self._process: trio.Process | None = None
        self._lines: trio.MemorySendChannel[bytes] | None = None
        self._scope: trio.CancelScope | None = None
        self._go = trio.Event()
        self._changed = trio.Event()

    @property
    def running(self) -> bool:
        return self._lines is not None

    def restart(self) -> None:
        """End the program if it runs; it is started again at once with the command as it is now."""
        self._go.set()
        if self._scope is not None:
            self._scope.cancel()

    def start(self) -> None:
        """Start it now if it is not running, whatever pause there is."""
        if not self.running:
            self._go.set()

    def terminate(self) -> None:
        """Tell the program to end (SIGTERM); what still runs after five seconds is killed."""
        if self._process is not None:
            self.error = "it was ended"
            if sys.platform == "win32":
                self._process.terminate()
            else:
                _kill(self._process, signal.SIGTERM)
            if self._scope is not None:
                self._scope.cancel()

    def leave(self) -> None:
        """The end of its input, in a shutdown."""
        if self._process is not None and self._process.stdin is not None and self._lines is not None:
            self._lines.close()
            self._lines = None

    def send(self, line: bytes) -> None:
        """Queue a line (without its end). Raises HelperError if the program is not running or does not read."""
        if self._lines is None:
            raise HelperError(f"{self.name} is not running")
        if len(line) > MAX_LINE or b"\n" in line:
            raise HelperError("not a line")
        try:
            self._lines.send_nowait(line + b"\n")
        except trio.WouldBlock:
            raise HelperError(f"{self.name} does not read its input") from None
        except trio.BrokenResourceError:
            raise HelperError(f"{self.name} is not running") from None

    async def settled(self) -> None:
        """Wait until it runs or is known not to."""
        while not self.running and not self.error:
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the program running until cancelled. It counts as ready at once: the server does not wait for it."""
        self._helpers._staying.add(self)
        task_status.started()
        delay, least = _FIRST_DELAY, 0.0
        try:
            while True:
                began = trio.current_time()
                self._go = trio.Event()
                try:
                    with trio.CancelScope() as self._scope:
                        await self._once()
                except HelperError as error:
                    self.error = str(error)
                    self._log.failure("%s: %s", self.name, error)
                if trio.current_time() - began > _HEALTHY:
                    delay = _FIRST_DELAY
                self._change()
                if self._helpers._leaving is not None:
                    await trio.sleep_forever()
                brief = trio.current_time() - began < _BRIEF
                least = min(max(least * 2, _FIRST_PAUSE), _LAST_PAUSE) if brief else 0.0
                pause = delay if self._pause is None else self._pause()
                delay = min(delay * 2, _LAST_DELAY)
                if pause is None:
                    self._log.problem("%s is not started again by itself", self.name)
                else:
                    pause = max(pause, least)
                self.state = "pausing" if pause is not None else "down"
                with trio.CancelScope(deadline=trio.current_time() + pause if pause is not None else float("inf")):
                    await self._go.wait()
        finally:
            self.state = "down"
            self._helpers._staying.discard(self)

    async def _once(self) -> None:
        self.error = ""
        process = await self._helpers._start(self._command(), self._directory, None, None, None)
        sender, receiver = trio.open_memory_channel[bytes](_WAITING)
        ended_by_us = True
        try:
            self._log.major("%s is started, process %d", self.name, process.pid)
            self._process, self._lines = process, sender
            self.state, self.pid = "running", process.pid
            self.starts += 1
            if self._started is not None:
                self._started()
            self._change()
            assert process.stdin is not None and process.stdout is not None and process.stderr is not None
            said_too_much: HelperError | None = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, process.stdin, receiver)
                nursery.start_soon(self._complaints, process.stderr)
                try:
                    await (self._take(process.stdout) if self._raw else self._read(process.stdout))
                except HelperError as error:
                    said_too_much = error
                nursery.cancel_scope.cancel()
            if said_too_much is not None:
                raise said_too_much
            ended_by_us = False
        finally:
            self._lines, self._process = None, None
            self.state, self.pid = "down", 0
            sender.close()
            receiver.close()
            if self._ended is not None:
                self._ended()
            await self._helpers._end(process, self._helpers.grace)
            code = process.returncode
            if code is None:
                self._log.major("%s is told to end", self.name)
            else:
                self._log.major("%s has ended with code %d", self.name, code)
            if not ended_by_us:
                self.error = f"it has ended with code {code}"

    async def _write(self, stream: trio.abc.SendStream, lines: trio.MemoryReceiveChannel[bytes]) -> None:
        try:
            async for line in lines:
                await stream.send_all(line)
            await stream.aclose()
        except trio.BrokenResourceError:
            return

    async def _take(self, stream: trio.abc.ReceiveStream) -> None:
        while data := await stream.receive_some(MAX_LINE):
            self._received(data)

    async def _complaints(self, stream: trio.abc.ReceiveStream) -> None:
        """Its error output goes to the log: so many lines a minute, and the beginning of each."""
        buffer, told, since = b"", 0, trio.current_time()
        while data := await stream.receive_some(MAX_LINE):
            *lines, buffer = (buffer + data).split(b"\n")
            if len(buffer) > _COMPLAINT:
                lines.append(buffer)
                buffer = b""
            if trio.current_time() - since > 60:
                told, since = 0, trio.current_time()
            for line in lines:
                told += 1
                if told <= _COMPLAINTS:
                    text = line[:_COMPLAINT].decode("utf-8", "replace").rstrip("\r")
                    self._log.problem("%s: %s%s", self.name, text, " ..." if told == _COMPLAINTS else "")

    async def _read(self, stream: trio.abc.ReceiveStream) -> None:
        received = self._received
        buffer = b""
        while data := await stream.receive_some(MAX_LINE):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                received(line.rstrip(b"\r"))
            if len(buffer) > MAX_LINE:
                raise HelperError(f"a line of more than {MAX_LINE} bytes")
        if buffer:
            received(buffer)
