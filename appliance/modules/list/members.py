"""Who gets a group's mail: members expanded, and without those that are to be left out (manual, chapter 21).

Addresses are compared by what they stand for here: a name of the domain, an alias, a domain alias and a forwarder are the
account or address that they lead to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from appliance.formats.addresses import join_address, quote_local, split_address
from appliance.formats.mailboxes import parse_mailboxes
from appliance.kernel.tasks import Pace
from appliance.objects import declarations as d
from appliance.objects.domain import Domain, Forwarder, Group
from appliance.objects.domains import Domains

__all__ = ["MAX_MEMBERS", "TooManyMembers", "addresses_of", "expand", "identity", "is_empty", "without"]

MAX_MEMBERS: Final = 100_000
_TURNS: Final = 10


class TooManyMembers(ValueError):
    """An expanded group has more members than a message may have recipients."""


def identity(domains: Domains, address: str) -> str:
    """What an address is compared by."""
    for _ in range(_TURNS):
        local, name = split_address(address)
        domain = domains.get(name)
        if domain is None:
            return join_address(local, name).lower()
        found = domain.find(local)
        if isinstance(found, Forwarder):
            address = found.address()
            continue
        return f"{local.lower()}@{domain.name}" if found is None else f"{found.name}@{domain.name}"
    return address.lower()


async def expand(domains: Domains, group: Group) -> list[str]:
    """The addresses of the members, full ones, each once. Groups of the same domain are replaced by their members if the
    group that names them says so. TooManyMembers."""
    result: dict[str, str] = {}
    seen = {group.name}
    waiting: list[tuple[Group, Iterator[str]]] = [(group, _members(group))]
    pace = Pace()
    while waiting:
        await pace.step()
        owner, members = waiting[-1]
        member = next(members, None)
        if member is None:
            waiting.pop()
            continue
        local, name = split_address(member)
        domain = owner.domain if not name else domains.get(name)
        if domain is owner.domain and owner.settings[d.GROUP_EXPAND]:
            inner = domain.find(local)
            if isinstance(inner, Group):
                if inner.name not in seen:
                    seen.add(inner.name)
                    waiting.append((inner, _members(inner)))
                continue
        full = join_address(local, name) if name else _in_domain(local, owner.domain)
        result.setdefault(identity(domains, full), full)
        if len(result) > MAX_MEMBERS:
            raise TooManyMembers("the group has too many members")
    return list(result.values())


def _in_domain(local: str, domain: Domain) -> str:
    """A name without a domain; one with `%` has its route in it."""
    return local if "%" in local else f"{quote_local(local)}@{domain.name}"


def _members(group: Group) -> Iterator[str]:
    """The members as they are written; one field may hold several addresses."""
    for member in group.settings[d.GROUP_MEMBERS]:
        text = member.strip()
        if any(sign in text for sign in ",; <"):
            yield from addresses_of([text.replace(";", ",").encode("utf-8", "surrogateescape")])
        elif text:
            yield text


def addresses_of(values: Iterable[bytes]) -> list[str]:
    """The addresses in the raw values of header fields; a name without a domain as it is."""
    found: list[str] = []
    for value in values:
        for mailbox in parse_mailboxes(value):
            if mailbox.is_address and mailbox.local:
                local = mailbox.local.decode("utf-8", "surrogateescape")
                domain = (mailbox.domain or b"").decode("utf-8", "surrogateescape")
                found.append(join_address(local, domain))
    return found


async def without(domains: Domains, members: Iterable[str], removed: Iterable[str]) -> list[str]:
    """The members that are none of the removed addresses."""
    pace = Pace()
    gone: set[str] = set()
    for address in removed:
        await pace.step()
        if address:
            gone.add(identity(domains, address))
    left: list[str] = []
    for member in members:
        await pace.step()
        if identity(domains, member) not in gone:
            left.append(member)
    return left


def is_empty(group: Group) -> bool:
    """Whether the group names nobody."""
    return next(_members(group), None) is None
