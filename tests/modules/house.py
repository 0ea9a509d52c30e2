"""A server of the lower rooms with local delivery and groups on it, in one directory; SMTP keeps what it would send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from appliance.accounts.client import Fetch, unpack
from appliance.accounts.frames import Safe, decode
from appliance.accounts.gate import Accounts
from appliance.accounts.recovery import Redo
from appliance.formats.data import Value, parse, render_file
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import Disk, InLoopDisk
from appliance.kernel.journal import Journal
from appliance.kernel.log import MemoryLog
from appliance.kernel.notices import Notices
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.tasks import TaskStatus
from appliance.modules.list.groups import GroupModule
from appliance.modules.list.settings import LIST
from appliance.modules.local.content import stored_content
from appliance.modules.local.delivery import LocalModule
from appliance.modules.local.routing import LocalRouting
from appliance.modules.local.settings import LOCAL
from appliance.objects import declarations as d
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.router.route import Address, Route
from appliance.router.router import ROUTER, Router
from appliance.transfer.message import Envelope, Kind, Outcome, QueuedMessage, Source
from appliance.transfer.queues import ModuleQueue
from appliance.transfer.reports import TEXTS
from appliance.transfer.settings import QUEUE, TEMPFILES
from appliance.transfer.transfer import Transfer

MESSAGE = b"From: Bob <bob@far.test>\nTo: alice@office.test\nDate: x\nSubject: Hello\n\nHow are you?\n"
OUTSIDE = Source("SMTP", "10.9.9.9", client=False)


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


class Smtp:
    """Keeps what goes out: message and recipients."""

    def __init__(self) -> None:
        self.sent: list[tuple[QueuedMessage, list[Envelope], bytes]] = []
        self.refuse = ""

    async def final(self, address: Address) -> Route | None:
        if "." not in address.domain:
            return None
        host = address.domain.lower()
        return Route("SMTP", host, f"{address.local}@{host}", address.original)

    def concurrency(self) -> int:
        return 10

    async def process(self, queue: ModuleQueue) -> None:
        async for entry in queue:
            content = entry.message.added_header + await entry.message.content()
            people = [Envelope(one.address, one.notify, one.orcpt) for one in entry.recipients]
            self.sent.append((entry.message, people, content))
            for one in entry.recipients:
                if self.refuse and self.refuse in one.address:
                    entry.finish(one, Outcome(Kind.FAILED, "5.1.1", "no such user"))
                else:
                    entry.finish(one, Outcome(Kind.RELAYED))

    @property
    def people(self) -> list[str]:
        return sorted(one.address for _, people, _ in self.sent for one in people)


class House:
    """One life of a server."""

    def __init__(
        self, base: Path, disk: Disk, journal: Journal, domains: Domains, router: Router, log: MemoryLog, loopback: bool
    ) -> None:
        clock = TrioClock()
        self.base, self.log, self.domains, self.router, self.journal = base, log, domains, router, journal
        self.queue, self.temporary = Settings(QUEUE, MemoryStorage()), Settings(TEMPFILES, MemoryStorage())
        self.local_settings, self.list_settings = Settings(LOCAL, MemoryStorage()), Settings(LIST, MemoryStorage())
        self.strings, self.statistics, self.notices = Strings(), Statistics(), Notices()
        self.strings.declare_all(TEXTS)
        self.accounts = Accounts(disk, journal, clock, self.notices, log.source("ACCOUNT"), loopback=loopback)
        self.transfer = Transfer(
            disk, journal, str(base), clock, log, self.queue, self.temporary, router, self.strings, lambda: "mail.test"
        )
        self.accounts.shared.safe = self.transfer.safe
        self.transfer.spool.make_safe = self.accounts.make_safe
        domains.lifecycle.participants.append(self.accounts)
        self.local = LocalModule(
            domains,
            self.local_settings,
            self.accounts,
            self.transfer,
            log.source("LOCAL"),
            clock,
            self.strings,
            self.statistics,
        )
        self.groups = GroupModule(
            domains, self.list_settings, self.transfer, log.source("LIST"), clock, self.strings, self.statistics
        )
        self.smtp = Smtp()
        self.transfer.modules["SMTP"] = self.smtp
        self.local.attach()
        self.groups.attach()
        routing = LocalRouting(domains, self.local_settings)
        router.first.append(routing.first)
        router.final += [routing.final, self.smtp.final]

    async def account(self, name: str, **settings: Value) -> Account:
        """An account of the main domain, or of `name@domain`."""
        local, _, domain = name.partition("@")
        return await self.domains.create_account(self.domains.require(domain), local, settings=settings or None)

    async def send(
        self,
        *recipients: str | Envelope,
        sender: str = "bob@far.test",
        text: bytes = MESSAGE,
        source: Source = OUTSIDE,
        ret: str = "",
    ) -> int:
        async with self.transfer.begin(source) as submission:
            submission.sender, submission.ret = sender, ret
            for recipient in recipients:
                submission.add(Envelope(recipient) if isinstance(recipient, str) else recipient)
            await submission.write(text)
            return await submission.submit()

    async def mail(self, name: str, mailbox: str = "INBOX") -> list[bytes]:
        """The messages in a mailbox, wire form."""
        account = self.domains.find_account(name)
        assert account is not None
        session = await self.accounts.open(account)
        try:
            opened = await session.open(mailbox, write=False)
            rows = await session.fetch(opened.view, list(unpack(opened.uids)), Fetch.NOTHING, "")
            return [row.content or b"" for row in rows]
        finally:
            await session.aclose()

    async def empty(self, name: str) -> None:
        """Remove all messages of the INBOX."""
        account = self.domains.find_account(name)
        assert account is not None
        session = await self.accounts.open(account)
        opened = await session.open("INBOX")
        await session.remove(opened.view, list(unpack(opened.uids)))
        await session.aclose()

    def waiting(self) -> dict[str, str]:
        """What waits in queues, with the reason."""
        return {queue.host: queue.reason for queue in self.transfer.queues.all()}


@asynccontextmanager
async def house(
    base: Path, *, disk: Disk | None = None, orderly: bool = True, loopback: bool = True
) -> AsyncIterator[House]:
    """A life of a server on this base directory; `orderly` False: it ends as by a crash."""
    disk = disk or InLoopDisk()
    for part in ("Accounts", "Domains", "Settings", "Queue"):
        await disk.mkdir(str(base / part), parents=True)
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "office.test"}))
    await general.load()
    domains = Domains(disk, str(base), storage, general, server_key=b"k" * 32)
    await domains.load()
    log = MemoryLog()
    router = Router(domains, Settings(ROUTER, MemoryStorage()), log.source("ROUTER"))
    journal = await Journal.open(disk, str(base / "Queue"), segment_size=1 << 20)
    made = House(base, disk, journal, domains, router, log, loopback)
    await made.queue.update({"MinimumFreeSpace": "0"})
    await made.local_settings.update({"LogLevel": "5"})
    until = trio.CancelScope(shield=True)  # the journal ends last, also when a test fails

    async def write(*, task_status: TaskStatus) -> None:
        with until:
            await journal.run(task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(write)
        try:
            await _recover(made)
            async with trio.open_nursery() as inner:
                await inner.start(made.accounts.run)
                async with trio.open_nursery() as rooms:
                    await rooms.start(made.transfer.run)
                    made.transfer.start()
                    yield made
                    rooms.cancel_scope.cancel()
                if orderly:
                    await made.transfer.close()
                inner.cancel_scope.cancel()
        finally:
            until.cancel()


async def _recover(made: House) -> None:
    recovery = made.transfer.recovery
    replay = made.accounts.replay(made.domains.find_account)
    async for position, frame in made.journal.replay():
        replay.take(position, frame)
        recovery.replay(position, frame)
        if isinstance(known := decode(frame), Safe):
            recovery.safe(known.account, position)
    await recovery.finish()

    async def stored() -> AsyncIterator[Redo]:
        for item in recovery.stored():
            content = _content(made, item.message, item.content)
            yield Redo(item.position, item.stored.account, item.stored.record, content)

    await replay.finish(stored())


def _content(made: House, message: QueuedMessage, content: bytes | None) -> Callable[[], Awaitable[bytes | None]]:
    async def get() -> bytes | None:
        return stored_content(content if content is not None else await made.transfer.spool.content(message))

    return get


async def quiet(seconds: float = 1.0) -> None:
    """Everything that can happen now has happened."""
    await trio.sleep(seconds)
