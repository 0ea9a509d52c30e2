"""One message on its way in: any cut of the stream, any size, any trouble."""

from __future__ import annotations

import tracemalloc

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.data import Value
from appliance.kernel.log import MemoryLog
from appliance.modules.rpop.collecting import Incoming, NotNow, Unwanted
from appliance.modules.rpop.distribution import Distribution
from appliance.modules.rpop.records import read
from appliance.transfer.message import Source
from tests.modules.house import House
from tests.modules.rpop.acts import Router

RECORD: dict[str, Value] = {"authName": "a", "domain": "b.test", "special": "X-Real-To"}
WIRE = (
    b"Return-Path: <zoe@far.test>\r\nX-Real-To: alice,\r\n carol@office.test\r\nTo: dave@branch.test\r\nDate: x\r\n"
    b"Message-ID: <1@x>\r\n\r\nbody\r\n\r\nmore\r\n"
)


def incoming(office: House, account: str = "") -> Incoming:
    distribution = Distribution(office.router, office.domains.find_account, lambda: office.domains.main.name)
    return Incoming(
        office.transfer.receiver,
        distribution,
        Source("RPOP", "10.0.0.1"),
        read(RECORD, unified=True),
        office.domains.find_account(account) if account else None,
        lambda: b"Received: from us\n",
        office.log.source("RPOP"),
    )


async def test_every_cut_gives_the_same_message(office: House) -> None:
    for at in range(0, len(WIRE), 3):
        one = incoming(office)
        await one.take(WIRE[:at])
        await one.take(WIRE[at:])
        number = await one.finish(lambda number: None)
        message = office.transfer.spool.live.get(number)
        if message is None:
            continue
        assert message.sender == "zoe@far.test"
        assert [(r.address, r.notify) for r in message.recipients] == [
            ("alice@office.test", "F"),
            ("carol@office.test", "F"),
        ]
        content = await message.content()
        assert content == (b"Received: from us\nTo: dave@branch.test\nDate: x\nMessage-ID: <1@x>\n\nbody\n\nmore\n")


async def test_a_large_message_takes_little_memory(office: House) -> None:
    one = incoming(office, "alice@office.test")
    piece = b"x" * 70 + b"\r\n"
    tracemalloc.start()
    try:
        await one.take(WIRE)
        for _ in range(100):
            await one.take(piece * 1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert await one.finish(lambda number: None)
    assert peak < 3_000_000


@pytest.mark.parametrize(
    "text", [b"X: " + b"y" * 2_000_000, b"X: y\r\n" * 300_000 + b"\r\nbody", b"a: " + b"b" * 110_000 + b"\r\n\r\n"]
)
async def test_a_header_without_measure_is_not_wanted(office: House, text: bytes) -> None:
    one = incoming(office)
    for start in range(0, len(text), 65536):
        await one.take(text[start : start + 65536])
    with pytest.raises(Unwanted):
        await one.finish(lambda number: None)
    await one.abandon()
    assert not office.transfer.spool.live


@given(st.lists(st.binary(max_size=60), max_size=6))
@settings(max_examples=60, deadline=None)
def test_nothing_that_comes_breaks_it(pieces: list[bytes]) -> None:
    class Submission:
        sender, smtputf8 = "", False

        def __init__(self) -> None:
            self.data = b""

        def add(self, recipient: object) -> None: ...

        async def write(self, data: bytes) -> None:
            self.data += data

        async def submit(self) -> int:
            return 1

        async def abandon(self) -> None: ...

    class Receiver:
        def __init__(self) -> None:
            self.made = Submission()

        def begin(self, source: Source) -> Submission:
            return self.made

    receiver = Receiver()

    async def run() -> None:
        distribution = Distribution(Router(), lambda name: None, lambda: "box.test")
        one = Incoming(
            receiver,  # type: ignore[arg-type]
            distribution,
            Source("RPOP"),
            read({**RECORD, "special": ""}, unified=True),
            None,
            lambda: b"",
            MemoryLog().source("RPOP"),
        )
        for piece in pieces:
            await one.take(piece)
        try:
            await one.finish(lambda number: None)
        except (Unwanted, NotNow):
            return
        whole = b"".join(pieces).replace(b"\r\n", b"\n")
        if b"eturn-" not in whole.lower():
            assert receiver.made.data == whole

    trio.run(run)
