"""The message as conditions see it: strings that are made when the first condition asks for them, and kept for the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from appliance.formats.encodedwords import decode_words
from appliance.formats.headers import MAX_FIELDS, unfold
from appliance.formats.mailboxes import Mailbox, parse_mailboxes
from appliance.rules.pictures import Test

__all__ = ["MAX_TESTED", "Lists", "Subject", "address_of", "is_automatic"]

MAX_TESTED: Final = 2000
"""Symbols of a string that conditions look at; what is longer is cut, so that a long line costs no more than a short one."""
_MAX_STRINGS: Final = 2000
_FIELD: Final = re.compile(rb"\n([!-9;-~\x80-\xff]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)")

Lists = Callable[[str], Test]
"""Gives the question "is it in the string list of that name?"."""

_BULK: Final = (b"bulk", b"junk", b"list")
_ADDRESSES: Final = {
    "From": (b"from",),
    "Sender": (b"sender",),
    "Reply-To": (b"reply-to",),
    "To": (b"to",),
    "Cc": (b"cc",),
    "Any To or Cc": (b"to", b"cc"),
    "Each To or Cc": (b"to", b"cc"),
}


def address_of(mailbox: Mailbox) -> str:
    """`local@domain` as it stands in the field."""
    local = (mailbox.local or b"").decode("utf-8", "surrogateescape")
    domain = (mailbox.domain or b"").decode("utf-8", "surrogateescape")
    return f"{local}@{domain}" if domain else local


def is_automatic(header: dict[bytes, list[bytes]]) -> bool:
    """Whether the header tells of a program as the author: Precedence, X-List*, X-Mirror*, X-Auto*, X-Mailing-List (manual,
    chapter 28, Human Generated), List-Id (RFC 2919) and Auto-Submitted other than `no` (RFC 3834, 5)."""
    if any(unfold(value).lower() in _BULK for value in header.get(b"precedence", ())):
        return True
    if any(unfold(value).partition(b";")[0].strip().lower() != b"no" for value in header.get(b"auto-submitted", ())):
        return True
    return any(
        name.startswith((b"x-list", b"x-mirror", b"x-auto")) or name in (b"x-mailing-list", b"list-id")
        for name in header
    )


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known beside the header. `recipients` as they were before routing (the original ones where the sender told
    them); `routes` the local parts they were routed to; `moment` in the server's zone; `size` in octets on the wire."""

    sender: str
    recipients: Sequence[str] = ()
    routes: Sequence[str] = ()
    size: int = 0
    moment: datetime = datetime.min


class Subject:
    """`header` are the message's own fields, `added` those that were put on (by the server's rules, and by `add`)."""

    __slots__ = ("_added_header", "_everything", "_lines", "added", "envelope", "header", "known", "lists", "text")

    def __init__(self, header: bytes, added: bytes, envelope: Envelope, lists: Lists) -> None:
        self.text = header
        self.added = added
        self.envelope = envelope
        self.lists = lists
        self.header = _header(header)
        self.known: dict[str, list[str]] = {}
        self._added_header = _header(added) if added else {}
        self._lines: dict[str, list[str]] = {}
        self._everything = ""

    def add(self, fields_text: bytes) -> None:
        """More fields, whole lines: conditions on header fields see them from now on."""
        self.added += fields_text
        self._added_header = _header(self.added)
        self._lines.clear()
        self._everything = ""

    def mailboxes(self, *names: bytes) -> list[Mailbox]:
        """The addresses of these fields."""
        found: list[Mailbox] = []
        for name in names:
            for value in self.header.get(name, ()):
                found += [mailbox for mailbox in parse_mailboxes(value) if mailbox.is_address]
                if len(found) > _MAX_STRINGS:
                    return found[:_MAX_STRINGS]
        return found

    def first(self, name: bytes) -> bytes:
        """The value of the first such field on one line; empty if there is none."""
        values = self.header.get(name)
        return unfold(values[0]) if values else b""

    def values(self, kind: str) -> list[str]:
        """The strings that a condition of that name compares, in lower case."""
        found = self.known.get(kind)
        if found is None:
            found = self.known[kind] = [text[:MAX_TESTED].lower() for text in self._make(kind)]
        return found

    def _make(self, kind: str) -> list[str]:
        names = _ADDRESSES.get(kind)
        if names is not None:
            return [address_of(mailbox) for mailbox in self.mailboxes(*names)]
        if kind == "Return-Path":
            return [self.envelope.sender]
        if kind == "'From' Name":
            return [decode_words((mailbox.name or b"")[:MAX_TESTED]) for mailbox in self.mailboxes(b"from")]
        if kind == "Subject":
            return [decode_words(value[: 4 * MAX_TESTED]) for value in self.header.get(b"subject", (b"",))]
        if kind == "Message-ID":
            return [self.first(b"message-id").decode("utf-8", "surrogateescape")]
        if kind in ("Any Recipient", "Each Recipient"):
            return list(self.envelope.recipients[:_MAX_STRINGS])
        if kind in ("Any Route", "Each Route"):
            return list(self.envelope.routes[:_MAX_STRINGS])
        raise KeyError(kind)

    def is_human(self) -> bool:
        return bool(self.envelope.sender) and not is_automatic(self.header)

    def lines(self, name: str) -> list[str]:
        """The lines `name: value`, lower case, raw and with encoded words read: all, or with a name those of one field."""
        found = self._lines.get(name)
        if found is None:
            if name:
                raw = name.encode("utf-8", "replace")
                values = [*self._added_header.get(raw, ()), *self.header.get(raw, ())]
                found = [line for value in values for line in _texts(name, value)]
            else:
                found = [
                    line
                    for header in (self._added_header, self.header)
                    for raw, values in header.items()
                    for value in values
                    for line in _texts(raw.decode("latin-1"), value)
                ]
            self._lines[name] = found
        return found

    def may_have(self, piece: str) -> bool:
        """Whether some line could have that piece (lower case): one look for all lines."""
        if not self._everything:
            self._everything = "\n".join(self.lines(""))
        return piece in self._everything


def _texts(name: str, value: bytes) -> list[str]:
    """A field as it stands, and with its encoded words read."""
    raw = unfold(value[: 4 * MAX_TESTED])[:MAX_TESTED]
    texts = [f"{name}: {raw.decode('utf-8', 'replace').lower()}"]
    if b"=?" in raw:
        texts.append(f"{name}: {decode_words(raw).lower()}")
    return texts


def _header(data: bytes) -> dict[bytes, list[bytes]]:
    """Raw values by lower-case name."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in _FIELD.findall(b"\n" + data)[:MAX_FIELDS]:
        low = name.lower()
        values = found.get(low)
        if values is None:
            found[low] = [value]
        else:
            values.append(value)
    return found
