"""BODYSTRUCTURE and BODY as finished IMAP bytes (RFC 3501, 7.4.2; RFC 9051, 7.5.2), and all a delivery wants to know."""

from __future__ import annotations

from typing import NamedTuple

from appliance.formats.envelope import envelope_of
from appliance.formats.headers import unfold
from appliance.formats.imapstrings import nstring, string
from appliance.formats.mime import Part, parse_structure
from appliance.formats.parameters import Parameters, parse_disposition
from appliance.formats.wire import wire_size


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(%s)" % b" ".join(b"%s %s" % (string(name), string(value)) for name, value in parameters)


def _field(part: Part, name: bytes) -> bytes:
    value = part.fields.get(name)
    return b"NIL" if value is None else nstring(unfold(value) or None)


def _disposition(part: Part) -> bytes:
    raw = part.fields.get(b"content-disposition")
    parsed = None if raw is None else parse_disposition(raw)
    return b"NIL" if parsed is None else b"(%s %s)" % (string(parsed[0]), _parameters(parsed[1]))


def _language(part: Part) -> bytes:
    raw = part.fields.get(b"content-language")
    words = [word.strip() for word in unfold(raw).split(b",") if word.strip()] if raw else []
    if not words:
        return b"NIL"
    return string(words[0]) if len(words) == 1 else b"(%s)" % b" ".join(map(string, words))


def _extension(part: Part) -> bytes:
    """Disposition, language, location: the end of every extended structure; nearly always three NILs."""
    fields = part.fields
    if b"content-disposition" in fields or b"content-language" in fields or b"content-location" in fields:
        return b"%s %s %s" % (_disposition(part), _language(part), _field(part, b"content-location"))
    return b"NIL NIL NIL"


def structures_of(part: Part) -> tuple[bytes, bytes]:
    """BODYSTRUCTURE and BODY of a part; two renderings of one walk."""
    if part.is_multipart:
        pairs = [structures_of(child) for child in part.children]
        subtype = string(part.subtype)
        full = b"".join(pair[0] for pair in pairs)
        short = b"".join(pair[1] for pair in pairs)
        return (
            b"(%s %s %s %s)" % (full, subtype, _parameters(part.parameters), _extension(part)),
            b"(%s %s)" % (short, subtype),
        )
    basic = b"%s %s %s %s %s %s %d" % (
        string(part.type),
        string(part.subtype),
        _parameters(part.parameters),
        _field(part, b"content-id"),
        _field(part, b"content-description"),
        string(part.encoding),
        part.wire_size,
    )
    extension = b"%s %s" % (_field(part, b"content-md5"), _extension(part))
    if part.is_message:
        message = part.children[0]
        envelope = envelope_of(message.fields)
        full, short = structures_of(message)
        return (
            b"(%s %s %s %d %s)" % (basic, envelope, full, part.lines, extension),
            b"(%s %s %s %d)" % (basic, envelope, short, part.lines),
        )
    if part.type.lower() == b"text":
        basic = b"%s %d" % (basic, part.lines)
    return b"(%s %s)" % (basic, extension), b"(%s)" % basic


def render_bodystructure(data: bytes) -> bytes:
    """BODYSTRUCTURE of a message in store form."""
    return structures_of(parse_structure(data))[0]


def render_body(data: bytes) -> bytes:
    """BODY, the form without extensions, of a message in store form."""
    return structures_of(parse_structure(data))[1]


class Summary(NamedTuple):
    """What a mailbox keeps beside a message, so that FETCH needs no look at it."""

    envelope: bytes
    bodystructure: bytes
    body: bytes
    wire_size: int
    header_size: int
    """Octets of the header with its empty line, in store form: where the body begins."""


def summary(data: bytes) -> Summary:
    """All of it with one scan of a message in store form. Never raises."""
    part = parse_structure(data)
    full, short = structures_of(part)
    return Summary(envelope_of(part.fields), full, short, wire_size(data), part.body_start)
