"""A stream of octets becomes events, whatever its cuts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols.imap import (
    Bad,
    Cancelled,
    Command,
    Data,
    Done,
    Event,
    ImapServer,
    LiteralWanted,
    Message,
    MessageEnd,
    Response,
)
from appliance.protocols.imap.authentication import Login


def events(server: ImapServer, *pieces: bytes, accept: bool = True) -> list[Event]:
    found: list[Event] = []
    for piece in pieces:
        server.receive(piece)
        while (event := server.next_event()) is not None:
            if isinstance(event, Message):
                if accept:
                    server.accept_message()
                else:
                    server.refuse()
            found.append(event)
    return found


def known() -> ImapServer:
    server = ImapServer()
    server.authenticated()
    return server


def test_pipelined_commands_come_in_order() -> None:
    assert [
        e.tag for e in events(ImapServer(), b"a NOOP\r\nb CAPABILITY\r\nc LOG", b"OUT\r\n") if isinstance(e, Command)
    ] == [
        b"a",
        b"b",
        b"c",
    ]


def test_a_waiting_literal_and_one_that_does_not() -> None:
    server = ImapServer()
    login = Command(b"a", "LOGIN", Login("user", "pa ss"))
    assert events(server, b"a LOGIN {4}\r\n", b"user {5+}\r\npa ss\r\n") == [LiteralWanted(b"a", 4), login]
    assert events(server, b"a LOGIN {4+}\r\nuser {5+}\r\npa ss\r\n") == [login]
    assert events(server, b"a LOGIN user {5+}\npa ss\n") == [login]


def test_text_like_a_header_inside_a_literal_is_only_text() -> None:
    assert events(ImapServer(), b"a LOGIN {6+}\r\nx {3}\n {1+}\r\ny\r\n")[0] == Command(
        b"a", "LOGIN", Login("x {3}\n", "y")
    )


def test_wrong_commands_are_refused_and_the_next_one_is_found() -> None:
    server = known()
    for wrong in (
        b"a NOPE\r\n",
        b"a NOPE {5}\r\n",
        b"a NOPE {5+}\r\nhello\r\n",
        b"a SELECT {1+}\r\nx {3+}\r\nabc y\r\n",
        b"a APPEND box {x}\r\n",
    ):
        found = events(server, wrong + b"b NOOP\r\n")
        assert isinstance(found[0], Bad)
        assert isinstance(found[-1], Command)
        assert len(found) == 2


def test_a_literal_that_is_too_large_is_refused_before_it_is_sent() -> None:
    server = ImapServer()
    [bad] = events(server, b"a LOGIN {5000}\r\n")
    assert isinstance(bad, Bad)
    assert (bad.tag, bad.code, bad.fatal) == (b"a", b"TOOBIG", False)
    assert [type(e) for e in events(server, b"b LOGIN {5000+}\r\n", b"x" * 5000, b" y\r\nc NOOP\r\n")] == [Bad, Command]
    [bad] = events(server, b"a LOGIN {4294967295+}\r\n")
    assert isinstance(bad, Bad)
    assert bad.fatal
    [bad] = events(ImapServer(), b"a LOGIN {99999999999999+}\r\n")
    assert isinstance(bad, Bad)
    assert bad.fatal


def test_an_endless_line_is_refused_once_and_costs_no_memory() -> None:
    server = ImapServer()
    found = events(server, b"a SEARCH ", *[b"x" * 4096] * 50)
    assert [type(e) for e in found] == [Bad]
    assert isinstance(found[0], Bad)
    assert found[0].tag == b"a"
    assert server.buffered < 100
    assert [type(e) for e in events(server, b"\r\nb NOOP\r\n")] == [Command]


@pytest.mark.feature("IMAP-122", "STD-051")
def test_long_lines_are_taken_from_those_who_are_logged_in() -> None:
    line = b"a UID FETCH " + b",".join(b"%d" % n for n in range(10001, 30000, 2))[:65_000].rstrip(b",") + b" FLAGS\r\n"
    assert [type(e) for e in events(known(), line)] == [Command]


def test_append_is_streamed() -> None:
    server = known()
    server.receive(b'a APPEND box (\\Seen) " 1-Feb-2020 10:20:30 +0100" {10}\r\n')
    event = server.next_event()
    assert isinstance(event, Message)
    assert (event.tag, event.target.name, event.head.size, event.head.waits, event.first) == (
        b"a",
        "box",
        10,
        True,
        True,
    )
    assert event.head.flags.system == ("\\Seen",)
    assert event.head.date is not None
    with pytest.raises(RuntimeError):
        server.next_event()
    assert server.accept_message() == ImapServer.GO_ON
    assert events(server, b"0123", b"456789", b"\r\n") == [Data(b"0123"), Data(b"456789"), MessageEnd(True)]
    assert server.fresh


def test_append_with_the_name_as_a_literal() -> None:
    found = events(known(), b"a APPEND {3+}\r\nb x {3+}\r\nabc\r\nb NOOP\r\n")
    assert isinstance(found[0], Message)
    assert found[0].target.name == "b x"
    assert found[1:3] == [Data(b"abc"), MessageEnd(True)]
    assert isinstance(found[3], Command)


def test_several_messages_in_one_append() -> None:
    found = events(known(), b"a APPEND box {3+}\r\nabc (\\Draft) {2+}\r\nde\r\nb NOOP\r\n")
    assert [type(e) for e in found] == [Message, Data, MessageEnd, Message, Data, MessageEnd, Command]
    assert isinstance(found[3], Message)
    assert not found[3].first
    assert found[2:6:3] == [MessageEnd(False), MessageEnd(True)]


def test_what_follows_a_message_must_be_one() -> None:
    found = events(known(), b"a APPEND box {3+}\r\nabc junk\r\nb NOOP\r\n")
    assert [type(e) for e in found] == [Message, Data, MessageEnd, Bad, Command]
    assert isinstance(found[3], Bad)
    assert found[3].tag == b"a"


def test_refused_messages() -> None:
    assert [type(e) for e in events(known(), b"a APPEND box {3}\r\n", b"b NOOP\r\n", accept=False)] == [
        Message,
        Command,
    ]
    found = events(known(), b"a APPEND box {3+}\r\na\r\n {2+}\r\nbc\r\nb NOOP\r\n", accept=False)
    assert [type(e) for e in found] == [Message, Command]
    server = known()
    events(server, b"a APPEND box {10}\r\n", b"012")
    server.refuse()
    assert [type(e) for e in events(server, b"3456789 {2+}\r\nxx\r\nb NOOP\r\n")] == [Command]


def test_answers_to_challenges() -> None:
    server = ImapServer()
    events(server, b"a AUTHENTICATE LOGIN\r\n")
    assert server.challenge(b"") == b"+ \r\n"
    assert events(server, b"dXNlcg==\r\n") == [Response(b"user")]
    assert server.challenge(b"User") == b"+ VXNlcg==\r\n"
    assert events(server, b"*\r\n") == [Cancelled()]
    server.challenge(b"")
    assert [type(e) for e in events(server, b"???\r\nb NOOP\r\n")] == [Bad, Command]


def test_idle() -> None:
    server = known()
    events(server, b"a IDLE\r\n")
    assert server.idle() == b"+ idling\r\n"
    assert events(server, b"done\r\nb NOOP\r\n")[0] == Done()
    server.idle()
    assert [type(e) for e in events(server, b"b NOOP\r\n")] == [Bad]


STREAM = (
    b"a LOGIN {4}\r\nuser {5+}\r\npa ss\r\nb APPEND box {5+}\r\nab\r\nc {3+}\r\nxyz\r\nc NOPE {3+}\r\n\r\nx\r\n"
    b'd LIST "" {1}\r\n%\r\n\r\ne SEARCH CHARSET UTF-8 TEXT {2}\r\n\xc3\xa4\r\nf UID FETCH 1:* (FLAGS BODY[]<1.2>)\r\n'
)


def joined(found: list[Event]) -> list[object]:
    """The events with neighbouring data as one."""
    out: list[object] = []
    for event in found:
        if isinstance(event, Data) and out and isinstance(out[-1], Data):
            out[-1] = Data(out[-1].octets + event.octets)
        else:
            out.append(event)
    return out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_the_cuts_of_the_stream_do_not_matter(cuts: list[int]) -> None:
    whole = joined(events(known(), STREAM))
    edges = [0, *sorted(cuts), len(STREAM)]
    assert joined(events(known(), *(STREAM[a:b] for a, b in pairwise(edges)))) == whole
    assert len(whole) == 14


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30), st.sampled_from([b"a ", b"APPEND x ", b"{3+}\r\n", b"{4}\r\n", b"\r\n", b"LOGIN "])
        )
    )
)
def test_noise_does_no_harm(pieces: list[bytes]) -> None:
    server = known()
    events(server, *pieces)
    server.receive(b"\r\n" + b"x" * 64)
    while (event := server.next_event()) is not None:
        if isinstance(event, Message):
            server.refuse()
    assert server.buffered < 200_000
