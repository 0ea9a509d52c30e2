"""The External Authenticator: a program of the site that knows passwords and names (manual, chapter 8, External Authentication).

It is kept running and asked by numbered lines; many requests are with it at a time, and answers come in any order:

    VRFY [(mode)] name@domain password                is this the password?
    SASL(method) [(mode)] name@domain answer key      is this the right answer to the challenge?
    NEW name@domain                                   nobody knows this name: will you make it?

What it had when it ended goes to its successor. A program that does not answer in time is ended. Who asks waits for a while and
then goes away without an answer, so a broken program delays a log-in, but never holds it for ever.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from appliance.kernel.helper_settings import Restart
from appliance.kernel.helpers import HelperError, Helpers, split_command
from appliance.kernel.log import Logger
from appliance.kernel.settings import LogLevel, Setting, Settings, Text, Time, YesNo
from appliance.kernel.tasks import TaskStatus
from appliance.protocols.helper import Answer, HelperConversation, Remark

__all__ = ["EXTERNAL_SETTINGS", "Authenticator", "ExternalAuthenticator"]

TAG: Final = "EXTAUTH"
INTERFACE: Final = 1
"""The version that the server speaks; programs of version 0 are not told the mode."""
_PANEL: Final = "External Authentication"
_LIMIT: Final = 1000
"""Requests that may wait; the next one goes away at once."""
_NOISE: Final = 1 << 20
"""Octets without an answer, after which the program is ended."""

ENABLED = Setting("ExternalAuthenticator", YesNo(), False, "External Authentication", _PANEL)
LOG_LEVEL = Setting("ExternalAuthenticatorLog", LogLevel(), 3, "Log", _PANEL)
PATH = Setting("ExternalAuthenticatorPath", Text(limit=4096), "", "Program Path", _PANEL)
TIMEOUT = Setting("ExternalAuthenticatorTimeOut", Time(1, 3600), 30, "Time-out", _PANEL)
RESTART = Setting("ExternalAuthenticatorRestart", Restart(), 15, "Auto-Restart", _PANEL)
EXTERNAL_SETTINGS = (ENABLED, LOG_LEVEL, PATH, TIMEOUT, RESTART)


class Authenticator(Protocol):
    """What log-ins and the router ask. None: there is no answer for now."""

    @property
    def enabled(self) -> bool: ...

    async def verify(self, name: str, password: str, mode: str = "") -> bool | None: ...
    async def proves(self, method: str, name: str, answer: str, key: str, mode: str = "") -> bool | None: ...
    async def make(self, name: str) -> bool | None: ...


class _Request:
    __slots__ = ("done", "mode", "name", "number", "right", "secret", "sent", "verb")

    def __init__(self, verb: str, mode: str, name: str, secret: str) -> None:
        self.verb = verb
        self.mode = mode
        self.name = name
        self.secret = secret
        self.number = 0
        self.sent = math.inf
        self.right: bool | None = None
        self.done = trio.Event()

    def text(self, version: int) -> str:
        mode = f" ({self.mode})" if self.mode and version >= 1 else ""
        return f"{self.verb}{mode} {self.name}" + (f" {self.secret}" if self.secret else "")


class ExternalAuthenticator:
    """`settings` has EXTERNAL_SETTINGS; the program starts in `directory`. `run` is a component."""

    def __init__(self, settings: Settings, helpers: Helpers, directory: str, log: Logger) -> None:
        self.settings = settings
        self.log = log
        self._conversation = HelperConversation(INTERFACE)
        self._waiting: list[_Request] = []
        self._sent: dict[int, _Request] = {}
        self._noise = 0
        self._look = trio.Event()
        self._changed = trio.Event()
        self.helper = helpers.helper(
            TAG,
            self._command,
            log,
            self._received,
            started=self._started,
            ended=self._ended,
            directory=directory,
            pause=lambda: settings[RESTART],
            raw=True,
        )

    @property
    def enabled(self) -> bool:
        """Whether it is switched on."""
        return self.settings[ENABLED] and bool(self.settings[PATH])

    # -- questions ----------------------------------------------------------------------------------------------------

    async def verify(self, name: str, password: str, mode: str = "") -> bool | None:
        """Whether this is the password of `name` (`user@domain`). `mode` is the service, empty for none."""
        return await self._ask(_Request("VRFY", mode, name, password))

    async def proves(self, method: str, name: str, answer: str, key: str, mode: str = "") -> bool | None:
        """Whether the answer to the challenge `key` was made with the right password."""
        return await self._ask(_Request(f"SASL({method})", mode, name, f"{answer} {key}"))

    async def make(self, name: str) -> bool | None:
        """Whether the program has made something of this name."""
        return await self._ask(_Request("NEW", "", name, ""))

    async def _ask(self, request: _Request) -> bool | None:
        if not self.enabled:
            return False
        if len(self._waiting) + len(self._sent) >= _LIMIT:
            return None
        if any(sign in request.name + request.secret for sign in "\r\n\0") or " " in request.name:
            return False
        self._waiting.append(request)
        self._pump()
        restart = self.settings[RESTART] or 0
        try:
            with trio.move_on_after(2 * self.settings[TIMEOUT] + restart):
                await request.done.wait()
        finally:
            if not request.done.is_set():
                self._forget(request)
        return request.right

    def _forget(self, request: _Request) -> None:
        if request in self._waiting:
            self._waiting.remove(request)
        if self._sent.pop(request.number, None) is not None:
            self._conversation.forget(request.number)

    # -- the program --------------------------------------------------------------------------------------------------

    def _command(self) -> Sequence[str]:
        try:
            return split_command(self.settings[PATH])
        except ValueError as error:
            raise HelperError(f"the program path is not a command: {error}") from None

    def _pump(self) -> None:
        """Send what waits, as soon as the program has told its version."""
        version = self._conversation.agreed
        while self._waiting and self.helper.running and version is not None:
            request = self._waiting[0]
            number, line = self._conversation.ask(request.text(version))
            try:
                self.helper.send(line)
            except HelperError:
                self._conversation.forget(number)
                return  # it does not read; an answer or a new program starts this again
            self._waiting.pop(0)
            request.number = number
            request.sent = trio.current_time()
            self._sent[number] = request
            self._look.set()
            self.log.all("%05d %s %s%s", number, request.verb, request.name, " ***" if request.secret else "")

    def _started(self) -> None:
        self._noise = 0
        self.helper.send(self._conversation.hello())

    def _received(self, data: bytes) -> None:
        self._noise += len(data)
        for event in self._conversation.receive(data):
            if isinstance(event, Answer) and event.number in self._sent:
                self._answered(event)
            elif isinstance(event, Remark):
                self.log.low("* %s", event.text)
            else:
                self.log.problem("not asked for: %s", str(event)[:200])
        if self._noise > _NOISE:
            self.log.failure("the program talks without answering, it is ended")
            self._noise = 0
            self.helper.terminate()
        self._pump()

    def _answered(self, event: Answer) -> None:
        request = self._sent.pop(event.number)
        self._conversation.forget(event.number)
        self._noise = 0
        self.log.all("%05d %s %s", event.number, event.word, event.rest)
        if event.word not in ("OK", "ERROR"):
            self.log.problem("%05d %s is no answer", event.number, event.word)
        elif event.word == "ERROR":
            self.log.problem("%s refused: %s", request.name, event.rest)
        request.right = event.word == "OK"
        request.done.set()

    def _ended(self) -> None:
        for number, request in sorted(self._sent.items(), reverse=True):
            self._conversation.forget(number)
            request.sent = math.inf
            self._waiting.insert(0, request)
        self._sent.clear()

    # -- the component ------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the program running while it is switched on, until cancelled."""
        task_status.started()
        end_watch = self.settings.watch(self._follow)
        try:
            while True:
                self._changed = trio.Event()
                if self.enabled:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self.helper.run)
                        nursery.start_soon(self._watch)
                        await self._changed.wait()
                        nursery.cancel_scope.cancel()
                    self._release()
                else:
                    self._release()
                    await self._changed.wait()
        finally:
            end_watch()

    def _follow(self, keys: frozenset[str]) -> None:
        if keys & {ENABLED.key, PATH.key}:
            self._changed.set()
        elif keys & {setting.key for setting in EXTERNAL_SETTINGS}:
            self.helper.start()

    def _release(self) -> None:
        """Nobody waits for a program that is switched off."""
        for request in (*self._waiting, *self._sent.values()):
            request.done.set()
        for number in self._sent:
            self._conversation.forget(number)
        self._waiting.clear()
        self._sent.clear()

    async def _watch(self) -> None:
        while True:
            oldest = min((request.sent for request in self._sent.values()), default=math.inf)
            self._look = trio.Event()
            with trio.move_on_at(oldest + self.settings[TIMEOUT]):
                await self._look.wait()
                continue
            if self.helper.running:
                self.log.problem("no answer in %d s, the program is ended", self.settings[TIMEOUT])
                self.helper.terminate()
            await trio.sleep(0.1)
