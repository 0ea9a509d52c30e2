"""Mailboxes as names: the tree, folders, formats, INBOX, limits, subscription."""

from __future__ import annotations

import pytest

from appliance.accounts.client import AccountError, AccountSession, unpack
from appliance.accounts.delivery import Store
from tests.accounts.serving import MESSAGE, Start


async def refused(code: str, session: AccountSession, call: str, *arguments: object) -> None:
    with pytest.raises(AccountError) as caught:
        await getattr(session, call)(*arguments)
    assert caught.value.code == code


async def tree(session: AccountSession) -> list[str]:
    """Names; a folder without messages ends in a slash."""
    return [row.name + ("" if row.selectable else "/") for row in await session.mailboxes()]


@pytest.mark.feature("MBOX-004", "MBOX-007", "MBOX-008", "MBOX-009", "MBOX-010", "MBOX-011", "MBOX-012", "BASE-069")
async def test_folders_and_mailboxes(start: Start) -> None:
    async with start() as server:
        alice = await server.account()
        session = await server.session()
        await session.create("INBOX/important")
        assert await tree(session) == ["INBOX", "INBOX/important"]
        await session.create("X")
        assert not [row for row in await session.mailboxes() if row.name == "X" and row.children]
        await session.create("X/Y")
        await server.deliver(alice, MESSAGE, Store("X"), Store("X/Y"))
        assert (await session.status("X"))["MESSAGES"] == (await session.status("X/Y"))["MESSAGES"] == 1
        assert (server.place() / "X.folder" / "Y.mbox").is_file()
        assert (server.place() / "X.mbox").is_file()
        await session.create("ABC/")
        assert "ABC/" in await tree(session)
        await refused("NONEXISTENT", session, "open", "ABC")
        await refused("NONEXISTENT", session, "append", "ABC", 0, [], 0, 0, b"x")
        await session.create("ABC/inner")
        await session.create("ABC")
        assert [name for name in await tree(session) if name.startswith("ABC")] == ["ABC", "ABC/inner"]
        await session.create("a/b/c")
        assert [name for name in await tree(session) if name.startswith("a")] == ["a/", "a/b/", "a/b/c"]
        await refused("ALREADYEXISTS", session, "create", "X")
    async with start() as server:
        again = await server.session()
        assert [name for name in await tree(again) if name.startswith("a")] == ["a/", "a/b/", "a/b/c"]


@pytest.mark.feature("MBOX-014", "MBOX-015", "MBOX-016", "MBOX-018", "MBOX-019", "MBOX-020", "MBOX-021", "MBOX-022")
async def test_inbox_and_spelling(start: Start) -> None:
    async with start() as server:
        alice = await server.account()
        session = await server.session()
        await server.deliver(alice, MESSAGE)
        await refused("CANNOT", session, "delete", "inbox")
        for name in ("inbox", "InBox", "INBOX", "/INBOX"):
            assert (await session.status(name))["MESSAGES"] == 1
        await session.rename("INBOX", "old")
        assert (await session.status("old"))["MESSAGES"] == 1
        assert (await session.status("INBOX"))["MESSAGES"] == 0
        assert await server.deliver(alice, MESSAGE) == 1
        await session.create("a/inbox")
        await session.create("Work")
        await session.create("work")
        await session.create("&BB8EQAQ4BDIENQRC-")
        assert {"a/inbox", "Work", "work", "&BB8EQAQ4BDIENQRC-"} <= set(await tree(session))
        text = (server.place() / "account.info").read_text()
        assert text.count("INBOX = ") == 1
        for name in ("", "/", "~other/", "a//b", "../x", "a/../b", "a\x00b", "x" * 300, "/".join("a" * 40), ".hidden"):
            await refused("BADNAME", session, "create", name)
        assert not (server.place().parent / "x.mbox").exists()


@pytest.mark.feature("MBOX-121", "MBOX-122", "BASE-064")
async def test_formats_by_extension_and_by_setting(start: Start) -> None:
    async with start() as server:
        await server.account(DefaultMailboxType="MailDir Mailbox")
        session = await server.session()
        await session.create("plain")
        await session.create("text.mbox")
        await session.create("deep/big.mdir")
        assert (server.place() / "plain.mdir").is_dir()
        assert (server.place() / "text.mbox").is_file()
        assert (server.place() / "deep.folder" / "big.mdir").is_dir()
        assert {"plain", "text", "deep/big"} <= set(await tree(session))
        await refused("ALREADYEXISTS", session, "create", "text.mdir")


@pytest.mark.feature("MBOX-013", "MBOX-025", "MBOX-026", "MBOX-027", "MBOX-028")
async def test_delete_and_rename(start: Start) -> None:
    async with start() as server:
        alice = await server.account()
        session = await server.session()
        await session.create("x")
        await session.create("x/y/z")
        await server.deliver(alice, MESSAGE, Store("x/y/z"))
        await session.rename("x", "p/q/x")
        assert await tree(session) == ["INBOX", "p/", "p/q/", "p/q/x", "p/q/x/y/", "p/q/x/y/z"]
        opened = await session.open("p/q/x/y/z")
        assert len(unpack(opened.uids)) == 1
        await session.rename("p/q/x/y", "moved")
        assert (await session.status("moved/z"))["MESSAGES"] == 1
        await session.create("p/q/x/y/again")
        await session.rename("p/q/x", "alone", subtree=False)
        assert {"alone", "p/q/x/", "p/q/x/y/again"} <= set(await tree(session))
        await refused("CANNOT", session, "rename", "moved", "moved/below")
        await refused("ALREADYEXISTS", session, "rename", "alone", "INBOX")
        await refused("NONEXISTENT", session, "rename", "nothing", "x")
        await session.create("moved")
        await session.delete("moved")
        assert {"moved/", "moved/z"} <= set(await tree(session))
        assert (await session.status("moved/z"))["MESSAGES"] == 1
        await refused("INUSE", session, "delete", "moved")
        await session.delete("moved", subtree=True)
        await session.delete("p", subtree=True)
        assert await tree(session) == ["INBOX", "alone"]
        await refused("NONEXISTENT", session, "delete", "moved")
        await refused("CLOSED", session, "changes", opened.view, 0) if "moved" else None
    async with start() as server:
        assert await tree(await server.session()) == ["INBOX", "alone"]


async def test_a_mailbox_made_again_has_another_uidvalidity(start: Start) -> None:
    async with start() as server:
        await server.account()
        session = await server.session()
        await session.create("x")
        before = (await session.status("x"))["UIDVALIDITY"]
        await session.delete("x")
        await session.create("x")
        assert (await session.status("x"))["UIDVALIDITY"] > before


@pytest.mark.feature("MBOX-023")
async def test_the_limit_of_mailboxes(start: Start) -> None:
    async with start() as server:
        await server.account(MaxMailboxes="3")
        session = await server.session()
        await session.create("a")
        await session.create("b")
        await refused("LIMIT", session, "create", "c")


@pytest.mark.feature("MBOX-150", "MBOX-154")
async def test_the_subscription_is_a_plain_list(start: Start) -> None:
    async with start() as server:
        await server.account()
        session = await server.session()
        for name in ("inbox", "nowhere", "~sales/INBOX", "nowhere"):
            await session.subscribe(name, True)
        await session.subscribe("nowhere", False)
        assert await session.subscriptions() == ["INBOX", "~sales/INBOX"]
        assert "~sales/INBOX" in (server.place() / "account.info").read_text()
    async with start() as server:
        assert await (await server.session()).subscriptions() == ["INBOX", "~sales/INBOX"]
