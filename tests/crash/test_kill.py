"""The real process is killed with SIGKILL at random under SMTP, POP and IMAP load, many times over. At the end: what was
acknowledged is there, once; what was removed and acknowledged stays removed; no UID ever shows two messages."""

from __future__ import annotations

import imaplib
import os
import poplib
import random
import re
import shutil
import smtplib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.pillarbox import PASSWORD, PROGRAM, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually

ROUNDS = 8
BROKEN = (OSError, EOFError, smtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto)


class Load:
    """What the clients do at the same time, and what they were told."""

    def __init__(self, server: Pillarbox) -> None:
        self.server = server
        self.lock = threading.Lock()
        self.number = 0
        self.accepted: dict[int, str] = {}
        self.bodies: dict[int, bytes] = {}
        self.removed: set[int] = set()
        self.removing: set[int] = set()
        self.seen: dict[tuple[str, str, int], int] = {}
        self.errors: list[str] = []
        self.over = threading.Event()

    def message(self, chance: random.Random) -> tuple[int, bytes]:
        with self.lock:
            self.number += 1
            number = self.number
        lines = chance.choice((1, 30, 30, 30, 3000))
        body = b"From the middle of nowhere, line %d\r\n" % number * lines
        with self.lock:
            self.bodies[number] = body
        return number, b"Subject: t\r\nMessage-ID: <%d@kill>\r\n\r\n%s" % (number, body)

    def sender(self, chance: random.Random) -> None:
        with smtplib.SMTP(LOOPBACK, self.server.port("SMTP"), timeout=10) as client:
            while not self.over.is_set():
                name = chance.choice("ab")
                number, text = self.message(chance)
                client.sendmail("me@elsewhere.test", [self.server.address(name)], text)
                with self.lock:
                    self.accepted[number] = name

    def appender(self, chance: random.Random) -> None:
        client = imaplib.IMAP4(LOOPBACK, self.server.port("IMAP"), timeout=10)
        client.login(self.server.address("b"), PASSWORD)
        while not self.over.is_set():
            number, text = self.message(chance)
            if client.append("INBOX", "", "", text)[0] == "OK":
                with self.lock:
                    self.accepted[number] = "b"

    def reader(self, chance: random.Random) -> None:
        client = imaplib.IMAP4(LOOPBACK, self.server.port("IMAP"), timeout=10)
        client.login(self.server.address("a"), PASSWORD)
        while not self.over.is_set():
            self.note("a", look(client))
            time.sleep(0.05)

    def remover(self, chance: random.Random) -> None:
        """Removes so much that the mailbox file is written anew now and then."""
        while not self.over.is_set():
            client = poplib.POP3(LOOPBACK, self.server.port("POP"), timeout=10)
            client.user(self.server.address("b"))
            client.pass_(PASSWORD)
            count = len(client.list()[1])
            gone = set()
            for index in range(1, min(count, 10) + 1):
                number = number_of(b"\r\n".join(client.top(index, 0)[1]))
                gone.add(number)
                client.dele(index)
            with self.lock:
                self.removing |= gone
            client.quit()
            with self.lock:
                self.removed |= gone
            time.sleep(0.1)

    def note(self, name: str, found: dict[tuple[str, int], int]) -> None:
        """Remember which message was seen under which UID; no UID may change its message."""
        with self.lock:
            for (validity, uid), number in found.items():
                before = self.seen.setdefault((name, validity, uid), number)
                if before != number:
                    self.errors.append(f"{name}: UID {uid} was message {before} and is {number}")

    def run(self, work: Callable[[random.Random], None], seed: int) -> None:
        try:
            work(random.Random(seed))
        except BROKEN:
            pass
        except Exception as error:
            self.errors.append(f"{work.__name__}: {error!r}")


def number_of(header: bytes) -> int:
    match = re.search(rb"<(\d+)@kill>", header)
    assert match, header
    return int(match[1])


def look(client: imaplib.IMAP4) -> dict[tuple[str, int], int]:
    """(UIDVALIDITY, UID) -> message number of INBOX."""
    client.select("INBOX", readonly=True)
    validity = str(client.response("UIDVALIDITY")[1][0])
    answer = client.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1]
    found = {}
    for item in answer:
        if isinstance(item, tuple):
            uid = re.search(rb"UID (\d+)", item[0])
            assert uid
            found[validity, int(uid[1])] = number_of(item[1])
    return found


def check_bodies(server: Pillarbox, name: str, load: Load) -> None:
    """Every message is whole."""
    client = imaplib.IMAP4(LOOPBACK, server.port("IMAP"), timeout=10)
    client.login(server.address(name), PASSWORD)
    for uid, number in [(uid, number) for (_, uid), number in look(client).items()]:
        answer = client.uid("FETCH", str(uid), "(BODY.PEEK[TEXT])")[1]
        (body,) = [item[1] for item in answer if isinstance(item, tuple)]
        assert body == load.bodies[number], f"{name}: message {number} is torn"
    client.logout()


@pytest.fixture
def server() -> Iterator[Pillarbox]:
    folder = Path(tempfile.mkdtemp(prefix="pb"))
    setup = Setup(accounts=("a", "b"), clients=("127.0.0.1",))
    made = Pillarbox(folder, setup, PROGRAM)
    try:
        yield made
    finally:
        made.kill()
        if not os.environ.get("CRASH_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.feature("QUEUE-001", "QUEUE-023", "QUEUE-024", "QUEUE-058", "BASE-016")
def test_killed_at_random(server: Pillarbox) -> None:
    load = Load(server)
    chance = random.Random(int(os.environ.get("CRASH_SEED", "1")))
    for _ in range(int(os.environ.get("CRASH_ROUNDS", ROUNDS))):
        server.start()
        load.over.clear()
        works = [load.sender, load.sender, load.sender, load.appender, load.reader, load.remover]
        threads = [threading.Thread(target=load.run, args=(work, chance.getrandbits(32))) for work in works]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.2, 1.5))
        server.kill()
        load.over.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert not load.errors, load.errors
    server.start()
    found: dict[str, dict[tuple[str, int], int]] = {}

    def all_there() -> bool:
        for name in "ab":
            client = imaplib.IMAP4(LOOPBACK, server.port("IMAP"), timeout=10)
            client.login(server.address(name), PASSWORD)
            found[name] = look(client)
            client.logout()
        everywhere = {number for one in found.values() for number in one.values()}
        return set(load.accepted) - load.removing <= everywhere

    if not eventually(all_there, 30):
        lost = {
            number: name
            for number, name in load.accepted.items()
            if number not in load.removing and number not in found[name].values()
        }
        pytest.fail(f"of {len(load.accepted)} messages these are lost: {lost}\n{server.logs()}")
    for name in "ab":
        check_bodies(server, name, load)
    for name, rows in found.items():
        load.note(name, rows)
        numbers = list(rows.values())
        twice = {number for number in numbers if numbers.count(number) > 1}
        assert not twice, f"{name} has these twice: {twice}"
        assert not set(numbers) & load.removed, "removed mail came back"
    assert not load.errors, load.errors
    assert len(load.accepted) > 50
    print(f"{len(load.accepted)} messages, {len(load.removed)} removed, {len(load.seen)} UIDs seen")
