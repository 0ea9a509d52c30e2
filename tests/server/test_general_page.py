"""The General page of the running server: what it tells, and what its buttons do."""

from __future__ import annotations

import re

import pytest

from tests.server.conftest import House, until


def field(body: str, label: str) -> str:
    """What the page shows beside a label."""
    match = re.search(rf'<span class="label">{label}</span><div>(.*?)</div>', body, re.DOTALL)
    assert match is not None, f"no field {label}"
    return match[1]


@pytest.mark.feature("ADM-045")
async def test_the_information_fields(house: House) -> None:
    await house.update("DNR", DNSAddresses="Custom", CustomAddresses=["192.0.2.53", "192.0.2.54:5353"])
    body = (await house.page("/Settings/General")).body
    assert re.fullmatch(r"<span>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}</span>", field(body, "Server time"))
    assert "Pillarbox" in field(body, "Version")
    assert field(body, "Operating system") and field(body, "Hardware")
    assert "[127.0.0.1]" in field(body, "Local IP addresses")
    assert re.findall(r">(\[.*?\S)</span>", field(body, "DNS server addresses")) == [
        "[192.0.2.53]",
        "[192.0.2.54]:5353",
    ]
    assert re.fullmatch(r"<span>0 d 00:0\d:\d\d</span>", field(body, "Up-time"))


@pytest.mark.feature("ADM-046", "ACC-019")
async def test_addresses_of_no_domain_are_marked(house: House) -> None:
    cli = await house.cli()
    assert "marked" not in field((await house.page("/Settings/General")).body, "Local IP addresses")
    await cli('UpdateDomainSettings box.test {IPMode="Manually Defined"; IPAddresses=();}')
    shown = field((await house.page("/Settings/General")).body, "Local IP addresses")
    assert re.search(r'class="marked"[^>]*>\[127\.0\.0\.1\]', shown)
    await cli("UpdateDomainSettings box.test {IPAddresses=(127.0.0.1);}")
    shown = field((await house.page("/Settings/General")).body, "Local IP addresses")
    assert re.search(r"<span>\[127\.0\.0\.1\]", shown)


@pytest.mark.feature("ADM-047", "ADM-048")
async def test_refresh_reads_the_system_anew(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for act in ("page", "cli"):
        address = {"page": "192.0.2.99", "cli": "192.0.2.100"}[act]
        monkeypatch.setattr(
            "appliance.server_operations.local_addresses", lambda address=address: ["127.0.0.1", address]
        )
        assert address not in field((await house.page("/Settings/General")).body, "Local IP addresses")
        if act == "page":
            answer = await house.page("/Settings/General", {"do-refresh": "1"})
            assert answer.status == 200
        else:
            await (await house.cli())("RefreshOSData")
        assert address in field((await house.page("/Settings/General")).body, "Local IP addresses")


@pytest.mark.feature("ADM-043")
async def test_the_level_of_internal_records(house: House) -> None:
    async def records() -> int:
        return len(re.findall(r" SYSTEM ", await house.log()))

    await house.update("General", LogLevel="0")
    before = await records()
    await house.update("POP", Channels="11")
    assert await records() == before
    await house.update("General", LogLevel="5")
    await house.update("POP", Channels="12")

    async def more() -> bool:
        return await records() > before

    await until(more)
