"""The settings of the Queue page and the Temp File Options of the Obscure page (manual, chapter 26)."""

from __future__ import annotations

from typing import Final

from appliance.kernel.settings import Choice, Group, LogLevel, Number, Setting, Size, Text, Time, YesNo

_ENQUEUER: Final = "Message Enqueuer"
_DEQUEUER: Final = "Message Dequeuer"
_LIMITS: Final = "Message Queue"

ENQUEUER_LOG = Setting("EnqueuerLogLevel", LogLevel(), 1, "Log", _ENQUEUER)
ENQUEUER_PROCESSORS = Setting("EnqueuerProcessors", Number(1, 100), 1, "Processors", _ENQUEUER)
DEQUEUER_LOG = Setting("DequeuerLogLevel", LogLevel(), 2, "Log", _DEQUEUER)
DEQUEUER_PROCESSORS = Setting("DequeuerProcessors", Number(1, 100), 1, "Processors", _DEQUEUER)
REPORTING_DELAY = Setting("ReportingDelay", Time(0, 86400), 15, "Reporting Delay", _DEQUEUER)
RETURN = Setting(
    "ReturnOnFailure",
    Choice(
        ("headers", "headers by default"),
        ("body", "body by default"),
        ("alwaysHeaders", "always headers"),
        ("alwaysBody", "always body"),
    ),
    "headers",
    "On Failure, Return",
    _DEQUEUER,
)
COPY_REPORTS = Setting("CopyFailureReports", YesNo(), False, "Copy Failure Reports", _DEQUEUER)
COPY_ADDRESS = Setting("CopyFailureReportsTo", Text(limit=320), "postmaster", "to", _DEQUEUER)
QUEUE_LOG = Setting("LogLevel", LogLevel(), 2, "Log", _LIMITS)
HOP_LIMIT = Setting("HopLimit", Number(5, 1000), 30, "Received fields of a message, at most", _LIMITS)
MIN_FREE = Setting(
    "MinimumFreeSpace",
    Size(),
    16 << 20,
    "Accept mail only if this much space is free",
    _LIMITS,
    help="Below it, new messages get a temporary error (452); what was accepted goes on.",
)
CACHE = Setting("ContentCache", Size(), 16 << 20, "Contents of waiting messages kept in memory", _LIMITS)
MAX_SIZE = Setting("MessageSizeLimit", Size(), None, "Largest message from any source", _LIMITS)

QUEUE = Group(
    "Queue",
    "Message Queue",
    (
        ENQUEUER_LOG,
        ENQUEUER_PROCESSORS,
        DEQUEUER_LOG,
        DEQUEUER_PROCESSORS,
        REPORTING_DELAY,
        RETURN,
        COPY_REPORTS,
        COPY_ADDRESS,
        QUEUE_LOG,
        HOP_LIMIT,
        MIN_FREE,
        CACHE,
        MAX_SIZE,
    ),
)

TEMPFILE_LOG = Setting("LogLevel", LogLevel(), 1, "TempFiler Log", "Temp File Options")
RECYCLE = Setting(
    "RecycleTempFiles",
    YesNo(),
    True,
    "Recycle Temp Files",
    "Temp File Options",
    help="Files of the journal that are no longer needed are used again.",
)

TEMPFILES = Group("TempFiles", "Temp File Options", (TEMPFILE_LOG, RECYCLE))
