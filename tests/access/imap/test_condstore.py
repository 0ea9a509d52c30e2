"""Mod-sequences (RFC 7162, 3.1) on the real gate: a client that was away asks for what has changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Office


def modseq(line: bytes) -> int:
    found = re.search(rb"MODSEQ (?:\()?(\d+)", line)
    assert found, line
    return int(found[1])


async def test_nothing_is_told_to_clients_that_do_not_ask(office: Office) -> None:
    async with office.logged_in() as client:
        await client.ok("APPEND INBOX {4+}\r\na: b")
        lines = await client.ok("SELECT INBOX")
        assert any(line.startswith(b"* OK [HIGHESTMODSEQ ") for line in lines)
        assert await client.ok("STORE 1 +FLAGS (\\Seen)") == [b"* 1 FETCH (FLAGS (\\Seen \\Recent))"]
        assert await client.ok("ENABLE NOPE") == [b"* ENABLED"]
        lines = await client.ok("ENABLE CONDSTORE")
        assert lines[0].startswith(b"* OK [HIGHESTMODSEQ ") and lines[1:] == [b"* ENABLED CONDSTORE"]
        [line] = await client.ok("STORE 1 -FLAGS (\\Seen)")
        assert line.startswith(b"* 1 FETCH (FLAGS (\\Recent) MODSEQ (")


async def test_changed_since(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in("INBOX") as other:
        for _ in range(3):
            await client.ok("APPEND INBOX {4+}\r\na: b")
        lines = await client.ok("SELECT INBOX (CONDSTORE)")
        before = max(modseq(line) for line in lines if b"HIGHESTMODSEQ" in line)
        await other.ok("NOOP")
        await other.ok("STORE 2 +FLAGS (\\Flagged)")
        [line] = await client.ok("NOOP")
        assert re.fullmatch(rb"\* 2 FETCH \(FLAGS \(\\Flagged \\Recent\) MODSEQ \((\d+)\)\)", line)
        now = modseq(line)
        assert now > before
        assert await client.ok(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {before})") == [
            b"* 2 FETCH (FLAGS (\\Flagged \\Recent) MODSEQ (%d))" % now
        ]
        assert await client.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {now})") == []
        assert await client.ok(f"SEARCH MODSEQ {now}") == [b"* SEARCH 2 (MODSEQ %d)" % now]
        assert await client.ok(f'SEARCH MODSEQ "/flags/\\\\Seen" all {now + 1}') == [b"* SEARCH"]
        assert await client.ok("STATUS INBOX (HIGHESTMODSEQ)") == [b"* STATUS INBOX (HIGHESTMODSEQ %d)" % now]
        [line] = await client.ok("FETCH 1 (UID BODY[])")
        assert b" FLAGS (\\Seen \\Recent) MODSEQ (" in line
        assert modseq(line) > now


async def test_unchanged_since(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in("INBOX") as other:
        for _ in range(3):
            await client.ok("APPEND INBOX {4+}\r\na: b")
        lines = await client.ok("SELECT INBOX (CONDSTORE)")
        before = max(modseq(line) for line in lines if b"HIGHESTMODSEQ" in line)
        await other.ok("NOOP")
        await other.ok("STORE 2 +FLAGS (\\Flagged)")
        lines = await client.do(f"STORE 1:3 (UNCHANGEDSINCE {before}) +FLAGS.SILENT (\\Seen)")
        assert lines[-1].startswith(b"OK [MODIFIED 2]")
        assert [
            line.partition(b" (MODSEQ (")[0] for line in lines if line.startswith(b"* ") and b"FLAGS" not in line
        ] == [
            b"* 1 FETCH",
            b"* 3 FETCH",
        ]
        uid = (await client.ok("FETCH 2 UID"))[0].rstrip(b")").rpartition(b" ")[2]
        lines = await client.do(b"UID STORE %b (UNCHANGEDSINCE %d) FLAGS ()" % (uid, before))
        assert lines[-1].startswith(b"OK [MODIFIED %b]" % uid)
        assert await client.ok("SEARCH FLAGGED") == [b"* SEARCH 2"]
        assert (await client.last("SELECT INBOX (NOPE)")).startswith(b"BAD")
        assert (await client.last("STORE 1 (UNCHANGEDSINCE x) FLAGS ()")).startswith(b"BAD")


async def test_a_client_that_was_away(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        for _ in range(6):
            await client.ok("APPEND INBOX {4+}\r\na: b")
        assert (await client.last("SELECT INBOX (QRESYNC (1 1))")).startswith(b"BAD")
        assert await client.ok("ENABLE QRESYNC") == [b"* ENABLED QRESYNC"]
        lines = await client.ok("SELECT INBOX")
        before = max(modseq(line) for line in lines if b"HIGHESTMODSEQ" in line)
        [validity] = [line.split()[3].rstrip(b"]") for line in lines if b"UIDVALIDITY" in line]
        [uids] = await client.ok("UID SEARCH ALL")
        first, second, third, fourth, *_ = [int(word) for word in uids.split()[2:]]
        await client.ok("UNSELECT")
        await other.ok("SELECT INBOX")
        await other.ok("STORE 1:3 +FLAGS (\\Deleted)")
        await other.ok("STORE 4 +FLAGS (\\Flagged)")
        await other.ok("EXPUNGE")
        lines = await client.ok(b"SELECT INBOX (QRESYNC (%b %d))" % (validity, before))
        assert b"* VANISHED (EARLIER) %d:%d" % (first, third) in lines
        [row] = [line for line in lines if b" FETCH " in line]
        assert row.startswith(b"* 1 FETCH (UID %d FLAGS (\\Flagged) MODSEQ (" % fourth)
        lines = await client.ok(
            b"SELECT INBOX (QRESYNC (%b %d %d:%d (1 %d)))" % (validity, before, second, third, first)
        )
        assert lines[0].startswith(b"* OK [CLOSED]")
        assert b"* VANISHED (EARLIER) %d:%d" % (second, third) in lines
        assert not any(b" FETCH " in line for line in lines)
        lines = await client.ok(b"SELECT INBOX (QRESYNC (%d %d))" % (int(validity) + 1, before))
        assert not any(b"VANISHED" in line for line in lines)
        lines = await client.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {before} VANISHED)")
        assert lines[0] == b"* VANISHED (EARLIER) %d:%d" % (first, third)
        assert lines[1].startswith(b"* 1 FETCH (UID %d" % fourth)
        await client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert b"* VANISHED %d" % fourth in await client.ok("EXPUNGE")
        assert b"* 1 EXPUNGE" in await other.ok("NOOP")


async def test_what_comes_during_a_question_is_not_lost(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        await client.ok("APPEND INBOX {4+}\r\na: b")
        await client.ok("ENABLE QRESYNC")
        await client.ok("SELECT INBOX")
        await other.ok("APPEND INBOX {4+}\r\na: b")
        lines = await client.ok("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)")
        assert b"* 2 EXISTS" in lines
