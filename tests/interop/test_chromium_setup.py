"""A stock browser sets a new server up, sends mail through it, and looks at what happened. Nothing but the pages is used."""

from __future__ import annotations

import imaplib
import smtplib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.interop import chromium
from tests.interop.chromium import Chromium
from tests.interop.command_line import first_password
from tests.interop.pillarbox import Pillarbox, Start
from tests.interop.processes import LOOPBACK, are_free, eventually

PASSWORD = "Ann's pass word"


@pytest.fixture(scope="module")
def server(start: Start) -> Pillarbox:
    """A server with nothing but its defaults."""
    return start(None)


@pytest.fixture(scope="module")
def password(server: Pillarbox) -> str:
    settings = server.base / "Accounts" / "postmaster.macnt" / "account.settings"
    return quote(first_password(settings.read_text()), safe="")


@pytest.fixture(scope="module")
def browser(server: Pillarbox, password: str, folder: Path) -> Iterator[Chromium]:
    if not chromium.exists():
        pytest.skip("chromium or chromedriver is not installed")
    assert eventually(lambda: not are_free([server.port("HTTPA")]))
    with chromium.browser(folder, f"http://postmaster:{password}@{LOOPBACK}:{server.port('HTTPA')}") as window:
        yield window


def of(button: str, field: str) -> str:
    """A control of the form with this button."""
    return f"form:has([name='do-{button}']) [name='{field}']"


def send(server: Pillarbox, sender: str, recipient: str, subject: str) -> None:
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        client.sendmail(
            sender, [recipient], f"From: {sender}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\nHello\r\n"
        )


def subjects(server: Pillarbox, name: str) -> list[str]:
    """Of the messages in the INBOX of an account."""
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login(name, PASSWORD)
        client.select()
        found = []
        for number in client.search(None, "ALL")[1][0].split():
            answer = client.fetch(number.decode(), "(BODY[HEADER.FIELDS (SUBJECT)])")[1][0]
            assert isinstance(answer, tuple)
            found.append(answer[1].decode().removeprefix("Subject: ").strip())
        return found


def newest(server: Pillarbox, name: str) -> str:
    """The last message in the INBOX of an account."""
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login(name, PASSWORD)
        client.select()
        answer = client.fetch("*", "(BODY[])")[1][0]
        assert isinstance(answer, tuple)
        message: bytes = answer[1]
        return message.decode(errors="replace")


@pytest.mark.feature("ADM-040", "ADM-042", "ADM-002", "INST-020")
def test_1_the_main_domain(browser: Chromium) -> None:
    browser.open("/")
    assert browser.count("main .grid > li") == 4
    assert "First steps" in browser.text
    browser.follow("Settings")
    for heading in ("Mail", "Access", "Network", "Logs"):
        assert heading in browser.text
    browser.follow("General")
    browser.write("#main_domain", "office.test")
    browser.press("Update")
    assert browser.message() == "Updated."
    browser.open("/Settings/General")
    assert browser.value("#main_domain") == "office.test"


@pytest.mark.feature("ADM-001", "ADM-022", "ACCT-022")
def test_2_a_domain_and_its_accounts(browser: Chromium, server: Pillarbox) -> None:
    browser.follow("Accounts & Domains")
    browser.write("[name=name]", "client.test")
    browser.press("Create Domain")
    assert browser.message() == "The domain was created."
    for name, real_name in (("ann", "Ann Müller"), ("bob", "Bob")):
        browser.open("/Domains/client.test/")
        browser.write(of("create-account", "name"), name)
        browser.write(of("create-account", "real_name"), real_name)
        browser.write(of("create-account", "password"), PASSWORD)
        browser.press("Create Account")
        assert browser.message() == f"The account {name} was created."
        assert browser.value("#RealName") == real_name
        assert PASSWORD not in browser.source
    browser.open("/Domains/client.test/Accounts/ann")
    browser.write("[name=aliases]", "anna")
    browser.press("Update Aliases")
    assert browser.message() == "Updated."
    browser.open("/Domains/client.test/")
    browser.write(of("create-account", "name"), "ann")
    browser.press("Create Account")
    assert "already" in browser.error()
    assert browser.value(of("create-account", "name")) == "ann"


@pytest.mark.feature("OBJ-016", "OBJ-040")
def test_3_a_group_and_a_forwarder(browser: Chromium) -> None:
    browser.open("/Domains/client.test/")
    browser.write(of("create-group", "name"), "team")
    browser.press("Create Group")
    browser.write("#Members", "ann\nbob")
    browser.press("Update")
    assert browser.message() == "Updated."
    browser.open("/Domains/client.test/")
    browser.write(of("create-forwarder", "name"), "sales")
    browser.write(of("create-forwarder", "to"), "ann@client.test")
    browser.press("Create Forwarder")
    assert browser.message() == "The forwarder sales was created."
    for text in ("2 members", "ann@client.test", "Alias"):
        assert text in browser.text


@pytest.mark.feature("ADM-020", "ROUTE-020", "ROUTE-136")
def test_4_the_router(browser: Chromium) -> None:
    browser.open("/Settings/Router")
    browser.write("#Table", "; the office\n<info> = ann@client.test\n")
    browser.press("Update")
    assert browser.message() == "Updated."
    browser.write("[name=address]", "info@office.test")
    browser.press("Test")
    assert "module LOCAL" in browser.message()
    assert "ann" in browser.message()
    browser.write("#Table", "no rule at all")
    browser.press("Update")
    assert "line 1" in browser.error()
    assert browser.value("#Table") == "no rule at all"
    browser.open("/Settings/Router")
    assert "<info> = ann@client.test" in browser.value("#Table")


@pytest.mark.feature("DIAL-006")
def test_5_the_schedule(browser: Chromium) -> None:
    browser.open("/Settings/Schedule")
    assert browser.count("table.rows tbody tr") == 1
    assert "may be sent now" in browser.text
    browser.choose("[name='Schedule.0.Day']", "Weekdays")
    browser.write("[name='Schedule.0.From']", "19:30")
    browser.write("[name='Schedule.0.To']", "20:00")
    browser.write("[name='Schedule.0.Pause']", "5m")
    browser.press("Update")
    assert browser.message() == "Updated."
    assert browser.value("[name='Schedule.0.Day']") == "Weekdays"
    assert browser.value("[name='Schedule.1.Day']") == "Never"
    browser.write("[name='Schedule.0.From']", "half past")
    browser.press("Update")
    assert "a time of day such as 19:30 is expected" in browser.error()
    assert browser.value("[name='Schedule.0.From']") == "half past"
    browser.open("/Settings/Schedule")
    assert browser.value("[name='Schedule.0.From']") == "19:30"
    browser.choose("[name='Schedule.0.Day']", "Never")
    browser.press("Update")
    assert browser.message() == "Updated."
    assert browser.count("table.rows tbody tr") == 1
    assert "may be sent now" in browser.text


@pytest.mark.feature("LSN-004", "LSN-052")
def test_6_a_socket_is_added_and_removed(browser: Chromium, server: Pillarbox) -> None:
    browser.open("/Settings/POP")
    assert "at least 5 for IMAP" in browser.text
    browser.write("[name='Listener.1.Port']", "995")
    browser.choose("[name='Listener.1.TLS']", "On: encrypted from the start")
    browser.press("Update")
    assert browser.message() == "Updated."
    assert browser.value("[name='Listener.2.Port']") == "0"
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        assert client.noop()[0] == 250
    browser.write("[name='Listener.1.Port']", "0")
    browser.press("Update")
    assert browser.count("[name='Listener.2.Port']") == 0
    assert browser.value("[name='Listener.1.Port']") == "0"


def test_7_the_log_level(browser: Chromium) -> None:
    browser.open("/Settings/SMTP")
    browser.choose("#LogLevel", "All Info")
    browser.write("#HoldDomains", "held.test\nshut.test")
    browser.press("Update")
    assert browser.message() == "Updated."


def test_8_mail_arrives(server: Pillarbox) -> None:
    for name in ("anna@client.test", "team@client.test", "sales@client.test", "info@office.test"):
        send(server, "zoe@elsewhere.test", name, f"to {name}")
    assert eventually(lambda: len(subjects(server, "ann@client.test")) == 4)
    assert subjects(server, "bob@client.test") == ["to team@client.test"]


@pytest.mark.feature("ADM-160", "ADM-132", "QUEUE-120", "QUEUE-122", "QUEUE-123")
def test_9_a_held_message_is_rejected(browser: Chromium, server: Pillarbox) -> None:
    send(server, "ann@client.test", "zoe@held.test", "waits")
    browser.open("/Monitors/")
    browser.follow("Queue")
    for text in ("SMTP held.test", "held", "ann@client.test", "zoe@held.test", "1 in the queue"):
        assert text in browser.text
    assert 'http-equiv="refresh"' in browser.source
    number = browser.count("table.rows tbody tr")
    assert number == 1
    browser.click("table.rows tbody a")
    for text in ("ann@client.test", "zoe@held.test", "waiting", "Subject: waits"):
        assert text in browser.text
    browser.write("[name=text]", "not to this host")
    browser.press("Reject")
    assert "was rejected" in browser.message()
    assert eventually(lambda: len(subjects(server, "ann@client.test")) == 5)
    browser.open("/Monitors/Queue")
    assert "The queue is empty." in browser.text


@pytest.mark.feature("QUEUE-124")
def test_a_queue_is_released_and_another_rejected(browser: Chromium, server: Pillarbox) -> None:
    send(server, "ann@client.test", "zoe@held.test", "goes on")
    browser.open("/Monitors/Queue")
    assert "SMTP held.test held" in browser.text
    browser.press("Release")
    assert browser.message() == "The queue SMTP held.test was released."
    browser.open("/Monitors/Queue")
    assert "SMTP held.test held" not in browser.text
    known = len(subjects(server, "bob@client.test"))
    send(server, "bob@client.test", "zoe@shut.test", "goes back")
    browser.open("/Monitors/Queue?filter=zoe@shut")
    row = ".queue:has([name='do-reject:SMTP:shut.test'])"
    browser.click(f"{row} summary", page=False)
    browser.write(f"{row} [name=text]", "the office is closed")
    browser.click(f"{row} [name='do-reject:SMTP:shut.test']")
    assert browser.message() == "All messages of SMTP shut.test were rejected; their senders are told."
    assert eventually(lambda: len(subjects(server, "bob@client.test")) == known + 1)
    assert "the office is closed" in newest(server, "bob@client.test")


@pytest.mark.feature("LOG-050", "LOG-053", "LOG-058", "ADM-169", "ADM-014", "LOG-051")
def test_b_the_logs(browser: Chromium, server: Pillarbox) -> None:
    browser.open("/Monitors/Logs")
    names = sorted(path.name for path in (server.base / "SystemLogs").iterdir())
    assert f"{len(names)} of {len(names)} selected" in browser.text
    assert "*" in browser.text
    browser.follow(names[-1])
    assert "changed SMTP: HoldDomains, LogLevel" in browser.text
    assert "postmaster@office.test" in browser.text
    browser.write("[name=filter]", "changed Router")
    browser.press("Display")
    records = browser.text
    assert "changed Router" in records
    assert "changed SMTP" not in records
    browser.open("/Monitors/Logs?filter=nothing-like-this")
    assert "0 of 0 selected" in browser.text


def test_c_no_password_is_written_down(server: Pillarbox) -> None:
    for path in (server.base / "SystemLogs").iterdir():
        assert PASSWORD not in path.read_text(errors="replace")


@pytest.mark.feature("HTTP-002")
def test_d_the_encrypted_port(browser: Chromium, server: Pillarbox, password: str) -> None:
    plain = browser.site
    browser.site = f"https://postmaster:{password}@{LOOPBACK}:{server.port('HTTPA') + 1000}"
    try:
        browser.open("/Settings/TLS")
        assert "BEGIN CERTIFICATE" in browser.source
        assert "PRIVATE KEY" not in browser.source
        browser.choose("#LogLevel", "Low-Level")
        browser.press("Update")
        assert browser.message() == "Updated."
    finally:
        browser.site = plain


def test_e_no_page_is_wider_than_a_phone(browser: Chromium) -> None:
    seen: set[str] = set()
    waiting = ["/", "/Domains/-/Domain", "/Domains/client.test/Groups/team"]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        browser.open(path)
        assert browser.overflow(390) <= 0, path
        waiting += [link for link in browser.links() if link not in seen and link not in waiting]
    assert len(seen) > 30
