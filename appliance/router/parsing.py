"""Addresses as the router reads them: paths become one domain and a local part in percent form (manual, chapter 27)."""

from __future__ import annotations

import re

#: Longest address text that is routed, in characters (RFC 5321, 4.5.3.1.3 has 256 octets for a path; records may add).
MAX_ADDRESS = 1024

_CONTROLS = re.compile(r"[\r\n\0]")
_ROUTED = re.compile(r"[%!@]")


def _split_at(text: str) -> tuple[str, str]:
    """Local and domain part at the last `@` outside quotes."""
    if '"' not in text:
        local, at, domain = text.rpartition("@")
        return (local, domain) if at else (text, "")
    quoted = escaped = False
    place = -1
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\" and quoted:
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "@" and not quoted:
            place = index
    return (text[:place], text[place + 1 :]) if place >= 0 else (text, "")


def unquote(local: str) -> str:
    """`"a b"` as the text a b; other local parts as they are."""
    if len(local) > 1 and local[0] == '"' and local[-1] == '"':
        return local[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return local


def parse(text: str) -> tuple[str, str]:
    """(local, domain) of any address form: `a@b`, `<@b:c@d>`, `b!d!c`, `a%b@c`, `a`. Longer paths stay in the local part as
    `local%domain1%domain2`. Raises ValueError for text that is no address."""
    text = text.strip()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1].strip()
    if not text or len(text) > MAX_ADDRESS or _CONTROLS.search(text):
        raise ValueError("an address is expected")
    if text.startswith("@"):
        # Source route @zzzz,@yyyy:local@domain (RFC 5321, 4.1.2, A-d-l).
        route, colon, rest = text.partition(":")
        if colon:
            hops = [hop.strip().lstrip("@") for hop in route.split(",")]
            local, domain = _split_at(rest)
            inner = f"{local}%{domain}" if domain else local
            for hop in reversed(hops[1:]):
                inner = f"{inner}%{hop}"
            return _present(inner), _domain(hops[0])
    local, domain = _split_at(text)
    if not domain and "!" in local and not local.startswith('"'):
        parts = local.split("!")
        inner = parts[-1]
        for hop in reversed(parts[1:-1]):
            inner = f"{inner}%{hop}"
        return _present(inner), _domain(parts[0])
    return _present(unquote(local)), _domain(domain)


def _present(local: str) -> str:
    if not local:
        raise ValueError("the local part is missing")
    return local


def _domain(domain: str) -> str:
    """Without a final dot; international names as A-labels; bare IPv4 addresses get brackets."""
    domain = domain.strip().rstrip(".")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"{domain[:64]!r} is not a domain name") from None
    if not domain[-1:].isdigit():
        return domain
    parts = domain.split(".")
    if len(parts) == 4 and all(part.isdigit() and len(part) < 4 and int(part) < 256 for part in parts):
        return f"[{domain}]"
    return domain


def reparse_main(local: str) -> tuple[str, str]:
    """The local part of an address of the main domain is an address again: `sales%gamma.com` is sales@gamma.com."""
    if local.startswith("@") and ":" in local:
        return parse(local)
    inner, percent, domain = local.rpartition("%")
    if percent and inner:
        return inner, _domain(domain)
    if "!" in local:
        return parse(local)
    return local, ""


def is_simple(local: str) -> bool:
    """No route is left in the local part (manual, chapter 29: "simple" addresses)."""
    return _ROUTED.search(local) is None
