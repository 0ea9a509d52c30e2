"""The server as a process: first start, stop, second start."""

from __future__ import annotations

import imaplib
import os
import signal
import smtplib
import time

import pytest

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
