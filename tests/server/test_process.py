"""The server as a process of the operating system: its options, its user, its records there."""

from __future__ import annotations

import grp
import os
import poplib
import re
import smtplib
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.interop.command_line import CommandLine
from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Pillarbox]:
    made = Pillarbox(tmp_path, Setup(accounts=("ann",)))
    yield made
    made.stop()


def with_changes(text: str) -> tuple[str, ...]:
    """The program, after some Python."""
    return (sys.executable, "-c", f"import sys\n{text}\nfrom firmware.main import main\nsys.exit(main())")


def exchange(server: Pillarbox, subject: str = "hello") -> None:
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        client.sendmail("a@example.org", ["ann@box.test"], f"Subject: {subject}\r\n\r\ntext\r\n")
    assert eventually(lambda: any(subject in text for text in letters(server))), server.logs()


def letters(server: Pillarbox) -> list[str]:
    pop = poplib.POP3(LOOPBACK, server.port("POP"))
    pop.user("ann")
    pop.pass_(PASSWORD)
    found = [b"\n".join(pop.retr(n + 1)[1]).decode() for n in range(pop.stat()[0])]
    pop.quit()
    return found


def log_lines(server: Pillarbox) -> list[str]:
    files = sorted((server.base / "SystemLogs").iterdir())
    return [line for path in files for line in path.read_text().splitlines()]


@pytest.mark.feature("INST-031", "LOG-006")
def test_the_log_is_copied_to_the_console(box: Pillarbox) -> None:
    box.start(options=["--LogToConsole"])
    exchange(box)
    assert box.stop() == 0
    lines = log_lines(box)
    assert len(lines) > 4
    shown = [line for line in box.said(1_000_000).splitlines() if re.match(r"\d\d:\d\d:\d\d\.\d{3} [0-5] ", line)]
    assert shown == lines


@pytest.mark.feature("INST-032", "LOG-005")
def test_all_records_are_stored_whatever_the_levels_are(box: Pillarbox) -> None:
    box.start()
    with CommandLine(box.port("PWD"), "postmaster", box.setup.postmaster_password) as cli:
        for module in ("SMTP", "POP", "Queue", "LOCAL", "Router"):
            cli(f"UpdateModule {module} {{LogLevel=0;}}")
    exchange(box, "quiet")
    assert not [line for line in log_lines(box) if line[13:14] in "45"]
    assert box.stop() == 0
    box.start(options=["--LogAll"])
    exchange(box, "loud")
    assert box.stop() == 0
    detailed = [line for line in log_lines(box) if line[13:14] in "45"]
    assert {"SMTP", "POP"} <= {re.split(r"[- ]", line[15:])[0] for line in detailed}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="pb") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@needs_root
@pytest.mark.feature("INST-036", "INST-090", "INST-092")
def test_root_is_given_up_and_the_work_goes_on(open_folder: Path) -> None:
    """Shortly after the start here; then files can be made and changed, old ones and new ones."""
    server = Pillarbox(
        open_folder / "s", Setup(accounts=("ann",)), with_changes("import firmware.main as m; m.DROP_AFTER = 1.5")
    )
    try:
        server.start(options=["--dropRoot"])
        exchange(server, "as root")
        assert user(server) == 0
        assert eventually(lambda: user(server) != 0, 10)
        exchange(server, "as another user")
        with CommandLine(server.port("PWD"), "postmaster", server.setup.postmaster_password) as cli:
            cli("CreateAccount late")
            cli("UpdateModule SMTP {SizeLimit=2M;}")
        assert (server.base / "Accounts" / "late.macnt").stat().st_uid == user(server)
        assert "root is given up" in "\n".join(log_lines(server))
        assert server.stop() == 0, server.logs()
        assert not [path for path in server.base.rglob("*") if path.lstat().st_uid == 0]
    finally:
        server.stop()


def user(server: Pillarbox) -> int:
    """The one user of all its threads."""
    users = set()
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        with suppress(OSError):
            (line,) = [line for line in (task / "status").read_text().splitlines() if line.startswith("Uid:")]
            users.update(line.split()[1:])
    return int(max(users, key=int)) if len(users) == 1 else 0


@needs_root
@pytest.mark.feature("INST-013")
def test_files_are_for_root_and_the_group_mail(tmp_path: Path, box: Pillarbox) -> None:
    try:
        group = grp.getgrnam("mail").gr_gid
    except KeyError:
        pytest.skip("there is no group mail")
    box.start()
    exchange(box)
    assert box.stop() == 0
    for path in (box.base, *box.base.rglob("*")):
        found = path.lstat()
        assert found.st_mode & 0o007 == 0, path
        assert (found.st_uid, found.st_gid) == (0, group), path


class OsLog:
    """What programs send to the operating system's log."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("/dev/log")
        self.socket.setblocking(False)
        self.records: list[str] = []

    def of(self, pid: int) -> list[str]:
        with suppress(BlockingIOError):
            while True:
                self.records.append(self.socket.recv(65536).decode())
        return [text.partition(f"[{pid}]: ")[2].rstrip("\0") for text in self.records if f"[{pid}]: " in text]


@pytest.fixture
def os_log() -> Iterator[OsLog]:
    if os.geteuid() != 0 or os.path.exists("/dev/log"):
        pytest.skip("needs root, and no log service")
    made = OsLog()
    yield made
    made.socket.close()
    os.unlink("/dev/log")


@pytest.mark.feature("INST-085", "INST-087")
def test_the_log_of_the_system_hears_of_start_and_end_only(box: Pillarbox, os_log: OsLog) -> None:
    box.start(options=["--LogAll"])
    pid = box.pid
    exchange(box)
    assert eventually(lambda: os_log.of(pid)) == ["started"]
    assert len(log_lines(box)) > 30
    assert os_log.records[0].startswith(f"<{2 << 3 | 5}>"), "facility mail"
    assert box.stop() == 0
    assert eventually(lambda: len(os_log.of(pid)) == 2)
    assert "shut down" in os_log.of(pid)[1]


@pytest.mark.feature("INST-086")
def test_the_log_of_the_system_hears_of_program_errors(tmp_path: Path, os_log: OsLog) -> None:
    change = "import appliance.access.pop.session as s\nasync def run(self): 1 / 0\ns.PopSession.run = run"
    server = Pillarbox(tmp_path / "s", Setup(), with_changes(change))
    try:
        server.start(("SMTP", "IMAP"))
        pid = server.pid
        with socket.create_connection((LOOPBACK, server.port("POP"))) as connection:
            assert connection.recv(100) == b"", "the session ends"
        assert eventually(lambda: len(os_log.of(pid)) == 2), server.logs()
        assert any("ZeroDivisionError" in record for record in os_log.of(pid))
        with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
            assert client.noop()[0] == 250, "others go on"
    finally:
        server.stop()
