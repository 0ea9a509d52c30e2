"""Power goes at any moment while files of the Submitted folder become messages: each file that was there is one message at the
end, whole, and never two."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import Disk, InLoopDisk
from appliance.modules.pipe.folder import SubmittedFolder
from tests.crash.world import World, living, prepare
from tests.kernel.disk_testing import RecordingFiles, crashes, replay

STEP = int(os.environ.get("CRASH_STEP", "8"))


def text(number: int) -> bytes:
    body = b"From here on %d\n" % number * (12_000 if number % 4 == 2 else 20)
    return b"From: bob\nTo: alice@office.test\nDate: x\nMessage-ID: <%d@test>\n\n%s" % (number, body)


def folder_of(world: World, base: Path, disk: Disk) -> SubmittedFolder:
    log = world.log.source("PIPE")
    return SubmittedFolder(disk, str(base), world.transfer, TrioClock(1_700_000_000.0), log, lambda: "office.test")


async def quiet(seconds: float) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def story(base: Path, record: RecordingFiles) -> None:
    """Files come and are taken, one by one and several at a time."""
    disk = InLoopDisk(record)
    async with living(base, disk) as world:
        folder = folder_of(world, base, disk)
        await folder.recover(world.transfer.recovery.knows)
        number = 0
        for count, pause in ((1, 0.0), (3, 0.0), (2, 3.0), (1, 0.0)):
            for _ in range(count):
                number += 1
                path = os.path.join(folder.directory, f"{number}")
                await disk.write_file(path + ".tmp", text(number))
                await disk.rename(path + ".tmp", path + ".sub")
                await disk.sync_directory(folder.directory)
                record.mark(f"dropped {number}")
            await folder.scan()
            await quiet(pause)


@pytest.mark.slow
@pytest.mark.feature("PIPE-004", "PIPE-018", "MISC-038")
async def test_power_goes_while_files_are_submitted(tmp_path: Path, autojump_clock: MockClock) -> None:
    base = tmp_path / "base"
    await prepare(base)
    (base / "Submitted").mkdir()
    record = RecordingFiles(str(base))
    await story(base, record)
    tried = 0
    for length, left in crashes(record.log, each=1, start=record.start, step=STEP):
        tried += 1
        dropped = {int(op.path.split()[1]) for op in record.log[:length] if op.kind == "mark"}
        into = tmp_path / "crash"
        into.mkdir()
        replay(left, str(into))
        try:
            await look(into, dropped)
        except BaseException:
            print(f"crash after {length} of {len(record.log)} operations ({tried}), there were {dropped}")
            raise
        shutil.rmtree(into)
    assert tried > 30


async def look(base: Path, dropped: set[int]) -> None:
    disk = InLoopDisk()

    async def recover(world: World) -> None:
        await folder_of(world, base, disk).recover(world.transfer.recovery.knows)

    async with living(base, disk, later=5000, recover=recover) as world:
        await folder_of(world, base, disk).scan()
        await quiet(3)
        found = [content.replace(b"\r\n", b"\n") for content in (await world.mail("alice")).values()]
        numbers = [int(content.partition(b"Message-ID: <")[2].partition(b"@")[0]) for content in found]
        assert len(set(numbers)) == len(numbers), "a file became two messages"
        assert dropped <= set(numbers), f"lost: {dropped - set(numbers)}"
        for number, content in zip(numbers, found, strict=True):
            assert content.endswith(text(number).partition(b"To: ")[2]), "torn"
        assert not [name for name in os.listdir(base / "Submitted") if name.endswith((".sub", ".taken", ".bad"))]
