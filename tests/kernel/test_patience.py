"""One timer for the waits of many channels."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from appliance.kernel.channel import Channel, ChannelTimeout
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.patience import Patience


async def test_each_channel_has_its_own_time(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    patience = Patience()
    await nursery.start(patience.run)
    ended: list[tuple[float, float]] = []

    async def wait(channel: Channel) -> None:
        with pytest.raises(ChannelTimeout, match=f"nothing was received for {channel.timeout:g} seconds"):
            await channel.receive()
        ended.append((channel.timeout, trio.current_time()))
        await channel.send(b"too late\r\n")  # the connection is as good as before

    began = trio.current_time()
    async with trio.open_nursery() as waits:
        for seconds in (50, 3, 600, 3.5):
            near, far = channel_pair()
            near.timeout = 1000
            far.timeout = seconds
            far.patience = patience
            patience.add(far)
            waits.start_soon(wait, far)
            waits.start_soon(near.receive)
            await trio.sleep(0.1)
    for seconds, at in ended:
        assert seconds <= at - began < seconds + 0.5
    assert [seconds for seconds, _ in ended] == [3, 3.5, 50, 600]


async def test_who_is_served_in_time_goes_on(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    patience = Patience()
    await nursery.start(patience.run)
    near, far = channel_pair()
    far.timeout = 10
    far.patience = patience
    patience.add(far)
    for _ in range(5):
        nursery.start_soon(trio.sleep, 1)
        async with trio.open_nursery() as both:

            async def late() -> None:
                await trio.sleep(9)
                await near.send(b"x")

            both.start_soon(late)
            assert await far.receive() == b"x"
    patience.discard(far)
    with trio.move_on_after(60) as scope:  # nobody keeps its time any more
        await far.receive()
    assert scope.cancelled_caught
