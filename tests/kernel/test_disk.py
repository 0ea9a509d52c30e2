import errno
import os
import threading
import time
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.kernel.disk import DELIVERY, FILES, LINGER, SYNC, Disk, InLoopDisk, WorkerDisk
from appliance.kernel.files import Files, OsFiles, escape_name, unescape_name
from tests.kernel.disk_testing import FailingFiles, RecordingFiles, SlowFiles, WrappedFiles, crashes, replay


@pytest.fixture(params=["workers", "in the loop"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return WorkerDisk() if request.param == "workers" else InLoopDisk()


async def test_files_of_all_kinds(disk: Disk, tmp_path: Path) -> None:
    base = str(tmp_path)
    path = os.path.join(base, "a")
    await disk.write_file(path, b"hello")
    assert await disk.read_bytes(path) == b"hello"
    assert await disk.read_bytes(path, 2) == b"he"
    assert await disk.append(path, b" world", durable=True) == 5
    await disk.pwrite(path, b"J", 0)
    assert await disk.pread(path, 5, 0) == b"Jello"
    await disk.truncate(path, 5)
    assert (await disk.stat(path)).size == 5
    await disk.rename(path, path + "b")
    assert not await disk.exists(path)
    assert await disk.link(path + "b", path)
    assert (await disk.stat(path)).links == 2
    await disk.mkdir(os.path.join(base, "x/y/z"), parents=True)
    await disk.sync([path, base])
    await disk.sync_directory(base)
    assert sorted(await disk.listdir(base)) == ["a", "ab", "x"]
    await disk.unlink(path)
    await disk.unlink(path, missing_ok=True)
    with pytest.raises(FileNotFoundError):
        await disk.unlink(path)
    await disk.preallocate(os.path.join(base, "p"), 10000)
    assert (await disk.stat(os.path.join(base, "p"))).size == 10000
    await disk.remove_tree(os.path.join(base, "x"))
    assert not await disk.exists(os.path.join(base, "x"))
    assert await disk.free_space(base) > 0


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
async def test_modes_of_new_files(disk: Disk, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        await disk.write_file(str(tmp_path / "plain"), b"")
        await disk.write_file(str(tmp_path / "secret"), b"", mode=0o600)
        await disk.mkdir(str(tmp_path / "d"))
    finally:
        os.umask(old)
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o750


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
async def test_new_files_belong_to_the_run_as_user(tmp_path: Path) -> None:
    disk = InLoopDisk(OsFiles(owner=(12345, 12346)))
    await disk.write_file(str(tmp_path / "a"), b"")
    await disk.mkdir(str(tmp_path / "d"))
    for name in ("a", "d"):
        found = (tmp_path / name).stat()
        assert (found.st_uid, found.st_gid) == (12345, 12346)


async def test_jobs_that_wait_share_a_hop(tmp_path: Path) -> None:
    disk = WorkerDisk(workers=1)
    order: list[tuple[int, float]] = []
    woken: list[float] = []

    async def one(number: int) -> None:
        await disk.run(lambda files: order.append((threading.get_ident(), time.monotonic())))
        woken.append(time.monotonic())

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(one, number)
    threads = {thread for thread, _ in order}
    assert len(order) == 50
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    # They were done together, and only then was anybody woken: but for the first, which led alone.
    assert sum(1 for _, done in order if done < min(woken)) >= 1
    assert sum(1 for moment in woken if moment > order[-1][1]) >= 49


async def test_deliveries_linger_for_company(tmp_path: Path) -> None:
    disk = WorkerDisk()
    moments: list[float] = []

    async def one(pause: float) -> None:
        await trio.sleep(pause)
        await disk.run_in(DELIVERY, lambda files: moments.append(time.monotonic()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 0.0)
        nursery.start_soon(one, LINGER / 4)
    assert abs(moments[1] - moments[0]) < LINGER / 4


async def test_a_slow_job_does_not_hold_the_quick_ones(tmp_path: Path) -> None:
    disk = WorkerDisk(workers=1)
    done: list[str] = []

    async def one(name: str, seconds: float) -> None:
        await disk.run(lambda files: time.sleep(seconds))
        done.append(name)
        if name == "quick":
            assert not slow_over

    slow_over: list[bool] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "first", 0.01)
        await trio.sleep(0.002)
        nursery.start_soon(one, "quick", 0.005)
        await trio.sleep(0.001)
        nursery.start_soon(one, "slow", 0.1)
    assert done == ["first", "quick", "slow"]


async def test_lanes_do_not_wait_for_each_other() -> None:
    disk = WorkerDisk(workers=1, sync_workers=1)
    order: list[str] = []

    async def slow() -> None:
        await disk.run_in(FILES, lambda files: time.sleep(0.1))
        order.append("files")

    async def quick() -> None:
        await trio.sleep(0.01)
        await disk.run_in(SYNC, lambda files: None)
        order.append("sync")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        nursery.start_soon(quick)
    assert order == ["sync", "files"]


def _pair(files: Files, number: int, turn: int) -> tuple[int, int]:
    return number, turn


async def test_many_tasks_many_jobs_errors_come_back_to_their_own(tmp_path: Path) -> None:
    disk = WorkerDisk()
    path = str(tmp_path / "missing")
    failures = 0

    async def one(number: int) -> None:
        nonlocal failures
        for turn in range(20):
            if (number + turn) % 7 == 0:
                with pytest.raises(FileNotFoundError):
                    await disk.read_bytes(path)
                failures += 1
            else:
                assert await disk.run(_pair, number, turn) == (number, turn)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(one, number)
    assert failures > 100
    assert all(lane.busy == 0 and not lane.waiting for lane in disk._lanes.values())


async def test_cancelled_callers_leave_no_half_job_and_no_stuck_lane() -> None:
    disk = WorkerDisk(workers=1)
    ran: list[int] = []

    def job(files: Files, number: int) -> None:
        time.sleep(0.005)
        ran.append(number)

    async def one(number: int) -> None:
        await disk.run(job, number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(one, number)
        await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    assert sorted(ran) in ([], [0, 1, 2, 3, 4])
    assert await disk.run(lambda files: 1) == 1


@pytest.mark.feature("DATA-027")
async def test_an_update_is_the_old_file_or_the_new_one_at_every_crash(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    files = RecordingFiles(str(base))
    disk = InLoopDisk(files)
    path = str(base / "settings")
    await disk.write_file(path, b"old" * 100)
    files.mark("old")
    await disk.write_file(path, b"new" * 200)
    files.mark("new")
    seen = set()
    for number, (length, left) in enumerate(crashes(files.log, each=4)):
        into = tmp_path / str(number)
        into.mkdir()
        replay(left, str(into))
        content = (into / "settings").read_bytes() if (into / "settings").exists() else None
        told = [operation.path for operation in files.log[:length] if operation.kind == "mark"]
        assert content in (None, b"old" * 100, b"new" * 200)
        if "old" in told:
            assert content is not None
        if "new" in told:
            assert content == b"new" * 200
        seen.add(content)
    assert len(seen) == 3


async def test_what_is_not_synced_may_be_lost(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    files = RecordingFiles(str(base))
    await InLoopDisk(files).write_file(str(base / "a"), b"content", durable=False)
    outcomes = set()
    for number, (_, left) in enumerate(crashes(files.log, each=8)):
        into = tmp_path / str(number)
        into.mkdir()
        replay(left, str(into))
        outcomes.add((into / "a").read_bytes() if (into / "a").exists() else None)
    assert {None, b"", b"content"} <= outcomes


async def test_a_failing_update_leaves_the_old_file_and_no_rest(disk: Disk, tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    await disk.write_file(path, b"old")
    for number in range(4):
        disk.files = FailingFiles(number, code=errno.EIO)
        with pytest.raises(OSError, match="error"):
            await disk.write_file(path, b"new content")
        assert (tmp_path / "a").read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["a"] or number == 3


async def test_an_append_that_finds_no_space_is_taken_back(disk: Disk, tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    await disk.write_file(path, b"old")
    disk.files = FailingFiles(0, kinds=["pwritev"])
    with pytest.raises(OSError) as caught:
        await disk.append(path, b"more and more")
    assert caught.value.errno == errno.ENOSPC
    assert await disk.read_bytes(path) == b"old"


async def test_a_copy_where_links_are_refused(tmp_path: Path) -> None:
    class NoLinks(WrappedFiles):
        def hard_link(self, source: str, target: str) -> None:
            raise OSError(errno.EPERM, "no links here")

    disk = InLoopDisk(NoLinks())
    (tmp_path / "a").write_bytes(b"x" * 600_000)
    assert await disk.link(str(tmp_path / "a"), str(tmp_path / "b")) is False
    assert (tmp_path / "b").read_bytes() == b"x" * 600_000


async def test_a_slow_flush(tmp_path: Path) -> None:
    disk = WorkerDisk(SlowFiles(0.02))
    start = time.monotonic()
    await disk.write_file(str(tmp_path / "a"), b"x")
    assert time.monotonic() - start >= 0.04


def test_writes_with_very_many_buffers(tmp_path: Path) -> None:
    files = OsFiles()
    handle = files.open(str(tmp_path / "a"), write=True, create=True)
    assert files.pwritev(handle, [b"%04d" % number for number in range(3000)], 2) == 12000
    assert files.pread(handle, 8, 2 + 4 * 2998) == b"29982999"
    files.close(handle)


@given(st.text(max_size=20), st.booleans())
@settings(max_examples=100, deadline=None)
def test_names_survive_escaping(name: str, windows: bool) -> None:
    escaped = escape_name(name, windows)
    assert unescape_name(escaped) == name
    assert not any(char in escaped for char in "/\0")
    assert escaped not in (".", "..")
    if windows:
        assert not any(char in escaped for char in '<>:"\\|?*')
        assert not escaped.endswith((".", " "))


def test_names_that_windows_reserves() -> None:
    assert escape_name("con.mbox", True) == "%63on.mbox"
    assert escape_name("a:b", True) == "a%3Ab"
    assert escape_name("a:b", False) == "a:b"
    assert escape_name("..", True) == "%2E." or unescape_name(escape_name("..", True)) == ".."
