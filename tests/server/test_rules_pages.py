"""The pages of rules, used as with a browser: list, editor, trial, simplified forms."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from appliance.formats.data import Value
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import Answer, House
from tests.server.test_rules import FAR, arrived, idle, set_rules

Form = Mapping[str, str | list[str]]
ANN = "/Domains/box.test/Accounts/ann"


async def rules_of(house: House, command: str) -> list[Value] | dict[str, Value]:
    cli = await house.cli()
    found = await cli(command)
    await cli.line.aclose()
    assert not isinstance(found, str)
    return found


async def press(house: House, path: str, button: str, **fields: str) -> Answer:
    """Fill in some fields of a page's form and press a button."""
    page = await house.page(path)
    form: dict[str, str | list[str]] = {**page.form(), **fields, f"do-{button}": "1"}
    return await house.page(path, form)


@pytest.mark.feature("RULE-011", "RULE-012", "RULE-015", "RULE-013")
async def test_the_list_and_the_editor(house: House) -> None:
    assert "/Settings/Rules" in (await house.page("/Settings/")).body
    page = await house.page("/Settings/Rules", {"new": "Спам", "do-add": "1"})
    assert page.status == 200 and "Спам" in page.body
    page = await press(
        house,
        "/Settings/Rules/0",
        "update",
        **{
            "priority": "7",
            "condition.0": "Subject",
            "operation.0": "in",
            "with.0": "*sale*,*offer*",
            "condition.1": "Human Generated",
            "action.0": "Add Headers",
            "parameter.0": "X-One: 1\r\nX-Two: 2",
            "action.1": "Discard",
        },
    )
    assert page.status == 200
    rule = [
        "7",
        "Спам",
        [["Subject", "in", "*sale*,*offer*"], ["Human Generated"]],
        [["Add Headers", "X-One: 1\nX-Two: 2"], ["Discard"]],
    ]
    assert await rules_of(house, "GetServerRules") == [rule]
    await house.page("/Settings/Rules", {"new": "second", "do-add": "1"})
    page = await press(
        house, "/Settings/Rules", "update", **{"name.0": "Реклама", "priority.0": "3", "priority.1": "9"}
    )
    assert page.body.index("second") < page.body.index("Реклама")  # sorted anew
    reduced = await house.page("/Settings/Rules/0", {"was": "Реклама", "do-update": "1"})  # fields are missing
    assert reduced.status == 200
    assert ["3", "Реклама", *rule[2:]] in await rules_of(house, "GetServerRules")
    wrong = await press(house, "/Settings/Rules/0", "update", **{"operation.0": "greater than"})
    assert wrong.status == 400 and "greater than" in wrong.body and "Реклама" in wrong.body
    stale = await house.page("/Settings/Rules", {"was.0": "somebody else's", "delete.0": "1", "do-update": "1"})
    assert stale.status == 400
    await press(house, "/Settings/Rules", "update", **{"delete.0": "1"})
    await press(house, "/Settings/Rules/0", "remove")
    assert await rules_of(house, "GetServerRules") == []


@pytest.mark.feature("RULE-016", "RULE-062", "ACCT-022")
async def test_rules_of_an_account_and_of_a_domain(house: House) -> None:
    assert f"{ANN}/Rules" in (await house.page(ANN)).body
    assert "/Domains/box.test/Rules" in (await house.page("/Domains/box.test/")).body
    for path in (f"{ANN}/Rules", "/Domains/box.test/Rules"):
        page = await house.page(path, {"new": "mine", "do-add": "1"})
        assert "Any Route" not in page.body and "ExternalFilter" not in page.body
        await press(house, f"{path}/0", "update", **{"priority": "5", "action.0": "Mark", "parameter.0": "Flagged"})
    assert await rules_of(house, "GetAccountRules ann") == [["5", "mine", [], [["Mark", "Flagged"]]]]
    assert await rules_of(house, "GetDomainRules box.test") == [["5", "mine", [], [["Mark", "Flagged"]]]]
    assert "Any Route" in (await house.page("/Settings/Rules", {"new": "s", "do-add": "1"})).body


@pytest.mark.feature("RULE-018", "RULE-017", "RULE-170", "RULE-173", "ACCT-064", "ACCT-060")
async def test_a_user_has_his_own_page(house: House) -> None:
    async def page(path: str, form: Form | None = None) -> Answer:
        return await house.page(path, form, name="ann", password=PASSWORD)

    cli = await house.cli()
    await cli("UpdateAccountSettings ann {OsUserName=nobody;}")
    await set_rules(house, "ann", ["9", "backup", [], [["Execute", "/bin/cat"]]])
    seen = await page("/")  # who administers nothing comes to his own rules
    assert "backup" in seen.body and "administrator" in seen.body and 'name="was.0"' not in seen.body
    assert "disabled" in (await page("/Rules/0")).body
    refused = await page("/Rules/0", {"was": "backup", "do-remove": "1"})
    assert refused.status == 400 and "administrator" in refused.body
    added = await page("/Rules/", {"new": "mine", "do-add": "1"})
    assert ">Discard<" in added.body and ">Execute<" not in added.body
    await page("/Rules/", {"text": "I am on vacation", "reply": "1", "do-reply": "1"})
    await house.mail("ann@box.test", "From: bob@box.test\r\nSubject: hi\r\n\r\nx", "bob@box.test")
    await arrived(house, "bob")
    await idle(house)
    seen = await page("/Rules/")
    assert "1 addresses got it" in seen.body and "bob@box.test" in seen.body
    assert "0 addresses got it" in (await page("/Rules/", {"do-clear": "1"})).body
    await page("/Rules/", {"list": "Friends", "strings": "jane@far.test\r\njoe@far.test", "do-list": "1"})
    assert (await rules_of(house, "GetAccountStringLists ann")) == {"Friends": ["jane@far.test", "joe@far.test"]}
    await cli('UpdateAccountSettings ann {RulesAllowed="Filter Only";}')
    assert ">Redirect to<" not in (await page("/Rules/1")).body and ">Mark<" in (await page("/Rules/1")).body
    assert "Only an administrator may change this." in (await page("/Rules/")).body
    await cli('UpdateAccountSettings ann {RulesAllowed="No";}')
    assert "do-add" not in (await page("/Rules/")).body
    assert (await page("/Settings/Rules")).status == 401
    assert (await page(f"{ANN}/Rules")).status == 401
    await idle(house)


@pytest.mark.feature("RULE-009", "RULE-175", "RULE-176")
async def test_a_message_can_be_tried(house: House) -> None:
    await house.page(f"{ANN}/Rules", {"addresses": "bob", "redirect": "1", "do-redirect": "1"})
    await house.page(f"{ANN}/Rules", {"new": "sort", "do-add": "1"})
    fields = {
        "priority": "8",
        "condition.0": "From",
        "operation.0": "is",
        "with.0": "*@shop.test",
        "action.0": "Discard",
    }
    await press(house, f"{ANN}/Rules/1", "update", **fields)
    form = {"sender": "x@shop.test", "recipient": "ann@box.test", "do-try": "1"}
    found = await house.page(f"{ANN}/Rules/Try", {**form, "message": "From: Shop <x@shop.test>\r\n\r\nbuy"})
    assert "would be discarded" in found.body and "all conditions are met" in found.body
    assert "not looked at any more" in found.body
    found = await house.page(f"{ANN}/Rules/Try", {**form, "message": "From: jane@far.test\r\n\r\nhello"})
    assert "condition 1 is not met: From is *@shop.test" in found.body and "Redirect to bob" in found.body
    assert not await house.inbox("bob")  # nothing was done
    await house.mail("ann@box.test", "From: jane@far.test\r\nSubject: x\r\n\r\nhello", FAR)
    await arrived(house, "bob")
