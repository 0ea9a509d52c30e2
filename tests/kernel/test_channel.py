"""Channels: what a session may rely on, over sockets and over the memory pair."""

import socket
import ssl
import sys
import tracemalloc
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
import trustme

from appliance.kernel.channel import (
    Channel,
    ChannelClosed,
    ChannelError,
    ChannelTimeout,
    Endpoint,
    accepted_channel,
    connect,
    plain_address,
)
from appliance.kernel.memory_channel import channel_pair


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mail.example").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


SERVER, CLIENT = contexts()


async def socket_pair() -> tuple[Channel, Channel]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        near = await connect(["127.0.0.1"], listener.getsockname()[1])
        sock, address = listener.accept()
        return near, accepted_channel(sock, address)


@pytest.fixture(params=["memory", "socket"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Channel, Channel]]:
    ends = channel_pair() if request.param == "memory" else await socket_pair()
    yield ends
    for end in ends:
        await end.aclose()


async def start_tls(near: Channel, far: Channel) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.start_tls, SERVER)
        await near.start_tls(CLIENT, server_side=False, hostname="mail.example")


async def receive_all(channel: Channel) -> bytes:
    parts = []
    while data := await channel.receive():
        parts.append(data)
    return b"".join(parts)


async def test_bytes_go_both_ways(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    await near.send(b"EHLO a\r\n")
    assert await far.receive() == b"EHLO a\r\n"
    await far.send(b"250 ok\r\n")
    assert await near.receive(3) == b"250"
    assert await near.receive() == b" ok\r\n"
    assert near.peer == far.local and far.peer == near.local
    assert (near.sent, far.received) == (8, 8)


@pytest.mark.parametrize("tls", [False, True])
async def test_half_close_leaves_the_other_direction_open(pair: tuple[Channel, Channel], tls: bool) -> None:
    near, far = pair
    if tls:
        await start_tls(near, far)
    await near.send(b"QUIT\r\n")
    await near.send_eof()
    assert await receive_all(far) == b"QUIT\r\n"
    if not tls:
        await far.send(b"221 bye\r\n")
        await far.send_eof()
        assert await receive_all(near) == b"221 bye\r\n"


@pytest.mark.parametrize("tls", [False, True])
async def test_large_data_passes_with_back_pressure(pair: tuple[Channel, Channel], tls: bool) -> None:
    near, far = pair
    if tls:
        await start_tls(near, far)
    data = bytes(range(256)) * 8000

    async def send() -> None:
        await near.send(data)
        await near.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await receive_all(far) == data


async def test_start_tls_in_the_middle_makes_the_channel_secure() -> None:
    near, far = channel_pair(client="192.0.2.9", server="192.0.2.1")
    assert not far.secure and far.tls is None
    await near.send(b"STARTTLS\r\n")
    await far.receive()
    await start_tls(near, far)
    assert far.secure and far.encrypted
    assert far.tls is not None and far.tls.version in ("TLSv1.2", "TLSv1.3") and far.tls.bits >= 128
    assert near.peer_certificate()
    await near.send(b"EHLO b\r\n")
    assert await far.receive() == b"EHLO b\r\n"


async def test_the_connection_can_change_roles_inside_tls() -> None:
    near, far = channel_pair()
    await start_tls(near, far)

    async def read_and_write(channel: Channel, data: bytes) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.send, data)
            got = 0
            while got < 300_000:
                got += len(await channel.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_and_write, near, b"a" * 300_000)
        nursery.start_soon(read_and_write, far, b"b" * 300_000)


async def test_loopback_and_ext_count_as_secure_for_passwords() -> None:
    _, far = channel_pair(client="127.0.0.1")
    assert far.secure and not far.encrypted
    _, far = channel_pair(client="192.0.2.9")
    assert not far.secure
    far.external = True
    assert far.secure and far.encrypted and not far.can_start_tls
    with pytest.raises(ChannelError):
        await far.start_tls(SERVER)


async def test_start_tls_refuses_bytes_that_came_before() -> None:
    _, far = channel_pair()
    far.restore(b"MAIL FROM:<>\r\n")
    with pytest.raises(ChannelError, match="before"):
        await far.start_tls(SERVER)


async def test_restored_bytes_come_first() -> None:
    near, far = channel_pair()
    await near.send(b"C")
    far.restore(b"AB")
    assert await far.receive() == b"AB"
    assert await far.receive() == b"C"


async def test_start_tls_needs_a_certificate() -> None:
    _, far = channel_pair()
    far.certificate = lambda: None
    assert not far.can_start_tls
    with pytest.raises(ChannelError, match="certificate"):
        await far.start_tls()


@pytest.mark.feature("SEC-130")
async def test_a_broken_handshake_costs_the_connection_only() -> None:
    for garbage in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"\x16\x03\x01\x00\x05aaaaa"):
        near, far = channel_pair()
        async with trio.open_nursery() as nursery:

            async def attack(near: Channel = near, garbage: bytes = garbage) -> None:
                with pytest.raises(ChannelClosed):
                    await near.send(garbage)
                    while await near.receive():
                        pass
                    await near.aclose()
                    raise ChannelClosed

            nursery.start_soon(attack)
            with pytest.raises(ChannelError):
                await far.start_tls(SERVER)
            await far.aclose()


async def test_an_unknown_certificate_is_refused_with_the_reason() -> None:
    near, far = channel_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(ChannelError):
                await far.start_tls(SERVER)

        nursery.start_soon(serve)
        with pytest.raises(ChannelError, match="not valid for"):
            await near.start_tls(CLIENT, server_side=False, hostname="other.example")


@pytest.mark.parametrize("kind", ["receive", "handshake"])
async def test_silence_ends_at_the_time_limit(autojump_clock: trio.testing.MockClock, kind: str) -> None:
    _, far = channel_pair()
    far.timeout = 300
    began = trio.current_time()
    with pytest.raises(ChannelTimeout):
        await (far.receive() if kind == "receive" else far.start_tls(SERVER))
    assert trio.current_time() - began == pytest.approx(300)


async def test_a_peer_that_reads_nothing_ends_the_send(autojump_clock: trio.testing.MockClock) -> None:
    near, _ = channel_pair(capacity=1000)
    near.timeout = 60
    with pytest.raises(ChannelTimeout):
        await near.send(b"x" * 5000)
    with pytest.raises(ChannelClosed):
        await near.send(b"good-bye")  # it would stand in the middle of a line


async def test_a_time_limit_passes_and_the_session_says_good_bye(autojump_clock: trio.testing.MockClock) -> None:
    near, far = channel_pair()
    far.timeout = 10
    with pytest.raises(ChannelTimeout):
        await far.receive()
    await far.send(b"421 time limit\r\n")
    await far.aclose()
    assert await receive_all(near) == b"421 time limit\r\n"


async def test_closing_never_waits_and_the_good_bye_arrives() -> None:
    near, far = await socket_pair()
    await near.send(b"QUIT\r\nNOISE\r\n")
    await trio.testing.wait_all_tasks_blocked(0.01)
    await far.send(b"221 bye\r\n")
    with trio.CancelScope() as scope:
        scope.cancel()
        far.close()
        await far.aclose()
    assert far.closed
    assert await near.receive() == b"221 bye\r\n"
    await near.aclose()
    with pytest.raises(ChannelClosed):
        await near.receive()
    with pytest.raises(ChannelClosed):
        await near.send(b"x")


@pytest.mark.parametrize("tls", [False, True])
async def test_closing_with_full_buffers_does_not_wait(autojump_clock: trio.testing.MockClock, tls: bool) -> None:
    near, far = channel_pair(capacity=20000)
    if tls:
        await start_tls(near, far)
    near.timeout = 5
    with pytest.raises(ChannelTimeout):
        await near.send(b"x" * 100000)
    began = trio.current_time()
    await near.aclose()
    assert trio.current_time() == began


async def test_a_close_wakes_the_receiver(pair: tuple[Channel, Channel]) -> None:
    near, _ = pair
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(ChannelClosed):
                await near.receive()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        near.close()


async def test_sending_to_a_closed_peer_raises(pair: tuple[Channel, Channel]) -> None:
    near, far = pair
    await far.aclose()
    with pytest.raises(ChannelClosed):
        for _ in range(100):
            await near.send(b"x" * 1000)
            await trio.lowlevel.checkpoint()


async def test_connect_takes_the_first_address_that_answers() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        channel = await connect(["127.0.0.3", "not an address", "::1", "127.0.0.1"], port, source="127.0.0.2")
        sock, (address, _) = listener.accept()
        sock.close()
    assert channel.peer == Endpoint("127.0.0.1", port)
    assert address == "127.0.0.2" == channel.local.address
    await channel.aclose()


async def test_connect_says_why_it_failed() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ChannelError, match="refused"):
        await connect(["127.0.0.1"], port)
    with pytest.raises(ChannelError, match="no address"):
        await connect([], 25)


def test_addresses_of_dual_stack_sockets_are_plain() -> None:
    assert plain_address(("::ffff:192.0.2.7", 4711, 0, 0)) == ("192.0.2.7", 4711)
    assert plain_address(("2001:db8::7", 4711, 0, 0)) == ("2001:db8::7", 4711)
    assert Endpoint("::1", 1).loopback and Endpoint("127.8.9.1", 1).loopback and not Endpoint("10.0.0.1", 1).loopback


async def test_an_idle_connection_is_small() -> None:
    """24 KiB are allowed for an idle connection with its session; the channel may use a small part of them."""
    async with trio.open_nursery() as nursery:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        pairs = [await socket_pair() for _ in range(40)]
        for _, far in pairs:
            nursery.start_soon(far.receive)
        await trio.testing.wait_all_tasks_blocked()
        used = (tracemalloc.get_traced_memory()[0] - before) / 40
        tracemalloc.stop()
        nursery.cancel_scope.cancel()
    for ends in pairs:
        for end in ends:
            end.close()
    assert used < 12 * 1024, f"{used:.0f} bytes, Python {sys.version_info}"
