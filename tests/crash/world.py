"""The way of a message without the network: transfer and accounts on one journal, wired as the server wires them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from appliance.accounts.client import AccountError, Fetch, unpack
from appliance.accounts.delivery import Delivery
from appliance.accounts.frames import Safe, decode
from appliance.accounts.gate import Accounts
from appliance.accounts.recovery import Redo
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import Disk, InLoopDisk
from appliance.kernel.journal import Journal
from appliance.kernel.log import MemoryLog
from appliance.kernel.notices import Notices
from appliance.kernel.operations import Caller
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.kernel.settings_files import DictionaryFile
from appliance.kernel.strings import Strings
from appliance.objects import declarations as d
from appliance.objects.domains import Domains
from appliance.router.route import Purpose, Refused, Route
from appliance.transfer.message import Kind, Outcome, Source, Stored
from appliance.transfer.queues import ModuleQueue
from appliance.transfer.recovery import StoredBefore
from appliance.transfer.reports import TEXTS
from appliance.transfer.settings import QUEUE, TEMPFILES
from appliance.transfer.transfer import Transfer

PEOPLE = ("alice", "bob")


class World:
    """One life of the server."""

    domains: Domains
    accounts: Accounts
    transfer: Transfer
    journal: Journal
    log: MemoryLog

    def concurrency(self) -> int:
        return 5

    async def route(self, address: str, purpose: Purpose = Purpose.MAIL, caller: Caller | None = None) -> Route:
        account = self.domains.find_account(address)
        if account is None:
            raise Refused("unknown account")
        return Route("LOCAL", account.full_name, address, address)

    async def process(self, queue: ModuleQueue) -> None:
        """Local delivery, in short."""
        account = self.domains.find_account(queue.host)
        assert account is not None
        async for entry in queue:
            message = entry.message
            content = await message.content() if message.size < 100_000 else message.chunks
            delivery = Delivery(message.id, content, message.size, message.sender.encode(), int(message.arrived))
            try:
                result = await self.accounts.deliver(account, delivery)
            except (AccountError, OSError) as error:
                entry.delay(None, 60, str(error))
                continue
            entry.finish(entry.recipients, Outcome(Kind.DELIVERED), Stored(account.full_name, result.record))

    async def send(self, name: str, text: bytes) -> int:
        """Durable when it returns: the moment of "250"."""
        return await self.transfer.submit_text("me@there.example", [f"{name}@office.test"], text, Source("SMTP"))

    async def mail(self, name: str) -> dict[int, bytes]:
        """What a client finds in INBOX, by UID."""
        account = self.domains.find_account(f"{name}@office.test")
        assert account is not None
        session = await self.accounts.open(account)
        try:
            opened = await session.open("INBOX")
            rows = await session.fetch(opened.view, unpack(opened.uids), Fetch.ENVELOPE, "")
            return {row.uid: row.content or b"" for row in rows}
        finally:
            await session.aclose()


@asynccontextmanager
async def living(
    base: Path,
    disk: Disk | None = None,
    *,
    orderly: bool = True,
    later: float = 0,
    segment_size: int = 1 << 18,
    recover: Callable[[World], Awaitable[None]] | None = None,
) -> AsyncIterator[World]:
    """A life on this base directory, which `prepare` has made. `orderly` False: it ends as by SIGKILL. `recover` is awaited
    when it is known what survived, and before anything of it goes on."""
    disk = disk or InLoopDisk()
    world = World()
    world.log = MemoryLog(4)
    clock = TrioClock(1_700_000_000.0 + later)

    def storage(path: str, mode: int) -> Storage:
        return DictionaryFile(disk, path, world.log.source("FILES"), mode)

    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "office.test"}))
    await general.load()
    queue, obscure = Settings(QUEUE, MemoryStorage({"MinimumFreeSpace": "0"})), Settings(TEMPFILES, MemoryStorage())
    await queue.load()
    world.domains = Domains(disk, str(base), storage, general, server_key=b"k" * 32)
    await world.domains.load()
    world.journal = await Journal.open(disk, str(base / "Queue"), segment_size=segment_size)
    texts = Strings()
    texts.declare_all(TEXTS)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.journal.run)
        world.transfer = transfer = Transfer(
            disk, world.journal, str(base), clock, world.log, queue, obscure, world, texts, lambda: "office.test"
        )
        transfer.modules["LOCAL"] = world
        world.accounts = accounts = Accounts(
            disk, world.journal, clock, Notices(), world.log.source("ACCOUNT"), loopback=False
        )
        accounts.shared.safe = transfer.safe
        transfer.spool.make_safe = accounts.make_safe
        await _replay(world)
        async with trio.open_nursery() as inner:
            await inner.start(accounts.run)
            async with trio.open_nursery() as innermost:
                await innermost.start(transfer.run)
                if recover is not None:
                    await recover(world)
                transfer.start()
                yield world
                innermost.cancel_scope.cancel()
            if orderly:
                await transfer.close()
                await accounts.checkpoint()
            inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def _replay(world: World) -> None:
    recovery = world.transfer.recovery
    replay = world.accounts.replay(world.domains.find_account)
    async for position, frame in world.journal.replay():
        recovery.replay(position, frame)
        replay.take(position, frame)
        known = decode(frame)
        if isinstance(known, Safe):
            recovery.safe(known.account, position)
    await recovery.finish()

    async def redo() -> AsyncIterator[Redo]:
        for before in recovery.stored():
            yield Redo(before.position, before.stored.account, before.stored.record, _content(world, before))

    await replay.finish(redo())


def _content(world: World, before: StoredBefore) -> Callable[[], Awaitable[bytes | None]]:
    async def content() -> bytes | None:
        return before.content if before.content is not None else await world.transfer.spool.content(before.message)

    return content


async def prepare(base: Path, kind: str = "Text Mailbox") -> None:
    """A base directory with its accounts, in order and at rest."""
    for part in ("Accounts", "Domains", "Settings", "Queue", "BadFiles"):
        (base / part).mkdir(parents=True, exist_ok=True)
    async with living(base) as world:
        for name in PEOPLE:
            await world.domains.create_account(
                world.domains.main, name, settings={"DefaultMailboxType": kind}, encode=False
            )
