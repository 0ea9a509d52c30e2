"""The WebAdmin Interface as programs reach it: names of hosts and users, methods, both ports."""

from __future__ import annotations

import base64
import http.client
import imaplib
import socket
import ssl
from urllib.parse import urlencode

import pytest

from tests.interop.pillarbox import PASSWORD, Pillarbox, Setup, Start
from tests.interop.processes import LOOPBACK, are_free, eventually

POSTMASTER = ("postmaster", "postmaster-pw")


@pytest.fixture(scope="module")
def server(start: Start) -> Pillarbox:
    """box.test; client.test with the administrator `admin`, alias `boss`; sub.test that client.test administers."""
    server = start(Setup(accounts=("ann",)))
    assert eventually(lambda: not are_free([server.port("HTTPA")]))
    for domain in ("client.test", "sub.test"):
        act(server, "/Domains/", name=domain)
    create = {"do-create-account": "1", "password": PASSWORD}
    act(server, "/Domains/client.test/", name="admin", **create)
    act(server, "/Domains/client.test/Accounts/admin", aliases="boss", **{"do-aliases": "1"})
    rights = [("rights", "Domain"), ("rights", "CanAdminSubDomains"), ("do-rights", "1")]
    assert ask(server, "POST", "/Domains/client.test/Accounts/admin", body=urlencode(rights))[0] == 200
    act(server, "/Domains/sub.test/Settings", AdminDomainName="client.test")
    return server


def ask(
    server: Pillarbox,
    method: str,
    path: str,
    user: tuple[str, str] | None = POSTMASTER,
    *,
    host: str = "box.test",
    body: str | None = None,
    tls: bool = False,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """Status, header and body of an answer."""
    port = server.port("HTTPA")
    connection: http.client.HTTPConnection
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(LOOPBACK, port + 1000, timeout=20, context=context)
    else:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
    sent = {"Host": f"{host}:{port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if user is not None:
        sent["Authorization"] = "Basic " + base64.b64encode(":".join(user).encode()).decode()
    if body is not None:
        sent["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def act(server: Pillarbox, path: str, **form: str) -> None:
    status, _, body = ask(server, "POST", path, body=urlencode(form))
    assert status in (200, 303), body.decode()


def start_of(server: Pillarbox, name: str, host: str) -> str:
    """Where the entrance leads this user under this name of the server; "401" when he may not in."""
    status, header, _ = ask(server, "GET", "/", (name, PASSWORD), host=host)
    return header.get("location", str(status))


@pytest.mark.feature("HTTP-036", "ADM-082", "HTTP-031")
def test_a_simple_name_is_one_of_the_addressed_domain(server: Pillarbox) -> None:
    assert start_of(server, "admin", "client.test") == "/Domains/client.test/"
    assert start_of(server, "boss", "client.test") == "/Domains/client.test/"
    assert start_of(server, "admin", "box.test") == "401"
    assert start_of(server, "admin@client.test", "box.test") == "/Domains/"


@pytest.mark.feature("ADM-079", "SEC-116")
def test_an_administrator_of_another_domain_gives_his_full_name(server: Pillarbox) -> None:
    assert start_of(server, "admin", "sub.test") == "401"
    assert start_of(server, "admin@client.test", "sub.test") == "/Domains/sub.test/"
    user = ("admin@client.test", PASSWORD)
    body = ask(server, "GET", "/Domains/", user)[2]
    assert b"sub.test" in body
    assert b"client.test" in body
    assert b"box.test" not in body
    assert ask(server, "GET", "/Domains/sub.test/", user)[0] == 200
    assert ask(server, "GET", "/Domains/box.test/", user)[0] == 403


@pytest.mark.feature("HTTP-034", "HTTP-030")
def test_an_unknown_name_opens_the_server(server: Pillarbox) -> None:
    for host in ("box.test", "nowhere.test", LOOPBACK, "[::1]"):
        status, _, body = ask(server, "GET", "/", host=host)
        assert status == 200, host
        assert b'href="/Settings/"' in body


@pytest.mark.feature("HTTP-002", "HTTP-017")
def test_both_ports(server: Pillarbox) -> None:
    for tls in (False, True):
        assert ask(server, "GET", "/Settings/", tls=tls)[0] == 200
    assert ask(server, "GET", "/Settings", tls=True)[1]["location"].startswith("https://")


def test_head_has_the_header_alone(server: Pillarbox) -> None:
    status, header, body = ask(server, "HEAD", "/Settings/Router")
    assert (status, body) == (200, b"")
    assert int(header["content-length"]) == len(ask(server, "GET", "/Settings/Router")[2])
    status, header, body = ask(server, "OPTIONS", "/Settings/Router", None)
    assert (status, header["allow"], body) == (204, "GET, POST, HEAD, OPTIONS", b"")


@pytest.mark.feature("HTTP-020")
def test_the_style_sheet_is_dated(server: Pillarbox) -> None:
    _, header, body = ask(server, "GET", "/static/style.css", None)
    assert body
    assert header["date"]
    status, _, body = ask(server, "GET", "/static/style.css", None, If_Modified_Since=header["last-modified"])
    assert (status, body) == (304, b"")


@pytest.mark.feature("LOG-012")
def test_passwords_stay_out_of_pages_and_logs(server: Pillarbox) -> None:
    for component in ("HTTPA", "PWD", "POP", "IMAP"):
        act(server, f"/Settings/{component}", LogLevel="5")
    for service in ("PWD", "POP"):
        with (
            socket.create_connection((LOOPBACK, server.port(service)), 20) as connection,
            connection.makefile("rwb") as talk,
        ):
            for line in ("USER ann", "PASS pop guess", "QUIT"):
                talk.readline()
                talk.write(f"{line}\r\n".encode())
                talk.flush()
            talk.read()
    with imaplib.IMAP4(LOOPBACK, server.port("IMAP")) as client, pytest.raises(imaplib.IMAP4.error):
        client.login("ann", "imap guess")
    ask(server, "GET", "/", ("postmaster", "a wrong guess"))
    act(server, "/Domains/box.test/Accounts/ann", Password="fresh secret")
    page = ask(server, "GET", "/Domains/box.test/Accounts/ann")[2]
    settings = (server.base / "Accounts" / "ann.macnt" / "account.settings").read_text()
    stored = [line for line in settings.splitlines() if "Password" in line]
    logs = "".join(path.read_text(errors="replace") for path in (server.base / "SystemLogs").iterdir())
    for tag in ("HTTPA-", "PWD-", "POP-", "IMAP-"):
        assert tag in logs
    for secret in ("pop guess", "imap guess", "fresh secret", "a wrong guess", POSTMASTER[1]):
        assert secret.encode() not in page
        assert secret not in logs
        assert not any(secret in line for line in stored)


@pytest.mark.feature("LOG-055", "LOG-056", "LOG-060")
def test_a_log_is_followed_while_it_is_written(server: Pillarbox) -> None:
    name = max(path.name for path in (server.base / "SystemLogs").iterdir())
    path = f"/Monitors/Logs/{name}?level=2&filter=changed"
    assert ask(server, "GET", path)[0] == 200  # it ends
    connection = http.client.HTTPConnection(LOOPBACK, server.port("HTTPA"), timeout=20)
    credentials = base64.b64encode(":".join(POSTMASTER).encode()).decode()
    connection.request("GET", f"{path}&to=24:00", headers={"Authorization": f"Basic {credentials}"})
    answer = connection.getresponse()
    act(server, "/Settings/DNR", CacheSize="777")
    seen = b""
    while b"changed DNR: CacheSize" not in seen:
        piece = answer.read1(65536)
        assert piece, seen
        seen += piece
    assert b"End of the view." not in seen
    connection.close()
    assert ask(server, "GET", path)[0] == 200


@pytest.mark.feature("ADM-013")
def test_the_machine_itself_is_never_locked_out(server: Pillarbox) -> None:
    act(server, "/Settings/IPAddresses", ClientAddresses="10.99.0.1", ClientOnly="YES", **{"do-anyway": "1"})
    assert "ClientOnly = YES" in (server.base / "Settings" / "IPAddresses.settings").read_text()
    assert ask(server, "GET", "/Settings/")[0] == 200
    act(server, "/Settings/IPAddresses", ClientOnly="NO")


@pytest.mark.feature("ADM-012")
def test_the_postmaster_stays_reachable(server: Pillarbox) -> None:
    act(server, "/Settings/Router", Table="<postmaster> = ann\n", **{"do-update": "1"})
    user = ("anything@postmaster.local", POSTMASTER[1])
    status, _, body = ask(server, "GET", "/Settings/Router", user)
    assert status == 200
    assert b"&lt;postmaster&gt; = ann" in body
    assert b"postmaster@box.test</span>" in body
