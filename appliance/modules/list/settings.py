"""The settings of the LIST module (manual, chapter 32)."""

from __future__ import annotations

from appliance.kernel.settings import Group, LogLevel, Number, Setting

LOG_LEVEL = Setting("LogLevel", LogLevel(), 2, "Log", "Processing")
PROCESSORS = Setting(
    "Processors", Number(0, 100), 5, "Processes", "Processing", help="0 stops the distribution to groups."
)

LIST = Group("LIST", "Mailing Lists and Groups", (LOG_LEVEL, PROCESSORS))
