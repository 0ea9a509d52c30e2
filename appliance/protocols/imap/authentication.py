"""Arguments of LOGIN and AUTHENTICATE (RFC 3501, 6.2; RFC 4959). They print without their secrets."""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

from appliance.protocols.imap.cursor import Cursor, ParseError

_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_INITIAL = re.compile(rb"[A-Za-z0-9+/=]+")


class Login(NamedTuple):
    """Octets as they came, read as UTF-8."""

    user: str
    password: str

    @classmethod
    def parse(cls, cursor: Cursor) -> Login:
        # `%` stands for `@` in names, and people who type them do not put them into quotes: as in a list pattern.
        user = cursor.list_mailbox()
        cursor.space()
        password = cursor.list_mailbox()
        return cls(user.decode("utf-8", "surrogateescape"), password.decode("utf-8", "surrogateescape"))

    def __repr__(self) -> str:
        return f"Login({self.user!r}, ***)"


class Authenticate(NamedTuple):
    """`mechanism` in capitals; `initial` is the decoded initial response, b"" for `=`, None when there is none."""

    mechanism: str
    initial: bytes | None

    @classmethod
    def parse(cls, cursor: Cursor) -> Authenticate:
        mechanism = cursor.word("a mechanism")
        if cursor.at_end():
            return cls(mechanism, None)
        cursor.space()
        return cls(mechanism, decode(cursor.match(_INITIAL, "base64")[0], initial=True))

    def __repr__(self) -> str:
        return f"Authenticate({self.mechanism!r}, ***)"


def decode(text: bytes, *, initial: bool = False) -> bytes:
    """A base64 response; `=` alone is the empty initial response. Raises ParseError."""
    if initial and text == b"=":
        return b""
    if not _BASE64.fullmatch(text):
        raise ParseError("malformed base64")
    return binascii.a2b_base64(text)


def challenge(data: bytes) -> bytes:
    """A continuation line with a challenge; an empty one is `+ ` and nothing."""
    return b"+ %b\r\n" % binascii.b2a_base64(data, newline=False)
