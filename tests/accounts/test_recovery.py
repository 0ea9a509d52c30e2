"""A start after a crash: one bad record never costs another message."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.accounts.client import AccountSession, Fetch, unpack
from appliance.accounts.recovery import _check_mbox
from appliance.kernel.files import OsFiles
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.store import Record
from tests.accounts.serving import server

MARK = b"middle-of-the-message"


async def contents(session: AccountSession, name: str = "INBOX") -> dict[int, bytes]:
    opened = await session.open(name)
    rows = await session.fetch(opened.view, unpack(opened.uids), Fetch.NOTHING, "")
    return {row.uid: row.content or b"" for row in rows}


def torn(data: bytes) -> bytes:
    return data.replace(MARK, bytes(len(MARK)))


def without_line(data: bytes) -> bytes:
    """From the From-line of the delivered message on, rubbish."""
    at = data.index(b"Subject: delivered")
    start = data.rindex(b"\nFrom ", 0, at) + 1
    end = data.index(MARK) + len(MARK)
    return data[:start] + bytes(end - start) + data[end:]


def all_zero(data: bytes) -> bytes:
    at = data.index(b"Subject: delivered")
    start = data.rindex(b"\nFrom ", 0, at) + 1
    end = data.index(b"\n\nFrom ", at) + 2
    return data[:start] + bytes(end - start) + data[end:]


def cut(data: bytes) -> bytes:
    """The last, unrecorded bytes."""
    return data + b"From <x@y>(" + b"-" * 30


@pytest.mark.parametrize("damage", [torn, without_line, all_zero, cut])
async def test_a_bad_record_costs_no_other_message(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    base, crash = tmp_path / "base", tmp_path / "crash"
    base.mkdir()
    async with server(base) as life:
        alice = await life.account(DefaultMailboxType="Text Mailbox")
        session = await life.session()
        await session.append("INBOX", 0, [], 5, 0, b"Subject: one\r\n\r\n1\r\n")
        await life.accounts.checkpoint()
        content = b"Subject: delivered\n\n" + MARK + b"\nend\n"
        await life.deliver(alice, content)
        await session.append("INBOX", 0, [], 5, 0, b"Subject: two\r\n\r\n2\r\n")
        await session.append("INBOX", 0, [], 5, 0, b"Subject: three\r\n\r\n3\r\n")
        before = await contents(session)
        shutil.copytree(base, crash)
        messages = dict(life.messages)
    box = next(crash.rglob("INBOX.mbox"))
    box.write_bytes(damage(box.read_bytes()))
    for _ in range(2):
        async with server(crash, messages=messages, later=100) as life:
            session = await life.session()
            assert await contents(session) == before
            opened = await session.open("INBOX")
            assert opened.uidnext > max(before)


def test_a_record_with_a_wrong_offset_finds_its_message(tmp_path: Path) -> None:
    files, store = OsFiles(), MboxStore(str(tmp_path / "x.mbox"))
    store.create(files)
    records = [Record(uid, 0, 0, 5, b"", (b"a: b\n\n%d\n" % uid * 20,)) for uid in (1, 2, 3)]
    store.append(files, 0, records)
    found = {message.uid: message for message in store.scan(files).messages}
    data = Path(store.path).read_bytes()
    from zlib import crc32

    def expected(uid: int, start: int, told: bool) -> tuple[int, int, int, int, bool]:
        content = records[uid - 1].content[0]
        return start, uid, len(content), crc32(content), told

    starts = [data.index(b"From <>"), found[2].place - 83, found[3].place - 83]
    good = _check_mbox(files, store, 0, [expected(1, starts[0], False), expected(2, 7, True), expected(3, 11, False)])
    assert (good.good, good.end, good.strays) == ({0, 1, 2}, len(data), 0)
    assert Path(store.path).read_bytes() == data
    # Nobody speaks of the second one: it goes, the others stay where they are.
    good = _check_mbox(files, store, 0, [expected(1, starts[0], False), expected(3, starts[2], True)])
    assert (good.good, good.end, good.strays) == ({0, 1}, len(data), 1)
    assert [message.uid for message in store.scan(files).messages] == [1, 3]
    # What a client was told stays, whatever its bytes are.
    Path(store.path).write_bytes(data.replace(b"3\na: b", b"4\na: b"))
    good = _check_mbox(files, store, 0, [expected(1, starts[0], False), expected(3, starts[2], True)])
    assert good.good == {0, 1}
    assert [message.uid for message in store.scan(files).messages] == [1, 3]


@pytest.mark.parametrize("length", [83, 84, 85, 86, 200])
def test_rubbish_becomes_an_expunged_message(tmp_path: Path, length: int) -> None:
    files, store = OsFiles(), MboxStore(str(tmp_path / "x.mbox"))
    store.create(files)
    _, end = store.append(files, 0, [Record(1, 0, 0, 5, b"", (b"one\n",))])
    with Path(store.path).open("ab") as file:
        file.write(bytes(length))
    store.append(files, end + length, [Record(2, 0, 0, 5, b"", (b"two\n",))])
    store.blank(files, end, end + length)
    scan = store.scan(files)
    assert [message.uid for message in scan.messages] == [1, 2]
    assert store.read(files, scan.messages)[1] == b"two\n"
    if length > 83:
        assert scan.dead == length
        assert store.read(files, scan.messages)[0] == b"one\n"
    store.compact(files)
    assert len(store.scan(files).messages) == 2
