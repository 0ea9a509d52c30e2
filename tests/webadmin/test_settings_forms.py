"""Forms as their users meet them: mistakes are kept, dangers are asked for, lists are found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.kernel.operations import Caller, Right
from tests.webadmin.test_pages import Browser, Office

SOCKETS = {
    "Listener.0.Port": "8010",
    "Listener.0.Address": "all",
    "Listener.0.TLS": "Off",
    "Listener.0.Restriction": "Grant",
    "Listener.0.List": "10.0.0.0/8",
    "do-update": "1",
}


@pytest.fixture
async def office(tmp_path: Path) -> Office:
    made = Office(tmp_path)
    await made.start()
    return made


@pytest.mark.feature("LSN-004", "LSN-005")
async def test_a_socket_comes_by_the_last_row_and_goes_with_port_0(office: Office) -> None:
    page = await office.browser.get("/Settings/HTTPA")
    assert page.value("Listener.2.Port") == "0"
    page = await office.browser.send(
        "POST",
        "/Settings/HTTPA",
        {
            "Listener.0.Port": "8010",
            "Listener.1.Port": "9010",
            "Listener.1.TLS": "On",
            "Listener.2.Port": "8011",
            "do-update": "1",
        },
    )
    assert [page.value(f"Listener.{n}.Port") for n in range(4)] == ["8010", "9010", "8011", "0"]
    page = await office.browser.send(
        "POST",
        "/Settings/HTTPA",
        {"Listener.0.Port": "8010", "Listener.1.Port": "0", "Listener.2.Port": "8011", "do-update": "1"},
    )
    assert [page.value(f"Listener.{n}.Port") for n in range(3)] == ["8010", "8011", "0"]
    twice = await office.browser.send(
        "POST", "/Settings/HTTPA", {"Listener.0.Port": "8010", "Listener.1.Port": "8010", "do-update": "1"}
    )
    assert twice.status == 400
    assert "port 8010 is used twice" in twice.body


async def test_an_administrator_is_warned_before_he_locks_himself_out(office: Office) -> None:
    page = await office.browser.send("POST", "/Settings/HTTPA", SOCKETS)
    assert page.status == 400
    assert "your own address [192.0.2.9]" in page.body
    assert "Update anyway" in page.body
    assert page.value("Listener.0.List") == "10.0.0.0/8"
    assert office.admin.stored() == {}
    allowed = await office.browser.send("POST", "/Settings/HTTPA", {**SOCKETS, "Listener.0.List": "192.0.2.0/24"})
    assert "Updated." in allowed.body
    meant = {key: value for key, value in SOCKETS.items() if key != "do-update"}
    page = await office.browser.send("POST", "/Settings/HTTPA", {**meant, "do-anyway": "1"})
    assert "Updated." in page.body
    for path, form in (
        ("/Settings/HTTPA", {"Channels": "0"}),
        ("/Settings/IPAddresses", {"DeniedAddresses": "192.0.2.0/24"}),
    ):
        assert "Update anyway" in (await office.browser.send("POST", path, {**form, "do-update": "1"})).body
    form = {"ClientOnly": "YES", "do-update": "1"}
    office.client = False
    assert "Update anyway" in (await office.browser.send("POST", "/Settings/IPAddresses", form)).body
    office.client = True
    assert "Updated." in (await office.browser.send("POST", "/Settings/IPAddresses", form)).body


async def test_a_mistake_is_shown_at_its_field_and_keeps_the_rest(office: Office) -> None:
    browser = office.browser
    await browser.post("/Domains/office.test/", name="ann", **{"do-create-account": "1"})
    form = {
        "RealName": "Ann",
        "MaxAccountSize": "much",
        "Password": "secret word",
        "AccessModes": ["", "Mail", "POP"],
        "do-update": "1",
    }
    page = await browser.send("POST", "/Domains/office.test/Accounts/ann", form)
    assert page.status == 400
    assert page.value("RealName") == "Ann"
    assert page.value("MaxAccountSize") == "much"
    assert 'class="field wrong"' in page.body
    assert "secret word" not in page.body
    account = await office.domains.require_account("ann@office.test")
    assert account.settings["RealName"] == ""
    page = await browser.send("POST", "/Domains/office.test/Accounts/ann", {**form, "MaxAccountSize": "5M"})
    assert "Updated." in page.body
    assert account.settings["AccessModes"] == ["Mail", "POP"]
    page = await browser.post("/Domains/office.test/Accounts/ann", AccessModes="default", **{"do-update": "1"})
    assert "AccessModes" not in account.settings.stored()


@pytest.mark.feature("ADM-023")
async def test_numbers_times_and_sizes_have_a_menu_and_take_others(office: Office) -> None:
    page = await office.browser.get("/Settings/LOCAL")
    for menu, value in (("times", "30m"), ("sizes", "unlimited"), ("numbers", "100")):
        assert f'list="{menu}"' in page.body or menu == "sizes"
        assert (
            f'<option value="{value}">' in page.body.partition(f'<datalist id="{menu}">')[2].partition("</datalist>")[0]
        )
    page = await office.browser.post("/Settings/LOCAL", Processors="17", KeepFull="37h", **{"do-update": "1"})
    assert (page.value("Processors"), page.value("KeepFull")) == ("17", "37h")


@pytest.mark.feature("ADM-024")
async def test_long_lists_have_a_filter_and_a_limit(office: Office) -> None:
    for number in range(120):
        await office.domains.create_account(office.domains.main, f"user{number}")
    page = await office.browser.get("/Domains/office.test/")
    assert "100 of 121 selected" in page.body
    page = await office.browser.get("/Domains/office.test/?filter=user11&limit=5")
    assert "5 of 11 selected" in page.body
    assert "/Accounts/user0" not in page.body
    for path in ("/Domains/", "/Monitors/Logs", "/Settings/Strings"):
        assert 'name="filter"' in (await office.browser.get(path)).body


@pytest.mark.feature("ADM-005", "ADM-006", "SEC-111")
async def test_the_rights_on_the_account_page(office: Office) -> None:
    browser = office.browser
    await office.domains.create("client.test")
    await office.domains.create_account(office.domains.require("client.test"), "x")
    await office.domains.create_account(office.domains.main, "y")
    page = await browser.get("/Domains/client.test/Accounts/x")
    assert 'value="CanCreateAccounts"' in page.body
    assert 'value="Settings"' not in page.body
    refused = await browser.post("/Domains/client.test/Accounts/x", rights=["", "Settings"], **{"do-rights": "1"})
    assert refused.status == 400
    assert not office.domains.rights("x@client.test")
    page = await browser.post(
        "/Domains/office.test/Accounts/y", rights=["", "Settings", "RealName"], **{"do-rights": "1"}
    )
    for code in [right.value for right in Right if right != Right.ADMIN_SUBDOMAINS]:
        assert f'name="rights" value="{code}"{" checked" if code == "Settings" else ""}>' in page.body, code
    assert 'value="RealName" checked' in page.body
    page = await browser.post("/Domains/office.test/Accounts/y", rights=[""], **{"do-rights": "1"})
    assert not office.domains.rights("y@office.test")


@pytest.mark.feature("ADM-064")
async def test_a_text_of_ones_own_hides_the_product(office: Office) -> None:
    page = await office.browser.post("/Settings/Strings", use__POPPrompt="custom", text__POPPrompt="ready")
    assert 'aria-label="POPPrompt">ready</textarea>' in page.body
    found = await office.browser.get("/Settings/Strings?filter=smtp")
    assert "No text matches." in found.body


class Queue:
    """The operations of a queue with many messages."""

    def __init__(self, office: Office, total: int) -> None:
        self.rejected: list[tuple[Any, ...]] = []
        declare = office.operations.declare

        def message(number: int) -> dict[str, Any]:
            recipients = [f"r{n}@held.test" for n in range(number % 5 + 1)]
            sender = f"s{number}@x.test"
            arrived = "20261121050000"
            return {"ID": str(number), "Sender": sender, "Size": "2048", "Arrived": arrived, "Recipients": recipients}

        @declare("ListQueuedMessages", right=Right.MONITOR, section="", summary="")
        async def messages(caller: Caller) -> Any:
            return {"Total": str(total), "Messages": [message(number) for number in range(min(total, 1000))]}

        @declare("ListQueues [module]", right=Right.MONITOR, section="", summary="")
        async def queues(caller: Caller, module: str = "") -> Any:
            return [{"Module": "SMTP", "Host": "<held>", "Messages": str(total), "State": "held"}]

        @declare("ReleaseQueue module host", right=Right.RELEASE_QUEUES, section="", summary="")
        async def release(caller: Caller, module: str, host: str) -> None:
            self.rejected.append(("release", module, host))

        @declare("RejectQueue module host [errorText]", right=Right.REJECT_QUEUES, section="", summary="")
        async def reject(caller: Caller, module: str, host: str, error_text: str = "") -> None:
            self.rejected.append((module, host, error_text))


@pytest.mark.feature("ADM-025", "QUEUE-121")
async def test_no_more_than_1000_messages_are_shown(office: Office) -> None:
    Queue(office, 1500)
    page = await office.browser.get("/Monitors/Queue")
    assert page.body.count('href="/Monitors/Queue/') == 1000
    assert "1500 in the queue, the first 1000 are shown" in page.body
    assert "&lt;held&gt;" in page.body
    assert "r0@held.test, r1@held.test, r2@held.test and 2 more" in page.body
    assert "2.0 KB" in page.body
    page = await office.browser.get("/Monitors/Queue?filter=s77@")
    assert page.body.count('href="/Monitors/Queue/') == 1


@pytest.mark.feature("QUEUE-125", "ADM-007", "SEC-105")
async def test_buttons_of_the_queue_stand_behind_their_rights(office: Office) -> None:
    queue = Queue(office, 2)
    account = await office.domains.create_account(office.domains.main, "operator")
    operator = Browser(office.app, "operator")
    await office.domains.set_rights(account, ["Monitor"])
    page = await operator.get("/Monitors/Queue")
    assert "Release" not in page.body
    assert "Reject" not in page.body
    release, reject = {"do-release:SMTP:<held>": "1"}, {"do-reject:SMTP:<held>": "1", "text": "closed"}
    assert (await operator.send("POST", "/Monitors/Queue", release)).status in (400, 403)
    assert (await operator.send("POST", "/Monitors/Queue", reject)).status in (400, 403)
    assert queue.rejected == []
    assert "Delete Marked Logs" not in (await operator.get("/Monitors/Logs")).body
    await office.domains.set_rights(
        account, ["Monitor", "CanReleaseQueues", "CanRejectQueues", "CanTuneLoggerSettings"]
    )
    assert "Release" in (await operator.get("/Monitors/Queue")).body
    assert (await operator.send("POST", "/Monitors/Queue", release)).status == 303
    assert (await operator.send("POST", "/Monitors/Queue", reject)).status == 303
    assert queue.rejected == [("release", "SMTP", "<held>"), ("SMTP", "<held>", "closed")]
    assert "Delete Marked Logs" in (await operator.get("/Monitors/Logs")).body


def _logs(office: Office) -> Path:
    folder = office.base / "SystemLogs"
    (folder / "2026-01-01").write_text(
        "10:00:00.000 2 SMTP <b>one</b>\n10:01:00.000 5 POP-7 two\n10:02:00.000 1 X three\n"
    )
    (folder / "2026-01-02").write_text("10:00:00.000 2 SMTP four\n")
    (folder / "2026-02-01").write_text("")
    return folder


@pytest.mark.feature("LOG-050", "LOG-051", "LOG-052")
async def test_logs_are_listed_filtered_and_deleted(office: Office) -> None:
    folder = _logs(office)
    page = await office.browser.get("/Monitors/Logs")
    assert page.body.index(">2026-02-01<") < page.body.index(">2026-01-02<") < page.body.index(">2026-01-01<")
    assert "25<span> bytes" in page.body
    assert "3 of 3 selected" in page.body
    page = await office.browser.get("/Monitors/Logs?filter=2026-01")
    assert "2 of 2 selected" in page.body
    assert "2026-02-01" not in page.body
    await office.browser.post("/Monitors/Logs", file=["2026-01-01", "2026-01-02"], **{"do-delete": "1"})
    assert [path.name for path in folder.iterdir()] == ["2026-02-01"]
    assert (await office.browser.post("/Monitors/Logs", file="../account.settings", **{"do-delete": "1"})).status == 400


@pytest.mark.feature("LOG-053", "LOG-054", "LOG-055", "LOG-057", "LOG-058")
async def test_a_log_is_shown_in_parts(office: Office) -> None:
    _logs(office)
    page = await office.browser.get("/Monitors/Logs/2026-01-01")
    for text in ("&lt;b&gt;one&lt;/b&gt;", "two", '<b class="l1">10:02:00.000 1 X three</b>', "End of the view."):
        assert text in page.body
    plain = await office.browser.get("/Monitors/Logs/2026-01-01?as=text")
    assert plain.body == (office.base / "SystemLogs" / "2026-01-01").read_text()
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    for query, shown in (
        ("level=2", "one three"),
        ("level=5&filter=POP-7", "two"),
        ("from=10:01&to=10:01", "two"),
        ("from=10:01&to=*&level=1", "three"),
    ):
        body = (await office.browser.get(f"/Monitors/Logs/2026-01-01?{query}&as=text")).body
        assert [word for word in ("one", "two", "three") if word in body] == shown.split(), query
    assert (await office.browser.get("/Monitors/Logs/2026-01-01?from=noon")).status == 400
    assert (await office.browser.get("/Monitors/Logs/nothing")).status == 404
