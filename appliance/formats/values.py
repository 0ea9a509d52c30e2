"""Texts of sizes, times, numbers and yes/no values as settings and forms hold them (manual, WSSP: SIZE and TIME).

Readers take every documented form and raise ValueError for all else; writers give one canonical text.
"""

from __future__ import annotations

import re
from typing import Final

_SIZE = re.compile(r"\s*([0-9]{1,18})\s*([kKmMgG]?)(?:[bB])?\s*", re.ASCII)
_TIME = re.compile(r"\s*([0-9]{1,12})\s*([sSmMhHdDwW]?)\s*", re.ASCII)
_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,18})\s*", re.ASCII)
_SIZE_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TIME_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _is_unlimited(text: str) -> bool:
    text = text.strip()
    return text[:1] in ("u", "U") or text == "-1"


def parse_size(text: str) -> int | None:
    """Bytes from `1000`, `50K`, `50M` (units of 1024); None for `-1` and words that begin with u: unlimited."""
    if _is_unlimited(text):
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a size")
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]


def render_size(size: int | None) -> str:
    """The shortest exact text: `50M`, `12K`, `1000`, `unlimited` for None and negative numbers."""
    if size is None or size < 0:
        return "unlimited"
    if size and size % (1 << 20) == 0:
        return f"{size >> 20}M"
    if size and size % (1 << 10) == 0:
        return f"{size >> 10}K"
    return str(size)


def parse_time(text: str) -> int:
    """Seconds from `30`, `30s`, `30m`, `2h`, `7d`, `2w`."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a time")
    return int(match[1]) * _TIME_UNITS[match[2].lower()]


def render_time(seconds: int) -> str:
    """The largest unit up to days that gives a whole number: `7d`, `2h`, `30m`, `45s`."""
    for unit, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % unit == 0:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def parse_number(text: str) -> int | None:
    """A whole number; None for `-1` and words that begin with u: unlimited."""
    if _is_unlimited(text):
        return None
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a number")
    return int(match[1])


def render_number(number: int | None) -> str:
    """Digits, or `unlimited` for None."""
    return "unlimited" if number is None else str(number)


def parse_boolean(text: str) -> bool:
    """Yes for texts that begin with Y, y, 1 or +; no for N, n, 0 or -."""
    first = text.strip()[:1]
    if first and first in "Yy1+":
        return True
    if first and first in "Nn0-":
        return False
    raise ValueError(f"{text[:40]!r} is neither yes nor no")


def render_boolean(value: bool) -> str:
    """`YES` or `NO`."""
    return "YES" if value else "NO"
