"""When remote accounts are polled: periods, failures, channels, the schedule of the line. No network, no waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
import trio.testing

from appliance.formats.data import Value
from appliance.kernel.clock import TrioClock
from appliance.kernel.schedule import SCHEDULE, Schedule
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.modules.rpop.connecting import HostFailed
from appliance.modules.rpop.mailbox import Denied
from appliance.modules.rpop.memory import Mark
from appliance.modules.rpop.polling import Poll, Poller
from appliance.modules.rpop.scheduler import Scheduler
from appliance.modules.rpop.settings import RPOP
from tests.modules.house import FileStorage, House, storage


class Polls:
    """Takes the place of what polls: notes when and whom, and does what a test wants."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str]] = []
        self.active = self.most = 0
        self.seconds = 0.0
        self.act: Callable[[Poll], Awaitable[None]] | None = None

    async def poll(self, poll: Poll) -> None:
        self.seen.append((round(trio.current_time()), poll.remote.name))
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await trio.sleep(self.seconds)
            if self.act is not None:
                await self.act(poll)
        finally:
            self.active -= 1

    def of(self, name: str) -> list[float]:
        return [at for at, who in self.seen if who == name]


class Desk:
    """A scheduler on the rooms of a house."""

    def __init__(self, office: House, clock: TrioClock | None = None) -> None:
        self.office = office
        self.polls = Polls()
        self.settings = Settings(RPOP, MemoryStorage())
        self.line = Settings(SCHEDULE, MemoryStorage())
        self.clock = clock = clock or TrioClock()
        self.scheduler = Scheduler(
            cast(Poller, self.polls),
            office.domains,
            self.settings,
            office.journal,
            Schedule(self.line, clock, office.log.source("TCP")),
            Sessions(),
            office.log.source("RPOP"),
            clock,
            office.statistics,
            storage,
            str(office.base),
        )

    async def records(self, account: str, *records: Mapping[str, Value]) -> None:
        self.office.domains.main.rpop[account] = [dict(record) for record in records]
        self.scheduler.refresh()

    @asynccontextmanager
    async def running(self):  # type: ignore[no-untyped-def]
        async with trio.open_nursery() as nursery:
            await nursery.start(self.scheduler.run)
            yield
            nursery.cancel_scope.cancel()


def record(name: str, period: str = "2m", host: str = "pop.far.test", **more: str) -> dict[str, Value]:
    return {"authName": name, "domain": host, "password": "x", "period": period, **more}


@pytest.fixture
async def desk(office: House) -> Desk:
    return Desk(office)


@pytest.mark.feature("RPOP-004", "RPOP-006")
async def test_each_has_its_own_period_and_a_change_counts_at_once(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await desk.records("alice", record("quick", "2m"), record("slow", "1h"))
    async with desk.running():
        await trio.sleep(3700)
        assert desk.polls.of("quick")[:4] == [0, 120, 240, 360]
        assert desk.polls.of("slow") == [0, 3600]
        await desk.records("alice", record("quick", "2m"), record("slow", "2m"))
        await trio.sleep(125)
        assert desk.polls.of("slow")[2:] == [3720]


@pytest.mark.feature("RPOP-005")
async def test_never_is_never(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    await desk.records("alice", record("off", "never"), record("zero", "0"))
    async with desk.running():
        await trio.sleep(20_000)
    assert desk.polls.seen == []
    assert [desk.scheduler.next_poll(entry) for entry in desk.scheduler.entries.values()] == [None, None]


@pytest.mark.feature("RPOP-003")
async def test_no_more_connections_than_channels(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    desk.polls.seconds = 10
    await desk.settings.update({"Channels": "0"})
    await desk.records("alice", *(record(f"a{n}", "1h") for n in range(4)))
    async with desk.running():
        await trio.sleep(100)
        assert desk.polls.seen == []
        await desk.settings.update({"Channels": "1"})
        await trio.sleep(100)
        assert desk.polls.most == 1 and [at for at, _ in desk.polls.seen] == [100, 110, 120, 130]
        await desk.settings.update({"Channels": "3"})
        await trio.sleep(3600)
        assert desk.polls.most == 1 or len(desk.polls.seen) == 8


@pytest.mark.feature("RPOP-008")
async def test_all_accounts_of_a_failed_host_wait(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    async def fail(poll: Poll) -> None:
        if poll.remote.host == "down.test":
            raise HostFailed("down.test: nobody answers")

    desk.polls.act = fail
    await desk.records("alice", record("first", "10m", "down.test"), record("fine", "10m"))
    async with desk.running():
        await trio.sleep(60)
        first, fine = record("first", "10m", "down.test"), record("fine", "10m")
        await desk.records("alice", first, fine, record("second", "10m", "down.test"))
        await trio.sleep(7000)
        assert desk.polls.of("first") == [0] and desk.polls.of("second") == []
        assert len(desk.polls.of("fine")) == 12
        await trio.sleep(200)
        assert desk.polls.of("first") == [0, 7200]
        await desk.settings.update({"DelayFailedHosts": "1m"})
        await trio.sleep(65)
        assert len(desk.polls.of("first") + desk.polls.of("second")) >= 3


@pytest.mark.feature("RPOP-009")
async def test_a_failed_account_waits_alone(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    async def fail(poll: Poll) -> None:
        if poll.remote.name == "bad" and poll.remote.password != "right":
            raise Denied("wrong password")

    desk.polls.act = fail
    await desk.records("alice", record("bad", "5m"), record("good", "5m"))
    async with desk.running():
        await trio.sleep(1790)
        assert desk.polls.of("bad") == [0] and len(desk.polls.of("good")) == 6
        await trio.sleep(20)
        assert desk.polls.of("bad") == [0, 1800]
        await desk.records("alice", record("bad", "5m", password="right"), record("good", "5m"))
        await trio.sleep(1)
        assert desk.polls.of("bad") == [0, 1800, 1810]
        await trio.sleep(300)
        assert desk.polls.of("bad")[3:] == [2110]


@pytest.mark.feature("RPOP-007", "DIAL-002", "DIAL-012", "QUEUE-133")
async def test_due_polls_wait_for_the_line(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    # The clock of the test begins at 22:13:20 UTC.
    await desk.line.update({"Schedule": [{"Day": "Every day", "From": "23:00", "To": "23:30", "Pause": "0"}]})
    await desk.records("alice", record("a", "10m"))
    async with desk.running():
        await trio.sleep(2500)
        assert desk.polls.seen == []
        (entry,) = desk.scheduler.entries.values()
        assert entry.doing == "waits for the schedule"
        await trio.sleep(400)
        assert [at for at, _ in desk.polls.seen] == [2800]
        await trio.sleep(7000)
        assert len(desk.polls.seen) == 3
        desk.scheduler.poll_now(entry)
        await trio.sleep(1)
    assert desk.polls.seen[-1][0] in range(9900, 9903)


@pytest.mark.feature("RPOP-007")
async def test_this_computer_needs_no_line(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    await desk.line.update({"Schedule": [{"Day": "Monday", "From": "01:00", "To": "01:01", "Pause": "0"}]})
    await desk.records("alice", record("near", "1h", "127.0.0.1"), record("far", "1h", "127.evil.test"))
    async with desk.running():
        await trio.sleep(10)
    assert [name for _, name in desk.polls.seen] == ["near"]


async def test_what_the_journal_knows_comes_into_the_memory(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    key = "POP a@pop.far.test"
    marks = {n: Mark("alice@office.test", key, f"u{n}").render() for n in (8, 5, 9)}
    desk.scheduler.replayed({**marks, 3: "nonsense", 4: Mark("nobody@office.test", key, "u").render()})
    account = desk.office.domains.main.account("alice")
    assert account is not None
    await FileStorage(account.file("rpop")).save({key: {"Message": "5", "UIDs": "u2"}})
    seen: list[bool] = []

    async def look(poll: Poll) -> None:
        seen.extend(poll.memory.has(uid) for uid in ("u2", "u5", "u8", "u9"))

    desk.polls.act = look
    await desk.records("alice", record("a"))
    async with desk.running():
        await trio.sleep(1)
    # A mark that is no newer than the file was known to it: that message's removal was confirmed.
    assert seen == [True, False, True, True]


async def test_a_restart_polls_nothing_that_was_polled_a_moment_ago(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await desk.records("alice", record("a", "1h"))
    async with desk.running():
        await trio.sleep(600)
    again = Desk(desk.office, desk.clock)
    async with again.running():
        await trio.sleep(1)
        assert again.polls.seen == []
        await trio.sleep(3100)
    assert [at for at, _ in again.polls.seen] == [3600]


async def test_a_poll_of_a_record_that_is_taken_away_ends_first(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    desk.polls.seconds = 100
    await desk.records("alice", record("a", "1h"))
    async with desk.running():
        await trio.sleep(10)
        await desk.records("alice")
        await desk.records("alice", record("a", "1h"))
        await trio.sleep(200)
    assert [at for at, _ in desk.polls.seen] == [0, 10] and desk.polls.most == 1


async def test_the_journal_keeps_what_the_memory_does_not_know_yet(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    needs = desk.scheduler._needs
    seen: list[tuple[int | None, int | None]] = []

    async def submit(poll: Poll) -> None:
        before = needs()
        poll.submitting()
        poll.memory.add("u1", 7)
        seen.append((before, needs()))

    desk.polls.act = submit
    assert needs() == 0  # nothing may go before the marks of the journal are merged
    await desk.records("alice", record("a"))
    position = desk.office.journal.position
    async with desk.running():
        await trio.sleep(1)
        assert needs() is None
    assert seen == [(None, position)]


@pytest.mark.feature("RPOP-073")
async def test_unified_records_from_a_file_of_settings_are_sealed(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await desk.settings.update({"Unified": [record("company", special="X-Real-To")]})
    async with desk.running():
        await trio.sleep(1)
    (stored,) = desk.settings["Unified"]
    assert stored["password"].startswith("\x01") and stored["special"] == "X-Real-To"
    assert desk.polls.of("company") == [0]
