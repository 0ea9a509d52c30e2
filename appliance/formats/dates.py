"""Dates as the protocols write them. Every function is given the time; none knows what time it is.

Writers take a datetime that knows its zone. Readers give such a datetime, or None for what they cannot read: dates in
mail come from strangers, and a wrong one is no reason to refuse anything.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS: Final = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
# RFC 5322, 4.3: the zones that have a meaning; all others, the military ones too, are -0000.
_ZONES: Final = {"EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420}

_COMMENT: Final = re.compile(r"\([^()]*\)")
_MAIL: Final = re.compile(
    r"\s*(?:[A-Za-z]{2,9}\.?\s*,?)?\s*(\d{1,2})[\s-]*([A-Za-z]{3})[a-z]*\.?[\s-]*(\d{2,4}),?"
    r"\s+(\d{1,2})\s*[:.]\s*(\d{1,2})(?:\s*[:.]\s*(\d{1,2})(?:\.\d+)?)?\s*([+-]\s?\d{3,4}|[A-Za-z]{1,5})?",
    re.ASCII,
)
_ASCTIME: Final = re.compile(
    r"\s*(?:[A-Za-z]{3},?\s+)?([A-Za-z]{3})\s+(\d{1,2})\s+(\d{1,2}):(\d{2})(?::(\d{2}))?"
    r"(?:\s+([+-]\d{4}|[A-Z]{1,5}))?\s+(\d{4})(?:\s+([+-]\d{4}|[A-Z]{1,5}))?",
    re.ASCII,
)
_INTERNAL: Final = re.compile(
    r"\s*(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})", re.ASCII
)
_IMAP_DATE: Final = re.compile(r"\"?\s*(\d{1,2})-([A-Za-z]{3})-(\d{4})\"?", re.ASCII)
_GMT: Final = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})", re.ASCII)


def from_epoch(moment: float) -> datetime:
    """The moment, in seconds since 1970, as a GMT datetime of whole seconds."""
    return datetime.fromtimestamp(int(moment), UTC)


def _offset_text(when: datetime) -> str:
    offset = when.utcoffset() or timedelta()
    minutes = int(offset.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"


def _zone(text: str | None) -> timezone:
    if not text:
        return UTC
    if text[0] in "+-":
        digits = text[1:].strip().zfill(4)
        minutes = int(digits[:2]) * 60 + int(digits[2:])
        if minutes >= 24 * 60:
            return UTC
        return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
    return timezone(timedelta(minutes=_ZONES.get(text.upper(), 0)))


def _make(year: int, month: str, day: int, hour: int, minute: int, second: int, zone: timezone) -> datetime | None:
    number = _MONTH_NUMBERS.get(month.lower())
    if number is None:
        return None
    try:
        # 60 is a leap second, which no clock here has.
        when = datetime(year, number, day, hour, minute, min(second, 59) if second <= 60 else second, tzinfo=zone)
        when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return when


def parse_date_time(text: str | bytes) -> datetime | None:
    """A Date field (RFC 5322, 3.3 and 4.3), with all that old and careless mailers write; None if it is none."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    text = text[:200]
    if "(" in text:
        text = _COMMENT.sub(" ", text)
    match = _MAIL.match(text)
    if match is None:
        return parse_asctime(text)
    day, month, year_text, hour, minute, second, zone = match.groups()
    year = int(year_text)
    if len(year_text) == 2:
        year += 2000 if year < 50 else 1900
    elif len(year_text) == 3:
        year += 1900
    return _make(year, month, int(day), int(hour), int(minute), int(second or 0), _zone(zone))


def format_date_time(when: datetime) -> str:
    """`Tue, 1 Oct 2024 10:00:00 +0200` (RFC 5322, 3.3), in the datetime's own zone."""
    return (
        f"{_DAYS[when.weekday()]}, {when.day} {_MONTHS[when.month - 1]} {when.year:04d}"
        f" {when.hour:02d}:{when.minute:02d}:{when.second:02d} {_offset_text(when)}"
    )


def parse_internal_date(text: str | bytes) -> datetime | None:
    """IMAP's date-time without its quotes, ` 1-Oct-2024 10:00:00 +0200` (RFC 9051, 9); None if it is none."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    match = _INTERNAL.fullmatch(text)
    if match is None:
        return None
    day, month, year, hour, minute, second, sign, hours, minutes = match.groups()
    if int(minutes) > 59 or int(hours) > 23:
        return None
    return _make(int(year), month, int(day), int(hour), int(minute), int(second), _zone(sign + hours + minutes))


def format_internal_date(when: datetime) -> str:
    """` 1-Oct-2024 10:00:00 +0200`: IMAP's INTERNALDATE without its quotes, 26 symbols."""
    return (
        f"{when.day:2d}-{_MONTHS[when.month - 1]}-{when.year:04d}"
        f" {when.hour:02d}:{when.minute:02d}:{when.second:02d} {_offset_text(when)}"
    )


def parse_imap_date(text: str | bytes) -> date | None:
    """The date of IMAP's SEARCH, `1-Oct-2024`, with quotes or without; None if it is none."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    match = _IMAP_DATE.fullmatch(text)
    if match is None or match[2].lower() not in _MONTH_NUMBERS:
        return None
    try:
        return date(int(match[3]), _MONTH_NUMBERS[match[2].lower()], int(match[1]))
    except ValueError:
        return None


def format_gmt(when: datetime) -> str:
    """`yyyymmddhhmmss` in GMT: ACAP times, results of commands, names of message files."""
    when = when.astimezone(UTC)
    return f"{when.year:04d}{when.month:02d}{when.day:02d}{when.hour:02d}{when.minute:02d}{when.second:02d}"


def parse_gmt(text: str) -> datetime | None:
    """The moment of `yyyymmddhhmmss` in GMT; None if it is none."""
    match = _GMT.fullmatch(text)
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, match.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def format_asctime(when: datetime) -> str:
    """`Tue Oct  1 08:00:00 2024`, always in GMT: the date of a From line in an mbox file (RFC 4155)."""
    when = when.astimezone(UTC)
    return (
        f"{_DAYS[when.weekday()]} {_MONTHS[when.month - 1]} {when.day:2d}"
        f" {when.hour:02d}:{when.minute:02d}:{when.second:02d} {when.year:04d}"
    )


def parse_asctime(text: str | bytes) -> datetime | None:
    """The date of a From line, with or without day name, seconds and zone; without a zone it is GMT. None if it is none."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    match = _ASCTIME.match(text)
    if match is None:
        return None
    month, day, hour, minute, second, zone, year, zone_behind = match.groups()
    return _make(int(year), month, int(day), int(hour), int(minute), int(second or 0), _zone(zone or zone_behind))
