"""The settings of the Protection page, and the texts that go with them (manual, chapter 7)."""

from __future__ import annotations

from typing import Any, Final

from appliance.formats.addresses import AddressError, parse_path
from appliance.formats.data import Value
from appliance.formats.iplists import AddressList
from appliance.kernel.settings import (
    Addresses,
    Choice,
    Group,
    Limit,
    Number,
    Rows,
    Setting,
    Text,
    Time,
    Words,
    YesNo,
)

_BLACKLIST: Final = "Blacklisted IP Addresses"
_WHITE: Final = "UnBlacklistable (White Hole) IP Addresses"
_LISTS: Final = "Blacklisting DNS Servers (RBL)"
_LIMITS: Final = "Errors and Harvesting"
_DEVICES: Final = "Devices that Cannot Log In"

BLACK: Final = "black"
WHITE: Final = "white"


class Codes(Addresses):
    """Answers of a list in DNS that count: addresses and ranges on one line."""

    control = "text"

    def parse(self, value: Value) -> AddressList:
        found = super().parse(value.replace(",", "\n") if isinstance(value, str) else value)
        return AddressList(found.entries, ", ".join(line.strip() for line in found.text.split("\n") if line.strip()))


class SenderAddress(Text):
    """An address with a domain, or nothing."""

    def parse(self, value: Value) -> str:
        text = super().parse(value).strip()
        if text:
            try:
                path = parse_path(f"<{text}>".encode("utf-8", "surrogateescape"))
            except AddressError as error:
                raise ValueError(str(error)) from None
            if not path.domain:
                raise ValueError("an address with its domain is expected")
        return text


BLACKLISTED = Setting("BlacklistedAddresses", Addresses(), AddressList(), "Blacklisted IP Addresses", _BLACKLIST)
BLACK_BY_NAME = Setting("BlacklistByName", YesNo(), False, "Blacklist by DNS Name", _BLACKLIST)
BLACK_NAMES = Setting(
    "BlacklistNames",
    Words(limit=1000),
    (),
    "Blacklisted DNS Names",
    _BLACKLIST,
    help="For example *.dialup.example; the words 'host name is unknown' stand for addresses without a name.",
)
WHITE_HOLE = Setting("WhiteHoleAddresses", Addresses(), AddressList(), "UnBlacklistable IP Addresses", _WHITE)
WHITE_BY_NAME = Setting("WhiteHoleByName", YesNo(), False, "UnBlacklist by DNS Name", _WHITE)
WHITE_NAMES = Setting("WhiteHoleNames", Words(limit=1000), (), "UnBlacklistable DNS Names", _WHITE)

USE_RBL = Setting("UseRBL", YesNo(), False, "Use Blacklisting DNS Servers (RBLs)", _LISTS)
LIST_NAME = Setting("Server", Text(limit=253), "", "Server")
LIST_USE = Setting("Use", Choice((BLACK, "blacklist"), (WHITE, "white list")), BLACK, "Use")
LIST_CODES: Setting[AddressList] = Setting(
    "Codes", Codes(), AddressList(), "Answers that count", help="Empty: 127.0.0.2-127.1.255.255"
)
RBL_SERVERS: Setting[Any] = Setting(
    "RBLServers", Rows(LIST_NAME, LIST_USE, LIST_CODES, limit=20), (), "Servers", _LISTS
)
RBL_TIMEOUT = Setting(
    "RBLTimeout", Time(1, 60), 10, "Time for all answers", _LISTS, help="Mail is taken when they are late."
)
RBL_PAUSE = Setting("RBLPause", Time(0, 86400), 600, "Skip a server without an answer for", _LISTS)

PATIENCE = Setting(
    "ErrorsBeforeDelay", Number(0, 10_000), 5, "Errors before replies are delayed", _LIMITS, help="Not for clients."
)
DELAY = Setting("ErrorDelay", Time(0, 60), 1, "Each further error adds to the delay", _LIMITS)
MAX_DELAY = Setting("MaxErrorDelay", Time(0, 240), 10, "Longest delay", _LIMITS)
IDLE_LIMIT = Setting(
    "IdleCommands",
    Number(10, 1_000_000),
    200,
    "Commands without a message before a session is ended",
    _LIMITS,
    help="Not for clients.",
)
HARVEST_LIMIT = Setting(
    "HarvestLimit",
    Limit(),
    100,
    "Unknown recipients from one address before it is turned away",
    _LIMITS,
    help="Not for clients.",
)
HARVEST_PERIOD = Setting("HarvestPeriod", Time(10, 86400), 600, "within, and for", _LIMITS)
MESSAGE_LIMIT = Setting("SessionMessages", Limit(), None, "Messages in one session", _LIMITS)

DEVICE_SENDER = Setting("Sender", SenderAddress(limit=320), "", "Sender")
DEVICE_ADDRESSES = Setting("Addresses", Addresses(), AddressList(), "IP addresses")
DEVICE_LIMIT = Setting("PerHour", Number(1, 100_000), 60, "Recipients an hour")
DEVICES: Setting[Any] = Setting(
    "Devices",
    Rows(DEVICE_SENDER, DEVICE_ADDRESSES, DEVICE_LIMIT, limit=200),
    (),
    "Devices",
    _DEVICES,
    help="A scanner or printer at one of these addresses may send to everybody without a password; its mail gets the sender.",
)

PROTECTION = Group(
    "Protection",
    "Protection",
    (
        BLACKLISTED,
        BLACK_BY_NAME,
        BLACK_NAMES,
        WHITE_HOLE,
        WHITE_BY_NAME,
        WHITE_NAMES,
        USE_RBL,
        RBL_SERVERS,
        RBL_TIMEOUT,
        RBL_PAUSE,
        PATIENCE,
        DELAY,
        MAX_DELAY,
        IDLE_LIMIT,
        HARVEST_LIMIT,
        HARVEST_PERIOD,
        MESSAGE_LIMIT,
        DEVICES,
    ),
)

TEXTS: Final = {
    "SMTPHarvest": "too many unknown recipients from your address, try again later",
    "SMTPDeviceLimit": "this device has sent too much mail, try again later",
    "SMTPAccountLimit": "this account has sent too much mail, try again later",
    "SMTPSessionLimit": "too many messages in one session, connect again",
}
