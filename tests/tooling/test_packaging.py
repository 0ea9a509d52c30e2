"""The start-up script with a real server, and the installer below a folder of the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import pillarbox
from tests.interop.pillarbox import PROGRAM, ROOT, SERVICES, free_offset
from tests.interop.processes import eventually, greeting

SCRIPT = ROOT / "packaging" / "pillarbox.init"
INSTALLER = ROOT / "packaging" / "install.sh"
needs_server = pytest.mark.skipif(not pillarbox.exists(), reason="there is no server yet: appliance/server.py")


class Box:
    """A base directory whose server is started and stopped by the script."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.offset = free_offset()
        base.mkdir()
        (base / "Startup.options").write_text(f"--PortOffset {self.offset}\n")

    def script(self, action: str) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": os.environ["PATH"], "BASEFOLDER": str(self.base), "PROGRAM": PROGRAM[0]}
        return subprocess.run(
            ["sh", SCRIPT, action], env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    @property
    def pid(self) -> int:
        """The process id that the server has written; 0 while there is none."""
        path = self.base / "ProcessID"
        return int(path.read_text()) if path.exists() else 0


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "base")
    yield made
    made.script("stop")


@needs_server
@pytest.mark.feature("INST-050", "INST-053", "INST-034")
def test_the_script_starts_and_stops_the_server(box: Box) -> None:
    assert box.script("status").returncode == 3
    started = box.script("start")
    assert started.returncode == 0, started.stderr
    first = box.pid
    assert first and str(first) in started.stdout
    port = SERVICES["SMTP"] + box.offset
    assert eventually(lambda: greeting(port)).startswith(b"220"), "the parameter file of the base directory was read"
    assert box.script("status").returncode == 0
    assert [os.readlink(f"/proc/{first}/fd/{number}") for number in (0, 1, 2)] == ["/dev/null"] * 3

    assert "already" in box.script("start").stdout
    assert box.pid == first
    assert box.script("restart").returncode == 0
    assert box.pid not in (0, first)

    last = box.pid
    assert box.script("stop").returncode == 0
    assert not Path(f"/proc/{last}").exists()
    assert box.pid == 0
    assert box.script("stop").returncode == 0, "to stop what is not running is no error"


@needs_server
@pytest.mark.feature("INST-052")
def test_the_base_directory_may_have_a_script_that_sets_limits(box: Box) -> None:
    (box.base / "Startup.sh").write_text('ulimit -s 4096\nexport MY_SCRIPT="ran for $1"\n')
    assert box.script("start").returncode == 0
    limits = Path(f"/proc/{box.pid}/limits").read_text()
    assert any(line.split()[:5] == ["Max", "stack", "size", "4194304", "4194304"] for line in limits.splitlines())
    assert b"MY_SCRIPT=ran for start\0" in Path(f"/proc/{box.pid}/environ").read_bytes()


@pytest.mark.feature("INST-051")
def test_the_script_passes_the_controller_option(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/options\necho $PPID > {tmp_path}/ProcessID\n')
    program.chmod(0o755)
    variables = {"PATH": os.environ["PATH"], "BASEFOLDER": str(tmp_path), "PROGRAM": str(program)}
    done = subprocess.run(["sh", SCRIPT, "controller"], env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "options").read_text() == f"--Base {tmp_path} --Daemon --ClusterController\n"


def test_the_script_says_how_it_is_called(tmp_path: Path) -> None:
    done = subprocess.run(["sh", SCRIPT, "fly"], env={"BASEFOLDER": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2 and "start|stop|restart|status" in done.stderr


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An unpacked archive with a program that does nothing."""
    unpacked = tmp_path / "unpacked"
    (unpacked / "pillarbox" / "_internal").mkdir(parents=True)
    (unpacked / "packaging").mkdir()
    for name in ("install.sh", "pillarbox.init", "pillarbox.service"):
        (unpacked / "packaging" / name).write_bytes((ROOT / "packaging" / name).read_bytes())
    program = unpacked / "pillarbox" / "pillarbox"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return unpacked


def install(archive: Path, root: Path, *words: str) -> str:
    variables = {"PATH": os.environ["PATH"], "DESTDIR": str(root)}
    command = ["sh", str(archive / "packaging" / "install.sh"), *words]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.feature("INST-055")
def test_the_program_is_installed_under_one_directory(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    said = install(archive, root)
    assert "8010" in said and "account.settings" in said
    started_by = ["etc/init.d/pillarbox", "etc/systemd/system/pillarbox.service"]
    installed = ["opt/pillarbox/mail", "opt/pillarbox/pillarbox", "opt/pillarbox/sendmail"]
    assert [name for name in files(root) if name not in started_by] == installed
    assert os.access(root / "etc/init.d/pillarbox", os.X_OK)


@pytest.mark.feature("INST-063", "MISC-054")
def test_mail_and_sendmail_stand_beside_those_of_the_system(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    system = root / "usr" / "sbin" / "sendmail"
    system.parent.mkdir(parents=True)
    system.write_text("the system's")
    (archive / "pillarbox" / "pillarbox").write_text('#!/bin/sh\nbasename "$0"\n')
    install(archive, root)
    for name in ("mail", "sendmail"):
        called = subprocess.run([root / "opt/pillarbox" / name], capture_output=True, text=True, timeout=20)
        assert called.stdout.strip() == name
    assert system.read_text() == "the system's"


@pytest.mark.feature("INST-058", "BASE-007")
def test_an_upgrade_and_an_uninstall_leave_the_base_directory(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    base = root / "var" / "Pillarbox"
    (base / "Accounts").mkdir(parents=True)
    (base / "Startup.sh").write_text("ulimit -s 4096\n")
    (base / "Accounts" / "mail").write_text("a letter")
    before = [(name, (base / name).read_text()) for name in files(base)]

    install(archive, root)
    (root / "opt/pillarbox/left-by-the-old-version").touch()
    install(archive, root)
    assert not (root / "opt/pillarbox/left-by-the-old-version").exists()
    install(archive, root, "uninstall")
    assert [name for name in files(root) if not name.startswith("var/")] == []
    assert [(name, (base / name).read_text()) for name in files(base)] == before
