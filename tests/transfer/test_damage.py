"""Files of the Queue that were damaged: nothing is lost in silence, and nothing else suffers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from appliance.kernel.journal import Frame, FrameType
from appliance.kernel.packing import pack
from appliance.transfer import frames
from appliance.transfer.envelope import find_marks, parse_head, render_head
from appliance.transfer.message import QueuedMessage, Recipient, Source
from appliance.transfer.recovery import Replay

from .conftest import Room, running

LARGE = b"Date: x\nSubject: large\n\n" + b"z" * 200_000 + b"\n"


async def quiet(seconds: float = 1) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


def hold(room: Room) -> None:
    room.smtp.held.add("out.example")


async def waiting(base: Path) -> int:
    """A server that ended with a large message, whose content is in a file only, and a small one."""
    async with running(base, prepare=hold) as room:
        number = await room.send("x@out.example", sender="ann@here.example", text=LARGE)
        await room.send("y@out.example", sender="bob@here.example")
        await quiet(40)
    return number


@pytest.mark.parametrize("damage", ["cut", "longer", "zeros", "gone"])
async def test_the_sender_of_a_damaged_message_is_told(tmp_path: Path, autojump_clock: MockClock, damage: str) -> None:
    number = await waiting(tmp_path)
    path = tmp_path / "Queue" / f"{number}.msg"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-5000], "longer": data + b"x", "zeros": bytes(len(data))}[damage])
    async with running(tmp_path, prepare=hold) as room:
        await quiet(60)
        ((to, report),) = room.local.delivered
        assert to == "ann@here.example" and b"damaged" in report and b"x@out.example" in report
        assert os.listdir(tmp_path / "BadFiles") == ([] if damage == "gone" else [f"{number}.msg"])
        assert "its file is damaged or gone" in room.log.text()
        assert room.queues.release("SMTP", "out.example")
        await quiet()
        assert room.smtp.people == ["y@out.example"] and not room.spool.live


async def test_a_file_that_is_damaged_while_the_server_runs(
    room: Room, tmp_path: Path, autojump_clock: MockClock
) -> None:
    hold(room)
    number = await room.send("x@out.example", sender="ann@here.example", text=LARGE)
    await quiet(40)
    (tmp_path / "Queue" / f"{number}.msg").write_bytes(b"nothing")
    with pytest.raises(OSError, match="not as it was"):
        await room.find(number).content()
    await quiet(60)
    assert room.local.people == ["ann@here.example"] and os.listdir(tmp_path / "BadFiles") == [f"{number}.msg"]


async def test_a_file_that_cannot_be_read_now_is_not_damaged(
    room: Room, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(room)
    number = await room.send("x@out.example", sender="ann@here.example", text=LARGE)
    await quiet(40)

    def ill(handle: int, size: int, offset: int) -> bytes:
        raise OSError("the disk is ill")

    with monkeypatch.context() as patch:
        patch.setattr(room.spool.disk.files, "pread", ill)
        with pytest.raises(OSError, match="ill"):
            await room.find(number).content()
        await quiet(10)
    assert await room.find(number).content() == LARGE and not room.local.delivered


async def test_a_message_in_the_journal_that_is_not_understood_is_kept(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with running(tmp_path) as room:
        await room.journal.commit(Frame(FrameType.MESSAGE, pack([9, 5, "of another version"])))
    async with running(tmp_path) as room:
        await quiet()
        (name,) = os.listdir(tmp_path / "BadFiles")
        assert b"of another version" in (tmp_path / "BadFiles" / name).read_bytes()
        await room.send("ann@here.example")
        await quiet()
        assert room.local.people == ["ann@here.example"]


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 1 << 40)
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=14),
    max_leaves=40,
)


@given(
    st.lists(st.tuples(st.sampled_from("MEDQF"), ANYTHING | st.lists(ANYTHING, min_size=2, max_size=16)), max_size=8)
)
@settings(max_examples=100, deadline=None)
def test_any_frames_are_read_or_passed_over(story: list[tuple[str, object]]) -> None:
    replay = Replay()
    good = QueuedMessage(7, "me@x", Source("SMTP"), [Recipient(0, "you@y")], 1.0, 5)
    assert replay.take(1, frames.message(good, b"hello"))
    for position, (kind, payload) in enumerate(story, 2):
        replay.take(position, Frame(ord(kind), pack(payload)))  # type: ignore[arg-type]
        replay.take(position, Frame(ord(kind), pack([1, 7, payload])))  # type: ignore[list-item]
    for message in replay.messages.values():
        frames.message(message, message.held)
    assert [position for position, _, _ in replay.stored] == sorted(position for position, _, _ in replay.stored)


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_damaged_queue_still_starts(
    tmp_path_factory: pytest.TempPathFactory, autojump_clock: MockClock, data: st.DataObject
) -> None:
    """Any octets of any file of the Queue are changed, cut off or put in between: the server starts and takes mail."""
    base = tmp_path_factory.mktemp("queue")
    async with running(base, orderly=data.draw(st.booleans()), prepare=hold, segment_size=1 << 15) as room:
        for number in range(4):
            await room.send(f"u{number}@out.example", text=b"Date: x\n\n" + b"t" * number * 9000)
        await quiet(data.draw(st.sampled_from([0, 40])))
    for path in sorted((base / "Queue").iterdir()):
        octets = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(0, 2))):
            at = data.draw(st.integers(0, max(0, min(len(octets), 3000) - 1)))
            how = data.draw(st.sampled_from(["change", "cut", "insert"]))
            if how == "change" and octets:
                octets[at] ^= data.draw(st.integers(1, 255))
            elif how == "cut":
                del octets[at:]
            else:
                octets[at:at] = data.draw(st.binary(max_size=30))
        path.write_bytes(bytes(octets))
    async with running(base, segment_size=1 << 15) as room:
        await quiet(30)
        await room.send("ann@here.example")
        await quiet()
        assert "ann@here.example" in room.local.people
    shutil.rmtree(base)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9), min_size=1, max_size=6),
    st.binary(max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_status_letters_are_found_again(addresses: list[str], content: bytes) -> None:
    people = [Recipient(index, address) for index, address in enumerate(addresses)]
    message = QueuedMessage(1, "R x", Source("SMTP"), people, 1.0, added_header=b"R: <x>\n\tR y\n")
    head, marks = render_head(message)
    data = head + content
    assert tuple(find_marks(lambda size, at: data[at : at + size])) == marks == parse_head(data).marks


async def test_a_hole_in_the_journal_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A torn end is what a crash leaves; frames that are missing in the middle are damage."""
    async with running(tmp_path, orderly=False, prepare=hold, segment_size=1 << 14) as room:
        for number in range(9):
            await room.send(f"u{number}@out.example", text=b"Date: x\n\n" + b"t" * 4000)
    segments = sorted((tmp_path / "Queue").glob("*-*.jnl"), key=lambda path: int(path.stem.partition("-")[2]))
    assert len(segments) >= 3
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "Queue", whole / "Queue")
    octets = bytearray(segments[0].read_bytes())
    octets[9000] ^= 1
    segments[0].write_bytes(bytes(octets))
    async with running(tmp_path, orderly=False, prepare=hold):
        await quiet()
    async with running(tmp_path) as room:
        await quiet()
        assert os.listdir(tmp_path / "BadFiles") == [segments[0].name]
        assert f"{segments[0]} is damaged, messages may be lost" in room.log.text()
        assert "u8@out.example" in room.smtp.people
    async with running(whole) as room:
        await quiet()
        assert len(room.smtp.people) == 9 and os.listdir(whole / "BadFiles") == []
