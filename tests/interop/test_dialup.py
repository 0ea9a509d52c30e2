"""An office on a line that is not always there, and its provider: two hosts with networks of their own.

The line is a virtual cable that the tests cut. The office sends no packet while its schedule is closed, collects its mail by
ETRN and ATRN, and a line that dies within a transfer neither loses a message nor brings it twice.
"""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import netns, postfix
from tests.interop.command_line import CommandLine
from tests.interop.nameserver import NameServer
from tests.interop.netns import Cable, Host, Network
from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually
from tests.interop.test_relay import letter, send

pytestmark = pytest.mark.skipif(not netns.exists(), reason="needs root and network namespaces")

OFFICE, PROVIDER = "10.77.0.1", "10.77.0.2"
RECORDS = {
    "office.test": ["MX 10 mx.office.test."],
    "mx.office.test": [f"A {OFFICE}"],
    "client1.test": ["MX 10 mx.office.test."],
    "provider.test": ["MX 10 mail.provider.test."],
    "mail.provider.test": [f"A {PROVIDER}"],
    "mx.else.test": [f"A {PROVIDER}"],
}
BIG = "x" * 70 + "\r\n"


class Site:
    """One host with its server."""

    def __init__(self, host: Host, folder: Path, setup: Setup) -> None:
        self.host = host
        with host.inside():
            self.server = Pillarbox(folder, setup)
            self.server.offset = 0
            self.server.start()

    def command(self, *commands: str) -> str:
        """The answer to the last of some CLI commands."""
        with self.host.inside():
            name = f"postmaster@{self.server.setup.main_domain}"
            with CommandLine(self.server.port("PWD"), name, self.server.setup.postmaster_password) as line:
                return [line(command) for command in commands][-1]

    def send(self, sender: str, recipient: str, subject: str, size: int = 0) -> None:
        """One letter of a user, over the host's own loopback address."""
        with self.host.inside():
            send(
                self.server.port("SMTP"),
                sender,
                recipient,
                subject,
                login=sender,
                text="hello\r\n" + BIG * (size // 72),
            )

    def letter(self, address: str, subject: str, seconds: float = 20.0) -> bytes:
        with self.host.inside():
            return letter(self.server.port("IMAP"), address, subject, seconds)

    def count(self, address: str, subject: str) -> int:
        """How many letters of this subject a user has."""
        import imaplib

        with self.host.inside(), imaplib.IMAP4(LOOPBACK, self.server.port("IMAP")) as client:
            client.login(address, PASSWORD)
            client.select("INBOX", readonly=True)
            return len(client.search(None, "SUBJECT", f'"{subject}"')[1][0].split())

    def waiting(self, queue: str) -> int:
        """Messages in an SMTP queue."""
        answer = self.command("ListQueues SMTP")
        return 1 if f"Host={queue};" in answer or f'Host="{queue}";' in answer else 0


class World:
    """The office, the provider, and the line."""

    def __init__(self, network: Network, folder: Path) -> None:
        one, other = network.host("office"), network.host("provider")
        self.line: Cable = network.cable(one, OFFICE, other, PROVIDER)
        resolver: dict[str, str | int] = {"DNSAddresses": "Custom", "CustomAddresses": PROVIDER, "InitialTimeout": 1}
        with other.inside():
            self.names = NameServer(PROVIDER, RECORDS)
        smtp: dict[str, str | int] = {"RetryEvery": 10, "LogLevel": 5}
        self.office = Site(
            one,
            folder / "office",
            Setup(
                main_domain="office.test",
                accounts=("ann",),
                settings={
                    "DNR": resolver,
                    "SMTP": smtp
                    | {"ATRNName": "office.test", "ATRNPassword": PASSWORD, "WakeupHost": "mail.provider.test"},
                },
            ),
        )
        self.provider = Site(
            other,
            folder / "provider",
            Setup(
                main_domain="provider.test",
                accounts=("zoe", "office.test"),
                settings={"DNR": resolver, "SMTP": smtp | {"HoldDomains": "office.test"}},
            ),
        )

    def close_line(self) -> None:
        """The only window of the schedule is hours away."""
        hour = (time.localtime().tm_hour + 6) % 24
        window = f'{{Day="Every day";From="{hour:02d}:00";To="{hour:02d}:30";}}'
        self.office.command(f"UpdateModule Schedule {{Schedule=({window});}}")

    def open_line(self) -> None:
        self.office.command("UpdateModule Schedule {Schedule=();}")

    def wake(self, *, atrn: bool = False) -> None:
        self.office.command(f"UpdateModule SMTP {{UseATRN={'YES' if atrn else 'NO'};}}", "WakeUpNow")

    def lose(self) -> None:
        """The line dies, and when it is there again, it is another call."""
        self.line.down()
        self.line.forget()
        self.line.speed(0)
        self.line.up()


@pytest.fixture(scope="module")
def world(folder: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    failed_before = request.session.testsfailed
    with Network() as network:
        world = World(network, folder / "dialup")
        sites = (world.office, world.provider)
        with world.names:
            yield world
        for site in sites:
            site.server.stop()
            if request.session.testsfailed > failed_before:
                print(site.server.logs(20000))


@pytest.mark.feature("DIAL-001", "DIAL-008", "DIAL-030", "DIAL-031", "DIAL-011", "SMTP-084")
def test_no_packet_while_the_line_is_closed(world: World) -> None:
    office = world.office
    world.close_line()
    with office.host.capture() as packets:
        office.send("ann@office.test", "zoe@provider.test", "one")
        office.send("ann@office.test", "zoe@provider.test", "two")
        office.send("ann@office.test", "ann@office.test", "inside")
        assert office.letter("ann@office.test", "inside")
        time.sleep(1)
        assert packets == []
        assert world.office.waiting("provider.test")
        world.open_line()
        assert world.provider.letter("zoe@provider.test", "one")
        assert world.provider.letter("zoe@provider.test", "two")
    assert {(one.protocol, one.port) for one in packets} == {("UDP", 53), ("TCP", 25)}


@pytest.mark.feature("DIAL-001")
def test_a_dead_line_keeps_the_mail(world: World) -> None:
    world.line.down()
    world.office.send("ann@office.test", "zoe@provider.test", "kept")
    time.sleep(0.3)
    world.line.up()
    world.office.command("ReleaseSMTPQueue provider.test")
    assert world.provider.letter("zoe@provider.test", "kept")


@pytest.mark.feature("DIAL-021", "DIAL-024", "DIAL-040", "DIAL-043", "SMTP-100", "SMTP-106")
def test_etrn_to_a_second_pillarbox(world: World) -> None:
    world.provider.send("zoe@provider.test", "ann@office.test", "by etrn")
    assert eventually(lambda: world.provider.waiting("office.test"))
    time.sleep(0.3)
    assert world.provider.waiting("office.test"), "it is held"
    world.wake()
    assert world.office.letter("ann@office.test", "by etrn")
    assert eventually(lambda: not world.provider.waiting("office.test"))


@pytest.mark.feature("DIAL-022", "DIAL-026", "DIAL-041", "SMTP-102", "SMTP-111", "SMTP-114", "STD-032", "DIAL-023")
def test_atrn_in_tls(world: World) -> None:
    for number in range(3):
        world.provider.send("zoe@provider.test", "ann@office.test", f"by atrn {number}")
    assert eventually(lambda: world.provider.waiting("office.test"))
    # Port 366 is the one of RFC 2645.
    world.provider.command("UpdateModule SMTP {Listener=({Port=25;},{Port=366;});}")
    world.office.command('UpdateModule SMTP {WakeupHost="mail.provider.test:366";}')
    with world.provider.host.capture() as packets:
        world.wake(atrn=True)
        for number in range(3):
            assert b" with ESMTPS" in world.office.letter("ann@office.test", f"by atrn {number}")
    # Nothing but answers: the provider has not called the office.
    assert not [one for one in packets if one.protocol == "TCP" and one.port == 25]
    world.wake(atrn=True)
    assert eventually(lambda: "no mail waits" in world.office.command("GetWakeUpStatus"))
    world.office.command("UpdateModule SMTP {WakeupHost=mail.provider.test;}")


@pytest.mark.feature("DIAL-021", "SMTP-100")
@pytest.mark.skipif(not postfix.exists(), reason="needs Postfix")
def test_etrn_to_a_postfix(world: World, folder: Path) -> None:
    settings = {
        "relay_domains": "office.test",
        "transport_maps": f"inline:{{office.test=smtp:[{OFFICE}]:2525}}",
        "inet_interfaces": "all",
        "minimal_backoff_time": "1h",
        "queue_run_delay": "1h",
    }
    with world.provider.host.inside():
        backup = postfix.Postfix(folder / "backup", "else.test", "discard:", settings)
        services = folder / "backup" / "conf" / "master.cf"
        services.write_text(services.read_text().replace(f"{LOOPBACK}:{backup.smtp}", f"0.0.0.0:{backup.smtp}"))
        try:
            backup.start()
            # The office does not answer on that port yet: the mail is deferred.
            send(backup.smtp, "zoe@provider.test", "ann@office.test", "by postfix")
            assert eventually(lambda: "status=deferred" in backup.log()), backup.log()
        except BaseException:
            backup.stop()
            raise
    try:
        world.office.command(
            f'UpdateModule SMTP {{WakeupHost="{PROVIDER}:{backup.smtp}";Listener=({{Port=25;}},{{Port=2525;}});}}'
        )
        world.wake()
        assert world.office.letter("ann@office.test", "by postfix"), backup.log()
        assert "Good=YES" in world.office.command("GetWakeUpStatus")
    finally:
        with world.provider.host.inside():
            backup.stop()
        world.office.command("UpdateModule SMTP {WakeupHost=mail.provider.test;}")


@pytest.mark.feature("DIAL-001", "SMTP-081")
def test_the_line_is_lost_while_mail_goes_out(world: World) -> None:
    world.line.speed(1000)
    world.close_line()
    world.office.send("ann@office.test", "zoe@provider.test", "out small")
    world.office.send("ann@office.test", "zoe@provider.test", "out large", 200_000)
    world.open_line()
    assert world.provider.letter("zoe@provider.test", "out small")
    time.sleep(0.3)
    world.lose()
    assert eventually(lambda: "connection abort" in world.office.server.logs()), "it was under way"
    assert world.office.waiting("provider.test")
    assert world.provider.count("zoe@provider.test", "out large") == 0
    time.sleep(0.2)
    world.office.command("ReleaseSMTPQueue provider.test")
    assert len(world.provider.letter("zoe@provider.test", "out large")) > 190_000
    assert [world.provider.count("zoe@provider.test", name) for name in ("out small", "out large")] == [1, 1]


@pytest.mark.parametrize("outward", [True, False])
def test_a_dead_line_is_noticed(world: World, outward: bool) -> None:
    """Nobody tells us that a line has died: a connection that is not acknowledged any more ends by itself."""
    name = f"noticed {outward}"
    here, there = (world.office, world.provider) if outward else (world.provider, world.office)
    sender, recipient = (
        ("ann@office.test", "zoe@provider.test") if outward else ("zoe@provider.test", "ann@office.test")
    )
    world.office.command("UpdateModule SMTP {LostAfter=2;}")
    world.close_line()
    here.send(sender, recipient, name, 200_000)
    assert eventually(lambda: here.waiting(recipient.partition("@")[2]))
    world.line.speed(1000)
    if outward:
        world.open_line()
    else:
        world.wake(atrn=True)  # by hand it does not wait for the schedule
    tag = "SMTPO" if outward else "SMTPW"
    assert eventually(lambda: tag in world.office.command("ListSessions"))
    time.sleep(0.4)
    world.line.down()
    assert eventually(lambda: tag not in world.office.command(f"ListSessions {tag}"), 10)
    world.line.speed(0)
    world.line.forget()  # the provider's end, which may wait for longer
    world.line.up()
    world.open_line()
    time.sleep(0.2)
    if outward:
        world.office.command("ReleaseSMTPQueue provider.test")
    else:
        world.wake(atrn=True)
    assert len(there.letter(recipient, name)) > 190_000
    assert there.count(recipient, name) == 1


@pytest.mark.feature("DIAL-022", "SMTP-112")
@pytest.mark.parametrize("atrn", [False, True])
def test_the_line_is_lost_while_mail_comes_in(world: World, atrn: bool) -> None:
    small, large = f"in small {atrn}", f"in large {atrn}"
    world.provider.send("zoe@provider.test", "ann@office.test", small)
    world.provider.send("zoe@provider.test", "ann@office.test", large, 200_000)
    assert eventually(lambda: world.provider.waiting("office.test"))
    world.line.speed(1000)
    world.wake(atrn=atrn)
    assert world.office.letter("ann@office.test", small)
    time.sleep(0.3)
    before = world.provider.server.logs(100_000).count("connection abort")
    world.lose()
    assert eventually(lambda: world.provider.server.logs(100_000).count("connection abort") > before)
    assert world.provider.waiting("office.test")
    assert world.office.count("ann@office.test", large) == 0
    time.sleep(0.2)
    world.wake(atrn=atrn)
    assert len(world.office.letter("ann@office.test", large)) > 190_000
    assert [world.office.count("ann@office.test", name) for name in (small, large)] == [1, 1]


@pytest.mark.feature("SMTP-090")
def test_mail_of_a_domain_goes_out_from_its_own_address(world: World) -> None:
    world.office.host.do("ip", "address", "add", "10.77.0.11/24", "dev", "line")
    world.office.command(
        "RefreshOSData",
        "CreateDomain client1.test",
        'UpdateDomainSettings client1.test {IPMode="Manually Defined"; IPAddresses="10.77.0.11"; SendingIPAddress=first;}',
        f"CreateAccount info@client1.test {{Password={PASSWORD};}}",
    )
    world.office.send("info@client1.test", "zoe@provider.test", "from ours")
    world.office.send("ann@office.test", "zoe@provider.test", "from any")
    assert b"[10.77.0.11]" in world.provider.letter("zoe@provider.test", "from ours")
    assert b"[10.77.0.1]" in world.provider.letter("zoe@provider.test", "from any")


@pytest.mark.feature("DIAL-032")
def test_blacklists_are_not_asked_about_clients(world: World) -> None:
    world.office.command(
        'UpdateModule Protection {UseRBL=YES;RBLServers=({Server="rbl.test";});}',
        f'UpdateModule IPAddresses {{ClientAddresses="{LOOPBACK}";}}',
    )
    with world.office.host.capture() as packets:
        world.office.send("ann@office.test", "ann@office.test", "from the LAN")
        assert world.office.letter("ann@office.test", "from the LAN")
        assert packets == []
    with world.provider.host.inside(), smtplib.SMTP(OFFICE, 25) as stranger:
        stranger.ehlo("mail.provider.test")
    assert eventually(lambda: "A 2.0.77.10.rbl.test." in world.names.asked)
    world.office.command("UpdateModule Protection {UseRBL=NO;}")
