"""Is a text in a message? Compared as decoded Unicode without regard to case, in text parts and headers (RFC 3501, 6.4.4).

Most messages do not have what is looked for, so the questions are asked in the order of their cost: a message that is plain
ASCII with no encoded part is settled by one look at its bytes in capitals; else the text parts are, one by one, as bytes
while they are ASCII, and decoded from their charsets only where that can make a difference.
"""

from __future__ import annotations

import re
from typing import Final

from appliance.formats.charsets import decode_text, decode_transfer, unicode_casemap
from appliance.formats.encodedwords import decode_words
from appliance.formats.headers import header_end
from appliance.formats.mime import Part, parse_structure

__all__ = ["InBody"]

_CHARSET: Final = re.compile(rb"CHARSET(?:=\"?|\*?\d*\*?=\"?'?)([A-Z0-9_-]*)")
_HARD: Final = (b"QUOTED-PRINTABLE", b"BASE64", b"MULTIPART", b"MESSAGE/")
# Charsets in which ASCII bytes are those characters and nothing else.
_SIMPLE: Final = re.compile(rb"(?:UTF-8|(?:US-)?ASCII|ISO-?8859-\d+|WINDOWS-\d+|CP125\d|KOI8-[RU]|LATIN-?1|)")


class InBody:
    """The text is in a text part of the message, or with `whole` also in a header or the name of a part. `text` is what
    `unicode_casemap` makes of it."""

    __slots__ = ("_bytes", "_text", "_whole")

    def __init__(self, text: str, *, whole: bool) -> None:
        self._text = text
        self._whole = whole
        #: The text as ASCII bytes, if it is.
        self._bytes = text.encode("ascii") if text.isascii() else None

    def __call__(self, content: bytes) -> bool:
        if not self._text:
            return True
        if content.isascii():
            head = content[: header_end(content)].upper()
            # Nothing is within it, and nothing of it is encoded: its bytes are its text.
            plain = not any(word in head for word in _HARD) and _simple(head) and not (self._whole and b"=?" in head)
            if plain and (self._bytes is None or not self._seen(content.upper())):
                return False
        parts = parse_structure(content, measure=False).walk()
        return any(self._in_header(content, part) or self._in_text(content, part) for part in parts)

    def _seen(self, upper: bytes) -> bool:
        """Somewhere in these bytes, perhaps over the end of a line that unfolding takes away."""
        assert self._bytes is not None
        return self._bytes in upper or (b" " in self._bytes and self._bytes in upper.replace(b"\n", b""))

    def _in_header(self, content: bytes, part: Part) -> bool:
        if not self._whole and not part.header_start:
            return False
        header = content[part.header_start : part.body_start]
        if header.isascii() and b"=?" not in header and (self._bytes is None or not self._seen(header.upper())):
            return False
        return self._text in unicode_casemap(decode_words(header))

    def _in_text(self, content: bytes, part: Part) -> bool:
        if part.is_multipart or part.is_message or part.type.lower() != b"text":
            return False
        data = decode_transfer(content[part.body_start : part.end], part.encoding)
        charset = part.parameter(b"charset") or b"us-ascii"
        if data.isascii() and _SIMPLE.fullmatch(charset.strip(b"\"' ").upper()):
            return self._bytes is not None and self._bytes in data.upper()
        return self._text in unicode_casemap(decode_text(data, charset.decode("latin-1")).replace("\r\n", "\n"))


def _simple(upper: bytes) -> bool:
    """All charsets that the message names are simple ones."""
    at = upper.find(b"CHARSET")
    while at >= 0:
        name = _CHARSET.match(upper, at)
        if name is None or not _SIMPLE.fullmatch(name[1]):
            return False
        at = upper.find(b"CHARSET", name.end())
    return True
