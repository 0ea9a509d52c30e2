"""POP sessions over the real account gate, with every request and answer serialised."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from appliance.accounts.client import AccountSession, Flag, unpack
from appliance.accounts.gate import Accounts
from appliance.formats.data import Value, parse, render_file
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.journal import Journal
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.objects import declarations as d
from appliance.objects.domains import Domains

if TYPE_CHECKING:
    from tests.access.pop.conftest import Post


class FileStorage:
    def __init__(self, path: str) -> None:
        self.path = Path(path)

    async def load(self) -> dict[str, Value]:
        if not self.path.exists():
            return {}
        value = parse(self.path.read_bytes())
        assert isinstance(value, dict)
        return value

    async def save(self, values: dict[str, Value]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(render_file(dict(values)))


def storage(path: str, mode: int) -> Storage:
    return FileStorage(path)


@dataclass
class Granted:
    session: AccountSession
    mailbox: str = ""
    detail: str = ""


class Box:
    """An account of the real gate, and a POP server for it."""

    def __init__(self, post: Post, open_account: Callable[[], Any]) -> None:
        self.post = post
        self.open = open_account

    async def put(self, data: bytes, mailbox: str = "INBOX") -> int:
        account = await self.open()
        try:
            _, uid = await account.append(mailbox, 0, (), 1_700_000_000, 0, data)
            return int(uid)
        finally:
            await account.aclose()

    async def flags(self, mailbox: str = "INBOX") -> dict[int, int]:
        account = await self.open()
        try:
            opened = await account.open(mailbox, write=False)
            return {row.uid: row.flags for row in await account.flags(opened.view, unpack(opened.uids))}
        finally:
            await account.aclose()


@asynccontextmanager
async def gate(post: Post, base: Path) -> AsyncIterator[Box]:
    for part in ("Accounts", "Domains", "Settings", "Queue"):
        (base / part).mkdir(exist_ok=True)
    disk, clock = InLoopDisk(), TrioClock()
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "example.com"}))
    await general.load()
    domains = Domains(disk, str(base), storage, general, server_key=b"k" * 32)
    await domains.load()
    account = domains.find_account("jim@example.com") or await domains.create_account(
        domains.main, "jim", settings={"Password": "secret"}
    )
    await account.ready()
    journal = await Journal.open(disk, os.path.join(base, "Queue"), segment_size=1 << 20)
    accounts = Accounts(disk, journal, clock, post.notices, post.log.source("ACCOUNT"), loopback=True)

    async def open_account() -> AccountSession:
        return await accounts.open(account)

    class Door:
        async def password(self, name: str, password: str, service: str, channel: object) -> Granted:
            return Granted(await open_account(), name.rpartition("#")[0])

    async with trio.open_nursery() as outer:
        await outer.start(journal.run)
        frames = [frame async for frame in journal.replay()]
        await accounts.recover(frames, domains.find_account)
        async with trio.open_nursery() as inner:
            await inner.start(accounts.run)
            post.around = replace(post.around, logins=Door())  # type: ignore[arg-type]
            yield Box(post, open_account)
            inner.cancel_scope.cancel()
        outer.cancel_scope.cancel()


ONE = b"Subject: one\r\n\r\nFrom here\r\n.dot\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"line of a large message\r\n" * 30_000


@pytest.mark.feature("POP-029", "POP-030", "POP-031", "POP-032", "POP-033")
async def test_reading_and_removing(post: Post, tmp_path: Path) -> None:
    async with gate(post, tmp_path) as box:
        first, second = await box.put(ONE), await box.put(LARGE[:200_000])
        async with post.logged_in() as client:
            assert await client.lines("UIDL") == [f"1 {first}", f"2 {second}"]
            assert await client.lines("LIST") == [f"1 {len(ONE)}", "2 200000"]
            assert await client.lines("TOP 1 0") == ["Subject: one", ""]
            assert not (await box.flags())[first] & Flag.SEEN
            assert await client.lines("RETR 1") == ["Subject: one", "", "From here", ".dot"]
            assert (await box.flags())[first] & Flag.SEEN
            await client.say("DELE 1")
            assert await client.say("QUIT") == "+OK bye-bye"
        assert list(await box.flags()) == [second]
    async with gate(post, tmp_path) as box:
        async with post.logged_in() as client:
            assert await client.lines("UIDL") == [f"1 {second}"]


async def test_a_large_message(post: Post, tmp_path: Path) -> None:
    async with gate(post, tmp_path) as box:
        account = await box.open()
        handle = await account.append_begin("INBOX", 0, (), 1_700_000_000, 0, len(LARGE))
        for start in range(0, len(LARGE), 100_000):
            await account.append_chunk(handle, LARGE[start : start + 100_000])
        await account.append_commit(handle)
        await account.aclose()
        async with post.logged_in() as client:
            assert await client.say("LIST 1") == f"+OK 1 {len(LARGE)}"
            assert "\r\n".join([*await client.lines("RETR 1"), ""]).encode() == LARGE
            assert len(await client.lines("TOP 1 5")) == 7


@pytest.mark.feature("POP-026", "POP-041", "POP-042", "POP-043", "POP-045", "STD-073")
async def test_sharing(post: Post, tmp_path: Path) -> None:
    async with gate(post, tmp_path) as box:
        account = await box.open()
        await account.create("private")
        await box.put(ONE, "private")
        await account.aclose()
        first, second = await box.put(ONE), await box.put(ONE)
        async with post.logged_in() as client, post.logged_in() as other:
            third = await box.put(ONE)
            assert (await client.say("STAT")).startswith("+OK 2 ")
            await other.say("DELE 1")
            await other.say("QUIT")
            assert list(await box.flags()) == [second, third]
            assert await client.lines("LIST") == ["1 0", f"2 {len(ONE)}"]
            assert (await client.say("RETR 1")).startswith("-ERR")
            assert (await client.lines("RETR 2"))[0] == "Subject: one"
            assert await client.lines("UIDL") == [f"1 {first}", f"2 {second}"]
        async with post.logged_in("private#jim") as client:
            assert (await client.say("STAT")).startswith("+OK 1 ")
        async with post.client() as client:
            await client.line()
            assert (await client.log_in("nosuch#jim")).startswith("-ERR")
