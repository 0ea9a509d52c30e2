"""Servers of other people, in the process of the test: POP3 and IMAP, well-behaved or not."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

HOST = "127.0.0.1"


class Gone(Exception):
    """The connection ends."""


@dataclass
class RemotePop:
    """A maildrop. `commands` are all that came, `sessions` counts the connections. Switches make it odd."""

    messages: dict[str, bytes] = field(default_factory=dict)
    """UID -> text with CR LF."""
    name: str = "office"
    password: str = "secret"
    stamp: str = ""
    uidl: bool = True
    uids: Callable[[int, str], str] = lambda number, uid: f"{number} {uid}"
    capabilities: tuple[str, ...] = ("TOP", "UIDL", "USER")
    context: ssl.SSLContext | None = None
    drop_at: str = ""
    """The connection ends when this command comes ("QUIT", "RETR 2"), before it is answered."""
    drop_after: int = 0
    """So many octets of a message, then the connection ends; once."""
    quiet: bool = False
    """Lines such as "UIDL" are answered by +OK alone."""
    sizes: dict[str, int] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    sessions: int = 0
    fetched: list[str] = field(default_factory=list)
    port: int = 0
    open_now: int = 0
    most_open: int = 0
    gate: trio.Event | None = None
    """RETR waits for it."""

    def put(self, uid: str, text: str) -> None:
        self.messages[uid] = text.replace("\n", "\r\n").encode()

    async def serve(self, stream: trio.SocketStream) -> None:
        self.sessions += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            await _Pop(self, stream).run()
        except (Gone, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass
        finally:
            self.open_now -= 1
            with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                await trio.aclose_forcefully(stream)


class _Pop:
    def __init__(self, remote: RemotePop, stream: trio.SocketStream) -> None:
        self.remote = remote
        self.stream: trio.abc.Stream = stream
        self.buffer = b""
        self.secure = False

    async def say(self, text: str | bytes) -> None:
        await self.stream.send_all((text.encode() if isinstance(text, str) else text) + b"\r\n")

    async def line(self) -> str:
        while b"\r\n" not in self.buffer:
            data = await self.stream.receive_some(65536)
            if not data:
                raise Gone
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode()

    async def run(self) -> None:
        remote = self.remote
        await self.say(f"+OK ready {remote.stamp}".strip())
        user = ""
        uids: list[str] = []
        marked: set[str] = set()
        while True:
            line = await self.line()
            remote.commands.append(line)
            word, _, rest = line.partition(" ")
            if remote.drop_at and line == remote.drop_at:
                raise Gone
            if word == "CAPA" and remote.capabilities:
                more = ["STLS"] if remote.context is not None and not self.secure else []
                await self.say("\r\n".join(["+OK", *remote.capabilities, *more, "."]))
            elif word == "STLS" and remote.context is not None:
                await self.say("+OK begin")
                self.stream = trio.SSLStream(self.stream, remote.context, server_side=True, https_compatible=True)
                self.secure = True
            elif word == "USER":
                user = rest
                await self.say("+OK")
            elif word in ("PASS", "APOP"):
                digest = hashlib.md5((remote.stamp + remote.password).encode()).hexdigest()
                good = (user, rest) == (remote.name, remote.password) or rest == f"{remote.name} {digest}"
                if good:
                    uids = list(remote.messages)
                await self.say("+OK" if good else "-ERR [AUTH] wrong password")
            elif word == "LIST":
                rows = [f"{n} {remote.sizes.get(u, len(remote.messages[u]))}" for n, u in enumerate(uids, 1)]
                await self.say("\r\n".join(["+OK" if remote.quiet else f"+OK {len(rows)} messages", *rows, "."]))
            elif word == "UIDL" and remote.uidl:
                rows = [remote.uids(n, u) for n, u in enumerate(uids, 1)]
                await self.say("\r\n".join(["+OK" if remote.quiet else f"+OK {len(rows)} messages", *rows, "."]))
            elif word == "RETR":
                await self.message(uids[int(rest) - 1])
            elif word == "DELE":
                marked.add(uids[int(rest) - 1])
                await self.say("+OK")
            elif word == "QUIT":
                for uid in marked:
                    remote.messages.pop(uid, None)
                await self.say("+OK bye")
                raise Gone
            else:
                await self.say("-ERR what?")

    async def message(self, uid: str) -> None:
        remote = self.remote
        if remote.gate is not None:
            await remote.gate.wait()
        data = remote.messages[uid]
        text = b"+OK\r\n" + re.sub(rb"(?m)^\.", b"..", data) + (b"" if data.endswith(b"\r\n") else b"\r\n") + b".\r\n"
        if remote.drop_after:
            part, remote.drop_after = text[: remote.drop_after], 0
            await self.stream.send_all(part)
            raise Gone
        remote.fetched.append(uid)
        await self.stream.send_all(text)


@dataclass
class RemoteImap:
    """An INBOX and other mailboxes."""

    mailboxes: dict[str, dict[int, bytes]] = field(default_factory=lambda: {"INBOX": {}})
    deleted: set[int] = field(default_factory=set)
    """UIDs that are marked in INBOX."""
    validity: int = 7
    capabilities: str = "IMAP4rev1 UIDPLUS AUTH=PLAIN"
    name: str = "office"
    password: str = "secret"
    drop_at: str = ""
    commands: list[str] = field(default_factory=list)
    fetched: list[int] = field(default_factory=list)
    context: ssl.SSLContext | None = None
    port: int = 0

    def put(self, uid: int, text: str, mailbox: str = "INBOX") -> None:
        self.mailboxes.setdefault(mailbox, {})[uid] = text.replace("\n", "\r\n").encode()

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            await self.talk(stream)
        except (Gone, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            pass
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                await trio.aclose_forcefully(stream)

    async def talk(self, wire: trio.SocketStream) -> None:
        stream: trio.abc.Stream = wire
        if self.context is not None:
            stream = trio.SSLStream(wire, self.context, server_side=True, https_compatible=True)
        buffer = b""
        box: dict[int, bytes] = {}
        late: list[bytes] = []
        await stream.send_all(b"* OK ready\r\n")
        while True:
            while b"\r\n" not in buffer:
                data = await stream.receive_some(65536)
                if not data:
                    raise Gone
                buffer += data
            raw, _, buffer = buffer.partition(b"\r\n")
            tag, _, line = raw.decode().partition(" ")
            self.commands.append(line)
            if self.drop_at and line.startswith(self.drop_at):
                raise Gone
            word = line.split(" ")[0]
            out: list[bytes] = []
            status = "OK done"
            if word == "CAPABILITY":
                out.append(f"* CAPABILITY {self.capabilities}".encode())
            elif word == "LOGIN":
                if line != f'LOGIN "{self.name}" "{self.password}"':
                    status = "NO [AUTHENTICATIONFAILED] wrong password"
            elif word in ("SELECT", "EXAMINE"):
                name = line.split('"')[1]
                if name in self.mailboxes:
                    box = self.mailboxes[name]
                    out += [f"* {len(box)} EXISTS".encode(), f"* OK [UIDVALIDITY {self.validity}] fine".encode()]
                else:
                    status = "NO there is no such mailbox"
            elif line.startswith("UID FETCH 1:*"):
                for place, uid in enumerate(sorted(box), 1):
                    flags = "\\Deleted" if uid in self.deleted else "\\Seen"
                    out.append(f"* {place} FETCH (UID {uid} RFC822.SIZE {len(box[uid])} FLAGS ({flags}))".encode())
            elif line.startswith("UID FETCH"):
                uid = int(line.split()[2])
                if uid in box:
                    self.fetched.append(uid)
                    out.append(b"* 1 FETCH (FLAGS (\\Recent))")
                    out.append(b"* 1 FETCH (UID %d BODY[] {%d}\r\n%s)" % (uid, len(box[uid]), box[uid]))
            elif line.startswith("UID STORE"):
                self.deleted |= _uids(line.split()[2])
            elif line.startswith("UID EXPUNGE"):
                for uid in _uids(line.split()[2]) & self.deleted:
                    box.pop(uid, None)
            elif word == "EXPUNGE":
                for uid in self.deleted:
                    box.pop(uid, None)
            elif word == "LOGOUT":
                out.append(b"* BYE see you")
            else:
                status = "BAD what?"
            # Commands that were sent ahead: their data may come before the end of the one before (as Dovecot's do).
            out += late
            late = [f"{tag} {status}".encode()]
            if b"\r\n" not in buffer:
                out, late = out + late, []
            await stream.send_all(b"".join(one + b"\r\n" for one in out))
            if word == "LOGOUT":
                raise Gone


def _uids(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition(":")
        found |= set(range(int(low), int(high or low) + 1))
    return found


@asynccontextmanager
async def serving(*remotes: RemotePop | RemoteImap) -> AsyncIterator[None]:
    """They listen, each on a port of its own."""
    async with trio.open_nursery() as nursery:
        for remote in remotes:
            listeners = await trio.open_tcp_listeners(remote.port, host=HOST)
            remote.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, remote.serve, listeners)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
