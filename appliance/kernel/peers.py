"""What an address is: this machine, a member of the cluster, a client, denied, or a stranger (manual, chapters 7 and 10).

All answers come at once, from lists in memory: a listener needs them before it reads a byte. Detection by DNS name waits for
the resolver, once; what it found is kept for some minutes and counts as listed. A user who logs in from a foreign address
makes it a client for as long as the session is open and some time after it (read, then send).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, Protocol

import trio

from appliance.formats.iplists import AddressList, parse_address
from appliance.formats.wildcards import matches
from appliance.kernel.clock import Clock
from appliance.kernel.resolver import NoSuchName, ResolverTrouble
from appliance.kernel.settings import Addresses, Group, Number, Setting, Settings, Time, Words, YesNo

__all__ = [
    "BY_NAME",
    "CLIENTS",
    "CLIENT_NAMES",
    "CLIENT_ONLY",
    "DENIED",
    "IP_ADDRESSES",
    "KEEP_MOBILE",
    "MOBILE",
    "MOBILE_LIMIT",
    "REMEMBER_MOBILE",
    "PeerKind",
    "Peers",
    "ReverseNames",
    "confirmed_name",
]

CLIENTS = Setting("ClientAddresses", Addresses(), AddressList(), "Client IP Addresses", "Clients")
BY_NAME = Setting("ClientByName", YesNo(), False, "Detect Clients by DNS Name", "Clients")
CLIENT_NAMES = Setting("ClientNames", Words(), (), "Client DNS Names", "Clients")
CLIENT_ONLY = Setting("ClientOnly", YesNo(), False, "Reject all Logins from Non-Client IP Addresses", "Logins")
MOBILE = Setting("AllowMobile", YesNo(), True, "Allow Mobile Users to Login", "Mobile Users")
REMEMBER_MOBILE = Setting("RememberMobile", YesNo(), False, "Process as a Client IP Address", "Mobile Users")
KEEP_MOBILE = Setting("KeepMobile", Time(0, 86400), 600, "for, after the user disconnects", "Mobile Users")
MOBILE_LIMIT = Setting("MobileLimit", Number(1, 100_000), 500, "Remember up to", "Mobile Users")
DENIED = Setting("DeniedAddresses", Addresses(), AddressList(), "Denied IP Addresses", "Denied")
IP_ADDRESSES = Group(
    "IPAddresses",
    "Client and Denied IP Addresses",
    (CLIENT_ONLY, CLIENTS, BY_NAME, CLIENT_NAMES, MOBILE, REMEMBER_MOBILE, KEEP_MOBILE, MOBILE_LIMIT, DENIED),
)

_OPEN: Final = -1.0
#: Seconds that a detection by name counts, and how many are kept.
_NAMED_FOR: Final = 600.0
_UNNAMED_FOR: Final = 60.0
_NAMED: Final = 10_000
#: Seconds that a detection may take; names of an address that are looked at.
_PATIENCE: Final = 10.0
_NAMES: Final = 10


class PeerKind(StrEnum):
    SELF = "self"
    MEMBER = "member"
    CLIENT = "client"
    DENIED = "denied"
    STRANGER = "stranger"


def same_address(address: str) -> str:
    """What counts as one address in limits: an IPv4 address, or the /64 network that one IPv6 site has."""
    if ":" not in address:
        return address
    try:
        parsed = parse_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return f"{int(parsed) >> 64:x}::/64"


class ReverseNames(Protocol):
    """The resolver: names of an address, addresses of a name. Both raise NoSuchName or ResolverTrouble."""

    async def pointer(self, address: str, *, quick: bool = False) -> list[str]: ...

    async def addresses(self, name: str, *, quick: bool = False) -> list[str]: ...


async def confirmed_name(names: ReverseNames, address: str, pictures: Iterable[str]) -> str | None:
    """The name of the address that one of the pictures matches and that has this address in turn; None if there is none."""
    pictures = tuple(pictures)
    try:
        for name in (await names.pointer(address, quick=True))[:_NAMES]:
            if any(matches(picture, name) for picture in pictures):
                try:
                    if address in await names.addresses(name, quick=True):
                        return name
                except NoSuchName:
                    continue
    except (NoSuchName, ResolverTrouble):
        pass
    return None


class Peers:
    """The answers. `member` and `domain_of` are registered by those who know (cluster, domains)."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        #: Whether an address is another member of the cluster.
        self.member: Callable[[str], bool] = _no_member
        #: The domain that a local address is assigned to.
        self.domain_of: Callable[[str], str | None] = _no_domain
        #: Mobile users' addresses: the moment of expiry, or _OPEN with sessions.
        self._mobile: OrderedDict[str, float] = OrderedDict()
        self._sessions: dict[str, int] = {}
        #: Who gives the names of addresses; without it nothing is detected.
        self.names: ReverseNames | None = None
        self._named: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        settings.watch(lambda changed: self._named.clear())

    def kind(self, address: str) -> PeerKind:
        """The one thing that counts most: self, then denied, member, client."""
        if self.is_self(address):
            return PeerKind.SELF
        if self.denied(address):
            return PeerKind.DENIED
        if self.member(address):
            return PeerKind.MEMBER
        return PeerKind.CLIENT if self.client(address) else PeerKind.STRANGER

    def is_self(self, address: str) -> bool:
        """A program on this computer, by the loopback."""
        return address.startswith("127.") or address == "::1"

    def denied(self, address: str) -> bool:
        denied = self.settings[DENIED]
        return bool(denied) and address in denied and not self.is_self(address)

    def listed(self, address: str) -> bool:
        """On the fixed list, detected by name, or this computer itself: what counts for limits and reserved channels."""
        return (
            self.is_self(address) or address in self.settings[CLIENTS] or bool(self._named and self._has_name(address))
        )

    def client(self, address: str) -> bool:
        """A client for relaying: listed, or where a mobile user is or was just now."""
        return self.listed(address) or self._is_mobile(address)

    def may_log_in(self, address: str) -> bool:
        """Whether log-ins from there are accepted at all. From this computer they always are."""
        return not self.settings[CLIENT_ONLY] or self.listed(address) or self.member(address)

    # -- by name ------------------------------------------------------------------------------------------------------

    def detects(self) -> bool:
        """Whether it makes sense to call `detect` for a stranger."""
        return self.settings[BY_NAME] and self.names is not None and bool(self.settings[CLIENT_NAMES])

    async def detect(self, address: str) -> bool:
        """Whether an address that is not listed is a client by its name (manual, chapter 7, Specifying Client IP Domains):
        the name must have the address in turn, or anybody could call himself anything."""
        known = self._named.get(address)
        if known is not None and self._clock.monotonic() < known[0]:
            return known[1]
        if self.names is None or not self.detects() or self.is_self(address):
            return False
        found: str | None = None
        pictures = self.settings[CLIENT_NAMES]
        with trio.move_on_after(_PATIENCE):
            found = await confirmed_name(self.names, address, pictures)
        until = self._clock.monotonic() + (_NAMED_FOR if found else _UNNAMED_FOR)
        self._named[address] = until, found is not None
        while len(self._named) > _NAMED:
            self._named.popitem(last=False)
        return found is not None

    def _has_name(self, address: str) -> bool:
        known = self._named.get(address)
        return known is not None and known[1] and self._clock.monotonic() < known[0]

    # -- mobile users -------------------------------------------------------------------------------------------------

    def _is_mobile(self, address: str) -> bool:
        until = self._mobile.get(address)
        if until is None or not self.settings[REMEMBER_MOBILE]:
            return False
        return until == _OPEN or self._clock.now() < until

    def logged_in(self, address: str) -> None:
        """An authenticated session from there begins. Call `logged_out` at its end."""
        self._sessions[address] = self._sessions.get(address, 0) + 1
        if self.listed(address) or not self.settings[REMEMBER_MOBILE]:
            return
        self._mobile[address] = _OPEN
        self._mobile.move_to_end(address)
        while len(self._mobile) > self.settings[MOBILE_LIMIT]:
            # The oldest whose user has gone; where all are here, the new one is not remembered.
            closed = (known for known, until in self._mobile.items() if until != _OPEN)
            victim = next(closed, address)
            del self._mobile[victim]
            if victim == address:
                break

    def logged_out(self, address: str) -> None:
        left = self._sessions.get(address, 0) - 1
        if left > 0:
            self._sessions[address] = left
            return
        self._sessions.pop(address, None)
        if address in self._mobile:
            self._mobile[address] = self._clock.now() + self.settings[KEEP_MOBILE]


def _no_member(address: str) -> bool:
    return False


def _no_domain(address: str) -> str | None:
    return None
