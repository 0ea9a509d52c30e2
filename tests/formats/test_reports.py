from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats import headers
from appliance.formats.compose import Correspondent
from appliance.formats.mime import Part, parse_structure
from appliance.formats.reports import MAX_HEADERS, DeliveryReport, RecipientStatus, build_report
from appliance.formats.xtext import OriginalRecipient

WHEN = datetime(2024, 10, 1, 8, 0, tzinfo=UTC)
ORIGINAL = b"From: joe@a.com\nSubject: hello\n\n--not a boundary\nFrom here on\n"
JOE = Correspondent("", "joe@a.com")
SERVER = Correspondent("Mail Delivery", "MAILER-DAEMON@b.com")


def build(report: DeliveryReport, original: bytes = ORIGINAL, *, whole: bool = True) -> tuple[bytes, Part]:
    data = build_report(
        report,
        sender=SERVER,
        recipients=[JOE],
        subject="Undeliverable mail",
        text="It failed.",
        date=WHEN,
        message_id="7@b.com",
        original=original,
        whole=whole,
    )
    return data, parse_structure(data)


def body(data: bytes, part: Part) -> bytes:
    return data[part.body_start : part.end]


FAILED = RecipientStatus(
    address="mary@c.com",
    action="failed",
    status="5.1.1",
    diagnostic="550-5.1.1 no such\r\n550 5.1.1 user",
    original=OriginalRecipient("rfc822", "Mary+x@b.com"),
    remote_mta="mx.c.com",
    last_attempt=WHEN,
)


@pytest.mark.feature("STD-008", "STD-009", "QUEUE-095")
def test_failure_with_the_whole_message() -> None:
    delayed = RecipientStatus("x@d.com", "delayed", "bad", will_retry_until=WHEN)
    data, message = build(DeliveryReport("b.com", [FAILED, delayed], "QQ=314", WHEN, "relay.a.com"))
    assert message.media_type == b"multipart/report"
    assert message.parameter(b"report-type") == b"delivery-status"
    assert [part.media_type for part in message.children] == [
        b"text/plain",
        b"message/delivery-status",
        b"message/rfc822",
    ]
    assert body(data, message.children[0]) == b"It failed.\n"
    assert body(data, message.children[1]) == (
        b"Original-Envelope-Id: QQ=314\nReporting-MTA: dns;b.com\nReceived-From-MTA: dns;relay.a.com\n"
        b"Arrival-Date: Tue, 1 Oct 2024 08:00:00 +0000\n"
        b"\nOriginal-Recipient: rfc822;Mary+x@b.com\nFinal-Recipient: rfc822;mary@c.com\nAction: failed\n"
        b"Status: 5.1.1\nRemote-MTA: dns;mx.c.com\nDiagnostic-Code: smtp;550-5.1.1 no such 550 5.1.1 user\n"
        b"Last-Attempt-Date: Tue, 1 Oct 2024 08:00:00 +0000\n"
        b"\nFinal-Recipient: rfc822;x@d.com\nAction: delayed\nStatus: 4.0.0\n"
        b"Will-Retry-Until: Tue, 1 Oct 2024 08:00:00 +0000\n"
    )
    assert body(data, message.children[2]) == ORIGINAL
    assert headers.get(data, b"Auto-Submitted") == b"auto-replied"


@pytest.mark.feature("STD-009")
def test_only_the_header_comes_back() -> None:
    data, message = build(DeliveryReport("b.com", [FAILED]), whole=False)
    assert message.children[2].media_type == b"text/rfc822-headers"
    assert body(data, message.children[2]) == b"From: joe@a.com\nSubject: hello\n"
    long = b"".join(b"X-%d: y\n" % number for number in range(20_000))
    data, message = build(DeliveryReport("b.com", [FAILED]), long, whole=False)
    returned = body(data, message.children[2])
    assert len(returned) <= MAX_HEADERS
    assert returned.endswith(b": y\n")


@pytest.mark.feature("STD-008")
def test_addresses_beyond_ascii() -> None:
    person = RecipientStatus("жанна@почта.рф", "failed", "5.1.1", "550 нет")
    data, message = build(DeliveryReport("b.com", [person]))
    status = message.children[1]
    assert status.media_type == b"message/global-delivery-status"
    assert "Final-Recipient: utf-8;жанна@почта.рф\n".encode() in body(data, status)
    assert status.encoding == message.encoding == b"8bit"


def test_the_boundary_is_in_no_part() -> None:
    report = DeliveryReport("b.com", [FAILED])
    data, message = build(report)
    boundary = message.parameter(b"boundary")
    assert boundary
    hostile = ORIGINAL + b"--" + boundary + b"--\nmore\n"
    data, message = build(report, hostile)
    assert len(message.children) == 3
    assert body(data, message.children[2]) == hostile


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.binary(max_size=100), st.booleans())
def test_strange_texts_stay_in_their_place(address: str, diagnostic: str, original: bytes, whole: bool) -> None:
    person = RecipientStatus(address, "failed", diagnostic, diagnostic, original=OriginalRecipient(address, address))
    data, message = build(DeliveryReport(address, [person], diagnostic), original, whole=whole)
    assert len(message.children) == 3
    status = body(data, message.children[1])
    assert status.count(b"\n\n") == 1
    assert status.count(b"\nAction: failed\n") == 1
