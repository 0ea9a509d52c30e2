"""The Submitted folder: any file becomes a message or is kept with a reason, and nothing stops the others."""

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.kernel.disk import InLoopDisk
from appliance.kernel.files import OsFiles
from appliance.kernel.journal import JournalError
from appliance.modules.pipe.folder import SubmittedFolder
from appliance.transfer.spool import NoSpace
from tests.transfer.conftest import Room, running

PIECES: tuple[bytes, ...] = (
    b"From: ",
    b"To: ",
    b"a@here.example",
    b"\n",
    b"\n\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\xff\xfe",
    b'"',
    b"<",
    b">",
    b",",
    b" ",
)
PIECES += (
    b"Envelope-To: ",
    b"Return-Path: ",
    b"Bcc: b@here.example\n",
    b"Envelope-ID: ",
    b"x" * 5000,
    b":",
    b";",
    b"=?utf-8?q?",
)


@pytest.fixture
async def room(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> AsyncIterator[Room]:
    async with running(tmp_path) as room:
        yield room


def folder_of(room: Room, base: Path, disk: InLoopDisk | None = None) -> SubmittedFolder:
    folder = SubmittedFolder(
        disk or InLoopDisk(), str(base), room, room.clock, room.log.source("PIPE"), lambda: "here.example"
    )
    Path(folder.directory).mkdir()
    return folder


def drop(folder: SubmittedFolder, name: str, data: bytes) -> None:
    Path(folder.directory, name).write_bytes(data)


def reason(folder: SubmittedFolder, name: str) -> str:
    return Path(folder.directory, f"{name}.txt").read_text().strip()


async def test_any_files(room: Room, tmp_path: Path) -> None:
    folder = folder_of(room, tmp_path)
    await folder.recover(lambda number: False)
    chance = random.Random(7)
    for number in range(300):
        data = b"".join(chance.choice(PIECES) for _ in range(chance.randrange(20)))
        drop(folder, f"{number}.sub", data)
    good = await folder.scan()
    names = os.listdir(folder.directory)
    bad = [name for name in names if name.endswith(".bad")]
    assert len(names) == 2 * len(bad) and good + len(bad) == 300 and good > 20 and len(bad) > 20
    assert all(reason(folder, name) for name in bad)


@pytest.mark.feature("PIPE-017")
async def test_headers_without_an_end(room: Room, tmp_path: Path) -> None:
    folder = folder_of(room, tmp_path)
    drop(folder, "a.sub", b"To: a@here.example\n" + b"X: " + b"y" * 10_000_000)
    drop(folder, "b.sub", b"To: a@here.example\n" + b"X-Short: y\n" * 400_000)
    drop(folder, "c.sub", b"To: " + b"a@here.example, " * 300_000 + b"\n\nx\n")
    assert await folder.scan() == 0
    assert sorted(os.listdir(folder.directory)) == [f"{n}.bad{e}" for n in "abc" for e in ("", ".txt")]


async def test_trouble_leaves_the_files_as_they_were(room: Room, tmp_path: Path) -> None:
    class Failing(OsFiles):
        armed = True

        def pread(self, handle: int, size: int, offset: int) -> bytes:
            if self.armed:
                raise OSError(5, "Input/output error")
            return super().pread(handle, size, offset)

    files = Failing()
    folder = folder_of(room, tmp_path, InLoopDisk(files))
    names = [f"{number}.sub" for number in range(3)]
    for name in names:
        drop(folder, name, b"To: a@here.example\n\nx\n")
    with pytest.raises(OSError):
        await folder.scan()
    assert sorted(os.listdir(folder.directory)) == names
    files.armed = False
    room.spool.space_low = True
    with pytest.raises((NoSpace, JournalError)):
        await folder.scan()
    assert sorted(os.listdir(folder.directory)) == names
    room.spool.space_low = False
    assert await folder.scan() == 3 and os.listdir(folder.directory) == []


async def test_a_taken_file_of_a_message_that_is_known_goes(room: Room, tmp_path: Path) -> None:
    folder = folder_of(room, tmp_path)
    for name in ("a.17.taken", "b.18.taken", "odd.taken", "c.x.taken"):
        drop(folder, name, b"To: a@here.example\n\nx\n")
    await folder.recover(lambda number: number == 17)
    assert sorted(os.listdir(folder.directory)) == ["b.sub", "c.x.taken", "odd.taken"]
    await folder.scan()
    assert room.spool.accepted == 1


async def test_files_that_cannot_be_taken_hold_nobody_up(room: Room, tmp_path: Path) -> None:
    class Failing(OsFiles):
        def rename(self, source: str, target: str) -> None:
            if "stuck" in source:
                raise PermissionError(1, "Operation not permitted")
            super().rename(source, target)

    folder = folder_of(room, tmp_path, InLoopDisk(Failing()))
    for number in range(5):
        drop(folder, f"stuck{number}.sub", b"To: a@here.example\n\nx\n")
        drop(folder, f"free{number}.sub", b"To: a@here.example\n\nx\n")
    with trio.fail_after(60):
        assert await folder.scan() == 5
        assert await folder.scan() == 0
    assert len(os.listdir(folder.directory)) == 5
    assert "5 files of the Submitted folder cannot be taken" in room.log.text()


async def test_a_file_that_cannot_be_removed_is_one_message_all_the_same(room: Room, tmp_path: Path) -> None:
    class Failing(OsFiles):
        armed = True

        def unlink(self, path: str) -> None:
            if self.armed and "Submitted" in path:
                raise OSError(5, "Input/output error")
            super().unlink(path)

    files = Failing()
    folder = folder_of(room, tmp_path, InLoopDisk(files))
    for number in range(3):
        drop(folder, f"{number}.sub", b"To: a@here.example\n\nx\n")
    assert await folder.scan() == 3
    with pytest.raises(OSError):
        await folder.scan()
    assert len(os.listdir(folder.directory)) == 3
    files.armed = False
    assert await folder.scan() == 0 and os.listdir(folder.directory) == []
    assert room.spool.accepted == 3


async def test_when_the_journal_fails_the_next_start_decides(room: Room, tmp_path: Path) -> None:
    folder = folder_of(room, tmp_path)
    for number in range(3):
        drop(folder, f"{number}.sub", b"To: a@here.example\n\nx\n")

    async def fails(*args: object, **more: object) -> None:
        raise JournalError("the disk is gone")

    room.spool.add = fails  # type: ignore[method-assign]
    with pytest.raises(JournalError):
        await folder.scan()
    names = sorted(os.listdir(folder.directory))
    assert names[0].endswith(".taken") and names[1:] == ["1.sub", "2.sub"]
