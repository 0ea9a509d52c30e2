"""POP3 from the client's side: against our own server object, against odd servers, against noise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols import pop
from appliance.protocols.lines import Pass, User
from appliance.protocols.popclient import Answer, Event, Lines, Piece, PopClient, PopError, numbered, size_of, totals
from appliance.protocols.sasl import client_mechanism


def events(client: PopClient, data: bytes, step: int = 0) -> list[Event]:
    """All events of this input, given at once or in steps."""
    found: list[Event] = []
    pieces = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
    for piece in pieces:
        client.receive(piece)
        while (event := client.next_event()) is not None:
            found.append(event)
    return found


def greeted(greeting: bytes = b"+OK hello\r\n") -> PopClient:
    client = PopClient()
    events(client, greeting)
    return client


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.feature("STD-069")
def test_a_whole_session_against_our_own_server(step: int) -> None:
    client, server = greeted(), pop.PopServer()
    text = b"Subject: x\r\n\r\n.dot\r\n..two\r\n."
    stuffer = pop.DotStuffer()
    body = pop.ok("here") + stuffer.feed(text) + stuffer.finish()
    replies = {
        User: pop.ok(),
        Pass: pop.ok("welcome"),
        pop.Stat: pop.ok("1 30"),
        pop.List: pop.listing("1 message", [b"1 30"]),
        pop.Uidl: pop.listing("", [b"1 u/1"]),
        pop.Retr: body,
        pop.Dele: pop.ok(),
        pop.Quit: pop.ok("bye"),
    }
    client.user("ann")
    client.password("a b")
    client.stat()
    client.list()
    client.uidl()
    client.retrieve(1)
    client.delete(1)
    client.quit()
    found: list[Event] = []
    asked: list[pop.Event] = []
    while out := client.data_to_send():
        server.receive(out)
        while (command := server.next_event()) is not None:
            asked.append(command)
            if isinstance(command, Pass):
                server.logged_in()
            found += events(client, replies[type(command)], step)
    assert asked[1] == Pass("ann", "a b")
    answers = [event for event in found if isinstance(event, Answer)]
    assert [answer.command for answer in answers] == ["USER", "PASS", "STAT", "LIST", "UIDL", "RETR", "DELE", "QUIT"]
    assert all(answer.positive for answer in answers) and totals(answers[2]) == 1
    assert b"".join(event.data for event in found if isinstance(event, Piece)) == text + b"\r\n"
    listed = [line for event in found if isinstance(event, Lines) for line in event.lines]
    assert [numbered(line) for line in listed] == [(1, b"30"), (1, b"u/1")]
    assert client.pending == 0


def test_commands_go_one_by_one_until_the_server_takes_batches() -> None:
    client = greeted()
    client.delete(1)
    client.delete(2)
    assert client.data_to_send() == b"DELE 1\r\n"
    assert client.data_to_send() == b""
    events(client, b"+OK\r\n")
    assert client.data_to_send() == b"DELE 2\r\n"
    events(client, b"+OK\r\n")
    client.capa()
    client.data_to_send()
    events(client, b"+OK\r\nPIPELINING\r\nSASL PLAIN CRAM-MD5\r\n.\r\n")
    assert client.capabilities.methods == ("PLAIN", "CRAM-MD5")
    client.retrieve(1)
    client.retrieve(2)
    client.quit()
    assert client.data_to_send() == b"RETR 1\r\nRETR 2\r\nQUIT\r\n"
    found = events(client, b"+OK\r\na\r\n.\r\n-ERR [IN-USE] gone\r\n+OK\r\n", 1)
    assert [(e.number, e.data, e.last) for e in found if isinstance(e, Piece)] == [(1, b"a\r\n", False), (1, b"", True)]
    refused = next(e for e in found if isinstance(e, Answer) and not e.positive)
    assert refused.code == "IN-USE" and refused.argument == "2"


@pytest.mark.feature("RPOP-017")
def test_listings_of_servers_that_tell_no_count() -> None:
    client = greeted()
    client.uidl()
    client.data_to_send()
    found = events(client, b"+OK\r\n1 abc\r\n2 d e\r\n.\r\n")
    assert [numbered(line) for e in found if isinstance(e, Lines) for line in e.lines] == [(1, b"abc"), (2, b"d e")]
    assert numbered(b"no number") is None and size_of(b"x") == 0


@pytest.mark.parametrize("stamp", ["<1896.697170952@dbc.mtview.ca.us>"])
@pytest.mark.feature("STD-069")
def test_apop_as_in_the_standard(stamp: str) -> None:
    client = greeted(f"+OK POP3 server ready {stamp}\r\n".encode())
    client.apop("mrose", "tanstaaf")
    assert client.data_to_send() == b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"


@pytest.mark.parametrize(
    "greeting", [b"+OK hi\r\n", b"+OK <not a stamp>\r\n", b"+OK <a\x01b@c>\r\n", b"-ERR <a@b>\r\n"]
)
def test_no_apop_without_a_good_stamp(greeting: bytes) -> None:
    assert greeted(greeting).stamp == b""


@pytest.mark.feature("STD-070")
def test_auth_with_and_without_an_initial_response() -> None:
    client = greeted()
    plain = client_mechanism("PLAIN", "ann", "pw", nonce=b"")
    assert plain is not None
    client.auth("PLAIN", plain)
    assert client.data_to_send() == b"AUTH PLAIN AGFubgBwdw==\r\n"
    (answer,) = events(client, b"+OK\r\n")
    assert isinstance(answer, Answer) and answer.positive
    cram = client_mechanism("CRAM-MD5", "tim", "tanstaaftanstaaf", nonce=b"")
    assert cram is not None
    client.auth("CRAM-MD5", cram)
    assert client.data_to_send() == b"AUTH CRAM-MD5\r\n"
    assert events(client, b"+ PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n") == []
    assert client.data_to_send() == b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\r\n"
    assert events(client, b"-ERR no\r\n")


@pytest.mark.parametrize(
    ("ask", "reply"),
    [
        ("stls", b"+OK\r\n+OK too much\r\n"),
        ("stat", b"* IMAP speaks here\r\n"),
        ("stat", b"+ OK\r\n"),
        ("stat", b"x" * 9000),
        ("uidl", b"+OK\r\n1 " + b"x" * 5000 + b"\r\n.\r\n"),
        ("noop", b"+OK\r\n+OK\r\n"),
    ],
)
@pytest.mark.feature("RPOP-020")
def test_what_is_no_pop_is_told(ask: str, reply: bytes) -> None:
    client = greeted()
    getattr(client, ask)()
    client.data_to_send()
    with pytest.raises(PopError):
        events(client, reply)


def test_no_line_ends_get_into_commands() -> None:
    with pytest.raises(ValueError):
        greeted().user("a\r\nDELE 1")


@given(
    st.lists(st.sampled_from(["capa", "stat", "list", "uidl", "noop", "quit", "retr"]), max_size=5),
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [b"+OK\r\n", b"-ERR\r\n", b"+OK <a@b>\r\n", b".\r\n", b"\r\n", b"+ \r\n", b"1 2\r\n", b"..\r\n"]
            ),
        ),
        max_size=20,
    ),
)
@settings(max_examples=150, deadline=None)
def test_noise_never_does_worse_than_an_error(commands: list[str], noise: list[bytes]) -> None:
    client = PopClient()
    try:
        for command in commands:
            client.retrieve(1) if command == "retr" else getattr(client, command)()
        for piece in noise:
            client.data_to_send()
            client.receive(piece)
            while client.next_event() is not None:
                client.data_to_send()
    except PopError:
        pass


@given(st.binary(max_size=300), st.integers(1, 7))
@settings(max_examples=80, deadline=None)
def test_any_message_comes_as_it_was(content: bytes, step: int) -> None:
    client = greeted()
    client.retrieve(3)
    client.data_to_send()
    stuffer = pop.DotStuffer()
    found = events(client, b"+OK\r\n" + stuffer.feed(content) + stuffer.finish(), step)
    text = b"".join(event.data for event in found if isinstance(event, Piece))
    assert text == content if content.endswith(b"\r\n") or not content else text == content + b"\r\n"
    assert client.pending == 0
