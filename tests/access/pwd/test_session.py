from __future__ import annotations

import base64
import hashlib
import re
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trustme

from appliance.formats import passwords
from appliance.kernel.operations import Caller
from appliance.objects import declarations as d
from appliance.protocols import sasl

if TYPE_CHECKING:
    from tests.access.pwd.conftest import Office


@pytest.mark.feature("PWD-002", "PWD-003", "PWD-004", "PWD-005", "PWD-019", "CLI-003", "CLI-004", "STD-114")
async def test_the_session_of_the_manual(office: Office) -> None:
    async with office.client() as client:
        greeting = await client.line()
        assert re.fullmatch(r"200 Pillarbox at mail\.office\.test PWD Server 1\.0 ready <[^@<>]+@[^@<>]+>", greeting)
        assert await client.say("USER postmaster") == "300 please send the PASS"
        assert await client.say("PASS master") == "200 login OK"
        assert await client.say('CreateAccount "user1"') == "200 OK"
        refused = await client.say('CreateAccount "user1"')
        assert re.fullmatch(r"5\d\d .*already exists", refused)
        assert await client.say('RenameAccount "user1" into "user2"') == "200 OK"
        assert office.domains.find_account("user2@office.test") is not None
        assert await client.say("QUIT") == "200 Pillarbox PWD connection closed"
        assert await client.closed()


@pytest.mark.feature("PWD-006")
async def test_wrong_names_and_passwords_look_alike(office: Office, autojump_clock: trio.testing.MockClock) -> None:
    async with office.client() as client:
        await client.line()
        start = trio.current_time()
        wrong = await client.log_in("jim", "wrong")
        assert trio.current_time() - start >= 2
        assert wrong.startswith("500 ")
        assert await client.log_in("nobody", "secret") == wrong
        assert await client.log_in("jim", "secret") == "200 login OK"


@pytest.mark.feature("PWD-009")
async def test_apop(office: Office) -> None:
    async with office.client() as client:
        stamp = (await client.line()).rpartition(" ")[2]
        digest = hashlib.md5(stamp.encode() + b"master").hexdigest()
        assert await client.say(f"APOP postmaster@office.test {digest}") == "200 login OK"


@pytest.mark.feature("PWD-010")
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
async def test_sasl(office: Office, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "ITERATIONS", 4096)
    async with office.client() as client:
        await client.line()
        ours = sasl.client_mechanism(method, "postmaster%office.test", "master", nonce=b"0123456789abcdefghij")
        assert ours is not None
        reply = await client.say(f"AUTH {method}")
        while reply.startswith("300"):
            reply = await client.say(sasl.encode(ours.step(sasl.decode(reply[4:].encode()))).decode())
        assert reply == "200 login OK"


async def test_auth_with_initial_response_and_cancel(office: Office) -> None:
    async with office.client() as client:
        await client.line()
        assert (await client.say("AUTH LOGIN")).startswith("300 ")
        assert (await client.say("*")).startswith("515 ")
        assert (await client.say("AUTH MSN")).startswith("501 ")
        plain = base64.b64encode(b"\0jim\0secret").decode()
        assert await client.say(f"AUTH PLAIN {plain}") == "200 login OK"


async def test_no_clear_passwords_over_the_open_net(office: Office) -> None:
    async with office.client("192.0.2.9") as client:
        greeting = await client.line()
        assert (await client.say("USER postmaster")).startswith("501 start TLS")
        assert (await client.say("AUTH PLAIN")).startswith("501 start TLS")
        digest = hashlib.md5(greeting.rpartition(" ")[2].encode() + b"master").hexdigest()
        assert await client.say(f"APOP postmaster {digest}") == "200 login OK"
    await office.settings.update({"ClearTextLogin": "YES"})
    async with office.client("192.0.2.9") as client:
        await client.line()
        assert await client.log_in() == "200 login OK"


@pytest.mark.feature("PWD-020")
async def test_idle_connections_are_closed(office: Office, autojump_clock: trio.testing.MockClock) -> None:
    async with office.client() as client:
        await client.line()
        start = trio.current_time()
        assert await client.closed()
        assert trio.current_time() - start == 300


@pytest.mark.feature("CLI-001", "PWD-031", "CLI-005")
async def test_commands_need_a_log_in(office: Office) -> None:
    async with office.client() as client:
        await client.line()
        assert (await client.say("ListDomains")).startswith("5")
        await client.log_in()
        names = await client.data("ListDomains")
        assert isinstance(names, list)
        assert set(map(str, names)) == {"client1.test", "office.test"}
        assert await client.data("MainDomainName") == "office.test"
        assert (await client.say("NoSuchThing x")).startswith("500 ")


async def test_inline_answers(office: Office) -> None:
    async with office.logged_in() as client:
        assert await client.say("INLINE") == "200 OK"
        assert await client.say("MainDomainName") == '201 "office.test"'


@pytest.mark.feature("CLI-002")
async def test_rights_count_from_the_next_command_on(office: Office) -> None:
    async with office.logged_in() as master, office.logged_in("admin@client1.test", "admin") as admin:
        assert await admin.say("CreateAccount x") == "200 OK"
        assert office.domains.find_account("x@client1.test") is not None
        assert await master.say("SetAccountRights admin@client1.test (Domain)") == "200 OK"
        assert (await admin.say("CreateAccount y")).startswith("520 ")


@pytest.mark.feature("CLI-012")
async def test_a_user_and_his_own_account(office: Office) -> None:
    async with office.logged_in("jim", "secret") as client:
        assert isinstance(await client.data("GetAccountSettings *"), dict)
        assert (await client.say("GetAccountSettings postmaster")).startswith("520 ")
        assert (await client.say("CreateAccount x")).startswith("520 ")


@pytest.mark.feature("PWD-021", "CLI-021")
async def test_administrators_may_send_long_lines(office: Office) -> None:
    seen: list[int] = []

    @office.operations.declare("SetBigThing text", right=None)
    async def set_big_thing(caller: Caller, text: str) -> None:
        seen.append(len(text))

    async with office.logged_in() as client:
        assert await client.say(f'SetBigThing "{"x" * 500_000}"') == "200 OK"
        assert seen == [500_000]
        assert (await client.say(f'SetBigThing "{"x" * 2_000_000}"')).startswith("515 ")
        assert await client.data("MainDomainName") == "office.test"
    async with office.logged_in("jim", "secret") as client:
        assert (await client.say(f'SetBigThing "{"x" * 500_000}"')).startswith("515 ")
        assert await client.data("MainDomainName") == "office.test"
    assert seen == [500_000]


@pytest.mark.feature("PWD-022", "PWD-023", "PWD-030", "STD-114")
async def test_a_new_password_is_valid_at_once(office: Office) -> None:
    office.door.pause = 0  # hashing is done in a thread, where no mocked clock runs
    async with office.logged_in("jim", "secret") as client:
        assert await client.say("NEWPASS a new one ") == "200 password changed"
    async with office.client() as client:
        await client.line()
        assert (await client.log_in("jim", "secret")).startswith("500 ")
        assert await client.log_in("jim", "a new one ") == "200 login OK"
    account = office.domains.find_account("jim@office.test")
    assert account is not None
    assert account.settings[d.PASSWORD].reveal().startswith("\x02{SCRAM-SHA-256}")
    changed = [text for level, _, text in office.log.records if "has changed the password" in text and level == 2]
    assert len(changed) == 1
    assert "a new one" not in office.log.text()


@pytest.mark.feature("MIGR-033")
async def test_a_change_stores_in_the_encryption_of_the_account(office: Office) -> None:
    jim = await office.domains.require_account("jim@office.test")
    old = passwords.import_one_way("{SHA}" + base64.b64encode(hashlib.sha1(b"old").digest()).decode())
    await office.domains.update_account(jim, {"Password": old, "PasswordEncryption": "A-crpt"})
    async with office.logged_in("jim", "old") as client:
        assert await client.say("NEWPASS fresh") == "200 password changed"
    async with office.client() as client:
        stamp = (await client.line()).rpartition(" ")[2]
        digest = hashlib.md5(stamp.encode() + b"fresh").hexdigest()
        assert await client.say(f"APOP jim {digest}") == "200 login OK"
    assert not jim.settings[d.PASSWORD].reveal().startswith("\x02")


@pytest.mark.feature("PWD-027", "SEC-041")
async def test_a_change_may_be_forbidden(office: Office) -> None:
    jim = await office.domains.require_account("jim@office.test")
    await office.domains.update_account(jim, {"PWDAllowed": "NO"})
    async with office.logged_in("jim", "secret") as client:
        assert (await client.say("NEWPASS fresh")).startswith("501 ")
        assert (await client.say("NEWPASS ")).startswith("501 ")
    async with office.logged_in("jim", "secret"):
        pass


@pytest.mark.parametrize("password", ["", "default", "x" * 2000, "tab\there"])
async def test_what_cannot_be_a_password(office: Office, password: str) -> None:
    async with office.logged_in("jim", "secret") as client:
        assert (await client.say(f"NEWPASS {password}")).startswith("501 ")
    async with office.logged_in("jim", "secret"):
        pass


async def test_passwords_stay_out_of_the_log(office: Office) -> None:
    async with office.logged_in() as client:
        assert await client.say("SetAccountPassword jim To Geheimnis") == "200 OK"
        await client.say("SetAccountPassword nobody To Geheimnis")
    assert "SetAccountPassword" in office.log.text()
    assert "Geheimnis" not in office.log.text()
    assert "master" not in office.log.text().replace("postmaster", "")


async def test_stls(office: Office) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mail.office.test").configure_cert(server)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with office.client("192.0.2.9", certificate=lambda: server) as client:
        await client.line()
        assert (await client.say("STLS")).startswith("200 ")
        await client.channel.start_tls(context, server_side=False, hostname="mail.office.test")
        assert await client.log_in() == "200 login OK"
    async with office.client() as client:
        await client.line()
        assert (await client.say("STLS")).startswith("501 ")


async def test_sessions_are_in_the_table_and_are_told_good_bye(office: Office) -> None:
    async with office.logged_in("jim", "secret") as client:
        (session,) = office.sessions
        assert (session.label, session.account) == ("PWD-1", "jim@office.test")
        await trio.testing.wait_all_tasks_blocked()
        session.kick("the server is shutting down")
        assert await client.line() == "501 the session is closed: the server is shutting down"
        assert await client.closed()


async def test_an_account_keeps_its_session_under_a_new_name(office: Office) -> None:
    async with office.logged_in() as master, office.logged_in("jim", "secret") as client:
        assert await master.say("RenameAccount jim into james") == "200 OK"
        assert isinstance(await client.data("GetAccountSettings *"), dict)
        assert await client.say("NEWPASS fresh") == "200 password changed"
        assert await master.say("VerifyAccountPassword james PASSWORD fresh") == "200 OK"
        assert await master.say("DeleteAccount james") == "200 OK"
        assert (await client.say("NEWPASS again")).startswith("501 ")


@pytest.mark.feature("SEC-043")
async def test_an_administrator_checks_a_password(office: Office) -> None:
    async with office.logged_in() as client:
        assert await client.say("VerifyAccountPassword jim PASSWORD secret") == "200 OK"
        assert (await client.say("VerifyAccountPassword jim PASSWORD Secret")).startswith("5")
