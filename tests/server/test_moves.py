"""A base directory after a move or an accident, and an end that does not wait."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
import trio

from appliance.kernel.disk import WorkerDisk
from tests.interop.pillarbox import PASSWORD
from tests.kernel.disk_testing import WrappedFiles
from tests.server.conftest import HOST, living


@pytest.mark.feature("INST-007")
async def test_a_message_file_that_makes_no_sense_is_put_aside(tmp_path: Path) -> None:
    base = tmp_path / "base"
    async with living(base) as house:
        assert (await house.mail("bob@box.test")).startswith("250")
    (base / "Queue" / "777.msg").write_bytes(b"\xff\xfe no envelope\n\0" * 20)
    async with living(base) as house:
        assert [path.name for path in (base / "BadFiles").iterdir()] == ["777.msg"]
        assert not (base / "Queue" / "777.msg").exists()
        assert "777.msg" in await house.logged("BadFiles")
        assert (await house.mail("bob@box.test")).startswith("250")
        assert not house.crashes(await house.log())


@pytest.mark.feature("INST-067")
async def test_addresses_that_are_not_here_do_not_stop_the_start(tmp_path: Path) -> None:
    """After a move to another computer: named in the log, corrected on the running server."""
    base = tmp_path / "base"
    async with living(base) as house:
        cli = await house.cli()
        await cli("CreateDomain second.test")
        await cli('UpdateDomainSettings second.test {IPMode="Manually Defined";IPAddresses=("203.0.113.9");}')
        await cli('UpdateModule IPAddresses {ClientAddresses="203.0.113.0/24";}')
        await cli('UpdateModule POP {Listener=({Port=110;},{Port=1110;Address="203.0.113.9";});}')
    async with living(base) as house:
        assert "203.0.113.9" in await house.logged("cannot be opened")
        cli = await house.cli()
        assert (await house.connect("POP")) is not None
        await cli("UpdateDomainSettings second.test {IPAddresses=();}")
        await cli('UpdateModule IPAddresses {ClientAddresses="127.0.0.1";}')
        await cli("UpdateModule POP {Listener=default;}")
        await cli("RefreshOSData")
        assert (await house.connect("POP")) is not None


@pytest.mark.feature("INST-084")
async def test_an_end_does_not_wait_for_dns(tmp_path: Path) -> None:
    silent = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await silent.bind((HOST, 0))
    port = silent.getsockname()[1]
    async with living(tmp_path / "base") as house:
        await house.update("DNR", DNSAddresses="Custom", CustomAddresses=[f"{HOST}:{port}"], InitialTimeout="60")
        for number in range(5):
            await house.mail(f"x@host{number}.test")
        await silent.recvfrom(4096)
        began = trio.current_time()
    assert trio.current_time() - began < 3
    silent.close()


class ForeignFiles(WrappedFiles):
    """Files of which one belongs to somebody else."""

    def __init__(self, theirs: Path) -> None:
        super().__init__()
        self.theirs = str(theirs)

    def open(
        self,
        path: str,
        *,
        write: bool = False,
        create: bool = False,
        exclusive: bool = False,
        truncate: bool = False,
        mode: int = 0o640,
    ) -> int:
        if path == self.theirs:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return super().open(path, write=write, create=create, exclusive=exclusive, truncate=truncate, mode=mode)


@pytest.mark.feature("INST-066")
@pytest.mark.parametrize("name", ["Settings/SMTP.settings", "Accounts/Settings/Access.settings"])
async def test_a_server_file_of_a_wrong_owner_is_named_and_not_worked_around(tmp_path: Path, name: str) -> None:
    """With defaults instead of its settings a server would do harm: it does not start."""
    base = tmp_path / "base"
    async with living(base) as house:
        await house.update("SMTP", SizeLimit="2M")
    with pytest.raises(BaseException) as error:
        async with living(base, disk=WorkerDisk(ForeignFiles(base / name))):
            pass
    assert error.group_contains(Exception)
    log = "".join(path.read_text() for path in (base / "SystemLogs").iterdir())
    assert f"{base / name}" in log and "ermission denied" in log


@pytest.mark.feature("INST-066")
async def test_an_account_file_of_a_wrong_owner_is_named(tmp_path: Path) -> None:
    base = tmp_path / "base"
    async with living(base):
        pass
    file = base / "Accounts" / "ann.macnt" / "account.settings"
    async with living(base, disk=WorkerDisk(ForeignFiles(file))) as house:
        line = await house.connect("IMAP")
        assert "a NO" in (await line.imap(f"LOGIN ann {PASSWORD}"))[-1]
        assert "Permission denied" in await house.logged(str(file))
        await house.imap("bob")
        assert not house.crashes(await house.log())
