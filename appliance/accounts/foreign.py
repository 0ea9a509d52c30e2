"""Mailboxes of other accounts: `~boss/INBOX`, `~boss@client.com/INBOX` (manual, Mailbox Sharing).

The owner himself under any of his names, server administrators, and domain administrators with the right CanAccessMailboxes
may do everything in them; others what the mailboxes' access control lists give them, and a mailbox that gives nothing looks
as one that does not exist.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from appliance.accounts.client import AccountError, AccountSession
from appliance.accounts.gate import Accounts
from appliance.kernel.operations import Caller, Right
from appliance.objects.domains import Domains
from appliance.router.route import Purpose, Refused, Route


class RouteFunction(Protocol):
    def __call__(self, address: str, purpose: Purpose) -> Awaitable[Route]: ...


class ForeignAccounts:
    """Opens them for who is logged in. `route` is the Router: the name after `~` may be an alias or a table record."""

    def __init__(self, accounts: Accounts, domains: Domains, route: RouteFunction, protocol: str = "IMAP") -> None:
        self._protocol = protocol
        self._accounts = accounts
        self._domains = domains
        self._route = route

    async def __call__(self, session: AccountSession, name: str) -> AccountSession:
        """A session of the account `name` (of the user's own domain if it has none). AccountError NONEXISTENT, TEMPORARY."""
        own = session.name.rpartition("@")[2]
        missing = AccountError("NONEXISTENT", "there is no such account, or you have no access to it")
        try:
            route = await self._route(name if "@" in name else f"{name}@{own}", Purpose.MAILBOX)
        except Refused as refused:
            if refused.permanent:
                raise missing from None
            raise AccountError("TEMPORARY", refused.text) from None
        except ValueError:
            raise missing from None
        account = self._domains.find_account(route.host) if route.module == "LOCAL" else None
        if account is None:
            raise missing
        caller = Caller(session.name, own, self._protocol, self._domains)
        everything = account.full_name == session.name or caller.has(Right.ACCESS_MAILBOXES, account.domain.name)
        await account.ready()
        return await self._accounts.open(account, who=None if everything else session.name)
