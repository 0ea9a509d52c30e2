"""A stock browser writes rules, tries a message, and a user goes on vacation; the mail behaves accordingly."""

from __future__ import annotations

import imaplib
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import chromium
from tests.interop.chromium import Chromium
from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup, Start
from tests.interop.processes import LOOPBACK, are_free, eventually


@pytest.fixture(scope="module")
def server(start: Start) -> Pillarbox:
    return start(Setup(accounts=("ann", "bob")))


@pytest.fixture(scope="module")
def browser(server: Pillarbox, folder: Path) -> Iterator[Chromium]:
    if not chromium.exists():
        pytest.skip("chromium or chromedriver is not installed")
    assert eventually(lambda: not are_free([server.port("HTTPA")]))
    site = f"http://postmaster:{server.setup.postmaster_password}@{LOOPBACK}:{server.port('HTTPA')}"
    with chromium.browser(folder, site) as window:
        yield window


def send(server: Pillarbox, sender: str, recipient: str, subject: str) -> None:
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        client.sendmail(
            sender, [recipient], f"From: {sender}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\nHello\r\n"
        )


def subjects(server: Pillarbox, name: str, mailbox: str = "INBOX") -> list[str]:
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login(name, PASSWORD)
        client.select(mailbox)
        found = []
        for number in client.search(None, "ALL")[1][0].split():
            answer = client.fetch(number.decode(), "(BODY[HEADER.FIELDS (SUBJECT)])")[1][0]
            assert isinstance(answer, tuple)
            found.append(answer[1].decode().removeprefix("Subject: ").strip())
        return found


@pytest.mark.feature("RULE-011", "RULE-015")
def test_1_an_administrator_makes_a_rule(browser: Chromium, server: Pillarbox) -> None:
    browser.open("/Settings/")
    browser.follow("Rules")
    browser.write("[name=new]", "No offers")
    browser.press("Add Rule")
    assert "was added" in browser.message()
    browser.choose("[name=priority]", "7")
    browser.choose("[name='condition.0']", "Subject")
    browser.write("[name='with.0']", "*offer*")
    browser.choose("[name='action.0']", "Discard")
    browser.press("Update")
    assert browser.message() == "Updated."
    assert browser.overflow(390) <= 0
    send(server, "jane@far.test", "ann@box.test", "an OFFER")
    send(server, "jane@far.test", "ann@box.test", "a letter")
    assert eventually(lambda: subjects(server, "ann") == ["a letter"])


@pytest.mark.feature("RULE-011")
def test_2_a_message_is_tried(browser: Chromium) -> None:
    browser.follow("Try a message")
    browser.write("#message", "Subject: offer\n\nx")
    browser.press("Try")
    assert "The message would be discarded" in browser.text and "all conditions are met" in browser.text
    assert browser.overflow(390) <= 0


@pytest.mark.feature("RULE-170", "RULE-171", "RULE-017")
def test_3_a_user_goes_on_vacation(browser: Chromium, server: Pillarbox) -> None:
    administrator = browser.site
    browser.site = f"http://ann:{PASSWORD}@{LOOPBACK}:{server.port('HTTPA')}"
    try:
        browser.open("/Rules/")
        browser.write("#text", "I am in the mountains.")
        browser.tick("[name=reply]")
        browser.press("Update Answer")
        assert "updated" in browser.message()
        assert browser.overflow(390) <= 0
    finally:
        browser.site = administrator
    send(server, "bob@box.test", "ann@box.test", "lunch?")
    assert eventually(lambda: subjects(server, "bob") == ["Re: lunch?"])
