"""Messages that come in chunks (BDAT, RFC 3030): bytes in, events out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols.smtp import Reply, SmtpServer, State
from appliance.protocols.smtp import events as e

OK = Reply(250, "OK", "2.0.0")


def ready(**options: int) -> SmtpServer:
    """A server that waits for the message."""
    server = SmtpServer(**options)  # type: ignore[arg-type]
    server.receive(b"EHLO pc.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n")
    for _ in range(3):
        assert server.next_event() is not None
        server.reply(OK)
    return server


def events(server: SmtpServer, *data: bytes) -> list[e.Event]:
    """What the data gives, answered at once; pieces of the text are left out."""
    found: list[e.Event] = []
    for piece in data:
        server.receive(piece)
        while (event := server.next_event()) is not None:
            if isinstance(event, e.DataChunk):
                continue
            found.append(event)
            match event:
                case e.Bdat():
                    pass
                case e.Bad():
                    server.reply(event.reply)
                case e.ChunkEnd() | e.DataEnd():
                    server.reply(event.refusal or OK)
                case _:
                    server.reply(OK)
    return found


def chunks(server: SmtpServer, *data: bytes) -> tuple[bytes, e.DataEnd]:
    """The store form of a message in these chunks, and its end."""
    out = b""
    for place, piece in enumerate(data):
        last = b" LAST" if place == len(data) - 1 else b""
        server.receive(b"BDAT %d%s\r\n" % (len(piece), last) + piece)
        while (event := server.next_event()) is not None:
            if isinstance(event, e.DataChunk):
                out += event.data
            elif isinstance(event, e.DataEnd):
                server.reply(event.refusal or OK)
                return out, event
            elif isinstance(event, e.ChunkEnd):
                server.reply(event.refusal or OK)
    raise AssertionError("no end")


def test_chunks_make_one_message() -> None:
    server = ready()
    out, end = chunks(server, b"Subject: x\r", b"\n\r\n.dot\r\n.", b"\r\nlast")
    assert out == b"Subject: x\n\n.dot\n.\nlast\n"
    assert end.refusal is None and end.size == len(b"Subject: x\r\n\r\n.dot\r\n.\r\nlast")
    assert server.state is State.IDLE


def test_the_octets_of_a_chunk_are_never_commands() -> None:
    server = ready()
    found = events(server, b"BDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    assert [type(one) for one in found] == [e.Bdat, e.ChunkEnd, e.Bdat, e.DataEnd, e.Noop]
    fresh = SmtpServer()
    found = events(fresh, b"EHLO a.test\r\nBDAT 6 LAST\r\nQU", b"IT\r\nNOOP\r\n")
    assert [type(one) for one in found] == [e.Ehlo, e.Bad, e.Noop]
    assert isinstance(found[1], e.Bad) and found[1].reply.code == 503


@pytest.mark.parametrize("line", [b"BDAT", b"BDAT x", b"BDAT -1", b"BDAT 5 FIRST", b"BDAT 9999999999999999999"])
def test_a_malformed_command(line: bytes) -> None:
    (found,) = events(ready(), line + b"\r\n")
    assert isinstance(found, e.Bad) and found.reply.code == 501


@pytest.mark.parametrize(
    ("line", "code"), [(b"DATA", 503), (b"MAIL FROM:<x@y.test>", 503), (b"RCPT TO:<x@y.test>", 503), (b"NOOP", 0)]
)
def test_commands_between_chunks(line: bytes, code: int) -> None:
    found = events(ready(), b"BDAT 3\r\na\r\n" + line + b"\r\nBDAT 0 LAST\r\n")
    assert [type(one) for one in found] == [e.Bdat, e.ChunkEnd, e.Bad if code else e.Noop, e.Bdat, e.DataEnd]


@pytest.mark.parametrize("line", [b"RSET", b"EHLO pc.test"])
def test_a_message_is_given_up_between_chunks(line: bytes) -> None:
    server = ready()
    found = events(server, b"BDAT 3\r\na\r\n" + line + b"\r\nBDAT 3 LAST\r\nb\r\n")
    assert [type(one) for one in found][3:] == [e.Bad]
    assert server.state is State.IDLE


def test_bounds() -> None:
    server = ready(size_limit=10)
    found = events(server, b"BDAT 8\r\n123456\r\nBDAT 8\r\n", b"1234", b"56\r\nBDAT 2 LAST\r\n\r\nNOOP\r\n")
    assert [type(one) for one in found] == [e.Bdat, e.ChunkEnd, e.Bdat, e.ChunkEnd, e.Bad, e.Noop]
    refused = found[3]
    assert isinstance(refused, e.ChunkEnd) and refused.refusal is not None and refused.refusal.code == 552


@pytest.mark.parametrize("text", [b"a\nb\r\n", b"a\rb\r\n", b"a\0b\r\n", b"end\r"])
def test_what_is_no_text_is_refused(text: bytes) -> None:
    _, end = chunks(ready(), text)
    assert end.refusal is not None and end.refusal.permanent


def test_lone_line_ends_can_be_made_whole() -> None:
    out, end = chunks(ready(clean=True), b"a\nb\r", b"c\r\n")
    assert (out, end.refusal) == (b"a\nb\nc\n", None)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from([b"line\r\n", b".\r\n", b"\r\n", b"x" * 70000, b"H: v\r\n"]), max_size=6).map(b"".join),
    st.data(),
)
def test_any_chunks_and_any_split_give_the_same_message(text: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    wire = b"".join(
        b"BDAT %d%s\r\n" % (len(piece), b" LAST" if n == len(pieces) - 1 else b"") + piece
        for n, piece in enumerate(pieces)
    )
    step = draw.draw(st.integers(1, 70000)) if len(wire) < 3000 else draw.draw(st.integers(500, 70000))
    server, out, end = ready(), b"", None
    for start in range(0, len(wire), step):
        server.receive(wire[start : start + step])
        while (event := server.next_event()) is not None:
            if isinstance(event, e.DataChunk):
                assert len(event.data) <= 65536 + 2
                out += event.data
            elif isinstance(event, e.ChunkEnd | e.DataEnd):
                server.reply(event.refusal or OK)
                end = event
    assert isinstance(end, e.DataEnd) and end.refusal is None and end.size == len(text)
    stored = text.replace(b"\r\n", b"\n")
    assert out == stored + (b"" if not stored or stored.endswith(b"\n") else b"\n")
