"""Listeners: all sockets that take connections, and who may come in (manual, chapter 10).

A service has one Listener with any number of sockets. For each accepted connection, in this order: Denied IP Addresses, the
socket's Grant or Deny list, head-room of descriptors; then, unless the peer is a member of the cluster, the limits per
address; Channels and the reserve for clients; TLS where the socket begins with it; the service. Whoever is cut off by a list
or an address limit is disconnected without a byte; when the channels are full a clear-text client is told so.

A change of the settings acts at once and leaves open connections alone.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import trio

from appliance.formats.data import Value
from appliance.formats.iplists import AddressList, parse_address
from appliance.kernel.channel import DEFAULT_TIMEOUT, Channel, Endpoint, accepted_channel
from appliance.kernel.clock import Clock
from appliance.kernel.log import FAILURE, PROBLEM, Logger
from appliance.kernel.network import descriptor_limit, may_open_low_ports
from appliance.kernel.patience import Patience
from appliance.kernel.peers import Peers, same_address
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import Addresses, Choice, Limit, Number, Rows, Setting, Settings, Text
from appliance.kernel.statistics import Statistics
from appliance.kernel.supervisor import run_session
from appliance.kernel.tasks import TaskStatus
from appliance.kernel.tls import Tls

__all__ = ["Listener", "ListenerSettings", "Network", "OpenSocket", "listener_settings"]

BACKLOG: Final = 512
HEAD_ROOM: Final = 32
"""Descriptors that are kept for files and outgoing connections."""
HANDSHAKE_TIME: Final = 30.0
HANDSHAKES: Final = 100
LOW_PORTS: Final = 8000
"""Added to a port below 1024 that may not be opened."""

_RETRY: Final = 30.0
_BURST: Final = 16
_REPORTED: Final = 1000
_SHORTAGE: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

PORT = Setting("Port", Number(0, 65535), 0, "Port")
ADDRESS = Setting("Address", Text(limit=64), "all", "Local Address")
TLS_MODE = Setting("TLS", Choice("Off", "On", "Ext"), "Off", "Init SSL/TLS")
RESTRICTION = Setting("Restriction", Choice("None", "Grant", "Deny"), "None", "Remote Address Restrictions")
LIST = Setting("List", Addresses(), AddressList(), "Remote Addresses")

Row = Mapping[str, Any]


class SocketTable(Rows):
    """Rows of sockets. A row with port 0 is left out: so the page removes one. Raises ValueError for a conflict."""

    def __init__(self) -> None:
        super().__init__(PORT, ADDRESS, TLS_MODE, RESTRICTION, LIST, limit=200)

    def parse(self, value: Value) -> tuple[Row, ...]:
        rows = tuple(row for row in super().parse(value) if row[PORT.key])
        taken: dict[int, set[str]] = {}
        for row in rows:
            address = _plain(row)
            others = taken.setdefault(row[PORT.key], set())
            if address in others or (others and (address == "all" or "all" in others)):
                raise ValueError(f"port {row[PORT.key]} is used twice on the same address")
            others.add(address)
        return rows


def _plain(row: Row) -> str:
    """The local address of a row in one form. Raises ValueError."""
    text = row[ADDRESS.key].strip()
    if text.casefold() in ("", "all", "*"):
        return "all"
    return str(parse_address(text))


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """The declared settings of one service's listener, to be put into the service's Group."""

    channels: Setting[int]
    sockets: Setting[tuple[Row, ...]]
    same_address: Setting[int | None]
    non_clients: Setting[int | None]
    reserve: Setting[int]

    def __iter__(self) -> Iterator[Setting[Any]]:
        return iter((self.channels, self.sockets, self.same_address, self.non_clients, self.reserve))


def listener_settings(
    ports: Sequence[tuple[int, str]], *, channels: int = 100, same_address: int | None = 50
) -> ListenerSettings:
    """Declare a service's listener: its initial sockets as (port, Off/On/Ext), and the initial limits."""
    rows = tuple(
        {PORT.key: port, ADDRESS.key: "all", TLS_MODE.key: mode, RESTRICTION.key: "None", LIST.key: AddressList()}
        for port, mode in ports
    )
    panel = "Listener"
    return ListenerSettings(
        Setting("Channels", Number(0, 100_000), channels, "Channels", help="0 closes the ports."),
        Setting("Listener", SocketTable(), rows, "Sockets", panel),
        Setting(
            "SameAddress",
            Limit(),
            same_address,
            "Limit Connections from same Address",
            panel,
            help="Mail programs open several connections at once: at least 5 for IMAP, many more for an HTTP proxy.",
        ),
        Setting("NonClients", Limit(), None, "Non-Clients", panel, help="At most the limit for all addresses."),
        Setting("Reserve", Number(0, 100_000), 0, "Reserve Connections for Clients", panel),
    )


class OpenSocket(NamedTuple):
    """A socket that takes connections: `wanted` is the port of the settings, `port` the one that could be opened."""

    service: str
    address: str
    port: int
    tls: str
    wanted: int


@dataclass(slots=True)
class Network:
    """What all listeners of a server share."""

    peers: Peers
    tls: Tls
    sessions: Sessions
    clock: Clock
    failed: Callable[[BaseException, Logger], None]
    """The supervisor's `session_failed`."""
    statistics: Statistics = field(default_factory=Statistics)
    port_offset: int = 0
    """Added to every port (--PortOffset)."""
    low_ports: Callable[[], bool] = may_open_low_ports
    descriptors: int = field(default_factory=descriptor_limit)
    handshakes: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(HANDSHAKES))
    patience: Patience = field(default_factory=Patience)
    """Keeps the time of all sessions; a component of its own."""


@dataclass(slots=True, eq=False)
class _Socket:
    row: Row
    address: str
    wanted: int
    port: int
    sock: socket.socket
    local: Endpoint | None
    """Known in advance where the socket has one address."""


class Listener:
    """The sockets of one service. `serve(channel)` is a session; `refusal` is what a client hears when the channels are
    full; `farewell(reason)` gives the good-bye of a session that is ended from outside."""

    def __init__(
        self,
        name: str,
        log: Logger,
        settings: Settings,
        declared: ListenerSettings,
        serve: Callable[[Channel], Awaitable[None]],
        network: Network,
        *,
        refusal: bytes = b"",
        farewell: Callable[[str], bytes] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.settings = settings
        self.declared = declared
        self.active = 0
        """Open connections."""
        self._serve = serve
        self._network = network
        self._refusal = refusal
        self._farewell = farewell
        self.denial: Callable[[], str] | None = None
        """What a host is told that may not log in, before it is disconnected: for services that are of no use without."""
        self._by_address: Counter[str] = Counter()
        self._open: dict[tuple[int, str], _Socket] = {}
        self._failed: dict[tuple[int, str], str] = {}
        self._changed = trio.Event()
        self._stopped = False
        self._reported: dict[str, float] = {}
        self._nursery: trio.Nursery | None = None
        prefix = name.lower()
        self.accepted = network.statistics.counter(f"{prefix}.connections", "accepted connections")
        self.refused = network.statistics.counter(f"{prefix}.refused", "refused connections")
        network.statistics.gauge(f"{prefix}.channels", lambda: self.active, "open connections")

    def sockets(self) -> list[OpenSocket]:
        """The open sockets, by port."""
        found = [OpenSocket(self.name, s.address, s.port, s.row[TLS_MODE.key], s.wanted) for s in self._open.values()]
        return sorted(found, key=lambda s: (s.wanted, s.address))

    def failures(self) -> dict[tuple[int, str], str]:
        """(port, address) of the sockets that could not be opened, with the reason."""
        return dict(self._failed)

    def would_refuse(self, address: str, rows: Sequence[Row]) -> bool:
        """Whether no socket of these rows lets the address in: a page warns before an administrator locks himself out."""
        return not any(self._permits(row, address) for row in rows)

    def stop_accepting(self) -> None:
        """Close the listening sockets for good; open connections go on. For the beginning of the shutdown."""
        self._stopped = True
        for key in list(self._open):
            self._close(key)

    # -- sockets ------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Open the sockets and serve until cancelled. A socket that cannot be opened is tried again later."""
        end = self.settings.watch(self._note)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._apply()
                task_status.started()
                while True:
                    with trio.move_on_after(_RETRY if self._failed else float("inf")):
                        await self._changed.wait()
                    self._changed = trio.Event()
                    self._apply()
        finally:
            end()
            self._nursery = None
            for key in list(self._open):
                self._close(key)

    def _note(self, changed: frozenset[str]) -> None:
        if any(setting.key in changed for setting in self.declared):
            self._changed.set()

    def refresh(self) -> None:
        """Open and close sockets anew: root was dropped or restored, an address was added."""
        self._changed.set()

    def _apply(self) -> None:
        """Make the open sockets what the settings say."""
        if self._stopped:
            return
        wanted: dict[tuple[int, str], Row] = {}
        if self.settings[self.declared.channels]:
            for row in self.settings[self.declared.sockets]:
                wanted[row[PORT.key], _plain(row)] = row
        for key in [key for key in self._open if key not in wanted]:
            self._close(key)
        self._failed = {key: reason for key, reason in self._failed.items() if key in wanted}
        for key, row in wanted.items():
            if key in self._open:
                self._open[key].row = row
            else:
                self._try_to_open(key, row)

    def _try_to_open(self, key: tuple[int, str], row: Row) -> None:
        try:
            opened = self._open_socket(key, row)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            if self._failed.get(key) != reason:
                self.log.failure("port %d on address %s cannot be opened: %s", key[0], key[1], reason)
            self._failed[key] = reason
            return
        self._failed.pop(key, None)
        self._open[key] = opened
        self.log.low("listening on [%s]:%d", opened.address, opened.port)
        assert self._nursery is not None
        self._nursery.start_soon(self._accept, opened)

    def _open_socket(self, key: tuple[int, str], row: Row) -> _Socket:
        wanted, address = key
        port = wanted + self._network.port_offset
        if port > 65535:
            raise OSError(errno.EADDRNOTAVAIL, "the port is too high")
        if port < 1024 and not self._network.low_ports():
            port += LOW_PORTS
        try:
            sock = _listen(address, port)
        except OSError as error:
            if error.errno != errno.EACCES or port >= 1024:
                raise
            port += LOW_PORTS
            sock = _listen(address, port)
        if port != wanted + self._network.port_offset:
            self.log.major("port %d may not be opened: listening on port %d", wanted, port)
        return _Socket(row, address, wanted, port, sock, None if address == "all" else Endpoint(address, port))

    def _close(self, key: tuple[int, str]) -> None:
        opened = self._open.pop(key)
        trio.lowlevel.notify_closing(opened.sock.fileno())
        opened.sock.close()

    # -- accepting ----------------------------------------------------------------------------------------------------

    async def _accept(self, opened: _Socket) -> None:
        sock = opened.sock
        number = sock.fileno()
        burst = 0
        while sock.fileno() >= 0:
            try:
                connection, address = sock.accept()
            except (BlockingIOError, InterruptedError):
                burst = 0
                try:
                    await trio.lowlevel.wait_readable(number)
                except (trio.ClosedResourceError, OSError):
                    return
                continue
            except OSError as error:
                if sock.fileno() < 0:
                    return
                # The network's troubles arrive as errors of accept; the socket itself goes on.
                self._report("accept", FAILURE, "a connection cannot be accepted: %s", error.strerror or error)
                await trio.sleep(0.1 if error.errno in _SHORTAGE else 0.01)
                continue
            try:
                self._admit(opened, connection, address)
            except OSError:
                connection.close()  # gone again already
            burst += 1
            if burst >= _BURST:
                burst = 0
                await trio.lowlevel.checkpoint()

    def _permits(self, row: Row, address: str) -> bool:
        restriction = row[RESTRICTION.key]
        if restriction == "None":
            return True
        return bool((address in row[LIST.key]) == (restriction == "Grant"))

    def _admit(self, opened: _Socket, connection: socket.socket, sockaddr: tuple[object, ...]) -> None:
        """Check a new connection and begin its session, or close it. All in one go: a stranger gets no task for free."""
        channel = accepted_channel(connection, sockaddr, opened.local)
        address = channel.peer.address
        network, row = self._network, opened.row
        peers = network.peers
        if peers.denied(address):
            self._refuse(channel, PROBLEM, "[%s] is refused: denied address", address)
            return
        if not self._permits(row, address):
            self._refuse(channel, PROBLEM, "[%s] is refused: restricted address", address)
            return
        if connection.fileno() >= network.descriptors - HEAD_ROOM:
            self._refuse(channel, FAILURE, "[%s] is refused: descriptors run short", address)
            return
        channel.member = peers.member(address)
        same = same_address(address)
        limit = self.settings[self.declared.channels]
        listed = peers.listed(address)
        if not channel.member:
            allowed = self.settings[self.declared.same_address]
            if not listed:
                strangers = self.settings[self.declared.non_clients]
                if strangers is not None and (allowed is None or strangers < allowed):
                    allowed = strangers
            if allowed is not None and self._by_address[same] >= allowed:
                self._refuse(channel, PROBLEM, "[%s] is refused: %d connections from this address", address, allowed)
                return
            if not listed and limit - self.active <= self.settings[self.declared.reserve] and self.active < limit:
                self._say_full(channel, row)
                self._refuse(channel, PROBLEM, "[%s] is refused: the last channels are for clients", address)
                return
        if self.active >= limit:
            self._say_full(channel, row)
            self._refuse(channel, PROBLEM, "[%s] is refused: all %d channels are in use", address, limit)
            return
        channel.client = listed or peers.client(address)
        channel.domain = peers.domain_of(channel.local.address)
        channel.handshakes = network.handshakes
        channel.external = row[TLS_MODE.key] == "Ext"
        network.tls.equip(channel)
        channel.patience = network.patience
        network.patience.add(channel)
        channel.session = network.sessions.open(self.log.tag, address, network.clock.now())
        self.accepted.add()
        self.active += 1
        self._by_address[same] += 1
        assert self._nursery is not None
        self._nursery.start_soon(self._session, channel, row[TLS_MODE.key] == "On", same, name=self.name)

    def _say_full(self, channel: Channel, row: Row) -> None:
        if self._refusal and row[TLS_MODE.key] != "On":
            channel.send_now(self._refusal)

    def _refuse(self, channel: Channel, level: int, text: str, *arguments: object) -> None:
        channel.close()
        self.refused.add()
        self._report(channel.peer.address, level, text, *arguments)

    def _report(self, about: str, level: int, text: str, *arguments: object) -> None:
        """A record, at most one in a minute about the same address: a flood must not fill the log."""
        now = self._network.clock.monotonic()
        if now - self._reported.get(about, -60.0) < 60:
            return
        if len(self._reported) >= _REPORTED:
            self._reported.clear()
        self._reported[about] = now
        self.log.record(level, text, *arguments)

    async def _session(self, channel: Channel, tls: bool, same: str) -> None:
        session = channel.session
        assert session is not None
        try:
            await run_session(
                self._serve_tls if tls else self._begin,
                channel,
                self._network.sessions,
                self.log.session(session.number),
                failed=self._network.failed,
                farewell=self._farewell,
            )
        finally:
            self._network.patience.discard(channel)
            self.active -= 1
            self._by_address[same] -= 1
            if self._by_address[same] <= 0:
                del self._by_address[same]

    async def _begin(self, channel: Channel) -> None:
        """What has to be known about a stranger and takes time, then the session."""
        if not (channel.client or channel.member):
            peers, address = self._network.peers, channel.peer.address
            if peers.detects():
                channel.client = await peers.detect(address)
            if self.denial is not None and self._farewell is not None and not peers.may_log_in(address):
                self._report(address, PROBLEM, "[%s] is refused: it is no client address", address)
                await channel.send(self._farewell(self.denial()))
                return
        await self._serve(channel)

    async def _serve_tls(self, channel: Channel) -> None:
        if not channel.can_start_tls:
            self.log.failure(
                "[%s] is disconnected: there is no certificate for [%s]", channel.peer.address, channel.local.address
            )
            return
        channel.timeout = HANDSHAKE_TIME
        await channel.start_tls()
        channel.timeout = DEFAULT_TIMEOUT
        await self._begin(channel)


def _listen(address: str, port: int) -> socket.socket:
    """A listening socket, dual-stack for "all" where the system has IPv6. Raises OSError."""
    if address == "all":
        if socket.has_dualstack_ipv6():
            try:
                return _bind(socket.AF_INET6, ("::", port), dual=True)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise  # otherwise IPv6 is built in and switched off
        return _bind(socket.AF_INET, ("0.0.0.0", port), dual=False)  # noqa: S104 - what "all" means
    if ":" in address:
        return _bind(socket.AF_INET6, (address, port), dual=False)
    return _bind(socket.AF_INET, (address, port), dual=False)


def _bind(family: socket.AddressFamily, address: tuple[str, int], *, dual: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "nt":
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE"), 1)  # noqa: B009
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
