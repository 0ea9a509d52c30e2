"""The pages on remote mailboxes, as a browser without JavaScript sees them."""

from __future__ import annotations

import re

import pytest

from tests.interop.pillarbox import PASSWORD
from tests.modules.rpop.acts import MAIL, idle, poll, record, state, subjects
from tests.modules.rpop.remote import RemotePop, serving
from tests.server.conftest import House, Refusal, until

ACCOUNT = "/Domains/box.test/Accounts/ann/RPOP"


def fields(remote: RemotePop, number: int = 0, **more: str) -> dict[str, str | list[str]]:
    values = record(remote, **more)
    made: dict[str, str | list[str]] = {f"{number}.{key}": str(value) for key, value in values.items()}
    return made | {"do-records": "1"}


@pytest.mark.feature("RPOP-061", "RPOP-066", "RPOP-070", "RPOP-073", "RPOP-013")
async def test_an_administrator_adds_a_remote_account(box: House, remote: RemotePop) -> None:
    async with serving(remote):
        assert 'href="/Domains/box.test/Accounts/ann/RPOP"' in (await box.page("/Domains/box.test/Accounts/ann")).body
        page = await box.page(ACCOUNT)
        assert "Special Header" not in page.body and "0.APOP" in page.body and "0.leave" in page.body
        answer = await box.page(ACCOUNT, page.form() | fields(remote, password="wrong"))
        assert answer.status == 200
        await idle(box)
        page = await box.page(ACCOUNT)
        assert "wrong password" in page.body and "secret" not in page.body and 'value="wrong"' not in page.body
        await box.page(ACCOUNT, page.form() | {"0.password": "secret", "do-records": "1"})
        assert await subjects(box, "ann", 2) == ["one", "two"]
        await idle(box)
        page = await box.page(ACCOUNT)
        assert re.search(r"Last \d\d:\d\d:\d\d", page.body) and "\x01" not in page.body and "1." in page.body
        # A change of another column keeps the password.
        await box.page(ACCOUNT, page.form() | {"0.period": "2h", "do-records": "1"})
        remote.put("u3", MAIL.format("three"))
        await box.page(ACCOUNT, (await box.page(ACCOUNT)).form() | {"do-poll": "1"})
        assert await subjects(box, "ann", 3) == ["one", "two", "three"]
        # Another host does not get it.
        form = (await box.page(ACCOUNT)).form()
        await box.page(ACCOUNT, form | {"0.domain": "127.0.0.2:1", "do-records": "1"})
        cli = await box.cli()
        assert 'password = ""' in str(await cli("GetAccountRPOP ann")) or "'password': ''" in str(
            await cli("GetAccountRPOP ann")
        )
        await box.page(ACCOUNT, (await box.page(ACCOUNT)).form() | {"0.authName": "", "do-records": "1"})
        assert await state(box, "ann") == []


async def test_what_is_wrong_is_told_and_what_was_typed_stays(box: House, remote: RemotePop) -> None:
    remote.port = 9
    form = (await box.page(ACCOUNT)).form()
    answer = await box.page(ACCOUNT, form | fields(remote, domain="a b"))
    assert answer.status == 400 and "not a host name" in answer.body and 'value="a b"' in answer.body
    assert "secret" not in answer.body


@pytest.mark.feature("RPOP-062")
async def test_a_user_sees_his_own_and_changes_them_if_that_is_granted(box: House, remote: RemotePop) -> None:
    async with serving(remote):
        cli = await box.cli()
        await cli(
            f'SetAccountRPOP ann ({{authName=office; domain="127.0.0.1:{remote.port}"; password=secret; period=1d;}})'
        )
        await subjects(box, "ann", 2)
        page = await box.page("/RPOP/", name="ann", password=PASSWORD)
        assert page.status == 200 and "office" in page.body and "do-records" not in page.body
        assert page.body.count("disabled") > 5
        change = {"0.authName": "", "do-records": "1"}
        answer = await box.page("/RPOP/", page.form() | change, name="ann", password=PASSWORD)
        assert "may not change" in answer.body and len(await state(box, "ann")) == 1
        await cli("UpdateAccountSettings ann {RPOPAllowed=YES;}")
        page = await box.page("/RPOP/", name="ann", password=PASSWORD)
        assert "do-records" in page.body and "disabled" not in page.body
        form = page.form() | {"1.authName": "mine", "1.domain": "pop.far.test", "1.period": "1m", "do-records": "1"}
        answer = await box.page("/RPOP/", form, name="ann", password=PASSWORD)
        assert "shortest period is 15m" in answer.body
        await box.page("/RPOP/", form | {"1.period": "1h"}, name="ann", password=PASSWORD)
        assert [row["Account"] for row in await state(box, "ann")] == ["office", "mine"]
        assert (await box.page(ACCOUNT, name="ann", password=PASSWORD)).status in (401, 403)


@pytest.mark.feature("RPOP-040", "RPOP-005")
async def test_the_unified_table_and_the_settings_on_one_page(box: House, remote: RemotePop) -> None:
    remote.messages.clear()
    remote.put("u1", "X-Real-To: ann@box.test\n" + MAIL.format("unified"))
    async with serving(remote):
        assert 'href="/Settings/RPOP"' in (await box.page("/Settings/")).body
        page = await box.page("/Settings/RPOP")
        for word in ("Polling Channels Limit", "Use APOP", "Allow Self-Poll", "Special Header", "Leave"):
            assert word in page.body
        answer = await box.page("/Settings/RPOP", page.form() | fields(remote, period="never"))
        assert answer.status == 400 and "how often" in answer.body
        await box.page("/Settings/RPOP", page.form() | fields(remote, special="X-Real-To"))
        assert await subjects(box, "ann", 1) == ["unified"]
        page = await box.page("/Settings/RPOP")
        assert 'value="X-Real-To"' in page.body and "secret" not in page.body
        form = {k: v for k, v in page.form().items() if "." not in k and not k.startswith("do-")}
        await box.page("/Settings/RPOP", form | {"DelayFailedHosts": "3h", "do-update": "1"})
        assert len(await state(box)) == 1
        assert "3h" in (await box.page("/Settings/RPOP")).body
        await box.page(
            "/Settings/RPOP", (await box.page("/Settings/RPOP")).form() | {"0.period": "never", "do-records": "1"}
        )
        assert await state(box) == []


@pytest.mark.feature("RPOP-025")
async def test_the_monitor_shows_state_next_poll_and_channels(box: House, remote: RemotePop) -> None:
    import trio

    remote.gate = trio.Event()
    other = RemotePop(name="second", password="x")
    async with serving(remote, other):
        cli = await box.cli()
        for account, one in (("ann", remote), ("bob", other)):
            await cli(
                f'SetAccountRPOP {account} ({{authName={one.name}; domain="127.0.0.1:{one.port}"; password=secret; period=1d;}})'
            )
        await until(lambda: "RETR 1" in remote.commands and other.sessions)
        page = await box.page("/Monitors/RPOP")
        assert page.status == 200, await box.log()
        assert "message 1 of 2" in page.body and "wrong password" in page.body and "ann@box.test" in page.body
        assert "1 connection" in page.body and 'href="/Monitors/RPOP"' in (await box.page("/Monitors/")).body
        remote.gate.set()
        await idle(box)
        (row,) = await state(box, "ann")
        assert row["Next"]
        remote.put("u3", MAIL.format("three"))
        await box.page("/Monitors/RPOP", {"do-poll": "1"})
        assert await subjects(box, "ann", 3)
    with pytest.raises(Refusal):
        await (await box.cli("ann", PASSWORD))("ListRPOP")
    assert await (await box.cli("ann", PASSWORD))("ListRPOP *")


@pytest.mark.feature("RPOP-003", "RPOP-024")
async def test_the_settings_of_the_module_by_command(box: House) -> None:
    cli = await box.cli()
    found = await cli("GetModule RPOP")
    assert isinstance(found, dict)
    assert (found["Channels"], found["UseAPOP"], found["AllowSelfPoll"]) == ("25", "YES", "YES")
    assert (found["DelayFailedHosts"], found["DelayFailedAccounts"], found["MinimumPollPeriod"]) == ("2h", "30m", "15m")
    assert found["MaximumAccounts"] == "3"
    await cli("UpdateModule RPOP {Channels=0;}")
    await poll(box)
