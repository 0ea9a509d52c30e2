"""Wake-ups: what the server that keeps our mail sees, and what comes in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.kernel.channel import Channel
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, OperationError, Operations
from appliance.kernel.statistics import Statistics
from appliance.modules.smtp.wakeup import WakeupClient
from appliance.protocols.sasl import encode
from appliance.protocols.smtp import Reply
from appliance.protocols.smtp import events as e
from tests.modules.smtp.conftest import Peer, World
from tests.modules.smtp.sink import Outside, Sink, outside


class Office:
    """A wake-up client, its surroundings, and the server `mail.provider.dom`."""

    def __init__(self, world: Outside, inside: World) -> None:
        self.world = world
        self.inside = inside
        self.domains = ["box.test", "two.test", "three.test"]
        self.client = WakeupClient(
            world.connector,
            world.names,
            self.receive,
            lambda: self.domains,
            world.line,
            world.sessions,
            world.log.source("SMTPW"),
            world.clock,
            Statistics(),
        )

    async def receive(self, channel: Channel, log: Logger) -> None:
        await self.inside.service.receive(channel, log)

    def provider(self, *offers: str, port: int = 25) -> Sink:
        self.world.names.a["mail.provider.dom"] = ["198.51.100.7"]
        sink = self.world.sinks["198.51.100.7", port] = Sink(*offers)
        return sink


@pytest.fixture
async def office(tmp_path: Path, world: World) -> AsyncIterator[Office]:
    (tmp_path / "out").mkdir()
    async with outside(tmp_path / "out") as out:
        office = Office(out, world)
        assert out.nursery is not None
        await out.nursery.start(office.client.run)
        yield office


async def deliver(channel: Channel) -> None:
    """What a provider does after ATRN: it sends one message."""
    peer = Peer(channel)
    assert (await peer.reply()).startswith("220 ")
    assert (await peer.say("EHLO mail.provider.dom")).startswith("250")
    assert (await peer.message(b"Subject: held\r\n\r\nhello\r\n", "zoe@far.test", "ann@box.test")).startswith("250")
    assert (await peer.say("QUIT")).startswith("221")


@pytest.mark.feature("SMTP-100", "DIAL-021", "DIAL-034", "STD-036", "STD-049")
async def test_etrn_is_sent_at_the_period(autojump_clock: MockClock, office: Office) -> None:
    sink = office.provider()
    await office.world.set(WakeupHost="198.51.100.7", WakeupPeriod="1m")
    await office.world.settle(150)
    assert sink.lines == ["EHLO box.test", "ETRN box.test", "QUIT"] * 3
    assert [round(time - sink.times[0]) for time in sink.times] == [0, 60, 120]
    assert office.world.names.asked == []
    assert office.client.last is not None and office.client.last.good
    await office.world.set(WakeupPeriod="0")
    await office.world.settle(600)
    assert sink.connections == 3


@pytest.mark.feature("SMTP-100")
async def test_etrn_for_each_domain_that_the_host_backs_up(autojump_clock: MockClock, office: Office) -> None:
    sink = office.provider()
    office.world.names.mx |= {"two.test": ["box.test", "mail.provider.dom"], "three.test": ["mail.else.test"]}
    await office.world.set(WakeupHost="mail.provider.dom", WakeupPeriod="1h")
    await office.world.settle()
    assert sink.lines[1:-1] == ["ETRN box.test", "ETRN two.test"]
    await office.world.set(WakeupDomains="three.test, four.test")
    office.client.now()
    await office.world.settle()
    assert sink.lines[-3:-1] == ["ETRN three.test", "ETRN four.test"]


@pytest.mark.feature("SMTP-101", "DIAL-023")
async def test_the_host_may_have_a_port(autojump_clock: MockClock, office: Office) -> None:
    sink = office.provider(port=366)
    await office.world.set(WakeupHost="mail.provider.dom:366", WakeupPeriod="1h")
    await office.world.settle()
    assert sink.lines[1] == "ETRN box.test"
    assert office.world.connected == [("198.51.100.7", 366)]


@pytest.mark.feature("SMTP-103")
async def test_etrn_without_use_atrn_though_there_is_a_name(autojump_clock: MockClock, office: Office) -> None:
    sink = office.provider("AUTH CRAM-MD5", "ATRN")
    await office.world.set(WakeupHost="mail.provider.dom", WakeupPeriod="1h", ATRNName="box.test", ATRNPassword="pw")
    await office.world.settle()
    assert sink.lines == ["EHLO box.test", "ETRN box.test", "QUIT"]


@pytest.mark.feature("SMTP-102", "DIAL-022", "STD-032", "STD-021")
@pytest.mark.parametrize("secure", [False, True])
async def test_atrn_brings_the_mail_in(autojump_clock: MockClock, office: Office, secure: bool) -> None:
    sink = office.provider("AUTH PLAIN CRAM-MD5", "ATRN")
    sink.turned = deliver
    if secure:
        sink.certificate = office.world.certificate("mail.provider.dom")
        await office.world.set(TLSDomains="*.provider.dom")
    await office.world.set(
        WakeupHost="mail.provider.dom", WakeupPeriod="1h", UseATRN="YES", ATRNName="box.test", ATRNPassword="secret"
    )
    await office.world.settle()
    first = ["EHLO box.test"]
    if secure:
        first += ["STARTTLS", "EHLO box.test"]
    assert sink.lines[: len(first) + 1] == [*first, "AUTH CRAM-MD5 ''"]
    assert sink.lines[-1] == "ATRN"
    assert b"Subject: held" in await office.inside.content()
    assert office.inside.messages[0].sender == "zoe@far.test"
    assert office.client.last is not None and office.client.last.good
    assert "secret" not in office.world.log.text()


@pytest.mark.feature("SMTP-102")
async def test_atrn_by_login_where_there_is_no_cram(autojump_clock: MockClock, office: Office) -> None:
    sink = office.provider("AUTH LOGIN", "ATRN")
    sink.certificate = office.world.certificate("mail.provider.dom")
    sink.turned = deliver
    asked = iter((Reply(334, encode(b"Username:").decode()), Reply(334, encode(b"Password:").decode())))
    sink.answer = lambda event: next(asked, None) if isinstance(event, e.Auth | e.AuthResponse) else None
    await office.world.set(
        WakeupHost="mail.provider.dom", WakeupPeriod="1h", UseATRN="YES", ATRNName="box.test", ATRNPassword="pw"
    )
    await office.world.settle()
    assert "AUTH LOGIN ''" in sink.lines
    assert [f"RESPONSE {encode(word).decode()}" in sink.lines for word in (b"box.test", b"pw")] == [True, True]
    assert len(office.inside.messages) == 1


async def test_no_clear_password_for_atrn_without_tls(autojump_clock: MockClock, office: Office) -> None:
    sink = office.provider("AUTH LOGIN PLAIN", "ATRN")
    await office.world.set(
        WakeupHost="mail.provider.dom", WakeupPeriod="1h", UseATRN="YES", ATRNName="box.test", ATRNPassword="pw"
    )
    await office.world.settle()
    assert "AUTH" not in sink.words and "ATRN" not in sink.words
    assert office.client.last is not None and not office.client.last.good


@pytest.mark.feature("SMTP-099", "DIAL-026")
async def test_a_listed_host_is_woken_up_in_tls_or_not_at_all(autojump_clock: MockClock, office: Office) -> None:
    sink = office.provider()
    await office.world.set(TLSDomains="mail.provider.dom", WakeupHost="mail.provider.dom", WakeupPeriod="1m")
    await office.world.settle()
    assert "ETRN" not in sink.words
    sink.certificate = office.world.certificate("else.dom")
    await office.world.settle(60)
    assert "ETRN" not in sink.words
    sink.certificate = office.world.certificate("mail.provider.dom")
    await office.world.settle(60)
    assert sink.words[-5:] == ["EHLO", "STARTTLS", "EHLO", "ETRN", "QUIT"]


@pytest.mark.feature("SMTP-105", "DIAL-025", "SMTP-131")
async def test_wakeups_wait_for_the_schedule(autojump_clock: MockClock, office: Office) -> None:
    sink = office.provider()
    office.world.line.opened = trio.Event()
    await office.world.set(WakeupHost="mail.provider.dom", WakeupPeriod="1m")
    await office.world.settle(600)
    assert sink.connections == 0 and office.world.names.asked == []
    office.world.line.opened.set()
    await office.world.settle()
    assert sink.connections == 1  # the ten that were due meanwhile are one
    assert "SMTPW-" in office.world.log.text()


@pytest.mark.feature("SMTP-104", "DIAL-024")
async def test_by_hand_it_does_not_wait(autojump_clock: MockClock, office: Office) -> None:
    operations = Operations()
    office.client.declare(operations)
    caller = Caller(None, "box.test", "TEST", office.inside.around.authority)
    with pytest.raises(OperationError, match="no host"):
        await operations.perform(caller, "WakeUpNow", {})
    sink = office.provider()
    office.world.line.opened = trio.Event()
    await office.world.set(WakeupHost="mail.provider.dom", WakeupPeriod="1h")
    await office.world.settle()
    assert sink.connections == 0
    await operations.perform(caller, "WakeUpNow", {})
    await office.world.settle()
    assert sink.lines == ["EHLO box.test", "ETRN box.test", "QUIT"]
    status = await operations.perform(caller, "GetWakeUpStatus", {})
    assert isinstance(status, dict) and (status["Good"], status["Running"]) == ("YES", "NO")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Reply(453, "You have no mail"), "no mail waits"),
        (Reply(450, "refused"), "ATRN: 450 refused"),
        ("drop", "closed"),
    ],
)
async def test_atrn_that_brings_nothing(
    autojump_clock: MockClock, office: Office, answer: Reply | str, text: str
) -> None:
    sink = office.provider("AUTH CRAM-MD5")
    sink.answer = lambda event: answer if isinstance(event, e.Atrn) else None
    await office.world.set(WakeupHost="mail.provider.dom", WakeupPeriod="1h", UseATRN="YES", ATRNName="box.test")
    await office.world.settle()
    assert office.client.last is not None and text in office.client.last.text
    assert len(office.world.sessions) == 0


async def test_a_provider_that_stalls_or_breaks_does_not_end_the_wakeups(
    autojump_clock: MockClock, office: Office
) -> None:
    sink = office.provider("AUTH CRAM-MD5")

    async def broken(channel: Channel) -> None:
        peer = Peer(channel)
        await peer.reply()
        await peer.send("EHLO x", "MAIL FROM:<a@far.test>", "RCPT TO:<ann@box.test>", "DATA", "half a mess")

    sink.turned = broken
    await office.world.set(WakeupHost="mail.provider.dom", WakeupPeriod="1h", UseATRN="YES", ATRNName="box.test")
    await office.world.settle()
    assert office.inside.messages == [] and office.inside.files() == []

    async def stalls(channel: Channel) -> None:
        await trio.sleep_forever()

    sink.turned = stalls
    await office.world.settle(3600)
    sink.turned = deliver
    await office.world.settle(3600)
    assert len(office.inside.messages) >= 1
    assert office.client.last is not None and office.client.last.good


async def test_the_next_host_is_woken_up_if_the_first_is_dead(autojump_clock: MockClock, office: Office) -> None:
    sink = office.provider()
    await office.world.set(WakeupHost="192.0.2.99, mail.provider.dom", WakeupPeriod="1h")
    await office.world.settle()
    assert sink.lines[1] == "ETRN box.test"


async def test_only_who_may_change_settings_wakes_up_by_hand(office: Office) -> None:
    operations = Operations()
    office.client.declare(operations)
    with pytest.raises(OperationError):
        await operations.perform(
            Caller("ann@box.test", "box.test", "TEST", office.inside.around.authority), "WakeUpNow", {}
        )


async def test_after_a_failure_it_is_tried_again_soon_and_then_at_the_period(
    autojump_clock: MockClock, office: Office
) -> None:
    await office.world.set(WakeupHost="192.0.2.99", WakeupPeriod="1h")
    await office.world.settle(3590)
    assert len(office.world.connected) == 4  # at once, and three times after a minute
    await office.world.settle(3600)
    assert len(office.world.connected) == 5
    sink = office.world.sinks["192.0.2.99", 25] = Sink()
    await office.world.settle(7200)
    assert sink.words.count("ETRN") == 2
