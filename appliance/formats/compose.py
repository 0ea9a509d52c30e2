"""Small messages of the server itself - warnings, notices, the texts of reports - in store form."""

from __future__ import annotations

import re
from binascii import b2a_qp
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from appliance.formats.dates import format_date_time
from appliance.formats.encodedwords import encode_mailbox, encode_words

_FIELD_NAME = re.compile(r"[!-9;-~]+")
_LONG_LINE = re.compile(rb"[^\n]{990}")


class Correspondent(NamedTuple):
    """A name (may be empty) and an address."""

    name: str
    address: str


def field(name: str, value: bytes) -> bytes:
    """One field with its line end. Raises ValueError for a name that is none."""
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a field")
    return b"%s: %s\n" % (name.encode(), value)


def text_field(name: str, text: str) -> bytes:
    """One field with any text: encoded and folded as it needs to be."""
    return field(name, encode_words(text, name_length=len(name) + 2))


def addresses_field(name: str, people: Sequence[Correspondent]) -> bytes:
    """One field with a list of addresses, one on each line."""
    return field(name, b",\n ".join(encode_mailbox(person.name, person.address) for person in people))


def text_part(text: str) -> tuple[bytes, bytes]:
    """The MIME fields and the body for a plain text; quoted-printable only if it is not short lines of ASCII."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text and not text.endswith("\n"):
        text += "\n"
    data = text.encode("utf-8", "replace")
    if data.isascii() and b"\0" not in data and not _LONG_LINE.search(data):
        return field("Content-Type", b"text/plain; charset=us-ascii"), data
    header = field("Content-Type", b"text/plain; charset=utf-8") + field(
        "Content-Transfer-Encoding", b"quoted-printable"
    )
    return header, b2a_qp(data, istext=True)


def common_fields(
    *,
    sender: Correspondent,
    recipients: Sequence[Correspondent],
    subject: str,
    date: datetime,
    message_id: str,
    auto_submitted: str,
    extra: Iterable[tuple[str, str]],
) -> bytes:
    """The fields of every message of the server; `message_id` comes without brackets."""
    parts = [
        addresses_field("From", [sender]),
        addresses_field("To", recipients) if recipients else b"",
        text_field("Subject", subject),
        field("Date", format_date_time(date).encode()),
        field("Message-ID", b"<%s>" % re.sub(r"[^!-;=?-~]+", "", message_id).encode()),
        # RFC 3834, 5: no robot answers this message.
        field("Auto-Submitted", encode_words(auto_submitted)) if auto_submitted else b"",
        *(text_field(name, value) for name, value in extra),
        field("MIME-Version", b"1.0"),
    ]
    return b"".join(parts)


def compose(
    *,
    sender: Correspondent,
    recipients: Sequence[Correspondent],
    subject: str,
    text: str,
    date: datetime,
    message_id: str,
    auto_submitted: str = "auto-generated",
    extra: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A plain text message in store form.

    The date knows its zone; the caller makes the message id. Texts may hold anything: line ends in header texts become
    blanks. `auto_submitted` "" is for messages that a person wrote. Raises ValueError for a bad name in `extra`.
    """
    header = common_fields(
        sender=sender,
        recipients=recipients,
        subject=subject,
        date=date,
        message_id=message_id,
        auto_submitted=auto_submitted,
        extra=extra,
    )
    part_header, body = text_part(text)
    return header + part_header + b"\n" + body
