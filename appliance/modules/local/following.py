"""What waits for an account follows it: to its new name when it is renamed, to the router when it is removed.

A message was accepted for the account, not for its name, so it is routed again by an address of the account as it is called
now, past the Routing Table. That address stays with the recipient over restarts; reports name the one that the sender used.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from appliance.formats.addresses import quote_local
from appliance.kernel.journal import JournalError, Ticket
from appliance.kernel.tasks import pace
from appliance.modules.local.routing import MODULE
from appliance.objects.lifecycle import Change
from appliance.transfer.message import QueuedMessage, Recipient
from appliance.transfer.queues import ModuleQueue, Queues

__all__ = ["Following"]

_MODULES: Final = (MODULE, "LIST")
"""Whose queues have names of our domains as their hosts."""


class Following:
    """Takes part in renaming and removing accounts and domains (`objects.lifecycle.Participant`)."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._before: dict[int, str] = {}
        self._targets: dict[int, list[tuple[QueuedMessage, Recipient, str]]] = {}

    async def check(self, change: Change) -> None:
        """Never refuses."""
        del change

    async def do(self, change: Change) -> None:
        """Note what the account, or the domain, was called, and where its mail is to go: a crash may come after the names on
        the disk have changed. OSError if that cannot be written."""
        account = change.account
        self._before[id(change)] = change.domain.name if account is None else account.full_name
        if change.kind != "rename":
            return
        queues = self._queues_of(self._before[id(change)], account is not None)
        old: list[tuple[QueuedMessage, Recipient, str]] = []
        ticket: Ticket | None = None
        for queue in queues:
            name, domain, is_main = _new_name(change, queue.host)
            for message in queue.messages:
                waiting = queue.recipients(message)
                for recipient in waiting:
                    old.append((message, recipient, recipient.target))
                    recipient.target = address_of(recipient, name, domain, is_main)
                if waiting:
                    ticket = self._queues.spool.note(message, waiting)
                    await pace()
        self._targets[id(change)] = old
        if ticket is not None:
            self._queues.spool.journal.hurry()
            try:
                await ticket.durable()
            except JournalError as error:
                raise OSError(str(error)) from error

    async def undo(self, change: Change) -> None:
        self._before.pop(id(change), None)
        for message, recipient, target in self._targets.pop(id(change), []):
            recipient.target = target
            self._queues.spool.note(message, [recipient])

    def done(self, change: Change) -> None:
        before = self._before.pop(id(change), "")
        self._targets.pop(id(change), None)
        if change.kind == "create" or not before:
            return
        for queue in self._queues_of(before, change.account is not None):
            if change.kind == "remove":
                self._queues.reroute(queue.module, queue.host)
            else:
                new = _new_name(change, queue.host)
                self._queues.reroute(queue.module, queue.host, partial(_again, new=new))

    def _queues_of(self, before: str, is_account: bool) -> list[ModuleQueue]:
        if is_account:
            queue = self._queues.get(MODULE, before)
            return [] if queue is None else [queue]
        ending = f"@{before}"
        return [queue for name in _MODULES for queue in self._queues.all(name) if queue.host.endswith(ending)]


def _new_name(change: Change, host: str) -> tuple[str, str, bool]:
    """Account, domain, whether that is the main one."""
    if change.account is not None:
        domain = change.new_domain or change.domain
        return change.new_name, domain.name, domain.is_main
    return host.rpartition("@")[0], change.new_name, change.domain.is_main


def _again(recipient: Recipient, new: tuple[str, str, bool]) -> str:
    return address_of(recipient, *new)


def address_of(recipient: Recipient, name: str, domain: str, is_main: bool) -> str:
    """An address that leads where the recipient was routed to, under the account's name of today."""
    route = recipient.route
    if route is not None and route.unified:
        if is_main:
            return f"{quote_local(route.address)}@{name}.local"
        return f"{quote_local(f'{route.address}%{name}')}@{domain}.domain"
    local = f"{route.mailbox}#{name}" if route is not None and route.mailbox else name
    return f"{quote_local(local)}@{domain}.here"
