"""The real registry of an office behind a PWD session, and a client of it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from appliance.access.pwd.gate import LoginRefused, Surroundings
from appliance.access.pwd.service import PwdService
from appliance.access.pwd.settings import SETTINGS, TEXTS
from appliance.accounts.client import AccountSession
from appliance.administration.cli import CommandLine
from appliance.formats import passwords
from appliance.formats.data import Value, parse, render_file
from appliance.kernel.channel import Channel, ChannelError
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.log import Logger, MemoryLog
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.operations import Operations, Right
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.supervisor import run_session
from appliance.objects import declarations as d
from appliance.objects import operations as object_operations
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.protocols.sasl import DigestProof, Done, PlainPassword


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


class NoRequests:
    async def call(self, name: str, *arguments: Any) -> Any:
        raise AssertionError("the command line asks no mailbox")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@dataclass
class Granted:
    session: AccountSession
    account: Account


class Door:
    """Log-ins with the stored passwords of the real registry."""

    def __init__(self, domains: Domains) -> None:
        self.domains = domains
        self.pause = 2.0

    async def _stored(self, name: str) -> str:
        account = self.domains.find_account(name.replace("%", "@"))
        if account is None:
            return ""
        await account.ready()
        return account.settings[d.PASSWORD].reveal()

    async def _answer(self, name: str, good: bool) -> Granted:
        if not good:
            await trio.sleep(self.pause)
            raise LoginRefused("Incorrect Account Name or Password")
        account = await self.domains.require_account(name.replace("%", "@"))
        return Granted(AccountSession(account.full_name, NoRequests()), account)

    async def password(self, name: str, password: str, service: str, channel: Channel) -> Granted:
        assert service == "PWD"
        stored = await self._stored(name)
        return await self._answer(name, passwords.verify(stored, password, self.domains.server_key))

    async def keys(self, name: str, method: str, channel: Channel) -> passwords.ScramKeys:
        key = self.domains.server_key
        found = passwords.scram_keys(await self._stored(name), method, key=key, salt=b"salt")
        return found or passwords.decoy_keys(name, method, key)

    async def proven(self, done: Done, service: str, channel: Channel) -> Granted:
        match done.evidence:
            case PlainPassword(password):
                return await self.password(done.authcid, password, service, channel)
            case DigestProof() as proof:
                clear = passwords.clear_text(await self._stored(done.authcid), self.domains.server_key)
                return await self._answer(done.authcid, clear is not None and proof.holds(clear))
        return await self._answer(done.authcid, True)

    async def refuse(self, name: str, service: str, channel: Channel) -> None:
        await self._answer(name, False)


class Client:
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
        await self.channel.send(line.encode() + b"\n")
        return await self.line()

    async def data(self, line: str) -> Value:
        assert await self.say(line) == "200 data follow"
        return parse(await self.line())

    async def log_in(self, name: str = "postmaster", password: str = "master") -> str:
        assert await self.say(f"USER {name}") == "300 please send the PASS"
        return await self.say(f"PASS {password}")

    async def closed(self) -> bool:
        try:
            return await self.channel.receive() == b""
        except ChannelError:
            return True


class Office:
    """The real registry with a postmaster, a domain administrator and a user."""

    def __init__(self, domains: Domains) -> None:
        self.domains = domains
        self.operations = Operations()
        object_operations.declare(domains, self.operations)
        self.settings = Settings(SETTINGS, MemoryStorage())
        self.log = MemoryLog()
        self.strings = Strings()
        self.strings.declare_all(TEXTS)
        self.sessions = Sessions()
        numbers = itertools.count(1)
        self.door = Door(domains)
        self.around = Surroundings(
            logins=self.door,
            domains=domains,
            commands=CommandLine(self.operations),
            settings=self.settings,
            log=self.log.source("PWD"),
            strings=self.strings,
            statistics=Statistics(),
            host=lambda: "mail.office.test",
            unique=lambda: f"{next(numbers):032x}",
            version="1.0",
        )

    @asynccontextmanager
    async def client(self, address: str = "127.0.0.1", **attributes: Any) -> AsyncIterator[Client]:
        near, far = channel_pair(client=address)
        for name, value in attributes.items():
            setattr(far, name, value)

        service = PwdService(self.around)
        far.session = self.sessions.open("PWD", address, 0.0)

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
    async def logged_in(self, name: str = "postmaster", password: str = "master") -> AsyncIterator[Client]:
        async with self.client() as client:
            await client.line()
            assert await client.log_in(name, password) == "200 login OK"
            yield client


@pytest.fixture
async def office(tmp_path: Path) -> Office:
    for part in ("Accounts", "Domains", "Settings"):
        os.mkdir(tmp_path / part)
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "office.test"}))
    await general.load()
    domains = Domains(InLoopDisk(), str(tmp_path), storage, general, server_key=b"k" * 32)
    await domains.load()
    master = await domains.require_account("postmaster@office.test")
    await domains.update_account(master, {"Password": "master", "PasswordEncryption": "clear"})
    jim = await domains.create_account(domains.main, "jim", settings={"Password": "secret"})
    client1 = await domains.create("client1.test")
    admin = await domains.create_account(client1, "admin", settings={"Password": "admin"})
    await domains.set_rights(admin, [Right.DOMAIN, Right.CREATE_ACCOUNTS])
    assert jim.full_name == "jim@office.test"
    return Office(domains)
