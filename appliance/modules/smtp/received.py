"""The Received field that each message gets (RFC 5321, 4.4), and what stands in for a header that is missing."""

from __future__ import annotations

import re

from appliance.formats.dates import format_date_time
from appliance.kernel.channel import Channel
from appliance.kernel.clock import Clock
from appliance.protocols.smtp import SmtpServer

_UNSAFE = re.compile(r"[^\x21-\x27\x2a-\x5b\x5d-\x7e]")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")


def received_field(
    channel: Channel,
    server: SmtpServer,
    *,
    host: str,
    version: str,
    number: str,
    account: str | None,
    recipient: str,
    clock: Clock,
) -> bytes:
    """The field with its line ends, store form. `recipient` is told only if there is no other, else it is empty."""
    protocol = "ESMTP" if server.extended else "SMTP"
    if server.extended:
        protocol += ("S" if channel.encrypted else "") + ("A" if account is not None else "")  # RFC 3848
    peer = channel.peer.address
    literal = f"IPv6:{peer}" if ":" in peer else peer
    verified = f" (account {_UNSAFE.sub('?', account)})" if account is not None else ""
    lines = [
        f"Received: from {_UNSAFE.sub('?', server.helo) or 'unknown'} ([{literal}]){verified}",
        f"  by {host} (Pillarbox SMTP {version})",
        f"  with {protocol} id {number}" + (f" for <{_UNSAFE.sub('?', recipient)}>" if recipient else ""),
    ]
    return ("\n".join(lines) + f"; {format_date_time(clock.local(clock.now()))}\n").encode("ascii", "replace")


def has_header(first: bytes) -> bool:
    """Whether the text begins with a header field."""
    return _FIELD.match(first) is not None


def missing_header(sender: str) -> bytes:
    """A header for a text that has none: a From, and the empty line."""
    return f"From: <{sender or 'MAILER-DAEMON'}>\n\n".encode("utf-8", "surrogateescape")
