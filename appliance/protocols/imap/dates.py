"""Dates of searches and of messages: `1-Feb-2020` and `"01-Feb-2020 10:20:30 +0100"` (RFC 3501, section 9)."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import Final, NamedTuple

from appliance.protocols.imap.cursor import Cursor, ParseError

MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH_NUMBERS: Final = {name.upper(): number for number, name in enumerate(MONTHS, 1)}
_DATE = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME = re.compile(
    rb'"( ?[0-9]{1,2})-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"'
)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


class Moment(NamedTuple):
    """A point in time: seconds since 1970 and the zone's minutes east of Greenwich."""

    seconds: int
    zone: int


def parse_date(cursor: Cursor) -> date:
    """`date`, quoted or not; the day has one or two digits."""
    found = cursor.match(_DATE, "a date such as 1-Feb-2020")
    try:
        return date(int(found[4]), _MONTH_NUMBERS[found[3].upper()], int(found[2]))
    except (KeyError, ValueError):
        raise ParseError("no such date") from None


def parse_date_time(cursor: Cursor) -> Moment:
    """`date-time`; the day may have one digit with or without its leading space."""
    found = cursor.match(_DATE_TIME, 'a date-time such as "01-Feb-2020 10:20:30 +0100"')
    zone = int(found[8]) * 60 + int(found[9])
    if found[7] == b"-":
        zone = -zone
    try:
        # A leap second counts as the second before it.
        clock = int(found[4]), int(found[5]), min(int(found[6]), 59)
        day = int(found[3]), _MONTH_NUMBERS[found[2].upper()], int(found[1])
        moment = datetime(*day, *clock, tzinfo=timezone(timedelta(minutes=zone)))
        return Moment(int(moment.timestamp()), zone)
    except (KeyError, ValueError, OverflowError):
        raise ParseError("no such date") from None


class DateTexts:
    """Renders internal dates as quoted `date-time`. It remembers the days that it met: thousands of rows share few days."""

    __slots__ = ("_days",)

    def __init__(self) -> None:
        self._days: dict[int, bytes] = {}

    def text(self, seconds: int, zone: int) -> bytes:
        day, second = divmod(seconds + zone * 60, 86400)
        words = self._days.get(day)
        if words is None:
            # Years outside of 1..9999 cannot be written; such a file date is a fault, shown as the nearest one.
            when = date.fromordinal(min(max(day + _EPOCH_DAY, 1), date.max.toordinal()))
            if len(self._days) >= 4096:
                self._days.clear()
            words = self._days[day] = b"%2d-%b-%04d" % (when.day, MONTHS[when.month - 1], when.year)
        sign, offset = (b"-", -zone) if zone < 0 else (b"+", zone)
        return b'"%b %02d:%02d:%02d %b%02d%02d"' % (
            words,
            second // 3600,
            second // 60 % 60,
            second % 60,
            sign,
            offset // 60,
            offset % 60,
        )
