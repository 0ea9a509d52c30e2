"""The settings of the PIPE page (manual, chapter 33)."""

from __future__ import annotations

from typing import Final

from appliance.kernel.settings import Group, LogLevel, Number, Setting, Text, Time

__all__ = ["PIPE", "TEXTS"]

_SUBMITTING: Final = "Submitting"
_DELIVERING: Final = "Delivering"

LOG_LEVEL = Setting("LogLevel", LogLevel(), 3, "Log")
PERIOD = Setting("CheckSubmittedEvery", Time(1, 86400), 10, "Check Submitted Directory Every", _SUBMITTING)
PROCESSES = Setting(
    "Processes",
    Number(0, 100),
    3,
    "Processes",
    _DELIVERING,
    help="Programs that run at the same time; 0 holds all mail.",
)
DIRECTORY = Setting(
    "ApplicationDirectory",
    Text(limit=1024),
    "",
    "Application Directory",
    _DELIVERING,
    help="Only programs in it can be started. Without it, mail to programs is rejected.",
)
TIME_LIMIT = Setting("ProcessingTimeLimit", Time(1, 86400), 120, "Processing Time Limit", _DELIVERING)
RETRY = Setting(
    "RetryDelay",
    Time(0, 86400),
    0,
    "Try again after",
    _DELIVERING,
    help="When a program ends with code 75 (temporary failure). With 0 the message is rejected, as with any other code.",
)
OS_USER = Setting(
    "OSUserName",
    Text(limit=100),
    "",
    "Operating system user",
    _DELIVERING,
    help="Whose rights the programs have; empty: the server's own. Another user needs a server that runs as root.",
)

PIPE = Group("PIPE", "PIPE", (LOG_LEVEL, PERIOD, PROCESSES, DIRECTORY, TIME_LIMIT, RETRY, OS_USER))

TEXTS: Final = {
    "PipeSwitchedOff": "mail to programs is not accepted: no application directory is set",
    "PipeNoProgram": "program not found",
    "PipeFailed": "automated processing failed",
    "PipeTooSlow": "automated processing took too long",
    "PipeNotRead": "automated processing failed: the program did not read the whole message",
    "PipeDelivered": "given to a program",
    "PipeNotDirect": "mail to programs is not accepted from here",
}
