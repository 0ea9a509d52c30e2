from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from appliance.kernel.disk import InLoopDisk
from appliance.transfer.envelope import HeadError, parse_head, render_head
from appliance.transfer.message import Envelope, Kind, Outcome, QueuedMessage, Recipient, Source, Stored
from appliance.transfer.queues import ModuleQueue, QueueEntry
from tests.kernel.disk_testing import RecordingFiles, crashes, replay

from .conftest import Room, running

LARGE = b"Date: x\nSubject: large\n\n" + b"z" * 200_000 + b"\n"


async def quiet(seconds: float = 1) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


def files(base: Path) -> list[str]:
    return sorted(name for name in os.listdir(base / "Queue") if not name.endswith(".jnl"))


def hold(room: Room) -> None:
    room.smtp.held.add("out.example")
    room.local.limit = 0


@pytest.mark.feature("QUEUE-023", "QUEUE-024", "BASE-016")
@pytest.mark.parametrize("orderly", [True, False])
async def test_accepted_mail_survives(tmp_path: Path, autojump_clock: MockClock, orderly: bool) -> None:
    async with running(tmp_path, orderly=orderly, prepare=hold) as room:
        await room.send("ann@here.example", "x@out.example")
        await room.send("bob@here.example", text=LARGE)
        (tmp_path / "Queue" / "999.tmp").write_bytes(b"half a message")
        await quiet()
    async with running(tmp_path) as room:
        await quiet()
        assert room.local.people == ["ann@here.example", "bob@here.example"]
        assert room.local.mail("bob@here.example") == [LARGE]
        assert room.smtp.people == ["x@out.example"]
    assert files(tmp_path) == []
    async with running(tmp_path) as room:
        await quiet()
        assert room.local.people == [] and room.smtp.people == []


async def test_what_is_done_is_not_done_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    def grey(entry: QueueEntry, recipient: Recipient) -> Outcome | None:
        if recipient.address.startswith("grey"):
            entry.delay(recipient, 3600, "greylisted")
            return None
        return Outcome(Kind.DELIVERED)

    def prepare(room: Room) -> None:
        room.smtp.answer = grey

    async with running(tmp_path, orderly=False, prepare=prepare) as room:
        await room.send("a@out.example", "grey@out.example", sender="me@here.example")
        await quiet()
        assert room.smtp.people == ["a@out.example"]
        start = room.clock.now()
    async with running(tmp_path, orderly=False, prepare=lambda room: setattr(room.clock, "_epoch", start)) as room:
        await quiet(3000)
        assert room.smtp.people == []
        await quiet(700)
        assert room.smtp.people == ["grey@out.example"]


async def test_server_rules_never_run_twice(tmp_path: Path, autojump_clock: MockClock) -> None:
    from appliance.transfer.enqueuer import Verdict

    seen: list[int] = []

    async def rules(message: QueuedMessage) -> Verdict:
        seen.append(message.id)
        return Verdict(added_header=b"X-Seen: yes\n")

    def prepare(room: Room) -> None:
        hold(room)
        room.enqueuer.rules = rules

    async with running(tmp_path, orderly=False, prepare=prepare) as room:
        await room.send("x@out.example")
        await quiet()
    for _ in range(2):
        async with running(tmp_path, prepare=prepare) as room:
            await quiet()
    shutil.rmtree(tmp_path / "saved", ignore_errors=True)
    for name in os.listdir(tmp_path / "Queue"):  # the .msg alone tells it all
        if name.endswith(".jnl"):
            os.unlink(tmp_path / "Queue" / name)

    def release(room: Room) -> None:
        room.enqueuer.rules = rules

    async with running(tmp_path, prepare=release) as room:
        await quiet()
        assert room.smtp.mail("x@out.example")[0].startswith(b"X-Seen: yes\nFrom: me")
    assert len(seen) == 1


@pytest.mark.feature("QUEUE-029", "QUEUE-026")
async def test_the_file_alone_is_enough_to_go_on(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Source attributes, options and odd addresses outlive the journal."""
    source = Source("SMTP", "2001:db8::1", "10.0.0.2", "joe user@here.example", True, True)
    addresses = ["grüße@out.example", '"a b>\\"c"@out.example', "\udcff@out.example"]
    async with running(tmp_path, prepare=hold) as room:
        async with room.begin(source) as submission:
            submission.sender, submission.ret, submission.envid = "\udce4<x>@here.example", "hdrs", "a=b c"
            submission.smtputf8 = True
            for address in addresses:
                submission.add(Envelope(address, "SD", "utf-8;ö@x"))
            await submission.write(b"Message-ID: <a>\nDate: x\n\nhello")
            number = await submission.submit()
        await quiet()
    assert files(tmp_path) == [f"{number}.msg"]
    for name in os.listdir(tmp_path / "Queue"):
        if name.endswith(".jnl"):
            os.unlink(tmp_path / "Queue" / name)
    async with running(tmp_path, prepare=hold) as room:
        await quiet()
        message = room.find(number)
        assert message.source == source
        assert message.sender == "\udce4<x>@here.example"
        assert (message.ret, message.envid, message.smtputf8) == ("hdrs", "a=b c", True)
        assert [(r.address, r.notify, r.orcpt) for r in message.recipients] == [
            (address, "SD", "utf-8;ö@x") for address in addresses
        ]
        assert await message.content() == b"Message-ID: <a>\nDate: x\n\nhello"
        assert await room.send("a@out.example") > number


@pytest.mark.feature("QUEUE-027", "BASE-017")
async def test_files_that_cannot_be_read_go_to_bad_files(tmp_path: Path, autojump_clock: MockClock) -> None:
    queue = tmp_path / "Queue"
    queue.mkdir()
    (queue / "5.msg").write_bytes(b"garbage")
    (queue / "x.msg").write_bytes(b"")
    (queue / "6.msg").write_bytes(b"S SMTP\nP <a@b>\nR w <ann@here.example>\nQ what\n\nDate: x\n\nhello\n")
    (queue / "readme").write_bytes(b"left alone")
    async with running(tmp_path) as room:
        await quiet()
        assert room.local.mail("ann@here.example") == [b"Date: x\n\nhello\n"]
        assert sorted(os.listdir(tmp_path / "BadFiles")) == ["5.msg", "x.msg"]
        assert "goes to BadFiles" in room.log.text()
        assert files(tmp_path) == ["readme"]
        assert await room.send("ann@here.example") > 6


async def test_waiting_mail_gets_its_file_after_a_while(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path, prepare=hold) as room:
        number = await room.send("a@out.example", "ann@here.example")
        await quiet()
        assert files(tmp_path) == []
        await quiet(40)
        assert files(tmp_path) == [f"{number}.msg"]
        message = room.find(number)
        assert message.held is None
        assert (await message.content()).endswith(b"\n\ntext\n")
        room.queues.release("SMTP", "out.example")
        await quiet(20)
        assert b"\nR d <a@out.example>\nR w <ann@here.example>\n" in (tmp_path / "Queue" / f"{number}.msg").read_bytes()


async def test_a_program_gets_a_file_name_at_once(room: Room, tmp_path: Path, autojump_clock: MockClock) -> None:
    hold(room)
    number = await room.send("a@out.example")
    path = await room.find(number).file()
    assert path == str(tmp_path / "Queue" / f"{number}.msg")
    data = (tmp_path / "Queue" / f"{number}.msg").read_bytes()
    assert parse_head(data).recipients == [(Envelope("a@out.example"), False)]
    assert data.endswith(b"\n\ntext\n")
    await quiet()
    room.queues.release("SMTP", "out.example")
    await quiet()
    assert files(tmp_path) == []


async def test_memory_is_a_bounded_cache(room: Room, autojump_clock: MockClock) -> None:
    hold(room)
    await room.settings.update({"ContentCache": "100K"})
    for _ in range(20):
        await room.send("a@out.example", text=b"Date: x\n\n" + b"y" * 30_000)
    await quiet()
    assert sum(len(m.held or b"") for m in room.spool.live.values()) <= 100 << 10
    room.queues.release("SMTP", "out.example")
    await quiet()
    assert len(room.smtp.mail("a@out.example")) == 20


async def test_one_session_costs_one_flush_a_message(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path, orderly=False) as room:
        await room.send("ann@here.example")
        before = room.journal.flushes
        for _ in range(50):
            await room.send("ann@here.example")
            await trio.testing.wait_all_tasks_blocked()
        assert len(room.local.delivered) == 51
        assert room.journal.flushes - before <= 51


@pytest.mark.feature("QUEUE-030")
async def test_the_journal_does_not_grow(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Waiting mail moves out of the segments, which are used again; it is all there after a restart."""
    async with running(tmp_path, segment_size=1 << 17, prepare=hold, orderly=False) as room:
        waiting = [await room.send("a@out.example", text=b"Date: %d\n\n" % n + b"w" * 5000) for n in range(10)]
        room.smtp.before = lambda queue: queue.delay(36000, "down") if queue.host == "down.example" else None
        await room.send("b@down.example")
        for number in range(300):
            await room.send(f"n{number}@busy.example", text=b"Date: x\n\n" + b"y" * 10_000)
            if number % 20 == 0:
                await quiet()
        await quiet(10)
        assert len(room.smtp.delivered) == 300
        segments = [name for name in os.listdir(tmp_path / "Queue") if name.endswith(".jnl")]
        assert "spare.jnl" in segments
        assert len(segments) <= 8
    async with running(tmp_path, segment_size=1 << 17, prepare=hold) as room:
        await quiet()
        assert set(waiting) <= set(room.spool.live)
        down = room.queues.get("SMTP", "down.example")
        assert down is not None and down.until > room.clock.now()
        assert [await room.find(n).content() for n in waiting] == [b"Date: %d\n\n" % n + b"w" * 5000 for n in range(10)]


async def test_stored_deliveries_are_told_after_a_crash_until_the_account_is_safe(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def stores(queue: ModuleQueue) -> None:
        while (entry := queue.take()) is not None:
            record = b"record of %d" % entry.message.id
            entry.finish(entry.recipients, Outcome(Kind.DELIVERED), Stored(queue.host, record))
            queue.put_back(entry)

    def prepare(room: Room) -> None:
        room.local.before = stores

    async with running(tmp_path, orderly=False, prepare=prepare) as room:
        first = await room.send("ann@here.example")
        await quiet()
        room.safe("ann@here.example", room.journal.position)
        second = await room.send("ann@here.example")
        third = await room.send("ann@here.example", text=LARGE)
        await quiet()
        assert first not in room.spool.live

    told: list[tuple[str, bytes, int]] = []

    def look(room: Room) -> None:
        begin = room.recovery.begin

        def spy() -> int:
            for before in room.recovery.stored():
                told.append((before.stored.account, before.stored.record, before.message.size))
            return begin()

        room.recovery.begin = spy  # type: ignore[method-assign]

    async with running(tmp_path, prepare=look) as room:
        await quiet()
        assert room.local.people == []
        assert sorted(room.spool.live) == [second, third]
        room.safe("ann@here.example", room.journal.position)
        await quiet()
        assert not room.spool.live
    assert [(account, record) for account, record, _ in told] == [
        ("ann@here.example", b"record of %d" % second),
        ("ann@here.example", b"record of %d" % third),
    ]
    assert files(tmp_path) == []


async def test_a_report_is_made_once_over_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    def fails(room: Room) -> None:
        room.smtp.answer = lambda entry, recipient: Outcome(Kind.FAILED, "5.1.1", "no")
        room.local.limit = 0

    async with running(tmp_path, orderly=False, prepare=fails) as room:
        room.smtp.held.add("out.example")
        await room.send("a@bad.example", "b@out.example", sender="me@here.example")
        await quiet(30)
        assert room.dequeuer.reports == 1
    async with running(tmp_path, orderly=False, prepare=lambda room: room.smtp.held.add("out.example")) as room:
        await quiet(100)
        assert room.dequeuer.reports == 0
        assert room.local.people == ["me@here.example"]


async def test_a_result_that_was_not_told_is_told_after_the_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    def fails(room: Room) -> None:
        room.smtp.held.add("out.example")
        room.smtp.answer = lambda entry, recipient: Outcome(Kind.FAILED, "5.1.1", "no")

    async with running(tmp_path, orderly=False, prepare=fails) as room:
        await room.send("a@bad.example", "b@out.example", sender="me@here.example")
        await quiet(5)
        assert room.dequeuer.reports == 0
    async with running(tmp_path, orderly=False, prepare=fails) as room:
        await quiet(100)
        assert room.local.people == ["me@here.example"]


@pytest.mark.feature("QUEUE-130", "BASE-023", "BASE-029", "PIPE-090", "PIPE-091", "PIPE-092", "PIPE-093")
async def test_a_foreign_queue_is_taken_in(tmp_path: Path, autojump_clock: MockClock) -> None:
    other, base = tmp_path / "other", tmp_path / "base"
    other.mkdir()

    def prepare(room: Room) -> None:
        hold(room)
        room.smtp.answer = lambda entry, recipient: Outcome(Kind.DELIVERED)

    async with running(other, prepare=prepare, orderly=False) as room:
        await room.send("ann@here.example", "x@done.example")
        await room.send("bob@here.example", text=LARGE)
        await room.send("y@done.example")
        old = await room.send("cid@here.example")
        await room.find(old).file()
        await quiet()
    base.mkdir()
    async with running(base) as room:
        await room.send("z@out.example")
        await quiet()
        os.rename(other / "Queue", base / "ForeignQueue")
        (base / "ForeignQueue" / "1.tmp").write_bytes(b"x")
        (base / "ForeignQueue" / "note").write_bytes(b"x")
        await quiet(200)
        assert room.local.people == ["ann@here.example", "bob@here.example", "cid@here.example"]
        assert room.smtp.people == ["z@out.example"]
        assert sorted(os.listdir(base / "ForeignQueue")) == ["note", "spare.jnl"]
        assert not room.spool.live


async def test_every_crash_keeps_every_accepted_message(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Each prefix of what was written, with legal losses: accepted mail is delivered, or had been, and ids are fresh."""
    base = tmp_path / "base"
    base.mkdir()
    record = RecordingFiles(str(base))
    disk = InLoopDisk(record)
    tasks: dict[str, int] = {}

    def prepare(room: Room) -> None:
        def answer(entry: QueueEntry, recipient: Recipient) -> Outcome:
            record.mark(f"delivered {recipient.address}")
            return Outcome(Kind.DELIVERED)

        room.local.answer = answer

    for round_ in range(2):
        async with running(base, disk, prepare=prepare, segment_size=1 << 16) as room:
            for number in range(4):
                name = f"{round_}{number}@here.example"
                large = number == 1
                content = b"Date: x\n\n" + name.encode() + (b"L" * 140_000 if large else b"s" * 100)
                tasks[name] = await room.send(name, text=content)
                record.mark(f"accepted {name} {tasks[name]}")
                if number % 2:
                    await quiet()
    count = 0
    for length, left in crashes(record.log, each=1):
        told = [operation.path.split() for operation in record.log[:length] if operation.kind == "mark"]
        if length % 3 and length < len(record.log) - 20:
            continue
        count += 1
        into = tmp_path / f"c{count}"
        into.mkdir()
        replay(left, str(into))
        async with running(into, segment_size=1 << 16) as room:
            await quiet(2)
            got = {address: content for address, content in room.local.delivered}
            for _, content in room.local.delivered:
                assert content.startswith(b"Date: x\n\n") and len(content) in (124, 140_024)
            for words in told:
                if words[0] == "accepted":
                    assert words[1] in got or ["delivered", words[1]] in told, (length, words)
            assert not room.spool.live
            highest = max((int(words[2]) for words in told if words[0] == "accepted"), default=0)
            assert await room.send("new@here.example") > highest
            assert not os.listdir(into / "BadFiles")
        shutil.rmtree(into)
    assert count > 100


ADDRESS = st.text(st.characters(exclude_categories=()), min_size=1, max_size=20).filter(
    lambda text: all(not 0xD800 <= ord(c) <= 0xDC7F and not 0xDD00 <= ord(c) <= 0xDFFF for c in text)
)


@given(st.lists(ADDRESS, min_size=1, max_size=4), ADDRESS, st.sampled_from(["", "SF", "N"]))
@settings(max_examples=60, deadline=None)
def test_heads_survive_the_file(addresses: list[str], sender: str, notify: str) -> None:
    # A lone surrogate escape next to others may form a character; what comes back is the same octets.
    def octets(text: str) -> bytes:
        return text.encode("utf-8", "surrogateescape")

    recipients = [Recipient(index, address, notify) for index, address in enumerate(addresses)]
    message = QueuedMessage(1, sender, Source("SMTP"), recipients, 1.5)
    data, marks = render_head(message)
    head = parse_head(data + b"body\n\n")
    assert head.length == len(data)
    assert head.marks == marks
    assert octets(head.sender) == octets(sender)
    assert [octets(envelope.address) for envelope, _ in head.recipients] == [octets(a) for a in addresses]
    assert all(data[mark : mark + 1] == b"w" for mark in marks)
    patched = bytearray(data)
    patched[marks[0]] = ord("d")
    assert parse_head(bytes(patched)).recipients[0][1] is True
    crlf = data.replace(b"\n", b"\r\n")
    assert [octets(envelope.address) for envelope, _ in parse_head(crlf).recipients] == [octets(a) for a in addresses]


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_octets_are_a_head_or_an_error(data: bytes) -> None:
    try:
        parse_head(data)
    except HeadError:
        pass


@pytest.mark.parametrize("orderly", [True, False])
async def test_contents_need_no_memory_and_no_file(tmp_path: Path, autojump_clock: MockClock, orderly: bool) -> None:
    """What does not fit into memory is read from the journal, also after a restart."""

    def text(number: int) -> bytes:
        return b"Date: x\n\n" + b"%x" % number * 3000

    def small(room: Room) -> None:
        hold(room)
        room.spool._cache = lambda: 10_000

    async with running(tmp_path, orderly=orderly, prepare=small) as room:
        numbers = [await room.send(f"{number}@out.example", text=text(number)) for number in range(12)]
        await quiet()
        assert sum(room.find(number).held is not None for number in numbers) == 3 and files(tmp_path) == []
        assert [await room.find(number).content() for number in numbers] == [text(number) for number in range(12)]
        assert await room.find(numbers[0]).head(20) == text(0)[:20]
        assert [piece async for piece in room.find(numbers[1]).chunks()] == [text(1)]
        assert await room.find(numbers[2]).file()
    async with running(tmp_path, prepare=small) as room:
        await quiet()
        assert [await room.find(number).content() for number in numbers] == [text(number) for number in range(12)]
        await quiet(40)
        assert len(files(tmp_path)) == 12 and all(room.find(number).held is None for number in numbers)
        room.queues.release("SMTP", "out.example")
        await quiet()
        assert sorted(room.smtp.delivered) == sorted((f"{number}@out.example", text(number)) for number in range(12))
