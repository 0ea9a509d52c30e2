"""Small points of the documents that programs were seen to depend on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Client, Office


async def filled(client: Client, count: int, mailbox: str = "INBOX") -> None:
    for number in range(1, count + 1):
        data = b"Subject: %d\r\n\r\nx\r\n" % number
        await client.ok(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(data), data))


@pytest.mark.feature("IMAP-062", "IMAP-089", "IMAP-091", "IMAP-092")
async def test_sets_in_searches(office: Office) -> None:
    async with office.logged_in() as client:
        await filled(client, 6)
        await client.ok("SELECT INBOX")
        await client.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        await client.ok("EXPUNGE")
        found = {
            "1:3,5": "1 2 3 5",
            "4:2": "2 3 4",
            "UID 1:3,5": "1 2 4",
            "UID 4:2": "2 3",
            "1:3 NOT UID 3": "1 3",
            "NOT 2,4": "1 3 5",
            "OR 1 UID 3": "1 2",
            "*": "5",
            "UID *": "5",
            "6:*": "5",
            "*:6": "5",
            "UID 7:*": "5",
            "*:3": "3 4 5",
            "1,4,*": "1 4 5",
        }
        for keys, numbers in found.items():
            assert await client.ok(f"SEARCH {keys}") == [f"* SEARCH {numbers}".encode()], keys
        assert (await client.last("SEARCH 6")).startswith(b"BAD")
        assert (await client.last("SEARCH 5:6")).startswith(b"BAD")
        assert await client.ok("FETCH 9:* UID") == [b"* 5 FETCH (UID 6)"]


async def test_parents_of_what_is_subscribed(office: Office) -> None:
    async with office.logged_in() as client:
        for name in ("test1", "test2/", "test2/test1", "test7/test7", "test8/test8", "test8/test9"):
            await client.ok(f"CREATE box/{name}")
        for name in ("test1", "test2/test1", "test7/test7", "test8/test8", "test8/test9"):
            await client.ok(f"SUBSCRIBE box/{name}")

        async def told(patterns: str) -> dict[bytes, bool]:
            lines = await client.ok(f'LIST (SUBSCRIBED RECURSIVEMATCH) "" {patterns}')
            return {line.split(b'"/" ')[1].split()[0]: b"CHILDINFO" in line for line in lines}

        assert await told("box/test2%") == {b"box/test2": True}
        assert await told("*test7") == {b"box/test7/test7": False}
        assert await told("*test8") == {b"box/test8": True, b"box/test8/test8": False}
        assert await told("(box/test2)") == {b"box/test2": True}
        assert await told("(box/test2 box/test2/test1)") == {b"box/test2/test1": False}


async def test_mod_sequences_of_what_is_named(office: Office) -> None:
    async with office.logged_in() as client:
        await filled(client, 4)
        await client.ok("SELECT INBOX")
        lines = await client.ok("FETCH 1 MODSEQ")
        assert any(line.startswith(b"* OK [HIGHESTMODSEQ ") for line in lines)
        modseqs = {}
        for number in (1, 3, 2, 4):
            [line] = await client.ok(f"STORE {number} +FLAGS (\\Seen)")
            found = re.search(rb"MODSEQ \((\d+)\)", line)
            assert found
            modseqs[number] = found[1]

        async def told(options: str, numbers: str, least: bytes = b"1") -> bytes:
            command = f'SEARCH RETURN ({options}) {numbers} MODSEQ "/flags/\\\\seen" all {least.decode()}'
            [line] = await client.ok(command)
            return line.split(b")", 1)[1].strip()

        assert await told("MIN", "1:3") == b"MIN 1 MODSEQ " + modseqs[1]
        assert await told("MAX", "1:3") == b"MAX 3 MODSEQ " + modseqs[3]
        assert await told("", "1:3") == b"ALL 1:3 MODSEQ " + modseqs[2]
        assert await told("MIN MAX", "2:3") == b"MIN 2 MAX 3 MODSEQ " + modseqs[2]
        assert await told("ALL", "2:3", modseqs[2]) == b"ALL 2 MODSEQ " + modseqs[2]
        assert await told("ALL", "2:3", modseqs[4]) == b""


async def test_orders_of_subjects(office: Office) -> None:
    subjects = ["a", "C", "b", "_", "[foo] Fwd: [bar] Re: fw: b (fWd)  (fwd)", "b (a)", "Re: [FWD: c]", "[xyz]", None]
    async with office.logged_in() as client:
        for number, subject in enumerate(subjects):
            head = "" if subject is None else f"Subject: {subject}\r\n"
            data = f"{head}X: y\r\n\r\n{'x' * number}\r\n".encode()
            await client.ok(b"APPEND INBOX {%d+}\r\n%b" % (len(data), data))
        await client.ok("SELECT INBOX")
        assert await client.ok("SORT (SUBJECT) US-ASCII ALL") == [b"* SORT 9 1 3 5 6 2 7 8 4"]
        assert await client.ok("SORT (REVERSE SUBJECT) US-ASCII ALL") == [b"* SORT 4 8 2 7 6 3 5 1 9"]
        assert await client.ok("SORT (SUBJECT REVERSE SIZE) US-ASCII ALL") == [b"* SORT 9 1 5 3 6 7 2 8 4"]


async def test_threads_whose_references_go_in_circles(office: Office) -> None:
    async with office.logged_in() as client:
        for name, references, date in (("a", "", "17:06"), ("b", "<c@b> <a@b>", "15:06"), ("c", "<b@b>", "16:06")):
            data = f"Message-ID: <{name}@b>\r\nReferences: {references}\r\n\r\nx\r\n".encode()
            when = f'"22-Feb-2008 {date}:23 +0000"'.encode()
            await client.ok(b"APPEND INBOX %b {%d+}\r\n%b" % (when, len(data), data))
        await client.ok("SELECT INBOX")
        assert await client.ok("THREAD REFERENCES US-ASCII ALL") == [b"* THREAD (3 1 2)"]
        await client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        await client.ok("EXPUNGE")
        assert await client.ok("THREAD REFERENCES US-ASCII ALL") == [b"* THREAD (2 1)"]


@pytest.mark.feature("IMAP-058")
async def test_addresses_are_searched_as_they_are_meant(office: Office) -> None:
    heads = [
        "From: user-from@domain.org\r\nTo: user-to@domain.org",
        "From: RealFrom <user-from@domain.org>\r\nTo: RealTo <user-to@domain.org>",
        "From: <user-from (comment)@ (comment) domain.org>\r\nTo: <user-to@domain.org>",
        "From: user-from@domain.org (RealFrom)\r\nTo: user-to@domain.org (RealTo)",
        "From: user-from1@domain.org, user-from2@domain.org\r\nX: y",
        "To: groupname: groupuser1@domain.org, groupuser2@domain.org;,\r\n  groupname2: groupuser3@domain.org;",
    ]
    async with office.logged_in() as client:
        for head in heads:
            data = f"{head}\r\n\r\nbody\r\n".encode()
            await client.ok(b"APPEND INBOX {%d+}\r\n%b" % (len(data), data))
        await client.ok("SELECT INBOX")
        found = {
            "FROM user-from@domain.org": " 1 2 3 4",
            "TO user-to@domain.org": " 1 2 3 4",
            "FROM realfrom": " 2 4",
            "FROM ser-fro": " 1 2 3 4 5",
            "FROM user-from2": " 5",
            'HEADER TO ""': " 1 2 3 4 6",
            "TO groupname2": " 6",
            "TO groupuser3": " 6",
            "TO groupuser4": "",
            "SUBJECT NIL": "",
        }
        for key, numbers in found.items():
            assert await client.ok(f"SEARCH {key}") == [f"* SEARCH{numbers}".encode()], key
        await client.ok('LIST "" NIL')


async def test_a_move_into_the_same_mailbox_gives_new_uids(office: Office) -> None:
    async with office.logged_in() as client:
        await filled(client, 2)
        await client.ok("SELECT INBOX")
        lines = await client.ok("MOVE 1 INBOX")
        assert re.fullmatch(rb"\* OK \[COPYUID \d+ 1 3\] moved", lines[0])
        assert lines[1:3] == [b"* 1 EXPUNGE", b"* 2 EXISTS"]
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 2 3"]


@pytest.mark.feature("IMAP-111", "STD-108")
async def test_messages_put_together_and_whole_ones_in_one_command(office: Office) -> None:
    async with office.logged_in() as client:
        await filled(client, 1)

        def text(data: str) -> str:
            return f"TEXT {{{len(data)}+}}\r\n{data}"

        def literal(data: str) -> str:
            return f"{{{len(data)}+}}\r\n{data}"

        head, whole = 'URL "/INBOX/;UID=1/;SECTION=HEADER"', 'URL "/INBOX/;UID=1"'
        good = [
            f"CATENATE ({text('a: b')}) CATENATE ({text('c: d')})",
            f"CATENATE ({head} {text('body1')}) CATENATE ({whole})",
            f"CATENATE ({head}) {literal('New: message')}",
            f"CATENATE ({head}) (\\Answered) {literal('New: message')}",
        ]
        for command in good:
            last = await client.last(f"APPEND INBOX {command}")
            assert re.match(rb"OK \[APPENDUID \d+ \d+:\d+\]", last), (command, last)
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 9)"]
        wrong = 'URL "/INBOX;UIDVALIDITY=12345/;UID=1"'
        bad = [
            f"CATENATE ({wrong}) CATENATE ({whole})",
            f"CATENATE ({wrong}) CATENATE ({whole} {text('hello')})",
            f"CATENATE ({wrong}) {literal('hello')}",
            f"CATENATE ({whole}) CATENATE ({text('hello')} {wrong}) {literal('hello')}",
            f"(\\Seen) CATENATE ({text('a')} {wrong} {text('b')} {wrong} {text('c')})",
        ]
        for command in bad:
            assert (await client.last(f"APPEND INBOX {command}")).startswith(b"NO [BADURL"), command
            await client.ok("NOOP")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 9)"]


@pytest.mark.feature("IMAP-078")
async def test_a_silent_store_hides_only_its_own_change(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        await filled(client, 1)
        for session in (client, other):
            await session.ok("SELECT INBOX")
        await other.ok("STORE 1 +FLAGS.SILENT (\\Flagged)")
        assert await client.ok("STORE 1 +FLAGS.SILENT (\\Seen)") == [b"* 1 FETCH (FLAGS (\\Flagged \\Recent))"]
        assert await client.ok("NOOP") == []
