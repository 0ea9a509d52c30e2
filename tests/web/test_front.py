"""The contract with the HTTP library: slow readers, broken requests, up-load back-pressure, closing."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from appliance.kernel.channel import Channel
from appliance.kernel.log import MemoryLog
from appliance.kernel.memory_channel import channel_pair
from appliance.web.front import KEEP_ALIVE, HttpFront


async def page(scope: Any, receive: Any, send: Any) -> None:
    body = b"hello " + scope["path"].encode() + b" " + scope["channel"].peer.address.encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


async def read_until(channel: Channel, text: bytes) -> bytes:
    data = b""
    while text not in data:
        piece = await channel.receive()
        if not piece:
            break
        data += piece
    return data


@pytest.mark.feature("HTTP-009", "HTTP-007")
async def test_two_requests_on_one_connection(autojump_clock: trio.testing.MockClock) -> None:
    front = HttpFront(page, MemoryLog().source("HTTPA"))
    client, server = channel_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.serve, server)
        for path in (b"/one", b"/two"):
            await client.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await read_until(client, b"hello " + path)
            assert answer.startswith(b"HTTP/1.1 200")
        started = trio.current_time()
        assert await read_until(client, b"never") == b""
        assert KEEP_ALIVE - 1 <= trio.current_time() - started <= KEEP_ALIVE + 1


@pytest.mark.feature("HTTP-012", "HTTP-013")
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\xff\x16\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_broken_requests_end_the_connection_only(
    request_bytes: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async def reading(scope: Any, receive: Any, send: Any) -> None:
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            if not event.get("more_body"):
                break
        await page(scope, receive, send)

    log = MemoryLog()
    front = HttpFront(reading, log.source("HTTPA"))
    client, server = channel_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.serve, server)
        await client.send(request_bytes)
        await client.send_eof()
        answer = await read_until(client, b"never")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert not any(level == 0 for level, _, _ in log.records), log.text()


async def test_a_client_that_stops_reading_does_not_hold_the_shutdown() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    front = HttpFront(endless, MemoryLog().source("HTTPA"))
    client, server = channel_pair()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front.serve, server)
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.receive()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


async def test_an_upload_waits_for_the_page() -> None:
    gate = trio.Event()
    taken = 0

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        nonlocal taken
        await gate.wait()
        while (event := await receive())["type"] == "http.request":
            taken += len(event["body"])
            if not event["more_body"]:
                break
        await page(scope, receive, send)

    front = HttpFront(slow, MemoryLog().source("HTTPA"))
    client, server = channel_pair()
    size = 8 << 20
    sent = 0

    async def upload() -> None:
        nonlocal sent
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            await client.send(bytes(65536))
            sent += 65536

    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.serve, server)
        nursery.start_soon(upload)
        with trio.move_on_after(0.3):
            await trio.sleep_forever()
        assert sent < size // 2
        gate.set()
        assert b"200" in await read_until(client, b"hello")
        assert taken == size
        nursery.cancel_scope.cancel()


async def test_a_page_that_fails_is_logged_and_answered() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken page")

    log = MemoryLog()
    front = HttpFront(broken, log.source("HTTPA"))
    client, server = channel_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.serve, server)
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await read_until(client, b"never")).startswith(b"HTTP/1.1 500")
    assert "broken page" in log.text()
