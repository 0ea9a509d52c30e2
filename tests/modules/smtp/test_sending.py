"""What other servers see of the sending side, and what becomes of the messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.kernel.channel import Channel
from appliance.protocols.smtp import Reply
from appliance.protocols.smtp import events as e
from appliance.transfer.message import Envelope
from tests.modules.smtp.sink import Outside, outside

DAY = 86400


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Outside]:
    async with outside(tmp_path) as world:
        yield world


@pytest.mark.feature("SMTP-071", "SMTP-086", "SMTP-087", "STD-037", "STD-031", "STD-042")
async def test_a_message_goes_out(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    await world.send("ann@x.test", "out-bob@box.test")
    await world.settle()
    assert sink.lines == [
        "EHLO box.test",
        "MAIL joe@box.test",
        "RCPT ann@x.test",
        "RCPT bob@x.test",
        "DATA",
        "DATAEND",
        "QUIT",
    ]
    assert sink.messages[0].endswith(b"Subject: hello\n\n.text\n")
    assert b"MAIL FROM:<joe@box.test> SIZE=" in sink.raw
    assert b"RCPT TO:<bob@x.test> ORCPT=rfc822;out-bob@box.test\r\n" in sink.raw
    assert b"\r\n..text\r\n.\r\n" in sink.raw
    assert world.live == 0
    assert world.connected == [("198.51.100.1", 25)]


@pytest.mark.feature("SMTP-086", "STD-039")
async def test_an_old_server_gets_helo_and_no_parameters(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    sink.answer = lambda event: Reply(502, "what?") if isinstance(event, e.Ehlo) else None
    await world.send("ann@x.test")
    await world.settle()
    assert sink.lines[:2] == ["EHLO box.test", "HELO box.test"]
    assert b"MAIL FROM:<joe@box.test>\r\n" in sink.raw
    assert b"RCPT TO:<ann@x.test>\r\n" in sink.raw
    assert len(sink.messages) == 1


@pytest.mark.feature("SMTP-067")
async def test_all_messages_of_a_domain_go_over_one_connection(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    world.line.opened = trio.Event()
    for _ in range(3):
        await world.send("ann@x.test")
    await world.settle()
    assert sink.connections == 0
    world.line.opened.set()
    await world.settle()
    assert (sink.connections, len(sink.messages)) == (1, 3)
    assert sink.words.count("QUIT") == 1


@pytest.mark.feature("SMTP-084")
async def test_the_schedule_is_waited_for(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    world.line.opened = trio.Event()
    await world.send("ann@x.test")
    await world.settle(3600)
    assert world.connected == []
    assert world.names.asked == []
    world.line.opened.set()
    await world.settle()
    assert len(sink.messages) == 1


@pytest.mark.feature("SMTP-084", "DIAL-008")
async def test_a_window_that_opens_is_used_for_all_that_waits(autojump_clock: MockClock, world: Outside) -> None:
    world.names.mx["x.test"], world.names.mx["held.test"] = ["mx.x.test"], ["mx.x.test"]
    world.names.a["mx.x.test"] = ["198.51.100.1"]
    await world.set(HoldDomains="held.test")
    await world.send("ann@x.test", "ann@held.test")
    await world.settle(10)
    assert world.connected == [("198.51.100.1", 25)]  # nobody there: it waits for half an hour
    world.line.opened = trio.Event()
    await world.settle(60)
    sink = world.sink("x.test", "198.51.100.1")
    world.line.opened.set()
    await world.settle(10)
    assert (len(sink.messages), world.live) == (1, 1)


@pytest.mark.feature("SMTP-068")
async def test_many_recipients_are_sent_in_portions(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    await world.send(*(f"u{number}@x.test" for number in range(250)))
    await world.settle()
    assert len(sink.messages) == 3
    assert sink.words.count("RCPT") == 250
    assert world.live == 0


async def test_a_server_that_takes_few_recipients_at_a_time(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")

    def answer(event: e.Event) -> Reply | None:
        if isinstance(event, e.Rcpt):
            begun = max(place for place, line in enumerate(sink.lines) if line.startswith("MAIL"))
            if len(sink.lines) - begun > 3:
                return Reply(452, "too many recipients", "4.5.3")
        return None

    sink.answer = answer
    await world.send(*(f"u{number}@x.test" for number in range(5)))
    await world.settle()
    assert len(sink.messages) == 3
    assert world.live == 0


@pytest.mark.feature("SMTP-071", "STD-041")
async def test_the_next_exchanger_is_tried(autojump_clock: MockClock, world: Outside) -> None:
    world.names.mx["x.test"] = ["dead.x.test", "nowhere.x.test"]
    world.names.a["dead.x.test"] = ["198.51.100.9"]
    sink = world.sink("x.test", "198.51.100.1")
    await world.send("ann@x.test")
    await world.settle()
    assert world.connected == [("198.51.100.9", 25), ("198.51.100.1", 25)]
    assert len(sink.messages) == 1


@pytest.mark.feature("SMTP-071", "STD-041")
async def test_without_mx_the_address_is_used(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("other.test", "198.51.100.1")
    world.names.a["x.test"] = ["198.51.100.1"]
    await world.send("ann@x.test")
    await world.settle()
    assert len(sink.messages) == 1


@pytest.mark.feature("STD-041", "SMTP-085")
@pytest.mark.parametrize(
    ("mx", "text"),
    [
        ([""], b"takes no mail"),
        (["box.test", "worse.test"], b"DNS loop"),
        (["me.test"], b"DNS loop"),
        (None, b"no such domain"),
    ],
)
async def test_domains_that_take_no_mail(
    autojump_clock: MockClock, world: Outside, mx: list[str] | None, text: bytes
) -> None:
    if mx is not None:
        world.names.mx["x.test"] = mx
    world.names.a |= {"me.test": ["10.0.0.1"], "worse.test": ["198.51.100.1"]}
    await world.send("ann@x.test")
    await world.settle(5)
    assert world.connected == []
    assert world.live == 0
    (report,) = world.reports
    assert text in report
    assert b"Action: failed" in report


@pytest.mark.feature("STD-041")
async def test_as_a_backup_we_send_to_better_hosts_only(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    world.names.mx["x.test"] += ["box.test", "worse.test"]
    sink.greeting = Reply(554, "no")
    await world.send("ann@x.test")
    await world.settle()
    assert world.connected == [("198.51.100.1", 25)]
    assert world.live == 1


@pytest.mark.feature("SMTP-072", "SMTP-123")
async def test_forwarding(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(ForwardTo="192.0.2.50,192.0.2.51")
    sink = world.sink("other.test", "192.0.2.51")
    await world.send("ann@x.test", "bob@y.test")
    await world.settle()
    assert world.connected == [("192.0.2.50", 25), ("192.0.2.51", 25)]
    assert len(sink.messages) == 1
    assert world.names.asked == []
    await world.set(ForwardTo="smart.test")
    world.names.a["smart.test"] = ["192.0.2.51"]
    world.names.mx["smart.test"] = ["wrong.test"]
    await world.send("ann@x.test")
    await world.settle()
    assert len(sink.messages) == 2


@pytest.mark.feature("SMTP-075")
@pytest.mark.parametrize(
    ("methods", "line"), [("PLAIN LOGIN CRAM-MD5", "AUTH CRAM-MD5 ''"), ("CRAM-MD5", "AUTH CRAM-MD5 ''")]
)
async def test_the_forwarding_server_wants_a_password(
    autojump_clock: MockClock, world: Outside, methods: str, line: str
) -> None:
    await world.set(ForwardTo="192.0.2.51", AuthName="myname", AuthPassword="secret")
    sink = world.sink("other.test", "192.0.2.51", f"AUTH {methods}")
    await world.send("ann@x.test")
    await world.settle()
    assert line in sink.lines
    assert len(sink.messages) == 1
    assert "secret" not in world.log.text()


async def test_no_clear_password_to_the_forwarding_server_without_tls(
    autojump_clock: MockClock, world: Outside
) -> None:
    await world.set(ForwardTo="192.0.2.51", AuthName="myname", AuthPassword="secret")
    sink = world.sink("other.test", "192.0.2.51", "AUTH PLAIN")
    await world.send("ann@x.test")
    await world.settle()
    assert sink.messages == []
    assert b"AUTH" not in sink.raw
    sink.certificate = world.certificate("any.test")
    await world.settle(1801)
    assert len(sink.messages) == 1
    assert "AUTH PLAIN '\\x00myname\\x00secret'" in sink.lines


@pytest.mark.feature("SMTP-074", "SMTP-126")
async def test_addresses_in_brackets_and_ports(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(ForwardTo="smart.test")
    sink = world.sink("other.test", "127.0.0.1", port=2525)
    world.names.a["mail.x.test"] = ["127.0.0.1"]
    world.names.mx["mail.x.test"] = ["wrong.test"]
    for address in ("u@[127.0.0.1:2525]", "u@mail.x.test.2525.smtp", "u@127.0.0.1.2525.smtp"):
        await world.send(address)
        await world.settle()
    assert len(sink.messages) == 3
    assert [line for line in sink.lines if line.startswith("RCPT")] == [
        "RCPT u@[127.0.0.1]",
        "RCPT u@mail.x.test",
        "RCPT u@[127.0.0.1]",
    ]


@pytest.mark.feature("SMTP-122", "SMTP-124", "SMTP-125")
async def test_the_suffix_sends_the_local_part(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("host.com", "198.51.100.1")
    await world.send("user%client1.host@host.com.smtp")
    await world.send("user%client1.com@host.com")
    await world.settle()
    assert sorted(line for line in sink.lines if line.startswith("RCPT")) == [
        "RCPT user%client1.com@host.com",
        "RCPT user@client1.host",
    ]


@pytest.mark.feature("SMTP-076")
async def test_retries(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(RetryEvery="1m", RetryLater="2m", RetryLaterAfter="3m")
    world.names.a["x.test"] = ["198.51.100.9"]
    times: list[float] = []
    connect = world.connector.connect

    async def watching(
        addresses: tuple[str, ...], port: int, *, source: str | None = None, timeout: float, lost: int = 0
    ) -> Channel:
        times.append(round(trio.current_time()))
        return await connect(addresses, port, timeout=timeout)

    world.connector.connect = watching
    await world.send("ann@x.test")
    await world.settle(450)
    assert [time - times[0] for time in times] == [0, 60, 120, 180, 300, 420]


@pytest.mark.feature("SMTP-077")
async def test_a_message_is_given_up(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(RetryEvery="1m", KeepTrying="5m")
    world.names.a["x.test"] = ["198.51.100.9"]
    await world.send("ann@x.test")
    await world.settle(290)
    assert (world.live, world.reports) == (1, [])
    await world.settle(60)
    assert world.live == 0
    (report,) = world.reports
    assert b"x.test is unavailable" in report


@pytest.mark.feature("SMTP-078")
async def test_warnings(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(WarnAfter="2m,1h")
    world.names.a["x.test"] = ["198.51.100.9"]
    await world.send("ann@x.test")
    await world.settle(150)
    assert len(world.reports) == 1
    assert b"Action: delayed" in world.reports[0]
    assert world.live == 1
    await world.settle(3600)
    assert len(world.reports) == 2


@pytest.mark.feature("SMTP-080")
async def test_a_recipient_that_is_refused_for_now(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    busy = [Reply(450, "not now", "4.2.1")]
    sink.answer = lambda event: busy[0] if isinstance(event, e.Rcpt) and event.path.local == "bob" and busy else None
    await world.send("ann@x.test", "bob@x.test")
    await world.settle()
    assert (len(sink.messages), world.live, world.reports) == (1, 1, [])
    busy.clear()
    await world.settle(1801)
    assert (len(sink.messages), world.live) == (2, 0)
    assert sink.lines.count("RCPT ann@x.test") == 1


@pytest.mark.feature("SMTP-082")
@pytest.mark.parametrize("where", [e.Mail, e.Rcpt, e.Data, e.DataEnd])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_permanent_refusals_are_reported(
    autojump_clock: MockClock, world: Outside, where: type, pipelining: bool
) -> None:
    sink = world.sink("x.test", "198.51.100.1", "PIPELINING" if pipelining else "SIZE")
    sink.answer = lambda event: Reply(550, "go away", "5.7.1") if isinstance(event, where) else None
    await world.send("ann@x.test")
    await world.send("bob@x.test")
    await world.settle(5)
    assert (sink.messages, world.live) == ([], 0)
    assert len(world.reports) == 2
    assert b"go away" in world.reports[0]
    assert b"5.7.1" in world.reports[0]


@pytest.mark.parametrize("where", [e.Mail, e.Data, e.DataEnd])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_temporary_refusals_delay_the_message(
    autojump_clock: MockClock, world: Outside, where: type, pipelining: bool
) -> None:
    sink = world.sink("x.test", "198.51.100.1", "PIPELINING" if pipelining else "SIZE")
    sink.answer = lambda event: Reply(451, "later") if isinstance(event, where) and not sink.messages else None
    await world.send("ann@x.test")
    await world.settle(5)
    assert (world.live, world.reports) == (1, [])
    sink.answer = lambda event: None
    await world.settle(1801)
    assert (len(sink.messages), world.live) == (1, 0)


@pytest.mark.feature("SMTP-081")
async def test_a_message_on_which_the_connection_breaks(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    world.line.opened = trio.Event()
    await world.send("bad@x.test")
    await world.send("good@x.test")
    await world.settle()
    sink.answer = lambda event: "drop" if isinstance(event, e.Rcpt) and event.path.local == "bad" else None
    world.line.opened.set()
    await world.settle()
    assert len(sink.messages) == 1
    assert (world.live, world.reports) == (1, [])
    sink.answer = lambda event: None
    await world.settle(1801)
    assert len(sink.messages) == 2


async def test_a_server_that_is_shutting_down(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    sink.greeting = Reply(421, "busy")
    await world.send("ann@x.test")
    await world.settle()
    assert (sink.connections, world.live) == (1, 1)


@pytest.mark.feature("SMTP-083")
async def test_a_slow_greeting_is_waited_for(autojump_clock: MockClock, world: Outside) -> None:
    slow = world.sink("x.test", "198.51.100.1")
    world.sink("x.test", "198.51.100.2")
    slow.pause = 90
    await world.send("ann@x.test")
    await world.settle(100)
    assert len(slow.messages) == 1


async def test_a_greeting_that_never_comes(autojump_clock: MockClock, world: Outside) -> None:
    world.sink("x.test", "198.51.100.1").pause = DAY
    other = world.sink("x.test", "198.51.100.2")
    await world.send("ann@x.test")
    await world.settle(130)
    assert len(other.messages) == 1


async def test_garbage_instead_of_smtp(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    sink.greeting = Reply(999, "HTTP")
    await world.send("ann@x.test")
    await world.settle()
    assert world.live == 1
    assert "not an SMTP reply" in world.log.text()


@pytest.mark.feature("SMTP-069")
async def test_channels(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(SendChannels="2")
    sinks = []
    for number in range(5):
        sinks.append(world.sink(f"x{number}.test", f"198.51.100.{number}"))
        sinks[-1].pause = 10
    for number in range(5):
        await world.send(f"ann@x{number}.test")
    await world.settle(5)
    assert sum(sink.open for sink in sinks) == 2
    await world.settle(60)
    assert [len(sink.messages) for sink in sinks] == [1] * 5
    await world.set(SendChannels="0")
    await world.send("ann@x0.test")
    await world.settle(60)
    assert len(sinks[0].messages) == 1


@pytest.mark.feature("SMTP-070", "STD-048")
async def test_more_channels_for_a_slow_host_and_a_long_queue(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(HostChannels="4", AddChannelAfter="20s")
    sink = world.sink("x.test", "198.51.100.1")
    sink.pause = 100
    for _ in range(3):
        await world.send("ann@x.test")
    await world.settle(10)
    assert sink.most == 1
    await world.settle(60)
    assert sink.most >= 2
    await world.settle(600)
    assert len(sink.messages) == 3
    sink.most = 0
    world.line.opened = trio.Event()
    for _ in range(60):
        await world.send("ann@x.test")
    await world.settle()
    world.line.opened.set()
    await world.settle(50)
    assert sink.most == 4
    await world.settle(600)
    assert len(sink.messages) == 63


@pytest.mark.feature("SMTP-118", "SMTP-106", "SMTP-119")
async def test_held_domains_wait_for_a_release(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(HoldDomains="client*.com")
    sink = world.sink("client1.com", "198.51.100.1")
    await world.send("ann@client1.com", "u%client2.com@client1.com.smtp")
    await world.settle(3600)
    assert world.connected == []
    assert world.sender.release("client1.com")
    assert not world.sender.release("nothing.test")
    await world.settle()
    assert len(sink.messages) == 1
    assert sink.words.count("RCPT") == 2
    await world.send("ann@client1.com")
    await world.settle(60)
    assert len(sink.messages) == 1


@pytest.mark.feature("SMTP-116", "SMTP-121")
async def test_wake_up_mail(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(HoldDomains="client1.com")
    sink = world.sink("client1.com", "198.51.100.1")
    await world.send("ann@client1.com")
    await world.settle(600)
    assert sink.connections == 0
    await world.send("Client1.com-wakeup@box.test")
    await world.settle()
    assert len(sink.messages) == 1
    assert (world.live, world.reports) == (0, [])


@pytest.mark.feature("SMTP-088")
async def test_success_reports(autojump_clock: MockClock, world: Outside) -> None:
    plain = world.sink("plain.test", "198.51.100.1", "PIPELINING")
    await world.send(Envelope("ann@plain.test", "S", "rfc822;ann@first.test"))
    await world.settle(5)
    (report,) = world.reports
    assert b"Action: relayed" in report
    assert b"ann@first.test" in report
    assert b"NOTIFY" not in plain.raw
    knows = world.sink("knows.test", "198.51.100.2", "DSN")
    await world.send(Envelope("ann@knows.test", "SF", "rfc822;ann@first.test"))
    await world.settle(5)
    assert b"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;ann@first.test" in knows.raw
    assert len(world.reports) == 1
    assert world.live == 0


@pytest.mark.feature("SMTP-089")
async def test_address_tests(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    sink.answer = lambda event: (
        Reply(550, "unknown") if isinstance(event, e.Rcpt) and event.path.local == "bad" else None
    )
    await world.send("ann@x.test", "bad@x.test", text=b"X-Special-Delivery: test\nDate: x\n\ntext\n")
    await world.settle(5)
    assert sink.words == ["EHLO", "MAIL", "RCPT", "RCPT", "QUIT"]
    (report,) = world.reports
    assert b"bad@x.test" in report
    assert world.live == 0


@pytest.mark.feature("SMTP-133")
async def test_fields_of_server_rules_go_out(autojump_clock: MockClock, world: Outside) -> None:
    from appliance.transfer.enqueuer import Verdict
    from appliance.transfer.message import QueuedMessage

    async def rules(message: QueuedMessage) -> Verdict:
        return Verdict(added_header=b"X-Test: yes\n")

    world.room.enqueuer.rules = rules
    sink = world.sink("x.test", "198.51.100.1")
    await world.send("ann@x.test")
    await world.settle()
    assert sink.messages[0].startswith(b"X-Test: yes\nFrom: joe\n")


async def test_international_addresses(autojump_clock: MockClock, world: Outside) -> None:
    old = world.sink("x.test", "198.51.100.1")
    await world.send("jürgen@x.test", "ann@x.test")
    await world.settle(5)
    assert [line for line in old.lines if line.startswith("RCPT")] == ["RCPT ann@x.test"]
    assert b"5.6.7" in world.reports[0]
    old.offers.append("SMTPUTF8")
    await world.send("jürgen@x.test")
    await world.settle()
    assert "RCPT jürgen@x.test" in old.lines


async def test_an_outgoing_session_can_be_ended(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    sink.pause = 100
    await world.send("ann@x.test")
    await world.settle(5)
    (session,) = world.sessions
    session.kick("enough")
    await world.settle()
    assert len(world.sessions) == 0
    assert world.live == 1
    await world.settle(300)
    assert len(sink.messages) == 1


@pytest.mark.feature("SMTP-079")
async def test_delays_survive_a_restart(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with outside(tmp_path / "base") as world:
        world.names.a["x.test"] = ["198.51.100.9"]
        await world.send("ann@x.test")
        await world.settle(600)
        assert len(world.connected) == 1
        now = world.clock.now()
    async with outside(tmp_path / "base", epoch=now) as world:
        world.names.a["x.test"] = ["198.51.100.9"]
        await world.settle(1100)
        assert world.connected == []
        await world.settle(150)
        assert len(world.connected) == 1


# -- encryption -------------------------------------------------------------------------------------------------------


@pytest.mark.feature("SMTP-091", "SMTP-097")
async def test_listed_domains_get_tls(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(TLSDomains="x.*")
    sink = world.sink("x.test", "198.51.100.1")
    sink.certificate = world.certificate("mx0.x.test")
    await world.send("ann@x.test")
    await world.settle()
    assert sink.secure == [True]
    assert sink.words[:4] == ["EHLO", "STARTTLS", "EHLO", "MAIL"]


@pytest.mark.feature("SMTP-092", "SMTP-096")
async def test_the_certificate_may_be_the_domains(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(TLSDomains="mainhost.com")
    sink = world.sink("mainhost.com", "198.51.100.1")
    sink.certificate = world.certificate("mainhost.com")
    await world.send("u%client1.com@mainhost.com.smtp", "u%client2.com@mainhost.com.smtp")
    await world.settle()
    assert sink.secure == [True]
    assert sink.words.count("RCPT") == 2


@pytest.mark.feature("SMTP-092", "SMTP-093")
@pytest.mark.parametrize("kind", ["no tls", "wrong name", "unknown authority"])
async def test_listed_domains_are_never_sent_in_clear(autojump_clock: MockClock, world: Outside, kind: str) -> None:
    import ssl

    import trustme

    await world.set(TLSDomains="x.test")
    sink = world.sink("x.test", "198.51.100.1")
    if kind == "wrong name":
        sink.certificate = world.certificate("other.test")
    elif kind == "unknown authority":
        sink.certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("mx0.x.test").configure_cert(sink.certificate)
    await world.send("ann@x.test")
    await world.settle(5)
    assert sink.messages == []
    assert "MAIL" not in sink.words
    assert world.live == 0
    assert len(world.reports) == 1


@pytest.mark.feature("SMTP-094")
async def test_everything_encrypted_to_the_forwarding_server(autojump_clock: MockClock, world: Outside) -> None:
    await world.set(TLSDomains="*", ForwardTo="192.0.2.51")
    sink = world.sink("other.test", "192.0.2.51")
    sink.certificate = world.certificate("whatever.test")
    await world.send("ann@x.test")
    await world.settle()
    assert sink.secure == [True]


@pytest.mark.feature("SMTP-095")
async def test_tls_where_it_is_possible(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    sink.certificate = world.certificate("whatever.test")
    await world.send("ann@x.test")
    await world.settle()
    assert sink.secure == [True]
    broken = world.sink("y.test", "198.51.100.2")
    broken.breaks_tls = True
    await world.send("ann@y.test")
    await world.settle()
    assert (broken.secure, broken.connections) == ([False], 2)
    await world.set(TLSPossible="NO")
    await world.send("ann@x.test")
    await world.settle()
    assert sink.secure == [True, False]


@pytest.mark.feature("SMTP-098")
async def test_port_465_begins_with_tls(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("other.test", "198.51.100.1", port=465)
    sink.certificate = world.certificate("mail.x.test")
    sink.tls_first = True
    world.names.a["mail.x.test"] = ["198.51.100.1"]
    await world.send("ann@mail.x.test.465.smtp")
    await world.settle()
    assert sink.secure == [True]
    assert "STARTTLS" not in sink.words


@pytest.mark.feature("SMTP-131", "SMTP-132")
async def test_log_records(autojump_clock: MockClock, world: Outside) -> None:
    world.sink("x.test", "198.51.100.1")
    await world.send("ann@x.test")
    await world.settle()
    assert "2 SMTPO-1(x.test) [" in world.log.text()
    assert "relayed to mx0.x.test: 250 2.0.0 fine" in world.log.text()
    assert "5 SMTPO-1(x.test) MAIL: 250" in world.log.text()
    assert len(world.sessions) == 0


async def test_large_messages_stream(autojump_clock: MockClock, world: Outside) -> None:
    sink = world.sink("x.test", "198.51.100.1")
    text = b"Subject: x\nDate: x\nMessage-ID: <1@x>\n\n" + b"0123456789\n" * 100_000
    await world.send("ann@x.test", text=text)
    await world.settle()
    assert sink.messages == [text]
