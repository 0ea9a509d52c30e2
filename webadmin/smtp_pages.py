"""SMTP's own pages: its settings with Wake Up Now, and the monitor of its connections and host queues (manual, chapter 29)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.responses import Response

from appliance.formats.data import Value
from appliance.kernel.clock import Clock
from appliance.kernel.operations import OperationError, Right
from appliance.modules.smtp.settings import WAKEUP_HOST
from webadmin.settings_pages import SettingsPages
from webadmin.site import NotFound, Page, table

#: Rows of a table at most (manual, 62: queue pages).
LIMIT = 1000
#: Session tags, each with the heading of its table.
_CONNECTIONS = (
    ("SMTP", "Incoming connections"),
    ("SMTPO", "Outgoing connections"),
    ("SMTPW", "Wake-up sessions"),
)


class SmtpPages(SettingsPages):
    """Those of the other components are in SettingsPages."""

    def __init__(self, pages: SettingsPages, clock: Clock) -> None:
        super().__init__(pages.registry, pages.strings, pages.information)
        self.clock = clock

    async def module(self, page: Page) -> Response:
        """The settings; and, where there is a host to be woken up, the button that does it at once."""
        settings = self.registry.find("SMTP")
        if settings is None:
            raise NotFound("There is no such component.")
        page.caller.require(Right.SETTINGS)
        wakeup_error = ""
        if page.method == "POST" and page.action == "wake":
            try:
                await page.perform("WakeUpNow")
            except OperationError as error:
                wakeup_error = error.text
            else:
                return page.go("/Settings/SMTP", "The wake-up session has begun.")
        result = await self._update(page, settings)
        return self._show(
            page,
            settings,
            result,
            "smtp.html",
            wakeup_host=settings[WAKEUP_HOST].strip(),
            wakeup_error=wakeup_error,
            wakeup=await self._last(page),
        )

    async def _last(self, page: Page) -> Mapping[str, object]:
        """How the last wake-up went; empty for who may not see it."""
        try:
            found = await page.perform("GetWakeUpStatus")
        except OperationError:
            return {}
        if not isinstance(found, dict):
            return {}
        return {**found, "Time": self._when(found.get("Time", ""))}

    def _when(self, value: Value) -> str:
        """Seconds since 1970 as local time."""
        text = str(value)
        return self.clock.local(int(text)).strftime("%Y-%m-%d %H:%M:%S") if text.isdigit() else text

    async def monitor(self, page: Page) -> Response:
        """What comes in, what goes out, and what waits for which host."""
        if page.method == "POST":
            return await self._act(page)
        connections = []
        for tag, title in _CONNECTIONS:
            rows = table(await page.perform("ListSessions", tag=tag))
            shown = [{**row, "Started": self._when(row["Started"])} for row in rows[:LIMIT]]
            connections.append((tag, title, shown, len(rows)))
        queues = table(await page.perform("ListQueues", module="SMTP"))
        return page.show(
            "smtp_monitor.html",
            title="SMTP",
            connections=connections,
            queues=[
                {**row, "Next": self._local(row.get("Next", "")), "Text": row.get("Text", "")} for row in queues[:LIMIT]
            ],
        )

    def _local(self, value: Value) -> str:
        """`yyyymmddhhmmss` in GMT as local time."""
        text = str(value)
        if len(text) != 14 or not text.isdigit():
            return text
        seconds = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
        return self.clock.local(seconds).strftime("%Y-%m-%d %H:%M:%S")

    async def _act(self, page: Page) -> Response:
        act, _, name = page.action.partition(":")
        if act == "end":
            await page.perform("KillSession", sessionNumber=int(name) if name.isdigit() else 0)
            return page.go("/Monitors/SMTP", "The session was ended.")
        if act == "reject":
            text = page.field("text").strip()
            await page.perform("RejectQueue", module="SMTP", host=name, **({"errorText": text} if text else {}))
            return page.go("/Monitors/SMTP", f"All messages for {name} were rejected; their senders are told.")
        await page.perform("ReleaseQueue", module="SMTP", host=name)
        return page.go("/Monitors/SMTP", f"The queue of {name} was released.")
