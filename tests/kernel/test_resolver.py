"""The resolver against a DNS server in the test: what is asked, how often, and what comes out."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from appliance.formats.data import Value
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.log import MemoryLog
from appliance.kernel.resolver import (
    DNR,
    LineClosed,
    MailHost,
    NoSuchName,
    NullMx,
    Resolver,
    ResolverTrouble,
    _parse_configuration,
    _parse_hosts,
    _server,
)
from appliance.kernel.schedule import SCHEDULE, Schedule
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.tasks import TaskStatus

SOA = "a. b. 1 2 3 4 60"
ZONE = {
    ("mail.example", "A"): ["192.0.2.1", "192.0.2.2"],
    ("mail.example", "AAAA"): ["2001:db8::1"],
    ("example", "MX"): ["20 backup.example.", "10 mail.example.", "40000 last.example."],
    ("nomail.example", "MX"): ["0 ."],
    ("example", "TXT"): ['"v=spf1 " "-all"', '"other"'],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["mail.example."],
    ("alias.example", "CNAME"): ["mail.example."],
    ("six.example", "AAAA"): ["2001:db8::6"],
    ("dummy.example", "A"): ["203.0.113.99"],
    ("2.0.0.127.rbl.example", "A"): ["127.0.0.2"],
}
NAMES = {name for name, _ in ZONE}


class Stub:
    """A DNS server on one UDP port (and the same TCP port). `behave` may change or swallow an answer."""

    def __init__(self) -> None:
        self.behave: Callable[[dns.message.Message], dns.message.Message | bytes | None] = lambda answer: answer
        self.asked: list[tuple[str, str, float, int]] = []
        self.tcp = 0
        self.outstanding = 0
        self.most = 0
        self.delay = 0.0
        self.udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = 0

    def answer(self, wire: bytes) -> dns.message.Message:
        query = dns.message.from_wire(wire)
        answer = dns.message.make_response(query)
        (question,) = query.question
        name, kind = question.name.to_text(True).lower(), dns.rdatatype.to_text(question.rdtype)
        if (name, "CNAME") in ZONE:
            target = ZONE[name, "CNAME"][0]
            answer.answer.append(dns.rrset.from_text(question.name, 300, "IN", "CNAME", target))
            name = target.rstrip(".")
        if (name, kind) in ZONE:
            answer.answer.append(dns.rrset.from_text(name + ".", 300, "IN", kind, *ZONE[name, kind]))
        else:
            answer.authority.append(dns.rrset.from_text(".", 100, "IN", "SOA", SOA))
            if name not in NAMES:
                answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer

    async def run(self, *, task_status: TaskStatus) -> None:
        while True:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            try:
                await self.udp.bind(("127.0.0.1", self.port))
            except OSError:
                continue  # the number is taken by another protocol's socket
            break
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self.serve_tcp, listeners)
            task_status.started()
            while True:
                wire, address = await self.udp.recvfrom(65535)
                nursery.start_soon(self.serve_udp, wire, address)

    async def serve_udp(self, wire: bytes, address: tuple[str, int]) -> None:
        answer = self.answer(wire)
        question = answer.question[0]
        self.asked.append(
            (question.name.to_text(True), dns.rdatatype.to_text(question.rdtype), trio.current_time(), address[1])
        )
        self.outstanding += 1
        self.most = max(self.most, self.outstanding)
        if self.delay:
            await trio.sleep(self.delay)
        self.outstanding -= 1
        result = self.behave(answer)
        if result is not None:
            await self.udp.sendto(result if isinstance(result, bytes) else result.to_wire(), address)

    async def serve_tcp(self, stream: trio.SocketStream) -> None:
        self.tcp += 1
        data = await stream.receive_some(65535)
        wire = self.answer(bytes(data[2:])).to_wire(max_size=65535)
        await stream.send_all(len(wire).to_bytes(2, "big") + wire)
        await stream.aclose()


@asynccontextmanager
async def running(
    stubs: int = 1, schedule: Schedule | None = None, hosts: str = "", ipv6: bool = True, **more: Value
) -> AsyncIterator[tuple[Resolver, list[Stub], MemoryLog]]:
    log = MemoryLog()
    settings = Settings(DNR, MemoryStorage())
    async with trio.open_nursery() as nursery:
        servers = [Stub() for _ in range(stubs)]
        for stub in servers:
            await nursery.start(stub.run)
        await settings.update(
            {"DNSAddresses": "Custom", "CustomAddresses": [f"127.0.0.1:{stub.port}" for stub in servers], **more}
        )
        resolver = Resolver(
            settings,
            TrioClock(),
            InLoopDisk(),
            log.source("DNR"),
            schedule,
            hosts=hosts,
            addresses=lambda: ["127.0.0.1", "::1", "2001:db8::7" if ipv6 else "192.0.2.7"],
        )
        yield resolver, servers, log
        nursery.cancel_scope.cancel()


@pytest.mark.feature("ADM-110", "STD-097")
async def test_the_kinds_of_records() -> None:
    async with running() as (resolver, _, _):
        assert sorted(await resolver.addresses("Mail.Example.")) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
        assert sorted(await resolver.addresses("alias.example")) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
        assert await resolver.addresses("[192.0.2.7]") == ["192.0.2.7"]
        assert await resolver.mx("example") == [
            MailHost(10, "mail.example"),
            MailHost(20, "backup.example"),
            MailHost(40000, "last.example"),
        ]
        assert await resolver.mx("mail.example") == []
        assert await resolver.pointer("192.0.2.1") == ["mail.example"]
        assert sorted(await resolver.text("example")) == [b"other", b"v=spf1 -all"]
        with pytest.raises(NullMx):
            await resolver.mx("nomail.example")
        for name in ("missing.example", "a" * 64 + ".example", "a..b", ""):
            with pytest.raises(NoSuchName):
                await resolver.addresses(name)
        with pytest.raises(NoSuchName, match="no address"):
            await resolver.addresses("example")


@pytest.mark.feature("ADM-121")
async def test_unknown_names_are_records_of_problem_level() -> None:
    async with running() as (resolver, _, log):
        with pytest.raises(NoSuchName):
            await resolver.addresses("missing.example")
        assert (3, "DNR-1(missing.example)", "A:host name is unknown") in log.records


@pytest.mark.feature("ADM-115", "ADM-116", "ADM-117")
async def test_repeats_wait_longer_and_alternate(autojump_clock: trio.testing.MockClock) -> None:
    async with running(2, InitialTimeout="3s", RetryLimit="3") as (resolver, stubs, log):
        for stub in stubs:
            stub.behave = lambda answer: None
        with pytest.raises(ResolverTrouble):
            await resolver.mx("example")
        asked = sorted((round(when), number) for number, stub in enumerate(stubs) for _, _, when, _ in stub.asked)
        assert asked == [(0, 0), (3, 1), (9, 0), (18, 1)]
        assert round(trio.current_time()) == 30
        assert log.records[-1][0] == 3 and log.records[-1][2] == "MX:no answer"


@pytest.mark.feature("ADM-118")
async def test_lists_in_dns_are_asked_twice_at_most(autojump_clock: trio.testing.MockClock) -> None:
    async with running(InitialTimeout="3s", RetryLimit="9") as (resolver, (stub,), _):
        assert await resolver.listed("2.0.0.127.rbl.example") == ["127.0.0.2"]
        assert await resolver.listed("3.0.0.127.rbl.example") == []
        stub.behave = lambda answer: None
        stub.asked.clear()
        with pytest.raises(ResolverTrouble):
            await resolver.listed("4.0.0.127.rbl.example")
        times = [when for _, _, when, _ in stub.asked]
        assert len(times) == 2 and times[1] - times[0] == pytest.approx(3, abs=0.1)


@pytest.mark.feature("ADM-119", "STD-097")
async def test_a_truncated_answer_is_asked_for_over_tcp() -> None:
    async with running() as (resolver, (stub,), _):

        def truncate(answer: dns.message.Message) -> dns.message.Message:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
            return answer

        stub.behave = truncate
        assert len(await resolver.mx("example")) == 3
        assert stub.tcp == 1


@pytest.mark.feature("ADM-114")
async def test_requests_in_flight_are_limited() -> None:
    async with running(ConcurrentRequests="2") as (resolver, (stub,), _):
        stub.delay = 0.02

        async def ask(number: int) -> None:
            with pytest.raises(NoSuchName):
                await resolver.mx(f"{number}.example")

        async with trio.open_nursery() as nursery:
            for number in range(7):
                nursery.start_soon(ask, number)
        assert stub.most == 2 and len(stub.asked) == 7


async def test_answers_are_kept_for_their_time(autojump_clock: trio.testing.MockClock) -> None:
    async with running(CacheSize="2") as (resolver, (stub,), _):
        for _ in range(3):
            await resolver.mx("example")
            with pytest.raises(NoSuchName):
                await resolver.mx("missing.example")
        assert len(stub.asked) == 2
        await trio.sleep(61)
        with pytest.raises(NoSuchName):
            await resolver.mx("missing.example")
        await resolver.mx("example")
        assert len(stub.asked) == 3
        await trio.sleep(301)
        await resolver.mx("example")
        assert len(stub.asked) == 4
        for number in range(5):
            await resolver.text("example")
            with pytest.raises(NoSuchName):
                await resolver.mx(f"{number}.example")
        assert len(resolver._cache) == 2


async def test_forged_and_broken_answers_are_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    async with running(2, InitialTimeout="2s") as (resolver, stubs, _):

        def forge(answer: dns.message.Message) -> bytes:
            answer.id ^= 1
            return answer.to_wire()

        stubs[0].behave = forge
        assert len(await resolver.mx("example")) == 3
        assert round(trio.current_time()) == 2
        stubs[0].behave = lambda answer: b"\0" * 30
        assert await resolver.text("example")


async def test_each_question_has_a_port_of_its_own() -> None:
    async with running(CacheSize="0") as (resolver, (stub,), _):
        for _ in range(10):
            await resolver.mx("example")
        assert len({port for _, _, _, port in stub.asked}) > 5


@pytest.mark.feature("ADM-122")
async def test_errors_of_the_network_are_temporary(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as (resolver, (stub,), log):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            dead = probe.getsockname()[1]
        await resolver.settings.update({"CustomAddresses": f"127.0.0.1:{dead}"})
        with pytest.raises(ResolverTrouble, match="refused"):
            await resolver.mx("example")
        assert "refused" in log.text()
        await resolver.settings.update({"CustomAddresses": f"127.0.0.1:{dead},127.0.0.1:{stub.port}"})
        assert await resolver.mx("example")


async def test_servers_that_refuse_are_followed_by_the_next() -> None:
    async with running(2) as (resolver, stubs, _):

        def refuse(answer: dns.message.Message) -> dns.message.Message:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer

        stubs[0].behave = refuse
        assert await resolver.mx("example")
        stubs[1].behave = refuse
        with pytest.raises(ResolverTrouble, match="SERVFAIL"):
            await resolver.text("example")


async def test_a_site_without_ipv6_asks_for_it_only_in_need(autojump_clock: trio.testing.MockClock) -> None:
    async with running(ipv6=False) as (resolver, (stub,), _):
        assert sorted(await resolver.addresses("mail.example")) == ["192.0.2.1", "192.0.2.2"]
        assert [kind for _, kind, _, _ in stub.asked] == ["A"]
        assert await resolver.addresses("six.example") == ["2001:db8::6"]
    async with running(InitialTimeout="2s") as (resolver, (stub,), _):
        stub.behave = lambda answer: None if answer.question[0].rdtype == dns.rdatatype.AAAA else answer
        began = trio.current_time()
        assert sorted(await resolver.addresses("mail.example")) == ["192.0.2.1", "192.0.2.2"]
        assert trio.current_time() - began < 5  # what is known already does not wait long for the rest


async def test_dummy_addresses_are_no_answer() -> None:
    async with running() as (resolver, _, _):
        assert await resolver.addresses("dummy.example") == ["203.0.113.99"]
        await resolver.settings.update({"DummyAddresses": "203.0.113.99"})
        with pytest.raises(NoSuchName):
            await resolver.addresses("dummy.example")


@pytest.mark.feature("ADM-111", "ADM-112", "ADM-113")
async def test_servers_come_from_the_system_or_the_list(tmp_path: Path) -> None:
    configuration = tmp_path / "resolv.conf"
    configuration.write_text(
        "search lan\nnameserver 0.0.0.0\nnameserver 192.0.2.53 # comment\nnameserver fe80::1%eth0\n"
    )
    settings = Settings(DNR, MemoryStorage())
    resolver = Resolver(
        settings, TrioClock(), InLoopDisk(), MemoryLog().source("DNR"), configuration=str(configuration), hosts=""
    )
    assert list(await resolver.servers()) == [("127.0.0.1", 53), ("192.0.2.53", 53), ("fe80::1", 53)]
    configuration.write_text("nameserver 192.0.2.54\n")
    await resolver.refresh()
    assert list(await resolver.servers()) == [("192.0.2.54", 53)]
    configuration.unlink()
    await resolver.refresh()
    assert list(await resolver.servers()) == [("127.0.0.1", 53)]
    await settings.update({"DNSAddresses": "Custom", "CustomAddresses": "192.0.2.1, [2001:db8::1]:5353"})
    assert list(await resolver.servers()) == [("192.0.2.1", 53), ("2001:db8::1", 5353)]
    await settings.update({"CustomAddresses": ""})
    assert list(await resolver.servers()) == [("127.0.0.1", 53)]


async def test_the_hosts_file_comes_first(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.0.0.5  Printer.lan printer # the scanner\n::1 localhost\nbad line\n")
    async with running(hosts=str(hosts)) as (resolver, (stub,), _):
        assert await resolver.addresses("PRINTER.lan") == ["10.0.0.5"]
        assert await resolver.addresses("localhost") == ["127.0.0.1", "::1"]
        assert stub.asked == []


@pytest.mark.feature("DIAL-001")
async def test_a_closed_line_makes_no_packet(autojump_clock: trio.testing.MockClock) -> None:
    log = MemoryLog()
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
    table = Settings(SCHEDULE, MemoryStorage())
    await table.update({"Schedule": [{"Day": "Every day", "From": "18:00", "To": "19:00"}]})
    line = Schedule(table, TrioClock(noon), log.source("TCP"))
    async with running(schedule=line) as (resolver, (stub,), _):
        with pytest.raises(LineClosed):
            await resolver.mx("example")
        assert stub.asked == []
        assert await resolver.addresses("mail.example", local=True)
        async with line.session("SMTPO"):
            assert await resolver.mx("example")


async def test_a_cancelled_look_up_ends_at_once() -> None:
    async with running() as (resolver, (stub,), _):
        stub.behave = lambda answer: None
        with trio.move_on_after(0.05) as scope:
            await resolver.mx("example")
        assert scope.cancelled_caught


@examples(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_files_of_the_system_never_raise(text: str) -> None:
    _parse_configuration("nameserver " + text)
    _parse_hosts("10.0.0.1 " + text + "\n" + text + " name")
    _server(text)


@pytest.mark.parametrize("length", [1, 2, 40])
async def test_a_loop_of_aliases_is_temporary_trouble(autojump_clock: trio.testing.MockClock, length: int) -> None:
    async with running() as (resolver, (stub,), _):

        def loop(answer: dns.message.Message) -> dns.message.Message:
            answer.answer.clear()
            for number in range(length):
                name, target = (
                    str(answer.question[0].name) if not n else f"n{n}." for n in (number, (number + 1) % length)
                )
                answer.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", target))
            answer.set_rcode(dns.rcode.NOERROR)
            return answer

        stub.behave = loop
        with pytest.raises(ResolverTrouble):
            await resolver.addresses("mail.example")
        with pytest.raises(ResolverTrouble):
            await resolver.mx("example")


async def test_thousands_of_records_are_bounded_and_hold_nothing_up() -> None:
    async with running() as (resolver, (stub,), _):
        hosts = [f"10 h{number}.example." for number in range(2000)]

        def many(answer: dns.message.Message) -> dns.message.Message:
            if answer.flags & dns.flags.TC or not stub.tcp:
                answer.answer.clear()
                answer.flags |= dns.flags.TC
            return answer

        ZONE["many.example", "MX"] = hosts
        NAMES.add("many.example")
        try:
            stub.behave = many
            found = await resolver.mx("many.example")
        finally:
            del ZONE["many.example", "MX"]
        assert len(found) == 200
