"""The real process is killed at random while rules mirror, store and answer: all of it is there in the end, once."""

from __future__ import annotations

import imaplib
import random
import re
import shutil
import smtplib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.formats.data import Value, render
from tests.interop.command_line import CommandLine
from tests.interop.pillarbox import PASSWORD, PROGRAM, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually

ROUNDS = 6
RULES: list[Value] = [
    [
        "5",
        "all",
        [],
        [["Mirror to", "mirror"], ["Store in", "~shelf/INBOX"], ["React with", "To: told\nSubject: t ^I\n\nx"]],
    ]
]
SERVER: list[Value] = [["9", "all", [["Any Recipient", "is", "own@*"]], [["Store in", "~archive/INBOX"]]]]
WHERE = ("own", "mirror", "shelf", "told", "archive")


@pytest.fixture
def server() -> Iterator[Pillarbox]:
    folder = Path(tempfile.mkdtemp(prefix="pb"))
    made = Pillarbox(folder, Setup(accounts=WHERE, clients=("127.0.0.1",)), PROGRAM)
    try:
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder, ignore_errors=True)


def numbers(server: Pillarbox, name: str) -> list[int]:
    """The numbers of the letters in an INBOX, as often as they are there."""
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP"), timeout=10) as client:
        client.login(server.address(name), PASSWORD)
        client.select("INBOX", readonly=True)
        answer = client.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID SUBJECT)])")[1]
    headers = [item[1] for item in answer if isinstance(item, tuple)]
    return [int(found[1]) for header in headers if (found := re.search(rb"<(\d+)@kill>", header))]


@pytest.mark.slow
@pytest.mark.feature("RULE-082", "RULE-081", "RULE-092", "RULE-122")
def test_killed_while_rules_work(server: Pillarbox) -> None:
    chance = random.Random(4)
    accepted: set[int] = set()
    count = 0

    def send(over: threading.Event) -> None:
        nonlocal count
        try:
            with smtplib.SMTP(LOOPBACK, server.port("SMTP"), timeout=10) as client:
                while not over.is_set():
                    count += 1
                    number = count
                    text = f"From: me@elsewhere.test\r\nSubject: t\r\nMessage-ID: <{number}@kill>\r\n\r\n{'x' * 50}\r\n"
                    client.sendmail("me@elsewhere.test", [server.address("own")], text)
                    accepted.add(number)
                    time.sleep(0.02)
        except (OSError, EOFError, smtplib.SMTPException):
            pass

    server.start()
    with CommandLine(server.port("PWD"), "postmaster", server.setup.postmaster_password) as cli:
        cli(f"SetAccountRules own {render(RULES)}")
        cli(f"SetServerRules {render(SERVER)}")
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login(server.address("shelf"), PASSWORD)
        client.setacl("INBOX", "own", "li")
    for turn in range(ROUNDS):
        if turn:
            server.start()
        over = threading.Event()
        thread = threading.Thread(target=send, args=(over,))
        thread.start()
        time.sleep(chance.uniform(0.2, 1.0))
        server.kill()
        over.set()
        thread.join(20)
    server.start()
    found: dict[str, list[int]] = {}

    def all_there() -> bool:
        for name in WHERE:
            found[name] = numbers(server, name)
        return all(accepted <= set(found[name]) for name in WHERE)

    eventually(all_there, 40)
    for name in WHERE:
        assert accepted <= set(found[name]), f"lost in {name}: {sorted(accepted - set(found[name]))}\n{server.logs()}"
        twice = {number for number in found[name] if found[name].count(number) > 1}
        assert not twice, f"{name} has these twice: {twice}"
    assert len(accepted) > 20
