"""Messages of several clients at once: one flush, and each stands for itself."""

from __future__ import annotations

import trio

from appliance.accounts.client import AccountError, AccountSession, Fetch
from tests.accounts.serving import Start


async def test_messages_of_many_sessions_each_stand_for_themselves(start: Start) -> None:
    async with start() as server:
        await server.account(MaxAccountSize="2000")
        sessions = [await server.session() for _ in range(12)]
        await sessions[0].create("Other")
        done: dict[int, object] = {}

        async def store(number: int, session: AccountSession) -> None:
            name = ("INBOX", "Other", "Missing")[number % 3]
            size = 5000 if number == 4 else 10
            try:
                done[number] = await session.append(
                    name, 0, [f"k{number}"], 0, 0, b"Subject: %d\r\n\r\n" % number + b"x" * size
                )
            except AccountError as error:
                done[number] = error.code

        async with trio.open_nursery() as nursery:
            for number, session in enumerate(sessions):
                nursery.start_soon(store, number, session)
        assert [done[number] for number in range(2, 12, 3)] == ["NONEXISTENT"] * 4
        assert done[4] == "OVERQUOTA"
        for name, numbers in (("INBOX", [0, 3, 6, 9]), ("Other", [1, 7, 10])):
            opened = await sessions[0].open(name)
            uids = {}
            for number in numbers:
                told = done[number]
                assert isinstance(told, tuple) and told[0] == opened.uidvalidity
                uids[told[1]] = number
            assert sorted(uids) == list(range(1, len(numbers) + 1))
            for row in await sessions[0].fetch(opened.view, sorted(uids), Fetch.NOTHING, ""):
                assert row.content is not None and row.content.startswith(b"Subject: %d\r\n" % uids[row.uid])
                assert row.keywords == (f"k{uids[row.uid]}",)
