"""Many at once on real worker threads: deliveries, flags, copies, removals, readers, searches; then the sums are right."""

from __future__ import annotations

import random

import pytest
import trio
import trio.lowlevel

from appliance.accounts.client import AccountError, AccountSession, Fetch, Flag, unpack
from appliance.accounts.delivery import Store
from appliance.formats.wire import to_wire
from appliance.kernel.disk import WorkerDisk
from appliance.objects.domain import Account
from tests.accounts.serving import Server, Start

BODIES = [b"Subject: %d\n\n" % n + b"line %d\n" % n * (n * 40 + 1) for n in range(6)]
WIRES = {to_wire(body) for body in BODIES}


async def deliverer(server: Server, alice: Account, seed: int, uids: list[int]) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        uids.append(await server.deliver(alice, chance.choice(BODIES), Store("INBOX")))


async def client(session: AccountSession, seed: int, removed: set[int]) -> None:
    chance = random.Random(seed)
    opened = await session.open("INBOX")
    known = set(unpack(opened.uids))
    modseq = opened.modseq
    for _ in range(40):
        await trio.lowlevel.checkpoint()
        news = await session.changes(opened.view, modseq)
        modseq = news.modseq
        known |= {row.uid for row in news.new}
        gone = set(unpack(news.vanished))
        assert gone <= known
        known -= gone
        if not known:
            continue
        some = sorted(chance.sample(sorted(known), min(len(known), 5)))
        step = chance.randrange(5)
        if step == 0:
            await session.store(opened.view, some, "+", int(Flag.SEEN | Flag.FLAGGED), ["k"])
        elif step == 1:
            done = set(await session.remove(opened.view, some[:2]))
            assert not done & removed, "removed twice"
            removed |= done
        elif step == 2:
            for row in await session.fetch(opened.view, some, Fetch.ENVELOPE, ""):
                assert row.content in WIRES
                assert row.size == len(row.content or b"")
        elif step == 3:
            try:
                await session.read(opened.view, some[0], "TEXT", 3, 50)
            except AccountError as error:
                assert error.code == "NONEXISTENT"
            assert set(await session.search(opened.view, ["BODY", "line"])) <= known | set(range(max(known), 999))
        else:
            await session.copy(opened.view, some, "Copies")


@pytest.mark.parametrize("kind", ["Text Mailbox", "MailDir Mailbox"])
@pytest.mark.feature("ACC-036", "ACC-039", "ACC-041", "MBOX-104", "MBOX-138", "MBOX-139")
async def test_a_crowd(start: Start, kind: str) -> None:
    removed: set[int] = set()
    uids: list[int] = []
    async with start(disk=WorkerDisk()) as server:
        alice = await server.account(DefaultMailboxType=kind)
        first = await server.session()
        await first.create("Copies")
        await server.deliver(alice, BODIES[0])
        uids.append(1)
        async with trio.open_nursery() as nursery:
            for seed in range(4):
                nursery.start_soon(deliverer, server, alice, seed, uids)
                nursery.start_soon(client, await server.session(), seed, removed)
        assert sorted(uids) == list(range(1, len(uids) + 1))
        expected = sorted(set(uids) - removed)
        opened = await first.open("INBOX")
        assert list(unpack(opened.uids)) == expected
        status = await first.status("INBOX")
        rows = await first.flags(opened.view, expected)
        assert status["MESSAGES"] == len(expected)
        assert status["UNSEEN"] == sum(1 for row in rows if not row.flags & Flag.SEEN)
        states = {row.uid: (row.flags & ~Flag.RECENT, row.keywords) for row in rows}
        assert not list(server.place().glob("*lock*"))
    async with start() as server:
        session = await server.session()
        opened = await session.open("INBOX")
        assert list(unpack(opened.uids)) == expected
        rows = await session.flags(opened.view, expected)
        assert {row.uid: (row.flags & ~Flag.RECENT, row.keywords) for row in rows} == states
        changing = {"RECENT": 0, "INTERNALSIZE": 0, "HIGHESTMODSEQ": 0}
        assert await session.status("INBOX") | changing == status | changing
        for name in ("INBOX", "Copies"):
            opened = await session.open(name)
            left = list(unpack(opened.uids))
            while left:
                got = await session.fetch(opened.view, left[:500], Fetch.NOTHING, "")
                assert {row.content for row in got} <= WIRES
                left = left[len(got) :]
        used = (await session.info())["used"]
        assert used == sum([(await session.status(name))["SIZE"] for name in ("INBOX", "Copies")])
