"""Which hosts a queue's mail goes to, in the order in which they are tried (RFC 5321, 5.1; manual, chapter 29, Sending)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.formats.iplists import parse_address
from appliance.kernel.settings import Settings
from appliance.modules.smtp.names import MAX_EXCHANGERS, Exchanger, Names, Unresolved
from appliance.modules.smtp.routing import parse_queue
from appliance.modules.smtp.settings import FORWARD_TO, PORT

LOOP: Final = "5.4.6"
"""The enhanced status of a routing loop (RFC 3463)."""
_LOOP: Final = "DNS loop: the mail would come back to this server"


@dataclass(frozen=True, slots=True)
class Host:
    """`addresses` is empty until the name was resolved."""

    name: str
    port: int
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The hosts of a queue; `forwarding`: it is the forwarding server."""

    hosts: tuple[Host, ...]
    forwarding: bool = False


class HostFinder:
    """`is_own(address, port)` tells whether our own listener takes what is sent there; `own_names()` are our host names."""

    def __init__(
        self,
        settings: Settings,
        names: Names,
        *,
        is_own: Callable[[str, int], bool],
        own_names: Callable[[], Sequence[str]],
    ) -> None:
        self.settings = settings
        self._names = names
        self._is_own = is_own
        self._own_names = own_names

    async def plan(self, queue: str) -> Plan:
        """The hosts for a queue's name. Raises Unresolved."""
        port = self.settings[PORT]
        forward = self.settings[FORWARD_TO].strip().lower()
        if forward and queue == forward:
            return Plan(_forwarders(forward, port), forwarding=True)
        try:
            target = parse_queue(queue)
        except ValueError as error:
            raise Unresolved(str(error), temporary=False, code="5.1.2") from None
        if target.address:
            return Plan((Host(target.name, target.port or port, (target.address,)),))
        if target.direct:
            return Plan((Host(target.name, target.port or port),))
        exchangers = self._before_us(await self._names.exchangers(target.name))
        return Plan(tuple(Host(one.name.rstrip("."), port) for one in exchangers[:MAX_EXCHANGERS]))

    def _before_us(self, exchangers: Sequence[Exchanger]) -> Sequence[Exchanger]:
        """Without us and those that are no better than us, or mail would go round in circles (RFC 5321, 5.1)."""
        own = {name.lower().rstrip(".") for name in self._own_names()}
        ours = [one.preference for one in exchangers if one.name.lower().rstrip(".") in own]
        if not ours:
            return exchangers
        better = [one for one in exchangers if one.preference < min(ours)]
        if not better:
            raise Unresolved(_LOOP, temporary=False, code=LOOP)
        return better

    async def resolve(self, host: Host) -> Host:
        """The host with its addresses. Raises Unresolved, also if it is this server itself."""
        addresses = host.addresses or tuple(await self._names.addresses(host.name.partition(":")[0]))
        if any(self._is_own(address, host.port) for address in addresses):
            raise Unresolved(_LOOP, temporary=False, code=LOOP)
        return Host(host.name, host.port, addresses)


def _forwarders(text: str, port: int) -> tuple[Host, ...]:
    hosts: list[Host] = []
    for word in (word.strip() for word in text.split(",")):
        if not word:
            continue
        try:
            address = str(parse_address(word.strip("[]")))
        except ValueError:
            target = parse_queue(word)
            hosts.append(Host(target.name, target.port or port, (target.address,) if target.address else ()))
        else:
            hosts.append(Host(word, port, (address,)))
    return tuple(hosts)
