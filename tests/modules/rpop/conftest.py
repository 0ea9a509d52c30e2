"""A server that may collect from this computer, and a maildrop elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.modules.rpop.acts import MAIL
from tests.modules.rpop.remote import RemotePop
from tests.server.conftest import House, living


@pytest.fixture
async def remote() -> RemotePop:
    made = RemotePop()
    made.put("u1", MAIL.format("one"))
    made.put("u2", MAIL.format("two") + ".dotted\n..twice\n")
    return made


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[House]:
    """A server with the main domain box.test and the accounts ann and bob; it may collect from this computer."""
    async with living(tmp_path / "base") as made:
        await made.update("RPOP", AllowSelfPoll="YES", LogLevel="5")
        yield made
