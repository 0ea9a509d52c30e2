"""Which hosts a queue's mail goes to, in the order in which they are tried (RFC 5321, 5.1; manual, chapter 29, Sending)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    """The hosts of a queue; `forwarding`: it is the forwarding server; `source` is the local address to be used, if a
    certain one is."""

    hosts: tuple[Host, ...]
    forwarding: bool = False
    source: str = ""


def dedicated_queue(source: str, host: str) -> str:
    """The queue of a host for mail that goes out from one of our addresses: `@12.34.56.78:host`, `@[IPv6]:host`."""
    return f"@[{source}]:{host}" if ":" in source else f"@{source}:{host}"


def split_queue(queue: str) -> tuple[str, str]:
    """The local address of a queue, empty if it has none, and its host."""
    if not queue.startswith("@"):
        return "", queue
    if queue.startswith("@["):
        source, _, host = queue[2:].partition("]:")
    else:
        source, _, host = queue[1:].partition(":")
    return source, host


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
        source, host = split_queue(queue)
        plan = await self._plan(host)
        return replace(plan, source=source) if source else plan

    def called(self, text: str) -> Plan:
        """The hosts of a setting: `host[:port]`, several separated by commas. No MX records. ValueError if one is no host."""
        return Plan(_hosts(text, self.settings[PORT]))

    async def _plan(self, queue: str) -> Plan:
        port = self.settings[PORT]
        forward = self.settings[FORWARD_TO].strip().lower()
        if forward and queue == forward:
            try:
                return Plan(_hosts(forward, port), forwarding=True)
            except ValueError as error:
                # The setting is wrong, not the mail: that waits until somebody has looked.
                raise Unresolved(f"Forward to: {error}", temporary=True, code="4.3.5") from None
        if "," in queue or _literal(queue):
            # What stood in Forward to when the mail was queued: it still knows the way.
            return Plan(_hosts(queue, port))
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


def _hosts(text: str, port: int) -> tuple[Host, ...]:
    hosts: list[Host] = []
    for word in (word.strip() for word in text.split(",")):
        if not word:
            continue
        try:
            address = str(parse_address(word.strip("[]")))
        except ValueError:
            target = parse_queue(word)
            hosts.append(Host(target.name, target.port or port, _literal(target.address or target.name)))
        else:
            hosts.append(Host(word, port, (address,)))
    return tuple(hosts)


def _literal(text: str) -> tuple[str, ...]:
    try:
        return (str(parse_address(text)),)
    except ValueError:
        return ()
