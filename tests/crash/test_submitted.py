"""The real process is killed with SIGKILL while it takes in submitted files: each becomes one message, and only one."""

from __future__ import annotations

import imaplib
import random
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually

ROUNDS = 3
FILES = 150


@pytest.fixture
def server() -> Iterator[Pillarbox]:
    folder = Path(tempfile.mkdtemp(prefix="pbs"))
    made = Pillarbox(folder, Setup(accounts=("ann",), password=PASSWORD))
    yield made
    made.stop()
    shutil.rmtree(folder, ignore_errors=True)


def subjects(server: Pillarbox) -> list[int]:
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP"), timeout=20) as client:
        client.login(server.address("ann"), PASSWORD)
        client.select("INBOX", readonly=True)
        answer = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        found = [re.search(rb"Subject: (\d+)", item[1]) for item in answer if isinstance(item, tuple)]
        return sorted(int(match[1]) for match in found if match is not None)


@pytest.mark.slow
@pytest.mark.feature("PIPE-004", "PIPE-018", "PIPE-019")
def test_each_file_becomes_one_message(server: Pillarbox) -> None:
    chance = random.Random(5)
    server.start()
    server.stop()
    folder = server.base / "Submitted"
    number = 0
    for _ in range(ROUNDS):
        for _ in range(FILES):
            number += 1
            path = folder / f"{number}.tmp"
            path.write_text(f"From: ann\nTo: ann\nSubject: {number}\n\ntext\n")
            path.rename(path.with_suffix(".sub"))
        server.start()
        before = len(list(folder.iterdir()))
        eventually(lambda count=before: len(list(folder.iterdir())) < count)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.15))
        server.kill()
    server.start()
    assert eventually(lambda: not list(folder.iterdir())), server.logs()
    eventually(lambda: len(subjects(server)) >= number)
    time.sleep(0.3)
    assert subjects(server) == list(range(1, number + 1))
