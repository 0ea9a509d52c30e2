"""Flags and keywords as clients write them (RFC 3501, 2.3.2; section 9: flag, flag-list)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from appliance.protocols.imap.cursor import Cursor, ParseError

SYSTEM_FLAGS: Final = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")
"""Flags that a client may set."""
MAX_FLAGS: Final = 64
"""Most flags in one command."""
MAX_KEYWORD: Final = 100
"""Longest keyword, octets."""

_BY_NAME: Final = {name.upper(): name for name in SYSTEM_FLAGS}
_FLAG = re.compile(rb'\\\*|\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')


class FlagList(NamedTuple):
    """System flags in their usual spelling, and keywords as written, without repetition (case does not matter)."""

    system: tuple[str, ...]
    keywords: tuple[str, ...]

    @classmethod
    def parse(cls, cursor: Cursor) -> FlagList:
        """`flag-list`; in a STORE the parentheses may be missing."""
        if cursor.ahead(b"("):
            return cls.of(cursor.listed(flag, most=MAX_FLAGS, empty=True))
        names = [flag(cursor)]
        while not cursor.at_end():
            cursor.space()
            if len(names) >= MAX_FLAGS:
                raise ParseError("too many flags")
            names.append(flag(cursor))
        return cls.of(names)

    @classmethod
    def of(cls, names: list[str]) -> FlagList:
        system: list[str] = []
        keywords: dict[str, str] = {}
        for name in names:
            if name.startswith("\\"):
                # \Recent belongs to the server, and a copying client brings flags of other servers: both are left out.
                if name in SYSTEM_FLAGS and name not in system:
                    system.append(name)
            else:
                keywords.setdefault(name.upper(), name)
        return cls(tuple(system), tuple(keywords.values()))


def flag(cursor: Cursor) -> str:
    """One `flag`: a system flag, in its usual spelling when it is known, or a keyword."""
    text = cursor.match(_FLAG, "a flag")[0].decode("ascii")
    if text.startswith("\\"):
        return _BY_NAME.get(text.upper(), text)
    if len(text) > MAX_KEYWORD:
        raise ParseError("keyword too long")
    return text


def keyword(cursor: Cursor) -> str:
    """The argument of a search for a keyword."""
    text = flag(cursor)
    if text.startswith("\\"):
        raise ParseError("a keyword has no backslash")
    return text
