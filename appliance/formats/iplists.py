"""Lists of network addresses as an administrator types them (manual, Listeners: Restrictions; Protection).

One address, one range `a-b`, or one block `a/bits` on a line, IPv4 or IPv6, in brackets or not; a comment after `;`,
`%`, or a `-` that no address follows; empty lines and comment lines. The text is kept as typed, for display.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_right
from typing import Final, NamedTuple

MAX_TEXT: Final = 4 * 1024 * 1024
"""Most characters of one list."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_LINE = re.compile(
    r"\s*(?P<low>\[?[0-9a-fA-F.:]*[.:][0-9a-fA-F.:]*\]?)"
    r"(?:\s*/\s*(?P<bits>[0-9]{1,3})|\s*-\s*(?P<high>\[?[0-9a-fA-F.:]*[.:][0-9a-fA-F.:]*\]?)(?=[\s;%-]|$))?"
    r"\s*(?P<comment>[;%-].*)?"
)
_MAPPED_LOW: Final = 0xFFFF << 32
_MAPPED_HIGH: Final = _MAPPED_LOW | 0xFFFFFFFF


class AddressListError(ValueError):
    """A line is not an address, a range or a comment. `line` counts from 1."""

    def __init__(self, line: int, problem: str) -> None:
        self.line = line
        super().__init__(f"line {line}: {problem}")


class Entry(NamedTuple):
    """One line with addresses: both ends are inclusive and of one family; `comment` is without its sign."""

    low: IPAddress
    high: IPAddress
    comment: str


def parse_address(text: str) -> IPAddress:
    """One address, perhaps in brackets, IPv4 octets decimal even with leading zeros. Raises ValueError.

    An IPv4 address mapped into IPv6 is given as IPv4, because it is the same host.
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
        if text[:5].lower() == "ipv6:":
            text = text[5:]
    if ":" not in text:
        octets = text.split(".")
        if len(octets) != 4 or not all(o.isascii() and o.isdigit() and len(o) <= 3 and int(o) < 256 for o in octets):
            raise ValueError(f"{text[:60]!r} is not an address")
        return ipaddress.IPv4Address(".".join(str(int(octet)) for octet in octets))
    if "%" in text or "/" in text:
        raise ValueError(f"{text[:60]!r} is not an address")
    address = ipaddress.IPv6Address(text)
    return address.ipv4_mapped or address


def _parse_line(line: str) -> Entry | None:
    """The addresses of one line; None for a line without. Raises ValueError."""
    bare = line.strip()
    if not bare or bare[0] in ";%-":
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{bare[:60]!r} is not an address or a range")
    low = parse_address(match["low"])
    comment = (match["comment"] or "")[1:].strip()
    if match["bits"]:
        bits = int(match["bits"])
        if bits > low.max_prefixlen:
            raise ValueError(f"/{bits} is longer than the address")
        network = ipaddress.ip_network((int(low), bits) if low.version == 6 else f"{low}/{bits}", strict=False)
        return Entry(network.network_address, network.broadcast_address, comment)
    if match["high"]:
        high = parse_address(match["high"])
        if high.version != low.version:
            raise ValueError("the ends of a range are of different kinds")
        if int(high) < int(low):
            raise ValueError("the range ends before it begins")
        return Entry(low, high, comment)
    return Entry(low, low, comment)


def _merge(entries: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Starts and ends of disjoint ranges in order, for one bisect per question."""
    starts: list[int] = []
    ends: list[int] = []
    for low, high in sorted(entries):
        if ends and low <= ends[-1] + 1:
            ends[-1] = max(ends[-1], high)
        else:
            starts.append(low)
            ends.append(high)
    return starts, ends


class AddressList:
    """An unchangeable list; `address in list` takes an address object or its text and costs one bisect."""

    __slots__ = ("_ends4", "_ends6", "_starts4", "_starts6", "entries", "text")

    def __init__(self, entries: tuple[Entry, ...] = (), text: str = "") -> None:
        self.entries = entries
        self.text = text
        self._starts4, self._ends4 = _merge([(int(e.low), int(e.high)) for e in entries if e.low.version == 4])
        self._starts6, self._ends6 = _merge([(int(e.low), int(e.high)) for e in entries if e.low.version == 6])

    @classmethod
    def parse(cls, text: str) -> AddressList:
        """Read a list of at most 4 MB. Raises AddressListError that names the line."""
        if len(text) > MAX_TEXT:
            raise AddressListError(0, f"the list is longer than {MAX_TEXT} characters")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        entries: list[Entry] = []
        for number, line in enumerate(lines, 1):
            try:
                entry = _parse_line(line)
            except ValueError as error:
                raise AddressListError(number, str(error)) from None
            if entry is not None:
                entries.append(entry)
        return cls(tuple(entries), "\n".join(lines))

    def __contains__(self, address: IPAddress | str) -> bool:
        if isinstance(address, str):
            try:
                address = parse_address(address)
            except ValueError:
                return False
        number = int(address)
        if address.version == 4 or _MAPPED_LOW <= number <= _MAPPED_HIGH:
            number &= 0xFFFFFFFF
            starts, ends = self._starts4, self._ends4
        else:
            starts, ends = self._starts6, self._ends6
        place = bisect_right(starts, number)
        return place > 0 and number <= ends[place - 1]

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AddressList) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)
