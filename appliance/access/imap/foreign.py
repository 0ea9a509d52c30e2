"""Mailboxes of other accounts: `~boss/INBOX`, `~boss@client.com/INBOX` (manual, Mailbox Sharing).

They are opened for those who may do everything in them: the owner himself under any of his names, server administrators, and
domain administrators with the right CanAccessMailboxes. An account that does not exist and one that may not be entered look
alike.
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
    """What `Surroundings.foreign` asks for. `route` is the Router: the name after `~` may be an alias or a table record."""

    def __init__(self, accounts: Accounts, domains: Domains, route: RouteFunction) -> None:
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
        caller = Caller(session.name, own, "IMAP", self._domains)
        if account.full_name != session.name and not caller.has(Right.ACCESS_MAILBOXES, account.domain.name):
            raise missing
        await account.ready()
        return await self._accounts.open(account)
