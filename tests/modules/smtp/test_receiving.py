"""What a client of the receiving side sees, and what is then in the queue."""

from __future__ import annotations

import base64
import ssl

import pytest
import trio
import trio.testing
import trustme

from appliance.kernel.memory_channel import channel_pair
from tests.modules.smtp.conftest import STRANGER, Peer, World

TEXT = b"From: joe@far.test\r\nSubject: hello\r\n\r\nfirst\r\n"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.feature("SMTP-007", "SMTP-008", "SMTP-009", "SMTP-049", "SMTP-023", "STD-042")
async def test_a_message_from_outside(world: World) -> None:
    peer = await world.connect(ehlo=False)
    offers = await peer.say("EHLO mail.far.test")
    for word in ("PIPELINING", "SIZE 10485760", "8BITMIME", "DSN", "ETRN", "ENHANCEDSTATUSCODES", "AUTH SCRAM"):
        assert word in offers
    assert "STARTTLS" not in offers
    assert await peer.say("MAIL FROM:<joe@far.test>") == "250 2.1.0 joe@far.test sender accepted"
    assert await peer.say("RCPT TO:<ann@box.test>") == "250 2.1.5 ann@box.test will leave the Internet"
    assert (await peer.say("DATA")).startswith("354 ")
    assert not world.messages
    await peer.channel.send(TEXT + b"..dot\r\n.\r\n")
    assert (await peer.reply()).startswith("250 2.0.0 ")
    assert await peer.say("QUIT") == "221 2.0.0 Pillarbox SMTP closing connection"
    assert await peer.is_closed()
    (message,) = world.messages
    assert (message.sender, [one.address for one in message.recipients]) == ("joe@far.test", ["ann@box.test"])
    assert (message.source.module, message.source.address, message.source.trusted) == ("SMTP", STRANGER, False)
    content = await world.content()
    assert content.endswith(b"\n\nfirst\n.dot\n")
    assert (
        b"Received: from mail.far.test ([203.0.113.7])\n  by box.test (Pillarbox SMTP 1.0)\n  with ESMTP id 1.1"
        in content
    )
    assert b" for <ann@box.test>; Tue, 14 Nov 2023" in content
    assert b"Date: " in content
    assert b"Message-ID" not in content


@pytest.mark.feature("SMTP-007")
async def test_the_greeting_can_be_changed(world: World) -> None:
    peer = await world.connect(ehlo=False)
    assert peer.greeting == "220 box.test ESMTP Pillarbox 1.0"
    await world.around.strings.change({"SMTPNormalPrompt": "hello from ^1", "SMTPByeBye": "so long"})
    assert (await peer.say("QUIT")).endswith("so long")
    peer = await world.connect(ehlo=False)
    assert peer.greeting == "220 hello from box.test"


@pytest.mark.feature("SMTP-023")
async def test_a_text_without_a_header_gets_one(world: World) -> None:
    peer = await world.connect("192.0.2.1", client=True)
    assert (await peer.message(b"just text\r\n")).startswith("250")
    content = await world.content()
    head, _, body = content.partition(b"\n\n")
    assert body == b"just text\n"
    assert b"Message-ID: <" in head
    assert b"\nFrom: <joe@far.test>" in head
    assert (await peer.message(b"")).startswith("250")


@pytest.mark.feature("MISC-020", "MISC-021", "MISC-022", "MISC-023", "STD-047", "SMTP-023")
async def test_messages_are_completed_and_nothing_else_is_changed(world: World) -> None:
    stranger, client = await world.connect(), await world.connect("192.0.2.1", client=True)
    assert (await stranger.message(b"only text\r\nof two lines\r\n")).startswith("250")
    content = await world.content()
    header, _, text = content.partition(b"\n\n")
    names = [line.partition(b":")[0] for line in header.split(b"\n") if line[:1].strip()]
    assert sorted(names) == [b"Date", b"From", b"Received"] and text == b"only text\nof two lines\n"
    assert b"Date: Tue, 14 Nov 2023 22:13:20 +0000\n" in content
    own = b"Date: yesterday, I think\r\nMESSAGE-ID: what?\r\nSubject:no blank\r\n\tand folded\r\n\r\nx\r\n"
    for peer in (stranger, client):
        assert (await peer.message(own)).startswith("250")
        assert (await world.content()).endswith(own.replace(b"\r\n", b"\n"))
        assert b"14 Nov" in (await world.content()).partition(b"Date: yester")[0], "only in the trace"
        assert (await world.content()).count(b"Date:") == 1
    assert (await client.message(b"Subject: x\r\n\r\nx\r\n")).startswith("250")
    assert (await world.content()).count(b"Message-ID: <") == 1
    assert (await stranger.message(b"Subject: x\r\n\r\nx\r\n")).startswith("250")
    assert b"Message-ID" not in await world.content()


@pytest.mark.feature("SMTP-010", "STD-031")
async def test_a_batch_is_answered_in_one_piece(world: World) -> None:
    peer = await world.connect()
    await peer.send("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>", "RCPT TO:<nobody@box.test>", "DATA")
    await trio.testing.wait_all_tasks_blocked()
    piece = await peer.channel.receive()
    assert [line[:3] for line in piece.split(b"\r\n")] == [b"250", b"250", b"550", b"354", b""]
    await peer.channel.send(TEXT + b".\r\nRSET\r\nQUIT\r\n")
    assert [(await peer.reply())[:3] for _ in range(3)] == ["250", "250", "221"]


@pytest.mark.feature("SMTP-048", "SMTP-057", "STD-042")
async def test_unknown_and_special_recipients(world: World) -> None:
    await world.router.settings.update({"Table": "<junk> = null\n<bad> = error\n"})
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>")
    assert (await peer.say("RCPT TO:<nobody@box.test>")) == "550 5.1.1 nobody@box.test unknown account"
    assert (await peer.say("RCPT TO:<bad@box.test>")).startswith("550 5.7.1")
    assert (await peer.say("DATA")).startswith("503")
    assert (await peer.say("RCPT TO:<junk@box.test>")).startswith("250")
    assert (await peer.say("RCPT TO:<postmaster>")).startswith("250")


@pytest.mark.feature("SMTP-056")
async def test_a_spam_trap_refuses_the_whole_message(world: World) -> None:
    await world.router.settings.update({"Table": "<misterx> = spamtrap\n"})
    peer = await world.connect()
    assert (await peer.message(TEXT, "joe@far.test", "ann@box.test", "misterx@box.test")).startswith("550")
    assert not world.messages


@pytest.mark.feature("SMTP-050", "STD-034", "STD-043", "PROT-005", "PROT-006", "PROT-007", "PROT-008", "PROT-009")
async def test_strangers_cannot_relay(world: World) -> None:
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>")
    assert await peer.say("RCPT TO:<a@x.test>") == "550 5.7.1 a@x.test we do not relay"
    assert (await peer.say("RCPT TO:<ann@box.test>")).startswith("250")
    assert (await peer.say("RCPT TO:<a%x.test@box.test>")).startswith("550 5.7.1")
    assert (await peer.say("RCPT TO:<@box.test:a@x.test>")).startswith("550 5.7.1")
    client = await world.connect("192.0.2.1", client=True)
    assert await client.message(TEXT, "joe@far.test", "a@x.test") != ""
    assert world.messages[-1].recipients[0].address == "a@x.test"
    assert world.messages[-1].source.client
    await world.set(RelayFrom="nobody")
    await client.say("MAIL FROM:<joe@far.test>")
    assert (await client.say("RCPT TO:<a@x.test>")).startswith("550")
    await world.set(RelayFrom="everybody")
    await peer.say("RSET", "MAIL FROM:<joe@far.test>")
    assert await peer.say("RCPT TO:<a@x.test>") == "250 2.1.5 a@x.test will be relayed"


@pytest.mark.feature("SMTP-036", "PROT-047")
async def test_a_user_on_the_road_is_asked_to_authenticate(world: World) -> None:
    peer = await world.connect()
    await peer.say("MAIL FROM:<ann@box.test>")
    assert (await peer.say("RCPT TO:<a@x.test>")).startswith("450 4.7.1")


@pytest.mark.feature("SMTP-051", "SMTP-052", "SMTP-061", "PROT-010", "PROT-011", "PROT-012", "PROT-013", "PROT-014")
async def test_relaying_to_clients(world: World) -> None:
    world.names.a["clienthost.test"] = ["192.0.2.1"]
    world.names.a["half.test"] = ["192.0.2.1", "198.51.100.9"]
    await world.router.settings.update(
        {"Table": "x.test = x.test@[192.0.2.1:26]\nNoRelay:y.test = y.test@[10.0.0.5:26]\n"}
    )
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>")
    assert (await peer.say("RCPT TO:<u@clienthost.test>")).startswith("250")
    assert (await peer.say("RCPT TO:<u%h@clienthost.test>")).startswith("550")
    assert (await peer.say('RCPT TO:<"a b"@clienthost.test>')).startswith("550")
    assert (await peer.say("RCPT TO:<u@[192.0.2.1]>")).startswith("250")
    assert (await peer.say("RCPT TO:<u@half.test>")).startswith("550")
    assert (await peer.say("RCPT TO:<u@y.test>")).startswith("550")
    assert (await peer.say("RCPT TO:<u@x.test>")).startswith("250")
    await world.set(RelayToClients="all")
    assert (await peer.say("RCPT TO:<u%h@clienthost.test>")).startswith("250")
    await world.set(RelayToClients="no")
    assert (await peer.say("RCPT TO:<u@clienthost.test>")).startswith("550")


@pytest.mark.feature("SMTP-053", "PROT-016")
async def test_relaying_to_domains_that_we_back_up(world: World) -> None:
    world.names.mx["x.test"] = ["mail.x.test", "BOX.test"]
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>")
    assert (await peer.say("RCPT TO:<u@x.test>")).startswith("250")
    await world.set(RelayBackup="NO")
    assert (await peer.say("RCPT TO:<u@x.test>")).startswith("550")


@pytest.mark.feature("SMTP-054", "PROT-060", "PROT-061")
async def test_table_records_mark_addresses_for_relaying(world: World) -> None:
    table = "<out> = someone@x.test\nNoRelay:<shut> = someone@x.test\n"
    await world.router.settings.update({"Table": table})
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>")
    assert (await peer.say("RCPT TO:<out@box.test>")).startswith("250")
    assert (await peer.say("RCPT TO:<shut@box.test>")).startswith("550")
    client = await world.connect("192.0.2.1", client=True)
    await client.say("MAIL FROM:<joe@far.test>")
    assert (await client.say("RCPT TO:<shut@box.test>")).startswith("250")


@pytest.mark.feature("SMTP-026", "SMTP-027", "SMTP-034", "STD-033", "PROT-040", "PROT-050")
async def test_who_has_authenticated_may_relay(world: World) -> None:
    await world.set(ClearAuth="everybody")
    peer = await world.connect()
    assert (await peer.say("AUTH PLAIN " + b64("\0joe\0no"))).startswith("535 5.7.8")
    assert (await peer.say("AUTH PLAIN " + b64("\0slow\0pw"))).startswith("454 4.7.0")
    assert (await peer.say("AUTH PLAIN " + b64("\0joe\0pw"))).startswith("235 2.7.0")
    assert (await peer.message(TEXT, "joe@box.test", "a@x.test")).startswith("250")
    source = world.messages[-1].source
    assert (source.account, source.trusted) == ("joe@box.test", True)
    content = await world.content()
    assert b"(account joe@box.test)" in content
    assert b"with ESMTPA" in content
    peer = await world.connect()
    assert await peer.say("AUTH LOGIN") == "334 VXNlcm5hbWU6"
    assert await peer.say(b64("nora")) == "334 UGFzc3dvcmQ6"
    assert (await peer.say(b64("pw"))).startswith("235")
    await peer.say("MAIL FROM:<ann@box.test>")
    assert (await peer.say("RCPT TO:<a@x.test>")).startswith("550 5.7.1")


@pytest.mark.feature("SMTP-026", "STD-021")
async def test_cram_md5(world: World) -> None:
    import hmac

    peer = await world.connect()
    challenge = (await peer.say("AUTH CRAM-MD5"))[4:]
    digest = hmac.new(b"pw", base64.b64decode(challenge), "md5").hexdigest()
    assert (await peer.say(b64(f"joe {digest}"))).startswith("235")
    peer = await world.connect()
    await peer.say("AUTH CRAM-MD5")
    assert (await peer.say(b64(f"joe {'0' * 32}"))).startswith("535")
    await peer.say("AUTH CRAM-MD5")
    assert (await peer.say("*")).startswith("501")


async def test_no_clear_password_without_tls(world: World) -> None:
    peer = await world.connect()
    assert "PLAIN" not in await peer.say("EHLO x")
    assert (await peer.say("AUTH PLAIN " + b64("\0joe\0pw"))).startswith("538")
    assert (await peer.say("AUTH FOO")).startswith("504")
    peer = await world.connect("192.0.2.1", client=True)
    assert "LOGIN" in await peer.say("EHLO x")
    assert (await peer.say("AUTH PLAIN " + b64("\0joe\0pw"))).startswith("235")


@pytest.mark.feature("SMTP-028")
async def test_auth_that_is_not_advertised_works(world: World) -> None:
    await world.set(AdvertiseAuth="nobody", ClearAuth="everybody")
    peer = await world.connect()
    assert "AUTH" not in await peer.say("EHLO x")
    assert (await peer.say("AUTH LOGIN")).startswith("334")


async def test_guessing_passwords_ends_the_session(world: World) -> None:
    await world.set(ClearAuth="everybody")
    peer = await world.connect()
    for _ in range(4):
        assert (await peer.say("AUTH PLAIN " + b64("\0joe\0no"))).startswith("535")
    assert (await peer.say("AUTH PLAIN " + b64("\0joe\0no"))).startswith("421")
    assert await peer.is_closed()


@pytest.mark.feature("SMTP-030")
async def test_force_auth(world: World) -> None:
    await world.set(ForceAuth="everybody", ClearAuth="everybody")
    peer = await world.connect()
    assert (await peer.say("MAIL FROM:<ann@box.test>")).startswith("530 5.7.0")
    assert (await peer.say("MAIL FROM:<joe@far.test>")).startswith("250")
    await peer.say("RSET", "AUTH PLAIN " + b64("\0joe\0pw"))
    assert (await peer.say("MAIL FROM:<ann@box.test>")).startswith("250")


@pytest.mark.feature("SMTP-031")
async def test_force_auth_counts_fixed_clients_only(world: World) -> None:
    await world.set(ForceAuth="non-clients")
    peer = await world.connect("203.0.113.50", client=True)
    assert (await peer.say("MAIL FROM:<ann@box.test>")).startswith("530 5.7.0")
    peer = await world.connect("192.0.2.1", client=True)
    assert (await peer.say("MAIL FROM:<ann@box.test>")).startswith("250")


@pytest.mark.feature("SMTP-047", "PROT-082")
async def test_members_of_the_cluster_are_not_verified(world: World) -> None:
    peer = await world.connect("203.0.113.50", member=True)
    assert (await peer.say("EHLO any-name-at-all")).startswith("250")
    assert (await peer.say("MAIL FROM:<a@nomx.test>")).startswith("250")
    assert world.names.asked == []
    for _ in range(30):
        assert (await peer.say("FOO")).startswith("500")


@pytest.mark.feature("SMTP-005", "SMTP-006", "STD-035", "STD-019")
async def test_starttls(world: World) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("box.test").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    peer = await world.connect()
    assert "STARTTLS" not in await peer.say("EHLO x")
    assert (await peer.say("STARTTLS")).startswith("454")

    near, far = channel_pair(client=STRANGER)
    far.certificate = lambda: server
    assert world.nursery is not None
    world.nursery.start_soon(world._serve, far)
    peer = Peer(near)
    await peer.reply()
    assert "STARTTLS" in await peer.say("EHLO x")
    await peer.say("MAIL FROM:<joe@far.test>")
    assert (await peer.say("STARTTLS")).startswith("220")
    await near.start_tls(trusting, server_side=False, hostname="box.test")
    assert (await peer.say("RCPT TO:<ann@box.test>")).startswith("503")
    offers = await peer.say("EHLO x")
    assert "STARTTLS" not in offers
    assert "PLAIN" in offers
    assert (await peer.say("STARTTLS")).startswith("503")
    assert (await peer.message(TEXT)).startswith("250")
    assert b"with ESMTPS " in await world.content()


@pytest.mark.feature("SMTP-011", "STD-038")
async def test_the_size_that_is_told(world: World) -> None:
    await world.set(SizeLimit="10K")
    peer = await world.connect()
    assert "SIZE 10240" in await peer.say("EHLO x")
    assert (await peer.say("MAIL FROM:<joe@far.test> SIZE=20000")).startswith("552 5.3.4")
    assert (await peer.say("MAIL FROM:<joe@far.test> SIZE=10000")).startswith("250")


@pytest.mark.feature("SMTP-012")
async def test_the_size_that_is_sent(world: World) -> None:
    await world.set(SizeLimit="200K")
    peer = await world.connect()
    assert (await peer.message(b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 30000)).startswith("552 5.3.4")
    assert not world.messages
    assert world.files() == []
    assert (await peer.message(TEXT)).startswith("250")


@pytest.mark.feature("SMTP-013")
async def test_the_recipients_limit(world: World) -> None:
    await world.set(RcptLimit="2")
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>", "RCPT TO:<bob@box.test>")
    assert (await peer.say("RCPT TO:<joe@box.test>")).startswith("452 4.5.3")
    await peer.say("DATA")
    await peer.channel.send(TEXT + b".\r\n")
    assert (await peer.reply()).startswith("250")
    assert len(world.messages[-1].recipients) == 2


@pytest.mark.feature("SMTP-014")
async def test_8bitmime_is_advertised_by_the_setting(world: World) -> None:
    await world.set(Advertise8Bit="nobody")
    peer = await world.connect()
    assert "8BITMIME" not in await peer.say("EHLO x")
    assert (await peer.message(b"Subject: x\r\n\r\n\xff\xe9\r\n")).startswith("250")
    assert (await world.content()).endswith(b"\n\xff\xe9\n")


@pytest.mark.feature("STD-037", "SMTP-016")
async def test_dsn_parameters_are_kept(world: World) -> None:
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test> RET=HDRS ENVID=x+3D1 AUTH=<>")
    await peer.say(
        "RCPT TO:<ann@box.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b", "RCPT TO:<bob@box.test> NOTIFY=NEVER"
    )
    await peer.say("DATA")
    await peer.channel.send(TEXT + b".\r\n")
    assert (await peer.reply()).startswith("250")
    message = world.messages[-1]
    assert (message.ret, message.envid) == ("hdrs", "x=1")
    assert [(one.notify, one.orcpt) for one in message.recipients] == [("SD", "rfc822;a@b"), ("N", "")]


@pytest.mark.feature("SMTP-021")
async def test_names_without_a_domain_belong_to_the_address(world: World) -> None:
    near, far = channel_pair(client=STRANGER)
    far.domain = "client1.com"
    assert world.nursery is not None
    world.nursery.start_soon(world._serve, far)
    peer = Peer(near)
    assert "client1.com" in await peer.reply()
    await peer.say("EHLO x")
    assert (await peer.message(TEXT, "joe@far.test", "info")).startswith("250")
    assert world.messages[-1].recipients[0].address == "info@client1.com"


@pytest.mark.feature("SMTP-022")
async def test_a_broken_connection_leaves_nothing(world: World) -> None:
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>", "DATA")
    await peer.channel.send(b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 50000)
    await trio.testing.wait_all_tasks_blocked()
    peer.channel.close()
    await trio.testing.wait_all_tasks_blocked()
    assert not world.messages
    assert world.files() == []


async def test_large_messages_stream_and_are_durable(world: World) -> None:
    peer = await world.connect()
    text = b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 100_000
    assert (await peer.message(text)).startswith("250")
    assert (await world.content()).endswith(text.replace(b"\r\n", b"\n"))


@pytest.mark.feature("SMTP-024")
async def test_too_many_hops(world: World) -> None:
    peer = await world.connect()
    assert (await peer.message(b"Received: from x by y; z\r\n" * 100 + b"\r\n")).startswith("554 5.4.6")
    assert not world.messages


@pytest.mark.feature("SMTP-019", "QUEUE-034")
async def test_long_header_fields(world: World) -> None:
    peer = await world.connect()
    assert (await peer.message(b"Subject: " + b"x" * 120_000 + b"\r\n\r\n")).startswith("554")
    assert (await peer.message(b"Subject: x\r\n\r\n" + b"x" * 200_000 + b"\r\n")).startswith("250")


@pytest.mark.feature("SMTP-025")
async def test_errors_slow_the_session_down_and_end_it(world: World, autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    peer = await world.connect()
    begin = trio.current_time()
    for _ in range(20):
        assert (await peer.say("FOO")).startswith("500")
    assert trio.current_time() - begin > 20
    assert (await peer.say("FOO")).startswith("421 4.7.0")
    assert await peer.is_closed()


async def test_too_many_unknown_recipients_end_the_session(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    await world.set(UnknownRcptLimit="3")
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>")
    for number in range(3):
        assert (await peer.say(f"RCPT TO:<x{number}@box.test>")).startswith("550")
    assert (await peer.say("RCPT TO:<x9@box.test>")).startswith("421")


async def test_a_byte_now_and_then_is_not_enough(world: World, autojump_clock: trio.testing.MockClock) -> None:
    del autojump_clock
    peer = await world.connect()
    begin = trio.current_time()
    for byte in b"NOOP" * 100:
        try:
            await peer.channel.send(bytes([byte]))
        except Exception:
            break
        await trio.sleep(60)
    assert trio.current_time() - begin <= 420
    assert (await peer.reply()).startswith("421 4.4.2")
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>", "DATA")
    begin = trio.current_time()
    peer.channel.timeout = 3600
    assert (await peer.reply()).startswith("421")
    assert 590 < trio.current_time() - begin < 620
    assert not world.messages


@pytest.mark.feature(
    "SMTP-037",
    "SMTP-039",
    "SMTP-041",
    "SMTP-043",
    "SMTP-044",
    "SMTP-045",
    "SMTP-046",
    "STD-046",
    "PROT-071",
    "PROT-072",
    "PROT-074",
    "PROT-075",
    "PROT-077",
    "PROT-078",
    "PROT-079",
    "PROT-080",
    "PROT-083",
)
@pytest.mark.parametrize(
    ("sender", "code"),
    [
        ("", "250"),
        ("a@far.test", "250"),
        ("ann@box.test", "250"),
        ("nosuch@box.test", "550"),
        ("joe", "553"),
        ("a@nomx.test", "550"),
        ("a@deadmx.test", "550"),
        ("a@nomail.test", "550"),
        ("a@silent.test", "451"),
        ("a@black.test", "550"),
        ("a@[203.0.113.9]", "550"),
        ("a@[192.0.2.1]", "250"),
        ("a@printer", "550"),
    ],
)
async def test_return_paths_of_strangers(world: World, sender: str, code: str) -> None:
    names = world.names
    names.mx |= {"deadmx.test": ["gone.test"], "nomail.test": [""], "black.test": ["spammer.test"]}
    names.a["spammer.test"] = ["10.9.9.9"]
    names.silent.add("silent.test")
    await world.protect(BlacklistedAddresses="10.9.9.9")
    peer = await world.connect()
    assert (await peer.say(f"MAIL FROM:<{sender}>"))[:3] == code
    if sender.endswith("box.test"):
        assert names.asked == []
    client = await world.connect("192.0.2.1", client=True)
    names.asked.clear()
    assert (await client.say(f"MAIL FROM:<{sender}>"))[:3] == ("550" if sender.startswith("nosuch") else "250")
    assert names.asked == []


@pytest.mark.feature("SMTP-042", "PROT-076")
async def test_senders_whose_host_is_blacklisted(world: World) -> None:
    world.names.a["black.test"] = ["10.9.9.9"]
    await world.protect(BlacklistedAddresses="10.9.9.9 ; spammer")
    peer = await world.connect()
    assert (await peer.say("MAIL FROM:<a@black.test>")).startswith("550 5.7.1")


@pytest.mark.feature("SMTP-040")
async def test_senders_banned_in_the_router(world: World) -> None:
    await world.router.settings.update({"Table": "<promo*@far.test> = error\n"})
    peer = await world.connect()
    assert (await peer.say("MAIL FROM:<promo1@far.test>")).startswith("550")
    assert (await peer.say("MAIL FROM:<joe@far.test>")).startswith("250")


@pytest.mark.feature(
    "SMTP-062", "SMTP-063", "SMTP-064", "SMTP-065", "SMTP-032", "PROT-091", "PROT-092", "PROT-093", "PROT-094"
)
async def test_a_blacklisted_host(world: World) -> None:
    await world.protect(UseRBL="YES", RBLServers=[{"Server": "rbl.test"}])
    world.resolver.lists["7.113.0.203.rbl.test"] = ["127.0.0.2"]
    await world.set(ClearAuth="everybody")
    peer = await world.connect()
    assert (await peer.say("MAIL FROM:<a@nowhere.test>")).startswith("250")
    refusal = await peer.say("RCPT TO:<ann@box.test>")
    assert refusal.startswith("591 5.7.1 Your host 203.0.113.7 (rbl.test) is blacklisted")
    assert refusal.endswith("blacklist-admin@box.test")
    assert (await peer.say("RCPT TO:<blacklist-admin@box.test>")).startswith("250")
    await world.router.settings.update({"Table": "<abuse*@blacklisted> = ann\n"})
    assert "No mail will be accepted" in await peer.say("RCPT TO:<ann@box.test>")
    assert (await peer.say("RCPT TO:<abuse@any.test>")).startswith("250")
    await peer.say("RSET", "AUTH PLAIN " + b64("\0joe\0pw"), "MAIL FROM:<joe@box.test>")
    assert (await peer.say("RCPT TO:<ann@box.test>")).startswith("250")


@pytest.mark.feature("SMTP-017")
async def test_commands_that_say_little(world: World) -> None:
    peer = await world.connect()
    assert (await peer.say("VRFY postmaster")).startswith("252 ")
    assert "postmaster" not in await peer.say("VRFY postmaster")
    assert (await peer.say("EXPN list")).startswith("252 ")
    assert (await peer.say("NOOP")).startswith("250")
    assert (await peer.say("HELP")).startswith("214")
    assert (await peer.say("TURN")).startswith("502")
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>", "RSET")
    assert (await peer.say("DATA")).startswith("503")


@pytest.mark.feature("SMTP-110", "SMTP-116")
async def test_wake_up_mail_is_taken_from_whom_the_setting_says(world: World) -> None:
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>")
    assert (await peer.say("RCPT TO:<client.com-wakeup@box.test>")).startswith("250")
    await world.set(WakeupFrom="clients")
    assert (await peer.say("RCPT TO:<client.com-wakeup@box.test>")).startswith("550")


@pytest.mark.feature("SMTP-107", "SMTP-108", "SMTP-110", "STD-036")
async def test_etrn_releases_the_queue_of_the_host(world: World) -> None:
    released: list[str] = []

    def release(host: str) -> bool:
        released.append(host)
        return host == "mail.client.test"

    world.around.release = release
    await world.router.settings.update({"Table": "client.test = mail.client.test\n"})
    peer = await world.connect()
    assert (await peer.say("ETRN client.test")).startswith("250")
    assert (await peer.say("ETRN @client.test")).startswith("250")
    assert (await peer.say("ETRN #other.test")).startswith("251")
    assert released == ["mail.client.test", "mail.client.test", "other.test"]
    assert (await peer.say("ETRN a b")).startswith("501")
    assert (await peer.say("ETRN nodot")).startswith("459")
    await world.set(WakeupFrom="clients")
    assert (await peer.say("ETRN client.test")).startswith("459")


async def test_no_space(world: World) -> None:
    world.spool.space_low = True
    peer = await world.connect()
    assert (await peer.message(TEXT)).startswith("452 4.3.1")
    world.spool.space_low = False
    assert (await peer.say("DATA")).startswith("354")


@pytest.mark.feature("SMTP-131")
async def test_log_records(world: World) -> None:
    peer = await world.connect()
    await peer.message(TEXT)
    text = world.log.text()
    assert "4 SMTP-1 [" in text
    assert "5 SMTP-1 inp: Mail(" in text
    assert "5 SMTP-1 out: 250 2.1.0 joe@far.test sender accepted" in text


async def test_passwords_are_not_logged(world: World) -> None:
    await world.set(ClearAuth="everybody")
    peer = await world.connect()
    await peer.say("AUTH PLAIN " + b64("\0joe\0secret"))
    await peer.say("AUTH LOGIN", b64("joe"))
    await peer.say(b64("hidden"))
    for secret in ("secret", "hidden", b64("hidden"), b64("\0joe\0secret")):
        assert secret not in world.log.text()


async def test_farewell_and_refusal(world: World) -> None:
    assert world.service.refusal.startswith(b"421 4.3.2 ")
    assert world.service.farewell("going down").startswith(b"421 4.3.2 going down")
