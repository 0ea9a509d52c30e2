"""Under which addresses and certificates the domains are present (manual, chapters 8 and 18).

Answers are given at once, from lists. `refresh` makes the lists anew (start, the Refresh button, changed settings); what it
takes from the DNS is asked for by `run`, so that neither a start nor a page waits for a name server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from appliance.formats.iplists import parse_address
from appliance.kernel.log import Logger
from appliance.kernel.settings import Storage
from appliance.kernel.tasks import TaskStatus
from appliance.kernel.tls import Credentials
from appliance.objects import declarations as d
from appliance.objects.domains import Domains

Lookup = Callable[[str, bool], Awaitable[list[str]]]
"""(domain name, by its MX records) -> addresses."""


_ALL = "All Available"
_AGAIN: Final = 3600.0
"""Seconds until addresses from the DNS are asked for again."""


class Presence:
    """`storage(path, mode)` makes the storage of a dictionary file; `lookup` asks the DNS for domains that want it."""

    def __init__(self, domains: Domains, storage: Callable[[str, int], Storage], log: Logger) -> None:
        self.domains = domains
        self.lookup: Lookup | None = None
        self._storage = storage
        self._log = log
        self._local: frozenset[str] = frozenset()
        self._by_address: dict[str, str] = {}
        self._credentials: dict[str, Credentials] = {}
        self._from_dns: dict[str, list[str]] = {}
        self._wake = trio.Event()

    def domain_of_address(self, local: str) -> str | None:
        """The domain that a local address is assigned to; the main domain has all that no other claims, unless its own are
        listed. None: nobody's."""
        found = self._by_address.get(local)
        main = self.domains.main
        return main.name if found is None and main.settings.explicit(d.IP_MODE) in (None, _ALL) else found

    def assigned(self, address: str) -> str | None:
        """The domain that an address literal in an E-mail address means, or None if it is no address of ours."""
        if address in self._by_address:
            return self._by_address[address]
        return self.domains.main.name if address in self._local else None

    def sending_address(self, name: str, received: str) -> str:
        """The local address that mail of a domain goes out from, empty for any (manual, chapter 18, Use IP Address);
        `received` is the one on which the message came in."""
        domain = self.domains.get(name)
        mode = domain.settings[d.SENDING_ADDRESS] if domain is not None else "any"
        if domain is None or mode == "any":
            return ""
        mine = [address for address, owner in self._by_address.items() if owner == domain.name]
        if mode == "same":
            return received if received in mine else ""
        return mine[0] if mine else ""

    def domain_of_name(self, name: str) -> str | None:
        """The domain of a name that a client asks for (TLS server name): the domain itself, an alias, or a name in it."""
        found = self.domains.domain_name(name)
        if found is None and "." in name:
            found = self.domains.domain_name(name.partition(".")[2])
        return found

    def certificate_mode(self, domain: str) -> str:
        found = self.domains.get(domain)
        return found.settings[d.CERTIFICATE] if found is not None else "No"

    def credentials(self, domain: str) -> Credentials | None:
        return self._credentials.get(domain)

    def custom_domains(self) -> list[str]:
        return [domain.name for domain in self.domains if domain.settings[d.CERTIFICATE] == "Custom"]

    @property
    def local(self) -> frozenset[str]:
        """The addresses of this computer, as of the last refresh."""
        return self._local

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Asks the DNS for the domains that want it: after each refresh, and now and then."""
        task_status.started()
        while True:
            self._wake = trio.Event()
            if await self._ask():
                self._assign()
            by_dns = any(_by_dns(domain.settings[d.IP_MODE]) for domain in self.domains)
            with trio.move_on_after(_AGAIN if by_dns else float("inf")):
                await self._wake.wait()

    async def refresh(self, local_addresses: list[str]) -> None:
        """Recompute everything that needs no DNS, and let `run` ask for the rest."""
        self._local = frozenset(local_addresses)
        credentials: dict[str, Credentials] = {}
        for domain in self.domains:
            if domain.settings[d.CERTIFICATE] == "Custom":
                values = await self._storage(domain.path("Certificate.settings"), 0o600).load()
                key, certificate = values.get("PrivateKey"), values.get("Certificate")
                if isinstance(key, str) and isinstance(certificate, str):
                    credentials[domain.name] = Credentials(key, certificate, str(values.get("Chain", "")))
        self._credentials = credentials
        self._assign()
        self._wake.set()

    async def _ask(self) -> bool:
        """Whether the DNS gave anything new. Trouble with a domain's names leaves it without addresses, and a record."""
        found: dict[str, list[str]] = {}
        for domain in self.domains:
            mode = domain.settings[d.IP_MODE]
            if _by_dns(mode) and self.lookup is not None:
                try:
                    addresses = await self.lookup(domain.name, "MX" in mode)
                except Exception as error:
                    self._log.problem("addresses of %s are unknown: %s", domain.name, error)
                else:
                    found[domain.name] = [address for address in addresses if address in self._local]
        changed = found != self._from_dns
        self._from_dns = found
        return changed

    def _assign(self) -> None:
        by_address: dict[str, str] = {}
        for domain in self.domains:
            mode = domain.settings[d.IP_MODE]
            addresses: list[str] = []
            if mode == "Manually Defined":
                addresses = [_plain(address) for address in domain.settings[d.IP_ADDRESSES]]
            elif _by_dns(mode):
                addresses = self._from_dns.get(domain.name, [])
            for address in addresses:
                if address and by_address.setdefault(address, domain.name) != domain.name:
                    self._log.problem(
                        "address %s of %s is assigned to %s already", address, domain.name, by_address[address]
                    )
        self._by_address = by_address


def _by_dns(mode: str) -> bool:
    return mode.startswith("by DNS")


def _plain(text: str) -> str:
    try:
        return str(parse_address(text.strip().strip("[]")))
    except ValueError:
        return ""
