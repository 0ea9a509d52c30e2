"""What waits for an account follows it: to its new name when it is renamed, to the router when it is removed.

A message was accepted for the account, not for its name, so it is routed again by an address of the account as it is called
now, past the Routing Table. That address stays with the recipient over restarts; reports name the one that the sender used.
"""

from __future__ import annotations

from typing import Final

from appliance.formats.addresses import quote_local
from appliance.modules.local.routing import MODULE
from appliance.objects.domain import Domain
from appliance.objects.lifecycle import Change
from appliance.transfer.message import Recipient
from appliance.transfer.queues import Queues

__all__ = ["Following"]

_MODULES: Final = (MODULE, "LIST")
"""Whose queues have names of our domains as their hosts."""


class Following:
    """Takes part in renaming and removing accounts and domains (`objects.lifecycle.Participant`)."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._before: dict[int, str] = {}

    async def check(self, change: Change) -> None:
        """Never refuses."""
        del change

    async def do(self, change: Change) -> None:
        """Note what the account, or the domain, was called."""
        self._before[id(change)] = change.domain.name if change.account is None else change.account.full_name

    async def undo(self, change: Change) -> None:
        self._before.pop(id(change), None)

    def done(self, change: Change) -> None:
        before = self._before.pop(id(change), "")
        if change.kind == "create" or not before:
            return
        account = change.account
        if account is not None:
            name, domain = account.name, account.domain
            self._follow(MODULE, before, None if change.kind == "remove" else (name, domain))
            return
        ending = f"@{before}"
        for module in _MODULES:
            for queue in self._queues.all(module):
                if queue.host.endswith(ending):
                    local = queue.host[: -len(ending)]
                    self._follow(module, queue.host, None if change.kind == "remove" else (local, change.domain))

    def _follow(self, module: str, host: str, now: tuple[str, Domain] | None) -> None:
        if now is None:
            self._queues.reroute(module, host)
        else:
            self._queues.reroute(module, host, lambda recipient: address_of(recipient, *now))


def address_of(recipient: Recipient, name: str, domain: Domain) -> str:
    """An address that leads where the recipient was routed to, under the account's name of today."""
    route = recipient.route
    if route is not None and route.unified:
        if domain.is_main:
            return f"{quote_local(route.address)}@{name}.local"
        return f"{quote_local(f'{route.address}%{name}')}@{domain.name}.domain"
    local = f"{route.mailbox}#{name}" if route is not None and route.mailbox else name
    return f"{quote_local(local)}@{domain.name}.here"
