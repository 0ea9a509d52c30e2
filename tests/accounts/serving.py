"""A small server for the tests of this room: domains, journal and gate in one directory, serialised requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from appliance.accounts.client import AccountSession
from appliance.accounts.delivery import Delivery, Store
from appliance.accounts.gate import Accounts
from appliance.accounts.recovery import Redo
from appliance.formats.data import Value, parse, render_file
from appliance.kernel.clock import SystemClock
from appliance.kernel.disk import Disk, InLoopDisk
from appliance.kernel.journal import Frame, FrameType, Journal, Ticket
from appliance.kernel.log import MemoryLog
from appliance.kernel.notices import Notices
from appliance.kernel.packing import pack, unpack
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.objects import declarations as d
from appliance.objects.domain import MULTI, Account
from appliance.objects.domains import Domains


class FileStorage:
    """A dictionary file."""

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


class LaterClock(SystemClock):
    """Each life of a server is some seconds later than the one before."""

    def __init__(self, later: float) -> None:
        self.later = later

    def now(self) -> float:
        return super().now() + self.later


class Server:
    """One life of a server. `messages` is what a spool would have, by number."""

    def __init__(self, base: Path, domains: Domains, journal: Journal, accounts: Accounts, notices: Notices) -> None:
        self.base = base
        self.domains = domains
        self.journal = journal
        self.accounts = accounts
        self.notices = notices
        self.log = MemoryLog()
        self.messages: dict[int, bytes] = {}
        self.number = 0

    async def account(self, name: str = "alice", kind: str = MULTI, **settings: Value) -> Account:
        found = self.domains.main.account(name)
        if found is None:
            found = await self.domains.create_account(self.domains.main, name, kind, settings or None)
        return found

    async def session(self, name: str = "alice") -> AccountSession:
        return await self.accounts.open(await self.account(name))

    async def deliver(self, account: Account, content: bytes, *stores: Store, date: int = 1_700_000_000) -> int:
        """As a delivery module does it; the UID of the first copy."""
        return (await self.deliver_recorded(account, content, *stores, date=date))[0]

    async def deliver_recorded(
        self, account: Account, content: bytes, *stores: Store, date: int = 1_700_000_000
    ) -> tuple[int, Ticket]:
        """The same, with the ticket of the D frame."""
        self.number += 1
        self.messages[self.number] = content
        delivery = Delivery(self.number, content, len(content), b"bob@example.com", date, stores or (Store(),))
        result = await self.accounts.deliver(account, delivery)
        payload = pack([1, self.number, account.full_name, result.record])
        return result.uids[0], self.journal.append(Frame(FrameType.DELIVERED, payload))

    def place(self, name: str = "alice") -> Path:
        account = self.domains.main.account(name)
        assert account is not None
        return Path(account.directory)


async def _content(messages: dict[int, bytes], number: int) -> bytes | None:
    return messages.get(number)


Start = Callable[..., AbstractAsyncContextManager[Server]]


@asynccontextmanager
async def server(
    base: Path,
    *,
    disk: Disk | None = None,
    loopback: bool = True,
    messages: dict[int, bytes] | None = None,
    idle: float = 60,
    later: float = 0,
) -> AsyncIterator[Server]:
    disk = disk or InLoopDisk()
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "office.test"}))
    await general.load()
    for part in ("Accounts", "Domains", "Settings", "Queue"):
        (base / part).mkdir(exist_ok=True)
    domains = Domains(disk, str(base), storage, general, server_key=b"k" * 32)
    await domains.load()
    journal = await Journal.open(disk, str(base / "Queue"), segment_size=1 << 16)
    notices, log = Notices(), MemoryLog()
    accounts = Accounts(disk, journal, LaterClock(later), notices, log.source("ACCOUNT"), loopback=loopback, idle=idle)
    domains.lifecycle.participants.append(accounts)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        frames = [entry async for entry in journal.replay()]

        async def stored() -> AsyncIterator[Redo]:
            for position, frame in frames:
                if frame.type == FrameType.DELIVERED:
                    fields: Any = unpack(frame.payload)
                    yield Redo(position, fields[2], fields[3], partial(_content, messages or {}, fields[1]))

        await accounts.recover(frames, domains.find_account, stored())
        async with trio.open_nursery() as inner:
            await inner.start(accounts.run)
            made = Server(base, domains, journal, accounts, notices)
            made.log = log
            yield made
            inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


MESSAGE = b"From: Bob <bob@example.com>\nTo: alice@office.test\nSubject: Hello\nDate: Tue, 14 Nov 2023 22:13:20 +0000\n\nHow are you?\n"
