"""ENVELOPE as finished IMAP bytes (RFC 3501, 7.4.2; RFC 9051, 7.5.2)."""

from __future__ import annotations

from typing import Final

from appliance.formats.headers import first_fields, header_end, unfold
from appliance.formats.imapstrings import nstring
from appliance.formats.mailboxes import parse_mailboxes

MAX_VALUE: Final = 256 * 1024
"""Octets of one field value that are looked at."""


def render_addresses(value: bytes | None) -> bytes:
    """A list of addresses from the raw value of a field, NIL if there are none."""
    if value is None:
        return b"NIL"
    entries = parse_mailboxes(value[:MAX_VALUE])
    if not entries:
        return b"NIL"
    return b"(%s)" % b"".join(
        b"(%s %s %s %s)" % (nstring(name), nstring(route), nstring(local), nstring(domain))
        for name, local, domain, route in entries
    )


def _value(value: bytes | None) -> bytes:
    return b"NIL" if value is None else nstring(unfold(value[:MAX_VALUE]))


def envelope_of(fields: dict[bytes, bytes]) -> bytes:
    """The envelope from the raw values of a header by lower-case name."""
    get = fields.get
    sender_default = render_addresses(get(b"from"))

    def addresses(name: bytes) -> bytes:
        # Sender and Reply-To that are missing or empty are the From (RFC 9051, 7.5.2).
        result = render_addresses(get(name))
        return sender_default if result == b"NIL" else result

    return b"(%s %s %s %s %s %s %s %s %s %s)" % (
        _value(get(b"date")),
        _value(get(b"subject")),
        sender_default,
        addresses(b"sender"),
        addresses(b"reply-to"),
        render_addresses(get(b"to")),
        render_addresses(get(b"cc")),
        render_addresses(get(b"bcc")),
        _value(get(b"in-reply-to")),
        _value(get(b"message-id")),
    )


def render_envelope(data: bytes) -> bytes:
    """The envelope of a message, of which only the header is needed."""
    return envelope_of(first_fields(data, 0, header_end(data)))
