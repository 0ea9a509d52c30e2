"""A Channel is one connection as a session sees it: bytes in, bytes out, who is at the other end, is it secure.

Sessions talk to non-blocking sockets through nothing but this file: setting up trio's stream layers costs more than a short
session does. TLS runs over two memory buffers, so a connection can start it at any time, in either role, over a socket or
over the memory pair that tests use.

Time limits: each wait of `receive`, and each 64 KiB of `send`, ends after `timeout` seconds with ChannelTimeout. `aclose`
never waits for the network, and nothing is shielded from cancellation. A send that was cut off midway (time limit,
cancellation) leaves the stream in the middle of a line, so all later sends raise ChannelClosed.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import trio

from appliance.kernel.patience import Patience
from appliance.kernel.sessions import Session

if TYPE_CHECKING:
    import ssl

__all__ = [
    "Channel",
    "ChannelClosed",
    "ChannelError",
    "ChannelTimeout",
    "Endpoint",
    "TlsInfo",
    "accepted_channel",
    "connect",
    "plain_address",
]

PIECE: Final = 65536
#: Ciphertext is moved in pieces of one TLS record, because OpenSSL's memory buffers never shrink again.
RECORD: Final = 16384
DEFAULT_TIMEOUT: Final = 600.0


class ChannelError(Exception):
    """The connection is of no more use; the text says why."""


class ChannelClosed(ChannelError):
    """The peer reset the connection, or this side closed it, or a send was cut off before."""


class ChannelTimeout(ChannelError):
    """Nothing moved for the time limit."""


class Endpoint(NamedTuple):
    """One end of a connection: the address in its plain form (IPv4 also where the socket is dual-stack)."""

    address: str
    port: int

    @property
    def loopback(self) -> bool:
        return self.address == "::1" or self.address.startswith("127.")


class TlsInfo(NamedTuple):
    """What was negotiated: `version` as `TLSv1.3`, the cipher's name and bits, the application protocol (RFC 7301)."""

    version: str
    cipher: str
    bits: int
    alpn: str | None
    resumed: bool


class Wire(Protocol):
    """What carries the bytes. `recv` and `send` do not wait: they raise BlockingIOError."""

    def recv(self, limit: int, /) -> bytes: ...
    def send(self, data: bytes | memoryview, /) -> int: ...
    async def readable(self) -> None: ...
    async def writable(self) -> None: ...
    def end(self) -> None:
        """No more bytes from here; the other direction stays open."""
        ...

    def wake(self) -> None:
        """Who waits gets trio.ClosedResourceError; the connection stays as it is."""
        ...

    def close(self) -> None: ...
    def silent(self) -> bool:
        """Nothing waits to be received, not even an end."""
        ...


class SocketWire:
    """A connected, non-blocking socket of the operating system."""

    __slots__ = ("number", "recv", "send", "socket")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.number = sock.fileno()
        self.recv = sock.recv
        self.send = sock.send

    async def readable(self) -> None:
        await trio.lowlevel.wait_readable(self.number)

    async def writable(self) -> None:
        await trio.lowlevel.wait_writable(self.number)

    def end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def wake(self) -> None:
        trio.lowlevel.notify_closing(self.number)

    def close(self) -> None:
        trio.lowlevel.notify_closing(self.number)
        self.socket.close()

    def silent(self) -> bool:
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            pass
        return False


class Channel:
    """One connection. Not for two receivers, nor for two senders, at a time; one of each is fine."""

    __slots__ = (
        "_broken",
        "_closed",
        "_incoming",
        "_lock",
        "_outgoing",
        "_restored",
        "_tls",
        "_wire",
        "certificate",
        "client",
        "deadline",
        "domain",
        "expired",
        "external",
        "handshakes",
        "local",
        "member",
        "patience",
        "peer",
        "received",
        "sent",
        "session",
        "timeout",
        "tls_report",
    )

    def __init__(self, wire: Wire, peer: Endpoint, local: Endpoint) -> None:
        self._wire = wire
        self.peer = peer
        self.local = local
        #: Seconds that a receive, or 64 KiB of a send, may take; the session sets it as its state demands.
        self.timeout = DEFAULT_TIMEOUT
        self.session: Session | None = None
        #: The peer is one of the Client IP Addresses.
        self.client = False
        #: The peer is another member of the cluster.
        self.member = False
        #: An outside device does the encryption (Init SSL/TLS "Ext"): clear bytes that count as secure.
        self.external = False
        #: The domain that the local address is assigned to, if any.
        self.domain: str | None = None
        #: Gives the server context for this connection's own address, None where it has no certificate.
        self.certificate: Callable[[], ssl.SSLContext | None] | None = None
        #: Slots for handshakes, shared with the other connections of a listener.
        self.handshakes: trio.CapacityLimiter | None = None
        #: Told about each handshake here: None, or why it failed.
        self.tls_report: Callable[[Channel, str | None], None] | None = None
        #: Keeps the time of receives for many connections at once; None: each wait has its own timer.
        self.patience: Patience | None = None
        self.deadline = math.inf
        self.expired = False
        self.received = 0
        self.sent = 0
        self._restored = b""
        self._closed = False
        self._broken = False
        self._tls: ssl.SSLObject | None = None
        self._incoming: ssl.MemoryBIO | None = None
        self._outgoing: ssl.MemoryBIO | None = None
        self._lock: trio.Lock | None = None

    def __repr__(self) -> str:
        return f"<Channel {self.peer.address}:{self.peer.port}>"

    @property
    def encrypted(self) -> bool:
        """TLS is on, here or in an outside device: STARTTLS is neither offered nor accepted."""
        return self._tls is not None or self.external

    @property
    def secure(self) -> bool:
        """A password in clear text may be sent over it: encrypted, or it never leaves this machine."""
        return self._tls is not None or self.external or self.peer.loopback

    @property
    def tls(self) -> TlsInfo | None:
        """What TLS negotiated; None on a clear connection."""
        if self._tls is None:
            return None
        cipher = self._tls.cipher() or ("", "", 0)
        return TlsInfo(
            self._tls.version() or "", cipher[0], cipher[2], self._tls.selected_alpn_protocol(), self._reused()
        )

    def _reused(self) -> bool:
        return bool(self._tls is not None and self._tls.session_reused)

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate in DER form, None without TLS or where the peer gave none."""
        return self._tls.getpeercert(True) if self._tls is not None else None

    @property
    def can_start_tls(self) -> bool:
        """STARTTLS makes sense: not encrypted yet and there is a certificate for the local address."""
        return not self.encrypted and self.certificate is not None and self.certificate() is not None

    # -- receiving ----------------------------------------------------------------------------------------------------

    async def receive(self, limit: int = PIECE) -> bytes:
        """At least one and at most `limit` bytes; b"" when the peer has ended. Raises ChannelClosed, ChannelTimeout."""
        if self._restored:
            await trio.lowlevel.checkpoint()
            data, self._restored = self._restored[:limit], self._restored[limit:]
            return data
        if self._tls is not None:
            return await self._receive_tls(limit)
        return await self._receive_wire(limit)

    async def receive_before(self, deadline: float, limit: int = PIECE) -> bytes:
        """`receive` that ends at a moment of trio's clock, however often a byte drips in. Raises as `receive` does."""
        patience = self.timeout
        self.timeout = max(0.0, min(patience, deadline - trio.current_time()))
        try:
            return await self.receive(limit)
        finally:
            self.timeout = patience

    @property
    def silent(self) -> bool:
        """The peer has said nothing and has not ended since the last receive: an idle connection can be used again."""
        return not (self._closed or self._broken or self._restored) and self._wire.silent()

    def restore(self, data: bytes) -> None:
        """Give back bytes that were received and not used, for the next protocol on this connection."""
        self._restored = data + self._restored

    async def _receive_wire(self, limit: int) -> bytes:
        if self._closed:
            raise ChannelClosed("the connection is closed")
        wire = self._wire
        try:
            try:
                data = wire.recv(limit)
            except (BlockingIOError, InterruptedError):
                data = await self._wait_and_receive(limit)
            else:
                await trio.lowlevel.checkpoint()
        except OSError as error:
            raise ChannelClosed(_reason(error)) from None
        except trio.ClosedResourceError:
            raise ChannelClosed("the connection is closed") from None
        self.received += len(data)
        return data

    def expire(self) -> None:
        """The time of the receive that waits is over (`Patience`)."""
        self.deadline = math.inf
        self.expired = True
        self._wire.wake()

    async def _wait_and_receive(self, limit: int) -> bytes:
        wire, patience = self._wire, self.patience
        if patience is not None and patience.running:
            self.deadline = trio.current_time() + self.timeout
            if self.deadline < patience.next:
                patience.sooner(self.deadline)
            try:
                while True:
                    await wire.readable()
                    try:
                        return wire.recv(limit)
                    except (BlockingIOError, InterruptedError):
                        continue
            except trio.ClosedResourceError:
                if not self.expired:
                    raise
                self.expired = False
                raise ChannelTimeout(f"nothing was received for {self.timeout:g} seconds") from None
            finally:
                self.deadline = math.inf
        # Without the context manager of move_on_after: this runs for every command of every session.
        with trio.CancelScope(deadline=trio.current_time() + self.timeout):
            while True:
                await wire.readable()
                try:
                    return wire.recv(limit)
                except (BlockingIOError, InterruptedError):
                    continue
        raise ChannelTimeout(f"nothing was received for {self.timeout:g} seconds")

    async def _receive_tls(self, limit: int) -> bytes:
        import ssl

        assert self._tls is not None and self._incoming is not None and self._outgoing is not None
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self._tls.read(limit)
            except ssl.SSLWantReadError:
                pass
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""  # every protocol here marks its own end, so a missing close_notify cuts nothing off unseen
            except ssl.SSLError as error:
                raise ChannelClosed(f"TLS: {error.reason or error}") from None
            if self._outgoing.pending and self._lock is not None and not self._lock.locked():
                await self._flush()  # answers of TLS itself; a sender at work takes them along
            data = await self._receive_wire(RECORD)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    # -- sending ------------------------------------------------------------------------------------------------------

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """All of `data`. Raises ChannelClosed, ChannelTimeout."""
        if self._tls is None:
            await self._send_wire(data)
            return
        import ssl

        view = memoryview(data)
        for start in range(0, len(view), RECORD):
            if self._closed or self._broken:
                raise ChannelClosed("the connection is closed")
            try:
                self._tls.write(view[start : start + RECORD])
            except ssl.SSLError as error:
                raise ChannelClosed(f"TLS: {error.reason or error}") from None
            await self._flush()

    async def _flush(self) -> None:
        """Send what TLS has ready. In turn: records must not be mixed when one task receives and another sends."""
        assert self._outgoing is not None and self._lock is not None
        outgoing, lock = self._outgoing, self._lock
        try:
            lock.acquire_nowait()  # no step between TLS making a record and the lock: a receiver would take it over
        except trio.WouldBlock:
            await lock.acquire()
        try:
            while outgoing.pending:
                await self._send_wire(outgoing.read())
        finally:
            lock.release()

    async def _send_wire(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed or self._broken:
            raise ChannelClosed("the connection is closed")
        wire = self._wire
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                sent = wire.send(data)  # type: ignore[arg-type]
            except (BlockingIOError, InterruptedError):
                sent = 0
            self.sent += sent
            if sent < len(data):
                self._broken = True  # until all of it is out
                await self._send_rest(memoryview(data)[sent:])
                self._broken = False
        except OSError as error:
            self._broken = True
            raise ChannelClosed(_reason(error)) from None
        except trio.ClosedResourceError:
            raise ChannelClosed("the connection is closed") from None

    async def _send_rest(self, view: memoryview) -> None:
        wire = self._wire
        while len(view):
            piece = view[:PIECE]
            view = view[PIECE:]
            with trio.move_on_after(self.timeout):
                while len(piece):
                    await wire.writable()
                    try:
                        sent = wire.send(piece)
                    except (BlockingIOError, InterruptedError):
                        continue
                    self.sent += sent
                    piece = piece[sent:]
            if len(piece):
                raise ChannelTimeout(f"the peer took nothing for {self.timeout:g} seconds")

    def send_now(self, data: bytes) -> None:
        """Send what the operating system takes at once, without waiting: the good-bye of a session that was cancelled."""
        if self._closed or self._broken:
            return
        import ssl

        try:
            if self._tls is not None:
                assert self._outgoing is not None and self._lock is not None
                if self._lock.locked():
                    return
                self._tls.write(data)
                data = self._outgoing.read()
            sent = self._wire.send(data)
            self._broken = sent < len(data)
            self.sent += sent
        except (OSError, ssl.SSLError):
            self._broken = True

    async def send_eof(self) -> None:
        """Tell the peer that nothing more comes; receiving goes on."""
        if self._tls is not None:
            self._notify_close()
            await self._flush()
        else:
            await trio.lowlevel.checkpoint()
        try:
            self._wire.end()
        except OSError as error:
            raise ChannelClosed(_reason(error)) from None

    # -- TLS ----------------------------------------------------------------------------------------------------------

    async def start_tls(
        self, context: ssl.SSLContext | None = None, server_side: bool = True, hostname: str | None = None
    ) -> None:
        """Handshake, in a slot of `handshakes` and within `timeout` seconds; everything after it is inside TLS.

        Without a context a server takes the one of its certificate. `hostname` is what a client asks for (SNI) and checks.
        Raises ChannelError: received but unused bytes (RFC 3207, 4: they could have been slipped in), no certificate,
        failed handshake; the connection is then of no more use.
        """
        if self._restored:
            raise ChannelError("bytes were sent before the TLS handshake")
        if self.encrypted:
            raise ChannelError("TLS is on already")
        if context is None and server_side and self.certificate is not None:
            context = self.certificate()
        if context is None:
            raise ChannelError("there is no certificate for this address")
        try:
            await self._handshake_in_time(context, server_side, hostname)
        except ChannelError as error:
            if self.tls_report is not None:
                self.tls_report(self, str(error))
            raise
        if self.tls_report is not None:
            self.tls_report(self, None)

    async def _handshake_in_time(self, context: ssl.SSLContext, server_side: bool, hostname: str | None) -> None:
        slot = self.handshakes
        with trio.move_on_after(self.timeout) as scope:
            if slot is None:
                await self._handshake(context, server_side, hostname)
            else:
                async with slot:
                    await self._handshake(context, server_side, hostname)
        if scope.cancelled_caught:
            self._broken = True
            raise ChannelTimeout(f"no TLS handshake within {self.timeout:g} seconds")

    async def _handshake(self, context: ssl.SSLContext, server_side: bool, hostname: str | None) -> None:
        import ssl

        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            tls = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=hostname)
        except (ssl.SSLError, ValueError) as error:
            raise ChannelError(f"TLS: {error}") from None
        try:
            while True:
                problem: ssl.SSLError | None = None
                try:
                    tls.do_handshake()
                    wanted = False
                except ssl.SSLWantReadError:
                    wanted = True
                except ssl.SSLError as error:
                    problem, wanted = error, False
                if outgoing.pending:  # also the alert that tells the peer why
                    await self._send_wire(outgoing.read())
                if problem is not None:
                    detail = getattr(problem, "verify_message", "") or problem.reason or str(problem)
                    raise ChannelError(f"TLS handshake failed: {detail}")
                if not wanted:
                    break
                data = await self._receive_wire(RECORD)
                if not data:
                    raise ChannelClosed("the peer ended the TLS handshake")
                incoming.write(data)
        except ChannelError:
            self._broken = True
            raise
        self._tls, self._incoming, self._outgoing, self._lock = tls, incoming, outgoing, trio.Lock()

    def _notify_close(self) -> None:
        import ssl

        assert self._tls is not None
        try:
            self._tls.unwrap()
        except (ssl.SSLError, OSError, ValueError):
            pass  # the notice is written, the peer's answer to it is not waited for

    # -- the end ------------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close. Never waits for the peer: what the operating system has taken it still delivers."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """The same without a checkpoint: also fit for a clean-up under cancellation."""
        if self._closed:
            return
        wire = self._wire
        try:
            if self._tls is not None and not self._broken:
                self._notify_close()
                assert self._outgoing is not None and self._lock is not None
                if self._outgoing.pending and not self._lock.locked():
                    wire.send(self._outgoing.read())
            # Unread input would make the close a reset, and a reset can overtake the good-bye.
            wire.recv(PIECE)
        except OSError:
            pass
        self._closed = True
        self._restored = b""
        wire.close()
        self._tls = self._incoming = self._outgoing = None

    @property
    def closed(self) -> bool:
        return self._closed


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def plain_address(sockaddr: tuple[object, ...]) -> Endpoint:
    """The endpoint of a socket address; an IPv4 client of a dual-stack socket has its IPv4 address."""
    address = str(sockaddr[0])
    if address.startswith("::ffff:") and "." in address:
        address = address[7:]
    return Endpoint(address, int(str(sockaddr[1])))


def accepted_channel(sock: socket.socket, peer: tuple[object, ...], local: Endpoint | None = None) -> Channel:
    """The channel of an accepted socket, which becomes non-blocking. `local` spares a system call where it is known."""
    sock.setblocking(False)
    # An answer is one send; waiting to fill packets would only delay it.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Channel(SocketWire(sock), plain_address(peer), local or plain_address(sock.getsockname()))


async def connect(
    addresses: Iterable[str],
    port: int,
    *,
    source: str | None = None,
    timeout: float = 60.0,
    session: Session | None = None,
    lost: int = 0,
) -> Channel:
    """Connect to the first of these IP addresses that answers; `timeout` seconds for each, `source` is the local address.

    With `lost`, the connection breaks after so many seconds in which the other machine acknowledged nothing, as when a line
    has died: nobody tells us that otherwise. (Where the operating system can watch over it.)

    Addresses of another family than `source` are passed over. Raises ChannelTimeout if the last one did not answer,
    ChannelError with the reason of the last one otherwise.
    """
    failure: ChannelError | None = None
    for address in addresses:
        try:
            channel = await _connect_one(address, port, source, timeout, lost)
        except ChannelError as error:
            failure = error
            continue
        channel.session = session
        return channel
    raise failure or ChannelError("there is no address to connect to")


async def _connect_one(address: str, port: int, source: str | None, timeout: float, lost: int) -> Channel:
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        raise ChannelError(f"[{address[:64]}] is not an IP address") from None
    family, kind, protocol, _, target = found[0]
    if source is not None and (":" in source) != (family == socket.AF_INET6):
        raise ChannelError(f"[{address}] cannot be reached from [{source}]")
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ChannelError(_reason(error)) from None
    wire = SocketWire(sock)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if lost:
            _watch_over(sock, lost)
        if source is not None:
            sock.bind((source, 0))
        with trio.move_on_after(timeout) as scope:
            await trio.lowlevel.checkpoint()
            code = sock.connect_ex(target)
            if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, getattr(errno, "WSAEWOULDBLOCK", -1)):
                await trio.lowlevel.wait_writable(wire.number)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, errno.errorcode.get(code, str(code)))
        if scope.cancelled_caught:
            raise ChannelTimeout(f"[{address}]:{port} did not answer within {timeout:g} seconds")
        return Channel(wire, Endpoint(address, port), plain_address(sock.getsockname()))
    except OSError as error:
        wire.close()
        raise ChannelError(f"[{address}]:{port}: {_system_text(error)}") from None
    except BaseException:
        wire.close()
        raise


def _watch_over(sock: socket.socket, lost: int) -> None:
    """Let the system end the connection when the other machine has been silent for so many seconds, also to probes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", max(1, lost // 3)),
        ("TCP_KEEPINTVL", max(1, lost // 6)),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", lost * 1000),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _system_text(error: OSError) -> str:
    import os

    return os.strerror(error.errno) if error.errno else _reason(error)
