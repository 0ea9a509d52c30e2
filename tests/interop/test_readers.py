"""Programs that read mail, each in the way its users do."""

from __future__ import annotations

import functools
import imaplib
import itertools
import mailbox
import poplib
import smtplib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.pillarbox import PASSWORD, Pillarbox, Run, Setup, Start
from tests.interop.processes import LOOPBACK, eventually

READERS = [f"reader{number}" for number in range(12)]
Filled = Callable[[int], str]


@pytest.fixture(scope="module")
def office(start: Start) -> Pillarbox:
    """A server with a user for each test, so that no test sees another's mail."""
    return start(Setup(main_domain="office.test", accounts=READERS))


@pytest.fixture(scope="module")
def names() -> itertools.cycle[str]:
    return itertools.cycle(READERS)


@pytest.fixture
def filled(office: Pillarbox, names: itertools.cycle[str]) -> Filled:
    """Gives a user whose INBOX holds this many messages, "letter 1" and so on."""

    def fill(count: int) -> str:
        address = office.address(next(names))
        with (
            imaplib.IMAP4(LOOPBACK, office.port("IMAP")) as reader,
            smtplib.SMTP(LOOPBACK, office.port("SMTP")) as sender,
        ):
            reader.login(address, PASSWORD)

            def has(wanted: int) -> bool:
                return b"MESSAGES %d)" % wanted in reader.status("INBOX", "(MESSAGES)")[1][0]

            for number in range(1, count + 1):
                text = f"From: a@example.org\r\nTo: {address}\r\nSubject: letter {number}\r\n\r\ntext {number}\r\n"
                sender.sendmail("a@example.org", [address], text)
                # One after the other, so that they have this order in the mailbox.
                assert eventually(functools.partial(has, number)), office.logs()
        return address

    return fill


@pytest.fixture
def imap(office: Pillarbox, filled: Filled) -> imaplib.IMAP4:
    """A session of a user with three letters, INBOX selected."""
    client = imaplib.IMAP4(LOOPBACK, office.port("IMAP"))
    client.login(filled(3), PASSWORD)
    assert client.select("INBOX")[1] == [b"3"]
    return client


def test_imaplib_reads_flags_copies_and_expunges(imap: imaplib.IMAP4) -> None:
    assert imap.search(None, "ALL")[1] == [b"1 2 3"]
    assert imap.search(None, "SUBJECT", '"letter 2"')[1] == [b"2"]
    assert imap.store("2", "+FLAGS", "(\\Flagged)")[1][0] is not None
    assert imap.search(None, "FLAGGED")[1] == [b"2"]
    assert imap.create("Archive/2003")[0] == "OK"
    assert imap.copy("1:2", "Archive/2003")[0] == "OK"
    assert imap.status("Archive/2003", "(MESSAGES)")[1][0].endswith(b"(MESSAGES 2)")
    imap.store("1", "+FLAGS", "(\\Deleted)")
    assert imap.expunge()[1] == [b"1"]
    assert imap.search(None, "ALL")[1] == [b"1 2"]
    assert imap.search(None, "FLAGGED")[1] == [b"1"]
    imap.logout()


def test_imaplib_appends_and_fetches_the_same_bytes(imap: imaplib.IMAP4) -> None:
    content = b"From: me@example.org\r\nSubject: a draft\r\n\r\nFrom now on\r\n.\r\n\xff\xfe end\r\n"
    assert imap.append("INBOX", "(\\Draft)", imaplib.Time2Internaldate(time.time()), content)[0] == "OK"
    imap.noop()
    numbers = imap.search(None, "DRAFT")[1][0].split()
    assert len(numbers) == 1
    _, data = imap.fetch(numbers[0].decode(), "(FLAGS BODY.PEEK[])")
    assert isinstance(data[0], tuple) and data[0][1] == content
    imap.logout()


def test_a_second_session_sees_changes_of_the_first(office: Pillarbox, filled: Filled) -> None:
    address = filled(2)
    one, two = (imaplib.IMAP4(LOOPBACK, office.port("IMAP")) for _ in range(2))
    for client in (one, two):
        client.login(address, PASSWORD)
        client.select("INBOX")
    one.store("1", "+FLAGS", "(\\Deleted)")
    one.expunge()
    two.noop()
    assert two.search(None, "ALL")[1] == [b"1"]
    for client in (one, two):
        client.logout()


def test_poplib_downloads_and_deletes(office: Pillarbox, filled: Filled) -> None:
    address = filled(3)
    client = poplib.POP3(LOOPBACK, office.port("POP"))
    client.user(address)
    client.pass_(PASSWORD)
    assert client.stat()[0] == 3
    lines = client.retr(2)[1]
    assert b"Subject: letter 2" in lines and lines[-1] == b"text 2"
    assert len({line.split()[1] for line in client.uidl()[1]}) == 3
    assert b"text 3" not in client.top(3, 0)[1]
    client.dele(2)
    client.quit()
    again = poplib.POP3(LOOPBACK, office.port("POP"))
    again.user(address)
    again.pass_(PASSWORD)
    assert again.stat()[0] == 2
    again.quit()


def test_curl_lists_and_fetches_over_imap_and_pop(office: Pillarbox, filled: Filled, run: Run) -> None:
    user = f"{filled(2)}:{PASSWORD}"
    imap, pop = (f"{name}://{LOOPBACK}:{office.port(name.upper()[:4].rstrip('3'))}" for name in ("imap", "pop3"))
    assert "INBOX" in run("curl", "-sS", "--user", user, f"{imap}/")
    assert "text 2" in run("curl", "-sS", "--user", user, f"{imap}/INBOX;MAILINDEX=2")
    assert run("curl", "-sS", "--user", user, f"{pop}/").split()[::2] == ["1", "2"]
    assert "text 1" in run("curl", "-sS", "--user", user, f"{pop}/1")


def test_curl_is_refused_with_a_wrong_password(office: Pillarbox, filled: Filled, run: Run) -> None:
    user = f"{filled(0)}:wrong"
    for url in (f"imap://{LOOPBACK}:{office.port('IMAP')}/", f"pop3://{LOOPBACK}:{office.port('POP')}/"):
        run("curl", "-sS", "--user", user, url, statuses=(67,))


def test_fetchmail_collects_over_pop_and_over_imap(office: Pillarbox, filled: Filled, run: Run, tmp_path: Path) -> None:
    for protocol, port in (("POP3", office.port("POP")), ("IMAP", office.port("IMAP"))):
        address = filled(3)
        settings = tmp_path / "fetchmailrc"
        settings.write_text(
            f"set no bouncemail\npoll {LOOPBACK} protocol {protocol} port {port} auth password\n"
            f'  user "{address}" password "{PASSWORD}" sslproto "" fetchall no keep mda "cat >> {tmp_path}/{protocol}"\n'
        )
        settings.chmod(0o600)
        command = ("fetchmail", "--fetchmailrc", settings, "--pidfile", tmp_path / "pid")
        run(*command, "--nosyslog", FETCHMAILHOME=str(tmp_path), HOME=str(tmp_path))
        text = (tmp_path / protocol).read_text()
        assert [text.count(f"Subject: letter {number}") for number in (1, 2, 3)] == [1, 1, 1]
        # Status 1: there was no mail.
        run(*command, "--nosyslog", statuses=(1,), FETCHMAILHOME=str(tmp_path), HOME=str(tmp_path))


def test_mbsync_mirrors_both_ways(office: Pillarbox, filled: Filled, run: Run, tmp_path: Path) -> None:
    address = filled(3)
    settings = tmp_path / "mbsyncrc"
    settings.write_text(
        f"IMAPAccount office\nHost {LOOPBACK}\nPort {office.port('IMAP')}\nUser {address}\nPass {PASSWORD}\n"
        "SSLType None\nAuthMechs LOGIN\n\nIMAPStore far\nAccount office\n\n"
        f"MaildirStore near\nPath {tmp_path}/mail/\nInbox {tmp_path}/mail/INBOX\nSubFolders Verbatim\n\n"
        "Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n"
    )
    (tmp_path / "mail").mkdir()
    run("mbsync", "-c", settings, "-a", HOME=str(tmp_path))
    near = mailbox.Maildir(tmp_path / "mail" / "INBOX", create=False)
    assert sorted(letter["Subject"] for letter in near) == ["letter 1", "letter 2", "letter 3"]

    for key, letter in near.iteritems():
        if letter["Subject"] == "letter 1":
            letter.set_flags("FS")
            near[key] = letter
        elif letter["Subject"] == "letter 3":
            letter.set_flags("T")
            near[key] = letter
    near.add(b"From: me@example.org\nSubject: made at home\n\nhello\n")
    run("mbsync", "-c", settings, "-a", HOME=str(tmp_path))

    with imaplib.IMAP4(LOOPBACK, office.port("IMAP")) as client:
        client.login(address, PASSWORD)
        client.select("INBOX")
        subjects = {"letter 1": 1, "letter 2": 1, "letter 3": 0, "made at home": 1}
        for subject, count in subjects.items():
            assert len(client.search(None, "SUBJECT", f'"{subject}"')[1][0].split()) == count, subject
        assert client.search(None, "FLAGGED", "SUBJECT", '"letter 1"')[1][0].split()
    before = sorted(path.name for path in (tmp_path / "mail" / "INBOX").rglob("*") if path.is_file())
    run("mbsync", "-c", settings, "-a", HOME=str(tmp_path))
    after = sorted(path.name for path in (tmp_path / "mail" / "INBOX").rglob("*") if path.is_file())
    assert before == after, "a second run has nothing to do"


def test_mutt_reads_and_saves(office: Pillarbox, filled: Filled, run: Run, tmp_path: Path) -> None:
    address = filled(2)
    settings = tmp_path / "muttrc"
    settings.write_text(
        f'set imap_user="{address}"\nset imap_pass="{PASSWORD}"\nset ssl_starttls=no\nset ssl_force_tls=no\n'
        f'set folder="imap://{LOOPBACK}:{office.port("IMAP")}/"\nset spoolfile="+INBOX"\nset confirmcreate=no\n'
        "set copy=no\nset wait_key=no\nset quit=yes\nset delete=yes\nset mail_check=0\nset imap_check_subscribed=no\n"
        f'push "<tag-pattern>.<enter><tag-prefix><copy-message><kill-line>{tmp_path}/copies<enter>'
        '<first-entry><tag-prefix><clear-flag>*<first-entry><set-flag>!<quit>"\n'
        f"set mbox_type=mbox\nset record=''\nset header_cache=''\nset tmpdir={tmp_path}\n"
    )
    # mutt needs a terminal; script gives it one.
    command = f"mutt -n -F {settings}"
    run("script", "-qec", command, "/dev/null", TERM="xterm", HOME=str(tmp_path), statuses=(0, 1))
    copies = (tmp_path / "copies").read_text()
    assert copies.count("Subject: letter ") == 2
    with imaplib.IMAP4(LOOPBACK, office.port("IMAP")) as client:
        client.login(address, PASSWORD)
        client.select("INBOX")
        assert len(client.search(None, "FLAGGED")[1][0].split()) == 1
