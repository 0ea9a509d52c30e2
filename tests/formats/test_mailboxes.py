import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.mailboxes import MAX_MAILBOXES, Mailbox, parse_mailboxes

END = Mailbox(None, None, None)


@pytest.mark.feature("STD-014")
@pytest.mark.parametrize(
    ("value", "entries"),
    [
        (b"", []),
        (b" joe@a.com", [Mailbox(None, b"joe", b"a.com")]),
        (b"Joe Doe <joe@a.com>", [Mailbox(b"Joe Doe", b"joe", b"a.com")]),
        (b'"Doe, Joe" <joe@a.com>, x@b.com', [Mailbox(b"Doe, Joe", b"joe", b"a.com"), Mailbox(None, b"x", b"b.com")]),
        (b"<joe@a.com>", [Mailbox(None, b"joe", b"a.com")]),
        (b'""<joe@a.com>', [Mailbox(None, b"joe", b"a.com")]),
        (b"joe@a.com (Joe Doe)", [Mailbox(b"Joe Doe", b"joe", b"a.com")]),
        (b"joe@a.com (Joe (the \\) man) Doe)", [Mailbox(b"Joe (the ) man) Doe", b"joe", b"a.com")]),
        (b"Joe (comment) Doe <joe@a.com>", [Mailbox(b"Joe Doe", b"joe", b"a.com")]),
        (rb'"Joe \"D\" Doe" <joe@a.com>', [Mailbox(b'Joe "D" Doe', b"joe", b"a.com")]),
        (b"J. R. Doe <joe@a.com>", [Mailbox(b"J. R. Doe", b"joe", b"a.com")]),
        (b'"joe doe"@a.com', [Mailbox(None, b"joe doe", b"a.com")]),
        (b"joe . doe @ a . com", [Mailbox(None, b"joe.doe", b"a.com")]),
        (b"<@x.com,@y.com:joe@a.com>", [Mailbox(None, b"joe", b"a.com", b"@x.com,@y.com")]),
        (b"joe@[10.0.0.1]", [Mailbox(None, b"joe", b"[10.0.0.1]")]),
        (b"undisclosed-recipients:;", [Mailbox(None, b"undisclosed-recipients", None), END]),
        (
            b"A Group:Ed <ed@a.com>,joe@b.com;, last@c.com",
            [
                Mailbox(None, b"A Group", None),
                Mailbox(b"Ed", b"ed", b"a.com"),
                Mailbox(None, b"joe", b"b.com"),
                END,
                Mailbox(None, b"last", b"c.com"),
            ],
        ),
        (b"Group: a@b.com", [Mailbox(None, b"Group", None), Mailbox(None, b"a", b"b.com"), END]),
        (b",, a@b.com,\r\n\t,c@d.com,", [Mailbox(None, b"a", b"b.com"), Mailbox(None, b"c", b"d.com")]),
        (b"=?utf-8?Q?Jos=C3=A9?= <j@a.com>", [Mailbox(b"=?utf-8?Q?Jos=C3=A9?=", b"j", b"a.com")]),
        (b"Jos\xe9 <j@a.com>", [Mailbox(b"Jos\xe9", b"j", b"a.com")]),
        (b"root", [Mailbox(None, b"root", b"")]),
        (b"a@b.com; c@d.com", [Mailbox(None, b"a", b"b.com"), Mailbox(None, b"c", b"d.com")]),
        (b"Joe <joe@a.com", [Mailbox(b"Joe", b"joe", b"a.com")]),
        (b'"Joe <joe@a.com>', [Mailbox(None, b"Joe <joe@a.com>", b"")]),
    ],
)
def test_fields(value: bytes, entries: list[Mailbox]) -> None:
    assert parse_mailboxes(value) == entries


def test_addresses_and_borders() -> None:
    entries = parse_mailboxes(b"G: a@b.com;")
    assert [entry.is_address for entry in entries] == [False, True, False]


def test_number_is_bounded() -> None:
    assert len(parse_mailboxes(b"a@b," * (MAX_MAILBOXES + 5))) == MAX_MAILBOXES
    assert len(parse_mailboxes(b"(x)" + b"a@b," * (MAX_MAILBOXES + 5))) == MAX_MAILBOXES


@pytest.mark.parametrize("piece", [b'"\\"', b" ", b"(", b"\\", b"<", b"[", b"a ", b"@", b'"', b":", b"a@b:;", b"<@a,"])
def test_long_nonsense_takes_linear_time(piece: bytes) -> None:
    started = time.perf_counter()
    parse_mailboxes(piece * (100_000 // len(piece)))
    parse_mailboxes(b"a" + piece * (100_000 // len(piece)))
    assert time.perf_counter() - started < 2


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.sampled_from('<>@a.,:;"\\[]() \r\n\xe9'), max_size=40).map(lambda t: t.encode("latin-1")) | st.binary()
)
def test_any_bytes_are_taken(value: bytes) -> None:
    for entry in parse_mailboxes(value):
        assert entry.local is not None or not entry.is_address
