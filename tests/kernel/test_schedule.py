"""The TCP Activity Schedule: when something may go out."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import trio
import trio.testing

from appliance.formats.data import Value
from appliance.kernel.clock import TrioClock
from appliance.kernel.log import MemoryLog
from appliance.kernel.operations import Caller, Operations
from appliance.kernel.schedule import SCHEDULE, Schedule, declare
from appliance.kernel.settings import MemoryStorage, SettingError, Settings

ZONE = ZoneInfo("Europe/Berlin")
HOUR = 3600


async def schedule(when: str, *rows: dict[str, Value]) -> tuple[Schedule, MemoryLog]:
    """A schedule at a local time `2026-11-21 12:00` (a Saturday)."""
    log = MemoryLog()
    clock = TrioClock(datetime.strptime(when, "%Y-%m-%d %H:%M").replace(tzinfo=ZONE).timestamp(), ZONE)
    settings = Settings(SCHEDULE, MemoryStorage())
    await settings.update({"Schedule": list(rows)})
    return Schedule(settings, clock, log.source("TCP")), log


def row(day: str, begin: str = "00:00", end: str = "24:00", pause: str = "0") -> dict[str, Value]:
    return {"Day": day, "From": begin, "To": end, "Pause": pause}


@pytest.mark.feature("DIAL-009")
async def test_without_rows_everything_may_go_out() -> None:
    line, _ = await schedule("2026-11-21 03:00")
    assert line.open_now() and line.until_open() == 0
    async with line.session("SMTPO"):
        assert line.active == 1
    async with line.session("SMTPO"):
        pass


@pytest.mark.feature("DIAL-003")
@pytest.mark.parametrize(
    ("when", "wait"),
    [
        ("2026-11-21 09:00", 0),  # Saturday, first row
        ("2026-11-21 08:59", 60),
        ("2026-11-21 10:00", 43 * HOUR),  # until Monday 05:00
        ("2026-11-23 05:30", 0),
        ("2026-11-27 06:00", 27 * HOUR),
        ("2026-11-22 12:00", 17 * HOUR),
    ],
)
async def test_any_of_several_rows_may_allow(when: str, wait: float) -> None:
    line, _ = await schedule(when, row("Saturday", "09:00", "10:00"), row("Weekdays", "05:00", "06:00"))
    assert line.until_open() == wait and line.open_now() == (wait == 0)


@pytest.mark.feature("DIAL-004")
@pytest.mark.parametrize(
    ("when", "open_"), [("2026-11-21 23:00", True), ("2026-11-22 06:00", True), ("2026-11-21 12:00", False)]
)
async def test_a_window_may_go_over_midnight(when: str, open_: bool) -> None:
    line, _ = await schedule(when, row("Every day", "19:30", "07:30"))
    assert line.open_now() == open_
    saturday, _ = await schedule(when, row("Saturday", "19:30", "07:30"))
    assert saturday.open_now() == open_
    sunday, _ = await schedule(when, row("Sunday", "19:30", "07:30"))
    assert not sunday.open_now()


@pytest.mark.feature("DIAL-001")
async def test_a_session_waits_for_the_window(autojump_clock: trio.testing.MockClock) -> None:
    line, _ = await schedule("2026-11-21 17:00", row("Every day", "19:30", "20:00"))
    assert not line.permits()
    async with line.session("SMTPO"):
        assert trio.current_time() == pytest.approx(2.5 * HOUR, abs=1)
        assert line.permits()
        await trio.sleep(HOUR)  # the window ends
        assert line.permits() and not line.open_now()
        async with line.session("DNR"):  # part of the same
            pass
    with trio.move_on_after(12 * HOUR) as scope:
        async with line.session("RPOP"):
            pass
    assert scope.cancelled_caught


@pytest.mark.feature("DIAL-005", "DIAL-007")
async def test_the_pause_counts_from_the_end_of_a_session(autojump_clock: trio.testing.MockClock) -> None:
    line, log = await schedule("2026-11-21 12:00", row("Every day", pause="30m"))
    began = []

    async def send(kind: str, start: float, seconds: float) -> None:
        await trio.sleep(start)
        async with line.session(kind):
            began.append((kind, round(trio.current_time())))
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, "SMTPO", 0, 300)
        nursery.start_soon(send, "RPOP", 100, 500)  # joins: one call serves all
        nursery.start_soon(send, "SMTPW", 700, 10)
    assert began == [("SMTPO", 0), ("RPOP", 100), ("SMTPW", 600 + 1800)]
    assert [text for level, tag, text in log.records if (level, tag) == (2, "TCP")] == [
        "TCP session begins: SMTPO",
        "TCP session ends",
        "TCP session begins: SMTPW",
        "TCP session ends",
    ]


async def test_a_person_may_override(autojump_clock: trio.testing.MockClock) -> None:
    line, log = await schedule("2026-11-21 12:00", row("Monday", "01:00", "02:00"))
    async with line.session("SMTPW", override=True):
        assert trio.current_time() == 0 and line.permits()
    assert "2 TCP SMTPW is asked for by hand" in log.text()
    async with line.session("SMTPO", address="127.0.0.1"):
        assert trio.current_time() == 0


async def test_a_change_of_the_schedule_counts_at_once(autojump_clock: trio.testing.MockClock) -> None:
    line, _ = await schedule("2026-11-21 12:00", row("Monday", "01:00", "02:00"))

    async def change() -> None:
        await trio.sleep(100)
        await line.settings.update({"Schedule": [row("Never")]})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        async with line.session("SMTPO"):
            assert trio.current_time() == 100


@pytest.mark.feature("DIAL-010")
async def test_windows_follow_local_time_over_a_zone_change(autojump_clock: trio.testing.MockClock) -> None:
    line, _ = await schedule("2026-10-24 12:00", row("Sunday", "12:00", "13:00"))
    assert line.until_open() == 25 * HOUR  # the night has an hour more
    async with line.session("SMTPO"):
        assert trio.current_time() == pytest.approx(25 * HOUR, abs=1)


async def test_bad_rows_are_refused_and_the_line_shows_its_state() -> None:
    line, _ = await schedule("2026-11-21 12:00", row("Every day", "13:00", "14:00"))
    for bad in (row("Someday"), row("Monday", "25:00"), row("Monday", "7")):
        with pytest.raises(SettingError):
            await line.settings.update({"Schedule": [bad]})
    assert line.settings.effective()["Schedule"] == [row("Every day", "13:00", "14:00", "0s")]
    operations = Operations()
    declare(operations, line)
    server = Caller(None, "", "", None)  # type: ignore[arg-type]
    answer = await operations.perform(server, "GETSCHEDULESTATUS")
    assert answer == {"Open": "NO", "Sessions": "0", "Seconds": "3600"}
