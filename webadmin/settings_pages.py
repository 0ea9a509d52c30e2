"""The Settings realm: a page for each component, made from its declared settings; General, Router and Strings add their acts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.responses import Response

from appliance.administration.forms import Panel, build, keep, read
from appliance.formats.data import Value
from appliance.kernel.listener import LIST, RESTRICTION
from appliance.kernel.operations import OperationError, Right
from appliance.kernel.peers import CLIENT_ONLY, DENIED
from appliance.kernel.settings import Settings, SettingsRegistry
from appliance.kernel.strings import Strings
from appliance.objects.declarations import MAIN_DOMAIN, SERVICES
from webadmin import wording
from webadmin.site import NotFound, Page, texts


@dataclass(frozen=True, slots=True)
class Information:
    """What the General page tells of the machine: a label, and a value or several; `marked` are those to be looked at."""

    label: str
    values: tuple[str, ...]
    marked: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Result:
    """What became of a posted form. `danger` asks whether it is really meant."""

    message: str = ""
    error: str = ""
    danger: str = ""


class SettingsPages:
    """`information` gives the fields of the General page as they are now (manual, chapter 4)."""

    def __init__(
        self, registry: SettingsRegistry, strings: Strings, information: Callable[[], Awaitable[list[Information]]]
    ) -> None:
        self.registry = registry
        self.strings = strings
        self.information = information

    async def index(self, page: Page) -> Response:
        """All components under their headings."""
        titles = {settings.group.name: settings.group.title for settings in self.registry.all()}
        return page.show(
            "settings_index.html",
            title="Settings",
            groups=wording.grouped(list(titles)),
            titles=titles,
            about={name: wording.COMPONENTS.get(name, wording.OTHER).summary for name in titles},
        )

    async def component(self, page: Page) -> Response:
        """One component: a form, and what its manual page offers beside it."""
        settings = self.registry.find(page.name("name"))
        if settings is None:
            raise NotFound("There is no such component.")
        page.caller.require(Right.SETTINGS)
        name = settings.group.name
        if name == "Router":
            return await self._router(page, settings)
        if name == "General":
            return await self._general(page, settings)
        result = await self._update(page, settings)
        status = await self._line(page) if name == "Schedule" else ""
        return self._show(page, settings, result, state=status)

    async def _line(self, page: Page) -> str:
        """Whether the schedule lets mail out now; empty for who may not see it."""
        try:
            found = await page.perform("GETSCHEDULESTATUS")
        except OperationError:
            return ""
        if not isinstance(found, dict):
            return ""
        if found.get("Open") == "YES":
            return "Outgoing mail may be sent now."
        seconds = str(found.get("Seconds", ""))
        if not seconds.isdigit():
            return "Outgoing mail waits: no element of the schedule opens the line."
        hours, minutes = divmod((int(seconds) + 59) // 60, 60)
        return f"Outgoing mail waits. The line opens in {hours} h {minutes} min."

    async def _update(self, page: Page, settings: Settings, leave_out: tuple[str, ...] = ()) -> _Result:
        """Apply a posted form."""
        if page.method != "POST" or page.action not in ("", "update", "anyway"):
            return _Result()
        changes = {k: v for k, v in read(settings, page.form, inherits=False).items() if k not in leave_out}
        if page.action != "anyway":
            danger = _locks_out(page, settings, changes)
            if danger:
                return _Result(danger=danger)
        try:
            if changes:
                await page.perform("UpdateModule", moduleName=settings.group.name, newSettings=changes)
        except OperationError as error:
            return _Result(error=error.text)
        return _Result("Updated." if changes else "Nothing was changed.")

    def _show(
        self, page: Page, settings: Settings, result: _Result, template: str = "component.html", **more: object
    ) -> Response:
        leave_out = (MAIN_DOMAIN.key,) if settings.group.name == "General" else ()
        panels: list[Panel] = build(settings, inherits=False, leave_out=leave_out)
        if result.error or result.danger:
            keep(panels, page.form, result.error)
        about = wording.COMPONENTS.get(settings.group.name, wording.OTHER)
        values: dict[str, object] = {
            "title": settings.group.title,
            "panels": panels,
            "message": result.message or page.message,
            "error": result.error or result.danger,
            "danger": result.danger,
            "note": about.note,
            "state": "",
            "services": SERVICES,
        }
        return page.show(template, status=400 if result.error or result.danger else 200, **(values | more))

    async def _router(self, page: Page, settings: Settings) -> Response:
        updated = await self._update(page, settings)
        address, result = page.field("address").strip(), ""
        if page.method == "POST" and page.action == "test" and address:
            try:
                found = texts(await page.perform("Route", address=address))
                result = f"module {found[0]}, host {found[1]}, address {found[2]}"
            except OperationError as failure:
                result = f"refused: {failure.text}"
        return self._show(page, settings, updated, "router.html", address=address, tested=result)

    async def _general(self, page: Page, settings: Settings) -> Response:
        if page.action == "refresh":
            await page.perform("RefreshOSData")
            return page.go("/Settings/General", "Addresses and name servers were read anew.")
        if page.action in ("drop-root", "restore-root"):
            await page.perform("DropRoot" if page.action == "drop-root" else "RestoreRoot")
            return page.go(
                "/Settings/General", "Root is dropped." if page.action == "drop-root" else "Root is restored."
            )
        updated = await self._update(page, settings, (MAIN_DOMAIN.key,))
        name = page.field("main_domain").strip()
        current = str(await page.perform("MainDomainName"))
        if page.method == "POST" and name and name.lower() != current and not updated.error:
            try:
                await page.perform("RenameMainDomain", newDomainName=name)
                current, updated = name.lower(), _Result("Updated.")
            except OperationError as failure:
                updated = _Result(error=failure.text)
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
        return self._show(
            page,
            settings,
            updated,
            "general.html",
            main_domain=name if updated.error else current,
            information=[Information("Server time", (now,)), *await self.information()],
            root=await self._root(page),
        )

    async def _root(self, page: Page) -> str:
        """Whether root is held, dropped for now, or out of reach (manual, chapter 4, Server Root Privilege)."""
        try:
            return str(await page.perform("GetRootState"))
        except OperationError:
            return "none"

    async def strings_page(self, page: Page) -> Response:
        """Texts that clients see: the default, or one's own (manual, chapter 4, Customizing Server Prompts)."""
        page.caller.require(Right.SETTINGS)
        message = ""
        if page.method == "POST":
            changes: dict[str, str | None] = {}
            for key, default, _ in self.strings:
                if f"text.{key}" in page.form:
                    text = page.field(f"text.{key}").replace("\r\n", "\n")
                    changes[key] = None if page.field(f"use.{key}") != "custom" or text == default else text
            await self.strings.change(changes)
            message = "Updated."
        wanted = page.query("filter").lower()
        rows: list[tuple[str, str, str]] = [
            (key, default, self.strings.template(key))
            for key, default, _ in self.strings
            if wanted in key.lower() or wanted in default.lower()
        ]
        return page.show(
            "strings.html", title="Strings", rows=rows, count=len(list(self.strings)), message=message or page.message
        )


def _locks_out(page: Page, settings: Settings, changes: Mapping[str, Value]) -> str:
    """A question for an administrator who is about to shut himself out of these pages; empty if he is not."""
    address = page.caller.address
    if not address:
        return ""
    group = settings.group.name
    try:
        new = {key: setting.parse(value) for key, value in changes.items() if (setting := settings.group.find(key))}
    except ValueError:
        return ""  # the update tells what is wrong
    if group == "HTTPA":
        if new.get("Channels") == 0:
            return "Without channels nobody can open these pages any more."
        rows = new.get("Listener")
        if rows is not None and not any(_permits(row, address) for row in rows):
            return f"No socket would let your own address [{address}] in: you could not open these pages any more."
    if DENIED.key in new and address in new[DENIED.key]:
        return f"Your own address [{address}] would be denied: you could not open these pages any more."
    if new.get(CLIENT_ONLY.key) and not page.caller.client:
        return f"Your own address [{address}] is not a client address: you could not log in any more."
    return ""


def _permits(row: Mapping[str, Any], address: str) -> bool:
    restriction = row[RESTRICTION.key]
    return bool(restriction == "None" or (address in row[LIST.key]) == (restriction == "Grant"))
