"""Statistics of what is received outlive a restart."""

from __future__ import annotations

from pathlib import Path

from trio.testing import MockClock

from appliance.kernel.operations import Caller, Operations
from tests.modules.house import house, quiet


async def test_numbers_outlive_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    for life in (1, 2):
        async with house(tmp_path) as office:
            if life == 1:
                await office.account("alice")
            await office.local_settings.update({"CollectStatistics": "YES"})
            await office.send("alice@office.test")
            await quiet()
            operations = Operations()
            office.local.counting.declare(operations)
            office.domains.main.access["postmaster"] = ["Master"]
            root = Caller("postmaster@office.test", "office.test", "PWD", office.domains)
            for name, what in (("GetAccountStat", "accountName"), ("GetDomainStat", "domainName")):
                arguments = {what: "alice" if what == "accountName" else "office.test", "keyName": "messagesreceived"}
                assert await operations.perform(root, name, arguments) == str(life), (name, life)
            await office.local.counting.save()
