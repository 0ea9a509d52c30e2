"""Administrators of the server and of single domains, over the command line: who may do what, and where it is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from appliance.formats.data import parse
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import CommandLine, House, Refusal


@pytest.fixture
async def master(house: House) -> AsyncIterator[CommandLine]:
    cli = await house.cli()
    await cli("CreateDomain client.test")
    for name in ("admin", "bob"):
        await cli(f"CreateAccount {name}@client.test {{Password={PASSWORD};}}")
    yield cli


async def admin(house: House, master: CommandLine, *rights: str) -> CommandLine:
    """A session of the domain's administrator, who holds these rights."""
    await master(f"SetAccountRights admin@client.test ({','.join(('Domain', *rights))})")
    return await house.cli("admin@client.test", PASSWORD)


async def refused(cli: CommandLine, command: str) -> bool:
    try:
        await cli(command)
    except Refusal:
        return True
    return False


@pytest.mark.feature("ADM-010", "ADM-011")
async def test_rights_are_read_and_replaced_and_kept_in_one_file(house: House, master: CommandLine) -> None:
    await master("SetAccountRights bob@client.test (Domain,CanCreateAccounts)")
    await master("SetAccountRights admin@client.test (Domain)")
    assert await master("GetAccountRights bob@client.test") == ["Domain", "CanCreateAccounts"]
    await master("SetAccountRights bob@client.test (CanCreateAliases)")
    assert await master("GetAccountRights bob@client.test") == ["CanCreateAliases"]
    path = house.base / "Domains" / "client.test" / "Settings" / "Access.settings"
    assert parse(path.read_bytes()) == {"admin": ["Domain"], "bob": ["CanCreateAliases"]}
    with pytest.raises(Refusal, match="main domain"):
        await master("SetAccountRights bob@client.test (Settings)")
    await master("SetAccountRights ann (Settings)")
    main = parse((house.base / "Accounts" / "Settings" / "Access.settings").read_bytes())
    assert isinstance(main, dict) and main["ann"] == ["Settings"]


@pytest.mark.feature("ADM-077")
async def test_a_domain_administrator_uses_the_command_line(house: House, master: CommandLine) -> None:
    cli = await admin(house, master)
    found = await cli("ListAccounts client.test")
    assert set(found) == {"admin", "bob"}
    assert await refused(cli, "ListAccounts box.test")
    assert await refused(cli, "ListDomains")


@pytest.mark.feature("ADM-076")
async def test_limits_of_the_domain_are_seen_and_not_changed(house: House, master: CommandLine) -> None:
    await master("UpdateDomainSettings client.test {AccountsLimit=2;}")
    cli = await admin(house, master, "CanCreateAccounts")
    settings = await cli("GetDomainSettings client.test")
    assert isinstance(settings, dict) and settings["AccountsLimit"] == "2"
    assert await refused(cli, "CreateAccount carl@client.test")
    try:
        await cli("UpdateDomainSettings client.test {AccountsLimit=3;}")
    except Refusal:
        pass
    assert await refused(cli, "CreateAccount carl@client.test")
    page = await house.page("/Domains/client.test/Settings", name="admin@client.test", password=PASSWORD)
    assert page.status == 200
    await master("UpdateDomainSettings client.test {AccountsLimit=0;}")
    assert await refused(master, "CreateAccount carl@client.test")


@pytest.mark.feature("ADM-081")
async def test_the_domains_that_a_domain_administers(house: House, master: CommandLine) -> None:
    for name in ("one.test", "two.test"):
        await master(f"CreateDomain {name}")
    assert await master("ListAdminDomains client.test") == []
    for name in ("one.test", "two.test"):
        await master(f"UpdateDomainSettings {name} {{AdminDomainName=client.test;}}")
    assert await master("ListAdminDomains client.test") == ["one.test", "two.test"]


@pytest.mark.feature("ADM-146")
async def test_alerts_of_a_domain(house: House, master: CommandLine) -> None:
    cli = await admin(house, master)
    assert await refused(cli, 'PostDomainAlert client.test ALERT "soon"')
    cli = await admin(house, master, "CanPostAlerts")
    await cli('PostDomainAlert client.test ALERT "maintenance at noon"')
    found = await cli("GetDomainAlerts client.test")
    assert isinstance(found, dict) and list(found.values()) == ["maintenance at noon"]
    (stamp,) = found
    await cli(f"RemoveDomainAlert client.test ALERT {stamp}")
    assert await cli("GetDomainAlerts client.test") == {}


@pytest.mark.feature("ADM-148")
async def test_access_to_the_mailboxes_of_all_accounts(house: House, master: CommandLine) -> None:
    for rights, answer in (((), "NO"), (("CanAccessMailboxes",), "OK")):
        await admin(house, master, *rights)
        session = await house.imap("admin@client.test")
        assert (await session.imap("SELECT ~bob/INBOX"))[-1].startswith(f"a {answer}")
        await session.aclose()


@pytest.mark.feature("ADM-152")
async def test_passwords_are_a_right_of_their_own(house: House, master: CommandLine) -> None:
    cli = await admin(house, master)
    assert await refused(cli, "SetAccountPassword bob@client.test TO other1")
    cli = await admin(house, master, "BasicAccountSettings")
    await cli("SetAccountPassword bob@client.test TO other1")
    await cli.line.aclose()
    assert (await house.imap("bob@client.test", "other1")) is not None
