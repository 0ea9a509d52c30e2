"""IMAP from the client's side: events of good servers, odd servers and noise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols.imapclient import (
    Body,
    Event,
    Fetched,
    Greeting,
    ImapClient,
    ImapError,
    Tagged,
    Untagged,
    uid_set,
)
from appliance.protocols.sasl import client_mechanism


def events(client: ImapClient, data: bytes, step: int = 0) -> list[Event]:
    found: list[Event] = []
    for piece in [data[at : at + step] for at in range(0, len(data), step)] if step else [data]:
        client.receive(piece)
        while (event := client.next_event()) is not None:
            found.append(event)
    return found


def greeted() -> ImapClient:
    client = ImapClient()
    events(client, b"* OK [CAPABILITY IMAP4rev1 UIDPLUS] hello\r\n")
    return client


def text_of(found: list[Event]) -> bytes:
    return b"".join(event.data for event in found if isinstance(event, Body))


@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_session(step: int) -> None:
    client = ImapClient()
    assert client.data_to_send() == b""
    found = events(client, b"* OK [CAPABILITY IMAP4rev1 uidplus] hello\r\n", step)
    assert found == [Greeting("OK", "[CAPABILITY IMAP4rev1 uidplus] hello")]
    assert "UIDPLUS" in client.capabilities
    client.login("ann", 'p"w')
    client.select("Entwürfe")
    assert client.data_to_send() == b'A1 LOGIN "ann" "p\\"w"\r\n'
    assert events(client, b"A1 OK in\r\n", step) == [Tagged("LOGIN", "OK", "in")]
    assert client.data_to_send() == b'A2 SELECT "Entw&APw-rfe"\r\n'
    found = events(client, b"* 2 EXISTS\r\n* OK [UIDVALIDITY 9] ok\r\nA2 OK [READ-WRITE] done\r\n", step)
    assert found == [
        Untagged("EXISTS", 2, ""),
        Untagged("OK", 0, "[UIDVALIDITY 9] ok", "UIDVALIDITY", "9"),
        Tagged("SELECT", "OK", "done", "READ-WRITE"),
    ]
    client.survey()
    client.data_to_send()
    found = events(client, b"* 1 FETCH (FLAGS (\\Seen UID 5) UID 4 RFC822.SIZE 10)\r\nA3 OK\r\n", step)
    assert found[0] == Fetched(4, 10, frozenset({"\\SEEN", "UID", "5"}), False)
    client.fetch(4)
    client.fetch(6)
    assert client.data_to_send().count(b"UID FETCH") == 2
    body = b"a: b\r\n\r\nBODY[] {3}\r\nA4 OK\r\n"
    answer = b"* 1 FETCH (UID 4 BODY[] {%d}\r\n%s)\r\nA4 OK done\r\n" % (len(body), body)
    answer += b'* 2 FETCH (BODY[] "x\\"y" UID 6)\r\nA5 OK done\r\n'
    found = events(client, answer, step)
    cut = next(place for place, event in enumerate(found) if isinstance(event, Tagged))
    assert text_of(found[:cut]) == body and found[cut - 1] == Fetched(4, 0, None, True)
    assert text_of(found[cut:]) == b'x"y' and found[-2] == Fetched(6, 0, None, True)


def test_a_literal_waits_for_the_server() -> None:
    client = greeted()
    client.login("ann", "pä")
    assert client.data_to_send() == b'A1 LOGIN "ann" {3}\r\n'
    assert events(client, b"+ go\r\n") == []
    assert client.data_to_send() == "pä".encode() + b"\r\n"
    assert events(client, b"A1 NO [AUTHENTICATIONFAILED] wrong\r\n") == [
        Tagged("LOGIN", "NO", "wrong", "AUTHENTICATIONFAILED")
    ]


def test_authentication_by_steps() -> None:
    client = greeted()
    plain = client_mechanism("PLAIN", "ann", "pw", nonce=b"")
    assert plain is not None
    client.authenticate("PLAIN", plain)
    assert client.data_to_send() == b"A1 AUTHENTICATE PLAIN\r\n"
    assert events(client, b"+ \r\n") == []
    assert client.data_to_send() == b"AGFubgBwdw==\r\n"


def test_literals_that_nobody_asked_for_are_skipped() -> None:
    client = greeted()
    client.capability()
    client.data_to_send()
    found = events(client, b"* 1 FETCH (X {100000}\r\n" + b"z" * 100000 + b" UID 3)\r\nA1 OK\r\n")
    assert found == [Fetched(3, 0, None, False), Tagged("CAPABILITY", "OK", "")]


@pytest.mark.parametrize(
    "reply",
    [
        b"A9 OK\r\n",
        b"+OK POP speaks here\r\n",
        b"A1 FINE\r\n",
        b"x" * 70000,
        b"+ more\r\n",
        b"A1 OK\r\nA1 OK\r\n",
    ],
)
def test_what_is_no_imap_is_told(reply: bytes) -> None:
    client = greeted()
    client.capability()
    client.data_to_send()
    with pytest.raises(ImapError):
        events(client, reply)


def test_nothing_may_be_slipped_in_before_tls() -> None:
    client = greeted()
    client.start_tls()
    client.data_to_send()
    with pytest.raises(ImapError):
        events(client, b"A1 OK begin\r\n* CAPABILITY X\r\n")


def test_sets_of_uids() -> None:
    assert uid_set([3, 1, 2, 9, 9]) == ["1:3,9"]
    many = uid_set(range(1, 100_000, 2))
    assert all(len(one) <= 6001 for one in many) and sum(one.count(",") + 1 for one in many) == 50_000


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [
                    b"* OK\r\n",
                    b"A1 OK\r\n",
                    b"* 1 FETCH (BODY[] {3}\r\n",
                    b")\r\n",
                    b"+ \r\n",
                    b'* 1 FETCH (BODY[] "x")\r\n',
                ]
            ),
        ),
        max_size=20,
    )
)
@settings(max_examples=150, deadline=None)
def test_noise_never_does_worse_than_an_error(noise: list[bytes]) -> None:
    client = ImapClient()
    client.login("a", "ü")
    client.fetch(1)
    try:
        for piece in noise:
            client.data_to_send()
            client.receive(piece)
            while client.next_event() is not None:
                client.data_to_send()
    except ImapError:
        pass


@given(st.binary(max_size=300), st.integers(1, 7))
@settings(max_examples=80, deadline=None)
def test_any_message_comes_as_it_was(content: bytes, step: int) -> None:
    client = greeted()
    client.fetch(8)
    client.data_to_send()
    found = events(client, b"* 1 FETCH (UID 8 BODY[] {%d}\r\n%s)\r\nA1 OK\r\n" % (len(content), content), step)
    assert text_of(found) == content
    assert found[-2:] == [Fetched(8, 0, None, True), Tagged("FETCH", "OK", "")]
