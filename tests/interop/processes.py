"""Processes that tests and measurements start: free ports, waiting for a greeting, stopping, what they use."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

LOOPBACK = "127.0.0.1"
TICK = os.sysconf("SC_CLK_TCK")

Value = TypeVar("Value")


def eventually(question: Callable[[], Value], seconds: float = 20.0) -> Value:
    """Asks until the answer is true in Python's sense; gives that answer, or the last one after so many seconds."""
    end = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < end:
        time.sleep(0.05)
    return answer


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def are_free(ports: Iterable[int]) -> bool:
    """Whether a server could listen on all of these ports."""
    for port in ports:
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                return False
    return True


def greeting(port: int, timeout: float = 1.0) -> bytes:
    """The first bytes that a service says to a new connection; empty when it does not answer."""
    try:
        with closing(socket.create_connection((LOOPBACK, port), timeout)) as connection:
            return connection.recv(512)
    except OSError:
        return b""


class NotStarted(Exception):
    """A server ended, or did not greet in time; the text has what it said."""


class Process:
    """A program in the foreground with its output in a file."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.popen: subprocess.Popen[bytes] | None = None

    def spawn(self, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        """Starts the program; output is appended, so that a second start does not hide what the first said.

        It ends with us, even when we are killed.
        """
        ends_with_us = ("setpriv", "--pdeathsig", "TERM", "--") if shutil.which("setpriv") else ()
        with self.output.open("ab") as output:
            self.popen = subprocess.Popen(
                [*ends_with_us, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else {**os.environ, **environment},
                start_new_session=True,
            )

    def wait_for_greetings(self, ports: Iterable[int], seconds: float = 30.0) -> float:
        """Seconds until each of the ports has greeted; raises NotStarted."""
        began = time.perf_counter()
        for port in ports:
            while not greeting(port):
                if self.popen is None or self.popen.poll() is not None:
                    raise NotStarted(f"ended with {self.popen and self.popen.returncode}:\n{self.said()}")
                if time.perf_counter() - began > seconds:
                    raise NotStarted(f"no greeting on port {port} after {seconds} s:\n{self.said()}")
                time.sleep(0.002)
        return time.perf_counter() - began

    def stop(self, seconds: float = 15.0) -> int:
        """Asks the program to end, waits, and gives its exit status; a program that does not end is killed."""
        if self.popen is None:
            return 0
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.wait()

    def kill(self) -> None:
        """The end without warning, as a failing power supply makes it."""
        if self.popen is not None and self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()

    def said(self, characters: int = 6000) -> str:
        """The end of the program's output."""
        return self.output.read_text(errors="replace")[-characters:] if self.output.exists() else ""

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
        except OSError:  # it has ended meanwhile
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its descendants, and those of them that have ended, in steps of a clock tick."""
    ticks = 0
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICK


def pss_mib(pid: int) -> float:
    """Memory of a process and its descendants in MiB, shared pages divided among those who share them."""
    total = 0
    for member in family(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024
