"""The Router: any address to module, queue and address inside (manual, chapter 27). No side effects; 40 turns at most."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from appliance.formats.data import Value
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import Group, LogLevel, Setting, Settings, Text, YesNo
from appliance.objects.domain import Forwarder
from appliance.objects.domains import Domains
from appliance.router.parsing import is_simple, parse, reparse_main
from appliance.router.route import Address, Purpose, Refused, Rewritten, Route, RouterStep
from appliance.router.table import MAX_TABLE, NO_RELAY, RELAY, RELAY_ALL, RoutingTable, TableError

TURNS = 40
POSTMASTER = "postmaster.local"

#: Records of a new installation (manual, Default Records).
DEFAULT_TABLE = "<root> = postmaster\nlocalhost =\nmailhost =\n<blacklist-admin*@blacklisted> = postmaster\n"


class TableText(Text):
    """The table's text, refused with the line that is wrong."""

    def __init__(self) -> None:
        super().__init__(limit=MAX_TABLE, lines=True)

    def parse(self, value: Value) -> str:
        text = super().parse(value)
        RoutingTable(text)
        return text


LOG_LEVEL = Setting("LogLevel", LogLevel(), 2, "Log")
TABLE = Setting("Table", TableText(), DEFAULT_TABLE, "Routing Table", "Routing Table")
ADD_SUFFIX = Setting("AddSuffix", YesNo(), False, "Add to Non-Qualified Domain Names", "Non-qualified names")
SUFFIX = Setting("Suffix", Text(limit=253), "", "Domain name to add", "Non-qualified names")
ROUTER = Group("Router", "Router", (LOG_LEVEL, TABLE, ADD_SUFFIX, SUFFIX))

_SPECIAL = {"error": "Blacklisted Address", "blacklisted": "Blacklisted Address", "spamtrap": "Blacklisted Address"}


class Router:
    """`first` and `final` are the modules' steps of the two rounds; `local_addresses(ip)` gives the domain that an IP address
    of this computer belongs to, or None."""

    def __init__(
        self,
        domains: Domains,
        settings: Settings,
        logger: Logger,
        domain_of_address: Callable[[str], str | None] = lambda address: None,
    ) -> None:
        self.domains = domains
        self.settings = settings
        self.logger = logger
        self.domain_of_address = domain_of_address
        self.generation: Callable[[], int] = lambda: -1
        """A number that is another one as soon as something has changed that routes depend on; -1: nobody knows."""
        self.first: list[RouterStep] = []
        self.final: list[RouterStep] = []
        self._table = RoutingTable(DEFAULT_TABLE)
        self._table_text: str | None = None

    def table(self) -> RoutingTable:
        """The parsed table; parsed anew when its text changed."""
        text = self.settings[TABLE]
        if text is not self._table_text:
            self._table, self._table_text = RoutingTable(text), text
        return self._table

    async def route(self, address: str, purpose: Purpose = Purpose.MAIL, caller: Caller | None = None) -> Route:
        """Where `address` goes. Raises Refused."""
        generation = self.generation()
        try:
            local, domain = parse(address)
        except ValueError as error:
            raise Refused(str(error), code="5.1.3") from None
        relay, simple, table = False, is_simple(local), True
        try:
            for _ in range(TURNS):
                answer = await self._turn(Address(local, domain, address, purpose, simple, relay, caller), table)
                if isinstance(answer, Route):
                    answer.generation = generation
                    return answer
                local, domain = answer.local, answer.domain
                relay, table = relay or answer.relay, answer.table
            raise Refused("routing loop", code="5.4.6")
        except Refused as refusal:
            self.logger.problem("failed to route '%s': %s", address, refusal.text)
            raise
        except ValueError as error:  # an address inside the address is none
            raise Refused(str(error), code="5.1.3") from None

    def current(self, route: Route) -> bool:
        """Whether asking again would give this answer again."""
        return route.generation >= 0 and route.generation == self.generation()

    async def _turn(self, address: Address, table: bool) -> Route | Rewritten:
        local, domain = address.local, address.domain
        if domain.lower() == self.domains.main.name:
            return Rewritten(*reparse_main(local))
        if not domain and (inner := reparse_main(local)) != (local, ""):
            return Rewritten(*inner)
        if domain.lower() == POSTMASTER:
            table = False  # its administrator can always be reached (manual, chapter 60)
        made = self.table().apply(local, domain) if table else None
        if made is not None:
            return self._rewrite(made[0].mode, made[1], address)
        special = self._special(address)
        if special is not None:
            return special
        answer = self._by_address(address)
        if answer is not None:
            return answer
        found = self.domains.get(domain)
        if domain and found is not None and found.name != domain:
            return Rewritten(local, "" if found.is_main else found.name)
        if found is not None and (forwarder := found.find(local)) is not None and isinstance(forwarder, Forwarder):
            return self._rewrite(RELAY, forwarder.address(), address)
        if self.logger.enabled(4):
            return await self._told(address)
        for step in (*self.first, *self.final):
            result = await step(address)
            if result is not None:
                return result
        return self._unqualified(address)

    async def _told(self, address: Address) -> Route | Rewritten:
        """The modules' rounds, with what each says in the log."""
        said = f"{address.local}@{address.domain}" if address.domain else address.local
        for step in (*self.first, *self.final):
            name = type(getattr(step, "__self__", step)).__name__.removesuffix("Routing").upper()
            try:
                result = await step(address)
            except Refused as refusal:
                self.logger.low("%s rejected %s: %s", name, said, refusal.text)
                raise
            if isinstance(result, Route):
                self.logger.low("%s accepted %s: %s(%s)%s", name, said, result.module, result.host, result.address)
                return result
            if result is not None:
                self.logger.low("%s modified %s: %s@%s", name, said, result.local, result.domain)
                return result
            self.logger.low("%s ignored %s", name, said)
        return self._unqualified(address)

    def _rewrite(self, mode: str, text: str, address: Address) -> Rewritten:
        try:
            local, domain = parse(text)
        except ValueError as error:
            raise Refused(f"{error} in a Router record", code="5.3.5") from None
        relay = mode == RELAY_ALL or (mode == RELAY and address.simple)
        if mode == NO_RELAY:
            relay = False
        return Rewritten(local, domain, relay)

    def _special(self, address: Address) -> Route | Rewritten | None:
        local, domain = address.local.lower(), address.domain.lower()
        if not domain and local == "mailer-daemon":
            return Rewritten("null", "")
        name = domain or local
        if name == "null":
            return Route("SYSTEM", "null", address.local, address.original, address.simple, address.relay)
        if name in _SPECIAL and (name != "spamtrap" or not domain):
            raise Refused(_SPECIAL[name], code="5.7.1" if name != "spamtrap" else "5.7.0")
        if domain.endswith(".uucp"):
            raise Refused("there is no UUCP module", code="5.3.5")
        if domain.endswith(".here"):
            found = self.domains.get(domain[: -len(".here")])
            if found is None:
                raise Refused(f"{domain[:-5]} is not a domain of this server", code="5.1.2")
            return Rewritten(address.local, "" if found.is_main else found.name, table=False)
        return None

    def _by_address(self, address: Address) -> Rewritten | None:
        domain = address.domain
        if not domain.startswith("["):
            return None
        literal = domain.strip("[]")
        if literal.lower().startswith("ipv6:"):
            literal = literal[5:]
        try:
            text = str(ipaddress.ip_address(literal))
        except ValueError:
            return None
        owner = self.domain_of_address(text)
        if owner is None:
            return None
        return Rewritten(address.local, "" if owner == self.domains.main.name else owner)

    def _unqualified(self, address: Address) -> Rewritten:
        domain = address.domain
        suffix = self.settings[SUFFIX].strip().strip(".")
        if domain and "." not in domain and not domain.startswith("[") and self.settings[ADD_SUFFIX] and suffix:
            return Rewritten(address.local, f"{domain}.{suffix}")
        raise Refused("unknown domain name" if domain else "unknown account", code="5.1.2" if domain else "5.1.1")

    def declare(self, operations: Operations) -> None:
        """The operations on the table and the test of an address."""

        @operations.declare(
            "Route address [purpose=mail|access]",
            right=None,
            section="Router",
            summary="Where an address goes.",
            result="array of module, host, address",
        )
        async def route(caller: Caller, address: str, purpose: str = "mail") -> Value:
            try:
                found = await self.route(address, Purpose(purpose), caller)
            except Refused as refusal:
                raise OperationError(refusal.text) from None
            return [found.module, found.host, found.address]

        @operations.declare(
            "GetRouterTable", right=Right.SETTINGS, section="Router", summary="The Routing Table.", result="string"
        )
        async def get_router_table(caller: Caller) -> Value:
            del caller
            return self.settings[TABLE]

        @operations.declare(
            "SetRouterTable newTable", right=Right.SETTINGS, section="Router", summary="Replaces the Routing Table."
        )
        async def set_router_table(caller: Caller, new_table: str) -> None:
            del caller
            try:
                await self.settings.update({TABLE.key: new_table})
            except (TableError, ValueError) as error:
                raise OperationError(str(error)) from None


__all__ = ["ROUTER", "Router"]
