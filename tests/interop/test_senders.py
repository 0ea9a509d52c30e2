"""Programs that send mail: what they hand over must be in the recipient's INBOX, byte for byte where that can be said."""

from __future__ import annotations

import email
import imaplib
import smtplib
import socket
import ssl
from pathlib import Path

import pytest

from tests.interop.pillarbox import PASSWORD, Pillarbox, Run, Setup, Start
from tests.interop.processes import LOOPBACK, eventually


def received(server: Pillarbox, account: str, subject: str) -> bytes:
    """The message of this subject in an INBOX, waited for; empty when it does not come."""
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login(server.address(account), PASSWORD)

        def look() -> list[bytes]:
            client.select("INBOX", readonly=True)
            _, found = client.search(None, "SUBJECT", f'"{subject}"')
            return list(found[0].split())

        numbers = eventually(look)
        if not numbers:
            return b""
        _, data = client.fetch(numbers[0].decode(), "(BODY.PEEK[])")
        assert isinstance(data[0], tuple)
        return bytes(data[0][1])


def test_swaks_delivers_to_a_local_user(server: Pillarbox, run: Run) -> None:
    said = run(
        *("swaks", "--server", f"{LOOPBACK}:{server.port('SMTP')}", "--from", "friend@example.org"),
        *("--to", server.address("ann"), "--header", "Subject: by swaks", "--body", "first line\n.second line"),
    )
    assert "250" in said
    body = received(server, "ann", "by swaks")
    assert b"first line\r\n.second line\r\n" in body, "a line that starts with a dot keeps it"
    assert b"Received: from " in body


def test_swaks_logs_in_and_sends_with_each_method(server: Pillarbox, run: Run) -> None:
    for method in ("PLAIN", "LOGIN"):
        said = run(
            *("swaks", "--server", f"{LOOPBACK}:{server.port('SMTP')}", "--auth", method),
            *("--auth-user", server.address("ann"), "--auth-password", PASSWORD),
            *("--from", server.address("ann"), "--to", server.address("bob")),
            *("--header", f"Subject: sent after {method}"),
        )
        assert "235" in said
        assert received(server, "bob", f"sent after {method}")


def test_swaks_is_refused_with_a_wrong_password(server: Pillarbox, run: Run) -> None:
    said = run(
        *("swaks", "--server", f"{LOOPBACK}:{server.port('SMTP')}", "--auth", "PLAIN"),
        *("--auth-user", server.address("ann"), "--auth-password", "wrong", "--quit-after", "AUTH"),
        statuses=(28,),
    )
    assert "535" in said


def test_swaks_is_told_of_an_unknown_user(server: Pillarbox, run: Run) -> None:
    said = run(
        *("swaks", "--server", f"{LOOPBACK}:{server.port('SMTP')}", "--from", "friend@example.org"),
        *("--to", server.address("nobody-here"), "--quit-after", "RCPT"),
        statuses=(24,),
    )
    assert " 550" in said


def test_swaks_pipelines(server: Pillarbox, run: Run) -> None:
    said = run(
        *("swaks", "--server", f"{LOOPBACK}:{server.port('SMTP')}", "--pipeline"),
        *("--from", "friend@example.org", "--to", server.address("ann"), "--header", "Subject: in one piece"),
    )
    assert "PIPELINING" in said
    assert received(server, "ann", "in one piece")


def test_curl_sends_behind_starttls(server: Pillarbox, run: Run, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_bytes(b"From: friend@example.org\r\nSubject: behind TLS\r\n\r\nsecret\r\n")
    run(
        *("curl", "-sS", "--ssl-reqd", "--insecure", f"smtp://{LOOPBACK}:{server.port('SMTP')}"),
        *("--upload-file", letter, "--mail-from", "friend@example.org", "--mail-rcpt", server.address("ann")),
    )
    assert b"ESMTPS" in received(server, "ann", "behind TLS").partition(b"\r\n\r\n")[0]


def test_curl_sends_a_file(server: Pillarbox, run: Run, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    body = b"".join(b"line %d\r\n" % number for number in range(3000))
    letter.write_bytes(b"From: friend@example.org\r\nSubject: by curl\r\n\r\n" + body)
    run(
        *("curl", "-sS", f"smtp://{LOOPBACK}:{server.port('SMTP')}/client.example.org", "--upload-file", letter),
        *("--mail-from", "friend@example.org", "--mail-rcpt", server.address("cat")),
    )
    assert received(server, "cat", "by curl").partition(b"\r\n\r\n")[2] == body


def test_smtplib_sends_to_several_and_hears_of_the_unknown(server: Pillarbox) -> None:
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        refused = client.sendmail(
            "friend@example.org",
            [server.address("ann"), server.address("missing"), server.address("bob")],
            "From: friend@example.org\r\nSubject: to several\r\n\r\nGood day\r\n",
        )
    assert list(refused) == [server.address("missing")]
    assert refused[server.address("missing")][0] == 550
    for name in ("ann", "bob"):
        letter = email.message_from_bytes(received(server, name, "to several"))
        assert letter["Return-Path"] == "<friend@example.org>"


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_what_smtplib_sends_comes_out_unchanged(server: Pillarbox, size: int) -> None:
    words = b"From the start. .Dots. \xe9\xff >From a quote.\r\nFrom here\r\n>From there\r\n.\r\n..\r\n\r\n"
    body = (words * (size // len(words) + 1))[:size].rstrip(b"\r\n") + b"\r\n"
    head = f"From: friend@example.org\r\nSubject: size {size} end\r\n\r\n".encode()
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        client.sendmail("friend@example.org", [server.address("bob")], head + body, mail_options=["BODY=8BITMIME"])
    assert received(server, "bob", f"size {size} end").partition(b"\r\n\r\n")[2] == body


def test_a_stranger_cannot_relay_and_a_user_can(start: Start) -> None:
    # The loopback is a client by its nature; the machine's own address is not.
    address = own_address()
    server = start(Setup(accounts=("ann",), clients=["192.0.2.1"]))
    with smtplib.SMTP(address, server.port("SMTP"), source_address=(address, 0)) as client:
        client.ehlo()
        client.mail("friend@example.org")
        code, _ = client.rcpt("someone@elsewhere.example")
        assert 500 <= code < 600
        client.rset()
        client.starttls(context=ssl._create_unverified_context())
        client.login("ann@box.test", PASSWORD)
        client.mail("ann@box.test")
        assert client.rcpt("someone@elsewhere.example")[0] == 250
        client.rset()


def own_address() -> str:
    """An address of this machine other than the loopback; skips when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no packet is sent
        except OSError:
            pytest.skip("this machine has only the loopback address")
        address: str = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has only the loopback address")
    return address
