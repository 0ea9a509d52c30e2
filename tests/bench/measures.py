"""What is measured: each measure asks one contender once and gives figures by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import corpus
from tests.bench.clients import PLACE, Idlers, call
from tests.bench.contenders import DOMAIN, RELAYED, USERS, Contender, Relay

LISTING = "FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE)"
COMMANDS = {
    "listing": LISTING,
    "listing again": LISTING,
    "flags and UIDs": "FETCH 1:* (FLAGS UID)",
    "UID SEARCH UNSEEN": "UID SEARCH UNSEEN",
    "SEARCH BODY": "SEARCH BODY zzqqxx",
    "STORE on all": "STORE 1:* +FLAGS.SILENT (\\Flagged)",
    "STORE back": "STORE 1:* -FLAGS.SILENT (\\Flagged)",
}


@dataclass(frozen=True)
class Scale:
    """How much of everything; `QUICK` is for a first look, a figure to rely on comes from `FULL`."""

    sizes: tuple[int, ...] = (1024, 10240, 102400)
    sessions: tuple[int, ...] = (1, 10, 50)
    messages: int = 600
    relayed: int = 1000
    logins: int = 400
    mailbox: int = 10000
    bodies: int = 1000
    appends: int = 600
    idlers: tuple[int, ...] = (200, 2000)
    slow_messages: int = 300
    waiting: tuple[int, int] = (100_000, 10_000)


FULL = Scale()
QUICK = Scale(
    sizes=(10240,),
    messages=300,
    relayed=500,
    logins=100,
    mailbox=2000,
    bodies=300,
    appends=200,
    idlers=(200,),
    waiting=(10_000, 500),
)


@dataclass
class Figures:
    """Values by (measure, unit), in the order in which they were first taken, for each contender by name."""

    values: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    def add(self, measure: str, unit: str, contender: str, value: float) -> None:
        """Units that end in /s are better when larger, all others when smaller."""
        self.values.setdefault((measure, unit), {}).setdefault(contender, []).append(value)


Taken = Iterator[tuple[str, str, float]]


def corpus_file(count: int = 300, size: int = 10240) -> Path:
    """The messages that mailboxes are made of."""
    path = PLACE / f"corpus-{count}-{size}"
    if not path.exists():
        corpus.write(path, count, size)
    return path


def smtp(one: Contender, size: int, sessions: int, messages: int, keep: bool = False, label: str = "SMTP in") -> Taken:
    """From the first connection to the last message in a mailbox."""
    before = one.cpu()
    words = (one.smtp, one.imap, DOMAIN, USERS, messages, sessions, size, int(keep))
    answer = call("smtpload", *words)
    what = f"{label}, {size // 1024} KiB, {sessions} sessions{', kept' if keep else ''}"
    yield f"{what}: in the mailbox", "msg/s", answer["delivered"]
    yield f"{what}: accepted", "msg/s", answer["accepted"]
    yield f"{what}: reply to data, half", "ms", answer["p50_ms"]
    yield f"{what}: reply to data, 99 %", "ms", answer["p99_ms"]
    yield f"{what}: server processor time", "us/msg", (one.cpu() - before) / messages * 1e6


def relay(one: Relay, size: int, messages: int, sessions: int = 10) -> Taken:
    """From the first connection to the last message in the sink; several servers' domains, each with a queue of its own."""
    before = one.cpu()
    answer = call("relayload", one.smtp, one.sink, messages, RELAYED, size, sessions)
    what = f"Relay out, {size // 1024} KiB, {RELAYED} domains"
    yield f"{what}: in the sink", "msg/s", answer["relayed"]
    yield f"{what}: accepted", "msg/s", answer["accepted"]
    yield f"{what}: connections to the sink", "", answer["connections"]
    yield f"{what}: server processor time", "us/msg", (one.cpu() - before) / messages * 1e6


def logins(one: Contender, count: int, parallel: int, label: str = "") -> Taken:
    """Connect, LOGIN, LOGOUT."""
    answer = call("mailload", "login", one.imap, DOMAIN, USERS, count, parallel)
    yield f"IMAP log-ins, {parallel} at a time{label}", "/s", answer["per_second"]


def fill(one: Contender, user: str, count: int) -> Taken:
    """Makes a mailbox; many APPENDs are on their way at a time."""
    answer = call("mailload", "fill", one.imap, f"{user}@{DOMAIN}", corpus_file(), count)
    yield f"APPEND of {count} in a stream", "msg/s", answer["per_second"]


def reading(one: Contender, count: int) -> Taken:
    """The commands of a program that opens a large mailbox."""
    answer = call("mailload", "imap", one.imap, f"big@{DOMAIN}", *COMMANDS.values())
    yield f"SELECT, {count} messages", "ms", answer["SELECT"]["ms"]
    for number, name in enumerate(COMMANDS):
        yield f"{name}, {count} messages", "ms", answer[str(number)]["ms"]


def bodies(one: Contender, count: int) -> Taken:
    """All texts of a mailbox over IMAP and POP3."""
    user = f"small@{DOMAIN}"
    answer = call("mailload", "imap", one.imap, user, "FETCH 1:* BODY.PEEK[]")
    yield f"FETCH of {count} bodies", "ms", answer["0"]["ms"]
    for window, name in ((1, "one at a time"), (32, "pipelined")):
        got = call("mailload", "pop", one.pop, user, window)
        if got["messages"] != count:
            raise RuntimeError(f"{one.name}: {got['messages']} messages instead of {count} over POP3")
        yield f"POP3 RETR, {name}", "msg/s", got["per_second"]


def append(one: Contender, count: int, label: str = "", sessions: int = 1) -> Taken:
    """Durable APPEND, one after the other in each session."""
    answer = call("mailload", "append", one.imap, f"appender@{DOMAIN}", corpus_file(), count, sessions)
    yield (
        f"APPEND, {'one at a time' if sessions == 1 else f'{sessions} sessions'}{label}",
        "msg/s",
        answer["per_second"],
    )


def memory(one: Contender, idlers: tuple[int, ...]) -> Taken:
    """Memory right after the start and with sessions in IDLE."""
    time.sleep(1)
    yield "memory, idle", "MiB", one.memory()
    for count in idlers:
        with Idlers(one.imap, DOMAIN, USERS, count):
            time.sleep(0.5)
            yield f"memory, {count} IDLE sessions", "MiB", one.memory()
