"""The sockets of the running server: how they are set on pages, who comes in, what is secure."""

from __future__ import annotations

import ssl

import pytest
import trio

from appliance.formats.data import Value
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import House, Line, until


async def reachable(house: House, port: int) -> bool:
    try:
        line = await house.connect(port)
    except OSError:
        return False
    await line.aclose()
    return True


@pytest.mark.feature("LSN-004", "LSN-005")
async def test_sockets_are_added_and_removed_on_the_page(house: House) -> None:
    page = "/Settings/POP"
    form = (await house.page(page)).form()
    ports = [str(form[f"Listener.{row}.Port"]) for row in range(20) if f"Listener.{row}.Port" in form]
    assert ports[-1] == "0", "the last row is empty"
    last = len(ports) - 1
    extra = house.port("POP") + 3
    form[f"Listener.{last}.Port"] = str(extra - house.offset)
    assert (await house.page(page, form | {"do-update": "1"})).status == 200
    await until(lambda: reachable(house, extra))
    assert await reachable(house, house.port("POP"))

    form = (await house.page(page)).form()
    assert form[f"Listener.{last}.Port"] == str(extra - house.offset)
    assert form[f"Listener.{last + 1}.Port"] == "0"
    form[f"Listener.{last}.Port"] = "0"
    await house.page(page, form | {"do-update": "1"})

    async def gone() -> bool:
        return not await reachable(house, extra)

    await until(gone)
    assert await reachable(house, house.port("POP"))


@pytest.mark.feature("LSN-052")
async def test_the_page_of_a_listener_gives_advice(house: House) -> None:
    body = (await house.page("/Settings/IMAP")).body
    assert "at least 5 for IMAP" in body and "HTTP proxy" in body


@pytest.mark.feature("LSN-033")
async def test_encryption_on_a_clear_port_depends_on_the_certificate(house: House) -> None:
    """Offered while the domain has one, and it works; not offered without one."""
    smtp = await house.connect("SMTP")
    assert "STARTTLS" in await smtp.smtp("EHLO me.test")
    assert (await smtp.smtp("STARTTLS")).startswith("220")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    inside = trio.SSLStream(smtp.stream, context, server_hostname="box.test")
    await inside.send_all(b"EHLO me.test\r\n")
    assert (await inside.receive_some(1000)).startswith(b"250")
    pop = await house.connect("POP")
    assert (await pop.ask("STLS")).startswith("+OK")

    cli = await house.cli()
    await cli("UpdateDomainSettings box.test {CertificateType=No;}")
    smtp = await house.connect("SMTP")
    assert "STARTTLS" not in await smtp.smtp("EHLO me.test")
    assert not (await smtp.smtp("STARTTLS")).startswith("220")
    assert (await (await house.connect("POP")).ask("STLS")).startswith("-ERR")
    imap = await house.connect("IMAP")
    assert "STARTTLS" not in (await imap.imap("CAPABILITY"))[0]


@pytest.mark.feature("LSN-035", "LSN-034")
async def test_what_an_external_device_encrypts_is_secure(house: House, stranger: str) -> None:
    """A password in the clear from a stranger: refused on a clear port, good on an Ext port, where STLS is no more."""
    cli = await house.cli()
    await cli("UpdateAccountSettings ann {RequireAPOP=YES;}")
    extra = house.port("POP") + 3
    await cli(f'UpdateModule POP {{Listener=({{Port=110;}},{{Port="{extra - house.offset}";TLS=Ext;}});}}')
    await until(lambda: reachable(house, extra))

    clear = await house.connect("POP", stranger)
    await clear.ask("USER ann")
    assert (await clear.ask(f"PASS {PASSWORD}")).startswith("-ERR")
    external = await house.connect(extra, stranger)
    await external.send(b"CAPA\r\n")
    capabilities = []
    while (line := await external.line()) != ".":
        capabilities.append(line)
    assert "STLS" not in capabilities
    assert "USER" in capabilities
    assert (await external.ask("STLS")).startswith("-ERR")
    await external.ask("USER ann")
    assert (await external.ask(f"PASS {PASSWORD}")).startswith("+OK")


@pytest.mark.feature("LSN-046")
async def test_restricted_addresses_hear_nothing_and_non_clients_are_told(house: House, stranger: str) -> None:
    cli = await house.cli()
    await cli("UpdateModule IPAddresses {ClientOnly=YES;}")
    await cli("UpdateModule POP {ClearTextLogin=YES;}")
    line = await house.connect("POP", stranger, greeting=False)
    assert "access from your network is denied" in await line.line()
    assert await line.line() == "", "and closed at once"

    await cli(f'UpdateModule POP {{Listener=({{Port=110;Restriction=Deny;List="{stranger}";}});}}')

    async def silent() -> bool:
        try:
            line = await house.connect("POP", stranger, greeting=False)
            return await line.rest() == b""
        except OSError:
            return True

    await until(silent)
    assert await reachable(house, house.port("POP")), "others come in as before"


async def test_many_sessions_of_all_services_at_once(house: House) -> None:
    lines: list[Line] = []
    for service in ("SMTP", "POP", "IMAP", "PWD", "submission"):
        lines += [await house.connect(service) for _ in range(8)]
    for line in lines:
        await line.aclose()
    assert not house.crashes(await house.log())


@pytest.mark.feature("LSN-045")
async def test_restricted_addresses_are_cut_off_and_blacklisted_ones_are_refused_by_recipient(
    house: House, stranger: str
) -> None:
    """The first go to another mail host of ours, the second take their mail back."""
    cli = await house.cli()
    await cli(f'SetBlacklistedIPs "{stranger}"')
    line = await house.connect("SMTP", stranger)
    assert (await line.smtp("EHLO far.test")).startswith("250")
    assert (await line.smtp("MAIL FROM:<x@far.test>")).startswith("250")
    assert (await line.smtp("RCPT TO:<ann@box.test>")).startswith("5")
    await line.aclose()
    await cli('SetBlacklistedIPs ""')
    row: Value = {"Port": "25", "Restriction": "Deny", "List": stranger}
    await house.update("SMTP", Listener=[row])
    line = await house.connect("SMTP", stranger, greeting=False)
    assert await line.rest() == b""
    assert await house.connect("SMTP")
