"""The sending side: one queue for each host, its messages one after the other over one connection (manual, chapter 29).

What delays what: no connection delays the queue, a transfer that fails delays the message, a recipient that is refused for
now delays the recipient. Each for the retry interval, which depends on how long the message has waited. The transfer room
warns senders and gives messages up (`warn_after`, `keep`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final, Protocol

import trio

from appliance.formats.addresses import Path, split_address
from appliance.formats.wildcards import matches
from appliance.kernel.channel import Channel
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.sessions import Session, Sessions
from appliance.kernel.statistics import Statistics
from appliance.kernel.tasks import Pace, TaskStatus
from appliance.modules.smtp.connecting import Connector, Unreachable
from appliance.modules.smtp.dialogue import Answers, Dialogue, Disconnected, Sending
from appliance.modules.smtp.dialogue import Refused as Declined
from appliance.modules.smtp.hosts import dedicated_queue, split_queue
from appliance.modules.smtp.keeping import Keeper, Link
from appliance.modules.smtp.names import Unresolved
from appliance.modules.smtp.retries import retry_delay, warning_ages
from appliance.modules.smtp.routing import MODULE, WAKEUP_QUEUE, WAKEUP_USER
from appliance.modules.smtp.settings import (
    ADD_CHANNEL_AFTER,
    HOLD_DOMAINS,
    HOST_CHANNELS,
    KEEP_TRYING,
    RCPT_PORTION,
    SEND_CHANNELS,
    WARN_AFTER,
)
from appliance.modules.smtp.surroundings import Routing
from appliance.protocols.smtp import Reply
from appliance.router.route import Purpose, Refused, Route
from appliance.transfer.message import Kind, Outcome, QueuedMessage, Recipient
from appliance.transfer.queues import ModuleQueue, QueueEntry, Queues

TAG: Final = "SMTPO"

#: A queue that is longer gets all its channels at once.
_LONG_QUEUE: Final = 50
#: Connections that may break within one turn of a queue before it waits.
_MAX_BREAKS: Final = 3
_LOOK: Final = 5.0
#: Seconds that a queue waits whose session was ended from outside; short, because a shutdown does that too.
_KICKED: Final = 10.0
_LETTERS: Final = {"N": "NEVER", "S": "SUCCESS", "F": "FAILURE", "D": "DELAY"}


class Line(Protocol):
    """The schedule of outgoing traffic."""

    @property
    def unlimited(self) -> bool:
        """Traffic may go out at any time."""
        ...

    def window_open(self) -> bool:
        """The time of day allows traffic."""
        ...

    def session(self, kind: str, *, override: bool = False) -> AbstractAsyncContextManager[None]: ...


def _any_address(domain: str, received: str) -> str:
    return ""


class SmtpSender:
    """The delivery module SMTP; `attach` registers it. `sending_address(domain, received)` is the local address that a
    domain's mail goes out from, empty for any; `received` is the one on which the message came in."""

    def __init__(
        self,
        connector: Connector,
        router: Routing,
        line: Line,
        sessions: Sessions,
        log: Logger,
        clock: Clock,
        statistics: Statistics,
        sending_address: Callable[[str, str], str] = _any_address,
    ) -> None:
        self.connector = connector
        self.router = router
        self.settings = connector.settings
        self._queues: Queues | None = None
        self._line = line
        self._sessions = sessions
        self._log = log
        self._clock = clock
        self._sending_address = sending_address
        self._keeper = Keeper(lambda: line.unlimited, self._room)
        self._open = 0
        #: The addresses that queues of their own have been made for.
        self._dedicated: set[str] = set()
        self._warn_words: Sequence[str] = ()
        self._warn_ages: tuple[int, ...] = ()
        self._active: dict[str, int] = {}
        self._progress: dict[str, float] = {}
        self._sent = statistics.counter("smtp.sent", "messages sent by SMTP")
        self._sent_bytes = statistics.counter("smtp.sent.bytes", "octets of messages sent by SMTP")
        self._sent_recipients = statistics.counter("smtp.sent.recipients", "recipients of messages sent by SMTP")
        self._failures = statistics.counter("smtp.unreachable", "hosts that could not be reached")

    def attach(self, queues: Queues) -> None:
        """Be the module SMTP of these queues."""
        self._queues = queues
        queues.modules[MODULE] = self

    def _of_host(self, host: str) -> list[ModuleQueue]:
        """The queues of a host that have mail, those for our dedicated addresses too."""
        if self._queues is None:
            return []
        names = (host, *(dedicated_queue(address, host) for address in self._dedicated))
        found = (self._queues.get(MODULE, name) for name in names)
        return [queue for queue in found if queue is not None and len(queue)]

    def release(self, host: str) -> bool:
        """Start the queues of a host, whatever holds them back; whether there was one (ETRN, RELEASESMTPQUEUE)."""
        found = self._of_host(host)
        for queue in found:
            queue.queues.release(MODULE, queue.host)
        return bool(found)

    def waiting(self, host: str) -> int:
        """How many messages wait for a host."""
        return sum(len(queue) for queue in self._of_host(host))

    def is_held(self, name: str) -> bool:
        """Hold Mail for Domains."""
        return any(matches(picture, name) for picture in self.settings[HOLD_DOMAINS])

    def _reconsider(self) -> None:
        if self._queues is not None:
            self._queues.reconsider(MODULE)

    def _backlog(self, host: str) -> int:
        queue = self._queues.get(MODULE, host) if self._queues is not None else None
        return queue.backlog() if queue is not None else 0

    # -- what the queues ask ------------------------------------------------------------------------------------------

    def concurrency(self) -> int:
        """Sending: Channels."""
        return self.settings[SEND_CHANNELS]

    def _room(self) -> int:
        """How many more connections may be open."""
        return self.settings[SEND_CHANNELS] - self._open - len(self._keeper)

    def channels(self, host: str) -> int:
        """Channels/Host: one; more for a long queue, or where none of those at work finished anything for some time."""
        limit, active = self.settings[HOST_CHANNELS], self._active.get(host, 0)
        if self._backlog(host) > _LONG_QUEUE:
            return limit
        quiet = trio.current_time() - self._progress.get(host, trio.current_time())
        if active and quiet >= self.settings[ADD_CHANNEL_AFTER]:
            return min(limit, active + 1)
        return max(1, min(limit, active))

    def holds(self, host: str) -> bool:
        """Hold Mail for Domains; what wakes a queue is no mail for it."""
        return not host.startswith(WAKEUP_QUEUE) and self.is_held(split_queue(host)[1])

    def place(self, message: QueuedMessage, route: Route) -> Route:
        """The queue of a dedicated address for mail of a domain that sends from one (manual, chapter 29)."""
        if route.host.startswith(WAKEUP_QUEUE):
            return route
        source, received = message.source, message.source.local_address
        owner = (source.account or message.sender).rpartition("@")[2]
        address = self._sending_address(owner, received) if owner else ""
        if not address:
            return route
        self._dedicated.add(address)
        return replace(route, host=dedicated_queue(address, route.host))

    def warn_after(self, host: str) -> Sequence[int]:
        """Send Warnings After."""
        words = self.settings[WARN_AFTER]
        if words != self._warn_words:
            self._warn_words, self._warn_ages = words, warning_ages(self.settings)
        return self._warn_ages

    def keep(self, host: str) -> int | None:
        """Keep Trying for; held mail too."""
        return self.settings[KEEP_TRYING]

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Look from time to time whether slow hosts get another channel, and at once when a setting changes."""
        end = self.settings.watch(self._changed)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._keeper.run)
                task_status.started()
                was_open = self._line.window_open()
                while True:
                    await trio.sleep(_LOOK)
                    is_open = self._line.window_open()
                    if is_open and not was_open:
                        await self._window_opens()
                    elif self._active:
                        self._reconsider()
                    was_open = is_open
        finally:
            end()

    async def _window_opens(self) -> None:
        """What waits because of an attempt in an earlier window is tried in this one, which may be short."""
        if self._queues is None:
            return
        self._log.low("a window of the schedule opens")
        step = Pace()
        for queue in self._queues.all(MODULE):
            if not queue.held and not queue.active:
                queue.clear_delays()
            await step.step()
        self._reconsider()

    def _changed(self, keys: frozenset[str]) -> None:
        self._keeper.clear()
        self._reconsider()

    # -- a queue's turn -----------------------------------------------------------------------------------------------

    async def process(self, queue: ModuleQueue) -> None:
        """Send what is due in a queue."""
        host = queue.host
        if host.startswith(WAKEUP_QUEUE):
            await self._wake(queue, host.removeprefix(WAKEUP_QUEUE))
            return
        session = self._sessions.open(TAG, host, self._clock.now())
        log = self._log.session(session.number, host)
        self._open += 1
        self._active[host] = self._active.get(host, 0) + 1
        self._progress.setdefault(host, trio.current_time())
        try:
            with session.scope:
                session.state = "waits for the schedule"
                async with self._line.session(TAG, override=queue.released):
                    for _ in range(_MAX_BREAKS):
                        if await self._visit(queue, session, log) or queue.next_due() != 0.0:
                            return
                    self._delay_queue(queue, "the connection breaks again and again", log)
            if session.kicked:
                log.low("ended: %s", session.reason)
                queue.delay(_KICKED, session.reason)
        finally:
            self._sessions.close(session)
            self._open -= 1
            self._active[host] -= 1
            if not self._active[host]:
                del self._active[host], self._progress[host]

    async def send_over(self, host: str, channel: Channel) -> None:
        """Send what waits for a host over a connection that it has made (ATRN). Raises nothing: what goes wrong is logged,
        and the mail that is left waits."""
        session = channel.session
        log = self._log.session(session.number if session is not None else 0, host)
        dialogue = Dialogue(channel, log)
        try:
            await dialogue.greet(self.connector.own_name())
            link = Link(dialogue, channel, channel.peer.address)
            for queue in self._of_host(host):
                async with queue.queues.session(MODULE, queue.host) as taken:
                    if taken is None or await self._empty(taken, link, session, log):
                        continue
                    return
            await dialogue.quit()
        except (Disconnected, Declined) as error:
            log.problem("the other side fails after the roles were turned: %s", error)

    async def _wake(self, queue: ModuleQueue, name: str) -> None:
        """Wake-up mail: it starts the queue that mail for the domain waits in, and is consumed."""
        async for entry in queue:
            try:
                route = await self.router.route(f"{WAKEUP_USER}@{name}", Purpose.WAKEUP)
            except Refused as refused:
                entry.finish(entry.recipients, Outcome(Kind.FAILED, refused.code, refused.text))
                continue
            started = route.module == MODULE and self.release(route.host)
            self._log.major("[%d] wake-up of %s: %s", entry.message.id, name, "started" if started else "nothing waits")
            entry.finish(entry.recipients, Outcome(Kind.DELIVERED, "2.1.5", "the queue is started"))

    async def _visit(self, queue: ModuleQueue, session: Session, log: Logger) -> bool:
        """One connection; whether the queue's turn is over."""
        try:
            link = self._keeper.take(queue.host)
            if link is None:
                session.state = "connecting"
                self._keeper.make_room()
                plan = await self.connector.finder.plan(queue.host)
                link = Link(*await self.connector.open(queue.host, plan, log))
        except Unresolved as error:
            await self._give_up(queue, str(error), error.code, log, final=not error.temporary)
            return True
        except Unreachable as error:
            self._failures.add()
            await self._give_up(queue, str(error), error.code, log, final=error.final)
            return True
        kept = False
        try:
            if not await self._empty(queue, link, session, log):
                return False
            kept = self._keeper.give(queue.host, link)
            if not kept:
                await link.dialogue.quit()
        finally:
            if not kept:
                link.channel.close()
        return True

    async def _empty(self, queue: ModuleQueue, link: Link, session: Session | None, log: Logger) -> bool:
        """Send what is due; whether the connection is still good."""
        if session is not None:
            session.state = "sending"
        async for entry in queue:
            if session is not None:
                session.busy = True  # a shutdown lets the transaction end, if it is a short one
            if not await self._send_entry(queue, entry, link, log):
                return False
            if session is not None:
                session.busy = False
        return True

    async def _give_up(self, queue: ModuleQueue, text: str, code: str, log: Logger, *, final: bool) -> None:
        if not final:
            self._delay_queue(queue, text, log)
            return
        log.problem("%s: %s", queue.host, text)
        outcome = Outcome(Kind.FAILED, "5" + code[1:], f"host {queue.host}: {text}", queue.host)
        async for entry in queue:
            entry.finish(entry.recipients, outcome)

    def _delay_queue(self, queue: ModuleQueue, text: str, log: Logger) -> None:
        if self._active.get(queue.host, 0) > 1:
            log.low("no more connections: %s", text)
            return  # others are at work there
        oldest = min((message.arrived for message in queue.messages), default=self._clock.now())
        for message in queue.messages:
            for recipient in queue.recipients(message):
                recipient.reason = f"host {queue.host} is unavailable: {text}"
        seconds = retry_delay(self.settings, self._clock.now() - oldest)
        log.problem("the queue waits for %d seconds: %s", seconds, text)
        queue.delay(seconds, text)

    # -- messages -----------------------------------------------------------------------------------------------------

    async def _send_entry(self, queue: ModuleQueue, entry: QueueEntry, link: Link, log: Logger) -> bool:
        """Send one message to all recipients that are due; whether the connection is still good."""
        portion = self.settings[RCPT_PORTION]
        left = list(entry.recipients)
        while left:
            now, left = left[:portion], left[portion:]
            try:
                more = await self._transact(entry, now, link.dialogue, link.name, log)
            except Disconnected as error:
                if link.reused and not link.dialogue.in_doubt:
                    # The other server has ended the idle connection before it saw the message.
                    log.low("[%d] %s: %s; a new connection is made", entry.message.id, link.name, error)
                    entry.delay(None, 0.0, "")
                    return False
                # Only this message waits: it may be the reason, and the others should not suffer from it.
                entry.delay(None, self._retry(entry), f"{link.name}: {error}")
                log.problem("[%d] %s: %s", entry.message.id, link.name, error)
                return False
            link.reused = False
            left = more + left
        self._progress[queue.host] = trio.current_time()
        return True

    def _retry(self, entry: QueueEntry) -> float:
        return retry_delay(self.settings, self._clock.now() - entry.message.arrived)

    async def _transact(
        self, entry: QueueEntry, recipients: list[Recipient], dialogue: Dialogue, name: str, log: Logger
    ) -> list[Recipient]:
        """One transaction; answers the recipients for whom another one is to be made at once."""
        message = entry.message
        sender = Path(*split_address(message.sender))
        envelopes = [_envelope(recipient) for recipient in recipients]
        if not dialogue.utf8 and (sender.is_utf8 or any(path.is_utf8 for path, _, _ in envelopes)):
            # RFC 6531, 3.2: such an address has no other form.
            foreign = [
                one
                for one, envelope in zip(recipients, envelopes, strict=True)
                if sender.is_utf8 or envelope[0].is_utf8
            ]
            entry.finish(foreign, Outcome(Kind.FAILED, "5.6.7", f"{name} does not take international addresses", name))
            recipients = [one for one in recipients if one not in foreign]
            if not recipients:
                return []
            envelopes = [_envelope(recipient) for recipient in recipients]
        sending = Sending(
            sender,
            envelopes,
            size=message.wire_size + len(message.added_header),
            ret=message.ret,
            envid=message.envid,
            utf8=message.smtputf8,
        )
        answers = await dialogue.transact(sending, None if message.test else self._content(message))
        accepted, again = self._judge(entry, recipients, answers, name)
        if not accepted:
            return []
        reply = answers.message
        if message.test:
            entry.finish(accepted, Outcome(Kind.RELAYED, "2.1.5", "the address was accepted", name))
            return again
        assert reply is not None
        if not reply.positive:
            self._refused(entry, accepted, reply, name)
            return again
        if dialogue.dsn:
            # The next host has taken over the duty to report success (RFC 3461, 5.2.2).
            for recipient in accepted:
                recipient.notify = recipient.notify.replace("S", "") or ("F" if recipient.notify else "")
        entry.finish(accepted, Outcome(Kind.RELAYED, "2.0.0", str(reply), name))
        if self._queues is not None:
            self._queues.spool.journal.hurry()  # until it is on disk, a crash sends the message again
        self._sent.add()
        self._sent_bytes.add(message.wire_size)
        self._sent_recipients.add(len(accepted))
        log.major("[%d] relayed to %s: %s", message.id, name, reply)
        return again

    async def _content(self, message: QueuedMessage) -> AsyncIterator[bytes]:
        if message.added_header:
            yield message.added_header
        async for chunk in message.chunks():
            yield chunk

    def _judge(
        self, entry: QueueEntry, recipients: list[Recipient], answers: Answers, name: str
    ) -> tuple[list[Recipient], list[Recipient]]:
        """The recipients that were accepted, and those for another transaction; the others get their result."""
        if not answers.mail.positive:
            self._refused(entry, recipients, answers.mail, name)
            return [], []
        accepted: list[Recipient] = []
        full: list[Recipient] = []
        for recipient, reply in zip(recipients, answers.recipients, strict=True):
            assert reply is not None
            if reply.positive:
                accepted.append(recipient)
            elif reply.code in (452, 552) and accepted:
                full.append(recipient)  # too many for one transaction (RFC 5321, 4.5.3.1.10)
            else:
                self._refused(entry, [recipient], reply, name)
        return accepted, full

    def _refused(self, entry: QueueEntry, recipients: list[Recipient], reply: Reply, name: str) -> None:
        text = f"{name} says {reply}"
        if reply.permanent:
            entry.finish(recipients, Outcome(Kind.FAILED, reply.status or "5.0.0", text, name))
            return
        for recipient in recipients:
            entry.delay(recipient, self._retry(entry), text)


def _envelope(recipient: Recipient) -> tuple[Path, tuple[str, ...] | None, str]:
    """Path, NOTIFY and ORCPT; the original recipient is the address before it was rerouted, if none was given."""
    address = recipient.route.address if recipient.route is not None else recipient.address
    notify = tuple(_LETTERS[letter] for letter in recipient.notify if letter in _LETTERS) or None
    return Path(*split_address(address)), notify, recipient.orcpt or f"rfc822;{recipient.address}"
