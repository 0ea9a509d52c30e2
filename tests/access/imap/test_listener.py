"""The IMAP module's listener, over the loopback, and a real mail library's client."""

from __future__ import annotations

import imaplib
import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from appliance.access.imap.service import ImapService
from appliance.access.imap.settings import LISTENER, SETTINGS
from appliance.formats.data import Value
from appliance.kernel.channel import Channel, ChannelError, connect
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.listener import Network
from appliance.kernel.log import Logger
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.tls import TLS, Tls

if TYPE_CHECKING:
    from .conftest import Office, Post


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def network_of(post: Post) -> Network:
    clock = TrioClock()
    peers = Peers(Settings(IP_ADDRESSES, MemoryStorage()), clock)
    tls = Tls(Settings(TLS, MemoryStorage()), InLoopDisk(), os.getcwd(), clock, post.log.source("TLS"))

    def failed(error: BaseException, log: Logger) -> None:
        raise error

    return Network(peers, tls, post.sessions, clock, failed, statistics=post.statistics)


async def greeting(port: int) -> tuple[bytes, Channel]:
    channel = await connect(["127.0.0.1"], port)
    channel.timeout = 5
    return await channel.receive(), channel


@pytest.mark.feature("IMAP-001", "IMAP-002", "IMAP-006", "IMAP-007")
async def test_channels_and_limits(post: Post) -> None:
    port = free_port()
    row: dict[str, Value] = {"Port": str(port), "Address": "127.0.0.1"}
    await post.settings.update({"Listener": [row], "Channels": "3", "SameAddress": "unlimited"})
    async with trio.open_nursery() as nursery:
        await nursery.start(ImapService(post.around).listener(network_of(post)).run)
        kept = []
        for _ in range(3):
            heard, channel = await greeting(port)
            assert heard.startswith(b"* OK ")
            kept.append(channel)
        assert post.statistics.snapshot()["imap.channels"] == 3
        heard, channel = await greeting(port)
        assert heard.startswith(b"* BYE ")
        channel.close()
        await post.settings.update({"Channels": "10", "SameAddress": "4"})
        heard, channel = await greeting(port)
        assert heard.startswith(b"* OK ")
        kept.append(channel)
        heard, channel = await greeting(port)
        assert not heard.startswith(b"* OK ")
        for one in kept:
            one.close()
        await trio.testing.wait_all_tasks_blocked()
        assert post.statistics.snapshot()["imap.connections"] >= 4
        assert post.statistics.snapshot()["imap.channels"] == 0
        await post.settings.update({"Channels": "0"})
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ChannelError):
            await greeting(port)
        nursery.cancel_scope.cancel()


@pytest.mark.feature("IMAP-001")
def test_a_new_installation_listens_on_143_and_993() -> None:
    settings = Settings(SETTINGS, MemoryStorage())
    rows = [(row["Port"], row["TLS"]) for row in settings[LISTENER.sockets] if row["Port"]]
    assert rows == [(143, "Off"), (993, "On")]
    assert settings[LISTENER.channels] == 100


async def test_a_real_client(office: Office) -> None:
    port = free_port()
    await office.settings.update({"Listener": [{"Port": str(port), "Address": "127.0.0.1"}]})

    def work() -> None:
        client = imaplib.IMAP4("127.0.0.1", port, timeout=10)
        client.authenticate("CRAM-MD5", _cram)
        assert client.create('"R&AOk-sum&AOk-"')[0] == "OK"
        content = b"Subject: hi\r\n\r\nFrom now on\r\n\xff\xfe end\r\n"
        assert client.append("INBOX", "(\\Draft)", imaplib.Time2Internaldate(1600000000), content)[0] == "OK"
        assert client.select()[1] == [b"1"]
        _, data = client.fetch("1", "(FLAGS BODY.PEEK[])")
        assert isinstance(data[0], tuple)
        assert data[0][1] == content
        assert client.search(None, "SUBJECT", '"hi"')[1] == [b"1"]
        assert client.store("1", "+FLAGS", "(\\Deleted)")[0] == "OK"
        assert client.expunge()[1] == [b"1"]
        assert client.unselect()[0] == "OK"
        client.logout()

    async with trio.open_nursery() as nursery:
        await nursery.start(ImapService(office.around).listener(network_of(office)).run)
        await trio.to_thread.run_sync(work)
        nursery.cancel_scope.cancel()


def _cram(challenge: bytes) -> bytes:
    import hmac

    return b"jim " + hmac.HMAC(b"secret", challenge, "md5").hexdigest().encode("ascii")
