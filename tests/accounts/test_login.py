"""Log-ins: names, passwords, proofs, services, suspension, and what a stranger may learn."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from appliance.accounts.login import Login, LoginRefused, Logins, SenderLogins
from appliance.formats.passwords import derive
from appliance.kernel.channel import Channel
from appliance.kernel.clock import TrioClock
from appliance.kernel.log import MemoryLog
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.peers import CLIENT_ONLY, IP_ADDRESSES, Peers
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.strings import Strings
from appliance.objects import declarations as d
from appliance.protocols.sasl import DigestProof, Done, PlainPassword, Proven
from appliance.router.route import Purpose, Refused, Route
from tests.accounts.serving import MESSAGE, Server, Start

WRONG = "Incorrect Account Name or Password"


@dataclass
class Door:
    server: Server
    logins: Logins
    peers: Peers
    security: Settings
    log: MemoryLog

    async def password(self, name: str, password: str, service: str = "POP", **where: str) -> Login:
        return await self.logins.password(name, password, service, channel(**where))

    async def refused(self, name: str, password: str, service: str = "POP", **where: str) -> str:
        with pytest.raises(LoginRefused) as caught:
            await self.password(name, password, service, **where)
        return caught.value.text


def channel(client: str = "127.0.0.1", domain: str = "office.test") -> Channel:
    _, far = channel_pair(client=client)
    far.domain = domain or None
    return far


@asynccontextmanager
async def door(start: Start) -> AsyncIterator[Door]:
    async with start() as server:
        await server.account("alice", Password="secret", PasswordEncryption="clear")

        async def route(address: str, purpose: Purpose) -> Route:
            """Accounts of the domain, a remote name, a list, direct mailboxes, a unified account."""
            assert purpose == Purpose.ACCESS
            local, _, domain = address.rpartition("@")
            if local == "later":
                raise Refused("try later", permanent=False)
            if domain == "far.test":
                return Route("SMTP", "far.test", local, address)
            if local == "news":
                return Route("LIST", "news@office.test", local, address)
            mailbox, _, name = local.rpartition("#")
            if domain == "client.test":
                return Route("LOCAL", "alice@office.test", local, address, unified=True)
            if server.domains.find_account(f"{name}@{domain}") is None:
                raise Refused("unknown user account")
            return Route("LOCAL", f"{name}@{domain}", name, address, mailbox=mailbox)

        clock, log = TrioClock(), MemoryLog()
        addresses = Settings(IP_ADDRESSES, MemoryStorage({"RememberMobile": "YES"}))
        security = Settings(d.LOGIN_SECURITY, MemoryStorage({}))
        await addresses.load()
        await security.load()
        peers = Peers(addresses, clock)
        logins = Logins(server.accounts, server.domains, route, peers, security, Strings(), clock, log.source("LOGIN"))
        yield Door(server, logins, peers, security, log)


@pytest.mark.feature("ACC-002", "ACC-011", "ACC-012", "ACC-014", "ACC-027", "ACC-033")
async def test_names_lead_to_accounts(start: Start, autojump_clock: MockClock) -> None:
    async with door(start) as at:
        for name in ("alice", "alice@office.test", "alice%office.test"):
            login = await at.password(name, "secret")
            assert login.session.name == "alice@office.test"
            await login.session.aclose()
        assert (await at.password("private#alice", "secret")).mailbox == "private"
        unified = await at.password("sales@client.test", "secret")
        assert (unified.session.name, unified.detail) == ("alice@office.test", "sales")
        assert await at.refused("alice", "secret", domain="other.test") == WRONG


@pytest.mark.feature("ACC-017", "ACC-026", "ACC-025")
async def test_names_that_are_no_accounts_here(start: Start, autojump_clock: MockClock) -> None:
    async with door(start) as at:
        assert await at.refused("alice", "x", client="203.0.113.9", domain="") == "unassigned local network address"
        before = trio.current_time()
        with pytest.raises(LoginRefused) as caught:
            await at.password("bob@far.test", "secret")
        assert caught.value.referral == "bob@far.test"
        await at.refused("news", "secret")
        assert trio.current_time() == before
        with pytest.raises(LoginRefused) as caught:
            await at.password("later", "secret")
        assert caught.value.temporary


@pytest.mark.feature("SEC-017", "SEC-090", "SEC-091", "SEC-096", "SEC-039", "ACC-008")
async def test_wrong_passwords_and_unknown_names_look_alike(start: Start, autojump_clock: MockClock) -> None:
    async with door(start) as at:
        before = trio.current_time()
        assert await at.refused("alice", "wrong") == WRONG
        assert trio.current_time() - before >= 2
        assert await at.refused("nobody", "wrong") == WRONG
        assert trio.current_time() - before >= 4
        assert await at.refused("alice", "") == WRONG
        assert "POP log-in of alice from [127.0.0.1] failed" in at.log.text()
        await at.security.update({"HideUnknown": "NO"})
        assert await at.refused("nobody", "wrong") == "Unknown Account"
        assert await at.refused("alice", "wrong") == "Incorrect Password"
        empty = await at.server.account("empty")
        assert empty.settings[d.PASSWORD].reveal() == ""
        await at.refused("empty", "")
        one = await at.logins.keys("nobody", "SCRAM-SHA-256", channel())
        two = await at.logins.keys("nobody", "SCRAM-SHA-256", channel())
        assert one == two
        assert one.iterations == (await at.logins.keys("alice", "SCRAM-SHA-256", channel())).iterations


@pytest.mark.feature("SEC-093", "SEC-094", "SEC-095")
async def test_an_account_is_suspended_after_failures(start: Start, autojump_clock: MockClock) -> None:
    async with door(start) as at:
        await at.security.update({"LoginAttempts": "3", "LoginPeriod": "80000"})
        for _ in range(3):
            await at.refused("alice", "wrong")
        assert await at.refused("alice", "secret") == WRONG
        with pytest.raises(LoginRefused):
            await at.logins.proven(Done("alice", "", Proven("SCRAM-SHA-256")), "IMAP", channel())
        alice = await at.server.account("alice")
        await at.server.deliver(alice, MESSAGE)
        await trio.sleep(80001)
        login = await at.password("alice", "secret")
        assert (await login.session.status("INBOX"))["MESSAGES"] == 1
        for _ in range(2):
            await at.refused("alice", "wrong")
        await at.password("alice", "secret")
        for _ in range(2):
            await at.refused("alice", "wrong")
        await at.password("alice", "secret")


@pytest.mark.feature("ACC-003", "ACC-005", "ACC-006", "SEC-018", "SEC-033")
async def test_services_networks_and_secure_methods(start: Start, autojump_clock: MockClock) -> None:
    async with door(start) as at:
        alice = await at.server.account("alice")
        await alice.settings.update({"AccessModes": ["Mail", "IMAP", "Mobile", "TLS"]})
        assert "not enabled" in await at.refused("alice", "secret", "POP")
        await at.password("alice", "secret", "IMAP")
        await alice.domain.settings.update({"DomainAccessModes": ["Mail", "POP"]})
        assert "not enabled" in await at.refused("alice", "secret", "IMAP")
        await alice.domain.settings.update({"DomainAccessModes": "default"})
        await alice.settings.update({"AccessModes": ["Mail", "IMAP"]})
        assert await at.refused("alice", "secret", "IMAP", client="203.0.113.9") == "access from your network is denied"
        await at.password("alice", "secret", "IMAP")
        await alice.settings.update({"AccessModes": "default", "RequireAPOP": "YES"})
        assert "secure method" in await at.refused("alice", "secret", client="203.0.113.9")
        proof = hmac.new(b"secret", b"<c>", "md5").hexdigest()
        done = Done("alice", "", DigestProof("CRAM-MD5", b"<c>", proof))
        await at.logins.proven(done, "IMAP", channel("203.0.113.9"))
        await at.peers.settings.update({CLIENT_ONLY.key: "YES"})
        assert await at.refused("alice", "secret", client="203.0.113.9") == "access from your network is denied"
        await at.password("alice", "secret")
        await alice.settings.update({"UseAppPassword": "NO", "UseSysPassword": "NO", "UseExtPassword": "NO"})
        assert await at.refused("alice", "secret") == WRONG
        for proven in (done, Done("alice", "", PlainPassword("secret"))):
            with pytest.raises(LoginRefused):
                await at.logins.proven(proven, "IMAP", channel("127.0.0.1"))


@pytest.mark.feature("SEC-002", "SEC-008", "SEC-016", "SEC-036")
async def test_proofs(start: Start, autojump_clock: MockClock) -> None:
    async with door(start) as at:
        good = Done(
            "alice%office.test", "", DigestProof("CRAM-MD5", b"<c>", hmac.new(b"secret", b"<c>", "md5").hexdigest())
        )
        await at.logins.proven(good, "IMAP", channel())
        for bad in (
            Done("alice", "", DigestProof("CRAM-MD5", b"<d>", good.evidence.digest)),  # type: ignore[union-attr]
            Done("nobody", "", DigestProof("APOP", b"<c>", "0" * 32)),
            Done("alice", "bob", PlainPassword("secret")),
            Done("nobody", "", Proven("SCRAM-SHA-1")),
        ):
            with pytest.raises(LoginRefused) as caught:
                await at.logins.proven(bad, "IMAP", channel())
            assert caught.value.text == WRONG
        await at.logins.proven(Done("alice", "alice", PlainPassword("secret")), "IMAP", channel())
        with pytest.raises(LoginRefused):
            await at.logins.refuse("alice", "IMAP", channel())
        keys = await at.logins.keys("alice", "SCRAM-SHA-1", channel())
        assert keys == derive("SCRAM-SHA-1", "secret", keys.salt, keys.iterations)
        alice = await at.server.account("alice")
        await at.server.domains.update_account(alice, {"Password": "other", "PasswordEncryption": "U-crpt"})
        with pytest.raises(LoginRefused):
            await at.logins.proven(good, "IMAP", channel())
        await at.password("alice", "other")
        assert await at.refused("alice", "secret") == WRONG
        assert await at.logins.verify(alice, "other")


@pytest.mark.feature("ACC-010", "ACC-007", "BASE-052")
async def test_what_a_login_leaves_behind(start: Start, autojump_clock: MockClock) -> None:
    async with door(start) as at:
        login = await at.password("alice", "secret", client="203.0.113.9")
        assert at.peers.client("203.0.113.9")
        info = await login.session.info()
        assert info["#LastAddress"] == "[203.0.113.9]"
        assert len(info["#LastLogin"]) == 14
        await login.session.aclose()
        await login.session.aclose()
        assert at.peers.client("203.0.113.9")
        await trio.sleep(601)
        assert not at.peers.client("203.0.113.9")
        sender = await SenderLogins(at.logins, lambda name, relay: (name, relay)).password(
            "alice", "secret", "SMTP", channel()
        )
        assert sender == ("alice@office.test", True)
    async with start() as server:
        session = await server.session()
        assert (await session.info())["#LastAddress"] == "[203.0.113.9]"
