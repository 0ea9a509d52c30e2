"""The commands of this room, as an administrator and as a user give them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from appliance.accounts import alerting
from appliance.accounts.alerting import Alerts
from appliance.accounts.client import AccountError
from appliance.accounts.login import Logins
from appliance.accounts.operations import declare
from appliance.formats.data import Value
from appliance.kernel.clock import SystemClock
from appliance.kernel.operations import Caller, Denied, OperationError, Operations
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.strings import Strings
from appliance.objects import declarations as d
from appliance.router.route import Purpose, Refused, Route
from tests.accounts.serving import MESSAGE, Server, Start


class Desk:
    def __init__(self, server: Server, operations: Operations, sessions: Sessions) -> None:
        self.server = server
        self.operations = operations
        self.sessions = sessions

    async def do(self, name: str, _by: str | None = "postmaster", **arguments: Value) -> Any:
        account = f"{_by}@office.test" if _by else None
        caller = Caller(account, "office.test", "PWD", self.server.domains)
        return await self.operations.perform(caller, name, cast(dict[str, Any], arguments))


@asynccontextmanager
async def desk(start: Start) -> AsyncIterator[Desk]:
    async with start() as server:
        operations, sessions, clock = Operations(), Sessions(), SystemClock()
        alerts = Alerts(MemoryStorage(), clock)
        server.accounts.alerts = alerts
        addresses, security = Settings(IP_ADDRESSES, MemoryStorage()), Settings(d.LOGIN_SECURITY, MemoryStorage())

        async def route(address: str, purpose: Purpose) -> Route:
            raise Refused("unknown")

        log = server.log.source("LOGIN")
        logins = Logins(
            server.accounts, server.domains, route, Peers(addresses, clock), security, Strings(), clock, log
        )
        declare(server.accounts, server.domains, logins, sessions, operations)
        alerting.declare(alerts, server.accounts, server.domains, operations)
        yield Desk(server, operations, sessions)


@pytest.mark.feature(
    "MBOX-006", "MBOX-047", "CLI-093", "CLI-095", "CLI-102", "CLI-106", "CLI-107", "MBOX-153", "MBOX-045"
)
async def test_mailbox_commands(start: Start) -> None:
    async with desk(start) as at:
        alice = await at.server.account("alice")
        await at.do("CREATEMAILBOX", accountName="alice", mailboxName="Sent")
        await at.do("CREATEMAILBOX", accountName="alice", mailboxName="A/B")
        await at.server.deliver(alice, MESSAGE)
        listed = await at.do("LISTMAILBOXES", accountName="alice")
        assert list(listed) == ["INBOX", "A", "A/B", "Sent"]
        assert listed["A"] == []
        assert listed["INBOX"] == await at.do("GETMAILBOXINFO", accountName="alice", mailboxName="inbox")
        assert listed["INBOX"]["Messages"] == listed["INBOX"]["Unseen"] == "1"
        assert listed["INBOX"]["Oldest"] == "20231114221320"
        assert "Oldest" not in listed["Sent"]
        assert list(await at.do("LISTMAILBOXES", accountName="alice", filter="%")) == ["INBOX", "A", "Sent"]
        await at.do("CREATEMAILBOX", accountName="alice", mailboxName="A")
        assert isinstance((await at.do("lstmbx", accountName="alice"))["A"], list)
        await at.do("RENAMEMAILBOX", accountName="alice", what="MAILBOX", mailboxName="A", newName="C")
        await at.do("RENAMEMAILBOX", accountName="alice", what="MAILBOXES", mailboxName="A", newName="D")
        assert list(await at.do("LISTMAILBOXES", accountName="alice")) == ["INBOX", "C", "D", "D/B", "Sent"]
        await at.do("DELETEMAILBOX", accountName="alice", what="MAILBOXES", mailboxName="D")
        with pytest.raises(OperationError, match="no such mailbox"):
            await at.do("DELETEMAILBOX", accountName="alice", what="MAILBOX", mailboxName="D")
        await at.do("SETACCOUNTSUBSCRIPTION", accountName="alice", newSubscription=["inbox", "~boss/x"])
        assert await at.do("GETACCOUNTSUBSCRIPTION", accountName="alice") == ["INBOX", "~boss/x"]
        session = await at.server.session()
        assert await session.subscriptions() == ["INBOX", "~boss/x"]


@pytest.mark.feature("CLI-012", "CLI-040")
async def test_account_information_and_rights(start: Start) -> None:
    async with desk(start) as at:
        await at.server.account("alice", Password="secret")
        assert await at.do("GetAccountInfo", "alice", accountName="*", keyName="LastLogin") == ""
        assert list(await at.do("LISTMAILBOXES", "alice", accountName="*")) == ["INBOX"]
        for name in ("LISTMAILBOXES", "GETACCOUNTSUBSCRIPTION"):
            with pytest.raises(Denied):
                await at.do(name, "alice", accountName="postmaster")


async def test_all_sessions_of_an_account_are_ended(start: Start) -> None:
    async with desk(start) as at:
        await at.server.account("alice")
        session = await at.server.session()
        seen = at.sessions.open("POP", "127.0.0.1", 0)
        seen.account = "alice@office.test"
        await at.do("KillAccountSessions", accountName="alice")
        assert seen.kicked
        with pytest.raises(AccountError):
            await session.status("INBOX")


@pytest.mark.feature(
    "CLI-110",
    "CLI-111",
    "CLI-112",
    "CLI-113",
    "CLI-114",
    "CLI-115",
    "CLI-116",
    "CLI-117",
    "CLI-122",
    "CLI-123",
    "CLI-124",
)
async def test_alerts_are_shown_once(start: Start) -> None:
    async with desk(start) as at:
        await at.server.account("alice")
        await at.do("PostServerAlert", newAlert="maintenance")
        await at.do("PostDomainAlert", newAlert="new printer", domainName="office.test")
        await at.do("POSTACCOUNTALERT", accountName="alice", newAlert="see the boss")
        session = await at.server.session()
        assert sorted(await session.alerts(confirm=False)) == ["maintenance", "new printer", "see the boss"]
        assert sorted(await session.alerts()) == ["maintenance", "new printer", "see the boss"]
        assert await session.alerts() == []
        assert await at.do("GETACCOUNTALERTS", accountName="alice") == {}
        (key,) = await at.do("GetServerAlerts")
        await at.do("RemoveServerAlert", timeStamp=key)
        assert await at.do("GetServerAlerts") == {}
        (key,) = await at.do("GetDomainAlerts")
        await at.do("SetDomainAlerts", newAlerts={"20300101000000": "later"})
        with pytest.raises(OperationError, match="no alert"):
            await at.do("RemoveDomainAlert", timeStamp=key)
        assert await session.alerts() == ["later"]
        await at.do("SetServerAlerts", newAlerts={"20300101000001": "x"})
        await at.do("SETACCOUNTALERTS", accountName="alice", newAlerts={"20300101000002": "y"})
        assert await session.alerts() == ["x", "y"]
        with pytest.raises(Denied):
            await at.do("PostServerAlert", "alice", newAlert="no")
        with pytest.raises(OperationError):
            await at.do("SetServerAlerts", newAlerts={"soon": "x"})
