"""Other servers that misbehave: nothing is lost, nothing is sent twice that need not be, and the log tells why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from appliance.formats.addresses import Path as Address
from appliance.kernel.channel import Channel
from appliance.protocols.smtp import ProtocolError, Reply, SmtpClient
from appliance.protocols.smtp import events as e
from tests.modules.smtp.sink import Outside, Sink, outside


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Outside]:
    async with outside(tmp_path) as world:
        yield world


class Scripted(Sink):
    """A server that does what it likes with the connection."""

    def __init__(self, script: Callable[[Channel], Awaitable[None]]) -> None:
        super().__init__()
        self.script = script

    async def _serve(self, channel: Channel) -> None:
        await self.script(channel)


def put(world: Outside, sink: Sink) -> Sink:
    world.sink("x.test", "198.51.100.1")
    world.sinks["198.51.100.1", 25] = sink
    return sink


PHASES = ["greeting", "EHLO", "MAIL", "DATA", "dot"]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("phase", PHASES)
async def test_a_server_that_stalls(autojump_clock: MockClock, world: Outside, phase: str, pipelining: bool) -> None:
    """At whatever point it falls silent, the channel is free again in the end, and the next attempt delivers."""

    async def script(channel: Channel) -> None:
        if phase == "greeting":
            await trio.sleep_forever()
        await channel.send(b"220 hello\r\n")
        seen = b""
        while True:
            seen += await channel.receive()
            if seen.startswith(b"EHLO") and phase == "EHLO":
                await trio.sleep_forever()
            if seen.startswith(b"EHLO") and seen.count(b"\n") == 1:
                await channel.send(b"250-x\r\n250 PIPELINING\r\n" if pipelining else b"250 x\r\n")
                seen = b""
            elif seen.startswith(b"MAIL"):
                if phase == "MAIL":
                    await trio.sleep_forever()
                await channel.send(b"250 a\r\n250 b\r\n354 c\r\n" if pipelining else b"250 a\r\n")
                seen = b"" if not pipelining else b"."
            elif seen.startswith(b"RCPT"):
                await channel.send(b"250 b\r\n")
                seen = b""
            elif seen.startswith(b"DATA"):
                if phase == "DATA":
                    await trio.sleep_forever()
                await channel.send(b"354 c\r\n")
                seen = b"."
            elif seen.endswith(b"\r\n.\r\n") and phase == "dot":
                await trio.sleep_forever()

    stalled = put(world, Scripted(script))
    await world.send("ann@x.test")
    await world.settle(1500)
    assert (len(world.sessions), world.live, world.reports) == (0, 1, [])
    assert stalled.connections == 1
    assert "within" in world.log.text() or "nothing was received" in world.log.text()
    sink = world.sinks["198.51.100.1", 25] = Sink()
    await world.settle(3700)
    assert (len(sink.messages), world.live) == (1, 0)


async def test_dropped_after_the_dot(autojump_clock: MockClock, world: Outside) -> None:
    """It may have taken the message: it is sent again, but only after the usual time, and the others are not touched."""
    sink = world.sink("x.test", "198.51.100.1")
    sink.answer = lambda event: "drop" if isinstance(event, e.DataEnd) and sink.connections == 1 else None
    await world.send("ann@x.test")
    await world.send("bob@x.test")
    await world.settle(10)
    assert sink.words.count("DATAEND") == 2 and len(sink.messages) == 1
    assert world.live == 1 and world.reports == []
    await world.settle(1801)
    assert len(sink.messages) == 2 and world.live == 0


GARBAGE = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\0\xff" * 400 + b"\r\n",
    b"250-\r\n" * 5000,
    b"250 " + b"x" * 100_000,
    b"250 unasked\r\n" * 50,
    b"354 go on\r\n",
    b"\r\n\r\n",
]


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage(autojump_clock: MockClock, world: Outside, garbage: bytes, after: int) -> None:
    async def script(channel: Channel) -> None:
        for line in [b"220 hello\r\n"][:after]:
            await channel.send(line)
            await channel.receive()
        await channel.send(garbage)
        while await channel.receive():
            pass

    bad = put(world, Scripted(script))
    await world.send("ann@x.test")
    await world.settle(700)
    assert (bad.open, world.live, world.reports) == (0, 1, [])
    assert "198.51.100.1" in world.log.text() or "mx0.x.test" in world.log.text()


@pytest.mark.parametrize("lie", ["SIZE 10", "SIZE 99999999999999999999999", "SIZE x", "SIZE -1", "SIZE"])
async def test_what_is_said_about_size_is_not_believed(autojump_clock: MockClock, world: Outside, lie: str) -> None:
    sink = world.sink("x.test", "198.51.100.1", "PIPELINING", lie)
    await world.send("ann@x.test")
    await world.settle()
    assert (len(sink.messages), world.live) == (1, 0)


@pytest.mark.parametrize("where", [e.Mail, e.Data, e.DataEnd])
async def test_too_large_after_all(autojump_clock: MockClock, world: Outside, where: type) -> None:
    sink = world.sink("x.test", "198.51.100.1", "SIZE 100000000")
    sink.answer = lambda event: Reply(552, "too large", "5.3.4") if isinstance(event, where) else None
    await world.send("ann@x.test")
    await world.settle(5)
    assert (sink.messages, world.live) == ([], 0)
    assert b"5.3.4" in world.reports[0] and b"too large" in world.reports[0]


async def test_silent_dns_delays_and_tells(autojump_clock: MockClock, world: Outside) -> None:
    world.sink("x.test", "198.51.100.1")
    world.names.silent.add("x.test")
    await world.send("ann@x.test")
    await world.settle(10)
    assert (world.live, world.reports) == (1, [])
    assert "no answer" in world.log.text()
    world.names.silent.clear()
    await world.settle(1801)
    assert world.live == 0


async def test_ten_exchangers_are_tried_of_a_thousand(autojump_clock: MockClock, world: Outside) -> None:
    world.names.mx["x.test"] = [f"mx{number}.x.test" for number in range(1000)]
    world.names.a |= {f"mx{number}.x.test": [f"198.51.{number // 256}.{number % 256}"] for number in range(1000)}
    await world.send("ann@x.test")
    await world.settle(5)
    assert len(world.connected) == 10
    assert world.live == 1


@pytest.mark.feature("SMTP-071", "STD-041")
@pytest.mark.parametrize("address", ["2001:db8::25", "198.51.100.25"])
async def test_exchangers_of_either_kind_of_address(autojump_clock: MockClock, world: Outside, address: str) -> None:
    world.names.mx["x.test"] = ["mx.x.test", "next.x.test"]
    world.names.a |= {"mx.x.test": ["198.51.100.1", "2001:db8::1"], "next.x.test": [address]}
    sink = world.sinks[address, 25] = Sink()
    await world.send("ann@x.test")
    await world.settle()
    assert world.connected == [("198.51.100.1", 25), ("2001:db8::1", 25), (address, 25)]
    assert len(sink.messages) == 1


@pytest.mark.parametrize("before", ["192.0.2.50,192.0.2.51", "192.0.2.51"])
async def test_mail_that_waits_while_the_forwarding_server_is_changed(
    autojump_clock: MockClock, world: Outside, before: str
) -> None:
    await world.set(ForwardTo=before)
    await world.send("ann@x.test")
    await world.settle()
    await world.set(ForwardTo="")
    sink = world.sink("other.test", "192.0.2.51")
    await world.settle(1801)
    assert (len(sink.messages), world.live, world.reports) == (1, 0, [])


@pytest.mark.parametrize("wrong", ["*", "no host!", "192.0.2.1:99999"])
async def test_a_forwarding_server_that_is_none(autojump_clock: MockClock, world: Outside, wrong: str) -> None:
    await world.set(ForwardTo=wrong)
    await world.send("ann@x.test")
    await world.settle()
    assert (world.live, world.reports, world.connected) == (1, [], [])
    assert "Forward to:" in world.log.text()


REPLIES = st.sampled_from(
    [
        b"220 hi\r\n",
        b"250 ok\r\n",
        b"250-x\r\n250-PIPELINING\r\n250 SIZE 9\r\n",
        b"354 go\r\n",
        b"334 YWJj\r\n",
        b"334 \xff\r\n",
        b"421 bye\r\n",
        b"450 later\r\n",
        b"550-5.1.1 no\r\n550 5.1.1 no\r\n",
        b"999 x\r\n",
        b"2",
        b"\r\n",
        b"\n",
        b"\0",
        b"-",
    ]
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(REPLIES | st.binary(max_size=20), max_size=30), st.data())
def test_the_client_protocol_takes_anything(pieces: list[bytes], data: st.DataObject) -> None:
    """Whatever a server says, the client gives answers to what it has asked, in order, or calls it an error."""
    client = SmtpClient()
    asked: list[str] = []

    def ask() -> None:
        choice = data.draw(st.integers(0, 6))
        if choice == 0:
            client.hello("box.test")
            asked.append("EHLO")
        elif choice == 1:
            client.mail(Address("joe", "box.test"), size=5, eight_bit=True, ret="FULL", envid="x y")
            asked.append("MAIL")
        elif choice == 2:
            client.rcpt(Address("ann", "x.test"), notify=("NEVER",), orcpt="rfc822;a b@x")
            asked.append("RCPT")
        elif choice == 3:
            client.rset()
            asked.append("RSET")
        elif choice == 4:
            client.etrn("box.test")
            asked.append("ETRN")
        elif choice == 5:
            client.atrn("a.test,b.test")
            asked.append("ATRN")
        elif choice == 6:
            client.start_tls()
            asked.append("STARTTLS")

    given_answers: list[str] = []
    try:
        for piece in pieces:
            ask()
            out = client.data_to_send()
            assert out.count(b"\r\n") == out.count(b"\n")
            client.receive(piece)
            while (answer := client.next_answer()) is not None:
                given_answers.append(answer.command)
                client.data_to_send()
    except ProtocolError:
        pass
    told = [word for word in given_answers if word]
    assert told == asked[: len(told)]
