from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from appliance.kernel.operations import Caller, Denied, OperationError, Operations, Right
from appliance.kernel.statistics import Statistics

from .conftest import Room

ME = "me@here.example"


class Rights:
    """Who may do what."""

    def __init__(self, *rights: str) -> None:
        self.held = frozenset(rights)

    def rights(self, account: str) -> frozenset[str]:
        return self.held

    def domain_name(self, name: str) -> str | None:
        return name

    def administers(self, domain: str, other: str) -> bool:
        return False


def caller(*rights: str) -> Caller:
    return Caller("op@here.example", "here.example", "CLI", Rights(*rights))


OPERATOR = caller(Right.MONITOR, Right.RELEASE_QUEUES, Right.REJECT_QUEUES)


async def quiet(seconds: float = 1) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


async def ask(room: Room, name: str, /, by: Caller = OPERATOR, **arguments: str) -> Any:
    operations = Operations()
    room.declare(operations)
    return await operations.perform(by, name, arguments)


@pytest.mark.feature("QUEUE-120", "QUEUE-122")
async def test_the_queue_and_one_message_can_be_looked_at(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.add("out.example")
    number = await room.send("a@out.example", "ann@here.example", sender=ME)
    await quiet()
    found = await ask(room, "ListQueuedMessages")
    assert found["Total"] == "1"
    (one,) = found["Messages"]
    assert (one["ID"], one["Sender"], one["Size"], one["Recipients"]) == (str(number), ME, "58", ["a@out.example"])
    message = await ask(room, "GetQueuedMessage", messageID=str(number))
    assert message["Header"].startswith("From: me\n") and "text" not in message["Header"]
    states = {r["Address"]: r["State"] for r in message["Recipients"]}
    assert states == {"a@out.example": "waiting", "ann@here.example": "delivered"}
    for wrong in ("999", "x"):
        with pytest.raises(OperationError, match="no such message"):
            await ask(room, "GetQueuedMessage", messageID=wrong)


@pytest.mark.feature("QUEUE-121")
async def test_a_thousand_items_and_no_more(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.add("out.example")
    for _ in range(1100):
        await room.send("a@out.example")
    await quiet()
    found = await ask(room, "ListQueuedMessages")
    assert found["Total"] == "1100" and len(found["Messages"]) == 1000
    assert len(await ask(room, "ListQueueMessages", module="SMTP", host="out.example")) == 1000


@pytest.mark.feature("QUEUE-123")
async def test_a_message_is_rejected_in_all_its_queues(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.update({"a.example", "b.example"})
    number = await room.send("x@a.example", "y@b.example", sender=ME)
    await quiet()
    assert await ask(room, "RejectQueueMessage", messageID=str(number), errorText="not today") == "2"
    await quiet()
    (report,) = room.local.mail(ME)
    assert report.count(b"not today") >= 2
    assert room.queues.all() == []
    assert not room.spool.live


@pytest.mark.feature("QUEUE-124")
async def test_queues_are_listed_released_and_rejected(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.update({"a.example", "b.example"})
    room.smtp.before = lambda queue: queue.delay(3600, "down") if queue.host == "c.example" else None
    room.local.limit = 0
    for host in ("a.example", "b.example", "b.example", "c.example", "here.example"):
        await room.send(f"x@{host}", sender=ME)
    await quiet()
    found = {q["Host"]: (q["Module"], q["Messages"], q["State"]) for q in await ask(room, "ListQueues")}
    assert found == {
        "a.example": ("SMTP", "1", "held"),
        "b.example": ("SMTP", "2", "held"),
        "c.example": ("SMTP", "1", "delayed"),
        "x@here.example": ("LOCAL", "1", "waiting"),
    }
    assert len(await ask(room, "ListQueues", module="local")) == 1
    await ask(room, "ReleaseQueue", module="smtp", host="a.example")
    await quiet()
    assert room.smtp.people == ["x@a.example"]
    assert await ask(room, "RejectQueue", module="SMTP", host="b.example", errorText="moved away") == "2"
    room.local.limit = 5
    room.queues.reconsider()
    await quiet()
    assert sum(b"moved away" in mail for mail in room.local.mail(ME)) == 2
    with pytest.raises(OperationError, match="no such queue"):
        await ask(room, "ReleaseQueue", module="SMTP", host="nowhere.example")


@pytest.mark.feature("CLI-219", "DIAL-046", "DIAL-043")
async def test_release_smtp_queue(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.add("client.example")
    await room.send("x@client.example")
    await quiet(86400)
    assert room.smtp.calls == []
    await ask(room, "RELEASESMTPQUEUE", by=caller(Right.MONITOR), queueName="client.example")
    await quiet()
    assert room.smtp.people == ["x@client.example"]


async def test_rights(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.add("a.example")
    number = await room.send("x@a.example")
    await quiet()
    for name, arguments in (
        ("ListQueues", {}),
        ("ListQueuedMessages", {}),
        ("GetQueuedMessage", {"messageID": str(number)}),
        ("ReleaseSMTPQueue", {"queueName": "a.example"}),
    ):
        with pytest.raises(Denied):
            await ask(room, name, by=caller(Right.SETTINGS), **arguments)
        await ask(room, name, by=caller(Right.MONITOR), **arguments)
    for name, arguments in (
        ("ReleaseQueue", {"module": "SMTP", "host": "a.example"}),
        ("RejectQueue", {"module": "SMTP", "host": "a.example"}),
        ("RejectQueueMessage", {"messageID": str(number)}),
    ):
        with pytest.raises(Denied):
            await ask(room, name, by=caller(Right.MONITOR), **arguments)


async def test_numbers_for_monitors(room: Room, autojump_clock: MockClock) -> None:
    statistics = Statistics()
    room.count(statistics)
    room.smtp.held.add("a.example")
    await room.send("x@a.example")
    await quiet()
    values = statistics.snapshot()
    assert (values["numQueuedMessages"], values["numMessageQueues"], values["numAcceptedMessages"]) == (1, 1, 1)
