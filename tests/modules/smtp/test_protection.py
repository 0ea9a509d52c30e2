"""Protection of the receiving side: who is blacklisted and why, what a blacklisted host may do, limits of strangers."""

from __future__ import annotations

import base64

import pytest
import trio
import trio.testing

from appliance.formats.data import Value
from appliance.modules.smtp.protection.dnslists import question
from tests.modules.smtp.conftest import STRANGER, World

CLIENT = "192.0.2.1"
PTR = "7.113.0.203.rbl.test"


def login(text: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(text.encode()).decode()


async def refusal(world: World, address: str = STRANGER, *, client: bool = False) -> str:
    """The reply to a recipient here, of a session from that address."""
    peer = await world.connect(address, client=client)
    assert (await peer.say("MAIL FROM:<joe@far.test>")).startswith("250")
    reply = await peer.say("RCPT TO:<ann@box.test>")
    await peer.say("QUIT")
    return reply


# -- blacklists --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("PROT-090", "PROT-091", "PROT-002", "PROT-003", "PROT-105", "PROT-004", "STD-044")
async def test_the_list_of_our_own(world: World) -> None:
    text = "; offenders\n10.1.1.1 ; one\n\n203.0.113.001-203.0.113.009\n2001:db8::/32 ; IPv6"
    await world.protect(BlacklistedAddresses=text)
    for address in ("10.1.1.1", "203.0.113.1", "203.0.113.9", "2001:db8::7"):
        assert (await refusal(world, address)).startswith("591 5.7.1"), address
    assert (await refusal(world, "203.0.113.10")).startswith("250")
    await world.protect(WhiteHoleAddresses="203.0.113.5-203.0.113.7")
    assert (await refusal(world, "203.0.113.6")).startswith("250")
    assert (await refusal(world, "203.0.113.8")).startswith("591")
    assert world.resolver.asked == []


@pytest.mark.feature("PROT-097", "PROT-095", "SMTP-065", "SMTP-066")
@pytest.mark.parametrize(
    ("answer", "listed"),
    [
        (["127.0.0.2"], True),
        (["127.1.0.7"], True),
        (["127.1.255.255"], True),
        (["127.0.0.1"], False),
        (["127.2.0.1"], False),
        (["192.0.2.80"], False),
        ([], False),
        (["127.0.0.1", "127.0.0.4"], True),
    ],
)
async def test_answers_of_a_list_in_dns(world: World, answer: list[str], listed: bool) -> None:
    await world.protect(UseRBL="YES", RBLServers=[{"Server": "rbl.test"}])
    world.resolver.lists[PTR] = answer
    reply = await refusal(world)
    assert reply.startswith("591" if listed else "250")
    assert ("203.0.113.7 (rbl.test)" in reply) == listed


async def test_codes_of_a_list(world: World) -> None:
    await world.protect(UseRBL="YES", RBLServers=[{"Server": "rbl.test", "Codes": "127.0.0.9, 127.0.0.20-127.0.0.29"}])
    for answer, code in (("127.0.0.2", "250"), ("127.0.0.9", "591"), ("127.0.0.25", "591"), ("127.0.0.30", "250")):
        world.resolver.lists[PTR] = [answer]
        assert (await refusal(world))[:3] == code, answer


@pytest.mark.feature("PROT-098", "PROT-108")
async def test_who_is_not_asked_about(world: World) -> None:
    await world.protect(
        UseRBL="YES",
        RBLServers=[{"Server": "rbl.test"}],
        BlacklistedAddresses="203.0.113.9\n192.0.2.1",
        WhiteHoleAddresses="203.0.113.8",
        BlacklistByName="YES",
        BlacklistNames=["*"],
    )
    assert (await refusal(world, "203.0.113.9")).startswith("591")
    assert (await refusal(world, "203.0.113.8")).startswith("250")
    assert (await refusal(world, CLIENT, client=True)).startswith("250"), "a client is never blacklisted"
    assert world.resolver.asked == []
    await world.protect(UseRBL="NO", BlacklistByName="NO")
    assert (await refusal(world)).startswith("250")
    assert world.resolver.asked == [], "what is switched off costs nothing"


@pytest.mark.feature("PROT-099")
async def test_the_first_list_of_the_table_counts(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await world.protect(UseRBL="YES", RBLServers=[{"Server": f"{name}.test"} for name in ("one", "two", "three")])
    world.resolver.lists |= {f"7.113.0.203.{name}.test": ["127.0.0.2"] for name in ("two", "three")}
    world.resolver.slow = {"two.test": 3.0}
    assert "(two.test)" in await refusal(world)
    assert {name.rpartition(".203.")[2] for name in world.resolver.asked} == {"one.test", "two.test", "three.test"}


async def test_a_white_list_outweighs_the_others(world: World) -> None:
    servers: list[Value] = [{"Server": "black.test"}, {"Server": "good.test", "Use": "white", "Codes": "127.0.0.0/16"}]
    await world.protect(UseRBL="YES", RBLServers=servers)
    world.resolver.lists["7.113.0.203.black.test"] = ["127.0.0.2"]
    assert (await refusal(world)).startswith("591")
    world.resolver.lists["7.113.0.203.good.test"] = ["127.0.5.1"]
    assert (await refusal(world)).startswith("250")


@pytest.mark.feature("PROT-100")
async def test_five_lists_take_as_long_as_the_slowest_and_a_dead_one_is_left_out(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    names = ["a.test", "b.test", "c.test", "d.test", "dead.test"]
    await world.protect(UseRBL="YES", RBLServers=[{"Server": name} for name in names], RBLPause="10m")
    world.resolver.slow = {name: 1.0 for name in names} | {"dead.test": 60.0}
    start = trio.current_time()
    assert (await refusal(world)).startswith("250"), "a dead list blocks nothing"
    assert trio.current_time() - start == pytest.approx(10.0)
    assert "dead.test is left out for 600 seconds" in world.log.text()
    start = trio.current_time()
    assert (await refusal(world)).startswith("250")
    assert trio.current_time() - start == pytest.approx(1.0)
    await trio.sleep(600)
    world.resolver.slow = {}
    world.resolver.lists["7.113.0.203.dead.test"] = ["127.0.0.2"]
    assert (await refusal(world)).startswith("591"), "it is asked again"
    world.resolver.silent.add("dead.test")
    assert (await refusal(world)).startswith("250")
    asked = len(world.resolver.asked)
    assert (await refusal(world)).startswith("250")
    assert len(world.resolver.asked) - asked == 4


async def test_the_client_talks_while_the_lists_are_asked(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await world.protect(UseRBL="YES", RBLServers=[{"Server": "rbl.test"}])
    world.resolver.slow = {"rbl.test": 5.0}
    start = trio.current_time()
    peer = await world.connect()
    assert trio.current_time() == start, "greeting and EHLO wait for nobody"
    await peer.say("MAIL FROM:<joe@far.test>")
    assert trio.current_time() - start == pytest.approx(5.0)
    quick = await world.connect()
    await quick.say("QUIT")
    assert await quick.is_closed() and trio.current_time() - start == pytest.approx(5.0)


@pytest.mark.feature("SMTP-032", "PROT-096")
async def test_who_has_authenticated_is_not_blacklisted(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await world.set(ClearAuth="everybody")
    await world.protect(UseRBL="YES", RBLServers=[{"Server": "rbl.test"}])
    world.resolver.lists[PTR] = ["127.0.0.2"]
    world.resolver.slow = {"rbl.test": 5.0}
    for early in (True, False):
        peer = await world.connect()
        if not early:
            assert (await peer.say("MAIL FROM:<joe@box.test>", "RCPT TO:<ann@box.test>", "RSET")).startswith("250")
        assert (await peer.say(login("\0joe\0pw"))).startswith("235")
        await peer.say("MAIL FROM:<joe@box.test>")
        assert (await peer.say("RCPT TO:<x@far.test>")).startswith("250")
        await trio.sleep(10)
        assert (await peer.say("RCPT TO:<ann@box.test>")).startswith("250")


@pytest.mark.feature("PROT-102", "PROT-103")
async def test_blacklisting_by_name(world: World) -> None:
    await world.protect(BlacklistByName="YES", BlacklistNames=["*.dialup.test", "host name is unknown"])
    world.resolver.ptr |= {STRANGER: ["h7.dialup.test"], "203.0.113.20": ["mail.good.test"]}
    reply = await refusal(world)
    assert reply.startswith("591") and "(h7.dialup.test)" in reply
    assert (await refusal(world, "203.0.113.20")).startswith("250")
    assert "(host name is unknown)" in await refusal(world, "203.0.113.21")
    world.resolver.silent.add("203.0.113.22")
    assert (await refusal(world, "203.0.113.22")).startswith("250"), "no answer condemns nobody"


@pytest.mark.feature("PROT-106", "PROT-107")
async def test_names_that_protect(world: World) -> None:
    await world.protect(
        UseRBL="YES", RBLServers=[{"Server": "rbl.test"}], WhiteHoleByName="YES", WhiteHoleNames=["*.good.test"]
    )
    world.resolver.lists[PTR] = ["127.0.0.2"]
    world.resolver.ptr[STRANGER] = ["mx.good.test"]
    assert (await refusal(world)).startswith("591"), "anybody can give his address a good name"
    world.resolver.a["mx.good.test"] = [STRANGER]
    assert (await refusal(world)).startswith("250")
    await world.protect(BlacklistedAddresses=STRANGER)
    assert (await refusal(world)).startswith("591"), "but not against our own list"


def test_questions_to_lists() -> None:
    assert question("192.0.2.99") == "99.2.0.192"
    assert question("2001:db8:1:2:3:4:567:89ab") == "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"


# -- clients by name ---------------------------------------------------------------------------------------------------


@pytest.mark.feature("PROT-020", "PROT-021", "PROT-022")
async def test_clients_by_name(world: World, autojump_clock: trio.testing.MockClock) -> None:
    peers, resolver = world.guard.peers, world.resolver
    resolver.ptr |= {STRANGER: ["h1.campus.test"], "203.0.113.8": ["h2.campus.test"], "203.0.113.9": ["a.other.test"]}
    resolver.a |= {"h1.campus.test": [STRANGER], "h2.campus.test": ["198.51.100.1"], "a.other.test": ["203.0.113.9"]}
    assert not peers.detects() and not await peers.detect(STRANGER)
    await world.addresses(ClientByName="YES", ClientNames=["*.campus.test"])
    assert not await peers.detect("127.0.0.1")
    assert resolver.asked == [], "listed addresses and a switch that is off make no packet"
    assert peers.detects() and await peers.detect(STRANGER)
    assert peers.listed(STRANGER) and peers.client(STRANGER) and peers.may_log_in(STRANGER)
    assert not await peers.detect("203.0.113.8"), "the name does not have the address"
    assert not await peers.detect("203.0.113.9") and not await peers.detect("203.0.113.10")
    count = len(resolver.asked)
    assert await peers.detect(STRANGER) and not await peers.detect("203.0.113.8")
    assert len(resolver.asked) == count, "one question for an address"
    await world.addresses(ClientNames=["*.other.test"])
    assert not peers.listed(STRANGER) and await peers.detect("203.0.113.9")
    await world.addresses(ClientByName="NO")
    assert not peers.listed("203.0.113.9")


async def test_a_name_that_takes_too_long_is_none(world: World, autojump_clock: trio.testing.MockClock) -> None:
    world.resolver.slow[STRANGER] = 600
    await world.addresses(ClientByName="YES", ClientNames=["*"])
    start = trio.current_time()
    assert not await world.guard.peers.detect(STRANGER)
    assert trio.current_time() - start == pytest.approx(10.0)


# -- HELO --------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("SMTP-038", "PROT-081", "PROT-070", "SMTP-037", "PROT-083")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("mail.far.test", "250"),
        ("only-mx.test", "250"),
        ("nonexistent.invalid", "550"),
        ("pc1", "250"),
        ("laptop.local", "250"),
        ("exchange.office.lan", "250"),
        ("[203.0.113.7]", "250"),
        ("[192.168.1.5]", "550"),
        ("silent.test", "451"),
    ],
)
async def test_helo_names_of_strangers(world: World, name: str, code: str) -> None:
    world.names.mx["only-mx.test"] = ["mx.far.test"]
    world.names.silent.add("silent.test")
    peer = await world.connect(ehlo=False)
    assert (await peer.say(f"EHLO {name}")).startswith("250"), "a user may still authenticate"
    assert (await peer.say("MAIL FROM:<joe@far.test>"))[:3] == code
    assert (await peer.say("MAIL FROM:<>" if code != "250" else "NOOP"))[:3] == code
    if name == "pc1":
        assert name not in world.names.asked
    for whom, client in (("non-clients", True), ("nobody", False)):
        await world.set(VerifyPath=whom)
        other = await world.connect(CLIENT if client else STRANGER, client=client, ehlo=False)
        world.names.asked.clear()
        assert (await other.say(f"HELO {name}", "MAIL FROM:<joe@nowhere.test>"))[:3] == "250"
        assert world.names.asked == []
    await world.set(VerifyPath="everybody")
    other = await world.connect(CLIENT, client=True, ehlo=False)
    wanted = "550" if name == "[203.0.113.7]" else code
    assert (await other.say(f"HELO {name}", "MAIL FROM:<joe@far.test>"))[:3] == wanted


async def test_a_user_with_any_computer_name_authenticates(world: World) -> None:
    await world.set(ClearAuth="everybody")
    peer = await world.connect(ehlo=False)
    await peer.say("EHLO laptop.home.invalid", login("\0joe\0pw"))
    assert (await peer.say("MAIL FROM:<joe@box.test>")).startswith("250")


# -- limits of strangers -----------------------------------------------------------------------------------------------


async def test_harvesters_are_turned_away(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await world.protect(HarvestLimit="7", HarvestPeriod="10m", ErrorDelay="0")
    for name in range(6):
        peer = await world.connect()
        assert (await peer.say("MAIL FROM:<joe@far.test>", f"RCPT TO:<try{name}@box.test>")).startswith("550")
        await peer.say("QUIT")
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>")
    assert (await peer.say("RCPT TO:<try7@box.test>")).startswith("421 4.7.0 too many unknown recipients")
    assert await peer.is_closed()
    with pytest.raises(AssertionError):
        await world.connect()
    assert (await (await world.connect("203.0.113.99")).say("NOOP")).startswith("250")
    await trio.sleep(601)
    await world.connect()
    assert "names too many unknown recipients" in world.log.text()


async def test_what_is_stopped_can_begin_anew(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await world.protect(
        UseRBL="YES", RBLServers=[{"Server": "dead.test"}], HarvestLimit="1", Devices=[{**DEVICE, "PerHour": "1"}]
    )
    world.resolver.silent.add("dead.test")
    peer = await world.connect("203.0.113.60")
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<nosuch@box.test>")
    scanner = await world.connect()
    await scanner.say("MAIL FROM:<>", "RCPT TO:<x@far.test>", "RCPT TO:<x@far.test>")
    assert world.guard.status() == {
        "Harvesters": ["203.0.113.60"],
        "Lists": ["dead.test"],
        "Devices": [STRANGER],
        "Accounts": [],
    }
    for name in ("203.0.113.60", "dead.test", STRANGER):
        assert world.guard.reset(name)
    assert not world.guard.reset("203.0.113.60") and not any(world.guard.status().values())
    await world.connect("203.0.113.60")
    assert (await scanner.say("RCPT TO:<x@far.test>")).startswith("250")


async def test_clients_and_known_senders_are_no_harvesters(world: World) -> None:
    await world.protect(HarvestLimit="2", ErrorDelay="0")
    await world.set(ClearAuth="everybody")
    for client in (True, False):
        peer = await world.connect(CLIENT if client else STRANGER, client=client)
        if not client:
            await peer.say(login("\0joe\0pw"))
        await peer.say("MAIL FROM:<joe@box.test>")
        for name in range(5):
            assert (await peer.say(f"RCPT TO:<try{name}@box.test>")).startswith("550")


@pytest.mark.feature("PROT-133")
async def test_delays_are_as_the_settings_say(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await world.protect(ErrorsBeforeDelay="2", ErrorDelay="3s", MaxErrorDelay="5s")
    peer = await world.connect()
    times = []
    for _ in range(5):
        start = trio.current_time()
        assert (await peer.say("FOO")).startswith("500")
        times.append(round(trio.current_time() - start, 1))
    assert times == [0, 0, 3, 5, 5]
    member = await world.connect("203.0.113.50", member=True)
    start = trio.current_time()
    for _ in range(5):
        await member.say("FOO")
    assert trio.current_time() == start


async def test_messages_of_a_session(world: World) -> None:
    await world.protect(SessionMessages="2")
    peer = await world.connect()
    for _ in range(2):
        assert (await peer.message(b"Subject: x\r\n\r\nx\r\n")).startswith("250")
    assert (await peer.say("MAIL FROM:<joe@far.test>")).startswith("421 4.5.3")
    assert await peer.is_closed()


@pytest.mark.feature("PROT-134", "SMTP-019")
async def test_a_very_long_command_line_does_no_harm(world: World) -> None:
    peer = await world.connect()
    assert (await peer.say("NOOP " + "x" * 70_000)).startswith("500")
    assert (await peer.say("NOOP")).startswith("250")


# -- read, then send ---------------------------------------------------------------------------------------------------


@pytest.mark.feature("SMTP-035", "PROT-048")
async def test_a_user_who_reads_his_mail_in_between_may_send(world: World) -> None:
    await world.addresses(RememberMobile="YES")
    peer = await world.connect()
    await peer.say("MAIL FROM:<ann@box.test>")
    assert (await peer.say("RCPT TO:<x@far.test>")).startswith("450 4.7.1")
    world.guard.peers.logged_in(STRANGER)
    assert (await peer.say("RCPT TO:<x@far.test>")).startswith("250")


@pytest.mark.feature("PROT-044")
async def test_a_session_that_began_in_time_may_last(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await world.addresses(RememberMobile="YES", KeepMobile="60s")
    peers = world.guard.peers
    peers.logged_in(STRANGER)
    peers.logged_out(STRANGER)
    peer = await world.connect(client=peers.client(STRANGER))
    await trio.sleep(120)
    assert not peers.client(STRANGER)
    await peer.say("MAIL FROM:<ann@box.test>")
    assert (await peer.say("RCPT TO:<x@far.test>")).startswith("250")


# -- devices and accounts ----------------------------------------------------------------------------------------------

DEVICE: dict[str, Value] = {"Sender": "scanner@box.test", "Addresses": "203.0.113.7 ; 2nd floor", "PerHour": "3"}


async def test_a_device_sends_under_its_own_name_only(world: World) -> None:
    await world.protect(Devices=[DEVICE])
    await world.set(ForceAuth="everybody", VerifyPath="everybody")
    peer = await world.connect(ehlo=False)
    await peer.say("HELO nonsense.invalid")
    text = b'Subject: scan\r\nFrom: "Second floor" <root@localhost>\r\n\r\nimage\r\n'
    assert (await peer.message(text, "boss@box.test", "x@far.test")).startswith("250")
    (message,) = world.messages
    assert message.sender == "scanner@box.test" and message.source.account is None
    content = await world.content()
    assert b'\nFrom: "Second floor" <scanner@box.test>\nX-Original-From: "Second floor" <root@localhost>\n' in content
    assert b"Message-ID: " in content
    assert (await peer.message(b"no header\r\n", "", "x@far.test")).startswith("250")
    assert b"\nFrom: <scanner@box.test>\n" in await world.content()


async def test_a_device_is_no_offender(world: World) -> None:
    await world.protect(Devices=[DEVICE], BlacklistedAddresses=STRANGER, HarvestLimit="2", ErrorDelay="0")
    peer = await world.connect()
    await peer.say("MAIL FROM:<>")
    for name in range(4):
        assert (await peer.say(f"RCPT TO:<typo{name}@box.test>")).startswith("550")
    assert (await peer.say("RCPT TO:<ann@box.test>")).startswith("250")


async def test_a_device_has_a_cap(world: World, autojump_clock: trio.testing.MockClock) -> None:
    await world.protect(Devices=[DEVICE])
    await world.set(CommandTimeout="1h")
    peer = await world.connect()
    await peer.say("MAIL FROM:<a@b.test>", "RCPT TO:<x@far.test>", "RCPT TO:<y@far.test>", "RCPT TO:<ann@box.test>")
    assert (await peer.say("RCPT TO:<z@far.test>")).startswith("450 4.7.1 this device has sent too much")
    assert (await peer.say("RCPT TO:<z@far.test>")).startswith("450")
    records = world.log.text().splitlines()
    assert sum("3 recipients in an hour are reached" in text for text in records) == 1
    await trio.sleep(1201)
    assert (await peer.say("RCPT TO:<z@far.test>")).startswith("250")
    stranger = await world.connect("203.0.113.6")
    await stranger.say("MAIL FROM:<a@far.test>")
    assert (await stranger.say("RCPT TO:<x@far.test>")).startswith("550"), "nobody else may do so"


async def test_a_person_at_the_address_of_a_device_keeps_his_name(world: World) -> None:
    await world.protect(Devices=[DEVICE])
    await world.set(ClearAuth="everybody")
    peer = await world.connect()
    await peer.say(login("\0joe\0pw"))
    assert (await peer.message(b"Subject: x\r\n\r\nx\r\n", "joe@box.test", "x@far.test")).startswith("250")
    assert world.messages[0].sender == "joe@box.test"


@pytest.mark.parametrize("sender", ["scanner", "a b@c", "<a@b.test>"])
async def test_a_device_needs_an_address(world: World, sender: str) -> None:
    with pytest.raises(ValueError, match="Devices"):
        await world.protect(Devices=[{"Sender": sender, "Addresses": STRANGER}])


async def test_an_account_has_a_cap_on_what_it_sends_out(world: World, autojump_clock: trio.testing.MockClock) -> None:
    world.limits["joe@box.test"] = 2
    await world.set(ClearAuth="everybody", CommandTimeout="1h")
    peer = await world.connect()
    await peer.say(login("\0joe\0pw"), "MAIL FROM:<joe@box.test>")
    for name, code in (("x@far", "250"), ("ann@box", "250"), ("y@far", "250"), ("z@far", "450"), ("bob@box", "250")):
        assert (await peer.say(f"RCPT TO:<{name}.test>"))[:3] == code, name
    assert (await peer.say("RCPT TO:<w@far.test>")).startswith("450 4.7.1 this account has sent too much mail")
    assert world.alarms == ["joe@box.test: the limit of outgoing mail is reached: 2 recipients an hour"]
    assert "the limit of outgoing mail is reached" in world.log.text()
    await trio.sleep(1801)
    assert (await peer.say("RCPT TO:<z@far.test>")).startswith("250")


# -- extensions --------------------------------------------------------------------------------------------------------


async def test_limits_are_told(world: World) -> None:
    await world.set(RcptLimit="30")
    peer = await world.connect(ehlo=False)
    assert "250-LIMITS RCPTMAX=30\n" in await peer.say("EHLO pc.test")
    await world.protect(SessionMessages="5")
    assert "250-LIMITS RCPTMAX=30 MAILMAX=5\n" in await peer.say("EHLO pc.test")


async def test_a_message_in_chunks(world: World) -> None:
    peer = await world.connect(ehlo=False)
    assert "250-CHUNKING\n" in await peer.say("EHLO pc.test")
    await peer.say("MAIL FROM:<joe@far.test> BODY=8BITMIME", "RCPT TO:<ann@box.test>")
    await peer.channel.send(b"BDAT 21\r\nSubject: chunks\r\n\r\n.\r")
    assert await peer.reply() == "250 2.0.0 21 octets received"
    await peer.channel.send(b"BDAT 6\r\n\nRSET\nBDAT 0 LAST\r\n")
    assert (await peer.reply()).startswith("550 5.6.11"), "a lone LF"
    assert (await peer.reply()).startswith("503")
    assert not world.messages and not world.files()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>")
    await peer.channel.send(b"BDAT 21\r\nSubject: chunks\r\n\r\n.\rBDAT 9 LAST\r\n\n.\r\nlastXNOOP\r\n")
    assert [(await peer.reply())[:9] for _ in range(3)] == ["250 2.0.0", "250 2.0.0", "250 2.0.0"]
    assert (await world.content()).endswith(b"Subject: chunks\n\n.\n.\nlastX\n")


async def test_chunks_are_refused_as_messages_are(world: World) -> None:
    await world.router.settings.update({"Table": "<trap> = spamtrap\n"})
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>", "RCPT TO:<trap@box.test>")
    await peer.channel.send(b"BDAT 7\r\nQUIT\r\n\nBDAT 6 LAST\r\nQUIT\r\n")
    assert (await peer.reply()).startswith("550 5.7.1")
    assert (await peer.reply()).startswith("503")
    await world.set(SizeLimit="1K")
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>")
    await peer.channel.send(b"BDAT 2000 LAST\r\n" + b"x" * 2000)
    assert (await peer.reply()).startswith("552 5.3.4")
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>")
    await peer.channel.send(b"BDAT 3\r\na\r\n")
    assert (await peer.reply()).startswith("250")
    assert (await peer.say("RSET")).startswith("250")
    assert not world.messages and not world.files()
    assert (await peer.say("MAIL FROM:<joe@far.test> BODY=BINARYMIME")).startswith("501")


async def test_an_empty_message_in_chunks_and_a_broken_connection(world: World) -> None:
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>")
    assert (await peer.say("BDAT 0 LAST")).startswith("250")
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>")
    await peer.channel.send(b"BDAT 400000\r\n" + b"x" * 62 + b"\r\n" + (b"y" * 62 + b"\r\n") * 4000)
    peer.channel.close()
    await trio.testing.wait_all_tasks_blocked()
    assert len(world.messages) == 1 and not [name for name in world.files() if name.endswith(".tmp")]
