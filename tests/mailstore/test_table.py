"""Columns of messages: what is quick gives the same as what is plain."""

from __future__ import annotations

import random

import pytest

from appliance.mailstore.flags import DELETED, FLAGGED, SEEN
from appliance.mailstore.table import Row, Table


def filled(count: int, chance: random.Random) -> Table:
    table = Table()
    for uid in range(1, count + 1):
        flags = chance.choice((0, SEEN, SEEN | DELETED, FLAGGED))
        table.append(Row(uid * 3, uid, uid, uid, uid, flags, 0, chance.randrange(9)))
    return table


@pytest.mark.parametrize("seed", range(8))
def test_rows_taken_out(seed: int) -> None:
    chance = random.Random(seed)
    table = filled(500, chance)
    for count in (1, 3, 9, 200, 499, 500):
        indices = sorted(chance.sample(range(500), count))
        left = table.without(indices)
        for column, before in zip(left, table.columns(), strict=True):
            assert column.tolist() == [value for at, value in enumerate(before) if at not in set(indices)]
    run = table.without(range(10, 50))
    assert run[0].tolist() == [uid for at, uid in enumerate(table.uids) if not 10 <= at < 50]


def test_the_first_unseen() -> None:
    table = filled(300, random.Random(1))
    assert table.first_unseen() == next(at for at, flags in enumerate(table.flags) if not flags & SEEN)
    for at in range(len(table)):
        table.flags[at] |= SEEN | 0x1000
    assert table.first_unseen() == -1
    table.flags[299] = 0x1000
    assert table.first_unseen() == 299
    assert Table().first_unseen() == -1


def test_blocks_of_bytes() -> None:
    table = filled(100, random.Random(2))
    other = Table()
    assert other.take_block(table.block(0, 60)) and other.take_block(table.block(60, 100))
    assert [column.tolist() for column in other.columns()] == [column.tolist() for column in table.columns()]
    assert not other.take_block(b"x" * 7)
