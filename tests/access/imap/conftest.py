"""Accounts behind the gate, a door to them, and an IMAP client that talks to a session over a memory pair.

The accounts keep what the gate keeps: UIDs, mod-sequences, flags, what vanished, and who takes the \\Recent marks.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import trio

from appliance.access.imap.gate import LoginRefused, Surroundings
from appliance.access.imap.service import ImapService
from appliance.access.imap.settings import SETTINGS, TEXTS
from appliance.accounts.client import AccountError, AccountSession, Flag, pack, unpack
from appliance.accounts.foreign import ForeignAccounts
from appliance.accounts.gate import Accounts
from appliance.accounts.login import Logins
from appliance.formats import passwords
from appliance.formats.bodystructure import summary
from appliance.kernel.channel import Channel, ChannelError
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.journal import Journal
from appliance.kernel.log import Logger, MemoryLog
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.notices import Notices
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.settings_files import DictionaryFile
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.supervisor import run_session
from appliance.modules.local.routing import LocalRouting
from appliance.modules.local.settings import LOCAL
from appliance.objects import declarations
from appliance.objects.declarations import LOGIN_SECURITY as SECURITY
from appliance.objects.domain import Account as RealAccount
from appliance.objects.domains import Domains
from appliance.protocols.sasl import DigestProof, Done, PlainPassword, Proven
from appliance.router.route import Address, Route
from appliance.router.router import ROUTER, Router

RECENT = int(Flag.RECENT)
INLINE = 256 * 1024
DAY = 86400


@dataclass
class Stored:
    uid: int
    data: bytes
    flags: int = 0
    keywords: tuple[str, ...] = ()
    date: int = 1580548830
    modseq: int = 1


@dataclass
class Mailbox:
    messages: dict[int, Stored] = field(default_factory=dict)
    gone: list[tuple[int, int]] = field(default_factory=list)
    keywords: list[str] = field(default_factory=list)
    uidvalidity: int = 77
    uidnext: int = 101
    modseq: int = 1
    recent_from: int = 1
    rights: str = "lrswipkxtecda"
    acl: dict[str, str] = field(default_factory=dict)


@dataclass
class View:
    mailbox: Mailbox
    name: str
    write: bool
    told: int
    recent: set[int] = field(default_factory=set)


class Account:
    """An account's mailboxes, as all its sessions see them."""

    def __init__(self, notices: Notices, name: str = "jim@example.com") -> None:
        self.notices = notices
        self.name = name
        self.stored = "secret"
        self.mailboxes = {"INBOX": Mailbox()}
        self.subscribed: list[str] = []
        self.aliases: dict[str, str] = {}
        self.alerts: list[str] = []
        self.limit: int | None = None
        self.open_sessions = 0
        self.broken = ""
        self.calls: list[str] = []

    def put(self, data: bytes, mailbox: str = "INBOX", flags: int = 0, uid: int = 0, **other: Any) -> int:
        box = self.mailboxes.setdefault(mailbox, Mailbox())
        uid = uid or box.uidnext
        box.uidnext = uid + 1
        box.modseq += 1
        for keyword in other.get("keywords", ()):
            if keyword not in box.keywords:
                box.keywords.append(keyword)
        box.messages[uid] = Stored(uid, data, flags, modseq=box.modseq, **other)
        self.notices.publish(("mailbox", self.name, mailbox))
        return uid

    def expunge(self, uid: int, mailbox: str = "INBOX") -> None:
        box = self.mailboxes[mailbox]
        del box.messages[uid]
        box.modseq += 1
        box.gone.append((box.modseq, uid))
        self.notices.publish(("mailbox", self.name, mailbox))

    def flag(self, uid: int, flags: int, mailbox: str = "INBOX") -> None:
        box = self.mailboxes[mailbox]
        box.modseq += 1
        box.messages[uid].flags = flags
        box.messages[uid].modseq = box.modseq
        self.notices.publish(("mailbox", self.name, mailbox))

    def used(self) -> int:
        return sum(len(m.data) for box in self.mailboxes.values() for m in box.messages.values())

    def session(self) -> AccountSession:
        self.open_sessions += 1
        return AccountSession(self.name, Requests(self))


class Requests:
    """Answers the requests of one session."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.views: dict[int, View] = {}
        self.appends: dict[int, tuple[list[Any], list[bytes]]] = {}
        self.handles = itertools.count(1)
        self.closed = False

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.closed:
            self.closed = True
            self.account.open_sessions -= 1

    async def call(self, name: str, *arguments: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.account.calls.append(name)
        if self.account.broken == name:
            raise AccountError("TEMPORARY", "the disk is tired")
        return getattr(self, name)(*arguments)

    def box(self, name: str) -> Mailbox:
        box = self.account.mailboxes.get(name)
        if box is None:
            raise AccountError("NONEXISTENT", "no such mailbox")
        return box

    # names

    def mailboxes(self) -> Any:
        names = set(self.account.mailboxes)
        levels = {"/".join(n.split("/")[:i]) for n in names for i in range(1, n.count("/") + 1)}
        every = sorted(names | levels, key=lambda n: (n != "INBOX", n))
        return [(n, n in names, any(o.startswith(n + "/") for o in every), "lrswipkxtecda") for n in every]

    def create(self, name: str) -> None:
        if name in self.account.mailboxes:
            raise AccountError("ALREADYEXISTS", "it exists")
        self.account.mailboxes[name] = Mailbox()

    def delete(self, name: str, subtree: bool = False) -> None:
        self.box(name)
        del self.account.mailboxes[name]

    def rename(self, old: str, new: str, subtree: bool = True) -> None:
        self.account.mailboxes[new] = self.box(old)
        if old == "INBOX":
            self.account.mailboxes["INBOX"] = Mailbox()
        else:
            del self.account.mailboxes[old]

    def subscriptions(self) -> list[str]:
        return list(self.account.subscribed)

    def subscribe(self, name: str, on: bool) -> None:
        if on and name not in self.account.subscribed:
            self.account.subscribed.append(name)
        elif not on and name in self.account.subscribed:
            self.account.subscribed.remove(name)

    def status(self, name: str) -> dict[str, int]:
        box = self.box(name)
        messages = box.messages.values()
        return {
            "MESSAGES": len(messages),
            "RECENT": sum(m.uid >= box.recent_from for m in messages),
            "UIDNEXT": box.uidnext,
            "UIDVALIDITY": box.uidvalidity,
            "UNSEEN": sum(not m.flags & Flag.SEEN for m in messages),
            "DELETED": sum(bool(m.flags & Flag.DELETED) for m in messages),
            "SIZE": sum(len(m.data) for m in messages),
            "INTERNALSIZE": sum(len(m.data) + 80 for m in messages),
            "HIGHESTMODSEQ": box.modseq,
            "OLDEST": min((m.date for m in messages), default=0),
        }

    def aliases(self) -> dict[str, str]:
        return dict(self.account.aliases)

    def metadata(self, name: str) -> dict[str, bytes]:
        return {}

    def acl(self, name: str) -> dict[str, str]:
        return dict(self.box(name).acl)

    def set_acl(self, name: str, who: str, mode: str, rights: str) -> None:
        self.box(name).acl[who] = rights

    def my_rights(self, name: str) -> str:
        return self.box(name).rights

    # an open mailbox

    def open(self, name: str, write: bool) -> Any:
        box = self.box(name)
        if "r" not in box.rights:
            raise AccountError("NOPERM", "you may not read it")
        view = View(box, name, write, box.uidnext)
        recent = [uid for uid in box.messages if uid >= box.recent_from]
        if write:
            view.recent.update(recent)
            box.recent_from = box.uidnext
        handle = next(self.handles)
        self.views[handle] = view
        unseen = next((n for n, m in enumerate(box.messages.values(), 1) if not m.flags & Flag.SEEN), 0)
        rights = box.rights if write else "lr"
        uids = pack(box.messages)
        return handle, box.uidvalidity, box.uidnext, box.modseq, len(recent), unseen, tuple(box.keywords), rights, uids

    def release(self, view: int) -> None:
        self.views.pop(view)

    def bits(self, view: View, message: Stored) -> int:
        recent = message.uid in view.recent if view.write else message.uid >= view.mailbox.recent_from
        return message.flags | (RECENT if recent else 0)

    def row(self, view: View, message: Stored) -> Any:
        return message.uid, self.bits(view, message), message.keywords, message.modseq

    def changes(self, number: int, modseq: int) -> Any:
        view = self.views[number]
        box = view.mailbox
        fresh = [m for m in box.messages.values() if m.uid >= view.told]
        if view.write:
            view.recent.update(m.uid for m in fresh if m.uid >= box.recent_from)
            box.recent_from = box.uidnext
        changed = [self.row(view, m) for m in box.messages.values() if m.modseq > modseq and m.uid < view.told]
        gone = pack(uid for at, uid in box.gone if at > modseq and uid < view.told)
        view.told = box.uidnext
        return box.modseq, box.uidnext, tuple(self.row(view, m) for m in fresh), tuple(changed), gone

    def keywords(self, number: int) -> Any:
        return tuple(self.views[number].mailbox.keywords)

    def flags(self, number: int, uids: bytes) -> Any:
        view = self.views[number]
        return [self.row(view, m) for m in map(view.mailbox.messages.get, unpack(uids)) if m is not None]

    def columns(self, number: int, uids: bytes, what: int) -> Any:
        view = self.views[number]
        found = [m for m in map(view.mailbox.messages.get, unpack(uids)) if m is not None]
        made = [summary(m.data) for m in found] if what else []
        rows = [(*self.row(view, m), len(m.data), m.date) for m in found]
        columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(6)]
        texts = [[m.envelope for m in made], [m.bodystructure for m in made], [m.body for m in made]]
        return (*columns, *texts) if what else (*columns, None, None, None)

    def part(self, data: bytes, section: str) -> bytes | None:
        if not section:
            return data
        head, _, body = data.partition(b"\r\n\r\n")
        return {"HEADER": head + b"\r\n\r\n", "TEXT": body, "1": body}.get(section)

    def fetch(self, number: int, packed: bytes, what: int, section: str | None) -> Any:
        view = self.views[number]
        uids = unpack(packed)
        assert len(uids) <= 500
        rows: list[Any] = []
        total = 0
        for uid in uids:
            message = view.mailbox.messages.get(uid)
            if message is None:
                continue
            content = None if section is None else self.part(message.data, section)
            if content is not None and len(content) > INLINE:
                content = None
            total += len(content or b"")
            if rows and total > 1 << 20:
                break
            made = summary(message.data) if what else None
            texts = (made.envelope, made.bodystructure, made.body) if made else (None, None, None)
            rows.append((*self.row(view, message), len(message.data), message.date, 0, *texts, content))
        return rows

    def read(self, number: int, uid: int, section: str, offset: int, length: int) -> Any:
        message = self.views[number].mailbox.messages.get(uid)
        if message is None:
            raise AccountError("NONEXISTENT", "no such message")
        data = self.part(message.data, section)
        return (-1, b"") if data is None else (len(data), data[offset : offset + length])

    def store(self, number: int, uids: bytes, mode: str, flags: int, keywords: Any, unchanged_since: int) -> Any:
        view = self.views[number]
        box = view.mailbox
        rows = []
        assert len(unpack(uids)) <= 2000
        for uid in unpack(uids):
            message = box.messages.get(uid)
            if message is None:
                continue
            box.keywords += [k for k in keywords if k not in box.keywords]
            old, words = message.flags, set(message.keywords)
            new = {"+": old | flags, "-": old & ~flags, "=": flags}[mode]
            words = {"+": words | set(keywords), "-": words - set(keywords), "=": set(keywords)}[mode]
            box.modseq += 1
            message.flags, message.keywords, message.modseq = new, tuple(sorted(words)), box.modseq
            rows.append(self.row(view, message))
        self.account.notices.publish(("mailbox", self.account.name, view.name))
        return rows

    def expunge(self, number: int, uids: bytes | None) -> bytes:
        view = self.views[number]
        among = None if uids is None else set(unpack(uids))
        marked = [
            u for u, m in view.mailbox.messages.items() if m.flags & Flag.DELETED and (among is None or u in among)
        ]
        for uid in marked:
            self.account.expunge(uid, view.name)
        return pack(marked)

    def remove(self, number: int, uids: bytes) -> bytes:
        view = self.views[number]
        found = [uid for uid in unpack(uids) if uid in view.mailbox.messages]
        for uid in found:
            self.account.expunge(uid, view.name)
        return pack(found)

    def copy(self, number: int, uids: bytes, target: str, move: bool) -> Any:
        view, box = self.views[number], self.box(target)
        found = [view.mailbox.messages[uid] for uid in unpack(uids) if uid in view.mailbox.messages]
        self.quota(sum(len(m.data) for m in found))
        made = [self.account.put(m.data, target, m.flags, keywords=m.keywords, date=m.date) for m in found]
        if move:
            for message in found:
                self.account.expunge(message.uid, view.name)
        return box.uidvalidity, pack(m.uid for m in found), pack(made)

    def search(self, number: int, program: Any, charset: str) -> bytes:
        view = self.views[number]
        return pack(m.uid for m in view.mailbox.messages.values() if self.hit(view, m, program))

    def hit(self, view: View, m: Stored, program: Any) -> bool:
        name, *rest = program
        head, _, body = m.data.partition(b"\r\n\r\n")
        if name == "ALL":
            return True
        if name in ("AND", "OR"):
            return (all if name == "AND" else any)(self.hit(view, m, inner) for inner in rest)
        if name == "NOT":
            return not self.hit(view, m, rest[0])
        if name == "FLAG":
            return bool(self.bits(view, m) & rest[0])
        if name == "KEYWORD":
            return str(rest[0]).upper() in [k.upper() for k in m.keywords]
        if name == "UIDS":
            return m.uid in list(unpack(rest[0]))
        if name in ("LARGER", "SMALLER"):
            return len(m.data) > int(rest[0]) if name == "LARGER" else len(m.data) < int(rest[0])
        if name == "BODY":
            return str(rest[0]).lower() in body.decode("utf-8", "replace").lower()
        if name == "TEXT":
            return str(rest[0]).lower() in m.data.decode("utf-8", "replace").lower()
        if name == "HEADER":
            wanted, text = rest
            values = re.findall(rb"(?im)^%b:(.*)$" % re.escape(wanted.encode()), head)
            return any(text.lower() in v.decode("utf-8", "replace").lower() for v in values)
        day = date(1970, 1, 1).toordinal() + m.date // DAY
        if name.startswith("SENT"):
            sent = re.search(rb"Date: .*?(\d+) (\w+) (\d{4})", head)
            assert sent
            month = b"JanFebMarAprMayJunJulAugSepOctNovDec".index(sent[2]) // 3 + 1
            day = date(int(sent[3]), month, int(sent[1])).toordinal()
            name = name[4:]
        return bool({"BEFORE": day < rest[0], "ON": day == rest[0], "SINCE": day >= rest[0]}[name])

    # what others have removed

    def untold(self, number: int, packed: bytes, what: int, section: str | None) -> Any:
        return []

    def untold_read(self, number: int, uid: int, section: str, offset: int, length: int) -> Any:
        raise AccountError("NONEXISTENT", "no such message")

    def untold_store(self, number: int, uids: bytes, mode: str, flags: int, keywords: Any) -> Any:
        return []

    def told(self, number: int, uids: bytes) -> None:
        pass

    # storing

    def quota(self, size: int) -> None:
        if self.account.limit is not None and self.account.used() + size > self.account.limit:
            raise AccountError("OVERQUOTA", "the account is full")

    def append(self, name: str, flags: int, keywords: Any, when: int, zone: int, data: bytes) -> Any:
        box = self.box(name)
        self.quota(len(data))
        return box.uidvalidity, self.account.put(data, name, flags, keywords=tuple(keywords), date=when)

    def append_begin(self, name: str, flags: int, keywords: Any, when: int, zone: int, size: int) -> int:
        self.box(name)
        self.quota(size)
        handle = next(self.handles)
        self.appends[handle] = ([name, flags, keywords, when, zone], [])
        return handle

    def append_chunk(self, handle: int, data: bytes) -> None:
        assert len(data) <= INLINE
        self.appends[handle][1].append(data)

    def append_commit(self, handle: int) -> Any:
        head, pieces = self.appends.pop(handle)
        name, flags, keywords, when, zone = head
        return self.append(name, flags, keywords, when, zone, b"".join(pieces))

    def append_abort(self, handle: int) -> None:
        self.appends.pop(handle, None)

    def info(self) -> dict[str, Any]:
        return {"used": self.account.used(), "limit": self.account.limit}

    def alerts(self, confirm: bool, most: int) -> list[str]:
        found = self.account.alerts[: most or None]
        if confirm:
            del self.account.alerts[: len(found)]
        return found


@dataclass
class Granted:
    session: AccountSession


class Door:
    """Log-ins to jim."""

    key = b"k" * 32

    def __init__(self, account: Account) -> None:
        self.account = account
        self.pause = 2.0

    async def _answer(self, name: str, good: bool) -> Granted:
        if name == "j.smith":
            raise LoginRefused("he is elsewhere", referral="John@othercompany.com")
        if name.partition("@")[0] != "jim" or not good:
            await trio.sleep(self.pause)
            raise LoginRefused("Incorrect Account Name or Password")
        return Granted(self.account.session())

    async def password(self, name: str, password: str, service: str, channel: Channel) -> Granted:
        assert service == "IMAP"
        return await self._answer(name, passwords.verify(self.account.stored, password, self.key))

    async def keys(self, name: str, method: str, channel: Channel) -> passwords.ScramKeys:
        await trio.lowlevel.checkpoint()
        stored = self.account.stored if name == "jim" else ""
        found = passwords.scram_keys(stored, method, key=self.key, salt=b"salt")
        return found or passwords.decoy_keys(name, method, self.key)

    async def proven(self, done: Done, service: str, channel: Channel) -> Granted:
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


LITERAL = re.compile(rb"\{(\d+)\}\r\n$")


class Client:
    """Sends commands, reads answers; a line is returned with the literals inside it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.buffer = b""
        self.tags = itertools.count(1)

    async def _until(self, enough: int) -> None:
        while len(self.buffer) < enough:
            data = await self.channel.receive()
            if not data:
                raise EOFError
            self.buffer += data

    async def line(self) -> bytes:
        found = b""
        while True:
            while (end := self.buffer.find(b"\r\n")) < 0:
                await self._until(len(self.buffer) + 1)
            piece, self.buffer = self.buffer[: end + 2], self.buffer[end + 2 :]
            found += piece
            literal = LITERAL.search(piece)
            if literal is None:
                return found[:-2]
            size = int(literal[1])
            await self._until(size)
            found += self.buffer[:size]
            self.buffer = self.buffer[size:]

    async def send(self, data: bytes | str) -> None:
        await self.channel.send(data.encode() if isinstance(data, str) else data)

    async def answer(self, tag: bytes) -> list[bytes]:
        """All lines up to the tagged one, which comes last without its tag."""
        lines: list[bytes] = []
        while True:
            line = await self.line()
            if line.startswith(tag + b" "):
                return [*lines, line[len(tag) + 1 :]]
            lines.append(line)

    async def do(self, command: bytes | str) -> list[bytes]:
        """Send a command, with literals that do not wait if it has any; its answer."""
        tag = b"t%d" % next(self.tags)
        text = command.encode() if isinstance(command, str) else command
        await self.send(tag + b" " + text + b"\r\n")
        return await self.answer(tag)

    async def ok(self, command: bytes | str) -> list[bytes]:
        """The untagged lines of a command that must succeed."""
        *lines, last = await self.do(command)
        assert last.startswith(b"OK"), last
        return lines

    async def last(self, command: bytes | str) -> bytes:
        """The tagged line alone."""
        return (await self.do(command))[-1]

    async def closed(self) -> bool:
        try:
            return await self.channel.receive() == b""
        except ChannelError:
            return True


class Post:
    """A server with two accounts, and connections to it."""

    def __init__(self, notices: Notices | None = None) -> None:
        self.notices = notices or Notices()
        self.account = Account(self.notices)
        self.boss = Account(self.notices, "boss@example.com")
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
            log=self.log.source("IMAP"),
            strings=self.strings,
            statistics=self.statistics,
            host=lambda: "mail.example.com",
            unique=lambda: f"{next(self._numbers):032x}",
            digests=lambda: self.digests,
            now=lambda: 1600000000.0,
            version="1.0",
            foreign=self.foreign,
        )

    async def foreign(self, session: AccountSession, name: str) -> AccountSession:
        await trio.lowlevel.checkpoint()
        if name.partition("@")[0] != "boss":
            raise AccountError("NONEXISTENT", "no such account")
        return self.boss.session()

    @asynccontextmanager
    async def client(self, address: str = "127.0.0.1", **attributes: Any) -> AsyncIterator[Client]:
        """A connection with the greeting still to be read; the session has ended when it is left."""
        near, far = channel_pair(client=address)
        for name, value in attributes.items():
            setattr(far, name, value)
        service = ImapService(self.around)
        far.session = self.sessions.open("IMAP", address, 0.0)

        def failed(error: BaseException, log: Logger) -> None:
            raise error

        async def serve() -> None:
            log = self.around.log
            await run_session(service.serve, far, self.sessions, log, failed=failed, farewell=service.farewell)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                near.timeout = 100_000
                yield Client(near)
            finally:
                near.close()

    @asynccontextmanager
    async def logged_in(self, select: str = "") -> AsyncIterator[Client]:
        async with self.client() as client:
            await client.line()
            await client.ok("LOGIN jim secret")
            if select:
                await client.ok(f"SELECT {select}")
            yield client

    def fill(self, count: int, mailbox: str = "INBOX", **other: Any) -> list[int]:
        return [self.account.put(letter(n), mailbox, **other) for n in range(1, count + 1)]


def letter(number: int, extra: bytes = b"", body: bytes = b"") -> bytes:
    return (
        b"From: ann%d@example.org\r\nTo: jim@example.com\r\nSubject: letter %d\r\nDate: Sat, 1 Feb 2020 10:20:30 +0100\r\n%b\r\n%b"
        % (
            number,
            number,
            extra,
            body or b"text %d\r\n" % number,
        )
    )


@pytest.fixture
def post() -> Post:
    return Post()


async def elsewhere(address: Address) -> Route | None:
    """What the SMTP module says in the final round."""
    return None if not address.domain else Route("SMTP", address.domain, address.local, address.original)


class Office(Post):
    """A server whose accounts, log-ins and names are the real ones, on a disk, with every request serialised."""

    router: Router
    table: Settings
    peers: Peers

    def __init__(self, accounts: Accounts, domains: Domains, notices: Notices) -> None:
        super().__init__(notices)
        self.accounts = accounts
        self.domains = domains

    @property
    def jim(self) -> RealAccount:
        found = self.domains.find_account("jim")
        assert found is not None
        return found


@asynccontextmanager
async def real_office(base: Path, *, loopback: bool = True) -> AsyncIterator[Office]:
    """Start, and stop when it is left: what is on the disk then is what the next start finds."""
    disk, clock, notices, log = InLoopDisk(), TrioClock(), Notices(), MemoryLog().source("ACCOUNT")
    general = Settings(declarations.GENERAL, MemoryStorage({"DomainName": "example.com"}))
    await general.load()

    def storage(path: str, mode: int) -> DictionaryFile:
        return DictionaryFile(disk, path, log, mode)

    for part in ("Accounts", "Domains", "Settings", "Queue"):
        (base / part).mkdir(exist_ok=True)
    domains = Domains(disk, str(base), storage, general, server_key=Door.key)
    await domains.load()
    for name in ("jim", "boss"):
        if domains.find_account(name) is None:
            await domains.create_account(domains.main, name, settings={"Password": "secret"}, encode=False)
        account = domains.find_account(name)
        assert account is not None
        await account.ready()
    journal = await Journal.open(disk, str(base / "Queue"))
    accounts = Accounts(disk, journal, clock, notices, log, loopback=loopback)
    async with trio.open_nursery() as outer:
        await outer.start(journal.run)
        await accounts.recover([item async for item in journal.replay()], domains.find_account)
        async with trio.open_nursery() as inner:
            await inner.start(accounts.run)
            office = Office(accounts, domains, notices)
            memory = {group.name: Settings(group, MemoryStorage()) for group in (ROUTER, LOCAL, IP_ADDRESSES, SECURITY)}
            office.router = Router(domains, memory["Router"], log)
            local = LocalRouting(domains, memory[LOCAL.name])
            office.router.first.append(local.first)
            office.router.final += [local.final, elsewhere]
            office.table = memory["Router"]
            office.peers = Peers(memory[IP_ADDRESSES.name], clock)
            security, route = memory[SECURITY.name], office.router.route
            logins = Logins(accounts, domains, route, office.peers, security, office.strings, clock, log)
            object.__setattr__(office.around, "logins", logins)
            object.__setattr__(office.around, "foreign", ForeignAccounts(accounts, domains, route))
            yield office
            inner.cancel_scope.cancel()
        outer.cancel_scope.cancel()


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with real_office(tmp_path) as made:
        yield made


@pytest.fixture(name="real_office")
def office_starter() -> Callable[[Path], AbstractAsyncContextManager[Office]]:
    """For tests that start the server more than once."""
    return real_office
