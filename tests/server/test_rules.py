"""Rules on the running server: written on the command line, seen by those who send and read mail."""

from __future__ import annotations

import pytest
import trio

from appliance.formats.data import Value, render
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import CommandLine, House, Refusal, until

FAR = "jane@far.test"
NO_MAIL = 0.3


async def set_rules(house: House, name: str, *rules: Value) -> None:
    """Replace the rules of an account (or of the server, or of the domain)."""
    cli = await house.cli()
    command = {"server": "SetServerRules", "domain": "SetDomainRules box.test"}.get(name, f"SetAccountRules {name}")
    await cli(f"{command} {render(list(rules))}")
    await cli.line.aclose()


async def arrived(house: House, name: str, count: int = 1) -> list[str]:
    """The texts in an INBOX when there are that many."""
    found: list[str] = []

    async def there() -> bool:
        nonlocal found
        found = await house.inbox(name)
        return len(found) >= count

    await until(there)
    assert len(found) == count, found
    return found


async def idle(house: House) -> None:
    """Everything that was sent has been dealt with."""
    transfer = house.server.transfer

    def done() -> bool:
        return not len(transfer.enqueuer) and all(message.done for message in transfer.spool.live.values())

    for _ in range(3):  # what is delivered may just be making another message
        await until(done, 15)
        await trio.sleep(0.03)


async def mailbox(house: House, name: str, folder: str) -> list[str]:
    """What is in a mailbox of an account: a line for each message, with its flags."""
    line = await house.imap(name)
    await line.imap(f"SELECT {folder}")
    answer = await line.imap("FETCH 1:* (FLAGS UID)")
    await line.aclose()
    return [text for text in answer if "FETCH" in text and text.startswith("*")]


@pytest.mark.feature("RULE-001", "RULE-075", "QUEUE-051", "CLI-198", "CLI-199", "RULE-014")
async def test_a_rule_of_the_server_stops_all_mail_at_once(house: House) -> None:
    await set_rules(house, "server", ["5", "nothing", [["Subject", "is", "*junk*"]], [["Discard"]]])
    cli = await house.cli()
    assert await cli("GetServerRules") == [["5", "nothing", [["Subject", "is", "*junk*"]], [["Discard"]]]]
    await house.mail("ann@box.test", "Subject: some JUNK\r\n\r\nx", FAR)
    await house.mail("ann@box.test", "Subject: good\r\n\r\nx", FAR)
    (text,) = await arrived(house, "ann")
    assert "Subject: good" in text
    await set_rules(house, "server")
    assert house.server.transfer.enqueuer.rules is None
    await house.mail("ann@box.test", "Subject: junk\r\n\r\nx", FAR)
    await arrived(house, "ann", 2)


@pytest.mark.feature("RULE-002", "CLI-035", "CLI-036", "LOCAL-070", "RULE-019", "RULE-072")
async def test_a_rule_of_an_account_is_for_its_mail_only(house: House) -> None:
    rule: Value = ["5", "away", [], [["Discard"]]]
    await set_rules(house, "ann", rule)
    cli = await house.cli()
    assert await cli("GetAccountRules ann") == [rule]
    line = await house.connect("SMTP")
    await line.smtp("EHLO x")
    for command in ("MAIL FROM:<jane@far.test>", "RCPT TO:<ann@box.test>", "RCPT TO:<bob@box.test>", "DATA"):
        await line.smtp(command)
    assert (await line.smtp("Subject: both\r\n\r\nx\r\n.")).startswith("250")
    await arrived(house, "bob")
    await idle(house)
    assert not await house.inbox("ann")


@pytest.mark.feature("RULE-003")
async def test_a_rule_of_the_domain_marks_mail_of_all_its_accounts(house: House) -> None:
    await set_rules(house, "domain", ["5", "mark", [], [["Add Headers", "X-House: yes"], ["Mark", "Flagged"]]])
    cli = await house.cli()
    assert len(await cli("GetDomainRules box.test")) == 1
    for name in ("ann", "bob"):
        await house.mail(f"{name}@box.test", "Subject: hi\r\n\r\nx", FAR)
        (text,) = await arrived(house, name)
        assert "X-House: yes" in text
        assert "\\Flagged" in (await mailbox(house, name, "INBOX"))[0]


@pytest.mark.feature("RULE-006", "RULE-007", "RULE-008", "RULE-010", "RULE-070", "RULE-071", "RULE-078")
async def test_priorities_and_the_end_of_processing(house: House) -> None:
    await set_rules(
        house,
        "ann",
        ["1", "never reached", [], [["Add Headers", "X-C: 3"]]],
        ["0", "off", [], [["Discard"]]],
        ["5", "second", [], [["Add Headers", "X-B: 2"]]],
        ["9", "first", [], [["Add Headers", "X-A: 1"]]],
        ["4", "no actions", [], []],
        ["3", "stop", [], [["Stop Processing"]]],
    )
    await house.mail("ann@box.test", "Subject: hi\r\n\r\nx", FAR)
    (text,) = await arrived(house, "ann")
    lines = text.split("\n")
    assert lines[:3] == ["Return-Path: <jane@far.test>", "X-A: 1", "X-B: 2"]
    assert "X-C" not in text


@pytest.mark.feature("RULE-073", "RULE-074", "RULE-076", "RULE-077", "RULE-080", "RULE-083", "LOCAL-071")
async def test_mark_store_and_reject(house: House) -> None:
    await house.update("Local", LogLevel="5")
    line = await house.imap("ann")
    await line.imap("CREATE Work")
    await line.aclose()
    await set_rules(
        house,
        "ann",
        [
            "9",
            "refuse",
            [["Subject", "is", "*offer*"]],
            [["Mark", "Flagged,Read"], ["Store in", "Work"], ["Reject", "no offers please"]],
        ],
        ["5", "missing", [["Subject", "is", "lost"]], [["Store in", "Nowhere"], ["Discard"]]],
        ["4", "copy", [["Subject", "is", "keep"]], [["Store in", "Work"], ["Mark", "Answered"]]],
    )
    await house.mail("ann@box.test", "Subject: an OFFER\r\n\r\nx", "bob@box.test")
    (report,) = await arrived(house, "bob")
    assert "no offers please" in report and "5.7.1" in report
    assert not await house.inbox("ann")
    (stored,) = await mailbox(house, "ann", "Work")
    assert "\\Flagged" in stored and "\\Seen" in stored
    await house.mail("ann@box.test", "Subject: lost\r\n\r\nx", FAR)
    await arrived(house, "ann", 1)  # a mailbox that is not there loses nothing
    assert "Store in failed" in await house.logged("Store in failed")
    await house.mail("ann@box.test", "Subject: keep\r\n\r\nx", FAR)
    await arrived(house, "ann", 2)
    assert len(await mailbox(house, "ann", "Work")) == 2
    assert "\\Answered" in (await mailbox(house, "ann", "INBOX"))[1]


@pytest.mark.feature("RULE-081", "RULE-082", "MISC-120")
async def test_mailboxes_of_other_accounts(house: House) -> None:
    line = await house.imap("bob")
    await line.imap("CREATE shared")
    await line.imap("CREATE private")
    await line.imap("SETACL shared ann li")
    await line.aclose()
    await set_rules(
        house,
        "ann",
        ["9", "into bob's", [], [["Store in", "~bob/shared"], ["Store in", "~bob/private"], ["Discard"]]],
    )
    await set_rules(
        house, "server", ["9", "log", [["Return-Path", "is", "*@box.test"]], [["Store in", "~bob/private"]]]
    )
    await house.mail("ann@box.test", "Subject: one\r\n\r\nx", FAR)
    await arrived(house, "ann")  # no right for the second mailbox: the rule ends, the message stays
    assert len(await mailbox(house, "bob", "shared")) == 1
    assert not await mailbox(house, "bob", "private")
    await house.mail("ann@box.test", "Subject: two\r\n\r\nx", "ann@box.test")
    await arrived(house, "ann", 2)
    (copy,) = await mailbox(house, "bob", "private")
    assert copy
    await idle(house)


@pytest.mark.feature("RULE-062", "RULE-019")
async def test_errors_name_the_rule_and_the_word(house: House) -> None:
    cli = await house.cli()
    wrong: list[tuple[str, Value, tuple[str, ...]]] = [
        ("ann", ["5", "one", [["Subjct", "is", "x"]], []], ('Rule "one"', "condition 1", "Subjct")),
        ("ann", ["5", "two", [["Any Route", "is", "x"]], []], ('Rule "two"', "Any Route", "server only")),
        ("ann", ["5", "three", [], [["Discrad"]]], ('Rule "three"', "action 1", "Discrad")),
        ("ann", ["5", "four", [["Subject", "contains", "x"]], []], ("contains", "is not")),
        ("ann", ["12", "five", [], []], ("priority", "12")),
        ("server", ["5", "six", [], [["Store in", "Work"]]], ("~account/mailbox",)),
        ("ann", ["5", "seven", [], [["Redirect to", "no address"]]], ("no address",)),
    ]
    for account, rule, words in wrong:
        command = "SetServerRules" if account == "server" else f"SetAccountRules {account}"
        with pytest.raises(Refusal) as refusal:
            await cli(f"{command} {render([rule])}")
        for word in words:
            assert word in str(refusal.value)


@pytest.mark.feature(
    "RULE-018",
    "RULE-017",
    "ACCT-060",
    "ACCT-061",
    "ACCT-062",
    "ACCT-063",
    "ACCT-064",
    "RULE-179",
    "RULE-170",
)
async def test_users_write_what_they_are_granted(house: House) -> None:
    admin, ann = await house.cli(), await house.cli("ann", PASSWORD)

    async def try_to(cli: CommandLine, *rules: Value) -> str:
        try:
            await cli(f"SetAccountRules ann {render(list(rules))}")
        except Refusal as refusal:
            return str(refusal)
        return ""

    discard: Value = ["5", "mine", [["Subject", "is", "x"]], [["Discard"]]]
    program: Value = ["6", "program", [], [["Execute", "/bin/true"]]]
    redirect: Value = ["5", "on", [], [["Redirect to", "bob"]]]
    assert not await try_to(ann, discard)
    assert not await try_to(ann, redirect)
    assert "Execute" in await try_to(ann, program)
    assert not await try_to(admin, program, discard)
    assert "administrator" in await try_to(ann, discard)
    assert not await try_to(ann, program, ["4", "mine", [], [["Mark", "Read"]]])
    await admin('UpdateAccountSettings ann {RulesAllowed="Filter Only";}')
    assert "Redirect to" in await try_to(ann, program, redirect)
    with pytest.raises(Refusal, match="Mirror to"):
        await ann('SetAccountRedirect ann {Enabled=YES;Addresses="bob";}')
    await admin('UpdateAccountSettings ann {RulesAllowed="No";}')
    assert "may not make rules" in await try_to(ann, program, ["4", "mine", [], [["Mark", "Read"]]], discard)
    await ann('SetAccountAutoReply ann {Enabled=YES;Text="I am away";}')
    assert (await ann("GetAccountAutoReply ann")) == {"Enabled": "YES", "Text": "I am away"}
    await admin('UpdateAccountSettings ann {RulesAllowed="Any";}')
    assert not await try_to(ann, ["6", "other program", [], [["Execute", "/bin/false"]]])
    assert "Write To Log" in await try_to(ann, ["6", "log", [], [["Write To Log", "x"]]])
    with pytest.raises(Refusal):
        await ann("SetAccountRules bob ()")
    with pytest.raises(Refusal):
        await ann("SetServerRules ()")


@pytest.mark.feature("ADM-150", "RULE-016", "CLI-036")
async def test_domain_administrators_need_the_right(house: House) -> None:
    admin = await house.cli()
    rule: Value = ["5", "mine", [["Subject", "is", "x"]], [["Redirect to", "bob"]]]
    await admin("SetAccountRights bob (Domain)")
    bob = await house.cli("bob", PASSWORD)
    assert await bob("GetAccountRules ann") == []
    with pytest.raises(Refusal, match="right"):
        await bob(f"SetAccountRules ann {render([rule])}")
    with pytest.raises(Refusal, match="right"):
        await bob(f"SetDomainRules box.test {render([rule])}")
    await admin("SetAccountRights bob (Domain,CanModifyRules)")
    await bob(f"SetAccountRules ann {render([rule])}")
    await bob(f"SetDomainRules box.test {render([rule])}")
    assert await admin("GetAccountRules ann") == [rule]
    program: Value = ["5", "program", [], [["Execute", "/bin/true"]]]
    for command in ("SetAccountRules ann", "SetDomainRules box.test"):
        with pytest.raises(Refusal, match="Execute"):
            await bob(f"{command} {render([program])}")
    with pytest.raises(Refusal, match="right"):
        await bob("GetServerRules")
