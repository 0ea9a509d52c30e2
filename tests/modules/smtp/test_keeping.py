"""Connections that are kept for the next message of a busy host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from appliance.protocols.smtp import events as e
from tests.modules.smtp.sink import Outside, outside


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Outside]:
    async with outside(tmp_path) as world:
        world.line.unlimited = True
        yield world


async def test_a_busy_host_gets_its_mail_over_one_connection(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    for _ in range(5):
        await world.send("ann@x.test")
        await world.settle(0.1)
    assert len(sink.messages) == 5
    assert sink.connections == 2  # after the first message nobody knew that there would be more
    assert sink.words.count("RSET") == 0
    await world.settle(3)
    assert sink.open == 0 and sink.words.count("QUIT") == 2


async def test_none_is_kept_where_a_schedule_limits_the_traffic(autojump_clock: MockClock, world: Outside) -> None:
    world.line.unlimited = False
    sink = world.sink("x.test", "198.51.100.1")
    for _ in range(3):
        await world.send("ann@x.test")
        await world.settle(0.1)
        assert sink.open == 0
    assert sink.connections == 3


@pytest.mark.feature("SMTP-069")
async def test_idle_connections_count_as_channels(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(SendChannels="2")
    sinks = [world.sink(f"d{number}.test", f"198.51.100.{number}") for number in range(5)]
    for _ in range(3):
        for number in range(5):
            await world.send(f"ann@d{number}.test")
            await world.settle(0.01)
            assert sum(sink.open for sink in sinks) <= 2
    assert [len(sink.messages) for sink in sinks] == [3] * 5


async def test_a_connection_that_was_ended_meanwhile_is_not_used(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    for _ in range(2):
        await world.send("ann@x.test")
        await world.settle(0.1)
    # The other server ends it at the very moment of the next MAIL.
    sink.answer = lambda event: "drop" if isinstance(event, e.Mail) and sink.connections == 2 else None
    await world.send("ann@x.test")
    await world.settle(0.5)
    assert len(sink.messages) == 3
    assert (sink.connections, world.live) == (3, 0)


async def test_what_is_in_doubt_is_not_repeated_at_once(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    for _ in range(2):
        await world.send("ann@x.test")
        await world.settle(0.1)
    sink.answer = lambda event: "drop" if isinstance(event, e.DataEnd) else None
    await world.send("ann@x.test")
    await world.settle(600)
    assert (sink.words.count("DATAEND"), world.live) == (3, 1)
    sink.answer = lambda event: None
    await world.settle(1800)
    assert world.live == 0


async def test_a_changed_setting_ends_them(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    for _ in range(2):
        await world.send("ann@x.test")
        await world.settle(0.1)
    assert sink.open == 1
    await world.set(TLSDomains="x.test")
    await world.settle(0.1)
    assert sink.open == 0
