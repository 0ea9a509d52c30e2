"""Is a return-path one that mail can be sent to, and a HELO name one that is known? (Manual, chapter 7, Return-Path Address
Verification; chapter 29.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from appliance.formats.addresses import literal_address
from appliance.kernel.channel import Channel
from appliance.modules.smtp.names import MAX_EXCHANGERS, Names, Unresolved
from appliance.modules.smtp.routing import MODULE
from appliance.protocols.smtp import Reply
from appliance.router.route import Route

#: Names of local networks, which no server of DNS knows (RFC 6762, 3 and appendix G; RFC 8375).
_LOCAL_NAMES: Final = (
    *(".local", ".localhost", ".localdomain", ".internal", ".home.arpa"),
    *(".lan", ".home", ".corp", ".intranet", ".private"),
)


class PathVerifier:
    """`listed` tells whether an address is on our black list."""

    def __init__(self, names: Names, *, is_client: Callable[[str], bool], listed: Callable[[str], bool]) -> None:
        self._names = names
        self._is_client = is_client
        self._listed = listed

    async def objection(self, route: Route, channel: Channel) -> Reply | None:
        """Why mail from that (routed) sender is not taken from a peer that is to be verified; None if there is no reason.

        What the router keeps here needs no DNS; neither does what a table record sent to a host.
        """
        if route.module != MODULE or channel.member:
            return None
        literal = literal_address(route.detail.partition(":")[0] if "]" not in route.detail else route.detail)
        if literal is not None:
            if self._is_client(str(literal)):
                return None
            return Reply(550, "return-path with an IP address is not accepted", "5.1.8")
        if ":" in route.detail or route.detail.startswith("["):
            return None
        try:
            return await self._check(route.detail)
        except Unresolved as error:
            if error.temporary:
                return Reply(451, f"the domain of the return-path cannot be checked now: {error}", "4.4.3")
            return Reply(550, f"the domain of the return-path is not accepted: {error}", "5.1.8")

    async def hello_objection(self, name: str, channel: Channel) -> Reply | None:
        """Why the name in HELO is not accepted from a peer that is to be verified.

        A name without a dot is no name of DNS, nor is one of a local network (RFC 6762); a literal has to be the peer's own.
        """
        bare = name.rstrip(".").lower()
        literal = literal_address(bare)
        if literal is not None:
            return None if str(literal) == channel.peer.address else Reply(550, "HELO with a foreign address", "5.7.1")
        if "." not in bare or bare.endswith(_LOCAL_NAMES):
            return None
        try:
            await self._names.addresses(bare)
        except Unresolved as error:
            if error.temporary:
                return Reply(451, f"the HELO name cannot be checked now: {error}", "4.4.3")
            try:
                if any(exchanger.name.lower() != bare for exchanger in await self._names.exchangers(bare)):
                    return None
            except Unresolved:
                pass
            return Reply(550, f"the HELO name is not accepted: {error}", "5.7.1")
        return None

    async def _check(self, domain: str) -> Reply | None:
        exchangers = await self._names.exchangers(domain)
        trouble: Unresolved | None = None
        for exchanger in exchangers[:MAX_EXCHANGERS]:
            try:
                addresses = await self._names.addresses(exchanger.name)
            except Unresolved as error:
                trouble = error if trouble is None or error.temporary else trouble
                continue
            if any(map(self._listed, addresses)):
                return Reply(550, "the host of the return-path is blacklisted", "5.7.1")
            return None
        raise trouble or Unresolved("no host takes its mail", temporary=False)
