"""Which addresses strangers may send to through us: Router records, forwarders, servers that trust each other."""

from __future__ import annotations

import pytest

from tests.modules.smtp.conftest import World


async def replies(world: World, *addresses: str, client: bool = False) -> list[str]:
    """The codes of these recipients, for a stranger or a client."""
    peer = await world.connect("192.0.2.1" if client else "203.0.113.7", client=client)
    await peer.say("MAIL FROM:<joe@far.test>")
    return [(await peer.say(f"RCPT TO:<{address}>"))[:3] for address in addresses]


async def table(world: World, *records: str) -> None:
    await world.router.settings.update({"Table": "\n".join(records) + "\n"})


@pytest.mark.feature("PROT-062", "PROT-066", "SMTP-054")
async def test_no_relay_does_not_take_the_mark_away(world: World) -> None:
    await table(world, "<joe> = joe5@bigprovider.test", "NoRelay:bigprovider.test = bigprovider.test@relay3.test.smtp")
    assert await replies(world, "joe@box.test", "someone@bigprovider.test") == ["250", "550"]
    assert await replies(world, "someone@bigprovider.test", client=True) == ["250"]
    route = await world.router.route("joe@box.test")
    assert (route.module, route.host, route.address) == ("SMTP", "relay3.test", "joe5@bigprovider.test")


@pytest.mark.feature("PROT-063", "PROT-064")
async def test_the_mark_is_for_simple_addresses_unless_all_are_meant(world: World) -> None:
    await table(world, "Relay:partner.test = partner.test@relay.test.smtp", "RelayAll:all.test = all.test@r.test.smtp")
    complex_forms = ("u%x.test@partner.test", "u%x.test@all.test")
    assert await replies(world, "u@partner.test", *complex_forms) == ["250", "550", "250"]
    assert await replies(world, "u@partner.test", *complex_forms, client=True) == ["250", "250", "250"]


@pytest.mark.feature("PROT-065")
async def test_prefixes_in_all_their_forms(world: World) -> None:
    await table(
        world,
        "Relay: friend.test = friend.test@friend.test.smtp",
        "R:short.test = short.test@r.test.smtp",
        "N:big.test = big.test@r.test.smtp",
        "n: <quiet> = q@out.test",
        "NoRelay: <still> = s@out.test",
        "Relay:<loud> = l@out.test",
        "RelayAll: <every-*@wide.test> = every-*@out.test",
    )
    addresses = ("a@friend.test", "a@short.test", "a@big.test", "quiet@box.test", "still@box.test", "loud@box.test")
    assert await replies(world, *addresses, "every-one@wide.test") == ["250", "250", "550", "550", "550", "250", "250"]


@pytest.mark.feature("PROT-067")
async def test_a_forwarder_marks_as_a_record_does(world: World) -> None:
    await world.domains.create_forwarder(world.domains.main, "away", "someone@out.test")
    assert await replies(world, "away@box.test", "someone@out.test") == ["250", "550"]


@pytest.mark.feature("PROT-073", "SMTP-040")
@pytest.mark.parametrize(
    ("record", "refused", "taken"),
    [
        ("far.test = error", "joe@far.test", "joe@pc.test"),
        ("<*@far.test> = error", "joe@far.test", "joe@pc.test"),
        ("<promo*@far.test> = error", "promo7@far.test", "joe@far.test"),
    ],
)
async def test_senders_that_the_router_bans(world: World, record: str, refused: str, taken: str) -> None:
    await table(world, record)
    peer = await world.connect()
    assert (await peer.say(f"MAIL FROM:<{refused}>")).startswith("550")
    assert (await peer.say(f"MAIL FROM:<{taken}>")).startswith("250")


@pytest.mark.feature("PROT-015")
async def test_two_servers_that_trust_each_other_are_no_chain(world: World) -> None:
    """server2 is a client host of ours, and would relay what comes from us."""
    world.names.a["server2.test"] = ["192.0.2.1"]
    world.names.mx["server2.test"] = ["server2.test"]
    assert await replies(
        world,
        "user%victim.test@server2.test",
        "@server2.test:user@victim.test",
        "server2.test!victim.test!user",
        '"user@victim.test"@server2.test',
        "user@server2.test",
    ) == ["550", "550", "550", "550", "250"]


@pytest.mark.feature("PROT-110", "PROT-111", "SMTP-056")
async def test_records_make_spam_traps(world: World) -> None:
    await table(world, "<misterX> = spamtrap", "<johnsmith@subdomain.test> = spamtrap")
    for trap in ("misterX@box.test", "johnsmith@subdomain.test", "spamtrap@box.test"):
        peer = await world.connect()
        assert (await peer.message(b"Subject: x\r\n\r\nx\r\n", "joe@far.test", "ann@box.test", trap))[:3] == "550"
    assert not world.messages


@pytest.mark.feature("PROT-131", "SMTP-012")
async def test_what_is_too_large_is_read_and_never_stored(world: World) -> None:
    await world.set(SizeLimit="1M")
    peer = await world.connect()
    await peer.say("MAIL FROM:<joe@far.test>", "RCPT TO:<ann@box.test>", "DATA")
    line = b"x" * 1022 + b"\r\n"
    for _ in range(12):
        await peer.channel.send(line * 1024)
        assert sum(world.size_of(name) for name in world.files()) <= 1 << 21
    assert (await peer.say(".")).startswith("552 5.3.4")
    assert world.files() == [] and not world.messages
