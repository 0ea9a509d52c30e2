"""Mail is collected from a real Dovecot, over POP3 and IMAP, and from another Pillarbox that keeps a whole domain."""

from __future__ import annotations

import imaplib
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trustme

from tests.interop import dovecot, netns
from tests.interop.command_line import CommandLine
from tests.interop.dovecot import Dovecot
from tests.interop.netns import Host, Network
from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually, free_port

pytestmark = pytest.mark.skipif(not dovecot.exists(), reason="needs root and dovecot")

OFFICE, PROVIDER = "10.78.0.1", "10.78.0.2"
RPOP: dict[str, str | int] = {"AllowSelfPoll": "YES", "LogLevel": 5, "DelayFailedAccounts": 10, "DelayFailedHosts": 10}


def mail(subject: str, header: str = "To: all@elsewhere.test", size: int = 0) -> bytes:
    text = f"{header}\r\nFrom: zoe@far.test\r\nSubject: {subject}\r\nDate: x\r\n\r\nhello\r\n.\r\n..dots\r\nFrom me\r\n"
    return text.encode() + (b"z" * 70 + b"\r\n") * (size // 72)


def put(port: int, user: str, *texts: bytes, mailbox: str = "INBOX") -> None:
    """Messages into a mailbox of Dovecot."""
    with imaplib.IMAP4(LOOPBACK, port) as client:
        client.login(user, PASSWORD)
        client.create(f'"{mailbox}"')
        for text in texts:
            assert client.append(f'"{mailbox}"', "", "", text)[0] == "OK"


def subjects(port: int, user: str, mailbox: str = "INBOX") -> list[str]:
    """The subjects in a mailbox, in order."""
    with imaplib.IMAP4(LOOPBACK, port) as client:
        client.login(user, PASSWORD)
        if client.select(f'"{mailbox}"', readonly=True)[1] == [b"0"]:
            return []
        answer = client.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    return [
        item[1].decode().strip().removeprefix("Subject: ")
        for item in answer
        if isinstance(item, tuple) and item[1].strip()
    ]


def texts(port: int, user: str) -> list[bytes]:
    with imaplib.IMAP4(LOOPBACK, port) as client:
        client.login(user, PASSWORD)
        client.select("INBOX", readonly=True)
        return [item[1] for item in client.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(item, tuple)]


def command(server: Pillarbox, *commands: str) -> str:
    with CommandLine(
        server.port("PWD"), f"postmaster@{server.setup.main_domain}", server.setup.postmaster_password
    ) as line:
        return [line(one) for one in commands][-1]


def idle(server: Pillarbox) -> str:
    """The state of all remote accounts, once nothing is at work."""
    found = ""

    def quiet() -> bool:
        nonlocal found
        found = command(server, "ListRPOP")
        return "State=polling" not in found

    assert eventually(quiet), found
    return found


@pytest.fixture(scope="module")
def boxes(folder: Path) -> Iterator[Dovecot]:
    place = Path(tempfile.mkdtemp(prefix="r", dir=folder))
    place.chmod(0o755)
    certificate = trustme.CA().issue_cert("mail.far.test")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(place / "pem"))
    imaps = free_port()
    settings = (
        f"ssl = yes\nssl_cert = <{place}/pem\nssl_key = <{place}/pem\n"
        f"service imap-login {{\n  inet_listener imaps {{\n    port = {imaps}\n    ssl = yes\n  }}\n}}\n"
    )
    server = Dovecot(place / "d", ["one", "two", "three", "four", "five"], PASSWORD, settings)
    server.imaps = imaps  # type: ignore[attr-defined]
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def collector(start: object) -> Pillarbox:
    return start(Setup(accounts=("ann", "bob", "cat"), settings={"RPOP": RPOP}))  # type: ignore[operator, no-any-return]


def record(port: int, user: str, **more: str) -> str:
    values = {"authName": user, "domain": f'"{LOOPBACK}:{port}"', "password": PASSWORD, "period": "1d", **more}
    return "{" + "".join(f"{key}={value};" for key, value in values.items()) + "}"


@pytest.mark.feature("RPOP-001", "RPOP-012", "STD-069", "STD-076")
def test_pop_mail_arrives_as_it_was_and_is_gone_there(boxes: Dovecot, collector: Pillarbox) -> None:
    sent = [mail("first"), mail("second", size=500_000), mail("third")]
    put(boxes.imap, "one", *sent)
    command(collector, f"SetAccountRPOP ann ({record(boxes.pop, 'one')})")
    assert eventually(lambda: subjects(collector.port("IMAP"), "ann") == ["first", "second", "third"])
    idle(collector)
    assert subjects(boxes.imap, "one") == []
    for text, before in zip(texts(collector.port("IMAP"), "ann"), sent, strict=True):
        assert text.endswith(before) and b"Received: from [127.0.0.1]" in text


@pytest.mark.feature("RPOP-015", "RPOP-014")
def test_pop_left_on_the_server_over_tls(boxes: Dovecot, collector: Pillarbox) -> None:
    put(boxes.imap, "two", mail("left 1"), mail("left 2"))
    command(collector, f"SetAccountRPOP bob ({record(boxes.pop, 'two', leave='YES', TLS='STLS', verify='NO')})")
    assert eventually(lambda: subjects(collector.port("IMAP"), "bob") == ["left 1", "left 2"])
    idle(collector)
    put(boxes.imap, "two", mail("left 3"))
    command(collector, "PollRPOP bob")
    assert eventually(lambda: subjects(collector.port("IMAP"), "bob") == ["left 1", "left 2", "left 3"])
    assert "Error=;" in idle(collector).replace('Error="";', "Error=;")
    assert len(subjects(boxes.imap, "two")) == 3
    assert b"with POP3S" in texts(collector.port("IMAP"), "bob")[0]


def test_imap_over_tls_takes_a_mailbox_and_leaves_what_others_removed(boxes: Dovecot, collector: Pillarbox) -> None:
    sent = [mail("imap 1"), mail("imap 2", size=300_000), mail("imap 3")]
    put(boxes.imap, "three", *sent)
    put(boxes.imap, "three", mail("filed"), mailbox="Bills &- more")
    with imaplib.IMAP4(LOOPBACK, boxes.imap) as client:
        client.login("three", PASSWORD)
        client.select("INBOX")
        client.store("2", "+FLAGS", "\\Deleted")
    imaps = boxes.imaps  # type: ignore[attr-defined]
    inbox = record(imaps, "three", protocol="IMAP", TLS="YES", verify="NO")
    bills = record(boxes.imap, "three", protocol="IMAP", mailbox='"Bills & more"', leave="YES")
    command(collector, f"SetAccountRPOP cat ({inbox}, {bills})")
    assert eventually(lambda: sorted(subjects(collector.port("IMAP"), "cat")) == ["filed", "imap 1", "imap 3"]), idle(
        collector
    )
    idle(collector)
    assert subjects(boxes.imap, "three") == ["imap 2"]
    command(collector, "PollRPOP cat")
    idle(collector)
    assert len(subjects(collector.port("IMAP"), "cat")) == 3
    found = {text.split(b"\r\nDate: x")[1] for text in texts(collector.port("IMAP"), "cat")}
    assert sent[0].split(b"\r\nDate: x")[1] in found


@pytest.mark.feature("RPOP-014", "RPOP-066")
def test_a_certificate_that_nobody_knows_is_no_server(boxes: Dovecot, collector: Pillarbox) -> None:
    put(boxes.imap, "four", mail("never seen"))
    command(collector, f"SetAccountRPOP ann ({record(boxes.pop, 'four', TLS='STLS')})")
    assert "TLS" in idle(collector) and subjects(boxes.imap, "four") == ["never seen"]
    command(collector, f"SetAccountRPOP ann ({record(boxes.pop, 'four', password='wrong')})")
    assert eventually(lambda: "Error=" in idle(collector) and "AUTH" in idle(collector))
    command(collector, "SetAccountRPOP ann ()")


@pytest.mark.feature("RPOP-052", "DIAL-045", "RPOP-043", "RPOP-051")
def test_a_pair_of_servers_loses_no_recipient(start: object) -> None:
    provider: Pillarbox = start(  # type: ignore[operator]
        Setup(
            main_domain="provider.test",
            accounts=("customer",),
            router=("client.test = customer.local",),
            clients=("127.0.0.1",),
        )
    )
    office: Pillarbox = start(  # type: ignore[operator]
        Setup(main_domain="client.test", accounts=("ann", "bob", "cat"), settings={"RPOP": RPOP})
    )
    import smtplib

    with smtplib.SMTP(LOOPBACK, provider.port("SMTP")) as client:
        people = ["ann@client.test", "bob@client.test"]
        client.sendmail("zoe@far.test", people, mail("hidden", "To: ann@client.test, cat@client.test"))
    row = record(provider.port("POP"), "customer", special="X-Real-To")
    assert eventually(lambda: subjects(provider.port("IMAP"), "customer") == ["hidden"])
    command(office, f"SetUnifiedRPOP ({row})")
    assert eventually(lambda: subjects(office.port("IMAP"), "bob") == ["hidden"])
    assert subjects(office.port("IMAP"), "ann") == ["hidden"] and subjects(office.port("IMAP"), "cat") == []
    (text,) = texts(office.port("IMAP"), "bob")
    assert b"Return-Path: <zoe@far.test>" in text and b"X-Real-To" not in text
    idle(office)
    assert subjects(provider.port("IMAP"), "customer") == []


# -- an office on a line of its own -------------------------------------------------------------------------------------


class Sites:
    """The office's Pillarbox and the provider's Dovecot, on two hosts with a line between them."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.one, self.other = network.host("office"), network.host("provider")
        self.line = network.cable(self.one, OFFICE, self.other, PROVIDER)
        with self.other.inside():
            self.boxes = Dovecot(folder / "d", ["domain", "plain"], PASSWORD, f"listen = {PROVIDER}, {LOOPBACK}\n")
            self.boxes.start()
        with self.one.inside():
            setup = Setup(
                main_domain="office.test",
                accounts=("ann", "bob"),
                settings={"RPOP": RPOP | {"AllowSelfPoll": "NO"}},
            )
            self.server = Pillarbox(folder / "o", setup)
            self.server.offset = 0
            self.server.start()

    def put(self, user: str, *messages: bytes) -> None:
        with self.other.inside():
            put(self.boxes.imap, user, *messages)

    def there(self, user: str) -> list[str]:
        with self.other.inside():
            return subjects(self.boxes.imap, user)

    def here(self, user: str) -> list[str]:
        with self.one.inside():
            return subjects(self.server.port("IMAP"), user)

    def command(self, *commands: str) -> str:
        with self.one.inside():
            return command(self.server, *commands)

    def idle(self) -> str:
        with self.one.inside():
            return idle(self.server)

    def row(self, user: str, **more: str) -> str:
        return record(self.boxes.pop, user, domain=f'"{PROVIDER}:{self.boxes.pop}"', **more)

    def close(self) -> None:
        self.server.stop()
        self.boxes.stop()


@pytest.fixture(scope="module")
def sites(folder: Path) -> Iterator[Sites]:
    if not netns.exists():
        pytest.skip("needs network namespaces")
    place = Path(tempfile.mkdtemp(prefix="n", dir=folder))
    place.chmod(0o755)
    with Network() as network:
        made = Sites(network, place)
        try:
            yield made
        finally:
            made.close()


def packets_to(host: Host, seconds: float) -> Sequence[object]:
    with host.capture() as packets:
        time.sleep(seconds)
        return list(packets)


@pytest.mark.feature(
    "DIAL-020", "RPOP-007", "DIAL-002", "DIAL-012", "RPOP-047", "RPOP-050", "QUEUE-133", "STD-077", "DIAL-034"
)
def test_the_mail_of_a_domain_comes_when_the_line_is_open(sites: Sites) -> None:
    hour = (time.localtime().tm_hour + 6) % 24
    closed = f'{{Day="Every day";From="{hour:02d}:00";To="{hour:02d}:30";}}'
    sites.command(f"UpdateModule Schedule {{Schedule=({closed});}}")
    header = "Return-Path: <list@far.test>\r\nX-Real-To: ann@office.test, bob@office.test\r\nTo: list@far.test"
    sites.put("domain", mail("to two", header), mail("to one", "X-Real-To: bob\r\nTo: ann@office.test"))
    sites.put("plain", mail("named", "To: ann@office.test, x@far.test"), mail("nobody", "To: list@far.test"))
    rows = sites.row("domain", special="X-Real-To", period="1m") + "," + sites.row("plain")
    sites.command(f"SetUnifiedRPOP ({rows})")
    assert packets_to(sites.one, 1.0) == []
    assert "waits for the schedule" in sites.command("ListRPOP")
    sites.command("UpdateModule Schedule {Schedule=();}")
    assert eventually(lambda: sorted(sites.here("bob")) == ["to one", "to two"])
    assert eventually(lambda: sorted(sites.here("ann")) == ["named", "to two"])
    sites.idle()
    assert sites.there("domain") == [] and sites.there("plain") == []
    with sites.one.inside(), imaplib.IMAP4(LOOPBACK, 143) as client:
        client.login("postmaster", sites.server.setup.postmaster_password)
        client.select("INBOX")
        assert client.search(None, "SUBJECT", "nobody")[1][0]


@pytest.mark.feature("RPOP-002")
def test_a_line_that_is_lost_loses_nothing_and_doubles_nothing(sites: Sites) -> None:
    sites.command("SetUnifiedRPOP ()")
    wanted = [f"lost {number}" for number in range(12)]
    sites.put("domain", *(mail(name, "X-Real-To: ann", size=60_000) for name in wanted))
    before = sites.here("ann")
    sites.line.speed(1000)
    sites.command(f"SetUnifiedRPOP ({sites.row('domain', special='X-Real-To')})")
    assert eventually(lambda: len(sites.here("ann")) >= len(before) + 3)
    sites.line.down()
    sites.line.forget()
    sites.line.speed(0)
    sites.line.up()
    sites.idle()
    assert len(sites.there("domain")) == 12
    sites.command("PollRPOP")
    assert eventually(lambda: len(sites.here("ann")) >= len(before) + 12), sites.command("ListRPOP")
    sites.idle()
    assert sorted(sites.here("ann")[len(before) :]) == sorted(wanted) and sites.there("domain") == []
    log = "".join(path.read_text(errors="replace") for path in (sites.server.base / "SystemLogs").iterdir())
    fetched = re.findall(r"collected from domain@\S+ \((\S+)\)", log)
    assert len(fetched) == len(set(fetched)), "a message was fetched twice"
