from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio.testing

from tests.modules.house import House, house


@pytest.fixture
async def office(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> AsyncIterator[House]:
    """A server with the accounts alice and carol, and the second domain branch.test with dave."""
    async with house(tmp_path) as made:
        await made.account("alice", Aliases=["al"])
        await made.account("carol")
        await made.domains.create("branch.test")
        await made.account("dave@branch.test")
        yield made
