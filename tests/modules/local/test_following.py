"""Mail that waits for an account follows it when it gets another name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.kernel.disk import InLoopDisk
from appliance.objects.domain import Account
from tests.kernel.disk_testing import RecordingFiles, crashes, replay
from tests.modules.house import MESSAGE, House, house, quiet


async def off(office: House, account: Account) -> None:
    """Its Mail service is off, so that its mail waits."""
    await office.domains.update_account(account, {"AccessModes": ["POP"]})


async def on(office: House, account: Account) -> None:
    await office.domains.update_account(account, {"AccessModes": "default"})
    await quiet(120)


async def test_mail_follows_a_renamed_account(office: House, autojump_clock: MockClock) -> None:
    alice = office.domains.main.account("alice")
    assert alice is not None
    await off(office, alice)
    for to in ("alice@office.test", "al@office.test", "ALICE@office.test"):
        await office.send(to)
    await quiet()
    assert list(office.waiting()) == ["alice@office.test"]
    await office.domains.rename_account(alice, "alicia")
    await office.account("alice")  # another person has the name now
    await quiet()
    assert list(office.waiting()) == ["alicia@office.test"]
    await on(office, alice)
    assert len(await office.mail("alicia")) == 3 and await office.mail("alice") == []
    assert not office.waiting() and not office.smtp.sent


@pytest.mark.parametrize("orderly", [True, False])
async def test_it_follows_over_restarts_and_several_names(
    tmp_path: Path, autojump_clock: MockClock, orderly: bool
) -> None:
    async with house(tmp_path, orderly=orderly) as office:
        await office.account("alice")
        await office.domains.create("branch.test")
        alice = office.domains.main.account("alice")
        assert alice is not None
        await off(office, alice)
        number = await office.send("alice@office.test")
        await quiet()
        await office.domains.rename_account(alice, "alicia")
        await quiet()
        await office.domains.rename_account(alice, "ann@branch.test")
        await quiet()
    async with house(tmp_path) as office:
        await quiet()
        assert list(office.waiting()) == ["ann@branch.test"]
        assert office.transfer.spool.live[number].recipients[0].address == "alice@office.test"
        ann = office.domains.find_account("ann@branch.test")
        assert ann is not None
        await ann.ready()
        await on(office, ann)
        assert len(await office.mail("ann@branch.test")) == 1


async def test_mailboxes_and_unified_accounts_are_found_again(office: House, autojump_clock: MockClock) -> None:
    await office.router.settings.update({"Table": "client.test = dave.local\nclient2.test = carol.local"})
    carol, dave = office.domains.main.account("carol"), office.domains.find_account("dave@branch.test")
    assert carol is not None and dave is not None
    session = await office.accounts.open(carol)
    await session.create("jobs")
    await session.aclose()
    await off(office, carol)
    await off(office, dave)
    await office.send('"jobs#carol"@office.test', "sales@client2.test", "x%dave@branch.test.domain")
    await quiet()
    await office.domains.rename_account(carol, "caroline")
    await office.domains.rename_account(dave, "david")
    await on(office, carol)
    await on(office, dave)
    assert len(await office.mail("caroline", "jobs")) == 1
    (unified,) = await office.mail("caroline")
    assert b"\nX-Real-To: sales\r\n" in unified
    (unified,) = await office.mail("david@branch.test")
    assert b"\nX-Real-To: x\r\n" in unified


async def test_the_routing_table_does_not_catch_it(office: House, autojump_clock: MockClock) -> None:
    await office.router.settings.update({"Table": "<alicia> = carol"})
    alice = office.domains.main.account("alice")
    assert alice is not None
    await off(office, alice)
    await office.send("alice@office.test")
    await quiet()
    await office.domains.rename_account(alice, "alicia")
    await on(office, alice)
    assert await office.mail("carol") == [] and len(await office.mail("alicia")) == 1


async def test_a_renamed_domain_takes_its_mail_along(office: House, autojump_clock: MockClock) -> None:
    dave = office.domains.find_account("dave@branch.test")
    assert dave is not None
    await office.domains.create_group(dave.domain, "team", {"Members": ["alice@office.test"]})
    await office.list_settings.update({"Processors": "0"})
    await off(office, dave)
    await office.send("dave@branch.test", "team@branch.test")
    await quiet()
    await office.domains.rename(dave.domain, "filiale.test")
    await quiet()
    assert sorted(office.waiting()) == ["dave@filiale.test", "team@filiale.test"]
    await office.list_settings.update({"Processors": "3"})
    await on(office, dave)
    assert len(await office.mail("dave@filiale.test")) == 1 and len(await office.mail("alice")) == 1


async def test_mail_of_a_removed_account_is_for_the_domain_to_decide(office: House, autojump_clock: MockClock) -> None:
    dave = office.domains.find_account("dave@branch.test")
    assert dave is not None
    await off(office, dave)
    await office.send("dave@branch.test")
    await quiet()
    await dave.domain.settings.update({"MailToUnknown": "Rerouted to", "MailRerouteAddress": "carol@office.test"})
    await office.domains.remove_account(dave)
    await quiet()
    assert len(await office.mail("carol")) == 1 and not office.waiting()


async def test_what_is_being_delivered_follows_too(office: House, autojump_clock: MockClock) -> None:
    """The account is renamed while its mail is in the hands of the deliverer: all of it arrives, once."""
    alice = office.domains.main.account("alice")
    assert alice is not None
    names = ["alicia", "alice"] * 4
    async with trio.open_nursery() as nursery:

        async def flood() -> None:
            for number in range(40):
                await office.send("alice@office.test", text=b"Subject: %d\n" % number + MESSAGE)

        async def rename() -> None:
            for name in names:
                await office.domains.rename_account(alice, name)
                await trio.sleep(0.01)

        nursery.start_soon(flood)
        nursery.start_soon(rename)
    await quiet(300)
    found = await office.mail("alice")
    assert len(found) == len(set(found))
    lost = sum(1 for message, _, _ in office.smtp.sent if not message.sender)
    assert len(found) + lost == 40


async def test_a_rename_that_fails_changes_nothing(office: House, autojump_clock: MockClock) -> None:
    alice = office.domains.main.account("alice")
    assert alice is not None
    await off(office, alice)
    number = await office.send("alice@office.test")
    await quiet()
    with pytest.raises(OSError, match="the disk is ill"):
        with pytest.MonkeyPatch.context() as patch:

            def ill(*arguments: object) -> None:
                raise OSError("the disk is ill")

            patch.setattr(type(office.domains.disk.files), "rename", ill)
            await office.domains.rename_account(alice, "alicia")
    assert office.transfer.spool.live[number].recipients[0].target == ""
    await office.account("alicia")
    await on(office, alice)
    assert len(await office.mail("alice")) == 1 and await office.mail("alicia") == []


@pytest.mark.slow
async def test_no_crash_loses_the_mail_of_a_renamed_account(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Power goes at any moment of the rename: the mail that waited is in the account, whatever it is called."""
    base = tmp_path / "base"
    async with house(base) as office:
        alice = await office.account("alice")
        await off(office, alice)
    record = RecordingFiles(str(base))
    async with house(base, disk=InLoopDisk(record), loopback=False) as office:
        again = office.domains.main.account("alice")
        assert again is not None
        await again.ready()
        await office.send("alice@office.test")
        await quiet()
        record.mark("begin")
        await office.domains.rename_account(again, "alicia")
        record.mark("end")
        await quiet(0.2)
    tried = 0
    start = next(at for at, operation in enumerate(record.log) if operation.path == "begin")
    for length, left in crashes(record.log, each=1, start=record.start):
        if length <= start:
            continue
        tried += 1
        into = tmp_path / "crash"
        into.mkdir()
        replay(left, str(into))
        async with house(into, loopback=False) as office:
            await quiet()
            found = [account for account in office.domains.main.accounts() if account.name.startswith("alic")]
            assert len(found) == 1, length
            await found[0].ready()
            await on(office, found[0])
            assert len(await office.mail(found[0].name)) == 1, (length, found[0].name)
            assert not office.smtp.sent
        shutil.rmtree(into)
    assert tried > 5
