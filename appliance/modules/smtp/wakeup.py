"""Wake-ups: we ask the server that keeps mail for us to send it (manual, chapter 29, Waking up the Backup Server).

With ETRN (RFC 1985) it opens connections to us; with ATRN (RFC 2645) the roles are turned on the connection that we have
made, so that mail comes in although nobody can call us. Wake-ups wait for the schedule, those that are asked for by hand do
not. There is one at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from appliance.formats.data import Value
from appliance.kernel.channel import Channel, ChannelError
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.sessions import Session, Sessions
from appliance.kernel.statistics import Statistics
from appliance.kernel.tasks import TaskStatus
from appliance.modules.smtp.connecting import Connector, Login, Unreachable
from appliance.modules.smtp.dialogue import Dialogue, Disconnected
from appliance.modules.smtp.hosts import Host, Plan
from appliance.modules.smtp.names import Names, Unresolved
from appliance.modules.smtp.sending import Line
from appliance.modules.smtp.settings import (
    ATRN_NAME,
    ATRN_PASSWORD,
    USE_ATRN,
    WAKEUP_DOMAINS,
    WAKEUP_HOST,
    WAKEUP_PERIOD,
)

TAG: Final = "SMTPW"
#: RFC 2645, 5.1: CRAM-MD5 is what each server of this kind knows; the manual names LOGIN as the other one.
METHODS: Final = ("CRAM-MD5", "LOGIN", "PLAIN")
#: The answer of a server that has nothing for us (RFC 2645, 5.2.1).
NO_MAIL: Final = 453

_LEAST: Final = 10.0
#: Seconds to the next try after a failure, and how often it is so soon.
_SOONER: Final = 60.0
_TRIES: Final = 3
_MOST_DOMAINS: Final = 100
_SECTION: Final = "SMTP"

Receive = Callable[[Channel, Logger], Awaitable[None]]
"""Be the server on a connection that we have made."""


@dataclass(frozen=True, slots=True)
class LastWakeup:
    """How the last one went: a wall time, the host, and what came of it."""

    time: float
    host: str
    good: bool
    text: str


class WakeupClient:
    """`receive` takes the mail after ATRN; `domains()` are the names of our domains, the main one first; `names` answers which
    hosts take their mail."""

    def __init__(
        self,
        connector: Connector,
        names: Names,
        receive: Receive,
        domains: Callable[[], Sequence[str]],
        line: Line,
        sessions: Sessions,
        log: Logger,
        clock: Clock,
        statistics: Statistics,
    ) -> None:
        self.settings = connector.settings
        self.last: LastWakeup | None = None
        """How the last one went, None before the first."""
        self._connector = connector
        self._names = names
        self._receive = receive
        self._domains = domains
        self._line = line
        self._sessions = sessions
        self._log = log
        self._clock = clock
        self._done = statistics.counter("smtp.wakeups", "wake-up sessions that came to their end")
        self._failed = statistics.counter("smtp.wakeups.failed", "wake-up sessions that failed")
        self._nursery: trio.Nursery | None = None
        self._changed = trio.Event()
        self._connected = False
        self._begun = 0.0
        self._failures = 0

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Wake the host up at the period of the settings, beginning now; a component."""
        end = self.settings.watch(self._look)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                while True:
                    self._changed = trio.Event()
                    period = self.settings[WAKEUP_PERIOD]
                    if period and self.settings[WAKEUP_HOST].strip():
                        await self.wake()
                        left = self._begun + max(_LEAST, self._pause(period)) - trio.current_time()
                    else:
                        left = float("inf")
                    with trio.move_on_after(max(0.0, left)):
                        await self._changed.wait()
        finally:
            self._nursery = None
            end()

    def _pause(self, period: int) -> float:
        """Seconds to the next one: after a failure it may be sooner, because the line may just be coming up."""
        if self.last is None or self.last.good:
            self._failures = 0
            return period
        self._failures += 1
        return min(period, _SOONER) if self._failures <= _TRIES else period

    def _look(self, keys: frozenset[str]) -> None:
        if keys & {WAKEUP_PERIOD.key, WAKEUP_HOST.key}:
            self._changed.set()

    def now(self) -> bool:
        """Begin one at once, whatever the schedule says (Wake Up Now). False if one is under way.

        ValueError if there is no host to be woken up.
        """
        if not self.settings[WAKEUP_HOST].strip():
            raise ValueError("there is no host to wake up")
        if self._nursery is None or self._connected:
            return False
        self._nursery.start_soon(self._by_hand)
        return True

    async def _by_hand(self) -> None:
        await self.wake(override=True)

    # -- a session ----------------------------------------------------------------------------------------------------

    async def wake(self, *, override: bool = False) -> None:
        """One wake-up session; how it went stands in `last` and in the log."""
        text = self.settings[WAKEUP_HOST].strip().lower()
        session = self._sessions.open(TAG, text, self._clock.now())
        log = self._log.session(session.number, text)
        try:
            with session.scope:
                session.state = "waits for the schedule"
                async with self._line.session(TAG, override=override):
                    if self._connected:
                        return  # one by hand, while this one waited
                    text = self.settings[WAKEUP_HOST].strip().lower()  # it may have been changed meanwhile
                    self._connected, self._begun = True, trio.current_time()
                    try:
                        await self._session(text, session, log)
                    finally:
                        self._connected = False
            if session.kicked:
                self._ended(text, log, session.reason)
        except Exception as error:  # one that crashes must not end those to come
            log.record(0, "failed: %r", error)
            self._ended(text, log, "internal error")
        finally:
            self._sessions.close(session)

    def _ended(self, host: str, log: Logger, failure: str = "", text: str = "") -> None:
        self.last = LastWakeup(self._clock.now(), host, not failure, failure or text)
        if failure:
            self._failed.add()
            log.problem("wake-up failed: %s", failure)
        else:
            self._done.add()
            log.major("wake-up: %s", text)

    async def _session(self, text: str, session: Session, log: Logger) -> None:
        try:
            hosts = self._connector.finder.called(text).hosts
        except ValueError as error:
            self._ended(text, log, str(error))
            return
        failure = ""
        for host in hosts:
            session.address, session.state = host.name, "connecting"
            try:
                result = await self._call(host, session, log)
            except (Unreachable, Unresolved, Disconnected, ChannelError, _No) as error:
                failure = str(error)
                log.problem("%s: %s", host.name, failure)
                continue
            self._ended(host.name, log, text=result)
            return
        self._ended(text, log, failure or "there is no host")

    async def _call(self, host: Host, session: Session, log: Logger) -> str:
        """Wake one host up, and tell how it went. Raises what ends the attempt."""
        turned = self.settings[USE_ATRN]
        login = Login(self.settings[ATRN_NAME], self.settings[ATRN_PASSWORD], METHODS) if turned else None
        dialogue, channel, _ = await self._connector.open(host.name, Plan((host,)), log, login)
        channel.session = session
        try:
            if turned:
                return await self._turn(dialogue, channel, session, log)
            return await self._start(dialogue, host, session, log)
        finally:
            channel.close()

    async def _start(self, dialogue: Dialogue, host: Host, session: Session, log: Logger) -> str:
        """ETRN for each domain."""
        session.state = "asking"
        good, bad = list[str](), list[str]()
        for domain in await self._wanted(host, log):
            reply = await dialogue.etrn(domain)
            (good if reply.positive else bad).append(f"{domain}: {reply}")
            log.low("ETRN %s: %s", domain, reply)
        await dialogue.quit()
        if not good:
            raise _No("; ".join(bad[:5]) or "there is no domain to ask for")
        return "; ".join((good + bad)[:5])

    async def _wanted(self, host: Host, log: Logger) -> Sequence[str]:
        """The domains of the setting; else the main domain, and those whose MX records name the host."""
        if listed := self.settings[WAKEUP_DOMAINS]:
            return listed
        main, *others = self._domains()
        found = [main]
        if host.addresses:
            return found  # an address stands in no MX record: nothing to ask the DNS for
        for domain in others[:_MOST_DOMAINS]:
            try:
                exchangers = await self._names.exchangers(domain)
            except Unresolved as error:
                log.low("%s: %s", domain, error)
                continue
            if any(one.name.lower().rstrip(".") == host.name.rstrip(".") for one in exchangers):
                found.append(domain)
        return found

    async def _turn(self, dialogue: Dialogue, channel: Channel, session: Session, log: Logger) -> str:
        """ATRN, and the mail."""
        session.state = "asking"
        domains = self.settings[WAKEUP_DOMAINS]
        reply = await dialogue.atrn(domains)
        if reply.code == NO_MAIL:
            await dialogue.quit()
            return f"no mail waits: {reply}"
        if not reply.positive:
            await dialogue.quit()
            raise _No(f"ATRN: {reply}")
        log.major("the roles are turned: %s", reply)
        session.state = "receiving"
        await self._receive(channel, log)
        return "the roles were turned, and the other side has sent its mail"

    # -- administration -----------------------------------------------------------------------------------------------

    def declare(self, operations: Operations) -> None:
        """Declare the operations: start a wake-up, and see how the last one went."""

        @operations.declare(
            "WakeUpNow",
            right=Right.SETTINGS,
            section=_SECTION,
            summary="Asks the server that keeps mail for us to send it, whatever the schedule says.",
        )
        async def wake_up_now(caller: Caller) -> None:
            self._log.low("asked for by %s", caller.account or "the server")
            try:
                if not self.now():
                    raise OperationError("a wake-up session is under way")
            except ValueError as error:
                raise OperationError(str(error)) from None

        @operations.declare(
            "GetWakeUpStatus",
            right=Right.MONITOR,
            section=_SECTION,
            summary="Shows how the last wake-up session went.",
            result="A dictionary: Host, Running, and after the first one Time, Good, Text.",
        )
        async def status(caller: Caller) -> Value | None:
            del caller
            answer: dict[str, Value] = {
                "Host": self.settings[WAKEUP_HOST],
                "Running": "YES" if self._connected else "NO",
            }
            if self.last is not None:
                answer["Time"] = str(int(self.last.time))
                answer["Good"] = "YES" if self.last.good else "NO"
                answer["Text"] = self.last.text
            return answer


class _No(Exception):
    """The host does not do what it is asked for."""
