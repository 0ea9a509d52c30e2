"""Mail between servers: to and from a Postfix, and between two Pillarboxes."""

from __future__ import annotations

import imaplib
import smtplib
import time
from pathlib import Path

import pytest

from tests.interop.dovecot import Dovecot
from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup, Start
from tests.interop.postfix import Postfix
from tests.interop.processes import LOOPBACK, eventually


def send(port: int, sender: str, recipient: str, subject: str, login: str = "", text: str = "hello\r\n") -> None:
    """One letter over SMTP, after a log-in when a name is given."""
    with smtplib.SMTP(LOOPBACK, port) as client:
        if login:
            client.login(login, PASSWORD)
        client.sendmail(sender, [recipient], f"From: {sender}\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\n{text}")


def letter(port: int, address: str, subject: str, seconds: float = 30.0) -> bytes:
    """The letter of this subject in an INBOX behind an IMAP port, waited for; empty when it does not come."""
    with imaplib.IMAP4(LOOPBACK, port) as client:
        client.login(address, PASSWORD)

        def look() -> bytes:
            client.select("INBOX", readonly=True)
            numbers = client.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
            if not numbers:
                return b""
            _, data = client.fetch(numbers[0].decode(), "(BODY.PEEK[])")
            assert isinstance(data[0], tuple)
            return data[0][1]

        return eventually(look, seconds)


@pytest.fixture(scope="module")
def peer(mail_from_us: tuple[Postfix, Dovecot]) -> tuple[Postfix, Dovecot]:
    return mail_from_us


@pytest.fixture(scope="module")
def office(start: Start, peer: tuple[Postfix, Dovecot]) -> Pillarbox:
    """A server that sends mail for peer.test to the Postfix."""
    route = f"peer.test = peer.test@{LOOPBACK}.{peer[0].smtp}.smtp"
    return start(Setup(main_domain="office.test", accounts=("ann",), router=[route]))


def test_a_user_writes_to_a_user_of_postfix(office: Pillarbox, peer: tuple[Postfix, Dovecot]) -> None:
    send(office.port("SMTP"), "ann@office.test", "zoe@peer.test", "over the wall", login="ann@office.test")
    got = letter(peer[1].imap, "zoe@peer.test", "over the wall")
    assert got, peer[0].log()
    assert b"Return-Path: <ann@office.test>" in got


def test_a_user_of_postfix_writes_to_a_user(start: Start, folder: Path, office: Pillarbox) -> None:
    outside = Postfix(folder / "out", "out.test", "discard:", {"relayhost": f"[{LOOPBACK}]:{office.port('SMTP')}"})
    try:
        outside.start()
        send(outside.smtp, "zoe@peer.test", "ann@office.test", "back again")
        got = letter(office.port("IMAP"), "ann@office.test", "back again")
        assert got, outside.log()
        assert b"by mx.out.test (Postfix)" in got
    finally:
        outside.stop()


def test_an_unknown_user_of_postfix_comes_back_as_a_report(
    start: Start, folder: Path, peer: tuple[Postfix, Dovecot]
) -> None:
    strict = {"virtual_mailbox_maps": "inline:{zoe@strict.test=x}"}
    other = Postfix(folder / "strict", "strict.test", "discard:", strict)
    try:
        other.start()
        route = f"strict.test = strict.test@{LOOPBACK}.{other.smtp}.smtp"
        server = start(Setup(main_domain="ours.test", accounts=("ann",), router=[route]))
        send(server.port("SMTP"), "ann@ours.test", "nobody@strict.test", "lost", login="ann@ours.test")
        with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
            client.login("ann@ours.test", PASSWORD)

            def report() -> bytes:
                client.select("INBOX", readonly=True)
                if client.search(None, "ALL")[1] == [b""]:
                    return b""
                _, data = client.fetch("1", "(BODY.PEEK[])")
                assert isinstance(data[0], tuple)
                return data[0][1]

            text = eventually(report, 30)
        assert b"multipart/report" in text and b"Final-Recipient: rfc822;" in text
        assert b"nobody@strict.test" in text and b"Action: failed" in text and b"550" in text
    finally:
        other.stop()


def test_two_pillarboxes_exchange_mail(start: Start) -> None:
    second = start(Setup(main_domain="second.test", accounts=("bob",)))
    route = f"second.test = second.test@{LOOPBACK}.{second.port('SMTP')}.smtp"
    first = start(Setup(main_domain="first.test", accounts=("ann",), router=[route]))
    send(first.port("SMTP"), "ann@first.test", "bob@second.test", "between us", login="ann@first.test")
    got = letter(second.port("IMAP"), "bob@second.test", "between us")
    assert got.count(b"Received: ") == 2


def test_mail_waits_for_a_host_that_is_down(start: Start) -> None:
    second = start(Setup(main_domain="late.test", accounts=("bob",)))
    route = f"late.test = late.test@{LOOPBACK}.{second.port('SMTP')}.smtp"
    impatient = {"SMTP": {"RetryEvery": 10}}
    first = start(Setup(main_domain="early.test", accounts=("ann",), router=[route], settings=impatient))
    assert second.stop() == 0
    send(first.port("SMTP"), "ann@early.test", "bob@late.test", "later", login="ann@early.test")
    time.sleep(1)
    # The queue is on disk: the sender restarts meanwhile.
    assert first.stop() == 0
    second.start()
    first.start()
    assert letter(second.port("IMAP"), "bob@late.test", "later")
