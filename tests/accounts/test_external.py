"""An INBOX in a legacy mail spool: used as it is found, locked as the site's mailers do, never damaged, never removed."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from appliance.accounts.client import AccountError, AccountSession, Fetch, Flag, unpack
from appliance.mailstore import external
from tests.accounts.serving import MESSAGE, Server, Start

LEGACY = b"From joe@example.com Fri Jul  8 12:08:34 2011\nSubject: legacy %d\n\ntext\n\n"
_HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path, kind: str) -> Iterator[None]:
    """Another program has the lock."""
    if kind == "FileLevel":
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    process = subprocess.Popen([sys.executable, "-c", _HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        yield
    finally:
        process.stdin.close()
        process.wait(10)


async def prepared(server: Server, spool: Path, kind: str = "FileLevel", name: str = "alice") -> Path:
    await trio.Path(spool).mkdir(exist_ok=True)
    domain = server.domains.main
    await domain.settings.update({"ExternalLocation": f"{spool}/*", "ExternalLock": kind})
    await server.account(name, ExternalINBOX="YES")
    return spool / name


async def subjects(session: AccountSession) -> dict[int, bytes]:
    opened = await session.open("INBOX")
    rows = await session.fetch(opened.view, unpack(opened.uids), Fetch.NOTHING, "HEADER")
    await session.release(opened.view)
    return {row.uid: (row.content or b"").partition(b"\r\n")[0] for row in rows}


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "WAIT", 0.1)


@pytest.mark.feature(
    "MBOX-106", "MBOX-107", "MBOX-108", "MBOX-111", "ACC-057", "ACC-059", "ACC-060", "ACC-061", "BASE-062"
)
async def test_the_spool_file_is_used_shared_and_left(start: Start, tmp_path: Path) -> None:
    async with start() as server:
        path = await prepared(server, tmp_path / "spool")
        path.write_bytes(LEGACY % 1 + LEGACY % 2)
        session = await server.session()
        assert [row.name for row in await session.mailboxes() if row.selectable] == ["INBOX"]
        assert list((await subjects(session)).values()) == [b"Subject: legacy 1", b"Subject: legacy 2"]
        assert not (server.place() / "INBOX.mbox").exists()
        alice = await server.account()
        await server.deliver(alice, MESSAGE)
        assert path.read_bytes().startswith(LEGACY % 1 + LEGACY % 2) and path.read_bytes().endswith(b"How are you?\n\n")
        # A local mailer adds a message while the account is open, and it is seen.
        with path.open("ab") as file:
            file.write(LEGACY % 3)
        await server.accounts._look_outside()
        found = await subjects(session)
        assert sorted(found.values()) == [
            b"From: Bob <bob@example.com>",
            *(b"Subject: legacy %d" % n for n in (1, 2, 3)),
        ]
        # Flags of other programs' messages last while it is open; ours stay.
        opened = await session.open("INBOX")
        uids = list(unpack(opened.uids))
        await session.store(opened.view, uids, "+", int(Flag.FLAGGED), [])
        # What is expunged is gone for the other programs too, and the file is the same one.
        inode = path.stat().st_ino
        gone = next(uid for uid, subject in found.items() if subject == b"Subject: legacy 2")
        await session.remove(opened.view, [gone])
        assert b"legacy 2" not in path.read_bytes() and path.stat().st_ino == inode
        rows = await session.fetch(opened.view, [uid for uid in uids if uid != gone], Fetch.NOTHING, "")
        assert len(rows) == 3 and all(row.content for row in rows)
        with pytest.raises(AccountError):
            await session.rename("INBOX", "old")
    async with start() as server:
        session = await server.session()
        opened = await session.open("INBOX")
        flags = {row.uid: row.flags & Flag.FLAGGED for row in await session.flags(opened.view, unpack(opened.uids))}
        assert sorted(flags.values()) == [0, 0, Flag.FLAGGED]
        assert opened.uidnext > max(uids)
        await session.aclose()
        await server.domains.remove_account(await server.account())
        assert b"legacy 1" in path.read_bytes()
        other = await prepared(server, tmp_path / "spool", name="bob")
        await server.session("bob")
        assert other.read_bytes() == b""


@pytest.mark.feature("MBOX-109", "ACC-058")
@pytest.mark.parametrize("kind", ["FileLevel", "FileRange"])
async def test_locks_of_other_programs_are_respected(start: Start, tmp_path: Path, kind: str) -> None:
    async with start() as server:
        path = await prepared(server, tmp_path / "spool", kind)
        path.write_bytes(LEGACY % 1)
        alice = await server.account()
        session = await server.session()
        assert len(await subjects(session)) == 1
        before = path.read_bytes()
        with held(path, kind):
            with pytest.raises(AccountError) as caught:
                await server.deliver(alice, MESSAGE)
            assert caught.value.code == "TEMPORARY"
            assert path.read_bytes() == before
        await server.deliver(alice, MESSAGE)
        assert len(await subjects(session)) == 2


async def test_a_file_that_others_wrote_anew_is_never_read_by_old_offsets(start: Start, tmp_path: Path) -> None:
    async with start() as server:
        path = await prepared(server, tmp_path / "spool")
        path.write_bytes(b"".join(LEGACY % number for number in range(20)))
        session = await server.session()
        opened = await session.open("INBOX")
        uids = unpack(opened.uids)
        path.write_bytes(LEGACY % 77)
        with pytest.raises(AccountError):
            await session.fetch(opened.view, uids[:1], Fetch.NOTHING, "")
        with pytest.raises(AccountError):
            await session.store(opened.view, uids[:1], "+", int(Flag.SEEN), [])
        await server.accounts._look_outside()
        await trio.lowlevel.checkpoint()
        assert list((await subjects(session)).values()) == [b"Subject: legacy 77"]
        alice = await server.account()
        path.write_bytes(LEGACY % 78)
        await server.deliver(alice, MESSAGE)
        assert [line for line in path.read_bytes().splitlines() if line.startswith(b"Subject")] == [
            b"Subject: legacy 78",
            b"Subject: Hello",
        ]
