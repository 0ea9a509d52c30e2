"""The client's side by itself, and both sides against each other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.addresses import Path
from appliance.protocols.sasl import ClientMechanism, client_mechanism
from appliance.protocols.smtp import (
    Answer,
    Capabilities,
    DataWriter,
    ProtocolError,
    Reply,
    ReplyReader,
    SmtpClient,
    SmtpServer,
    ehlo_reply,
)
from appliance.protocols.smtp import events as e

JOE, ANN = Path("joe", "box.test"), Path("ann", "x.test")


def greeted(*capabilities: str) -> SmtpClient:
    client = SmtpClient()
    assert client.data_to_send() == b""
    client.receive(b"220 hi\r\n")
    assert client.next_answer() == Answer("", "", Reply(220, "hi"))
    client.hello("box.test")
    assert client.data_to_send() == b"EHLO box.test\r\n"
    answer(client, ehlo_reply("x.test", capabilities).render())
    return client


def mechanism(method: str, name: str, password: str) -> ClientMechanism:
    found = client_mechanism(method, name, password, nonce=b"n" * 18)
    assert found is not None
    return found


def answer(client: SmtpClient, data: bytes) -> Answer:
    client.receive(data)
    got = client.next_answer()
    assert got is not None
    return got


@pytest.mark.feature("STD-039")
def test_capabilities() -> None:
    got = greeted("SIZE 1000", "AUTH PLAIN LOGIN", "AUTH=LOGIN CRAM-MD5", "8bitmime").capabilities
    assert got.size == 1000
    assert got.methods == ("PLAIN", "LOGIN", "CRAM-MD5")
    assert "8BITMIME" in got
    assert "DSN" not in got
    assert Capabilities("x\nSIZE=77").size == 77
    assert Capabilities("x\nSIZE lots").size == 0


def test_one_command_at_a_time_without_pipelining() -> None:
    client = greeted()
    client.mail(JOE, size=10)
    client.rcpt(ANN)
    client.data()
    assert client.data_to_send() == b"MAIL FROM:<joe@box.test>\r\n"
    assert client.data_to_send() == b""
    assert answer(client, b"250 ok\r\n").command == "MAIL"
    assert client.data_to_send() == b"RCPT TO:<ann@x.test>\r\n"
    assert answer(client, b"250 ok\r\n") == Answer("RCPT", "ann@x.test", Reply(250, "ok"))
    assert client.data_to_send() == b"DATA\r\n"


@pytest.mark.feature("STD-031")
def test_a_batch_with_pipelining() -> None:
    client = greeted("PIPELINING", "SIZE")
    client.mail(JOE, size=10)
    client.rcpt(ANN)
    client.data()
    client.rset()
    sent = client.data_to_send()
    assert sent == b"MAIL FROM:<joe@box.test> SIZE=10\r\nRCPT TO:<ann@x.test>\r\nDATA\r\n"
    client.receive(b"250 2.1.0 ok\r\n550 5.1.1 no\r\n354 go\r\n")
    replies = []
    while (got := client.next_answer()) is not None:
        replies.append((got.command, got.reply.code, got.reply.status))
    assert replies == [("MAIL", 250, "2.1.0"), ("RCPT", 550, "5.1.1"), ("DATA", 354, "")]


def test_a_large_batch_is_sent_in_parts() -> None:
    client = greeted("PIPELINING")
    client.mail(JOE)
    for _ in range(1000):
        client.rcpt(ANN)
    sent = client.data_to_send()
    assert len(sent) <= 16384
    total = sent + client.data_to_send()
    while more := client.data_to_send():
        total += more
    assert total.count(b"RCPT") == 1000


@pytest.mark.feature("STD-037", "SMTP-086")
def test_parameters_go_only_where_they_are_known() -> None:
    client = greeted("DSN", "8BITMIME", "AUTH PLAIN", "SIZE 0", "PIPELINING")
    client.mail(JOE, size=5, eight_bit=True, ret="HDRS", envid="a=b", auth="", utf8=True)
    client.rcpt(ANN, notify=("SUCCESS",), orcpt="rfc822;a+b@c")
    assert client.data_to_send() == (
        b"MAIL FROM:<joe@box.test> SIZE=5 BODY=8BITMIME RET=HDRS ENVID=a+3Db AUTH=<>\r\n"
        b"RCPT TO:<ann@x.test> NOTIFY=SUCCESS ORCPT=rfc822;a+2Bb@c\r\n"
    )
    client = greeted()
    client.mail(Path("", ""), size=5, eight_bit=True, ret="HDRS", envid="a", auth="x")
    assert client.data_to_send() == b"MAIL FROM:<>\r\n"


@pytest.mark.feature("STD-033")
def test_auth_methods() -> None:
    client = greeted("AUTH PLAIN")
    client.auth("PLAIN", mechanism("PLAIN", "joe", "pw"))
    assert client.data_to_send() == b"AUTH PLAIN AGpvZQBwdw==\r\n"
    assert answer(client, b"235 2.7.0 ok\r\n").reply.positive

    client.auth("LOGIN", mechanism("LOGIN", "joe", "pw"))
    client.mail(JOE)
    assert client.data_to_send() == b"AUTH LOGIN\r\n"
    for challenge, response in ((b"334 VXNlcm5hbWU6\r\n", b"am9l\r\n"), (b"334 UGFzc3dvcmQ6\r\n", b"cHc=\r\n")):
        client.receive(challenge)
        assert client.next_answer() is None
        assert client.data_to_send() == response
    assert answer(client, b"535 no\r\n") == Answer("AUTH", "LOGIN", Reply(535, "no"))
    assert client.data_to_send().startswith(b"MAIL")


@pytest.mark.feature("STD-021")
def test_cram_md5_of_the_standard() -> None:
    client = greeted("AUTH CRAM-MD5")
    client.auth("CRAM-MD5", mechanism("CRAM-MD5", "tim", "tanstaaftanstaaf"))
    client.data_to_send()
    client.receive(b"334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n")
    assert client.next_answer() is None
    assert client.data_to_send() == b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\r\n"


def test_an_answer_that_comes_too_early_is_no_success() -> None:
    client = greeted("AUTH LOGIN")
    client.auth("LOGIN", mechanism("LOGIN", "joe", "pw"))
    client.data_to_send()
    client.receive(b"235 fine\r\n")
    with pytest.raises(ProtocolError):
        client.next_answer()


@pytest.mark.feature("STD-035")
def test_answers_slipped_in_before_tls_are_refused() -> None:
    client = greeted("STARTTLS")
    client.start_tls()
    client.data_to_send()
    client.receive(b"220 go\r\n250 x\r\n")
    with pytest.raises(ProtocolError):
        client.next_answer()


def test_tls_starts_afresh() -> None:
    client = greeted("STARTTLS", "PIPELINING")
    client.start_tls()
    client.data_to_send()
    assert answer(client, b"220 go\r\n").reply.positive
    client.secured()
    assert "PIPELINING" not in client.capabilities


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"100 x\r\n",
        b"25 x\r\n",
        b"250x\r\n",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"250 " + b"x" * 5000,
        b"250 " + b"x" * 5000 + b"\r\n",
        b"250-x\r\n" * 101,
        b"\x16\x03\x01\x02\n",
    ],
)
def test_garbage_is_an_error(data: bytes) -> None:
    reader = ReplyReader()
    reader.receive(data)
    with pytest.raises(ProtocolError):
        while reader.next_reply() is not None:
            pass


def test_forgiven_forms_of_replies() -> None:
    reader = ReplyReader()
    reader.receive(
        b"250\n250-one\n250\r\n451-4.3.0 a\r\n452-4.3.0 b\r\n452 4.3.0 c\r\n550 4.1.1 odd\r\n220 \xff\x07\r\n"
    )
    assert reader.next_reply() == Reply(250, "")
    assert reader.next_reply() == Reply(250, "one\n")
    assert reader.next_reply() == Reply(452, "a\nb\nc", "4.3.0")
    assert reader.next_reply() == Reply(550, "4.1.1 odd")
    assert reader.next_reply() == Reply(220, "� ")


def test_a_reply_that_nobody_asked_for() -> None:
    client = greeted()
    assert answer(client, b"421 4.3.2 going down\r\n") == Answer("", "", Reply(421, "going down", "4.3.2"))


def test_no_line_ends_in_commands() -> None:
    client = greeted()
    with pytest.raises(ValueError, match="line ends"):
        client.etrn("a\r\nQUIT")


@pytest.mark.feature("SMTP-018")
def test_dots_are_stuffed_across_pieces() -> None:
    writer = DataWriter()
    out = b"".join(map(writer.feed, (b".a\n", b".", b"b\n.", b".c\rd", b"", b"\n"))) + writer.finish()
    assert out == b"..a\r\n..b\r\n...c d\r\n.\r\n"
    writer = DataWriter()
    assert writer.feed(b"no end") + writer.finish() == b"no end\r\n.\r\n"
    assert DataWriter().finish() == b".\r\n"


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from([b"250-a\r\n", b"250 b\n", b"354 go\r\n", b"x", b"\r\n", b"5"])).map(b"".join), st.data()
)
def test_any_split_gives_the_same_replies(data: bytes, draw: st.DataObject) -> None:
    def replies(cuts: list[int]) -> list[object]:
        reader, seen = ReplyReader(), list[object]()
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            reader.receive(data[start:end])
            try:
                while (reply := reader.next_reply()) is not None:
                    seen.append(reply)
            except ProtocolError:
                return [*seen, "error"]
        return seen

    assert replies(sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))) == replies([])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b".", b"\n", b"..\n", b"text", b"\n.\n", "ü".encode(), b"From x\n"])), st.booleans())
def test_both_sides_carry_any_message(pieces: list[bytes], pipelining: bool) -> None:
    client, server = SmtpClient(), SmtpServer()
    client.receive(b"220 ready\r\n")
    client.hello("box.test")
    client.mail(JOE)
    client.rcpt(ANN)
    client.data()
    offers = ("PIPELINING",) if pipelining else ()
    got, answers, ended = b"", list[str](), False
    while not ended:
        while (reply := client.next_answer()) is not None:
            answers.append(f"{reply.command} {reply.reply.code}")
            if reply.command == "DATA":
                writer = DataWriter()
                for data in [*map(writer.feed, pieces), writer.finish()]:
                    server.receive(data)
                client.message_sent()
            ended = reply.command == "."
        server.receive(client.data_to_send())
        while (event := server.next_event()) is not None:
            match event:
                case e.DataChunk():
                    got += event.data
                case e.Ehlo():
                    client.receive(server.reply(ehlo_reply("x.test", offers)))
                case e.Data():
                    client.receive(server.reply(Reply(354, "go")))
                case _:
                    client.receive(server.reply(Reply(250, "fine", "2.0.0")))
    text = b"".join(pieces)
    assert got == text + (b"" if not text or text.endswith(b"\n") else b"\n")
    assert answers == [" 220", "EHLO 250", "MAIL 250", "RCPT 250", "DATA 354", ". 250"]
