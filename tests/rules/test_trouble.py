"""Trouble of the disk while rules run: nothing is lost, everything is asked again later."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import MockClock

from appliance.accounts.delivery import Delivery, DeliveryResult
from appliance.formats.data import Value
from appliance.objects.domain import Account
from tests.modules import house as houses
from tests.modules.house import quiet
from tests.rules.test_crash import RuledHouse


@pytest.mark.parametrize("level", ["account", "server"])
async def test_a_disk_that_is_full_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, level: str
) -> None:
    rules: list[Value] = [["5", "copy", [["Any Recipient", "is", "ann@*"]], [["Mirror to", "bob"], ["Discard"]]]]

    class Mine(RuledHouse):
        runs: list[str] = []  # noqa: RUF012
        answers: set[int] = set()  # noqa: RUF012
        server = rules if level == "server" else []

    monkeypatch.setattr(houses, "House", Mine)
    async with houses.house(tmp_path) as made:
        for name in ("ann", "bob"):
            await made.account(name)
        ann = made.domains.main.account("ann")
        assert ann is not None
        await ann.settings.update({"Rules": rules if level == "account" else []})
        real, failures = made.transfer.spool.new_id, 0

        async def full() -> int:
            nonlocal failures
            if 0 < failures < 3:
                failures += 1
                raise OSError(28, "No space left on device")
            failures += not failures
            return await real()

        monkeypatch.setattr(made.transfer.spool, "new_id", full)
        await made.send("ann@office.test", sender="jane@far.test", text=b"From: jane@far.test\n\nx\n")
        await quiet(1000)
        assert failures == 3
        assert len(await made.mail("bob")) == 1 and not await made.mail("ann")


async def test_a_mailbox_that_goes_away_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    class Mine(RuledHouse):
        runs: list[str] = []  # noqa: RUF012
        answers: set[int] = set()  # noqa: RUF012
        server: list[Value] = []  # noqa: RUF012

    monkeypatch.setattr(houses, "House", Mine)
    async with houses.house(tmp_path) as made:
        ann = await made.account("ann")
        session = await made.accounts.open(ann)
        await session.create("Work")
        await ann.settings.update({"Rules": [["5", "sort", [], [["Store in", "Work"], ["Discard"]]]]})
        real, asked = made.accounts.deliver, 0

        async def late(account: Account, delivery: Delivery) -> DeliveryResult:
            nonlocal asked
            asked += 1
            if asked == 1:
                await session.delete("Work")
            return await real(account, delivery)

        monkeypatch.setattr(made.accounts, "deliver", late)
        await made.send("ann@office.test", text=b"From: jane@far.test\n\nx\n")
        await quiet(100)
        assert len(await made.mail("ann")) == 1 and asked == 2 and not made.smtp.sent
        await session.aclose()
