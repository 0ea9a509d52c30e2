"""Addresses of the envelope: RFC 5321 paths, and local parts with their quoting.

In memory an address is a pair of texts, the local part without its quoting and the domain as it was written. The
lists of addresses in header fields are another grammar: see `mailboxes`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

MAX_LOCAL: Final = 64
"""Octets of a local part (RFC 5321, 4.5.3.1.1)."""
MAX_DOMAIN: Final = 255
"""Octets of a domain (RFC 5321, 4.5.3.1.2)."""
MAX_PATH: Final = 256
"""Octets of a path with its brackets and punctuation (RFC 5321, 4.5.3.1.3); a source route is not counted."""
MAX_ROUTE: Final = 1024
"""Octets of a source route."""

_ATEXT = r"[^\x00-\x20\"(),:;<>@\[\\\]\x7f]"
# RFC 5321, 4.1.2. Dots may stand anywhere: such addresses exist, and they are written quoted from here on.
_DOT_STRING = re.compile(rf"{_ATEXT}+")
_STRICT_LOCAL = re.compile(r"[^\x00-\x20\"(),.:;<>@\[\\\]\x7f]+(?:\.[^\x00-\x20\"(),.:;<>@\[\\\]\x7f]+)*")
_QUOTED_STRING = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e\x80-\U0010ffff])*)"')
_LABELS = re.compile(r"[A-Za-z0-9_\x80-\U0010ffff](?:[A-Za-z0-9_.\-\x80-\U0010ffff]*[A-Za-z0-9_\x80-\U0010ffff])?\.?")
_LITERAL = re.compile(r"\[([\x21-\x5a\x5e-\x7e]+)\]")
_ROUTE = re.compile(r"@([^\s,:<>@]+)(?:,\s*@([^\s,:<>@]+))*:")
_TAGGED = re.compile(r"[A-Za-z0-9-]*[A-Za-z0-9]:[\x21-\x5a\x5e-\x7e]+")


class AddressError(ValueError):
    """The bytes are not an address of the wanted form; the text says what is wrong, in words for a reply."""


class Path(NamedTuple):
    """A reverse or forward path. The null path is two empty texts; `<postmaster>` has an empty domain."""

    local: str
    domain: str
    route: tuple[str, ...] = ()

    @property
    def is_null(self) -> bool:
        """Whether this is `<>`."""
        return not self.local and not self.domain

    @property
    def is_utf8(self) -> bool:
        """Whether it needs the SMTPUTF8 extension (RFC 6531)."""
        return not (self.local.isascii() and self.domain.isascii())

    @property
    def address(self) -> str:
        """`local@domain` with the local part quoted where it must be; empty for the null path."""
        return join_address(self.local, self.domain) if self.local or self.domain else ""

    def __str__(self) -> str:
        return f"<{self.address}>"


def is_local_simple(local: str) -> bool:
    """Whether a local part needs no quoting."""
    return _STRICT_LOCAL.fullmatch(local) is not None


def quote_local(local: str) -> str:
    """The local part as it is written on the wire: bare if it is atoms and single dots, else a quoted string."""
    if _STRICT_LOCAL.fullmatch(local):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote_local(text: str) -> str:
    """The local part without its quoting; a text that is not a quoted string is returned as it is."""
    match = _QUOTED_STRING.fullmatch(text)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else text


def join_address(local: str, domain: str) -> str:
    """`local@domain`; only the local part if there is no domain."""
    return f"{quote_local(local)}@{domain}" if domain else quote_local(local)


def split_address(text: str) -> tuple[str, str]:
    """Local part (unquoted) and domain (may be empty) of a written address, without judging their symbols.

    The domain begins behind the last `@` outside of a quoted string.
    """
    match = _QUOTED_STRING.match(text)
    if match and text[match.end() : match.end() + 1] in ("", "@"):
        return unquote_local(match[0]), text[match.end() + 1 :]
    local, _, domain = text.rpartition("@")
    return (local, domain) if _ else (domain, "")


def literal_address(domain: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The network address of a domain literal such as `[10.0.0.1]` or `[IPv6:::1]`; None for anything else."""
    match = _LITERAL.fullmatch(domain)
    if match is None:
        return None
    text = match[1]
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def check_domain(domain: str) -> str:
    """The domain, without a final dot, if it is a name or a literal. Raises AddressError."""
    if len(domain.encode("utf-8", "surrogateescape")) > MAX_DOMAIN:
        raise AddressError("the domain name is too long")
    if domain.startswith("["):
        match = _LITERAL.fullmatch(domain)
        if match is None or (literal_address(domain) is None and not _is_tagged(match[1])):
            raise AddressError("invalid address literal")
        return domain
    if not _LABELS.fullmatch(domain) or ".." in domain:
        raise AddressError("invalid domain name")
    domain = domain.rstrip(".")
    if domain.isascii() and any(len(label) > 63 for label in domain.split(".")):
        raise AddressError("a part of the domain name is too long")
    return domain


def _is_tagged(content: str) -> bool:
    """Whether this is a literal of a kind that is not known here (RFC 5321, General-address-literal)."""
    return content[:5].lower() != "ipv6:" and _TAGGED.fullmatch(content) is not None


def parse_address(text: str, *, max_local: int = MAX_LOCAL) -> tuple[str, str]:
    """Local part (unquoted) and domain of one address as a setting or a command holds it; the domain may be missing.

    Raises AddressError.
    """
    path, end = _mailbox(text, 0, max_local)
    if end != len(text):
        raise AddressError("invalid symbols in the address")
    return path


def _mailbox(text: str, position: int, max_local: int) -> tuple[tuple[str, str], int]:
    start = position
    match = _QUOTED_STRING.match(text, position)
    if match:
        local = unquote_local(match[0])
    else:
        match = _DOT_STRING.match(text, position)
        if match is None:
            raise AddressError("the local part is missing or invalid")
        local = match[0]
    position = match.end()
    if not local:
        raise AddressError("the local part is empty")
    if len(local.encode("utf-8", "surrogateescape")) > max_local:
        raise AddressError("the local part is too long")
    if not text.startswith("@", position):
        return (local, ""), position
    position += 1
    end = text.find("]", position) + 1 if text.startswith("[", position) else 0
    if not end:
        labels = _LABELS.match(text, position)
        end = labels.end() if labels else position
    domain = check_domain(text[position:end])
    if len(text[start:end].encode("utf-8", "surrogateescape")) + 2 > MAX_PATH + max(0, max_local - MAX_LOCAL):
        raise AddressError("the address is too long")
    return (local, domain), end


def parse_path_prefix(data: bytes, *, max_local: int = MAX_LOCAL) -> tuple[Path, int]:
    """The path at the start of the bytes and the offset behind it: the beginning of MAIL and RCPT parameters.

    Takes blanks before the path, and an address without brackets up to a blank, as many senders write it. A sender's
    own local part can be longer than the standard's 64 octets; `max_local` is for servers that accept it.
    Raises AddressError.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise AddressError("the address is not in UTF-8") from None
    position = len(text) - len(text.lstrip(" \t"))
    if not text.startswith("<", position):
        mailbox, position = _mailbox(text, position, max_local)
        if position < len(text) and text[position] not in " \t":
            raise AddressError("invalid symbols in the address")
        return Path(*mailbox), _bytes_before(text, position)
    position += 1
    if text.startswith(">", position):
        return Path("", ""), _bytes_before(text, position + 1)
    route: tuple[str, ...] = ()
    if text.startswith("@", position):
        match = _ROUTE.match(text, position)
        if match is None or len(match[0]) > MAX_ROUTE:
            raise AddressError("invalid source route")
        route = tuple(check_domain(hop.strip()[1:]) for hop in match[0][:-1].split(","))
        position = match.end()
    mailbox, position = _mailbox(text, position, max_local)
    if not text.startswith(">", position):
        raise AddressError("'>' is expected after the address")
    return Path(*mailbox, route), _bytes_before(text, position + 1)


def _bytes_before(text: str, position: int) -> int:
    return position if text.isascii() else len(text[:position].encode())


def parse_path(data: bytes, *, max_local: int = MAX_LOCAL) -> Path:
    """A path that fills the bytes: `<user@domain>`, `<@relay:user@domain>`, `<postmaster>`, `<>`.

    Raises AddressError.
    """
    path, end = parse_path_prefix(data, max_local=max_local)
    if data[end:].strip():
        raise AddressError("invalid symbols after the address")
    return path
