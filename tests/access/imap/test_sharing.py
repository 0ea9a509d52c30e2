"""Several sessions on one mailbox: each sees what the others did, at the moments when it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.accounts.client import Flag

if TYPE_CHECKING:
    from .conftest import Post


@pytest.mark.feature("IMAP-021", "IMAP-093", "ACC-036", "ACC-037", "MBOX-104")
async def test_noop_tells_what_others_did(post: Post) -> None:
    post.fill(3)
    async with post.logged_in("INBOX") as one, post.logged_in("INBOX") as two:
        await two.ok("STORE 1 +FLAGS (\\Answered)")
        await two.ok("STORE 2 +FLAGS (\\Deleted)")
        await two.ok("EXPUNGE")
        await two.ok("APPEND INBOX {1+}\r\nx")
        assert await one.ok("NOOP") == [
            b"* 1 FETCH (FLAGS (\\Answered \\Recent))",
            b"* 2 EXPUNGE",
            b"* 3 EXISTS",
            b"* 2 RECENT",
        ]
        assert await one.ok("UID SEARCH ALL") == [b"* SEARCH 101 103 104"]


@pytest.mark.feature("IMAP-054", "IMAP-055", "ACC-038", "STD-057")
async def test_no_expunge_in_answers_by_number(post: Post) -> None:
    post.fill(4)
    async with post.logged_in("INBOX") as one, post.logged_in("INBOX") as two:
        await two.ok("STORE 2 +FLAGS (\\Deleted)")
        await two.ok("EXPUNGE")
        lines = await one.do("FETCH 2:3 UID")
        assert lines[:-1] == [b"* 3 FETCH (UID 103)"]
        assert lines[-1].startswith(b"NO [EXPUNGEISSUED]")
        lines = await one.do("STORE 2:3 +FLAGS (\\Flagged)")
        assert lines[:-1] == [b"* 3 FETCH (FLAGS (\\Flagged \\Recent))"]
        assert not any(b"EXPUNGE" in line for line in lines[:-1])
        assert await one.ok("SEARCH ALL") == [b"* SEARCH 1 3 4"]
        post.account.put(b"x")
        assert b"* 5 EXISTS" in await one.ok("FETCH 1 UID")
        assert await one.ok("FETCH 4 UID") == [b"* 4 FETCH (UID 104)"]
        assert b"* 2 EXPUNGE" in await one.ok("NOOP")
        assert await one.ok("FETCH 4 UID") == [b"* 4 FETCH (UID 105)"]


async def test_expunge_may_come_with_uid_commands(post: Post) -> None:
    post.fill(3)
    async with post.logged_in("INBOX") as one:
        post.account.expunge(101)
        assert b"* 1 EXPUNGE" in await one.ok("UID FETCH 103 FLAGS")
        assert await one.ok("FETCH 1 UID") == [b"* 1 FETCH (UID 102)"]
        post.account.flag(102, int(Flag.FLAGGED))
        assert b"* 1 FETCH (UID 102 FLAGS (\\Flagged \\Recent))" in await one.ok("UID SEARCH ALL")


@pytest.mark.feature("IMAP-081", "MBOX-043")
async def test_recent_belongs_to_one(post: Post) -> None:
    post.fill(2)
    async with post.logged_in() as one, post.logged_in() as two:
        assert b"* 2 RECENT" in await one.ok("SELECT INBOX")
        assert b"* 0 RECENT" in await two.ok("SELECT INBOX")
        post.account.put(b"x")
        assert await two.ok("NOOP") == [b"* 3 EXISTS", b"* 1 RECENT"]
        assert await one.ok("NOOP") == [b"* 3 EXISTS"]
        assert await one.ok("SEARCH RECENT") == [b"* SEARCH 1 2"]
        assert await two.ok("SEARCH RECENT") == [b"* SEARCH 3"]
        await one.ok("CLOSE")
        assert b"* 0 RECENT" in await one.ok("SELECT INBOX")


@pytest.mark.feature("IMAP-106", "STD-058")
async def test_idle_pushes(post: Post) -> None:
    post.fill(2)
    async with post.logged_in("INBOX") as client, post.logged_in("INBOX") as other:
        await client.send("a IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        post.account.put(b"x")
        assert [await client.line(), await client.line()] == [b"* 3 EXISTS", b"* 3 RECENT"]
        await other.ok("STORE 1 +FLAGS (\\Deleted)")
        assert await client.line() == b"* 1 FETCH (FLAGS (\\Deleted \\Recent))"
        await other.ok("EXPUNGE")
        assert [await client.line(), await client.line()] == [b"* 1 EXPUNGE", b"* 2 RECENT"]
        await client.send("DONE\r\n")
        assert (await client.answer(b"a"))[-1].startswith(b"OK")
        await client.send("b IDLE\r\n")
        await client.line()
        await client.send("NOOP\r\n")
        assert (await client.answer(b"b"))[-1].startswith(b"BAD")
        await client.ok("NOOP")


async def test_idle_without_a_mailbox(post: Post) -> None:
    async with post.logged_in() as client:
        await client.send("a IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        await client.send("DONE\r\n")
        assert (await client.answer(b"a"))[-1].startswith(b"OK")


async def test_a_deleted_mailbox_does_not_hurt_its_readers(post: Post) -> None:
    post.fill(1, "box")
    async with post.logged_in("box") as client, post.logged_in() as other:
        await other.ok("DELETE box")
        await client.do("NOOP")
        await client.ok("SELECT INBOX")


async def test_changes_that_cannot_be_read_do_not_end_the_session(post: Post) -> None:
    post.fill(1)
    async with post.logged_in("INBOX") as client:
        post.account.broken = "changes"
        await client.ok("NOOP")
        post.account.broken = "columns"
        assert (await client.last("FETCH 1 RFC822.SIZE")).startswith(b"NO [UNAVAILABLE]")
        post.account.broken = ""
        await client.ok("FETCH 1 FLAGS")
