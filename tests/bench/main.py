"""Pillarbox beside Postfix with Dovecot: the same load from the same clients, in turn, on the same machine.

Both keep mail as they come: what is acknowledged is on disk. Everything runs on loopback with files in one temporary folder.
Figures are medians; a ratio above 1 says that Pillarbox is better. All values go to .out/bench.json too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.bench import clients, contenders, filters, measures, rules, waiting  # noqa: E402 - found from the root
from tests.bench.contenders import Contender, OurRelay, Ours, PeerRelay, Peers, Relay, Runs  # noqa: E402
from tests.bench.measures import FULL, QUICK, Figures, Scale, Taken  # noqa: E402
from tests.interop import dovecot, pillarbox  # noqa: E402

RESULT = ROOT / ".out" / "bench.json"
GROUPS = ("start", "memory", "smtp", "relay", "imap", "login", "slow", "rules", "filters", "queue")
Measure = Callable[[Contender], Taken]
Side = TypeVar("Side", bound=Runs)


class Bench:
    """One run: the contenders in a temporary folder, the figures they have given."""

    def __init__(self, folder: Path, scale: Scale, repeat: int) -> None:
        self.folder = folder
        self.scale = scale
        self.repeat = repeat
        self.figures = Figures()
        self.failures: list[str] = []

    def take(self, sides: Sequence[Side], measure: Callable[[Side], Taken], repeat: int | None = None) -> None:
        """Asks the sides in turn, and again: a drift of the machine meets all of them."""
        for turn in range(repeat or self.repeat):
            for one in sides if turn % 2 == 0 else reversed(sides):
                try:
                    for name, unit, value in measure(one):
                        self.figures.add(name, unit, one.name, value)
                        say(f"{one.name:16} {name}: {value:.1f} {unit}")
                except (RuntimeError, AssertionError) as error:
                    self.failures.append(f"{one.name}: {error}")
                    say(self.failures[-1])

    @contextmanager
    def running(self, *sides: Any) -> Iterator[Sequence[Any]]:
        """The sides, started; stopped in any case."""
        try:
            for one in sides:
                one.start()
            yield sides
        finally:
            for one in sides:
                one.stop()

    def start(self) -> None:
        """Time to the greetings of SMTP, IMAP and POP, on base directories that exist."""
        sides: list[Contender] = [Ours(self.place("start-ours")), Peers(self.place("start-peers"))]
        if pillarbox.FROZEN.exists():
            frozen = Ours(self.place("start-frozen"), program=[str(pillarbox.FROZEN)])
            frozen.name = "Pillarbox, frozen"
            sides.append(frozen)
        for one in sides:
            one.start()
            one.stop()
        for _ in range(self.repeat):
            for one in sides:
                self.figures.add("start to greetings", "ms", one.name, one.start() * 1e3)
                one.stop()

    def memory(self) -> None:
        """Idle memory, of servers that have just started."""
        with self.running(Ours(self.place("memory-ours")), Peers(self.place("memory-peers"))) as sides:
            self.take(sides, lambda one: measures.memory(one, self.scale.idlers), repeat=1)

    def work(self, groups: Sequence[str]) -> None:
        """Everything that is done to running servers as they come."""
        scale = self.scale
        with self.running(Ours(self.place("ours")), Peers(self.place("peers"))) as sides:
            self.take(sides, warm_up, repeat=1)
            if "smtp" in groups:
                for size in scale.sizes:
                    for count in scale.sessions:
                        self.take(sides, smtp_measure(size, count, scale.messages // (2 if count == 1 else 1)))
                self.take(sides, smtp_measure(10240, 10, scale.messages, keep=True))
            if "login" in groups:
                for parallel in (1, 10):
                    self.take(sides, login_measure(scale.logins, parallel))
            if "imap" in groups:
                self.take(sides, lambda one: measures.append(one, scale.appends))
                self.take(sides, lambda one: measures.append(one, scale.appends * 3, sessions=10))
                self.take(sides, lambda one: measures.fill(one, "small", scale.bodies), repeat=1)
                self.take(sides, lambda one: measures.bodies(one, scale.bodies))
                self.take(sides, lambda one: measures.fill(one, "big", scale.mailbox), repeat=1)
                self.take(sides, lambda one: measures.reading(one, scale.mailbox))

    def relay(self) -> None:
        """Mail that goes on to other servers."""
        sides: list[Relay] = [OurRelay(self.place("relay-ours")), PeerRelay(self.place("relay-peers"))]
        with self.running(*sides):
            self.take(sides, lambda one: warmed(measures.relay(one, 1024, 100)), repeat=1)
            self.take(sides, lambda one: measures.relay(one, 10240, self.scale.relayed))

    def performance_mode(self) -> None:
        """Log-ins with Dovecot's processes serving one user after the other, which it does not do as it comes."""
        tuned = Peers(self.place("tuned"), settings=dovecot.PERFORMANCE)
        with self.running(Ours(self.place("tuned-ours")), tuned) as sides:
            self.take(sides, warm_up, repeat=1)
            for parallel in (1, 10):
                label = " (Dovecot in performance mode)"
                self.take(sides, login_measure(self.scale.logins * 3, parallel, label))

    def slow(self) -> None:
        """The same with a device on which each flush takes 5 ms longer."""
        library = clients.PLACE / "slowsync.so"
        with self.running(Ours(self.place("slow-ours"), library), Peers(self.place("slow-peers"), library)) as sides:
            self.take(sides, warm_up, repeat=1)
            for count in self.scale.sessions:
                messages = self.scale.slow_messages // (3 if count == 1 else 1)
                self.take(sides, smtp_measure(10240, count, messages, label="5 ms flush: SMTP in"))
            label = " (5 ms flush)"
            self.take(sides, lambda one: measures.append(one, self.scale.appends // 4, label))

    def rules(self) -> None:
        """What rules cost; there is nobody to compare with."""
        with self.running(Ours(self.place("rules"))) as (one,):
            self.take([one], warm_up, repeat=1)
            figures, says = rules.measure(one, 10240, 10, self.scale.messages, max(3, self.repeat))
        self.figures.values.update(figures.values)
        for text in says:
            say(text)

    def filters(self) -> None:
        """What a filter costs; there is nobody to compare with."""
        with self.running(Ours(self.place("filters"))) as (one,):
            self.take([one], warm_up, repeat=1)
            figures, says = filters.measure(one, 10240, 10, self.scale.messages, self.repeat)
        self.figures.values.update(figures.values)
        for text in says:
            say(text)

    def queue(self) -> None:
        """A long queue, and a message to very many; there is nobody to compare with."""
        length, people = self.scale.waiting
        with self.running(Ours(self.place("queue"))) as (one,):
            for figures, says in (waiting.measure(one, length, self.scale.messages), waiting.many(one, people)):
                self.figures.values.update(figures.values)
                for text in says:
                    say(text)

    def place(self, name: str) -> Path:
        """A new folder that the servers' users can enter."""
        folder = self.folder / name
        folder.mkdir()
        folder.chmod(0o755)
        return folder


def smtp_measure(size: int, sessions: int, messages: int, keep: bool = False, label: str = "SMTP in") -> Measure:
    return lambda one: measures.smtp(one, size, sessions, messages, keep, label)


def login_measure(count: int, parallel: int, label: str = "") -> Measure:
    return lambda one: measures.logins(one, count, parallel, label)


def warm_up(one: Contender) -> Taken:
    """Not counted: the first messages make mailboxes, the first log-ins check passwords the long way."""
    return warmed(measures.smtp(one, 1024, 10, 100))


def warmed(figures: Taken) -> Taken:
    """A measure that is taken and not counted."""
    for _ in figures:
        pass
    return iter(())


def table(figures: Figures) -> str:
    """One line for each measure: the medians and the ratio."""
    lines = [f"{'':66}{'Pillarbox':>12}{'Postfix+':>12}", f"{'':66}{'':>12}{'Dovecot':>12}{'ratio':>8}"]
    for (measure, unit), sides in figures.values.items():
        medians = {name: statistics.median(values) for name, values in sides.items()}
        ours, theirs = medians.get(Ours.name), medians.get(Peers.name)
        ratio = ratio_of(unit, ours, theirs)
        cells = "".join(f"{'-' if value is None else format(value, '.1f'):>12}" for value in (ours, theirs))
        lines.append(f"{measure + ', ' + unit:66}{cells}{'' if ratio is None else format(ratio, '.2f'):>8}")
        for name in medians.keys() - {Ours.name, Peers.name}:
            lines.append(f"    {name:62}{medians[name]:12.1f}")
    return "\n".join(lines)


def ratio_of(unit: str, ours: float | None, theirs: float | None) -> float | None:
    """How many times better Pillarbox is; rates are better when larger, everything else when smaller."""
    if not ours or not theirs:
        return None
    return ours / theirs if unit.endswith("/s") else theirs / ours


def save(bench: Bench, options: argparse.Namespace) -> None:
    """All values, medians and ratios as JSON."""
    rows = []
    for (measure, unit), sides in bench.figures.values.items():
        medians = {name: statistics.median(values) for name, values in sides.items()}
        ratio = ratio_of(unit, medians.get(Ours.name), medians.get(Peers.name))
        rows.append({"measure": measure, "unit": unit, "medians": medians, "ratio": ratio, "values": sides})
    about = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "python": sys.version,
        "options": {"quick": options.quick, "repeat": options.repeat, "only": options.only},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"about": about, "rows": rows, "failures": bench.failures}, indent=1) + "\n")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make.py bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller load, under two minutes")
    parser.add_argument("--repeat", type=int, metavar="N", help="times that each measure is taken (3; quick: 1)")
    parser.add_argument("--only", action="append", choices=GROUPS, help="a part of the measures; can be repeated")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.quick else 3)
    options.only = options.only or list(GROUPS)
    if reason := contenders.missing():
        say(f"no comparison: {reason}")
        return 1
    clients.build()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = Path(tempfile.mkdtemp(prefix="pb"))
    folder.chmod(0o755)
    bench = Bench(folder, QUICK if options.quick else FULL, options.repeat)
    try:
        if "start" in options.only:
            bench.start()
        if "memory" in options.only:
            bench.memory()
        if {"smtp", "imap", "login"} & set(options.only):
            bench.work(options.only)
        if "relay" in options.only:
            bench.relay()
        if "login" in options.only:
            bench.performance_mode()
        if "slow" in options.only:
            bench.slow()
        if "rules" in options.only:
            bench.rules()
        if "filters" in options.only:
            bench.filters()
        if "queue" in options.only:
            bench.queue()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        save(bench, options)
        print(table(bench.figures))
        print(f"\nall values: {RESULT.relative_to(ROOT)}")
    for failure in bench.failures:
        print(f"not measured: {failure}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
