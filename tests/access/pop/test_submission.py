"""XTND XMIT."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.access.pop.submission import recipients
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.journal import Journal
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.transfer.message import Envelope, Source
from appliance.transfer.receiver import NoSpace, TooLarge
from appliance.transfer.receiver import Receiver as TheReceiver
from appliance.transfer.settings import QUEUE
from appliance.transfer.spool import Spool

if TYPE_CHECKING:
    from tests.access.pop.conftest import Client, Post


class Taken:
    """A message as the receiver got it."""

    def __init__(self, box: Receiver, source: Source) -> None:
        self.box = box
        self.source = source
        self.sender = ""
        self.recipients: list[str] = []
        self.content = b""

    def add(self, recipient: Envelope) -> None:
        self.recipients.append(recipient.address)

    async def write(self, store_form: bytes) -> None:
        self.content += store_form
        if len(self.content) > self.box.limit:
            raise TooLarge("the message is too large")

    async def submit(self) -> int:
        self.box.messages.append(self)
        return len(self.box.messages)

    async def abandon(self) -> None:
        self.box.abandoned += 1


class Receiver:
    def __init__(self) -> None:
        self.messages: list[Taken] = []
        self.limit = 1_000_000
        self.abandoned = 0
        self.full = False

    def begin(self, source: Source) -> Taken:
        if self.full:
            raise NoSpace
        return Taken(self, source)


@pytest.fixture
def receiver(post: Post) -> Receiver:

    found = Receiver()
    post.around = dataclasses.replace(post.around, receiver=found)
    return found


MESSAGE = (
    b"From: jim@example.com\r\nTo: Anna <anna@far.example>, bert\r\nCC: anna@far.example\r\n"
    b'Bcc: "secret one" <s@far.example>,\r\n other@far.example\r\nSubject: x\r\n\r\nhello\r\n..dot\r\n'
)


async def send(client: Client, message: bytes = MESSAGE) -> str:
    assert (await client.say("XTND XMIT")).startswith("+OK")
    return await client.say(message + b".")


async def test_a_message_is_submitted(post: Post, receiver: Receiver) -> None:
    async with post.client("192.0.2.9", external=True) as client:
        await client.line()
        await client.log_in()
        assert (await send(client)).startswith("+OK")
        assert (await client.say("STAT")).startswith("+OK")
    (message,) = receiver.messages
    assert message.sender == "jim@example.com"
    assert message.recipients == ["anna@far.example", "bert@example.com", "s@far.example", "other@far.example"]
    assert b"secret one" not in message.content
    assert b"\r" not in message.content
    assert message.content.endswith(b"Subject: x\n\nhello\n.dot\n")
    assert message.source == Source("POP", "192.0.2.9", "127.0.0.1", "jim@example.com", True, False)


async def test_refused_messages_leave_the_session_alive(post: Post, receiver: Receiver) -> None:
    async with post.logged_in() as client:
        assert (await send(client, b"Subject: to nobody\r\n\r\nx\r\n")).startswith("-ERR")
        receiver.limit = 50
        assert await send(client, MESSAGE + b"x" * 100_000 + b"\r\n") == "-ERR [SYS/PERM] the message is too large"
        receiver.full = True
        assert (await send(client)).startswith("-ERR [SYS/TEMP]")
        assert (await client.say("STAT")).startswith("+OK")
    assert not receiver.messages


async def test_a_message_that_breaks_off_is_none(post: Post, receiver: Receiver) -> None:
    async with post.logged_in() as client:
        assert (await client.say("XTND XMIT")).startswith("+OK")
        await client.channel.send(MESSAGE)
        await client.channel.send_eof()
        assert await client.closed()
    assert not receiver.messages
    assert receiver.abandoned == 1


async def test_without_a_receiver_nothing_is_taken(post: Post) -> None:
    async with post.logged_in() as client:
        assert (await client.say("XTND XMIT")).startswith("-ERR")


def test_recipients_of_odd_headers() -> None:
    assert recipients(b"To: \n\n", "x") == []
    assert recipients(b"to: undisclosed:;\nCc: a@b (c), <d@[1.2.3.4]>\n\n", "x") == ["a@b", "d@[1.2.3.4]"]
    assert recipients(b'To: "a b"@c\n\n', "x") == ['"a b"@c']


@pytest.mark.feature("POP-052", "STD-071")
async def test_the_message_is_in_the_queue_when_the_reply_comes(post: Post, tmp_path: Path) -> None:
    disk, clock = InLoopDisk(), TrioClock()
    journal = await Journal.open(disk, str(tmp_path), segment_size=1 << 20)
    log = post.log.source("QUEUE")
    spool = Spool(disk, journal, str(tmp_path), clock, log)
    queue = TheReceiver(spool, Settings(QUEUE, MemoryStorage()), clock, log)
    post.around = dataclasses.replace(post.around, receiver=queue)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        async for _ in journal.replay():
            pass
        async with post.client("192.0.2.9", external=True) as client:
            await client.line()
            await client.log_in()
            assert (await send(client)).startswith("+OK")
            (message,) = spool.live.values()
        assert message.recipients[0].address == "anna@far.example"
        assert message.sender == "jim@example.com"
        assert message.source.trusted
        content = await message.content()
        assert b"Message-ID: <" in content
        assert b"Date: " in content
        assert b"\nBcc:" not in content
        nursery.cancel_scope.cancel()
