from __future__ import annotations

import base64
import hashlib
import itertools
import os
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from appliance.access.pwd.gate import LoginRefused, Surroundings
from appliance.access.pwd.service import PwdService
from appliance.access.pwd.settings import SETTINGS, TEXTS
from appliance.accounts.client import AccountSession
from appliance.administration.cli import CommandLine
from appliance.formats import passwords
from appliance.formats.data import Value, parse, render_file
from appliance.kernel.channel import Channel, ChannelError, channel_pair
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.log import Logger, MemoryLog
from appliance.kernel.operations import Caller, Operations, Right
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.supervisor import run_session
from appliance.objects import declarations as d
from appliance.objects.domains import Domains
from appliance.objects.operations import ObjectOperations
from appliance.protocols import sasl
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
        return Granted(AccountSession(account.full_name, NoRequests()))

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
        ObjectOperations(domains, self.operations)
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


@pytest.mark.feature("PWD-002", "PWD-003", "PWD-004", "PWD-005", "PWD-019", "CLI-003", "CLI-004")
async def test_the_session_of_the_manual(office: Office) -> None:
    async with office.client() as client:
        greeting = await client.line()
        assert re.fullmatch(r"200 Pillarbox at mail\.office\.test PWD Server 1\.0 ready <[^@<>]+@[^@<>]+>", greeting)
        assert await client.say("USER postmaster") == "300 please send the PASS"
        assert await client.say("PASS master") == "200 login OK"
        assert await client.say('CreateAccount "user1"') == "200 OK"
        refused = await client.say('CreateAccount "user1"')
        assert re.fullmatch(r"5\d\d .*already exists", refused)
        assert await client.say('RenameAccount "user1" into "user2"') == "200 OK"
        assert office.domains.find_account("user2@office.test") is not None
        assert await client.say("QUIT") == "200 Pillarbox PWD connection closed"
        assert await client.closed()


@pytest.mark.feature("PWD-006")
async def test_wrong_names_and_passwords_look_alike(office: Office, autojump_clock: trio.testing.MockClock) -> None:
    async with office.client() as client:
        await client.line()
        start = trio.current_time()
        wrong = await client.log_in("jim", "wrong")
        assert trio.current_time() - start >= 2
        assert wrong.startswith("500 ")
        assert await client.log_in("nobody", "secret") == wrong
        assert await client.log_in("jim", "secret") == "200 login OK"


@pytest.mark.feature("PWD-009")
async def test_apop(office: Office) -> None:
    async with office.client() as client:
        stamp = (await client.line()).rpartition(" ")[2]
        digest = hashlib.md5(stamp.encode() + b"master").hexdigest()
        assert await client.say(f"APOP postmaster@office.test {digest}") == "200 login OK"


@pytest.mark.feature("PWD-010")
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
async def test_sasl(office: Office, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "ITERATIONS", 4096)
    async with office.client() as client:
        await client.line()
        ours = sasl.client_mechanism(method, "postmaster%office.test", "master", nonce=b"0123456789abcdefghij")
        assert ours is not None
        reply = await client.say(f"AUTH {method}")
        while reply.startswith("300"):
            reply = await client.say(sasl.encode(ours.step(sasl.decode(reply[4:].encode()))).decode())
        assert reply == "200 login OK"


async def test_auth_with_initial_response_and_cancel(office: Office) -> None:
    async with office.client() as client:
        await client.line()
        assert (await client.say("AUTH LOGIN")).startswith("300 ")
        assert (await client.say("*")).startswith("515 ")
        assert (await client.say("AUTH MSN")).startswith("501 ")
        plain = base64.b64encode(b"\0jim\0secret").decode()
        assert await client.say(f"AUTH PLAIN {plain}") == "200 login OK"


async def test_no_clear_passwords_over_the_open_net(office: Office) -> None:
    async with office.client("192.0.2.9") as client:
        greeting = await client.line()
        assert (await client.say("USER postmaster")).startswith("501 start TLS")
        assert (await client.say("AUTH PLAIN")).startswith("501 start TLS")
        digest = hashlib.md5(greeting.rpartition(" ")[2].encode() + b"master").hexdigest()
        assert await client.say(f"APOP postmaster {digest}") == "200 login OK"
    await office.settings.update({"ClearTextLogin": "YES"})
    async with office.client("192.0.2.9") as client:
        await client.line()
        assert await client.log_in() == "200 login OK"


@pytest.mark.feature("PWD-020")
async def test_idle_connections_are_closed(office: Office, autojump_clock: trio.testing.MockClock) -> None:
    async with office.client() as client:
        await client.line()
        start = trio.current_time()
        assert await client.closed()
        assert trio.current_time() - start == 300


@pytest.mark.feature("CLI-001", "PWD-031", "CLI-005")
async def test_commands_need_a_log_in(office: Office) -> None:
    async with office.client() as client:
        await client.line()
        assert (await client.say("ListDomains")).startswith("5")
        await client.log_in()
        names = await client.data("ListDomains")
        assert isinstance(names, list)
        assert set(map(str, names)) == {"client1.test", "office.test"}
        assert await client.data("MainDomainName") == "office.test"
        assert (await client.say("NoSuchThing x")).startswith("500 ")


async def test_inline_answers(office: Office) -> None:
    async with office.logged_in() as client:
        assert await client.say("INLINE") == "200 OK"
        assert await client.say("MainDomainName") == '201 "office.test"'


@pytest.mark.feature("CLI-002")
async def test_rights_count_from_the_next_command_on(office: Office) -> None:
    async with office.logged_in() as master, office.logged_in("admin@client1.test", "admin") as admin:
        assert await admin.say("CreateAccount x") == "200 OK"
        assert office.domains.find_account("x@client1.test") is not None
        assert await master.say("SetAccountRights admin@client1.test (Domain)") == "200 OK"
        assert (await admin.say("CreateAccount y")).startswith("520 ")


@pytest.mark.feature("CLI-012")
async def test_a_user_and_his_own_account(office: Office) -> None:
    async with office.logged_in("jim", "secret") as client:
        assert isinstance(await client.data("GetAccountSettings *"), dict)
        assert (await client.say("GetAccountSettings postmaster")).startswith("520 ")
        assert (await client.say("CreateAccount x")).startswith("520 ")


@pytest.mark.feature("PWD-021", "CLI-021")
async def test_administrators_may_send_long_lines(office: Office) -> None:
    seen: list[int] = []

    @office.operations.declare("SetBigThing text", right=None)
    async def set_big_thing(caller: Caller, text: str) -> None:
        seen.append(len(text))

    async with office.logged_in() as client:
        assert await client.say(f'SetBigThing "{"x" * 500_000}"') == "200 OK"
        assert seen == [500_000]
        assert (await client.say(f'SetBigThing "{"x" * 2_000_000}"')).startswith("515 ")
        assert await client.data("MainDomainName") == "office.test"
    async with office.logged_in("jim", "secret") as client:
        assert (await client.say(f'SetBigThing "{"x" * 500_000}"')).startswith("515 ")
        assert await client.data("MainDomainName") == "office.test"
    assert seen == [500_000]


@pytest.mark.feature("PWD-022", "PWD-023", "PWD-030")
async def test_a_new_password_is_valid_at_once(office: Office) -> None:
    office.door.pause = 0  # hashing is done in a thread, where no mocked clock runs
    async with office.logged_in("jim", "secret") as client:
        assert await client.say("NEWPASS a new one ") == "200 password changed"
    async with office.client() as client:
        await client.line()
        assert (await client.log_in("jim", "secret")).startswith("500 ")
        assert await client.log_in("jim", "a new one ") == "200 login OK"
    account = office.domains.find_account("jim@office.test")
    assert account is not None
    assert account.settings[d.PASSWORD].reveal().startswith("\x02{SCRAM-SHA-256}")
    changed = [text for level, _, text in office.log.records if "has changed the password" in text and level == 2]
    assert len(changed) == 1
    assert "a new one" not in office.log.text()


@pytest.mark.feature("MIGR-033")
async def test_a_change_stores_in_the_encryption_of_the_account(office: Office) -> None:
    jim = await office.domains.require_account("jim@office.test")
    old = passwords.import_one_way("{SHA}" + base64.b64encode(hashlib.sha1(b"old").digest()).decode())
    await office.domains.update_account(jim, {"Password": old, "PasswordEncryption": "A-crpt"})
    async with office.logged_in("jim", "old") as client:
        assert await client.say("NEWPASS fresh") == "200 password changed"
    async with office.client() as client:
        stamp = (await client.line()).rpartition(" ")[2]
        digest = hashlib.md5(stamp.encode() + b"fresh").hexdigest()
        assert await client.say(f"APOP jim {digest}") == "200 login OK"
    assert not jim.settings[d.PASSWORD].reveal().startswith("\x02")


@pytest.mark.feature("PWD-027", "SEC-041")
async def test_a_change_may_be_forbidden(office: Office) -> None:
    jim = await office.domains.require_account("jim@office.test")
    await office.domains.update_account(jim, {"PWDAllowed": "NO"})
    async with office.logged_in("jim", "secret") as client:
        assert (await client.say("NEWPASS fresh")).startswith("501 ")
        assert (await client.say("NEWPASS ")).startswith("501 ")
    async with office.logged_in("jim", "secret"):
        pass


@pytest.mark.parametrize("password", ["", "default", "x" * 2000, "tab\there"])
async def test_what_cannot_be_a_password(office: Office, password: str) -> None:
    async with office.logged_in("jim", "secret") as client:
        assert (await client.say(f"NEWPASS {password}")).startswith("501 ")
    async with office.logged_in("jim", "secret"):
        pass


async def test_passwords_stay_out_of_the_log(office: Office) -> None:
    async with office.logged_in() as client:
        assert await client.say("SetAccountPassword jim To Geheimnis") == "200 OK"
        await client.say("SetAccountPassword nobody To Geheimnis")
    assert "SetAccountPassword" in office.log.text()
    assert "Geheimnis" not in office.log.text()
    assert "master" not in office.log.text().replace("postmaster", "")


async def test_stls(office: Office) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mail.office.test").configure_cert(server)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with office.client("192.0.2.9", certificate=lambda: server) as client:
        await client.line()
        assert (await client.say("STLS")).startswith("200 ")
        await client.channel.start_tls(context, server_side=False, hostname="mail.office.test")
        assert await client.log_in() == "200 login OK"
    async with office.client() as client:
        await client.line()
        assert (await client.say("STLS")).startswith("501 ")


async def test_sessions_are_in_the_table_and_are_told_good_bye(office: Office) -> None:
    async with office.logged_in("jim", "secret") as client:
        (session,) = office.sessions
        assert (session.label, session.account) == ("PWD-1", "jim@office.test")
        await trio.testing.wait_all_tasks_blocked()
        session.kick("the server is shutting down")
        assert await client.line() == "501 the session is closed: the server is shutting down"
        assert await client.closed()
