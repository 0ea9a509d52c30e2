"""Programs that the server starts: helpers that stay, and commands that run once. All of them through here.

There is never a shell: a program is a list of arguments. Variables of our own loader are taken out of its environment (a frozen
server sets LD_LIBRARY_PATH for itself, and the program would load our libraries). Output is bounded, time is limited, and the
user is switched by arguments of the start, never by a changed identity of the server. At the end a helper sees the end of its
input, has five seconds, and is killed.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from appliance.kernel.log import Logger
from appliance.kernel.tasks import TaskStatus

__all__ = ["Finished", "Helper", "HelperError", "Helpers", "clean_environment", "split_command"]

GRACE: Final = 5.0
MAX_LINE: Final = 65536
_WAITING: Final = 256
_FIRST_DELAY: Final = 1.0
_LAST_DELAY: Final = 60.0
_HEALTHY: Final = 60.0
_LOADER: Final = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "DYLD_INSERT_LIBRARIES",
    "LIBPATH",
    "SHLIB_PATH",
)
_OURS: Final = ("PYTHONHOME", "PYTHONPATH", "_MEIPASS2", "_PYI_ARCHIVE_FILE", "_PYI_APPLICATION_HOME_DIR")


class HelperError(Exception):
    """The program could not be started, took too long, or said too much."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left: its exit code (negative: the signal that ended it), output and error output, both bounded."""

    code: int
    output: bytes
    errors: bytes


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


class Helpers:
    """Starts programs, and knows which are running."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = clean_environment(os.environ if environment is None else environment)
        self._running: set[trio.Process] = set()

    def __len__(self) -> int:
        return len(self._running)

    def kill_all(self) -> None:
        """The last step of the shutdown."""
        for process in tuple(self._running):
            process.kill()

    async def _start(
        self,
        arguments: Sequence[str],
        directory: str | None,
        environment: Mapping[str, str] | None,
        user: int | str | None,
        group: int | str | None,
    ) -> trio.Process:
        if not arguments or any("\0" in argument for argument in arguments):
            raise HelperError("there is no program to start")
        options: dict[str, Any] = {}
        if os.name != "nt":
            options["start_new_session"] = True  # signals for the server's terminal are not for it
            if user is not None:
                options["user"] = user
                options["extra_groups"] = []
            if group is not None:
                options["group"] = group
        try:
            process = await trio.lowlevel.open_process(
                list(arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,
                env={**self._environment, **(environment or {})},
                **options,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise HelperError(f"{arguments[0]} cannot be started: {reason}") from None
        self._running.add(process)
        return process

    async def _end(self, process: trio.Process, grace: float) -> None:
        """Close its input, wait, kill. Shielded, but never longer than `grace` seconds: this is no network."""
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + grace):
                if process.stdin is not None:
                    await process.stdin.aclose()
                await process.wait()
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await process.wait()
        finally:
            self._running.discard(process)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                for stream in (process.stdin, process.stdout, process.stderr):
                    if stream is not None:
                        await stream.aclose()

    async def execute(
        self,
        arguments: Sequence[str],
        *,
        input: bytes = b"",
        timeout: float = 60.0,
        limit: int = 1 << 20,
        directory: str | None = None,
        environment: Mapping[str, str] | None = None,
        user: int | str | None = None,
        group: int | str | None = None,
    ) -> Finished:
        """Run a command to its end. Raises HelperError if it does not start, runs longer than `timeout` seconds, or
        writes more than `limit` bytes; it is killed then, and also when the caller is cancelled."""
        process = await self._start(arguments, directory, environment, user, group)
        output, errors = bytearray(), bytearray()
        too_much = False

        async def collect(stream: trio.abc.ReceiveStream, into: bytearray, scope: trio.CancelScope) -> None:
            nonlocal too_much
            while data := await stream.receive_some(65536):
                into += data
                if len(into) > limit:
                    too_much = True
                    scope.cancel()
                    return

        async def feed(stream: trio.abc.SendStream) -> None:
            try:
                await stream.send_all(input)
                await stream.aclose()
            except trio.BrokenResourceError:
                pass  # it does not want all of it

        try:
            with trio.move_on_after(timeout) as scope:
                async with trio.open_nursery() as nursery:
                    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
                    nursery.start_soon(feed, process.stdin)
                    nursery.start_soon(collect, process.stdout, output, scope)
                    nursery.start_soon(collect, process.stderr, errors, scope)
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            await self._end(process, 1.0)
        if too_much:
            raise HelperError(f"{arguments[0]} wrote more than {limit} bytes")
        if scope.cancelled_caught:
            raise HelperError(f"{arguments[0]} took more than {timeout:g} seconds")
        return Finished(process.returncode or 0, bytes(output), bytes(errors))

    def helper(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        log: Logger,
        received: Callable[[bytes], None],
        *,
        started: Callable[[], None] | None = None,
        ended: Callable[[], None] | None = None,
    ) -> Helper:
        """A program that stays. `command()` is asked at each start; `received(line)` gets each line of its output,
        without the line end; `started` and `ended` tell when it is there."""
        return Helper(self, name, command, log, received, started, ended)


class Helper:
    """A program that speaks in lines over its input and output, and is started again when it ends: a component."""

    def __init__(
        self,
        helpers: Helpers,
        name: str,
        command: Callable[[], Sequence[str]],
        log: Logger,
        received: Callable[[bytes], None],
        started: Callable[[], None] | None,
        ended: Callable[[], None] | None,
    ) -> None:
        self.name = name
        self._helpers = helpers
        self._command = command
        self._log = log
        self._received = received
        self._started = started
        self._ended = ended
        self._lines: trio.MemorySendChannel[bytes] | None = None
        self._scope: trio.CancelScope | None = None

    @property
    def running(self) -> bool:
        return self._lines is not None

    def restart(self) -> None:
        """End the program; it is started again with the command as it is now."""
        if self._scope is not None:
            self._scope.cancel()

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

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the program running until cancelled. It counts as ready at once: the server does not wait for it."""
        task_status.started()
        delay = _FIRST_DELAY
        while True:
            began = trio.current_time()
            try:
                with trio.CancelScope() as self._scope:
                    await self._once()
            except HelperError as error:
                self._log.failure("%s: %s", self.name, error)
            if trio.current_time() - began > _HEALTHY:
                delay = _FIRST_DELAY
            await trio.sleep(delay)
            delay = min(delay * 2, _LAST_DELAY)

    async def _once(self) -> None:
        process = await self._helpers._start(self._command(), None, None, None, None)
        sender, receiver = trio.open_memory_channel[bytes](_WAITING)
        try:
            self._log.major("%s is started, process %d", self.name, process.pid)
            self._lines = sender
            if self._started is not None:
                self._started()
            assert process.stdin is not None and process.stdout is not None and process.stderr is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, process.stdin, receiver)
                nursery.start_soon(self._read, process.stderr, partial(self._log.problem, "%s: %s", self.name))
                await self._read(process.stdout, self._received)
                nursery.cancel_scope.cancel()
        finally:
            self._lines = None
            receiver.close()
            if self._ended is not None:
                self._ended()
            await self._helpers._end(process, GRACE)
            self._log.major("%s has ended with code %s", self.name, process.returncode)

    async def _write(self, stream: trio.abc.SendStream, lines: trio.MemoryReceiveChannel[bytes]) -> None:
        try:
            async for line in lines:
                await stream.send_all(line)
        except trio.BrokenResourceError:
            return

    async def _read(self, stream: trio.abc.ReceiveStream, received: Callable[[bytes], None]) -> None:
        buffer = b""
        while data := await stream.receive_some(MAX_LINE):
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                received(line.rstrip(b"\r"))
            if len(buffer) > MAX_LINE:
                raise HelperError(f"a line of more than {MAX_LINE} bytes")
        if buffer:
            received(buffer)
