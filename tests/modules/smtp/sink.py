"""The world outside: servers in memory that take mail as they are told, and made-up DNS; with a real transfer room."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trustme

from appliance.kernel.channel import Channel, ChannelError
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.journal import Journal
from appliance.kernel.log import MemoryLog
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.operations import Caller
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.modules.smtp.connecting import Connector
from appliance.modules.smtp.hosts import HostFinder
from appliance.modules.smtp.routing import SmtpRouting
from appliance.modules.smtp.sending import SmtpSender
from appliance.modules.smtp.settings import SMTP
from appliance.protocols.sasl import encode
from appliance.protocols.smtp import Reply, SmtpServer, State, ehlo_reply
from appliance.protocols.smtp import events as e
from appliance.router.parsing import parse
from appliance.router.route import Address, Purpose, Refused, Route
from appliance.transfer.message import Envelope, Source
from appliance.transfer.reports import TEXTS
from appliance.transfer.settings import QUEUE, TEMPFILES
from appliance.transfer.transfer import Transfer
from tests.modules.smtp.conftest import FakeNames


class Sink:
    """A server. `answer(event)` may give another reply than the usual one, or "drop" to cut the connection."""

    def __init__(self, *offers: str) -> None:
        self.offers = list(offers or ("PIPELINING", "SIZE 1000000", "8BITMIME", "DSN"))
        self.answer: Callable[[e.Event], Reply | str | None] = lambda event: None
        self.greeting = Reply(220, "sink")
        self.pause = 0.0
        self.certificate: ssl.SSLContext | None = None
        self.breaks_tls = False
        self.tls_first = False
        self.lines: list[str] = []
        self.messages: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.most = 0
        self.times: list[float] = []
        self.secure: list[bool] = []
        self.raw = b""
        #: What it does when the roles were turned.
        self.turned: Callable[[Channel], Awaitable[None]] | None = None

    @property
    def words(self) -> list[str]:
        return [line.split()[0] for line in self.lines]

    async def serve(self, channel: Channel) -> None:
        self.connections += 1
        self.times.append(trio.current_time())
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self._serve(channel)
        except ChannelError:
            pass
        finally:
            self.open -= 1
            channel.close()

    async def _serve(self, channel: Channel) -> None:
        server = SmtpServer(utf8=True)
        if self.tls_first:
            await channel.start_tls(self.certificate)
        await trio.sleep(self.pause)
        await channel.send(self.greeting.render())
        text = b""
        while True:
            while (event := server.next_event()) is None:
                data = await channel.receive()
                if not data:
                    return
                self.raw += data
                server.receive(data)
            if isinstance(event, e.DataChunk):
                text += event.data
                continue
            self.lines.append(_shown(event))
            answer = self.answer(event) or self._usual(event, channel)
            if isinstance(answer, str):
                return
            if isinstance(event, e.DataEnd):
                if answer.positive:
                    self.messages.append(text)
                    self.secure.append(channel.encrypted)
                text = b""
            await channel.send(server.reply(answer))
            if server.state is State.TLS:
                if self.breaks_tls:
                    return
                await channel.start_tls(self.certificate)
                server.secured()
            if server.state is State.ENDED:
                if isinstance(event, e.Atrn) and self.turned is not None:
                    await self.turned(channel)
                return

    def _usual(self, event: e.Event, channel: Channel) -> Reply:
        match event:
            case e.Bad(reply):
                return reply
            case e.Ehlo():
                tls = ["STARTTLS"] if (self.certificate or self.breaks_tls) and not channel.encrypted else []
                return ehlo_reply("sink", self.offers + tls)
            case e.Data():
                return Reply(354, "go on")
            case e.StartTls():
                return Reply(220, "go on")
            case e.Auth(method, _) if method == "CRAM-MD5":
                return Reply(334, encode(b"<1@sink>").decode())
            case e.Auth() | e.AuthResponse():
                return Reply(235, "welcome", "2.7.0")
            case e.Quit():
                return Reply(221, "bye", "2.0.0")
            case _:
                return Reply(250, "fine", "2.0.0")


def _shown(event: e.Event) -> str:
    match event:
        case e.Mail(path):
            return f"MAIL {path.address}"
        case e.Rcpt(path):
            return f"RCPT {path.address}"
        case e.Ehlo(name):
            return f"EHLO {name}"
        case e.Helo(name):
            return f"HELO {name}"
        case e.Auth(method, initial):
            return f"AUTH {method} {(initial or b'').decode()!r}"
        case e.AuthResponse(line):
            return f"RESPONSE {line.decode()}"
        case e.Etrn(node):
            return f"ETRN {node}"
        case e.Atrn(domains):
            return " ".join(("ATRN", *domains))
    return type(event).__name__.upper()


class Line:
    """The schedule: open, until it is shut."""

    def __init__(self) -> None:
        self.opened = trio.Event()
        self.opened.set()
        self.overridden = 0
        self.unlimited = False

    def window_open(self) -> bool:
        return self.opened.is_set()

    @asynccontextmanager
    async def session(self, kind: str, *, override: bool = False) -> AsyncIterator[None]:
        self.overridden += override
        if not override:
            await self.opened.wait()
        yield


class Outside:
    """The sender of a server `box.test`, a transfer room, and `sinks` by (address, port)."""

    def __init__(self, base: Path, epoch: float) -> None:
        self.base = base
        self.sinks: dict[tuple[str, int], Sink] = {}
        self.names = FakeNames()
        self.settings = Settings(SMTP, MemoryStorage())
        self.clock = TrioClock(epoch)
        self.log = MemoryLog()
        self.line = Line()
        self.sessions = Sessions()
        self.authority = trustme.CA()
        self.connected: list[tuple[str, int]] = []
        #: The local addresses that were used, "" for any; and those that mail of a domain goes out from.
        self.sources: list[str] = []
        self.dedicated: dict[str, str] = {}
        self.reports: list[bytes] = []
        self.nursery: trio.Nursery | None = None
        self.routing = SmtpRouting(self.settings)
        finder = HostFinder(
            self.settings,
            self.names,
            is_own=lambda address, port: address == "10.0.0.1",
            own_names=lambda: ["box.test"],
        )
        self.connector = Connector(self.settings, finder, self.context, lambda: "box.test", self.connect)
        self.sender = SmtpSender(
            self.connector,
            self,
            self.line,
            self.sessions,
            self.log.source("SMTPO"),
            self.clock,
            Statistics(),
            lambda domain, received: self.dedicated.get(domain, ""),
        )
        self.room: Transfer

    def sink(self, domain: str, address: str, *offers: str, port: int = 25) -> Sink:
        """A server that takes the mail of a domain."""
        self.names.mx.setdefault(domain, []).append(f"mx{len(self.sinks)}.{domain}")
        self.names.a[self.names.mx[domain][-1]] = [address]
        sink = self.sinks[address, port] = Sink(*offers)
        return sink

    async def context(self, verify: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def certificate(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        return context

    async def connect(
        self, addresses: tuple[str, ...], port: int, *, source: str | None = None, timeout: float, lost: int = 0
    ) -> Channel:
        await trio.lowlevel.checkpoint()
        for address in addresses:
            self.connected.append((address, port))
            self.sources.append(source or "")
            sink = self.sinks.get((address, port))
            if sink is not None:
                near, far = channel_pair(client="192.0.2.9", server=address, port=port)
                assert self.nursery is not None
                self.nursery.start_soon(sink.serve, far)
                return near
        raise ChannelError(f"[{addresses[-1]}]:{port}: Connection refused")

    async def route(self, address: str, purpose: Purpose = Purpose.MAIL, caller: Caller | None = None) -> Route:
        """The router: aliases of box.test, else SMTP's own two steps."""
        local, domain = parse(address)
        if domain in ("", "box.test"):
            if local.endswith("-wakeup"):
                woken = await self.routing.first(Address(local, "", address, purpose, True, False))
                assert isinstance(woken, Route)
                return woken
            if not local.startswith("out-"):
                return Route("LOCAL", f"{local}@box.test", local, address)
            local, domain = local[4:], "x.test"
        asked = Address(local, domain, address, purpose, True, False)
        for step in (self.routing.first, self.routing.final):
            answer = await step(asked)
            if isinstance(answer, Route):
                return answer
        raise Refused("unknown domain name")

    # LOCAL, which takes the reports

    def concurrency(self) -> int:
        return 10

    async def process(self, queue: Any) -> None:
        from appliance.transfer.message import Outcome

        async for entry in queue:
            self.reports.append(await entry.message.content())
            entry.finish(entry.recipients, Outcome("delivered"))

    async def set(self, **values: str) -> None:
        await self.settings.update(dict(values))

    async def send(self, *recipients: str | Envelope, text: bytes = b"", sender: str = "joe@box.test") -> int:
        content = text or b"From: joe\nDate: now\nMessage-ID: <1@x>\nSubject: hello\n\n.text\n"
        return await self.room.submit_text(sender, recipients, content, Source("SMTP", trusted=True))

    async def settle(self, seconds: float = 1.0) -> None:
        await trio.sleep(seconds)

    @property
    def live(self) -> int:
        """Messages that are not finished."""
        return len([one for one in self.room.spool.live.values() if not one.done])


@asynccontextmanager
async def outside(base: Path, epoch: float = 1_700_000_000.0) -> AsyncIterator[Outside]:
    """A running one."""
    world = Outside(base, epoch)
    disk = InLoopDisk()
    await disk.mkdir(str(base / "Queue"), parents=True)
    journal = await Journal.open(disk, str(base / "Queue"))
    settings, obscure = Settings(QUEUE, MemoryStorage()), Settings(TEMPFILES, MemoryStorage())
    await settings.update({"MinimumFreeSpace": "0", "ReportingDelay": "0", "LogLevel": "5"})
    texts = Strings()
    texts.declare_all(TEXTS)
    room = Transfer(
        disk, journal, str(base), world.clock, world.log, settings, obscure, world, texts, lambda: "box.test"
    )
    world.room = room
    room.modules["SMTP"], room.modules["LOCAL"] = world.sender, world
    world.sender.attach(room.queues)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        await room.recovery.replay_all()
        await room.recovery.finish()
        async with trio.open_nursery() as inner:
            world.nursery = inner
            await inner.start(room.run)
            await inner.start(world.sender.run)
            room.start()
            yield world
            inner.cancel_scope.cancel()
        await room.close()
        nursery.cancel_scope.cancel()
