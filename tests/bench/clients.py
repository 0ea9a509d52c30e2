"""The load clients: compiled when they are older than their source, called, their answer read."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent
PLACE = SOURCE.parents[1] / ".out" / "bench"
LIMIT = 600.0


def build() -> None:
    """Compiles what is not there or older than its source; needs gcc."""
    PLACE.mkdir(parents=True, exist_ok=True)
    shared = ["-shared", "-fPIC"]
    for name, options in (
        ("smtpload", ["-pthread"]),
        ("relayload", ["-pthread"]),
        ("mailload", ["-pthread"]),
        ("slowsync.so", shared),
    ):
        source, made = SOURCE / f"{name.removesuffix('.so')}.c", PLACE / name
        newest = max(path.stat().st_mtime for path in (source, SOURCE / "wire.h"))
        if not made.exists() or made.stat().st_mtime < newest:
            subprocess.run(["gcc", "-O2", "-Wall", *options, "-o", made, source, "-ldl"], check=True)


def call(name: str, *words: object) -> dict[str, Any]:
    """Runs a client to its end and gives its JSON answer; raises RuntimeError with what it said instead."""
    command = [str(PLACE / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class Idlers:
    """Sessions that have selected INBOX and wait in IDLE, for the length of a `with`."""

    def __init__(self, port: int, domain: str, users: int, count: int) -> None:
        self.command = [str(PLACE / "mailload"), "idle", str(port), domain, str(users), str(count)]

    def __enter__(self) -> None:
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise RuntimeError(f"{' '.join(self.command)} did not get all its sessions")

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
