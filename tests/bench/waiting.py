"""A long queue: what very many waiting messages cost a start, the memory, and new mail; and one message to very many accounts.

The queue is filled by a transfer room of its own while the server is stopped; the server then starts on it with sending
switched off, as on a line that is down for days.
"""

from __future__ import annotations

import poplib
import smtplib
import time
from pathlib import Path

import trio

from appliance.kernel.disk import WorkerDisk
from appliance.transfer.message import Source
from tests.bench import measures
from tests.bench.contenders import DOMAIN, Ours
from tests.bench.measures import Figures
from tests.interop.command_line import CommandLine
from tests.interop.pillarbox import PASSWORD
from tests.interop.processes import LOOPBACK
from tests.transfer.conftest import Room, running

HOSTS = 5000
BODY = (
    b"From: <a@b>\nTo: <x@y>\nSubject: waiting\nDate: now\nMessage-ID: <1@x>\n\n" + b"text, one line of several\n" * 70
)
SETTLE = 45.0
"""Seconds after which contents of waiting messages are in files."""


def fill(base: Path, count: int) -> None:
    """So many messages of 2 KiB to 5,000 domains into the Queue of a server that is stopped."""

    def quiet(room: Room) -> None:
        room.smtp.limit = room.local.limit = 0
        room.log.level = 0

    async def main() -> None:
        async with running(base, WorkerDisk(), prepare=quiet, segment_size=8 << 20) as room:
            await room.settings.update({name: "0" for name in ("LogLevel", "EnqueuerLogLevel", "DequeuerLogLevel")})

            async def some(first: int) -> None:
                for number in range(first, count, 50):
                    source = Source("SMTP", f"10.1.{number % 200}.7", "10.0.0.1")
                    to = f"user{number}@host{number % HOSTS}.example.net"
                    await room.submit_text(f"sender{number % 997}@there.example", [to], BODY, source)

            async with trio.open_nursery() as nursery:
                for first in range(50):
                    nursery.start_soon(some, first)

    trio.run(main)


def measure(one: Ours, count: int, messages: int) -> tuple[Figures, list[str]]:
    """The figures without and with the queue, and what they say. The server runs before and after."""
    figures = Figures()
    with CommandLine(one.server.port("PWD"), "postmaster", one.server.setup.postmaster_password) as cli:
        cli("UpdateModule SMTP {SendChannels=0;}")

    def new_mail(label: str) -> float:
        taken = list(measures.smtp(one, 10240, 10, messages, label=label))
        for what, unit, value in taken:
            figures.add(what, unit, one.name, value)
        return taken[0][2]

    new_mail("SMTP in, to warm up")
    alone = new_mail("SMTP in, empty queue")
    one.stop()
    one.start()
    time.sleep(5)
    empty = one.memory()
    one.stop()
    fill(one.server.base, count)
    began = time.perf_counter()
    up = one.start()
    _deliver(one)
    first = time.perf_counter() - began
    time.sleep(SETTLE)
    each = (one.memory() - empty) * (1 << 20) / count
    new_mail("SMTP in, to warm up")
    beside = new_mail(f"SMTP in, {count} waiting")
    for what, unit, value in (
        (f"{count} waiting: start", "s", up),
        (f"{count} waiting: start to first delivery", "s", first),
        (f"{count} waiting: memory for each", "bytes", each),
    ):
        figures.add(what, unit, one.name, value)
    return figures, [
        f"{count} waiting messages: first delivery after {first:.1f} s, {each:.0f} bytes each, "
        f"new mail {beside:.0f} messages a second beside {alone:.0f} alone"
    ]


def _deliver(one: Ours) -> None:
    """A new message is in its mailbox."""
    with smtplib.SMTP(LOOPBACK, one.server.port("SMTP"), timeout=60) as client:
        client.sendmail("a@elsewhere.test", f"small@{DOMAIN}", "Subject: first\r\n\r\nx\r\n")
    while True:
        box = poplib.POP3(LOOPBACK, one.pop, timeout=60)
        box.user(f"small@{DOMAIN}")
        box.pass_(PASSWORD)
        there = box.stat()[0]
        box.quit()
        if there:
            return
        time.sleep(0.05)


def many(one: Ours, count: int) -> tuple[Figures, list[str]]:
    """One message to so many accounts, from its end to the last mailbox; the memory that it takes."""
    figures = Figures()
    with CommandLine(one.server.port("PWD"), "postmaster", one.server.setup.postmaster_password) as cli:
        for number in range(count):
            cli(f'CreateAccount "m{number}"')
        names = "".join(f"m{number}," for number in range(count)).rstrip(",")
        cli(f'CreateGroup "everybody" {{Members=({names});}}')
        before = one.memory()
        with smtplib.SMTP(LOOPBACK, one.server.port("SMTP"), timeout=60) as client:
            client.sendmail("a@elsewhere.test", f"everybody@{DOMAIN}", "Subject: to all\r\n\r\nx\r\n")
        began, most = time.perf_counter(), before
        seconds, calm = 0.0, 0
        while calm < 3:  # between two queues it is in none
            if cli("ListQueues LIST") == cli("ListQueues LOCAL") == "()":
                seconds, calm = seconds if calm else time.perf_counter() - began, calm + 1
            else:
                calm = 0
            most = max(most, one.memory())
            time.sleep(0.1)
    figures.add(f"one message to {count} accounts", "s", one.name, seconds)
    figures.add(f"one message to {count} accounts: memory", "MiB", one.name, most - before)
    return figures, [f"one message to {count} accounts: {seconds:.1f} s, {most - before:.0f} MiB"]
