"""The PIPE module in one piece: the Submitted folder, delivery to programs, the Foreign Queue by hand (manual, chapter 33)."""

from __future__ import annotations

import os.path
from collections.abc import Callable
from typing import Final

import trio

from appliance.formats.data import Value
from appliance.kernel.clock import Clock
from appliance.kernel.disk import Disk
from appliance.kernel.files import Files
from appliance.kernel.helpers import Helpers
from appliance.kernel.journal import JournalError
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.tasks import TaskStatus
from appliance.modules.pipe.folder import BAD, SUBMIT, SubmittedFolder
from appliance.modules.pipe.programs import PipeDelivery
from appliance.modules.pipe.routing import MODULE
from appliance.modules.pipe.settings import PERIOD, TEXTS
from appliance.transfer.spool import NoSpace
from appliance.transfer.transfer import Transfer

__all__ = ["PipeModule"]

_MAX_LISTED: Final = 1000
_REASON: Final = 400


class PipeModule:
    """`attach` registers it with the queues, `recover` comes before `transfer.start`, `run` is a component."""

    def __init__(
        self,
        settings: Settings,
        disk: Disk,
        base: str,
        helpers: Helpers,
        transfer: Transfer,
        clock: Clock,
        log: Logger,
        strings: Strings,
        statistics: Statistics,
        host: Callable[[], str],
    ) -> None:
        strings.declare_all(TEXTS)
        self.folder = SubmittedFolder(disk, base, transfer, clock, log, host)
        self.delivery = PipeDelivery(disk, settings, helpers, base, strings, log, statistics)
        self._settings = settings
        self._disk = disk
        self._transfer = transfer
        self._log = log
        self._changed = trio.Event()
        self._lock = trio.Lock()
        statistics.gauge("pipe.submitted", lambda: self.folder.taken, "messages taken from the Submitted folder")

    def attach(self) -> None:
        """Register with the queues, and follow the settings."""

        def changed(keys: frozenset[str]) -> None:
            del keys
            self._transfer.queues.reconsider(MODULE)
            self._changed.set()

        self._transfer.modules[MODULE] = self.delivery
        self._settings.watch(changed)

    async def recover(self) -> None:
        """Finish what a crash has interrupted in the Submitted folder."""
        await self.folder.recover(self._transfer.recovery.knows)

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Look into the Submitted folder every now and then."""
        task_status.started()
        while True:
            await self._scan()
            self._changed = trio.Event()
            with trio.move_on_after(self._settings[PERIOD]):
                await self._changed.wait()

    async def _scan(self) -> int:
        async with self._lock:
            try:
                return await self.folder.scan()
            except (OSError, JournalError, NoSpace) as error:
                self._log.problem("the Submitted folder is not processed now: %s", error)
                return 0

    async def _waiting_files(self) -> dict[str, Value]:
        names = await self._disk.run(_names, self.folder.directory)
        bad: list[Value] = []
        for name in sorted(name for name in names if name.endswith(BAD))[:_MAX_LISTED]:
            reason = await self._disk.run(_reason, os.path.join(self.folder.directory, f"{name}.txt"))
            bad.append({"Name": name, "Reason": reason.decode("utf-8", "replace").strip()})
        return {"Waiting": str(sum(name.endswith(SUBMIT) for name in names)), "Bad": bad}

    def declare(self, operations: Operations) -> None:
        """The operations of the PIPE monitor."""
        transfer = self._transfer

        @operations.declare(
            "GetPipeStatus",
            right=Right.MONITOR,
            section="Queues",
            summary="Programs that run, files of the Submitted folder, and the Foreign Queue.",
            result="dictionary",
        )
        async def get_pipe_status(caller: Caller) -> Value:
            del caller
            running: list[Value] = [
                {"ID": str(message.id), "Program": program} for message, program in self.delivery.running.values()
            ]
            foreign = await self._disk.run(_names, transfer.foreign.directory)
            return {
                "Running": running,
                "Submitted": await self._waiting_files(),
                "ForeignQueue": str(sum(name.endswith((".msg", ".jnl")) for name in foreign)),
            }

        @operations.declare(
            "CheckSubmitted",
            right=Right.RELEASE_QUEUES,
            section="Queues",
            summary="Submits the files of the Submitted folder now.",
            result="number of messages",
        )
        async def check_submitted(caller: Caller) -> Value:
            del caller
            return str(await self._scan())

        @operations.declare(
            "ResubmitFile fileName",
            right=Right.RELEASE_QUEUES,
            section="Queues",
            summary="Submits a file again that was kept as .bad in the Submitted folder.",
            result="number of messages",
        )
        async def resubmit_file(caller: Caller, file_name: str) -> Value:
            del caller
            if not await self.folder.submit_again(file_name):
                raise OperationError("there is no such file")
            return str(await self._scan())

        @operations.declare(
            "RemoveSubmittedFile fileName",
            right=Right.REJECT_QUEUES,
            section="Queues",
            summary="Removes a file that was kept as .bad in the Submitted folder.",
        )
        async def remove_submitted_file(caller: Caller, file_name: str) -> None:
            if not await self.folder.remove(file_name):
                raise OperationError("there is no such file")
            self._log.major("%s was removed by %s", file_name, caller.account or "the server")

        @operations.declare(
            "CheckForeignQueue",
            right=Right.RELEASE_QUEUES,
            section="Queues",
            summary="Takes in the Foreign Queue now: the Queue directory of another server, under the name ForeignQueue.",
            result="number of messages",
        )
        async def check_foreign_queue(caller: Caller) -> Value:
            try:
                count = await transfer.foreign.scan()
            except JournalError as error:
                raise OperationError(str(error)) from None
            self._log.major("%d messages taken from the Foreign Queue for %s", count, caller.account or "the server")
            return str(count)


def _names(files: Files, directory: str) -> list[str]:
    try:
        return files.listdir(directory)
    except FileNotFoundError:
        return []


def _reason(files: Files, path: str) -> bytes:
    try:
        return files.read_bytes(path, _REASON)
    except OSError:
        return b""
