"""Mailbox aliases: what they stand for, who sets them, what they cannot be."""

from __future__ import annotations

import pytest

from appliance.accounts.client import AccountError
from appliance.accounts.shared import resolved
from tests.accounts.serving import Start

ALIASES = {"salesBox": "~sales/INBOX", "boss": "~chief", "far": "~x@client.com/LIST/reports", "Trash": "Deleted Items"}


@pytest.mark.feature("MBOX-170", "MBOX-173")
@pytest.mark.parametrize(
    ("name", "account", "mailbox"),
    [
        ("Work", "", "Work"),
        ("~sales/INBOX", "sales", "INBOX"),
        ("~ListMaster@client.com/LIST/reports", "ListMaster@client.com", "LIST/reports"),
        ("salesBox", "sales", "INBOX"),
        ("/salesBox", "sales", "INBOX"),
        ("salesBox/sub", "sales", "INBOX/sub"),
        ("boss", "chief", ""),
        ("boss/Urgent", "chief", "Urgent"),
        ("boss/a/b", "chief", "a/b"),
        ("far", "x@client.com", "LIST/reports"),
        ("Trash", "", "Deleted Items"),
        ("a/boss", "", "a/boss"),
        ("~boss/x", "boss", "x"),
    ],
)
def test_a_name_leads_to_an_account_and_a_mailbox(name: str, account: str, mailbox: str) -> None:
    assert resolved(ALIASES, name) == (account, mailbox)


@pytest.mark.feature("MBOX-172")
async def test_aliases_are_kept_and_bad_ones_refused(start: Start) -> None:
    async with start() as server:
        alice = await server.account()
        session = await server.session()
        await session.create("Work")
        await session.set_aliases(ALIASES)
        for bad, code in (
            ({"a/b": "~x"}, "BADNAME"),
            ({"": "~x"}, "BADNAME"),
            ({"~a": "~x"}, "BADNAME"),
            ({"a": ""}, "BADNAME"),
            ({"a": "~"}, "BADNAME"),
            ({"a": "~x/../y"}, "BADNAME"),
            ({"Work": "~x"}, "ALREADYEXISTS"),
            ({"inbox": "~x"}, "ALREADYEXISTS"),
        ):
            with pytest.raises(AccountError) as caught:
                await session.set_aliases(bad)
            assert caught.value.code == code, bad
        other = await server.accounts.open(alice, who="bob@office.test")
        with pytest.raises(AccountError):
            await other.aliases()
    async with start() as server:
        session = await server.session()
        assert await session.aliases() == ALIASES
        await session.create("boss")
        assert "boss" not in await session.aliases()  # a real mailbox comes first
