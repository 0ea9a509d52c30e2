"""The resolver in the terms of mail (RFC 5321, 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.kernel.resolver import NoSuchName, NullMx, Resolver, ResolverTrouble
from appliance.modules.smtp.names import Exchanger, Unresolved


class ResolverNames:
    """`Names` over the kernel's resolver."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def exchangers(self, domain: str) -> Sequence[Exchanger]:
        """The MX records, or the domain itself as its only host. Raises Unresolved."""
        try:
            found = await self._resolver.mx(domain)
        except NullMx as error:
            raise Unresolved(str(error), temporary=False, code="5.1.10") from None
        except NoSuchName as error:
            raise Unresolved(str(error), temporary=False) from None
        except ResolverTrouble as error:
            raise Unresolved(str(error), temporary=True, code="4.4.3") from None
        return [Exchanger(one.preference, one.name) for one in found] or [Exchanger(0, domain)]

    async def addresses(self, name: str) -> Sequence[str]:
        """At least one. Raises Unresolved."""
        try:
            return await self._resolver.addresses(name)
        except NoSuchName as error:
            raise Unresolved(str(error), temporary=False) from None
        except ResolverTrouble as error:
            raise Unresolved(str(error), temporary=True, code="4.4.3") from None

    async def known_addresses(self, name: str) -> list[str]:
        """The addresses; none on any trouble."""
        try:
            return list(await self.addresses(name))
        except Unresolved:
            return []

    async def known_exchangers(self, domain: str) -> list[str]:
        """The names in the MX records; none on any trouble."""
        try:
            return [one.name for one in await self.exchangers(domain)]
        except Unresolved:
            return []
