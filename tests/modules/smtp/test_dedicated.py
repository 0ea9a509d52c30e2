"""Mail of a domain that goes out from an address of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from appliance.modules.smtp.hosts import dedicated_queue, split_queue
from tests.modules.smtp.sink import Outside, outside


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Outside]:
    async with outside(tmp_path) as world:
        yield world


@pytest.mark.parametrize("source", ["12.34.56.78", "2001:db8::1"])
@pytest.mark.parametrize("host", ["x.test", "x.test:26", "[10.0.0.5:26]", "[IPv6:::1]:26"])
def test_the_names_of_queues(source: str, host: str) -> None:
    assert split_queue(dedicated_queue(source, host)) == (source, host)
    assert split_queue(host) == ("", host)


@pytest.mark.feature("SMTP-090")
async def test_a_queue_of_its_own_and_the_address(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    world.dedicated["client1.com"] = "10.7.7.7"
    world.line.opened = type(world.line.opened)()
    await world.send("ann@x.test", sender="joe@client1.com")
    await world.send("ann@x.test", sender="joe@box.test")
    await world.settle()
    assert sorted(queue.host for queue in world.room.queues.all("SMTP")) == ["@10.7.7.7:x.test", "x.test"]
    world.line.opened.set()
    await world.settle()
    assert sorted(world.sources) == ["", "10.7.7.7"]
    assert len(sink.messages) == 2


@pytest.mark.feature("SMTP-097", "SMTP-091")
async def test_tls_demands_hold_for_such_queues(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    world.dedicated["client1.com"] = "10.7.7.7"
    await world.set(TLSDomains="x.test")
    sink.certificate = world.certificate("mx0.x.test")
    await world.send("ann@x.test", sender="joe@client1.com")
    await world.settle()
    assert sink.secure == [True]
    assert sink.words[:5] == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT"]
    assert world.sources == ["10.7.7.7"]


@pytest.mark.feature("SMTP-109", "SMTP-118")
@pytest.mark.parametrize("way", ["release", "mail"])
async def test_they_are_held_and_released_with_the_plain_queue(
    autojump_clock: MockClock, world: Outside, way: str
) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    world.dedicated |= {"client1.com": "10.7.7.7", "client2.com": "10.8.8.8"}
    await world.set(HoldDomains="x.test")
    for domain in ("client1.com", "client2.com", "box.test"):
        await world.send("ann@x.test", sender=f"joe@{domain}")
    await world.settle(600)
    assert sink.connections == 0
    if way == "release":
        assert world.sender.release("x.test")
    else:
        await world.send("x.test-wakeup@box.test")
    await world.settle()
    assert len(sink.messages) == 3
    assert sorted(world.sources) == ["", "10.7.7.7", "10.8.8.8"]
