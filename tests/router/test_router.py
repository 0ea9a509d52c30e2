"""The router: paths, the table, special addresses, local objects, loops. Each case is an address and where it goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from appliance.kernel.disk import InLoopDisk
from appliance.kernel.log import MemoryLog
from appliance.kernel.operations import Caller, Operations
from appliance.kernel.settings import MemoryStorage, SettingError, Settings, Storage
from appliance.modules.local.routing import LocalRouting
from appliance.modules.local.settings import LOCAL
from appliance.objects import declarations as d
from appliance.objects.domains import Domains
from appliance.router.parsing import parse
from appliance.router.route import Address, Purpose, Refused, Rewritten, Route
from appliance.router.router import ROUTER, Router
from appliance.router.table import RoutingTable, TableError


class Fake:
    """What SMTP does in the router, in short."""

    async def first(self, address: Address) -> Route | Rewritten | None:
        if address.domain.lower().endswith(".smtp"):
            return Route(
                "SMTP", address.domain[:-5].lower(), address.local, address.original, address.simple, address.relay
            )
        if address.domain.startswith("["):
            return Route("SMTP", address.domain, address.local, address.original, address.simple, address.relay)
        return None

    async def final(self, address: Address) -> Route | Rewritten | None:
        if "." in address.domain:
            host = address.domain.lower()
            return Route("SMTP", host, f"{address.local}@{host}", address.original, address.simple, address.relay)
        return None


class World:
    def __init__(self, domains: Domains) -> None:
        self.domains = domains
        self.log = MemoryLog()
        self.settings = Settings(ROUTER, MemoryStorage())
        self.local = Settings(LOCAL, MemoryStorage())
        self.router = Router(
            domains,
            self.settings,
            self.log.source("ROUTER"),
            {"10.0.0.1": "stalker.com", "10.0.0.2": "client1.com"}.get,
        )
        local, smtp = LocalRouting(domains, self.local), Fake()
        self.router.first += [local.first, smtp.first]
        self.router.final += [local.final, smtp.final]

    async def table(self, text: str) -> None:
        await self.settings.update({"Table": text})

    async def go(self, address: str, purpose: Purpose = Purpose.MAIL, caller: Caller | None = None) -> str:
        try:
            route = await self.router.route(address, purpose, caller)
        except Refused as refusal:
            return f"refused: {refusal.text}"
        return f"{route.module} {route.host} {route.address}"


@pytest.fixture
async def world(tmp_path: Path) -> World:
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "stalker.com"}))
    await general.load()
    memory: dict[str, Storage] = {}
    domains = Domains(InLoopDisk(), str(tmp_path), lambda path, mode: memory.setdefault(path, MemoryStorage()), general)
    await domains.load()
    client1 = await domains.create("client1.com")
    await domains.set_domain_aliases(client1, ["mail.client1.com"])
    for name in ("support", "bill", "cl1", "js"):
        await domains.create_account(domains.main, name)
    await domains.create_account(client1, "info", settings={"Aliases": ["information"]})
    await domains.create_account(client1, "unknowns")
    await domains.create_forwarder(client1, "fwd", "someone@far.org")
    await domains.create_forwarder(client1, "near", "info")
    await domains.create_group(client1, "team", {"Members": ["info"]})
    return World(domains)


@pytest.mark.feature("ROUTE-001", "ROUTE-002", "ROUTE-003", "ROUTE-004", "ROUTE-006", "ROUTE-100")
@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("xxxx@yyyyy", "xxxx", "yyyyy"),
        ("<@zzzz.com:a@b.com>", "a%b.com", "zzzz.com"),
        ("<@z.com,@y.com:a@b.com>", "a%b.com%y.com", "z.com"),
        ("zzzz.com!b.com!a", "a%b.com", "zzzz.com"),
        ("xxxx%yyyyy@zzzz", "xxxx%yyyyy", "zzzz"),
        ('"a b"@dom', "a b", "dom"),
        ('"a@b"@dom', "a@b", "dom"),
        ("u@1.2.3.4", "u", "[1.2.3.4]"),
        ("u@host.", "u", "host"),
        ("plain", "plain", ""),
    ],
)
def test_paths_become_local_and_domain(text: str, local: str, domain: str) -> None:
    assert parse(text) == (local, domain)


@pytest.mark.feature(
    "ROUTE-007", "ROUTE-008", "ROUTE-009", "ROUTE-010", "ROUTE-011", "ROUTE-012", "ROUTE-070", "ROUTE-072", "ROUTE-073", "ROUTE-075",
    "ROUTE-076", "ROUTE-079", "ROUTE-080", "ROUTE-081", "ROUTE-087", "ROUTE-101", "ROUTE-102", "ROUTE-103", "ROUTE-106", "ROUTE-107",
    "ROUTE-110", "ROUTE-112", "LOCAL-001", "LOCAL-002", "LOCAL-004", "LOCAL-005", "LOCAL-006", "LOCAL-007", "LOCAL-008", "LOCAL-009",
    "LOCAL-010", "LOCAL-020", "ACCT-072", "OBJ-036", "OBJ-037", "OBJ-038", "ROUTE-060", "ROUTE-061", "ROUTE-062", "ROUTE-063",
)  # fmt: skip
@pytest.mark.parametrize(
    ("address", "goes"),
    [
        ("support", "LOCAL support@stalker.com support"),
        ("SUPPORT@Stalker.COM", "LOCAL support@stalker.com SUPPORT"),
        ("sales%gamma.com@stalker.com", "SMTP gamma.com sales@gamma.com"),
        ("<@stalker.com:sales@gamma.com>", "SMTP gamma.com sales@gamma.com"),
        ("info@client1.com", "LOCAL info@client1.com info"),
        ("information@client1.com", "LOCAL info@client1.com information"),
        ("info@MAIL.client1.com", "LOCAL info@client1.com info"),
        ("nobody@client1.com", "refused: unknown account"),
        ("fwd@client1.com", "SMTP far.org someone@far.org"),
        ("near@client1.com", "LOCAL info@client1.com info"),
        ("team@client1.com", "LIST team@client1.com team"),
        ("user@any.dom", "SMTP any.dom user@any.dom"),
        ("user@[192.0.2.1]", "SMTP [192.0.2.1] user"),
        ("info@[10.0.0.2]", "LOCAL info@client1.com info"),
        ("support@[10.0.0.1]", "LOCAL support@stalker.com support"),
        ("support@10.0.0.1", "LOCAL support@stalker.com support"),
        ("x@cl1.local", "LOCAL cl1@stalker.com x"),
        ("any@postmaster.local", "LOCAL postmaster@stalker.com any"),
        ("foo%unknowns@client1.com.domain", "LOCAL unknowns@client1.com foo"),
        ("u%h@relay.smtp", "SMTP relay u%h"),
        ("null", "SYSTEM null null"),
        ("x@null", "SYSTEM null x"),
        ("MAILER-DAEMON", "SYSTEM null null"),
        ("error@stalker.com", "refused: Blacklisted Address"),
        ("x@error", "refused: Blacklisted Address"),
        ("x@blacklisted", "refused: Blacklisted Address"),
        ("spamtrap", "refused: Blacklisted Address"),
        ("u@server1", "refused: unknown domain name"),
        ("LoginPage@client1.com", "LOCAL LoginPage@client1.com LoginPage"),
        ("root", "LOCAL postmaster@stalker.com postmaster"),
        ("support@localhost", "LOCAL support@stalker.com support"),
        ("support@mailhost", "LOCAL support@stalker.com support"),
        ("blacklist-admin%x.com@blacklisted", "LOCAL postmaster@stalker.com postmaster"),
        ("all@client1.com", "refused: unknown account"),
    ],
)
async def test_a_fresh_server_routes(world: World, address: str, goes: str) -> None:
    assert await world.go(address) == goes


@pytest.mark.feature(
    "ROUTE-005", "ROUTE-020", "ROUTE-021", "ROUTE-022", "ROUTE-023", "ROUTE-024", "ROUTE-028", "ROUTE-029", "ROUTE-030", "ROUTE-031",
    "ROUTE-032", "ROUTE-034", "ROUTE-035", "ROUTE-036", "ROUTE-037", "ROUTE-038", "ROUTE-039", "ROUTE-040", "ROUTE-041", "ROUTE-043",
    "ROUTE-044", "ROUTE-045", "ROUTE-046", "ROUTE-047", "ROUTE-071", "ROUTE-074", "ROUTE-077", "ROUTE-078", "ROUTE-113", "LOCAL-080",
)  # fmt: skip
@pytest.mark.parametrize(
    ("table", "address", "goes"),
    [
        ("a.com = b.com\nb.com = c.com", "x@a.com", "SMTP c.com x@c.com"),
        ("*.com = first.org\na.com = second.org", "x@a.com", "SMTP first.org x@first.org"),
        ("; a comment\n\n  <a>   =  support   ; c", "a", "LOCAL support@stalker.com support"),
        ("hq.s.com = hq.s.com@relay.s.com", "u@hq.s.com", "SMTP relay.s.com u%hq.s.com@relay.s.com"),
        ("*.old.com = *.new.com", "x@a.old.com", "SMTP a.new.com x@a.new.com"),
        ("system-*.my.com = uu*.far.org", "x@system-7.my.com", "SMTP uu7.far.org x@uu7.far.org"),
        ("*.stalker.com = stalker.com", "support@mail.stalker.com", "LOCAL support@stalker.com support"),
        ("here.org =", "support@here.org", "LOCAL support@stalker.com support"),
        ("uni.com = cl1.local", "abc@uni.com", "LOCAL cl1@stalker.com abc"),
        ("<sales@client1.com> = bill", "sales@client1.com", "LOCAL bill@stalker.com bill"),
        ("<info@client1.com> = bill", "info@client1.com", "LOCAL bill@stalker.com bill"),
        ("<sales> = Bill@thatcompany.com", "sales", "SMTP thatcompany.com Bill@thatcompany.com"),
        ("<sales@stalker.com> = bill", "sales@stalker.com", "refused: unknown account"),
        ("<dept-*> = postmaster@*-dept.my.com", "dept-x", "SMTP x-dept.my.com postmaster@x-dept.my.com"),
        ("<*@client5.com> = cl*", "1@client5.com", "LOCAL cl1@stalker.com cl1"),
        ("<FAX=*> = *", "FAX=support", "LOCAL support@stalker.com support"),
        ("<LoginPage%*@d.dom> = *@far.dom", "LoginPage%x@d.dom", "SMTP far.dom x@far.dom"),
        ("bad.com = null", "x@bad.com", "SYSTEM null x"),
        ("<junk> = null", "junk", "SYSTEM null null"),
        ("<promo*@off.com> = error", "promo1@off.com", "refused: Blacklisted Address"),
        ("<misterX> = spamtrap", "misterx", "refused: Blacklisted Address"),
        ("client1.com = client1.com.here\n*1.com = far.org", "info@client1.com", "LOCAL info@client1.com info"),
        ("a.com = b.com\nb.com = a.com", "x@a.com", "refused: routing loop"),
        ("<*%x.com@relay.com> = *@y.org", "<@relay.com:a@x.com>", "SMTP y.org a@y.org"),
        ("Relay: friend.com = friend.com@friend.com.smtp", "a@friend.com", "SMTP friend.com a%friend.com"),
    ],
)  # fmt: skip
async def test_table_records(world: World, table: str, address: str, goes: str) -> None:
    await world.table(table)
    assert await world.go(address) == goes


@pytest.mark.feature("ROUTE-025", "ROUTE-026", "ROUTE-027")
@pytest.mark.parametrize(
    ("table", "address", "relay"),
    [
        ("<user> = user@other.host", "user", True),
        ("", "user@other.host", False),
        ("N:<user> = user@other.host", "user", False),
        ("R:<user> = u2@client9.com\nNoRelay:<u2@client9.com> = u@other.host", "user", True),
        ("<report-*@h.com> = report-*@c1.com", "report-a%x.com@h.com", False),
        ("RelayAll:<report-*@h.com> = report-*@c1.com", "report-a%x.com@h.com", True),
    ],
)
async def test_the_relay_mark(world: World, table: str, address: str, relay: bool) -> None:
    await world.table(table)
    assert (await world.router.route(address)).relay is relay


@pytest.mark.feature("ROUTE-033", "ROUTE-042", "ROUTE-049")
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a=b\n*.x.* = y", "line 2"),
        ("<a@*.com> = b", "line 1"),
        ("a = b\n\nnonsense", "line 3"),
        ("<a = b", "line 1"),
        ("<a> =", "line 1"),
    ],
)
async def test_a_wrong_table_is_refused_with_its_line(world: World, text: str, line: str) -> None:
    before = world.settings["Table"]
    with pytest.raises(SettingError, match=line):
        await world.table(text)
    assert world.settings["Table"] == before


@pytest.mark.feature("ROUTE-111")
async def test_names_without_a_dot_can_be_completed(world: World) -> None:
    await world.settings.update({"AddSuffix": "YES", "Suffix": ".myorg.org"})
    assert await world.go("u@server1") == "SMTP server1.myorg.org u@server1.myorg.org"


@pytest.mark.feature("LOCAL-021", "LOCAL-022", "LOCAL-023", "LOCAL-024", "LOCAL-026", "LOCAL-027", "ROUTE-132")
@pytest.mark.parametrize(
    ("policy", "target", "address", "goes"),
    [
        ("Discarded", "", "foo@client1.com", "SYSTEM null null"),
        ("Rerouted to", "support@stalker.com", "foo@client1.com", "LOCAL support@stalker.com support"),
        ("Rerouted to", "bad-*@mon.dep.com", "foo@client1.com", "SMTP mon.dep.com bad-foo@mon.dep.com"),
        ("Rerouted to", "*%client1.com@other.dom.smtp", "foo@client1.com", "SMTP other.dom foo%client1.com"),
        ("Rerouted to", "*%Unknowns@client1.com.domain", "foo@client1.com", "LOCAL unknowns@client1.com foo"),
        ("Accepted and Bounced", "", "foo@client1.com", "LOCAL foo@client1.com foo"),
    ],
)
async def test_unknown_names(world: World, policy: str, target: str, address: str, goes: str) -> None:
    domain = world.domains.require("client1.com")
    await domain.settings.update({"MailToUnknown": policy, "MailRerouteAddress": target})
    assert await world.go(address) == goes
    assert await world.go(address, Purpose.ACCESS) == "refused: unknown account"


@pytest.mark.feature("LOCAL-090", "LOCAL-092", "LOCAL-093", "LOCAL-095", "LOCAL-096", "LOCAL-097")
async def test_direct_mailbox_and_detail(world: World) -> None:
    route = await world.router.route('"Sales#support"')
    assert (route.host, route.mailbox) == ("support@stalker.com", "Sales")
    assert await world.go("support+x") == "refused: unknown account"
    await world.local.update({"AccountDetail": "Enabled"})
    assert await world.go("support+x") == "LOCAL support@stalker.com support"
    await world.local.update({"AccountDetail": "Direct Mailbox"})
    assert (await world.router.route("support+jokes")).mailbox == "jokes"
    await world.local.update({"DirectMailbox": "NO"})
    assert await world.go("Sales#support") == "refused: unknown account"


@pytest.mark.feature("LOCAL-030", "LOCAL-031", "LOCAL-032")
async def test_all_domain_aliases(world: World) -> None:
    await world.local.update({"AllDomainAliases": [{"Name": "abuse", "Address": "postmaster@stalker.com"}]})
    assert await world.go("ABUSE@client1.com") == "LOCAL postmaster@stalker.com postmaster"
    await world.local.update({"AllDomainAliases": [{"Name": "postmaster", "Address": "postmaster@stalker.com"}]})
    assert await world.go("postmaster@client1.com") == "refused: routing loop"
    assert await world.go("x@postmaster.local") == "LOCAL postmaster@stalker.com x"


@pytest.mark.feature("LOCAL-112", "LOCAL-113")
async def test_mail_to_all_is_for_whom_the_domain_says(world: World) -> None:
    domain = world.domains.require("client1.com")

    def who(account: str | None, client: bool = False) -> Caller:
        name = account.rpartition("@")[2] if account else "stalker.com"
        return Caller(account, name, "SMTP", world.domains, client=client)

    def answers(*wanted: bool) -> list[str]:
        return ["LOCAL all@client1.com all" if w else "refused: you may not send to all" for w in wanted]

    async def ask() -> list[str]:
        callers = [who("info@client1.com"), who("support@stalker.com"), who("postmaster@stalker.com")]
        return [await world.go("all@client1.com", caller=c) for c in callers]

    for policy, wanted in {
        "anybody": (True, True, True),
        "Authenticated Users": (True, True, True),
        "Authenticated Domain Users": (True, False, False),
        "Authenticated Administrator": (False, False, True),
    }.items():
        await domain.settings.update({"MailToAllAction": policy})
        assert await ask() == answers(*wanted), policy


@pytest.mark.feature("ROUTE-137", "ROUTE-049", "ROUTE-138", "ROUTE-139")
async def test_the_commands(world: World) -> None:
    operations = Operations()
    world.router.declare(operations)
    root = Caller("postmaster@stalker.com", "stalker.com", "PWD", world.domains)
    assert await operations.perform(root, "route", {"address": "a@b.com"}) == ["SMTP", "b.com", "a@b.com"]
    big = "\n".join(f"d{i}.com = e{i}.com" for i in range(20000))
    await operations.perform(root, "SetRouterTable", {"newTable": big})
    assert await operations.perform(root, "GetRouterTable") == big
    assert await world.go("x@d19999.com") == "SMTP e19999.com x@e19999.com"
    await world.go("u@nowhere")
    assert "failed to route 'u@nowhere': unknown domain name" in world.log.text()
    plain = Caller("support@stalker.com", "stalker.com", "PWD", world.domains)
    with pytest.raises(Exception, match="right"):
        await operations.perform(plain, "SetRouterTable", {"newTable": ""})


async def test_an_answer_holds_until_somebody_does_something(world: World) -> None:
    operations = Operations()
    world.router.declare(operations)
    route = await world.router.route("support")
    assert not world.router.current(route)  # without a server nobody knows
    world.router.generation = operations.generation
    route = await world.router.route("support")
    assert world.router.current(route)
    root = Caller("postmaster@stalker.com", "stalker.com", "PWD", world.domains)
    await operations.perform(root, "SetRouterTable", {"newTable": "<support> = bill"})
    assert not world.router.current(route)
    route = await world.router.route("support")
    assert route.host == "bill@stalker.com" and world.router.current(route)


@given(st.text(max_size=200))
@hypothesis_settings(max_examples=100, deadline=None)
def test_any_table_text_is_a_table_or_an_error(text: str) -> None:
    try:
        table = RoutingTable(text)
    except TableError as error:
        assert "line" in str(error) or "long" in str(error)
    else:
        table.apply("a", "b.c")


@given(st.text(alphabet='ab@%!.<>:,"\\*[]1 #+', max_size=40))
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_address_text_parses_or_is_refused(text: str) -> None:
    try:
        local, _ = parse(text)
    except ValueError:
        return
    assert local
