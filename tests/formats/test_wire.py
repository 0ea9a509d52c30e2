import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.wire import (
    QuoteFrom,
    ToStore,
    ToWire,
    UnquoteFrom,
    quote_from,
    to_store,
    to_wire,
    unquote_from,
    wire_size,
)

PIECES = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"a", b">", b"From ", b"Fro", b"m ", b"F", b" ", b"\n"]), max_size=20
)
CUTS = st.lists(st.integers(0, 60), max_size=8)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(borders)]


def stream(codec: ToStore | ToWire | QuoteFrom | UnquoteFrom, pieces: list[bytes]) -> bytes:
    return b"".join([codec.feed(piece) for piece in pieces]) + codec.finish()


def test_examples() -> None:
    assert to_store(b"a\r\nb\r\r\nc\rd\r\n") == b"a\nb\r\nc\rd\n"
    assert to_wire(b"a\nb\r\nc\rd\n") == b"a\r\nb\r\r\nc\rd\r\n"
    assert quote_from(b"From x\n>From y\nSays From z\n>>> From\n") == b">From x\n>>From y\nSays From z\n>>> From\n"
    assert unquote_from(b">From x\n>>From y\nFrom z\n> From\n") == b"From x\n>From y\nFrom z\n> From\n"


@settings(max_examples=200, deadline=None)
@given(st.binary() | PIECES.map(b"".join), CUTS)
def test_wire_to_store_to_wire_is_identity(data: bytes, cuts: list[int]) -> None:
    wire = re.sub(rb"(?<!\r)\n", b"", data)
    store = to_store(wire)
    assert to_wire(store) == wire
    assert wire_size(store) == len(wire)
    assert stream(ToStore(), chunks(wire, cuts)) == store
    assert stream(ToWire(), chunks(store, cuts)) == wire


@settings(max_examples=300, deadline=None)
@given(st.binary() | PIECES.map(b"".join), CUTS, CUTS)
def test_from_quoting_is_reversible_in_any_pieces(data: bytes, cuts: list[int], others: list[int]) -> None:
    quoted = quote_from(data)
    assert unquote_from(quoted) == data
    assert not quoted.startswith(b"From ")
    assert b"\nFrom " not in quoted
    assert stream(QuoteFrom(), chunks(data, cuts)) == quoted
    assert stream(UnquoteFrom(), chunks(quoted, others)) == data
    assert stream(UnquoteFrom(), chunks(data, cuts)) == unquote_from(data)


@pytest.mark.parametrize("codec", [QuoteFrom(), UnquoteFrom()])
def test_little_waits_however_long_the_line(codec: QuoteFrom | UnquoteFrom) -> None:
    sent = sum(len(codec.feed(b">" * 1000)) for _ in range(100))
    assert 100_000 - sent <= 5
    codec.feed(b"x" * 10)
    assert codec.finish() == b""
