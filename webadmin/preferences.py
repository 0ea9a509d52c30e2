"""Preferences: how many items lists show at first, how often monitors look again (manual, chapter 5, WebAdmin Settings).

Each realm has its own; they belong to the administrator, in the settings of his account.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from appliance.administration.forms import build, keep, read
from appliance.kernel.operations import OperationError
from appliance.kernel.settings import Group, MemoryStorage, Number, Setting, SettingError, Settings, Time
from webadmin.site import NotFound, Page

__all__ = ["ITEMS", "LOGS", "QUEUE_ITEMS", "REFRESH", "PreferencesPages", "preferences", "prepare"]

ITEMS = Setting("Items", Number(1, 1000), 100, "Items of a list shown at first")
QUEUE_ITEMS = Setting("Items", Number(1, 1000), 1000, "Items of a list shown at first")
LOGS = Setting("Logs", Number(1, 1000), 100, "Log files shown at first")
REFRESH = Setting("Refresh", Time(0, 3600), 30, "Monitors look again every", help="0 seconds: never")

GROUPS: Final = {
    "Domains": Group("Domains", "Accounts & Domains", (ITEMS,)),
    "Monitors": Group("Monitors", "Monitors", (QUEUE_ITEMS, LOGS, REFRESH)),
}
"""The realms that have any, by the first part of their path."""


async def preferences(page: Page, realm: str) -> Settings:
    """What the page's administrator prefers in a realm; what is missing or damaged counts as the default."""
    settings = Settings(GROUPS[realm], MemoryStorage())
    try:
        stored = await page.perform("GetWebAdminPreferences")
        mine = stored.get(realm) if isinstance(stored, dict) else None
        if isinstance(mine, dict):
            await settings.update(mine)
    except (OperationError, SettingError):
        pass
    return settings


async def prepare(page: Page) -> None:
    """Tell a monitor's page how often it is to be looked at again."""
    if page.realm is not None and page.realm.path == "/Monitors/" and page.method == "GET":
        page.refresh = (await preferences(page, "Monitors"))[REFRESH]


class PreferencesPages:
    """`/Domains/-/Preferences` and its likes, one for each realm."""

    def __init__(self, realm: str) -> None:
        self.realm = realm

    async def page(self, page: Page) -> Response:
        """Show and change them."""
        if self.realm not in GROUPS:
            raise NotFound
        settings = await preferences(page, self.realm)
        message = error = ""
        if page.method == "POST":
            changes = read(settings, page.form, inherits=False)
            try:
                await settings.update(changes)
                await page.perform("SetWebAdminPreferences", realm=self.realm, newPreferences=settings.stored())
                message = "Updated." if changes else "Nothing was changed."
            except (OperationError, SettingError) as failure:
                error = str(failure)
        panels = build(settings, inherits=False)
        if error:
            keep(panels, page.form, error)
        return page.show(
            "preferences.html",
            title="Preferences",
            panels=panels,
            message=message,
            error=error,
            services=(),
            status=400 if error else 200,
        )
