from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats import dates

EAST = timezone(timedelta(hours=2))
WHEN = datetime(2024, 10, 1, 10, 0, 5, tzinfo=EAST)


@pytest.mark.feature("STD-014")
@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("Tue, 1 Oct 2024 10:00:05 +0200", "2024-10-01T10:00:05+02:00"),
        ("1 Oct 2024 10:00 GMT", "2024-10-01T10:00:00+00:00"),
        (" Fri, 21 Nov 97 09:55:06 -0600 (MDT)", "1997-11-21T09:55:06-06:00"),
        ("21 Nov 05 09:55:06 EST", "2005-11-21T09:55:06-05:00"),
        ("Thu, 13 Feb 1969 23:32 -0330 (Newfoundland Time)", "1969-02-13T23:32:00-03:30"),
        ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"),
        ("Tuesday, 1-Oct-24 10:00:05 Z", "2024-10-01T10:00:05+00:00"),
        ("Tue Oct  1 10:00:05 2024", "2024-10-01T10:00:05+00:00"),
        ("Tue, 01 Oct 2024 10:00:60 +0000", "2024-10-01T10:00:59+00:00"),
        ("1 Oct 2024 10:00:05 +200", "2024-10-01T10:00:05+02:00"),
        ("31 Feb 2024 10:00:00 +0000", None),
        ("1 Okt 2024 10:00:00 +0000", None),
        ("1 Oct 2024 25:00:00 +0000", None),
        ("yesterday", None),
        ("", None),
        ("1 Jan 0001 00:00:00 +1000", None),
    ],
)
def test_mail_dates(text: str, iso: str | None) -> None:
    when = dates.parse_date_time(text)
    assert (when and when.isoformat()) == iso
    assert dates.parse_date_time(text.encode()) == when


def test_formats() -> None:
    assert dates.format_date_time(WHEN) == "Tue, 1 Oct 2024 10:00:05 +0200"
    assert dates.format_date_time(WHEN.astimezone(timezone(timedelta(minutes=-210)))).endswith("04:30:05 -0330")
    assert dates.format_internal_date(WHEN) == " 1-Oct-2024 10:00:05 +0200"
    assert dates.format_asctime(WHEN) == "Tue Oct  1 08:00:05 2024"
    assert dates.from_epoch(1727769605.9) == WHEN


@pytest.mark.feature("DATA-035", "DATA-036")
def test_gmt() -> None:
    assert dates.format_gmt(WHEN) == "20241001080005"
    assert dates.parse_gmt("20241001080005") == WHEN
    for bad in ("", "2024100108000", "20241301080005", "2024100108000x"):
        assert dates.parse_gmt(bad) is None


def test_imap_dates() -> None:
    assert dates.parse_internal_date(b" 1-Oct-2024 10:00:05 +0200") == WHEN
    assert dates.parse_internal_date("17-Jul-1996 02:44:25 -0700") == datetime(1996, 7, 17, 9, 44, 25, tzinfo=UTC)
    assert dates.parse_imap_date('"1-Oct-2024"') == dates.parse_imap_date(b"01-oct-2024") == date(2024, 10, 1)
    for bad in ("31-Feb-2024", "1-Xxx-2024", "x"):
        assert dates.parse_imap_date(bad) is None
        assert dates.parse_internal_date(bad + " 10:00:05 +0200") is None
    assert dates.parse_internal_date("1-Oct-2024 10:00:05 +9900") is None


@pytest.mark.parametrize(
    "text",
    [
        "Tue Oct  1 08:00:05 2024",
        "Tue Oct 1 08:00:05 GMT 2024",
        "Tue Oct  1 10:00:05 2024 +0200",
        "Oct 1 08:00:05 2024",
    ],
)
def test_from_line_dates(text: str) -> None:
    assert dates.parse_asctime(text) == WHEN


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)),
    st.integers(-12 * 60, 12 * 60),
)
def test_round_trips(naive: datetime, offset: int) -> None:
    when = naive.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset)))
    assert dates.parse_date_time(dates.format_date_time(when)) == when
    assert dates.parse_internal_date(dates.format_internal_date(when)) == when
    assert dates.parse_gmt(dates.format_gmt(when)) == when
    assert dates.parse_asctime(dates.format_asctime(when)) == when


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["1", "99", "Oct", "-", ":", " ", "2024", "+", "EST", ",", "(", "0"])).map("".join)
    | st.text()
)
def test_any_text_is_a_date_or_none(text: str) -> None:
    for parse in (dates.parse_date_time, dates.parse_internal_date, dates.parse_imap_date, dates.parse_gmt):
        parse(text)
