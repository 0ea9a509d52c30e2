"""Two channels connected in memory: for tests, and for a server that talks to itself."""

from __future__ import annotations

import errno
from collections import deque

import trio

from appliance.kernel.channel import PIECE, Channel, Endpoint

__all__ = ["MemoryWire", "channel_pair"]


class _Pipe:
    """One direction: at most `capacity` bytes wait in it, and no more are taken until the reader takes some."""

    __slots__ = ("capacity", "ended", "held", "pieces", "reader", "reset", "writer")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.pieces: deque[bytes] = deque()
        self.held = 0
        self.ended = False
        self.reset = False
        self.reader: trio.Event | None = None
        self.writer: trio.Event | None = None

    def wake(self) -> None:
        for event in (self.reader, self.writer):
            if event is not None:
                event.set()
        self.reader = self.writer = None

    def put(self, data: bytes | memoryview) -> int:
        if self.reset:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        room = self.capacity - self.held
        if room <= 0:
            raise BlockingIOError
        piece = bytes(data[:room])
        if piece:
            self.pieces.append(piece)
            self.held += len(piece)
            self.wake()
        return len(piece)

    def take(self, limit: int) -> bytes:
        if self.pieces:
            first = self.pieces.popleft()
            if len(first) > limit:
                self.pieces.appendleft(first[limit:])
                first = first[:limit]
            self.held -= len(first)
            self.wake()
            return first
        if self.ended:
            return b""
        raise BlockingIOError


class MemoryWire:
    """One end of a connection inside the process."""

    __slots__ = ("_closed", "_in", "_out", "_woken")

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._in = incoming
        self._out = outgoing
        self._closed = False
        self._woken = False

    def recv(self, limit: int, /) -> bytes:
        return self._in.take(limit)

    def send(self, data: bytes | memoryview, /) -> int:
        if self._out.ended:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return self._out.put(data)

    async def readable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not (self._in.pieces or self._in.ended or self._closed or self._woken):
            if self._in.reader is None:  # one is left there by a wait that was cancelled
                self._in.reader = trio.Event()
            await self._in.reader.wait()
        self._check()

    async def writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not (self._out.held < self._out.capacity or self._out.reset or self._closed or self._woken):
            if self._out.writer is None:
                self._out.writer = trio.Event()
            await self._out.writer.wait()
        self._check()

    def _check(self) -> None:
        woken, self._woken = self._woken, False
        if self._closed or woken:
            raise trio.ClosedResourceError

    def silent(self) -> bool:
        return not (self._in.pieces or self._in.ended or self._in.reset)

    def end(self) -> None:
        self._out.ended = True
        self._out.wake()

    def wake(self) -> None:
        self._woken = True
        for pipe in (self._in, self._out):
            pipe.wake()

    def close(self) -> None:
        self._closed = True
        self._in.reset = True
        self._out.ended = True
        self._in.wake()
        self._out.wake()


def channel_pair(
    *,
    client: str = "127.0.0.1",
    server: str = "127.0.0.1",
    port: int = 25,
    capacity: int = PIECE,
) -> tuple[Channel, Channel]:
    """Two channels that are connected in memory: (client's, server's).

    The pair behaves as a socket pair does, TLS, half-close, reset and back-pressure (`capacity` bytes) included.
    """
    forth, back = _Pipe(capacity), _Pipe(capacity)
    near, far = Endpoint(client, 40000), Endpoint(server, port)
    return Channel(MemoryWire(back, forth), far, near), Channel(MemoryWire(forth, back), near, far)
