"""IMAP4rev2 and UTF-8, annotations, special uses, extended lists, compression, identities: the wire and the real gate."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Client, Office

LETTER = b"From: a@x.org\r\nSubject: s\r\n\r\nhello   there\r\n\r\nsecond line\r\n"


async def put(client: Client, mailbox: str = "INBOX", data: bytes = LETTER) -> bytes:
    return await client.last(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(data), data))


@pytest.mark.feature("STD-062", "IMAP-022")
async def test_todays_protocol_is_enabled(office: Office) -> None:
    async with office.logged_in() as client:
        [line] = await client.ok("CAPABILITY")
        assert {b"IMAP4rev1", b"IMAP4rev2", b"IMAP4"} <= set(line.split())
        await put(client)
        assert any(b"RECENT" in line for line in await client.ok("SELECT INBOX"))
        assert await client.ok("SEARCH ALL") == [b"* SEARCH 1"]
        assert await client.ok("ENABLE IMAP4rev2 NOPE") == [b"* ENABLED IMAP4rev2"]
        assert await client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS ())"]
        lines = await client.ok("SELECT INBOX")
        assert not any(b"RECENT" in line or b"UNSEEN" in line for line in lines)
        assert b"* OK [CLOSED] the mailbox before is closed" in lines
        assert b'* LIST () "/" INBOX' in lines
        assert (await client.ok("SEARCH ALL"))[0].endswith(b" ALL 1")
        assert (await client.ok("STATUS INBOX (SIZE DELETED MESSAGES)"))[0].endswith(
            b"(SIZE %d DELETED 0 MESSAGES 1)" % len(LETTER)
        )


@pytest.mark.feature("IMAP-043", "STD-027")
async def test_names_in_utf8_and_in_utf7(office: Office) -> None:
    async with office.logged_in() as old, office.logged_in() as new:
        await new.ok("ENABLE UTF8=ACCEPT")
        await old.ok("CREATE &BB8EQAQ4BDIENQRC-")
        assert 'LIST (\\HasNoChildren \\Unmarked) "/" "Привет"'.encode() in (await new.ok('LIST "" *'))[1]
        await new.ok('CREATE "Entwürfe & mehr"'.encode())
        assert b'"Entw&APw-rfe &- mehr"' in b"".join(await old.ok('LIST "" *'))
        assert (await new.ok('STATUS "Entwürfe & mehr" (MESSAGES)'.encode()))[0].startswith(
            '* STATUS "Entwürfe & mehr" ('.encode()
        )
        assert (await old.last("CREATE a&b")).startswith(b"NO [CANNOT]")
        assert (await old.last("RENAME INBOX a&b")).startswith(b"NO [CANNOT]")
        message = "Subject: grüße\r\n\r\nx\r\n".encode()
        assert (await old.last(b"APPEND INBOX UTF8 (~{%d+}\r\n%b)" % (len(message), message))).startswith(b"BAD")
        assert (await new.last(b"APPEND INBOX UTF8 (~{%d+}\r\n%b)" % (len(message), message))).startswith(b"OK")
        await new.ok("SELECT INBOX")
        assert (await new.ok("FETCH 1 BODY.PEEK[]"))[0].endswith(message + b")")


async def test_annotations(office: Office) -> None:
    async with office.logged_in() as client:
        await client.ok("CREATE box")
        await client.ok('SETMETADATA box (/private/comment "mine" /SHARED/Comment {4+}\r\nours)')
        assert await client.ok("GETMETADATA box /private/comment") == [b'* METADATA box (/private/comment "mine")']
        assert await client.ok("GETMETADATA box (/shared/comment /private/none)") == [
            b'* METADATA box (/shared/comment "ours" /private/none NIL)'
        ]
        await client.ok(
            "SETMETADATA box (/private/vendor/x/a ~{3+}\r\na\0b /private/vendor/x/b 1)".replace(" 1)", ' "1")')
        )
        assert await client.ok("GETMETADATA (DEPTH infinity) box /private/vendor") == [
            b'* METADATA box (/private/vendor/x/a ~{3}\r\na\0b /private/vendor/x/b "1")'
        ]
        assert await client.ok("GETMETADATA (DEPTH 1) box /private/vendor") == []
        assert await client.ok("GETMETADATA (DEPTH 1) box /private/vendor/x") != []
        last = await client.last("GETMETADATA (MAXSIZE 2) box (/private/comment /private/vendor/x/b)")
        assert last.startswith(b"OK [METADATA LONGENTRIES 4]")
        await client.ok("SETMETADATA box (/private/comment NIL)")
        assert await client.ok("GETMETADATA box /private/comment") == [b"* METADATA box (/private/comment NIL)"]
        await client.ok('SETMETADATA "" (/private/comment "account")')
        assert await client.ok('GETMETADATA "" /private/comment') == [b'* METADATA "" (/private/comment "account")']
        long = "x" * 9000
        assert (await client.last(f'SETMETADATA box (/private/comment "{long}")')).startswith(
            b"NO [METADATA MAXSIZE 8192]"
        )
        assert (await client.last('SETMETADATA box (/elsewhere "x")')).startswith(b"BAD")
        assert (await client.last("GETMETADATA nosuch /private/comment")).startswith(b"NO")
        await client.ok("RENAME box other")
        assert await client.ok("GETMETADATA other /shared/comment") == [b'* METADATA other (/shared/comment "ours")']


async def test_special_uses(office: Office) -> None:
    async with office.logged_in() as client:
        last = await client.last("CREATE Outgoing (USE (\\Sent \\Drafts))")
        assert re.match(rb"OK \[MAILBOXID \(F[0-9a-f-]+\)\]", last)
        assert (await client.last("CREATE x (USE (\\Sent))")).startswith(b"NO [USEATTR]")
        assert (await client.last("CREATE x (USE (\\All))")).startswith(b"NO [USEATTR]")
        await client.ok("CREATE Trash")
        await client.ok("CREATE sent")
        lines = await client.ok('LIST (SPECIAL-USE) "" *')
        found = {line.rsplit(b" ", 1)[1]: line for line in lines}
        assert set(found) == {b"Outgoing", b"Trash"}
        assert b"\\Sent \\Drafts" in found[b"Outgoing"] and b"\\Trash" in found[b"Trash"]
        assert any(b"\\Trash" in line for line in await client.ok('LIST "" * RETURN (SPECIAL-USE)'))
        await client.ok("RENAME Outgoing Gone")
        assert b"\\Sent" in (await client.ok('LIST "" Gone'))[0]
        await client.ok("SETMETADATA Gone (/private/specialuse NIL)")
        assert b"\\Sent" in (await client.ok('LIST "" sent'))[0]
        await client.ok('SETMETADATA Gone (/private/specialuse "\\\\Archive")')
        assert b"\\Archive" in (await client.ok('LIST "" Gone'))[0]
        assert (await client.last('SETMETADATA Trash (/private/specialuse "\\\\Archive")')).startswith(b"NO [USEATTR]")


@pytest.mark.feature("IMAP-118", "IMAP-110", "STD-107")
async def test_extended_lists(office: Office) -> None:
    async with office.logged_in() as client:
        for name in ("a", "a/b", "a/b/c", "d"):
            await client.ok(f"CREATE {name}")
        for name in ("a/b", "gone/x"):
            await client.ok(f"SUBSCRIBE {name}")

        async def names(command: str) -> list[bytes]:
            return [line.split(b'"/" ')[1] for line in await client.ok(command)]

        assert await names('LIST (SUBSCRIBED) "" *') == [b"a/b", b"gone/x"]
        assert await names('LIST (SUBSCRIBED) "" %') == []
        lines = await client.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" %')
        assert [line.split(b'"/" ')[1] for line in lines] == [
            b'a ("CHILDINFO" ("SUBSCRIBED"))',
            b'gone ("CHILDINFO" ("SUBSCRIBED"))',
        ]
        assert b"\\NonExistent" in lines[1]
        assert (await client.last('LIST (RECURSIVEMATCH) "" %')).startswith(b"BAD")
        assert await names('LIST "" (d a/%)') == [b"a/b", b"d"]
        assert await names('LIST "" ("d" INBOX) RETURN (CHILDREN)') == [b"INBOX", b"d"]
        found = await client.ok('LIST "" % RETURN (SUBSCRIBED MYRIGHTS STATUS (MESSAGES MAILBOXID))')
        assert b"* MYRIGHTS a lrswipkxtecda" in found
        assert any(re.fullmatch(rb"\* STATUS a \(MESSAGES 0 MAILBOXID \(F[0-9a-f-]+\)\)", line) for line in found)
        assert (await client.last('LIST "" % RETURN (NOPE)')).startswith(b"BAD")
        assert (await client.last('LIST (NOPE) "" %')).startswith(b"BAD")


async def test_what_messages_are_known_by(office: Office) -> None:
    async with office.logged_in() as client:
        await put(client)
        await client.ok("CREATE box")
        lines = await client.ok("SELECT INBOX")
        [own] = [line for line in lines if b"[MAILBOXID (" in line]
        [known] = await client.ok("STATUS INBOX (MAILBOXID)")
        assert known.rpartition(b"(")[2].rstrip(b")") in own
        await client.ok("COPY 1 box")
        [line] = await client.ok("FETCH 1 (EMAILID THREADID)")
        found = re.fullmatch(rb"\* 1 FETCH \(EMAILID \((M[0-9a-f]+)\) THREADID NIL\)", line)
        assert found
        assert await client.ok(b"SEARCH EMAILID " + found[1]) == [b"* SEARCH 1"]
        assert await client.ok("SEARCH EMAILID Mx") == [b"* SEARCH"]
        assert await client.ok("SEARCH THREADID T1") == [b"* SEARCH"]
        await client.ok("SELECT box")
        assert await client.ok("FETCH 1 EMAILID") == [b"* 1 FETCH (EMAILID (%b))" % found[1]]
        first = (await client.ok("STATUS box (MAILBOXID)"))[0].split(b"(", 1)[1]
        await client.ok("RENAME box moved")
        assert (await client.ok("STATUS moved (MAILBOXID)"))[0].split(b"(", 1)[1] == first


async def test_previews(office: Office) -> None:
    html = b"Content-Type: text/html; charset=utf-8\r\n\r\n<style>p {}</style><p>Gr\xc3\xbc\xc3\x9fe &amp; more</p>\r\n"
    async with office.logged_in() as client:
        await put(client)
        await put(client, data=html)
        await put(client, data=b"Content-Type: image/png\r\n\r\nx\r\n")
        await client.ok("SELECT INBOX")
        assert await client.ok("FETCH 1:3 PREVIEW") == [
            b'* 1 FETCH (PREVIEW "hello there second line")',
            "* 2 FETCH (PREVIEW {14}\r\nGrüße & more)".encode(),
            b'* 3 FETCH (PREVIEW "")',
        ]
        assert await client.ok("FETCH 1 (UID PREVIEW (LAZY))") == [
            b'* 1 FETCH (UID 1 PREVIEW "hello there second line")'
        ]
        assert await client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Recent))"]


async def test_compression(office: Office) -> None:
    async with office.logged_in() as client:
        await put(client, data=LETTER * 2000)
        await client.ok("COMPRESS DEFLATE")
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        unpacker = zlib.decompressobj(-15)
        received = b""
        plain = b"x NOOP\r\n" * 3 + b"a SELECT INBOX\r\nb FETCH 1 BODY.PEEK[]\r\nc COMPRESS DEFLATE\r\n"
        await client.send(packer.compress(plain) + packer.flush(zlib.Z_SYNC_FLUSH))
        packed = 0
        while b"\r\nc " not in received:
            data = await client.channel.receive()
            packed += len(data)
            received += unpacker.decompress(data)
        assert received.count(b"x OK") == 3
        assert LETTER * 2000 in received
        assert packed < len(received) / 10
        assert b"c NO [COMPRESSIONACTIVE]" in received
        await client.send(packer.compress(b"d LOGOUT\r\n") + packer.flush(zlib.Z_SYNC_FLUSH))
        while b"d OK" not in received:
            received += unpacker.decompress(await client.channel.receive())


async def test_a_damaged_stream_ends_the_session(office: Office) -> None:
    async with office.logged_in() as client:
        assert (await client.last("COMPRESS LZW")).startswith(b"BAD")
        await client.ok("COMPRESS DEFLATE")
        await client.send(b"\xff\xff\xff\xff NOOP\r\n")
        assert await client.closed()


@pytest.mark.feature("STD-060", "IMAP-101", "IMAP-102")
async def test_quota_of_today(office: Office) -> None:
    async with office.logged_in() as client:
        await office.jim.settings.update({"MaxAccountSize": "10K", "MaxMailboxes": "5"})
        await put(client)
        await client.ok("SELECT INBOX")
        await client.ok("STORE 1 +FLAGS (\\Deleted)")
        assert await client.ok("STATUS INBOX (DELETED DELETED-STORAGE)") == [
            b"* STATUS INBOX (DELETED 1 DELETED-STORAGE %d)" % len(LETTER)
        ]
        assert await client.ok("GETQUOTAROOT INBOX") == [
            b'* QUOTAROOT INBOX ""',
            b'* QUOTA "" (STORAGE 1 10 MAILBOX 1 5)',
        ]
        assert (await client.last('GETQUOTA "nope"')).startswith(b"NO [NONEXISTENT]")
        assert (await client.last('SETQUOTA "" (STORAGE 5)')).startswith(b"NO [NOPERM]")
        assert (await client.last("STATUS INBOX (APPENDLIMIT)")).startswith(b"OK")
