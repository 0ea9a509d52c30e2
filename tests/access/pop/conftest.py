"""A small account behind the gate, a door to it, and a POP client that talks to a session over a memory pair."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from appliance.access.pop.gate import LoginRefused, Surroundings
from appliance.access.pop.service import PopService
from appliance.access.pop.settings import SETTINGS, TEXTS
from appliance.accounts.client import AccountError, AccountSession, Flag, pack, unpack
from appliance.formats import passwords
from appliance.kernel.channel import Channel, ChannelError
from appliance.kernel.log import Logger, MemoryLog
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.notices import Notices
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.supervisor import run_session
from appliance.protocols.sasl import DigestProof, Done, PlainPassword, Proven


@dataclass
class Stored:
    data: bytes
    flags: int = 0


@dataclass
class Mailbox:
    messages: dict[int, Stored] = field(default_factory=dict)
    uidvalidity: int = 77
    rights: str = "lrswipkxtea"
    gone: list[int] = field(default_factory=list)


class Account:
    """An account's mailboxes, as all its sessions see them."""

    def __init__(self, notices: Notices) -> None:
        self.notices = notices
        self.name = "jim@example.com"
        self.password = "secret"
        self.stored = "secret"
        self.mailboxes = {"INBOX": Mailbox()}
        self.alerts: list[str] = []
        self.open_sessions = 0
        self.broken = ""

    def put(self, uid: int, data: bytes, mailbox: str = "INBOX") -> None:
        self.mailboxes.setdefault(mailbox, Mailbox()).messages[uid] = Stored(data)

    def expunge(self, uid: int, mailbox: str = "INBOX") -> None:
        del self.mailboxes[mailbox].messages[uid]
        self.mailboxes[mailbox].gone.append(uid)
        self.notices.publish(("mailbox", self.name, mailbox))

    def session(self) -> AccountSession:
        self.open_sessions += 1
        return AccountSession(self.name, Requests(self))


class Requests:
    """Answers the requests of one session."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.views: dict[int, Mailbox] = {}
        self.closed = False

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.closed:
            self.closed = True
            self.account.open_sessions -= 1

    async def call(self, name: str, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.account.broken == name:
            raise AccountError("TEMPORARY", "the disk is tired")
        return getattr(self, name)(*arguments)

    def aliases(self) -> dict[str, str]:
        return {}

    def alerts(self, confirm: bool, most: int) -> list[str]:
        found = self.account.alerts[: most or None]
        if confirm:
            del self.account.alerts[: len(found)]
        return found

    def open(self, name: str, write: bool) -> Any:
        mailbox = self.account.mailboxes.get(name)
        if mailbox is None:
            raise AccountError("NONEXISTENT", "no such mailbox")
        if "r" not in mailbox.rights:
            raise AccountError("NOPERM", "you may not read it")
        view = len(self.views) + 1
        self.views[view] = mailbox
        return view, mailbox.uidvalidity, 1000, 1, 0, 0, (), mailbox.rights, pack(mailbox.messages)

    def release(self, view: int) -> None:
        del self.views[view]

    def changes(self, view: int, modseq: int) -> Any:
        return modseq + 1, 1000, (), (), pack(self.views[view].gone)

    def fetch(self, view: int, uids: bytes, what: int, section: str | None) -> Any:
        rows = []
        for uid in unpack(uids):
            message = self.views[view].messages.get(uid)
            if message is not None:
                content = None
                if section is not None and len(message.data) <= 256 * 1024:
                    head = message.data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                    content = head if section == "HEADER" else message.data
                rows.append((uid, message.flags, (), 1, len(message.data), 0, 0, None, None, None, content))
        return rows

    def columns(self, view: int, uids: bytes, what: int) -> Any:
        there = self.views[view].messages
        found = [(uid, there[uid]) for uid in unpack(uids) if uid in there]
        numbers, sizes = [uid for uid, _ in found], [len(message.data) for _, message in found]
        same = [0] * len(found)
        return numbers, [m.flags for _, m in found], [()] * len(found), same, sizes, same, None, None, None

    def read(self, view: int, uid: int, section: str, offset: int, length: int) -> Any:
        message = self.views[view].messages.get(uid)
        if message is None:
            raise AccountError("NONEXISTENT", "no such message")
        data = message.data
        if section == "HEADER":
            data = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        return len(data), data[offset : offset + length]

    def store(self, view: int, uids: bytes, mode: str, flags: int, keywords: Any, unchanged_since: int) -> Any:
        assert mode == "+"
        for uid in unpack(uids):
            self.views[view].messages[uid].flags |= flags
        return []

    def remove(self, view: int, uids: bytes) -> bytes:
        removed = [uid for uid in unpack(uids) if uid in self.views[view].messages]
        for uid in removed:
            del self.views[view].messages[uid]
        return pack(removed)

    def search(self, view: int, program: Any, charset: str) -> bytes:
        _, field_name, value = program
        mark = f"{field_name}:".encode().lower()
        return pack(
            uid
            for uid, message in self.views[view].messages.items()
            if any(
                line.lower().startswith(mark) and value.encode().lower() in line.lower()
                for line in message.data.partition(b"\r\n\r\n")[0].split(b"\r\n")
            )
        )


@dataclass
class Granted:
    session: AccountSession
    mailbox: str = ""
    detail: str = ""


class Door:
    """Log-ins to the one account; `box#jim`, and `name@unified.example` for the unified view of it."""

    key = b"k" * 32

    def __init__(self, account: Account) -> None:
        self.account = account
        self.pause = 2.0

    def _named(self, name: str) -> tuple[str, str] | None:
        mailbox, _, local = name.replace("%", "@").rpartition("#")
        if local.endswith("@unified.example"):
            return mailbox, local.partition("@")[0]
        return (mailbox, "") if local in ("jim", "jim@example.com") else None

    async def _answer(self, name: str, good: bool) -> Granted:
        found = self._named(name)
        if found is None or not good:
            await trio.sleep(self.pause)
            raise LoginRefused("Incorrect Account Name or Password")
        return Granted(self.account.session(), *found)

    async def password(self, name: str, password: str, service: str, channel: Channel) -> Granted:
        assert service == "POP"
        return await self._answer(name, passwords.verify(self.account.stored, password, self.key))

    async def keys(self, name: str, method: str, channel: Channel) -> passwords.ScramKeys:
        await trio.lowlevel.checkpoint()
        stored = self.account.stored if self._named(name) else ""
        found = passwords.scram_keys(stored, method, key=self.key, salt=b"salt")
        return found or passwords.decoy_keys(name, method, self.key)

    async def proven(self, done: Done, service: str, channel: Channel) -> Granted:
        assert service == "POP"
        match done.evidence:
            case PlainPassword(password):
                return await self.password(done.authcid, password, service, channel)
            case DigestProof() as proof:
                clear = passwords.clear_text(self.account.stored, self.key)
                return await self._answer(done.authcid, clear is not None and proof.holds(clear))
            case Proven():
                return await self._answer(done.authcid, True)

    async def refuse(self, name: str, service: str, channel: Channel) -> None:
        await self._answer(name, False)


class Client:
    """Sends lines, reads replies."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.buffer = b""

    async def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            data = await self.channel.receive()
            if not data:
                raise EOFError
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    async def say(self, line: str | bytes) -> str:
        await self.channel.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return (await self.line()).decode()

    async def lines(self, line: str) -> list[str]:
        """The body of a multi-line reply, dots undone."""
        assert (await self.say(line)).startswith("+OK")
        found = []
        while (got := await self.line()) != b".":
            found.append((got[1:] if got.startswith(b".") else got).decode())
        return found

    async def log_in(self, name: str = "jim", password: str = "secret") -> str:
        assert (await self.say(f"USER {name}")).startswith("+OK")
        return await self.say(f"PASS {password}")

    async def closed(self) -> bool:
        try:
            return await self.channel.receive() == b""
        except ChannelError:
            return True


class Post:
    """A server with one account, and connections to it."""

    def __init__(self) -> None:
        self.notices = Notices()
        self.account = Account(self.notices)
        self.door = Door(self.account)
        self.settings = Settings(SETTINGS, MemoryStorage())
        self.log = MemoryLog()
        self.strings = Strings()
        self.strings.declare_all(TEXTS)
        self.digests = True
        self.statistics = Statistics()
        self.sessions = Sessions()
        self._numbers = itertools.count(1)
        self.around = Surroundings(
            logins=self.door,
            settings=self.settings,
            notices=self.notices,
            log=self.log.source("POP"),
            strings=self.strings,
            statistics=self.statistics,
            host=lambda: "mail.example.com",
            unique=lambda: f"{next(self._numbers):032x}",
            digests=lambda: self.digests,
            recipients_field=lambda: "X-Real-To",
            version="1.0",
        )

    @asynccontextmanager
    async def client(self, address: str = "127.0.0.1", **attributes: Any) -> AsyncIterator[Client]:
        """A connection with the greeting still to be read; the session has ended when it is left."""
        near, far = channel_pair(client=address)
        for name, value in attributes.items():
            setattr(far, name, value)

        service = PopService(self.around)
        far.session = self.sessions.open("POP", address, 0.0)

        def failed(error: BaseException, log: Logger) -> None:
            raise error

        async def serve() -> None:
            log = self.around.log
            await run_session(service.serve, far, self.sessions, log, failed=failed, farewell=service.farewell)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                yield Client(near)
            finally:
                near.close()

    @asynccontextmanager
    async def logged_in(self, name: str = "jim") -> AsyncIterator[Client]:
        async with self.client() as client:
            await client.line()
            reply = await client.log_in(name)
            assert reply.startswith("+OK"), reply
            yield client


@pytest.fixture
def post() -> Post:
    return Post()


SEEN = int(Flag.SEEN)
