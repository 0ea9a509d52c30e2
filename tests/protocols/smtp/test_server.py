"""The server's side by itself: bytes in, events out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.addresses import Path
from appliance.protocols.smtp import Reply, SmtpServer, State, ehlo_reply
from appliance.protocols.smtp import events as e
from appliance.protocols.smtp.server import ORDER

OK = Reply(250, "OK", "2.0.0")
GO = Reply(354, "go on")


def take(server: SmtpServer, data: bytes = b"", reply: Reply = OK) -> e.Event:
    """The one event of the data, answered at once."""
    server.receive(data)
    event = server.next_event()
    assert event is not None
    server.reply(event.reply if isinstance(event, e.Bad) else reply)
    return event


def greeted(**options: int) -> SmtpServer:
    server = SmtpServer(**options)  # type: ignore[arg-type]
    take(server, b"EHLO pc.test\r\n")
    return server


def in_data(**options: int) -> SmtpServer:
    server = greeted(**options)
    take(server, b"MAIL FROM:<a@b.test>\r\n")
    take(server, b"RCPT TO:<c@d.test>\r\n")
    take(server, b"DATA\r\n", GO)
    return server


def message(data: bytes, *, step: int = 0, **options: int) -> tuple[bytes, e.DataEnd]:
    """What a DATA of these bytes gives: the store form and the end."""
    server = in_data(**options)
    out = b""
    pieces = [data[i : i + step] for i in range(0, len(data), step)] if step else [data]
    for piece in pieces:
        for start in range(0, len(piece), 65536):
            server.receive(piece[start : start + 65536])
            while (event := server.next_event()) is not None:
                if isinstance(event, e.DataEnd):
                    return out, event
                assert isinstance(event, e.DataChunk)
                assert len(event.data) <= 65536 * 2 + 2
                out += event.data
    raise AssertionError("the message did not end")


def bad(event: e.Event) -> int:
    assert isinstance(event, e.Bad)
    return event.reply.code


@pytest.mark.feature("SMTP-009", "STD-042")
def test_a_whole_dialogue() -> None:
    server = SmtpServer()
    assert take(server, b"HELO pc.test\r\n") == e.Helo("pc.test")
    assert take(server, b"mail from:<joe@box.test>\r\n") == e.Mail(Path("joe", "box.test"))
    assert take(server, b"Rcpt To:<ann@box.test>\r\n") == e.Rcpt(Path("ann", "box.test"))
    assert take(server, b"DATA\r\n", GO) == e.Data()
    server.receive(b"Subject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n")
    assert server.next_event() == e.DataChunk(b"Subject: x\n\nhello\n")
    assert take(server) == e.DataEnd(21)
    assert take(server, reply=Reply(221, "bye")) == e.Quit()
    assert server.state is State.ENDED
    assert server.next_event() is None


@pytest.mark.feature("SMTP-009", "STD-039")
def test_the_list_of_ehlo() -> None:
    assert ehlo_reply("box.test", ["SIZE 100", "PIPELINING"]).render() == (
        b"250-box.test\r\n250-SIZE 100\r\n250 PIPELINING\r\n"
    )


@pytest.mark.feature("SMTP-010", "STD-031")
def test_a_batch_gives_its_commands_in_order() -> None:
    server = greeted()
    server.receive(b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
    seen = [take(server, reply=reply) for reply in (OK, OK, Reply(550, "no", "5.1.1"), GO)]
    assert [type(event) for event in seen] == [e.Mail, e.Rcpt, e.Rcpt, e.Data]
    assert server.in_message


def test_the_order_of_commands() -> None:
    server = SmtpServer()
    assert bad(take(server, b"MAIL FROM:<a@b>\r\n")) == 503
    take(server, b"EHLO x\r\n")
    assert bad(take(server, b"RCPT TO:<a@b>\r\n")) == 503
    assert bad(take(server, b"DATA\r\n")) == 503
    take(server, b"MAIL FROM:<a@b>\r\n")
    assert bad(take(server, b"MAIL FROM:<a@b>\r\n")) == 503
    assert bad(take(server, b"AUTH PLAIN\r\n")) == 503
    assert bad(take(server, b"ETRN box.test\r\n")) == 503
    take(server, b"RCPT TO:<a@b>\r\n", Reply(550, "no"))
    assert bad(take(server, b"DATA\r\n")) == 503
    take(server, b"EHLO again\r\n")
    assert bad(take(server, b"RCPT TO:<a@b>\r\n")) == 503


@pytest.mark.feature("SMTP-017")
def test_rset_drops_the_transaction() -> None:
    server = greeted()
    take(server, b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n")
    take(server)
    take(server, b"RSET\r\n")
    assert bad(take(server, b"DATA\r\n")) == 503
    assert take(server, b"NOOP whatever\r\n") == e.Noop()
    assert take(server, b"VRFY postmaster\r\n") == e.Vrfy("postmaster")
    assert take(server, b"EXPN list\r\n") == e.Expn("list")
    assert take(server, b"HELP\r\n") == e.Help("")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", 500),
        (b"FOO", 500),
        (b"NOOP \x00", 500),
        (b"NOOP\rQUIT", 500),
        (b"EHLO", 501),
        (b"EHLO a b", 501),
        (b"MAIL", 501),
        (b"MAIL <a@b>", 501),
        (b"MAIL FROM:", 501),
        (b"MAIL FROM:<a@b", 501),
        (b"MAIL FROM:<a@b>SIZE=1", 501),
        (b"MAIL FROM:<a@b> SIZE=x", 501),
        (b"MAIL FROM:<a@b> SIZE=1 SIZE=2", 501),
        (b"MAIL FROM:<a@b> BODY=BINARYMIME", 501),
        (b"MAIL FROM:<a@b> FOO=1", 555),
        (b"MAIL FROM:<a@b> SMTPUTF8", 555),
        (b"MAIL FROM:<a@b> RET=ALL", 501),
        (b"MAIL FROM:<a@b> ENVID=a=b", 501),
        (b"DATA now", 503),
        (b"RSET x", 501),
        (b"VRFY", 501),
        (b"AUTH", 501),
        (b"AUTH PLAIN a!b", 501),
        (b"ETRN", 501),
        (b"ETRN a b", 501),
        (b"ETRN @", 501),
    ],
)
def test_what_is_wrong_gets_its_code(line: bytes, code: int) -> None:
    server = greeted()
    assert bad(take(server, line + b"\r\n")) == code
    assert isinstance(take(server, b"NOOP\r\n"), e.Noop)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"RCPT TO:<>", 553),
        (b"RCPT TO:<a b@c>", 553),
        (b"RCPT TO:<a@b> NOTIFY=NEVER,DELAY", 501),
        (b"RCPT TO:<a@b> NOTIFY=", 501),
        (b"RCPT TO:<a@b> ORCPT=joe@x", 501),
        (b"RCPT TO:<a@b> SIZE=1", 555),
        (b"RCPT FROM:<a@b>", 501),
    ],
)
def test_what_is_wrong_with_recipients(line: bytes, code: int) -> None:
    server = greeted()
    take(server, b"MAIL FROM:<>\r\n")
    assert bad(take(server, line + b"\r\n")) == code


@pytest.mark.feature("SMTP-015", "SMTP-016", "STD-037", "STD-033", "STD-040")
def test_parameters() -> None:
    server = greeted()
    mail = b"MAIL FROM:<a@b> SIZE=1000 BODY=8bitmime RET=hdrs ENVID=id+3D7 AUTH=<>\r\n"
    assert take(server, mail) == e.Mail(Path("a", "b"), 1000, "8BITMIME", "HDRS", "id=7", "")
    rcpt = b"RCPT TO:<c@d> NOTIFY=success,DELAY ORCPT=rfc822;Joe+2Bx@d\r\n"
    assert take(server, rcpt) == e.Rcpt(Path("c", "d"), ("SUCCESS", "DELAY"), "rfc822;Joe+x@d")
    take(server, b"RSET\r\n")
    assert take(server, b"MAIL FROM:<a@b> AUTH=e+3Dmc2@b\r\n") == e.Mail(Path("a", "b"), auth="e=mc2@b")


@pytest.mark.feature("SMTP-020")
def test_quoted_and_routed_addresses() -> None:
    server = greeted()
    take(server, b"MAIL FROM:<>\r\n")
    assert take(server, b'RCPT TO:<"a b"@local>\r\n') == e.Rcpt(Path("a b", "local"))
    assert take(server, b"RCPT TO: <@main:user@other>\r\n") == e.Rcpt(Path("user", "other", ("main",)))
    assert take(server, b"RCPT TO:a%b@c\r\n") == e.Rcpt(Path("a%b", "c"))
    assert take(server, b"RCPT TO:<postmaster>\r\n") == e.Rcpt(Path("postmaster", ""))
    assert take(server, '"Jürgen"@d'.encode().join([b"RCPT TO:<", b">\r\n"])) == e.Rcpt(Path("Jürgen", "d"))


@pytest.mark.feature("SMTP-019")
def test_a_long_command_line_does_no_harm() -> None:
    server = greeted()
    for _ in range(3):
        server.receive(b"x" * 60000)
        assert server.next_event() is None
    assert bad(take(server, b"\r\n")) == 500
    assert bad(take(server, b"MAIL FROM:<" + b"a" * 5000 + b"@b>\r\n")) == 500
    assert isinstance(take(server, b"NOOP\r\n"), e.Noop)


def test_a_request_of_a_browser_ends_the_dialogue() -> None:
    server = SmtpServer()
    assert bad(take(server, b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO a.test\r\n")) == 421
    assert server.state is State.ENDED and server.next_event() is None


def test_bare_line_feeds_end_commands() -> None:
    assert take(greeted(), b"NOOP\n") == e.Noop()


@pytest.mark.feature("SMTP-018")
def test_dots() -> None:
    out, end = message(b"..x\r\n..\r\n\r\n.y\r\n.\r\n")
    assert out == b".x\n.\n\ny\n"
    assert end == e.DataEnd(len(b".x\r\n.\r\n\r\ny\r\n"))
    assert message(b".\r\n") == (b"", e.DataEnd(0))


@pytest.mark.feature("STD-042")
@pytest.mark.parametrize(
    "fake", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\r\n.\r\r\n", b"\r\n.\0\r\n"]
)
def test_only_the_true_end_ends_a_message(fake: bytes) -> None:
    inner = b"Subject: x\r\n\r\none" + fake + b"MAIL FROM:<evil@x>\r\nRCPT TO:<v@x>\r\nDATA\r\nfake"
    out, end = message(inner + b"\r\n.\r\n")
    assert end.refusal is not None
    assert end.refusal.permanent
    assert out == b""
    if b"\0" in fake:
        return
    clean, end = message(inner + b"\r\n.\r\n", clean=True)
    assert end.refusal is None
    assert b"MAIL FROM:<evil@x>\nRCPT TO" in clean
    assert b"\r" not in clean


@pytest.mark.feature("SMTP-012")
def test_a_message_that_grows_too_big_is_read_to_its_end() -> None:
    text = b"x" * 70 + b"\r\n"
    out, end = message(text * 10000 + b".\r\n", size_limit=100_000)
    assert end.refusal is not None
    assert (end.refusal.code, end.size) == (552, 720_000)
    assert len(out) < 200_000
    assert message(text + b".\r\n", size_limit=72)[1].refusal is None
    assert message(text + b".\r\n", size_limit=71)[1].refusal is not None


@pytest.mark.feature("SMTP-019")
def test_long_lines_of_the_body_are_taken() -> None:
    body = b"y" * 200_000
    out, end = message(b"Subject: x\r\n\r\n" + body + b"\r\n.\r\n")
    assert out == b"Subject: x\n\n" + body + b"\n"
    assert end.refusal is None


@pytest.mark.feature("SMTP-019")
@pytest.mark.parametrize("step", [0, 40_001])
def test_long_header_fields_are_refused(step: int) -> None:
    long = b"Subject: " + b"z" * 60 + b"\r\n " + b"w" * 60_000 + b"\r\n " + b"w" * 60_000 + b"\r\n"
    assert message(long + b"\r\nx\r\n.\r\n", step=step)[1].refusal is not None
    many = (b"X: " + b"v" * 50_000 + b"\r\n") * 8
    out, end = message(many + b"\r\n" + b"w" * 150_000 + b"\r\n.\r\n", step=step)
    assert end.refusal is None
    assert out.startswith(many.replace(b"\r\n", b"\n"))


def test_a_refused_message_gives_no_more_pieces() -> None:
    server = in_data()
    server.receive(b"one\r\n" * 20000)
    assert isinstance(server.next_event(), e.DataChunk)
    server.refuse_message(Reply(452, "no space", "4.3.1"))
    server.receive(b"two\r\n" * 20000 + b".\r\n")
    end = take(server)
    assert isinstance(end, e.DataEnd)
    assert end.refusal == Reply(452, "no space", "4.3.1")
    assert isinstance(take(server, b"NOOP\r\n"), e.Noop)


@pytest.mark.feature("SMTP-005", "STD-035")
def test_starttls_forgets_what_was_said() -> None:
    server = greeted()
    take(server, b"MAIL FROM:<a@b>\r\n")
    assert take(server, b"STARTTLS\r\n", Reply(220, "go")) == e.StartTls()
    assert server.next_event() is None
    server.secured()
    assert server.state is State.CONNECTED
    assert bad(take(server, b"MAIL FROM:<a@b>\r\n")) == 503


@pytest.mark.feature("STD-035")
def test_starttls_takes_no_commands_along() -> None:
    server = greeted()
    server.receive(b"STARTTLS\r\nRSET\r\n")
    assert bad(take(server)) == 501
    assert take(server) == e.Rset()


@pytest.mark.feature("STD-033")
def test_auth_waits_for_responses() -> None:
    server = greeted()
    assert take(server, b"AUTH plain AGEAYg==\r\n", Reply(535, "no", "5.7.8")) == e.Auth("PLAIN", b"\0a\0b")
    assert take(server, b"AUTH LOGIN =\r\n", Reply(334, "VXNlcg==")) == e.Auth("LOGIN", b"")
    assert take(server, b"QUIT\r\n", Reply(235, "ok", "2.7.0")) == e.AuthResponse(b"QUIT")
    assert bad(take(server, b"AUTH PLAIN AGEAYg==\r\n")) == 503
    server = greeted()
    take(server, b"AUTH LOGIN\r\n", Reply(334, ""))
    assert bad(take(server, b"x" * 20000 + b"\r\n")) == 500
    assert take(server, b"NOOP\r\n") == e.Noop()


@pytest.mark.feature("SMTP-108")
def test_etrn_forms() -> None:
    server = greeted()
    assert take(server, b"ETRN client.com\r\n") == e.Etrn("client.com")
    assert take(server, b"ETRN @client.com\r\n") == e.Etrn("client.com", "@")
    assert take(server, b"ETRN #client.com\r\n") == e.Etrn("client.com", "#")
    assert take(server, b"ATRN a.test,b.test\r\n", Reply(450, "no")) == e.Atrn(("a.test", "b.test"))


def test_one_reply_for_one_event() -> None:
    server = greeted()
    with pytest.raises(RuntimeError):
        server.reply(OK)
    server.receive(b"NOOP\r\nNOOP\r\n")
    server.next_event()
    with pytest.raises(RuntimeError):
        server.next_event()


def test_long_and_odd_reply_texts() -> None:
    text = Reply(550, "word " * 300 + "\nnext\x07line", "5.7.1").render()
    lines = text.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) <= 510 for line in lines)
    assert all(line.startswith(b"550-5.7.1 ") for line in lines[:-1])
    assert lines[-1] == b"550 5.7.1 next line"


_LINES = st.sampled_from(
    [word + tail for word in ORDER for tail in (b"\r\n", b" x\r\n")]
    + [
        b"MAIL FROM:<a@b> SIZE=10\r\n",
        b"RCPT TO:<a@b>\r\n",
        b"RCPT TO:<c@d> NOTIFY=NEVER\r\n",
        b"DATA\r\n",
        b"text\r\n..dots\r\n.\r\n",
        b"BDAT 6\r\na\r\n.\r\n",
        b"BDAT 3 LAST\r\nb\r\n",
        b"BDAT 4 last\r\n\r\nQU",
        b"BDAT 2\r\nx\r",
        b"BDAT 0 LAST\r\n",
        b"BDAT 5000\r\n",
        b"\r\n",
        b"AUTH LOGIN\r\n",
        b"a" * 5000,
    ]
)


def transcript(data: bytes, cuts: list[int]) -> list[object]:
    """All events of the data, pieces of a message joined; replies that let the dialogue go on."""
    server = SmtpServer(size_limit=3000)
    seen: list[object] = []
    text = b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        server.receive(data[start:end])
        while (event := server.next_event()) is not None:
            if isinstance(event, e.DataChunk):
                text += event.data
                continue
            if isinstance(event, e.DataEnd):
                seen.append(text)
                text = b""
            seen.append(event)
            match event:
                case e.Bdat():
                    pass
                case e.ChunkEnd():
                    server.reply(event.refusal or OK)
                case e.Bad():
                    server.reply(event.reply)
                case e.Data():
                    server.reply(GO)
                case e.Auth():
                    server.reply(Reply(334, ""))
                case e.StartTls():
                    server.reply(Reply(454, "not now", "4.7.0"))
                case e.Quit() | e.Turn() | e.Atrn():
                    server.reply(Reply(502, "no"))
                case _:
                    server.reply(OK)
    return seen


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(_LINES, st.binary(max_size=40)), max_size=20).map(b"".join), st.data())
def test_any_split_of_the_bytes_gives_the_same_events(data: bytes, draw: st.DataObject) -> None:
    if b"STARTTLS" in data:
        data = data.replace(b"STARTTLS", b"NOOP")  # whether input is buffered behind it depends on the split
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    assert transcript(data, cuts) == transcript(data, [])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([b"line\r\n", b".\r\n", b"..\r\n", b"\r\n", b"x" * 70000, b"\r\n.a", b"H: v\r\n"])).map(
        b"".join
    ),
    st.integers(1, 70000),
)
def test_messages_of_any_size_and_split(text: bytes, step: int) -> None:
    wire = text.replace(b"\r\n.", b"\r\n..")
    wire = (b"." if text.startswith(b".") else b"") + wire + (b"" if not text or text.endswith(b"\r\n") else b"\r\n")
    out, end = message(wire + b".\r\n", step=step)
    if end.refusal is None:
        expected = text + (b"" if not text or text.endswith(b"\r\n") else b"\r\n")
        assert out == expected.replace(b"\r\n", b"\n")
        assert end.size == len(expected)
    else:
        assert end.refusal.code == 554
