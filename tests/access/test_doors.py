"""Who may log in, on POP and PWD alike: names, services, networks, secure methods, suspension, alerts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from appliance.accounts import login as door
from appliance.accounts.alerts import set_own
from appliance.kernel.operations import Caller
from appliance.objects import declarations as d
from appliance.protocols import sasl
from tests.access.serving import STRANGER, Office, good, office

WAIT = door.DELAY
SERVICES = pytest.mark.parametrize("service", ["POP", "PWD"])
INBOX = b"X-Real-To: abcdef\nSubject: 1\n\n"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "DELAY", 0.0)


@SERVICES
@pytest.mark.feature("POP-017", "PWD-011")
async def test_names_are_completed_and_routed(tmp_path: Path, service: str) -> None:
    async with office(tmp_path) as box:
        client1 = await box.domains.create("client1.test")
        john = await box.domains.create_account(client1, "john")
        await box.domains.update_account(john, {"Password": "secret", "PasswordEncryption": "clear"})
        await box.domains.set_aliases(john, ["johnny"])
        await box.table.update({"Table": "<boss> = alice\n"})
        names = {
            "alice": "alice@office.test",
            "Alice@Office.TEST": "alice@office.test",
            "alice%office.test": "alice@office.test",
            "john%client1.test": "john@client1.test",
            "johnny@client1.test": "john@client1.test",
            "boss": "alice@office.test",
        }
        for name, account in names.items():
            async with box.client(service) as client:
                assert good(await client.log_in(name)), name
                assert [session.account for session in box.sessions] == [account]
        assert not good(await box.reply("john", service=service))
        async with box.client(service, domain="client1.test") as client:
            assert good(await client.log_in("john"))


@SERVICES
@pytest.mark.feature("PWD-007")
async def test_unknown_names_look_like_wrong_passwords(tmp_path: Path, service: str) -> None:
    async with office(tmp_path) as box:
        wrong = await box.reply("alice", "wrong", service)
        assert not good(wrong)
        assert await box.reply("nobody", "secret", service) == wrong
        await box.security.update({"HideUnknown": "NO"})
        assert await box.reply("nobody", "secret", service) != await box.reply("alice", "wrong", service)


@pytest.mark.feature("POP-018")
async def test_names_that_are_no_accounts(tmp_path: Path) -> None:
    async with office(tmp_path) as box:
        await box.domains.create_group(box.domains.main, "staff")
        for name in ("staff", "nobody", "alice@elsewhere.test", "", "a" * 600):
            assert (await box.reply(name)).startswith("-ERR")


@SERVICES
@pytest.mark.feature("PWD-008")
async def test_many_wrong_passwords_suspend_the_account_everywhere(tmp_path: Path, service: str) -> None:
    async with office(tmp_path) as box:
        await box.security.update({"LoginAttempts": "3"})
        for _ in range(3):
            await box.reply("alice", "wrong", service)
        for other in ("POP", "PWD"):
            assert not good(await box.reply("alice", service=other))
            assert good(await box.reply("bob", service=other))


@SERVICES
@pytest.mark.feature("POP-020", "PWD-012", "PWD-013")
async def test_services_and_networks_that_are_switched_off(tmp_path: Path, service: str) -> None:
    async with office(tmp_path) as box:
        alice = await box.server.account("alice")
        other = "PWD" if service == "POP" else "POP"
        without = [name for name in d.SERVICES if name != service]
        await box.domains.update_account(alice, {"AccessModes": list(without)})
        assert not good(await box.reply("alice", service=service))
        assert good(await box.reply("alice", service=other))
        await box.domains.update_account(alice, {"AccessModes": "default"})
        assert good(await box.reply("alice", service=service))
        await box.domains.main.settings.update({"DomainAccessModes": list(without)})
        assert not good(await box.reply("alice", service=service))
        assert good(await box.reply("alice", service=other))
        await box.domains.main.settings.update({"DomainAccessModes": "default"})

        async def from_outside() -> str:
            return await box.reply("alice@office.test", service=service, address=STRANGER, external=True)

        assert good(await from_outside())
        await box.domains.update_account(alice, {"AccessModes": [name for name in d.SERVICES if name != "Mobile"]})
        assert "network" in await from_outside()
        assert good(await box.reply("alice", service=service))
        await box.domains.update_account(alice, {"AccessModes": "default"})
        await box.addresses.update({"ClientOnly": "YES"})
        assert "network" in await from_outside()
        await box.addresses.update({"ClientAddresses": STRANGER})
        assert good(await from_outside())


@SERVICES
@pytest.mark.feature("POP-015", "PWD-014", "SEC-018", "SEC-019", "ACCT-041")
async def test_secure_method_required(tmp_path: Path, service: str) -> None:
    async with office(tmp_path) as box:
        alice = await box.server.account("alice")
        await box.domains.update_account(alice, {"RequireAPOP": "YES"})
        # A client of the office's own network, over a clear line.
        near: dict[str, Any] = {"service": service, "address": STRANGER, "client": True, "domain": "office.test"}
        assert good(await box.reply("bob", **near))
        assert not good(await box.reply("alice", **near))
        assert good(await box.reply("alice", **near, external=True))


@SERVICES
@pytest.mark.feature("POP-015", "PWD-014")
async def test_apop_is_a_secure_method(tmp_path: Path, service: str) -> None:
    async with office(tmp_path) as box:
        alice = await box.server.account("alice")
        await box.domains.update_account(alice, {"RequireAPOP": "YES"})
        async with box.client(service, STRANGER, client=True) as client:
            stamp = box.stamps[-1]
            digest = hashlib.md5(stamp.encode() + b"secret").hexdigest()
            assert good(await client.say(f"APOP alice@office.test {digest}"))


@SERVICES
@pytest.mark.feature("POP-021", "PWD-015")
async def test_who_logs_in_may_send(tmp_path: Path, service: str) -> None:
    async with office(tmp_path) as box:
        await box.addresses.update({"RememberMobile": "YES"})
        alice = await box.server.account("alice")
        assert not box.peers.client(STRANGER)
        async with box.client(service, STRANGER, external=True) as client:
            assert good(await client.log_in("alice@office.test"))
            assert box.peers.client(STRANGER)
        assert box.peers.client(STRANGER)
        await box.domains.update_account(alice, {"AccessModes": [name for name in d.SERVICES if name != "Relay"]})
        async with box.client(service, "192.0.2.10", external=True) as client:
            assert good(await client.log_in("alice@office.test"))
            assert not box.peers.client("192.0.2.10")


@pytest.mark.feature("POP-019", "POP-047", "POP-045", "POP-048", "POP-011")
async def test_mailboxes_in_names(tmp_path: Path) -> None:
    async with office(tmp_path) as box:
        alice = await box.server.account("alice")
        account = await box.server.session("alice")
        await account.create("sales")
        await account.append("sales", 0, (), 1_700_000_000, 0, b"Subject: offer\r\n\r\n")
        await account.aclose()
        await box.server.deliver(alice, INBOX)
        await box.server.deliver(alice, b"X-Real-To: xyz\nSubject: 2\n\n")
        client1 = await box.domains.create("client1.test")
        info = await box.domains.create_account(client1, "info")
        await box.domains.update_account(info, {"Password": "secret", "PasswordEncryption": "clear"})
        await box.table.update(
            {"Table": "<sell> = sales#alice\n<*#client1.test> = *@client1.test\nunified.test = alice.local\n"}
        )
        counts = {
            "alice": 2,
            "sales#alice": 1,
            "sales#alice@office.test": 1,
            "sell": 1,
            "info#client1.test": 0,
            "abcdef@unified.test": 1,
            "nobody@unified.test": 0,
        }
        for name, count in counts.items():
            assert (await box.reply(name)).startswith(f"+OK {count} message(s)"), name
        assert (await box.reply("nosuch#alice")).startswith("-ERR")


async def test_alerts_come_before_the_mail(tmp_path: Path) -> None:
    async with office(tmp_path) as box:
        alice = await box.server.account("alice")
        await box.server.accounts.with_state(alice, lambda state: set_own(state, {"20260101000000": "we move"}))
        assert await box.reply("alice") == "-ERR ALERT: we move"
        assert good(await box.reply("alice"))


async def test_a_session_leaves_nothing_open(tmp_path: Path) -> None:
    async with office(tmp_path) as box:
        assert good(await box.reply("alice"))
        assert good(await box.reply("alice", service="PWD"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(box.sessions) == 0


@pytest.mark.feature("ACCT-028")
async def test_a_password_that_may_not_be_used(tmp_path: Path) -> None:
    async with office(tmp_path) as box:
        alice = await box.server.account("alice")
        await box.domains.update_account(alice, {"UseAppPassword": "NO"})
        assert not good(await box.reply("alice"))
        await box.domains.update_account(alice, {"UseAppPassword": "default"})
        assert good(await box.reply("alice"))


async def cram_md5(box: Office, password: str) -> str:
    async with box.client() as client:
        ours = sasl.client_mechanism("CRAM-MD5", "alice", password, nonce=b"")
        assert ours is not None
        challenge = await client.say("AUTH CRAM-MD5")
        return await client.say(sasl.encode(ours.step(sasl.decode(challenge[2:].encode()))).decode())


@pytest.mark.feature("SEC-034", "SEC-035", "SEC-036", "SEC-042", "ACCT-032", "ACCT-033", "ACCT-035")
@pytest.mark.parametrize(("encryption", "readable"), [("clear", True), ("A-crpt", True), ("U-crpt", False)])
async def test_how_a_password_is_stored_decides_what_it_is_good_for(
    tmp_path: Path, encryption: str, readable: bool
) -> None:
    async with office(tmp_path) as box:
        master = Caller(None, "office.test", "PWD", box.domains)
        line = f"UpdateAccountSettings alice@office.test {{PasswordEncryption={encryption};}}"
        await box.commands.perform(master, line)
        await box.commands.perform(master, "SetAccountPassword alice@office.test TO Neu1")
        stored = (box.server.place("alice") / "account.settings").read_text()
        assert ("Neu1" in stored) == (encryption == "clear")
        assert good(await box.reply("alice", "Neu1"))
        assert not good(await box.reply("alice", "secret"))
        assert good(await cram_md5(box, "Neu1")) == readable
        assert not good(await cram_md5(box, "secret"))


@pytest.mark.feature("SEC-017", "SEC-090", "SEC-091", "SEC-096", "ACCT-044")
async def test_a_wrong_password_waits_is_told_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert WAIT == 2
    monkeypatch.setattr(door, "DELAY", 0.3)
    async with office(tmp_path) as box:
        for name in ("alice", "nobody"):
            start = trio.current_time()
            reply = await box.reply(name, "wrong")
            assert trio.current_time() - start >= 0.3
            assert "Incorrect Account Name or Password" in reply
        failures = [text for level, _, text in box.log.records if level == 1 and "failed" in text]
        assert any("alice" in text and "127.0.0.1" in text for text in failures)
        assert any("nobody" in text for text in failures)
        await box.security.update({"HideUnknown": "NO"})
        assert "Incorrect Password" in await box.reply("alice", "wrong")
        assert "Unknown Account" in await box.reply("nobody", "wrong")


@pytest.mark.feature("SEC-093", "SEC-094", "ACCT-042")
async def test_a_suspended_account_is_enabled_again_after_the_period(tmp_path: Path) -> None:
    async with office(tmp_path) as box:
        await box.security.update({"LoginAttempts": "2", "LoginPeriod": "1s"})
        for _ in range(2):
            await box.reply("alice", "wrong")
        assert not good(await box.reply("alice"))
        await trio.sleep(1.1)
        assert good(await box.reply("alice"))


@pytest.mark.feature("SEC-124")
async def test_tls_that_is_switched_off_for_an_account(tmp_path: Path) -> None:
    async with office(tmp_path) as box:
        alice = await box.server.account("alice")
        await box.domains.update_account(alice, {"AccessModes": [name for name in d.SERVICES if name != "TLS"]})
        assert not good(await box.reply("alice", external=True))
        assert good(await box.reply("alice"))


@pytest.mark.feature("ACCT-047")
async def test_the_last_log_in_is_kept(tmp_path: Path) -> None:
    async with office(tmp_path) as box:
        assert good(await box.reply("alice", service="PWD"))
        account = await box.server.session("alice")
        info = await account.info()
        await account.aclose()
        assert info["#LastAddress"] == "[127.0.0.1]"
        assert len(str(info["#LastLogin"])) >= 14
