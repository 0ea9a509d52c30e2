"""What can be set for the IMAP module beside its listener (manual, IMAP module), and the texts that its clients see."""

from __future__ import annotations

from appliance.kernel.listener import listener_settings
from appliance.kernel.settings import Group, LogLevel, Setting, Size, Time, YesNo

LOG_LEVEL = Setting("LogLevel", LogLevel(), 2, "Log")
#: 143 in clear text with STARTTLS, 993 with TLS from the start (manual, Configuring the IMAP module).
LISTENER = listener_settings([(143, "Off"), (993, "On")], channels=100)

IDLE_TIMEOUT = Setting(
    "Timeout",
    Time(60, 86400),
    1800,
    "Idle sessions are closed after",
    help="RFC 3501 asks for 30 minutes at least; clients that wait for news ask again every 29 minutes.",
)
CLEAR_LOGIN = Setting(
    "ClearTextLogin",
    YesNo(),
    False,
    "Clear text log-in from anywhere",
    help="Off: passwords are accepted inside TLS, from this machine and from Client IP Addresses only.",
)
MAX_APPEND = Setting(
    "MaxMessageSize",
    Size(),
    None,
    "Largest message that a client may store",
    help="Unlimited: whatever the storage limit of the account allows.",
)

SETTINGS = Group("IMAP", "Serving IMAP Clients", (LOG_LEVEL, *LISTENER, IDLE_TIMEOUT, CLEAR_LOGIN, MAX_APPEND))

#: Key and default of the server strings.
TEXTS = {
    "IMAPPrompt": "Pillarbox IMAP4rev1 Server ^0 ready",
    "IMAPBusy": "too many connections, try again later",
    "IMAPBye": "good-bye",
    "IMAPSecureOnly": "start TLS before you log in with a clear text password",
    "IMAPTooManyFailures": "too many failed log-ins",
    "IMAPTooManyErrors": "too many wrong commands",
    "IMAPIncorrect": "Incorrect Account Name or Password",
    "IMAPTimeout": "the session was idle for too long",
    "IMAPClosing": "the session is closed: ^0",
    "IMAPMoved": "account has been moved to a remote system",
}
