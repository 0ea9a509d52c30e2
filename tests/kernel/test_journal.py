import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.kernel.disk import Disk, InLoopDisk, WorkerDisk
from appliance.kernel.journal import Frame, FrameType, Journal, JournalError, JournalFailed, JournalFull
from appliance.kernel.segments import scan
from tests.kernel.disk_testing import FailingFiles, RecordingFiles, SlowFiles, crashes, replay

M = FrameType.MESSAGE
SIZE = 1 << 16


@asynccontextmanager
async def running(disk: Disk, directory: Path, size: int = SIZE) -> AsyncIterator[Journal]:
    journal = await Journal.open(disk, str(directory), segment_size=size)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        yield journal
        nursery.cancel_scope.cancel()


async def frames(journal: Journal) -> list[tuple[int, bytes]]:
    return [(frame.type, frame.payload) async for _, frame in journal.replay() if frame.type != FrameType.MARK]


async def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    async with running(WorkerDisk(), tmp_path) as journal:
        assert await frames(journal) == []
        first = await journal.commit(Frame(M, b"one"), Frame(FrameType.ENQUEUED, b""))
        second = await journal.commit(Frame(FrameType.DELIVERED, b"two"))
        assert first < second
    async with running(WorkerDisk(), tmp_path) as journal:
        assert journal.epoch == 2
        assert await frames(journal) == [(M, b"one"), (FrameType.ENQUEUED, b""), (FrameType.DELIVERED, b"two")]
        assert await journal.commit(Frame(M, b"three")) > second
    async with running(InLoopDisk(), tmp_path) as journal:
        positions = [position async for position, _ in journal.replay()]
        assert positions == sorted(set(positions))
        assert len(positions) == 4


async def test_sessions_that_wait_share_a_flush(tmp_path: Path) -> None:
    async with running(WorkerDisk(SlowFiles(0.01)), tmp_path) as journal:

        async def session() -> None:
            for _ in range(5):
                await journal.commit(Frame(M, b"x" * 100))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(session)
        assert journal.commits == 250
        assert journal.flushes <= 15


async def test_one_session_one_flush_a_message(tmp_path: Path) -> None:
    async with running(WorkerDisk(), tmp_path) as journal:
        for _ in range(10):
            await journal.commit(Frame(M, b"x"))
            journal.append(Frame(FrameType.DELIVERED, b"y"))  # rides with the next
        assert journal.flushes == 10


async def test_appended_frames_wait_fifty_milliseconds_at_most(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(InLoopDisk(), tmp_path) as journal:
        start = trio.current_time()
        ticket = journal.append(Frame(M, b"x"))
        await trio.testing.wait_all_tasks_blocked()
        assert not ticket.done
        assert await ticket.durable() == ticket.position
        assert 0 < trio.current_time() - start <= 0.051


async def test_a_cancelled_waiter_withdraws_nothing(tmp_path: Path) -> None:
    async with running(WorkerDisk(SlowFiles(0.02)), tmp_path) as journal:
        with trio.move_on_after(0.001) as scope:
            await journal.commit(Frame(M, b"kept"))
        assert scope.cancelled_caught
        await journal.flush()
    async with running(WorkerDisk(), tmp_path) as journal:
        assert await frames(journal) == [(M, b"kept")]


async def test_what_was_handed_over_is_written_at_the_end(tmp_path: Path) -> None:
    async with running(WorkerDisk(), tmp_path) as journal:
        journal.append(Frame(M, b"last words"))
    with pytest.raises(JournalFailed):
        journal.append(Frame(M, b"too late"))
    async with running(WorkerDisk(), tmp_path) as journal:
        assert await frames(journal) == [(M, b"last words")]


@pytest.mark.parametrize("kind", ["fdatasync", "pwritev"])
async def test_a_failed_flush_is_final(tmp_path: Path, kind: str) -> None:
    disk = InLoopDisk()
    journal = await Journal.open(disk, str(tmp_path), segment_size=SIZE)
    disk.files = FailingFiles(0, code=errno.EIO, kinds=[kind])
    refused = 0
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run)

            async def session() -> None:
                nonlocal refused
                with trio.CancelScope(shield=True), pytest.raises(JournalFailed):
                    await journal.commit(Frame(M, b"x" * 100))
                refused += 1

            nursery.start_soon(session)
            nursery.start_soon(session)
    assert caught.group_contains(JournalFailed)
    assert refused == 2
    with pytest.raises(JournalFailed):
        await journal.commit(Frame(M, b"x"))


async def test_segments_are_dropped_and_used_again(tmp_path: Path) -> None:
    async with running(InLoopDisk(), tmp_path) as journal:
        await frames(journal)
        for _ in range(2000):
            await journal.commit(Frame(M, b"x" * 1000))
        await trio.testing.wait_all_tasks_blocked()
        names = sorted(os.listdir(tmp_path))
        assert len(names) <= 3
        assert "spare.jnl" in names
    async with running(InLoopDisk(), tmp_path) as journal:
        left = await frames(journal)
        assert 0 < len(left) <= 2 * 64


async def test_owners_keep_what_they_need_and_move_when_asked(tmp_path: Path) -> None:
    async with running(InLoopDisk(), tmp_path) as journal:
        needed: list[int] = []
        asked: list[int] = []

        async def relocate(before: int) -> None:
            asked.append(before)
            needed[0] = journal.append(Frame(M, b"precious")).position

        journal.register(lambda: needed[0], relocate)
        needed.append(await journal.commit(Frame(M, b"precious")))
        await frames(journal)
        for _ in range(1000):
            await journal.commit(Frame(FrameType.STATUS, b"x" * 1000))
        await trio.testing.wait_all_tasks_blocked()
        assert asked
        assert len(os.listdir(tmp_path)) <= 6
    async with running(InLoopDisk(), tmp_path) as journal:
        assert (M, b"precious") in await frames(journal)


async def test_numbers_are_never_given_out_twice(tmp_path: Path) -> None:
    given: list[int] = []
    for _ in range(4):
        async with running(InLoopDisk(), tmp_path) as journal:
            with pytest.raises(RuntimeError):
                await journal.reserve("message", 10)
            await frames(journal)
            first = await journal.reserve("message", 10)
            given.extend(range(first, first + 10))
            assert await journal.reserve("other", 1, at_least=500) >= 500
            for _ in range(300):  # the mark moves along when its segment goes
                await journal.commit(Frame(M, b"x" * 1000))
            await trio.testing.wait_all_tasks_blocked()
    assert given == list(range(1, 41))


async def test_large_frames(tmp_path: Path) -> None:
    async with running(InLoopDisk(), tmp_path) as journal:
        await frames(journal)
        journal.register(lambda: 0)
        await journal.commit(Frame(M, b"x" * journal.largest))
        await journal.commit(Frame(M, b"y" * journal.largest))
        with pytest.raises(ValueError, match="larger"):
            journal.append(Frame(M, b"x" * (journal.largest + 1)))
    async with running(InLoopDisk(), tmp_path) as journal:
        assert [payload[:1] for _, payload in await frames(journal)] == [b"x", b"y"]


async def test_without_space_only_new_things_are_refused(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    disk = InLoopDisk()
    async with running(disk, tmp_path) as journal:
        await frames(journal)
        journal.register(lambda: 0)
        disk.files = full = FailingFiles(0, times=None, kinds=["preallocate"])
        accepted = 0
        with pytest.raises(JournalFull):
            for _ in range(1000):
                await journal.commit(Frame(M, b"x" * 1000), refusable=True)
                await trio.testing.wait_all_tasks_blocked()
                accepted += 1
        assert accepted > 60
        await journal.commit(Frame(FrameType.FINISHED, b"done"))
        full.fail_at = -1
        await trio.sleep(2)
        await journal.commit(Frame(M, b"again"), refusable=True)
    async with running(InLoopDisk(), tmp_path) as journal:
        kept = await frames(journal)
        assert kept[-2:] == [(FrameType.FINISHED, b"done"), (M, b"again")]
        assert len(kept) == accepted + 2


async def test_every_crash_keeps_what_was_promised(tmp_path: Path) -> None:
    """At each prefix of the writes, with legal losses: every durable frame is there, in order, and numbers are fresh."""
    base = tmp_path / "base"
    base.mkdir()
    files = RecordingFiles(str(base))
    disk = InLoopDisk(files)
    for epoch in range(2):
        async with running(disk, base, 4096) as journal:
            kept = await frames(journal)
            journal.register(lambda: 0)
            files.mark(f"mark {await journal.reserve('n', 5) + 5}")
            for number in range(8):
                text = f"{epoch}.{number}"
                await journal.commit(Frame(M, text.encode() + b"." * 700))
                files.mark(f"frame {text}")
    assert len(kept) == 8
    for number, (length, left) in enumerate(crashes(files.log, each=1)):
        into = tmp_path / str(number)
        into.mkdir()
        replay(left, str(into))
        told = [operation.path.split() for operation in files.log[:length] if operation.kind == "mark"]
        async with running(InLoopDisk(), into, 4096) as journal:
            found = [payload.rstrip(b".").decode() for _, payload in await frames(journal)]
            promised = [text for kind, text in told if kind == "frame"]
            assert found[: len(promised)] == promised
            assert len(found) <= len(promised) + 1
            assert await journal.reserve("n", 1) >= max((int(text) for kind, text in told if kind == "mark"), default=1)


async def test_torn_and_stale_tails(tmp_path: Path) -> None:
    async with running(InLoopDisk(), tmp_path) as journal:
        for number in range(5):
            await journal.commit(Frame(M, b"frame %d" % number))
    path = tmp_path / "1-1.jnl"
    data = path.read_bytes()
    whole = list(scan(data))
    assert len(whole) == 5
    end = data.rindex(b"frame 4") + 7
    for cut in range(64, end):
        got = list(scan(data[:cut] + bytes(1000)))
        assert got == whole[: len(got)]
        assert len(got) < 5
    damaged = bytearray(data)
    damaged[data.index(b"frame 2")] ^= 1
    assert [frame.payload for _, frame in scan(bytes(damaged))] == [b"frame 0", b"frame 1"]


async def test_files_that_are_no_segments_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "9-1.jnl").write_bytes(b"garbage" * 100)
    (tmp_path / "8-1.jnl").write_bytes(b"")
    (tmp_path / "12.msg").write_bytes(b"x")
    async with running(InLoopDisk(), tmp_path) as journal:
        assert journal.epoch == 10
        assert await frames(journal) == []
        await journal.commit(Frame(M, b"x"))
    assert (tmp_path / "12.msg").exists()


async def test_speed_with_fifty_sessions(tmp_path: Path) -> None:
    """A coarse guard; on an idle machine it is 20,000 and more a second."""
    payload = os.urandom(10240)
    async with running(WorkerDisk(), tmp_path, 8 << 20) as journal:
        await frames(journal)

        async def session() -> None:
            for _ in range(40):
                await journal.commit(Frame(M, payload))

        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(session)
        assert 2000 / (time.perf_counter() - start) > 1000


def test_errors_are_temporary_errors() -> None:
    assert issubclass(JournalFull, JournalError)
    assert issubclass(JournalFailed, JournalError)
