"""The module over a server's real rooms, on loopback: what the listener serves, what the sender sends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from appliance.formats.data import Value
from appliance.kernel.channel import accepted_channel, connect
from appliance.kernel.clock import SystemClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.journal import Journal
from appliance.kernel.listener import Network
from appliance.kernel.log import MemoryLog
from appliance.kernel.operations import Caller, OperationError, Operations
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.resolver import DNR, MailHost, NoSuchName, NullMx, Resolver, ResolverTrouble
from appliance.kernel.schedule import SCHEDULE, Schedule
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.tls import TLS, Tls
from appliance.modules.local.routing import LocalRouting
from appliance.modules.local.settings import LOCAL
from appliance.modules.smtp.module import Rooms, SmtpModule
from appliance.modules.smtp.names import Exchanger, Unresolved
from appliance.modules.smtp.protection.settings import PROTECTION
from appliance.modules.smtp.resolving import ResolverNames
from appliance.modules.smtp.routing import SmtpRouting
from appliance.modules.smtp.settings import SMTP
from appliance.objects import declarations as d
from appliance.objects.domains import Domains
from appliance.router.router import ROUTER, Router
from appliance.transfer.message import Envelope, Source
from appliance.transfer.outflow import Outflow
from appliance.transfer.reports import TEXTS
from appliance.transfer.settings import QUEUE, TEMPFILES
from appliance.transfer.transfer import Transfer
from tests.modules.smtp.conftest import FakeLogins, Peer
from tests.modules.smtp.sink import Sink


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what other tasks bring about, for at most five seconds."""
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


class Server:
    """The rooms that the module needs, running; `port` is its listener's."""

    def __init__(self, base: Path, lasting: trio.Nursery, nursery: trio.Nursery) -> None:
        self.base = base
        self.lasting = lasting
        self.nursery = nursery
        self.log = MemoryLog()
        self.sessions = Sessions()
        self.operations = Operations()
        self.port = free_port()
        self.failures: list[BaseException] = []

    def settings(self, group: Any, values: Mapping[str, Value] | None = None) -> Settings:
        return Settings(group, MemoryStorage(dict(values or {})))

    async def start(self) -> None:
        disk, clock, log, statistics = InLoopDisk(), SystemClock(), self.log, Statistics()
        general = self.settings(d.GENERAL, {"DomainName": "box.test"})
        await general.load()
        memory: dict[str, Storage] = {}
        for folder in ("objects", "Queue", "Settings"):
            await disk.mkdir(str(self.base / folder))
        self.domains = Domains(
            disk, str(self.base / "objects"), lambda path, mode: memory.setdefault(path, MemoryStorage()), general
        )
        await self.domains.load()
        await self.domains.create_account(self.domains.main, "ann")
        self.smtp = self.settings(SMTP)
        row: dict[str, Value] = {"Port": str(self.port), "Address": "127.0.0.1", "TLS": "Off"}
        await self.smtp.update({"Listener": [row]})
        router = Router(self.domains, self.settings(ROUTER), log.source("ROUTER"))
        local, smtp = LocalRouting(self.domains, self.settings(LOCAL)), SmtpRouting(self.smtp)
        router.first += [local.first, smtp.first]
        router.final += [local.final, smtp.final]
        journal = await Journal.open(disk, str(self.base / "Queue"))
        await self.lasting.start(journal.run)
        strings = Strings()
        strings.declare_all(TEXTS)
        queue = self.settings(QUEUE)
        await queue.update({"MinimumFreeSpace": "0"})
        self.transfer = Transfer(
            disk,
            journal,
            str(self.base),
            clock,
            log,
            queue,
            self.settings(TEMPFILES),
            router,
            strings,
            lambda: "box.test",
        )
        await self.transfer.recovery.replay_all()
        await self.transfer.recovery.finish()
        schedule = Schedule(self.settings(SCHEDULE), clock, log.source("TCP"))
        peers = Peers(self.settings(IP_ADDRESSES), clock)
        tls = Tls(self.settings(TLS), disk, str(self.base / "Settings"), clock, log.source("TLS"), statistics)
        self.module = SmtpModule(
            Rooms(
                settings=self.smtp,
                strings=strings,
                log=log,
                statistics=statistics,
                clock=clock,
                router=router,
                transfer=self.transfer,
                logins=FakeLogins(),
                authority=self.domains,
                peers=peers,
                protection=self.settings(PROTECTION),
                outflow=Outflow(clock, log.source("SYSTEM"), lambda account: None),
                resolver=Resolver(self.settings(DNR), clock, disk, log.source("DNR"), schedule, statistics),
                schedule=schedule,
                tls=tls,
                sessions=self.sessions,
                host=lambda: "box.test",
                digests=lambda: False,
                version="1.0",
            )
        )
        self.tls = tls
        self.transfer.declare(self.operations)
        await self.nursery.start(self.transfer.run)
        await self.nursery.start(self.module.sender.run)
        self.transfer.start()
        network = Network(
            peers, tls, self.sessions, clock, lambda error, logger: self.failures.append(error), statistics
        )
        await self.nursery.start(self.module.listener(network).run)

    async def connect(self) -> Peer:
        peer = Peer(await connect(["127.0.0.1"], self.port))
        peer.greeting = await peer.reply()
        return peer

    async def submit(self, recipient: str) -> None:
        text = b"Date: x\nMessage-ID: <1@x>\nSubject: s\n\nt\n"
        await self.transfer.submit_text("joe@far.test", [Envelope(recipient)], text, Source("SMTP", trusted=True))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with trio.open_nursery() as lasting:
        async with trio.open_nursery() as nursery:
            server = Server(tmp_path, lasting, nursery)
            await server.start()
            yield server
            nursery.cancel_scope.cancel()
        lasting.cancel_scope.cancel()  # the journal is the last to go: others wait for what they wrote


@pytest.mark.feature("SMTP-001", "SMTP-002", "SMTP-050")
async def test_the_listener(server: Server) -> None:
    peer = await server.connect()
    assert peer.greeting == "220 box.test ESMTP Pillarbox 1.0"
    await peer.say("EHLO x")
    assert (await peer.message(b"Subject: x\r\n\r\nhello\r\n")).startswith("250")
    await server.smtp.update({"Channels": "1"})
    await trio.sleep(0.01)
    second = await connect(["127.0.0.1"], server.port)
    assert (await second.receive()).startswith(b"421 4.3.2")
    second.close()
    assert await peer.say("QUIT") == "221 2.0.0 Pillarbox SMTP closing connection"
    await server.smtp.update({"Channels": "0"})
    await trio.sleep(0.05)
    with pytest.raises(Exception, match="refused"):
        await connect(["127.0.0.1"], server.port)
    assert server.failures == []


@pytest.mark.feature("SMTP-004", "SMTP-003")
async def test_a_port_that_begins_with_tls(server: Server) -> None:
    import ssl

    server.tls.host_name = "box.test"
    await server.tls.load()
    port = free_port()
    rows: list[Value] = [
        {"Port": str(server.port), "Address": "127.0.0.1", "TLS": "Off"},
        {"Port": str(port), "Address": "127.0.0.1", "TLS": "On"},
        {"Port": str(free_port()), "Address": "127.0.0.1", "Restriction": "Grant", "List": "10.0.0.1"},
    ]
    await server.smtp.update({"Listener": rows})
    await until(lambda: len(server.module.listening()) == 3)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    channel = await connect(["127.0.0.1"], port)
    await channel.start_tls(context, server_side=False, hostname="box.test")
    peer = Peer(channel)
    assert (await peer.reply()).startswith("220 box.test")
    assert "STARTTLS" not in await peer.say("EHLO x")
    assert "STARTTLS" in await (await server.connect()).say("EHLO x")
    refused = await connect(["127.0.0.1"], int(str(rows[2]["Port"])))  # type: ignore[index,call-overload]
    assert await refused.receive() == b""


@pytest.mark.feature("STD-042", "STD-033", "STD-038")
async def test_against_the_standard_library(server: Server) -> None:
    await server.smtp.update({"HoldDomains": "held.test"})

    def talk() -> list[object]:
        import smtplib

        with smtplib.SMTP("127.0.0.1", server.port, timeout=5) as client:
            answers: list[object] = [client.ehlo("pc.test")[0], client.has_extn("pipelining")]
            answers.append(client.login("joe", "pw")[0])
            answers.append(
                client.sendmail("ann@box.test", ["ann@held.test", "no@box.test"], "Subject: x\n\n.dot\n", ["RET=HDRS"])
            )
            answers.append(client.verify("ann")[0])
            return answers

    ehlo, pipelining, login, refused, verify = await trio.to_thread.run_sync(talk)
    assert (ehlo, pipelining, login, verify) == (250, True, 235, 252)
    assert isinstance(refused, dict)
    assert refused["no@box.test"][0] == 550
    message = next(iter(server.transfer.spool.live.values()))
    assert (await message.content()).endswith(b"\n\n.dot\n")


@pytest.mark.feature("SMTP-074", "SMTP-126")
async def test_mail_to_a_port_of_this_computer(server: Server) -> None:
    sink = Sink()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def serve(stream: trio.SocketStream) -> None:
        peer = stream.socket.getpeername()
        await sink.serve(accepted_channel(socket.socket(fileno=stream.socket.detach()), peer))

    server.nursery.start_soon(trio.serve_listeners, serve, listeners)
    await server.submit(f"ann%x.test@127.0.0.1.{port}.smtp")
    await until(lambda: bool(sink.messages))
    assert "RCPT ann@x.test" in sink.lines


@pytest.mark.feature("SMTP-085")
async def test_mail_to_our_own_listener_is_a_loop(server: Server) -> None:
    await server.submit(f"ann%x.test@127.0.0.1.{server.port}.smtp")
    await until(lambda: "DNS loop" in server.log.text())


@pytest.mark.feature("SMTP-120")
async def test_the_operation(server: Server) -> None:
    await server.smtp.update({"HoldDomains": "held.test"})
    caller = Caller(None, "box.test", "CLI", server.domains)
    with pytest.raises(OperationError, match="no such queue"):
        await server.operations.perform(caller, "RELEASESMTPQUEUE", {"queueName": "held.test"})
    await server.submit("ann%x.test@held.test.smtp")
    await until(lambda: server.transfer.queues.get("SMTP", "held.test") is not None)
    assert "SMTPO" not in server.log.text()
    await server.operations.perform(caller, "RELEASESMTPQUEUE", {"queueName": "Held.test"})
    await until(lambda: "SMTPO" in server.log.text())
    stranger = Caller("ann@box.test", "box.test", "CLI", server.domains)
    with pytest.raises(OperationError):
        await server.operations.perform(stranger, "RELEASESMTPQUEUE", {"queueName": "held.test"})


class FakeResolver(Resolver):
    """Answers as told."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    async def mx(self, domain: str, *, local: bool = False) -> list[MailHost]:
        if isinstance(self._answer, Exception):
            raise self._answer
        assert isinstance(self._answer, list)
        return self._answer

    async def addresses(self, name: str, *, local: bool = False, quick: bool = False) -> list[str]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return ["10.0.0.1"]


@pytest.mark.feature("STD-041")
async def test_what_the_resolver_says_in_terms_of_mail() -> None:
    names = ResolverNames(FakeResolver([MailHost(10, "mx.x.test")]))
    assert await names.exchangers("x.test") == [Exchanger(10, "mx.x.test")]
    assert await names.known_exchangers("x.test") == ["mx.x.test"]
    assert await names.known_addresses("x.test") == ["10.0.0.1"]
    assert await ResolverNames(FakeResolver([])).exchangers("x.test") == [Exchanger(0, "x.test")]
    for error, temporary, code in (
        (NullMx("no mail"), False, "5.1.10"),
        (NoSuchName("no name"), False, "5.1.2"),
        (ResolverTrouble("silence"), True, "4.4.3"),
    ):
        names = ResolverNames(FakeResolver(error))
        with pytest.raises(Unresolved) as caught:
            await names.exchangers("x.test")
        assert (caught.value.temporary, caught.value.code) == (temporary, code)
        assert await names.known_exchangers("x.test") == []
        assert await names.known_addresses("x.test") == []
