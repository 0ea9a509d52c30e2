"""Kinds of settings that all helper programs have (manual, chapter 11, the Helpers page)."""

from __future__ import annotations

from typing import Final

from appliance.formats.data import Value
from appliance.formats.values import parse_time, render_time
from appliance.kernel.settings import Kind

__all__ = ["DISABLED", "Restart"]

DISABLED: Final = "Disabled"


class Restart(Kind[int | None]):
    """Seconds until a program that has ended is started again; None (`Disabled`): not by itself."""

    control = "time"

    def parse(self, value: Value) -> int | None:
        if not isinstance(value, str):
            raise ValueError("a string is expected")
        text = value.strip()
        if text.casefold() in (DISABLED.casefold(), "never", "-1", ""):
            return None
        seconds = parse_time(text)
        if not 0 <= seconds <= 86400:
            raise ValueError("not between 0s and 1d")
        return seconds

    def render(self, value: int | None) -> Value:
        return DISABLED if value is None else render_time(value)
