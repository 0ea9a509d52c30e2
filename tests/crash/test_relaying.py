"""The real process is killed with SIGKILL while it relays mail to another server, many times over. At the end that server has
all that was acknowledged, whole, and nothing twice but what it had answered for at the very moment of the kill, or not at all.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import smtplib
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.pillarbox import PROGRAM, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually

ROUNDS = 6
DOMAINS = 10
#: Seconds before a kill in which a result may not be on disk yet; generous, because the machine may be busy.
JUST_NOW = 0.25
BROKEN = (OSError, EOFError, smtplib.SMTPException)


class Sink(socketserver.ThreadingTCPServer):
    """The other server: it takes all, and remembers what it took and when it answered."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("0.0.0.0", 0), Receiver)
        self.lock = threading.Lock()
        self.taken: dict[int, list[float]] = {}
        self.torn: list[int] = []

    def take(self, data: bytes) -> None:
        """A message that came as a whole."""
        match = re.search(rb"Message-ID: <(\d+)@relay>", data)
        assert match, data[:200]
        number, (_, _, body) = int(match[1]), data.partition(b"\r\n\r\n")
        with self.lock:
            self.taken.setdefault(number, []).append(time.monotonic())
            if body != text_of(number):
                self.torn.append(number)


class Receiver(socketserver.StreamRequestHandler):
    """One connection."""

    server: Sink

    def handle(self) -> None:
        try:
            self.say("220 sink")
            while line := self.rfile.readline():
                word = line[:4].upper()
                if word == b"EHLO":
                    self.say("250-sink\r\n250 PIPELINING")
                elif word == b"DATA":
                    self.say("354 go on")
                    if not self.message():
                        return
                elif word == b"QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 fine")
        except OSError:
            pass

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")

    def message(self) -> bool:
        data = b""
        while line := self.rfile.readline():
            if line == b".\r\n":
                if random.random() < 0.2:
                    time.sleep(0.02)  # time for a kill between the dot and its answer
                self.server.take(data)
                self.say("250 taken")
                return True
            data += line.removeprefix(b".") if line.startswith(b"..") else line
        return False


def text_of(number: int) -> bytes:
    """Some are large, and go through files of their own."""
    return b"The text of message %d, again and again.\r\n" % number * (4000 if number % 17 == 0 else 20)


class Load:
    """What was sent, and what the server said that it had taken."""

    def __init__(self, server: Pillarbox) -> None:
        self.server = server
        self.lock = threading.Lock()
        self.number = 0
        self.accepted: set[int] = set()
        self.over = threading.Event()

    def send(self) -> None:
        try:
            with smtplib.SMTP(LOOPBACK, self.server.port("SMTP"), timeout=10) as client:
                while not self.over.is_set():
                    with self.lock:
                        self.number += 1
                        number = self.number
                    text = b"Subject: t\r\nMessage-ID: <%d@relay>\r\n\r\n%s" % (number, text_of(number))
                    client.sendmail("a@box.test", [f"someone@d{number % DOMAINS}.relay.test"], text)
                    with self.lock:
                        self.accepted.add(number)
        except BROKEN:
            pass


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        thread = threading.Thread(target=sink.serve_forever, daemon=True)
        thread.start()
        yield sink
        sink.shutdown()


@pytest.fixture
def server(sink: Sink) -> Iterator[Pillarbox]:
    folder = Path(tempfile.mkdtemp(prefix="pb"))
    port = sink.server_address[1]
    routes = [f"d{n}.relay.test = d{n}.relay.test@127.0.1.{n + 1}.{port}.smtp" for n in range(DOMAINS)]
    smtp = {"SMTP": {"RetryEvery": 10}}
    setup = Setup(accounts=("a",), clients=("127.0.0.1",), router=routes, settings=smtp)
    made = Pillarbox(folder, setup, PROGRAM)
    try:
        yield made
    finally:
        made.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.feature("QUEUE-001", "SMTP-081")
def test_killed_while_it_relays(server: Pillarbox, sink: Sink) -> None:
    load = Load(server)
    chance = random.Random(int(os.environ.get("CRASH_SEED", "1")))
    kills: list[float] = []
    for _ in range(int(os.environ.get("CRASH_ROUNDS", ROUNDS))):
        server.start(services=("SMTP",))
        load.over.clear()
        threads = [threading.Thread(target=load.send) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.2, 1.0))
        kills.append(time.monotonic())
        server.kill()
        load.over.set()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    server.start(services=("SMTP",))
    all_there = eventually(lambda: load.accepted <= sink.taken.keys(), 40)
    assert all_there, f"lost: {sorted(load.accepted - sink.taken.keys())}\n{server.logs()}"
    time.sleep(1)  # would anything come again that has come?
    assert not sink.torn
    assert len(load.accepted) > 50
    again = {number: times for number, times in sink.taken.items() if len(times) > 1}
    for number, times in again.items():
        for moment in times[:-1]:
            assert any(moment > kill - JUST_NOW and moment < kill + 1 for kill in kills), f"{number}: {times}, {kills}"
    print(f"{len(load.accepted)} messages, {len(kills)} kills, {len(again)} twice")
