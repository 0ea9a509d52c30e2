"""The Settings realm: a page for each component, made from its declared settings; General, Router and Strings add their acts."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from appliance.administration.forms import Panel, build, read
from appliance.formats.data import Value
from appliance.kernel.operations import OperationError, Right
from appliance.kernel.settings import Settings, SettingsRegistry
from appliance.kernel.strings import Strings
from appliance.objects.declarations import MAIN_DOMAIN, SERVICES
from webadmin.site import NotFound, Page, texts


@dataclass(frozen=True, slots=True)
class Information:
    """What the General page tells of the machine: label and value."""

    label: str
    value: str


class SettingsPages:
    """`information` gives the fields of the General page (manual, chapter 4)."""

    def __init__(self, registry: SettingsRegistry, strings: Strings, information: list[Information]) -> None:
        self.registry = registry
        self.strings = strings
        self.information = information

    async def index(self, page: Page) -> Response:
        """All components."""
        components = [settings.group for settings in self.registry.all()]
        return page.show("settings_index.html", title="Settings", components=components)

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
        message, error = await self._update(page, settings)
        return self._show(page, settings, message, error)

    async def _update(self, page: Page, settings: Settings, leave_out: tuple[str, ...] = ()) -> tuple[str, str]:
        """Apply a posted form; a message or an error text."""
        if page.method != "POST" or page.action not in ("", "update"):
            return "", ""
        changes = {k: v for k, v in read(settings, page.form, inherits=False).items() if k not in leave_out}
        try:
            if changes:
                await page.perform("UpdateModule", moduleName=settings.group.name, newSettings=changes)
        except OperationError as error:
            return "", error.text
        return "Updated.", ""

    def _show(
        self, page: Page, settings: Settings, message: str, error: str, template: str = "component.html", **more: object
    ) -> Response:
        leave_out = (MAIN_DOMAIN.key,) if settings.group.name == "General" else ()
        panels: list[Panel] = build(settings, inherits=False, leave_out=leave_out)
        return page.show(
            template,
            title=settings.group.title,
            panels=panels,
            message=message,
            error=error,
            services=SERVICES,
            status=400 if error else 200,
            **more,
        )

    async def _router(self, page: Page, settings: Settings) -> Response:
        message, error = await self._update(page, settings)
        address, result = page.field("address"), ""
        if page.method == "POST" and page.action == "test" and address:
            try:
                found = texts(await page.perform("Route", address=address))
                result = f"module {found[0]}, host {found[1]}, address {found[2]}"
            except OperationError as failure:
                result = f"refused: {failure.text}"
        return self._show(page, settings, message, error, "router.html", address=address, result=result)

    async def _general(self, page: Page, settings: Settings) -> Response:
        message, error = await self._update(page, settings, (MAIN_DOMAIN.key,))
        name = page.field("main_domain")
        current = str(await page.perform("MainDomainName"))
        if page.method == "POST" and name and name.lower() != current and not error:
            try:
                await page.perform("RenameMainDomain", newDomainName=name)
                current, message = name.lower(), "Updated."
            except OperationError as failure:
                message, error = "", failure.text
        return self._show(
            page, settings, message, error, "general.html", main_domain=current, information=self.information
        )

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
        rows: list[tuple[str, str, str]] = [
            (key, default, self.strings.template(key)) for key, default, _ in self.strings
        ]
        return page.show("strings.html", title="Strings", rows=rows, message=message)


def shown(value: Value | None) -> str:
    """A value for a cell."""
    return ", ".join(str(v) for v in value) if isinstance(value, list) else str(value or "")
