from __future__ import annotations

import base64
import hashlib
import hmac
import re
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trustme

from appliance.accounts.client import Flag
from appliance.formats import passwords
from appliance.protocols import sasl
from tests.access.pop.conftest import Requests

if TYPE_CHECKING:
    from tests.access.pop.conftest import Client, Post

ONE = b"Subject: one\r\n\r\nhello\r\n.dot\r\n"
TWO = b"Subject: two\r\nX: y\r\n\r\na\r\nb\r\nc\r\n"


@pytest.fixture
def mail(post: Post) -> Post:
    post.account.put(101, ONE)
    post.account.put(102, TWO)
    return post


@pytest.mark.feature("POP-010", "POP-016", "POP-036", "SEC-009")
async def test_user_and_pass(mail: Post) -> None:
    async with mail.client() as client:
        assert (await client.line()).startswith(b"+OK Pillarbox POP3 Server 1.0 ready <")
        assert await client.say("USER jim") == "+OK, send pass"
        assert await client.say("PASS secret") == f"+OK 2 message(s) [{len(ONE) + len(TWO)} octets]"
        assert await client.say("STAT") == f"+OK 2 {len(ONE) + len(TWO)}"
        assert (await client.say("NOOP")).startswith("+OK")
        assert await client.say("QUIT") == "+OK bye-bye"
        assert await client.closed()
    assert mail.account.open_sessions == 0


@pytest.mark.feature("POP-010")
async def test_wrong_passwords_and_unknown_names_look_alike(mail: Post, autojump_clock: trio.testing.MockClock) -> None:
    async with mail.client() as client:
        await client.line()
        start = trio.current_time()
        wrong = await client.log_in("jim", "wrong")
        assert trio.current_time() - start >= 2
        assert wrong == "-ERR [AUTH] Incorrect Account Name or Password"
        assert await client.log_in("nobody", "secret") == wrong
        assert (await client.log_in()).startswith("+OK 2")


async def test_a_guesser_is_shown_the_door(mail: Post, autojump_clock: trio.testing.MockClock) -> None:
    async with mail.client() as client:
        await client.line()
        for _ in range(5):
            assert (await client.log_in("jim", "wrong")).startswith("-ERR")
        assert await client.closed()


@pytest.mark.feature("POP-006")
async def test_the_greeting_is_a_server_string(post: Post) -> None:
    await post.strings.change({"POPPrompt": "hello from ^0"})
    async with post.client() as client:
        assert (await client.line()).startswith(b"+OK hello from 1.0 <")


@pytest.mark.feature("POP-011", "SEC-008")
async def test_apop(mail: Post, autojump_clock: trio.testing.MockClock) -> None:
    mail.account.stored = passwords.store("secret", passwords.Encryption.A_CRPT, salt=bytes(16), key=mail.door.key)
    mail.account.put(5, ONE, "private")
    for name, count in (("jim", 2), ("private#jim", 1)):
        async with mail.client() as client:
            challenge = re.search(rb"<[^<>@ ]+@[^<>@ ]+>$", await client.line())
            assert challenge is not None
            digest = hashlib.md5(challenge[0] + b"secret").hexdigest()
            assert (await client.say(f"APOP {name} {'0' * 32}")).startswith("-ERR")
            assert (await client.say(f"APOP {name} {digest}")).startswith(f"+OK {count}")


async def test_a_wrong_scram_proof_is_a_wrong_password(mail: Post, autojump_clock: trio.testing.MockClock) -> None:
    async with mail.client() as client:
        await client.line()
        start = trio.current_time()
        assert (await authenticate(client, "SCRAM-SHA-256", "jim", "wrong", initial=True)).startswith("-ERR [AUTH]")
        assert trio.current_time() - start >= 2


async def test_apop_challenges_are_never_the_same(mail: Post) -> None:
    greetings = set()
    for _ in range(3):
        async with mail.client() as client:
            greetings.add(await client.line())
    assert len(greetings) == 3


@pytest.mark.feature("SEC-036", "MIGR-032")
async def test_digests_fail_for_passwords_stored_one_way(mail: Post, autojump_clock: trio.testing.MockClock) -> None:
    mail.account.stored = passwords.store("secret", passwords.Encryption.U_CRPT, salt=bytes(16), iterations=4096)
    async with mail.client() as client:
        stamp = (await client.line()).rpartition(b" ")[2]
        digest = hashlib.md5(stamp + b"secret").hexdigest()
        assert (await client.say(f"APOP jim {digest}")).startswith("-ERR [AUTH]")
        assert (await client.log_in()).startswith("+OK")


async def authenticate(client: Client, method: str, name: str, password: str, *, initial: bool) -> str:
    ours = sasl.client_mechanism(method, name, password, nonce=b"0123456789abcdefghij")
    assert ours is not None
    line = f"AUTH {method}"
    if initial and ours.initial:
        line += " " + sasl.encode(ours.step(b"")).decode()
    reply = await client.say(line)
    while reply.startswith("+ "):
        reply = await client.say(sasl.encode(ours.step(sasl.decode(reply[2:].encode()))))
    return reply


@pytest.mark.feature("POP-012", "SEC-002", "SEC-016")
@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("method", sasl.METHODS)
async def test_each_sasl_method(
    mail: Post, method: str, initial: bool, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "ITERATIONS", 4096)
    async with mail.client() as client:
        await client.line()
        wrong = await authenticate(client, method, "jim%example.com", "wrong", initial=initial)
        assert wrong.startswith("-ERR [AUTH]")
        right = await authenticate(client, method, "jim%example.com", "secret", initial=initial)
        assert right.startswith("+OK 2 message(s)")


@pytest.mark.feature("POP-012", "POP-014", "SEC-015", "SEC-006")
async def test_auth_plain_begins_with_an_empty_challenge_or_takes_the_response_at_once(mail: Post) -> None:
    plain = base64.b64encode(b"\0jim\0secret").decode()
    async with mail.client() as client:
        await client.line()
        assert await client.say("AUTH PLAIN") == "+ "
        assert (await client.say(plain)).startswith("+OK 2")
    async with mail.client() as client:
        await client.line()
        assert (await client.say(f"AUTH PLAIN {plain}")).startswith("+OK 2")


@pytest.mark.feature("SEC-014")
async def test_a_cancelled_exchange_leaves_the_connection_usable(mail: Post) -> None:
    async with mail.client() as client:
        await client.line()
        assert await client.say("AUTH PLAIN") == "+ "
        assert (await client.say("*")).startswith("-ERR")
        assert await client.say("AUTH CRAM-MD5") != "-ERR"
        assert (await client.say("!!")).startswith("-ERR")
        assert (await client.say("AUTH NTLM")).startswith("-ERR")
        assert (await client.log_in()).startswith("+OK")


@pytest.mark.feature("POP-013", "SEC-013")
async def test_auth_alone_lists_the_methods(mail: Post) -> None:
    async with mail.client() as client:
        await client.line()
        assert await client.lines("AUTH") == list(sasl.METHODS)


@pytest.mark.feature("SEC-012")
async def test_methods_that_need_a_readable_password_are_listed_only_where_there_are_such(mail: Post) -> None:
    mail.digests = False
    async with mail.client() as client:
        await client.line()
        assert await client.lines("AUTH") == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
        # Not listed is not forbidden.
        assert (await authenticate(client, "CRAM-MD5", "jim", "secret", initial=False)).startswith("+OK 2")


async def test_no_clear_passwords_over_the_open_net(mail: Post) -> None:
    async with mail.client("192.0.2.9") as client:
        await client.line()
        capabilities = await client.lines("CAPA")
        assert "USER" not in capabilities
        assert not any("PLAIN" in line for line in capabilities)
        assert (await client.say("USER jim")).startswith("-ERR [AUTH] start TLS")
        assert (await client.say("PASS secret")).startswith("-ERR")
        assert (await client.say("AUTH LOGIN")).startswith("-ERR [AUTH]")
        stamp = b"<%032x@mail.example.com>" % 1
        reply = await client.say("AUTH CRAM-MD5")
        assert sasl.decode(reply[2:].encode()) == stamp
        digest = hmac.new(b"secret", stamp, "md5").hexdigest()
        assert (await client.say(base64.b64encode(b"jim " + digest.encode()))).startswith("+OK 2")
    for attributes in ({"client": True}, {"external": True}):
        async with mail.client("192.0.2.9", **attributes) as client:
            await client.line()
            assert (await client.log_in()).startswith("+OK")
    await mail.settings.update({"ClearTextLogin": "YES"})
    async with mail.client("192.0.2.9") as client:
        await client.line()
        assert (await client.log_in()).startswith("+OK")


@pytest.mark.feature("POP-038", "STD-067")
async def test_capabilities_before_and_after_log_in(mail: Post) -> None:
    async with mail.client() as client:
        await client.line()
        before = await client.lines("CAPA")
        assert {"TOP", "USER", "UIDL", "PIPELINING"} <= set(before)
        assert any(line.startswith("SASL ") for line in before)
        assert "STLS" not in before
        await client.log_in()
        after = await client.lines("CAPA")
        assert {"TOP", "UIDL"} <= set(after)
        assert any(line.startswith("SASL ") for line in after)
        assert "IMPLEMENTATION Pillarbox-1.0" in after


@pytest.mark.feature("POP-027", "POP-028", "POP-029")
async def test_stat_list_and_uidl(mail: Post) -> None:
    for _ in range(2):
        async with mail.logged_in() as client:
            assert await client.lines("LIST") == [f"1 {len(ONE)}", f"2 {len(TWO)}"]
            assert await client.say("LIST 2") == f"+OK 2 {len(TWO)}"
            assert (await client.say("LIST 9")).startswith("-ERR")
            assert await client.lines("UIDL") == ["1 101", "2 102"]
            assert await client.say("UIDL 2") == "+OK 2 102"
            await client.say("DELE 1")
            assert await client.say("STAT") == f"+OK 1 {len(TWO)}"
            assert await client.lines("UIDL") == ["2 102"]
            assert (await client.say("LIST 1")).startswith("-ERR")


async def test_unique_names_with_the_validity_of_the_mailbox(mail: Post) -> None:
    await mail.settings.update({"UniqueIDs": "UIDVALIDITY-UID"})
    async with mail.logged_in() as client:
        assert await client.lines("UIDL") == ["1 77-101", "2 77-102"]


@pytest.mark.feature("POP-030", "POP-031")
async def test_retr_gives_the_message_and_sets_seen(mail: Post) -> None:
    async with mail.logged_in() as client:
        assert await client.say("RETR 1") == f"+OK {len(ONE)} octets"
        assert [await client.line() for _ in range(5)] == [b"Subject: one", b"", b"hello", b"..dot", b"."]
        inbox = mail.account.mailboxes["INBOX"]
        assert inbox.messages[101].flags & Flag.SEEN
        assert not inbox.messages[102].flags & Flag.SEEN


@pytest.mark.feature("POP-032")
async def test_top_gives_a_part_and_sets_nothing(mail: Post) -> None:
    async with mail.logged_in() as client:
        assert await client.lines("TOP 2 2") == ["Subject: two", "X: y", "", "a", "b"]
        assert await client.lines("TOP 2 0") == ["Subject: two", "X: y", ""]
        assert await client.lines("TOP 2 100") == ["Subject: two", "X: y", "", "a", "b", "c"]
        assert (await client.say("TOP 3 1")).startswith("-ERR")
        assert not mail.account.mailboxes["INBOX"].messages[102].flags


async def test_a_large_message_streams(mail: Post) -> None:
    data = b"Subject: large\r\n\r\n" + b"." * 70 + b"\r\n" + b"x" * 998 + b"\r\n"
    data += (b".leading dot\r\n" + b"y" * 600 + b"\r\n") * 2000
    mail.account.put(103, data)
    async with mail.logged_in() as client:
        assert "\r\n".join([*await client.lines("RETR 3"), ""]).encode() == data
        assert len(await client.lines("TOP 3 50")) == 52


@pytest.mark.feature("POP-033")
async def test_dele_counts_only_with_quit(mail: Post) -> None:
    async with mail.logged_in() as client:
        assert (await client.say("DELE 1")).startswith("+OK")
        assert (await client.say("DELE 1")).startswith("-ERR")
        assert (await client.say("RETR 1")).startswith("-ERR")
    assert 101 in mail.account.mailboxes["INBOX"].messages
    async with mail.logged_in() as client:
        await client.say("DELE 1")
        assert await client.say("QUIT") == "+OK bye-bye"
        assert list(mail.account.mailboxes["INBOX"].messages) == [102]


@pytest.mark.feature("POP-034")
async def test_rset_takes_the_marks_back(mail: Post) -> None:
    async with mail.logged_in() as client:
        await client.say("DELE 1")
        await client.say("RSET")
        await client.say("QUIT")
    assert len(mail.account.mailboxes["INBOX"].messages) == 2


@pytest.mark.feature("POP-035")
async def test_dele_needs_the_right(mail: Post) -> None:
    mail.account.mailboxes["INBOX"].rights = "lr"
    async with mail.logged_in() as client:
        assert (await client.say("DELE 1")).startswith("-ERR")
        await client.lines("RETR 1")
        await client.say("QUIT")
    assert len(mail.account.mailboxes["INBOX"].messages) == 2
    assert not mail.account.mailboxes["INBOX"].messages[101].flags


async def test_a_failed_removal_is_told(mail: Post) -> None:
    async with mail.logged_in() as client:
        await client.say("DELE 1")
        mail.account.broken = "remove"
        assert (await client.say("QUIT")).startswith("-ERR [SYS/TEMP] some messages could not be removed")
    assert 101 in mail.account.mailboxes["INBOX"].messages


@pytest.mark.feature("POP-037", "STD-072")
async def test_last(mail: Post) -> None:
    async with mail.logged_in() as client:
        assert await client.say("LAST") == "+OK 0"
        await client.lines("RETR 2")
        assert await client.say("LAST") == "+OK 2"
        await client.say("RSET")
        assert await client.say("LAST") == "+OK 0"


@pytest.mark.feature("POP-039")
async def test_errors_leave_the_session_alive(mail: Post) -> None:
    async with mail.logged_in() as client:
        for line in ("FOO", "USER x", "RETR", "RETR 9", "x" * 70_000):
            assert (await client.say(line)).startswith("-ERR")
        assert (await client.say("STAT")).startswith("+OK 2")
    async with mail.client() as client:
        await client.line()
        assert (await client.say("STAT")).startswith("-ERR")
        assert (await client.log_in()).startswith("+OK")


@pytest.mark.feature("POP-040")
async def test_empty_and_emptied_mailboxes(post: Post) -> None:
    async with post.client() as client:
        await client.line()
        assert (await client.log_in()).startswith("+OK 0 message(s)")
        assert await client.lines("UIDL") == []
    post.account.put(1, ONE)
    async with post.logged_in() as client:
        post.account.expunge(1)
        assert await client.lines("LIST") == ["1 0"]
        assert await client.say("STAT") == "+OK 0 0"


@pytest.mark.feature("POP-041", "POP-042")
async def test_two_sessions_share_the_mailbox_and_keep_their_view(mail: Post) -> None:
    async with mail.logged_in() as one, mail.logged_in() as two:
        mail.account.put(103, ONE)
        assert (await one.say("STAT")).startswith("+OK 2 ")
        assert (await two.say("STAT")).startswith("+OK 2 ")
        async with mail.logged_in() as three:
            assert (await three.say("STAT")).startswith("+OK 3 ")


@pytest.mark.feature("POP-043")
async def test_zombies(mail: Post) -> None:
    async with mail.logged_in() as client:
        mail.account.expunge(101)
        assert await client.say("LIST 1") == "+OK 1 0"
        assert (await client.say("RETR 1")).startswith("-ERR")
        assert (await client.lines("RETR 2"))[0] == "Subject: two"
        await client.say("DELE 1")
        assert await client.say("QUIT") == "+OK bye-bye"


@pytest.mark.feature("POP-044")
async def test_a_broken_connection_blocks_nothing(mail: Post) -> None:
    mail.account.put(103, b"Subject: x\r\n\r\n" + b"y" * 500_000)
    async with mail.logged_in() as client:
        await client.channel.send(b"RETR 3\r\n")
        await client.channel.receive()
    assert mail.account.open_sessions == 0
    async with mail.logged_in() as client:
        assert (await client.say("STAT")).startswith("+OK 3 ")


@pytest.mark.feature("POP-026", "POP-045")
async def test_the_mailbox_is_part_of_the_name(mail: Post) -> None:
    mail.account.put(7, ONE, "private")
    mail.account.put(8, TWO, "~boss/INBOX")
    async with mail.logged_in() as client:
        assert await client.lines("UIDL") == ["1 101", "2 102"]
    async with mail.logged_in("private#jim@example.com") as client:
        assert await client.lines("UIDL") == ["1 7"]
    async with mail.client() as client:
        await client.line()
        assert (await client.log_in("nosuch#jim")).startswith("-ERR")
        assert mail.account.open_sessions == 0


@pytest.mark.feature("POP-048", "POP-049", "POP-050", "POP-051")
async def test_the_unified_account_shows_each_user_his_mail(post: Post) -> None:
    post.account.put(101, b"X-Real-To: abcdef\r\nSubject: 1\r\n\r\n")
    post.account.put(102, b"Subject: 2\r\nX-REAL-TO: xyz\r\n\r\n")
    post.account.put(103, b"X-Real-To: abcdef,\r\n XYZ\r\n\r\n")
    post.account.put(104, b"X-Real-To: abcdefg\r\n\r\nX-Real-To: abcdef\r\n")
    post.account.put(105, b"X-Real-To: abcdef\r\n\r\n" + b"large\r\n" * 50_000)
    views = {
        "jim": ["1 101", "2 102", "3 103", "4 104", "5 105"],
        "abcdef@unified.example": ["1 101", "2 103", "3 105"],
        "blahblah@unified.example": [],
    }
    for name, wanted in views.items():
        async with post.logged_in(name) as client:
            assert await client.lines("UIDL") == wanted


@pytest.mark.feature("POP-022")
async def test_alerts_are_shown_instead_of_the_mail_one_at_an_attempt(mail: Post) -> None:
    mail.account.alerts = ["the server is moving", "and away"]
    async with mail.client() as client:
        await client.line()
        assert await client.log_in() == "-ERR ALERT: the server is moving"
        assert await client.log_in() == "-ERR ALERT: and away"
        assert (await client.log_in()).startswith("+OK 2")


async def test_idle_sessions_end_without_an_update(mail: Post, autojump_clock: trio.testing.MockClock) -> None:
    async with mail.logged_in() as client:
        await client.say("DELE 1")
        start = trio.current_time()
        assert await client.closed()
        assert 600 <= trio.current_time() - start < 605
    assert 101 in mail.account.mailboxes["INBOX"].messages


async def test_pipelined_commands(mail: Post) -> None:
    async with mail.client() as client:
        await client.line()
        await client.channel.send(b"USER jim\r\nPASS secret\r\nSTAT\r\nNOOP\r\nQUIT\r\n")
        replies = [await client.line() for _ in range(5)]
        assert all(reply.startswith(b"+OK") for reply in replies)
        assert replies[-1] == b"+OK bye-bye"


async def test_passwords_stay_out_of_the_log(mail: Post) -> None:
    async with mail.logged_in() as client:
        await client.say("QUIT")
    assert "logged in" in mail.log.text()
    assert "secret" not in mail.log.text()


async def test_sessions_are_in_the_table_and_counted(mail: Post) -> None:
    async with mail.logged_in() as client:
        (session,) = mail.sessions
        assert (session.label, session.account, session.address) == ("POP-1", "jim@example.com", "127.0.0.1")
        await client.lines("RETR 1")
        await client.say("DELE 1")
        await client.say("QUIT")
    assert len(mail.sessions) == 0
    counted = mail.statistics.snapshot()
    assert counted["pop.logins"] == counted["pop.messages"] == counted["pop.removed"] == 1


@pytest.mark.feature("POP-005")
async def test_records_carry_the_number_of_the_session(mail: Post) -> None:
    async with mail.logged_in() as one, mail.logged_in() as two:
        await one.say("STAT")
        await two.say("NOOP")
    tags = {tag for _, tag, text in mail.log.records if text.startswith("inp")}
    assert tags == {"POP-1", "POP-2"}
    assert any(tag == "POP-1" and "Stat()" in text for _, tag, text in mail.log.records)
    assert not any(tag == "POP-2" and "Stat()" in text for _, tag, text in mail.log.records)


async def test_an_ended_session_says_good_bye_and_removes_nothing(mail: Post) -> None:
    async with mail.logged_in() as client:
        await client.say("DELE 1")
        (session,) = mail.sessions
        await trio.testing.wait_all_tasks_blocked()
        assert not session.busy
        session.kick("the server is shutting down")
        assert await client.line() == b"-ERR [SYS/TEMP] the session is closed: the server is shutting down"
        assert await client.closed()
    assert 101 in mail.account.mailboxes["INBOX"].messages
    assert mail.account.open_sessions == 0


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The client's and the server's."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mail.example.com").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return client, server


@pytest.mark.feature("POP-024", "STD-066", "POP-025")
async def test_stls(mail: Post, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with mail.client("192.0.2.9", certificate=lambda: contexts[1]) as client:
        await client.line()
        assert "STLS" in await client.lines("CAPA")
        assert (await client.say("USER jim")).startswith("-ERR")
        assert (await client.say("STLS")).startswith("+OK")
        await client.channel.start_tls(contexts[0], server_side=False, hostname="mail.example.com")
        capabilities = await client.lines("CAPA")
        assert "STLS" not in capabilities
        assert "USER" in capabilities
        assert (await client.say("STLS")).startswith("-ERR")
        assert (await client.log_in()).startswith("+OK 2")
    async with mail.client("192.0.2.9", certificate=lambda: None) as client:
        await client.line()
        assert "STLS" not in await client.lines("CAPA")
        assert (await client.say("STLS")).startswith("-ERR")


async def test_what_came_before_tls_is_not_heard_inside_it(
    mail: Post, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with mail.client("192.0.2.9", certificate=lambda: contexts[1]) as client:
        await client.line()
        await client.channel.send(b"STLS\r\nUSER evil\r\n")
        assert (await client.line()).startswith(b"-ERR")
        assert (await client.line()).startswith(b"-ERR [AUTH] start TLS")


async def test_messages_taken_in_their_order_are_read_together(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    call = Requests.call

    async def noted(self: Requests, name: str, *arguments: object) -> object:
        asked.append(name)
        return await call(self, name, *arguments)

    for uid in range(1, 41):
        post.account.put(uid, b"Subject: %d\r\n\r\n.dot\r\nno end" % uid)
    async with post.logged_in() as client:
        monkeypatch.setattr(Requests, "call", noted)
        for number in range(1, 38):
            assert await client.lines(f"RETR {number}") == [f"Subject: {number}", "", ".dot", "no end"]
        assert asked.count("fetch") <= 7
        post.account.expunge(38)  # it was read ahead, but is no more
        assert (await client.say("RETR 38")).startswith("-ERR")
        assert await client.lines("RETR 40") == ["Subject: 40", "", ".dot", "no end"]
        assert await client.lines("RETR 2") == ["Subject: 2", "", ".dot", "no end"]


@pytest.mark.feature("POP-033")
async def test_pipelined_messages_become_read_before_the_replies_end(post: Post) -> None:
    for uid in range(1, 11):
        post.account.put(uid, ONE)
    async with post.logged_in() as client:
        await client.channel.send(b"".join(b"RETR %d\r\n" % number for number in range(1, 10)) + b"NOOP\r\n")
        found = b""
        while found.count(b"\r\n.\r\n") < 9:
            found += await client.channel.receive()
        assert found.count(b"\r\n..dot\r\n.\r\n+OK") == 9
        messages = post.account.mailboxes["INBOX"].messages
        assert [uid for uid, stored in messages.items() if stored.flags & Flag.SEEN] == list(range(1, 10))
