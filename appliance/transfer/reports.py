"""The text of delivery reports: multipart/report with a delivery-status part (RFC 6522, RFC 3464; RFC 6533 for addresses
outside ASCII), and the texts that an administrator may change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Final, Protocol

from appliance.transfer.message import Kind, QueuedMessage, Recipient

__all__ = ["TEXTS", "Report", "Texts", "compose"]

MAX_LISTED: Final = 1000
"""Most recipients that one report tells of."""
_MAX_TEXT: Final = 800

TEXTS: Final = {
    "ReportFailedSubject": "Undeliverable mail",
    "ReportRelayedSubject": "Delivery report",
    "ReportDelayedSubject": "Delayed mail",
    "ReportFrom": "Mail Delivery System",
    "ReportFailed": "Your message could not be delivered to:",
    "ReportDelivered": "Your message was delivered to:",
    "ReportRelayed": "Your message was passed to a system that gives no delivery reports for:",
    "ReportDelayed": "Your message could not be delivered yet. The server goes on trying; you need not send it again:",
    "ReportMore": "and ^0 more",
}


class Texts(Protocol):
    """The Strings table."""

    def text(self, key: str, *values: object, **named: object) -> str: ...


@dataclass(frozen=True, slots=True)
class Report:
    """A report: what stands before and after the returned part, which is passed through as it is."""

    head: bytes
    tail: bytes


_ORDER: Final = ("failed", "delayed", "delivered", "relayed")
_GROUPS: Final = {
    "failed": "ReportFailed",
    "delayed": "ReportDelayed",
    "delivered": "ReportDelivered",
    "relayed": "ReportRelayed",
}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text)[:_MAX_TEXT].strip()


def _action(recipient: Recipient) -> str:
    return "delayed" if recipient.outcome is None else str(recipient.outcome.kind)


def _encoded_word(text: str) -> str:
    if text.isascii():
        return _clean(text)
    import base64

    return "=?utf-8?B?" + base64.b64encode(text.encode("utf-8", "replace")).decode("ascii") + "?="


def compose(
    message: QueuedMessage,
    recipients: Sequence[Recipient],
    *,
    to: Iterable[str],
    host: str,
    now: datetime,
    arrived: datetime,
    message_id: str,
    texts: Texts,
    full: bool,
    original_id: str = "",
) -> Report:
    """A report on these recipients (a result, or none for a delay). `full`: all of the message comes back, else its header.

    The octets between head and tail are the header fields or the whole message, in store form.
    """
    kinds = {_action(recipient) for recipient in recipients}
    worst = next(kind for kind in _ORDER if kind in kinds)
    subject = {"failed": "ReportFailedSubject", "delayed": "ReportDelayedSubject"}.get(worst, "ReportRelayedSubject")
    international = not all(
        text.isascii() for recipient in recipients for text in (recipient.address, recipient.orcpt, message.envid)
    )
    boundary = f"_report_{message.id}_{abs(hash(message_id)) & 0xFFFFFFFFFFFF:x}_"
    lines = [
        f"From: {_phrase(texts.text('ReportFrom'))} <MAILER-DAEMON@{host}>",
        "To: " + ", ".join(f"<{_clean(address)}>" for address in to),
        f"Subject: {_encoded_word(texts.text(subject))}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: {message_id}",
    ]
    if original_id:
        lines += [f"In-Reply-To: {original_id}", f"References: {original_id}"]
    lines += [
        f"Auto-Submitted: {'auto-replied' if worst != 'delayed' else 'auto-generated'}",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"',
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        *_explain(recipients, texts),
        f"--{boundary}",
        f"Content-Type: message/{'global-' if international else ''}delivery-status",
        *(["Content-Transfer-Encoding: 8bit"] if international else []),
        "",
        f"Reporting-MTA: dns; {host}",
    ]
    if message.envid:
        lines.append(f"Original-Envelope-Id: {_clean(message.envid)}")
    lines += [f"Arrival-Date: {format_datetime(arrived)}", ""]
    for recipient in recipients[:MAX_LISTED]:
        lines += [*_status(recipient, now), ""]
    part = "message/rfc822" if full else "text/rfc822-headers"
    if international or message.smtputf8:
        part = "message/global" if full else "message/global-headers"
    lines += [f"--{boundary}", f"Content-Type: {part}", "Content-Transfer-Encoding: 8bit", "", ""]
    return Report("\n".join(lines).encode("utf-8", "surrogateescape"), f"\n--{boundary}--\n".encode("ascii"))


def _phrase(text: str) -> str:
    return _encoded_word(text) if not text.isascii() else '"' + _clean(text).replace("\\", "").replace('"', "") + '"'


def _explain(recipients: Sequence[Recipient], texts: Texts) -> list[str]:
    lines: list[str] = []
    for kind in _ORDER:
        group = [recipient for recipient in recipients if _action(recipient) == kind]
        if not group:
            continue
        lines += [texts.text(_GROUPS[kind]), ""]
        for recipient in group[:MAX_LISTED]:
            lines.append(f"  <{_clean(recipient.address)}>")
            reason = recipient.outcome.text if recipient.outcome is not None else recipient.reason
            if reason and kind in ("failed", "delayed"):
                remote = recipient.outcome.remote if recipient.outcome is not None else ""
                said = (f"{_clean(remote)}: " if remote else "") + reason.strip()
                lines += ["    " + _clean(line) for line in said.splitlines()[:MAX_LISTED]]
        if len(group) > MAX_LISTED:
            lines.append("  " + texts.text("ReportMore", len(group) - MAX_LISTED))
        lines.append("")
    return lines


def _status(recipient: Recipient, now: datetime) -> list[str]:
    """The fields of one recipient (RFC 3464, 2.3)."""
    fields: list[str] = []
    if recipient.orcpt:
        fields.append(f"Original-Recipient: {_clean(recipient.orcpt.replace(';', '; ', 1).replace(';  ', '; ', 1))}")
    kind = "rfc822" if recipient.address.isascii() else "utf-8"
    fields.append(f"Final-Recipient: {kind}; {_clean(recipient.address)}")
    fields.append(f"Action: {_action(recipient)}")
    outcome = recipient.outcome
    if outcome is None:
        fields.append("Status: 4.0.0")
        if recipient.reason:
            fields.append(f"Diagnostic-Code: x-pillarbox; {_clean(recipient.reason)}")
        return fields
    fields.append(f"Status: {_enhanced(outcome.code, outcome.kind)}")
    if outcome.remote:
        fields.append(f"Remote-MTA: dns; {_clean(outcome.remote)}")
    if outcome.text and outcome.kind == Kind.FAILED:
        fields.append(f"Diagnostic-Code: {'smtp' if outcome.remote else 'x-pillarbox'}; {_clean(outcome.text)}")
    fields.append(f"Last-Attempt-Date: {format_datetime(now)}")
    return fields


def _enhanced(code: str, kind: str) -> str:
    """A status code that fits the action (RFC 3464, 2.3.4)."""
    fits = re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", code) is not None
    if kind == Kind.FAILED:
        return code if fits and code[0] != "2" else "5.0.0"
    return code if fits and code[0] == "2" else "2.0.0"
