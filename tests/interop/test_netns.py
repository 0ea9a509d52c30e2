"""The hosts of the dial-up tests are what they say."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.interop import netns
from tests.interop.netns import Network, Packet
from tests.interop.processes import eventually

pytestmark = pytest.mark.skipif(not netns.exists(), reason="needs root and network namespaces")


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def test_two_hosts_and_a_line(network: Network) -> None:
    office, provider = network.host("office"), network.host("provider")
    line = network.cable(office, "10.77.0.1", provider, "10.77.0.2")
    with provider.inside():
        listener = socket.create_server(("10.77.0.2", 25))
    assert "line" not in dict(socket.if_nameindex()).values()  # the test's own machine has no part in it
    with office.capture() as packets:
        with office.inside():
            caller = socket.create_connection(("10.77.0.2", 25), 5)
        eventually(lambda: packets)
    assert packets[0] == Packet("TCP", "10.77.0.2", 25)
    called, peer = listener.accept()
    assert peer[0] == "10.77.0.1"
    line.down()
    caller.sendall(b"lost")
    called.settimeout(0.3)
    with pytest.raises(TimeoutError):
        called.recv(10)
    line.up()
    line.forget()
    with pytest.raises(OSError):
        caller.sendall(b"x")
        caller.sendall(b"x")
    for one in (listener, caller, called):
        one.close()
