"""The frozen program: made by `make.py freeze`, started without a Python, used as a mail server."""

from __future__ import annotations

import poplib
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop import pillarbox
from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not pillarbox.exists(), reason="there is no server yet: appliance/server.py"),
]

ROOT = pillarbox.ROOT
FORMS = {"one folder": ([], pillarbox.FROZEN), "one file": (["--one-file"], ROOT / ".out/dist/pillarbox-one-file")}
BARE = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "", "PYTHONHOME": "", "VIRTUAL_ENV": ""}


def stamps(program: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file of the program."""
    files = program.parent.rglob("*") if program == pillarbox.FROZEN else [program]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()}


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: form.replace(" ", "-"))
def program(request: pytest.FixtureRequest) -> Path:
    """The program in each of its forms, made anew."""
    options, made = FORMS[request.param]
    command = [sys.executable, str(ROOT / "build" / "make.py"), "freeze", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert made.is_file()
    return made


@pytest.mark.feature("INST-001")
def test_a_message_goes_in_and_comes_out(program: Path, tmp_path: Path) -> None:
    server = Pillarbox(tmp_path, Setup(accounts=("ann",)), [str(program)])
    before = stamps(program)
    try:
        server.start(environment=BARE)
        with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
            client.sendmail("friend@example.org", ["ann@box.test"], "Subject: frozen\r\n\r\nhello\r\n")

        def read() -> list[bytes]:
            mailbox = poplib.POP3(LOOPBACK, server.port("POP"))
            mailbox.user("ann@box.test")
            mailbox.pass_(PASSWORD)
            lines = mailbox.retr(1)[1] if mailbox.stat()[0] else []
            mailbox.quit()
            return lines

        lines = eventually(read)
        assert b"Subject: frozen" in lines and lines[-1] == b"hello", server.logs()
        assert server.stop() == 0, server.logs()
        assert stamps(program) == before
    finally:
        server.stop()


def test_it_tells_its_version(program: Path) -> None:
    done = subprocess.run([program, "--Version"], capture_output=True, text=True, env=BARE, timeout=30)
    assert done.returncode == 0 and "Pillarbox" in done.stdout
