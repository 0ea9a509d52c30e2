"""Power goes at any moment of the way of a message: each prefix of everything that was written, with legal losses, is made
the disk of a new server, and what was acknowledged is there, whole, once, under UIDs that are never used again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from appliance.kernel.disk import InLoopDisk
from tests.crash.world import PEOPLE, living, prepare
from tests.kernel.disk_testing import RecordingFiles, crashes, replay

#: Every fourth moment is tried in a usual run; CRASH_STEP=1 tries all.
STEP = int(os.environ.get("CRASH_STEP", "4"))


def text(number: int) -> bytes:
    body = b"From here on %d\n\n" % number * (8000 if number % 5 == 3 else 30)
    return b"Date: x\nMessage-ID: <%d@test>\n\nmessage %d\n%s" % (number, number, body)


def number_of(content: bytes) -> int:
    return int(content.partition(b"Message-ID: <")[2].partition(b"@")[0])


async def quiet(seconds: float) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def story(base: Path, record: RecordingFiles) -> None:
    """Two lives with deliveries, pauses, check-points and a stop in order; marks say what the outside knows."""
    disk = InLoopDisk(record)
    number = 0
    for life in range(2):
        async with living(base, disk, later=1000 * life) as world:
            for pause in (0, 0, 0.01, 3, 0, 0.1):
                number += 1
                name = PEOPLE[number % 2]
                identifier = await world.send(name, text(number))
                record.mark(f"accepted {name} {number} {identifier}")
                await quiet(pause)
                if pause:
                    for uid in await world.mail(name):
                        record.mark(f"seen {name} {uid}")


@pytest.mark.slow
@pytest.mark.feature("QUEUE-023", "QUEUE-024", "BASE-016")
@pytest.mark.parametrize("kind", ["Text Mailbox", "MailDir Mailbox"])
async def test_power_goes_at_any_moment(tmp_path: Path, autojump_clock: MockClock, kind: str) -> None:
    base = tmp_path / "base"
    await prepare(base, kind)
    record = RecordingFiles(str(base))
    await story(base, record)
    tried = 0
    for length, left in crashes(record.log, each=1, start=record.start, step=STEP):
        tried += 1
        marks = [op.path.split() for op in record.log[:length] if op.kind == "mark"]
        into = tmp_path / "crash"
        into.mkdir()
        replay(left, str(into))
        if tried % 2:  # the index may be from any other moment
            for index in base.rglob("account.index"):
                target = into / index.relative_to(base)
                if target.parent.is_dir():
                    shutil.copy(index, target)
        try:
            await look(into, marks)
        except BaseException:
            print(f"crash after {length} of {len(record.log)} operations ({tried}), last told: {marks[-1:]}")
            raise
        shutil.rmtree(into)
    assert tried > 100


async def look(base: Path, marks: list[list[str]]) -> None:
    async with living(base, later=5000) as world:
        await quiet(3)
        accepted = {(words[1], int(words[2])) for words in marks if words[0] == "accepted"}
        for name in PEOPLE:
            found = await world.mail(name)
            numbers = [number_of(content) for content in found.values()]
            for number, content in zip(numbers, found.values(), strict=True):
                assert content.replace(b"\r\n", b"\n") == text(number), "torn"
            assert len(set(numbers)) == len(numbers), "a message is there twice"
            missing = {number for who, number in accepted if who == name} - set(numbers)
            assert not missing, f"{name} has lost {missing}"
            used = max((int(words[2]) for words in marks if words[0] == "seen" and words[1] == name), default=0)
            identifier = await world.send(name, text(1000))
            assert identifier > max((int(words[3]) for words in marks if words[0] == "accepted"), default=0)
            await quiet(1)
            newest = await world.mail(name)
            uid = next(uid for uid, content in newest.items() if number_of(content) == 1000)
            assert uid > used
            assert uid not in found
        assert os.listdir(base / "BadFiles") == []
