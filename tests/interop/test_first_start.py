"""What a new base directory holds, who may log in, which doors are open; and a base directory that moves."""

from __future__ import annotations

import base64
import imaplib
import shutil
import smtplib
import socket
import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.interop.command_line import Answer, CommandLine, first_password
from tests.interop.pillarbox import PASSWORD, SERVICES, Pillarbox, Setup, Start
from tests.interop.processes import LOOPBACK, eventually, greeting

POSTMASTER = Path("Accounts") / "postmaster.macnt"


@pytest.fixture(scope="module")
def plain(start: Start) -> Pillarbox:
    """A server with nothing but its defaults."""
    return start(None)


def password_of(server: Pillarbox) -> str:
    return first_password((server.base / POSTMASTER / "account.settings").read_text())


@pytest.mark.feature("INST-010", "INST-011")
def test_the_first_password_can_be_read_and_opens_everything(plain: Pillarbox) -> None:
    with CommandLine(plain.port("PWD"), "postmaster", password_of(plain)) as cli:
        assert cli("CreateAccount ann")
        assert "ann" in cli("ListAccounts")
        cli("DeleteAccount ann")
    with pytest.raises(Answer):
        CommandLine(plain.port("PWD"), "postmaster", "guess")


@pytest.mark.feature("INST-014")
def test_the_main_domain_is_the_name_of_the_computer(plain: Pillarbox) -> None:
    with CommandLine(plain.port("PWD"), "postmaster", password_of(plain)) as cli:
        assert cli("MainDomainName").lower().split(".")[0] == socket.gethostname().lower().split(".")[0]


@pytest.mark.feature("INST-015")
def test_blacklisted_hosts_can_write_to_an_administrator(plain: Pillarbox) -> None:
    with CommandLine(plain.port("PWD"), "postmaster", password_of(plain)) as cli:
        assert "<blacklist-admin*@blacklisted> = postmaster" in cli("GetRouterTable")


def test_every_usual_door_is_open(plain: Pillarbox) -> None:
    for port in (25, 110, 143, 106):
        assert greeting(port + plain.offset), port
    for port in (993, 8010, 9010):
        with socket.create_connection((LOOPBACK, port + plain.offset), 5):
            pass


@pytest.mark.feature("INST-018")
def test_a_browser_reaches_the_entrance(plain: Pillarbox) -> None:
    for host in (LOOPBACK, "localhost", socket.gethostname()):
        address = f"http://{host}:{plain.port('HTTPA')}/"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(address, timeout=20)
        log_in = base64.b64encode(f"postmaster:{password_of(plain)}".encode()).decode()
        request = urllib.request.Request(address, headers={"Authorization": f"Basic {log_in}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200
            assert b"<html" in answer.read().lower()


def test_others_of_the_machine_cannot_read_the_base_directory(plain: Pillarbox) -> None:
    for path in (plain.base, *plain.base.rglob("*")):
        mode = path.lstat().st_mode
        assert stat.S_ISLNK(mode) or mode & stat.S_IRWXO == 0, path
    assert (plain.base / POSTMASTER / "account.settings").stat().st_mode & 0o077 == 0


@pytest.mark.feature("INST-012")
def test_a_deleted_postmaster_comes_back_with_a_new_password(start: Start) -> None:
    server = start(None)
    old = password_of(server)
    server.stop()
    shutil.rmtree(server.base / POSTMASTER)
    server.start(services=("SMTP", "PWD"))
    assert password_of(server) != old
    with CommandLine(server.port("PWD"), "postmaster", password_of(server)) as cli:
        assert "postmaster" in cli("ListAccounts")
    with pytest.raises(Answer):
        CommandLine(server.port("PWD"), "postmaster", old)


@pytest.mark.feature("INST-009")
def test_without_a_lock_file(start: Start) -> None:
    server = start(None)
    server.stop()
    server.start(options=["--noLockFile"])
    assert not (server.base / "ProcessID").exists()


@pytest.mark.feature("INST-017")
def test_a_taken_port_does_not_stop_the_start(start: Start) -> None:
    server = start(None)
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("", server.port("POP")))
        other.listen()
        server.start(services=("SMTP", "IMAP"))
        record = f"POP port {SERVICES['POP']} on address all cannot be opened: Address already in use"
        assert eventually(lambda: record in server.logs()), server.logs()


@pytest.mark.feature("INST-006")
def test_directories_may_be_links_to_another_disk(start: Start, tmp_path: Path) -> None:
    server = start(Setup(main_domain="links.test", accounts=("ann",)))
    server.stop()
    for name in ("Queue", "SystemLogs", "Accounts"):
        shutil.move(server.base / name, tmp_path / name)
        (server.base / name).symlink_to(tmp_path / name)
    server.start()
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        client.sendmail("a@example.org", ["ann@links.test"], "Subject: on the other disk\r\n\r\ntext\r\n")
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login("ann@links.test", PASSWORD)
        assert eventually(lambda: b"MESSAGES 1" in client.status("INBOX", "(MESSAGES)")[1][0])
    assert all((server.base / name).is_symlink() for name in ("Queue", "SystemLogs", "Accounts"))
    assert b"on the other disk" in (tmp_path / "Accounts" / "ann.macnt" / "INBOX.mbox").read_bytes()


@pytest.mark.feature("INST-061")
def test_a_base_directory_can_be_moved(start: Start, tmp_path: Path) -> None:
    server = start(Setup(main_domain="moved.test", accounts=("ann",)))
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client:
        client.login("ann@moved.test", PASSWORD)
        client.create("Kept")
        client.append("Kept", "(\\Flagged)", "", b"Subject: old letter\r\n\r\ntext\r\n")
    server.stop()
    archive = shutil.make_archive(str(tmp_path / "base"), "tar", server.base)
    other = start(None)
    other.stop()
    shutil.rmtree(other.base)
    other.base.mkdir()
    shutil.unpack_archive(archive, other.base)
    shutil.rmtree(server.base)
    other.start()
    with imaplib.IMAP4(LOOPBACK, other.port("IMAP")) as client:
        client.login("ann@moved.test", PASSWORD)
        client.select("Kept")
        assert client.search(None, "FLAGGED", "SUBJECT", '"old letter"')[1] == [b"1"]
