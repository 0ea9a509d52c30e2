from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from appliance.kernel.disk import InLoopDisk
from appliance.router.route import Route
from appliance.transfer.enqueuer import Verdict
from appliance.transfer.message import Envelope, Kind, Outcome, QueuedMessage, Recipient, Source, Stored
from appliance.transfer.queues import ModuleQueue, QueueEntry

from .conftest import Room, running


async def quiet() -> None:
    await trio.sleep(1)
    await trio.testing.wait_all_tasks_blocked()


def files(base: Path) -> list[str]:
    return sorted(name for name in os.listdir(base / "Queue") if not name.endswith(".jnl"))


@pytest.mark.feature("QUEUE-011", "QUEUE-012", "QUEUE-013", "QUEUE-050", "QUEUE-052")
async def test_one_message_to_recipients_of_all_kinds(room: Room, autojump_clock: MockClock) -> None:
    room.local.pause = 10
    number = await room.send("ann@here.example", "bob@out.example", "cid@out.example", "null")
    await quiet()
    assert sorted((q.module, q.host, len(q)) for q in room.queues.all()) == [("LOCAL", "ann@here.example", 1)]
    assert [m.id for m in room.spool.live.values()] == [number]
    assert room.smtp.people == ["bob@out.example", "cid@out.example"]
    assert room.smtp.calls == ["out.example"]
    assert room.router.asked == ["ann@here.example", "bob@out.example", "cid@out.example", "null"]
    await trio.sleep(20)
    assert room.local.people == ["ann@here.example"]
    assert not room.spool.live


@pytest.mark.feature("QUEUE-103")
async def test_when_all_is_done_nothing_is_left(room: Room, autojump_clock: MockClock, tmp_path: Path) -> None:
    await room.send("ann@here.example", text=b"Date: x\n\n" + b"y" * 200_000)
    assert len(files(tmp_path)) == 1
    await quiet()
    assert files(tmp_path) == []
    assert not room.spool.live
    assert room.queues.all() == []


@pytest.mark.feature("QUEUE-054")
async def test_refused_recipients_fail_and_the_others_go_on(room: Room, autojump_clock: MockClock) -> None:
    await room.send("bad@here.example", "ann@here.example", sender="me@here.example")
    await quiet()
    assert room.local.people == ["ann@here.example", "me@here.example"]
    assert b"unknown account" in room.local.mail("me@here.example")[0]


async def test_a_route_that_is_not_known_yet_is_asked_for_again(room: Room, autojump_clock: MockClock) -> None:
    await room.send("later@here.example", "ann@here.example")
    await quiet()
    assert room.local.people == ["ann@here.example"]
    room.router.later = False
    await trio.sleep(200)
    assert room.local.people == ["ann@here.example", "later@here.example"]


async def test_a_route_that_stays_unknown_fails_after_days(room: Room, autojump_clock: MockClock) -> None:
    await room.send("later@here.example", sender="me@here.example")
    await trio.sleep(5 * 86400)
    assert b"directory is not available" in room.local.mail("me@here.example")[0]
    assert not room.spool.live


@pytest.mark.feature("QUEUE-051", "QUEUE-056")
async def test_server_rules_decide_once_after_routing_and_before_modules(room: Room, autojump_clock: MockClock) -> None:
    seen: list[tuple[str, int, int]] = []

    async def rules(message: QueuedMessage) -> Verdict:
        seen.append((message.sender, len(room.router.asked), len(room.smtp.calls)))
        if message.sender == "spam@x.example":
            return Verdict("discard")
        if message.sender == "no@here.example":
            return Verdict("reject", "we do not want this")
        return Verdict(added_header=b"X-Checked: yes\n")

    room.enqueuer.rules = rules
    await room.send("bob@out.example", "ann@here.example", sender="spam@x.example")
    await quiet()
    assert seen == [("spam@x.example", 2, 0)]
    assert room.smtp.calls == [] and room.local.calls == []
    assert "ENQUEUERRULES [1] discarded" in room.log.text()
    await room.send("bob@out.example", "ann@here.example")
    await quiet()
    assert room.smtp.mail("bob@out.example")[0].startswith(b"X-Checked: yes\nFrom: me")
    assert room.local.mail("ann@here.example")[0].startswith(b"X-Checked: yes\nFrom: me")
    room.enqueuer.rules = None
    await room.send("no@here.example", sender="")
    room.enqueuer.rules = rules
    await room.send("ann@here.example", sender="no@here.example")
    room.enqueuer.rules = rules
    await quiet()
    assert any(b"we do not want this" in mail for mail in room.local.mail("no@here.example"))


@pytest.mark.feature("QUEUE-053")
async def test_a_slow_rule_on_one_message_does_not_stop_others(room: Room, autojump_clock: MockClock) -> None:
    async def rules(message: QueuedMessage) -> Verdict:
        if message.sender == "slow@x.example":
            await trio.sleep(1000)
        return Verdict()

    room.enqueuer.rules = rules
    await room.settings.update({"EnqueuerProcessors": "3"})
    await room.send("ann@here.example", sender="slow@x.example")
    await room.send("bob@here.example")
    await quiet()
    assert room.local.people == ["bob@here.example"]
    await room.settings.update({"EnqueuerProcessors": "1"})
    await trio.sleep(1000)
    assert room.local.people == ["ann@here.example", "bob@here.example"]
    for name in ("c", "d"):
        await room.send(f"{name}@here.example")
    await quiet()
    assert len(room.local.people) == 4


@pytest.mark.feature("QUEUE-070", "QUEUE-074")
async def test_a_module_delays_a_whole_queue_and_the_delay_outlives_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def down(queue: ModuleQueue) -> None:
        if queue.host == "down.example":
            queue.delay(1800, "no route to host")

    async with running(tmp_path) as room:
        room.smtp.before = down
        await room.send("a@down.example", "b@up.example")
        await room.send("c@down.example")
        await quiet()
        assert room.smtp.people == ["b@up.example"]
        assert room.smtp.calls.count("down.example") == 1
        queue = room.queues.get("SMTP", "down.example")
        assert queue is not None and len(queue) == 2 and queue.reason == "no route to host"
        end = queue.until
    async with running(tmp_path, prepare=lambda room: setattr(room.clock, "_epoch", end - 900)) as room:
        await quiet()
        assert room.smtp.calls == []
        await trio.sleep(880)
        assert room.smtp.calls == []
        await trio.sleep(30)
        assert room.smtp.people == ["a@down.example", "c@down.example"]


@pytest.mark.feature("QUEUE-071", "QUEUE-072", "QUEUE-073")
async def test_a_module_delays_a_message_or_a_recipient(room: Room, autojump_clock: MockClock) -> None:
    tries: list[tuple[str, float]] = []
    start = trio.current_time()

    def answer(entry: QueueEntry, recipient: Recipient) -> Outcome | None:
        tries.append((recipient.address, round(trio.current_time() - start)))
        if recipient.address == "grey@out.example" and recipient.attempts < 2:
            entry.delay(recipient, 600, "try later")
            return None
        if entry.message.sender == "slow@x.example" and recipient.attempts == 0:
            entry.delay(None, 300, "not now")
            return None
        return Outcome(Kind.RELAYED, "2.0.0")

    room.smtp.answer = answer
    await room.send("grey@out.example", "ann@out.example")
    await room.send("bob@out.example", "cid@out.example", sender="slow@x.example")
    await room.send("dan@out.example")
    await quiet()
    assert room.smtp.people == ["ann@out.example", "dan@out.example"]
    await trio.sleep(2000)
    assert len(room.smtp.people) == 5
    assert [when for who, when in tries if who == "grey@out.example"] == [0, 600, 1200]
    assert [when for who, when in tries if who == "cid@out.example"] == [300]
    assert [when for who, when in tries if who == "bob@out.example"] == [0, 300]


async def test_a_module_that_fails_or_forgets_does_not_spin(room: Room, autojump_clock: MockClock) -> None:
    def broken(queue: ModuleQueue) -> None:
        if queue.host == "broken.example":
            raise RuntimeError("a bug")

    room.smtp.before = broken
    room.smtp.answer = lambda entry, recipient: None
    await room.send("a@broken.example", "b@forgets.example")
    await trio.sleep(1000)
    assert 5 < room.smtp.calls.count("broken.example") < 12
    assert 10 < room.smtp.calls.count("forgets.example") < 20
    assert "a bug" in room.log.text()


async def test_limits_of_tasks(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.limit, room.smtp.pause = 3, 5
    for host in range(10):
        await room.send(f"a@host{host}.example")
    await trio.sleep(100)
    assert room.smtp.most == 3
    assert len(room.smtp.people) == 10
    room.smtp.many, room.smtp.most = 2, 0
    for number in range(20):
        await room.send(f"a{number}@one.example")
    await trio.sleep(1000)
    assert room.smtp.most == 2
    assert len(room.smtp.people) == 30


@pytest.mark.feature("QUEUE-078")
async def test_held_mail_waits_for_its_release(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.add("client.example")
    await room.send("a@client.example")
    await room.send("b@client.example")
    await trio.sleep(86400)
    assert room.smtp.calls == []
    assert not room.queues.release("SMTP", "other.example")
    assert room.queues.release("SMTP", "client.example")
    await quiet()
    assert room.smtp.people == ["a@client.example", "b@client.example"]
    await room.send("c@client.example")
    await trio.sleep(86400)
    assert len(room.smtp.people) == 2
    async with room.queues.session("SMTP", "client.example") as queue:
        assert queue is not None
        async for entry in queue:
            entry.finish(entry.recipients, Outcome(Kind.DELIVERED))
    await quiet()
    assert not room.spool.live


async def test_a_release_ends_all_delays(room: Room, autojump_clock: MockClock) -> None:
    times = 0

    def answer(entry: QueueEntry, recipient: Recipient) -> Outcome | None:
        nonlocal times
        times += 1
        if times == 1:
            entry.delay(recipient, 36000, "later")
            return None
        return Outcome(Kind.DELIVERED)

    room.smtp.answer = answer
    await room.send("a@out.example")
    await quiet()
    assert times == 1
    room.queues.release("SMTP", "out.example")
    await quiet()
    assert times == 2
    assert not room.spool.live


@pytest.mark.feature("QUEUE-077")
async def test_the_keeping_time_ends_also_for_held_mail(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.add("client.example")
    room.smtp.age = 5 * 86400
    await room.send("a@client.example", sender="me@here.example")
    await trio.sleep(4.9 * 86400)
    assert room.local.people == []
    await trio.sleep(0.2 * 86400)
    assert b"delivery time expired" in room.local.mail("me@here.example")[0]
    assert not room.spool.live


async def test_what_an_account_has_stored_stays_until_it_is_safe(room: Room, autojump_clock: MockClock) -> None:
    room.local.answer = lambda entry, recipient: None

    def stores(queue: ModuleQueue) -> None:
        entry = queue.take()
        assert entry is not None
        entry.finish(entry.recipients, Outcome(Kind.DELIVERED), Stored(queue.host, b"uid 1"))
        queue.put_back(entry)

    room.local.before = stores
    number = await room.send("ann@here.example")
    await quiet()
    message = room.find(number)
    assert message.done and message.unsafe is not None and list(message.unsafe) == ["ann@here.example"]
    room.safe("ann@here.example", message.unsafe["ann@here.example"])
    await quiet()
    assert number in room.spool.live
    room.safe("ann@here.example", room.journal.position)
    await quiet()
    assert not room.spool.live


@pytest.mark.feature("QUEUE-129")
async def test_an_address_test_is_offered_outside_and_never_stored(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.answer = lambda entry, recipient: (
        Outcome(Kind.FAILED, "5.1.1", "no such user")
        if entry.message.test and "bad" in recipient.address
        else Outcome(Kind.DELIVERED)
    )
    text = b"X-Special-Delivery: test\nDate: x\n\n"
    await room.send("ann@here.example", "x@out.example", "bad1@out.example", sender="me@here.example", text=text)
    await quiet()
    assert room.local.people == ["me@here.example"]
    report = room.local.mail("me@here.example")[0]
    assert b"bad1@out.example" in report and b"ann@here.example" not in report.split(b"rfc822-headers")[0]


@pytest.mark.feature("QUEUE-128", "QUEUE-057")
async def test_records_of_the_log(room: Room, autojump_clock: MockClock) -> None:
    await room.send("bad@here.example", "ann@here.example", sender="me@there.example")
    await quiet()
    text = room.log.text()
    assert "QUEUE [1] accepted from <me@there.example>" in text
    assert "ENQUEUER [1] ann@here.example -> LOCAL(ann@here.example)ann" in text
    assert "DEQUEUER [1] bad@here.example failed: unknown account" in text
    await room.send("ann@here.example", text=b"A: b\n\n" + b"x" * 140000)
    assert "TEMPFILE" not in room.log.text()
    await room.obscure.update({"LogLevel": "5"})
    await room.send("ann@here.example", text=b"A: b\n\n" + b"x" * 140000)
    assert "TEMPFILE" in room.log.text()


async def test_ten_thousand_messages_of_one_queue(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.add("big.example")
    for _ in range(1000):
        await room.send("a@big.example")
    queue = room.queues.get("SMTP", "big.example")
    await quiet()
    queue = room.queues.get("SMTP", "big.example")
    assert queue is not None and len(queue) == 1000
    room.queues.release("SMTP", "big.example")
    await quiet()
    assert len(room.smtp.delivered) == 1000


async def test_stop_in_the_middle(tmp_path: Path, autojump_clock: MockClock) -> None:
    """QUEUE-058 in small: what is being enqueued when the server stops is there at the next start."""
    disk = InLoopDisk()
    async with running(tmp_path, disk) as room:

        async def rules(message: QueuedMessage) -> Verdict:
            await trio.sleep_forever()
            raise AssertionError

        room.enqueuer.rules = rules
        for number in range(5):
            await room.send(f"a{number}@here.example")
    async with running(tmp_path, disk) as room:
        await quiet()
        assert len(room.local.people) == 5


def test_sources_are_values() -> None:
    assert Source("SMTP", "1.2.3.4") == Source("SMTP", "1.2.3.4")


async def test_a_route_that_came_along_is_not_asked_for_again(room: Room, autojump_clock: MockClock) -> None:
    """Unless something has changed since it was found."""
    room.enqueuer.current = lambda route: route.generation == 2
    for generation in (1, 2):
        route = Route("LOCAL", f"{generation}@here.example", "x", "x", generation=generation)
        await room.submit_text(
            "", [Envelope("x@here.example", route=route), "y@here.example"], b"Date: x\n\n", Source("SMTP")
        )
    await quiet()
    assert room.router.asked == ["x@here.example", "y@here.example", "y@here.example"]
    assert set(room.local.calls) == {"2@here.example", "x@here.example", "y@here.example"}
