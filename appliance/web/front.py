"""The HTTP front: HTTP/1.1 and HTTP/2 on a Channel, pages as ASGI applications (manual, chapter 5; RFC 9110, 9112, 9113).

Hypercorn frames the protocols; connection, time limits and closing are ours, because its own connection class shields a send
that a client can stop reading. Every wait ends by the Channel's time limits or by cancellation.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, LifespanState

from appliance.kernel.channel import Channel, ChannelClosed, ChannelError, ChannelTimeout
from appliance.kernel.log import Logger

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

#: Seconds in which nothing moves in either direction while a request is in hand.
REQUEST_TIME = 300.0
#: Seconds that a connection may idle between requests, and in which the header of a request must be complete.
KEEP_ALIVE = 30.0
#: Header section of a request, bytes.
MAX_HEADER = 64 * 1024
#: Request target, bytes (RFC 9110, 4.1 asks for 8000 at least).
MAX_TARGET = 16 * 1024
#: Requests on one connection.
MAX_REQUESTS = 10000

#: What a client hears that came over the limit of channels.
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n"


class _Records:
    """Hypercorn's logger, into the System Log."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    async def access(self, *parts: Any) -> None:
        """Requests are recorded by the front itself."""

    async def exception(self, message: str, *parts: Any) -> None:
        import traceback

        self._logger.crash("%s: %s", message, traceback.format_exc())

    async def error(self, message: str, *parts: Any) -> None:
        self._logger.problem("%s", message)

    critical = error
    warning = error

    async def info(self, message: str, *parts: Any) -> None:
        self._logger.all("%s", message)

    debug = info

    async def log(self, level: int, message: str, *parts: Any) -> None:
        self._logger.all("%s", message)


class _Application:
    """The form in which Hypercorn calls an application; puts the Channel into the scope."""

    def __init__(self, application: Application, channel: Channel, logger: Logger) -> None:
        self._application = application
        self._channel = channel
        self._logger = logger

    async def __call__(self, scope: Any, receive: Any, send: Any, *_: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        scope["channel"] = self._channel
        if self._channel.encrypted:
            scope["scheme"] = "https"
        self._logger.low("%s %s", scope["method"], scope["path"])
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            await send({"type": "http.response.start", "status": 414, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        if self._channel.session is not None:
            self._channel.session.busy = True
        try:
            await self._application(scope, receive, send)
        finally:
            if self._channel.session is not None:
                self._channel.session.busy = False


class _Connection:
    """One connection: bytes of the Channel to the protocol and back."""

    def __init__(self, front: HttpFront, channel: Channel, logger: Logger) -> None:
        self._channel = channel
        self._front = front
        self._logger = logger
        self._idle = True
        self._sent = 0
        self._waiting = trio.CancelScope()
        self._sending = trio.Lock()

    async def run(self) -> None:
        channel = self._channel
        tls = channel.tls
        async with TaskGroup() as group:
            self._protocol = ProtocolWrapper(
                cast(AppWrapper, _Application(self._front.application, channel, self._logger)),
                self._front.config(self._logger),
                WorkerContext(None),
                group,
                ConnectionState(LifespanState({})),
                channel.encrypted,
                (channel.peer.address, channel.peer.port),
                (channel.local.address, channel.local.port),
                self._send,
                tls.alpn if tls is not None else "http/1.1",
            )
            await self._protocol.initiate()
            try:
                await self._read()
            finally:
                # A page that still waits for the request or sends the answer ends with the connection.
                await self._protocol.handle(Closed())

    async def _read(self) -> None:
        channel = self._channel
        channel.timeout = REQUEST_TIME
        idle_since = trio.current_time()
        while True:
            data = b""
            self._waiting = trio.CancelScope(deadline=idle_since + KEEP_ALIVE if self._idle else math.inf)
            with self._waiting:
                try:
                    data = await channel.receive()
                except ChannelTimeout:
                    if channel.sent != self._sent:
                        # The client reads a long answer and has nothing to say.
                        self._sent = channel.sent
                        continue
                    return
                except ChannelError:
                    return
            if not self._idle:
                idle_since = trio.current_time()
            await self._protocol.handle(RawData(data))
            if not data:
                return

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            async with self._sending:
                try:
                    await self._channel.send(event.data)
                except ChannelError:
                    self._channel.close()
                    await self._protocol.handle(Closed())
        elif isinstance(event, Closed):
            try:
                await self._channel.send_eof()
            except ChannelClosed:
                pass
            finally:
                # Also when the page's task is cancelled just here: the end of a streamed answer cancels its sender.
                self._channel.close()
            await self._protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._idle = event.idle
            self._waiting.deadline = trio.current_time() + KEEP_ALIVE if event.idle else math.inf


class HttpFront:
    """Serves one application; `serve` is what a listener starts for a connection."""

    def __init__(self, application: Application, logger: Logger) -> None:
        self.application = application
        self.logger = logger

    def config(self, logger: Logger) -> Config:
        config = Config()
        config.h11_max_incomplete_size = MAX_HEADER
        config.h2_max_header_list_size = MAX_HEADER
        config.h2_max_concurrent_streams = 32
        config.keep_alive_timeout = math.inf  # the Channel's time limit counts
        config.keep_alive_max_requests = MAX_REQUESTS
        config.include_server_header = False
        config.max_app_queue_size = 4
        config._log = _Records(logger)  # type: ignore[assignment]
        return config

    async def serve(self, channel: Channel) -> None:
        """One connection, to its end; the Channel is closed in every case."""
        session = channel.session
        logger = self.logger.session(session.number) if session is not None else self.logger
        try:
            await _Connection(self, channel, logger).run()
        finally:
            with trio.CancelScope() as scope:
                scope.cancel()
                await channel.aclose()
            channel.close()


__all__ = ["REFUSAL", "HttpFront"]
