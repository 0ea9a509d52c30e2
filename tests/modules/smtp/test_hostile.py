"""Clients that mean harm, or do not know what they do: they get nowhere, and the next one is served."""

from __future__ import annotations

import random
import re

import pytest
import trio
import trio.testing

from appliance.kernel.channel import ChannelClosed, ChannelError
from appliance.router.route import Purpose, Refused
from tests.modules.smtp.conftest import Peer, World

TEXT = b"Subject: x\r\n\r\nx\r\n"
#: What probes for open relays try, with a stranger as the sender.
PROBES = (
    "x@victim.test",
    '"x@victim.test"',
    '"x%victim.test"',
    "x%victim.test@box.test",
    "x%victim.test@[127.0.0.1]",
    "victim.test!x",
    "victim.test!x@box.test",
    "box.test!victim.test!x",
    "@box.test:x@victim.test",
    "@box.test,@victim.test:x@victim.test",
    '"x@victim.test"@box.test',
    "x@victim.test@box.test",
    "x%victim.test%box.test@box.test",
    "x@[198.51.100.1]",
    "x@[IPv6:2001:db8::1]",
    "x@victim.test.smtp",
    "x%victim.test@relay.test.smtp",
    "x@198.51.100.1.25.smtp",
    "x@VICTIM.TEST.",
    "ann%box.test@victim.test",
    "x@b\u00fccher.test",
    "wakeup@victim.test",
    "x@victim.test%",
    "x@.victim.test",
)


async def survives(world: World) -> None:
    """Somebody else is served as before."""
    peer = await world.connect("203.0.113.77")
    assert (await peer.message(TEXT)).startswith("250")


@pytest.mark.feature("SMTP-050", "PROT-006", "STD-043")
@pytest.mark.parametrize("sender", ["joe@far.test", "ann@box.test", ""])
async def test_open_relay_probes(world: World, sender: str) -> None:
    await world.set(UnknownRcptLimit="1000", ErrorLimit="1000")
    await world.protect(ErrorDelay="0", HarvestLimit="unlimited")
    peer = await world.connect()
    await peer.say(f"MAIL FROM:<{sender}>")
    for probe in PROBES:
        reply = await peer.say(f"RCPT TO:<{probe}>")
        assert reply[:1] in "45", f"{probe}: {reply}"
    assert (await peer.say("DATA")).startswith("503")
    assert not world.messages


@pytest.mark.feature("STD-042")
@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\n\n.\r\n", b"\r\n\x00.\r\n"]
)
async def test_smuggled_messages_are_text(world: World, end: bytes) -> None:
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>", "DATA")
    inner = b"MAIL FROM:<ann@box.test>\r\nRCPT TO:<bob@box.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
    await peer.channel.send(b"Subject: outer\r\n\r\nx" + end + inner + b"\r\n.\r\n")
    assert (await peer.reply()).startswith("55"), "one message, and it is refused"
    assert (await peer.say("NOOP")).startswith("250")
    assert not world.messages
    await survives(world)


async def test_lines_that_are_made_whole_smuggle_nothing(world: World) -> None:
    await world.set(BareLineEnds="correct")
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>", "DATA")
    await peer.channel.send(b"Subject: x\r\n\r\nx\n.\nMAIL FROM:<ann@box.test>\r\n.\r\n")
    assert (await peer.reply()).startswith("250")
    assert (await world.content()).endswith(b"\nMAIL FROM:<ann@box.test>\n")
    assert len(world.messages) == 1


async def test_a_flood_of_commands_is_served_in_turn_and_ended(world: World) -> None:
    peer = await world.connect()
    ended = False
    async with trio.open_nursery() as nursery:

        async def flood() -> None:
            try:
                for _ in range(200):
                    await peer.channel.send(b"NOOP\r\n" * 1000)
            except ChannelError:
                pass

        nursery.start_soon(flood)
        try:
            while not ended:
                ended = (await peer.reply()).startswith("421")
        finally:
            peer.channel.close()
    assert ended
    await survives(world)


async def test_clients_and_busy_sessions_may_say_what_they_like(world: World) -> None:
    client = await world.connect("192.0.2.1", client=True)
    for _ in range(400):
        assert (await client.say("NOOP")).startswith("250")
    peer = await world.connect()
    for _ in range(5):
        for _ in range(60):
            assert (await peer.say("RSET")).startswith("250")
        assert (await peer.message(TEXT)).startswith("250")


async def test_rubbish_ends_the_session(world: World, autojump_clock: trio.testing.MockClock) -> None:
    peer = await world.connect()
    await peer.channel.send(random.Random(1).randbytes(60_000))
    codes = set()
    try:
        while True:
            codes.add((await peer.reply())[:3])
    except (EOFError, ChannelClosed):
        pass
    assert codes <= {"500", "421"}
    await survives(world)


async def test_a_web_page_that_posts_mail(world: World) -> None:
    peer = await world.connect(ehlo=False)
    await peer.channel.send(
        b"POST / HTTP/1.1\r\nHost: box.test:25\r\n\r\nEHLO x\r\nMAIL FROM:<a@far.test>\r\nRCPT TO:<ann@box.test>\r\nDATA\r\n"
    )
    assert (await peer.reply()).startswith("421")
    assert await peer.is_closed()


@pytest.mark.feature("PROT-130", "SMTP-019")
@pytest.mark.parametrize("chunks", [False, True])
async def test_a_header_line_of_ten_megabytes(world: World, chunks: bool) -> None:
    await world.set(SizeLimit="20M")
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>")
    size = 10 << 20
    if chunks:
        await peer.send(f"BDAT {size + 11} LAST")
    else:
        await peer.say("DATA")
    await peer.channel.send(b"Subject: ")
    for _ in range(size >> 16):
        await peer.channel.send(b"x" * 65536)
        assert sum(map(world.size_of, world.files())) < 4 << 20
    await peer.channel.send(b"\r\n" if chunks else b"\r\n\r\n.\r\n")
    assert (await peer.reply()).startswith("554 5.6.0")
    assert not world.messages and not world.files()
    await survives(world)


async def test_a_stall_in_a_chunk_ends_with_time(world: World, autojump_clock: trio.testing.MockClock) -> None:
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>")
    peer.channel.timeout = 3600
    await peer.send("BDAT 1000", "only this")
    start = trio.current_time()
    assert (await peer.reply()).startswith("421 4.4.2")
    assert trio.current_time() - start == pytest.approx(600)
    assert not world.messages and not world.files()
    liar = await world.connect()
    liar.channel.timeout = 3600
    await liar.send("BDAT 999999999999999999 LAST", "QUIT")
    assert (await liar.reply()).startswith("421")


WORDS = (
    *("EHLO pc.test", "HELO x", "RSET", "NOOP", "QUIT now", "HELP", "VRFY x", "STARTTLS", "AUTH PLAIN", "AUTH LOGIN x"),
    *(
        "MAIL FROM:<joe@far.test>",
        "MAIL FROM:<>",
        "MAIL FROM:<joe@far.test> SIZE=99999999999",
        "mail from:joe@far.test",
    ),
    *("RCPT TO:<ann@box.test>", "RCPT TO:<bob@box.test> NOTIFY=NEVER", "RCPT TO:<x@victim.test>", "RCPT TO:<ann>"),
    *(
        "DATA",
        "BDAT 5",
        "BDAT 0",
        "BDAT 3 LAST",
        "BDAT 12\r\nSubject: x\r\n",
        "BDAT 7 LAST\r\na\r\n.\r\n\r",
        "ETRN x.test",
    ),
    *(
        ".",
        "..",
        "Subject: x",
        "",
        "*",
        "ATRN x.test,y.test",
        "TURN",
        "\x00\x01",
        "MAIL FROM:<" + "a" * 600 + "@b.test>",
    ),
)


@pytest.mark.parametrize("seed", range(12))
async def test_any_dialogue_gets_good_replies(world: World, autojump_clock: trio.testing.MockClock, seed: int) -> None:
    """Commands in any order and any pieces: each reply is well-formed, and nothing breaks inside."""
    rule = random.Random(seed)
    await world.set(ErrorLimit="10000", UnknownRcptLimit="10000", ClearAuth="everybody")
    await world.protect(ErrorDelay="0", HarvestLimit="unlimited")
    for _ in range(6):
        peer = await world.connect(ehlo=rule.random() < 0.7)
        data = b"".join(rule.choice(WORDS).encode() + rule.choice((b"\r\n", b"\r\n", b"\n")) for _ in range(40))
        replies: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, peer, replies)
            try:
                while data:
                    cut = rule.choice((1, 7, 100, 4000))
                    await peer.channel.send(data[:cut])
                    data = data[cut:]
                    await trio.sleep(0.01)
            except ChannelError:
                pass
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert all(re.fullmatch(r"([2-5][0-9][0-9][ -][^\r\n]*\n?)+", reply) for reply in replies), replies
        peer.channel.close()
    for message in world.messages:
        assert all("victim" not in one.address for one in message.recipients)
        assert b"Received: from " in await world.content(message)
    await survives(world)


async def _listen(peer: Peer, replies: list[str]) -> None:
    try:
        while True:
            replies.append(await peer.reply())
    except (EOFError, ChannelError):
        pass


PARTS: tuple[str, ...] = (
    "a",
    "ann",
    "box.test",
    "@",
    "%",
    "!",
    "<",
    ">",
    ",",
    ":",
    '"',
    "\\",
    ".",
    "..",
    "[",
    "]",
    "127.0.0.1",
    "smtp",
)
PARTS += (
    "\u00e9",
    "\ud83d",
    " ",
    "\t",
    "*",
    "=",
    "null",
    "error",
    "spamtrap",
    "all",
    "#",
    "-wakeup",
    "IPv6:::1",
    "x" * 70,
)


@pytest.mark.feature("SMTP-020")
async def test_any_address_is_routed_or_refused(world: World) -> None:
    rule = random.Random(7)
    for _ in range(3000):
        text = "".join(rule.choice(PARTS) for _ in range(rule.randint(1, 9)))
        for purpose in (Purpose.MAIL, Purpose.RETURN_PATH):
            try:
                route = await world.router.route(text, purpose)
            except Refused:
                continue
            assert route.module in ("LOCAL", "SMTP", "LIST", "PIPE", "SYSTEM"), text
