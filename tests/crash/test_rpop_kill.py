"""The real process is killed with SIGKILL at random while it collects mail, many times over. At the end: what was removed on
the other servers is here; nothing is lost, and nothing is here twice."""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.crash.test_kill import BROKEN
from tests.interop.command_line import Answer, CommandLine
from tests.interop.pillarbox import PROGRAM, Pillarbox, Setup
from tests.interop.processes import eventually
from tests.interop.test_rpop_dovecot import texts
from tests.modules.rpop.remote import RemoteImap, RemotePop, serving

ROUNDS = 6


class Others:
    """Three servers of other people: mail is removed from the first and the third, and left on the second."""

    def __init__(self) -> None:
        self.gone = RemotePop(name="gone", capabilities=("TOP", "UIDL", "USER", "PIPELINING"))
        self.left = RemotePop(name="left")
        self.imap = RemoteImap(name="imap")
        self.number = 0
        self.sent: dict[str, set[int]] = {"a": set(), "b": set(), "c": set()}
        self.token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)

    async def _main(self) -> None:
        self.token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        async with serving(self.gone, self.left, self.imap):
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> Others:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.token is not None and self._stop is not None
        self.token.run_sync_soon(self._stop.set)
        self._thread.join(10)

    def put(self, count: int, chance: random.Random) -> None:
        """Some more messages on each, small ones and a few large ones."""
        for _ in range(count):
            self.number += 1
            size = chance.choice((1, 1, 50, 50, 4000))
            text = f"Message-ID: <{self.number}@kill>\nSubject: x\nDate: x\n\n" + f"line {self.number}\n" * size
            for name, remote in (("a", self.gone), ("b", self.left), ("c", self.imap)):
                self.sent[name].add(self.number)
                if isinstance(remote, RemoteImap):
                    remote.put(self.number, text)
                else:
                    remote.put(f"u{self.number}", text)

    def record(self, remote: RemotePop | RemoteImap, more: str) -> str:
        return (
            f'({{authName={remote.name}; domain="127.0.0.1:{remote.port}"; password={remote.password}; '
            f"period=1d; {more}}})"
        )


def command(server: Pillarbox, *commands: str) -> str:
    name = server.address("postmaster")
    with CommandLine(server.port("PWD"), name, server.setup.postmaster_password) as line:
        return [line(one) for one in commands][-1]


@pytest.fixture
def server() -> Iterator[Pillarbox]:
    folder = Path(tempfile.mkdtemp(prefix="pb"))
    settings: dict[str, dict[str, str | int]] = {"RPOP": {"AllowSelfPoll": "YES", "DelayFailedAccounts": 10}}
    made = Pillarbox(folder, Setup(accounts=("a", "b", "c"), settings=settings), PROGRAM)
    try:
        yield made
    finally:
        made.kill()
        if not os.environ.get("CRASH_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)


def numbers(server: Pillarbox, name: str) -> Counter[int]:
    """How often each message is in an INBOX; all are whole."""
    found: Counter[int] = Counter()
    for text in texts(server.port("IMAP"), server.address(name)):
        match = re.search(rb"<(\d+)@kill>", text)
        assert match is not None
        body = text.partition(b"\r\n\r\n")[2]
        assert body.replace(b"line %s\r\n" % match[1], b"") == b"", f"message {match[1]!r} is torn"
        found[int(match[1])] += 1
    return found


@pytest.mark.slow
@pytest.mark.feature("RPOP-002")
def test_killed_while_it_collects(server: Pillarbox) -> None:
    chance = random.Random(int(os.environ.get("CRASH_SEED", "1")))
    with Others() as others:
        server.start()
        command(
            server,
            f"SetAccountRPOP a {others.record(others.gone, '')}",
            f"SetAccountRPOP b {others.record(others.left, 'leave=YES;')}",
            f"SetAccountRPOP c {others.record(others.imap, 'protocol=IMAP;')}",
        )
        for number in range(int(os.environ.get("CRASH_ROUNDS", ROUNDS))):
            others.put(60, chance)
            others.gone.drop_at = "QUIT" if number % 3 == 1 else ""
            others.imap.drop_at = "UID STORE" if number % 3 == 2 else ""
            end = time.monotonic() + chance.uniform(0.05, 0.9)
            with suppress(*BROKEN, Answer):
                while time.monotonic() < end:
                    command(server, "PollRPOP")
                    time.sleep(0.05)
            server.kill()
            server.start()
        others.gone.drop_at = others.imap.drop_at = ""
        command(server, "PollRPOP")

        def done() -> bool:
            if others.gone.messages or others.imap.mailboxes["INBOX"]:
                with suppress(Answer):
                    command(server, "PollRPOP")
                return False
            return all(set(numbers(server, name)) >= others.sent[name] for name in "abc")

        there = eventually(done, 60)
        state = command(server, "ListRPOP")
        for name in "abc":
            found = numbers(server, name)
            lost = others.sent[name] - set(found)
            twice = [one for one, count in found.items() if count > 1]
            assert not lost and not twice, f"{name}: lost {lost}, twice {twice}\n{state}\n{server.logs()}"
        assert there, state
        assert len(others.left.messages) == others.number
