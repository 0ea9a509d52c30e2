"""The PWD module's listener, over the loopback."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from appliance.access.pwd.service import PwdService
from appliance.access.pwd.settings import LISTENER, SETTINGS
from appliance.formats.data import Value
from appliance.kernel.channel import Channel, ChannelError, connect
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.listener import Network
from appliance.kernel.log import Logger
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.tls import TLS, Tls

if TYPE_CHECKING:
    from tests.access.pwd.conftest import Office


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def greeting(port: int) -> tuple[bytes, Channel]:
    channel = await connect(["127.0.0.1"], port)
    channel.timeout = 5
    return await channel.receive(), channel


@pytest.mark.feature("PWD-016", "PWD-017")
async def test_channels_limit_and_close_the_listener(office: Office) -> None:
    clock = TrioClock()
    peers = Peers(Settings(IP_ADDRESSES, MemoryStorage()), clock)
    tls = Tls(Settings(TLS, MemoryStorage()), InLoopDisk(), os.getcwd(), clock, office.log.source("TLS"))

    def failed(error: BaseException, log: Logger) -> None:
        raise error

    network = Network(peers, tls, office.sessions, clock, failed, statistics=Statistics())
    port = free_port()
    row: dict[str, Value] = {"Port": str(port), "Address": "127.0.0.1"}
    await office.settings.update({"Listener": [row], "Channels": "10", "SameAddress": "unlimited"})
    async with trio.open_nursery() as nursery:
        await nursery.start(PwdService(office.around).listener(network).run)
        kept = []
        for _ in range(10):
            heard, channel = await greeting(port)
            assert heard.startswith(b"200 ")
            kept.append(channel)
        heard, channel = await greeting(port)
        assert heard.startswith(b"501 ")
        channel.close()
        await office.settings.update({"Listener": [{**row, "Restriction": "Deny", "List": "127.0.0.1"}]})
        await trio.testing.wait_all_tasks_blocked()
        for one in kept:
            one.close()
        await trio.testing.wait_all_tasks_blocked()
        try:
            heard, channel = await greeting(port)
        except ChannelError:
            heard = b""
        assert heard == b""
        await office.settings.update({"Listener": [row]})
        await office.settings.update({"Channels": "0"})
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ChannelError):
            await greeting(port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
        nursery.cancel_scope.cancel()


@pytest.mark.feature("PWD-001")
def test_a_new_installation_listens_on_106() -> None:
    settings = Settings(SETTINGS, MemoryStorage())
    assert [(row["Port"], row["TLS"]) for row in settings[LISTENER.sockets] if row["Port"]] == [(106, "Off")]
    assert settings[LISTENER.channels] == 10
