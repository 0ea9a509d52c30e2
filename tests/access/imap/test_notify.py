"""NOTIFY: news of mailboxes without asking, through the wire and the real gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from .conftest import Client, Office

LETTER = b"Subject: news\r\n\r\nx\r\n"
ALL = "(MessageNew MessageExpunge FlagChange)"


async def put(client: Client, mailbox: str = "INBOX") -> None:
    await client.ok(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(LETTER), LETTER))


async def silent(client: Client) -> bool:
    """Nothing comes unasked."""
    with trio.move_on_after(0.05):
        client.buffer += await client.channel.receive()
    return not client.buffer


async def test_the_selected_mailbox(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        await put(other)
        await client.ok("SELECT INBOX")
        await client.ok(
            "NOTIFY SET (SELECTED (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge FlagChange))"
        )
        await put(other)
        assert await client.line() == b"* 2 EXISTS"
        assert (await client.line()).endswith(b"RECENT")
        assert await client.line() == (b"* 2 FETCH (UID 2 BODY[HEADER.FIELDS (SUBJECT)] {17}\r\nSubject: news\r\n\r\n)")
        await other.ok("SELECT INBOX")
        await other.ok("STORE 1 +FLAGS.SILENT (\\Flagged)")
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Recent))"
        await other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert (await client.line()).startswith(b"* 1 FETCH (UID 1 FLAGS (")
        await other.ok("EXPUNGE")
        assert await client.line() == b"* 1 EXPUNGE"
        assert (await client.line()).endswith(b"RECENT")
        # What the client puts there itself is not told as a message.
        await put(client)
        assert not any(b"FETCH" in line for line in await client.ok("NOOP"))
        await client.ok("NOTIFY NONE")
        await put(other)
        assert await silent(client)
        assert await client.ok("NOOP") == []


async def test_expunges_wait_where_numbers_are_used(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        for _ in range(2):
            await put(other)
        await client.ok("SELECT INBOX")
        await client.ok("NOTIFY SET (SELECTED-DELAYED (MessageNew MessageExpunge))")
        await other.ok("SELECT INBOX")
        await other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok("EXPUNGE")
        await put(other)
        lines = [await client.line(), await client.line()]
        assert not any(b"EXPUNGE" in line for line in lines)
        assert b"* 3 EXISTS" in lines or b"* 3 EXISTS" in [await client.line()]
        assert b"* 1 EXPUNGE" in await client.ok("NOOP")


async def test_other_mailboxes(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        await client.ok("CREATE Lists/a")
        await client.ok("CREATE Lists/b")
        await client.ok("CREATE plain")
        lines = await client.ok(
            f"NOTIFY SET STATUS (SUBTREE Lists {ALL}) (MAILBOXES (plain nosuch) (MessageNew MessageExpunge))"
        )
        assert [line.split()[2] for line in lines] == [b"Lists/a", b"Lists/b", b"plain"]
        assert lines[0].startswith(b"* STATUS Lists/a (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ")
        await put(other, "Lists/a")
        line = await client.line()
        assert line.startswith(b"* STATUS Lists/a (MESSAGES 1 UIDNEXT 2 ") and line.endswith(b" UNSEEN 1)")
        await other.ok("SELECT Lists/a")
        await other.ok("STORE 1 +FLAGS (\\Seen)")
        assert (await client.line()).endswith(b" UNSEEN 0)")
        await put(other, "plain")
        assert (await client.line()).startswith(b"* STATUS plain (MESSAGES 1")
        await put(other, "INBOX")
        assert await silent(client)
        # In IDLE the same events come.
        await client.send("a IDLE\r\n")
        assert (await client.line()).startswith(b"+ ")
        await put(other, "Lists/b")
        assert (await client.line()).startswith(b"* STATUS Lists/b (MESSAGES 1")
        await client.send("DONE\r\n")
        assert (await client.answer(b"a"))[-1].startswith(b"OK")
        # A mailbox that comes later is watched too.
        await other.ok("CREATE Lists/c")
        await put(other, "Lists/c")
        while not (await client.line()).startswith(b"* STATUS Lists/c (MESSAGES 1"):
            pass


async def test_names_subscriptions_and_annotations(office: Office) -> None:
    events = "(MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)"
    async with office.logged_in() as client, office.logged_in() as other:
        await other.ok("CREATE box")
        await client.ok(f"NOTIFY SET (PERSONAL {events})")
        await other.ok("CREATE new")
        assert await client.line() == b'* LIST (\\HasNoChildren) "/" new'
        await other.ok("RENAME new newer")
        assert await client.line() == b'* LIST (\\HasNoChildren) "/" newer ("OLDNAME" (new))'
        await other.ok("DELETE newer")
        assert await client.line() == b'* LIST (\\NonExistent) "/" newer'
        await other.ok("CREATE box/in")
        assert [await client.line(), await client.line()] == [
            b'* LIST (\\HasChildren) "/" box',
            b'* LIST (\\HasNoChildren) "/" box/in',
        ]
        await other.ok("RENAME box bag")
        assert await client.line() == b'* LIST (\\HasChildren) "/" bag ("OLDNAME" (box))'
        await other.ok("SUBSCRIBE bag")
        assert await client.line() == b'* LIST (\\HasChildren \\Subscribed) "/" bag'
        await other.ok("UNSUBSCRIBE bag")
        assert await client.line() == b'* LIST (\\HasChildren) "/" bag'
        await other.ok('SETMETADATA bag (/private/comment "x")')
        assert await client.line() == b"* METADATA bag /private/comment"
        await other.ok('SETMETADATA "" (/private/comment "x")')
        assert await client.line() == b'* METADATA "" /private/comment'
        await put(other, "bag")
        assert await silent(client)


async def test_mailboxes_of_others(office: Office) -> None:
    async with office.client() as boss, office.logged_in() as client:
        await boss.line()
        await boss.ok("LOGIN boss secret")
        await boss.ok("CREATE open")
        await boss.ok("SETACL open jim lr")
        await boss.ok("SETACL INBOX jim l")
        lines = await client.ok(
            "NOTIFY SET STATUS (MAILBOXES (~boss/open ~boss/INBOX ~boss/x ~nobody/y) (MessageNew MessageExpunge))"
        )
        assert lines[0] == b'* LIST (\\NoAccess) "/" ~boss/INBOX'
        assert lines[1].startswith(b"* STATUS ~boss/open (MESSAGES 0")
        assert len(lines) == 2
        await put(boss, "open")
        assert (await client.line()).startswith(b"* STATUS ~boss/open (MESSAGES 1")
        await put(boss)
        assert await silent(client)


WRONG = [
    ("SET (SELECTED (MessageNew))", b"BAD"),
    ("SET (SELECTED (FlagChange))", b"BAD"),
    ("SET (SELECTED (MailboxName))", b"BAD"),
    ("SET (PERSONAL (AnnotationChange))", b"NO [BADEVENT (MessageNew "),
    ("SET (PERSONAL (Nope))", b"NO [BADEVENT (MessageNew "),
    ("SET (PERSONAL (MessageNew (UID) MessageExpunge))", b"BAD"),
    ("SET (SELECTED NONE) (SELECTED-DELAYED NONE)", b"BAD"),
    ("SET (NOPE NONE)", b"BAD"),
    ("SET", b"BAD"),
    ("MAYBE", b"BAD"),
    ("SET (SELECTED NONE)", b"OK"),
]


async def test_what_cannot_be_asked(office: Office) -> None:
    async with office.logged_in() as client:
        for text, answer in WRONG:
            assert (await client.last(f"NOTIFY {text}")).startswith(answer), text
