"""ACL commands, mailboxes of others and aliases of them, through the wire and the real gate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Client, Office


@asynccontextmanager
async def logged_in(office: Office, name: str) -> AsyncIterator[Client]:
    async with office.client() as client:
        await client.line()
        await client.ok(f"LOGIN {name} secret")
        yield client


LETTER = b"Subject: x\r\n\r\nhello\r\n"


async def put(client: Client, mailbox: str) -> bytes:
    return await client.last(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(LETTER), LETTER))


@pytest.mark.feature(
    "IMAP-094", "IMAP-095", "IMAP-096", "IMAP-097", "IMAP-098", "IMAP-099", "STD-061", "ACC-045", "IMAP-022"
)
async def test_rights_are_given_and_taken(office: Office) -> None:
    async with logged_in(office, "boss") as boss, logged_in(office, "jim") as jim:
        await boss.ok("CREATE box")
        await put(boss, "box")
        assert (await jim.last("SELECT ~boss/box")).startswith(b"NO [NONEXISTENT]")
        await boss.ok("SETACL box jim lr")
        assert await jim.ok("MYRIGHTS ~boss/box") == [b"* MYRIGHTS ~boss/box lr"]
        last = (await jim.do("SELECT ~boss/box"))[-1]
        assert last.startswith(b"OK [READ-ONLY]")
        assert (await jim.last("STORE 1 +FLAGS (\\Flagged)")).startswith(b"NO [NOPERM]")
        await boss.ok("SETACL box jim +w")
        await boss.ok("SETACL box anyone lrs")
        assert await boss.ok("GETACL box") == [b"* ACL box boss@example.com lrswipkxtecda jim lrw anyone lrs"]
        assert await jim.ok("MYRIGHTS ~boss/box") == [b"* MYRIGHTS ~boss/box lrsw"]
        await jim.ok("SELECT ~boss/box")
        assert await jim.ok("STORE 1 +FLAGS (\\Flagged)") == [b"* 1 FETCH (FLAGS (\\Flagged))"]
        assert (await jim.last("STORE 1 +FLAGS (\\Deleted)")).startswith(b"NO [NOPERM]")
        assert (await jim.last("GETACL ~boss/box")).startswith(b"NO [NOPERM]")
        assert (await jim.last("LISTRIGHTS ~boss/box jim")).startswith(b"NO [NOPERM]")
        assert (await jim.last("SETACL ~boss/box jim +a")).startswith(b"NO [NOPERM]")
        await boss.ok("SETACL box jim -w")
        await boss.ok("SETACL box -jim r")
        assert (await jim.last("SELECT ~boss/box")).startswith(b"NO [NOPERM]")
        await boss.ok("DELETEACL box -jim")
        await jim.ok("SELECT ~boss/box")
        await boss.ok("DELETEACL box jim")
        await boss.ok("DELETEACL box anyone")
        assert b"jim" not in (await boss.ok("GETACL box"))[0]
        assert (await jim.last("SELECT ~boss/box")).startswith(b"NO")
        assert await boss.ok("LISTRIGHTS box jim") == [b'* LISTRIGHTS box jim "" l r s w i p ckx dte a']
        assert await boss.ok("LISTRIGHTS box boss") == [b"* LISTRIGHTS box boss lrswipkxtecda"]
        assert await boss.ok("MYRIGHTS box") == [b"* MYRIGHTS box lrswipkxtecda"]
        assert (await boss.last("SETACL box jim lq")).startswith(b"BAD")
        assert (await boss.last("SETACL box jim LR")).startswith(b"BAD")


@pytest.mark.feature("IMAP-029", "IMAP-032", "ACC-048", "ACC-049")
async def test_making_and_removing_mailboxes_of_others(office: Office) -> None:
    async with logged_in(office, "boss") as boss, logged_in(office, "jim") as jim:
        await boss.ok("CREATE team")
        await boss.ok("SETACL team jim lrd")
        assert (await jim.last("CREATE ~boss/team/x")).startswith(b"NO [NOPERM]")
        await boss.ok("SETACL team jim +c")
        await jim.ok("CREATE ~boss/team/x")
        assert (await boss.ok("GETACL team/x"))[0] == (await boss.ok("GETACL team"))[0].replace(b"team", b"team/x")
        await boss.ok("SETACL team jim -c")
        assert (await jim.last("DELETE ~boss/team/x")).startswith(b"NO [NOPERM]")
        await boss.ok("SETACL team jim +c")
        await boss.ok("SETACL team/x jim -d")
        assert (await jim.last("DELETE ~boss/team/x")).startswith(b"NO [NOPERM]")
        assert (await jim.last("RENAME ~boss/team/x ~boss/team/y")).startswith(b"NO [NOPERM]")
        await boss.ok("SETACL team/x jim +d")
        await boss.ok("CREATE other")
        await boss.ok("SETACL other jim lr")
        assert (await jim.last("RENAME ~boss/team/x ~boss/other/y")).startswith(b"NO [NOPERM]")
        await boss.ok("SETACL other jim +c")
        await jim.ok("RENAME ~boss/team/x ~boss/other/y")
        await boss.ok("SETACL other/y jim +d")
        await jim.ok("DELETE ~boss/other/y")


@pytest.mark.feature("IMAP-041", "ACC-042")
async def test_listing_mailboxes_of_others_shows_those_with_lookup(office: Office) -> None:
    async with logged_in(office, "boss") as boss, logged_in(office, "jim") as jim:
        for name in ("INBOX/x", "INBOX/y", "plain"):
            await boss.ok(f"CREATE {name}")
        await boss.ok("SETACL INBOX/x jim l")
        lines = await jim.ok('LIST "" "~boss/*"')
        selectable = [line for line in lines if b"\\Noselect" not in line]
        assert [line.rsplit(b" ", 1)[1] for line in selectable] == [b"~boss/INBOX/x"]
        assert {line.rsplit(b" ", 1)[1] for line in lines} <= {b"~boss/INBOX", b"~boss/INBOX/x"}
        assert (await jim.last("SELECT ~boss/INBOX/x")).startswith(b"NO [NOPERM]")


@pytest.mark.feature("IMAP-100")
async def test_rights_are_given_to_real_names(office: Office) -> None:
    office.domains.main.aliases["jimmy"] = "jim"
    async with logged_in(office, "boss") as boss, logged_in(office, "jim") as jim:
        await boss.ok("SETACL INBOX jimmy lr")
        assert (await jim.last("SELECT ~boss/INBOX")).startswith(b"NO")
        await boss.ok("SETACL INBOX jim lr")
        assert (await jim.last("SELECT ~boss/INBOX")).startswith(b"OK")


@pytest.mark.feature("IMAP-125", "ACC-042", "ACC-050")
async def test_foreign_names_in_every_command(office: Office) -> None:
    async with logged_in(office, "boss") as boss, logged_in(office, "jim") as jim:
        await boss.ok("CREATE in")
        await boss.ok("SETACL in jim lrswipcda")
        await boss.ok("SETACL INBOX jim lr")
        await put(boss, "INBOX")
        assert await jim.ok("STATUS ~boss/INBOX (MESSAGES)") == [b"* STATUS ~boss/INBOX (MESSAGES 1)"]
        assert (await put(jim, "~boss/in")).startswith(b"OK [APPENDUID ")
        assert (await put(jim, "~boss/INBOX")).startswith(b"NO [NOPERM]")
        await put(jim, "INBOX")
        await jim.ok("SELECT INBOX")
        assert (await jim.last("COPY 1 ~boss@example.com/in")).startswith(b"OK [COPYUID ")
        assert (await jim.last("MOVE 1 ~boss/in")).startswith(b"OK")
        await jim.ok("SUBSCRIBE ~boss/INBOX")
        assert await jim.ok('LSUB "" "*"') == [b'* LSUB () "/" ~boss/INBOX']
        assert b"* 3 EXISTS" in await jim.ok("EXAMINE ~boss/in")
        assert await jim.ok("SEARCH ALL") == [b"* SEARCH 1 2 3"]
        assert (await jim.ok("FETCH 1 BODY.PEEK[TEXT]"))[0].endswith(b"hello\r\n)")
        assert (await jim.ok("GETQUOTAROOT ~boss/in"))[0] == b"* QUOTAROOT ~boss/in ~boss"
        await jim.ok("CREATE ~boss/in/below")
        await jim.ok("RENAME ~boss/in/below ~boss/in/under")
        await jim.ok("GETACL ~boss/in/under")
        await jim.ok('SETMETADATA ~boss/in (/private/comment "mine")')
        assert await jim.ok("GETMETADATA ~boss/in /private/comment") == [
            b'* METADATA ~boss/in (/private/comment "mine")'
        ]
        await jim.ok("DELETE ~boss/in/under")
        await jim.ok("UNSUBSCRIBE ~boss/INBOX")


@pytest.mark.feature("IMAP-126", "ACC-052")
async def test_mailbox_aliases_stand_in_the_list(office: Office) -> None:
    async with logged_in(office, "boss") as boss, logged_in(office, "jim") as jim:
        for name in ("INBOX", "INBOX/deep", "open"):
            await boss.do(f"CREATE {name}")
            await boss.ok(f"SETACL {name} jim lrswi")
        await put(boss, "INBOX")
        session = await office.accounts.open(office.jim)
        await session.set_aliases({"salesBox": "~boss/INBOX", "chief": "~boss"})
        await session.aclose()
        lines = await jim.ok('LIST "" *')
        names = {line.rsplit(b" ", 1)[1]: line for line in lines}
        assert {b"salesBox", b"salesBox/deep", b"chief", b"chief/INBOX", b"chief/open"} <= set(names)
        assert b"\\Noselect" in names[b"chief"] and b"\\HasChildren" in names[b"chief"]
        assert b"\\Noselect" not in names[b"salesBox"]
        assert [line.rsplit(b" ", 1)[1] for line in await jim.ok('LIST "" "%"')] == [b"INBOX", b"chief", b"salesBox"]
        assert b"* 1 EXISTS" in await jim.ok("SELECT salesBox")
        assert await jim.ok("STATUS chief/INBOX (MESSAGES)") == [b"* STATUS chief/INBOX (MESSAGES 1)"]
        assert (await put(jim, "chief/open")).startswith(b"OK")
        assert (await jim.last("SELECT chief")).startswith(b"NO")
