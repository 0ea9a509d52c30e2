"""The full-text index: searches find what they found without it, and read less."""

from __future__ import annotations

import random
from base64 import encodebytes
from collections.abc import Sequence
from quopri import encodestring

import pytest

from appliance.accounts.client import AccountSession, unpack
from appliance.accounts.fulltext import step
from appliance.kernel.files import Files
from appliance.mailstore import fulltext
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.store import Found
from tests.accounts.serving import Server, Start

WORDS = ["alpha", "beta", "Gamma", "Köln", "Straße", "日本語", "x1y2", "foo-bar", "100%", "O'Neil", '"quoted"', "ﬁne"]


def message(chance: random.Random) -> bytes:
    text = " ".join(chance.choices(WORDS, k=6)) + "\n"
    subject = chance.choice(("plain", "=?utf-8?q?K=C3=B6ln?=", "alpha\n folded"))
    head = f"Subject: {subject}\nContent-Type: text/plain; charset=utf-8\n"
    kind = chance.randrange(3)
    if kind == 0:
        return head.encode() + b"\n" + text.encode()
    if kind == 1:
        return head.encode() + b"Content-Transfer-Encoding: quoted-printable\n\n" + encodestring(text.encode())
    return head.encode() + b"Content-Transfer-Encoding: base64\n\n" + encodebytes(text.encode())


async def fill(server: Server, count: int, seed: int) -> None:
    chance = random.Random(seed)
    alice = await server.account()
    for _ in range(count):
        await server.deliver(alice, message(chance))


async def take_in(server: Server) -> None:
    task = server.accounts._tasks[await server.account()]
    while await step(task.state):
        pass


NEEDLES = [
    "alpha",
    "ALPHA",
    "köln",
    "koln",
    "STRASSE",
    "日本語",
    "日本",
    "x1y2 ",
    "foo-b",
    "00%",
    "o'n",
    '"quo',
    "fine",
    "zzz",
    "ab",
    "folded",
]


async def found(session: AccountSession, view: int, key: str) -> dict[str, list[int]]:
    return {text: list(await session.search(view, [key, text])) for text in NEEDLES}


async def test_what_is_found_is_the_same(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = MboxStore.read

    def counted(self: MboxStore, files: Files, messages: Sequence[Found]) -> list[bytes]:
        reads.append(len(messages))
        return read(self, files, messages)

    async with start() as server:
        await server.account(FullTextIndex="YES")
        await fill(server, 40, 1)
        session = await server.session()
        opened = await session.open("INBOX")
        before = {key: await found(session, opened.view, key) for key in ("BODY", "TEXT")}
        assert before["BODY"]["köln"] and not before["BODY"]["zzz"] and before["TEXT"]["folded"]
        await take_in(server)
        assert (server.place() / "account.search").exists()
        monkeypatch.setattr(MboxStore, "read", counted)
        assert {key: await found(session, opened.view, key) for key in ("BODY", "TEXT")} == before
        reads.clear()
        await session.search(opened.view, ["BODY", "zzqqxx"])
        assert sum(reads) == 0
        # What came since is read, until it is taken in.
        await fill(server, 10, 2)
        opened = await session.open("INBOX")
        reads.clear()
        later = await session.search(opened.view, ["BODY", "zzqqxx"])
        assert sum(reads) == 10 and not len(later)
        after = await found(session, opened.view, "BODY")
        await take_in(server)
        assert await found(session, opened.view, "BODY") == after
        await session.remove(opened.view, [1, 2, 3])
        left = {text: [uid for uid in uids if uid > 3] for text, uids in after.items()}
        assert await found(session, opened.view, "BODY") == left
        both = await session.search(opened.view, ["AND", ["BODY", "alpha"], ["NOT", ["BODY", "beta"]]])
        assert list(both) == sorted(set(left["alpha"]) - set(await session.search(opened.view, ["BODY", "beta"])))
    async with start() as server:
        session = await server.session()
        opened = await session.open("INBOX")
        reads.clear()
        await session.search(opened.view, ["BODY", "zzqqxx"])
        assert sum(reads) == 0, "it is believed after a restart"
        assert await found(session, opened.view, "BODY") == left
    path = next(server.base.rglob("account.search"))
    for damage in (b"rubbish" * 1000, b""):
        path.write_bytes(damage)
        async with start() as server:
            session = await server.session()
            opened = await session.open("INBOX")
            assert await found(session, opened.view, "BODY") == left
            await take_in(server)
            assert await found(session, opened.view, "BODY") == left


async def test_a_mailbox_that_others_wrote_anew_is_taken_in_again(start: Start) -> None:
    async with start() as server:
        await server.account(FullTextIndex="YES")
        await fill(server, 5, 3)
        session = await server.session()
        await session.open("INBOX")
        await take_in(server)
    path = next(server.base.rglob("INBOX.mbox"))
    data = path.read_bytes()
    assert b"\n\n" in data
    path.write_bytes(data.replace(b"Subject: ", b"Subject: needle "))
    async with start() as server:
        session = await server.session()
        opened = await session.open("INBOX")
        assert list(await session.search(opened.view, ["TEXT", "needle"])) == list(unpack(opened.uids))


def test_this_system_has_what_it_takes() -> None:
    assert fulltext.available()
