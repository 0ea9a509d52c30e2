"""Several domains on one server, as their users and administrators meet them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator

import pytest
import trio

from appliance.kernel.resolver import MailHost
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import CommandLine, House, Refusal, until


@pytest.fixture
async def cli(house: House) -> AsyncIterator[CommandLine]:
    made = await house.cli()
    await made("CreateDomain client.test")
    await made(f"CreateAccount info@client.test {{Password={PASSWORD};}}")
    yield made


async def arrives(house: House, name: str, text: str = "text") -> None:
    async def there() -> bool:
        return any(text in found for found in await house.inbox(name))

    await until(there)


async def login(house: House, service: str, name: str) -> str:
    """The answer to a log-in."""
    line = await house.connect(service)
    if service == "IMAP":
        return (await line.imap(f'LOGIN {name} "{PASSWORD}"'))[-1][2:]
    await line.ask(f"USER {name}")
    return await line.ask(f"PASS {PASSWORD}")


@pytest.mark.feature("DOM-009", "DOM-010", "DOM-011")
async def test_names_are_unique_and_small(house: House, cli: CommandLine) -> None:
    await cli("CreateDomain Second.TEST")
    assert "second.test" in str(await cli("ListDomains"))
    assert "Second.TEST" not in str(await cli("ListDomains"))
    await cli("SetDomainAliases second.test (mail.second.test)")
    for taken in ("second.test", "SECOND.test", "mail.second.test", "box.test"):
        with pytest.raises(Refusal):
            await cli(f"CreateDomain {taken}")
    with pytest.raises(Refusal):
        await cli("SetDomainAliases client.test (second.test)")
    assert (house.base / "Domains" / "second.test" / "Settings").is_dir()


@pytest.mark.feature("DOM-024", "DOM-025", "DOM-026")
@pytest.mark.parametrize("service", ["POP", "IMAP", "PWD"])
async def test_a_service_of_a_domain_is_switched_off(house: House, cli: CommandLine, service: str) -> None:
    good = {"POP": "+OK", "IMAP": "OK", "PWD": "200"}[service]
    assert (await login(house, service, "info@client.test")).startswith(good)
    others = ",".join(word for word in ("Mail", "POP", "IMAP", "PWD", "TLS", "Relay", "Mobile") if word != service)
    await cli(f"UpdateDomainSettings client.test {{DomainAccessModes=({others});}}")
    assert not (await login(house, service, "info@client.test")).startswith(good)
    assert (await login(house, service, "ann")).startswith(good), "other domains as before"


@pytest.mark.feature("DOM-035")
async def test_an_account_cannot_have_what_its_domain_has_not(house: House, cli: CommandLine) -> None:
    await cli("UpdateDomainSettings client.test {DomainAccessModes=(Mail,IMAP);}")
    await cli("UpdateAccountSettings info@client.test {AccessModes=(Mail,POP,IMAP);}")
    assert not (await login(house, "POP", "info@client.test")).startswith("+OK")
    await cli("UpdateDomainSettings client.test {DomainAccessModes=default;}")
    await cli("UpdateAccountDefaults client.test {AccessModes=(Mail);}")
    assert (await login(house, "POP", "info@client.test")).startswith("+OK"), "the account has its own value"


@pytest.mark.feature("DOM-056", "DOM-057", "DOM-059", "DOM-060")
async def test_aliases_of_domains_are_the_domain(house: House, cli: CommandLine) -> None:
    await cli("SetDomainAliases client.test (mail.client.test,www.client.test)")
    await cli("SetDomainAliases box.test (mail.box.test)")
    assert (await house.mail("info@MAIL.Client.Test")).startswith("250")
    await arrives(house, "info@www.client.test")
    assert (await house.mail("ann@mail.box.test")).startswith("250")
    await arrives(house, "ann@mail.box.test")
    assert (await login(house, "IMAP", "info@WWW.client.test")).startswith("OK")
    await cli("SetDomainAliases box.test ()")
    assert not (await login(house, "IMAP", "ann@mail.box.test")).startswith("OK")


@pytest.mark.feature("DOM-061", "DOM-113")
async def test_a_renamed_domain_keeps_everything(house: House, cli: CommandLine) -> None:
    await cli("SetDomainAliases client.test (mail.client.test)")
    await cli("SetAccountAliases info@client.test (sales)")
    await cli("CreateGroup team@client.test {Members=(info);}")
    await cli("CreateForwarder out@client.test TO ann@box.test")
    assert (await house.mail("info@client.test", "Subject: before\r\n\r\nbefore")).startswith("250")
    await arrives(house, "info@client.test", "before")
    await cli("RenameDomain client.test INTO new.test")
    await arrives(house, "info@new.test", "before")
    for name in ("sales@new.test", "team@mail.client.test", "info@new.test"):
        assert (await house.mail(name, f"Subject: x\r\n\r\nto {name}")).startswith("250"), name
        await arrives(house, "info@mail.client.test", f"to {name}")
    assert (await house.mail("out@new.test", "Subject: x\r\n\r\nforwarded")).startswith("250")
    await arrives(house, "ann", "forwarded")
    assert not (await login(house, "IMAP", "info@client.test")).startswith("OK")
    with pytest.raises(Refusal):
        await cli("GetDomainSettings client.test")
    await cli("DeleteDomain new.test FORCE")
    assert not (await login(house, "IMAP", "info@mail.client.test")).startswith("OK")
    assert not (house.base / "Domains" / "new.test").exists()


@pytest.mark.feature("DOM-050", "DOM-054")
async def test_the_limit_of_accounts(house: House, cli: CommandLine) -> None:
    await cli("UpdateDomainSettings client.test {AccountsLimit=2;}")
    await cli("CreateAccount two@client.test")
    with pytest.raises(Refusal):
        await cli("CreateAccount three@client.test")
    await cli("CreateDomain none.test {AccountsLimit=0;}")
    with pytest.raises(Refusal):
        await cli("CreateAccount one@none.test")
    await cli("CreateAccount three@box.test")


@pytest.mark.feature("DOM-067")
async def test_unknown_names_are_rejected(house: House, cli: CommandLine) -> None:
    assert (await house.mail("nobody@client.test"))[:1] == "5"


@pytest.mark.feature("DOM-068")
async def test_mail_to_unknown_names_is_discarded(house: House, cli: CommandLine) -> None:
    await cli("UpdateDomainSettings client.test {MailToUnknown=Discarded;}")
    assert (await house.mail("nobody@client.test", "Subject: void\r\n\r\nvoid")).startswith("250")
    assert (await house.mail("ann@box.test", "Subject: x\r\n\r\nafter")).startswith("250")
    await arrives(house, "ann", "after")
    assert len(await house.inbox("ann")) == 1, "no report"
    queued = await cli("ListQueuedMessages")
    assert isinstance(queued, dict) and queued["Messages"] == []


@pytest.mark.feature("DOM-069", "DOM-072")
async def test_mail_to_unknown_names_goes_elsewhere(house: House, cli: CommandLine) -> None:
    await cli('UpdateDomainSettings client.test {MailToUnknown="Rerouted to";MailRerouteAddress=ann;}')
    assert (await house.mail("nobody@client.test", "Subject: x\r\n\r\nfirst")).startswith("250")
    await arrives(house, "ann@box.test", "first")
    await cli('UpdateDomainSettings client.test {MailRerouteAddress="*@box.test";}')
    assert (await house.mail("bob@client.test", "Subject: x\r\n\r\nsecond")).startswith("250")
    await arrives(house, "bob", "second")
    assert not (await login(house, "POP", "bob@client.test")).startswith("+OK"), "log-ins are not rerouted"
    assert not (await login(house, "IMAP", "nobody@client.test")).startswith("OK")


@pytest.mark.feature("DOM-071")
async def test_mail_to_unknown_names_is_accepted_and_comes_back(house: House, cli: CommandLine) -> None:
    await house.update("Queue", ReportingDelay="0s")
    await cli('UpdateDomainSettings client.test {MailToUnknown="Accepted and Bounced";}')
    assert (await house.mail("nobody@client.test", sender="ann@box.test")).startswith("250")

    async def reported() -> bool:
        return any("Action: failed" in text and "nobody@client.test" in text for text in await house.inbox("ann"))

    await until(reported, 20)


@pytest.mark.feature("DOM-116")
async def test_what_may_be_removed_and_renamed(house: House, cli: CommandLine) -> None:
    for command in (
        "RenameDomain client.test INTO box.test",
        "DeleteDomain client.test",
        "DeleteDomain box.test",
        "DeleteDomain box.test FORCE",
    ):
        with pytest.raises(Refusal):
            await cli(command)
    await cli("DeleteAccount info@client.test")
    await cli("DeleteDomain client.test")
    assert "client.test" not in str(await cli("ListDomains"))


@pytest.mark.feature("DOM-156", "DOM-157", "DOM-158", "DOM-159")
@pytest.mark.parametrize(
    ("table", "address", "account"),
    [
        ("mail.client.test = client.test", "info@mail.client.test", "info@client.test"),
        ("<*@mail.client.test> = *@client.test", "info@mail.client.test", "info@client.test"),
        ("<*@shop.test> = shop-*@client.test", "info@shop.test", "shop-info@client.test"),
        ("<jim@shop.test> = ann\\e<*@shop.test> = shop-*@client.test", "jim@shop.test", "ann@box.test"),
    ],
)
async def test_names_are_mapped(house: House, cli: CommandLine, table: str, address: str, account: str) -> None:
    await cli(f"CreateAccount shop-info@client.test {{Password={PASSWORD};}}")
    await cli(f'UpdateModule Router {{Table="{table}";}}')
    assert (await house.mail(address, "Subject: x\r\n\r\nmapped")).startswith("250")
    await arrives(house, account, "mapped")
    assert (await login(house, "IMAP", address)).startswith("OK"), "log-ins too"


@pytest.mark.feature("DOM-160", "DOM-161", "DOM-162", "DOM-164")
async def test_a_whole_domain_in_one_account(house: House, cli: CommandLine) -> None:
    table = (
        "<jim@uni.test> = ann\\euni.test = bob.local\\e<*@lost.test> = bob\\e<*@other.test> = *%info@client.test.domain"
    )
    await cli(f'UpdateModule Router {{Table="{table}";}}')
    for name in ("one@uni.test", "two@uni.test", "three@lost.test", "four@other.test", "jim@uni.test"):
        assert (await house.mail(name, f"Subject: x\r\n\r\nfor {name}")).startswith("250"), name
    for account, name, field in (
        ("bob", "one@uni.test", "X-Real-To: one"),
        ("bob", "two@uni.test", "X-Real-To: two"),
        ("bob", "three@lost.test", ""),
        ("info@client.test", "four@other.test", "X-Real-To: four"),
        ("ann", "jim@uni.test", ""),
    ):
        await arrives(house, account, f"for {name}")
        (text,) = [text for text in await house.inbox(account) if f"for {name}" in text]
        assert field in text
        assert bool(field) == ("X-Real-To" in text)


@pytest.mark.feature("DOM-165")
async def test_here_is_a_local_domain_whatever_the_table_says(house: House, cli: CommandLine) -> None:
    await cli('UpdateModule Router {Table="client.test = elsewhere.invalid\\edept.test = client.test.here";}')
    assert (await house.mail("info@dept.test", "Subject: x\r\n\r\npast it")).startswith("250")
    await arrives(house, "info@dept.test", "past it")


@pytest.mark.feature("DOM-016")
async def test_defaults_of_all_domains(house: House, cli: CommandLine) -> None:
    await cli("UpdateDomainDefaults {MailToUnknown=Discarded;}")
    assert (await house.mail("nobody@client.test")).startswith("250")
    await cli("UpdateDomainSettings client.test {MailToUnknown=Rejected;}")
    assert (await house.mail("nobody@client.test"))[:1] == "5"
    await cli("UpdateDomainSettings client.test {MailToUnknown=default;}")
    assert (await house.mail("nobody@client.test")).startswith("250")


@pytest.mark.feature("DOM-023")
async def test_mail_waits_while_the_service_is_off(house: House, cli: CommandLine) -> None:
    await cli("UpdateDomainSettings client.test {DomainAccessModes=(POP,IMAP,PWD,Mobile,TLS,Relay);}")
    assert (await house.mail("info@client.test", "Subject: x\r\n\r\npatience")).startswith("250")
    await trio.sleep(0.5)
    assert await house.inbox("info@client.test") == []
    assert "info@client.test" in str(await cli("ListQueues"))
    await cli("UpdateDomainSettings client.test {DomainAccessModes=default;}")
    await cli("ReleaseQueue LOCAL info@client.test")
    await arrives(house, "info@client.test", "patience")


@pytest.mark.feature("DOM-032")
async def test_users_of_a_domain_without_mobile_service_come_from_clients(
    house: House, cli: CommandLine, stranger: str
) -> None:
    await house.update("POP", ClearTextLogin="YES")

    async def log_in(name: str) -> str:
        line = await house.connect("POP", stranger)
        await line.ask(f"USER {name}")
        return await line.ask(f"PASS {PASSWORD}")

    assert (await log_in("info@client.test")).startswith("+OK")
    await cli("UpdateDomainSettings client.test {DomainAccessModes=(Mail,POP,IMAP);}")
    assert (await log_in("info@client.test")).startswith("-ERR")
    assert (await log_in("ann@box.test")).startswith("+OK")
    await house.update("IPAddresses", ClientAddresses=stranger)
    assert (await log_in("info@client.test")).startswith("+OK")


@pytest.mark.feature("DOM-038", "DOM-043", "DOM-044", "DOM-045")
async def test_simple_names_follow_the_address(house: House, cli: CommandLine, stranger: str) -> None:
    """A name without a domain is one of the domain that the server's own address belongs to."""
    await house.update("POP", ClearTextLogin="YES")
    await cli(f"CreateAccount info@box.test {{Password={PASSWORD};}}")
    await house.mail("info@client.test", "Subject: x\r\n\r\nfor the client")
    await arrives(house, "info@client.test", "for the client")

    async def messages(name: str) -> str:
        line = await house.connect("POP", stranger)
        await line.ask(f"USER {name}")
        answer = await line.ask(f"PASS {PASSWORD}")
        return (await line.ask("STAT")).split()[1] if answer.startswith("+OK") else "refused"

    await cli(f'UpdateDomainSettings client.test {{IPMode="Manually Defined";IPAddresses=("{stranger}");}}')
    await cli("RefreshOSData")
    assert await messages("info") == "1"
    assert await messages("info%box.test") == await messages("info@box.test") == "0"
    assert await messages("ann") == "refused"
    await cli("UpdateDomainSettings client.test {IPAddresses=();}")
    await cli('UpdateDomainSettings box.test {IPMode="Manually Defined";IPAddresses=("127.0.0.1");}')
    await cli("RefreshOSData")
    assert await messages("info") == "refused", "nobody's address"
    assert await messages("info@client.test") == "1"


@pytest.mark.feature("DATA-031")
async def test_the_table_is_lines_with_comments(house: House, cli: CommandLine) -> None:
    table = (
        "; all of the client's\\e\\ea.test = client.test ; the old name\\e; c.test = client.test\\eb.test = client.test"
    )
    await cli(f'UpdateModule Router {{Table="{table}";}}')
    for name in ("a.test", "b.test"):
        assert (await house.mail(f"info@{name}", f"Subject: x\r\n\r\nfor {name}")).startswith("250")
        await arrives(house, "info@client.test", f"for {name}")
    assert await cli("Route info@c.test") != await cli("Route info@a.test")
    stored = await cli("GetModule Router")
    assert isinstance(stored, dict) and str(stored["Table"]).splitlines() == table.split("\\e"), "comments are kept"


@pytest.mark.feature("DOM-039", "DOM-040", "ADM-047", "ACC-018")
async def test_addresses_of_domains_come_from_the_dns(house: House) -> None:
    """A domain that asks the DNS has those of the addresses that are this computer's; a change counts at once."""
    cli = await house.cli()
    answers = {"client.test": ["127.0.0.1", "192.0.2.7"], "mail.other.test": ["127.0.0.1"]}

    async def addresses(name: str) -> list[str]:
        return answers[name]

    async def mx(name: str) -> list[MailHost]:
        return [MailHost(5, f"mail.{name}"), MailHost(9, "backup.test")]

    house.server.resolver.addresses = addresses  # type: ignore[method-assign,assignment]
    house.server.resolver.mx = mx  # type: ignore[method-assign,assignment]
    presence = house.server.presence
    await presence.refresh(["127.0.0.1"])
    for name, mode in (("client.test", "by DNS A-Record"), ("other.test", "by DNS MX-Record")):
        await cli(f"CreateDomain {name}")
        await cli(f'UpdateDomainSettings {name} {{IPMode="{mode}";}}')
        await presence.refresh(["127.0.0.1"])
        await until(lambda: presence.domain_of_address("127.0.0.1") == name)  # noqa: B023
        assert presence.domain_of_address("192.0.2.7") == "box.test"
        await cli(f'UpdateDomainSettings {name} {{IPMode="Manually Defined";}}')
        assert presence.domain_of_address("127.0.0.1") == "box.test"
    await cli('UpdateDomainSettings other.test {IPAddresses=("127.0.0.1");}')
    assert presence.domain_of_address("127.0.0.1") == "other.test"


async def test_methods_that_need_a_readable_password_are_listed_while_one_may_be_kept_so(house: House) -> None:
    """A change of the default of any domain counts for the next session."""

    async def methods() -> str:
        line = await house.connect("SMTP")
        answer = await line.smtp("EHLO client.test")
        await line.aclose()
        return next(one for one in answer.splitlines() if "AUTH" in one)

    cli = await house.cli()
    await cli("CreateDomain client.test")
    assert "CRAM-MD5" not in await methods()
    await cli("UpdateAccountDefaults client.test {PasswordEncryption=clear;}")
    assert "CRAM-MD5" in await methods()
    await cli("UpdateAccountDefaults client.test {PasswordEncryption=default;}")
    assert "CRAM-MD5" not in await methods()


@pytest.mark.feature("ACC-016")
async def test_an_address_is_of_one_domain_the_main_one_first(house: House) -> None:
    """The others are reached by full names."""
    cli = await house.cli()
    for name in ("alpha", "beta"):
        await cli(f"CreateDomain {name}.test")
        await cli(f"CreateAccount {name}@{name}.test {{Password={PASSWORD};}}")
        await cli(f"UpdateDomainSettings {name}.test {{IPAddresses=(127.0.0.1);}}")
    assert (await login(house, "IMAP", "alpha")).startswith("OK")
    assert not (await login(house, "IMAP", "beta")).startswith("OK")
    assert (await login(house, "IMAP", "beta@beta.test")).startswith("OK")
    assert await house.logged("address 127.0.0.1 of beta.test is assigned to alpha.test already")
    await cli('UpdateDomainSettings box.test {IPMode="Manually Defined"; IPAddresses=(127.0.0.1);}')
    assert (await login(house, "IMAP", "ann")).startswith("OK")
    assert not (await login(house, "IMAP", "alpha")).startswith("OK")


@pytest.mark.feature("ACC-020")
async def test_a_browser_gives_the_domain_by_the_name_in_the_url(house: House, cli: CommandLine) -> None:
    await cli("SetAccountRights info@client.test (Domain)")
    for host, wanted in (("client.test", "200"), ("box.test", "401")):
        line = await house.connect("HTTPA", greeting=False)
        credentials = b64encode(f"info:{PASSWORD}".encode()).decode()
        head = f"Host: {host}:{house.port('HTTPA')}\r\nAuthorization: Basic {credentials}\r\nConnection: close\r\n"
        await line.send(f"GET /Domains/client.test/ HTTP/1.1\r\n{head}\r\n".encode())
        assert (await line.rest()).split()[1].decode() == wanted
