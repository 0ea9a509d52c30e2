from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols import pop
from appliance.protocols.lines import Apop, Auth, Pass, Response, Stls, User
from appliance.protocols.pop import Bad, DotStuffer, PopServer, State, TopCutter


def events(server: PopServer, data: bytes) -> list[pop.Event]:
    server.receive(data)
    found = []
    while (event := server.next_event()) is not None:
        found.append(event)
    return found


def ready() -> PopServer:
    server = PopServer()
    server.logged_in()
    return server


def test_log_in_by_user_and_pass() -> None:
    server = PopServer()
    assert events(server, b"user  jim smith@example.com \r\nPASS  two words \r\n") == [
        User("jim smith@example.com"),
        Pass("jim smith@example.com", " two words "),
    ]
    assert events(server, b"PASS again\n") == [Bad("send USER first")]


def test_passwords_are_not_printed() -> None:
    assert "geheim" not in repr(Pass("x", "geheim"))
    assert "geheim" not in repr(Auth("PLAIN", b"\0x\0geheim"))
    assert "Z2VoZWlt" not in repr(Response(b"Z2VoZWlt"))


def test_apop() -> None:
    server = PopServer()
    assert events(server, b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n") == [
        Apop("mrose", "c4c9334bac560ecc979e58001b3e22fb")
    ]
    assert isinstance(events(server, b"APOP mrose\r\n")[0], Bad)


def test_auth_with_and_without_initial_response() -> None:
    server = PopServer()
    assert events(server, b"AUTH\r\n") == [pop.AuthList()]
    assert events(server, b"auth plain dGlt\r\n") == [Auth("PLAIN", b"tim")]
    assert events(server, b"AUTH PLAIN =\r\n") == [Auth("PLAIN", b"")]
    assert events(server, b"AUTH CRAM-MD5\r\n") == [Auth("CRAM-MD5")]
    assert isinstance(events(server, b"AUTH PLAIN *!\r\n")[0], Bad)
    server.challenge_sent()
    assert events(server, b"QUIT\r\nNOOP\r\n") == [Response(b"QUIT"), pop.Noop()]


def test_maildrop_commands() -> None:
    server = ready()
    assert events(server, b"STAT\r\nLIST\r\nLIST 2\r\nUIDL\r\nuidl 7\r\nRETR 1\r\nTOP 1 10\r\nDELE 3\r\nRSET\r\n") == [
        pop.Stat(),
        pop.List(),
        pop.List(2),
        pop.Uidl(),
        pop.Uidl(7),
        pop.Retr(1),
        pop.Top(1, 10),
        pop.Dele(3),
        pop.Rset(),
    ]
    assert events(server, b"NOOP\r\nLAST\r\nCAPA\r\nQUIT\r\n") == [pop.Noop(), pop.Last(), pop.Capa(), pop.Quit(True)]
    assert server.state is State.UPDATE


@pytest.mark.parametrize(
    "line", [b"RETR", b"RETR x", b"RETR -1", b"RETR 1234567890", b"TOP 1", b"TOP 1 x", b"LIST 1 2"]
)
def test_malformed_numbers(line: bytes) -> None:
    assert isinstance(events(ready(), line + b"\r\n")[0], Bad)


@pytest.mark.parametrize("line", [b"STAT", b"LIST", b"RETR 1", b"DELE 1", b"TOP 1 1", b"UIDL", b"RSET", b"LAST"])
def test_maildrop_commands_need_a_log_in(line: bytes) -> None:
    assert events(PopServer(), line + b"\r\n") == [Bad("log in first")]


@pytest.mark.parametrize("line", [b"USER x", b"PASS x", b"APOP x y", b"AUTH PLAIN", b"STLS"])
def test_log_in_only_once(line: bytes) -> None:
    assert isinstance(events(ready(), line + b"\r\n")[0], Bad)


def test_a_message_of_the_client() -> None:
    server = ready()
    assert events(server, b"XTND XMIT\r\n") == [pop.Xmit()]
    server.body_wanted()
    got = events(server, b"To: x\r\n\r\n..dot\r\nQUIT\r\n.\r\nNOOP\r\n")
    assert got == [pop.Body(b"To: x\r\n\r\n.dot\r\nQUIT\r\n", True), pop.Noop()]
    assert events(server, b"XTND YMIT\r\nxtnd xmit \r\n") == [Bad("unknown extension"), pop.Xmit()]


def test_quit_before_log_in_updates_nothing() -> None:
    assert events(PopServer(), b"QUIT\r\n") == [pop.Quit(False)]


def test_nothing_may_follow_stls() -> None:
    server = PopServer()
    assert events(server, b"STLS\r\nUSER evil\r\n")[0] == Bad("no input may follow STLS")
    assert events(PopServer(), b"STLS\r\n") == [Stls()]
    server = PopServer()
    events(server, b"USER before\r\nSTLS\r\n")
    server.secured()
    assert events(server, b"PASS x\r\n") == [Bad("send USER first")]


def test_unknown_commands_and_long_lines_do_no_harm() -> None:
    server = ready()
    assert events(server, b"FOO\r\n\r\nSTAT\r\n") == [Bad("unknown command"), Bad("unknown command"), pop.Stat()]
    assert events(server, b"x" * 70_000) == [Bad("line is too long")]
    assert events(server, b"x" * 70_000) == []
    assert not server.buffered
    assert events(server, b"xx\r\nSTAT\r\n") == [pop.Stat()]
    assert events(server, b"y" * 5000 + b"\r\nSTAT\r\n") == [Bad("line is too long"), pop.Stat()]


def test_replies() -> None:
    assert pop.ok() == b"+OK\r\n"
    assert pop.error("no\r\nsuch message") == b"-ERR no  such message\r\n"
    assert pop.error("try later", "SYS/TEMP") == b"-ERR [SYS/TEMP] try later\r\n"
    assert pop.listing("2", [b"1 120", b"2 200"]) == b"+OK 2\r\n1 120\r\n2 200\r\n.\r\n"
    assert pop.challenge(b"") == b"+ \r\n"


def unstuff(data: bytes) -> bytes:
    """What a client makes of the body of a multi-line reply."""
    lines = data.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"." not in lines[:-2]
    return b"\r\n".join([line[1:] if line.startswith(b".") else line for line in lines[:-2]] + [b""])


@given(st.lists(st.sampled_from([b".", b"\r\n", b"x", b"\r", b"\n", b"..", b"\r\n."]), max_size=20), st.data())
@settings(max_examples=100, deadline=None)
def test_dot_stuffing_is_undone_by_the_client(pieces: list[bytes], data: st.DataObject) -> None:
    message = b"".join(pieces)
    cut = sorted(data.draw(st.lists(st.integers(0, len(message)), max_size=4)))
    stuffer = DotStuffer()
    out = (
        b"".join(stuffer.feed(message[a:b]) for a, b in zip([0, *cut], [*cut, len(message)], strict=True))
        + stuffer.finish()
    )
    wanted = message if message.endswith(b"\r\n") or not message else message + b"\r\n"
    assert unstuff(out) == wanted


MESSAGE = b"Subject: x\r\nTo: y\r\n\r\none\r\ntwo\r\nthree\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("lines", "wanted"), [(0, b""), (1, b"one\r\n"), (3, b"one\r\ntwo\r\nthree\r\n"), (99, b"one\r\ntwo\r\nthree\r\n")]
)
def test_top_of_a_message(size: int, lines: int, wanted: bytes) -> None:
    cutter = TopCutter(lines)
    out = b"".join(cutter.feed(MESSAGE[n : n + size]) for n in range(0, len(MESSAGE), size))
    assert out == b"Subject: x\r\nTo: y\r\n\r\n" + wanted
    assert cutter.done == (lines <= 3)


def test_top_of_a_message_without_header_or_body() -> None:
    assert TopCutter(1).feed(b"\r\none\r\ntwo\r\n") == b"\r\none\r\n"
    assert TopCutter(1).feed(b"Subject: only\r\n") == b"Subject: only\r\n"


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"USER a\r\n", b"PASS b\n", b"AUTH PLAIN\r\n"]), max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_input_gives_events_or_bad(chunks: list[bytes]) -> None:
    server = PopServer()
    for number, chunk in enumerate(chunks):
        events(server, chunk)
        if number == 4 and server.state is State.AUTHORIZATION:
            server.logged_in()


def test_input_byte_by_byte_is_input_at_once() -> None:
    data = b"USER x\r\nPASS y\r\nAUTH\r\nCAPA\r\n"
    server = PopServer()
    found = [event for n in range(len(data)) for event in events(server, data[n : n + 1])]
    assert found == events(PopServer(), data)
