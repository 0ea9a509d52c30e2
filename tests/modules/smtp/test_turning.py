"""ATRN and TURN: a host that logs in gets the mail that is held for its domain, over its own connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.kernel.channel import Channel
from appliance.modules.smtp.surroundings import LoginRefused, Sender
from appliance.modules.smtp.turning import Turning
from appliance.protocols.sasl import DigestProof, Done, encode
from tests.modules.smtp.conftest import FakeLogins, Peer, World
from tests.modules.smtp.sink import Outside, Sink, outside


class Customers(FakeLogins):
    """Accounts of box.test with the names of domains."""

    async def password(self, name: str, password: str, service: str, channel: Channel) -> Sender:
        if password != "pw":
            raise LoginRefused("wrong name or password")
        return Sender(f"{name}@box.test" if "@" not in name else name, False)

    async def proven(self, done: Done, service: str, channel: Channel) -> Sender:
        if isinstance(done.evidence, DigestProof) and done.evidence.holds("pw"):
            return Sender(f"{done.authcid}@box.test", False)
        raise LoginRefused("wrong name or password")


class Provider:
    """box.test keeps mail for client.com; `world` is its sending side, `front` its receiving one."""

    def __init__(self, world: Outside, front: World) -> None:
        self.world = world
        self.front = front

    async def login(self, name: str = "client.com") -> Peer:
        peer = await self.front.connect(client=True)
        word = encode(f"\0{name}\0pw".encode()).decode()
        assert (await peer.say(f"AUTH PLAIN {word}")).startswith("235")
        return peer


@pytest.fixture
async def provider(tmp_path: Path, world: World) -> AsyncIterator[Provider]:
    (tmp_path / "out").mkdir()
    async with outside(tmp_path / "out") as out:
        await out.set(HoldDomains="client.com, *.held.test")
        await world.set(HoldDomains="client.com, *.held.test")
        world.around.turn = Turning(out.sender, out, lambda: "box.test")
        world.around.release = out.sender.release
        world.around.logins = Customers()
        yield Provider(out, world)


async def taken(peer: Peer, *offers: str) -> Sink:
    """The customer's side after the roles were turned: a server that takes everything."""
    sink = Sink(*offers)
    peer.channel.restore(peer._held)
    with trio.fail_after(5):
        await sink.serve(peer.channel)
    return sink


@pytest.mark.feature("SMTP-111", "DIAL-041", "STD-032")
@pytest.mark.parametrize("command", ["ATRN client.com", "ATRN", "atrn Client.Com"])
async def test_the_queue_is_sent_over_the_same_connection(
    autojump_clock: MockClock, provider: Provider, command: str
) -> None:
    for number in range(3):
        await provider.world.send(f"u{number}@client.com")
    await provider.world.settle(600)
    assert provider.world.connected == []
    peer = await provider.login()
    assert (await peer.say(command)).startswith("250 ")
    sink = await taken(peer)
    assert sink.lines[0] == "EHLO box.test" and sink.lines[-1] == "QUIT"
    assert [line for line in sink.lines if line.startswith("RCPT")] == [f"RCPT u{n}@client.com" for n in range(3)]
    assert len(sink.messages) == 3
    await provider.world.settle()
    assert provider.world.live == 0 and provider.world.connected == []


@pytest.mark.feature("SMTP-115")
async def test_turn(autojump_clock: MockClock, provider: Provider) -> None:
    peer = await provider.front.connect(client=True)
    assert (await peer.say("TURN")).startswith("530")
    await provider.world.send("u@client.com")
    await provider.world.settle()
    peer = await provider.login()
    assert (await peer.say("TURN")).startswith("250")
    assert len((await taken(peer)).messages) == 1


@pytest.mark.feature("SMTP-112", "STD-032")
async def test_refusals(autojump_clock: MockClock, provider: Provider) -> None:
    await provider.world.send("u@client.com", "u@x.held.test", "u@free.test")
    await provider.world.settle()
    peer = await provider.front.connect(client=True)
    assert (await peer.say("ATRN client.com")).startswith("530")
    peer = await provider.login()
    assert (await peer.say("ATRN x.held.test")).startswith("450")
    assert (await peer.say("ATRN client.com,x.held.test")).startswith("450")
    assert (await peer.say("ATRN not/a/domain")).startswith("501")
    assert (await (await provider.login("free.test")).say("ATRN")).startswith("450")
    assert (await (await provider.login("joe")).say("ATRN")).startswith("450")
    assert (await (await provider.login("y.held.test")).say("ATRN")).startswith("453")
    # The session goes on after a refusal, and its mail is still there.
    assert (await peer.say("NOOP")).startswith("250")
    assert (await peer.say("ATRN")).startswith("250")
    assert len((await taken(peer)).messages) == 1


@pytest.mark.feature("SMTP-113", "SMTP-119")
async def test_the_name_goes_through_the_router(autojump_clock: MockClock, provider: Provider) -> None:
    plain = provider.world.route

    async def route(address: str, *arguments: object) -> object:
        return await plain(address.replace("@client.com", "@hub.held.test"), *arguments)  # type: ignore[arg-type]

    provider.world.route = route  # type: ignore[method-assign, assignment]
    await provider.world.send("u@hub.held.test")
    await provider.world.settle()
    peer = await provider.login()
    assert (await peer.say("ATRN")).startswith("250")
    assert "RCPT u@hub.held.test" in (await taken(peer)).lines


@pytest.mark.feature("SMTP-112")
async def test_atrn_is_offered_where_mail_is_held(autojump_clock: MockClock, provider: Provider) -> None:
    peer = await provider.front.connect(ehlo=False)
    assert "250-ATRN" in await peer.say("EHLO x")
    await provider.front.set(HoldDomains="")
    assert "ATRN" not in await peer.say("EHLO x")


@pytest.mark.feature("SMTP-112")
async def test_a_customer_that_goes_away_loses_nothing(autojump_clock: MockClock, provider: Provider) -> None:
    for number in range(3):
        await provider.world.send(f"u{number}@client.com")
    await provider.world.settle()
    peer = await provider.login()
    assert (await peer.say("ATRN")).startswith("250")
    peer.channel.close()
    await provider.world.settle()
    assert provider.world.live == 3
    # Within the second message.
    peer = await provider.login()
    assert (await peer.say("ATRN")).startswith("250")
    cut = Sink("SIZE")
    cut.answer = lambda event: "drop" if len(cut.messages) == 1 and cut.lines[-1] == "DATA" else None
    await cut.serve(peer.channel)
    await provider.world.settle()
    assert (len(cut.messages), provider.world.live) == (1, 2)
    peer = await provider.login()
    assert (await peer.say("ATRN")).startswith("250")
    assert len((await taken(peer)).messages) == 2
    await provider.world.settle()
    assert provider.world.live == 0


async def test_a_customer_that_does_not_greet(autojump_clock: MockClock, provider: Provider) -> None:
    await provider.world.send("u@client.com")
    await provider.world.settle()
    peer = await provider.login()
    assert (await peer.say("ATRN")).startswith("250")
    await provider.world.settle(3600)
    assert await peer.is_closed()
    assert provider.world.live == 1
