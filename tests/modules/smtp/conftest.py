"""A receiving SMTP module in memory: real domains, router, receiver, spool and journal; made-up DNS and log-ins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from appliance.formats.data import Value
from appliance.formats.passwords import ScramKeys
from appliance.kernel.channel import Channel
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.journal import Journal
from appliance.kernel.log import MemoryLog
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.resolver import NoSuchName, ResolverTrouble
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.modules.local.routing import LocalRouting
from appliance.modules.local.settings import LOCAL
from appliance.modules.smtp.names import Exchanger, Unresolved
from appliance.modules.smtp.protection.guard import Guard, make_guard
from appliance.modules.smtp.protection.settings import PROTECTION
from appliance.modules.smtp.relaying import Relaying
from appliance.modules.smtp.routing import SmtpRouting
from appliance.modules.smtp.service import SmtpService
from appliance.modules.smtp.settings import SMTP
from appliance.modules.smtp.surroundings import LoginRefused, Sender, Surroundings
from appliance.modules.smtp.verifying import PathVerifier
from appliance.objects import declarations as d
from appliance.objects.domains import Domains
from appliance.protocols.sasl import DigestProof, Done
from appliance.router.router import ROUTER, Router
from appliance.transfer.message import QueuedMessage
from appliance.transfer.outflow import Outflow
from appliance.transfer.receiver import Receiver
from appliance.transfer.settings import QUEUE
from appliance.transfer.spool import Spool

STRANGER = "203.0.113.7"


@dataclass
class FakeResolver:
    """Names of addresses and lists in DNS. What is in `slow` takes so many seconds, what is in `silent` has no answer."""

    ptr: dict[str, list[str]] = field(default_factory=dict)
    a: dict[str, list[str]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    async def _ask(self, name: str) -> None:
        self.asked.append(name)
        for end, seconds in self.slow.items():
            if name.endswith(end):
                await trio.sleep(seconds)
        if any(name.endswith(end) for end in self.silent):
            raise ResolverTrouble("DNS: no answer")

    async def pointer(self, address: str, *, quick: bool = False) -> list[str]:
        await self._ask(address)
        if address not in self.ptr:
            raise NoSuchName(f"{address}: host name is unknown")
        return self.ptr[address]

    async def addresses(self, name: str, *, quick: bool = False) -> list[str]:
        await self._ask(name)
        if name not in self.a:
            raise NoSuchName(f"{name}: host name is unknown")
        return self.a[name]

    async def listed(self, name: str) -> list[str]:
        await self._ask(name)
        return self.lists.get(name, [])


@dataclass
class FakeNames:
    """DNS: `mx` and `a` by name; a name in `silent` gets no answer."""

    mx: dict[str, list[str]] = field(default_factory=dict)
    a: dict[str, list[str]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if name in self.silent:
            raise Unresolved("no answer", temporary=True, code="4.4.3")

    async def exchangers(self, domain: str) -> Sequence[Exchanger]:
        self._ask(domain)
        if domain in self.mx:
            if self.mx[domain] == [""]:
                raise Unresolved("takes no mail", temporary=False, code="5.1.10")
            return [Exchanger(10 * place, name) for place, name in enumerate(self.mx[domain])]
        if domain in self.a:
            return [Exchanger(0, domain)]
        raise Unresolved("no such domain", temporary=False)

    async def addresses(self, name: str) -> Sequence[str]:
        self._ask(name)
        if name not in self.a:
            raise Unresolved("no such host", temporary=False)
        return self.a[name]


class FakeLogins:
    """joe has the password pw and the Relay service, nora no Relay service."""

    async def password(self, name: str, password: str, service: str, channel: Channel) -> Sender:
        if name == "slow":
            raise LoginRefused("try later", temporary=True)
        if name not in ("joe", "nora") or password != "pw":
            raise LoginRefused("wrong name or password")
        return Sender(f"{name}@box.test", name == "joe")

    async def keys(self, name: str, method: str, channel: Channel) -> ScramKeys:
        raise LoginRefused("wrong name or password")

    async def proven(self, done: Done, service: str, channel: Channel) -> Sender:
        if isinstance(done.evidence, DigestProof) and done.evidence.holds("pw"):
            return Sender(f"{done.authcid}@box.test", True)
        raise LoginRefused("wrong name or password")

    async def refuse(self, name: str, service: str, channel: Channel) -> None:
        raise LoginRefused("wrong name or password")


class Peer:
    """The client's end: sends lines, reads replies."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.greeting = ""
        self._held = b""

    async def send(self, *lines: str | bytes) -> None:
        data = b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines)
        await self.channel.send(data)

    async def reply(self) -> str:
        """One reply, its lines joined by LF."""
        lines: list[str] = []
        while True:
            while b"\r\n" not in self._held:
                data = await self.channel.receive()
                if not data:
                    raise EOFError("\n".join(lines))
                self._held += data
            line, _, self._held = self._held.partition(b"\r\n")
            lines.append(line.decode())
            if line[3:4] != b"-":
                return "\n".join(lines)

    async def say(self, *lines: str | bytes) -> str:
        """Send lines, and give the last of their replies."""
        await self.send(*lines)
        replies = [await self.reply() for _ in lines]
        return replies[-1]

    async def message(self, text: bytes, sender: str = "joe@far.test", *recipients: str) -> str:
        """A whole transaction; the last reply."""
        await self.send(
            f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients or ("ann@box.test",)), "DATA"
        )
        for _ in range(2 + len(recipients or ("",))):
            last = await self.reply()
        if not last.startswith("354"):
            return last
        await self.channel.send(text + b".\r\n")
        return await self.reply()

    async def is_closed(self) -> bool:
        return await self.channel.receive() == b""


class World:
    """A module, and what it received: `messages`."""

    def __init__(self, around: Surroundings, router: Router, names: FakeNames, spool: Spool, log: MemoryLog) -> None:
        self.around = around
        self.domains = router.domains
        self.service = SmtpService(around)
        self.router = router
        self.names = names
        self.spool = spool
        self.log = log
        self.messages: list[QueuedMessage] = []
        spool.arrived = self.messages.append
        self.sessions = Sessions()
        self.nursery: trio.Nursery | None = None
        self.resolver = FakeResolver()
        self.alarms: list[str] = []
        self.limits: dict[str, int] = {}
        """Recipients an hour, by account."""

    @property
    def guard(self) -> Guard:
        return self.around.guard

    async def protect(self, **values: Value) -> None:
        """Change the Protection settings."""
        await self.guard.settings.update(values)

    async def addresses(self, **values: Value) -> None:
        """Change the Client IP Addresses settings."""
        await self.guard.peers.settings.update(values)

    async def set(self, **values: str) -> None:
        await self.around.settings.update(dict(values))

    async def connect(
        self, address: str = STRANGER, *, ehlo: bool = True, client: bool = False, member: bool = False
    ) -> Peer:
        """A client from that address, greeted."""
        near, far = channel_pair(client=address)
        far.client, far.member = client, member
        far.session = self.sessions.open("SMTP", address, 0.0)
        assert self.nursery is not None
        self.nursery.start_soon(self._serve, far)
        peer = Peer(near)
        peer.greeting = await peer.reply()
        assert peer.greeting.startswith("220 ")
        if ehlo:
            assert (await peer.say("EHLO pc.test")).startswith("250")
        return peer

    async def _serve(self, channel: Channel) -> None:
        try:
            await self.service.serve(channel)
        finally:
            channel.close()

    def files(self) -> list[str]:
        """The message files in the queue's folder."""
        return [one.name for one in Path(self.spool.directory).iterdir() if one.suffix in (".msg", ".tmp")]

    def size_of(self, name: str) -> int:
        return (Path(self.spool.directory) / name).stat().st_size

    async def content(self, message: QueuedMessage | None = None) -> bytes:
        return await self.spool.content(message or self.messages[-1])


@pytest.fixture
async def lasting() -> AsyncIterator[trio.Nursery]:
    """For what ends last: the journal, because others wait for what they wrote."""
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()


@pytest.fixture
async def world(tmp_path: Path, lasting: trio.Nursery) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        yield await _world(tmp_path, lasting, nursery)
        nursery.cancel_scope.cancel()


async def _world(tmp_path: Path, lasting: trio.Nursery, nursery: trio.Nursery) -> World:
    disk, clock, log = InLoopDisk(), TrioClock(), MemoryLog()
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "box.test"}))
    await general.load()
    memory: dict[str, Storage] = {}
    objects, queue = tmp_path / "objects", tmp_path / "Queue"
    objects.mkdir()
    queue.mkdir()
    domains = Domains(disk, str(objects), lambda path, mode: memory.setdefault(path, MemoryStorage()), general)
    await domains.load()
    other = await domains.create("client1.com")
    for name in ("ann", "bob", "joe"):
        await domains.create_account(domains.main, name)
    await domains.create_account(other, "info")
    router = Router(domains, Settings(ROUTER, MemoryStorage()), log.source("ROUTER"))
    settings = Settings(SMTP, MemoryStorage())
    local, smtp = LocalRouting(domains, Settings(LOCAL, MemoryStorage())), SmtpRouting(settings)
    router.first += [local.first, smtp.first]
    router.final += [local.final, smtp.final]
    journal = await Journal.open(disk, str(queue))
    async for _ in journal.replay():
        pass
    await lasting.start(journal.run)
    spool = Spool(disk, journal, str(queue), clock, log.source("QUEUE"))
    queue_settings = Settings(QUEUE, MemoryStorage())
    receiver = Receiver(spool, queue_settings, clock, log.source("QUEUE"), lambda: "box.test")
    names = FakeNames()
    peers = Peers(Settings(IP_ADDRESSES, MemoryStorage()), clock)
    await peers.settings.update({"ClientAddresses": "192.0.2.1"})

    async def addresses(name: str) -> list[str]:
        return names.a.get(name, [])

    async def exchangers(name: str) -> list[str]:
        return names.mx.get(name, [])

    found: list[World] = []

    protection = Settings(PROTECTION, MemoryStorage())
    statistics, resolver = Statistics(), FakeResolver()

    async def alarm(account: str, text: str) -> None:
        found[0].alarms.append(f"{account}: {text}")

    outflow = Outflow(clock, log.source("SYSTEM"), lambda account: found[0].limits.get(account), alarm)
    guard = make_guard(protection, peers, resolver, clock, log.source("SMTP"), statistics, outflow)

    around = Surroundings(
        settings=settings,
        strings=Strings(),
        log=log.source("SMTP"),
        statistics=statistics,
        clock=clock,
        router=router,
        receiver=receiver,
        relaying=Relaying(
            settings,
            is_client=peers.client,
            addresses=addresses,
            exchangers=exchangers,
            own_name=lambda: "box.test",
        ),
        verifier=PathVerifier(names, is_client=peers.client, listed=guard.blacklists.listed),
        guard=guard,
        logins=FakeLogins(),
        authority=domains,
        host=lambda: "box.test",
        unique=lambda: "unique0123456789abcdef",
        digests=lambda: True,
        version="1.0",
    )
    found.append(World(around, router, names, spool, log))
    found[0].nursery = nursery
    found[0].resolver = resolver
    peers.names = resolver
    names.a["pc.test"] = names.a["mail.far.test"] = [STRANGER]
    names.a["far.test"] = ["198.51.100.1"]
    return found[0]
