"""Whatever comes in at a port of the running server: no program error, and nobody else notices."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from appliance.web import front
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import House

SERVICES = ("SMTP", "submission", "POP", "IMAP", "PWD", "HTTPA")
SECURE = ("SMTPS", "IMAPS", "HTTPS")

RUBBISH = {
    "a line without end": b"A" * 3_000_000,
    "a long line": b"EHLO " + b"x" * 200_000 + b"\r\nNOOP\r\n",
    "many long lines": (b"y" * 5000 + b"\r\n") * 200,
    "zeros": b"\0" * 5000 + b"\r\n" + b"NO\0OP\r\nUSER a\0b\r\n",
    "returns alone": b"NOOP\rNOOP\rNOOP\r" * 100,
    "feeds alone": b"NOOP\nHELP\n\n\n\nEHLO a\n" * 100,
    "unknown commands": b"XYZZY\r\nPLUGH 1 2 3\r\n(\r\n)\r\n{5}\r\n" * 30,
    "eight bits": bytes(range(128, 256)) * 20 + b"\r\n" + "EHLO ÄÖÜ€\r\nUSER ß\r\n".encode(),
    "a handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 500,
    "another protocol": b"GET / HTTP/1.1\r\nHost: x\r\n\r\nUSER ann\r\nPASS\r\na1 LOGIN {99999999999999999999}\r\n",
    "literals": b"a LOGIN {4294967296}\r\na LOGIN {5+}\r\nabcde {3+}\r\nxyz\r\na2 APPEND INBOX {-1}\r\n",
    "numbers": b"RETR 99999999999999999999\r\nTOP -1 -1\r\na FETCH 0:* (FLAGS)\r\nMAIL FROM:<a@b> SIZE=9e99\r\n",
    "brackets": b"MAIL FROM:<" + b"<" * 900 + b"\r\na FETCH " + b"(" * 900 + b"\r\n",
    "quotes": b'a LOGIN "' + b"\\" * 999 + b'\r\nUSER "\r\nGetAccount {' + b"{" * 900 + b"\r\n",
    "nothing": b"",
    "chunks": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n",
    "lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\nContent-Length: 7\r\n\r\nabc\r\n",
    "upgrade": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 300,
    "noise": random.Random(5).randbytes(20_000),
}


@asynccontextmanager
async def undisturbed(house: House) -> AsyncIterator[None]:
    """Sessions that were there before work after, at once, and there is no record of a program error."""
    imap, pop, smtp = await house.imap(), await house.connect("POP"), await house.connect("SMTP")
    yield
    with trio.fail_after(5):
        assert (await imap.imap("NOOP"))[-1].startswith("a OK")
        assert (await pop.ask("CAPA")).startswith("+OK")
        assert (await smtp.smtp("NOOP")).startswith("250")
    log = await house.log()
    assert not house.crashes(log), house.crashes(log)
    assert "Traceback" not in log


async def throw(house: House, service: str, data: bytes, *, half: bool) -> None:
    """Say all that, then close one half or both; what the server answers is read."""
    line = await house.connect(service, greeting=False)

    async def read() -> None:
        try:
            while await line.stream.receive_some(65536):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    with trio.move_on_after(8) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            try:
                await line.stream.send_all(data)
                if half:
                    await line.stream.send_eof()
                else:
                    await trio.sleep(0.05)
                    await line.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                pass
            nursery.cancel_scope.deadline = trio.current_time() + (8 if half else 0)
    assert not (half and scope.cancelled_caught), f"{service} does not end a half-closed connection"
    await line.aclose()


@pytest.mark.parametrize("half", [True, False], ids=["half-closed", "cut off"])
async def test_rubbish_at_every_port(house: House, half: bool) -> None:
    for service in ("SMTP", "POP", "IMAP", "PWD", "HTTPA"):
        await house.update(service, LogLevel="5", SameAddress="unlimited")
    async with undisturbed(house):
        for data in RUBBISH.values():
            async with trio.open_nursery() as nursery:
                for service in SERVICES + SECURE:
                    nursery.start_soon(lambda s=service, d=data: throw(house, s, d, half=half))


async def test_rubbish_after_a_log_in(house: House) -> None:
    async with undisturbed(house):
        for name, data in RUBBISH.items():
            imap = await house.imap()
            await imap.imap("SELECT INBOX")
            smtp = await house.connect("SMTP")
            for command in ("EHLO me.test", "MAIL FROM:<ann@box.test>", "RCPT TO:<bob@box.test>", "DATA"):
                await smtp.smtp(command)
            cli = await house.cli()
            for line in (imap, smtp, cli.line):
                try:
                    await line.send(data)
                    await line.stream.send_eof()
                except (trio.BrokenResourceError, OSError):
                    continue
                with trio.move_on_after(8) as scope:
                    await line.rest()
                assert not scope.cancelled_caught, name
                await line.aclose()


async def test_a_message_that_is_cut_off_is_gone(house: House) -> None:
    async with undisturbed(house):
        smtp = await house.connect("SMTP")
        for command in ("EHLO me.test", "MAIL FROM:<ann@box.test>", "RCPT TO:<bob@box.test>", "DATA"):
            await smtp.smtp(command)
        await smtp.send(b"Subject: unfinished\r\n\r\ntext\r\n.\r")
        await smtp.aclose()
        await trio.sleep(0.2)
        assert await house.inbox("bob") == []
    assert [path.name for path in (house.base / "Queue").iterdir() if path.suffix in (".tmp", ".msg")] == []


@pytest.mark.parametrize("service", ["SMTP", "POP", "IMAP", "PWD"])
async def test_a_client_that_drips_is_ended_by_the_time_limit(house: House, service: str) -> None:
    """One byte now and then is no command: it does not hold the channel for ever."""
    key = "CommandTimeout" if service == "SMTP" else "Timeout"
    settings = house.server.components.find(service)
    assert settings is not None
    settings._explicit[key] = 1  # below what an administrator may set, so that the test is short
    line = await house.connect(service)
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            while True:
                await line.stream.send_all(b"N")
                await trio.sleep(0.25)

        async def guarded() -> None:
            try:
                await drip()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        nursery.start_soon(guarded)
        with trio.fail_after(6):
            await line.rest()
        nursery.cancel_scope.cancel()
    assert not house.crashes(await house.log())


@pytest.mark.parametrize("service", ["SMTP", "POP", "IMAP", "PWD"])
async def test_a_silent_client_is_ended_by_the_time_limit(house: House, service: str) -> None:
    key = "CommandTimeout" if service == "SMTP" else "Timeout"
    settings = house.server.components.find(service)
    assert settings is not None
    settings._explicit[key] = 1
    line = await house.connect(service)
    with trio.fail_after(5):
        await line.rest()


@pytest.mark.parametrize(
    "begin",
    [
        "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "POST /Settings/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
        "POST /Settings/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic bm9ib2R5Om5v\r\nContent-Length: 100000\r\n\r\n",
    ],
    ids=["header", "body", "body with a wrong password"],
)
async def test_a_browser_that_drips_is_ended_by_the_time_limit(
    house: House, monkeypatch: pytest.MonkeyPatch, begin: str
) -> None:
    monkeypatch.setattr(front, "KEEP_ALIVE", 1.0)
    monkeypatch.setattr(front, "REQUEST_TIME", 1.0)
    line = await house.connect("HTTPA", greeting=False)
    await line.send(begin.encode())
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            try:
                while True:
                    await line.stream.send_all(b"N")
                    await trio.sleep(0.25)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        nursery.start_soon(drip)
        with trio.fail_after(8):
            await line.rest()
        nursery.cancel_scope.cancel()
    assert not house.crashes(await house.log())


async def test_a_flood_of_wrong_commands_ends_the_session(house: House) -> None:
    """Of somebody who has not logged in; users may err as often as they like."""
    for service in ("POP", "PWD"):
        line = await house.connect(service)
        await line.send(b"NONSENSE\r\n" * 200)
        answers = (await line.rest()).splitlines()
        assert 10 < len(answers) < 100 and b"too many wrong commands" in answers[-1], service
    line = await house.connect("POP")
    await line.ask("USER ann")
    assert (await line.ask(f"PASS {PASSWORD}")).startswith("+OK")
    for _ in range(100):
        assert (await line.ask("NONSENSE")).startswith("-ERR")
    assert (await line.ask("NOOP")).startswith("+OK")
