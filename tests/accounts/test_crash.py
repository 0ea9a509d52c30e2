"""Power goes at any moment: what was acknowledged is there, no number is used twice, nothing is torn."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance.accounts.client import AccountSession, Fetch, Flag, unpack
from appliance.accounts.delivery import Delivery
from appliance.formats.wire import to_store, to_wire
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.journal import Frame, FrameType
from appliance.kernel.packing import pack
from appliance.objects.domain import Account
from tests.accounts.serving import Server, server
from tests.kernel.disk_testing import Operation, RecordingFiles, replay, survivors


def message(number: int) -> bytes:
    return b"Subject: message %d\n\n%s\n" % (number, b"From %d\n\n" % number * (50 * (number % 4) + 3))


@dataclass
class Story:
    """What the outside was told, and what it asked for."""

    files: RecordingFiles
    messages: dict[int, bytes]
    contents: set[bytes] = field(default_factory=set)

    def told(self, kind: str, mailbox: str, uid: int, number: int = 0) -> None:
        self.files.mark(f"{kind} {mailbox} {uid} {number}")


async def deliver(server: Server, story: Story, alice: Account, box: str, *, wait: bool = True) -> int:
    from appliance.accounts.delivery import Store

    content = message(server.number + 1)
    story.contents.add(to_wire(content))
    uid, ticket = await server.deliver_recorded(alice, content, Store(box))
    story.messages[server.number] = content
    story.told("seen", box, uid)
    if wait:
        server.journal.hurry()
        await ticket.durable()
        story.told("stored", box, uid, server.number)
    return uid


async def append(session: AccountSession, story: Story, box: str, number: int) -> int:
    content = to_wire(message(number))
    story.contents.add(content)
    story.messages[number] = to_store(content)
    _, uid = await session.append(box, int(Flag.SEEN), ["Kept"], 5, 0, content)
    story.told("stored", box, uid, number)
    return uid


async def play(base: Path, story: Story, kind: str) -> None:
    async with server(base, disk=InLoopDisk(story.files)) as life:
        alice = await life.account(DefaultMailboxType=kind)
        session = await life.session()
        story.told("ready", "INBOX", 0)
        await session.create("Other")
        story.told("made", "Other", 0)
        for _ in range(2):
            await deliver(life, story, alice, "INBOX")
        await append(session, story, "INBOX", 101)
        await deliver(life, story, alice, "INBOX", wait=False)
        await append(session, story, "INBOX", 102)
        opened = await session.open("INBOX")
        await session.store(opened.view, [1, 3], "+", int(Flag.FLAGGED), [])
        story.told("removing", "INBOX", 2)
        await session.remove(opened.view, [2])
        story.told("removed", "INBOX", 2)
        await deliver(life, story, alice, "Other")
        await life.accounts.checkpoint()
        await deliver(life, story, alice, "Other", wait=False)
        uid = await deliver(life, story, alice, "Other")
        story.told("removing", "INBOX", 3)
        _, _, made = await session.copy(opened.view, [3], "Other", move=True)
        story.told("removed", "INBOX", 3)
        story.told("stored", "Other", made[0], 101)
        await session.rename("Other", "deep/Other")
        story.told("renamed", "Other", 0)
        await life.accounts.close(alice)
        session = await life.session()
        for _ in range(2):
            await deliver(life, story, alice, "INBOX")
        opened = await session.open("INBOX")
        _, _, made = await session.copy(opened.view, [1], "deep/Other")
        story.told("stored", "deep/Other", made[0], 1)
        opened = await session.open("deep/Other")
        story.told("removing", "deep/Other", uid)
        await session.remove(opened.view, [uid])
        story.told("removed", "deep/Other", uid)


async def check(into: Path, marks: Sequence[tuple[str, str, int, int]], story: Story) -> None:
    """Start on what the crash left, and look."""
    renamed = any(kind == "renamed" for kind, *_ in marks)
    async with server(into, messages=story.messages, later=100) as life:
        alice = await life.account()
        session = await life.session()
        there = {row.name for row in await session.mailboxes() if row.selectable}
        found: dict[str, dict[int, bytes]] = {}
        for name in there:
            opened = await session.open(name)
            rows = await session.fetch(opened.view, unpack(opened.uids), Fetch.ENVELOPE, "")
            found[name] = {row.uid: row.content or b"" for row in rows}
            for row in rows:
                assert row.content in story.contents, "a torn message"
                assert row.size == len(row.content or b"")
        moved = to_wire(message(101))
        assert sum(content == moved for place in found.values() for content in place.values()) <= 1, (
            "MOVE has doubled it"
        )
        other = "deep/Other" if "deep/Other" in there else "Other"
        if any(kind == "made" for kind, *_ in marks):
            assert other in there
        assert not (renamed and "Other" in there)
        maybe_gone = {(box, uid) for kind, box, uid, _ in marks if kind == "removing"}
        for kind, box, uid, number in marks:
            place = found.get(other if box.endswith("Other") else box, {})
            if kind == "stored" and not {(box, uid), ("deep/" + box, uid)} & maybe_gone:
                assert place.get(uid) == to_wire(story.messages[number]), f"{box} {uid} is lost"
            elif kind == "removed":
                assert uid not in place, f"{box} {uid} came back"
        used = max((uid for kind, box, uid, _ in marks if box == "INBOX"), default=0)
        assert await life.deliver(alice, b"new\n") > used


@pytest.mark.parametrize("kind", ["Text Mailbox", "MailDir Mailbox"])
async def test_power_goes_at_any_moment(tmp_path: Path, kind: str) -> None:
    base = tmp_path / "base"
    base.mkdir()
    story = Story(RecordingFiles(str(base)), {})
    await play(base, story, kind)
    log = story.files.log
    ready = next(at for at, operation in enumerate(log) if operation.kind == "mark")
    chance = random.Random(7)
    index = next(base.rglob("account.index"))
    for number, length in enumerate(range(ready + 1, len(log) + 1, 5)):
        prefix = log[:length]
        keep = (lambda _: True, lambda _: False, lambda _: chance.random() < 0.5)[number % 3]
        left = survivors([op for op in prefix if op.kind != "mark"], keep)
        marks = [
            (kind, box, int(uid), int(n))
            for kind, box, uid, n in (op.path.split(" ") for op in prefix if op.kind == "mark")
        ]
        into = tmp_path / "crash"
        _prepare(base, into)
        replay(left, str(into))
        if number % 2:
            shutil.copy(index, into / index.relative_to(base))
        try:
            await check(into, marks, story)
        except BaseException:
            print(f"crash after {length} of {len(log)} operations, {marks[-1]}")
            raise
        shutil.rmtree(into)


def _prepare(base: Path, into: Path) -> None:
    """The settings, which are no part of this."""
    for path in base.rglob("*.settings"):
        target = into / path.relative_to(base)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for name in ("Queue", "Accounts", "Domains"):
        (into / name).mkdir(exist_ok=True)


def test_the_recorder_has_something_to_lose(tmp_path: Path) -> None:
    assert survivors([Operation("create", 0, "a")], lambda _: False) == []


async def test_a_late_record_of_the_file_before_it_was_written_anew(tmp_path: Path) -> None:
    """A deliverer's record that comes after the mailbox was compacted speaks of offsets that are no longer."""
    base, crash = tmp_path / "base", tmp_path / "crash"
    base.mkdir()
    async with server(base) as life:
        alice = await life.account(DefaultMailboxType="Text Mailbox")
        session = await life.session()
        for number in range(6):
            await session.append("INBOX", 0, [], 5, 0, b"Subject: old\r\n\r\n%d\r\n" % number + b"line\r\n" * 20_000)
        life.number += 1
        late = await life.accounts.deliver(alice, Delivery(life.number, b"Subject: late\n\ntext\n", 20, b"b@x.org", 5))
        opened = await session.open("INBOX")
        size = (life.place() / "INBOX.mbox").stat().st_size
        await session.remove(opened.view, [5, 6])
        assert (life.place() / "INBOX.mbox").stat().st_size < size, "nothing was compacted"
        small = (life.place() / "INBOX.mbox").stat().st_size
        while small < size:  # beyond the old offset
            await session.append("INBOX", 0, [], 5, 0, b"Subject: new\r\n\r\n" + b"line\r\n" * 20_000)
            small = (life.place() / "INBOX.mbox").stat().st_size
        payload = pack([1, life.number, alice.full_name, late.record])
        await life.journal.append(Frame(FrameType.DELIVERED, payload)).durable()
        await session.append("INBOX", 0, [], 5, 0, b"Subject: last\r\n\r\n")
        count = len(unpack((await session.open("INBOX")).uids))
        shutil.copytree(base, crash)
    async with server(crash, messages={life.number: b"Subject: late\n\ntext\n"}, later=100) as life:
        session = await life.session()
        opened = await session.open("INBOX")
        rows = await session.fetch(opened.view, unpack(opened.uids), Fetch.ENVELOPE, "")
        assert len(rows) == count
        assert [row.content for row in rows][-1] == b"Subject: last\r\n\r\n"
