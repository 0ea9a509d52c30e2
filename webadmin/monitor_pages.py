"""The Monitors realm: sessions, the queue, logs (manual, chapters 4, 6 and 26)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from appliance.formats.data import Value
from appliance.kernel.clock import Clock
from appliance.kernel.log_reading import LogReader, View
from appliance.kernel.operations import OperationError, Right
from appliance.kernel.settings import LEVELS, Settings
from webadmin.site import NotFound, Page, table

#: Items of a monitor page at most (manual, 62: queue pages).
LIMIT = 1000
LOG_LIMIT = 100


class MonitorPages:
    def __init__(self, clock: Clock, reader: LogReader, log_settings: Settings) -> None:
        self.clock = clock
        self.reader = reader
        self.log_settings = log_settings

    def _when(self, seconds: Value) -> str:
        text = str(seconds)
        return (
            self.clock.local(float(text)).strftime("%Y-%m-%d %H:%M:%S") if text.replace(".", "", 1).isdigit() else text
        )

    async def index(self, page: Page) -> Response:
        return page.show("monitors.html", title="Monitors")

    async def access(self, page: Page) -> Response:
        """Open sessions."""
        message = ""
        if page.method == "POST":
            await page.perform("KillSession", sessionNumber=int(page.action or "0") if page.action.isdigit() else 0)
            message = "The session was ended."
        rows = table(await page.perform("ListSessions"))
        shown = [{**row, "Started": self._when(row["Started"])} for row in rows[:LIMIT]]
        return page.show("access.html", title="Access", rows=shown, count=len(rows), message=message)

    # Queue ---------------------------------------------------------------------------------------------------------

    async def queue(self, page: Page) -> Response:
        """All messages, at most 1000 of them; the waiting queues of modules."""
        messages = table(await page.perform("ListMessages"))
        queues = table(await page.perform("ListQueues"))
        if page.method == "POST":
            module, _, host = page.action.partition(":")
            await page.perform("ReleaseQueue", moduleName=module, queueName=host)
            return page.go("/Monitors/Queue", "The queue was released.")
        return page.show(
            "queue.html",
            title="Queue",
            rows=[{**row, "Received": self._when(row.get("Received", ""))} for row in messages[:LIMIT]],
            count=len(messages),
            limit=LIMIT,
            queues=queues,
        )

    async def message(self, page: Page) -> Response:
        """One message: envelope, state of each recipient, header; reject, release."""
        number = page.name("id")
        if page.method == "POST":
            if page.action == "reject":
                await page.perform("RejectMessage", messageID=number, errorText=page.field("text"))
                return page.go("/Monitors/Queue", f"Message {number} was rejected.")
            await page.perform("ReleaseMessage", messageID=number)
            return page.go(f"/Monitors/Queue/{number}", "Released.")
        try:
            found = await page.perform("GetMessage", messageID=number)
        except OperationError as error:
            raise NotFound(error.text) from None
        if not isinstance(found, dict):
            raise NotFound("There is no such message.")
        recipients = table(found.get("Recipients"))
        return page.show(
            "message.html",
            title=f"Message {number}",
            found={**found, "Received": self._when(found.get("Received", ""))},
            recipients=recipients,
            number=number,
        )

    # Logs ----------------------------------------------------------------------------------------------------------

    async def logs(self, page: Page) -> Response:
        """The log files, newest first; the Log Engine options."""
        message = error = ""
        if page.method == "POST":
            if page.action == "delete":
                names = page.form.get("file", [])
                for name in names:
                    await page.perform("DeleteLog", fileName=name)
                message = f"{len(names)} deleted."
            else:
                changes = {
                    key: page.field(key)
                    for key in (setting.key for setting in self.log_settings.group)
                    if key in page.form
                }
                try:
                    await page.perform("UpdateLogSettings", newSettings=changes)
                    message = "Updated."
                except OperationError as failure:
                    error = failure.text
        limit = int(page.query("limit")) if page.query("limit").isdigit() else LOG_LIMIT
        files = await self.reader.files(page.query("filter"))
        settings = [(s.title or s.key, s.key, s.kind.render(self.log_settings[s])) for s in self.log_settings.group]
        return page.show(
            "logs.html",
            title="Logs",
            files=files[:limit],
            count=len(files),
            settings=settings,
            tune=page.may(Right.TUNE_LOGGER),
            message=message,
            error=error,
        )

    async def log(self, page: Page) -> Response:
        """One log: a form, and with `show` the records as text, also those that are stored until the end time."""
        name = page.name("file")
        if name not in [file.name for file in await self.reader.files()]:
            raise NotFound("There is no such log.")
        if "level" not in page.request.query_params:
            return page.show("log.html", title=f"Log {name}", name=name, levels=LEVELS)
        level = page.query("level", "5")
        view = View(
            level=int(level) if level.isdigit() else 5,
            filter=page.query("filter"),
            start=page.query("from"),
            end=page.query("to", "*") or "*",
        )

        async def body() -> AsyncIterator[bytes]:
            async for chunk in self.reader.view(name, view):
                yield chunk

        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return StreamingResponse(body(), media_type="text/plain; charset=utf-8", headers=headers)
