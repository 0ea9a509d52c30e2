"""One IMAP session: the dialogue from the greeting to LOGOUT, over a Channel, the protocol object and the account gate.

Answers are collected and go out when the client has nothing more in the buffer, or 32 KiB have come together. Each command
is a function in one of the neighbouring files; what it answers becomes the tagged line, after the changes that others made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio

from appliance.access.imap.deflate import Deflate
from appliance.access.imap.gate import Surroundings
from appliance.access.imap.selected import Selected
from appliance.access.imap.settings import CLEAR_LOGIN, IDLE_TIMEOUT
from appliance.accounts.client import AccountError, AccountSession
from appliance.accounts.shared import resolved
from appliance.kernel.channel import Channel, ChannelClosed, ChannelTimeout
from appliance.kernel.log import Logger
from appliance.kernel.notices import Subscription
from appliance.protocols.imap import Bad, Command, Event, ImapServer, LiteralWanted, Message, render
from appliance.protocols.imap.cursor import ParseError

if TYPE_CHECKING:
    from appliance.access.imap.notifying import Watch

SERVICE = "IMAP"
#: A guesser starts a new connection after so many, and meets the listener's limits there.
MAX_FAILURES = 5
#: Wrong commands in a row after which this is no mail program.
MAX_ERRORS = 20
#: Seconds that a stranger may be silent.
STRANGER_TIMEOUT = 180
SEND_TIMEOUT = 300
"""Seconds for 64 KiB of an answer: silence is a client's right, but not to read is none."""
MAX_FOREIGN = 16
"""Other accounts that one session holds open."""
PROGRESS = 10
"""Seconds between two signs of life of a long command (RFC 9585, 4)."""
_FLUSH = 32 * 1024
#: Seconds to give the views back inside the process at the end; no wait for the network is among it.
_GIVE_BACK = 5

_CODES: Mapping[str, bytes] = {
    "NONEXISTENT": b"NONEXISTENT",
    "ALREADYEXISTS": b"ALREADYEXISTS",
    "NOPERM": b"NOPERM",
    "OVERQUOTA": b"OVERQUOTA",
    "INUSE": b"INUSE",
    "CANNOT": b"CANNOT",
    "LIMIT": b"LIMIT",
    "TEMPORARY": b"UNAVAILABLE",
    "CLOSED": b"UNAVAILABLE",
    "BADNAME": b"CANNOT",
}
"""Codes of the gate as response codes (RFC 5530)."""


class Ok(NamedTuple):
    """The tagged line of a command that was carried out; no text: it was sent already.

    `updates`: tell what others changed before it; `expunge`: also EXPUNGE lines may come (not with FETCH, STORE and SEARCH
    by sequence numbers); `ask`: look although no notice came.
    """

    text: str
    code: bytes | None = None
    updates: bool = True
    expunge: bool = True
    uid: bool = False
    ask: bool = False


class Refused(Exception):
    """A command that is not carried out: NO, or BAD."""

    def __init__(self, text: str, code: bytes | None = None, *, bad: bool = False, expunge: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.bad = bad
        self.expunge = expunge


Handler = Callable[["ImapSession", Command], Awaitable[Ok]]


class Rule(NamedTuple):
    """A command and when it may come: in any state, before log-in, after it, or with a mailbox selected."""

    handler: Handler
    state: str


class ImapSession:
    """See the module. Commands use `put`, `flush`, `next_event`, `resolve` and the attributes without underscore."""

    __slots__ = (
        "_errors",
        "_foreign",
        "_out",
        "_rules",
        "account",
        "alerts",
        "around",
        "channel",
        "deflate",
        "enabled",
        "failures",
        "log",
        "over",
        "selected",
        "server",
        "watch",
    )

    def __init__(self, around: Surroundings, channel: Channel, log: Logger, rules: Mapping[str, Rule]) -> None:
        self.around = around
        self.channel = channel
        self.log = log
        self.server = ImapServer()
        self.account: AccountSession | None = None
        self.selected: Selected | None = None
        self.alerts: Subscription | None = None
        self.enabled: set[str] = set()
        self.failures = 0
        self.over = False
        #: What is sent and received is compressed (RFC 4978).
        self.deflate: Deflate | None = None
        #: What the client wants to be told of without asking (RFC 5465).
        self.watch: Watch | None = None
        self._errors = 0
        self._rules = rules
        self._out = bytearray()
        self._foreign: dict[str, AccountSession] | None = None

    async def run(self) -> None:
        """The whole session. Raises ChannelError when the connection breaks."""
        self.channel.timeout = min(STRANGER_TIMEOUT, self.around.settings[IDLE_TIMEOUT])
        prompt = self.around.strings.text("IMAPPrompt", self.around.version)
        self.put(render.note(prompt, b"CAPABILITY " + self.capabilities().encode("ascii")))
        try:
            while not self.over:
                event = await self.next_event()
                if event is None:
                    return
                self.busy(True)
                await self._handle(event)
            await self.flush()
        finally:
            await self._give_back()

    async def _give_back(self) -> None:
        if self.alerts is not None:
            self.alerts.close()
        if self.watch is not None:
            self.watch.close()
        if self.selected is not None:
            self.selected.news.close()
        accounts = [*(self._foreign or {}).values(), *([self.account] if self.account is not None else [])]
        with trio.CancelScope(deadline=trio.current_time() + _GIVE_BACK, shield=True):
            for account in accounts:
                await account.aclose()

    # -- wire ---------------------------------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        self._out += data

    async def put_all(self, data: bytes) -> None:
        """As `put`, and send when enough has come together."""
        self._out += data
        if len(self._out) >= _FLUSH:
            await self.flush()

    async def flush(self) -> None:
        if self._out:
            data: bytes | bytearray
            data, self._out = self._out, bytearray()
            if self.deflate is not None:
                data = self.deflate.compress(data)
            channel = self.channel
            patience, channel.timeout = channel.timeout, min(channel.timeout, SEND_TIMEOUT)
            try:
                await channel.send(data)
            finally:
                channel.timeout = patience

    async def next_event(self) -> Event | None:
        """The next event; None at the end of the stream. What is in hand goes out first. The limit of time is for
        commands; a client that is silent is told so before ChannelTimeout ends the session."""
        channel, deadline = self.channel, trio.current_time() + self.channel.timeout
        while (event := self.server.next_event()) is None:
            if self.deflate is not None and (data := self.deflate.more()):
                self.server.receive(data)
                continue
            await self.flush()
            self.busy(False)
            try:
                # A stranger has its time for a whole command: dripping bytes do not hold a channel.
                if self.account is None:
                    data = await channel.receive_before(deadline)
                elif self.watch is not None and self.server.fresh:
                    data = await self.watch.receive(self)
                else:
                    data = await channel.receive()
            except ChannelTimeout:
                self.put(render.bye(self.around.strings.text("IMAPTimeout")))
                await self.flush()
                raise
            if not data:
                return None
            if self.deflate is not None:
                data = self.deflate.decompress(data)
            self.server.receive(data)
        if self.log.enabled(5):
            self.log.all("inp: %s", _shown(event))
        return event

    def busy(self, busy: bool) -> None:
        if self.channel.session is not None:
            self.channel.session.busy = busy

    def state(self, words: str) -> None:
        """What the monitor shows."""
        if self.channel.session is not None:
            self.channel.session.state = words

    # -- commands -----------------------------------------------------------------------------------------------------

    async def _handle(self, event: Event) -> None:
        match event:
            case LiteralWanted():
                self.put(ImapServer.GO_ON)
            case Bad(tag, text, code, fatal):
                self._wrong(tag, text, code)
                if fatal:
                    self.put(render.bye(text))
                    self.over = True
            case Message():
                from appliance.access.imap.appending import append

                name = "APPEND" if event.target.replaced is None else "REPLACE"
                await self._perform(event.tag, name, append(self, event))
            case Command(tag, name, _):
                rule = self._rules.get(name)
                if rule is None:
                    self._wrong(tag, "unknown command", None)
                elif (problem := self._out_of_place(rule.state)) is not None:
                    self._wrong(tag, problem, None)
                else:
                    await self._perform(tag, name, rule.handler(self, event))
            case _:
                self._wrong(None, "unexpected line", None)

    def _wrong(self, tag: bytes | None, text: str, code: bytes | None) -> None:
        self.put(render.bad(tag, text, code))
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self.put(render.bye(self.around.strings.text("IMAPTooManyErrors")))
            self.over = True

    def _out_of_place(self, state: str) -> str | None:
        if state == "any":
            return None
        if state == "stranger":
            return "already logged in" if self.account is not None else None
        if self.account is None:
            return "log in first"
        if state == "selected" and self.selected is None:
            return "no mailbox is selected"
        return None

    async def _perform(self, tag: bytes, name: str, work: Awaitable[Ok]) -> None:
        """Carry out a command and tell how it went."""
        self.state(name.capitalize())
        try:
            ok = await work
        except Refused as refused:
            answer = render.bad if refused.bad else render.no
            if not refused.bad:
                await self._quiet_updates(expunge=refused.expunge)
            self.put(answer(tag, refused.text, refused.code))
        except ParseError as error:
            self.put(render.bad(tag, str(error)))
        except AccountError as error:
            self.log.low("%s refused: %s %s", name, error.code, error.text)
            self.put(render.no(tag, error.text, _CODES.get(error.code)))
            if error.code == "CLOSED":
                self.put(render.bye(self.around.strings.text("IMAPClosing", error.text)))
                self.over = True
        else:
            self._errors = 0
            if ok.updates:
                try:
                    await self.tell(expunge=ok.expunge, uid=ok.uid, ask=ok.ask)
                except AccountError as error:
                    self.log.problem("changes cannot be read: %s %s", error.code, error.text)
            if ok.text:
                line = render.ok(tag, ok.text, ok.code)
                self.put(line)
                if self.log.enabled(5):
                    self.log.all("out: %s", line[:-2])
        self.state("Selected" if self.selected is not None else "Authenticated" if self.account else "Authenticating")

    async def _quiet_updates(self, *, expunge: bool) -> None:
        try:
            await self.tell(expunge=expunge, uid=False, ask=False)
        except AccountError as error:
            self.log.problem("changes cannot be read: %s %s", error.code, error.text)

    async def tell(self, *, expunge: bool, uid: bool = False, ask: bool = False) -> None:
        """Alerts and the changes of the selected mailbox, into the output."""
        if self.alerts is not None and self.alerts.take():
            await self.tell_alerts()
        selected, watch = self.selected, self.watch
        if selected is not None:
            others = watch is None or bool(watch.events)
            uid = uid or watch is not None or selected.qresync  # RFC 5465, 5.1; RFC 7162, 3.2.4
            async for lines in selected.updates(expunge=expunge, uid=uid, ask=ask, others=others):
                await self.put_all(lines)
            if watch is None:
                selected.fresh.clear()
            else:
                from appliance.access.imap.notifying import tell_new

                await tell_new(self, watch)

    async def tell_alerts(self) -> None:
        if self.account is not None:
            for text in await self.account.alerts():
                self.put(render.alert(text))

    # -- what commands need -------------------------------------------------------------------------------------------

    @property
    def clear_allowed(self) -> bool:
        """May a password come in clear text over this connection?"""
        return self.channel.secure or self.channel.client or self.around.settings[CLEAR_LOGIN]

    def capabilities(self) -> str:
        from appliance.access.imap.capabilities import capabilities

        return capabilities(self)

    def user(self) -> AccountSession:
        """The account of the log-in."""
        if self.account is None:
            raise Refused("log in first", bad=True)
        return self.account

    def mailbox(self) -> Selected:
        """The selected mailbox."""
        if self.selected is None:
            raise Refused("no mailbox is selected", bad=True)
        return self.selected

    async def resolve(self, name: str) -> tuple[AccountSession, str]:
        """Whose mailbox this is, and its name there: `~boss/INBOX` is INBOX of the account boss."""
        account = self.user()
        name = name.rstrip("/")
        owner, inner = resolved({} if name == "INBOX" else await account.aliases(), name)
        if not owner and not name.startswith("~"):
            return account, inner
        if not inner:
            raise Refused("an account is not a mailbox", b"NONEXISTENT")
        return await self.others(owner), inner

    async def others(self, owner: str) -> AccountSession:
        """The account of this name, for as long as this session lives. Refused, AccountError."""
        account = self.user()
        if self.around.foreign is None or not owner:
            raise Refused("there are no mailboxes of others here", b"NONEXISTENT")
        if self._foreign is None:
            self._foreign = {}
        found = self._foreign.get(owner)
        if found is None:
            if len(self._foreign) >= MAX_FOREIGN:
                raise Refused("too many accounts are open in this session", b"LIMIT")
            found = self._foreign[owner] = await self.around.foreign(account, owner)
        return found

    @property
    def utf8(self) -> bool:
        """Names go out in UTF-8 (RFC 6855, RFC 9051)."""
        return self.server.utf8

    @property
    def rev2(self) -> bool:
        """The client speaks IMAP4rev2 (RFC 9051)."""
        return "IMAP4REV2" in self.enabled

    @asynccontextmanager
    async def progress(self, tag: bytes) -> AsyncIterator[None]:
        """Around work that may take long and sends nothing meanwhile: the client is told that it goes on (RFC 9585)."""
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick, tag)
            try:
                yield
            except Exception as error:  # out of the nursery as itself, not in a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _tick(self, tag: bytes) -> None:
        while True:
            await trio.sleep(PROGRESS)
            with trio.CancelScope(shield=True):  # half a line would be worse than a late end
                self.put(render.note("still working", b"INPROGRESS (%b NIL NIL)" % render.string(tag)))
                await self.flush()

    def enable_condstore(self) -> None:
        """The client has shown that it knows mod-sequences; from now on they come with flags (RFC 7162, 3.1)."""
        fresh = "CONDSTORE" not in self.enabled
        self.enabled.add("CONDSTORE")
        if self.selected is not None:
            self.selected.condstore = True
            if fresh:  # RFC 7162, 3.1
                self.put(render.note("highest mod-sequence", b"HIGHESTMODSEQ %d" % self.selected.modseq))

    async def deselect(self) -> None:
        """No mailbox is selected any more."""
        selected, self.selected = self.selected, None
        if selected is not None:
            try:
                await selected.release()
            except AccountError as error:
                self.log.problem("a view cannot be given back: %s", error.text)

    async def broken(self, reason: str) -> None:
        """In the middle of an answer that cannot be completed: only a broken connection tells the client so."""
        self._out.clear()
        self.over = True
        self.log.problem("the answer broke off: %s", reason)
        raise ChannelClosed(reason)


def _shown(event: Event) -> str:
    """An event for the log: secrets and message texts are left out."""
    match event:
        case Command(tag, name, arguments):
            return f"{tag.decode('ascii')} {name} {arguments!r}"[:500]
        case Message(tag, name, head, _):
            return f"{tag.decode('ascii')} APPEND {name} {head!r}"
    return type(event).__name__
