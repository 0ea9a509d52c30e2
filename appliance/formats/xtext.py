"""The xtext coding of SMTP's ENVID, ORCPT and AUTH parameters (RFC 3461, 4), and the addresses within ORCPT."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_ORCPT: Final = 500
"""Octets of an ORCPT value (RFC 3461, 4.2)."""
MAX_ENVID: Final = 100
"""Octets of an ENVID value (RFC 3461, 4.4)."""

_XTEXT: Final = re.compile(rb"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*")
_UXTEXT: Final = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e\x80-\U0010ffff]|\+[0-9A-F]{2})*")
_HEX: Final = re.compile(r"\+([0-9A-F]{2})")
_CODE_POINT: Final = re.compile(r"\\x\{([0-9A-F]{1,6})\}")
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9-]{1,40}")


class OriginalRecipient(NamedTuple):
    """What ORCPT says: the kind of address, in lower case, and the address without its coding."""

    kind: str
    address: str

    def __str__(self) -> str:
        return f"{self.kind};{self.address}"


def encode_xtext(text: str) -> str:
    """The text as printable ASCII without blanks, `+` and `=`; other octets (of UTF-8) as `+HH`."""
    return "".join(
        chr(byte) if 33 <= byte <= 126 and byte not in b"+=" else f"+{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def decode_xtext(value: str | bytes) -> str:
    """The text of an xtext value. Raises ValueError if it is none, or hides control symbols."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    if not _XTEXT.fullmatch(data):
        raise ValueError("invalid xtext")
    raw = re.sub(rb"\+([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), data)
    if re.search(rb"[\x00-\x1f\x7f]", raw):
        raise ValueError("control symbols in xtext")
    return raw.decode("utf-8", "surrogateescape")


def decode_orcpt(value: str | bytes) -> OriginalRecipient:
    """An ORCPT value, `rfc822;xtext` or `utf-8;` with one of its three codings (RFC 6533, 3). Raises ValueError."""
    text = value.decode("utf-8") if isinstance(value, bytes) else value
    kind, separator, address = text.partition(";")
    if not separator or not address or len(text) > MAX_ORCPT or not _ADDRESS_TYPE.fullmatch(kind):
        raise ValueError("invalid original recipient")
    kind = kind.lower()
    if kind != "utf-8":
        return OriginalRecipient(kind, decode_xtext(address))
    if not _UXTEXT.fullmatch(address):
        raise ValueError("invalid original recipient")
    address = _CODE_POINT.sub(_code_point, _HEX.sub(lambda match: chr(int(match[1], 16)), address))
    if re.search(r"[\x00-\x1f\x7f]", address):
        raise ValueError("control symbols in the original recipient")
    return OriginalRecipient(kind, address)


def _code_point(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError("invalid symbol in the original recipient")
    return chr(code)


def encode_orcpt(recipient: OriginalRecipient) -> str:
    """The ORCPT value, in ASCII only, so that every server with DSN can take it."""
    if recipient.kind != "utf-8" or recipient.address.isascii():
        return f"{recipient.kind};{encode_xtext(recipient.address)}"
    coded = "".join(
        character if "!" <= character <= "~" and character not in "+=\\" else f"\\x{{{ord(character):02X}}}"
        for character in recipient.address
    )
    return f"utf-8;{coded}"
