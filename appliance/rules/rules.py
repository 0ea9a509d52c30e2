"""The rules of a server: its own set, those of its domains and of its accounts, each compiled once and applied by one engine.

`enqueuer.rules` is `server_rules` as long as there are any; `LocalModule.rules` is this object. The rules of a domain run for each
of its accounts, as the account's own, before the account's rules of the same priority.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from appliance.formats.data import Value
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.settings import Storage
from appliance.kernel.strings import Strings
from appliance.objects import declarations as d
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.router.route import Refused, Route
from appliance.rules.compiling import RuleSet, check_set, compile_set, merge
from appliance.rules.doing import Doing, Workshop, header_of
from appliance.rules.engine import FAILED, Run, process
from appliance.rules.lists import StringLists
from appliance.rules.model import Level
from appliance.rules.outgoing import Identity
from appliance.rules.pictures import Test
from appliance.rules.ruling import Ruling
from appliance.rules.subject import Envelope, Subject
from appliance.transfer.enqueuer import Verdict
from appliance.transfer.message import QueuedMessage, Recipient

__all__ = ["TEXTS", "Rules"]

TEXTS: Final = {
    "RuleRejected": "the message is rejected by a rule",
    "RuleFailed": "automated processing failed",
}
_KEY: Final = "Rules"
_SERVER: Final = "server"


class Routing(Protocol):
    async def route(self, address: str) -> Route: ...


def _nothing(text: str) -> bool:
    del text
    return False


class Rules:
    """`storage` keeps the server's set; `changed` is called with whether there are server rules now. The loggers have the tags
    ENQUEUERRULES and LOCAL."""

    def __init__(
        self,
        shop: Workshop,
        routing: Routing,
        storage: Storage,
        host: Callable[[], str],
        server_log: Logger,
        account_log: Logger,
        strings: Strings | None = None,
    ) -> None:
        self.shop = shop
        self._strings = strings or Strings()
        self._strings.declare_all(TEXTS)
        self.changed: Callable[[bool], None] = lambda some: None
        self._routing = routing
        self._storage = storage
        self._host = host
        self._server_log = server_log
        self._account_log = account_log
        self._server_values: list[Value] = []
        self._server = RuleSet(())
        self._sets: WeakKeyDictionary[Account, tuple[object, object, RuleSet]] = WeakKeyDictionary()
        self._domain_sets: dict[int, tuple[object, RuleSet]] = {}

    @property
    def domains(self) -> Domains:
        return self.shop.domains

    @property
    def lists(self) -> StringLists:
        return self.shop.lists

    @property
    def clock(self) -> Clock:
        return self.shop.clock

    # -- the sets -----------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the server's set. OSError."""
        stored = (await self._storage.load()).get(_KEY)
        self._take_server(stored if isinstance(stored, list) else [])

    def server_values(self) -> list[Value]:
        """The server's set in its notation."""
        return self._server_values

    async def set_server(self, value: Sequence[Value]) -> None:
        """Replace the server's set; it counts from the next message on. RuleError, OSError."""
        clean = check_set(list(value), Level.SERVER)
        await self._storage.save({**await self._storage.load(), _KEY: clean})
        self._take_server(clean)

    def _take_server(self, values: list[Value]) -> None:
        self._server_values = values
        self._server = compile_set(values, Level.SERVER)
        self._report(self._server, self._server_log)
        self.changed(bool(self._server.rules))

    @staticmethod
    def _report(rules: RuleSet, log: Logger) -> None:
        for problem in rules.problems:
            log.problem("left out: %s", problem)

    def server_set(self) -> RuleSet:
        return self._server

    def account_set(self, account: Account) -> RuleSet:
        """The rules that are applied to mail for the account: its domain's and its own."""
        own, shared = account.settings[d.RULES], account.domain.settings[d.DOMAIN_RULES]
        known = self._sets.get(account)
        if known is not None and known[0] is own and known[1] is shared:
            return known[2]
        mine = compile_set(own, Level.ACCOUNT)
        self._report(mine, self._account_log)
        ready = merge([self._domain_set(shared), mine]) if shared else mine
        self._sets[account] = own, shared, ready
        return ready

    def _domain_set(self, values: Value) -> RuleSet:
        """Compiled once for all accounts of a domain; the key is the list as it stands in the settings."""
        known = self._domain_sets.get(id(values))
        if known is None or known[0] is not values:
            known = values, compile_set(values, Level.DOMAIN)
            if len(self._domain_sets) > 1000:
                self._domain_sets.clear()
            self._domain_sets[id(values)] = known
            for rule in known[1].rules:
                rule.key = f"@{rule.key}"
            self._report(known[1], self._account_log)
        return known[1]

    def concern(self, account: Account) -> bool:
        """Whether there are rules for the account."""
        return bool(account.settings[d.RULES] or account.domain.settings[d.DOMAIN_RULES])

    # -- who they are -------------------------------------------------------------------------------------------------

    def server_identity(self) -> Identity:
        main = self.domains.main.name
        robot = f"MAILER-DAEMON@{main}"
        return Identity(_SERVER, robot, "", main, robot, self._host(), frozenset({robot.lower()}))

    def account_identity(self, account: Account) -> Identity:
        domain = account.domain
        names = {account.name, *domain.aliases_of(account)}
        own = frozenset(f"{name}@{at}".lower() for name in names for at in (domain.name, *domain.domain_aliases))
        return Identity(
            account.full_name,
            account.full_name,
            account.settings[d.REAL_NAME],
            domain.name,
            f"MAILER-DAEMON@{self.domains.main.name}",
            self._host(),
            own,
        )

    # -- a message ----------------------------------------------------------------------------------------------------

    async def tests(self, account: Account | None, rules: RuleSet) -> dict[str, Test]:
        """The string lists that the set looks into; those of the server are the postmaster's. OSError."""
        owner = account if account is not None else self.domains.main.account("postmaster")
        if owner is None or not rules.lists:
            return {}
        await owner.ready()
        return {name: await self.lists.test(owner, name) for name in rules.lists}

    async def routes(self, addresses: Sequence[str]) -> list[str]:
        """The local parts that the addresses are routed to; what is not known now is left out."""
        found: list[str] = []
        for address in addresses:
            try:
                route = await self._routing.route(address)
            except Refused:
                continue
            found.append(route.address.rpartition("@")[0] if route.module == "SMTP" else route.address)
        return found

    async def subject(
        self, message: QueuedMessage, rules: RuleSet, recipients: Sequence[Recipient], account: Account | None
    ) -> Subject:
        """The message as the conditions of the set see it. OSError."""
        tests = await self.tests(account, rules) if rules.lists else {}
        routes = await self.routes([r.address for r in message.recipients]) if rules.routed else []
        envelope = Envelope(
            message.sender,
            [_original(recipient) for recipient in recipients],
            routes,
            message.wire_size,
            self.clock.local(self.clock.now()),
        )
        header = await header_of(message)
        return Subject(header, message.added_header, envelope, lambda name: tests.get(name, _nothing))

    async def server_rules(self, message: QueuedMessage) -> Verdict:
        """What the server's rules make of a message (`Enqueuer.rules`)."""
        rules = self._server
        if message.test or not rules.rules:
            return Verdict(fired=False)
        try:
            subject = await self.subject(message, rules, message.recipients, None)
            run = Run(message.id, _SERVER, subject)
            doing = Doing(self.shop, message, self.server_identity(), None, self._server_log)
            ruling = await process(run, rules, doing, self._server_log)
        except OSError as error:
            self._server_log.failure("[%d] RULES(%s) cannot go on now: %s", message.id, _SERVER, error)
            return Verdict("later", str(error))
        if ruling.action == "discard":
            return Verdict("discard", added_header=ruling.added)
        if ruling.action == "reject":
            return Verdict("reject", self._text(ruling), ruling.added)
        if ruling.action == "later":
            return Verdict("later", ruling.text)
        return Verdict(added_header=ruling.added, fired=bool(run.fired))

    async def rule(self, account: Account, message: QueuedMessage, recipients: Sequence[Recipient]) -> Ruling:
        """What the rules of the domain and of the account make of a message (`LocalModule.rules`)."""
        rules = self.account_set(account)
        if message.test or not rules.rules:
            return Ruling()
        subject = await self.subject(message, rules, recipients, account)
        run = Run(message.id, account.full_name, subject)
        doing = Doing(self.shop, message, self.account_identity(account), account, self._account_log)
        ruling = await process(run, rules, doing, self._account_log)
        if ruling.action == "reject":
            ruling.text = self._text(ruling)
        return ruling

    def _text(self, ruling: Ruling) -> str:
        """What the sender is told of a rejection."""
        if ruling.text == FAILED:
            return self._strings.text("RuleFailed")
        return ruling.text or self._strings.text("RuleRejected")


def _original(recipient: Recipient) -> str:
    """The address before routing: the one that the sender's server was given, where it told (RFC 3461, 4.2)."""
    if recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        return address if kind.lower() == "rfc822" and address else recipient.orcpt
    return recipient.address
