"""What the header of a submitted file says of its envelope (manual, chapter 33, The Submitted Folder).

The fields Envelope-To, Envelope-Ignore, Envelope-ID, Return-Path and Bcc are for the server alone and are taken out. Addresses
without a domain are of the main domain; in From and Sender they are completed, unless the field has several lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from appliance.formats.addresses import join_address
from appliance.formats.headers import fields, get_all, remove_fields
from appliance.formats.mailboxes import Mailbox, parse_mailboxes

__all__ = ["Submitted", "read_header"]

_CONTROL: Final = (b"bcc", b"envelope-to", b"envelope-ignore", b"envelope-id", b"return-path")
_COMPLETED: Final = (b"from", b"sender")
_MAX_ENVID: Final = 100
"""Characters of an envelope id (RFC 3461, 4.4)."""
_PLAIN_NAME: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~. \t\x80-\xff-]+")
_UNFIT: Final = re.compile(r"[^!-~]+")


@dataclass(frozen=True, slots=True)
class Submitted:
    """`header` is what goes on, with its empty line if it had one."""

    sender: str
    recipients: list[str]
    envid: str
    header: bytes


def read_header(header: bytes, domain: str) -> Submitted:
    """The envelope that a header asks for. `domain` is the main domain. Never raises; there may be no recipients."""
    if get_all(header, b"envelope-to"):
        recipients = _addresses(get_all(header, b"envelope-to"), domain)
    else:
        ignored = {address.casefold() for address in _addresses(get_all(header, b"envelope-ignore"), domain)}
        listed = [value for name in (b"to", b"cc", b"bcc") for value in get_all(header, name)]
        recipients = [address for address in _addresses(listed, domain) if address.casefold() not in ignored]
    envid = _UNFIT.sub("", (get_all(header, b"envelope-id") or [b""])[0].decode("ascii", "ignore"))[:_MAX_ENVID]
    sender = _sender(header, domain)
    return Submitted(sender, recipients, envid, _complete(remove_fields(header, _CONTROL), domain))


def _addresses(values: Iterable[bytes], domain: str) -> list[str]:
    """Each address once, in order."""
    found: dict[str, str] = {}
    for value in values:
        for mailbox in parse_mailboxes(value):
            if mailbox.is_address and mailbox.local:
                address = _address(mailbox, domain)
                found.setdefault(address.casefold(), address)
    return list(found.values())


def _address(mailbox: Mailbox, domain: str) -> str:
    local = (mailbox.local or b"").decode("utf-8", "surrogateescape")
    return join_address(local, (mailbox.domain or b"").decode("utf-8", "surrogateescape") or domain)


def _sender(header: bytes, domain: str) -> str:
    """Return-Path; else From if it is one person, else Sender, else the first of From."""
    paths = get_all(header, b"return-path")
    if paths:
        return next(iter(_addresses(paths[:1], domain)), "")
    authors = _addresses(get_all(header, b"from"), domain)
    if len(authors) == 1:
        return authors[0]
    return next(iter([*_addresses(get_all(header, b"sender"), domain), *authors]), "")


def _complete(header: bytes, domain: str) -> bytes:
    parts: list[bytes] = []
    position = 0
    for field in fields(header):
        if field.name.lower() in _COMPLETED and (value := _completed(field.value, domain)) is not None:
            parts += [header[position : field.start], field.name, b": ", value, b"\n"]
            position = field.end
    return b"".join([*parts, header[position:]]) if parts else header


def _completed(value: bytes, domain: str) -> bytes | None:
    """The value with a domain for each address, None if nothing is to be done."""
    if b"\n" in value:
        return None
    people = parse_mailboxes(value)
    if any(not person.is_address or not person.local for person in people) or all(p.domain for p in people):
        return None
    return b", ".join(_written(person, domain) for person in people)


def _written(person: Mailbox, domain: str) -> bytes:
    address = _address(person, domain).encode("utf-8", "surrogateescape")
    if not person.name:
        return address
    name = person.name
    if not _PLAIN_NAME.fullmatch(name):
        name = b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return name + b" <" + address + b">"
