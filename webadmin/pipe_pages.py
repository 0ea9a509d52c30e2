"""The PIPE monitor: programs that run, messages that wait for one, the Submitted folder, the Foreign Queue (manual, chapter 33)."""

from __future__ import annotations

from starlette.responses import Response

from appliance.kernel.operations import OperationError
from webadmin.site import Page, table


class PipePages:
    async def monitor(self, page: Page) -> Response:
        error = ""
        if page.method == "POST":
            try:
                return page.go("/Monitors/PIPE", await self._act(page))
            except OperationError as failure:
                error = failure.text
        found = await page.perform("GetPipeStatus")
        status = found if isinstance(found, dict) else {}
        submitted = status.get("Submitted")
        files = submitted if isinstance(submitted, dict) else {}
        return page.show(
            "pipe.html",
            title="PIPE",
            running=table(status.get("Running")),
            queues=[{"Next": "", "Text": "", **row} for row in table(await page.perform("ListQueues", module="PIPE"))],
            waiting=str(files.get("Waiting", "0")),
            bad=table(files.get("Bad")),
            foreign=str(status.get("ForeignQueue", "0")),
            error=error,
            status=400 if error else 200,
        )

    async def _act(self, page: Page) -> str:
        act, _, host = page.action.partition(":")
        if act == "submitted":
            return f"Messages submitted: {await page.perform('CheckSubmitted')}."
        if act == "foreign":
            return f"Messages taken from the Foreign Queue: {await page.perform('CheckForeignQueue')}."
        if act == "again":
            count = str(await page.perform("ResubmitFile", fileName=host))
            return f"{host} was submitted." if count != "0" else f"{host} was tried again."
        if act == "remove":
            await page.perform("RemoveSubmittedFile", fileName=host)
            return f"{host} was removed."
        if act == "reject":
            text = page.field("text").strip()
            await page.perform("RejectQueue", module="PIPE", host=host, **({"errorText": text} if text else {}))
            return f"The messages of queue {host} were rejected; their senders are told."
        if act == "release":
            await page.perform("ReleaseQueue", module="PIPE", host=host)
            return f"The queue {host} was released."
        return ""
