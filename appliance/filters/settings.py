"""The settings of the Helpers page: the content filters (manual, chapter 11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.accounts.external import EXTERNAL_SETTINGS
from appliance.formats.data import Value
from appliance.kernel.helper_settings import Restart
from appliance.kernel.settings import Group, LogLevel, Rows, Setting, Text, Time, YesNo

__all__ = ["FILTERS", "HELPERS", "FilterSettings", "configured"]

MAX_FILTERS: Final = 20


class FilterRows(Rows):
    """Filters with different names; a program that is to run has a path."""

    def parse(self, value: Value) -> tuple[Mapping[str, Any], ...]:
        rows = super().parse(value)
        seen: set[str] = set()
        for row in rows:
            name = row[NAME.key].strip()
            if not name:
                raise ValueError("a filter needs a name")
            if name.casefold() in seen:
                raise ValueError(f"there are two filters {name}")
            if row[ENABLED.key] and not row[PATH.key].strip():
                raise ValueError(f"filter {name} needs a program path")
            seen.add(name.casefold())
        return rows


NAME = Setting("Name", Text(limit=60), "", "Name")
ENABLED = Setting("Enabled", YesNo(), False, "Enabled")
LOG_LEVEL = Setting("LogLevel", LogLevel(), 3, "Log")
PATH = Setting("ProgramPath", Text(limit=4096), "", "Program Path")
TIMEOUT = Setting("TimeOut", Time(1, 86400), 120, "Time-out")
RESTART = Setting("AutoRestart", Restart(), 15, "Auto-Restart")

FILTERS = Setting(
    "ContentFilters",
    FilterRows(NAME, ENABLED, LOG_LEVEL, PATH, TIMEOUT, RESTART, limit=MAX_FILTERS),
    (),
    "Content Filtering",
    "Content Filtering",
    help="Programs that look at messages. A server-wide rule with the action ExternalFilter says which messages.",
)
HELPERS = Group("Helpers", "Helpers", (*EXTERNAL_SETTINGS, FILTERS))


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """One filter. Times in seconds; `restart` None: not by itself."""

    name: str
    enabled: bool
    log_level: int
    path: str
    timeout: int
    restart: int | None


def configured(rows: tuple[Mapping[str, Any], ...]) -> list[FilterSettings]:
    """The filters of the setting, in their order."""
    return [
        FilterSettings(
            row[NAME.key].strip(),
            row[ENABLED.key],
            row[LOG_LEVEL.key],
            row[PATH.key].strip(),
            row[TIMEOUT.key],
            row[RESTART.key],
        )
        for row in rows
    ]
