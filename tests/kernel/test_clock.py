from datetime import timedelta, timezone

import trio
import trio.testing

from appliance.kernel.clock import SystemClock, TrioClock


async def test_a_clock_of_the_tests_sleeps_with_the_sleepers(autojump_clock: trio.testing.MockClock) -> None:
    clock = TrioClock(epoch=1000.0)
    assert clock.now() == 1000.0
    before = clock.monotonic()
    await trio.sleep(5 * 86400)
    assert clock.now() == 1000.0 + 5 * 86400
    assert clock.monotonic() - before == 5 * 86400


async def test_local_time_knows_its_zone(autojump_clock: trio.testing.MockClock) -> None:
    clock = TrioClock(zone=timezone(timedelta(hours=2)))
    assert clock.local(0.0).isoformat() == "1970-01-01T02:00:00+02:00"


def test_the_machines_clock() -> None:
    clock = SystemClock()
    assert clock.now() > 1_700_000_000
    assert clock.monotonic() <= clock.monotonic()
    assert clock.local(0.0).timestamp() == 0
    assert clock.local(0.0).tzinfo is not None
