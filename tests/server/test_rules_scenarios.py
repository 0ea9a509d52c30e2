"""Rules beside other things: mail to all, addressed mailboxes, flow control, address tests, hop limits, an office's policies."""

from __future__ import annotations

import pytest

from appliance.formats.data import Value, parse
from tests.server.conftest import House
from tests.server.test_rules import FAR, arrived, idle, set_rules

DISCARD: Value = ["9", "nothing", [], [["Reply with", "gone"], ["Discard"]]]


@pytest.mark.feature("DOM-075", "LOCAL-111")
async def test_mail_to_all_is_beyond_the_rules_of_accounts(house: House) -> None:
    cli = await house.cli()
    await cli('UpdateDomainSettings box.test {MailToAllAction="anybody";}')
    await set_rules(house, "ann", DISCARD)
    await set_rules(house, "domain", DISCARD)
    await house.mail("all@box.test", "From: jane@far.test\r\nSubject: to all\r\n\r\nx", FAR)
    for name in ("ann", "bob"):
        assert "to all" in (await arrived(house, name))[0]


@pytest.mark.feature("LOCAL-090", "LOCAL-097")
async def test_an_addressed_mailbox_is_beyond_the_rules(house: House) -> None:
    await house.update("LOCAL", DirectMailbox="YES", AccountDetail="Direct Mailbox")
    line = await house.imap("ann")
    await line.imap("CREATE jokes")
    await set_rules(house, "ann", DISCARD)
    await house.mail("jokes#ann@box.test", "Subject: one\r\n\r\nx", FAR)
    await house.mail("ann+jokes@box.test", "Subject: two\r\n\r\nx", FAR)
    await idle(house)
    assert "MESSAGES 2" in (await line.imap("STATUS jokes (MESSAGES)"))[0]


@pytest.mark.feature("LOCAL-096", "RULE-054")
async def test_the_detail_of_an_address_is_seen(house: House) -> None:
    await house.update("LOCAL", AccountDetail="Enabled")
    rule: Value = ["9", "jokes", [["Any Recipient", "is", "ann+jokes@*"]], [["Add Headers", "X-Joke: yes"]]]
    await set_rules(house, "ann", rule)
    for number, address in enumerate(("ann+jokes@box.test", "ann@box.test"), 1):
        await house.mail(address, "Subject: hi\r\n\r\nx", FAR)
        await arrived(house, "ann", number)
    assert ["X-Joke" in text for text in await house.inbox("ann")] == [True, False]


@pytest.mark.feature("RULE-054", "RULE-055")
async def test_the_original_recipient_counts(house: House) -> None:
    rule: Value = [
        "9",
        "moved",
        [["Each Recipient", "is", "<old+name@former.test>"]],
        [["Add Headers", "X-Moved: yes"]],
    ]
    await set_rules(house, "ann", rule)
    line = await house.connect("SMTP")
    await line.smtp("EHLO x")
    for command in ("MAIL FROM:<jane@far.test>", "RCPT TO:<ann@box.test> ORCPT=rfc822;old+2Bname@former.test", "DATA"):
        assert (await line.smtp(command))[0] in "23"
    await line.smtp("Subject: hi\r\n\r\nx\r\n.")
    (text,) = await arrived(house, "ann")
    assert "X-Moved: yes" in text


@pytest.mark.feature("MISC-011", "LOCAL-075")
async def test_a_test_of_an_address_starts_no_rules(house: House) -> None:
    await set_rules(house, "ann", ["9", "answer", [], [["Reply with", "x"]]])
    await house.mail("ann@box.test", "From: bob@box.test\r\nX-Special-Delivery: test\r\n\r\nx", "bob@box.test")
    await idle(house)
    assert not await house.inbox("ann") and not await house.inbox("bob")


@pytest.mark.feature("LOCAL-051")
async def test_what_rules_discard_counts_for_the_flow(house: House) -> None:
    await set_rules(house, "ann", ["9", "nothing", [], [["Discard"]]])
    await house.update("LOCAL", LogLevel="3", FlowCount="2", FlowPeriod="1h")
    for number in range(3):
        await house.mail("ann@box.test", f"Subject: {number}\r\n\r\nx", FAR)
    assert await house.logged("received too many messages")


@pytest.mark.feature("MISC-121")
async def test_who_may_write_to_whom(house: House) -> None:
    conditions: list[Value] = [
        ["Return-Path", "in", "*@box.test"],
        ["Return-Path", "is not", "bob@box.test"],
        ["Any Recipient", "not in", "*@box.test,boss@hq.test"],
    ]
    await set_rules(house, "server", ["9", "inside only", conditions, [["Reject", "you may write to colleagues only"]]])
    await house.mail("jane@far.invalid", "Subject: out\r\n\r\nx", "ann@box.test")
    (report,) = await arrived(house, "ann")
    assert "you may write to colleagues only" in report
    await house.mail("ann@box.test", "Subject: in\r\n\r\nx", "ann@box.test")
    await arrived(house, "ann", 2)
    await house.mail("ann@box.test", "Subject: boss\r\n\r\nx", "bob@box.test")
    await arrived(house, "ann", 3)


@pytest.mark.feature("RULE-061", "RULE-059")
async def test_routes_and_hops(house: House) -> None:
    cli = await house.cli()
    await cli("SetRouterTable " + '"client.test = relay.invalid.smtp\\e<info> = ann\\e"')
    await set_rules(
        house,
        "server",
        ["9", "routed", [["Any Route", "is", "ann"], ["Each Route", "is not", "info"]], [["Add Headers", "X-To: ann"]]],
        ["8", "client", [["Any Route", "is", "user"]], [["Reject", "no clients"]]],
    )
    hops = "".join(f"Received: from h{number}\r\n" for number in range(40))
    assert (await house.mail("ann@box.test", f"{hops}Subject: old\r\n\r\nx", FAR)).startswith("554")
    await house.mail("info@box.test", "Subject: new\r\n\r\nx", FAR)
    (text,) = await arrived(house, "ann")
    assert "X-To: ann" in text
    await house.mail("user@client.test", "Subject: new\r\n\r\nx", "bob@box.test")
    (report,) = await arrived(house, "bob")
    assert "no clients" in report
    assert not house.crashes(await house.log())


@pytest.mark.feature("BASE-059", "RULE-035", "BASE-051")
async def test_lists_stand_in_the_accounts_datasets(house: House) -> None:
    cli = await house.cli()
    await cli('SetAccountStringList ann BlockedSenders ("jane@far.test","*@spam.test")')
    rule: Value = ["9", "blocked", [["From", "in", "#blockedsenders"]], [["Discard"]]]
    await set_rules(house, "ann", rule)
    account = house.server.domains.find_account("ann@box.test")
    assert account is not None
    folder = house.base / "Accounts" / account.place
    stored = parse((folder / "account.dst").read_bytes())
    assert stored == {"StringLists": {"BlockedSenders": ["jane@far.test", "*@spam.test"]}}
    settings = parse((folder / "account.settings").read_bytes())
    assert isinstance(settings, dict) and len(settings["Rules"]) == 1
    for author in ("Jane@FAR.test", "x@spam.test", "joe@far.test"):
        await house.mail("ann@box.test", f"From: {author}\r\n\r\nx", FAR)
    (text,) = await arrived(house, "ann")
    assert "joe@far.test" in text


@pytest.mark.feature("RULE-172", "RULE-002")
async def test_mail_to_two_names_of_an_account_is_one_message_for_its_rules(house: House) -> None:
    cli = await house.cli()
    await cli("SetAccountAliases ann (annie)")
    await set_rules(house, "ann", ["9", "answer", [["Each Recipient", "in", "ann@*,annie@*"]], [["Reply with", "x"]]])
    line = await house.connect("SMTP")
    await line.smtp("EHLO x")
    for command in ("MAIL FROM:<bob@box.test>", "RCPT TO:<ann@box.test>", "RCPT TO:<annie@box.test>", "DATA"):
        await line.smtp(command)
    await line.smtp("From: bob@box.test\r\nSubject: both\r\n\r\nx\r\n.")
    await arrived(house, "ann")
    await idle(house)
    await arrived(house, "bob")
