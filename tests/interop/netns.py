"""Hosts with a network of their own, on one machine: Linux network namespaces, joined by virtual cables.

A program that is started `with host.inside():` runs on that host, and so do the sockets that the test makes there; a server's
own loopback address is another one on each host, so all can use the usual ports. Needs root, iproute2, and a kernel
that lets us make namespaces.

    with Network() as network:
        office, provider = network.host("office"), network.host("provider")
        line = network.cable(office, "10.77.0.1", provider, "10.77.0.2")
        with office.inside():
            server.start()
        line.down()
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 0x0003
_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_OUTGOING = 4  # PACKET_OUTGOING


@cache
def exists() -> bool:
    """Whether hosts can be made here, their line slowed down, and connections made to be forgotten."""
    programs = all(shutil.which(name) for name in ("ip", "ss", "tc", "unshare"))
    if not programs or os.geteuid() != 0:
        return False
    probe = (
        "ip link set lo up && ip link add one type veth peer name two && ss -K dst 127.0.0.9 && "
        "tc qdisc replace dev one root tbf rate 1mbit burst 4kb latency 1s"
    )
    done = subprocess.run(["unshare", "-n", "sh", "-c", probe], capture_output=True)
    return done.returncode == 0 and b"not supported" not in done.stderr


def _call(name: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class Packet(NamedTuple):
    """What a host sent: `UDP`, `TCP` or another word for the protocol, and where to."""

    protocol: str
    address: str
    port: int


class Host:
    """A machine of its own, as far as the network goes."""

    def __init__(self, name: str) -> None:
        self.name = name
        ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _call("unshare", CLONE_NEWNET)
            try:
                self._handle = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
                # A process that lives there gives the namespace a name that `ip` knows: its number.
                self._holder = subprocess.Popen(
                    ["sleep", "infinity"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                )
                self.run("ip", "link", "set", "lo", "up")
                # A link that comes up would announce itself by IPv6, which is no traffic of a server's.
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            finally:
                _call("setns", ours, CLONE_NEWNET)
        finally:
            os.close(ours)

    @property
    def number(self) -> str:
        """What `ip link set ... netns` takes."""
        return str(self._holder.pid)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is on that host: the sockets that it makes, and the programs that it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _call("setns", self._handle, CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", before, CLONE_NEWNET)
        finally:
            os.close(before)

    @staticmethod
    def run(*command: str) -> str:
        """A program of the system, on the host that the thread is on; its output."""
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
        assert done.returncode == 0, f"{command}: {done.stdout.decode(errors='replace')}"
        return done.stdout.decode(errors="replace")

    def do(self, *command: str) -> str:
        """A program of the system on this host."""
        with self.inside():
            return self.run(*command)

    @contextmanager
    def capture(self, device: str = "line") -> Iterator[list[Packet]]:
        """The packets that leave the host by a device meanwhile; the list grows."""
        with self.inside():
            tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            tap.bind((device, 0))
        tap.settimeout(0.05)
        found: list[Packet] = []
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    frame, address = tap.recvfrom(2048)
                except TimeoutError:
                    continue
                except OSError:  # the link is down
                    ended.wait(0.05)
                    continue
                if address[2] == _OUTGOING and (packet := _packet(frame)) is not None:
                    found.append(packet)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join(5)
            tap.close()

    def close(self) -> None:
        """End what holds the namespace; it goes with its last process."""
        self._holder.kill()
        self._holder.wait()
        os.close(self._handle)


def _packet(frame: bytes) -> Packet | None:
    """What is told of a frame; None for one that is no traffic of a program (ARP)."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == _IPV4:
        header = (frame[14] & 15) * 4
        protocol, address = frame[23], socket.inet_ntop(socket.AF_INET, frame[30:34])
        rest = frame[14 + header :]
    elif kind == _IPV6:
        protocol, address = frame[20], socket.inet_ntop(socket.AF_INET6, frame[38:54])
        rest = frame[54:]
    else:
        return None if kind == _ARP else Packet(f"0x{kind:04x}", "", 0)
    word = {6: "TCP", 17: "UDP", 1: "ICMP", 58: "ICMPv6"}.get(protocol, str(protocol))
    port = struct.unpack_from("!H", rest, 2)[0] if protocol in (6, 17) and len(rest) >= 4 else 0
    return Packet(word, address, port)


class Cable:
    """A line between two hosts, with an address at either end; the device is called `line` on both, unless told otherwise."""

    def __init__(self, one: Host, first: str, other: Host, second: str, device: str = "line") -> None:
        self.ends = ((one, first), (other, second))
        self.device = device
        one.do(
            *("ip", "link", "add", device, "type", "veth", "peer", "name", device),
            *("netns", other.number),
        )
        for host, address in self.ends:
            host.do("ip", "address", "add", f"{address}/24", "dev", device)
        self.up()

    def up(self) -> None:
        """The line carries packets."""
        for host, _ in self.ends:
            host.do("ip", "link", "set", self.device, "up")

    def down(self) -> None:
        """The line is dead: packets are lost, and nobody is told."""
        self.ends[0][0].do("ip", "link", "set", self.device, "down")

    def forget(self) -> None:
        """Both ends lose the connections that went over it, as after a call with another address."""
        for host, _ in self.ends:
            for _, address in self.ends:
                host.do("ss", "-K", "dst", address)

    def speed(self, kilobits: int) -> None:
        """From now on, so many thousand bits a second in each direction; 0 for no limit."""
        for host, _ in self.ends:
            if kilobits:
                host.do(
                    *("tc", "qdisc", "replace", "dev", self.device, "root", "tbf"),
                    *("rate", f"{kilobits}kbit", "burst", "4kb", "latency", "2s"),
                )
            else:
                host.do("tc", "qdisc", "delete", "dev", self.device, "root")


class Network:
    """Hosts and cables, for the length of a `with`."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []

    def host(self, name: str) -> Host:
        """Another machine."""
        host = Host(name)
        self.hosts.append(host)
        return host

    def cable(self, one: Host, first: str, other: Host, second: str, device: str = "line") -> Cable:
        """A line between two machines, up; the addresses are of one /24."""
        return Cable(one, first, other, second, device)

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in self.hosts:
            host.close()
