"""Annotations of mailboxes: who sees which, what survives, what is refused."""

from __future__ import annotations

import pytest

from appliance.accounts.client import AccountError
from appliance.accounts.metadata import MAX_ENTRIES, MAX_VALUE
from tests.accounts.serving import Start

VALUES = [b"", b"My own comment", "Grüße\r\n".encode(), b"\x00\xff\xfe", b"base64,AAAA", bytes(range(256))]


@pytest.mark.parametrize("value", VALUES)
async def test_values_survive_a_restart(start: Start, value: bytes) -> None:
    async with start() as server:
        await server.account()
        session = await server.session()
        await session.create("Work")
        await session.set_metadata("Work", {"/Shared/Comment": value, "/private/vendor/x/y": b"one"})
        await session.set_metadata("", {"/private/comment": value})
        await session.rename("Work", "Play")
    async with start() as server:
        session = await server.session()
        assert await session.metadata("Play") == {"/shared/comment": value, "/private/vendor/x/y": b"one"}
        assert await session.metadata("") == {"/private/comment": value}
        await session.set_metadata("Play", {"/shared/comment": None, "/shared/none": None})
        assert await session.metadata("Play") == {"/private/vendor/x/y": b"one"}
        await session.delete("Play")
        await session.create("Play")
        assert await session.metadata("Play") == {}


async def test_each_user_has_private_entries_of_his_own(start: Start) -> None:
    async with start() as server:
        alice = await server.account()
        mine = await server.session()
        await mine.create("Team")
        await mine.set_metadata("Team", {"/private/comment": b"mine", "/shared/comment": b"ours"})
        bob = await server.accounts.open(alice, who="bob@office.test")
        with pytest.raises(AccountError) as caught:
            await bob.metadata("Team")
        assert caught.value.code == "NONEXISTENT"
        await mine.set_acl("Team", "bob", "=", "lrs")
        assert await bob.metadata("Team") == {"/shared/comment": b"ours"}
        await bob.set_metadata("Team", {"/private/comment": b"his"})
        assert await bob.metadata("Team") == {"/shared/comment": b"ours", "/private/comment": b"his"}
        assert (await mine.metadata("Team"))["/private/comment"] == b"mine"
        with pytest.raises(AccountError) as caught:
            await bob.set_metadata("Team", {"/shared/comment": b"his"})
        assert caught.value.code == "NOPERM"
        await mine.set_acl("Team", "bob", "=", "lrw")
        await bob.set_metadata("Team", {"/shared/comment": b"both"})
        assert (await mine.metadata("Team"))["/shared/comment"] == b"both"
        with pytest.raises(AccountError):
            await bob.metadata("")


@pytest.mark.parametrize(
    "entry", ["", "/comment", "/shared", "/shared/", "/private/a//b", "/private/ü", "/private/*", "/x/y"]
)
async def test_what_is_no_entry_is_refused(start: Start, entry: str) -> None:
    async with start() as server:
        await server.account()
        session = await server.session()
        with pytest.raises(AccountError) as caught:
            await session.set_metadata("INBOX", {"/private/good": b"x", entry: b"x"})
        assert caught.value.code == "CANNOT"
        assert await session.metadata("INBOX") == {}


async def test_entries_have_bounds(start: Start) -> None:
    async with start() as server:
        await server.account()
        session = await server.session()
        for changes in ({"/private/x": b"x" * (MAX_VALUE + 1)}, {f"/private/{n}": b"" for n in range(MAX_ENTRIES + 1)}):
            with pytest.raises(AccountError) as caught:
                await session.set_metadata("INBOX", changes)
            assert caught.value.code == "LIMIT"
        await session.set_metadata("INBOX", {f"/private/{n}": b"x" * MAX_VALUE for n in range(MAX_ENTRIES)})
        assert len(await session.metadata("INBOX")) == MAX_ENTRIES
