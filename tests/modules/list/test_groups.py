"""Groups: who gets a copy, what of the message is changed, and who is told what."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from trio.testing import MockClock

from appliance.formats.data import Value
from appliance.formats.headers import get_all
from appliance.kernel.disk import InLoopDisk
from appliance.objects.domain import Group
from appliance.transfer.message import Envelope
from tests.kernel.disk_testing import RecordingFiles, crashes, replay
from tests.modules.house import MESSAGE, House, house, quiet


async def group(office: House, name: str, *members: str, **settings: Value) -> Group:
    return await office.domains.create_group(office.domains.main, name, {"Members": list(members), **settings})


async def counts(office: House, *names: str) -> list[int]:
    return [len(await office.mail(name)) for name in names]


@pytest.mark.feature("OBJ-018", "OBJ-021")
async def test_members_get_the_message_as_it_is(office: House, autojump_clock: MockClock) -> None:
    await group(office, "team", "alice", "dave@branch.test", "x@far.test")
    await office.send("team@office.test")
    await quiet()
    assert await counts(office, "alice", "dave@branch.test", "carol") == [1, 1, 0]
    ((message, people, content),) = office.smtp.sent
    assert [one.address for one in people] == ["x@far.test"]
    assert message.sender == "bob@far.test" and message.source.trusted
    assert b"\nReceived: from GROUP team@office.test" in b"\n" + content
    assert content.endswith(MESSAGE)


@pytest.mark.feature("OBJ-019")
async def test_a_field_may_hold_several_addresses(office: House, autojump_clock: MockClock) -> None:
    await group(office, "team", "alice, Carol <carol@office.test>; x@far.test")
    await office.send("team@office.test")
    await quiet()
    assert await counts(office, "alice", "carol") == [1, 1] and office.smtp.people == ["x@far.test"]


@pytest.mark.feature("OBJ-022")
@pytest.mark.parametrize("member", ["alice", "al", "ALICE@OFFICE.TEST", "me"])
async def test_the_sender_gets_no_copy(office: House, autojump_clock: MockClock, member: str) -> None:
    await office.domains.create_forwarder(office.domains.main, "me", "alice")
    await group(office, "team", member, "carol")
    await office.send("team@office.test", sender="alice@office.test")
    await quiet()
    assert await counts(office, "alice", "carol") == [0, 1]


@pytest.mark.feature("OBJ-023")
async def test_the_group_is_the_final_delivery(office: House, autojump_clock: MockClock) -> None:
    await group(office, "team", "nobody", "x@far.test", FinalDelivery="YES")
    office.smtp.refuse = "x@far"
    await office.send(Envelope("team@office.test", "SF"), sender="eve@near.test")
    await quiet(60)
    reports = [content for message, _, content in office.smtp.sent if not message.sender]
    assert len(reports) == 1 and b"Action: delivered" in reports[0]


@pytest.mark.feature("OBJ-024")
async def test_members_report_for_themselves(office: House, autojump_clock: MockClock) -> None:
    await group(office, "team", "alice", "nobody", "x@far.test", FinalDelivery="NO")
    await office.send(Envelope("team@office.test", "SF", "rfc822;team@office.test"), sender="eve@near.test", ret="hdrs")
    await quiet(60)
    reports = b"".join(content for message, _, content in office.smtp.sent if not message.sender)
    assert b"Final-Recipient: rfc822; alice@office.test\nAction: delivered" in reports.replace(b";alice", b"; alice")
    assert b"unknown account" in reports and b"Action: relayed" in reports
    sent = [(message, people) for message, people, _ in office.smtp.sent if message.sender]
    assert [(m.ret, p[0].notify, p[0].orcpt) for m, p in sent] == [("hdrs", "SF", "rfc822;team@office.test")]


@pytest.mark.feature("OBJ-020", "OBJ-025")
async def test_replies_go_to_the_group(office: House, autojump_clock: MockClock) -> None:
    await group(office, "team", "alice", SetReplyTo="YES", RealName="Büro")
    await office.send("team@office.test", text=b"Reply-To: bob@far.test\n" + MESSAGE)
    await quiet()
    (mail,) = await office.mail("alice")
    (value,) = get_all(mail, b"reply-to")
    assert value.endswith(b"<team@office.test>") and value.lower().startswith(b"=?utf-8?")
    assert mail.endswith(b"\r\n\r\nHow are you?\r\n") and b"Subject: Hello" in mail


@pytest.mark.feature("OBJ-026")
async def test_groups_in_groups(office: House, autojump_clock: MockClock) -> None:
    await group(office, "inner1", "alice", "outer")
    await group(office, "inner2", "al", "carol", "deep", Expand="NO")
    await group(office, "deep", "alice", "dave@branch.test")
    outer = await group(office, "outer", "inner1", "inner2@office.test", "x@far.test")
    await office.send("outer@office.test")
    await quiet()
    # inner2 does not expand its groups, so deep gets a message of its own
    assert await counts(office, "alice", "carol", "dave@branch.test") == [2, 1, 1]
    assert office.smtp.people == ["x@far.test"]
    await outer.settings.update({"Expand": "NO"})
    await office.send("outer@office.test")
    await quiet()
    # now each inner group gets its own message; inner1, which expands, sends another one to inner2
    assert await counts(office, "alice", "carol") == [7, 3]


@pytest.mark.feature("OBJ-026")
async def test_groups_that_name_each_other_end(office: House, autojump_clock: MockClock) -> None:
    await group(office, "one", "two", "alice", Expand="NO")
    await group(office, "two", "one", Expand="NO", FinalDelivery="NO")
    await office.send("one@office.test")
    await quiet(60)
    assert await counts(office, "alice") == [1]
    assert "mail loop" in office.log.text() and not office.waiting()


@pytest.mark.feature("OBJ-027", "OBJ-028", "OBJ-029")
async def test_who_has_it_already_is_left_out(office: House, autojump_clock: MockClock) -> None:
    team = await group(office, "team", "alice", "carol", "x@far.test")
    text = b"From: al@office.test\nTo: team@office.test, Carol <carol@office.test>\nCc: X@far.test\nSubject: s\n\n"
    await office.send("team@office.test", text=text)
    await quiet()
    assert await counts(office, "alice", "carol") == [1, 1] and office.smtp.people == ["x@far.test"]
    await team.settings.update({"RemoveAuthor": "YES"})
    await office.send("team@office.test", text=text)
    await quiet()
    assert await counts(office, "alice", "carol") == [1, 2]
    await team.settings.update({"RemoveToAndCc": "YES"})
    await office.send("team@office.test", text=text)
    await quiet(60)
    assert await counts(office, "alice", "carol") == [1, 2]
    assert len(office.smtp.sent) == 2 and not office.waiting()  # nobody is left, and nobody is told


async def test_an_empty_group_says_so(office: House, autojump_clock: MockClock) -> None:
    await group(office, "team")
    await office.send("team@office.test")
    await quiet()
    assert b"group has no members" in office.smtp.sent[-1][2]


async def test_processes_of_the_module(office: House, autojump_clock: MockClock) -> None:
    await group(office, "team", "alice")
    await office.list_settings.update({"Processors": "0"})
    await office.send("team@office.test")
    await quiet(30)
    assert list(office.waiting()) == ["team@office.test"]
    await office.list_settings.update({"Processors": "1"})
    await quiet()
    assert await counts(office, "alice") == [1]


async def test_no_crash_repeats_a_copy(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Power goes at any moment after the copy was submitted: each member has the message once."""
    base = tmp_path / "base"
    async with house(base) as office:
        await office.account("alice")
        await office.account("carol")
        await group(office, "team", "alice", "carol", "x@far.test")
    record = RecordingFiles(str(base))
    async with house(base, disk=InLoopDisk(record), loopback=False) as office:
        await office.send("team@office.test")
        record.mark("accepted")
        await quiet()
    tried = 0
    for length, left in crashes(record.log, each=1, start=record.start, step=2):
        if all(operation.path != "accepted" for operation in record.log[:length]):
            continue
        tried += 1
        into = tmp_path / "crash"
        into.mkdir()
        replay(left, str(into))
        async with house(into, loopback=False) as office:
            await quiet(3)
            assert await counts(office, "alice", "carol") == [1, 1], length
            assert len(office.smtp.sent) <= 1
        shutil.rmtree(into)
    assert tried > 10
