"""A new account has what its domain's template says."""

from __future__ import annotations

import pytest

from appliance.accounts.client import Fetch
from tests.accounts.serving import Start


@pytest.mark.feature("MBOX-003", "MBOX-158", "MBOX-177", "ACC-054")
async def test_mailboxes_subscription_and_greeting(start: Start) -> None:
    async with start() as server:
        await server.domains.main.template.update(
            {
                "InitialMailboxes": ["Sent", "Drafts", "../bad"],
                "InitialSubscription": ["INBOX", "~public/announce"],
                "InitialMailboxAliases": ["salesBox=~sales/INBOX", "boss = ~chief", "bad"],
                "InitialGreeting": "[iso-8859-1]Subject: Welcome\nFrom: postmaster\n\nGr\u00fc\u00dfe\n",
            }
        )
        await server.account("alice")
        session = await server.session()
        assert [row.name for row in await session.mailboxes()] == ["INBOX", "Drafts", "Sent"]
        assert await session.subscriptions() == ["INBOX", "~public/announce"]
        assert await session.aliases() == {"salesBox": "~sales/INBOX", "boss": "~chief"}
        opened = await session.open("INBOX")
        (row,) = await session.fetch(opened.view, [1], Fetch.NOTHING, "")
        assert row.content is not None
        assert row.content.startswith(b"Date: ")
        assert row.content.endswith(b"\r\nSubject: Welcome\r\nFrom: postmaster\r\n\r\nGr\xfc\xdfe\r\n")
        await session.delete("Drafts")
        await session.remove(opened.view, [1])
    async with start() as server:
        session = await server.session()
        assert [row.name for row in await session.mailboxes()] == ["INBOX", "Sent"]
        assert (await session.status("INBOX"))["MESSAGES"] == 0
