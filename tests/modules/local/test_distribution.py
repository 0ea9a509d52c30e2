"""Mail to all: who may send it, who gets it, and what happens to those who cannot have it now."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from trio.testing import MockClock

from appliance.accounts.client import AccountError
from appliance.accounts.delivery import Delivery, DeliveryResult
from appliance.accounts.gate import Accounts
from appliance.formats.headers import get_all
from appliance.kernel.disk import InLoopDisk
from appliance.objects.domain import Account
from appliance.transfer.message import Source
from tests.kernel.disk_testing import RecordingFiles, crashes, replay
from tests.modules.house import MESSAGE, House, house, quiet

Deliver = Callable[[Account, Delivery], Awaitable[DeliveryResult]]


async def allow(office: House, who: str = "anybody", domain: str = "") -> None:
    await office.domains.require(domain).settings.update({"MailToAllAction": who})


async def counts(office: House, *names: str) -> list[int]:
    return [len(await office.mail(name)) for name in names]


@pytest.mark.feature("LOCAL-110")
async def test_all_accounts_that_take_it_get_it(office: House, autojump_clock: MockClock) -> None:
    await allow(office)
    await office.account("erin", MailToAll="NO")
    await office.account("frank", AccessModes=["POP"])
    await office.send("all@office.test", text=b"Return-Path: <old@x>\n" + MESSAGE)
    await quiet()
    assert await counts(office, "alice", "carol", "postmaster", "erin", "frank", "dave@branch.test") == [
        1,
        1,
        1,
        0,
        0,
        0,
    ]
    (mail,) = await office.mail("alice")
    assert get_all(mail, b"return-path") == [b"<bob@far.test>"]
    assert not office.smtp.sent and not office.waiting()


@pytest.mark.feature("LOCAL-114")
async def test_all_domains_each_with_its_own_check(office: House, autojump_clock: MockClock) -> None:
    await office.domains.create("closed.test")
    await office.account("gina@closed.test")
    await allow(office)
    await allow(office, "Authenticated Users", "branch.test")
    await office.send("alldomains@office.test")
    await quiet()
    assert await counts(office, "alice", "dave@branch.test", "gina@closed.test") == [1, 0, 0]
    await office.send("alldomains@office.test", source=Source("SMTP", account="alice@office.test"))
    await quiet()
    assert await counts(office, "alice", "dave@branch.test", "gina@closed.test") == [2, 1, 0]


@pytest.mark.feature("LOCAL-113")
async def test_with_nobody_an_account_may_have_the_name(office: House, autojump_clock: MockClock) -> None:
    await office.account("all")
    await office.send("all@office.test")
    await quiet()
    assert await counts(office, "all", "alice") == [1, 0]


@pytest.mark.feature("LOCAL-112", "LOCAL-116")
@pytest.mark.parametrize(
    ("who", "source", "may"),
    [
        ("anybody", Source("SMTP"), True),
        ("Clients", Source("SMTP"), False),
        ("Clients", Source("SMTP", client=True), True),
        ("Clients", Source("SMTP", account="dave@branch.test"), True),
        ("Authenticated Users", Source("SMTP", client=True), False),
        ("Authenticated Users", Source("SMTP", account="dave@branch.test"), True),
        ("Authenticated Domain Users", Source("SMTP", account="dave@branch.test"), False),
        ("Authenticated Domain Users", Source("SMTP", account="alice@office.test"), True),
        ("Authenticated Administrator", Source("SMTP", account="alice@office.test"), False),
        ("Authenticated Administrator", Source("SMTP", account="postmaster@office.test"), True),
        ("Authenticated Administrator", Source("FOREIGN", trusted=True), True),
    ],
)
async def test_who_may_send_to_all(
    office: House, autojump_clock: MockClock, who: str, source: Source, may: bool
) -> None:
    await allow(office, who)
    await office.send("all@office.test", source=source)
    await quiet()
    assert await counts(office, "alice") == [int(may)]
    if not may:
        assert b"Status: 5.7.1" in office.smtp.sent[0][2]


@pytest.mark.feature("LOCAL-115")
async def test_reports_are_not_distributed(office: House, autojump_clock: MockClock) -> None:
    await allow(office)
    await office.send("all@office.test", sender="")
    await quiet()
    assert await counts(office, "alice") == [0] and not office.smtp.sent
    assert "without a return-path" in office.log.text()


@pytest.mark.feature("LOCAL-117", "OBJ-042")
async def test_forwarders_get_a_message_of_their_own(office: House, autojump_clock: MockClock) -> None:
    await allow(office)
    for name, target in (("one", "x@far.test"), ("two", "y@away.test"), ("three", "carol")):
        await office.domains.create_forwarder(office.domains.main, name, target)
    await office.send("all@office.test")
    await quiet()
    assert not office.smtp.sent
    await office.domains.main.settings.update({"AllWithForwarders": "YES"})
    await office.send("all@office.test")
    await quiet()
    assert office.smtp.people == ["x@far.test", "y@away.test"]
    assert await counts(office, "alice", "carol") == [2, 3]
    assert office.smtp.sent[0][0].id == office.smtp.sent[1][0].id and office.smtp.sent[0][0].sender == "bob@far.test"


async def test_full_accounts_are_left_out_and_the_log_says_so(office: House, autojump_clock: MockClock) -> None:
    await allow(office)
    alice = await office.domains.require_account("alice")
    await alice.settings.update({"MaxAccountSize": "10"})
    await office.send("all@office.test")
    await quiet()
    assert await counts(office, "alice", "carol") == [0, 1] and not office.waiting()
    assert "alice@office.test is full" in office.log.text()


def failing(accounts: Accounts, monkeypatch: pytest.MonkeyPatch, fails: Callable[[Account], bool]) -> None:
    real: Deliver = accounts.deliver

    async def deliver(account: Account, delivery: Delivery) -> DeliveryResult:
        if fails(account):
            raise AccountError("TEMPORARY", "the disk is ill")
        return await real(account, delivery)

    monkeypatch.setattr(accounts, "deliver", deliver)


async def test_who_cannot_be_reached_now_gets_it_later(
    office: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await allow(office)
    ill = True
    failing(office.accounts, monkeypatch, lambda account: ill and account.name == "alice")
    await office.send("all@office.test")
    await quiet()
    assert list(office.waiting()) == ["alice@office.test"]
    ill = False
    await quiet(61)
    assert await counts(office, "alice", "carol") == [1, 1] and not office.waiting()


async def test_very_many_accounts_get_it_once_over_a_crash(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"u{number:03}" for number in range(60)]
    most = 0
    async with house(tmp_path, orderly=False) as office:
        for name in names:
            await office.account(name)
        await allow(office)

        def fails(account: Account) -> bool:
            nonlocal most
            most = max(most, sum(office.accounts.is_open(one) for one in office.domains.main.accounts()))
            return account.name >= "u030"

        failing(office.accounts, monkeypatch, fails)
        await office.send("all@office.test")
        await quiet(10)
        assert await counts(office, "u000", "u020", "u059") == [1, 1, 0]
        assert most <= 17  # they are closed behind it
    async with house(tmp_path) as office:
        await quiet(200)
        assert await counts(office, *names) == [1] * 60 and not office.waiting()


@pytest.mark.slow
async def test_no_crash_gives_anybody_a_second_copy(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Power goes at any moment of a distribution: everybody has the message once, forwarders too."""
    base = tmp_path / "base"
    names = [f"u{number:02}" for number in range(18)]
    general = {"MailToAllAction": "anybody", "AllWithForwarders": "YES"}
    async with house(base) as office:
        for name in names:
            await office.account(name)
        await office.domains.create_forwarder(office.domains.main, "out", "x@far.test")
        await office.domains.main.settings.update(general)
    record = RecordingFiles(str(base))
    async with house(base, disk=InLoopDisk(record), loopback=False) as office:
        await office.domains.main.settings.load()
        await office.send("all@office.test")
        record.mark("accepted")
        await quiet()
        assert await counts(office, *names) == [1] * 18 and office.smtp.people == ["x@far.test"]
    tried = 0
    start = next(at for at, operation in enumerate(record.log) if operation.path == "accepted")
    for length, left in crashes(record.log, each=1, start=record.start, step=31):
        if length <= start:
            continue
        tried += 1
        into = tmp_path / "crash"
        into.mkdir()
        replay(left, str(into))
        async with house(into, loopback=False) as office:
            await quiet(100)
            assert await counts(office, *names) == [1] * 18, length
            assert len(office.smtp.people) <= 1
        shutil.rmtree(into)
    assert tried > 5
