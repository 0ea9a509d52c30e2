from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from appliance.transfer.message import Envelope, Kind, Outcome, Source

from .conftest import Room

ME = "me@here.example"
TEXT = b"Return-Path: <x>\nDate: now\nMessage-ID: <one@x>\nSubject: hello\n\nthe body\n"
FAILED = Outcome(Kind.FAILED, "5.1.1", "550 no such user", "mx.out.example")


async def quiet(seconds: float = 1) -> None:
    await trio.sleep(seconds)
    await trio.testing.wait_all_tasks_blocked()


def parse(data: bytes) -> EmailMessage:
    return email.message_from_bytes(data, policy=email.policy.default)


def statuses(report: bytes) -> list[dict[str, str]]:
    """The blocks of fields of the delivery-status part, lower-case names."""
    part = parse(report).get_payload(1)
    blocks = cast(list[EmailMessage], cast(EmailMessage, part).get_payload())
    return [{key.lower(): str(value) for key, value in block.items()} for block in blocks]


async def submit(room: Room, *recipients: Envelope, sender: str = ME, ret: str = "", envid: str = "") -> int:
    async with room.begin(Source("SMTP")) as submission:
        submission.sender, submission.ret, submission.envid = sender, ret, envid
        for recipient in recipients:
            submission.add(recipient)
        await submission.write(TEXT)
        return await submission.submit()


def fail_outside(room: Room) -> None:
    room.smtp.answer = lambda entry, recipient: (
        FAILED if recipient.address.startswith("no") else Outcome(Kind.RELAYED, "2.0.0", "ok", "mx.out.example")
    )


@pytest.mark.feature("QUEUE-008", "QUEUE-090", "QUEUE-091", "QUEUE-095", "QUEUE-098", "QUEUE-105", "STD-008", "STD-009")
async def test_a_failed_recipient_makes_a_report_at_once(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    await submit(
        room, Envelope("no1@out.example", "", "rfc822;No1@old.example"), Envelope("yes@out.example"), envid="QQ314"
    )
    await quiet(0.1)
    assert room.local.people == [ME]
    await quiet()
    (report,) = room.local.mail(ME)
    message = parse(report)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["From"].addresses[0].username == "MAILER-DAEMON"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == "<one@x>"
    about, one = statuses(report)
    assert about["reporting-mta"] == "dns; mail.here.example"
    assert about["original-envelope-id"] == "QQ314"
    assert one["original-recipient"] == "rfc822; No1@old.example"
    assert one["final-recipient"] == "rfc822; no1@out.example"
    assert (one["action"], one["status"]) == ("failed", "5.1.1")
    assert one["remote-mta"] == "dns; mx.out.example"
    assert one["diagnostic-code"] == "smtp; 550 no such user"
    text = cast(EmailMessage, message.get_payload(0)).get_content()
    assert "no1@out.example" in text and "550 no such user" in text and "yes@" not in text
    assert not room.spool.live


@pytest.mark.feature("QUEUE-092", "QUEUE-093")
async def test_success_is_told_only_if_asked_for(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    await submit(room, Envelope("ann@here.example"), Envelope("yes@out.example"))
    await quiet()
    assert room.local.mail(ME) == []
    await submit(room, Envelope("ann@here.example", "SF"), Envelope("yes@out.example", "S"), Envelope("null", "S"))
    await quiet()
    (report,) = room.local.mail(ME)
    found = {one["final-recipient"]: (one["action"], one["status"]) for one in statuses(report)[1:]}
    assert found == {
        "rfc822; ann@here.example": ("delivered", "2.1.5"),
        "rfc822; yes@out.example": ("relayed", "2.0.0"),
        "rfc822; null": ("delivered", "2.0.0"),
    }


@pytest.mark.feature("QUEUE-094")
async def test_never_means_never(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    await submit(room, Envelope("no1@out.example", "N"), Envelope("no2@out.example", "S"))
    await quiet(100)
    assert room.local.mail(ME) == []
    assert not room.spool.live


@pytest.mark.feature("QUEUE-096")
async def test_reports_have_no_return_path_and_are_never_reported_on(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    seen: list[tuple[str, bool]] = []
    room.smtp.before = lambda queue: seen.extend((m.sender, m.source.trusted) for m in queue.messages)
    await submit(room, Envelope("no1@out.example"), sender="no-sender@out.example")
    await quiet(1000)
    assert seen == [("no-sender@out.example", False), ("", True)]
    assert room.dequeuer.reports == 1
    assert not room.spool.live


@pytest.mark.feature("QUEUE-097")
async def test_results_within_the_delay_come_in_one_report(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    room.smtp.pause = 4
    room.smtp.held.add("held.example")
    await submit(
        room,
        Envelope("no1@a.example"),
        Envelope("no2@b.example"),
        Envelope("no3@c.example"),
        Envelope("yes@held.example"),
    )
    await quiet(10)
    assert room.local.mail(ME) == []
    await quiet(15)
    (report,) = room.local.mail(ME)
    assert len(statuses(report)) == 4
    await room.settings.update({"ReportingDelay": "100"})
    await submit(room, Envelope("no1@a.example"), Envelope("yes@held.example"))
    await quiet(90)
    assert len(room.local.mail(ME)) == 1
    await quiet(30)
    assert len(room.local.mail(ME)) == 2


@pytest.mark.feature("QUEUE-104")
async def test_many_recipients_and_several_processors_one_report(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    await room.settings.update({"DequeuerProcessors": "3"})
    await submit(room, *(Envelope(f"no{number}@h{number % 7}.example") for number in range(100)))
    await quiet()
    (report,) = room.local.mail(ME)
    assert len(statuses(report)) == 101


@pytest.mark.feature("QUEUE-099")
@pytest.mark.parametrize(
    ("choice", "ret", "full"),
    [
        ("headers", "", False),
        ("headers", "full", True),
        ("headers", "hdrs", False),
        ("body", "", True),
        ("body", "hdrs", False),
        ("alwaysHeaders", "full", False),
        ("alwaysBody", "hdrs", True),
    ],
)
async def test_how_much_is_returned(room: Room, autojump_clock: MockClock, choice: str, ret: str, full: bool) -> None:
    fail_outside(room)
    await room.settings.update({"ReturnOnFailure": choice})
    await submit(room, Envelope("no@out.example"), ret=ret)
    await quiet()
    (report,) = room.local.mail(ME)
    part = cast(EmailMessage, parse(report).get_payload(2))
    assert part.get_content_type() == ("message/rfc822" if full else "text/rfc822-headers")
    assert (b"the body" in report) is full
    assert b"Subject: hello" in report


async def test_a_large_message_comes_back_whole(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    await room.settings.update({"ReturnOnFailure": "body"})
    body = b"".join(b"line %d\n" % number for number in range(60000))
    await room.send("no@out.example", sender=ME, text=TEXT + body)
    await quiet()
    (report,) = room.local.mail(ME)
    assert TEXT + body in report


@pytest.mark.feature("QUEUE-100")
async def test_copies_of_failure_reports(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    await room.settings.update({"CopyFailureReports": "YES", "CopyFailureReportsTo": "postmaster@here.example"})
    await submit(room, Envelope("no@out.example"))
    await quiet()
    assert room.local.people == [ME, "postmaster@here.example"]
    await submit(room, Envelope("ok@out.example", "S"))
    await quiet()
    assert room.local.people == [ME, ME, "postmaster@here.example"]
    # A bounce that cannot be delivered: the postmaster hears of it, and nothing goes round.
    await submit(room, Envelope("no@out.example"), sender="")
    await quiet()
    assert room.local.people.count("postmaster@here.example") == 2
    await room.settings.update({"CopyFailureReportsTo": "no@out.example"})
    await submit(room, Envelope("no@out.example"), sender="")
    await quiet(1000)
    assert room.dequeuer.reports == 4
    assert not room.spool.live


@pytest.mark.feature("QUEUE-101")
async def test_texts_can_be_changed(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    await room.texts.change({"ReportFailed": "Leider nicht möglich:", "ReportFailedSubject": "Unzustellbär"})
    await submit(room, Envelope("no@out.example"))
    await quiet()
    message = parse(room.local.mail(ME)[0])
    assert message["Subject"] == "Unzustellbär"
    assert "Leider nicht möglich:" in cast(EmailMessage, message.get_payload(0)).get_content()


@pytest.mark.feature("QUEUE-102")
async def test_return_receipts(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    asks = b"Return-Receipt-To: <spy@out.example>\n" + TEXT
    await room.send("ann@here.example", "yes@out.example", sender=ME, text=asks)
    await quiet()
    (report,) = room.local.mail(ME)
    assert [one["final-recipient"] for one in statuses(report)[1:]] == ["rfc822; ann@here.example"]
    assert "spy@out.example" not in room.smtp.people
    await room.send("ann@here.example", sender=ME, text=b"Precedence: bulk\n" + asks)
    await room.send("ann@here.example", sender="", text=asks)
    await quiet()
    assert len(room.local.mail(ME)) == 1


@pytest.mark.feature("QUEUE-075")
async def test_warnings_after_the_set_times_once_for_each(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.warnings = (3600, 86400)
    room.smtp.before = lambda queue: queue.delay(1800, "host is down")
    await submit(room, Envelope("a@out.example"), Envelope("quiet@out.example", "F"))
    await quiet(3500)
    assert room.local.mail(ME) == []
    await quiet(200)
    (warning,) = room.local.mail(ME)
    found = statuses(warning)[1:]
    assert [(one["final-recipient"], one["action"], one["status"]) for one in found] == [
        ("rfc822; a@out.example", "delayed", "4.0.0")
    ]
    await quiet(80000)
    assert len(room.local.mail(ME)) == 1
    await quiet(10000)
    assert len(room.local.mail(ME)) == 2
    await quiet(5 * 86400)
    assert len(room.local.mail(ME)) == 2


@pytest.mark.feature("QUEUE-076")
async def test_a_warning_whose_recipient_is_done_meanwhile_is_dropped(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.held.add("out.example")
    number = await submit(room, Envelope("a@out.example"))
    await quiet()
    message = room.find(number)
    room.dequeuer.warn(message, message.recipients)
    room.queues.release("SMTP", "out.example")
    room.dequeuer.finish(message, message.recipients, Outcome(Kind.DELIVERED))
    await quiet(100)
    assert room.local.mail(ME) == []
    assert not room.spool.live


async def test_addresses_outside_ascii(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    await submit(room, Envelope("noö@out.example"))
    await quiet()
    (report,) = room.local.mail(ME)
    assert b"message/global-delivery-status" in report
    assert "Final-Recipient: utf-8; noö@out.example".encode() in report


async def test_texts_of_strangers_cannot_break_a_report(room: Room, autojump_clock: MockClock) -> None:
    room.smtp.answer = lambda entry, recipient: Outcome(Kind.FAILED, "x", "bad\r\nBcc: all\n\n--" + "x" * 5000, "m\nx")
    await submit(room, Envelope("no@out.example"))
    await quiet()
    (report,) = room.local.mail(ME)
    assert b"\nBcc:" not in report
    assert statuses(report)[1]["status"] == "5.0.0"
    assert len(report) < 6000


@pytest.mark.feature("QUEUE-038")
async def test_several_subjects_or_none(room: Room, autojump_clock: MockClock) -> None:
    fail_outside(room)
    await room.send("no@out.example", sender=ME, text=b"Subject: a\nSubject: b\n\n")
    await room.send("no@out.example", sender=ME, text=b"just text")
    await quiet()
    assert len(room.local.mail(ME)) == 2
