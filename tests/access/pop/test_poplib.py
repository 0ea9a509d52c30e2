"""The POP client of the standard library, over a real socket."""

from __future__ import annotations

import poplib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.access.pop.service import PopService
from appliance.kernel.channel import Channel, accepted_channel
from appliance.kernel.supervisor import run_session

if TYPE_CHECKING:
    from tests.access.pop.conftest import Post


async def with_server(post: Post, work: Callable[[int], None]) -> None:
    """Do `work(port)` in a thread while connections to that port are served."""
    service = PopService(post.around)

    def failed(error: BaseException, log: object) -> None:
        raise error

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)

        async def serve(channel: Channel) -> None:
            await run_session(service.serve, channel, post.sessions, post.around.log, failed=failed)

        async def accept(nursery: trio.Nursery) -> None:
            while True:
                await trio.lowlevel.wait_readable(listener.fileno())
                sock, peer = listener.accept()
                channel = accepted_channel(sock, peer)
                channel.session = post.sessions.open("POP", channel.peer.address, 0.0)
                nursery.start_soon(serve, channel)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, nursery)
            await trio.to_thread.run_sync(work, listener.getsockname()[1])
            nursery.cancel_scope.cancel()


@pytest.mark.feature("POP-010", "POP-011", "POP-030", "POP-033")
async def test_a_mailer_reads_and_removes(post: Post) -> None:
    post.account.put(101, b"Subject: one\r\n\r\n.dot\r\n..two\r\n")
    post.account.put(102, b"Subject: big\r\n\r\n" + b"line of text\r\n" * 100_000)

    def first(port: int) -> None:
        client = poplib.POP3("127.0.0.1", port, timeout=20)
        client.user("jim")
        client.pass_("secret")
        assert client.stat()[0] == 2
        assert client.retr(1)[1] == [b"Subject: one", b"", b".dot", b"..two"]
        assert len(client.retr(2)[1]) == 100_002
        assert client.top(2, 3)[1] == [b"Subject: big", b"", *[b"line of text"] * 3]
        assert client.uidl()[1] == [b"1 101", b"2 102"]
        assert "TOP" in client.capa()
        client.dele(1)
        assert client.quit() == b"+OK bye-bye"

    def second(port: int) -> None:
        client = poplib.POP3("127.0.0.1", port, timeout=20)
        client.apop("jim", "secret")
        assert client.list()[1] == [b"1 %d" % len(post.account.mailboxes["INBOX"].messages[102].data)]
        client.quit()

    await with_server(post, first)
    await with_server(post, second)
