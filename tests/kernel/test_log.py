"""The System Log: what stands in its files, what they are called, and that writing never waits."""

import errno
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from appliance.kernel.clock import Clock, TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.files import OsFiles
from appliance.kernel.log import LOG, Log, MemoryLog, escape
from appliance.kernel.settings import MemoryStorage, Secret, Settings

ZONE = timezone(timedelta(hours=1), "CET")
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=ZONE).timestamp()


@asynccontextmanager
async def running(
    directory: Path, clock: Clock | None = None, disk: InLoopDisk | None = None, period: str = "1d", **options: object
) -> AsyncIterator[Log]:
    settings = Settings(LOG, MemoryStorage())
    await settings.update({"StartNewFileEvery": period})
    log = Log(
        disk or InLoopDisk(),
        str(directory / "SystemLogs"),
        settings,
        clock or TrioClock(NOON, ZONE),
        **options,  # type: ignore[arg-type]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        yield log
        nursery.cancel_scope.cancel()


def lines(directory: Path) -> list[str]:
    """All records, without the heads of the files."""
    return [
        line
        for path in sorted((directory / "SystemLogs").iterdir())
        for line in path.read_text(encoding="utf-8").splitlines()
        if " 0 SYSTEM " not in line
    ]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "SystemLogs").iterdir())


@pytest.mark.feature("LOG-001", "LOG-002", "LOG-003")
async def test_records_of_all_components_are_lines_of_one_file(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as log:
        smtp, pop = log.source("SMTP", lambda: 5), log.source("POP", lambda: 5)
        smtp.major("connected from [%s]:%d", "192.0.2.1", 4711)
        await trio.sleep(61.25)
        pop.session(17).low("cmd: %s", b"STAT")
        smtp.failure("100% sure, without arguments")
    assert lines(tmp_path) == [
        "12:00:00.000 2 SMTP connected from [192.0.2.1]:4711",
        "12:01:01.250 4 POP-17 cmd: STAT",
        "12:01:01.250 1 SMTP 100% sure, without arguments",
    ]
    head = (tmp_path / "SystemLogs" / "2026-11-21").read_text().splitlines()[0]
    assert head == "12:00:00.000 0 SYSTEM Log opened: 2026-11-21, UTC+01:00 (CET), Pillarbox"


@pytest.mark.feature("LOG-004")
def test_a_component_stores_records_up_to_its_own_level() -> None:
    log = MemoryLog()
    level = 3
    smtp, pop = log.source("SMTP", lambda: level), log.source("POP", lambda: 4)

    class Dear:
        def __str__(self) -> str:
            raise AssertionError("composed although the level is off")

    smtp.low("%s", Dear())
    smtp.problem("kept")
    pop.low("kept too")
    level = 2
    smtp.problem("dropped")
    assert not smtp.enabled(3) and smtp.enabled(2)
    assert log.text() == "3 SMTP kept\n4 POP kept too"


@pytest.mark.feature("LOG-005")
async def test_log_all_stores_every_level(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path, everything=True) as log:
        log.source("POP", lambda: 0).all("a detail")
    assert lines(tmp_path) == ["12:00:00.000 5 POP a detail"]


@pytest.mark.feature("LOG-006")
async def test_the_console_gets_the_lines_of_the_file(tmp_path: Path) -> None:
    shown: list[bytes] = []
    async with running(tmp_path, console=shown.append) as log:
        log.source("POP", lambda: 5).major("one")
        await trio.sleep(0.1)
        log.source("POP", lambda: 5).major("two")
    assert b"".join(shown) == (tmp_path / "SystemLogs" / "2026-11-21").read_bytes()
    assert b"one" in b"".join(shown) and b"two" in b"".join(shown)


@pytest.mark.feature("LOG-007")
def test_session_numbers_stand_in_the_tag() -> None:
    log = MemoryLog()
    log.source("POP").session(12357).major("connected")
    log.source("DNR").session(16538, "host.example").problem("A:host name is unknown")
    assert log.text() == "2 POP-12357 connected\n3 DNR-16538(host.example) A:host name is unknown"


@pytest.mark.feature("LOG-009")
async def test_unusual_data_makes_one_printable_line(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as log:
        logger = log.source("SMTP", lambda: 5)
        logger.major("from %s", b"<a\0b\r\n13:00:00.000 1 SMTP forged\x1b[2J\xff\xe4>")
        logger.major("long %s", "ä" * 100_000)
        logger.major("wrong format %d", "x")
        log.source("POP\n1", lambda: 5).major("\u2028 \x85 \t")
    stored = (tmp_path / "SystemLogs" / "2026-11-21").read_bytes().splitlines()
    assert stored[1] == b"12:00:00.000 2 SMTP from <a\\x00b\\r\\n13:00:00.000 1 SMTP forged\\x1b[2J\\xff\\xe4>"
    assert len(stored[2]) <= 65536 and re.search(rb" \[\d+ more bytes\]$", stored[2])
    assert b"wrong format" in stored[3]
    assert stored[4].endswith(b"POP\\n1 \\u2028 \\x85 \\t")


@examples(max_examples=100, deadline=None)
@given(st.text(st.characters(), max_size=50))
def test_escaped_text_is_always_one_line(text: str) -> None:
    assert len(escape(text).splitlines()) <= 1
    escape(text).encode("utf-8")


@pytest.mark.feature("LOG-011")
def test_binary_data_is_dumped_in_hexadecimal() -> None:
    log = MemoryLog()
    log.source("LDAP").dump("in", bytes(range(40)))
    assert log.records[0][2].startswith("in 0000: 00 01 02") and log.records[1][2].startswith("in 0020: 20 21")
    assert all(level == 5 for level, _, _ in log.records)


def test_secrets_print_as_a_mark() -> None:
    log = MemoryLog()
    log.source("PWD").all("PASS %s", Secret("geheim"))
    assert log.text() == "5 PWD PASS ***"


@pytest.mark.feature("LOG-008")
async def test_a_burst_never_waits_and_is_counted_when_it_is_too_much(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as log:
        logger = log.source("SMTP", lambda: 5)
        for number in range(15_000):
            logger.all("record %d", number)
        await trio.sleep(1)
        assert len(lines(tmp_path)) == 15_000
        for number in range(25_000):  # no await: the writer cannot take any
            logger.all("more %d", number)
        logger.failure("important")
        await trio.sleep(1)
    stored = lines(tmp_path)
    assert len([line for line in stored if " more " in line]) == 20_000
    assert any(line.endswith("1 SMTP important") for line in stored)
    assert stored[-1].endswith("1 SYSTEM 5000 log records of levels 4 and 5 were dropped")
    assert log.dropped == 5000


@pytest.mark.feature("LOG-010")
async def test_logging_goes_on_beyond_four_gigabytes(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as log:
        log.bytes = 2**32 - 10
        log.source("A", lambda: 5).major("still here")
        await trio.sleep(1)
        assert log.bytes > 2**32
        log.source("A", lambda: 5).major("and here")
    assert len(lines(tmp_path)) == 2


@pytest.mark.feature("LOG-030", "LOG-034")
async def test_a_new_file_begins_at_midnight(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as log:
        logger = log.source("A", lambda: 5)
        await trio.sleep(12 * 3600 - 1)
        logger.major("late")
        await trio.sleep(60)
        assert names(tmp_path) == ["2026-11-21", "2026-11-22"]  # also without a record
        logger.major("early")
        await trio.sleep(1)
        assert log.current == "2026-11-22"
    assert "late" in (tmp_path / "SystemLogs" / "2026-11-21").read_text()
    assert "early" in (tmp_path / "SystemLogs" / "2026-11-22").read_text()


@pytest.mark.feature("LOG-031", "LOG-034")
async def test_files_can_begin_more_often(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path, TrioClock(NOON + 600, ZONE), period="1h"):
        await trio.sleep(2 * 3600)
    assert names(tmp_path) == ["2026-11-21", "2026-11-21_13-00", "2026-11-21_14-00"]


@pytest.mark.feature("LOG-032", "LOG-034")
async def test_a_large_file_is_followed_by_a_new_one(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as log:
        await log.settings.update({"OrIfLargerThan": "100K"})
        for _ in range(4):
            for _ in range(80):
                log.source("A", lambda: 5).major("x" * 1000)
            await trio.sleep(1)
    assert names(tmp_path) == ["2026-11-21", "2026-11-21_12-00", "2026-11-21_12-00-1", "2026-11-21_12-00-2"]
    assert all(path.stat().st_size <= 100 * 1024 for path in (tmp_path / "SystemLogs").iterdir())
    assert len(lines(tmp_path)) == 320


@pytest.mark.feature("LOG-033")
async def test_old_files_are_removed_after_a_change(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    directory = tmp_path / "SystemLogs"
    directory.mkdir()
    for name in ("2026-11-10", "2026-11-14_23-10-2", "2026-11-15", "2026-11-16", "notes.txt"):
        (directory / name).write_text("x")
    async with running(tmp_path) as log:
        await trio.sleep(12 * 3600 + 60)
        assert log.settings["DeleteOldFilesIn"] == 7 * 86400
    assert names(tmp_path) == ["2026-11-15", "2026-11-16", "2026-11-21", "2026-11-22", "notes.txt"]


async def test_a_restart_goes_on_in_the_file_of_the_day(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    for text in ("one", "two"):
        async with running(tmp_path) as log:
            log.source("A", lambda: 5).major(text)
    assert names(tmp_path) == ["2026-11-21"]
    assert [line[-3:] for line in lines(tmp_path)] == ["one", "two"]


async def test_a_change_of_the_zone_is_recorded(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 10, 25, 2, 30, tzinfo=zone).timestamp()
    async with running(tmp_path, TrioClock(start, zone)):
        await trio.sleep(3600)
    stored = (tmp_path / "SystemLogs" / "2026-10-25").read_text()
    assert re.search(r"^02:\d\d:\d\d\.\d+ 0 SYSTEM Time zone changed: 2026-10-25, UTC\+01:00 \(CET\)", stored, re.M)


class FullFiles(OsFiles):
    full = False

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().pwritev(handle, buffers, offset)


async def test_a_full_disk_stops_nobody_and_nothing_is_lost_when_there_is_space_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    files, told = FullFiles(), list[str]()
    async with running(tmp_path, disk=InLoopDisk(files), trouble=told.append) as log:
        files.full = True
        log.source("A", lambda: 5).major("one")
        await trio.sleep(60)
        log.source("A", lambda: 5).major("two")
        await trio.sleep(60)
        files.full = False
        await trio.sleep(10)
        assert [line[-3:] for line in lines(tmp_path)] == ["one", "two"]
    assert told == ["the System Log cannot be written: No space left on device"]


async def test_the_last_records_of_a_failing_process_are_stored(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as log:
        log.source("A", lambda: 5).crash("the end")
        assert lines(tmp_path) == []
        log.write_now()
        assert lines(tmp_path) == ["12:00:00.000 0 A the end"]
