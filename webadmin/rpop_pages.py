"""Remote mailboxes: the module's page with the unified table, an account's RPOP Accounts, one's own, the monitor (manual,
chapter 31). Passwords go in and never come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import Response

from appliance.formats.data import Value
from appliance.kernel.clock import Clock
from appliance.kernel.operations import OperationError, Right
from appliance.kernel.settings import Setting
from appliance.modules.rpop import settings as s
from appliance.modules.rpop.records import RecordError, read
from appliance.objects.declarations import RPOP_ALLOWED
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from webadmin.settings_pages import SettingsPages
from webadmin.site import NotFound, Page, table

#: Rows of the monitor at most (manual, 62: queue pages).
LIMIT: Final = 1000
_MAX_ROWS: Final = 1000
_DAY: Final = 86400
_NEVER: Final = "never"


@dataclass(frozen=True, slots=True)
class Cell:
    """One control of a record. `password`: its value is never shown."""

    key: str
    title: str
    control: str
    value: str
    choices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One record on a form; `key` names the record that it was, for its password and the keys that no control shows."""

    number: int
    key: str
    cells: tuple[Cell, ...]
    more: tuple[Cell, ...]
    status: Mapping[str, str]
    error: str = ""


class RpopPages:
    """`settings` are the pages of components, whose form of the module this page shows."""

    def __init__(self, settings: SettingsPages, domains: Domains, clock: Clock) -> None:
        self.settings = settings
        self.domains = domains
        self.clock = clock

    # -- pages --------------------------------------------------------------------------------------------------------

    async def module(self, page: Page) -> Response:
        """The module's settings and the unified accounts."""
        settings = self.settings.registry.find("RPOP")
        if settings is None:
            raise NotFound("There is no such component.")
        page.caller.require(Right.SETTINGS)
        wrong = ""
        if page.method == "POST" and page.action in ("records", "poll"):
            try:
                return page.go("/Settings/RPOP", await self._change(page, "Unified", {}))
            except OperationError as error:
                wrong = error.text
        result = await self.settings._update(page, settings)
        records = table(await page.perform("GetUnifiedRPOP"))
        rows = self._rows(page, records, await self._states(page, ""), unified=True, posted=bool(wrong))
        result.error = result.error or wrong
        return self.settings._show(page, settings, result, "rpop.html", rows=rows, may=True, unified=True)

    async def account(self, page: Page) -> Response:
        """The remote accounts of an account."""
        domain = self.domains.get(page.name("domain"))
        account = domain.account(page.name("name")) if domain is not None else None
        if account is None:
            raise NotFound("There is no such account.")
        page.caller.require(Right.DOMAIN, account.domain.name)
        path = f"/Domains/{quote(account.domain.name)}/Accounts/{quote(account.name, safe='')}"
        may = page.may(Right.MODIFY_RPOP, account.domain.name)
        return await self._of(page, account, f"{path}/RPOP", may, path)

    async def own(self, page: Page) -> Response:
        """The caller's own."""
        account = self.domains.find_account(page.caller.account or "")
        if account is None:
            raise NotFound("There is no account of your own.")
        await account.ready()
        may = page.may(Right.MODIFY_RPOP, account.domain.name) or account.settings[RPOP_ALLOWED]
        return await self._of(page, account, "/RPOP/", may, "")

    async def _of(self, page: Page, account: Account, path: str, may: bool, above: str) -> Response:
        name = account.full_name
        error = ""
        if page.method == "POST":
            try:
                return page.go(path, await self._change(page, "Account", {"accountName": name}))
            except OperationError as failure:
                error = failure.text
        records = table(await page.perform("GetAccountRPOP", accountName=name))
        rows = self._rows(page, records, await self._states(page, name), unified=False, posted=bool(error))
        return page.show(
            "rpop_account.html",
            title=f"RPOP Accounts of {name}",
            path=path,
            above=above,
            above_name=name,
            rows=rows,
            may=may,
            unified=False,
            error=error,
            status=400 if error else 200,
        )

    async def monitor(self, page: Page) -> Response:
        """All remote accounts, those at work first."""
        if page.method == "POST":
            owner = page.field("owner")
            count = await page.perform("PollRPOP", **({"accountName": owner} if owner else {}))
            return page.go("/Monitors/RPOP", f"{count} remote accounts are polled.")
        rows = table(await page.perform("ListRPOP"))
        wanted = page.query("filter").lower()
        shown = [self._state(row) for row in rows if not wanted or wanted in " ".join(map(str, row.values())).lower()]
        shown.sort(key=lambda row: ("polling", "failed", "waiting", "off").index(row["State"]))
        channels = table(await page.perform("ListSessions", tag=s.TAG))
        return page.show(
            "rpop_monitor.html", title="RPOP", rows=shown[:LIMIT], count=len(shown), channels=len(channels)
        )

    # -- forms --------------------------------------------------------------------------------------------------------

    async def _change(self, page: Page, what: str, arguments: Mapping[str, str]) -> str:
        """Apply a posted table, or poll; what is to be told."""
        if page.action == "poll":
            await page.perform("PollRPOP", **arguments)
            return "The remote accounts are polled."
        before = table(await page.perform(f"Get{what}RPOP", **arguments))
        records = _posted(page, before, unified=what == "Unified")
        await page.perform(f"Set{what}RPOP", **arguments, newRecords=records)
        return "Updated."

    def _rows(
        self,
        page: Page,
        records: Sequence[Mapping[str, Value]],
        states: Mapping[str, Mapping[str, str]],
        *,
        unified: bool,
        posted: bool,
    ) -> list[Row]:
        """The rows of a form with an empty one at its end; after an error with what was posted."""
        rows: list[Row] = []
        for number, record in enumerate([*records, {}]):
            key = _key(record, unified=unified)
            values = {name: str(value) for name, value in record.items()}
            if posted:
                values |= {
                    column.key: page.field(f"{number}.{column.key}")
                    for column in s.UNIFIED_RECORD
                    if f"{number}.{column.key}" in page.form
                }
            main, more = _columns(unified)
            rows.append(
                Row(
                    number,
                    key,
                    tuple(_cell(column, number, values) for column in main),
                    tuple(_cell(column, number, values) for column in more),
                    states.get(key, {}),
                )
            )
        return rows

    async def _states(self, page: Page, account: str) -> dict[str, Mapping[str, str]]:
        """What is known of each record, by its key."""
        try:
            found = table(await page.perform("ListRPOP", **({"accountName": account} if account else {})))
        except OperationError:
            return {}
        states: dict[str, Mapping[str, str]] = {}
        for row in found:
            if account or not row.get("Owner"):
                record: dict[str, Value] = {
                    s.NAME.key: row["Account"],
                    s.HOST.key: row["Host"],
                    s.PROTOCOL.key: row["Protocol"],
                    s.MAILBOX.key: row.get("Mailbox", "INBOX"),
                }
                states[_key(record, unified=not account)] = self._state(row)
        return states

    def _state(self, row: Mapping[str, Value]) -> dict[str, str]:
        shown = {key: str(value) for key, value in row.items()}
        shown["Last"] = self._when(shown.get("Last", ""))
        shown["Next"] = self._when(shown.get("Next", ""))
        shown.setdefault("Mailbox", "")
        return shown

    def _when(self, text: str) -> str:
        """The server's local time; the date only if it is another day's."""
        if not text.isdigit():
            return text
        moment = self.clock.local(int(text))
        near = abs(self.clock.now() - int(text)) < _DAY
        return moment.strftime("%H:%M:%S" if near else "%Y-%m-%d %H:%M")


def _columns(unified: bool) -> tuple[Sequence[Setting[Any]], Sequence[Setting[Any]]]:
    """The manual's columns, and those that came later."""
    main = [s.PERIOD, s.NAME, s.HOST, s.PASSWORD, s.LEAVE, s.APOP, s.TLS, *((s.SPECIAL,) if unified else ())]
    more = [s.PROTOCOL, s.MAILBOX, s.VERIFY, *((s.NAME_DOMAIN,) if unified else ())]
    return main, more


def _cell(column: Setting[Any], number: int, values: Mapping[str, str]) -> Cell:
    default = str(column.kind.render(column.default)) if column is not s.PERIOD else _NEVER
    value = "" if column.secret else values.get(column.key, default)
    choices = tuple(getattr(column.kind, "choices", ()))
    return Cell(f"{number}.{column.key}", column.title, column.kind.control, value, choices)


def _key(record: Mapping[str, Value], *, unified: bool) -> str:
    try:
        return read(record, unified=unified).key
    except RecordError:
        return ""


def _posted(page: Page, before: Sequence[Mapping[str, Value]], *, unified: bool) -> list[Value]:
    """The records of a posted table. A row without an account name is left out; an empty password stays what it was, unless
    the row names another server: a password is never sent to where it was not meant for."""
    known = {_key(record, unified=unified): record for record in before}
    main, more = _columns(unified)
    records: list[Value] = []
    for number in range(_MAX_ROWS):
        if f"{number}.{s.NAME.key}" not in page.form:
            break
        if not page.field(f"{number}.{s.NAME.key}").strip():
            continue
        old = known.get(page.field(f"{number}.key"), {})
        record: dict[str, Value] = dict(old)
        for column in (*main, *more):
            given = page.field(f"{number}.{column.key}").strip()
            if column.secret:
                if page.field(f"{number}.{column.key}"):
                    record[column.key] = page.field(f"{number}.{column.key}")
            elif f"{number}.{column.key}" in page.form:
                record[column.key] = given
        if unified and not old and str(record.get(s.PERIOD.key, "")).casefold() in ("", _NEVER):
            raise OperationError(f"record {number + 1}: choose how often it is polled")
        if record.get(s.PASSWORD.key) == old.get(s.PASSWORD.key) and old and not _same_place(old, record, unified):
            record.pop(s.PASSWORD.key, None)
        records.append(record)
    return records


def _same_place(old: Mapping[str, Value], new: Mapping[str, Value], unified: bool) -> bool:
    try:
        return read(old, unified=unified).hosts == read(new, unified=unified).hosts
    except RecordError:
        return True  # the operation tells what is wrong
