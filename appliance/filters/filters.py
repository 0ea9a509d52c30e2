"""All external filters: which there are, and what they say of a message together.

A message waits for its filters as long as it takes, and no other mail waits with it: around the wait stands `outside`, in
which the Enqueuer lets another processor work. `REJECTED` and `FAILURE` put a message off, here, for minutes that grow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

import trio

from appliance.filters.answers import ACCEPT, FilterAnswer
from appliance.filters.program import FilterProgram, LogSource
from appliance.filters.settings import FILTERS, FilterSettings, configured
from appliance.formats.data import Value
from appliance.kernel.helpers import HelperError, Helpers, split_command
from appliance.kernel.journal import JournalError
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.tasks import TaskStatus
from appliance.transfer.message import QueuedMessage
from appliance.transfer.spool import NoSpace

__all__ = ["COPIES", "ContentFilters", "Mirror"]

FIRST_DELAY: Final = 180.0
LAST_DELAY: Final = 1800.0
"""Seconds until a message that a filter put off is shown to it again: at first, and at most."""
DISK_TROUBLE: Final = 60.0
COPIES: Final = "FILTER"
"""The source of copies that a filter has asked for."""
_SETTLE: Final = 3.0


class Mirror(Protocol):
    """Sends a copy of a message to an address."""

    async def __call__(self, message: QueuedMessage, address: str) -> None: ...


class ContentFilters:
    """`limit()` is how many messages a program gets at a time. `builtin(word)` gives the arguments of a program that comes with
    the server, or None. `mirror` sends copies; set it, and `outside`, before `run`."""

    def __init__(
        self,
        settings: Settings,
        helpers: Helpers,
        base: str,
        log: LogSource,
        limit: Callable[[], int],
        *,
        builtin: Callable[[str], Sequence[str] | None] = lambda word: None,
        outside: Callable[[], AbstractContextManager[object]] = nullcontext,
        mirror: Mirror | None = None,
        statistics: Statistics | None = None,
        delays: tuple[float, float] = (FIRST_DELAY, LAST_DELAY),
    ) -> None:
        self.settings = settings
        self.outside = outside
        self.mirror = mirror
        self._helpers = helpers
        self._base = os.path.abspath(base)
        self._log = log
        self._limit = limit
        self._builtin = builtin
        self._delays = delays
        self._programs: dict[str, FilterProgram] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        counters = statistics or Statistics()
        self._asked = counters.counter("filters.asked", "messages shown to external filters")
        self._refused = counters.counter("filters.refused", "messages that a filter rejected or discarded")
        self._postponed = counters.counter("filters.postponed", "times that a filter put a message off")

    # -- the programs -------------------------------------------------------------------------------------------------

    def command(self, path: str) -> list[str]:
        """The arguments of a program path: words and quotes, a relative path is one of the base directory. HelperError."""
        try:
            words = split_command(path)
        except ValueError as error:
            raise HelperError(f"the program path cannot be read: {error}") from None
        if not words:
            raise HelperError("there is no program path")
        builtin = self._builtin(words[0])
        if builtin is not None:
            return [*builtin, *words[1:]]
        return [os.path.join(self._base, words[0]), *words[1:]]

    def _configured(self) -> list[FilterSettings]:
        return configured(self.settings[FILTERS])

    def _enabled(self, name: str) -> list[FilterProgram]:
        wanted = name.strip().casefold()
        return [
            self._programs[one.name.casefold()]
            for one in self._configured()
            if one.enabled and (not wanted or one.name.casefold() == wanted) and one.name.casefold() in self._programs
        ]

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Keep all programs running, as the settings say now."""

        def changed(keys: frozenset[str]) -> None:
            del keys
            self._apply()

        end_watch = self.settings.watch(changed)
        try:
            async with trio.open_nursery() as self._nursery:
                self._apply()
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._scopes.clear()
            end_watch()

    def _apply(self) -> None:
        wanted = {one.name.casefold(): one for one in self._configured() if one.enabled}
        for key in [key for key in self._scopes if key not in wanted]:
            self._scopes.pop(key).cancel()
            self._programs.pop(key).release()
        for key, one in wanted.items():
            program = self._programs.get(key)
            if program is None:
                program = FilterProgram(one, self._helpers, self._base, self.command, self._log, self._limit)
                self._programs[key] = program
            else:
                program.change(one)
            if key not in self._scopes and self._nursery is not None:
                self._scopes[key] = trio.CancelScope()
                self._nursery.start_soon(self._keep, program, self._scopes[key])

    @staticmethod
    async def _keep(program: FilterProgram, scope: trio.CancelScope) -> None:
        with scope:
            await program.run()

    # -- a message ----------------------------------------------------------------------------------------------------

    async def ask(self, name: str, message: QueuedMessage, added: bytes = b"") -> FilterAnswer:
        """What the filter of that name, or with "" all of them in their order, say: `accept` with the header lines of all,
        or the first `discard` or `reject`. Waits as long as it takes; a filter that is off accepts everything. `added`: header
        lines of rules that came before; they stand in the envelope part of the message file if it is made now."""
        if not self._enabled(name):
            return ACCEPT
        header = b""
        passed: set[str] = set()
        delay = self._delays[0]
        self._asked.add()
        with self.outside():
            # The list is read anew each time, because it can change while the message waits.
            while left := [one for one in self._enabled(name) if one.settings.name.casefold() not in passed]:
                if message.done:
                    break  # an administrator has rejected it meanwhile
                program = left[0]
                answer = await self._show(program, message, added + header)
                if answer.action == "postpone":
                    self._postponed.add()
                    program.log.problem("[%d] is put off for %g s: %s", message.id, delay, answer.text)
                    await trio.sleep(delay)
                    delay = min(delay * 2, self._delays[1])
                    continue
                program.log.low("[%d] %s: %s %s", message.id, program.settings.name, answer.action, answer.text)
                if answer.action != "accept":
                    self._refused.add()
                    return answer
                header += answer.added_header
                for address in answer.mirror:
                    await self._copy(program, message, address)
                passed.add(program.settings.name.casefold())
        return FilterAnswer("accept", added_header=header)

    async def _show(self, program: FilterProgram, message: QueuedMessage, added: bytes) -> FilterAnswer:
        while not message.done:
            try:
                path = await _file(message, added)
            except OSError as error:
                program.log.failure("[%d] has no file for the filter: %s", message.id, error)
                await trio.sleep(DISK_TROUBLE)
                continue
            return await program.ask(os.path.join("Queue", os.path.basename(path)))
        return ACCEPT

    async def _copy(self, program: FilterProgram, message: QueuedMessage, address: str) -> None:
        if self.mirror is None or message.source.module == COPIES:
            return  # a copy makes no copies
        while True:
            try:
                await self.mirror(message, address)
            except ValueError as error:
                program.log.failure("[%d] no copy to %s: %s", message.id, address, error)
            except (OSError, JournalError, NoSpace) as error:
                program.log.failure("[%d] no copy to %s now: %s", message.id, address, error)
                await trio.sleep(DISK_TROUBLE)
                continue
            else:
                program.log.low("[%d] copy to %s", message.id, address)
            return

    # -- administration -----------------------------------------------------------------------------------------------

    def status(self) -> list[dict[str, Value]]:
        """Each filter of the settings, and how its program is."""
        rows: list[dict[str, Value]] = []
        for one in self._configured():
            row: dict[str, Value] = {"Name": one.name, "Enabled": "YES" if one.enabled else "NO", "State": "off"}
            program = self._programs.get(one.name.casefold())
            if program is not None:
                helper = program.helper
                row["State"] = helper.state
                row["Starts"] = str(helper.starts)
                row["Answered"] = str(program.answered)
                row["Waiting"] = str(program.backlog)
                if helper.pid:
                    row["Process"] = str(helper.pid)
                if program.version is not None:
                    row["Interface"] = str(program.version)
                if helper.error:
                    row["Error"] = helper.error
            rows.append(row)
        return rows

    async def settled(self, *, start: bool = False) -> None:
        """Wait until each enabled program runs or cannot be started, a few seconds at most. With `start`, those that are down
        are started now."""
        with trio.move_on_after(_SETTLE):
            for program in list(self._programs.values()):
                if start and not program.helper.running:
                    program.helper.error = ""
                    program.helper.start()
                await program.helper.settled()

    def declare(self, operations: Operations) -> None:
        """The operations of the Helpers page."""

        @operations.declare(
            "ListHelpers",
            right=Right.SETTINGS,
            section="Helpers",
            summary="The external filters, and how their programs are.",
            result="array of dictionaries",
        )
        async def list_helpers(caller: Caller) -> Value:
            del caller
            return list(self.status())

        @operations.declare(
            "StartHelpers",
            right=Right.SETTINGS,
            section="Helpers",
            summary="Starts the programs of all external filters that are switched on and do not run.",
        )
        async def start_helpers(caller: Caller) -> None:
            del caller
            await self.settled(start=True)

        @operations.declare(
            "RestartHelper helperName",
            right=Right.SETTINGS,
            section="Helpers",
            summary="Ends the program of an external filter if it runs, and starts it.",
        )
        async def restart_helper(caller: Caller, helper_name: str) -> None:
            del caller
            program = self._programs.get(helper_name.strip().casefold())
            if program is None:
                raise OperationError("there is no such filter, or it is switched off")
            program.helper.error = ""
            program.restart()
            await trio.lowlevel.checkpoint()
            with trio.move_on_after(_SETTLE):
                await program.helper.settled()
            if program.helper.error:
                raise OperationError(program.helper.error)


async def _file(message: QueuedMessage, added: bytes) -> str:
    """The message file; if it is made now, with these header lines in its envelope part. They are not the message's yet."""
    before = message.added_header
    message.added_header = before + added
    try:
        return await message.file()
    finally:
        message.added_header = before
