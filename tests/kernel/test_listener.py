"""Listeners, over the loopback: who gets in, who does not, and what a change of the settings does."""

import errno
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from appliance.formats.data import Value
from appliance.kernel import listener as listener_module
from appliance.kernel.channel import Channel, ChannelClosed, connect
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.listener import Listener, Network, listener_settings
from appliance.kernel.log import Logger, MemoryLog
from appliance.kernel.network import local_addresses
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import Group, MemoryStorage, SettingError, Settings
from appliance.kernel.tls import TLS, Tls

POP = listener_settings([(110, "Off"), (995, "On")], channels=100)
GROUP = Group("POP", "POP", POP)


class TestPeers(Peers):
    """Only 127.0.0.1 is this computer, so that other loopback addresses can play clients and strangers."""

    __test__ = False

    def is_self(self, address: str) -> bool:
        return address == "127.0.0.1"


class Bench:
    """A listener with what it needs; `port()` gives free ports."""

    def __init__(self, serve: Callable[[Channel], object] | None = None, **network: object) -> None:
        self.log = MemoryLog()
        clock = TrioClock()
        self.peers = TestPeers(Settings(IP_ADDRESSES, MemoryStorage()), clock)
        self.sessions = Sessions()
        self.tls = Tls(Settings(TLS, MemoryStorage()), InLoopDisk(), os.getcwd(), clock, self.log.source("TLS"))
        self.crashes: list[BaseException] = []

        def failed(error: BaseException, log: Logger) -> None:
            self.crashes.append(error)

        self.network = Network(self.peers, self.tls, self.sessions, clock, failed, **network)  # type: ignore[arg-type]
        self.settings = Settings(GROUP, MemoryStorage())
        self.listener = Listener(
            "POP",
            self.log.source("POP"),
            self.settings,
            POP,
            serve or greet,  # type: ignore[arg-type]
            self.network,
            refusal=b"-ERR too many connections\r\n",
            farewell=lambda reason: b"-ERR " + reason.encode() + b"\r\n",
        )

    async def sockets(self, *rows: dict[str, Value]) -> None:
        await self.settings.update({"Listener": list(rows)})
        await trio.testing.wait_all_tasks_blocked()

    @asynccontextmanager
    async def running(self, *rows: dict[str, Value], **settings: str) -> AsyncIterator[Listener]:
        await self.settings.update({"Listener": list(rows), **settings})
        async with trio.open_nursery() as nursery:
            await nursery.start(self.listener.run)
            yield self.listener
            nursery.cancel_scope.cancel()


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def row(number: int, address: str = "127.0.0.1", **more: str) -> dict[str, Value]:
    return {"Port": str(number), "Address": address, **more}


async def greet(channel: Channel) -> None:
    await channel.send(b"+OK\r\n")
    while await channel.receive():
        await channel.send(b"+OK\r\n")


async def hear(
    number: int, source: str | None = None, address: str = "127.0.0.1", keep: list[Channel] | None = None
) -> tuple[bytes, Channel]:
    """What a client hears first, b"" when it is cut off; and the connection, which is open as long as it is kept."""
    channel = await connect([address], number, source=source)
    channel.timeout = 5
    if keep is not None:
        keep.append(channel)
    try:
        return await channel.receive(), channel
    except ChannelClosed:
        return b"", channel


async def is_open(number: int, address: str = "127.0.0.1") -> bool:
    try:
        channel = await connect([address], number)
    except Exception:
        return False
    await channel.aclose()
    return True


@pytest.mark.feature("LSN-001", "LSN-005", "LSN-009")
async def test_sockets_come_and_go_with_the_settings_and_connections_stay() -> None:
    first, second = port(), port()
    bench = Bench()
    async with bench.running(row(first)):
        heard, session = await hear(first)
        assert heard == b"+OK\r\n"
        await bench.sockets(row(first), row(second))
        assert await is_open(first) and await is_open(second)
        await bench.sockets(row(0), row(second))
        assert not await is_open(first) and await is_open(second)
        await session.send(b"NOOP\r\n")
        assert await session.receive() == b"+OK\r\n"


@pytest.mark.feature("LSN-002")
async def test_a_socket_on_one_address_is_not_open_on_others() -> None:
    number = port()
    async with Bench().running(row(number, "127.0.0.2")):
        assert await is_open(number, "127.0.0.2") and not await is_open(number)


async def test_all_addresses_are_both_families() -> None:
    number = port()
    bench = Bench()
    async with bench.running(row(number, "all")) as service:
        heard, channel = await hear(number, address="127.0.0.3")
        assert heard == b"+OK\r\n"
        (session,) = bench.sessions
        assert session.address == "127.0.0.1"
        if socket.has_dualstack_ipv6():
            assert (await hear(number, address="::1"))[0] == b"+OK\r\n"
        assert service.sockets() == [("POP", "all", number, "Off", number)]
        channel.close()


@pytest.mark.feature("LSN-003")
async def test_a_conflict_is_reported_and_nothing_changes() -> None:
    one = port()
    bench = Bench()
    async with bench.running(row(one)):
        for conflict in (
            [row(one, "all"), row(one, "127.0.0.1")],
            [row(one, "127.0.0.1"), row(one, "[127.000.0.1]")],
            [row(one, "all"), row(one, "All")],
        ):
            with pytest.raises(SettingError, match="used twice"):
                await bench.sockets(*conflict)
        with pytest.raises(SettingError):
            await bench.sockets(row(one, "no address"))
        assert [s.address for s in bench.listener.sockets()] == ["127.0.0.1"]
        await bench.sockets(row(one, "127.0.0.1"), row(one, "127.0.0.2"))
        assert await is_open(one) and await is_open(one, "127.0.0.2")


@pytest.mark.feature("LSN-006", "LSN-007")
async def test_a_taken_port_disturbs_no_other_socket(autojump_clock: trio.testing.MockClock) -> None:
    number, other = port(), port()
    bench = Bench()
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", number))
        foreign.listen()
        async with bench.running(row(number), row(number, "127.0.0.2"), row(other)) as service:
            assert [(s.port, s.address) for s in service.sockets()] == sorted(
                [(number, "127.0.0.2"), (other, "127.0.0.1")]
            )
            assert service.failures() == {(number, "127.0.0.1"): "Address already in use"}
            assert (
                f"1 POP port {number} on address 127.0.0.1 cannot be opened: Address already in use" in bench.log.text()
            )
            assert len(bench.settings.stored()["Listener"]) == 3
            foreign.close()
            await trio.sleep(31)
            assert len(service.sockets()) == 3 and service.failures() == {}


@pytest.mark.feature("LSN-008")
async def test_running_out_of_descriptors_ends_nothing() -> None:
    resource = pytest.importorskip("resource")
    number = port()
    bench = Bench()
    async with bench.running(row(number)):
        session = (await hear(number))[1]
        client = socket.socket()
        client.setblocking(False)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
            client.connect_ex(("127.0.0.1", number))
            await trio.sleep(0.05)
            assert "1 POP a connection cannot be accepted: Too many open files" in bench.log.text()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        await trio.sleep(0.2)
        assert client.recv(100) == b"+OK\r\n"
        client.close()
        await session.send(b"NOOP\r\n")
        assert await session.receive() == b"+OK\r\n"


@pytest.mark.feature("LSN-008")
async def test_listening_survives_errors_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    number = port()
    errors = [errno.ENETDOWN, errno.ECONNABORTED, errno.EPERM, errno.EPROTO]

    class Shaky:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.fileno, self.close = sock.fileno, sock.close

        def accept(self) -> tuple[socket.socket, object]:
            if errors:
                raise OSError(errors.pop(), "network trouble")
            return self.sock.accept()

    listen = listener_module._listen
    monkeypatch.setattr(listener_module, "_listen", lambda address, number: Shaky(listen(address, number)))
    async with Bench().running(row(number)):
        assert (await hear(number))[0] == b"+OK\r\n"
    assert errors == []


@pytest.mark.feature("LSN-010", "INST-094")
async def test_low_ports_move_up_without_the_right_to_open_them() -> None:
    bench = Bench(low_ports=lambda: False)
    async with bench.running(row(987)) as service:
        assert [(s.wanted, s.port) for s in service.sockets()] == [(987, 8987)]
        assert (await hear(8987))[0] == b"+OK\r\n"
        assert "2 POP port 987 may not be opened: listening on port 8987" in bench.log.text()


async def test_a_refused_low_port_moves_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    listen = listener_module._listen

    def refuse(address: str, number: int) -> socket.socket:
        if number < 1024:
            raise PermissionError(errno.EACCES, "Permission denied")
        return listen(address, number)

    monkeypatch.setattr(listener_module, "_listen", refuse)
    async with Bench(low_ports=lambda: True).running(row(986)) as service:
        assert [s.port for s in service.sockets()] == [8986]


async def test_the_offset_moves_every_port() -> None:
    number = port() - 1000
    async with Bench(port_offset=1000).running(row(number)) as service:
        assert [(s.wanted, s.port) for s in service.sockets()] == [(number, number + 1000)]


@pytest.mark.feature("LSN-013")
def test_local_addresses_come_from_the_system() -> None:
    found = local_addresses()
    assert found[0] == "127.0.0.1" and len(set(found)) == len(found)


@pytest.mark.feature("LSN-020")
async def test_a_client_beyond_the_channels_is_told_so_and_may_come_later() -> None:
    number, other = port(), port()
    bench = Bench()
    async with bench.running(row(number), row(other), Channels="2") as service:
        first = (await hear(number))[1]
        second = (await hear(other))[1]
        assert (await hear(number))[0] == b"-ERR too many connections\r\n"
        assert "3 POP [127.0.0.1] is refused: all 2 channels are in use" in bench.log.text()
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert service.active == 1
        assert (await hear(number))[0] == b"+OK\r\n"
        second.close()
        assert service.refused.value == 1 and service.accepted.value == 3


@pytest.mark.feature("LSN-021")
async def test_no_channels_release_the_ports() -> None:
    number = port()
    bench = Bench()
    async with bench.running(row(number)):
        session = (await hear(number))[1]
        await bench.settings.update({"Channels": "0"})
        await trio.testing.wait_all_tasks_blocked()
        assert not await is_open(number)
        with socket.socket() as foreign:
            foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            foreign.bind(("127.0.0.1", number))
            foreign.listen()
        await session.send(b"NOOP\r\n")
        assert await session.receive() == b"+OK\r\n"
        await session.aclose()
        await bench.settings.update({"Channels": "10"})
        await trio.testing.wait_all_tasks_blocked()
        assert await is_open(number)


@pytest.mark.feature("LSN-022", "SCAL-031")
async def test_connections_are_refused_when_descriptors_run_short() -> None:
    number = port()
    bench = Bench(descriptors=40)
    with socket.socket() as one:
        taken = [os.dup(one.fileno()) for _ in range(20)]
        async with bench.running(row(number)):
            assert (await hear(number))[0] == b""
            assert "1 POP [127.0.0.1] is refused: descriptors run short" in bench.log.text()
        for descriptor in taken:
            os.close(descriptor)


# -- TLS ------------------------------------------------------------------------------------------------------------------


def insecure() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.feature("LSN-030")
async def test_a_secure_socket_begins_with_tls() -> None:
    number = port()
    bench = Bench()
    await bench.tls.load()
    async with bench.running(row(number, TLS="On")):
        channel = await connect(["127.0.0.1"], number)
        await channel.start_tls(insecure(), server_side=False)
        assert await channel.receive() == b"+OK\r\n"
        await channel.send(b"NOOP\r\n")
        assert await channel.receive() == b"+OK\r\n"
        await channel.aclose()


@pytest.mark.feature("LSN-032", "SEC-123")
async def test_a_secure_socket_without_a_certificate_disconnects() -> None:
    number = port()
    bench = Bench()
    async with bench.running(row(number, TLS="On")):
        assert (await hear(number))[0] == b""
        assert "1 POP [127.0.0.1] is disconnected: there is no certificate for [127.0.0.1]" in bench.log.text()


@pytest.mark.feature("LSN-034")
async def test_ext_counts_as_secure_and_refuses_starttls() -> None:
    seen: list[tuple[bool, bool, bool]] = []

    async def serve(channel: Channel) -> None:
        seen.append((channel.secure, channel.encrypted, channel.can_start_tls))
        await channel.send(b"+OK\r\n")

    plain, ext = port(), port()
    bench = Bench(serve)
    await bench.tls.load()
    async with bench.running(row(plain), row(ext, TLS="Ext")):
        await hear(plain, "127.0.0.2")
        await hear(ext, "127.0.0.2")
    assert seen[0][1:] == (False, True) and seen[1] == (True, True, False)
    with pytest.raises(SettingError, match="Off, On, Ext"):
        await bench.settings.update({"Listener": [row(plain, TLS="Maybe")]})


@pytest.mark.feature("SEC-130")
async def test_hostile_handshakes_cost_only_their_connection() -> None:
    number = port()
    bench = Bench()
    await bench.tls.load()
    async with bench.running(row(number, TLS="On")):
        for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(70000), os.urandom(500)):
            channel = await connect(["127.0.0.1"], number)
            try:
                await channel.send(garbage)
                await channel.send_eof()
                while await channel.receive():
                    pass
            except ChannelClosed:
                pass
            await channel.aclose()
        channel = await connect(["127.0.0.1"], number)
        await channel.start_tls(insecure(), server_side=False)
        assert await channel.receive() == b"+OK\r\n"
        await channel.aclose()
    assert bench.crashes == []


async def test_a_silent_handshake_ends(autojump_clock: trio.testing.MockClock) -> None:
    number = port()
    bench = Bench()
    await bench.tls.load()
    async with bench.running(row(number, TLS="On")):
        channel = await connect(["127.0.0.1"], number)
        began = trio.current_time()
        assert await channel.receive() == b""
        assert trio.current_time() - began == pytest.approx(30, abs=1)
        await channel.aclose()


# -- who may come in ------------------------------------------------------------------------------------------------------


@pytest.mark.feature("LSN-040", "LSN-041", "LSN-042")
async def test_grant_and_deny_lists_cut_off_without_a_byte() -> None:
    grant, deny, none = port(), port(), port()
    text = "; the office\n127.0.0.4-127.0.0.006 ; some\n127.0.0.9 % one\n"
    bench = Bench()
    async with bench.running(
        row(grant, Restriction="Grant", List=text), row(deny, Restriction="Deny", List=text), row(none, List=text)
    ):
        for last, listed in ((3, False), (4, True), (5, True), (6, True), (7, False), (9, True)):
            source = f"127.0.0.{last}"
            assert ((await hear(grant, source))[0] == b"+OK\r\n") == listed
            assert ((await hear(deny, source))[0] == b"") == listed
            assert (await hear(none, source))[0] == b"+OK\r\n"
    assert "3 POP [127.0.0.3] is refused: restricted address" in bench.log.text()
    rows = bench.settings["Listener"]
    assert bench.listener.would_refuse("127.0.0.5", rows[1:2]) and not bench.listener.would_refuse("127.0.0.5", rows)


@pytest.mark.feature("LSN-043")
async def test_denied_addresses_are_cut_off_everywhere() -> None:
    one, two = port(), port()
    bench = Bench()
    async with bench.running(row(one), row(two, Restriction="Grant", List="127.0.0.5")):
        assert (await hear(one, "127.0.0.5"))[0] == (await hear(two, "127.0.0.5"))[0] == b"+OK\r\n"
        await bench.peers.settings.update({"DeniedAddresses": "127.0.0.5"})
        assert (await hear(one, "127.0.0.5"))[0] == (await hear(two, "127.0.0.5"))[0] == b""
        assert (await hear(one, "127.0.0.6"))[0] == b"+OK\r\n"


@pytest.mark.feature("LSN-050")
async def test_one_address_has_a_limit_over_all_sockets() -> None:
    one, two = port(), port()
    bench = Bench()
    async with bench.running(row(one), row(two), SameAddress="3"):
        open_ = [(await hear(number, "127.0.0.5")) for number in (one, two, one)]
        assert [heard for heard, _ in open_] == [b"+OK\r\n"] * 3
        assert (await hear(two, "127.0.0.5"))[0] == b""
        assert (await hear(two, "127.0.0.6"))[0] == b"+OK\r\n"
        await open_[0][1].aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await hear(two, "127.0.0.5"))[0] == b"+OK\r\n"


async def test_refusals_do_not_fill_the_log(autojump_clock: trio.testing.MockClock) -> None:
    number = port()
    bench = Bench()
    async with bench.running(row(number, Restriction="Grant", List="10.0.0.1")):
        for _ in range(5):
            await hear(number)
        assert len([text for _, _, text in bench.log.records if "refused" in text]) == 1
        await trio.sleep(61)
        await hear(number)
        assert len([text for _, _, text in bench.log.records if "refused" in text]) == 2


@pytest.mark.feature("LSN-051")
async def test_members_of_the_cluster_have_no_limit_per_address() -> None:
    number = port()
    bench, kept = Bench(), list[Channel]()
    bench.peers.member = lambda address: address == "127.0.0.5"
    async with bench.running(row(number), SameAddress="1", Channels="4", Reserve="4"):
        for _ in range(3):
            assert (await hear(number, "127.0.0.5", keep=kept))[0] == b"+OK\r\n"


@pytest.mark.feature("LSN-053")
async def test_strangers_have_a_smaller_limit() -> None:
    number = port()
    bench, kept = Bench(), list[Channel]()
    await bench.peers.settings.update({"ClientAddresses": "127.0.0.8"})
    async with bench.running(row(number), SameAddress="5", NonClients="2"):
        assert [bool((await hear(number, "127.0.0.9", keep=kept))[0]) for _ in range(3)] == [True, True, False]
        assert [bool((await hear(number, "127.0.0.8", keep=kept))[0]) for _ in range(6)] == [True] * 5 + [False]
        await bench.settings.update({"NonClients": "50"})  # a larger value has no effect
        assert [bool((await hear(number, "127.0.0.7", keep=kept))[0]) for _ in range(6)] == [True] * 5 + [False]


@pytest.mark.feature("LSN-054")
async def test_the_last_channels_are_for_clients() -> None:
    number = port()
    bench, kept = Bench(), list[Channel]()
    await bench.peers.settings.update({"ClientAddresses": "127.0.0.8"})
    async with bench.running(row(number), Channels="5", Reserve="2"):
        strangers = [(await hear(number, f"127.0.0.{20 + last}", keep=kept))[0] for last in range(5)]
        assert [heard.startswith(b"+OK") for heard in strangers] == [True, True, True, False, False]
        clients = [(await hear(number, "127.0.0.8", keep=kept))[0] for _ in range(3)]
        assert [heard.startswith(b"+OK") for heard in clients] == [True, True, False]


async def test_a_session_that_crashes_leaves_the_others(autojump_clock: trio.testing.MockClock) -> None:
    async def serve(channel: Channel) -> None:
        if channel.peer.address == "127.0.0.66":
            raise RuntimeError("bug")
        assert channel.session is not None and channel.session.tag == "POP" and not channel.client
        await greet(channel)

    number = port()
    bench = Bench(serve)
    async with bench.running(row(number)) as service:
        good = (await hear(number, "127.0.0.5"))[1]
        assert (await hear(number, "127.0.0.66"))[0] == b""
        assert len(bench.crashes) == 1 and service.active == 1 and len(bench.sessions) == 1
        (session,) = bench.sessions
        session.kick("the server is shutting down")
        assert await good.receive() == b"-ERR the server is shutting down\r\n"


async def test_the_shutdown_closes_the_sockets_first() -> None:
    number = port()
    bench = Bench()
    async with bench.running(row(number)) as service:
        session = (await hear(number))[1]
        service.stop_accepting()
        assert not await is_open(number) and service.sockets() == []
        await session.send(b"NOOP\r\n")
        assert await session.receive() == b"+OK\r\n"


def test_the_declared_sockets_are_the_initial_ones() -> None:
    settings = Settings(GROUP, MemoryStorage())
    assert [(r["Port"], r["Address"], r["TLS"], r["Restriction"]) for r in settings["Listener"]] == [
        (110, "all", "Off", "None"),
        (995, "all", "On", "None"),
    ]


async def test_setting_up_a_connection_is_cheap() -> None:
    """The processor time of both ends; generous, because machines differ and share their processors."""

    async def serve(channel: Channel) -> None:
        await channel.send(b"+OK\r\n")

    number = port()
    bench = Bench(serve)
    async with bench.running(row(number), SameAddress="unlimited"):
        for _ in range(50):
            (await hear(number))[1].close()
        began = time.process_time()
        for _ in range(300):
            (await hear(number))[1].close()
        each = (time.process_time() - began) / 300
    assert each < 0.002, f"{each * 1e6:.0f} us"
