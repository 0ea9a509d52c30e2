"""The alerts of the server, of the domains and of accounts: where they are kept, and their operations (manual, chapter 12)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from appliance.accounts.alerts import own_alerts, set_own
from appliance.accounts.client import AccountError
from appliance.accounts.gate import Accounts
from appliance.accounts.state import State
from appliance.formats.data import Value
from appliance.formats.dates import format_gmt, from_epoch, parse_gmt
from appliance.kernel.clock import Clock
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import Storage
from appliance.objects.domain import Account, Domain
from appliance.objects.domains import Domains

__all__ = ["MAX_ALERTS", "Alerts", "declare"]

SECTION: Final = "Alert administration"
MAX_ALERTS: Final = 100
MAX_TEXT: Final = 1000


class Alerts:
    """Server and domain alerts: key (the time of posting, `yyyymmddhhmmss`) to text. `server` is the storage of the server's."""

    def __init__(self, server: Storage, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._known: dict[Domain | None, dict[str, str]] = {}
        #: Percent and text of the alert for accounts that are nearly full, None to send none; who knows the settings sets it.
        self.nearly_full: Callable[[], tuple[int, str] | None] = lambda: None

    def quota(self) -> tuple[int, str] | None:
        return self.nearly_full()

    @staticmethod
    def _storage_of(domain: Domain) -> Storage:
        return domain.storage(domain.path("Alerts.data"), 0o640)

    async def get(self, domain: Domain | None) -> dict[str, str]:
        """Those of a domain, of the server with None."""
        known = self._known.get(domain)
        if known is None:
            values = await (self._server if domain is None else self._storage_of(domain)).load()
            known = self._known[domain] = {key: text for key, text in values.items() if isinstance(text, str)}
        return known

    async def set(self, domain: Domain | None, alerts: Mapping[str, str]) -> None:
        """Put these in their place."""
        values: dict[str, Value] = dict(alerts)
        await (self._server if domain is None else self._storage_of(domain)).save(values)
        self._known[domain] = dict(alerts)

    async def standing(self, account: Account) -> Mapping[str, str]:
        """What a user of this account may have to see, by key and level."""
        found = {f"{key} server": text for key, text in (await self.get(None)).items()}
        found.update({f"{key} domain": text for key, text in (await self.get(account.domain)).items()})
        return found

    def added(self, alerts: Mapping[str, str], text: str) -> dict[str, str]:
        """These and one more, under a key of its own."""
        if len(alerts) >= MAX_ALERTS:
            raise OperationError("There are too many alerts")
        moment = self._clock.now()
        while (key := format_gmt(from_epoch(moment))) in alerts:
            moment += 1
        return {**alerts, key: checked_text(text)}


def checked_text(text: object) -> str:
    """The text of an alert; OperationError if it cannot be one."""
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
        raise OperationError("An alert is a text of at most 1000 symbols")
    return " ".join(text.split())


def checked(alerts: Mapping[str, Any]) -> dict[str, str]:
    """A dictionary of alerts from outside."""
    if len(alerts) > MAX_ALERTS:
        raise OperationError("There are too many alerts")
    for key in alerts:
        if parse_gmt(key) is None:
            raise OperationError(f"{key[:32]!r} is not a time stamp")
    return {key: checked_text(text) for key, text in alerts.items()}


def without(alerts: Mapping[str, str], key: str) -> dict[str, str]:
    if key not in alerts:
        raise OperationError("There is no alert with this time stamp")
    return {other: text for other, text in alerts.items() if other != key}


def declare(alerts: Alerts, accounts: Accounts, domains: Domains, operations: Operations) -> None:
    """Declare the operations on alerts."""
    server = partial(operations.declare, right=Right.MASTER, section=SECTION)
    of_domain = partial(operations.declare, right=Right.POST_ALERTS, of="domainName", section=SECTION)
    of_account = partial(operations.declare, right=Right.POST_ALERTS, of="accountName", section=SECTION)

    @server("GetServerAlerts", summary="Tells the server's alerts.", result="dictionary of time stamps and texts")
    async def get_server(caller: Caller) -> Value:
        del caller
        return dict(await alerts.get(None))

    @server("SetServerAlerts newAlerts{}", summary="Sets the server's alerts.")
    async def set_server(caller: Caller, new_alerts: dict[str, Value]) -> None:
        del caller
        await alerts.set(None, checked(new_alerts))

    @server("PostServerAlert newAlert", summary="Posts an alert to all users.")
    async def post_server(caller: Caller, new_alert: str) -> None:
        del caller
        await alerts.set(None, alerts.added(await alerts.get(None), new_alert))

    @server("RemoveServerAlert timeStamp", summary="Removes an alert of the server.")
    async def remove_server(caller: Caller, time_stamp: str) -> None:
        del caller
        await alerts.set(None, without(await alerts.get(None), time_stamp))

    @of_domain(
        "GetDomainAlerts [domainName]",
        short=("gtalrt",),
        summary="Tells the alerts of a domain.",
        result="dictionary of time stamps and texts",
    )
    async def get_domain(caller: Caller, domain_name: str) -> Value:
        del caller
        return dict(await alerts.get(domains.require(domain_name)))

    @of_domain("SetDomainAlerts [domainName] newAlerts{}", short=("stalrt",), summary="Sets the alerts of a domain.")
    async def set_domain(caller: Caller, domain_name: str, new_alerts: dict[str, Value]) -> None:
        del caller
        await alerts.set(domains.require(domain_name), checked(new_alerts))

    @of_domain("PostDomainAlert [domainName ALERT] newAlert", summary="Posts an alert to all users of a domain.")
    async def post_domain(caller: Caller, domain_name: str, new_alert: str, alert: bool = False) -> None:
        del caller, alert
        domain = domains.require(domain_name)
        await alerts.set(domain, alerts.added(await alerts.get(domain), new_alert))

    @of_domain("RemoveDomainAlert [domainName ALERT] timeStamp", summary="Removes an alert of a domain.")
    async def remove_domain(caller: Caller, domain_name: str, time_stamp: str, alert: bool = False) -> None:
        del caller, alert
        domain = domains.require(domain_name)
        await alerts.set(domain, without(await alerts.get(domain), time_stamp))

    async def change(name: str, make: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
        async def work(state: State) -> dict[str, str]:
            before = own_alerts(state)
            after = make(before)
            if after != before:
                await set_own(state, after)
                state.shared.notices.publish(("account", state.name))
            return after

        try:
            return await accounts.with_state(await domains.require_account(name), work)
        except AccountError as error:
            raise OperationError(error.text) from None

    @of_account("GETACCOUNTALERTS accountName", summary="Tells the alerts of an account.", result="dictionary")
    async def get_account(caller: Caller, account_name: str) -> Value:
        del caller
        return dict(await change(account_name, lambda before: before))

    @of_account("SETACCOUNTALERTS accountName newAlerts{}", summary="Sets the alerts of an account.")
    async def set_account(caller: Caller, account_name: str, new_alerts: dict[str, Value]) -> None:
        del caller
        wanted = checked(new_alerts)
        await change(account_name, lambda before: wanted)

    @of_account("POSTACCOUNTALERT accountName ALERT newAlert", summary="Posts an alert to the user of an account.")
    async def post_account(caller: Caller, account_name: str, new_alert: str) -> None:
        del caller
        text = checked_text(new_alert)
        await change(account_name, lambda before: alerts.added(before, text))

    @of_account("REMOVEACCOUNTALERT accountName ALERT timeStamp", summary="Removes an alert of an account.")
    async def remove_account(caller: Caller, account_name: str, time_stamp: str) -> None:
        del caller
        if not time_stamp.isdecimal():
            raise OperationError("There is no alert with this time stamp")
        await change(account_name, lambda before: without(before, time_stamp))
