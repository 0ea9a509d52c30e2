"""From the greeting to log-out: capabilities, TLS, log-in in all its forms, alerts, limits."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from appliance.access.imap.settings import CLEAR_LOGIN
from appliance.protocols import sasl

if TYPE_CHECKING:
    from .conftest import Client, Post


def b64(data: bytes) -> bytes:
    return base64.b64encode(data)


@pytest.mark.feature("IMAP-004", "IMAP-019", "IMAP-020", "IMAP-109", "STD-050")
async def test_greeting_to_logout(post: Post) -> None:
    await post.strings.change({"IMAPPrompt": "Office mail ^0"})
    async with post.client() as client:
        greeting = await client.line()
        assert greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 ")
        assert greeting.endswith(b"] Office mail 1.0")
        [capability] = await client.ok("CAPABILITY")
        for name in (b"IMAP4rev1", b"LITERAL+", b"IDLE", b"UIDPLUS", b"NAMESPACE", b"ID", b"CHILDREN", b"MULTIAPPEND"):
            assert name in capability.split()
        assert await client.ok("ID NIL") == [b'* ID ("name" "Pillarbox" "version" "1.0")']
        assert await client.ok("NOOP") == []
        await client.ok("LOGIN jim secret")
        assert await client.ok('ID ("name" "test")') == [b'* ID ("name" "Pillarbox" "version" "1.0")']
        lines = await client.do("LOGOUT")
        assert lines[0].startswith(b"* BYE")
        assert lines[1].startswith(b"OK")
        assert await client.closed()
    assert post.statistics.counter("imap.sessions").value == 1


@pytest.mark.feature("IMAP-010", "IMAP-105", "IMAP-005", "IMAP-003", "STD-059")
async def test_login_with_atoms_strings_and_literals(post: Post, autojump_clock: object) -> None:
    post.account.stored = "pass word"
    for command in (b'LOGIN jim "pass word"', b"LOGIN {3+}\r\njim {9+}\r\npass word", b'LOGIN "jim" {9+}\r\npass word'):
        async with post.client() as client:
            await client.line()
            [session] = post.sessions
            assert session.state in ("", "Authenticating")
            *_, last = await client.do(command)
            assert last.startswith(b"OK [CAPABILITY IMAP4rev1")
            assert session.account == "jim@example.com"
            await client.ok("SELECT INBOX")
            assert session.state == "Selected"
            tags = {tag for _, tag, _ in post.log.records}
            assert tags == {f"IMAP-{session.number}"}
        post.log.records.clear()
    async with post.client() as client:
        await client.line()
        await client.send("a LOGIN {3}\r\n")
        assert (await client.line()).startswith(b"+ ")
        await client.send("jim {9}\r\n")
        assert (await client.line()).startswith(b"+ ")
        await client.send("pass word\r\n")
        assert (await client.answer(b"a"))[-1].startswith(b"OK")
    async with post.client() as client:
        await client.line()
        started = trio.current_time()
        assert (await client.last("LOGIN jim wrong")).startswith(b"NO [AUTHENTICATIONFAILED]")
        assert trio.current_time() - started >= 2
        assert (await client.last("LOGIN nobody x")).endswith(b"Incorrect Account Name or Password")


async def test_no_secret_in_the_log(post: Post) -> None:
    async with post.client() as client:
        await client.line()
        await client.ok("LOGIN jim secret")
    async with post.client() as client:
        await client.line()
        await client.ok(b"AUTHENTICATE PLAIN " + b64(b"\0jim\0secret"))
    assert "secret" not in str(post.log.records)
    assert b64(b"\0jim\0secret").decode() not in str(post.log.records)


async def authenticate(client: Client, name: str, password: str = "secret", *, initial: bool = True) -> bytes:
    mechanism = sasl.client_mechanism(name, "jim", password, nonce=b"n" * 20)
    assert mechanism is not None
    command = b"a AUTHENTICATE " + name.encode()
    if initial and mechanism.initial:
        command += b" " + (b64(mechanism.step(b"")) or b"=")
    await client.send(command + b"\r\n")
    while True:
        line = await client.line()
        if not line.startswith(b"+ "):
            return line[2:]
        await client.send(b64(mechanism.step(base64.b64decode(line[2:]))) + b"\r\n")


@pytest.mark.feature("IMAP-011")
@pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"])
@pytest.mark.parametrize("initial", [True, False])
async def test_all_methods(post: Post, name: str, initial: bool, autojump_clock: object) -> None:
    async with post.client() as client:
        await client.line()
        assert (await authenticate(client, name, "wrong", initial=initial)).startswith(b"NO")
        assert (await authenticate(client, name, initial=initial)).startswith(b"OK")
        assert (await client.last("LOGIN jim secret")).startswith(b"BAD")


@pytest.mark.feature("SEC-014", "STD-023", "STD-063")
async def test_a_dialogue_is_cancelled(post: Post) -> None:
    async with post.client() as client:
        await client.line()
        await client.send("a AUTHENTICATE PLAIN\r\n")
        assert await client.line() == b"+ "
        await client.send("*\r\n")
        assert (await client.answer(b"a"))[0].startswith(b"BAD")
        await client.send("b AUTHENTICATE PLAIN\r\n")
        await client.line()
        await client.send("???\r\n")
        assert (await client.answer(b"b"))[0].startswith(b"BAD")
        assert (await client.last("AUTHENTICATE NOPE")).startswith(b"NO")
        await client.ok("LOGIN jim secret")


@pytest.mark.feature("IMAP-012", "IMAP-112", "IMAP-014")
async def test_clear_text_is_refused_without_tls(post: Post) -> None:
    async with post.client("192.0.2.7") as client:
        greeting = await client.line()
        assert b" LOGINDISABLED " in greeting
        assert b"AUTH=PLAIN" not in greeting
        assert b" AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1 AUTH=CRAM-MD5 " in greeting
        assert b"STARTTLS" not in greeting
        assert (await client.last("STARTTLS")).startswith(b"NO")
        assert (await client.last("LOGIN jim secret")).startswith(b"NO [PRIVACYREQUIRED]")
        assert (await client.last("AUTHENTICATE PLAIN")).startswith(b"NO [PRIVACYREQUIRED]")
        assert (await authenticate(client, "CRAM-MD5")).startswith(b"OK")
    post.digests = False
    async with post.client("192.0.2.7") as client:
        assert b"CRAM-MD5" not in await client.line()
        assert (await client.last("AUTHENTICATE CRAM-MD5")).startswith(b"NO")
    await post.settings.update({CLEAR_LOGIN.key: "YES"})
    async with post.client("192.0.2.7") as client:
        assert b"LOGINDISABLED" not in await client.line()
        await client.ok("LOGIN jim secret")


@pytest.mark.feature("IMAP-014", "IMAP-124", "IMAP-112", "STD-052")
async def test_starttls(post: Post) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mail.example.com").configure_cert(server)
    near = ssl.create_default_context()
    authority.configure_trust(near)
    async with post.client("192.0.2.7", certificate=lambda: server) as client:
        assert b" STARTTLS LOGINDISABLED " in await client.line()
        await client.ok("STARTTLS")
        await client.channel.start_tls(near, server_side=False, hostname="mail.example.com")
        [capability] = await client.ok("CAPABILITY")
        assert b"STARTTLS" not in capability
        assert b"AUTH=PLAIN" in capability
        assert (await client.last("STARTTLS")).startswith(b"BAD")
        assert (await authenticate(client, "CRAM-MD5")).startswith(b"OK")
        await client.ok("SELECT INBOX")
    async with post.client("192.0.2.7", certificate=lambda: server) as client:
        await client.line()
        await client.send("a STARTTLS\r\nb NOOP\r\n")
        assert (await client.line()).startswith(b"a BAD")
        assert await client.closed()


@pytest.mark.feature("IMAP-016", "IMAP-113")
async def test_referral(post: Post) -> None:
    async with post.client() as client:
        await client.line()
        assert await client.last("LOGIN j.smith x") == (
            b"NO [REFERRAL IMAP://John;AUTH=*@othercompany.com/] account has been moved to a remote system"
        )


@pytest.mark.feature("IMAP-018", "ACC-009")
async def test_alerts(post: Post) -> None:
    post.account.alerts.append("the disk is nearly full")
    async with post.client() as client:
        await client.line()
        assert (await client.do("LOGIN jim secret"))[0] == b"* OK [ALERT] the disk is nearly full"
        assert await client.ok("NOOP") == []
        post.account.alerts.append("we close at five")
        post.notices.publish(("alert", post.account.name))
        assert await client.ok("NOOP") == [b"* OK [ALERT] we close at five"]
        await client.send("i IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        post.account.alerts.append("now")
        post.notices.publish(("alert", post.account.name))
        assert await client.line() == b"* OK [ALERT] now"
        await client.send("DONE\r\n")
        assert (await client.answer(b"i"))[-1].startswith(b"OK")


async def test_guessers_and_strange_programs_are_sent_away(post: Post, autojump_clock: object) -> None:
    async with post.client() as client:
        await client.line()
        for _ in range(4):
            assert (await client.last("LOGIN jim wrong")).startswith(b"NO")
        lines = await client.do("LOGIN jim wrong")
        assert lines[0].startswith(b"* BYE")
        assert await client.closed()
    async with post.client() as client:
        await client.line()
        await client.send("GET / HTTP/1.1\r\n" * 20)
        lines = [await client.line() for _ in range(21)]
        assert lines[-1].startswith(b"* BYE")
        assert await client.closed()


async def test_large_literals_are_refused_before_they_are_sent(post: Post) -> None:
    async with post.client() as client:
        await client.line()
        assert (await client.last("LOGIN {50000}")).startswith(b"BAD [TOOBIG]")
        await client.ok("LOGIN jim secret")
        assert (await client.last("SELECT {999999}")).startswith(b"BAD [TOOBIG]")
        await client.ok("NOOP")


@pytest.mark.feature("IMAP-123")
async def test_commands_of_others_do_no_harm(post: Post) -> None:
    async with post.client() as client:
        await client.line()
        assert (await client.last("SELECT INBOX")).startswith(b"BAD")
        await client.ok("LOGIN jim secret")
        assert (await client.last("FETCH 1 FLAGS")).startswith(b"BAD")
        assert (await client.last("XMAPI 1 2 (3)")).startswith(b"BAD")
        assert (await client.last("XMAPI INBOX x lr")).startswith(b"BAD")
        await client.ok("NOOP")


async def test_idle_sessions_end_with_a_word(post: Post, autojump_clock: object) -> None:
    async with post.client() as client:
        await client.line()
        started = trio.current_time()
        assert (await client.line()).startswith(b"* BYE")
        assert trio.current_time() - started == 180
        assert await client.closed()
    async with post.logged_in() as client:
        started = trio.current_time()
        assert (await client.line()).startswith(b"* BYE")
        assert trio.current_time() - started == 1800
    async with post.logged_in("INBOX") as client:
        await client.send("a IDLE\r\n")
        await client.line()
        started = trio.current_time()
        await trio.sleep(1000)
        post.account.put(b"x")
        assert await client.line() == b"* 1 EXISTS"
        assert await client.line() == b"* 1 RECENT"
        assert (await client.line()).startswith(b"* BYE")
        assert trio.current_time() - started == 1800


async def test_a_kicked_session_hears_good_bye(post: Post) -> None:
    async with post.logged_in("INBOX") as client:
        [session] = post.sessions
        session.kick("the server is closing down")
        assert await client.line() == b"* BYE the session is closed: the server is closing down"
        assert await client.closed()
    assert post.account.open_sessions == 0


@pytest.mark.feature("IMAP-008")
async def test_a_client_that_vanishes_leaves_nothing_behind(post: Post) -> None:
    post.account.put(b"Subject: x\r\n\r\n" + b"x" * 900_000)
    async with post.logged_in("INBOX") as client:
        await client.send("a FETCH 1 BODY[]\r\n")
        await client.channel.receive(100)
    assert post.account.open_sessions == 0
    async with post.logged_in("INBOX") as client:
        assert len(await client.ok("FETCH 1 RFC822.SIZE")) == 1


async def test_secure_method_required_is_the_gates_word(post: Post) -> None:
    """Whatever the gate refuses is a NO with its own text; methods that keep the password go through."""
    async with post.client("192.0.2.7") as client:
        await client.line()
        assert (await client.last("LOGIN jim secret")).startswith(b"NO")
        assert (await client.last(b"AUTHENTICATE PLAIN " + b64(b"\0jim\0secret"))).startswith(b"NO")
        assert (await authenticate(client, "CRAM-MD5")).startswith(b"OK")


async def test_a_client_that_does_not_read_is_left(post: Post, autojump_clock: object) -> None:
    for number in range(20):
        post.account.put(b"Subject: %d\r\n\r\n" % number + b"x" * 200_000)
    async with post.logged_in("INBOX") as client:
        await client.send("a FETCH 1:* BODY.PEEK[]\r\n")
        await trio.sleep(299)
        assert len(post.sessions) == 1
        await trio.sleep(10)
        assert len(post.sessions) == 0


@pytest.mark.feature("SEC-012")
async def test_what_is_not_announced_is_served(post: Post) -> None:
    object.__setattr__(post.around, "advertise_secure", lambda: False)
    async with post.client() as client:
        greeting = await client.line()
        assert b" AUTH=PLAIN " in greeting
        assert b"CRAM-MD5" not in greeting and b"SCRAM" not in greeting and b"DIGEST" not in greeting
        assert (await authenticate(client, "CRAM-MD5")).startswith(b"OK")
