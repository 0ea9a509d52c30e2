"""The gate as sessions and modules see it: every request serialised both ways."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from appliance.accounts.client import AccountError, Fetch, Flag, unpack
from appliance.accounts.delivery import Store
from appliance.formats.wire import to_wire
from appliance.objects.domain import MAILDIR, TEXT
from tests.accounts.serving import MESSAGE, Start

FORMATS = pytest.mark.parametrize("kind", ["Text Mailbox", "MailDir Mailbox"])


@pytest.mark.feature("MBOX-001", "MBOX-002", "BASE-048")
async def test_a_delivered_message_is_in_inbox(start: Start) -> None:
    async with start() as server:
        alice = await server.account()
        session = await server.session()
        assert [row.name for row in await session.mailboxes()] == ["INBOX"]
        assert (await session.status("INBOX"))["MESSAGES"] == 0
        await server.deliver(alice, MESSAGE)
        opened = await session.open("INBOX")
        assert list(unpack(opened.uids)) == [1]
        assert (opened.recent, opened.first_unseen, opened.uidnext) == (1, 1, 2)
        (row,) = await session.fetch(opened.view, [1], Fetch.ENVELOPE | Fetch.BODYSTRUCTURE | Fetch.BODY, "")
        assert row.content == to_wire(MESSAGE)
        assert row.size == len(to_wire(MESSAGE))
        assert row.envelope is not None and b'"Hello"' in row.envelope
        assert row.date == 1_700_000_000
        assert Flag(row.flags) == Flag.RECENT
        text = (server.place() / "INBOX.mbox").read_bytes()
        assert text.startswith(b"From <bob@example.com>(------")


@FORMATS
@pytest.mark.feature("MBOX-040", "MBOX-042", "MBOX-044", "MBOX-120", "MBOX-122", "ACC-039")
async def test_flags_keywords_and_uids_survive_a_restart(start: Start, kind: str) -> None:
    async with start() as server:
        alice = await server.account(DefaultMailboxType=kind)
        session = await server.session()
        for _ in range(3):
            await server.deliver(alice, MESSAGE)
        opened = await session.open("INBOX")
        every = Flag.SEEN | Flag.ANSWERED | Flag.FLAGGED | Flag.DELETED | Flag.DRAFT | Flag.REDIRECTED
        (row,) = await session.store(opened.view, [2], "+", int(every), ["Later"])
        assert (row.uid, row.keywords) == (2, ("Later",))
        assert (await session.status("INBOX"))["UNSEEN"] == 2
        validity = opened.uidvalidity
    async with start() as server:
        session = await server.session()
        status = await session.status("INBOX")
        assert (status["MESSAGES"], status["UNSEEN"], status["UIDVALIDITY"]) == (3, 2, validity)
        assert status["UIDNEXT"] == 4
        opened = await session.open("INBOX")
        rows = {row.uid: row for row in await session.flags(opened.view, [1, 2, 3])}
        assert Flag(rows[2].flags) & every == every
        assert rows[2].keywords == ("Later",)
        assert not Flag(rows[1].flags) & Flag.SEEN
        assert rows[2].modseq > rows[3].modseq


@FORMATS
@pytest.mark.feature("ACC-036", "ACC-037", "ACC-038", "ACC-040", "MBOX-104", "MBOX-105", "MBOX-043", "MBOX-139")
async def test_two_sessions_see_each_others_changes(start: Start, kind: str) -> None:
    async with start() as server:
        alice = await server.account(DefaultMailboxType=kind)
        one, two = await server.session(), await server.session()
        await server.deliver(alice, MESSAGE)
        await server.deliver(alice, MESSAGE)
        first, second = await one.open("INBOX"), await two.open("INBOX")
        assert (first.recent, second.recent) == (2, 0)
        with server.notices.subscribe(("mailbox", "alice@office.test", "INBOX")) as news:
            await server.deliver(alice, MESSAGE)
            assert news.take()
            await one.store(first.view, [1], "+", int(Flag.DELETED | Flag.SEEN), [])
            assert news.take()
            assert list(await one.expunge(first.view)) == [1]
            assert news.take()
            await one.store(first.view, [2], "+", int(Flag.SEEN), [])
        changes = await two.changes(second.view, second.modseq)
        assert [row.uid for row in changes.new] == [3]
        assert [(row.uid, Flag(row.flags) & Flag.SEEN) for row in changes.changed] == [(2, Flag.SEEN)]
        assert list(unpack(changes.vanished)) == [1]
        again = await two.changes(second.view, changes.modseq)
        assert (again.new, again.changed, again.vanished) == ((), (), b"")
        assert await two.fetch(second.view, [1], Fetch.NOTHING, "") == []
        mine = await one.changes(first.view, first.modseq)
        assert [Flag(row.flags) & Flag.RECENT for row in mine.new] == [Flag(0)]
        await one.remove(first.view, [2, 3])
        assert (await two.status("INBOX"))["MESSAGES"] == 0
        gone = await two.changes(second.view, changes.modseq)
        assert list(unpack(gone.vanished)) == [2, 3]


@FORMATS
async def test_store_set_remove_and_unchanged_since(start: Start, kind: str) -> None:
    async with start() as server:
        alice = await server.account(DefaultMailboxType=kind)
        session = await server.session()
        await server.deliver(alice, MESSAGE)
        await server.deliver(alice, MESSAGE)
        opened = await session.open("INBOX")
        (row,) = await session.store(opened.view, [1], "+", int(Flag.SEEN), ["a"])
        rows = await session.store(opened.view, [1, 2], "+", int(Flag.FLAGGED), [], opened.modseq)
        assert [row.uid for row in rows] == [2]
        (row,) = await session.store(opened.view, [1], "=", int(Flag.DRAFT), ["b"])
        assert (Flag(row.flags) & ~Flag.RECENT, row.keywords) == (Flag.DRAFT, ("b",))
        (row,) = await session.store(opened.view, [1], "-", int(Flag.DRAFT), ["B"])
        assert (Flag(row.flags) & ~Flag.RECENT, row.keywords) == (Flag(0), ())
        with pytest.raises(AccountError) as caught:
            await session.store(opened.view, [1], "+", 0, [f"k{n}" for n in range(30)])
        assert caught.value.code == "LIMIT"


@FORMATS
@pytest.mark.feature("MBOX-049", "MBOX-120")
async def test_append_copy_and_move(start: Start, kind: str) -> None:
    wire = b"Subject: x\r\n\r\nFrom here\r\n>From there\r\nno end"
    async with start() as server:
        await server.account(DefaultMailboxType=kind)
        session = await server.session()
        await session.create("a.mbox")
        await session.create("b.mdir")
        validity, uid = await session.append("a", int(Flag.SEEN), ["K"], 1_600_000_000, 60, wire)
        assert uid == 1
        opened = await session.open("a")
        assert opened.uidvalidity == validity
        assert await session.copy(opened.view, [1], "b") == ((await session.status("b"))["UIDVALIDITY"], [1], [1])
        assert (await session.copy(opened.view, [1], "b", move=True))[2] == [2]
        assert (await session.status("a"))["MESSAGES"] == 0
        other = await session.open("b")
        rows = await session.fetch(other.view, [1, 2], Fetch.NOTHING, "")
        assert [row.content for row in rows] == [wire, wire]
        assert [(Flag(row.flags), row.keywords, row.date) for row in rows] == [
            (Flag.SEEN | Flag.RECENT, ("K",), 1_600_000_000)
        ] * 2
        assert (await session.copy(other.view, [2, 1], "INBOX"))[1:] == ([1, 2], [1, 2])
        inbox = await session.open("INBOX")
        assert (await session.read(inbox.view, 2, "", 0, 1000))[1] == wire


@FORMATS
async def test_a_streamed_append(start: Start, kind: str) -> None:
    wire = b"Subject: big\r\n\r\n" + b"From the line\r\n\r\nx" * 100_000 + b"\r\n"
    async with start() as server:
        await server.account(DefaultMailboxType=kind)
        session = await server.session()
        handle = await session.append_begin("INBOX", 0, [], 5, 0, len(wire))
        for at in range(0, len(wire), 99_999):
            await session.append_chunk(handle, wire[at : at + 99_999])
        _, uid = await session.append_commit(handle)
        opened = await session.open("INBOX")
        (row,) = await session.fetch(opened.view, [uid], Fetch.BODYSTRUCTURE, "")
        assert (row.size, row.content) == (len(wire), None)
        got = b""
        while len(got) < len(wire):
            total, piece = await session.read(opened.view, uid, "", len(got), 200_000)
            assert total == len(wire)
            got += piece
        assert got == wire
        assert await session.read(opened.view, uid, "HEADER", 0, 100) == (18 - 2, wire[:16])
        total, piece = await session.read(opened.view, uid, "TEXT", 10, 20)
        assert (total, piece) == (len(wire) - 16, wire[26:46])
        assert await session.read(opened.view, uid, "", 5, 20) == (len(wire), wire[5:25])
        handle = await session.append_begin("INBOX", 0, [], 5, 0, 10)
        await session.append_chunk(handle, b"half")
        await session.aclose()
        assert not [path for path in server.place().iterdir() if path.suffix == ".tmp"]


@pytest.mark.feature("MBOX-030", "MBOX-029", "MBOX-031")
async def test_the_storage_limit(start: Start) -> None:
    async with start() as server:
        alice = await server.account(MaxAccountSize="2K")
        session = await server.session()
        await session.create("Trash")
        big = MESSAGE + b"x" * 1500 + b"\n"
        await server.deliver(alice, big)
        with pytest.raises(AccountError) as caught:
            await server.deliver(alice, big)
        assert caught.value.code == "OVERQUOTA"
        opened = await session.open("INBOX")
        for attempt in (
            session.append("INBOX", 0, [], 0, 0, to_wire(big)),
            session.append_begin("INBOX", 0, [], 0, 0, 3000),
            session.copy(opened.view, [1], "Trash"),
        ):
            with pytest.raises(AccountError) as caught:
                await attempt
            assert caught.value.code == "OVERQUOTA"
        assert (await session.status("Trash"))["MESSAGES"] == 0
        await session.copy(opened.view, [1], "Trash", move=True)
        assert (await session.info())["used"] == len(to_wire(big))
        await session.delete("Trash")
        assert (await session.info())["used"] == 0
        await server.deliver(alice, big)


@pytest.mark.feature("MBOX-024", "MBOX-123", "BASE-049")
@pytest.mark.parametrize("kind", [TEXT, MAILDIR])
async def test_single_mailbox_accounts(start: Start, kind: str) -> None:
    async with start() as server:
        account = await server.account("bob", kind)
        session = await server.session("bob")
        await server.deliver(account, MESSAGE)
        assert [row.name for row in await session.mailboxes()] == ["INBOX"]
        with pytest.raises(AccountError) as caught:
            await session.create("other")
        assert caught.value.code == "CANNOT"
        names = {path.name for path in server.place("bob").iterdir()}
        assert {"bob.info", "bob.mbox" if kind == TEXT else "bob.mdir"} <= names


@pytest.mark.feature("MBOX-134", "MBOX-135", "MBOX-137", "BASE-067", "BASE-068")
async def test_mdir_names_and_shared_files(start: Start) -> None:
    async with start() as server:
        accounts = [await server.account(name, DefaultMailboxType="MailDir Mailbox") for name in ("a", "b", "c")]
        for account in accounts:
            server.number = 6
            await server.deliver(account, MESSAGE)
        files = [next((server.place(name) / "INBOX.mdir").iterdir()) for name in ("a", "b", "c")]
        assert files[0].name == "0000000001--20231114221320-6"
        assert len({path.stat().st_ino for path in files}) == 1
        session = await server.session("b")
        opened = await session.open("INBOX")
        await session.store(opened.view, [1], "+", int(Flag.SEEN | Flag.FLAGGED), [])
        assert (server.place("b") / "INBOX.mdir" / "0000000001-SF-20231114221320-6").read_bytes() == MESSAGE
        await session.remove(opened.view, [1])
        assert files[0].stat().st_nlink == 2


@pytest.mark.feature("MBOX-140")
async def test_files_that_are_used_again_never_touch_linked_messages(start: Start) -> None:
    """Segments of the journal and files of unfinished messages are used again; a linked message is no part of that."""
    async with start() as server:
        accounts = [await server.account(name, DefaultMailboxType="MailDir Mailbox") for name in ("a", "b")]
        for account in accounts:
            server.number = 6
            await server.deliver(account, MESSAGE)
        linked = next((server.place("a") / "INBOX.mdir").iterdir())
        assert linked.stat().st_nlink == 2
        session = await server.session("a")
        for number in range(30):
            server.number = 100 + number
            await server.deliver(accounts[number % 2], b"Subject: other\n\n" + b"x" * 5000 + b"\n")
            handle = await session.append_begin("INBOX", 0, [], 0, 0, 0)
            await session.append_chunk(handle, b"Subject: streamed\r\n\r\n" + b"y" * 5000 + b"\r\n")
            await session.append_commit(handle)
            if number % 10 == 0:
                await server.accounts.checkpoint()
        for name in ("a", "b"):
            reader = await server.session(name)
            opened = await reader.open("INBOX")
            (row,) = await reader.fetch(opened.view, [1], Fetch.NOTHING, "")
            assert row.content == MESSAGE.replace(b"\n", b"\r\n")
        assert linked.stat().st_nlink == 2


@pytest.mark.feature("MBOX-048", "BASE-053", "BASE-052")
async def test_a_lost_info_file_is_made_again(start: Start) -> None:
    async with start() as server:
        alice = await server.account()
        session = await server.session()
        await session.create("Sent")
        for _ in range(3):
            await server.deliver(alice, MESSAGE, Store("Sent"))
        validity = (await session.status("Sent"))["UIDVALIDITY"]
        place = server.place()
    for damage in (b"", b"{ this is no dictionary", None):
        if damage is None:
            (place / "account.info").unlink()
        else:
            (place / "account.info").write_bytes(damage)
        async with start() as server:
            session = await server.session()
            opened = await session.open("Sent")
            assert list(unpack(opened.uids)) == [1, 2, 3]
            assert opened.uidvalidity > validity
            assert opened.uidnext > 3
            validity = opened.uidvalidity


@pytest.mark.feature("MBOX-132", "MBOX-126", "MBOX-141", "MBOX-127")
async def test_a_mailbox_that_another_program_writes_to(start: Start) -> None:
    foreign = b"From root Fri Jul  8 12:08:34 2011\nSubject: from cron\n\nhello\n\n"
    async with start() as server:
        alice = await server.account()
        (server.place() / "INBOX.mbox").write_bytes(foreign)
        session = await server.session()
        opened = await session.open("INBOX")
        assert list(unpack(opened.uids)) == [1]
        await session.store(opened.view, [1], "+", int(Flag.SEEN), [])
        with (server.place() / "INBOX.mbox").open("ab") as file:
            file.write(foreign)
        uid = await server.deliver(alice, MESSAGE)
        opened = await session.open("INBOX")
        uids = list(unpack(opened.uids))
        assert len(uids) == len(set(uids)) == 3
        assert uid == uids[-1]
        rows = await session.fetch(opened.view, uids, Fetch.NOTHING, "")
        assert [row.content and row.content.split(b"\r\n")[0] for row in rows] == [
            b"Subject: from cron",
            b"Subject: from cron",
            b"From: Bob <bob@example.com>",
        ]
        assert "no UID" in server.log.text()
        await session.create("box")
        await session.copy(opened.view, uids[:1], "box", move=True)
        assert (await session.status("INBOX"))["MESSAGES"] == 2
        assert b"(-----" in (server.place() / "box.mbox").read_bytes().splitlines()[0]


async def test_an_idle_account_closes_and_opens_again(start: Start, autojump_clock: MockClock) -> None:
    async with start(idle=5) as server:
        alice = await server.account()
        await server.deliver(alice, MESSAGE)
        await trio.sleep(20)
        assert not server.accounts.is_open(alice)
        session = await server.session()
        assert (await session.status("INBOX"))["MESSAGES"] == 1
        await trio.sleep(20)
        assert server.accounts.is_open(alice)
        await server.accounts.close(alice)
        with pytest.raises(AccountError) as caught:
            await session.status("INBOX")
        assert caught.value.code == "CLOSED"


async def test_compaction_gives_the_space_back(start: Start) -> None:
    body = MESSAGE + b"x" * 20_000 + b"\n"
    async with start() as server:
        alice = await server.account()
        session = await server.session()
        for _ in range(10):
            await server.deliver(alice, body)
        opened = await session.open("INBOX")
        before = (server.place() / "INBOX.mbox").stat().st_size
        await session.remove(opened.view, [2, 4, 6, 8])
        assert (server.place() / "INBOX.mbox").stat().st_size < before * 0.7
        rows = await session.fetch(opened.view, [1, 3, 10], Fetch.NOTHING, "")
        assert [row.content for row in rows] == [to_wire(body)] * 3
        await session.store(opened.view, [3], "+", int(Flag.SEEN), [])
    async with start() as server:
        session = await server.session()
        opened = await session.open("INBOX")
        assert list(unpack(opened.uids)) == [1, 3, 5, 7, 9, 10]
        rows = await session.fetch(opened.view, [3], Fetch.NOTHING, "")
        assert Flag(rows[0].flags) & Flag.SEEN
        assert rows[0].content == to_wire(body)


@FORMATS
async def test_mailboxes_that_nobody_looks_at_leave_memory(start: Start, kind: str) -> None:
    async with start() as server:
        alice = await server.account(DefaultMailboxType=kind)
        session = await server.session()
        names = [f"box{number}" for number in range(8)]
        for name in names:
            await session.create(name)
            await server.deliver(alice, MESSAGE, Store(name))
            opened = await session.open(name)
            await session.store(opened.view, [1], "+", int(Flag.FLAGGED), [])
            await session.release(opened.view)
        task = server.accounts._tasks[alice]
        assert sum(box.loaded and len(box.table) > 0 for box in task.state.boxes.values()) == 4
        for name in names:
            await server.deliver(alice, MESSAGE, Store(name))
            opened = await session.open(name)
            rows = await session.fetch(opened.view, unpack(opened.uids), Fetch.NOTHING, "")
            assert [(row.uid, row.content) for row in rows] == [(1, to_wire(MESSAGE)), (2, to_wire(MESSAGE))]
            assert [bool(Flag(row.flags) & Flag.FLAGGED) for row in rows] == [True, False]
            assert rows[0].modseq < rows[1].modseq
