"""The POP module's listener, over the loopback."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from appliance.access.pop.service import PopService
from appliance.access.pop.settings import LISTENER, SETTINGS
from appliance.kernel.channel import Channel, ChannelError, connect
from appliance.kernel.clock import TrioClock
from appliance.kernel.components import declare
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.listener import Listener, Network
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, Operations
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.settings import MemoryStorage, Settings, SettingsRegistry
from appliance.kernel.tls import TLS, Tls

if TYPE_CHECKING:
    from tests.access.pop.conftest import Post


def listener_of(post: Post) -> Listener:
    clock = TrioClock()
    peers = Peers(Settings(IP_ADDRESSES, MemoryStorage()), clock)
    tls = Tls(Settings(TLS, MemoryStorage()), InLoopDisk(), os.getcwd(), clock, post.log.source("TLS"))

    def failed(error: BaseException, log: Logger) -> None:
        raise error

    network = Network(peers, tls, post.sessions, clock, failed, statistics=post.statistics)
    return PopService(post.around).listener(network)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def greeting(port: int) -> tuple[bytes, Channel]:
    channel = await connect(["127.0.0.1"], port)
    channel.timeout = 5
    return await channel.receive(), channel


@pytest.mark.feature("POP-001", "POP-002", "POP-009")
async def test_channels_open_limit_and_close_the_listener(post: Post) -> None:
    port = free_port()
    await post.settings.update({"Listener": [{"Port": str(port), "Address": "127.0.0.1"}], "Channels": "1"})
    registry, operations = SettingsRegistry(), Operations()
    registry.add(post.settings)
    declare(operations, registry, post.around.log)
    server = Caller(None, "example.com", "PWD", None)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(listener_of(post).run)
        first, channel = await greeting(port)
        assert first.startswith(b"+OK Pillarbox POP3 Server")
        second, surplus = await greeting(port)
        assert second.startswith(b"-ERR")
        surplus.close()
        await channel.send(b"QUIT\r\n")
        while await channel.receive():
            pass
        channel.close()
        third, channel = await greeting(port)
        assert third.startswith(b"+OK")
        channel.close()
        await operations.perform(server, "UpdateModule", {"moduleName": "pop", "newSettings": {"Channels": "0"}})
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ChannelError):
            await greeting(port)
        nursery.cancel_scope.cancel()


@pytest.mark.feature("POP-003")
def test_a_new_installation_listens_on_110_only(post: Post) -> None:
    settings = Settings(SETTINGS, MemoryStorage())
    rows = [(row["Port"], row["TLS"]) for row in settings[LISTENER.sockets] if row["Port"]]
    assert rows == [(110, "Off")]
