from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols import pwd
from appliance.protocols.lines import Apop, Auth, Pass, Response, Stls, User
from appliance.protocols.pwd import Bad, Line, PwdServer


def events(server: PwdServer, data: bytes) -> list[pwd.Event]:
    server.receive(data)
    found = []
    while (event := server.next_event()) is not None:
        found.append(event)
    return found


def ready() -> PwdServer:
    server = PwdServer()
    server.logged_in()
    return server


def test_log_in_and_change_of_password() -> None:
    server = PwdServer()
    assert events(server, b"user  postmaster\nPass  old one\r\n") == [
        User("postmaster"),
        Pass("postmaster", " old one"),
    ]
    server.logged_in()
    assert events(server, b"newpass a b  c \r\nquit\n") == [pwd.NewPass("a b  c "), pwd.Quit()]


def test_before_log_in_nothing_else_is_heard() -> None:
    for line in (b"ListDomains", b"NEWPASS x", b"", b"HELP"):
        assert events(PwdServer(), line + b"\n") == [Bad(500, "log in first")]
    assert events(PwdServer(), b"PASS x\n") == [Bad(515, "send USER first")]


def test_after_log_in_all_else_is_a_command() -> None:
    text = 'CreateAccount "jos\u00e9" {RealName="Jos\u00e9";}'
    assert events(ready(), text.encode() + b"\r\nquit now\n") == [Line(text), Line("quit now")]
    for word in (b"USER x", b"PASS x", b"APOP x y", b"AUTH PLAIN", b"STLS"):
        assert isinstance(events(ready(), word + b"\n")[0], Bad)


def test_apop_and_auth() -> None:
    server = PwdServer()
    assert events(server, b"APOP jim 00112233445566778899aabbccddeeff\n") == [
        Apop("jim", "00112233445566778899aabbccddeeff")
    ]
    assert events(server, b"AUTH plain dGlt\n") == [Auth("PLAIN", b"tim")]
    assert events(server, b"AUTH CRAM-MD5\n") == [Auth("CRAM-MD5")]
    server.challenge_sent()
    assert events(server, b"abc=\nQUIT\n") == [Response(b"abc="), pwd.Quit()]
    for line in (b"AUTH", b"AUTH PLAIN !!!", b"AUTH PLAIN a b", b"APOP jim", b"USER "):
        assert isinstance(events(server, line + b"\n")[0], Bad)


def test_nothing_may_follow_stls() -> None:
    assert events(PwdServer(), b"STLS\nUSER evil\n")[0] == Bad(515, "no input may follow STLS")
    server = PwdServer()
    assert events(server, b"USER before\nSTLS\n")[1] == Stls()
    server.secured()
    assert events(server, b"PASS x\n") == [Bad(515, "send USER first")]


@pytest.mark.parametrize("limit", [pwd.MAX_LINE, pwd.MAX_ADMINISTRATOR_LINE])
def test_long_lines(limit: int) -> None:
    server = ready()
    server.limit = limit
    fits = b"x" * limit
    assert events(server, fits + b"\r\n") == [Line(fits.decode())]
    assert events(server, fits + b"x\nNOOP\n") == [Bad(515, "the line is too long"), Line("NOOP")]
    assert events(server, b"y" * 3 * limit) == [Bad(515, "the line is too long")]
    assert events(server, b"y" * 3 * limit) == []
    assert not server.buffered
    assert events(server, b"yy\nNOOP\n") == [Line("NOOP")]


def test_replies() -> None:
    assert pwd.reply(200, "OK") == b"200 OK\r\n"
    assert pwd.reply(501, "bad\r\nthing") == b"501 bad  thing\r\n"
    assert pwd.data("(a,b)") == b"200 data follow\r\n(a,b)\r\n"
    assert pwd.inline_data('""') == b'201 ""\r\n'
    assert pwd.challenge(b"") == b"300 \r\n"


def test_secrets_are_not_printed() -> None:
    for event in (Pass("x", "geheim"), pwd.NewPass("geheim"), pwd.Line("SetAccountPassword x To geheim")):
        assert "geheim" not in repr(event)


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"USER a\r\n", b"PASS b\n", b"AUTH PLAIN\r\n"]), max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_input_gives_events(chunks: list[bytes]) -> None:
    whole, pieces = PwdServer(), PwdServer()
    one = [event for chunk in chunks for event in events(pieces, chunk)]
    joined = b"".join(chunks)
    if b"STLS" not in joined.upper():
        assert one == events(whole, joined)
