"""LOCAL's two steps in the router (manual, chapter 30, Routing): its suffixes in the first round, local domains in the final."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from appliance.formats.addresses import quote_local
from appliance.kernel.operations import Caller, Right
from appliance.kernel.settings import Settings
from appliance.modules.local.settings import (
    ACCOUNT_DETAIL,
    ALIAS_NAME,
    ALIAS_TARGET,
    ALL_DOMAIN_ALIASES,
    DIRECT_MAILBOX,
)
from appliance.objects import declarations as d
from appliance.objects.domain import Account, Domain, Group
from appliance.objects.domains import Domains
from appliance.router.parsing import parse
from appliance.router.route import Address, Purpose, Refused, Rewritten, Route

MODULE = "LOCAL"
#: The probe for web hosts (manual, chapter 5).
LOGIN_PAGE = "loginpage"
UNKNOWN = "unknown account"
LATER = "it is not known now whether there is such an account"


class LocalRouting:
    """`first` and `final` are the router's steps. `consult(name)` asks the External Authenticator to make something of an
    unknown name; None: there is no answer for now."""

    def __init__(self, domains: Domains, settings: Settings) -> None:
        self.domains = domains
        self.settings = settings
        self.consult: Callable[[str], Awaitable[bool | None]] | None = None

    async def first(self, address: Address) -> Route | Rewritten | None:
        """`x@account.local`, `x%account@domain.domain` (unified accounts) and `LoginPage@domain`."""
        domain = address.domain.lower()
        if domain.endswith(".local"):
            name = domain[: -len(".local")]
            account = self.domains.main.account(name)
            if account is None:
                raise Refused(UNKNOWN)
            return self._unified(address, account, address.local)
        if domain.endswith(".domain"):
            found = self.domains.get(domain[: -len(".domain")])
            local, percent, name = address.local.rpartition("%")
            account = found.account(name) if found is not None and percent else None
            if account is None:
                raise Refused(UNKNOWN)
            return self._unified(address, account, local)
        if address.local.lower() == LOGIN_PAGE and (found := self.domains.get(domain)) is not None:
            return Route(
                MODULE, f"LoginPage@{found.name}", address.local, address.original, address.simple, address.relay
            )
        return None

    async def final(self, address: Address) -> Route | Rewritten | None:
        """All addresses of local domains: accepted, rerouted, or refused as unknown."""
        domain = self.domains.get(address.domain)
        if domain is None:
            return None
        name = address.local.lower()
        for row in self.settings[ALL_DOMAIN_ALIASES]:
            if row[ALIAS_NAME.key] and row[ALIAS_NAME.key].lower() == name and row[ALIAS_TARGET.key]:
                return self._reroute(row[ALIAS_TARGET.key])
        if name in ("all", "alldomains") and (every := self._mail_to_all(address, domain, name)) is not None:
            return every
        mailbox, sharp, owner = address.local.rpartition("#")
        if sharp and mailbox and self.settings[DIRECT_MAILBOX] and (account := domain.account(owner)) is not None:
            return self._account(address, account, mailbox=mailbox)
        found = self._object(address, domain) or self._detail(address, domain)
        if found is None and await self._made(address, domain) and domain.find(address.local) is not None:
            return Rewritten(address.local, address.domain)  # another round: it may be a forwarder
        return found or self._unknown(address, domain)

    def _object(self, address: Address, domain: Domain) -> Route | None:
        """The account or group of this name."""
        found = domain.find(address.local)
        if isinstance(found, Account):
            return self._account(address, found)
        if isinstance(found, Group):
            if address.purpose not in (Purpose.MAIL, Purpose.RETURN_PATH):
                raise Refused(UNKNOWN)
            return Route("LIST", found.full_name, address.local, address.original, address.simple, address.relay)
        return None

    async def _made(self, address: Address, domain: Domain) -> bool:
        """Whether the External Authenticator has made an object of an unknown name (manual, chapter 8)."""
        if self.consult is None or not domain.settings[d.CONSULT] or not address.local:
            return False
        made = await self.consult(f"{address.local}@{domain.name}")
        if made is None:
            raise Refused(LATER, permanent=False, code="4.3.0")
        return made

    def _account(self, address: Address, account: Account, *, mailbox: str = "") -> Route:
        return Route(
            MODULE,
            account.full_name,
            address.local,
            address.original,
            address.simple,
            address.relay,
            mailbox=mailbox,
        )

    def _unified(self, address: Address, account: Account, local: str) -> Route:
        return Route(MODULE, account.full_name, local, address.original, address.simple, address.relay, unified=True)

    def _reroute(self, target: str) -> Rewritten:
        try:
            return Rewritten(*parse(target))
        except ValueError as error:
            raise Refused(f"{error} in a reroute setting", code="5.3.5") from None

    def _detail(self, address: Address, domain: Domain) -> Route | Rewritten | None:
        """`account+detail` (manual, Account Detail)."""
        mode = self.settings[ACCOUNT_DETAIL]
        name, plus, detail = address.local.partition("+")
        if mode == "Disabled" or not plus or not name or domain.find(name) is None:
            return None
        if mode == "Direct Mailbox" and detail and self.settings[DIRECT_MAILBOX]:
            account = domain.account(name)
            return self._account(address, account, mailbox=detail) if account is not None else None
        return Rewritten(name, address.domain)

    def _unknown(self, address: Address, domain: Domain) -> Route | Rewritten:
        policy = domain.settings[d.UNKNOWN_NAMES]
        if address.purpose not in (Purpose.MAIL, Purpose.RETURN_PATH) or policy == "Rejected":
            raise Refused(UNKNOWN)
        if policy == "Discarded":
            return Rewritten("null", "")
        if policy == "Rerouted to":
            target = domain.settings[d.UNKNOWN_REROUTE]
            if not target:
                raise Refused(UNKNOWN)
            return self._reroute(target.replace("*", quote_local(address.local)))
        # Accepted and Bounced: the queue of a name that has no account fails its mail.
        return Route(
            MODULE, f"{address.local}@{domain.name}", address.local, address.original, address.simple, address.relay
        )

    def _mail_to_all(self, address: Address, domain: Domain, name: str) -> Route | None:
        """`all@domain`, and `alldomains` of the main domain, for those who may send to all."""
        if name == "alldomains" and not domain.is_main:
            return None
        allowed = domain.settings[d.MAIL_TO_ALL_FOR]
        if allowed == "nobody":
            return None
        if address.purpose != Purpose.MAIL:
            raise Refused(UNKNOWN)
        if not may_send_to_all(address.caller, allowed, domain.name):
            raise Refused("you may not send to all", code="5.7.1")
        return Route(MODULE, f"{name}@{domain.name}", name, address.original, address.simple, address.relay)


def may_send_to_all(caller: Caller | None, allowed: str, domain: str) -> bool:
    """Whether the setting Mail to all is distributed for lets the caller send to the domain's accounts."""
    if allowed == "anybody" or caller is None:
        # Without a caller the question was answered when the message came in (the queue routes again).
        return True
    if caller.account is None:
        return allowed == "Clients" and caller.client
    if allowed in ("Clients", "Authenticated Users"):
        return True
    if allowed == "Authenticated Domain Users":
        return caller.domain == domain
    return caller.has(Right.DOMAIN, domain)
