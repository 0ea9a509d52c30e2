"""What administrators prefer to see: each has his own, in his account."""

from __future__ import annotations

import re

import pytest

from appliance.formats.data import Value, parse
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import House


def refresh(body: str) -> str:
    found = re.search(r'http-equiv="refresh" content="(\d+)"', body)
    return found[1] if found else ""


@pytest.mark.feature("ADM-026", "ADM-133")
async def test_two_administrators_with_rates_of_their_own(house: House) -> None:
    cli = await house.cli()
    await cli("SetAccountRights bob (Monitor)")
    page = "/Monitors/Preferences"
    assert "Preferences" in (await house.page("/Monitors/")).body
    assert "Updated." in (await house.page(page, {"Refresh": "5s", "do-update": "1"})).body
    other = await house.page(page, {"Refresh": "0", "do-update": "1"}, name="bob", password=PASSWORD)
    assert "Updated." in other.body
    for path in ("/Monitors/Queue", "/Monitors/Access", "/Monitors/SMTP", "/Monitors/PIPE"):
        assert refresh((await house.page(path)).body) == "5", path
        assert refresh((await house.page(path, name="bob", password=PASSWORD)).body) == "", path
    for name, value in (("postmaster", "5s"), ("bob", "0s")):
        settings = parse((house.base / "Accounts" / f"{name}.macnt" / "account.settings").read_bytes())
        assert isinstance(settings, dict)
        assert settings["WebAdminPreferences"] == {"Monitors": {"Refresh": value}}
    bad = await house.page(page, {"Refresh": "often", "do-update": "1"})
    assert bad.status == 400 and refresh((await house.page("/Monitors/Queue")).body) == "5"


@pytest.mark.feature("ADM-026", "QUEUE-126")
async def test_how_many_items_lists_show(house: House) -> None:
    cli = await house.cli()
    element: Value = {"Day": "Monday", "From": "00:00", "To": "00:01"}
    await house.update("Schedule", Schedule=[element])  # what is sent stays in the queue
    for number in range(8):
        await cli(f"CreateAccount user{number}")
        assert (await house.mail(f"x{number}@far{number}.test")).startswith("250")

    def rows(body: str) -> int:
        return body.count("<tr><td>")

    assert rows((await house.page("/Domains/box.test/")).body) > 8
    await house.page("/Domains/-/Preferences", {"Items": "3", "do-update": "1"})
    body = (await house.page("/Domains/box.test/")).body
    assert rows(body) == 3 and "3 of 11 selected" in body
    assert rows((await house.page("/Domains/box.test/?limit=5")).body) == 5
    await house.page("/Monitors/Preferences", {"Items": "2", "do-update": "1"})
    body = (await house.page("/Monitors/Queue")).body
    assert rows(body) == 2 and re.search(r"2 of \d selected", body)
    assert (await house.page("/Monitors/Preferences", {"Items": "5000", "do-update": "1"})).status == 400
