"""Access control lists: what another user may do in one's mailboxes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from appliance.accounts.acl import effective
from appliance.accounts.client import AccountError, AccountSession, Flag
from appliance.accounts.delivery import Store
from tests.accounts.serving import MESSAGE, Server, Start
from tests.accounts.test_operations import desk


class Office:
    """Alice, who owns `box`, and bob at work in her account."""

    def __init__(self, server: Server, alice: AccountSession, bob: AccountSession) -> None:
        self.server = server
        self.alice = alice
        self.bob = bob

    async def grant(self, rights: str, who: str = "bob", name: str = "box") -> None:
        await self.alice.set_acl(name, who, "=", rights)

    async def refused(self, call: str, *arguments: object, **named: object) -> str:
        with pytest.raises(AccountError) as caught:
            await getattr(self.bob, call)(*arguments, **named)
        return caught.value.code


@asynccontextmanager
async def office(start: Start) -> AsyncIterator[Office]:
    async with start() as server:
        alice = await server.account("alice")
        await server.account("bob")
        session = await server.session("alice")
        await session.create("box")
        for _ in range(2):
            await server.deliver(alice, MESSAGE, Store("box"))
        yield Office(server, session, await server.accounts.open(alice, who="bob@office.test"))


@pytest.mark.feature("MBOX-060", "MBOX-061", "MBOX-062", "MBOX-063", "MBOX-064", "MBOX-065", "MBOX-081", "ACC-045")
def test_effective_rights() -> None:
    acl = {"anyone": "lr", "bob": "i", "-bob": "r", "ann@far.test": "lrs", "-carl@far.test": "l"}
    assert effective(acl, "bob@office.test", "office.test") == "li"
    assert effective(acl, "Bob@Office.Test", "office.test") == "li"
    assert effective(acl, "bob@far.test", "office.test") == "lr"
    assert effective(acl, "ann@far.test", "office.test") == "lrs"
    assert effective(acl, "carl@far.test", "office.test") == "r"
    assert effective({}, "bob@office.test", "office.test") == ""
    assert effective({"jonny": "lr"}, "j.smith@office.test", "office.test") == ""  # jonny is only an alias of his


@pytest.mark.feature("MBOX-066", "MBOX-069", "MBOX-070", "MBOX-086", "ACC-046", "ACC-047")
async def test_look_up_and_read(start: Start) -> None:
    async with office(start) as at:
        assert await at.bob.mailboxes() == []
        assert await at.refused("open", "box") == "NONEXISTENT"
        await at.grant("l")
        assert [row.name for row in await at.bob.mailboxes()] == ["box"]
        assert await at.refused("open", "box") == "NOPERM"
        assert await at.refused("status", "box") == "NOPERM"
        await at.grant("lr")
        opened = await at.bob.open("box")
        assert opened.rights == "lr"
        await at.alice.create("hidden/shown")
        await at.grant("l", name="hidden/shown")
        assert [(row.name, row.selectable) for row in await at.bob.mailboxes()] == [
            ("box", True),
            ("hidden", False),
            ("hidden/shown", True),
        ]
        await at.alice.set_acl("box", "alice", "=", "l")
        await at.alice.set_acl("box", "-alice", "=", "lrswipcda")
        assert (await at.alice.status("box"))["MESSAGES"] == 2
        assert await at.refused("subscriptions") == "NOPERM"
        assert await at.bob.alerts() == []


@pytest.mark.feature("MBOX-071", "MBOX-072", "MBOX-073", "MBOX-074", "ACC-047")
async def test_flags_insert_and_delete(start: Start) -> None:
    async with office(start) as at:
        await at.grant("lr")
        opened = await at.bob.open("box")
        seen, flagged, deleted = (int(flag) for flag in (Flag.SEEN, Flag.FLAGGED, Flag.DELETED))
        for bit, letter in ((seen, "s"), (flagged, "w"), (deleted, "d")):
            await at.grant("lr")
            assert await at.refused("store", opened.view, [1], "+", bit, []) == "NOPERM"
            await at.grant("lr" + letter)
            await at.bob.store(opened.view, [1], "+", bit, [])
        await at.grant("lrw")
        (row,) = await at.bob.store(opened.view, [1], "=", seen | deleted, ["K"])
        assert (row.flags & (seen | flagged | deleted), row.keywords) == (seen | deleted, ("K",))
        assert await at.refused("expunge", opened.view) == "NOPERM"
        assert await at.refused("remove", opened.view, [2]) == "NOPERM"
        assert await at.refused("append", "box", 0, [], 0, 0, b"x") == "NOPERM"
        assert await at.refused("append_begin", "box", 0, [], 0, 0, 1) == "NOPERM"
        assert await at.refused("copy", opened.view, [2], "box") == "NOPERM"
        await at.grant("lri")
        assert (await at.bob.append("box", 0, [], 0, 0, b"x"))[1] == 3
        assert await at.refused("copy", opened.view, [2], "box", move=True) == "NOPERM"
        await at.grant("lrd")
        assert list(await at.bob.expunge(opened.view)) == [1]


@pytest.mark.feature("MBOX-076", "MBOX-078", "MBOX-079", "MBOX-080", "ACC-048", "ACC-049")
async def test_making_and_removing_below(start: Start) -> None:
    async with office(start) as at:
        await at.grant("lr")
        assert await at.refused("create", "box/new") == "NOPERM"
        assert await at.refused("create", "top") == "NOPERM"
        await at.grant("lrc")
        await at.bob.create("box/new")
        assert await at.alice.acl("box/new") == {"bob": "lrc"}
        await at.grant("lrcd", name="box/new")
        await at.grant("l")
        assert await at.alice.acl("box/new") == {"bob": "lrcd"}
        assert await at.refused("delete", "box/new") == "NOPERM"
        assert await at.refused("rename", "box/new", "box/other") == "NOPERM"
        await at.grant("lc")
        await at.bob.rename("box/new", "box/other")
        assert await at.refused("rename", "box/other", "mine") == "NOPERM"
        await at.grant("lc", name="box/other")
        assert await at.refused("delete", "box/other") == "NOPERM"
        await at.grant("ld", name="box/other")
        await at.bob.delete("box/other")
        assert await at.refused("delete", "box") == "NOPERM"


@pytest.mark.feature("MBOX-075", "MBOX-077", "MBOX-084")
async def test_administering_the_list(start: Start) -> None:
    async with office(start) as at:
        await at.grant("lr")
        await at.grant("p", who="carl")
        assert await at.refused("acl", "box") == "NOPERM"
        assert await at.refused("set_acl", "box", "bob", "=", "lrswipcda") == "NOPERM"
        await at.grant("lra")
        await at.bob.set_acl("box", "dan@far.test", "+", "lrte")
        assert await at.bob.acl("box") == {"bob": "lra", "carl": "p", "dan@far.test": "lrd"}
        assert await at.bob.my_rights("box") == "lra"
        await at.bob.set_acl("box", "carl", "-", "p")
        assert "carl" not in await at.bob.acl("box")
        for who, rights in (("-anyone", "l"), ("", "l"), ("bob", "z"), ("--x", "l")):
            with pytest.raises(AccountError):
                await at.alice.set_acl("box", who, "=", rights)
    async with start() as server:
        session = await server.session("alice")
        assert await session.acl("box") == {"bob": "lra", "dan@far.test": "lrd"}


@pytest.mark.feature("MBOX-103", "ACC-050")
async def test_public_mailboxes_need_no_administrator(start: Start) -> None:
    async with start() as server:
        public = await server.account("public")
        for name in ("bob", "carl"):
            await server.account(name)
        owner = await server.session("public")
        await owner.create("announce")
        await owner.set_acl("announce", "bob", "=", "lrica")
        bob = await server.accounts.open(public, who="bob@office.test")
        carl = await server.accounts.open(public, who="carl@office.test")
        await bob.create("announce/2024")
        await bob.set_acl("announce/2024", "anyone", "=", "lr")
        await bob.append("announce/2024", 0, [], 0, 0, b"Subject: x\r\n\r\n")
        assert [row.name for row in await carl.mailboxes() if row.selectable] == ["announce/2024"]
        assert (await carl.status("announce/2024"))["MESSAGES"] == 1


@pytest.mark.feature("MBOX-085", "MBOX-087", "MBOX-068", "CLI-094", "CLI-096", "CLI-103", "CLI-105")
async def test_commands_on_lists(start: Start) -> None:
    async with desk(start) as at:
        for name in ("alice", "bob"):
            await at.server.account(name)
        box = {"accountName": "alice", "mailboxName": "INBOX"}
        await at.do("SETMAILBOXACL", **box, newACL={"anyone": "lr", "bob": "+i", "-bob": "r"})
        assert await at.do("GETMAILBOXRIGHTS", **box, authAccountName="bob") == "li"
        assert await at.do("GETMAILBOXACL", **box) == {"anyone": "lr", "bob": "i", "-bob": "r"}
        assert await at.do("LISTMAILBOXES", accountName="alice", authAccountName="bob") == {"INBOX": []}
        await at.do("SETMAILBOXACL", **box, newACL={"-bob": "-r", "bob": "-lri"})
        assert await at.do("GETMAILBOXACL", **box) == {"anyone": "lr"}
        await at.do("CREATEMAILBOX", accountName="alice", mailboxName="private")
        listed = await at.do("LISTMAILBOXES", accountName="alice", authAccountName="bob")
        assert list(listed) == ["INBOX"]
        assert listed["INBOX"]["Messages"] == "0"
        assert await at.do("GETMAILBOXRIGHTS", **box, authAccountName="postmaster") == "lrswipcda"
        with pytest.raises(Exception, match="right"):
            await at.do("CREATEMAILBOX", accountName="alice", mailboxName="INBOX/x", authAccountName="bob")
