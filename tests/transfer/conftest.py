"""A server's transfer room with modules that do as they are told, on an in-loop disk and a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
import trio
import trio.testing

from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import Disk, InLoopDisk
from appliance.kernel.journal import Journal
from appliance.kernel.log import MemoryLog
from appliance.kernel.operations import Caller
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.strings import Strings
from appliance.router.route import Purpose, Refused, Route
from appliance.transfer.banned import BANNED
from appliance.transfer.message import Kind, Outcome, QueuedMessage, Recipient, Source
from appliance.transfer.queues import ModuleQueue, QueueEntry
from appliance.transfer.reports import TEXTS
from appliance.transfer.settings import QUEUE, TEMPFILES
from appliance.transfer.transfer import Transfer

HERE = ("here.example",)


class Router:
    """`x@here.example` is local, `null` is nobody, `bad@...` is refused, `later@...` is refused for now, others go out."""

    def __init__(self) -> None:
        self.later = True
        self.asked: list[str] = []

    async def route(self, address: str, purpose: Purpose = Purpose.MAIL, caller: Caller | None = None) -> Route:
        await trio.lowlevel.checkpoint()
        self.asked.append(address)
        local, _, domain = address.rpartition("@")
        if address == "null" or local == "null":
            return Route("SYSTEM", "null", local, address)
        if local == "bad":
            raise Refused("unknown account", code="5.1.1")
        if local == "later" and self.later:
            raise Refused("directory is not available", permanent=False, code="4.3.0")
        if domain in HERE or not domain:
            return Route("LOCAL", f"{local or domain}@here.example", local, address)
        return Route("SMTP", domain, address, address)


class Module:
    """A delivery module that keeps what it delivers; `answer` decides about each recipient (None: do nothing)."""

    def __init__(self, room: Room, name: str) -> None:
        self.room = room
        self.name = name
        self.limit = 10
        self.delivered: list[tuple[str, bytes]] = []
        self.calls: list[str] = []
        self.answer: Callable[[QueueEntry, Recipient], Outcome | None] = lambda entry, recipient: Outcome(
            Kind.DELIVERED, "2.1.5"
        )
        self.before: Callable[[ModuleQueue], object] = lambda queue: None
        self.held: set[str] = set()
        self.warnings: tuple[int, ...] = ()
        self.age: int | None = None
        self.running = 0
        self.most = 0
        self.pause = 0.0
        self.many = 1

    def concurrency(self) -> int:
        return self.limit

    def channels(self, host: str) -> int:
        return self.many

    def holds(self, host: str) -> bool:
        return host in self.held

    def warn_after(self, host: str) -> tuple[int, ...]:
        return self.warnings

    def keep(self, host: str) -> int | None:
        return self.age

    async def process(self, queue: ModuleQueue) -> None:
        self.calls.append(queue.host)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            self.before(queue)
            async for entry in queue:
                content = entry.message.added_header + await entry.message.content()
                if self.pause:
                    await trio.sleep(self.pause)
                for recipient in entry.recipients:
                    if not recipient.taken:
                        continue
                    outcome = self.answer(entry, recipient)
                    if outcome is not None:
                        if outcome.kind != Kind.FAILED and not (entry.message.test and self.name == "LOCAL"):
                            self.delivered.append((recipient.address, content))
                        entry.finish(recipient, outcome)
        finally:
            self.running -= 1

    @property
    def people(self) -> list[str]:
        return sorted(address for address, _ in self.delivered)

    def mail(self, address: str) -> list[bytes]:
        return [content for to, content in self.delivered if to == address]


class Room(Transfer):
    """Transfer with two modules, its settings and log."""

    smtp: Module
    local: Module
    router: Router
    log: MemoryLog
    settings: Settings
    obscure: Settings
    banned: Settings
    clock: TrioClock
    texts: Strings

    async def send(
        self, *recipients: str, sender: str = "me@there.example", text: bytes = b"", trusted: bool = False
    ) -> int:
        content = text or b"From: me\nDate: now\nMessage-ID: <1@x>\nSubject: hello\n\ntext\n"
        return await self.submit_text(sender, recipients, content, Source("SMTP", trusted=trusted))

    def find(self, number: int) -> QueuedMessage:
        return self.spool.live[number]


class Start(Protocol):
    def __call__(
        self, base: Path | None = None, disk: Disk | None = None, begin: bool = True, settle: bool = True
    ) -> object: ...


@asynccontextmanager
async def running(
    base: Path,
    disk: Disk | None = None,
    *,
    orderly: bool = True,
    prepare: Callable[[Room], object] = lambda room: None,
    segment_size: int = 1 << 20,
) -> AsyncIterator[Room]:
    """A transfer room on this base directory. `orderly` False: it ends as by a crash."""
    disk = disk or InLoopDisk()
    await disk.mkdir(str(base / "Queue"), parents=True)
    journal = await Journal.open(disk, str(base / "Queue"), segment_size=segment_size)
    log = MemoryLog()
    clock = TrioClock()
    settings, obscure = Settings(QUEUE, MemoryStorage()), Settings(TEMPFILES, MemoryStorage())
    texts = Strings()
    texts.declare_all(TEXTS)
    router = Router()
    banned = Settings(BANNED, MemoryStorage())
    room = Room(
        disk, journal, str(base), clock, log, settings, obscure, router, texts, lambda: "mail.here.example", banned
    )
    room.banned = banned
    room.router, room.log, room.settings, room.obscure, room.clock, room.texts = (
        router,
        log,
        settings,
        obscure,
        clock,
        texts,
    )
    room.smtp, room.local = Module(room, "SMTP"), Module(room, "LOCAL")
    room.modules["SMTP"], room.modules["LOCAL"] = room.smtp, room.local
    await settings.update({"MinimumFreeSpace": "0", "LogLevel": "5", "EnqueuerLogLevel": "5", "DequeuerLogLevel": "5"})
    prepare(room)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        await room.recovery.replay_all()
        await room.recovery.finish()
        async with trio.open_nursery() as inner:
            await inner.start(room.run)
            room.start()
            yield room
            inner.cancel_scope.cancel()
        if orderly:
            await room.close()
        nursery.cancel_scope.cancel()


@pytest.fixture
async def room(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> AsyncIterator[Room]:
    async with running(tmp_path) as room:
        yield room
