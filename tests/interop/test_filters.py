"""Programs beside the server, as an office has them: a virus scanner, scripts that send by `sendmail` and `mail`, a program that
is fed by mail. The server is a process of its own, the scanner a server that speaks clamd's protocol."""

from __future__ import annotations

import imaplib
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.firmware.test_bridges import EICAR, SPAM, Scanner, clamd, spamd
from tests.interop.command_line import CommandLine
from tests.interop.pillarbox import PASSWORD, PROGRAM, Pillarbox, Run
from tests.interop.processes import LOOPBACK, eventually


def administer(server: Pillarbox, *commands: str) -> list[str]:
    with CommandLine(server.port("PWD"), "postmaster", server.setup.postmaster_password) as cli:
        return [cli(command) for command in commands]


def texts(server: Pillarbox, account: str, folder: str = "INBOX") -> list[bytes]:
    """All messages of a mailbox."""
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login(server.address(account), PASSWORD)
        if client.select(folder, readonly=True)[0] != "OK":
            return []
        numbers = client.search(None, "ALL")[1][0].split()
        found = [client.fetch(number.decode(), "(BODY.PEEK[])")[1][0] for number in numbers]
        return [bytes(item[1]) for item in found if isinstance(item, tuple)]


def wait_for(server: Pillarbox, account: str, words: bytes, folder: str = "INBOX") -> bytes:
    found = eventually(lambda: next((text for text in texts(server, account, folder) if words in text), b""))
    assert found, server.logs()
    return found


def send(server: Pillarbox, text: bytes, to: str = "ann") -> None:
    with smtplib.SMTP(LOOPBACK, server.port("SMTP"), timeout=10) as client:
        client.sendmail(server.address("bob"), [server.address(to)], text)


@pytest.fixture(scope="module")
def scanners(server: Pillarbox) -> Iterator[tuple[Scanner, Scanner]]:
    """The server with both filters, and a rule of the server for each."""
    virus, spam = Scanner(clamd, str(server.base.parent / "clamd.ctl")), Scanner(spamd)
    rows = "".join(
        f'{{Name={name};Enabled=YES;LogLevel=5;AutoRestart=1s;ProgramPath="{path}";}},'
        for name, path in (
            ("virus", f"scan-clamav --address {virus.address}"),
            ("spam", f"scan-spamd --address {spam.address}"),
        )
    )
    rules = '((9,virus,(),((ExternalFilter,"virus"))),(8,spam,(("Message Size","less than","1M")),((ExternalFilter,"spam"))))'
    administer(server, f"UpdateModule Helpers {{ContentFilters=({rows[:-1]});}}", f"SetServerRules {rules}")
    yield virus, spam
    administer(server, "SetServerRules ()", "UpdateModule Helpers {ContentFilters=();}")
    virus.close()
    spam.close()


@pytest.mark.feature("FLT-080", "RULE-206", "PROT-122")
def test_a_virus_is_found_and_its_sender_told(server: Pillarbox, scanners: tuple[Scanner, Scanner]) -> None:
    send(server, b"Subject: invoice\r\n\r\n" + EICAR + b"\r\n")
    report = wait_for(server, "bob", b"the message contains a virus: Eicar-Signature")
    assert b"Return-Path: <>" in report
    send(server, b"Subject: harmless\r\n\r\nhello\r\n")
    wait_for(server, "ann", b"Subject: harmless")
    assert not any(b"invoice" in text for text in texts(server, "ann"))
    assert "running" in administer(server, "ListHelpers")[0]


def test_spam_is_marked_and_sorted(server: Pillarbox, scanners: tuple[Scanner, Scanner]) -> None:
    rule = '((5,spam,(("Header Field",is,"X-Spam-Flag: YES")),(("Store in",Junk),(Discard,""))))'
    administer(server, f"SetAccountRules ann {rule}")
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login(server.address("ann"), PASSWORD)
        client.create("Junk")
    send(server, SPAM.replace(b"\n", b"\r\n"))
    found = wait_for(server, "ann", b"X-Spam-Status: Yes, score=1000.5", "Junk")
    assert b"tests=GTUBE,URIBL_BLACK" in found
    assert not any(b"GTUBE" in text for text in texts(server, "ann"))


@pytest.mark.feature("PIPE-030", "PIPE-032", "PIPE-033", "PIPE-037", "MISC-030", "MISC-041", "MISC-042", "MISC-049")
@pytest.mark.feature("MISC-034", "MISC-043", "MISC-050", "MISC-168", "INST-063")
def test_scripts_send_by_sendmail_and_mail(server: Pillarbox, run: Run, tmp_path: Path) -> None:
    administer(server, "UpdateModule PIPE {CheckSubmittedEvery=1s;}")
    for name in ("mail", "sendmail"):
        (tmp_path / name).symlink_to(PROGRAM[0])
    base = str(server.base)
    run(tmp_path / "mail", "-d", base, "-s", "by mail", "-f", "cat", "-b", "bob", "ann", stdin="hello\n")
    found = wait_for(server, "ann", b"Subject: by mail")
    assert b"From: cat@box.test\r\n" in found and b"Bcc" not in found
    assert b"Return-Path: <cat@box.test>" in found
    wait_for(server, "bob", b"Subject: by mail")
    form = "From: Web Form <www@box.test>\nTo: ann, cat\nBcc: bob\nSubject: by form\n\nfield: value\n.\nlast\n"
    script = (
        'open(M, "|' + f"{tmp_path}/sendmail -t -oi -d {base} -- cat" + '") or die; print M <STDIN>; close(M) or die;'
    )
    run("perl", "-e", script, stdin=form)
    found = wait_for(server, "ann", b"Subject: by form")
    assert b"field: value\r\n.\r\nlast\r\n" in found and b"Bcc" not in found
    wait_for(server, "bob", b"Subject: by form")
    assert not any(b"by form" in text for text in texts(server, "cat"))


@pytest.mark.feature("PIPE-050", "PIPE-062", "PIPE-066")
def test_a_program_is_fed_by_mail(server: Pillarbox) -> None:
    folder = server.base / "apps"
    folder.mkdir()
    program = folder / "tickets"
    program.write_text('#!/bin/sh\n{ echo "$@"; sed -n "s/^Subject: //p"; } >> tickets.log\n')
    program.chmod(0o755)
    table = r'<support> = "[RCPT] queue[tickets] tickets open"@pipe'.replace('"', r"\"")
    administer(server, "UpdateModule PIPE {ApplicationDirectory=apps;}", f'UpdateModule Router {{Table="{table}";}}')
    send(server, b"Subject: printer is on fire\r\n\r\nhelp\r\n", "support")
    log = server.base / "tickets.log"
    assert eventually(lambda: log.exists() and "fire" in log.read_text()), server.logs()
    assert log.read_text() == "open -r support@box.test\nprinter is on fire\n"
