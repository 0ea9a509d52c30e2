"""Mailboxes of others by POP log-in and by alias, aliases and quota alerts on the command line, on the running server."""

from __future__ import annotations

import pytest

from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import House, Line, Refusal, until


async def pop(house: House, name: str, password: str = PASSWORD) -> tuple[Line, str]:
    """A POP session, and the answer to its log-in."""
    line = await house.connect("POP")
    assert (await line.ask(f"USER {name}")).startswith("+OK")
    return line, await line.ask(f"PASS {password}")


async def names(line: Line, pattern: str = "*") -> dict[str, str]:
    """LIST: names and their attributes."""
    found = {}
    for answer in (await line.imap(f'LIST "" "{pattern}"'))[:-1]:
        attributes, _, rest = answer.removeprefix("* LIST (").partition(") ")
        found[rest.partition(" ")[2].strip('"')] = attributes
    return found


async def arrived(house: House, count: int, name: str = "ann") -> None:
    line = await house.imap(name)

    async def there() -> bool:
        return f"MESSAGES {count})" in (await line.imap("STATUS INBOX (MESSAGES)"))[0]

    await until(there)
    await line.aclose()


@pytest.mark.feature("POP-046", "STD-074", "POP-035", "ACC-056", "ACC-050", "MBOX-170", "MBOX-082")
async def test_pop_users_reach_mailboxes_of_others(house: House) -> None:
    await house.mail("ann@box.test", "Subject: for ann\r\n\r\ntext")
    await arrived(house, 1)
    ann = await house.imap("ann")
    line, answer = await pop(house, "~ann/INBOX#bob")
    assert answer.startswith("-ERR") and "no such account" in answer
    assert (await ann.imap("SETACL INBOX bob l"))[-1].startswith("a OK")
    line, answer = await pop(house, "~ann/INBOX#bob")
    assert answer.startswith("-ERR")
    assert (await ann.imap("SETACL INBOX bob lr"))[-1].startswith("a OK")
    line, answer = await pop(house, "~ann/INBOX#bob", "wrong")
    assert answer.startswith("-ERR")
    line, answer = await pop(house, "~ann/INBOX#bob")
    assert answer.startswith("+OK 1 message(s)")
    assert (await line.ask("RETR 1")).startswith("+OK")
    while (await line.line()) != ".":
        pass
    assert (await line.ask("DELE 1")).startswith("-ERR")
    assert (await line.ask("QUIT")).startswith("+OK")
    # Without the right s reading has marked nothing.
    assert "UNSEEN 1)" in (await ann.imap("STATUS INBOX (UNSEEN)"))[0]
    assert (await ann.imap("SETACL INBOX bob lrsd"))[-1].startswith("a OK")
    cli = await house.cli()
    await cli('SETMAILBOXALIASES "bob" {boss="~ann/INBOX";}')
    line, answer = await pop(house, "boss#bob")
    assert answer.startswith("+OK 1 message(s)")
    assert (await line.ask("DELE 1")).startswith("+OK")
    assert (await line.ask("QUIT")).startswith("+OK")
    assert "MESSAGES 0)" in (await ann.imap("STATUS INBOX (MESSAGES)"))[0]
    line, answer = await pop(house, "~nobody/INBOX#bob")
    assert answer.startswith("-ERR")


@pytest.mark.feature("MBOX-170", "MBOX-171", "MBOX-172", "MBOX-173", "MBOX-174", "MBOX-176", "ACC-052")
async def test_aliases_stand_among_the_mailboxes(house: House) -> None:
    cli = await house.cli()
    ann, bob = await house.imap("ann"), await house.imap("bob")
    for command in ("CREATE Pending", "CREATE Secret", "SETACL INBOX bob lrs", "SETACL Pending bob lri"):
        assert (await ann.imap(command))[-1].startswith("a OK")
    await cli('SETMAILBOXALIASES "bob" {salesBox="~ann/INBOX"; boss="~ann";}')
    assert await cli('GETMAILBOXALIASES "bob"') == {"salesBox": "~ann/INBOX", "boss": "~ann"}
    with pytest.raises(Refusal):
        await cli('SETMAILBOXALIASES "bob" {"a/b"="~ann";}')
    found = await names(bob)
    assert set(found) == {"INBOX", "salesBox", "boss", "boss/INBOX", "boss/Pending"}
    assert "noselect" in found["boss"].lower() and "noselect" not in found["salesBox"].lower()
    await house.mail("ann@box.test")
    await arrived(house, 1)
    for name in ("salesBox", "boss/INBOX"):
        assert "* 1 EXISTS" in await bob.imap(f"SELECT {name}")
        assert (await bob.imap("STORE 1 +FLAGS (\\Deleted)"))[-1].startswith("a NO")
    assert (await bob.imap("SELECT boss/Secret"))[-1].startswith("a NO")
    assert (await ann.imap("CREATE Urgent"))[-1].startswith("a OK")
    assert (await ann.imap("SETACL Urgent bob l"))[-1].startswith("a OK")
    assert "boss/Urgent" in await names(bob, "boss/%")


@pytest.mark.feature("POP-023", "ACCT-054")
async def test_who_is_nearly_full_is_told_once_in_ten_minutes(house: House) -> None:
    cli = await house.cli()
    await cli('UpdateAccountSettings "ann" {MaxAccountSize="4K";}')
    await house.mail("ann@box.test", "Subject: large\r\n\r\n" + "line\r\n" * 500)
    line, answer = await pop(house, "ann")
    for _ in range(100):
        if answer.startswith("-ERR"):
            break
        await line.aclose()
        line, answer = await pop(house, "ann")
    assert answer == "-ERR ALERT: account is over quota"
    assert (await line.ask("USER ann")).startswith("+OK")
    assert (await line.ask(f"PASS {PASSWORD}")).startswith("+OK 1 message(s)")
    line, answer = await pop(house, "ann")
    assert answer.startswith("+OK 1 message(s)")
