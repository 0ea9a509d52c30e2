"""Programs that synchronise whole accounts over IMAP, and clients that use what today's protocol offers."""

from __future__ import annotations

import imaplib
import itertools
import os
import shutil
import ssl
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.pillarbox import PASSWORD, Pillarbox, Run, Setup, Start
from tests.interop.processes import LOOPBACK

USERS = [f"user{number}" for number in range(12)]
Filled = Callable[[int], str]

DOVEADM = """\
base_dir = {folder}/base
state_dir = {folder}/state
log_path = {folder}/log
ssl = no
first_valid_uid = 1
mail_uid = mail
mail_gid = mail
mail_home = {folder}/home
mail_location = imapc:{folder}/cache
imapc_host = 127.0.0.1
imapc_port = {port}
imapc_user = {user}
imapc_password = {password}
imapc_features = rfc822.size fetch-headers fetch-bodystructure search
namespace inbox {{
  separator = /
  inbox = yes
}}
"""

OFFLINEIMAP = """\
[general]
accounts = office
metadata = {folder}/meta
[Account office]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {folder}/mail
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {port}
remoteuser = {user}
remotepass = {password}
ssl = no
starttls = no
auth_mechanisms = CRAM-MD5, PLAIN, LOGIN
"""


@pytest.fixture(scope="module")
def office(start: Start) -> Pillarbox:
    return start(Setup(main_domain="sync.test", accounts=USERS))


@pytest.fixture(scope="module")
def names() -> itertools.cycle[str]:
    return itertools.cycle(USERS)


@pytest.fixture
def filled(office: Pillarbox, names: itertools.cycle[str]) -> Filled:
    """Gives a user whose INBOX holds this many messages, "letter 1" and so on."""

    def fill(count: int) -> str:
        address = office.address(next(names))
        with session(office, address) as client:
            for number in range(1, count + 1):
                text = (
                    f"From: a{number}@example.org\r\nTo: {address}\r\nSubject: letter {number}\r\n"
                    f"Date: {number} Jan 2020 10:00:00 +0000\r\nMessage-ID: <{number}@example.org>\r\n\r\ntext {number}\r\n"
                )
                assert client.append("INBOX", "", "", text.encode())[0] == "OK"
        return address

    return fill


def session(office: Pillarbox, address: str) -> imaplib.IMAP4:
    client = session_without_login(office)
    client.login(address, PASSWORD)
    return client


@pytest.fixture
def doveadm(run: Run, office: Pillarbox, folder: Path) -> Callable[[str], Callable[..., str]]:
    """Runs doveadm, as root only, with the account of an address as its mail store."""
    if os.geteuid() != 0 or shutil.which("doveadm") is None:
        pytest.skip("needs root and dovecot")
    place = folder / f"i{next(_NUMBERS)}"
    place.mkdir()
    place.chmod(0o777)

    def of(address: str) -> Callable[..., str]:
        file = place / "conf"
        text = DOVEADM.format(folder=place, port=office.port("IMAP"), user=address, password=PASSWORD)
        file.write_text(text)
        file.chmod(0o644)

        def command(*words: str) -> str:
            done = subprocess.run(
                ["/usr/bin/doveadm", "-c", str(file), *words],
                capture_output=True,
                timeout=60,
                cwd=place,
                env={"USER": "someone", "PATH": "/usr/bin:/bin"},
            )
            log = (place / "log").read_text() if (place / "log").exists() else ""
            assert done.returncode == 0, f"{words}: {done.stderr.decode()}\n{log}"
            return done.stdout.decode()

        return command

    return of


_NUMBERS = itertools.count(1)


def test_doveadm_works_on_the_account_through_imapc(
    office: Pillarbox, filled: Filled, doveadm: Callable[[str], Callable[..., str]]
) -> None:
    address = filled(4)
    command = doveadm(address)
    assert command("mailbox", "list").split() == ["INBOX"]
    shown = command("fetch", "uid hdr.subject size.physical body", "mailbox", "INBOX", "all")
    assert [shown.count(f"letter {number}") for number in (1, 4)] == [1, 1] and "text 3" in shown
    command("mailbox", "create", "Archive/2020")
    command("flags", "add", "\\Flagged", "mailbox", "INBOX", "uid", "2")
    assert len(command("search", "mailbox", "INBOX", "flagged").split()) == 2
    assert len(command("search", "mailbox", "INBOX", "subject", "letter 3").split()) == 2
    command("copy", "Archive/2020", "mailbox", "INBOX", "uid", "1:2")
    command("move", "Archive/2020", "mailbox", "INBOX", "uid", "3")
    command("expunge", "mailbox", "INBOX", "subject", "letter 4")
    status = command("mailbox", "status", "messages", "*")
    assert "Archive/2020 messages=3" in status and "INBOX messages=2" in status
    command("mailbox", "rename", "Archive/2020", "Old")
    command("mailbox", "delete", "Old")
    with session(office, address) as client:
        client.select("INBOX")
        assert client.search(None, "FLAGGED")[1] == [b"2"]


def test_offlineimap_mirrors_both_ways(office: Pillarbox, filled: Filled, run: Run, tmp_path: Path) -> None:
    address = filled(3)
    with session(office, address) as client:
        client.create("Work/2020")
    settings = tmp_path / "conf"
    settings.write_text(OFFLINEIMAP.format(folder=tmp_path, port=office.port("IMAP"), user=address, password=PASSWORD))
    run("offlineimap", "-c", settings, "-o", "-u", "basic", HOME=str(tmp_path))
    near = tmp_path / "mail" / "INBOX"
    letters = sorted(near.glob("new/*")) + sorted(near.glob("cur/*"))
    assert sorted(line for path in letters for line in path.read_text().splitlines() if "Subject" in line) == [
        "Subject: letter 1",
        "Subject: letter 2",
        "Subject: letter 3",
    ]
    assert (tmp_path / "mail" / "Work.2020").is_dir()
    first, last = (next(path for path in letters if f"letter {number}" in path.read_text()) for number in (1, 3))
    first.rename(near / "cur" / (first.name.split(":")[0] + ":2,FS"))
    (near / "cur" / "made.at.home:2,S").write_text("From: me@example.org\nSubject: made at home\n\nhello\n")
    last.unlink()
    run("offlineimap", "-c", settings, "-o", "-u", "basic", HOME=str(tmp_path))
    with session(office, address) as client:
        client.select("INBOX")
        assert client.search(None, "SUBJECT", "letter", "FLAGGED", "SEEN")[1] == [b"1"]
        assert client.search(None, "SUBJECT", '"letter 3"')[1] == [b""]
        assert len(client.search(None, "SUBJECT", '"made at home"')[1][0].split()) == 1


def test_imaplib_sorts_threads_and_speaks_utf8(office: Pillarbox, filled: Filled) -> None:
    address = filled(3)
    text = "Content-Type: text/plain; charset=utf-8\r\nSubject: Grüße\r\n\r\nhallo\r\n".encode()
    with session(office, address) as client:
        assert client.create("Entw&APw-rfe")[0] == "OK"
        assert client.append("Entw&APw-rfe", "", "", text)[0] == "OK"
    with session(office, address) as client:
        assert client.enable("UTF8=ACCEPT")[0] == "OK"
        client.select("INBOX")
        assert client.sort("(REVERSE DATE)", "UTF-8", "ALL")[1] == [b"3 2 1"]
        assert client.thread("REFERENCES", "UTF-8", "ALL")[1] == [b"(1)(2)(3)"]
        assert any("Entwürfe".encode() in row for row in client.list()[1] if isinstance(row, bytes))
        client.select('"Entwürfe"')
        assert client.fetch("1", "(PREVIEW)")[1] == [b'1 (PREVIEW "hallo")']
        assert client.getquotaroot("INBOX")[0] == "OK"
        assert client.setacl("INBOX", "anyone", "lr")[0] == "OK"
        assert b"anyone lr" in client.getacl("INBOX")[1][0]
        assert client.namespace()[1][0].startswith(b'(("" "/"))')
        assert client.unselect()[0] == "OK"


def test_curl_searches_and_stores(office: Pillarbox, filled: Filled, run: Run, tmp_path: Path) -> None:
    address = filled(2)
    url = f"imap://{LOOPBACK}:{office.port('IMAP')}"
    command = ("curl", "-sS", "--user", f"{address}:{PASSWORD}")
    file = tmp_path / "letter"
    file.write_bytes(b"From: a@b.c\r\nSubject: by curl\r\n\r\nhello\r\n")
    run(*command, f"{url}/INBOX", "-T", file)
    assert "* SEARCH 3" in run(*command, f"{url}/INBOX?SUBJECT%20curl")
    assert "Subject: by curl" in run(*command, f"{url}/INBOX;UID=3;SECTION=HEADER")
    assert "STATUS" in run(*command, url, "-X", "STATUS INBOX (MESSAGES SIZE)")


def test_curl_logs_in_with_every_method(office: Pillarbox, filled: Filled, run: Run) -> None:
    address = filled(1)
    url = f"imap://{LOOPBACK}:{office.port('IMAP')}/INBOX;UID=1"
    with session_without_login(office) as client:
        offered = [name.removeprefix("AUTH=") for name in client.capabilities if name.startswith("AUTH=")]
    assert {"PLAIN", "LOGIN"} <= set(offered)
    for method in offered:
        if not method.startswith("SCRAM"):  # curl has no SCRAM of its own
            shown = run("curl", "-sS", "--user", f"{address}:{PASSWORD}", "--login-options", f"AUTH={method}", url)
            assert "letter 1" in shown, method


def test_tls_from_the_start_and_on_the_way_then_compressed(office: Pillarbox, filled: Filled) -> None:
    address = filled(1)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with imaplib.IMAP4_SSL(LOOPBACK, 993 + office.offset, ssl_context=context) as client:
        client.login(address, PASSWORD)
        assert client.select("INBOX")[1] == [b"1"]
    plain = session_without_login(office)
    plain.starttls(context)
    plain.login(address, PASSWORD)
    plain.send(b"c COMPRESS DEFLATE\r\n")
    assert plain.readline().startswith(b"c OK")
    pack, unpack = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)
    plain.send(pack.compress(b"d NOOP\r\ne LOGOUT\r\n") + pack.flush(zlib.Z_SYNC_FLUSH))
    received = b""
    while b"e OK" not in received:
        received += unpack.decompress(plain.sock.recv(65536))
    assert b"d OK NOOP completed" in received
    plain.shutdown()


def session_without_login(office: Pillarbox) -> imaplib.IMAP4:
    return imaplib.IMAP4(LOOPBACK, office.port("IMAP"))
