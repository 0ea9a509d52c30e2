"""Statistics of accounts and domains: messages and octets received, kept if the administrator wants it (manual, chapter 16).

An account's numbers are in its `account.info`; a domain's are in memory and go to `Settings/Statistics.data` of the domain now
and then and when the server stops. A crash may lose the last minute of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from appliance.accounts.client import AccountError
from appliance.accounts.gate import Accounts
from appliance.accounts.state import State
from appliance.formats.data import Value
from appliance.formats.dates import format_gmt, from_epoch
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import Settings, Storage
from appliance.modules.local.settings import COLLECT
from appliance.objects.domain import Account, Domain
from appliance.objects.domains import Domains

__all__ = ["Counting"]

RESET: Final = "StatReset"
MESSAGES: Final = "MessagesReceived"
BYTES: Final = "BytesReceived"
SAVE: Final = 60.0
_KEYS: Final = {key.lower(): key for key in (RESET, MESSAGES, BYTES)}
_IN_INFO: Final = "Statistics"
_SECTION: Final = "Statistics"


class Counting:
    """`count` after mail was stored; `save` when the server stops."""

    def __init__(self, domains: Domains, settings: Settings, accounts: Accounts, clock: Clock, logger: Logger) -> None:
        self._domains = domains
        self._settings = settings
        self._accounts = accounts
        self._clock = clock
        self._log = logger
        self._known: dict[Domain, dict[str, Value]] = {}
        self._dirty: set[Domain] = set()
        self._saved = clock.monotonic()

    async def count(self, account: Account, sizes: Iterable[int]) -> None:
        """The account has received messages of these sizes in octets (CR-LF line ends)."""
        if not self._settings[COLLECT]:
            return
        received = list(sizes)
        domain = account.domain
        _add(await self._of(domain), received, self._now())
        self._dirty.add(domain)
        try:
            await self._accounts.with_state(account, partial(_count, received=received, now=self._now()))
        except AccountError as error:
            self._log.problem("%s: statistics are not counted: %s", account.full_name, error.text)
        if self._clock.monotonic() - self._saved >= SAVE:
            await self.save()

    async def save(self) -> None:
        """Write what has changed."""
        self._saved = self._clock.monotonic()
        dirty, self._dirty = self._dirty, set()
        for domain in dirty:
            try:
                await self._storage(domain).save(dict(self._known[domain]))
            except OSError as error:
                self._log.failure("statistics of %s cannot be written: %s", domain.name, error)

    def _now(self) -> str:
        return format_gmt(from_epoch(self._clock.now()))

    @staticmethod
    def _storage(domain: Domain) -> Storage:
        return domain.storage(domain.path("Statistics.data"), 0o640)

    async def _of(self, domain: Domain) -> dict[str, Value]:
        known = self._known.get(domain)
        if known is None:
            loaded = await self._storage(domain).load()
            known = self._known.setdefault(domain, dict(loaded))
        return known

    def declare(self, operations: Operations) -> None:
        """The operations of the statistics."""
        account = partial(operations.declare, of="accountName", section=_SECTION)
        domain = partial(operations.declare, of="domainName", section=_SECTION)

        @account(
            "GetAccountStat accountName [KEY keyName]",
            right=Right.DOMAIN,
            own=True,
            summary="Tells what an account has received.",
            result="dictionary, with KEY a string",
        )
        async def get_account(caller: Caller, account_name: str, key_name: str = "") -> Value:
            del caller
            found = await self._domains.require_account(account_name)
            try:
                return _told(await self._accounts.with_state(found, _read), key_name)
            except AccountError as error:
                raise OperationError(error.text) from None

        @account(
            "ResetAccountStat accountName [KEY keyName]",
            right=Right.BASIC_SETTINGS,
            summary="Begins to count anew.",
        )
        async def reset_account(caller: Caller, account_name: str, key_name: str = "") -> None:
            del caller
            found = await self._domains.require_account(account_name)
            try:
                await self._accounts.with_state(found, partial(_reset_in, key=key_name, now=self._now()))
            except AccountError as error:
                raise OperationError(error.text) from None

        @domain(
            "GetDomainStat domainName [KEY keyName]",
            right=Right.DOMAIN,
            summary="Tells what the accounts of a domain have received.",
            result="dictionary, with KEY a string",
        )
        async def get_domain(caller: Caller, domain_name: str, key_name: str = "") -> Value:
            del caller
            return _told(await self._of(self._domains.require(domain_name)), key_name)

        @domain(
            "ResetDomainStat domainName [KEY keyName]",
            right=Right.BASIC_SETTINGS,
            summary="Begins to count anew.",
        )
        async def reset_domain(caller: Caller, domain_name: str, key_name: str = "") -> None:
            del caller
            found = self._domains.require(domain_name)
            _reset(await self._of(found), key_name, self._now())
            self._dirty.add(found)
            await self.save()


def _add(values: dict[str, Value], sizes: list[int], now: str) -> None:
    for key, more in ((MESSAGES, len(sizes)), (BYTES, sum(sizes))):
        before = values.get(key)
        values[key] = str((int(before) if isinstance(before, str) and before.isdecimal() else 0) + more)
    values.setdefault(RESET, now)


def _reset(values: dict[str, Value], key: str, now: str) -> None:
    if key:
        name = _known_key(key)
        values[name] = now if name == RESET else "0"
        return
    values.update({RESET: now, MESSAGES: "0", BYTES: "0"})


def _known_key(key: str) -> str:
    name = _KEYS.get(key.lower())
    if name is None:
        raise OperationError(f"{key[:32]!r} is not counted")
    return name


def _told(values: dict[str, Value], key: str) -> Value:
    if key:
        return values.get(_KEYS.get(key.lower(), ""), "")
    return {name: values[name] for name in _KEYS.values() if name in values}


def _in_info(state: State) -> dict[str, Value]:
    found = state.info.values.get(_IN_INFO)
    return dict(found) if isinstance(found, dict) else {}


async def _read(state: State) -> dict[str, Value]:
    return _in_info(state)


async def _count(state: State, *, received: list[int], now: str) -> None:
    values = _in_info(state)
    _add(values, received, now)
    state.info.values[_IN_INFO] = values
    state.info_stale = True


async def _reset_in(state: State, *, key: str, now: str) -> None:
    values = _in_info(state)
    _reset(values, key, now)
    state.info.values[_IN_INFO] = values
    await state.save_info()
