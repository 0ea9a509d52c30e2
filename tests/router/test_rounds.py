"""The rounds of the modules, what nobody can change, and changes under load."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from appliance.kernel.disk import InLoopDisk
from appliance.kernel.log import MemoryLog
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.modules.local.routing import LocalRouting
from appliance.modules.local.settings import LOCAL
from appliance.modules.smtp.routing import SmtpRouting
from appliance.modules.smtp.settings import SMTP
from appliance.objects import declarations as d
from appliance.objects.domains import Domains
from appliance.router.route import Address, Purpose, Refused, Rewritten, Route
from appliance.router.router import DEFAULT_TABLE, ROUTER, TURNS, Router


class World:
    """A router with LOCAL and SMTP, as a server has it; `storage` outlives it."""

    def __init__(self, domains: Domains, storage: MemoryStorage) -> None:
        self.domains = domains
        self.log = MemoryLog()
        self.settings, self.smtp = Settings(ROUTER, storage), Settings(SMTP, MemoryStorage())
        self.router = Router(domains, self.settings, self.log.source("ROUTER"))
        local, smtp = LocalRouting(domains, Settings(LOCAL, MemoryStorage())), SmtpRouting(self.smtp)
        self.router.first += [local.first, smtp.first]
        self.router.final += [local.final, smtp.final]

    async def go(self, address: str, purpose: Purpose = Purpose.MAIL) -> str:
        try:
            route = await self.router.route(address, purpose)
        except Refused as refusal:
            return f"refused: {refusal.text}"
        return f"{route.module} {route.host} {route.address}"


async def make(folder: Path, storage: MemoryStorage | None = None) -> World:
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "stalker.com"}))
    await general.load()
    memory: dict[str, Storage] = {}
    domains = Domains(InLoopDisk(), str(folder), lambda path, mode: memory.setdefault(path, MemoryStorage()), general)
    await domains.load()
    await domains.create_account(domains.main, "support")
    client1 = await domains.create("client1.com")
    await domains.create_account(client1, "info")
    await domains.create_group(domains.main, "team", {"Members": ["support"]})
    for name, target in (("one", "two"), ("two", "one")):
        await domains.create_forwarder(client1, name, target)
    return World(domains, storage or MemoryStorage())


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await make(tmp_path)


class Step:
    """A module that takes list names in the first round."""

    def __init__(self, answers: dict[str, Route | Rewritten | None]) -> None:
        self.answers = answers

    async def first(self, address: Address) -> Route | Rewritten | None:
        if address.local == "bad":
            raise Refused("not with me")
        return self.answers.get(address.local)


@pytest.mark.feature("ROUTE-104", "ROUTE-105")
async def test_modules_are_asked_in_two_rounds_and_the_log_tells_what_they_said(world: World) -> None:
    lists = Step({"news-admin": Rewritten("support", ""), "news": Route("LIST", "news@stalker.com", "news", "news")})
    world.router.first.insert(0, lists.first)
    assert await world.go("news@stalker.com") == "LIST news@stalker.com news"
    assert await world.go("news-admin@stalker.com") == "LOCAL support@stalker.com support"
    assert await world.go("nobody@stalker.com") == "refused: unknown account"
    assert await world.go("bad@far.org") == "refused: not with me"
    text = world.log.text()
    for line in (
        "STEP accepted news: LIST(news@stalker.com)news",
        "STEP modified news-admin: support@",
        "STEP ignored nobody",
        "LOCAL rejected nobody: unknown account",
        "STEP rejected bad@far.org: not with me",
    ):
        assert line in text, line


@pytest.mark.feature("ROUTE-083")
async def test_uucp_is_refused_clearly_and_can_be_routed_elsewhere(world: World) -> None:
    assert await world.go("u@host.uucp") == "refused: there is no UUCP module"
    await world.settings.update({"Table": "*.uucp = gate.far.org"})
    assert await world.go("u@host.uucp") == "SMTP gate.far.org u@gate.far.org"


@pytest.mark.feature("ROUTE-135")
@pytest.mark.parametrize("purpose", [Purpose.MAIL, Purpose.ACCESS])
@pytest.mark.parametrize(
    "table", ["<postmaster> = support", "*.local = error", "<*@postmaster.local> = null\n* = null"]
)
async def test_the_postmaster_can_always_be_reached(world: World, table: str, purpose: Purpose) -> None:
    await world.settings.update({"Table": table})
    assert await world.go("abcd@postmaster.local", purpose) == "LOCAL postmaster@stalker.com abcd"
    assert await world.go("abcd@PostMaster.Local", purpose) == "LOCAL postmaster@stalker.com abcd"


@pytest.mark.feature("ROUTE-064")
async def test_default_records_that_were_removed_stay_away(tmp_path: Path) -> None:
    storage = MemoryStorage()
    first = await make(tmp_path / "one", storage)
    await first.settings.load()
    assert await first.go("root") == "LOCAL postmaster@stalker.com postmaster"
    await first.settings.update({"Table": DEFAULT_TABLE.replace("<root> = postmaster\n", "")})
    again = await make(tmp_path / "two", storage)
    await again.settings.load()
    assert await again.go("root") == "refused: unknown account"
    assert await again.go("support@localhost") == "LOCAL support@stalker.com support"
    await again.settings.update({"Table": ""})
    last = await make(tmp_path / "three", storage)
    await last.settings.load()
    assert await last.go("support@localhost") == "refused: unknown domain name"


@pytest.mark.feature("ROUTE-108", "ROUTE-109", "ROUTE-082")
async def test_smtp_takes_what_is_not_here(world: World) -> None:
    assert await world.go("u%far.org@relay.test.smtp") == "SMTP relay.test u@far.org"
    await world.settings.update({"Table": "x.com = mail.x.com.26.smtp"})
    assert await world.go("u@x.com") == "SMTP mail.x.com:26 u@mail.x.com"
    assert await world.go("a@b.com") == "SMTP b.com a@b.com"
    await world.smtp.update({"ForwardTo": "relay.isp.test"})
    assert await world.go("a@b.com") == "SMTP relay.isp.test a@b.com"
    assert await world.go("a@[192.0.2.1]") == "SMTP [192.0.2.1] a@[192.0.2.1]"


@pytest.mark.feature("ROUTE-048")
async def test_the_table_changes_under_load(world: World) -> None:
    """Every look-up sees a whole table, the old or the new one."""
    tables = [
        "".join(f"<u{n}> = support\nd{n}.test = {host}\n" for n in range(50)) for host in ("client1.com", "far.org")
    ]
    seen: set[str] = set()
    await world.settings.update({"Table": tables[0]})
    async with trio.open_nursery() as nursery:

        async def change() -> None:
            for number in range(60):
                await world.settings.update({"Table": tables[number % 2]})
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

        async def ask(number: int) -> None:
            while True:
                seen.add(await world.go(f"info@d{number}.test"))
                assert await world.go(f"u{number}") == "LOCAL support@stalker.com support"
                await trio.lowlevel.checkpoint()

        nursery.start_soon(change)
        for number in (0, 17, 49):
            nursery.start_soon(ask, number)
    assert seen == {"LOCAL info@client1.com info", "SMTP far.org info@far.org"}


@pytest.mark.feature("OBJ-044")
async def test_forwarders_that_name_each_other_end_with_an_error(world: World) -> None:
    assert await world.go("one@client1.com") == "refused: routing loop"
    assert await world.go("support") == "LOCAL support@stalker.com support"


async def test_who_cannot_be_asked_now_makes_a_temporary_error(world: World) -> None:
    async def directory(address: Address) -> Route | Rewritten | None:
        raise Refused("the directory does not answer", permanent=False, code="4.3.0")

    world.router.first.insert(0, directory)
    with pytest.raises(Refused) as refused:
        await world.router.route("support")
    assert not refused.value.permanent


NAMES = st.sampled_from(
    ["a", "support", "x.com", "client1.com", "*", "*.x", "a-*", "<a>", "<a*@x.com>", "b@c", "null", "error"]
)
RECORD = st.tuples(st.sampled_from(["", "R:", "NoRelay: ", "RelayAll:"]), NAMES, NAMES | st.text(max_size=12))
ADDRESS = st.lists(
    st.sampled_from(
        [
            "a",
            "support",
            "x",
            ".com",
            "@",
            "%",
            "!",
            '"',
            "\\",
            "#",
            "+",
            ":",
            ",",
            "<",
            ">",
            ".here",
            ".local",
            "[1.2.3.4]",
            "é",
        ]
    ),
    max_size=9,
)


@given(st.lists(RECORD, max_size=8), st.lists(ADDRESS, min_size=1, max_size=6))
@hypothesis_settings(max_examples=80, deadline=None)
def test_any_address_through_any_table_ends(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, str, str]], addresses: list[list[str]]
) -> None:
    """With a route or a refusal, in bounded turns, and one that can be routed again."""

    async def main() -> None:
        world = await make(tmp_path_factory.mktemp("router"))
        for prefix, left, right in records:
            table = f"{world.settings[ROUTER.settings[1]]}\n{prefix}{left} = {right}"
            try:
                await world.settings.update({"Table": table})
            except ValueError:
                continue
        turns = 0
        real = world.router._turn

        async def counted(address: Address, table: bool) -> Route | Rewritten:
            nonlocal turns
            turns += 1
            return await real(address, table)

        world.router._turn = counted  # type: ignore[method-assign]
        for parts in addresses:
            turns = 0
            for purpose in (Purpose.MAIL, Purpose.ACCESS):
                answer = await world.go("".join(parts), purpose)
                assert answer and turns <= 2 * TURNS

    trio.run(main)
