"""What people with accounts see of names, shares and settings, on the running server."""

from __future__ import annotations

import ssl

import pytest
import trio

from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import House, Line, quoted, until


async def pop(house: House, name: str, password: str = PASSWORD) -> tuple[Line, str]:
    """A POP session, and the answer to its log-in."""
    line = await house.connect("POP")
    await line.ask(f"USER {name}")
    return line, await line.ask(f"PASS {password}")


async def listed(line: Line, command: str) -> list[str]:
    """The lines of a long answer."""
    assert (await line.ask(command)).startswith("+OK")
    lines = []
    while (text := await line.line()) != ".":
        lines.append(text)
    return lines


@pytest.mark.feature("MBOX-101", "ACC-043", "ACC-013", "ACC-051", "MBOX-154")
async def test_mailboxes_in_another_domain(house: House) -> None:
    cli = await house.cli()
    await cli('CreateDomain "client.test"')
    await cli(f'CreateAccount "ListMaster@client.test" {{Password={quoted(PASSWORD)};}}')
    master = await house.imap("listmaster@client.test")
    for command in ("CREATE LIST", "CREATE LIST/reports", "SETACL LIST/reports ann@box.test lr"):
        assert (await master.imap(command))[-1].startswith("a OK")
    await master.send(b"a APPEND LIST/reports {17+}\r\nSubject: x\r\n\r\nyz\n\r\n")
    while not (answer := await master.line()).startswith("a "):
        pass
    assert answer.startswith("a OK")
    ann = await house.imap("ann")
    name = "~ListMaster@client.test/LIST/reports"
    assert "* 1 EXISTS" in await ann.imap(f"SELECT {name}")
    assert (await ann.imap("SELECT ~ListMaster@client.test/LIST"))[-1].startswith("a NO")
    assert (await ann.imap(f"SUBSCRIBE {name}"))[-1].startswith("a OK")
    assert any(name in line for line in await ann.imap('LSUB "" *'))
    bob = await house.imap("bob")
    assert (await bob.imap(f"SELECT {name}"))[-1].startswith("a NO")


@pytest.mark.feature("ACC-032", "POP-048", "POP-049", "POP-050")
async def test_a_unified_account_for_a_domain(house: House) -> None:
    cli = await house.cli()
    await cli('SetRouterTable "client1.test = ann.local\\e"')
    for name in ("abcdef", "xyz"):
        answer = await house.mail(f"{name}@client1.test", f"Subject: for {name}\r\n\r\ntext")
        assert answer.startswith("250"), answer

    async def there() -> bool:
        line, answer = await pop(house, "ann")
        await line.ask("QUIT")
        return answer.startswith("+OK 2 message(s)")

    await until(there)
    for name, wanted in (
        ("abcdef@client1.test", ["1 1"]),
        ("xyz@client1.test", ["1 2"]),
        ("blahblah@client1.test", []),
    ):
        line, answer = await pop(house, name)
        assert answer.startswith(f"+OK {len(wanted)} message(s)"), answer
        assert await listed(line, "UIDL") == wanted
        await line.ask("QUIT")
    line, answer = await pop(house, "ann")
    assert await listed(line, "UIDL") == ["1 1", "2 2"]


@pytest.mark.feature("ACC-030")
async def test_mail_to_unknown_names_is_no_log_in(house: House) -> None:
    cli = await house.cli()
    await cli('UpdateDomainSettings "box.test" {MailToUnknown="Rerouted to"; MailRerouteAddress="ann@box.test";}')
    assert (await house.mail("nobody@box.test")).startswith("250")
    _, answer = await pop(house, "nobody")
    assert answer.startswith("-ERR")
    _, answer = await pop(house, "ann")
    assert answer.startswith("+OK")


@pytest.mark.feature("POP-004")
async def test_the_pop_listener_has_addresses_and_restrictions(house: House, stranger: str) -> None:
    cli = await house.cli()
    row = f'{{Port=110;Restriction=Deny;List="{stranger}";}}'
    await cli(f'UpdateModule POP {{Listener=({row},{{Port=195;Address="127.0.0.1";}}); SameAddress=2;}}')

    async def silent() -> bool:
        try:
            return await (await house.connect("POP", stranger, greeting=False)).rest() == b""
        except OSError:
            return True

    await until(silent)
    first = await house.connect(195 + house.offset)
    assert (await first.ask("CAPA")).startswith("+OK")
    second = await house.connect("POP")
    third = await house.connect("POP", greeting=False)
    assert not (await third.line()).startswith("+OK")
    await first.aclose()
    await second.aclose()


@pytest.mark.feature("POP-007")
async def test_the_monitor_lists_pop_sessions(house: House) -> None:
    line, _ = await pop(house, "ann")
    page = (await house.page("/Monitors/Access")).body
    assert "ann@box.test" in page and "POP" in page
    await line.ask("QUIT")
    await line.aclose()

    async def gone() -> bool:
        return "ann@box.test" not in (await house.page("/Monitors/Access")).body

    await until(gone)


@pytest.mark.feature("POP-054")
async def test_banned_lines_are_refused_over_pop(house: House) -> None:
    cli = await house.cli()
    await cli('SetBanned {HeaderLines=("Subject: *free money*");}')
    line, _ = await pop(house, "bob")
    for subject, good in (("free money here", False), ("lunch", True), ("x" * 110_000, False)):
        assert (await line.ask("XTND XMIT")).startswith("+OK")
        await line.send(f"To: ann@box.test\r\nSubject: {subject}\r\n\r\ntext\r\n.\r\n".encode())
        assert (await line.line()).startswith("+OK" if good else "-ERR")

    async def one() -> bool:
        return len(await house.inbox("ann")) == 1

    await until(one)
    assert "lunch" in (await house.inbox("ann"))[0]


@pytest.mark.feature("ACC-015", "ACC-014")
async def test_the_name_on_a_local_address_of_the_main_domain(house: House, stranger: str) -> None:
    await house.update("POP", ClearTextLogin="YES")
    line = await house.connect("POP", stranger)
    await line.ask("USER ann")
    assert (await line.ask(f"PASS {PASSWORD}")).startswith("+OK 0 message(s)")
    assert "ann@box.test" in await house.logged("logged in from")


@pytest.mark.feature("ACC-004")
async def test_without_the_service_tls_there_is_no_secure_access(house: House) -> None:
    cli = await house.cli()
    line = await house.connect("POP")
    assert "STLS" in await listed(line, "CAPA")
    await cli('UpdateAccountSettings "ann" {AccessModes=(Mail,POP,IMAP,Mobile);}')
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, good in (("ann", False), ("bob", True)):
        stream = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", house.port("IMAPS")), context)
        with trio.fail_after(20):
            await stream.send_all(f"a LOGIN {name} {PASSWORD}\r\n".encode())
            said = b""
            while b"\na " not in said:
                said += await stream.receive_some(4096)
        assert said.startswith(b"* OK") and (b"\na OK" in said) == good
        await trio.aclose_forcefully(stream)
        line, answer = await pop(house, name)
        assert answer.startswith("+OK"), "in clear text as before"
