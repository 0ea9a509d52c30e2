"""The server as a process: first start, stop, second start."""

from __future__ import annotations

import imaplib
import os
import poplib
import signal
import smtplib
import time

import pytest

from tests.interop.command_line import Answer, CommandLine
from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup, Start
from tests.interop.processes import LOOPBACK, NotStarted, eventually


def count(server: Pillarbox, address: str) -> bytes:
    """The STATUS answer about an INBOX."""
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login(address, PASSWORD)
        return bytes(client.status("INBOX", "(MESSAGES)")[1][0])


@pytest.mark.feature("INST-003", "INST-004", "INST-005", "INST-030")
@pytest.mark.parametrize("option", ["--Base", "--CGateBase", "--BASE"])
def test_the_first_start_makes_the_base_directory(start: Start, option: str) -> None:
    server = start(Setup(main_domain="tree.test", accounts=("ann",)), base_option=option)
    made = {path.name for path in server.base.iterdir()}
    assert {"Settings", "Queue", "BadFiles", "Accounts", "Domains", "Submitted", "SystemLogs", "ProcessID"} <= made


@pytest.mark.feature("INST-080")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_is_an_orderly_end(start: Start, number: signal.Signals) -> None:
    server = start(Setup(main_domain="signal.test", accounts=("ann",)))
    assert int((server.base / "ProcessID").read_text()) == server.pid
    os.kill(server.pid, number)
    began = time.monotonic()
    assert server.popen is not None and server.popen.wait(10) == 0, server.logs()
    assert time.monotonic() - began < 5
    assert not (server.base / "ProcessID").exists()


@pytest.mark.feature("INST-081")
def test_the_command_shutdown_is_an_orderly_end(start: Start) -> None:
    server = start(Setup(main_domain="command.test", accounts=("ann",)))
    with pytest.raises(Answer):
        CommandLine(server.port("PWD"), "ann@command.test", PASSWORD)("Shutdown")
    with CommandLine(server.port("PWD"), "postmaster", server.setup.postmaster_password) as cli:
        cli("Shutdown")
    assert server.popen is not None and server.popen.wait(10) == 0, server.logs()
    assert not (server.base / "ProcessID").exists()


@pytest.mark.feature("INST-082")
def test_a_shutdown_in_the_middle_of_everything_loses_nothing(start: Start) -> None:
    server = start(Setup(main_domain="middle.test", accounts=("ann",)))
    address = "ann@middle.test"
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        for number in range(3):
            client.sendmail("a@example.org", [address], f"Subject: {number}\r\n\r\ntext\r\n")
    assert eventually(lambda: b"MESSAGES 3" in count(server, address))

    imap = imaplib.IMAP4(LOOPBACK, server.port("IMAP"))
    imap.login(address, PASSWORD)
    imap.select("INBOX")
    imap.store("1", "+FLAGS", "(\\Flagged)")
    pop = poplib.POP3(LOOPBACK, server.port("POP"))
    pop.user(address)
    pop.pass_(PASSWORD)
    pop.dele(2)
    smtp = smtplib.SMTP(LOOPBACK, server.port("SMTP"))
    smtp.ehlo()
    smtp.sendmail("a@example.org", [address], "Subject: finished\r\n\r\ntext\r\n")
    smtp.mail("a@example.org")
    smtp.rcpt(address)
    smtp.putcmd("DATA")
    smtp.getreply()
    smtp.send(b"Subject: unfinished\r\n\r\nhalf of")

    began = time.monotonic()
    assert server.stop() == 0, server.logs()
    assert time.monotonic() - began < 5
    for connection in (imap.sock, pop.sock, smtp.sock):
        assert connection is not None
        connection.close()
    server.start()

    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login(address, PASSWORD)
        # The three, of which the POP session without a QUIT has deleted none, and the finished one.
        assert eventually(lambda: b"MESSAGES 4" in client.status("INBOX", "(MESSAGES)")[1][0])
        client.select("INBOX", readonly=True)
        assert client.search(None, "FLAGGED")[1] == [b"1"]
        assert client.search(None, "SUBJECT", "unfinished")[1] == [b""]
        assert client.search(None, "SUBJECT", "finished")[1] == [b"4"]


@pytest.mark.feature("INST-008")
def test_a_second_server_on_the_same_base_directory_is_refused(start: Start) -> None:
    server = start(Setup(main_domain="twice.test", accounts=("ann",)))
    twin = Pillarbox(server.base.parent / "twin", server.setup)
    twin.base = server.base
    with pytest.raises(NotStarted) as error:
        twin.start()
    assert twin.stop() not in (0, -signal.SIGTERM)
    assert str(server.pid) in str(error.value) or "running" in str(error.value).lower()


@pytest.mark.feature("INST-019")
def test_accepted_mail_survives_a_kill(start: Start) -> None:
    server = start(Setup(main_domain="killed.test", accounts=("ann",)))
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        for number in range(20):
            client.sendmail("a@example.org", ["ann@killed.test"], f"Subject: {number}\r\n\r\ntext\r\n")
        server.kill()
    server.start()
    assert eventually(lambda: b"MESSAGES 20" in count(server, "ann@killed.test"))
    time.sleep(0.5)
    assert b"MESSAGES 20" in count(server, "ann@killed.test"), "each once"
