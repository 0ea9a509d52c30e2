"""Messages that are made because of others: once, however often their makers are asked again."""

from __future__ import annotations

import shutil
from pathlib import Path

import trio
import trio.testing
from trio.testing import MockClock

from appliance.kernel.disk import InLoopDisk
from appliance.transfer.message import Kind, Outcome, Source
from appliance.transfer.queues import ModuleQueue
from tests.kernel.disk_testing import RecordingFiles, crashes, replay

from .conftest import Room, running

TEXT = b"Date: x\n\na copy\n"
HERE = Source("LOCAL", trusted=True)


async def quiet(seconds: float = 1) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


class Copier:
    """A module that makes a copy for somebody else of all that it gets, and is done with it."""

    def __init__(self, room: Room, to: str = "ann@here.example") -> None:
        self.room, self.to = room, to
        self.asked = 0
        self.ids: list[int] = []

    def concurrency(self) -> int:
        return 1

    async def process(self, queue: ModuleQueue) -> None:
        async for entry in queue:
            self.asked += 1
            number = await self.room.submit_text("", [self.to], TEXT, HERE, because_of=(entry.message, "copy"))
            self.ids.append(number)
            if self.asked == 1:
                entry.delay(None, 30, "once more")
            else:
                entry.finish(entry.recipients, Outcome(Kind.DELIVERED))


async def test_a_maker_that_is_asked_again_gets_what_it_made(room: Room, autojump_clock: MockClock) -> None:
    copier = room.modules["SMTP"] = Copier(room)
    await room.send("x@out.example")
    await quiet(100)
    assert copier.asked == 2 and len(set(copier.ids)) == 1
    assert room.local.people == ["ann@here.example"]


async def test_the_journal_may_be_written_anew_meanwhile(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The copy is long gone and its segments too; what is kept of the first message still knows of it."""

    def prepare(room: Room) -> None:
        room.modules["SMTP"] = Copier(room)

    async with running(tmp_path, orderly=False, prepare=prepare, segment_size=1 << 14) as room:
        number = await room.send("x@out.example")
        await quiet(0.5)
        first = room.find(number).position
        for _ in range(20):
            await room.send("bob@here.example", text=b"Date: x\n\n" + b"f" * 9000)
            await quiet(0.1)
        await quiet(2)
        assert room.find(number).position > first
    async with running(tmp_path, prepare=prepare, segment_size=1 << 14) as room:
        await quiet(100)
        assert room.local.people == [] and not room.spool.live


async def test_every_crash_makes_one_copy(tmp_path: Path, autojump_clock: MockClock) -> None:
    base = tmp_path / "base"
    base.mkdir()
    record = RecordingFiles(str(base))

    def prepare(room: Room) -> None:
        room.modules["SMTP"] = Copier(room)
        room.local.limit = 0

    async with running(base, InLoopDisk(record), prepare=prepare) as room:
        await room.send("x@out.example")
        record.mark("accepted")
        await quiet(100)
    tried = 0
    for length, left in crashes(record.log, each=1):
        if all(operation.path != "accepted" for operation in record.log[:length]):
            continue
        tried += 1
        into = tmp_path / "crash"
        into.mkdir()
        replay(left, str(into))
        async with running(into, prepare=lambda room: room.modules.update(SMTP=Copier(room))) as room:
            await quiet(100)
            assert room.local.people == ["ann@here.example"], length
        shutil.rmtree(into)
    assert tried > 10
