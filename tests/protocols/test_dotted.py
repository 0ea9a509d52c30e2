from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols.dotted import DottedReader
from appliance.protocols.pop import DotStuffer


def read(chunks: list[bytes]) -> tuple[bytes, bytes]:
    """The message, and what stands behind its end."""
    reader, buffer, message = DottedReader(), bytearray(), b""
    for number, chunk in enumerate(chunks):
        buffer += chunk
        while True:
            piece, ended = reader.take(buffer)
            message += piece
            if ended:
                return message, bytes(buffer) + b"".join(chunks[number + 1 :])
            if not piece:
                break
    raise AssertionError("no end")


@given(
    st.lists(st.sampled_from([b".", b"\r\n", b"x", b"\r", b"\n", b"..", b"\r\n.", b"\n.\n"]), max_size=20),
    st.lists(st.integers(0, 60), max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_what_was_stuffed_is_read_back(pieces: list[bytes], cuts: list[int]) -> None:
    message = b"".join(pieces)
    if message and not message.endswith(b"\r\n"):
        message += b"\r\n"
    stuffer = DotStuffer()
    wire = stuffer.feed(message) + stuffer.finish() + b"NEXT\r\n"
    places = sorted(min(cut, len(wire)) for cut in cuts)
    chunks = [wire[a:b] for a, b in zip([0, *places], [*places, len(wire)], strict=True)]
    assert read(chunks) == (message, b"NEXT\r\n")


@pytest.mark.parametrize("size", [1, 7, 65_536])
def test_long_lines_pass(size: int) -> None:
    message = b"x" * 200_000 + b"\r\n.y\r\n" + b"z" * 70_000 + b"\r\n"
    stuffer = DotStuffer()
    wire = stuffer.feed(message) + stuffer.finish()
    if size == 1:
        wire = DotStuffer().feed(message[-100:]) + b".\r\n"
        message = message[-100:]
    assert read([wire[n : n + size] for n in range(0, len(wire), size)]) == (message, b"")


@pytest.mark.parametrize("trick", [b"\n.\n", b"\r\n.\n", b"\n.\r\n", b"\r.\r"])
def test_only_the_real_end_ends(trick: bytes) -> None:
    message, behind = read([b"a" + trick + b"QUIT\r\n.\r\nREST"])
    assert b"QUIT" in message
    assert behind == b"REST"
