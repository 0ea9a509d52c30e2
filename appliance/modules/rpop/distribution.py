"""Whom a collected message is for: the envelope that it has lost, made again from its header (manual, chapter 31, Special
Headers and Mail Distribution).

    individual record          the account, whatever the header says; no reports
    with the Special Header    all addresses of that field; failures are reported to the Return-Path
    without it                 those of To, Cc and Bcc that lead to an account here; no reports
    nobody found               the postmaster of the main domain; no reports

Nothing here gives anybody a right: an address that leads out of this server, or to a program, without the router's can-relay
mark is passed over, for whoever wrote the message may have written that field.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from appliance.formats.addresses import AddressError, join_address, parse_address
from appliance.formats.headers import fields, remove_fields
from appliance.formats.mailboxes import parse_mailboxes
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller
from appliance.kernel.tasks import pace
from appliance.modules.rpop.records import Remote
from appliance.objects.domain import Account
from appliance.router.route import Purpose, Refused, Route
from appliance.transfer.message import Envelope

__all__ = ["Addressing", "Distribution", "Later"]

MAX_ADDRESSES: Final = 1000
"""Addresses of one message that are looked at."""
_INSIDE: Final = frozenset({"LOCAL", "LIST", "SYSTEM"})
"""Modules whose addresses need no right."""
NEVER: Final = "N"
ON_FAILURE: Final = "F"
_RETURN_PATH: Final = b"return-path"
_NAMED: Final = (b"to", b"cc", b"bcc")


class Later(Exception):
    """The router cannot tell now; the text says why."""


class Routing(Protocol):
    """The router."""

    async def route(self, address: str, purpose: Purpose, caller: Caller | None = None) -> Route: ...


@dataclass(frozen=True, slots=True)
class Addressing:
    """The envelope, and the header without the fields that belong to it."""

    sender: str
    recipients: tuple[Envelope, ...]
    header: bytes


class Distribution:
    """`find(full name)` gives the account that a route leads to; `main()` is the main domain's name."""

    def __init__(self, router: Routing, find: Callable[[str], Account | None], main: Callable[[], str]) -> None:
        self._router = router
        self._find = find
        self._main = main

    async def address(self, header: bytes, remote: Remote, account: Account | None, log: Logger) -> Addressing:
        """The envelope of a message by its header (store form). Raises Later."""
        special = remote.special.lower().encode() if account is None else b""
        sender, marked, named = "", [], []
        known_sender = False
        for field in fields(header):
            name = field.name.lower()
            if name == _RETURN_PATH and not known_sender:
                sender, known_sender = _path(field.text), True
            elif special and name == special:
                marked.append(field.value)
            elif name in _NAMED:
                named.append(field.value)
        header = remove_fields(header, {_RETURN_PATH, special} - {b""})
        if account is not None:
            return Addressing(sender, (Envelope(account.full_name, NEVER),), header)
        found: list[Envelope] = []
        if marked:
            async for address in self._distinct(marked, remote, bare=True):
                if await self._may_go(address, log):
                    found.append(Envelope(address, ON_FAILURE))
        else:
            async for address in self._distinct(named, remote, bare=False):
                if await self._is_here(address):
                    found.append(Envelope(address, NEVER))
        if not found:
            log.low("no address of the header leads to an account: the message goes to the postmaster")
            found.append(Envelope(f"postmaster@{self._main()}", NEVER))
        return Addressing(sender, tuple(found), header)

    async def _distinct(self, values: list[bytes], remote: Remote, *, bare: bool) -> AsyncIterator[str]:
        seen: set[str] = set()
        for address in _addresses(values, remote.name_domain or self._main(), bare=bare):
            if len(seen) >= MAX_ADDRESSES:
                return
            if address.lower() not in seen:
                seen.add(address.lower())
                yield address
                await pace()

    async def _may_go(self, address: str, log: Logger) -> bool:
        """Whether an address of the Special Header becomes a recipient: it is one of this server (if only by a name that it
        does not know: its sender is told), or the router lets it out."""
        try:
            route = await self._router.route(address, Purpose.MAIL)
        except Refused as refused:
            if not refused.permanent:
                raise Later(f"{address}: {refused.text}") from None
            return True
        if route.module not in _INSIDE and not route.relay:
            log.problem("%s leads out of this server (%s), the message is not relayed", address, route.module)
            return False
        return True

    async def _is_here(self, address: str) -> bool:
        """Whether an address leads to an account, or to a group of accounts."""
        try:
            route = await self._router.route(address, Purpose.MAIL)
        except Refused as refused:
            if not refused.permanent:
                raise Later(f"{address}: {refused.text}") from None
            return False
        return route.module == "LIST" or (route.module == "LOCAL" and self._find(route.host) is not None)


def _path(value: bytes) -> str:
    """The address in a Return-Path; the null one for what cannot be understood."""
    text = value.decode("utf-8", "surrogateescape").strip()
    if text.startswith("<"):
        text = text[1:].partition(">")[0] if '"' not in text else text[1:].rpartition(">")[0]
    try:
        local, domain = parse_address(text.strip())
    except AddressError:
        return ""
    return join_address(local, domain) if domain else ""


def _addresses(values: list[bytes], domain: str, *, bare: bool) -> Iterator[str]:
    for value in values:
        for mailbox in parse_mailboxes(value):
            if not mailbox.is_address or not mailbox.local:
                continue
            name = (mailbox.domain or b"").decode("utf-8", "surrogateescape")
            if not name and not bare:
                continue
            address = join_address(mailbox.local.decode("utf-8", "surrogateescape"), name or domain)
            try:
                parse_address(address)
            except AddressError:
                continue
            yield address
