"""Mailbox names on the wire, modified UTF-7 (RFC 3501, 5.1 and 5.1.3), and list patterns (6.3.8)."""

from __future__ import annotations

import binascii
import re
import unicodedata
from contextlib import suppress
from typing import Final

from appliance.protocols.imap.cursor import Cursor, ParseError

SEPARATOR: Final = "/"
MAX_NAME: Final = 1024
"""Longest mailbox name or pattern, octets."""
MAX_WILDCARDS: Final = 32
"""Most wildcards of one pattern."""

_PLAIN_RUN = re.compile(r"[ -~]+|[^ -~]+")
_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def encode_utf7(name: str) -> str:
    """A name as people read it, in modified UTF-7: `~peter/mail/&U,BTFw-`."""

    def shift(found: re.Match[str]) -> str:
        text = found[0]
        if " " <= text[0] <= "~":
            return text.replace("&", "&-")
        packed = binascii.b2a_base64(text.encode("utf-16-be", "surrogatepass"), newline=False)
        return f"&{packed.rstrip(b'=').replace(b'/', b',').decode('ascii')}-"

    return _PLAIN_RUN.sub(shift, name)


def decode_utf7(name: str) -> str:
    """The readable form of a name in modified UTF-7. Raises ValueError when it is not well-formed."""

    def unshift(found: re.Match[str]) -> str:
        inner = found[1]
        if not inner:
            return "&"
        try:
            packed = binascii.a2b_base64(inner.replace(",", "/") + "=" * (-len(inner) % 4))
            return packed.decode("utf-16-be")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("not modified UTF-7") from error

    if "&" in _SHIFTED.sub("", name):
        raise ValueError("not modified UTF-7")
    return _SHIFTED.sub(unshift, name)


def normal(raw: bytes, *, utf8: bool = False) -> str:
    """A name as the server keeps it: modified UTF-7, INBOX in capitals, no leading separator. `utf8`: it comes in UTF-8.

    A name with octets above 127 (forbidden, but clients send it) is read as UTF-8 and becomes modified UTF-7. Raises
    ParseError on control characters, other charsets, and names longer than `MAX_NAME`.
    """
    if len(raw) > MAX_NAME:
        raise ParseError("mailbox name too long")
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ParseError("mailbox name is not UTF-8") from None
    if utf8:
        name = encode_utf7(unicodedata.normalize("NFC", name))
    elif not name.isascii():
        # Existing shifts stay as they are, only the forbidden characters are shifted.
        name = "".join(
            run if run.isascii() else encode_utf7(run) for run in re.findall(r"[\x00-\x7f]+|[^\x00-\x7f]+", name)
        )
    if _CONTROL.search(name):
        raise ParseError("control character in a mailbox name")
    name = name.lstrip(SEPARATOR)
    head, slash, rest = name.partition(SEPARATOR)
    if head.upper() == "INBOX":
        return "INBOX" + slash + rest
    return name


def shown(name: str, *, utf8: bool) -> bytes:
    """A name of the server as octets for the wire; one that is not well-formed is shown as it is."""
    if utf8 and "&" in name:
        with suppress(ValueError):
            name = decode_utf7(name)
    return name.encode("utf-8", "surrogateescape")


def mailbox(cursor: Cursor) -> str:
    """`mailbox`: an astring, in the form of `normal`; not empty."""
    name = normal(cursor.astring(), utf8=cursor.utf8)
    if not name:
        raise ParseError("empty mailbox name")
    return name


class ListPattern:
    """A pattern with `*` (anything) and `%` (anything within one level); see `matches`."""

    __slots__ = ("_pieces", "text")

    def __init__(self, text: str) -> None:
        if sum(map(text.count, "*%")) > MAX_WILDCARDS:
            raise ParseError("too many wildcards")
        self.text = text
        #: The literal text before each wildcard and the wildcard, at last the rest with "".
        self._pieces = tuple((piece[1], piece[2]) for piece in re.finditer(r"([^*%]*)([*%]|$)", text))[: _count(text)]

    @classmethod
    def parse(cls, cursor: Cursor) -> ListPattern:
        """A `list-mailbox`, normalised as names are."""
        return cls(normal(cursor.list_mailbox(), utf8=cursor.utf8))

    def matches(self, name: str) -> bool:
        """Does the whole of `name` fit? Time grows with the product of the lengths at worst, never exponentially."""
        starts = {0}
        for literal, wildcard in self._pieces:
            size = len(literal)
            ends = {start + size for start in starts if name.startswith(literal, start)}
            if not ends:
                return False
            if not wildcard:
                return len(name) in ends
            if wildcard == "*":
                starts = set(range(min(ends), len(name) + 1))
            else:
                starts = set()
                for end in ends:
                    stop = name.find(SEPARATOR, end)
                    starts.update(range(end, (len(name) if stop < 0 else stop) + 1))
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ListPattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"ListPattern({self.text!r})"


def _count(text: str) -> int:
    return sum(map(text.count, "*%")) + 1
