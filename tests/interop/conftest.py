"""Real servers for real programs: each started on free loopback ports with files of its own, and stopped."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.interop import dovecot, pillarbox, postfix
from tests.interop.pillarbox import PASSWORD, Pillarbox, Run, Setup, Start


@pytest.fixture(scope="session", autouse=True)
def there_is_a_server() -> None:
    if not pillarbox.exists():
        pytest.skip("there is no server yet: appliance/server.py")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder with a short name, because sockets are made in it, that the users of Postfix and Dovecot can enter."""
    path = Path(tempfile.mkdtemp(prefix="pb"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def start(folder: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts servers; those that are still up at the end of the module are stopped, and a failure shows their logs."""
    servers: list[Pillarbox] = []
    failed_before = request.session.testsfailed

    def starter(setup: Setup | None, base_option: str = "--Base") -> Pillarbox:
        server = Pillarbox(Path(tempfile.mkdtemp(prefix="s", dir=folder)), setup, base_option=base_option)
        servers.append(server)
        server.start()
        return server

    yield starter
    for server in servers:
        server.stop()
        if request.session.testsfailed > failed_before:
            print(server.logs())


@pytest.fixture(scope="module")
def server(start: Start) -> Pillarbox:
    """The main domain box.test with the users ann, bob and cat."""
    return start(Setup(accounts=("ann", "bob", "cat"), password=PASSWORD))


@pytest.fixture
def run() -> Run:
    """Runs a program of the system and gives its output; skips when it is not installed, fails when it fails."""

    def runner(*command: str | Path, stdin: str = "", statuses: Sequence[int] = (0,), **environment: str) -> str:
        program = needed(str(command[0]))
        done = subprocess.run(
            [program, *map(str, command[1:])],
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **environment},
        )
        output = done.stdout.decode(errors="replace")
        assert done.returncode in statuses, f"{program} ended with {done.returncode}:\n{output}"
        return output

    return runner


@pytest.fixture(scope="module")
def mail_from_us(folder: Path) -> Iterator[tuple[postfix.Postfix, dovecot.Dovecot]]:
    """Postfix and Dovecot for the domain peer.test with the user zoe."""
    if not (postfix.exists() and dovecot.exists()):
        pytest.skip("needs root, postfix and dovecot")
    place = Path(tempfile.mkdtemp(prefix="d", dir=folder))
    place.chmod(0o755)
    boxes = dovecot.Dovecot(place / "d", ["zoe@peer.test"], PASSWORD)
    transport = postfix.Postfix(place / "p", "peer.test", boxes.lmtp)
    try:
        boxes.start()
        transport.start()
        yield transport, boxes
    finally:
        transport.stop()
        boxes.stop()


def needed(program: str) -> str:
    """The path of a program; skips the test when it is missing."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path
