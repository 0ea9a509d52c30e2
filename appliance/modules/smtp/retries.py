"""When a queue or a message is tried again, and when its sender is warned (manual, chapter 29, Retry Every)."""

from __future__ import annotations

from appliance.formats.values import parse_time
from appliance.kernel.settings import Settings
from appliance.modules.smtp.settings import RETRY_EVERY, RETRY_LATER, RETRY_LATER_AFTER, WARN_AFTER


def retry_delay(settings: Settings, age: float) -> float:
    """Seconds to the next attempt for a message (or the oldest of a queue) that waits since `age` seconds."""
    return float(settings[RETRY_EVERY if age < settings[RETRY_LATER_AFTER] else RETRY_LATER])


def warning_ages(settings: Settings) -> tuple[int, ...]:
    """Ages in seconds at which the sender of a waiting message is told so, rising; words that are no times are left out."""
    ages = set[int]()
    for word in settings[WARN_AFTER]:
        try:
            ages.add(parse_time(word))
        except ValueError:
            continue
    return tuple(sorted(age for age in ages if age > 0))
