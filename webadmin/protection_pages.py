"""The Protection pages of the Settings realm: client addresses, offenders, banned lines (manual, chapter 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from appliance.formats.data import Value
from appliance.kernel.operations import OperationError, Right
from webadmin.settings_pages import SettingsPages
from webadmin.site import NotFound, Page, texts

_TABS: Final = (
    ("Client IP Addresses", "/Settings/IPAddresses"),
    ("Blacklisted IP Addresses", "/Settings/Protection"),
    ("RFC822 Receiver", "/Settings/Banned"),
)
_BANNED: Final = (("HeaderLines", "Banned Header Lines"), ("BodyLines", "Banned Body Lines"))
_STOPPED: Final = {
    "Harvesters": "tried too many unknown recipients",
    "Lists": "a list in DNS that gives no answer",
    "Devices": "a device that has sent too much",
    "Accounts": "an account that has sent too much",
}
_KINDS: Final = {
    "self": "this computer",
    "member": "another member of the cluster",
    "client": "a client address",
    "denied": "a denied address",
    "stranger": "not a client address",
}


class ProtectionPages(SettingsPages):
    """Three pages that lead to each other; the first two have a box that tells what an address is."""

    async def addresses(self, page: Page) -> Response:
        """Client IP Addresses, log-ins and mobile users, denied addresses."""
        return await self._lists(page, "IPAddresses")

    async def protection(self, page: Page) -> Response:
        """Blacklists, white holes, limits, devices; who is stopped now."""
        kind, _, name = page.action.partition(":")
        if page.method == "POST" and kind == "reset":
            await page.perform("ResetProtection", name=name)
            return page.go("/Settings/Protection", f"{name} begins anew.")
        return await self._lists(page, "Protection", await _stopped(page))

    def _tabs(self) -> list[tuple[str, str]]:
        return [(title, path) for title, path in _TABS if self.registry.find(path.rpartition("/")[2]) is not None]

    async def _lists(self, page: Page, name: str, stopped: Sequence[tuple[str, str]] = ()) -> Response:
        page.caller.require(Right.SETTINGS)
        settings = self.registry.find(name)
        if settings is None:
            raise NotFound("There is no such component.")
        result = await self._update(page, settings)
        address, tested = page.field("address").strip(), ""
        if page.method == "POST" and page.action == "test" and address:
            tested = await _tested(page, address)
        return self._show(
            page,
            settings,
            result,
            "protection.html",
            stopped=stopped,
            tabs=self._tabs(),
            address=address,
            tested=tested,
        )

    async def banned(self, page: Page) -> Response:
        """Lines are added in the last, empty fields and removed by deleting their text."""
        message = error = ""
        if page.method == "POST":
            try:
                await page.perform("SetBanned", newSettings={key: _posted(page, key) for key, _ in _BANNED})
                message = "Updated."
            except OperationError as failure:
                error = failure.text
        found = await page.perform("GetBanned")
        stored = found if isinstance(found, dict) else {}
        lists = []
        for key, title in _BANNED:
            value = _posted(page, key) if error else stored.get(key, [])
            lines = [str(line) for line in value] if isinstance(value, list) else []
            lists.append((key, title, [*lines, ""]))
        return page.show(
            "banned.html",
            title="Banned Lines",
            tabs=self._tabs(),
            lists=lists,
            message=message or page.message,
            error=error,
            status=400 if error else 200,
        )


def _posted(page: Page, key: str) -> list[Value]:
    return [line.replace("\r\n", "\n") for line in page.form.get(key, []) if line.strip()]


async def _stopped(page: Page) -> list[tuple[str, str]]:
    """What is stopped, and why."""
    try:
        found = await page.perform("GetProtectionStatus")
    except OperationError:
        return []
    status = found if isinstance(found, dict) else {}
    return [(str(name), words) for kind, words in _STOPPED.items() for name in texts(status.get(kind))]


async def _tested(page: Page, address: str) -> str:
    try:
        found = await page.perform("CheckAddress", address=address)
    except OperationError as error:
        return error.text
    if not isinstance(found, dict):
        return ""
    words = [_KINDS.get(str(found.get("Kind")), str(found.get("Kind")))]
    if "Blacklisted" in found:
        words.append(f"blacklisted by {found['Blacklisted']}")
    if "Device" in found:
        words.append(f"a device that sends as {found['Device']}")
    return ", ".join(words)
