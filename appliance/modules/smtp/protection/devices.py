"""Devices that cannot log in: scanners, printers, alarm systems. Each has addresses, a sender and a cap.

Their mail may go everywhere, but only under the sender that the administrator gave, so that a computer that takes such an
address can neither speak for somebody else nor send much.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from appliance.formats.headers import header_end
from appliance.kernel.clock import Clock
from appliance.kernel.settings import Settings
from appliance.modules.smtp.protection.settings import DEVICE_ADDRESSES, DEVICE_LIMIT, DEVICE_SENDER, DEVICES
from appliance.transfer.outflow import Rates

_FROM: Final = re.compile(rb"^From[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*\n", re.IGNORECASE | re.MULTILINE)
#: A From field of one address, with or without a display name that holds no other.
_ONE_ADDRESS: Final = re.compile(
    rb'^From[ \t]*:[ \t]*(?:(?:"[^"\\\n<>@]*"|[^"<>@,\n]*?)[ \t]*<([^<>\s,"]+)>|([^<>\s,"]+))[ \t]*\n\Z', re.IGNORECASE
)
_DISPLAY: Final = re.compile(rb'^From[ \t]*:[ \t]*("[^"@\\\n<>]{1,100}"|[A-Za-z0-9 _.-]{1,100}?)[ \t]*<', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Device:
    """`sender` is the address that all its mail comes from; `limit` the recipients that it may have in an hour."""

    sender: str
    limit: int


class Devices:
    """Finds and counts them."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.rates = Rates(clock)

    def find(self, address: str) -> Device | None:
        """The device at an address; the first row of the table counts."""
        rows = self.settings[DEVICES]
        if not rows:
            return None
        for row in rows:
            if row[DEVICE_SENDER.key] and address in row[DEVICE_ADDRESSES.key]:
                return Device(row[DEVICE_SENDER.key], row[DEVICE_LIMIT.key])
        return None


def forced_from(piece: bytes, sender: str) -> bytes:
    """The beginning of a message (store form), with the device's sender in its From field; what it said itself is kept in
    X-Original-From. The display name stays: "Scanner 2nd floor" says more than an address."""
    end = header_end(piece)
    header = piece[:end]
    address = sender.encode("utf-8", "surrogateescape")
    found = _FROM.search(header)
    if found is None:
        return b"From: <%s>\n" % address + piece
    field = found[0]
    spoken = _ONE_ADDRESS.match(field)
    if (
        spoken is not None
        and (spoken[1] or spoken[2]).lower() == address.lower()
        and not _FROM.search(header, found.end())
    ):
        return piece
    display = _DISPLAY.match(field)
    name = display[1].strip() + b" " if display is not None else b""
    new = b"From: %s<%s>\nX-Original-%s" % (name, address, field)
    rest = _FROM.sub(b"", header[found.end() :])
    return header[: found.start()] + new + rest + piece[end:]
