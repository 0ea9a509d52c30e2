"""A real Pillarbox process on loopback: provisioned from a file, waited for, stopped."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.interop.processes import LOOPBACK, NotStarted, Process, are_free, eventually

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "appliance" / "server.py"
PROGRAM = (str(Path(sys.executable).parent / "pillarbox"),)
FROZEN = ROOT / ".out" / "dist" / "pillarbox" / "pillarbox"

PASSWORD = "pw"
"""Of every account that is provisioned for a test."""

SERVICES = {"SMTP": 25, "POP": 110, "IMAP": 143, "PWD": 106, "HTTPA": 8010}
"""The services that are measured and tested, each with its usual port."""

OTHER_PORTS = (465, 587, 993, 995, 9010)
WORKERS = 4


def exists() -> bool:
    """Whether there is a server to start."""
    return SERVER.is_file()


@dataclass
class Setup:
    """What a new server is provisioned with. The one place that knows the provisioning file."""

    main_domain: str = "box.test"
    postmaster_password: str = "postmaster-pw"
    password: str = PASSWORD
    accounts: Sequence[str] = ()
    router: Sequence[str] = ()

    clients: Sequence[str] | None = None
    settings: Mapping[str, Mapping[str, str | int]] = field(default_factory=dict)

    def provision(self) -> str:
        """The provisioning file's text (TOML)."""
        lines = [
            "[server]",
            f"main_domain = {json.dumps(self.main_domain)}",
            f"postmaster_password = {json.dumps(self.postmaster_password)}",
            f"router = {json.dumps(list(self.router))}" if self.router else "",
        ]
        if self.clients is not None:
            lines += ["[client_addresses]", f"list = {json.dumps(list(self.clients))}"]
        for component, values in self.settings.items():
            lines += [f"[settings.{component}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        for name in self.accounts:
            lines += ["[[account]]", f"name = {json.dumps(name)}", f"password = {json.dumps(self.password)}"]
        return "\n".join(lines) + "\n"


class Pillarbox(Process):
    """One server with a base directory below `folder`; its ports are the usual ones plus an offset.

    Without a setup it is started with nothing but defaults.
    """

    def __init__(
        self, folder: Path, setup: Setup | None, program: Sequence[str] = PROGRAM, base_option: str = "--Base"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "output")
        self.base = folder / "base"
        self.setup = setup or Setup()
        self.provisioned = setup is not None
        self.program = program
        self.base_option = base_option
        self.offset = free_offset()
        self.file = folder / "provision.toml"
        self.file.write_text(self.setup.provision(), encoding="utf-8")

    def port(self, service: str) -> int:
        """The port of a service, by its name in SERVICES."""
        return SERVICES[service] + self.offset

    def address(self, account: str) -> str:
        """The full name of an account of this server."""
        return f"{account}@{self.setup.main_domain}"

    def start(
        self,
        services: Sequence[str] = ("SMTP", "POP", "IMAP", "PWD"),
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> float:
        """Starts the server and gives the seconds until the named services have greeted; raises NotStarted.

        The first start on a base directory provisions it.
        """
        command = [*self.program, self.base_option, str(self.base), "--PortOffset", str(self.offset)]
        if self.provisioned and not self.base.exists():
            command += ["--Provision", str(self.file)]
        self.spawn([*command, *options], dict(environment or {}))
        seconds = self.wait_for_greetings(self.port(service) for service in services)
        if not eventually(lambda: not are_free([self.port("HTTPA")])):
            raise NotStarted(f"no WebAdmin on port {self.port('HTTPA')}:\n{self.said()}")
        return seconds

    def logs(self, characters: int = 8000) -> str:
        """The end of its output and of its newest log file."""
        folder = self.base / "SystemLogs"
        files = sorted(folder.iterdir()) if folder.exists() else []
        log = files[-1].read_text(errors="replace")[-characters:] if files else "(no log file)"
        return f"--- output of {self.setup.main_domain} on {LOOPBACK}\n{self.said()}\n--- log\n{log}"


class Start(Protocol):
    """Starts a server that is stopped at the end of the module."""

    def __call__(self, setup: Setup | None, base_option: str = "--Base") -> Pillarbox: ...


class Run(Protocol):
    """Runs a program of the system and gives its output; the statuses are those it may end with."""

    def __call__(
        self, *command: str | Path, stdin: str = "", statuses: Sequence[int] = (0,), **environment: str
    ) -> str: ...


def random_tens(low: int, high: int) -> int:
    """A number from `low` (a multiple of ten, or what is to be added to one) to `high`, in the tens of this worker."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % WORKERS
    return random.randrange(low + 10 * worker, high, 10 * WORKERS)


def free_offset() -> int:
    """An offset with which all usual ports are free, below the ports that the system gives to clients.

    Workers that test side by side take theirs from different tens, so that a port can not be lost to the other between
    this look and the server's start.
    """
    while True:
        offset = random_tens(11000, 21000)
        if are_free(port + offset for port in (*SERVICES.values(), *OTHER_PORTS)):
            return offset
