"""SMTP's two steps in the router (manual, chapter 29, Routing), and the names of its queues.

A queue's name says how its host is found:

    x.test              MX records, else addresses of the name; the forwarding server's own name means that host
    [10.0.0.5]          this address, also `[10.0.0.5:26]` and `[IPv6:::1]`
    mail.x.test:26      addresses of the name, no MX records, this port
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from appliance.formats.addresses import join_address
from appliance.kernel.settings import Settings
from appliance.modules.smtp.settings import FORWARD_TO
from appliance.router.route import Address, Purpose, Refused, Rewritten, Route

MODULE: Final = "SMTP"
SUFFIX: Final = ".smtp"
#: A user that wake-ups ask the router for.
WAKEUP_USER: Final = "wakeup"
#: Mail to `domain-wakeup` of the main domain goes to the queue `wakeup:domain`, where it is consumed.
WAKEUP_NAME: Final = "-wakeup"
WAKEUP_QUEUE: Final = "wakeup:"

_IPV4 = re.compile(r"\[([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::([0-9]{1,5}))?\]")
_IPV6 = re.compile(r"\[(?:IPv6:)?([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\](?::([0-9]{1,5}))?", re.IGNORECASE)
_NUMBERS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_HOST = re.compile(r"[A-Za-z0-9_\-.\x80-\U0010ffff]{1,253}")


class Target(NamedTuple):
    """What a queue's name means: `address` of an IP literal, or the host name; port 0 is the usual one."""

    address: str
    name: str
    port: int
    direct: bool
    """No MX records are asked for."""


def parse_queue(host: str) -> Target:
    """The parts of a queue's name. ValueError if it is none."""
    for form in (_IPV4, _IPV6):
        match = form.fullmatch(host)
        if match:
            return Target(match[1], host, _port(match[2]), True)
    name, colon, port = host.partition(":")
    if not _HOST.fullmatch(name) or (colon and not port.isdigit()):
        raise ValueError(f"{host!r} is not a host")
    return Target("", name, _port(port), bool(colon))


def _port(text: str | None) -> int:
    port = int(text or 0)
    if not 0 <= port < 65536:
        raise ValueError("a port number is below 65536")
    return port


def _without_port(host: str) -> str:
    """The host as the domain of an address (RFC 5321, 4.1.3 knows no port)."""
    if not host.startswith("["):
        return host.partition(":")[0]
    match = _IPV4.fullmatch(host)
    return f"[{match[1]}]" if match else host.partition("]")[0] + "]"


def suffixed_host(domain: str) -> str:
    """The queue of `host.smtp`, `host.port.smtp`, `1.2.3.4.smtp`, `1.2.3.4.port.smtp`, `[1.2.3.4]` with or without a port.
    ValueError if there is no host."""
    name = domain[: -len(SUFFIX)]
    if name.startswith("["):
        return parse_queue(name).name
    if _NUMBERS.fullmatch(name):
        return f"[{name}]"
    head, dot, last = name.rpartition(".")
    if dot and last.isdigit():
        _port(last)
        return f"[{head}:{last}]" if _NUMBERS.fullmatch(head) else f"{head}:{last}"
    if not _HOST.fullmatch(name):
        raise ValueError("the host is missing")
    return name


def envelope_address(local: str) -> str:
    """The address that a local part is for the next host: the rightmost `%` becomes `@`."""
    if "@" in local:
        return local
    name, percent, domain = local.rpartition("%")
    return join_address(name, domain) if percent and name and domain else local


class SmtpRouting:
    """`first` and `final` are the router's steps."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def first(self, address: Address) -> Route | Rewritten | None:
        """IP-address domains, the suffix `.smtp`, and wake-up mail."""
        domain = address.domain
        if address.purpose not in (Purpose.MAIL, Purpose.RETURN_PATH, Purpose.WAKEUP):
            return None
        name = address.local.lower().removesuffix(WAKEUP_NAME)
        if not domain and name != address.local.lower() and "." in name and _HOST.fullmatch(name):
            return self._accept(address, WAKEUP_QUEUE + name, address.local)
        if domain.startswith("[") and not domain.lower().endswith(SUFFIX):
            try:
                parse_queue(domain)
            except ValueError:
                raise Refused("invalid address in brackets", code="5.1.2") from None
            return self._accept(address, domain, join_address(address.local, _without_port(domain)))
        if domain.lower().endswith(SUFFIX):
            try:
                host = suffixed_host(domain.lower())
            except ValueError as error:
                raise Refused(f"{error} before {SUFFIX}", code="5.1.2") from None
            inner = envelope_address(address.local)
            if inner == address.local and "@" not in inner:
                inner = join_address(inner, _without_port(host))
            return self._accept(address, host, inner)
        return None

    async def final(self, address: Address) -> Route | Rewritten | None:
        """Any domain with a dot in it: directly, or to the forwarding server."""
        if address.purpose not in (Purpose.MAIL, Purpose.RETURN_PATH, Purpose.WAKEUP):
            return None
        domain = address.domain.lower()
        if "." not in domain.strip(".") or not _HOST.fullmatch(domain):
            return None
        forward = self.settings[FORWARD_TO].strip()
        host = forward.lower() if forward and address.purpose is not Purpose.WAKEUP else domain
        return self._accept(address, host, join_address(address.local, domain), domain)

    def _accept(self, address: Address, host: str, envelope: str, detail: str = "") -> Route:
        return Route(MODULE, host, envelope, address.original, address.simple, address.relay, detail=detail or host)
