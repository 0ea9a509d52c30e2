"""What a slow filter costs mail that does not need it: the same SMTP load alone, and beside messages that wait for a filter which
takes 200 ms for each. And what a filter costs mail that does need it, when it answers at once."""

from __future__ import annotations

import smtplib
import sys

from tests.bench import measures
from tests.bench.contenders import DOMAIN, Ours
from tests.bench.measures import Figures
from tests.interop.command_line import CommandLine
from tests.interop.processes import LOOPBACK

BACKLOG = 300
"""Messages that wait for the filter: a minute of work for it."""
PROGRAM = """\
import sys, time
for line in sys.stdin:
    number, word, _ = line.split()
    if word == "FILE": time.sleep(%s)
    print(number, "OK 2" if word == "INTF" else "OK", flush=True)
"""


def measure(one: Ours, size: int, sessions: int, messages: int, repeat: int) -> tuple[Figures, list[str]]:
    """The figures by load, and what they say."""
    figures = Figures()

    def load(name: str) -> float:
        best = 0.0
        for _ in range(repeat):
            taken = list(measures.smtp(one, size, sessions, messages, label=name))
            for what, unit, value in taken:
                figures.add(what, unit, one.name, value)
            best = max(best, taken[0][2])
        return best

    base = one.server.base
    (base / "slow.py").write_text(PROGRAM % "0.2")
    (base / "quick.py").write_text(PROGRAM % "0")
    with CommandLine(one.server.port("PWD"), "postmaster", one.server.setup.postmaster_password) as cli:

        def use(program: str, rule: str) -> None:
            path = rf"\"{sys.executable}\" -SE {program}"
            cli(f'UpdateModule Helpers {{ContentFilters=({{Name=bench;Enabled=YES;ProgramPath="{path}";}});}}')
            cli(f"SetServerRules ({rule})")

        plain = load("SMTP in without a filter")
        use("slow.py", '(5,scan,((Subject,is,"scan*")),((ExternalFilter,"")))')
        ruled = load("SMTP in with the rule, nothing to filter")
        with smtplib.SMTP(LOOPBACK, one.server.port("SMTP"), timeout=30) as client:
            for number in range(BACKLOG):
                client.sendmail("a@elsewhere.test", f"user00@{DOMAIN}", f"Subject: scan {number}\r\n\r\nx\r\n")
        beside = load("SMTP in beside a slow filter")
        waiting = int(cli("ListHelpers").split("Waiting=")[1].split(";")[0])
        cli("SetServerRules ()")
        cli("UpdateModule Helpers {ContentFilters=();}")
        use("quick.py", '(5,scan,(),((ExternalFilter,"")))')
        cli("UpdateModule Queue {EnqueuerProcessors=10;}")
        scanned = load("SMTP in, all mail filtered")
        cli("SetServerRules ()")
    assert waiting > 0, "the slow filter was done before the load was"
    return figures, [
        f"beside a filter of 200 ms with a backlog: {100 - 100 * beside / ruled:.1f} % of throughput ({waiting} still wait)",
        f"all mail shown to a filter that answers at once: {100 - 100 * scanned / plain:.1f} % of throughput",
    ]
