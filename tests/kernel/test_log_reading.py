"""Reading the System Log: lists, filtered and live views, deletion, and who may do what."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.log import LOG, Log
from appliance.kernel.log_reading import LogReader, View, declare
from appliance.kernel.operations import Caller, Denied, OperationError, Operations
from appliance.kernel.settings import MemoryStorage, Settings

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC).timestamp()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[Log, LogReader]]:
    log = Log(InLoopDisk(), str(directory), Settings(LOG, MemoryStorage()), TrioClock(NOON))
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        yield log, LogReader(log)
        nursery.cancel_scope.cancel()


class Rights:
    """An authority with fixed rights."""

    def __init__(self, *rights: str) -> None:
        self._rights = frozenset(rights)

    def rights(self, account: str) -> frozenset[str]:
        return self._rights

    def domain_name(self, name: str) -> str | None:
        return name

    def administers(self, domain: str, other: str) -> bool:
        return False


def caller(*rights: str) -> Caller:
    return Caller("admin@example.com", "example.com", "CLI", Rights(*rights))


async def shown(reader: LogReader, name: str = "2026-11-21", view: View | None = None) -> list[str]:
    async with aclosing(reader.view(name, view or View())) as pieces:
        text = b"".join([piece async for piece in pieces]).decode()
    return [line for line in text.splitlines() if " 0 SYSTEM " not in line]


async def fill(log: Log) -> None:
    pop, smtp = log.source("POP", lambda: 5), log.source("SMTP", lambda: 5)
    pop.session(1).major("connected")
    await trio.sleep(60)
    pop.session(1).low("cmd: STAT")
    smtp.session(12).all("link")
    await trio.sleep(60)
    smtp.session(12).problem("unknown user")
    await trio.sleep(1)


async def test_the_list_has_the_newest_first_and_marks_the_current(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    for name in ("2026-11-19", "2026-11-20", "2026-11-20_13-00"):
        (tmp_path / name).write_bytes(b"x" * 10)
    async with running(tmp_path) as (_, reader):
        files = await reader.files()
        assert [file.name for file in files] == ["2026-11-21", "2026-11-20_13-00", "2026-11-20", "2026-11-19"]
        assert [file.current for file in files] == [True, False, False, False]
        assert files[1].size == 10
        assert [file.name for file in await reader.files("11-20")] == ["2026-11-20_13-00", "2026-11-20"]


@pytest.mark.feature("LOG-053", "LOG-054", "LOG-055", "LOG-057", "LOG-058")
async def test_views_select_by_time_level_and_text(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as (log, reader):
        await fill(log)
        everything = await shown(reader)
        assert len(everything) == 4
        assert await shown(reader, view=View(end="*")) == everything
        assert await shown(reader, view=View(start="12:01", end="12:01")) == everything[1:3]
        assert await shown(reader, view=View(start="12:01:00.500")) == everything[3:]
        assert await shown(reader, view=View(end="12:00")) == everything[:1]
        assert await shown(reader, view=View(level=3)) == [everything[0], everything[3]]
        assert await shown(reader, view=View(filter="POP-1 ")) == everything[:2]
        assert await shown(reader, view=View(filter="POP-1 ", level=2)) == everything[:1]
        assert await shown(reader, view=View(filter="pop-1 ")) == []
        assert await shown(reader, view=View(filter="pop-1 ", ignore_case=True)) == everything[:2]
        with pytest.raises(OperationError, match="time of day"):
            await shown(reader, view=View(start="noon"))


@pytest.mark.feature("LOG-059")
async def test_only_matches_of_a_large_file_are_sent(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as (_, reader):
        line = "10:00:00.000 5 SMTP-%d some data of a session that goes on and on\n"
        (tmp_path / "2026-11-20").write_text("".join(line % number for number in range(60_000)))
        assert await shown(reader, "2026-11-20", View(filter="SMTP-48123 ")) == [(line % 48123).rstrip()]
        assert len(await shown(reader, "2026-11-20")) == 60_000


@pytest.mark.feature("LOG-056")
async def test_a_view_with_an_end_in_the_future_is_live(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as (log, reader):
        await fill(log)
        seen: list[tuple[float, bytes]] = []

        async def follow() -> None:
            async with aclosing(reader.view("2026-11-21", View(filter="POP", end="12:30"))) as pieces:
                async for piece in pieces:
                    seen.append((trio.current_time(), piece))

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.sleep(300)
            log.source("POP", lambda: 5).major("new record")
            log.source("SMTP", lambda: 5).major("not wanted")
            await trio.sleep(1)
            assert len(seen) == 2 and seen[1][1].endswith(b"2 POP new record\n")
            assert seen[1][0] - began == pytest.approx(300, abs=0.2)
        assert log.clock.local(log.clock.now()).strftime("%H:%M:%S") >= "12:30:59"


@pytest.mark.feature("LOG-056")
async def test_a_live_view_ends_when_a_new_file_begins(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as (log, reader):
        await log.settings.update({"OrIfLargerThan": "1K"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shown, reader, "2026-11-21", View(end="23:00"))
            await trio.sleep(10)
            log.source("A", lambda: 5).major("x" * 900)
            await trio.sleep(10)
            log.source("A", lambda: 5).major("x" * 900)
        assert trio.current_time() < 60


@pytest.mark.feature("LOG-060")
async def test_a_view_that_is_left_disturbs_nothing(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as (log, reader):
        await fill(log)
        with trio.move_on_after(5):
            await shown(reader, view=View(end="23:00"))
        assert len(await shown(reader)) == 4


@pytest.mark.feature("LOG-035")
async def test_the_current_file_cannot_be_deleted(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    (tmp_path / "2026-11-20").write_bytes(b"x")
    (tmp_path / "2026-11-19").write_bytes(b"x")
    (tmp_path.parent / "precious").write_bytes(b"x")
    async with running(tmp_path) as (_, reader):
        with pytest.raises(OperationError, match="current"):
            await reader.delete("2026-11-21")
        for name in ("../precious", "nothing"):
            with pytest.raises(OperationError, match="no such"):
                await reader.delete(name)
            with pytest.raises(OperationError, match="no such"):
                await shown(reader, name)
        await reader.delete("2026-11-20")
        await reader.delete("2026-11-19")
        assert [file.name for file in await reader.files()] == ["2026-11-21"]
    assert (tmp_path.parent / "precious").exists()


@pytest.mark.feature("LOG-013")
async def test_a_command_writes_and_reads_records(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as (log, reader):
        operations = Operations()
        declare(operations, reader, log, log.source("SYSTEM", lambda: 3))
        monitor, tuner = caller("Monitor"), caller("Monitor", "CanTuneLoggerSettings")
        await operations.perform(monitor, "WRITELOG", {"logLevel": "2", "logRecord": "from a script: 100%"})
        await operations.perform(monitor, "WRITELOG", {"logLevel": "5", "logRecord": "too detailed"})
        await operations.perform(tuner, "UPDATELOGSETTINGS", {"newSettings": {"DeleteOldFilesIn": "30d"}})
        await trio.sleep(1)
        assert await shown(reader) == [
            "12:00:00.000 2 SYSTEM from a script: 100%",
            "12:00:00.000 2 SYSTEM Log Engine options DeleteOldFilesIn are changed by admin@example.com",
        ]
        answer = await operations.perform(
            monitor, "READLOG", {"fileName": "2026-11-21", "text": "script", "endTime": "23:59"}
        )
        assert answer == "12:00:00.000 2 SYSTEM from a script: 100%\n"
        listed = await operations.perform(monitor, "LISTLOGS", {})
        assert isinstance(listed, dict) and list(listed) == ["2026-11-21"]
        with pytest.raises(OperationError, match="logLevel"):
            await operations.perform(monitor, "WRITELOG", {"logLevel": "9", "logRecord": "x"})


@pytest.mark.feature("LOG-036")
async def test_viewing_and_tuning_need_their_rights(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    (tmp_path / "2026-11-20").write_bytes(b"x")
    async with running(tmp_path) as (log, reader):
        operations = Operations()
        declare(operations, reader, log, log.source("SYSTEM", lambda: 3))
        nobody, monitor, tuner = caller(), caller("Monitor"), caller("CanTuneLoggerSettings")
        with pytest.raises(Denied):
            await operations.perform(nobody, "LISTLOGS", {})
        for name, arguments in (
            ("DELETELOG", {"fileName": "2026-11-20"}),
            ("UPDATELOGSETTINGS", {"newSettings": {"StartNewFileEvery": "1h"}}),
        ):
            with pytest.raises(Denied):
                await operations.perform(monitor, name, arguments)
            await operations.perform(tuner, name, arguments)
        assert await operations.perform(monitor, "GETLOGSETTINGS", {}) == {
            "StartNewFileEvery": "1h",
            "OrIfLargerThan": "10M",
            "DeleteOldFilesIn": "7d",
        }
