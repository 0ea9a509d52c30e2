"""The WebAdmin pages as a browser without JavaScript sees them."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trio

from appliance.kernel import components
from appliance.kernel.clock import TrioClock
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.listener import listener_settings
from appliance.kernel.log import LOG, Log, MemoryLog
from appliance.kernel.log_reading import LogReader
from appliance.kernel.log_reading import declare as declare_logs
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.operations import Caller, Operations
from appliance.kernel.peers import IP_ADDRESSES
from appliance.kernel.schedule import SCHEDULE
from appliance.kernel.sessions import Sessions
from appliance.kernel.sessions import declare as declare_sessions
from appliance.kernel.settings import Group, MemoryStorage, Settings, SettingsRegistry, Storage
from appliance.kernel.strings import Strings
from appliance.modules.local.routing import LocalRouting
from appliance.modules.local.settings import LOCAL
from appliance.objects import declarations as d
from appliance.objects import operations as object_operations
from appliance.objects.domains import Domains
from appliance.objects.security import DomainSecurity
from appliance.router.router import ROUTER, Router
from webadmin.app import application
from webadmin.domain_pages import DomainPages
from webadmin.monitor_pages import MonitorPages
from webadmin.settings_pages import Information, SettingsPages
from webadmin.site import NotAuthenticated, Site

ADMIN = Group("HTTPA", "WebAdmin Interface", listener_settings([(8010, "Off"), (9010, "On")]))


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: str) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def value(self, name: str) -> str:
        """What a control holds."""
        match = re.search(rf'name="{re.escape(name)}" value="([^"]*)"', self.body)
        if match is None:
            match = re.search(rf'name="{re.escape(name)}"[^>]*>([^<]*)</textarea>', self.body)
        assert match is not None, f"no control {name}"
        return match[1]


class Browser:
    def __init__(self, app: Any, name: str = "postmaster", password: str = "secret") -> None:
        self.app = app
        self.credentials = base64.b64encode(f"{name}:{password}".encode()).decode()
        self.extra: list[tuple[bytes, bytes]] = []
        self.host = "office.test:8010"

    async def send(
        self, method: str, path: str, form: Mapping[str, Any] | None = None, *, anonymous: bool = False
    ) -> Answer:
        body = urlencode(form or {}, doseq=True).encode()
        path, _, query = path.partition("?")
        headers = [(b"host", self.host.encode()), (b"content-type", b"application/x-www-form-urlencoded"), *self.extra]
        if not anonymous:
            headers.append((b"authorization", b"Basic " + self.credentials.encode()))
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": headers,
            "server": ("127.0.0.1", 8010),
            "client": ("127.0.0.1", 5),
            "channel": channel_pair()[1],
        }
        sent: list[dict[str, Any]] = []
        given = False

        async def receive() -> dict[str, Any]:
            nonlocal given
            if given:
                await trio.sleep_forever()  # it waits for the answer
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        text = b"".join(m.get("body", b"") for m in sent[1:]).decode()
        return Answer(sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, text)

    async def get(self, path: str) -> Answer:
        return await self.send("GET", path)

    async def post(self, path: str, **form: Any) -> Answer:
        return await self.send("POST", path, {key.replace("__", "."): value for key, value in form.items()})


class Office:
    def __init__(self, tmp_path: Path) -> None:
        self.base = tmp_path
        self.operations = Operations()
        self.sessions = Sessions()
        self.client = True

    async def start(self) -> None:
        general = Settings(d.GENERAL, MemoryStorage({"DomainName": "office.test"}))
        await general.load()
        memory: dict[str, Storage] = {}
        disk, clock = InLoopDisk(), TrioClock()
        self.domains = Domains(
            disk, str(self.base), lambda path, mode: memory.setdefault(path, MemoryStorage()), general
        )
        await self.domains.load()
        registry = SettingsRegistry()
        records = MemoryLog()
        router = Settings(ROUTER, MemoryStorage())
        local = Settings(LOCAL, MemoryStorage())
        self.admin = Settings(ADMIN, MemoryStorage())
        self.addresses = Settings(IP_ADDRESSES, MemoryStorage())
        schedule = Settings(SCHEDULE, MemoryStorage())
        for settings in (general, router, local, self.admin, self.addresses, schedule):
            registry.add(settings)
        self.router = Router(self.domains, router, records.source("ROUTER"))
        steps = LocalRouting(self.domains, local)
        self.router.first.append(steps.first)
        self.router.final.append(steps.final)
        object_operations.declare(self.domains, self.operations)
        DomainSecurity(self.domains, clock).declare(self.operations)
        self.router.declare(self.operations)
        components.declare(self.operations, registry, records.source("SYSTEM"))
        declare_sessions(self.operations, self.sessions)
        log_settings = Settings(LOG, MemoryStorage())
        (self.base / "SystemLogs").mkdir()
        log = Log(disk, str(self.base / "SystemLogs"), log_settings, clock)
        reader = LogReader(log)
        declare_logs(self.operations, reader, log, records.source("SYSTEM"))
        strings = Strings()
        strings.declare("POPPrompt", "Pillarbox ^0 POP3 Server ready")

        async def authenticate(name: str, password: str, channel: Any, host: str) -> Caller:
            account = self.domains.find_account(name)
            if account is None or password != "secret":
                raise NotAuthenticated("Wrong name or password.")
            return Caller(
                account.full_name, account.domain.name, "HTTPA", self.domains, "192.0.2.9", client=self.client
            )

        self.app = application(
            Site(self.operations, authenticate),
            SettingsPages(registry, strings, self._information),
            DomainPages(self.domains),
            MonitorPages(clock, reader, log_settings),
        )
        self.browser = Browser(self.app)

    async def _information(self) -> list[Information]:
        return [Information("Version", ("1.2.3",))]


@pytest.fixture
async def office(tmp_path: Path) -> Office:
    made = Office(tmp_path)
    await made.start()
    return made


@pytest.mark.feature("ADM-003", "HTTP-035", "ADM-002", "ADM-004")
async def test_log_in_and_the_four_realms(office: Office) -> None:
    answer = await office.browser.send("GET", "/", anonymous=True)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert (await Browser(office.app, password="wrong").get("/")).status == 401
    start = await office.browser.get("/")
    for realm in ("/Settings/", "/Domains/", "/Directory/", "/Monitors/"):
        assert f'href="{realm}"' in start.body
        assert (await office.browser.get(realm)).status == 200
    assert start.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.feature("ADM-003", "ADM-015", "ADM-017", "SEC-115")
async def test_a_realm_is_open_to_its_right_only(office: Office) -> None:
    account = await office.domains.create_account(office.domains.main, "operator")
    await office.domains.set_rights(account, ["Monitor"])
    operator = Browser(office.app, "operator")
    assert (await operator.get("/Monitors/Access")).status == 200
    assert (await operator.get("/Settings/Router")).status == 401
    assert (await operator.get("/Domains/")).status == 401
    assert (await operator.get("/")).headers["location"] == "/Monitors/"
    await office.domains.set_rights(account, [])
    assert (await operator.get("/Monitors/Access")).status == 401


@pytest.mark.feature("ADM-020", "ROUTE-020", "ROUTE-136")
async def test_the_router_page(office: Office) -> None:
    table = "; mine\n<sales> = postmaster\n"
    page = await office.browser.post("/Settings/Router", Table=table.replace("\n", "\r\n"), **{"do-update": "1"})
    assert (page.status, "Updated." in page.body) == (200, True)
    assert "&lt;sales&gt; = postmaster" in page.body
    wrong = await office.browser.post("/Settings/Router", Table="a = b\nnonsense", **{"do-update": "1"})
    assert wrong.status == 400
    assert "line 2" in wrong.body
    assert "&lt;sales&gt; = postmaster" in (await office.browser.get("/Settings/Router")).body
    tested = await office.browser.post("/Settings/Router", address="sales", **{"do-test": "1"})
    assert "module LOCAL, host postmaster@office.test, address postmaster" in tested.body
    refused = await office.browser.post("/Settings/Router", address="nobody", **{"do-test": "1"})
    assert "refused: unknown account" in refused.body


@pytest.mark.feature("ADM-021", "LOCAL-033")
async def test_a_table_grows_by_its_empty_row_and_shrinks_by_an_emptied_one(office: Office) -> None:
    page = await office.browser.post(
        "/Settings/LOCAL",
        AllDomainAliases__0__Name="abuse",
        AllDomainAliases__0__Address="postmaster",
        **{"do-update": "1"},
    )
    assert page.value("AllDomainAliases.0.Name") == "abuse"
    assert page.value("AllDomainAliases.1.Name") == ""
    page = await office.browser.post(
        "/Settings/LOCAL", AllDomainAliases__0__Name="", AllDomainAliases__0__Address="postmaster", **{"do-update": "1"}
    )
    assert page.value("AllDomainAliases.0.Name") == ""


@pytest.mark.feature("ADM-040", "ADM-042", "INST-020")
async def test_the_main_domain_is_renamed_on_the_general_page(office: Office) -> None:
    page = await office.browser.post("/Settings/General", main_domain="new.test", **{"do-update": "1"})
    assert page.value("main_domain") == "new.test"
    assert office.domains.main.name == "new.test"
    assert "1.2.3" in page.body


@pytest.mark.feature("ADM-001", "INST-020", "ACCT-022", "ADM-022", "ADM-008", "ACCT-070")
async def test_a_domain_with_an_account_from_nothing(office: Office) -> None:
    browser = office.browser
    made = await browser.post("/Domains/", name="Client.test", **{"do-create": "1"})
    assert made.headers["location"].startswith("/Domains/client.test/")
    taken = await browser.post("/Domains/", name="client.test", **{"do-create": "1"})
    assert "already exists" in taken.body
    made = await browser.post(
        "/Domains/client.test/", name="Ann", password="pw one", real_name="Ann <A>", **{"do-create-account": "1"}
    )
    assert made.headers["location"].startswith("/Domains/client.test/Accounts/ann")
    page = await browser.get("/Domains/client.test/Accounts/ann")
    assert page.value("RealName") == "Ann &lt;A&gt;"
    assert "Default (unlimited)" in page.body
    assert "pw one" not in page.body
    page = await browser.post("/Domains/client.test/Accounts/ann", MaxAccountSize="5M", **{"do-update": "1"})
    assert page.value("MaxAccountSize") == "5M"
    wrong = await browser.post("/Domains/client.test/Accounts/ann", MaxAccountSize="much", **{"do-update": "1"})
    assert wrong.status == 400
    assert "MaxAccountSize" in wrong.body
    page = await browser.post("/Domains/client.test/Accounts/ann", MaxAccountSize="", **{"do-update": "1"})
    account = await office.domains.require_account("ann@client.test")
    assert "MaxAccountSize" not in account.settings.stored()
    await browser.post("/Domains/client.test/Accounts/ann", aliases="anna\nann.smith", **{"do-aliases": "1"})
    assert account.domain.aliases_of(account) == ["ann.smith", "anna"]
    await browser.post(
        "/Domains/client.test/Accounts/ann", rights=["", "Domain", "CanCreateAccounts"], **{"do-rights": "1"}
    )
    assert office.domains.rights("ann@client.test") == {"Domain", "CanCreateAccounts"}
    listing = await browser.get("/Domains/client.test/?filter=anna")
    assert "anna" in listing.body
    assert "1 of 1 selected" in listing.body
    moved = await browser.post("/Domains/client.test/Accounts/ann", new_name="eve", **{"do-rename": "1"})
    assert "/Accounts/eve" in moved.headers["location"]
    refused = await browser.post("/Domains/client.test/Accounts/eve", confirm="no", **{"do-remove": "1"})
    assert refused.status == 400
    gone = await browser.post("/Domains/client.test/Accounts/eve", confirm="eve", **{"do-remove": "1"})
    assert gone.status == 303
    assert (await browser.get("/Domains/client.test/Accounts/eve")).status == 404


@pytest.mark.feature("ADM-070", "ADM-071", "OBJ-010")
async def test_a_domain_administrator_sees_his_domain_only(office: Office) -> None:
    for name in ("one.test", "two.test"):
        await office.domains.create(name)
    admin = await office.domains.create_account(office.domains.require("one.test"), "admin")
    await office.domains.set_rights(admin, ["Domain"])
    browser = Browser(office.app, "admin@one.test")
    assert (await browser.get("/Domains/")).headers["location"] == "/Domains/one.test/"
    assert (await browser.get("/Domains/one.test/")).status == 200
    assert (await browser.get("/Domains/two.test/")).status == 403
    assert (await browser.post("/Domains/one.test/", name="x", **{"do-create-account": "1"})).status == 400
    assert office.domains.require("one.test").find("x") is None


@pytest.mark.feature("OBJ-016", "OBJ-018", "OBJ-040", "DOM-101")
async def test_groups_and_forwarders(office: Office) -> None:
    browser = office.browser
    await browser.post("/Domains/office.test/", name="team", **{"do-create-group": "1"})
    await browser.post(
        "/Domains/office.test/Groups/team", Members="postmaster\nx@y.z", RealName="The Team", **{"do-update": "1"}
    )
    page = await browser.get("/Domains/office.test/Groups/team")
    assert page.value("Members") == "postmaster\nx@y.z"
    assert "2 members" in (await browser.get("/Domains/office.test/")).body
    form = {"name__0": "away", "to__0": "a@b.c", "name__1": "", "to__1": ""}
    page = await browser.post("/Domains/office.test/Forwarders", **form, **{"do-update": "1"})
    assert page.value("to.0") == "a@b.c"
    await browser.post("/Domains/office.test/Forwarders", name__0="", to__0="a@b.c", **{"do-update": "1"})
    assert list(office.domains.main.forwarders()) == []
    # What is refused changes nothing.
    await browser.post("/Domains/office.test/", name="away", to="a@b.c", **{"do-create-forwarder": "1"})
    for row in ({"name__0": "postmaster", "to__0": "a@b.c"}, {"name__0": "away", "to__0": "a@b.c, d@e.f"}):
        page = await browser.post("/Domains/office.test/Forwarders", **row, **{"do-update": "1"})
        assert "already exists" in page.body or "make a group" in page.body
        assert [(f.name, f.target) for f in office.domains.main.forwarders()] == [("away", "a@b.c")]
    page = await browser.post("/Domains/office.test/Settings", Foldering="2 Letters 1 Level", **{"do-update": "1"})
    assert office.domains.main.settings[d.FOLDERING] == "2 Letters 1 Level"


@pytest.mark.feature("ADM-060", "ADM-061", "ADM-062")
async def test_strings(office: Office) -> None:
    page = await office.browser.post("/Settings/Strings", use__POPPrompt="custom", text__POPPrompt="Hello ^0")
    assert "Hello ^0" in page.body
    assert "Pillarbox ^0 POP3 Server ready" in page.body
    page = await office.browser.post("/Settings/Strings", use__POPPrompt="default", text__POPPrompt="Hello ^0")
    assert "Hello ^0" not in page.body


@pytest.mark.feature("ADM-131", "ADM-166")
async def test_the_access_monitor_lists_and_ends_sessions(office: Office) -> None:
    session = office.sessions.open("IMAP", "192.0.2.7", 1_700_000_000.0)
    session.account = "ann@office.test"
    page = await office.browser.get("/Monitors/Access")
    for text in ("192.0.2.7", "ann@office.test", "2023-11-14", str(session.number)):
        assert text in page.body
    await office.browser.post("/Monitors/Access", **{f"do-{session.number}": "1"})
    assert session.kicked


async def test_requests_from_other_sites_change_nothing(office: Office) -> None:
    browser = Browser(office.app)
    for header in ((b"sec-fetch-site", b"cross-site"), (b"origin", b"http://evil.test")):
        browser.extra = [header]
        assert (await browser.post("/Domains/", name="evil.test", **{"do-create": "1"})).status == 403
    assert office.domains.get("evil.test") is None


@pytest.mark.feature("HTTP-012", "HTTP-014")
async def test_odd_requests(office: Office) -> None:
    browser = office.browser
    assert (await browser.get("/static/../site.py")).status == 404
    assert (await browser.get("/static/..%2fsite.py")).status == 404
    assert (await browser.get("/Settings/Nothing")).status == 404
    assert (await browser.get("/Domains/nowhere.test/")).status == 404
    assert (await browser.post("/Domains/", name="a" * (5 << 20))).status == 413
    broken = Browser(office.app)
    broken.credentials = "%%%"
    assert (await broken.get("/")).status == 401
    script = await browser.post("/Domains/", name="<script>", **{"do-create": "1"})
    assert "<script>" not in script.body


#: Pages of rooms that this office does not have.
ELSEWHERE = (
    "/Monitors/Queue",
    "/Monitors/SMTP",
    "/Monitors/PIPE",
    "/Monitors/Logs/",
    "/Settings/Helpers",
    "/Settings/Rules",
    "/Settings/RPOP",
    "/Monitors/RPOP",
)


async def test_every_link_of_the_pages_works(office: Office) -> None:
    seen: set[str] = set()
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        if path in seen or path.startswith(ELSEWHERE) or path.endswith(("/Rules", "/RPOP")):
            continue
        seen.add(path)
        answer = await office.browser.get(path)
        assert answer.status in (200, 303), path
        waiting += [link.partition("?")[0] for link in re.findall(r'href="(/[^"]*)"', answer.body)]
    assert len(seen) > 15
