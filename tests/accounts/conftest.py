from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.accounts.serving import Server, Start, server


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`async with start() as server:` a life of a server in this test's directory; several, one after the other."""

    lives = count()

    def make(**options: Any) -> AbstractAsyncContextManager[Server]:
        return server(tmp_path, later=10 * next(lives), **options)

    return make
