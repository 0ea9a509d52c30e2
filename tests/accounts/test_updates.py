"""When what is written: flags in place, account.info at once or together, several mailboxes at the same time, odd file systems."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio

from appliance.accounts.client import AccountError, Fetch, Flag, unpack
from appliance.accounts.delivery import Store
from appliance.kernel.disk import InLoopDisk, WorkerDisk
from appliance.kernel.files import Files
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.store import Scan
from tests.accounts.serving import MESSAGE, Start, server
from tests.kernel.disk_testing import RecordingFiles, WrappedFiles


@pytest.mark.feature("MBOX-131")
async def test_flags_are_written_in_place_and_synced_together(tmp_path: Path) -> None:
    files = RecordingFiles(str(tmp_path))
    async with server(tmp_path, disk=InLoopDisk(files)) as life:
        alice = await life.account(DefaultMailboxType="Text Mailbox")
        for _ in range(100):
            await life.deliver(alice, MESSAGE)
        await life.accounts.checkpoint()
        session = await life.session()
        opened = await session.open("INBOX")
        path = life.place() / "INBOX.mbox"
        before, start = path.stat(), len(files.log)
        for uid in range(1, 101):
            await session.store(opened.view, [uid], "+", int(Flag.FLAGGED), [])
        await life.accounts.checkpoint()
        after = path.stat()
        assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size), "not written anew"
        assert path.read_bytes().count(b"(--F") + path.read_bytes().count(b"(F-") == 100
        assert sum(operation.kind == "sync" for operation in files.log[start:]) <= 3


@pytest.mark.feature("MBOX-133")
async def test_several_mailboxes_are_scanned_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    base.mkdir()
    async with server(base) as life:
        for name in ("a", "b"):
            await life.deliver(await life.account(name, DefaultMailboxType="Text Mailbox"), MESSAGE)
    for path in base.rglob("account.index"):
        path.unlink()
    for path in base.rglob("INBOX.mbox"):
        path.write_bytes(path.read_bytes() * 2)
    together = threading.Barrier(2)
    scan = MboxStore.scan

    def meeting(self: MboxStore, files: Files, start: int = 0) -> Scan:
        together.wait(10)  # breaks if the other one cannot begin meanwhile
        return scan(self, files, start)

    monkeypatch.setattr(MboxStore, "scan", meeting)
    async with server(base, disk=WorkerDisk()) as life, trio.open_nursery() as readers:
        for name in ("a", "b"):
            readers.start_soon(life.session, name)
    assert not together.broken


@pytest.mark.feature("MBOX-050", "BASE-054")
async def test_conservative_updates(tmp_path: Path) -> None:
    files = RecordingFiles(str(tmp_path))
    async with server(tmp_path, disk=InLoopDisk(files)) as life:
        alice = await life.account()
        session = await life.session()
        await session.create("Sent")
        await life.deliver(alice, MESSAGE, Store("Sent"))
        counts = []
        for conservative in (True, False):
            life.accounts.shared.conservative = lambda value=conservative: value  # type: ignore[misc]
            start = len(files.log)
            for _ in range(5):
                await life.deliver(alice, MESSAGE, Store("Sent"))
                await session.status("Sent")
            counts.append(sum(op.kind == "rename" and "account.info" in str(op) for op in files.log[start:]))
            assert not conservative or b"Messages = 6;" in (life.place() / "account.info").read_bytes()
        assert counts == [5, 0]


class CaselessFiles(WrappedFiles):
    """As on a file system that does not tell `A` from `a`."""

    def exists(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        try:
            return name.casefold() in {entry.casefold() for entry in self.inner.listdir(folder)}
        except OSError:
            return False


@pytest.mark.feature("MBOX-017")
async def test_names_on_a_file_system_without_case(tmp_path: Path) -> None:
    async with server(tmp_path, disk=InLoopDisk(CaselessFiles())) as life:
        await life.account()
        session = await life.session()
        await session.create("Work/Plans")
        for name in ("work", "WORK/x", "Work/plans", "work/Other"):
            with pytest.raises(AccountError) as caught:
                await session.create(name)
            assert caught.value.code == "ALREADYEXISTS", name
        with pytest.raises(AccountError) as caught:
            await session.open("Work/plans")
        assert caught.value.code == "NONEXISTENT"
        await session.create("Work")
        await session.create("Play")
        with pytest.raises(AccountError) as caught:
            await session.rename("Play", "work")
        assert caught.value.code == "ALREADYEXISTS"
        await session.rename("Work", "WORK")
        assert {"WORK", "WORK/Plans"} <= {row.name for row in await session.mailboxes()}


async def test_one_damaged_mailbox_does_not_cost_the_others(start: Start) -> None:
    async with start() as life:
        alice = await life.account(DefaultMailboxType="Text Mailbox")
        session = await life.session()
        await session.create("Sent")
        for name in ("INBOX", "Sent"):
            await life.deliver(alice, MESSAGE, Store(name))
        place = life.place()
    damaged = b"no mailbox\n" + (place / "Sent.mbox").read_bytes()
    (place / "Sent.mbox").write_bytes(damaged)
    async with start() as life:
        session = await life.session()
        assert len((await session.open("INBOX")).uids) == 4
        with pytest.raises(AccountError) as caught:
            await session.open("Sent")
        assert caught.value.code == "CANNOT"
        with pytest.raises(AccountError):
            await life.deliver(await life.account(), MESSAGE, Store("Sent"))
        await life.deliver(await life.account(), MESSAGE)
    # Nor is it taken for sound later: nothing is put behind what cannot be read.
    async with start() as life:
        with pytest.raises(AccountError):
            await life.deliver(await life.account(), MESSAGE, Store("Sent"))
        await life.deliver(await life.account(), MESSAGE)
    assert (place / "Sent.mbox").read_bytes() == damaged


async def test_a_last_line_without_an_end_swallows_no_mail(start: Start) -> None:
    """A file that an administrator has copied or edited."""
    async with start() as life:
        await life.account(DefaultMailboxType="Text Mailbox")
        await (await life.session()).create("Sent")
        place = life.place()
    for name in ("account.info", "account.index"):
        (place / name).unlink()
    for name in ("INBOX", "Sent"):
        (place / f"{name}.mbox").write_bytes(b"From root Fri Jul  8 12:08:34 2011\nSubject: old\n\nno end")
    async with start() as life:
        await life.deliver(await life.account(), MESSAGE)
        session = await life.session()
        for name, first in (("INBOX", 2), ("Sent", 1)):
            opened = await session.open(name)
            rows = await session.fetch(opened.view, unpack(opened.uids), Fetch.NOTHING, "")
            assert len(rows) == first
            assert (rows[0].content or b"").startswith(b"Subject: old\r\n\r\nno end")
