"""A crash at any moment of a message's rules: nothing that a rule sends or stores is there twice, and nothing is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.formats.data import Value
from appliance.kernel.clock import TrioClock
from appliance.kernel.helpers import Finished, Helpers
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.modules.local.content import content_of
from appliance.objects.domain import Account
from appliance.rules.doing import Workshop
from appliance.rules.lists import StringLists
from appliance.rules.notifier import NOTIFIER, Notifier
from appliance.rules.rules import Rules
from tests.modules import house as houses
from tests.modules.house import House, quiet

ACTIONS: list[Value] = [
    ["Mirror to", "bob"],
    ["Reply with", "hello"],
    ["Store in", "~carl/INBOX"],
    ["Execute", "program"],
    ["Remember 'From' in", "Authors"],
    ["React with", "To: bob\nSubject: reaction\n\nx"],
]
RULES: list[Value] = [["5", "everything", [], ACTIONS]]
SERVER: list[Value] = [
    [
        "9",
        "archive",
        [["Any Recipient", "is", "ann@*"]],
        [["Store in", "~carl/INBOX"], ["Execute", "program"], ["Mirror to", "bob"]],
    ]
]


class Programs(Helpers):
    """Counts what it would run."""

    def __init__(self, runs: list[str]) -> None:
        super().__init__({})
        self.runs = runs

    async def execute(self, arguments: object, **options: object) -> Finished:
        self.runs.append(str(arguments))
        return Finished(0, b"", b"")


class RuledHouse(House):
    """With rules from the first moment; `halt` stops everything at the n-th step of the rules."""

    runs: list[str]
    answers: set[int]
    """Ids of the answers that went out: a host may be given one again after a crash, but it is the same one."""
    server: list[Value]
    halt: int = 0

    def count_answers(self) -> None:
        self.answers |= {message.id for message, people, _ in self.smtp.sent if "jane@far.test" in str(people)}

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        clock = TrioClock()
        notifier = Notifier(Settings(NOTIFIER, MemoryStorage()), self.log.source("NOTIFIER"), None)  # type: ignore[arg-type]
        shop = Workshop(
            self.domains,
            self.accounts,
            self.transfer,
            Programs(self.runs),
            notifier,
            StringLists(),
            clock,
            str(self.base),
            content_of,
        )
        log = self.log.source("RULES")
        self.rules = Rules(shop, self.router, MemoryStorage(), lambda: "mail.test", log, log)
        self.rules._take_server(self.server)
        self.transfer.enqueuer.rules = self.rules.server_rules if self.server else None
        self.local.rules = self.rules
        self.step = 0
        self.halted = trio.Event()
        spool, deliver = self.transfer.spool, self.accounts.deliver
        add = spool.add

        async def counted(number: int) -> None:
            if number == type(self).halt:
                self.halted.set()
                await trio.sleep_forever()

        def next_step() -> int:
            self.step += 1
            return self.step

        async def adding(message: object, *rest: object, **options: object) -> None:
            derived = options.get("because_of") is not None
            if derived:
                await counted(next_step())
            await add(message, *rest, **options)  # type: ignore[arg-type]
            if derived:
                await counted(next_step())

        async def delivering(account: Account, *rest: object) -> object:
            if account.name == "bob":
                return await deliver(account, *rest)  # type: ignore[arg-type]
            await counted(next_step())
            return await deliver(account, *rest)  # type: ignore[arg-type]

        spool.add = adding  # type: ignore[method-assign]
        self.accounts.deliver = delivering  # type: ignore[method-assign, assignment]


@pytest.fixture
def ruled(monkeypatch: pytest.MonkeyPatch) -> type[RuledHouse]:
    class Mine(RuledHouse):
        runs: list[str] = []  # noqa: RUF012
        answers: set[int] = set()  # noqa: RUF012
        server: list[Value] = []  # noqa: RUF012
        halt = 0

    monkeypatch.setattr(houses, "House", Mine)
    return Mine


async def one_life(base: Path, *, crash: bool, first: bool, rules: list[Value]) -> dict[str, int]:
    """Send a message (in the first life), let everything happen or stop at the step; what is in the mailboxes."""
    async with houses.house(base, orderly=not crash) as made:
        assert isinstance(made, RuledHouse)
        if first:
            for name in ("ann", "bob", "carl"):
                await made.account(name)
            session = await made.accounts.open(made.domains.main.account("carl"))  # type: ignore[arg-type]
            await session.set_acl("INBOX", "ann", "=", "li")
            await session.aclose()
            ann = made.domains.main.account("ann")
            assert ann is not None
            await ann.settings.update({"Rules": rules, "OsUserName": "nobody"})
            await made.send("ann@office.test", sender="jane@far.test", text=b"From: jane@far.test\nSubject: hi\n\nx\n")
        if crash:
            with trio.move_on_after(200):
                await made.halted.wait()
            found = {"halted": 1} if made.halted.is_set() else {}
        else:
            await quiet(400)
            found = {name: len(await made.mail(name)) for name in ("ann", "bob", "carl")}
    made.count_answers()
    return found


STEPS = [*(("account", step) for step in range(1, 9)), *(("server", step) for step in range(1, 5))]


@pytest.mark.parametrize(("level", "halt"), STEPS)
async def test_a_crash_at_every_step(
    tmp_path: Path, ruled: type[RuledHouse], autojump_clock: MockClock, halt: int, level: str
) -> None:
    rules = RULES if level == "account" else []
    ruled.server = SERVER if level == "server" else []
    ruled.halt = halt
    assert await one_life(tmp_path, crash=True, first=True, rules=rules), "the rules have no such step"
    ruled.halt = 0
    found = await one_life(tmp_path, crash=False, first=False, rules=rules)
    assert found["ann"] == 1 and found["carl"] == 1
    assert found["bob"] == (2 if level == "account" else 1)
    assert len(ruled.answers) == (1 if level == "account" else 0)
    assert len(ruled.runs) == 1
