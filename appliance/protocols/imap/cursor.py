"""Reading the tokens of one command (RFC 3501, section 9).

The text of a command holds no literal data: a literal stands there as its header, `{n}` and one LF, and its octets in a list
beside the text. So nothing inside a literal can be taken for syntax, and a scan of the text never touches it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

MAX_NUMBER: Final = 0xFFFFFFFF
"""`number` is an unsigned 32-bit integer."""

_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]+')
_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
# "]" is allowed in an astring; octets above 127 are not, but old clients send names that way.
_ASTRING = re.compile(rb'[^\x00-\x20\x7f(){%*"\\]+')
_LIST_MAILBOX = re.compile(rb'[^\x00-\x20\x7f(){"\\]+')
_QUOTED = re.compile(rb'"([^"\\\r\n]*(?:\\["\\][^"\\\r\n]*)*)"')
_ESCAPED = re.compile(rb"\\(.)")
_LITERAL = re.compile(rb"\{([0-9]{1,10})\+?\}\n")
_NUMBER = re.compile(rb"[0-9]{1,10}")


class ParseError(ValueError):
    """The command does not follow the grammar; the text is for the client, in a tagged BAD."""


class LiteralNeeded(Exception):
    """The text ends in the header of a literal whose octets have not come yet."""


class Cursor:
    """A position in the text of a command. Every method raises ParseError when its token is not there."""

    __slots__ = ("_literals", "_taken", "position", "text", "utf8")

    def __init__(self, text: bytes, literals: Sequence[bytes] = (), *, utf8: bool = False) -> None:
        self.text = text
        self.position = 0
        #: Mailbox names are in UTF-8, not in modified UTF-7 (RFC 6855, RFC 9051).
        self.utf8 = utf8
        self._literals = literals
        self._taken = 0

    # What lies ahead ---------------------------------------------------------------------------------------------

    def ahead(self, token: bytes) -> bool:
        """Does `token` come next? Nothing is consumed."""
        return self.text.startswith(token, self.position)

    def skip(self, token: bytes) -> bool:
        """Consume `token` if it comes next."""
        if self.text.startswith(token, self.position):
            self.position += len(token)
            return True
        return False

    def at_end(self) -> bool:
        return not self.text[self.position :].strip(b" ")

    # Tokens ------------------------------------------------------------------------------------------------------

    def expect(self, token: bytes) -> None:
        if not self.skip(token):
            raise ParseError(f"expected {token.decode('ascii')}")

    def space(self) -> None:
        """One space; more are forgiven, because clients send them."""
        if not self.skip(b" "):
            raise ParseError("missing argument" if self.at_end() else "expected a space")
        while self.skip(b" "):
            pass

    def end(self) -> None:
        """The end of the command; trailing spaces are forgiven."""
        if not self.at_end():
            raise ParseError("too many arguments")

    def match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self.text, self.position)
        if found is None:
            raise ParseError(f"expected {what}")
        self.position = found.end()
        return found

    def tag(self) -> bytes:
        return self.match(_TAG, "a tag")[0]

    def atom(self, what: str = "an atom") -> bytes:
        return self.match(_ATOM, what)[0]

    def word(self, what: str = "a word") -> str:
        """An atom in capitals: names of commands, items and keys."""
        return self.atom(what).decode("ascii").upper()

    def number(self) -> int:
        value = int(self.match(_NUMBER, "a number")[0])
        if value > MAX_NUMBER:
            raise ParseError("number out of range")
        return value

    def number64(self) -> int:
        """`mod-sequence-valzer` and `number64` (RFC 7162, RFC 9051): below 2 to the 63rd."""
        digits = self.match(_NUMBER_64, "a number")[0]
        value = int(digits)
        if value >= 1 << 63:
            raise ParseError("number out of range")
        return value

    def string(self) -> bytes:
        """`string`: quoted, or a literal. Raises LiteralNeeded while the literal is on its way."""
        if self.ahead(b'"'):
            inner = self.match(_QUOTED, "a quoted string")[1]
            return _ESCAPED.sub(rb"\1", inner) if b"\\" in inner else inner
        self.match(_LITERAL, "a string")
        if self._taken >= len(self._literals):
            raise LiteralNeeded
        value = self._literals[self._taken]
        self._taken += 1
        if b"\0" in value:
            raise ParseError("NUL in a literal")
        return value

    def string8(self) -> bytes:
        """`string` or `literal8`, which may hold any octets (RFC 5464, 5; RFC 3516)."""
        self.skip(b"~")
        if not self.ahead(b"{"):
            return self.string()
        self.match(_LITERAL, "a string")
        if self._taken >= len(self._literals):
            raise LiteralNeeded
        self._taken += 1
        return self._literals[self._taken - 1]

    def at_string(self) -> bool:
        return self.text[self.position : self.position + 1] in (b'"', b"{")

    def astring(self) -> bytes:
        if self.at_string():
            return self.string()
        return self.match(_ASTRING, "a string")[0]

    def list_mailbox(self) -> bytes:
        """`list-mailbox`: as an astring, with the wildcards."""
        if self.at_string():
            return self.string()
        return self.match(_LIST_MAILBOX, "a mailbox pattern")[0]

    def nstring(self) -> bytes | None:
        if not self.at_string() and self.text[self.position : self.position + 3].upper() == b"NIL":
            self.position += 3
            return None
        return self.string()

    def message_literal(self) -> tuple[int, bool, bool]:
        """The header of a literal that ends the text and whose octets are streamed: its size, "no waiting" (`+`), and whether
        it is a literal8."""
        binary = self.skip(b"~")
        found = self.match(_LITERAL, "a literal")
        if self.position != len(self.text):
            raise ParseError("expected the end of the line after a literal")
        return int(found[1]), b"+" in found[0], binary

    def rest(self) -> bytes:
        """The text that was not read yet."""
        return self.text[self.position :]

    @property
    def taken(self) -> int:
        """How many literals were read."""
        return self._taken

    def listed(self, item: Callable[[Cursor], T], *, most: int, empty: bool = False) -> list[T]:
        """`( item *(SP item) )`, at most `most` items."""
        self.expect(b"(")
        found: list[T] = []
        while self.skip(b" "):
            pass
        if self.skip(b")"):
            if not empty:
                raise ParseError("empty list")
            return found
        while True:
            if len(found) >= most:
                raise ParseError(f"more than {most} items in a list")
            found.append(item(self))
            if self.skip(b")"):
                return found
            self.space()
            if self.skip(b")"):
                return found


_NUMBER_64 = re.compile(rb"[0-9]{1,19}")
