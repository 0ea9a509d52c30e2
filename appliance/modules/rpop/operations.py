"""The operations on remote accounts: records of accounts and of the unified table, their state, a poll by hand (manual,
chapters 16 and 31)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.formats.data import Value
from appliance.formats.values import render_time
from appliance.kernel.operations import Caller, Denied, OperationError, Operations, Right
from appliance.kernel.settings import SettingError, Settings
from appliance.modules.rpop.records import RecordError, checked, read
from appliance.modules.rpop.scheduler import Entry, Scheduler
from appliance.modules.rpop.settings import MAXIMUM_RECORDS, MINIMUM_PERIOD, PERIOD, UNIFIED
from appliance.objects import declarations as d
from appliance.objects.domain import Account
from appliance.objects.domains import Domains

__all__ = ["declare"]

SECTION: Final = "RPOP"
_WRONG: Final = 515


def declare(operations: Operations, domains: Domains, settings: Settings, scheduler: Scheduler) -> None:
    """Declare them. Passwords are answered in their sealed form, which is taken back."""
    declare = operations.declare

    @declare(
        "GetAccountRPOP accountName",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        section=SECTION,
        summary="The remote accounts that are collected for an account.",
        result="array of dictionaries",
    )
    async def get_account_rpop(caller: Caller, account_name: str) -> Value:
        del caller
        account = await domains.require_account(account_name)
        return list(account.domain.rpop.get(account.name, []))

    @declare(
        "SetAccountRPOP accountName newRecords()",
        right=Right.MODIFY_RPOP,
        of="accountName",
        own=True,
        section=SECTION,
        summary="Replaces the remote accounts that are collected for an account.",
    )
    async def set_account_rpop(caller: Caller, account_name: str, new_records: list[Value]) -> None:
        account = await domains.require_account(account_name)
        await account.ready()
        before = account.domain.rpop.get(account.name, [])
        records = _checked(new_records, domains.server_key, before)
        if not caller.has(Right.MODIFY_RPOP, account.domain.name):
            if not account.settings[d.RPOP_ALLOWED]:
                raise Denied("You may not change the remote accounts that are collected for you")
            _within_limits(settings, records, before)
        _within_domain(account, records, before)
        domain, name = account.domain, account.name
        domain.rpop[name] = records
        try:
            await domain.save_rpop()
        except BaseException:
            domain.rpop[name] = before
            raise
        scheduler.refresh()

    @declare(
        "GetUnifiedRPOP",
        right=Right.SETTINGS,
        section=SECTION,
        summary="The unified domain-wide accounts that are collected.",
        result="array of dictionaries",
    )
    async def get_unified_rpop(caller: Caller) -> Value:
        del caller
        return list(settings[UNIFIED])

    @declare(
        "SetUnifiedRPOP newRecords()",
        right=Right.SETTINGS,
        section=SECTION,
        summary="Replaces the unified domain-wide accounts; a record that is never polled is left out.",
    )
    async def set_unified_rpop(caller: Caller, new_records: list[Value]) -> None:
        del caller
        records = [
            record
            for record in _checked(new_records, domains.server_key, settings[UNIFIED], unified=True)
            if isinstance(record, dict) and record.get(PERIOD.key) != "never"
        ]
        try:
            await settings.update({UNIFIED.key: list(records)})
        except SettingError as error:
            raise OperationError(str(error)) from None

    @declare(
        "ListRPOP [accountName]",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        section=SECTION,
        summary="What is collected, of an account or of the whole server: last result, next poll.",
        result="array of dictionaries",
    )
    async def list_rpop(caller: Caller, account_name: str = "") -> Value:
        rows: list[Value] = [_row(scheduler, entry) for entry in await chosen(caller, account_name)]
        return rows

    @declare(
        "PollRPOP [accountName]",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        section=SECTION,
        summary="Polls now what is collected, of an account or of the whole server; messages that were refused are tried again.",
        result="how many remote accounts are polled",
    )
    async def poll_rpop(caller: Caller, account_name: str = "") -> Value:
        entries = [entry for entry in await chosen(caller, account_name) if entry.remote.period is not None]
        for entry in entries:
            scheduler.poll_now(entry)
        return str(len(entries))

    async def chosen(caller: Caller, account_name: str) -> Sequence[Entry]:
        if not account_name:
            caller.require(Right.MONITOR)
            return sorted(scheduler.entries.values(), key=lambda entry: entry.owner)
        return scheduler.of(await domains.require_account(account_name))


def _checked(records: list[Value], key: bytes, before: Sequence[Value], *, unified: bool = False) -> list[Value]:
    try:
        return checked(records, key, before=before, unified=unified)
    except RecordError as error:
        raise OperationError(str(error), _WRONG) from None


def _within_limits(settings: Settings, records: Sequence[Value], before: Sequence[Value]) -> None:
    """The limits of users: those of records that are there already stay as they are."""
    limit, least = settings[MAXIMUM_RECORDS], settings[MINIMUM_PERIOD]
    if len(records) > max(limit, len(before)):
        raise OperationError(f"You may have {limit} remote accounts at most", _WRONG)
    old = {read(record).key: read(record).period for record in before if isinstance(record, dict)}
    for record in records:
        assert isinstance(record, dict)
        remote = read(record)
        if remote.period is not None and remote.period < least and old.get(remote.key) != remote.period:
            raise OperationError(f"The shortest period is {render_time(least)}", _WRONG)


def _within_domain(account: Account, records: Sequence[Value], before: Sequence[Value]) -> None:
    """The domain's limit holds for everybody; what is there already may stay."""
    limit = account.domain.settings[d.RPOP_LIMIT]
    others = sum(len(found) for name, found in account.domain.rpop.items() if name != account.name)
    if limit is not None and len(records) > len(before) and others + len(records) > limit:
        raise OperationError(f"The domain {account.domain.name} may have {limit} remote accounts at most", _WRONG)


def _state(entry: Entry) -> str:
    if entry.running:
        return "polling"
    if entry.remote.period is None:
        return "off"
    return "failed" if entry.failed is not None else "waiting"


def _row(scheduler: Scheduler, entry: Entry) -> Value:
    remote = entry.remote
    next_poll = scheduler.next_poll(entry)
    row: dict[str, Value] = {
        "Owner": entry.owner,
        "Account": remote.name,
        "Host": remote.host,
        "Protocol": remote.protocol,
        "Period": PERIOD.kind.render(remote.period),
        "State": _state(entry),
        "Doing": entry.doing,
        "Last": str(entry.last) if entry.last else "",
        "Error": entry.error,
        "Next": "" if next_poll is None or entry.running else str(int(next_poll)),
    }
    if remote.protocol == "IMAP":
        row["Mailbox"] = remote.mailbox
    return row
