"""Messages for the tests of rules, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from appliance.formats.headers import header_end
from appliance.rules.compiling import compile_rule
from appliance.rules.model import Condition, Level, Rule
from appliance.rules.outgoing import Identity
from appliance.rules.pictures import pictures
from appliance.rules.subject import Envelope, Subject

HEADER = (
    b"Received: from a by b; Mon, 5 Jan 2026 10:00:00 +0000\n"
    b"From: Jane Roe <jane@far.test>\nTo: ann@box.test, bob@box.test\nCc: carl@box.test\n"
    b"Subject: A letter\nDate: Mon, 5 Jan 2026 10:00:00 +0000\nMessage-ID: <1@far.test>\n\n"
)
#: A Monday.
NOW = datetime(2026, 1, 5, 17, 15, 30, tzinfo=UTC)
ANN = Identity(
    "ann@box.test", "ann@box.test", "Ann", "box.test", "MAILER-DAEMON@box.test", "box.test", frozenset({"ann@box.test"})
)


def subject(
    header: bytes = HEADER,
    *,
    sender: str = "jane@far.test",
    recipients: Sequence[str] = ("ann@box.test",),
    routes: Sequence[str] = (),
    size: int = 1000,
    moment: datetime = NOW,
    added: bytes = b"",
    lists: dict[str, list[str]] | None = None,
) -> Subject:
    known = lists or {}
    return Subject(
        header[: header_end(header)],
        added,
        Envelope(sender, recipients, routes, size, moment),
        lambda name: pictures(known.get(name, [])),
    )


def met(about: Subject, *condition: str, level: Level = Level.SERVER) -> bool:
    """Whether one condition is met."""
    return not compile_rule(Rule(5, "r", (Condition(*condition),)), level).missed(about)
