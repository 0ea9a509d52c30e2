"""What every page keeps: methods, headers, caching, and that it believes nothing that a stranger sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.webadmin.test_pages import Browser, Office


@pytest.fixture
async def office(tmp_path: Path) -> Office:
    made = Office(tmp_path)
    await made.start()
    return made


@pytest.mark.feature("HTTP-011", "HTTP-021")
async def test_pages_state_their_charset_and_are_not_cached(office: Office) -> None:
    for path in ("/", "/Settings/", "/Settings/Router", "/Domains/office.test/", "/Settings/Nothing", "/Monitors/Logs"):
        page = await office.browser.get(path)
        assert page.headers["content-type"] == "text/html; charset=utf-8", path
        assert "no-cache" in page.headers["cache-control"]
        assert "expires" not in page.headers
    refused = await office.browser.send("GET", "/Settings/", anonymous=True)
    assert refused.headers["content-type"] == "text/html; charset=utf-8"


async def test_pages_run_no_script_and_stand_in_no_frame(office: Office) -> None:
    for path in ("/", "/Settings/Router", "/Settings/Nothing"):
        page = await office.browser.get(path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "<script" not in page.body
        assert " style=" not in page.body


async def test_head_and_options(office: Office) -> None:
    assert (await office.browser.send("HEAD", "/Settings/")).status == 200
    options = await office.browser.send("OPTIONS", "/Settings/Router", anonymous=True)
    assert (options.status, options.headers["allow"]) == (204, "GET, POST, HEAD, OPTIONS")
    for method in ("PUT", "DELETE", "PATCH"):
        refused = await office.browser.send(method, "/Settings/Router")
        assert refused.status == 405
        assert "GET" in refused.headers["allow"]


@pytest.mark.feature("HTTP-020")
async def test_a_style_sheet_is_fetched_once(office: Office) -> None:
    page = await office.browser.get("/Settings/")
    link = page.body.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
    first = await office.browser.send("GET", link, anonymous=True)
    assert (first.status, first.headers["content-type"]) == (200, "text/css; charset=utf-8")
    for field, value in (
        ("if-modified-since", first.headers["last-modified"]),
        ("if-none-match", first.headers["etag"]),
        ("if-none-match", f'"other", W/{first.headers["etag"]}'),
    ):
        again = Browser(office.app)
        again.extra = [(field.encode(), value.encode())]
        answer = await again.get(link)
        assert (answer.status, answer.body) == (304, ""), field
    for field, value in (
        ("if-modified-since", "Thu, 01 Jan 2004 00:00:00 GMT"),
        ("if-modified-since", "yesterday"),
        ("if-none-match", '"another"'),
    ):
        again = Browser(office.app)
        again.extra = [(field.encode(), value.encode())]
        assert (await again.get(link)).status == 200


async def test_requests_of_other_sites_are_refused_and_own_ones_taken(office: Office) -> None:
    for header, status in (
        ((b"sec-fetch-site", b"cross-site"), 403),
        ((b"sec-fetch-site", b"same-site"), 403),
        ((b"origin", b"null"), 403),
        ((b"origin", b"http://office.test"), 403),
        ((b"origin", b"http://office.test:8010"), 200),
        ((b"sec-fetch-site", b"same-origin"), 200),
    ):
        browser = Browser(office.app)
        browser.extra = [header]
        page = await browser.post("/Settings/Router", Table="; x", **{"do-update": "1"})
        assert page.status == status, header


async def test_a_message_is_shown_to_our_own_links_only(office: Office) -> None:
    browser = Browser(office.app)
    assert "Call this number" not in (await browser.get("/Settings/?message=Call+this+number")).body
    browser.extra = [(b"referer", b"http://evil.test/")]
    assert "Call this number" not in (await browser.get("/Settings/?message=Call+this+number")).body
    browser.extra = [(b"referer", b"http://office.test:8010/Domains/")]
    assert "<b>Done" not in (await browser.get("/Settings/?message=%3Cb%3EDone")).body
    assert "&lt;b&gt;Done" in (await browser.get("/Settings/?message=%3Cb%3EDone")).body


async def test_unknown_fields_change_nothing(office: Office) -> None:
    before = office.addresses.stored()
    page = await office.browser.post("/Settings/IPAddresses", Nonsense="1", DomainName="x.test", **{"do-update": "1"})
    assert page.status == 200
    assert "Nothing was changed." in page.body
    assert office.addresses.stored() == before
    page = await office.browser.post("/Settings/General", DomainName="x.test", **{"do-update": "1"})
    assert office.domains.main.name == "office.test"
    assert (await office.browser.post("/Domains/office.test/", name="x", **{"do-nothing": "1"})).status == 200
    assert office.domains.main.find("x") is None


@pytest.mark.feature("ADM-028")
async def test_a_picture_as_a_button(office: Office) -> None:
    page = await office.browser.post(
        "/Settings/Router", Table="; by picture", **{"do-update.x": "3", "do-update.y": "4"}
    )
    assert "Updated." in page.body
    assert "; by picture" in (await office.browser.get("/Settings/Router")).body


@pytest.mark.feature("ADM-027")
async def test_texts_of_all_languages(office: Office) -> None:
    text = "Zoë <Žlutý> 日本"
    await office.browser.post(
        "/Domains/office.test/", name="zoe", real_name=text, password="pass word", **{"do-create-account": "1"}
    )
    page = await office.browser.get("/Domains/office.test/Accounts/zoe")
    assert page.value("RealName") == "Zoë &lt;Žlutý&gt; 日本"
    account = await office.domains.require_account("zoe@office.test")
    assert account.settings["RealName"] == text


@pytest.mark.feature("HTTP-030", "HTTP-031", "HTTP-032", "HTTP-033", "HTTP-034")
async def test_the_name_that_is_addressed_opens_its_domain(office: Office) -> None:
    await office.domains.create("client.test")
    await office.domains.create("other.test")
    admin = await office.domains.create_account(office.domains.require("client.test"), "admin")
    await office.domains.set_rights(admin, ["Domain"])
    master, helper = Browser(office.app), Browser(office.app, "admin@client.test")

    async def at(browser: Browser, host: str, path: str = "/") -> str:
        browser.host = host
        answer = await browser.get(path)
        return answer.headers.get("location") or (
            "server" if 'href="/Settings/"' in answer.body else str(answer.status)
        )

    for host in ("office.test:8010", "192.0.2.1:8010", "[::1]:8010", "unknown.test:8010", "OFFICE.test"):
        assert await at(master, host) == "server", host
    assert await at(master, "client.test:8010") == "/Domains/client.test/"
    assert await at(helper, "client.test:8010") == "/Domains/client.test/"
    assert await at(master, "client.test:8010", "/MainAdmin/") == "server"
    assert await at(helper, "office.test:8010", "/DomainAdmin/client.test/") == "/Domains/client.test/"
    assert (await helper.get("/Domains/client.test/")).status == 200
    assert (await helper.get("/Domains/other.test/")).status == 403


@pytest.mark.feature("ADM-030")
async def test_a_domain_administrator_sees_no_other_realm(office: Office) -> None:
    await office.domains.create("client.test")
    admin = await office.domains.create_account(office.domains.require("client.test"), "admin")
    await office.domains.set_rights(admin, ["Domain"])
    page = await Browser(office.app, "admin@client.test").get("/Domains/client.test/")
    for realm in ("/Settings/", "/Directory/", "/Monitors/"):
        assert f'href="{realm}"' not in page.body
    assert 'href="/Domains/"' in page.body


async def test_a_new_server_shows_the_first_steps(office: Office) -> None:
    start = await office.browser.get("/")
    assert "First steps" in start.body
    for path in ("/Settings/General", "/Domains/office.test/", "/Domains/office.test/Accounts/postmaster"):
        assert f'href="{path}"' in start.body
        assert (await office.browser.get(path)).status == 200
    await office.domains.create_account(office.domains.main, "ann")
    assert "First steps" not in (await office.browser.get("/")).body
