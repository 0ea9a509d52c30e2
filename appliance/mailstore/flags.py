"""Flags as bits in memory and as letters in files (manual, chapter 23, leaves the letters open: these are ours).

The low nine bits are those that sessions see. Letters: S seen, A answered, F flagged, D deleted, T draft, R redirected,
M disposition notice sent, P media played; a to z keywords of the mailbox, named in `account.info`. In .mbox files also: X
expunged but not yet compacted, N stored without a last end of line, Q has quoted From-lines. Recent is no property of a
message: it is a mark of the mailbox.

In an .mbox file the letters stand in a field of fixed width, padded with `-`, so that a change is one small write in place.
"""

from __future__ import annotations

from typing import Final

SEEN: Final = 1
ANSWERED: Final = 2
FLAGGED: Final = 4
DELETED: Final = 8
DRAFT: Final = 16
RECENT: Final = 32
REDIRECTED: Final = 64
MDN_SENT: Final = 128
MEDIA: Final = 256

QUOTED: Final = 1 << 12
NO_EOL: Final = 1 << 13
EXPUNGED: Final = 1 << 14

#: What a session may set.
SETTABLE: Final = SEEN | ANSWERED | FLAGGED | DELETED | DRAFT | REDIRECTED | MDN_SENT | MEDIA

KEYWORDS: Final = 26
"""Keywords of one mailbox at most: one letter each."""
WIDTH: Final = 37
"""Eleven letters of flags, 26 of keywords."""
#: What belongs to the stored bytes, not to the message.
INTERNAL: Final = QUOTED | NO_EOL | EXPUNGED

_BITS: Final = (
    ("S", SEEN),
    ("A", ANSWERED),
    ("F", FLAGGED),
    ("D", DELETED),
    ("T", DRAFT),
    ("R", REDIRECTED),
    ("M", MDN_SENT),
    ("P", MEDIA),
    ("N", NO_EOL),
    ("Q", QUOTED),
    ("X", EXPUNGED),
)
_LETTER: Final = {ord(letter): bit for letter, bit in _BITS}
_BLANK: Final = b"-" * WIDTH


def letters(flags: int, keywords: int) -> str:
    """The letters alone, flags first; empty for none."""
    text = "".join(letter for letter, bit in _BITS if flags & bit)
    if keywords:
        text += "".join(chr(0x61 + number) for number in range(KEYWORDS) if keywords >> number & 1)
    return text


def field(flags: int, keywords: int) -> bytes:
    """The field of an .mbox From-line: exactly `WIDTH` bytes."""
    if not flags and not keywords:
        return _BLANK
    return letters(flags, keywords).encode("ascii").ljust(WIDTH, b"-")


def parse(text: bytes) -> tuple[int, int]:
    """Flags and keywords of a field or of bare letters; unknown letters are ignored."""
    if text == _BLANK:
        return 0, 0
    flags = keywords = 0
    for code in text:
        if code in _LETTER:
            flags |= _LETTER[code]
        elif 0x61 <= code <= 0x7A:
            keywords |= 1 << (code - 0x61)
    return flags, keywords
