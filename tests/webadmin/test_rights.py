"""Who may open and change what: server rights open realms, domain rights their buttons."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.objects.domain import Group
from tests.webadmin.test_pages import Answer, Browser, Office

REALMS = ("/Settings/", "/Domains/", "/Directory/", "/Monitors/")


@pytest.fixture
async def office(tmp_path: Path) -> Office:
    made = Office(tmp_path)
    await made.start()
    await made.domains.create("client.test")
    for name in ("admin", "ann"):
        await made.domains.create_account(made.domains.require("client.test"), name)
    await made.domains.create_account(made.domains.main, "helper")
    return made


async def grant(office: Office, name: str, *rights: str) -> Browser:
    """A browser of an account that holds these rights and no other."""
    await office.domains.set_rights(await office.domains.require_account(name), list(rights))
    return Browser(office.app, name)


@pytest.mark.feature("SEC-101", "SEC-102", "SEC-103", "ADM-015")
@pytest.mark.parametrize(
    ("right", "realm"),
    [("Settings", "/Settings/"), ("AllDomains", "/Domains/"), ("Directory", "/Directory/"), ("Monitor", "/Monitors/")],
)
async def test_a_server_right_opens_its_realm_and_no_other(office: Office, right: str, realm: str) -> None:
    helper = await grant(office, "helper@office.test", right)
    assert {path: (await helper.get(path)).status for path in REALMS} == {
        path: 200 if path == realm else 401 for path in REALMS
    }


@pytest.mark.feature("ADM-016", "SEC-101")
async def test_all_domains_changes_every_domain(office: Office) -> None:
    helper = await grant(office, "helper@office.test", "AllDomains")
    assert (await helper.post("/Domains/", name="new.test", **{"do-create": "1"})).status == 303
    made = await helper.post("/Domains/client.test/", name="bob", **{"do-create-account": "1"})
    assert made.status == 303
    page = await helper.post("/Domains/client.test/Accounts/bob", RealName="Bob", **{"do-update": "1"})
    assert "Updated." in page.body
    renamed = await helper.post("/Domains/new.test/", new_name="newer.test", **{"do-rename": "1"})
    assert renamed.status == 303
    gone = await helper.post("/Domains/newer.test/", confirm="newer.test", **{"do-remove": "1"})
    assert gone.status == 303
    assert office.domains.get("newer.test") is None


@pytest.mark.feature("ADM-009", "ADM-019", "SEC-109")
async def test_who_grants_which_rights(office: Office) -> None:
    helper = await grant(office, "helper@office.test", "AllDomains")
    page = "/Domains/client.test/Accounts/admin"
    assert (await helper.post(page, rights=["", "Domain"], **{"do-rights": "1"})).status == 200
    assert office.domains.rights("admin@client.test") == {"Domain"}
    own = "/Domains/office.test/Accounts/helper"
    refused = await helper.post(own, rights=["", "AllDomains", "Settings"], **{"do-rights": "1"})
    assert refused.status in (400, 403)
    assert office.domains.rights("helper@office.test") == {"AllDomains"}
    granted = await office.browser.post(own, rights=["", "Settings"], **{"do-rights": "1"})
    assert granted.status == 200
    assert office.domains.rights("helper@office.test") == {"Settings"}


async def refused(answer: Answer) -> bool:
    return answer.status in (400, 403)


@pytest.mark.feature("ADM-072", "ADM-140", "ADM-141", "ADM-142", "ADM-143")
@pytest.mark.parametrize(
    ("right", "path", "form", "button"),
    [
        ("CanCreateAccounts", "", {"name": "bob", "do-create-account": "1"}, "do-create-account"),
        ("CanCreateAccounts", "Accounts/ann", {"new_name": "eve", "do-rename": "1"}, "do-rename"),
        ("CanCreateAccounts", "Accounts/ann", {"confirm": "ann", "do-remove": "1"}, "do-remove"),
        ("CanCreateAliases", "Accounts/ann", {"aliases": "anna", "do-aliases": "1"}, "do-aliases"),
        ("CanCreateGroups", "", {"name": "team", "do-create-group": "1"}, "do-create-group"),
        ("CanCreateForwarders", "", {"name": "f", "to": "x@y.z", "do-create-forwarder": "1"}, "do-create-forwarder"),
    ],
)
async def test_an_option_of_a_domain_administrator(
    office: Office, right: str, path: str, form: dict[str, str], button: str
) -> None:
    path = f"/Domains/client.test/{path}"
    without = await grant(office, "admin@client.test", "Domain")
    assert f'name="{button}"' not in (await without.get(path)).body
    assert await refused(await without.send("POST", path, form))
    admin = await grant(office, "admin@client.test", "Domain", right)
    assert f'name="{button}"' in (await admin.get(path)).body
    assert (await admin.send("POST", path, form)).status in (200, 303)
    elsewhere = path.replace("client.test", "office.test").replace("ann", "helper")
    assert await refused(await admin.send("POST", elsewhere, form))


@pytest.mark.feature("ADM-074")
async def test_a_group_is_changed_with_its_right_only(office: Office) -> None:
    path = "/Domains/client.test/Groups/team"
    await office.browser.post("/Domains/client.test/", name="team", **{"do-create-group": "1"})
    admin = await grant(office, "admin@client.test", "Domain")
    for form in (
        {"Members": "ann", "do-update": "1"},
        {"new_name": "crew", "do-rename": "1"},
        {"do-remove": "1"},
    ):
        assert await refused(await admin.send("POST", path, form)), form
    group = office.domains.require("client.test").find("team")
    assert isinstance(group, Group)
    assert group.settings["Members"] == ()
    admin = await grant(office, "admin@client.test", "Domain", "CanCreateGroups")
    assert "Updated." in (await admin.send("POST", path, {"Members": "ann", "do-update": "1"})).body
    assert group.settings["Members"] == ("ann",)
