"""What the operating system says about the network: local addresses, and whether low ports may be opened."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from typing import Final

__all__ = ["descriptor_limit", "local_addresses", "may_open_low_ports"]

_SIOCGIFCONF: Final = 0x8912
_IFREQ: Final = 40
_CAP_NET_BIND_SERVICE: Final = 1 << 10


def local_addresses() -> list[str]:
    """All addresses of this computer, IPv4 first, without link-local ones. Any number of them per interface.

    Reads from the system at each call, so an address that was added shows at once.
    """
    found: set[str] = set()
    if sys.platform == "linux":
        found.update(_linux_ipv4())
        found.update(_linux_ipv6())
    if not found:
        found.update(("127.0.0.1", "::1"))
        try:
            for family, _, _, _, address in socket.getaddrinfo(socket.gethostname(), None):
                if family in (socket.AF_INET, socket.AF_INET6):
                    found.add(str(address[0]).partition("%")[0])
        except OSError:
            pass
    parsed = [ipaddress.ip_address(text) for text in found]
    usable = [address for address in parsed if not address.is_link_local]
    return [str(address) for address in sorted(usable, key=lambda a: (a.version, not a.is_loopback, int(a)))]


def _linux_ipv4() -> list[str]:
    import array
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        room = 256
        while True:
            names = array.array("B", bytes(room * _IFREQ))
            request = struct.pack("iL", len(names), names.buffer_info()[0])
            try:
                used = struct.unpack("iL", fcntl.ioctl(probe.fileno(), _SIOCGIFCONF, request))[0]
            except OSError:
                return []
            if used < len(names) or room > 65536:
                break
            room *= 4  # the system fills what it gets and does not say that there is more
    data = names.tobytes()[:used]
    return [socket.inet_ntoa(data[start + 20 : start + 24]) for start in range(0, used, _IFREQ)]


def _linux_ipv6() -> list[str]:
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            return [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])) for line in table]
    except (OSError, ValueError):
        return []


def may_open_low_ports() -> bool:
    """Whether ports below 1024 can be opened: the process is root, or was given that capability."""
    if os.name == "nt" or os.geteuid() == 0:
        return True
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) & _CAP_NET_BIND_SERVICE)
    except (OSError, ValueError):
        pass
    return False


def descriptor_limit() -> int:
    """How many descriptors the process may have."""
    try:
        import resource
    except ImportError:
        return 8192
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit if limit != resource.RLIM_INFINITY else 1 << 20
