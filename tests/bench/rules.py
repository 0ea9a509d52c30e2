"""What rules cost: the same SMTP load without rules, with 50 of the server, with 1,000 in every account."""

from __future__ import annotations

from appliance.formats.data import Value, render
from tests.bench import measures
from tests.bench.contenders import DOMAIN, USERS, Ours
from tests.bench.measures import Figures
from tests.interop.command_line import CommandLine

SERVER_RULES = 50
ACCOUNT_RULES = 1000
_KINDS = (
    "From",
    "Subject",
    "To",
    "Header Field",
    "Any To or Cc",
    "Sender",
    "'From' Name",
    "Return-Path",
    "Any Recipient",
    "Message Size",
)


def rules(count: int) -> list[Value]:
    """Rules of all sorts, none of which fits the load."""
    made: list[Value] = []
    for number in range(count):
        kind = _KINDS[number % len(_KINDS)]
        operation, parameter = "in", f"*@list{number}.example,*word{number}*,x{number}@y.example"
        if kind == "Message Size":
            operation, parameter = "greater than", "100M"
        elif kind == "Header Field" and number % 20 < 10:
            operation, parameter = "is", f"X-Flag-{number}: *yes*"
        conditions: list[Value] = [[kind, operation, parameter], ["Human Generated"]]
        made.append(
            [str(number % 9 + 1), f"rule {number}", conditions, [["Add Headers", "X-Fits: yes"], ["Stop Processing"]]]
        )
    return made


def measure(one: Ours, size: int, sessions: int, messages: int, repeat: int) -> tuple[Figures, list[str]]:
    """The figures by load, and what they say: the share of throughput that the server's rules take, and the time that the
    account's rules take."""
    figures = Figures()
    port = one.server.port("PWD")

    def load(name: str) -> tuple[float, float]:
        taken = list(measures.smtp(one, size, sessions, messages, label=name))
        for what, unit, value in taken:
            figures.add(what, unit, one.name, value)
        return taken[0][2], taken[-1][2]

    plain: list[tuple[float, float]] = []
    ruled: list[tuple[float, float]] = []
    with CommandLine(port, "postmaster", one.server.setup.postmaster_password) as cli:
        for _ in range(repeat):  # in turn: a drift of the machine meets both
            cli("SetServerRules ()")
            plain.append(load("SMTP in without rules"))
            cli(f"SetServerRules {render(rules(SERVER_RULES))}")
            ruled.append(load(f"SMTP in with {SERVER_RULES} rules of the server"))
        cli("SetServerRules ()")
        many = render(rules(ACCOUNT_RULES))
        for number in range(USERS):
            cli(f"SetAccountRules user{number:02}@{DOMAIN} {many}")
        most = [load(f"SMTP in with {ACCOUNT_RULES} rules in the account") for _ in range(repeat)]
    fast, slow = max(plain)[0], max(ruled)[0]
    idle, busy, full = (min(cost for _, cost in loads) for loads in (plain, ruled, most))
    return figures, [
        f"{SERVER_RULES} rules of the server: {100 - 100 * slow / fast:.1f} % of throughput, {busy - idle:.0f} us a message",
        f"{ACCOUNT_RULES} rules of an account: {(full - idle) / 1000:.2f} ms a message",
    ]
