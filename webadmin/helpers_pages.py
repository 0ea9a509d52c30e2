"""The Helpers page: the content filters, each with its program and how it is, and the other helper programs (manual,
chapters 8 and 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from appliance.administration.forms import Field, build, keep, read
from appliance.filters.settings import FILTERS
from appliance.formats.data import Value
from appliance.kernel.operations import OperationError
from appliance.kernel.settings import SettingsRegistry
from webadmin.site import NotFound, Page, table


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of the page: its fields, and what its program does. `name` is empty for the one that can be added."""

    name: str
    fields: list[Field]
    enabled: Field
    status: Mapping[str, Value]


class HelpersPages:
    def __init__(self, registry: SettingsRegistry) -> None:
        self._registry = registry

    async def helpers(self, page: Page) -> Response:
        """All filters; Update starts and stops their programs, and tells which cannot be started."""
        settings = self._registry.find("Helpers")
        if settings is None:
            raise NotFound("There is no such page.")
        message = error = ""
        if page.method == "POST":
            try:
                message = await self._change(page)
            except OperationError as failure:
                error = failure.text
        rows = {str(row["Name"]): row for row in table(await page.perform("ListHelpers"))}
        panels = build(settings, inherits=False)
        if error and page.action in ("", "update"):
            keep(panels, page.form, error)
        elif not error:
            troubles = [f"{name}: {row['Error']}" for name, row in rows.items() if row.get("Error")]
            error = "; ".join(troubles) if message else ""
        filters = []
        field = next(field for panel in panels for field in panel.fields if field.key == FILTERS.key)
        for cells in field.rows:
            name = cells[0].value
            filters.append(Filter(name, [cells[0], *cells[2:]], cells[1], rows.get(name, {})))
        return page.show(
            "helpers.html",
            title="Helpers",
            filters=filters,
            others=[panel for panel in panels if field not in panel.fields],
            message="" if error else message or page.message,
            error=error,
            status=400 if error and not message else 200,
        )

    async def _change(self, page: Page) -> str:
        settings = self._registry.find("Helpers")
        assert settings is not None
        act, _, name = page.action.partition(":")
        if act == "restart":
            await page.perform("RestartHelper", helperName=name)
            return f"{name} was started."
        changes = read(settings, page.form, inherits=False)
        if changes:
            await page.perform("UpdateModule", moduleName="Helpers", newSettings=changes)
        await page.perform("StartHelpers")
        return "Updated."
