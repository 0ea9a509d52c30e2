"""The Monitors realm: sessions, the queue, logs (manual, chapters 4, 6 and 26)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from html import escape

from starlette.responses import Response, StreamingResponse

from appliance.formats.data import Value
from appliance.kernel.clock import Clock
from appliance.kernel.log_reading import LogReader, View
from appliance.kernel.operations import OperationError, Right
from appliance.kernel.settings import LEVELS, Settings
from webadmin.preferences import LOGS, QUEUE_ITEMS, preferences
from webadmin.site import HEADERS, NotFound, Page, table, texts

#: Items of a monitor page at most (manual, 62: queue pages).
LIMIT = 1000
#: Recipients of a message that its line in the list names.
_NAMED = 3
#: Where the records of a log go in its page.
_RECORDS = "\x00records\x00"
_GRAVE = re.compile(r"^(\S+ ([01]) .*)$", re.MULTILINE)


def _limit(page: Page, usual: int) -> int:
    text = page.query("limit")
    return min(int(text), LIMIT) if text.isdigit() and 0 < len(text) < 8 and int(text) > 0 else usual


class MonitorPages:
    def __init__(self, clock: Clock, reader: LogReader, log_settings: Settings) -> None:
        self.clock = clock
        self.reader = reader
        self.log_settings = log_settings

    def _when(self, value: Value) -> str:
        """Seconds since 1970, or `yyyymmddhhmmss` in GMT, as local time."""
        text = str(value)
        if len(text) == 14 and text.isdigit():
            seconds = datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
        elif text.replace(".", "", 1).isdigit():
            seconds = float(text)
        else:
            return text
        return self.clock.local(seconds).strftime("%Y-%m-%d %H:%M:%S")

    async def index(self, page: Page) -> Response:
        counts: dict[str, str] = {}
        for name, operation in (("Queue", "ListQueuedMessages"), ("Access", "ListSessions")):
            with suppress(OperationError):
                found = await page.perform(operation)
                counts[name] = str(found.get("Total")) if isinstance(found, dict) else str(len(table(found)))
        return page.show("monitors.html", title="Monitors", counts=counts)

    async def access(self, page: Page) -> Response:
        """Open sessions."""
        message = ""
        if page.method == "POST":
            await page.perform("KillSession", sessionNumber=int(page.action) if page.action.isdigit() else 0)
            message = "The session was ended."
        rows = table(await page.perform("ListSessions"))
        shown = [{**row, "Started": self._when(row["Started"])} for row in rows[:LIMIT]]
        return page.show("access.html", title="Access", rows=shown, count=len(rows), message=message)

    # Queue ---------------------------------------------------------------------------------------------------------

    async def queue(self, page: Page) -> Response:
        """All messages, at most 1000 of them; the waiting queues of modules."""
        if page.method == "POST":
            return await self._act_on_queue(page)
        found = await page.perform("ListQueuedMessages")
        messages = table(found.get("Messages")) if isinstance(found, dict) else []
        total = str(found.get("Total", len(messages))) if isinstance(found, dict) else "0"
        wanted = page.query("filter").lower()
        rows = [self._message_row(row) for row in messages if not wanted or wanted in _searched(row)]
        queues = table(await page.perform("ListQueues"))
        chosen = await preferences(page, "Monitors")
        return page.show(
            "queue.html",
            title="Queue",
            rows=rows[: (limit := _limit(page, chosen[QUEUE_ITEMS]))],
            limit=limit,
            count=len(rows),
            total=total,
            listed=len(messages),
            queues=[{**row, "Next": self._when(row.get("Next", "")), "Text": row.get("Text", "")} for row in queues],
        )

    def _message_row(self, row: Mapping[str, Value]) -> dict[str, object]:
        recipients = texts(row.get("Recipients"))
        more = len(recipients) - _NAMED
        shown = ", ".join(recipients[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return {**row, "Arrived": self._when(row.get("Arrived", "")), "Recipients": shown}

    async def _act_on_queue(self, page: Page) -> Response:
        act, _, name = page.action.partition(":")
        module, _, host = name.partition(":")
        if act == "reject":
            text = page.field("text").strip()
            await page.perform("RejectQueue", module=module, host=host, **({"errorText": text} if text else {}))
            return page.go("/Monitors/Queue", f"All messages of {module} {host} were rejected; their senders are told.")
        await page.perform("ReleaseQueue", module=module, host=host)
        return page.go("/Monitors/Queue", f"The queue {module} {host} was released.")

    async def message(self, page: Page) -> Response:
        """One message: envelope, state of each recipient, header; reject."""
        number = page.name("id")
        if page.method == "POST":
            text = page.field("text").strip()
            await page.perform("RejectQueueMessage", messageID=number, **({"errorText": text} if text else {}))
            return page.go("/Monitors/Queue", f"Message {number} was rejected; its sender is told.")
        try:
            found = await page.perform("GetQueuedMessage", messageID=number)
        except OperationError as error:
            raise NotFound(error.text) from None
        if not isinstance(found, dict):
            raise NotFound("There is no such message.")
        recipients = [
            {"Module": "", "Host": "", "Text": "", "Code": "", **row, "Next": self._when(row.get("Next", ""))}
            for row in table(found.get("Recipients"))
        ]
        return page.show(
            "message.html",
            title=f"Message {number}",
            found={**found, "Arrived": self._when(found.get("Arrived", ""))},
            recipients=recipients,
        )

    # Logs ----------------------------------------------------------------------------------------------------------

    async def logs(self, page: Page) -> Response:
        """The log files, newest first; the Log Engine options."""
        message = error = ""
        if page.method == "POST":
            try:
                message = await self._change_logs(page)
            except OperationError as failure:
                error = failure.text
        files = await self.reader.files(page.query("filter"))
        chosen = await preferences(page, "Monitors")
        settings = [(s.title or s.key, s.key, s.kind.render(self.log_settings[s])) for s in self.log_settings.group]
        return page.show(
            "logs.html",
            title="Logs",
            files=files[: (limit := _limit(page, chosen[LOGS]))],
            limit=limit,
            count=len(files),
            settings=settings,
            tune=page.may(Right.TUNE_LOGGER),
            message=message,
            error=error,
            status=400 if error else 200,
        )

    async def _change_logs(self, page: Page) -> str:
        if page.action == "delete":
            names = page.form.get("file", [])
            for name in names:
                await page.perform("DeleteLog", fileName=name)
            return f"{len(names)} deleted."
        changes = {s.key: page.field(s.key).strip() for s in self.log_settings.group if s.key in page.form}
        await page.perform("UpdateLogSettings", newSettings=changes)
        return "Updated."

    async def log(self, page: Page) -> Response:
        """One log: at first all its records; a view with an end in the future stays open until then."""
        name = page.name("file")
        page.caller.require(Right.MONITOR)
        if name not in [file.name for file in await self.reader.files()]:
            raise NotFound("There is no such log.")
        level = page.query("level", "5")
        view = View(
            level=int(level) if level in dict(LEVELS) else 5,
            filter=page.query("filter"),
            start=page.query("from"),
            end=page.query("to", "*") or "*",
        )
        try:
            view.compiled()
        except ValueError as error:
            return page.show(
                "log.html", title=f"Log {name}", levels=LEVELS, view=view, records="", error=str(error), status=400
            )
        if page.query("as") == "text":
            headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
            return StreamingResponse(self._records(name, view), media_type="text/plain; charset=utf-8", headers=headers)
        text = page.render("log.html", title=f"Log {name}", levels=LEVELS, view=view, records=_RECORDS)
        before, _, after = text.partition(_RECORDS)

        async def body() -> AsyncIterator[str]:
            yield before
            async for chunk in self._records(name, view):
                yield _GRAVE.sub(r'<b class="l\2">\1</b>', escape(chunk.decode("utf-8", "replace")))
            yield after

        return StreamingResponse(body(), media_type="text/html; charset=utf-8", headers=HEADERS)

    async def _records(self, name: str, view: View) -> AsyncIterator[bytes]:
        async with aclosing(self.reader.view(name, view)) as pieces:
            async for piece in pieces:
                yield piece


def _searched(row: Mapping[str, Value]) -> str:
    return " ".join([str(row.get("ID")), str(row.get("Sender")), *texts(row.get("Recipients"))]).lower()
