"""A small server with the real doors: domains, router, account gate and log-ins, and clients of its POP and PWD sessions."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from appliance.access.pop import gate as pop_gate
from appliance.access.pop import settings as pop_settings
from appliance.access.pop.service import PopService
from appliance.access.pwd import gate as pwd_gate
from appliance.access.pwd import settings as pwd_settings
from appliance.access.pwd.service import PwdService
from appliance.accounts.login import Logins
from appliance.administration.cli import CommandLine
from appliance.kernel.channel import Channel, ChannelError
from appliance.kernel.clock import TrioClock
from appliance.kernel.log import Logger
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.operations import Operations
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.supervisor import run_session
from appliance.modules.local.routing import LocalRouting
from appliance.modules.local.settings import LOCAL
from appliance.objects import declarations as d
from appliance.objects import operations as object_operations
from appliance.router.route import Purpose, Route
from appliance.router.router import ROUTER, Router
from tests.accounts.serving import Server, server

#: An address of nobody in particular; the sessions count it as secure unless a test says otherwise.
STRANGER = "192.0.2.9"


class Client:
    """Sends lines, reads replies."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.buffer = b""

    async def line(self) -> str:
        while b"\r\n" not in self.buffer:
            data = await self.channel.receive()
            if not data:
                raise EOFError
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode()

    async def say(self, line: str) -> str:
        await self.channel.send(line.encode() + b"\r\n")
        return await self.line()

    async def log_in(self, name: str, password: str = "secret") -> str:
        await self.say(f"USER {name}")
        return await self.say(f"PASS {password}")


class Office:
    """The server. `alice` and `bob` have the password "secret", readable."""

    def __init__(self, inner: Server) -> None:
        self.server = inner
        #: The challenges of the greetings.
        self.stamps: list[str] = []
        self.domains = inner.domains
        self.log = inner.log
        clock = TrioClock()
        self.addresses = Settings(IP_ADDRESSES, MemoryStorage())
        self.peers = Peers(self.addresses, clock)
        self.table = Settings(ROUTER, MemoryStorage())
        router = Router(self.domains, self.table, self.log.source("ROUTER"))
        local = LocalRouting(self.domains, Settings(LOCAL, MemoryStorage()))
        router.first.append(local.first)
        router.final.append(local.final)

        async def route(address: str, purpose: Purpose) -> Route:
            return await router.route(address, purpose)

        self.security = Settings(d.LOGIN_SECURITY, MemoryStorage())
        self.strings, self.statistics, self.sessions = Strings(), Statistics(), Sessions()
        self.strings.declare_all(pop_settings.TEXTS)
        self.strings.declare_all(pwd_settings.TEXTS)
        self.logins = Logins(
            inner.accounts,
            self.domains,
            route,
            self.peers,
            self.security,
            self.strings,
            clock,
            self.log.source("ACCESS"),
        )
        self.pop = PopService(
            pop_gate.Surroundings(
                logins=self.logins,
                settings=Settings(pop_settings.SETTINGS, MemoryStorage()),
                notices=inner.notices,
                log=self.log.source("POP"),
                strings=self.strings,
                statistics=self.statistics,
                host=lambda: "mail.office.test",
                unique=lambda: secrets.token_hex(16),
                digests=lambda: True,
                recipients_field=lambda: "X-Real-To",
                version="1.0",
            )
        )
        operations = Operations()
        object_operations.declare(self.domains, operations)
        self.commands = CommandLine(operations)
        self.pwd = PwdService(
            pwd_gate.Surroundings(
                logins=self.logins,
                domains=self.domains,
                commands=self.commands,
                settings=Settings(pwd_settings.SETTINGS, MemoryStorage()),
                log=self.log.source("PWD"),
                strings=self.strings,
                statistics=self.statistics,
                host=lambda: "mail.office.test",
                unique=lambda: secrets.token_hex(16),
                version="1.0",
            )
        )

    @asynccontextmanager
    async def client(
        self, service: str = "POP", address: str = "127.0.0.1", **attributes: Any
    ) -> AsyncIterator[Client]:
        """A connection after its greeting; the session has ended when it is left."""
        near, far = channel_pair(client=address)
        far.session = self.sessions.open(service, address, 0.0)
        for name, value in attributes.items():
            setattr(far, name, value)
        module: PopService | PwdService = self.pop if service == "POP" else self.pwd

        def failed(error: BaseException, log: Logger) -> None:
            raise error

        async def serve() -> None:
            await run_session(module.serve, far, self.sessions, self.log.source(service), failed=failed)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                client = Client(near)
                self.stamps.append((await client.line()).rpartition(" ")[2])
                yield client
            finally:
                near.close()

    async def reply(self, name: str, password: str = "secret", service: str = "POP", **attributes: Any) -> str:
        """What a log-in on a new connection is answered."""
        async with self.client(service, **attributes) as client:
            try:
                return await client.log_in(name, password)
            except (EOFError, ChannelError):
                return ""


def good(reply: str) -> bool:
    """Whether a reply of POP or PWD is a positive one."""
    return reply.startswith(("+OK", "200"))


@asynccontextmanager
async def office(base: Path) -> AsyncIterator[Office]:
    async with server(base) as inner:
        for name in ("alice", "bob"):
            account = await inner.account(name)
            await inner.domains.update_account(account, {"Password": "secret", "PasswordEncryption": "clear"})
        yield Office(inner)
