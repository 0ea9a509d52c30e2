"""Root given up and taken back from the General page, on a real process."""

from __future__ import annotations

import base64
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.interop.command_line import CommandLine
from tests.interop.pillarbox import SERVICES, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually, free_port
from tests.server.test_process import exchange

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class OnPortsOfItsOwn(Pillarbox):
    """A server without an offset, so that ports below 1024 can be asked for; its services have free high ports."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Setup(accounts=("ann",)))
        self.offset = 0
        self.ports = {service: free_port() for service in SERVICES}
        lines = [f"[settings.{service}]\nListener = [{{Port = {port}}}]" for service, port in self.ports.items()]
        self.file.write_text("\n".join([self.file.read_text(), *lines]))

    def port(self, service: str) -> int:
        return self.ports[service]


@pytest.fixture
def box() -> Iterator[Pillarbox]:
    with tempfile.TemporaryDirectory(prefix="pb") as name:
        Path(name).chmod(0o755)
        made = OnPortsOfItsOwn(Path(name) / "s")
        try:
            made.start()
            yield made
        finally:
            made.stop()


def general(box: Pillarbox, button: str = "") -> str:
    """The General page, after a button was pressed on it."""
    connection = HTTPConnection(LOOPBACK, box.port("HTTPA"), timeout=20)
    login = base64.b64encode(f"postmaster:{box.setup.postmaster_password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Sec-Fetch-Site": "same-origin"}
    if button:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request("POST", "/Settings/General", urlencode({button: "1"}), headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 303, response.status
    connection.request("GET", "/Settings/General", headers=headers)
    return connection.getresponse().read().decode()


def user(box: Pillarbox) -> int:
    """The effective user of all its threads."""
    found = set()
    for task in Path(f"/proc/{box.pid}/task").iterdir():
        try:
            status = (task / "status").read_text()
        except OSError:
            continue  # it has just ended
        found.add(int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[2]))
    (one,) = found
    return one


def opens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), 5).close()
    except OSError:
        return False
    return True


def low_ports() -> list[int]:
    """Two ports below 1024 that are free, as are those that stand in for them."""
    return [port for port in range(700, 1000) if not opens(port) and not opens(port + 8000)][:2]


def listen(box: Pillarbox, port: int) -> None:
    """Let POP listen on one more port."""
    with CommandLine(box.port("PWD"), "postmaster", box.setup.postmaster_password) as cli:
        cli(f"UpdateModule POP {{Listener=({{Port={box.port('POP')};}},{{Port={port};}});}}")


@pytest.mark.feature("INST-093", "INST-094", "INST-097", "INST-098", "ADM-049")
def test_root_is_dropped_and_restored(box: Pillarbox) -> None:
    assert "Drop Root" in general(box) and user(box) == 0
    page = general(box, "do-drop-root")
    assert "Restore Root" in page and "Drop Root" not in page
    other = user(box)
    assert other != 0
    exchange(box, "without root")
    first, second = low_ports()
    listen(box, first)
    assert eventually(lambda: opens(first + 8000)) and not opens(first)
    with CommandLine(box.port("PWD"), "postmaster", box.setup.postmaster_password) as cli:
        cli("CreateAccount late")
    assert (box.base / "Accounts" / "late.macnt").stat().st_uid == other
    page = general(box, "do-restore-root")
    assert "Drop Root" in page and user(box) == 0
    listen(box, second)
    assert eventually(lambda: opens(second))
    general(box, "do-drop-root")
    assert user(box) == other
    assert opens(second)
    exchange(box, "without root again")
    for record in (
        r"root is dropped by postmaster@box.test, the user is \w+ now",
        r"root is restored by postmaster@box.test",
    ):
        assert eventually(lambda record=record: re.search(record, box.logs(100_000)), 5), record  # type: ignore[misc]
