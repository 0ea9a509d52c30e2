from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats import headers
from appliance.formats.charsets import text_of
from appliance.formats.compose import Correspondent, compose
from appliance.formats.encodedwords import decode_words
from appliance.formats.mime import parse_structure

WHEN = datetime(2024, 10, 1, 8, 0, tzinfo=UTC)
POSTMASTER = Correspondent("Mail Server", "postmaster@a.com")


def make(subject: str, text: str) -> bytes:
    return compose(
        sender=POSTMASTER,
        recipients=[Correspondent("Zoë", "zoe@b.com"), Correspondent("", "x@c.com")],
        subject=subject,
        text=text,
        date=WHEN,
        message_id="1@a.com",
        extra=[("Precedence", "bulk")],
    )


@pytest.mark.feature("STD-014", "STD-006")
def test_plain_message() -> None:
    assert make("Almost full", "Your mailbox\r\nis full") == (
        b"From: Mail Server <postmaster@a.com>\nTo: =?utf-8?Q?Zo=C3=AB?= <zoe@b.com>,\n x@c.com\n"
        b"Subject: Almost full\nDate: Tue, 1 Oct 2024 08:00:00 +0000\nMessage-ID: <1@a.com>\n"
        b"Auto-Submitted: auto-generated\nPrecedence: bulk\nMIME-Version: 1.0\n"
        b"Content-Type: text/plain; charset=us-ascii\n\nYour mailbox\nis full\n"
    )


def test_bad_field_name() -> None:
    with pytest.raises(ValueError, match="not the name"):
        compose(sender=POSTMASTER, recipients=[], subject="", text="", date=WHEN, message_id="", extra=[("A b", "c")])


@pytest.mark.feature("STD-006", "STD-004")
@settings(max_examples=100, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.just("x" * 2000),
)
def test_texts_arrive(subject: str, text: str) -> None:
    data = make("S" + subject + "s", text)
    assert data.isascii()
    assert max(map(len, data.split(b"\n"))) < 998
    assert decode_words(headers.get(data, b"subject") or b"") == "S" + subject + "s"
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert text_of(data, parse_structure(data)).rstrip("\n") == expected.rstrip("\n")
