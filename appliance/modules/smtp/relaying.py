"""May this client send to that address through us? (Manual, chapters 7 and 29, Relaying; BCP 30.)

The order of the questions: does it leave the world of SMTP here, is the sender known, did the router mark the address, is
the next host a client of ours, do we stand in its MX records. Nothing else is relayed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from appliance.formats.addresses import literal_address
from appliance.kernel.channel import Channel
from appliance.kernel.settings import Settings
from appliance.modules.smtp.routing import MODULE, WAKEUP_QUEUE, parse_queue
from appliance.modules.smtp.settings import RELAY_BACKUP, RELAY_FROM, RELAY_TO_CLIENTS, WAKEUP_FROM, applies
from appliance.router.route import Route


class Relaying:
    """`is_client` tells whether an address is a client's; `addresses` gives those of a host name, `exchangers` the names in
    the MX records of a domain (both empty on any trouble); `own_name` is the main domain's."""

    def __init__(
        self,
        settings: Settings,
        *,
        is_client: Callable[[str], bool],
        addresses: Callable[[str], Awaitable[list[str]]],
        exchangers: Callable[[str], Awaitable[list[str]]],
        own_name: Callable[[], str],
    ) -> None:
        self.settings = settings
        self._is_client = is_client
        self._addresses = addresses
        self._exchangers = exchangers
        self._own_name = own_name

    async def allowed(self, route: Route, channel: Channel, *, trusted: bool, simple: bool) -> bool:
        """Whether the routed recipient is accepted. `trusted`: authenticated, with the right to relay; `simple`: the
        address as it was received had no routes and no quotes in it."""
        if route.module != MODULE or trusted or channel.member:
            return True
        if route.host.startswith(WAKEUP_QUEUE):
            return applies(self.settings[WAKEUP_FROM], channel)
        if applies(self.settings[RELAY_FROM], channel) or route.relay:
            return True
        if await self._to_client(route, simple):
            return True
        return self.settings[RELAY_BACKUP] and await self._backed_up(route)

    async def _to_client(self, route: Route, simple: bool) -> bool:
        mode = self.settings[RELAY_TO_CLIENTS]
        if mode == "no" or (mode == "simple" and not simple):
            return False
        literal = literal_address(route.detail)
        if literal is not None:
            return self._is_client(str(literal))
        try:
            target = parse_queue(route.detail)
        except ValueError:
            return False
        found = [target.address] if target.address else await self._addresses(target.name)
        # Every address must be a client's: a name with one foreign address would be a way out.
        return bool(found) and all(map(self._is_client, found))

    async def _backed_up(self, route: Route) -> bool:
        if route.detail.startswith("[") or ":" in route.detail:
            return False
        own = self._own_name().lower()
        return any(name.rstrip(".").lower() == own for name in await self._exchangers(route.detail))
