"""What breaks under the running server: a full disk, damaged files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.formats.data import parse
from appliance.kernel.disk import WorkerDisk
from tests.kernel.disk_testing import WrappedFiles
from tests.server.conftest import House, living, until


class FullFiles(WrappedFiles):
    """A disk that can be filled and emptied."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.refused = 0

    def free_space(self, path: str) -> int:
        return 4096 if self.full else super().free_space(path)

    def _room(self) -> None:
        if self.full:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def preallocate(self, handle: int, size: int) -> None:
        self._room()
        super().preallocate(handle, size)

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        # What is preallocated can be written; a file cannot grow.
        if offset + sum(map(len, buffers)) > self.size(handle):
            self._room()
        return super().pwritev(handle, buffers, offset)

    def mkdir(self, path: str, *, mode: int = 0o750) -> None:
        self._room()
        super().mkdir(path, mode=mode)


async def settled(house: House, name: str, count: int) -> None:
    async def there() -> bool:
        return len(await house.inbox(name)) == count

    await until(there, 20)


@pytest.mark.slow
async def test_a_full_disk_is_a_temporary_answer_and_passes(tmp_path: Path) -> None:
    files = FullFiles()
    async with living(tmp_path / "base", disk=WorkerDisk(files)) as house:
        assert (await house.mail("bob@box.test", "Subject: before\r\n\r\ntext")).startswith("250")
        await settled(house, "bob", 1)
        files.full = True

        async def refused() -> bool:
            return (await house.mail("bob@box.test", "Subject: during\r\n\r\ntext")).startswith("452")

        await until(refused, 15)
        imap = await house.imap("bob")
        assert "EXISTS" in "".join(await imap.imap("SELECT INBOX")), "what is there can be read"
        files.full = False

        async def taken() -> bool:
            return (await house.mail("bob@box.test", "Subject: after\r\n\r\ntext")).startswith("250")

        await until(taken, 15)
        log = await house.log()
        assert log.index("disk space is low") < log.index("disk space is sufficient again")

        async def arrived() -> bool:
            return any("Subject: after" in text for text in await house.inbox("bob"))

        await until(arrived, 15)
        assert not house.crashes(await house.log())


async def test_settings_on_a_full_disk_are_refused_and_stay(tmp_path: Path) -> None:
    files = FullFiles()
    async with living(tmp_path / "base", disk=WorkerDisk(files)) as house:
        await house.update("SMTP", SizeLimit="2M")
        cli = await house.cli()
        files.full = True
        answer = await cli.line.ask("UpdateModule SMTP {SizeLimit=3M;}")
        assert answer[:1] == "5" and "No space left" in answer
        files.full = False
        modules = await cli("GetModule SMTP")
        assert isinstance(modules, dict) and modules["SizeLimit"] == "2M"
        await cli("UpdateModule SMTP {SizeLimit=3M;}")
        assert not house.crashes(await house.log())


@pytest.mark.feature("DATA-026")
async def test_a_damaged_settings_file_is_kept_aside(tmp_path: Path) -> None:
    base = tmp_path / "base"
    async with living(base) as house:
        await house.update("POP", Timeout="77")
        await house.update("SMTP", SizeLimit="2M")
    file = base / "Settings" / "POP.settings"
    file.write_bytes(file.read_bytes()[:-4] + b"{{\0")
    damaged = file.read_bytes()
    async with living(base) as house:
        cli = await house.cli()
        found = await cli("GetModule POP")
        assert isinstance(found, dict) and found["Timeout"] == "10m", "the default counts"
        others = await cli("GetModule SMTP")
        assert isinstance(others, dict) and others["SizeLimit"] == "2M", "others are as they were"
        assert (base / "Settings" / "POP.settings.damaged").read_bytes() == damaged
        record = await house.logged("POP.settings is damaged")
        assert " 1 SYSTEM " in record
        assert (await house.connect("POP")) is not None
        await cli("UpdateModule POP {Timeout=88;}")
    assert parse(file.read_bytes()) == {"Timeout": "88s"}


@pytest.mark.feature("BASE-053")
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "noise"])
async def test_account_information_is_made_anew(tmp_path: Path, damage: str) -> None:
    base = tmp_path / "base"
    async with living(base) as house:
        imap = await house.imap()
        await imap.imap("CREATE Archive")
        await imap.send(b"a APPEND Archive (\\Flagged) {16}\r\n")
        await imap.line()
        await imap.send(b"Subject: old\r\n\r\n\r\n")
        assert (await imap.line()).startswith("a OK")
    info = base / "Accounts" / "ann.macnt" / "account.info"
    data = info.read_bytes()
    if damage == "removed":
        info.unlink()
    else:
        info.write_bytes({"emptied": b"", "cut": data[: len(data) // 2], "noise": os.urandom(200)}[damage])
    async with living(base) as house:
        imap = await house.imap()
        assert "* 1 EXISTS" in await imap.imap("SELECT Archive")
        assert "* 1 FETCH (FLAGS (\\Flagged))" in "".join(await imap.imap("FETCH 1 FLAGS")).replace(" \\Recent", "")
        assert not house.crashes(await house.log())
    assert isinstance(parse(info.read_bytes()), dict)


async def test_a_missing_domain_file_is_a_default(tmp_path: Path) -> None:
    base = tmp_path / "base"
    async with living(base) as house:
        cli = await house.cli()
        await cli("CreateDomain second.test")
        await cli("CreateAccount zoe@second.test {Password=pw;}")
    shutil.rmtree(base / "Domains" / "second.test" / "Settings")
    async with living(base) as house:
        await house.imap("zoe@second.test", "pw")
        assert not house.crashes(await house.log())
