"""Delivery reports: multipart/report messages (RFC 6522) with a delivery-status part (RFC 3464), in store form.

Addresses beyond ASCII give the forms of RFC 6533. The text for people is the caller's, as it can be customised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal

from appliance.formats.compose import Correspondent, common_fields, text_part
from appliance.formats.dates import format_date_time
from appliance.formats.headers import header_end
from appliance.formats.xtext import OriginalRecipient

MAX_DIAGNOSTIC: Final = 900
"""Symbols of a diagnostic text that are reported."""
MAX_HEADERS: Final = 64 * 1024
"""Octets of the original header that a report gives back."""

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]

_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """What happened to one recipient (RFC 3464, 2.3). `address` is the final one, `original` what ORCPT said."""

    address: str
    action: Action
    status: str
    """Enhanced status code (RFC 3463), `5.1.1`; another text becomes the general code of the action."""
    diagnostic: str = ""
    """The answer of the other server, or the reason in words, on any number of lines."""
    diagnostic_type: str = "smtp"
    original: OriginalRecipient | None = None
    remote_mta: str = ""
    """The server that gave the answer; empty if it was this one."""
    last_attempt: datetime | None = None
    will_retry_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What happened to one message: the per-message fields (RFC 3464, 2.2) and its recipients."""

    reporting_mta: str
    recipients: Sequence[RecipientStatus]
    envelope_id: str = ""
    """ENVID, without xtext coding."""
    arrival: datetime | None = None
    received_from_mta: str = ""

    @property
    def is_global(self) -> bool:
        """Whether an address is not ASCII, so that the report has the forms of RFC 6533."""
        return any(
            not person.address.isascii() or (person.original is not None and not person.original.address.isascii())
            for person in self.recipients
        )


def _clean(text: str, limit: int = MAX_DIAGNOSTIC) -> str:
    return re.sub(r"[\x00-\x20\x7f]+", " ", text).strip()[:limit]


def _line(name: str, value: str) -> bytes:
    return f"{name}: {value}\n".encode("utf-8", "replace")


def _general_status(action: Action) -> str:
    return {"failed": "5.0.0", "delayed": "4.0.0"}.get(action, "2.0.0")


def _typed(address: str) -> str:
    return f"{'rfc822' if address.isascii() else 'utf-8'};{_clean(address, 1000)}"


def render_delivery_status(report: DeliveryReport) -> bytes:
    """The delivery-status part: the fields of the message, then a block for each recipient."""
    lines: list[bytes] = []
    if report.envelope_id:
        lines.append(_line("Original-Envelope-Id", _clean(report.envelope_id)))
    lines.append(_line("Reporting-MTA", f"dns;{_clean(report.reporting_mta)}"))
    if report.received_from_mta:
        lines.append(_line("Received-From-MTA", f"dns;{_clean(report.received_from_mta)}"))
    if report.arrival is not None:
        lines.append(_line("Arrival-Date", format_date_time(report.arrival)))
    is_global = report.is_global
    for person in report.recipients:
        lines.append(b"\n")
        if person.original is not None:
            kind = re.sub(r"[^A-Za-z0-9-]", "", person.original.kind) or "unknown"
            lines.append(_line("Original-Recipient", f"{kind};{_clean(person.original.address, 1000)}"))
        lines.append(_line("Final-Recipient", _typed(person.address)))
        lines.append(_line("Action", person.action))
        status = person.status if _STATUS.fullmatch(person.status) else _general_status(person.action)
        lines.append(_line("Status", status))
        if person.remote_mta:
            lines.append(_line("Remote-MTA", f"dns;{_clean(person.remote_mta)}"))
        if person.diagnostic:
            diagnostic = _clean(person.diagnostic)
            if not is_global:
                diagnostic = diagnostic.encode("ascii", "replace").decode()
            kind = re.sub(r"[^A-Za-z0-9-]", "", person.diagnostic_type) or "smtp"
            lines.append(_line("Diagnostic-Code", f"{kind};{diagnostic}"))
        if person.last_attempt is not None:
            lines.append(_line("Last-Attempt-Date", format_date_time(person.last_attempt)))
        if person.will_retry_until is not None and person.action == "delayed":
            lines.append(_line("Will-Retry-Until", format_date_time(person.will_retry_until)))
    return b"".join(lines)


def _original_part(original: bytes, *, whole: bool) -> tuple[bytes, bytes]:
    """MIME fields and body of the part that gives the message, or only its header, back."""
    if whole:
        end = header_end(original)
        kind = b"message/rfc822" if original.isascii() or original[:end].isascii() else b"message/global"
        body = original
    else:
        body = original[: header_end(original)].rstrip(b"\r\n") + b"\n"
        if len(body) > MAX_HEADERS:
            body = body[: body.rfind(b"\n", 0, MAX_HEADERS) + 1]
        kind = b"text/rfc822-headers" if body.isascii() else b"message/global-headers"
    header = b"Content-Type: %s\n" % kind
    if not body.isascii():
        header += b"Content-Transfer-Encoding: 8bit\n"
    return header, body


def build_report(
    report: DeliveryReport,
    *,
    sender: Correspondent,
    recipients: Sequence[Correspondent],
    subject: str,
    text: str,
    date: datetime,
    message_id: str,
    original: bytes,
    whole: bool,
    extra: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The report as a message in store form; it is sent with the null return-path.

    `text` is for people. `original` is the message in store form, or at least its header; `whole` gives it back as a
    whole (RET=FULL), else only the header. Pure: the same arguments give the same bytes.
    """
    header = common_fields(
        sender=sender,
        recipients=recipients,
        subject=subject,
        date=date,
        message_id=message_id,
        auto_submitted="auto-replied",
        extra=extra,
    )
    status = render_delivery_status(report)
    status_header = b"Content-Type: message/%sdelivery-status\n" % (b"global-" if report.is_global else b"")
    if not status.isascii():
        status_header += b"Content-Transfer-Encoding: 8bit\n"
    parts = [text_part(text), (status_header, status), _original_part(original, whole=whole)]
    boundary = b"=_report_" + sha256(message_id.encode("utf-8", "replace")).hexdigest()[:24].encode()
    while any(b"--" + boundary in body for _, body in parts):
        boundary += b"_"
    lines = [
        header,
        b'Content-Type: multipart/report; report-type=delivery-status;\n boundary="%s"\n' % boundary,
        b"Content-Transfer-Encoding: 8bit\n" if any(not body.isascii() for _, body in parts) else b"",
        b"\n",
    ]
    for part_header, body in parts:
        lines += [b"--", boundary, b"\n", part_header, b"\n", body, b"\n"]
    lines += [b"--", boundary, b"--\n"]
    return b"".join(lines)
