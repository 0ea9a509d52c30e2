"""Local delivery as its users see it: what is stored, what waits and for how long, what fails with which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.accounts.client import AccountError
from appliance.accounts.delivery import Delivery, DeliveryResult
from appliance.formats.headers import get_all
from appliance.objects.domain import Account
from appliance.transfer.message import Envelope, Source
from tests.modules.house import MESSAGE, House, house, quiet

BIG = MESSAGE + b"x" * 70 + b"\n" + b"All the words of a long letter.\n" * 20_000


def report(house: House) -> bytes:
    """The last report that went out."""
    message, _, content = house.smtp.sent[-1]
    assert message.sender == ""
    return content


@pytest.mark.feature("LOCAL-040", "LOCAL-071", "LOCAL-072", "LOCAL-078")
async def test_a_message_lands_in_the_inbox_with_one_return_path(office: House, autojump_clock: MockClock) -> None:
    alice = office.domains.find_account("alice")
    assert alice is not None
    session = await office.accounts.open(alice)
    opened = await session.open("INBOX")
    await office.send("alice@office.test", text=b"Return-Path: <old@x>\nreturn-path: <older@x>\n" + MESSAGE)
    await quiet()
    (mail,) = await office.mail("alice")
    assert mail.startswith(b"Return-Path: <bob@far.test>\r\nFrom: Bob")
    assert get_all(mail, b"return-path") == [b"<bob@far.test>"]
    assert len((await session.changes(opened.view, opened.modseq)).new) == 1  # an open reader sees it
    assert office.statistics.snapshot()["local.delivered"] == 1
    assert not office.transfer.queues.all() and not office.smtp.sent
    await session.aclose()


async def test_many_messages_keep_their_order(office: House, autojump_clock: MockClock) -> None:
    await office.local_settings.update({"Processors": "0"})
    for number in range(80):
        await office.send("alice@office.test", text=b"Subject: %d\n\nhello\n" % number)
    await office.local_settings.update({"Processors": "3"})
    await quiet()
    mails = await office.mail("alice")
    assert [get_all(mail, b"subject")[0] for mail in mails] == [b"%d" % number for number in range(80)]


@pytest.mark.feature("LOCAL-041")
async def test_processes_bound_accounts(
    office: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = most = 0
    real = office.accounts.deliver

    async def slow(account: Account, delivery: Delivery) -> DeliveryResult:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1
        return await real(account, delivery)

    monkeypatch.setattr(office.accounts, "deliver", slow)
    await office.local_settings.update({"Processors": "0"})
    for name in ("a1", "a2", "a3", "a4", "a5"):
        await office.account(name)
        await office.send(f"{name}@office.test")
    await quiet(100)
    assert len(office.waiting()) == 5 and most == 0
    await office.local_settings.update({"Processors": "3"})
    await quiet(10)
    assert most == 3 and not office.waiting()


async def test_a_large_message_goes_in_piece_by_piece(office: House, autojump_clock: MockClock) -> None:
    await office.send("alice@office.test", text=b"Return-Path: <old@x>\n" + BIG)
    await quiet()
    (size,) = [len(mail) for mail in await _sizes(office, "alice")]
    wire = (b"Return-Path: <bob@far.test>\n" + BIG).replace(b"\n", b"\r\n")
    assert size == len(wire)


async def _sizes(office: House, name: str) -> list[bytes]:
    account = office.domains.find_account(name)
    assert account is not None
    session = await office.accounts.open(account)
    opened = await session.open("INBOX", write=False)
    found = []
    for uid in range(1, opened.uidnext):
        data, at = b"", 0
        while True:
            total, piece = await session.read(opened.view, uid, "", at, 1 << 17)
            data, at = data + piece, at + len(piece)
            if at >= total:
                break
        found.append(data)
    await session.aclose()
    return found


@pytest.mark.feature("LOCAL-024")
async def test_accepted_and_bounced(office: House, autojump_clock: MockClock) -> None:
    await office.domains.main.settings.update({"MailToUnknown": "Accepted and Bounced"})
    await office.send("nobody@office.test", "alice@office.test")
    await quiet(30)
    assert len(await office.mail("alice")) == 1
    assert b"unknown account" in report(office) and b"Status: 5.1.1" in report(office)


@pytest.mark.feature("LOCAL-046", "LOCAL-048")
async def test_mail_waits_while_the_service_is_off(office: House, autojump_clock: MockClock) -> None:
    alice = await office.domains.require_account("alice")
    await alice.settings.update({"AccessModes": ["POP", "IMAP"]})
    await office.send("alice@office.test")
    await quiet()
    assert office.waiting() == {"alice@office.test": "mail service is disabled for this account"}
    assert not office.smtp.sent
    await quiet(1000)
    assert b"Action: delayed" in report(office)
    await alice.settings.update({"AccessModes": "default"})
    await quiet(61)
    assert len(await office.mail("alice")) == 1


@pytest.mark.feature("LOCAL-046")
async def test_the_domain_can_hold_its_mail_too_and_time_runs_out(office: House, autojump_clock: MockClock) -> None:
    await office.local_settings.update({"KeepDisabled": "3600", "WarnAfter": "0"})
    await office.domains.require("branch.test").settings.update({"DomainAccessModes": ["POP"]})
    await office.send("dave@branch.test")
    await quiet(3000)
    assert not office.smtp.sent
    await quiet(700)
    assert b"mail service is disabled" in report(office) and b"Status: 5.2.1" in report(office)
    assert not office.waiting()


@pytest.mark.feature("LOCAL-047")
async def test_mail_for_a_disabled_account_fails_at_once(office: House, autojump_clock: MockClock) -> None:
    await office.local_settings.update({"KeepDisabled": "0"})
    alice = await office.domains.require_account("alice")
    await alice.settings.update({"AccessModes": ["POP"]})
    await office.send("alice@office.test")
    await quiet()
    assert b"mail service is disabled" in report(office)


@pytest.mark.feature("LOCAL-042", "LOCAL-044")
async def test_a_full_account_gets_its_mail_when_it_has_room_again(office: House, autojump_clock: MockClock) -> None:
    alice = await office.domains.require_account("alice")
    await office.local_settings.update({"FullPercent": "50"})
    await alice.settings.update({"MaxAccountSize": "2000"})
    await office.send("alice@office.test", text=MESSAGE + b"x" * 1000 + b"\n")
    await quiet()
    await office.send("alice@office.test")
    await quiet(600)
    assert len(await office.mail("alice")) == 1
    assert office.waiting() == {"alice@office.test": "account is full"}
    await office.empty("alice")
    await quiet(61)
    assert len(await office.mail("alice")) == 1 and not office.waiting()


@pytest.mark.feature("LOCAL-042")
async def test_a_full_account_is_full_for_as_long_as_the_setting_says(office: House, autojump_clock: MockClock) -> None:
    alice = await office.domains.require_account("alice")
    await office.local_settings.update({"KeepFull": "3600", "WarnAfter": "0"})
    await alice.settings.update({"MaxAccountSize": "100"})
    await office.send("alice@office.test")
    await quiet(3500)
    assert not office.smtp.sent
    await quiet(200)
    assert b"account is full" in report(office) and b"Status: 5.2.2" in report(office)


@pytest.mark.feature("LOCAL-043", "LOCAL-045")
async def test_without_a_hold_what_does_not_fit_fails_at_once(office: House, autojump_clock: MockClock) -> None:
    alice = await office.domains.require_account("alice")
    await office.local_settings.update({"KeepFull": "0"})
    await alice.settings.update({"MaxAccountSize": "10000"})
    await office.send("alice@office.test", text=BIG)
    await office.send("alice@office.test")
    await quiet()
    assert b"account is full" in report(office)
    assert len(await office.mail("alice")) == 1  # the small one fits


@pytest.mark.feature("LOCAL-050")
async def test_flow_control_suspends_the_queue(office: House, autojump_clock: MockClock) -> None:
    await office.local_settings.update({"FlowCount": "10", "FlowPeriod": "15"})
    for _ in range(25):
        await office.send("alice@office.test")
    await office.send("carol@office.test")
    await quiet(5)
    assert len(await office.mail("alice")) == 10 and len(await office.mail("carol")) == 1
    assert office.waiting() == {"alice@office.test": "too many messages for this account"}
    await quiet(60)
    assert len(await office.mail("alice")) == 20
    await quiet(60)
    assert len(await office.mail("alice")) == 25


async def test_a_released_queue_is_not_suspended(office: House, autojump_clock: MockClock) -> None:
    await office.local_settings.update({"FlowCount": "2", "FlowPeriod": "15"})
    for _ in range(6):
        await office.send("alice@office.test")
    await quiet()
    assert office.transfer.queues.release("LOCAL", "alice@office.test")
    await quiet()
    assert len(await office.mail("alice")) == 6


@pytest.mark.feature("LOCAL-054")
async def test_the_administrator_rejects_what_waits(office: House, autojump_clock: MockClock) -> None:
    alice = await office.domains.require_account("alice")
    await alice.settings.update({"AccessModes": ["POP"]})
    number = await office.send("alice@office.test")
    await quiet()
    office.transfer.queues.reject(office.transfer.spool.live[number], "go away")
    await quiet()
    assert b"go away" in report(office) and not office.waiting()


@pytest.mark.feature("LOCAL-074")
async def test_delivery_reports_that_were_asked_for(office: House, autojump_clock: MockClock) -> None:
    await office.send(Envelope("alice@office.test", "S"))
    await quiet()
    assert b"Action: delivered" in report(office) and b"Status: 2.0.0" in report(office)
    await office.send("alice@office.test", text=b"Return-Receipt-To: bob@far.test\n" + MESSAGE)
    await quiet()
    assert len(office.smtp.sent) == 2 and b"Action: delivered" in report(office)
    await office.send("alice@office.test")
    await quiet()
    assert len(office.smtp.sent) == 2


@pytest.mark.feature("LOCAL-075")
async def test_an_address_test_stores_nothing(office: House, autojump_clock: MockClock) -> None:
    alice = await office.domains.require_account("alice")
    text = b"X-Special-Delivery: test\n" + MESSAGE
    await office.send("alice@office.test", text=text)
    await quiet()
    assert await office.mail("alice") == [] and not office.smtp.sent
    await alice.settings.update({"AccessModes": ["POP"]})
    await office.send("alice@office.test", text=text)
    await quiet()
    assert b"mail service is disabled" in report(office)  # the account was looked at


@pytest.mark.feature("LOCAL-080", "LOCAL-081", "LOCAL-082", "LOCAL-084")
async def test_a_unified_account_has_one_copy_and_the_names(office: House, autojump_clock: MockClock) -> None:
    await office.router.settings.update({"Table": "client1.com = alice.local\n<*@client2.com> = alice\n"})
    await office.send("abcdef@client1.com", "xyz@client1.com", '"a b"@client1.com')
    await quiet()
    (mail,) = await office.mail("alice")
    assert get_all(mail, b"x-real-to") == [b'abcdef, xyz, "a b"']
    await office.local_settings.update({"EnvelopeField": "X-Env"})
    await office.send("abcdef@client1.com")
    await office.send("abcdef@client2.com")
    await quiet()
    _, other, plain = await office.mail("alice")
    assert get_all(other, b"x-env") == [b"abcdef"] and get_all(other, b"x-real-to") == []
    assert get_all(plain, b"x-env") == []


@pytest.mark.feature("LOCAL-087")
async def test_one_name_of_a_unified_domain_is_excepted(office: House, autojump_clock: MockClock) -> None:
    await office.router.settings.update({"Table": "<jim@client1.com> = carol\nclient1.com = alice.local\n"})
    await office.send("jim@client1.com", "any@client1.com")
    await quiet()
    assert len(await office.mail("carol")) == 1
    (mail,) = await office.mail("alice")
    assert get_all(mail, b"x-real-to") == [b"any"]


@pytest.mark.feature("LOCAL-027", "LOCAL-085")
async def test_unknown_names_of_a_domain_are_kept_in_one_account(office: House, autojump_clock: MockClock) -> None:
    await office.domains.require("branch.test").settings.update(
        {"MailToUnknown": "Rerouted to", "MailRerouteAddress": "*%dave@branch.test.domain"}
    )
    await office.send("foo@branch.test", "dave@branch.test")
    await quiet()
    copies = [get_all(mail, b"x-real-to") for mail in await office.mail("dave@branch.test")]
    assert sorted(copies) == [[], [b"foo"]]


@pytest.mark.feature("LOCAL-083")
async def test_the_envelope_field_always(office: House, autojump_clock: MockClock) -> None:
    await office.local_settings.update({"AlwaysAddEnvelope": "YES"})
    await office.send("alice@office.test", "al@office.test")
    await quiet()
    (mail,) = await office.mail("alice")
    assert get_all(mail, b"x-real-to") == [b"alice@office.test, al@office.test"]


@pytest.mark.feature("LOCAL-090", "LOCAL-091", "LOCAL-092", "LOCAL-098")
async def test_direct_mailboxes(office: House, autojump_clock: MockClock) -> None:
    alice = await office.domains.require_account("alice")
    session = await office.accounts.open(alice)
    for name in ("sales", "Sales"):
        await session.create(name)
    await session.aclose()
    await office.router.settings.update({"Table": '<support@client.com> = "sales#alice"@office.test\n'})
    await office.send('"sales#alice"@office.test', "support@client.com", '"nobox#alice"@office.test')
    await quiet(30)
    assert len(await office.mail("alice", "sales")) == 1 and await office.mail("alice", "Sales") == []
    assert await office.mail("alice") == []
    assert b"there is no mailbox nobox" in report(office) and report(office).count(b"Action: failed") == 1
    await office.send("Sales#alice@office.test")
    await quiet()
    assert len(await office.mail("alice", "Sales")) == 1


@pytest.mark.feature("LOCAL-096", "LOCAL-097")
async def test_account_detail(office: House, autojump_clock: MockClock) -> None:
    await office.local_settings.update({"AccountDetail": "Enabled"})
    await office.send("alice+jokes@office.test")
    await quiet()
    assert len(await office.mail("alice")) == 1
    await office.local_settings.update({"AccountDetail": "Direct Mailbox"})
    alice = await office.domains.require_account("alice")
    session = await office.accounts.open(alice)
    await session.create("jokes")
    await session.aclose()
    await office.send("alice+jokes@office.test")
    await quiet()
    assert len(await office.mail("alice", "jokes")) == 1 and len(await office.mail("alice")) == 1


@pytest.mark.feature("LOCAL-073", "MBOX-137")
@pytest.mark.parametrize("processes", [1, 10])
@pytest.mark.parametrize("text", [MESSAGE, MESSAGE + b"x" * 70 + b"\n" * 300_000], ids=["small", "large"])
async def test_one_message_to_many_is_one_file(
    office: House, tmp_path: Path, autojump_clock: MockClock, processes: int, text: bytes
) -> None:
    """Also when the accounts are served at the same time; the file goes when the last one removes it."""
    names = [f"m{number}" for number in range(8)]
    for name in names:
        await office.account(name, DefaultMailboxType="MailDir Mailbox")
    await office.local_settings.update({"Processors": str(processes)})
    await office.send(*(f"{name}@office.test" for name in names), text=text)
    await quiet(3)
    places = [inode for name in names for inode in _inodes(tmp_path / "Accounts" / f"{name}.macnt")]
    assert len(places) == 8 and len(set(places)) == 1
    assert len({content for name in names for content in await office.mail(name)}) == 1
    for name in names[1:]:
        await office.empty(name)
    (left,) = (tmp_path / "Accounts" / "m0.macnt" / "INBOX.mdir").iterdir()
    assert left.stat().st_nlink == 1


def _inodes(account: Path) -> list[int]:
    return [path.stat().st_ino for path in (account / "INBOX.mdir").iterdir()]


async def test_trouble_never_bounces(office: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    real = office.accounts.deliver

    async def broken(account: Account, delivery: Delivery) -> DeliveryResult:
        raise AccountError("TEMPORARY", "the mailbox is locked")

    monkeypatch.setattr(office.accounts, "deliver", broken)
    await office.local_settings.update({"WarnAfter": "0"})
    await office.send("alice@office.test")
    await quiet(20_000)
    assert not office.smtp.sent and list(office.waiting()) == ["alice@office.test"]
    monkeypatch.setattr(office.accounts, "deliver", real)
    await quiet(61)
    assert len(await office.mail("alice")) == 1


async def test_what_was_delivered_is_delivered_once_over_a_crash(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with house(tmp_path, orderly=False) as office:
        await office.account("alice")
        await office.send("alice@office.test", text=b"Return-Path: <old@x>\n" + MESSAGE)
        await quiet(0.5)
        assert len(await office.mail("alice")) == 1
        await office.local_settings.update({"Processors": "0"})
        await office.send("alice@office.test", text=b"Subject: two\n\n")
    async with house(tmp_path) as office:
        await quiet()
        one, two = await office.mail("alice")
        assert one.startswith(b"Return-Path: <bob@far.test>\r\nFrom: Bob") and b"Subject: two" in two
        assert "is not what it was" not in office.log.text()


async def test_source_of_a_message_does_not_matter(office: House, autojump_clock: MockClock) -> None:
    await office.send("alice@office.test", sender="", source=Source("DEQUEUER", trusted=True))
    await quiet()
    (mail,) = await office.mail("alice")
    assert mail.startswith(b"Return-Path: <>\r\n")
