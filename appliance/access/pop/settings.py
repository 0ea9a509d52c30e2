"""What can be set for the POP module (manual, POP module), and the texts that its clients see."""

from __future__ import annotations

from appliance.kernel.listener import listener_settings
from appliance.kernel.settings import Choice, Group, LogLevel, Setting, Time, YesNo

LOG_LEVEL = Setting("LogLevel", LogLevel(), 2, "Log")
#: 110 in clear text with STLS; 995 is the administrator's to add (manual, Configuring the POP module).
LISTENER = listener_settings([(110, "Off")], channels=100)
UNIQUE_IDS = Setting(
    "UniqueIDs",
    Choice(("UID", "UID"), ("UIDVALIDITY-UID", "UIDVALIDITY-UID")),
    "UID",
    "Unique message names",
    help="The longer form is for sites that restore mailboxes: a client then never takes a new message for an old one.",
)
IDLE_TIMEOUT = Setting("Timeout", Time(30, 86400), 600, "Idle sessions are closed after")
CLEAR_LOGIN = Setting(
    "ClearTextLogin",
    YesNo(),
    False,
    "Clear text log-in from anywhere",
    help="Off: passwords are accepted inside TLS, from this machine and from Client IP Addresses only.",
)

SETTINGS = Group("POP", "Serving POP Clients", (LOG_LEVEL, *LISTENER, UNIQUE_IDS, IDLE_TIMEOUT, CLEAR_LOGIN))

#: Key and default of the server strings; clients and scripts know these words.
TEXTS = {
    "POPPrompt": "Pillarbox POP3 Server ^0 ready",
    "POPSendPassword": "send pass",
    "POPMessages": "^0 message(s) [^1 octets]",
    "POPBye": "bye-bye",
    "POPSecureOnly": "start TLS before you log in with a clear text password",
    "POPNoMailbox": "the mailbox cannot be opened: ^0",
    "POPAlert": "ALERT: ^0",
    "POPNoDelete": "you have no right to delete messages here",
    "POPNotRemoved": "some messages could not be removed: ^0",
    "POPBusy": "too many connections, try later",
    "POPTooManyErrors": "too many wrong commands",
    "POPClosing": "the session is closed: ^0",
}
