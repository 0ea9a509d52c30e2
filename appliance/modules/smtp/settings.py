"""The settings of the SMTP module, and the texts that its clients see (manual, chapter 29)."""

from __future__ import annotations

from typing import Final

from appliance.kernel.channel import Channel
from appliance.kernel.listener import listener_settings
from appliance.kernel.settings import (
    Choice,
    Group,
    Limit,
    LogLevel,
    Number,
    Secret,
    SecretText,
    Setting,
    Size,
    Text,
    Time,
    Words,
    YesNo,
)

_SENDING: Final = "Sending"
_ENCRYPTION: Final = "Send Encrypted (SSL/TLS)"
_RECEIVING: Final = "Receiving"
_LIMITS: Final = "Message Limits"
_WAKEUPS: Final = "Send Wakeups"
_RELAYING: Final = "Relaying"
_OBSCURE: Final = "Obscure"

NOBODY: Final = "nobody"
NON_CLIENTS: Final = "non-clients"
CLIENTS: Final = "clients"
EVERYBODY: Final = "everybody"


def _whom() -> Choice:
    return Choice(NOBODY, NON_CLIENTS, EVERYBODY)


LOG_LEVEL = Setting("LogLevel", LogLevel(), 2, "Log")

#: The port of servers, and the two of submission (RFC 6409, RFC 8314).
LISTENER = listener_settings(((25, "Off"), (587, "Off"), (465, "On")), channels=100, same_address=20)

SEND_CHANNELS = Setting("SendChannels", Number(0, 1000), 100, "Channels", _SENDING, help="0 stops sending.")
FORWARD_TO = Setting(
    "ForwardTo",
    Text(limit=1024),
    "",
    "Forward to",
    _SENDING,
    help="A host name, or IP addresses separated by commas. Empty: directly to recipients.",
)
AUTH_NAME = Setting("AuthName", Text(limit=256), "", "Send AUTH", _SENDING)
AUTH_PASSWORD = Setting("AuthPassword", SecretText(), Secret(""), "Password", _SENDING, secret=True)
RETRY_EVERY = Setting("RetryEvery", Time(10), 1800, "Retry Every", _SENDING)
RETRY_LATER = Setting("RetryLater", Time(10), 3600, "then Every", _SENDING)
RETRY_LATER_AFTER = Setting("RetryLaterAfter", Time(), 1800, "after", _SENDING)
KEEP_TRYING = Setting("KeepTrying", Time(60), 3 * 86400, "Keep Trying for", _SENDING)
WARN_AFTER = Setting(
    "WarnAfter",
    Words(limit=10),
    ("3h",),
    "Send Warnings After",
    _SENDING,
    help="Times, separated by commas: 3h, 1d. Empty: no warnings.",
)
HOST_CHANNELS = Setting("HostChannels", Number(1, 100), 4, "Channels/Host", _SENDING)
ADD_CHANNEL_AFTER = Setting("AddChannelAfter", Time(), 60, "Add Channels after", _SENDING)
HOLD_DOMAINS = Setting("HoldDomains", Words(limit=1000), (), "Hold Mail for Domains", _SENDING)

TLS_DOMAINS = Setting("TLSDomains", Words(limit=1000), (), "To Domains", _ENCRYPTION)
TLS_POSSIBLE = Setting("TLSPossible", YesNo(), True, "wherever possible", _ENCRYPTION)

WAKEUP_PERIOD = Setting(
    "WakeupPeriod",
    Time(0, 30 * 86400),
    0,
    "Every",
    _WAKEUPS,
    help="How often the server that keeps mail for us is asked to send it; 0: never. At least 10 s.",
)
WAKEUP_HOST = Setting(
    "WakeupHost",
    Text(limit=1024),
    "",
    "to",
    _WAKEUPS,
    help="Name or IP address, with a port if it is not the usual one.",
)
WAKEUP_DOMAINS = Setting(
    "WakeupDomains",
    Words(limit=100),
    (),
    "for Domains",
    _WAKEUPS,
    help="Empty: the main domain and those whose MX records name the host; with ATRN, all that the login name stands for.",
)
USE_ATRN = Setting(
    "UseATRN", YesNo(), False, "Use ATRN", _WAKEUPS, help="The mail comes in over the connection that we have made."
)
ATRN_NAME = Setting("ATRNName", Text(limit=256), "", "login name", _WAKEUPS)
ATRN_PASSWORD = Setting("ATRNPassword", SecretText(), Secret(""), "password", _WAKEUPS, secret=True)

SIZE_LIMIT = Setting("SizeLimit", Size(), 10 << 20, "Size", _LIMITS)
RCPT_LIMIT = Setting("RcptLimit", Limit(), 1000, "Recipients", _LIMITS)

ADVERTISE_AUTH = Setting("AdvertiseAuth", _whom(), EVERYBODY, "Advertise AUTH capability to", _RECEIVING)
ADVERTISE_8BIT = Setting("Advertise8Bit", _whom(), EVERYBODY, "Advertise 8BITMIME to", _RECEIVING)
CLEAR_AUTH = Setting(
    "ClearAuth",
    Choice(NOBODY, CLIENTS, EVERYBODY),
    CLIENTS,
    "Accept Clear Text Passwords without TLS from",
    _RECEIVING,
)
VERIFY_PATH = Setting("VerifyPath", _whom(), NON_CLIENTS, "Verify HELO and Return Paths for", _RECEIVING)
FORCE_AUTH = Setting("ForceAuth", _whom(), NOBODY, "Force AUTH for", _RECEIVING)
LINE_ENDS = Setting(
    "BareLineEnds",
    Choice(("refuse", "refuse the message"), ("correct", "make them line ends")),
    "refuse",
    "Lone CR and LF in messages",
    _OBSCURE,
)

RELAY_FROM = Setting("RelayFrom", Choice(NOBODY, CLIENTS, EVERYBODY), CLIENTS, "If Received from", _RELAYING)
RELAY_TO_CLIENTS = Setting("RelayToClients", Choice("no", "simple", "all"), "simple", "Relay to Clients", _RELAYING)
RELAY_BACKUP = Setting("RelayBackup", YesNo(), True, "Relay to Hosts We Backup", _RELAYING)
WAKEUP_FROM = Setting("WakeupFrom", Choice(CLIENTS, EVERYBODY), EVERYBODY, "Accept Wakeups from", _RELAYING)

COMMAND_TIMEOUT = Setting(
    "CommandTimeout", Time(10, 3600), 300, "Time for a command", _OBSCURE, help="RFC 5321 asks for 5 minutes."
)
DATA_TIMEOUT = Setting(
    "DataTimeout", Time(30, 7200), 600, "Time for each 64 KB of a message", _OBSCURE, help="And for its end."
)
ERROR_LIMIT = Setting("ErrorLimit", Number(1, 10000), 20, "Errors in a session before it is ended", _OBSCURE)
UNKNOWN_LIMIT = Setting(
    "UnknownRcptLimit", Number(1, 10000), 25, "Refused recipients in a session before it is ended", _OBSCURE
)
RCPT_PORTION = Setting("RcptPortion", Number(1, 1000), 100, "Recipients in an outgoing transaction", _OBSCURE)
LOST_AFTER = Setting(
    "LostAfter",
    Time(2, 3600),
    120,
    "An outgoing connection is lost after",
    _OBSCURE,
    help="Time in which the other machine acknowledges nothing, as when the line has died.",
)
PORT = Setting("DefaultPort", Number(1, 65535), 25, "Port of other servers", _OBSCURE)

SMTP = Group(
    "SMTP",
    "SMTP",
    (
        LOG_LEVEL,
        *LISTENER,
        SEND_CHANNELS,
        FORWARD_TO,
        AUTH_NAME,
        AUTH_PASSWORD,
        RETRY_EVERY,
        RETRY_LATER,
        RETRY_LATER_AFTER,
        KEEP_TRYING,
        WARN_AFTER,
        HOST_CHANNELS,
        ADD_CHANNEL_AFTER,
        HOLD_DOMAINS,
        TLS_DOMAINS,
        TLS_POSSIBLE,
        WAKEUP_PERIOD,
        WAKEUP_HOST,
        WAKEUP_DOMAINS,
        USE_ATRN,
        ATRN_NAME,
        ATRN_PASSWORD,
        SIZE_LIMIT,
        RCPT_LIMIT,
        ADVERTISE_AUTH,
        ADVERTISE_8BIT,
        CLEAR_AUTH,
        VERIFY_PATH,
        FORCE_AUTH,
        LINE_ENDS,
        RELAY_FROM,
        RELAY_TO_CLIENTS,
        RELAY_BACKUP,
        WAKEUP_FROM,
        COMMAND_TIMEOUT,
        DATA_TIMEOUT,
        ERROR_LIMIT,
        UNKNOWN_LIMIT,
        RCPT_PORTION,
        LOST_AFTER,
        PORT,
    ),
)

TEXTS: Final = {
    "SMTPNormalPrompt": "^1 ESMTP Pillarbox ^0",
    "SMTPByeBye": "Pillarbox SMTP closing connection",
    "SMTPClosing": "^0, closing connection",
    "SMTPBusy": "too many connections, try again later",
    "SMTPNoRelay": "we do not relay",
    "SMTPNonInternet": "will leave the Internet",
    "SMTPWillRelay": "will be relayed",
    "SMTPSenderAccepted": "sender accepted",
    "SMTPAuthFirst": "try to authenticate first",
    "SMTPForceAuth": "authentication is required for this sender",
    "SMTPNoSpace": "no space for new mail now, try again later",
    "SMTPTrouble": "temporary trouble here, try again later",
    "SMTPAccepted": "^0 message accepted for delivery",
    "SMTPTooMany": "too many recipients",
    "SMTPTooManyErrors": "too many errors",
    "SMTPTimeout": "time is out",
    "SMTPBlacklisted": "Your host ^0 is in our Black List. No mail will be accepted",
    "SMTPBlacklistedAdmin": "Your host ^0 is blacklisted. Send your questions to ^1",
    "SMTPSpamTrap": "message is not accepted",
}


def applies(whom: str, channel: Channel) -> bool:
    """Whether a setting of the kind nobody, clients, non-clients, everybody is meant for this peer."""
    if whom == EVERYBODY:
        return True
    return channel.client if whom == CLIENTS else whom == NON_CLIENTS and not channel.client
