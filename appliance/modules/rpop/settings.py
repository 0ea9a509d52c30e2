"""The settings of the RPOP module, and the columns of its records (manual, chapter 31)."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from appliance.formats.data import Value
from appliance.formats.iplists import parse_address
from appliance.formats.values import parse_time, render_time
from appliance.kernel.settings import (
    Choice,
    Group,
    Kind,
    LogLevel,
    Number,
    Raw,
    Secret,
    SecretText,
    Setting,
    Text,
    Time,
    YesNo,
)

TAG: Final = "RPOP"
MAX_HOSTS: Final = 10
MAX_RECORDS: Final = 1000
"""Records of one account, or of the unified table."""
MIN_PERIOD: Final = 30
"""Seconds; a shorter period helps nobody and is taken as this."""

LOG_LEVEL = Setting("LogLevel", LogLevel(), 2, "Log")
CHANNELS = Setting("Channels", Number(0, 1000), 25, "Polling Channels Limit", help="0 switches the module off.")
DELAY_HOSTS = Setting("DelayFailedHosts", Time(10), 7200, "Delay Failed Hosts for")
DELAY_ACCOUNTS = Setting("DelayFailedAccounts", Time(10), 1800, "Delay Failed Accounts for")
USE_APOP = Setting("UseAPOP", YesNo(), True, "Use APOP")
ALLOW_SELF = Setting(
    "AllowSelfPoll",
    YesNo(),
    False,
    "Allow Self-Poll",
    help="Collect from addresses of this computer too. Without it nobody can collect his own mailbox in a circle.",
)
MINIMUM_PERIOD = Setting(
    "MinimumPollPeriod", Time(), 900, "Minimum Poll Period for Users", "Users who set up their own collecting"
)
MAXIMUM_RECORDS = Setting(
    "MaximumAccounts",
    Number(0, MAX_RECORDS),
    3,
    "Maximum Number of Accounts per User",
    "Users who set up their own collecting",
)


def _records(value: Value) -> Value:
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        raise ValueError("an array of dictionaries is expected")
    if len(value) > MAX_RECORDS:
        raise ValueError(f"at most {MAX_RECORDS} records")
    return value


#: The table of unified accounts, changed by its own operations: its passwords are not for `GetModule`.
UNIFIED: Setting[Any] = Setting("Unified", Raw(_records), [], "Unified Domain-Wide Accounts", secret=True)

RPOP = Group(
    "RPOP",
    "Collecting Remote Mailboxes",
    (
        LOG_LEVEL,
        CHANNELS,
        DELAY_HOSTS,
        DELAY_ACCOUNTS,
        USE_APOP,
        ALLOW_SELF,
        MINIMUM_PERIOD,
        MAXIMUM_RECORDS,
        UNIFIED,
    ),
)


# -- columns of a record ----------------------------------------------------------------------------------------------


class Period(Kind[int | None]):
    """Seconds between two polls; None is never."""

    control = "time"

    def parse(self, value: Value) -> int | None:
        if not isinstance(value, str):
            raise ValueError("a string is expected")
        if value.strip().casefold() in ("never", ""):
            return None
        seconds = parse_time(value.strip())
        if seconds > 365 * 86400:
            raise ValueError("more than a year")
        return max(seconds, MIN_PERIOD) if seconds else None

    def render(self, value: int | None) -> Value:
        return "never" if value is None else render_time(value)


class HostPort(NamedTuple):
    """One server to try; `port` 0 is the protocol's own. `name` may be an IP address, without brackets."""

    name: str
    port: int


_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")


class Hosts(Kind[tuple[HostPort, ...]]):
    """`name`, `name:port`, or IP addresses separated by commas, each perhaps with a port; tried in this order."""

    def parse(self, value: Value) -> tuple[HostPort, ...]:
        if not isinstance(value, str):
            raise ValueError("a string is expected")
        words = [word.strip() for word in value.split(",") if word.strip()]
        if not words:
            raise ValueError("the host is missing")
        if len(words) > MAX_HOSTS:
            raise ValueError(f"at most {MAX_HOSTS} hosts")
        return tuple(_host(word) for word in words)

    def render(self, value: tuple[HostPort, ...]) -> Value:
        return ",".join(_shown(host) for host in value)


def _shown(host: HostPort) -> str:
    if not host.port:
        return host.name
    return f"[{host.name}]:{host.port}" if ":" in host.name else f"{host.name}:{host.port}"


def _host(word: str) -> HostPort:
    try:
        return HostPort(str(parse_address(word.removeprefix("[").removesuffix("]"))), 0)
    except ValueError:
        pass
    name, colon, digits = word.rpartition(":")
    port = 0
    if colon:
        if not digits.isascii() or not digits.isdigit() or not 0 < int(digits[:6]) < 65536:
            raise ValueError(f"{word[:80]!r} has no valid port")
        port = int(digits)
    else:
        name = word
    try:
        return HostPort(str(parse_address(name.strip("[]"))), port)
    except ValueError:
        pass
    if len(name) > 253 or not _NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{word[:80]!r} is not a host name")
    return HostPort(name.rstrip(".").lower(), port)


class FieldName(Text):
    """The name of a header field, or nothing."""

    def parse(self, value: Value) -> str:
        text = super().parse(value).strip().removesuffix(":").strip()
        if text and not re.fullmatch(r"[!-9;-~]{1,100}", text):
            raise ValueError("the name of a header field is expected, such as X-Real-To")
        return text


class DomainName(Text):
    """A domain, or nothing."""

    def parse(self, value: Value) -> str:
        text = super().parse(value).strip().lower()
        if text and (len(text) > 253 or not _NAME.fullmatch(text)):
            raise ValueError("a domain name is expected")
        return text


PERIOD = Setting("period", Period(), None, "Poll Every")
NAME = Setting("authName", Text(limit=256), "", "Account", synonyms=("name",))
HOST: Setting[tuple[HostPort, ...]] = Setting("domain", Hosts(), (), "at Host", synonyms=("host",))
PASSWORD = Setting("password", SecretText(), Secret(""), "Password", secret=True)
LEAVE = Setting("leave", YesNo(), False, "Leave")
APOP = Setting("APOP", YesNo(), False, "APOP")
TLS = Setting("TLS", Choice(("NO", "if offered"), ("YES", "TLS"), ("STLS", "STARTTLS")), "NO", "Secure (TLS)")
SPECIAL = Setting("special", FieldName(limit=100), "", "Special Header")
PROTOCOL = Setting("protocol", Choice("POP", "IMAP"), "POP", "Protocol")
MAILBOX = Setting("mailbox", Text(limit=512), "INBOX", "IMAP Mailbox")
VERIFY = Setting("verify", YesNo(), True, "Check certificate")
NAME_DOMAIN = Setting("nameDomain", DomainName(limit=253), "", "Domain of bare names")

#: The manual's columns first; what came later is left out of a record where it has its default.
RECORD: Final = Group(
    "RPOPRecord", "Remote account", (PERIOD, NAME, HOST, PASSWORD, LEAVE, APOP, TLS, PROTOCOL, MAILBOX, VERIFY)
)
UNIFIED_RECORD: Final = Group("RPOPUnified", "Unified account", (*RECORD, SPECIAL, NAME_DOMAIN))
OPTIONAL: Final = (PROTOCOL, MAILBOX, VERIFY, SPECIAL, NAME_DOMAIN)
