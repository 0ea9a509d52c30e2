"""What can be set for the PWD module (manual, PWD module), and the texts that its clients see."""

from __future__ import annotations

from appliance.kernel.listener import listener_settings
from appliance.kernel.settings import Group, LogLevel, Setting, Time, YesNo

LOG_LEVEL = Setting("LogLevel", LogLevel(), 2, "Log")
#: 106 in clear text with STLS.
LISTENER = listener_settings([(106, "Off")], channels=10)
IDLE_TIMEOUT = Setting("Timeout", Time(30, 86400), 300, "Idle sessions are closed after")
CLEAR_LOGIN = Setting(
    "ClearTextLogin",
    YesNo(),
    False,
    "Clear text log-in from anywhere",
    help="Off: passwords are accepted inside TLS, from this machine and from Client IP Addresses only.",
)

SETTINGS = Group("PWD", "Serving PWD Clients", (LOG_LEVEL, *LISTENER, IDLE_TIMEOUT, CLEAR_LOGIN))

#: Key and default of the server strings; clients and scripts know these words.
TEXTS = {
    "PWDPrompt": "Pillarbox at ^1 PWD Server ^0 ready",
    "PWDSendPassword": "please send the PASS",
    "PWDLoggedIn": "login OK",
    "PWDOK": "OK",
    "PWDBye": "Pillarbox PWD connection closed",
    "PWDSecureOnly": "start TLS before you log in with a clear text password",
    "PWDChanged": "password changed",
    "PWDBusy": "too many connections, try later",
    "PWDTooManyErrors": "too many wrong commands",
    "PWDClosing": "the session is closed: ^0",
}
