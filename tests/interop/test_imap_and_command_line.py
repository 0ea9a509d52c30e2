"""What administrators set by commands and what clients see over IMAP are the same thing; files are free for other programs."""

from __future__ import annotations

import fcntl
import imaplib
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.interop.command_line import CommandLine
from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup, Start
from tests.interop.processes import LOOPBACK

LETTER = b"From: a@example.org\r\nSubject: x\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def office(start: Start) -> Pillarbox:
    return start(Setup(main_domain="line.test", accounts=("ann", "bob")))


def session(office: Pillarbox, name: str) -> imaplib.IMAP4:
    client = imaplib.IMAP4(LOOPBACK, office.port("IMAP"))
    client.login(office.address(name), PASSWORD)
    return client


def command_line(office: Pillarbox) -> CommandLine:
    return CommandLine(office.port("PWD"), "postmaster", office.setup.postmaster_password)


def listed(answer: tuple[str, Sequence[object]]) -> list[bytes]:
    return sorted(row.rsplit(b" ", 1)[1] for row in answer[1] if isinstance(row, bytes))


@pytest.mark.feature("IMAP-036", "IMAP-126", "IMAP-127", "ACC-051", "ACC-052")
def test_subscriptions_and_aliases_by_commands(office: Pillarbox) -> None:
    with session(office, "bob") as bob:
        bob.create("news")
        bob.setacl("news", "ann", "lr")
        bob.append("news", "", "", LETTER)
    with command_line(office) as line:
        line('SETACCOUNTSUBSCRIPTION ann (INBOX,"~bob/news")')
        line('SETMAILBOXALIASES ann {paper="~bob/news";}')
        assert "paper" in line("GETMAILBOXALIASES ann")
        with session(office, "ann") as ann:
            assert listed(ann.lsub()) == [b"INBOX", b"~bob/news"]
            assert listed(ann.list()) == [b"INBOX", b"paper"]
            for name in ("paper", "~bob/news"):
                assert ann.select(name, readonly=True)[1] == [b"1"]
            ann.subscribe("paper")
        assert "paper" in line("GETACCOUNTSUBSCRIPTION ann")


@pytest.mark.feature("ACC-010")
def test_the_last_login_is_kept(office: Pillarbox) -> None:
    with session(office, "bob"):
        pass
    with command_line(office) as line:
        before = [line(f"GETACCOUNTINFO bob KEY {key}") for key in ("LastLogin", "LastAddress")]
    assert len(before[0].strip('"')) == 14 and LOOPBACK in before[1]
    office.stop()
    office.start()
    with command_line(office) as line:
        assert [line(f"GETACCOUNTINFO bob KEY {key}") for key in ("LastLogin", "LastAddress")] == before


@pytest.mark.feature("ACC-041")
def test_no_file_is_locked_for_others(office: Pillarbox) -> None:
    """While two sessions write, another program can lock the mailbox in every way that there is."""
    with session(office, "ann") as ann:
        ann.create("box.mbox")
    [path] = list(Path(office.base).rglob("ann.macnt/box.mbox"))
    over = threading.Event()
    failures: list[str] = []

    def write() -> None:
        with session(office, "ann") as client:
            while not over.is_set():
                if client.append("box", "", "", LETTER)[0] != "OK":
                    failures.append("refused")
                client.select("box")
                client.store("1:*", "+FLAGS", "\\Seen")

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(200):
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert not list(path.parent.glob("*lock*"))
    finally:
        over.set()
        for writer in writers:
            writer.join()
    assert not failures
