"""Names in the terms of mail: which hosts take the mail of a domain, which addresses a host has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

MAX_EXCHANGERS: Final = 10
"""Hosts of a domain that are tried; a record set of a stranger may have hundreds."""


class Unresolved(Exception):
    """A name that cannot be resolved: for good, or `temporary` (no answer). `code` is an enhanced status (RFC 3463)."""

    def __init__(self, text: str, *, temporary: bool, code: str = "5.1.2") -> None:
        super().__init__(text)
        self.temporary = temporary
        self.code = code


class Exchanger(NamedTuple):
    """One MX record."""

    preference: int
    name: str


class Names(Protocol):
    """The resolver as the module uses it. Both calls raise Unresolved."""

    async def exchangers(self, domain: str) -> Sequence[Exchanger]:
        """The MX records, best first, those of one preference in random order (RFC 5321, 5.1); the domain itself if it has
        none but an address. A null MX (RFC 7505) raises Unresolved with 5.1.10."""
        ...

    async def addresses(self, name: str) -> Sequence[str]:
        """At least one address."""
        ...
