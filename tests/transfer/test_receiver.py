from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from appliance.formats.data import Value
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.operations import Caller, OperationError, Operations
from appliance.transfer.message import Envelope, Source
from appliance.transfer.receiver import Malformed, NoSpace, Submission, TooLarge, TooManyHops
from tests.kernel.disk_testing import FailingFiles

from .conftest import Room, running

GOOD = b"From: a\nDate: b\nMessage-ID: <c@d>\n\n"


def files(base: Path) -> list[str]:
    return sorted(name for name in os.listdir(base / "Queue") if not name.endswith(".jnl"))


async def quiet(seconds: float = 1) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def received(room: Room, text: bytes, trusted: bool = False) -> bytes:
    room.local.delivered.clear()
    await room.send("ann@here.example", sender="me@there.example", text=text, trusted=trusted)
    await quiet()
    return room.local.mail("ann@here.example")[0]


@pytest.mark.feature("QUEUE-031", "QUEUE-032")
async def test_missing_date_and_message_id(room: Room, autojump_clock: MockClock) -> None:
    text = b"From: a\nSubject: s\n\nbody\n"
    stranger = await received(room, text)
    assert stranger.startswith(b"Date: Tue, 14 Nov 2023 22:13:") and stranger.endswith(b" +0000\n" + text)
    trusted = await received(room, text, trusted=True)
    assert b"\nMessage-ID: <" in trusted and b"@mail.here.example>\n" in trusted
    assert await received(room, GOOD + b"x") == GOOD + b"x"
    folded = b"From: a\nDATE:\n b\nmessage-id: <c@d>\n\n"
    assert await received(room, folded, trusted=True) == folded


@pytest.mark.feature("QUEUE-033")
async def test_text_without_a_header_gets_one(room: Room, autojump_clock: MockClock) -> None:
    found = await received(room, b"just some words\nand more\n", trusted=True)
    header, _, body = found.partition(b"\n\n")
    assert [line.split(b":")[0] for line in header.split(b"\n")] == [b"Date", b"Message-ID", b"From"]
    assert b"From: <me@there.example>" in header
    assert body == b"just some words\nand more\n"


@pytest.mark.feature("QUEUE-055")
async def test_too_many_hops(room: Room, autojump_clock: MockClock) -> None:
    with pytest.raises(TooManyHops, match="too many hops"):
        await room.send("ann@here.example", text=b"Received: x\n" * 31 + GOOD)
    await room.send("ann@here.example", text=b"Received: x\n" * 30 + GOOD)
    await room.settings.update({"HopLimit": "50"})
    await room.send("ann@here.example", text=b"received: x\n" * 31 + GOOD)
    assert room.spool.accepted == 2


@pytest.mark.feature("QUEUE-034", "QUEUE-035", "QUEUE-037")
async def test_long_fields_long_lines_and_zeros(room: Room, autojump_clock: MockClock, tmp_path: Path) -> None:
    for text in (b"Subject: " + b"x" * 120_000 + b"\n" + GOOD, b"A: b\nSubject: x" + b"\n y" * 50_000 + b"\n" + GOOD):
        with pytest.raises(Malformed, match="too long"):
            await room.send("ann@here.example", text=text)
    assert files(tmp_path) == []
    long_line = GOOD + b"x" * 200_000 + b"\n"
    assert await received(room, long_line) == long_line
    zeros = b"X-Odd: a\0b\n" + GOOD + b"\0\n"
    assert await received(room, zeros) == zeros
    with pytest.raises(Malformed):
        await room.send("ann@here.example", text=b"A: b\n" * 500_000)


@pytest.mark.feature("QUEUE-020", "QUEUE-021", "BASE-015")
async def test_a_large_message_in_the_making_is_a_file_that_goes_when_it_is_broken_off(
    room: Room, autojump_clock: MockClock, tmp_path: Path
) -> None:
    submission = room.begin(Source("SMTP", "10.0.0.1"))
    submission.sender = "me@there.example"
    submission.add(Envelope("ann@here.example"))
    await submission.write(GOOD)
    assert files(tmp_path) == []
    for _ in range(10):
        await submission.write(b"x" * 50_000 + b"\n")
    (name,) = files(tmp_path)
    assert name.endswith(".tmp")
    head = (tmp_path / "Queue" / name).read_bytes()
    assert head.startswith(b"S SMTP 10.0.0.1 -\nP <me@there.example>\nT ")
    assert b"\nR w <ann@here.example>\n\nFrom: a\n" in head
    await submission.abandon()
    await submission.abandon()
    assert files(tmp_path) == []
    with trio.CancelScope() as scope:
        async with room.begin(Source("SMTP")) as other:
            other.add(Envelope("ann@here.example"))
            for _ in range(10):
                await other.write(b"A: b\n\n" + b"x" * 50_000)
            assert len(files(tmp_path)) == 1
            scope.cancel()
            await other.write(b"x" * 500_000)
    assert files(tmp_path) == []
    assert not room.spool.live


@pytest.mark.feature("QUEUE-022", "QUEUE-025")
async def test_a_large_message_becomes_a_msg_file_in_one_step(
    room: Room, autojump_clock: MockClock, tmp_path: Path
) -> None:
    room.smtp.held.add("out.example")
    text = GOOD + b"y" * 300_000
    async with room.begin(Source("SMTP", "10.0.0.1", "10.0.0.2", "joe@here.example", True, True)) as submission:
        submission.sender, submission.ret, submission.envid = "me@there.example", "full", "id 1"
        submission.add(Envelope("a@out.example", "SF", "rfc822;b@c"))
        await submission.write(text)
        number = await submission.submit()
    assert files(tmp_path) == [f"{number}.msg"]
    head, _, content = (tmp_path / "Queue" / f"{number}.msg").read_bytes().partition(b"\n\n")
    lines = head.split(b"\n")
    assert lines[0] == b"S SMTP 10.0.0.1 10.0.0.2"
    assert lines[1] == b"P T C F A=joe@here.example E=id\\201 <me@there.example>"
    assert lines[3] == b"R wSF <a@out.example> <rfc822;b@c>"
    assert content == text
    assert b"".join([piece async for piece in room.find(number).chunks()]) == text


@pytest.mark.feature("QUEUE-028")
async def test_without_recipients_nothing_is_submitted(room: Room, autojump_clock: MockClock, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recipients"):
        await room.send()
    await quiet()
    assert not room.spool.live
    assert not (tmp_path / "BadFiles").exists() or not os.listdir(tmp_path / "BadFiles")


async def test_sizes_are_bounded(room: Room, autojump_clock: MockClock, tmp_path: Path) -> None:
    await room.settings.update({"MessageSizeLimit": "1M"})
    with pytest.raises(TooLarge):
        await room.send("ann@here.example", text=GOOD + b"x" * (1 << 20))
    assert files(tmp_path) == []
    submission = Submission(room.receiver, Source("SMTP"), True)
    for _ in range(100_000):
        submission.recipients.append(Envelope("x@y"))
    with pytest.raises(ValueError, match="too many"):
        submission.add(Envelope("x@y"))


async def test_low_space_is_a_temporary_error(room: Room, autojump_clock: MockClock) -> None:
    await room.send("ann@here.example")
    await room.settings.update({"MinimumFreeSpace": "99999999M"})
    await room.send("ann@here.example")
    await quiet(10)
    assert room.spool.space_low
    with pytest.raises(NoSpace):
        room.begin(Source("SMTP"))
    await room.settings.update({"MinimumFreeSpace": "0"})
    await quiet(10)
    await room.send("ann@here.example")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_a_disk_that_fails_at_any_call_leaves_nothing(
    tmp_path: Path, autojump_clock: MockClock, code: int
) -> None:
    disk = InLoopDisk()
    async with running(tmp_path, disk) as room:
        good = disk.files
        # The first id takes a mark in the journal, which is not what fails here.
        await room.send("ann@here.example")
        await quiet()
        failures = 0
        for number in range(20):
            disk.files = failing = FailingFiles(number, code=code, kinds=["create", "pwritev", "fsync", "rename"])
            submission = room.begin(Source("SMTP"))
            submission.add(Envelope("ann@here.example"))
            try:
                for _ in range(8):
                    await submission.write(b"A: b\n\n" + b"x" * 140_000)
                if number < failing.calls + 3:  # behind them comes the journal's own write, from which is no way back
                    await submission.submit()
            except OSError:
                failures += 1
            await submission.abandon()
            disk.files = good
            assert [name for name in files(tmp_path) if name.endswith(".tmp")] == []
        assert failures > 4
        disk.files = good
        await quiet()
        assert files(tmp_path) == []


async def test_a_message_id_is_never_given_twice(tmp_path: Path, autojump_clock: MockClock) -> None:
    seen: list[int] = []
    for round_ in range(3):
        async with running(tmp_path, orderly=round_ != 1) as room:
            for _ in range(5):
                seen.append(await room.send("ann@here.example"))
            await quiet()
    assert len(set(seen)) == 15
    assert seen == sorted(seen)


@pytest.mark.feature("QUEUE-036", "CLI-183", "CLI-188")
async def test_banned_lines(room: Room, autojump_clock: MockClock, tmp_path: Path) -> None:
    operations = Operations()
    room.declare(operations)
    by = Caller(None, "here.example", "CLI", None)  # type: ignore[arg-type]
    lists: dict[str, Value] = {
        "HeaderLines": ["Subject: buy\n now", "X-Mailer: *Blaster*"],
        "BodyLines": ["Click here, now", "http://*.spam.example/*"],
    }
    await operations.perform(by, "SETBANNED", {"newSettings": lists})
    assert await operations.perform(by, "GetBanned") == lists
    with pytest.raises(OperationError):
        await operations.perform(by, "SETBANNED", {"newSettings": {"BodyLines": "x"}})
    bad = [
        b"Subject: buy\n now\n" + GOOD,
        b"X-Mailer: The Blaster 2\n" + GOOD,
        GOOD + b"hello\nClick here, now\nbye\n",
        GOOD + b"Click here, now",
        GOOD + b"x\n" * 100_000 + b"http://a.spam.example/b\n" + b"y\n" * 100_000,
    ]
    for text in bad:
        with pytest.raises(Malformed, match="banned line"):
            await room.send("ann@here.example", text=text)
    good = [
        b"Subject: buy now\n" + GOOD,
        b"Subject: Buy\n now\n" + GOOD,
        GOOD + b"> Click here, now\nclick here, now\n",
        GOOD + b"X-Mailer: Blaster\nsee http://a.spam.example/b\n",
    ]
    for text in good:
        assert await received(room, text) == text
    # Pieces may end anywhere.
    async with room.begin(Source("RPOP")) as submission:
        submission.add(Envelope("ann@here.example"))
        await submission.write(GOOD + b"x" * 140_000 + b"\nClick he")
        with pytest.raises(Malformed):
            await submission.write(b"re, now\nmore")
    # What is made here is not compared.
    await room.submit_text("", ["ann@here.example"], bad[2], Source("LOCAL"))
    assert files(tmp_path) == []
