import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats import headers

MESSAGE = b"""From: joe@a.com
Subject: two
 lines
received: one
Received : two
\tmore

body: no field
"""

PIECES = st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b":", b" ", b"\t", b"To:", b"\r", b"\xe9"]), max_size=25)


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", 0),
        (b"\nbody", 1),
        (b"\r\nbody", 2),
        (b"A: b\n\nbody", 6),
        (b"A: b\r\n\r\nbody\n\n", 8),
        (b"A: b\nC: d\n", 10),
        (b"A: b", 4),
    ],
)
def test_header_end(data: bytes, end: int) -> None:
    assert headers.header_end(data) == end


@pytest.mark.feature("STD-014")
@pytest.mark.parametrize("data", [MESSAGE, MESSAGE.replace(b"\n", b"\r\n")])
def test_fields(data: bytes) -> None:
    found = list(headers.fields(data))
    assert [(field.name, field.text) for field in found] == [
        (b"From", b"joe@a.com"),
        (b"Subject", b"two lines"),
        (b"received", b"one"),
        (b"Received", b"two\tmore"),
    ]
    assert b"".join(data[field.start : field.end] for field in found) in data
    assert data[found[1].start : found[1].end].split() == [b"Subject:", b"two", b"lines"]
    assert headers.get(data, b"SUBJECT") == b"two lines"
    assert headers.get(data, b"body") is None
    assert headers.get_all(data, b"received") == [b"one", b"two\tmore"]
    assert headers.unfold(headers.first_fields(data)[b"received"]) == b"one"


def test_select_and_remove() -> None:
    assert headers.select_fields(MESSAGE, [b"subject", b"FROM"]) == b"From: joe@a.com\nSubject: two\n lines\n\n"
    assert headers.select_fields(MESSAGE, [b"subject", b"received"], others=True) == b"From: joe@a.com\n\n"
    assert headers.select_fields(b"A: b", [b"a"]) == b"A: b\n\n"
    assert headers.select_fields(b"A: b\r\nC: d\r\n\r\nx", [b"c"]) == b"C: d\r\n\r\n"
    assert headers.remove_fields(MESSAGE, [b"Received"]) == b"From: joe@a.com\nSubject: two\n lines\n\nbody: no field\n"
    assert headers.remove_fields(MESSAGE, [b"Bcc"]) is MESSAGE


def test_strange_lines_belong_to_the_field_before() -> None:
    data = b">From x\nTo: a@b\nno field here\nCc: c@d\n\n"
    assert [field.name for field in headers.fields(data)] == [b"To", b"Cc"]
    assert headers.remove_fields(data, [b"to"]) == b">From x\nCc: c@d\n\n"


@settings(max_examples=200, deadline=None)
@given(PIECES.map(b"".join) | st.binary())
def test_any_bytes_are_taken(data: bytes) -> None:
    end = headers.header_end(data)
    assert 0 <= end <= len(data)
    place = 0
    for field in headers.fields(data):
        assert place <= field.start < field.end <= end
        assert data[field.start : field.end].startswith(field.name)
        place = field.end
    headers.first_fields(data)
    assert headers.remove_fields(data, [b"to"]).endswith(data[end:])


@pytest.mark.parametrize("piece", [b"a", b"a:", b" ", b"\n", b"\n ", b"\na:", b"\r", b"\r\n", b"\na", b"a "])
def test_long_nonsense_takes_linear_time(piece: bytes) -> None:
    started = time.perf_counter()
    data = b"A:" + piece * (200_000 // len(piece))
    headers.first_fields(data)
    headers.remove_fields(data, [b"a"])
    assert time.perf_counter() - started < 2
