"""Local delivery and the router, seen from mail programs and the command line."""

from __future__ import annotations

import hashlib

import pytest

from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import POSTMASTER, House, Line, Refusal, until


async def pop(house: House, name: str, password: str = PASSWORD) -> tuple[Line, str]:
    line = await house.connect("POP")
    await line.ask(f"USER {name}")
    return line, await line.ask(f"PASS {password}")


async def arrived(house: House, name: str, count: int) -> None:
    async def there() -> bool:
        return len(await house.inbox(name)) == count

    await until(there)


@pytest.mark.feature("LOCAL-060", "LOCAL-061", "LOCAL-062")
async def test_who_is_nearly_full_is_told_by_pop_and_imap(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = await house.cli()
    await house.update("LOCAL", AlertText="tidy up, please", AlertPercent="60")
    await cli('UpdateAccountSettings "ann" {MaxAccountSize="10K";}')
    await house.mail("ann@box.test", "Subject: large\r\n\r\n" + "1234567\r\n" * 600)
    await arrived(house, "ann", 1)
    await house.mail("ann@box.test", "Subject: large\r\n\r\n" + "1234567\r\n" * 200)
    told = ""

    async def alerted() -> bool:
        nonlocal told
        line, told = await pop(house, "ann")
        await line.aclose()
        return told.startswith("-ERR")

    await until(alerted)
    assert told == "-ERR ALERT: tidy up, please"
    line, told = await pop(house, "ann")
    assert told.startswith("+OK 2")
    await line.ask("QUIT")

    async def greeted() -> str:
        line = await house.connect("IMAP")
        answers = await line.imap(f'LOGIN ann "{PASSWORD}"')
        await line.aclose()
        return "\n".join(answers)

    assert "ALERT" not in await greeted()
    clock = house.server.clock
    real = clock.now
    monkeypatch.setattr(type(clock), "now", lambda self: real() + 601)
    assert "* OK [ALERT] tidy up, please" in await greeted()
    assert "ALERT" not in await greeted()
    monkeypatch.setattr(type(clock), "now", lambda self: real() + 1300)
    await house.update("LOCAL", SendAlerts="NO")
    assert "ALERT" not in await greeted()


@pytest.mark.feature("LOCAL-086")
async def test_names_of_a_unified_domain_see_their_own_mail(house: House) -> None:
    cli = await house.cli()
    await cli('SetRouterTable "client1.com = ann.local"')
    await house.mail("abcdef@client1.com", "Subject: one\r\n\r\none")
    await house.mail("xyz@client1.com", "Subject: two\r\n\r\ntwo")
    await house.mail("ann@box.test", "Subject: three\r\n\r\nthree")
    await arrived(house, "ann", 3)
    assert ["Subject: one" in text for text in await house.inbox("abcdef@client1.com")] == [True]
    assert ["Subject: two" in text for text in await house.inbox("xyz@client1.com")] == [True]
    assert await house.inbox("nobody@client1.com") == []


@pytest.mark.feature("LOCAL-094", "ROUTE-130", "ROUTE-114")
async def test_names_for_log_ins_are_routed(house: House) -> None:
    cli = await house.cli()
    await cli('SetAccountAliases "ann" (annie)')
    await cli('SetRouterTable "<sell> = sales#ann\\e<friend> = somebody@far.test"')
    await cli('CreateGroup "team" {Members=(ann);}')
    imap = await house.imap("ann")
    assert (await imap.imap("CREATE sales"))[-1].startswith("a OK")
    await house.mail('"sales#ann"@box.test', "Subject: an order\r\n\r\nten")

    async def there() -> bool:
        return len(await house.inbox("sell")) == 1

    await until(there)
    for name, count in (("sell", 1), ("sales#ann", 1), ("sales#annie", 1), ("annie", 0)):
        line, answer = await pop(house, name)
        assert answer.startswith(f"+OK {count}"), (name, answer)
        await line.ask("QUIT")
    line = await house.connect("IMAP")
    assert (await line.imap(f'LOGIN annie "{PASSWORD}"'))[-1].startswith("a OK")
    assert (await pop(house, "nosuch#ann"))[1].startswith("-ERR")
    for name in ("team", "friend"):
        assert (await pop(house, name))[1].startswith("-ERR"), name
        line = await house.connect("IMAP")
        assert (await line.imap(f'LOGIN {name} "{PASSWORD}"'))[-1].startswith("a NO"), name
        with pytest.raises(Refusal):
            await house.cli(name, PASSWORD)
    assert not house.server.transfer.queues.all()


@pytest.mark.feature("OBJ-035")
async def test_nobody_logs_in_as_a_group(house: House) -> None:
    cli = await house.cli()
    await cli('CreateGroup "team" {Members=(ann);}')
    assert (await pop(house, "team"))[1].startswith("-ERR")
    assert (await pop(house, "team", ""))[1].startswith("-ERR")
    assert (await house.mail("team@box.test", sender="bob@far.test")).startswith("250")
    await arrived(house, "ann", 1)


@pytest.mark.feature("LOCAL-094")
async def test_apop_opens_an_addressed_mailbox(house: House) -> None:
    cli = await house.cli()
    await cli('UpdateAccountSettings "ann" {PasswordEncryption="A-crpt";}')
    await cli(f'SetAccountPassword "ann" TO "{PASSWORD}"')
    await cli('UpdateAccountDefaults {PasswordEncryption="A-crpt";}')
    await cli('SetRouterTable "<sell> = sales#ann"')
    imap = await house.imap("ann")
    assert (await imap.imap("CREATE sales"))[-1].startswith("a OK")
    line = await house.connect("POP", greeting=False)
    banner = await line.line()
    challenge = "<" + banner.partition("<")[2].partition(">")[0] + ">"
    digest = hashlib.md5((challenge + PASSWORD).encode()).hexdigest()
    assert (await line.ask(f"APOP sell {digest}")).startswith("+OK 0")


@pytest.mark.feature("ROUTE-135")
async def test_the_postmaster_comes_in_whatever_the_table_says(house: House) -> None:
    cli = await house.cli()
    await cli('SetRouterTable "<postmaster> = null\\e*.local = error"')
    with pytest.raises(Refusal):
        await house.cli()
    again = await house.cli("abcd@postmaster.local", POSTMASTER)
    await again('SetRouterTable ""')
    await house.cli()


@pytest.mark.feature("OBJ-006")
async def test_the_name_all_is_reserved_while_it_is_an_address(house: House) -> None:
    cli = await house.cli()
    for command in ('CreateAccount "all"', 'CreateGroup "all"', 'CreateForwarder "all" TO ann'):
        await cli('UpdateDomainSettings "box.test" {MailToAllAction=anybody;}')
        with pytest.raises(Refusal, match="reserved"):
            await cli(command)
    await cli('UpdateDomainSettings "box.test" {MailToAllAction=nobody;}')
    await cli('CreateAccount "all"')


@pytest.mark.feature("OBJ-017", "OBJ-039")
async def test_groups_and_forwarders_need_their_rights(house: House) -> None:
    cli = await house.cli()
    await cli('CreateDomain "client.test"')
    await cli(f'CreateAccount "chief@client.test" {{Password="{PASSWORD}";}}')
    makers = ("CreateGroup team", "RenameGroup team into staff", "CreateForwarder js TO x@far.test")
    settings = ("SetGroup staff {Members=(chief);}", "DeleteGroup staff", "DeleteForwarder js")
    chief = await house.cli("chief@client.test", PASSWORD)
    for command in (*makers, *settings):
        with pytest.raises(Refusal, match="right"):
            await chief(command)
    await cli('SetAccountRights "chief@client.test" (Domain,CanCreateGroups,CanCreateForwarders)')
    for command in (*makers, *settings):
        await chief(command)
    with pytest.raises(Refusal, match="right"):
        await chief('CreateGroup "team@box.test"')


@pytest.mark.feature("LOCAL-076", "CLI-212", "CLI-213", "CLI-214", "CLI-215", "CLI-216", "CLI-217")
async def test_what_accounts_and_domains_receive_is_counted_if_wanted(house: House) -> None:
    cli = await house.cli()
    own = await house.cli("ann", PASSWORD)
    await house.mail("ann@box.test")
    await arrived(house, "ann", 1)
    assert await cli('GetAccountStat "ann"') == {} and await cli('GetDomainStat "box.test"') == {}
    await house.update("LOCAL", CollectStatistics="YES")
    await house.mail("ann@box.test")
    await house.mail("bob@box.test")
    await arrived(house, "ann", 2)
    await arrived(house, "bob", 1)

    async def counted() -> bool:
        return await cli('GetDomainStat "box.test" KEY MessagesReceived') == "2"

    await until(counted)
    (size,) = [len(text.replace("\n", "\r\n")) for text in (await house.inbox("ann"))[1:]]
    found = await own("GetAccountStat * ")
    assert isinstance(found, dict) and found["MessagesReceived"] == "1" and len(str(found["StatReset"])) > 10
    assert 100 < int(str(found["BytesReceived"])) <= size
    assert await own("GetAccountStat ann KEY MessagesReceived") == "1"
    assert await cli("GetAccountStat ann KEY Nothing") == ""
    with pytest.raises(Refusal):
        await own("ResetAccountStat ann")
    await cli("ResetAccountStat ann KEY BytesReceived")
    assert await cli("GetAccountStat ann KEY BytesReceived") == "0"
    assert await cli("GetAccountStat ann KEY MessagesReceived") == "1"
    await cli("ResetAccountStat ann")
    assert await cli("GetAccountStat ann KEY MessagesReceived") == "0"
    await cli('ResetDomainStat "box.test"')
    assert await cli('GetDomainStat "box.test" KEY MessagesReceived') == "0"
    assert await cli("GetAccountStat bob KEY MessagesReceived") == "1"


@pytest.mark.feature("ROUTE-133")
async def test_names_of_others_in_mailbox_names_are_routed(house: House) -> None:
    cli = await house.cli()
    await cli('SetAccountAliases "ann" (annie)')
    await cli('SetRouterTable "<chief> = ann\\e<boss@old.test> = ann\\e<away> = x@far.test"')
    ann, bob = await house.imap("ann"), await house.imap("bob")
    assert (await ann.imap("SETACL INBOX bob lr"))[-1].startswith("a OK")
    for name in ("~ann/INBOX", "~annie/INBOX", "~chief/INBOX", "~boss@old.test/INBOX"):
        assert (await bob.imap(f'EXAMINE "{name}"'))[-1].startswith("a OK"), name
    for name in ("~away/INBOX", "~nobody/INBOX"):
        assert (await bob.imap(f'EXAMINE "{name}"'))[-1].startswith("a NO"), name


@pytest.mark.feature("QUEUE-006")
async def test_mail_that_is_sent_by_pop_passes_the_queue(house: House) -> None:
    line, answer = await pop(house, "bob")
    assert answer.startswith("+OK")
    assert (await line.ask("XTND XMIT")).startswith("+OK")
    await line.send(b"From: bob@box.test\r\nTo: ann@box.test\r\nSubject: by POP\r\n\r\ntext\r\n.\r\n")
    assert (await line.line()).startswith("+OK")
    await line.ask("QUIT")
    await arrived(house, "ann", 1)
    assert "Subject: by POP" in (await house.inbox("ann"))[0]
