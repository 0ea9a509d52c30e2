"""Delivery to programs: each recipient is one run of a program (manual, chapter 33, Delivering to External Applications).

The message is the program's input, all of which it has to read; with [FILE] it gets the name of the message file instead. A
delivery fails if the program ends with a code, writes to its error output, or takes too long; what it has written there goes to
the sender. A crash can repeat a run, never leave one out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from typing import Final

from appliance.formats.headers import first_fields
from appliance.kernel.disk import Disk
from appliance.kernel.files import Files
from appliance.kernel.helpers import Finished, HelperError, Helpers, TooSlow
from appliance.kernel.log import Logger
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.modules.pipe.addressing import PipeAddress, parse_pipe
from appliance.modules.pipe.settings import DIRECTORY, OS_USER, PROCESSES, RETRY, TIME_LIMIT
from appliance.transfer.message import Kind, Outcome, QueuedMessage, Recipient
from appliance.transfer.queues import ModuleQueue, QueueEntry

__all__ = ["PipeDelivery"]

TROUBLE: Final = 60.0
"""Seconds until a delivery is tried again that the system did not allow now."""
KEEP: Final = 3 * 86400
"""Seconds after which a recipient fails whose program asks for another try again and again."""
TEMPORARY: Final = 75
"""The exit code of a temporary failure (EX_TEMPFAIL of sysexits)."""
MAX_ERRORS: Final = 4096
"""Octets of error output that a report tells."""
_HEADER: Final = 64 << 10
_LATER: Final = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY)


class PipeDelivery:
    """The delivery module PIPE, as the queues see it."""

    def __init__(
        self,
        disk: Disk,
        settings: Settings,
        helpers: Helpers,
        base: str,
        strings: Strings,
        log: Logger,
        statistics: Statistics,
    ) -> None:
        self.running: dict[int, tuple[QueuedMessage, str]] = {}
        """Programs that run now: their message, and what they were called with."""
        self._disk = disk
        self._settings = settings
        self._helpers = helpers
        self._base = base
        self._strings = strings
        self._log = log
        self._serial = 0
        self._runs = statistics.counter("pipe.delivered", "messages given to programs")
        self._failures = statistics.counter("pipe.failed", "deliveries to programs that failed")

    def concurrency(self) -> int:
        """How many programs run at the same time."""
        return self._settings[PROCESSES]

    def keep(self, host: str) -> int | None:
        """Seconds that a recipient is tried."""
        del host
        return KEEP

    async def process(self, queue: ModuleQueue) -> None:
        async for entry in queue:
            for recipient in entry.recipients:
                await self._deliver(entry, recipient)

    async def _deliver(self, entry: QueueEntry, recipient: Recipient) -> None:
        assert recipient.route is not None
        message = entry.message
        directory = self._settings[DIRECTORY].strip()
        if await _is_answer(message, recipient):
            self._fail(entry, recipient, "5.7.1", self._strings.text("PipeNotDirect"))
            return
        try:
            wanted = parse_pipe(recipient.route.address)
        except ValueError as error:
            self._fail(entry, recipient, "5.1.3", str(error))
            return
        if not directory:
            self._fail(entry, recipient, "5.7.1", self._strings.text("PipeSwitchedOff"))
            return
        try:
            arguments = await self._arguments(wanted, directory, message, recipient)
            if arguments is None:
                self._fail(entry, recipient, "5.3.5", self._strings.text("PipeNoProgram"))
                return
            self._serial += 1
            serial = self._serial
            self.running[serial] = message, wanted.program
            try:
                done = await self._run(arguments, message, stdin="FILE" not in wanted.tags)
            finally:
                del self.running[serial]
        except HelperError as error:
            self._not_run(entry, recipient, error)
        except OSError as error:
            self._log.failure("[%d] %s: %s", message.id, wanted.program, error)
            entry.delay(recipient, TROUBLE, str(error.strerror or error))
        else:
            self._judge(entry, recipient, wanted, done)

    async def _arguments(
        self, wanted: PipeAddress, directory: str, message: QueuedMessage, recipient: Recipient
    ) -> list[str] | None:
        """The command; None if there is no such program. The flags stand in the manual's order: -f, -p, -r."""
        program = os.path.join(self._base, directory, wanted.program)
        if not await self._disk.run(_is_program, program):
            return None
        arguments = [program, *wanted.arguments]
        if "FILE" in wanted.tags:
            arguments += ["-f", os.path.join("Queue", os.path.basename(await message.file()))]
        if "RETPATH" in wanted.tags:
            arguments += ["-p", message.sender]
        if "RCPT" in wanted.tags:
            kind, _, original = recipient.orcpt.partition(";")
            arguments += ["-r", original if kind.strip().lower() == "rfc822" and original else recipient.address]
        return arguments

    async def _run(self, arguments: list[str], message: QueuedMessage, *, stdin: bool) -> Finished:
        self._log.low("[%d] starts %s", message.id, " ".join(arguments))
        return await self._helpers.execute(
            arguments,
            input=_content(message) if stdin else None,
            timeout=self._settings[TIME_LIMIT],
            limit=MAX_ERRORS,
            directory=self._base,
            user=self._settings[OS_USER].strip() or None,
            cut=True,
            discard=True,
        )

    # -- results ------------------------------------------------------------------------------------------------------

    def _judge(self, entry: QueueEntry, recipient: Recipient, wanted: PipeAddress, done: Finished) -> None:
        number, retry = entry.message.id, self._settings[RETRY]
        errors = done.errors.decode("utf-8", "replace").replace("\0", "").strip()
        if errors:
            self._log.problem("[%d] %s: %s", number, wanted.program, errors)
        if done.code == TEMPORARY and retry:
            self._log.low("[%d] %s asks for another try", number, wanted.program)
            entry.delay(recipient, retry, errors or self._strings.text("PipeFailed"))
        elif done.code or errors:
            self._log.problem("[%d] %s has ended with code %d", number, wanted.program, done.code)
            failed = self._strings.text("PipeFailed")
            if errors:
                failed = errors if "STDERR" in wanted.tags else f"{failed}\n{errors}"
            self._fail(entry, recipient, "5.3.0", failed)
        elif not done.took_all:
            self._fail(entry, recipient, "5.3.0", self._strings.text("PipeNotRead"))
        else:
            self._runs.add()
            self._log.low("[%d] given to %s", number, wanted.program)
            entry.finish(recipient, Outcome(Kind.DELIVERED, "2.0.0", self._strings.text("PipeDelivered")))

    def _not_run(self, entry: QueueEntry, recipient: Recipient, error: HelperError) -> None:
        self._log.failure("[%d] %s", entry.message.id, error)
        if error.errno in _LATER:
            entry.delay(recipient, TROUBLE, str(error))
        elif isinstance(error, TooSlow):
            self._fail(entry, recipient, "5.3.0", self._strings.text("PipeTooSlow"))
        else:
            self._fail(entry, recipient, "5.3.0", self._strings.text("PipeFailed"))

    def _fail(self, entry: QueueEntry, recipient: Recipient, code: str, text: str) -> None:
        self._failures.add()
        entry.finish(recipient, Outcome(Kind.FAILED, code, text))


async def _is_answer(message: QueuedMessage, recipient: Recipient) -> bool:
    """Whether the address may be one that a stranger has put into a message, so that an answer would start his program: it
    leads to the program by itself, and the message is a report, an automatic reply, or one that was collected."""
    assert recipient.route is not None
    if recipient.route.relay:
        return False  # a record of the Router or a forwarder has chosen the program
    if message.source.module in ("DEQUEUER", "RPOP"):
        return True
    if message.source.module not in ("LOCAL", "ENQUEUER"):
        return False
    data = await message.head(_HEADER)
    return first_fields(data).get(b"x-autogenerated", b"").strip().lower() == b"reply"


async def _content(message: QueuedMessage) -> AsyncIterator[bytes]:
    """Header and body as they are now, with what rules have put on."""
    if message.added_header:
        yield message.added_header
    async for piece in message.chunks():
        yield piece


def _is_program(files: Files, path: str) -> bool:
    """A regular file that may be run. (An administrator's own links in the directory count.)"""
    return files.exists(path) and os.path.isfile(path) and os.access(path, os.X_OK)
