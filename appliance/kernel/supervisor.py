"""The supervisor: starts the components, restarts what fails, ends everything in time.

A component is `async def run(*, task_status)`; `started()` means "ready to serve". A *vital* one (disk, spool, accounts, log,
settings) that fails stops the process, and the next start replays. Any other is restarted with growing delays while Crash
Recovery is on; with Crash Recovery off its failure stops the process too.

Shutdown, in seconds after `stop()`:

    0.0  nothing is accepted any more; idle sessions are told good-bye
    1.5  commands in hand had their time; sessions and components that are not vital are cancelled
    2.5  the checkpoint, earlier when all sessions have ended
    3.0  sockets that are still open are closed by force
    5.0  helpers are killed, and the process ends whatever still runs
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import trio

from appliance.kernel.channel import Channel, ChannelError
from appliance.kernel.log import CRASH, Logger
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import Group, LogLevel, Setting, Settings, YesNo
from appliance.kernel.statistics import Statistics
from appliance.kernel.tasks import Pace, TaskStatus, pace
from appliance.kernel.watch import LoopWatch

__all__ = [
    "CRASH_RECOVERY",
    "GENERAL",
    "Budget",
    "Component",
    "ComponentFailed",
    "LoopWatch",
    "Pace",
    "Supervisor",
    "pace",
    "run_session",
]

CRASH_RECOVERY = Setting("CrashRecovery", YesNo(), True, "Crash Recovery", help="Go on after a program error.")
INTERNALS_LOG = Setting("LogLevel", LogLevel(), 3, "System Internals Log", synonyms=("KernelLog",))
GENERAL = Group("General", "General", [CRASH_RECOVERY, INTERNALS_LOG])

_FIRST_DELAY: Final = 1.0
_LAST_DELAY: Final = 60.0
_HEALTHY: Final = 300.0  # seconds after which the delays begin anew

Run = Callable[..., Awaitable[None]]


class Component(Protocol):
    """What the supervisor starts."""

    async def run(self, *, task_status: TaskStatus) -> None: ...


class ComponentFailed(Exception):
    """A failure that stops the process: a vital component's, or any with Crash Recovery off."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} failed")
        self.name = name


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds from the beginning of the shutdown to each step."""

    commands: float = 1.5
    checkpoint: float = 2.5
    sockets: float = 3.0
    end: float = 5.0


@dataclass(slots=True, eq=False)
class _Running:
    name: str
    run: Run
    vital: bool
    scope: trio.CancelScope
    ended: trio.Event


class Supervisor:
    """Hooks of the shutdown: `accepting` (0 s), `checkpoint` (2.5 s), `sockets` (3 s), `helpers` (5 s), in each the order of
    addition; `trouble` gets what belongs into the operating system's log."""

    def __init__(
        self,
        settings: Settings,
        log: Logger,
        sessions: Sessions,
        statistics: Statistics | None = None,
        *,
        budget: Budget | None = None,
        farewell: str = "the server is shutting down",
        trouble: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.log = log
        self.sessions = sessions
        self.budget = budget or Budget()
        self.farewell = farewell
        self.accepting: list[Callable[[], None]] = []
        self.checkpoint: list[Callable[[], Awaitable[None]]] = []
        self.sockets: list[Callable[[], None]] = []
        self.helpers: list[Callable[[], None]] = []
        self.stopping = trio.Event()
        self.reason = ""
        self._trouble = trouble
        self._components: list[_Running] = []
        self._nursery: trio.Nursery | None = None
        self._failure: BaseException | None = None
        self._failed_name = ""
        counters = statistics or Statistics()
        self.crashes = counters.counter("kernel.crashes", "program errors that were survived")
        self.restarts = counters.counter("kernel.restarts", "components that were started again")

    # -- life ---------------------------------------------------------------------------------------------------------

    async def run(
        self, start: Callable[[], Awaitable[None]], *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Open the root nursery, `await start()` (it calls `self.start` for each component in order), then serve until
        `stop()`. Raises ComponentFailed, with the cause, when a failure ended it, also one of `start`."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await start()
            except Exception as error:
                self.report("the start", error, self.log)
                self._fail("the start", error)
            task_status.started()
            await self.stopping.wait()
            await self._shut_down()
            nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise ComponentFailed(self._failed_name) from self._failure

    def stop(self, reason: str = "") -> None:
        """Begin the shutdown; harmless when it has begun."""
        if not self.stopping.is_set():
            self.reason = reason
            self.stopping.set()

    async def start(self, name: str, run: Run, *, vital: bool = False) -> None:
        """Start a component; returns when it is ready. A vital one that fails now raises what it raised; another one is
        tried again later, and the server comes up without it."""
        assert self._nursery is not None
        component = _Running(name, run, vital, trio.CancelScope(), trio.Event())
        self._components.append(component)
        await self._nursery.start(self._keep, component)

    async def _keep(self, component: _Running, *, task_status: TaskStatus) -> None:
        """Run a component, again and again if need be."""
        delay = _FIRST_DELAY
        ready = _Ready(task_status)
        try:
            with component.scope:
                while True:
                    began = trio.current_time()
                    try:
                        async with trio.open_nursery() as nursery:
                            await nursery.start(component.run)
                            ready.report()
                        return  # it has ended by itself
                    except Exception as error:
                        if not ready.reported and (component.vital or not self.settings[CRASH_RECOVERY]):
                            raise
                        ready.report()
                        if self.stopping.is_set() or not self._survives(component, error):
                            return
                    if trio.current_time() - began > _HEALTHY:
                        delay = _FIRST_DELAY
                    self.log.major("%s is started again in %d s", component.name, delay)
                    await trio.sleep(delay)
                    delay = min(delay * 2, _LAST_DELAY)
                    self.restarts.add()
        finally:
            component.ended.set()

    def _survives(self, component: _Running, error: Exception) -> bool:
        self.report(component.name, error, self.log)
        if component.vital or not self.settings[CRASH_RECOVERY]:
            self._fail(component.name, error)
            return False
        return True

    def report(self, name: str, error: BaseException, log: Logger) -> None:
        """Write a program error to the log, with its trace, and to the operating system's log."""
        self.crashes.add()
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        text = f"exception raised in {name}: {type(error).__name__}: {error}"
        log.record(CRASH, "%s", text)
        for line in "".join(traceback.format_exception(error)).splitlines()[-200:]:
            log.failure("%s", line)
        if self._trouble is not None:
            self._trouble(text)

    def session_failed(self, error: BaseException, log: Logger) -> None:
        """A program error in one session: with Crash Recovery off it stops the process."""
        self.report(log.tag, error, log)
        if not self.settings[CRASH_RECOVERY]:
            self._fail(log.tag, error)

    def _fail(self, name: str, error: BaseException) -> None:
        if self._failure is None:
            self._failure, self._failed_name = error, name
        self.stop(f"{name} failed")

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _shut_down(self) -> None:
        began = trio.current_time()
        budget = self.budget
        self.log.major("shutting down%s", f": {self.reason}" if self.reason else "")
        with trio.CancelScope(deadline=began + budget.end) as scope:
            self._call(self.accepting)
            with trio.CancelScope(deadline=began + budget.commands):
                await self._end_sessions()
            for session in self.sessions:
                session.kick(self.farewell)
            others = [component for component in self._components if not component.vital]
            for component in others:
                component.scope.cancel()
            with trio.CancelScope(deadline=began + budget.checkpoint):
                for component in others:
                    await component.ended.wait()
            await self._save()
            with trio.CancelScope(deadline=began + budget.sockets):
                for component in others:
                    await component.ended.wait()
            self._call(self.sockets)
            for component in others:
                await component.ended.wait()
            for component in reversed([component for component in self._components if component.vital]):
                component.scope.cancel()
                await component.ended.wait()
        if scope.cancelled_caught:
            self.log.failure("the shutdown took more than %g seconds", budget.end)
        self._call(self.helpers)

    async def _end_sessions(self) -> None:
        """Tell idle sessions good-bye, and the busy ones when their command has ended."""
        while len(self.sessions):
            for session in self.sessions:
                if not session.busy and not session.kicked:
                    session.kick(self.farewell)
            await trio.sleep(0.02)

    async def _save(self) -> None:
        for save in self.checkpoint:
            try:
                await save()
            except Exception as error:
                self.report("the checkpoint", error, self.log)
                self._failure = self._failure or error
                self._failed_name = self._failed_name or "the checkpoint"

    def _call(self, hooks: list[Callable[[], None]]) -> None:
        for hook in hooks:
            try:
                hook()
            except Exception as error:
                self.report("the shutdown", error, self.log)


class _Ready:
    """Reports the first start of a component only."""

    def __init__(self, task_status: TaskStatus) -> None:
        self._task_status = task_status
        self.reported = False

    def report(self) -> None:
        if not self.reported:
            self.reported = True
            self._task_status.started()


def _only_channel_errors(error: BaseException) -> ChannelError | None:
    """The channel error behind it, if nothing else happened."""
    if isinstance(error, ChannelError):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [_only_channel_errors(one) for one in error.exceptions]
        return found[0] if all(found) else None
    return None


async def run_session(
    serve: Callable[[Channel], Awaitable[Any]],
    channel: Channel,
    sessions: Sessions,
    log: Logger,
    *,
    failed: Callable[[BaseException, Logger], None],
    farewell: Callable[[str], bytes] | None = None,
) -> None:
    """Serve one connection: the outermost place of a session, the only one that catches everything.

    `channel.session` is in the table already. A broken connection is a low-level record, a program error goes to `failed`
    (the supervisor's `session_failed`); a session that was kicked sends `farewell(reason)` if the peer takes it at once.
    """
    session = channel.session
    assert session is not None
    try:
        with session.scope:
            await serve(channel)
        if session.scope.cancelled_caught and not channel.closed:
            log.low("ended: %s", session.reason)
            if farewell is not None:
                channel.send_now(farewell(session.reason))
    except ChannelError as error:
        log.low("connection ended: %s", error)
    except Exception as error:
        ended = _only_channel_errors(error)
        if ended is not None:
            log.low("connection ended: %s", ended)
        else:
            failed(error, log)
    finally:
        channel.close()
        sessions.close(session)
