"""APPEND in all its forms, REPLACE, and binary parts, through the wire and the real gate."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from appliance.access.imap.downgrading import downgraded

if TYPE_CHECKING:
    from .conftest import Client, Office

LETTER = b"From: a@x.org\r\nSubject: s\r\n\r\nhello\r\n"
PICTURE = bytes(range(256)) * 3
MIXED = (
    b'Subject: p\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Gr=C3=BC=C3=9Fe\r\nline two\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(PICTURE).replace(b"\n", b"\r\n")
    + b"--b\r\nContent-Type: text/x\r\nContent-Transfer-Encoding: x-odd\r\n\r\n???\r\n--b--\r\n"
)


async def put(client: Client, mailbox: str = "INBOX", data: bytes = LETTER) -> bytes:
    return await client.last(b"APPEND %b {%d+}\r\n%b" % (mailbox.encode(), len(data), data))


async def test_a_message_is_put_together(office: Office) -> None:
    async with office.logged_in() as client:
        await put(client, data=MIXED)
        lines = await client.ok("SELECT INBOX")
        [validity] = [line.split(b"UIDVALIDITY ")[1].split(b"]")[0] for line in lines if b"UIDVALIDITY" in line]
        command = (
            b'APPEND INBOX (\\Draft) CATENATE (TEXT {12+}\r\nSubject: n\r\n URL "/INBOX;UIDVALIDITY=%b/;UID=1/;SECTION=1.MIME"'
            b' URL "/INBOX/;UID=1/;SECTION=1" TEXT {7+}\r\n--end\r\n)' % validity
        )
        assert (await client.last(command)).startswith(b"OK [APPENDUID ")
        [line] = await client.ok("FETCH 2 (FLAGS BODY.PEEK[])")
        assert line.endswith(
            b"Subject: n\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\nline two--end\r\n)"
        )
        assert b"\\Draft" in line
        # Only from a message, and with two messages in one command.
        second = b"CATENATE (URL {29+}\r\n/INBOX/;UID=1/;SECTION=HEADER)"
        last = await client.last(b'APPEND INBOX CATENATE (URL "/INBOX/;UID=1") (\\Seen) ' + second)
        assert last.startswith(b"OK [APPENDUID ")
        assert (await client.ok("FETCH 3 BODY.PEEK[]"))[0].endswith(MIXED + b")")
        assert b"* SEARCH 4" in await client.ok("SEARCH SEEN")
        # A part of a part.
        await client.ok('APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;SECTION=HEADER/;PARTIAL=0.12")')
        assert (await client.ok("FETCH 5 BODY.PEEK[]"))[0].endswith(b"Subject: p\r\n)")


URLS = [
    "/INBOX/;UID=99",
    "/nosuch/;UID=1",
    "/INBOX;UIDVALIDITY=1/;UID=1",
    "/INBOX/;UID=1/;SECTION=7",
    "/INBOX/;UID=1/;SECTION=HEADER.NOPE",
    "imap://boss@host/INBOX/;UID=1",
    "http://x/",
    ";UID=1",
    "",
]


async def test_urls_that_lead_nowhere(office: Office) -> None:
    async with office.logged_in() as client:
        await put(client)
        for url in URLS:
            parts = f'TEXT {{3+}}\r\nabc URL "{url}" TEXT {{5+}}\r\nNOOP)'
            last = await client.last(f"APPEND INBOX CATENATE ({parts} (\\Seen) {{3+}}\r\nabc")
            assert last.startswith(b"NO [BADURL " + url.encode()), last
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 1)"]
        await client.ok("SELECT INBOX")
        assert (await client.last('APPEND INBOX CATENATE (URL ";UID=1")')).startswith(b"OK")


async def test_the_client_waits_for_each_part(office: Office) -> None:
    async with office.logged_in() as client:
        await put(client)
        for text in (
            "a APPEND INBOX CATENATE (TEXT {8}\r\n",
            "a: b\r\n\r\n URL {13}\r\n",
            "/INBOX/;UID=1 TEXT {2}\r\n",
        ):
            await client.send(text)
            assert (await client.line()).startswith(b"+ ")
        await client.send("zz)\r\n")
        assert (await client.line()).startswith(b"a OK [APPENDUID ")
        await client.ok("SELECT INBOX")
        assert (await client.ok("FETCH 2 BODY.PEEK[]"))[0].endswith(b"a: b\r\n\r\n" + LETTER + b"zz\r\n)")


async def test_refused_before_it_is_sent(office: Office) -> None:
    async with office.logged_in() as client:
        await client.send("a APPEND nosuch CATENATE (TEXT {4}\r\n")
        assert (await client.line()).startswith(b"a NO [TRYCREATE]")
        await client.ok("NOOP")
        await client.send("b APPEND nosuch CATENATE (TEXT {4+}\r\nabcd TEXT {3+}\r\nxyz)\r\n")
        assert (await client.line()).startswith(b"b NO [TRYCREATE]")
        await client.ok("NOOP")
        await client.send('c APPEND INBOX CATENATE (URL "/nosuch/;UID=1" TEXT {4}\r\n')
        assert (await client.line()).startswith(b"c NO [BADURL /nosuch/;UID=1]")
        await client.ok("NOOP")
        assert (await client.last("APPEND INBOX CATENATE ()")).startswith(b"NO")
        for text in ("CATENATE (NOPE x)", "CATENATE (URL", "CATENATE (TEXT x)", "UTF8 (x)"):
            assert (await client.last(f"APPEND INBOX {text}")).startswith(b"BAD"), text
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]


async def test_replace(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        await put(client)
        await put(client)
        await client.ok("SELECT INBOX")
        await other.ok("SELECT INBOX")
        lines = await client.do(b"REPLACE 1 INBOX (\\Seen) {%d+}\r\n%b" % (len(LETTER), LETTER))
        assert lines[0].startswith(b"* OK [APPENDUID ") and lines[0].split()[4] == b"3]"
        assert lines[1:3] == [b"* 1 EXPUNGE", b"* 2 EXISTS"]
        assert lines[-1] == b"OK REPLACE completed"
        assert await other.ok("NOOP") == [b"* 1 EXPUNGE", b"* 2 EXISTS"]
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 2 3"]
        await client.ok("CREATE box")
        await client.ok(b"UID REPLACE 3 box {%d+}\r\n%b" % (len(LETTER), LETTER))
        assert await client.ok("STATUS box (MESSAGES)") == [b"* STATUS box (MESSAGES 1)"]
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 2"]
        for command, answer in {
            b"UID REPLACE 99 INBOX": b"NO",
            b"REPLACE 5 INBOX": b"BAD",
            b"REPLACE 1 nosuch": b"NO [TRYCREATE]",
        }.items():
            assert (await client.last(b"%b {3+}\r\nabc" % command)).startswith(answer)
        assert (await client.last(b"REPLACE 1 INBOX {3+}\r\nabc {3+}\r\nabc")).startswith(b"BAD")
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 2"]
        await client.ok("EXAMINE INBOX")
        assert (await client.last(b"REPLACE 1 INBOX {3+}\r\nabc")).startswith(b"NO [NOPERM]")
        await client.ok("UNSELECT")
        assert (await client.last(b"REPLACE 1 INBOX {3+}\r\nabc")).startswith(b"BAD")


async def test_parts_without_their_encoding(office: Office) -> None:
    async with office.logged_in() as client:
        await put(client, data=MIXED)
        await client.ok("SELECT INBOX")
        text = "Grüße\r\nline two".encode()
        assert await client.ok("FETCH 1 BINARY.PEEK[1]") == [b"* 1 FETCH (BINARY[1] {%d}\r\n%b)" % (len(text), text)]
        assert await client.ok("FETCH 1 (BINARY.SIZE[1] BINARY.SIZE[2])") == [
            b"* 1 FETCH (BINARY.SIZE[1] %d BINARY.SIZE[2] %d)" % (len(text), len(PICTURE))
        ]
        await client.send("x FETCH 1 BINARY.PEEK[2]\r\n")
        found = b""
        while b"x OK" not in found:
            found += await client.channel.receive()
        assert found.startswith(b"* 1 FETCH (BINARY[2] ~{%d}\r\n%b)" % (len(PICTURE), PICTURE))
        await client.send("y FETCH 1 BINARY.PEEK[2]<250.20>\r\n")
        found = b""
        while b"y OK" not in found:
            found += await client.channel.receive()
        assert found.startswith(b"* 1 FETCH (BINARY[2]<250> ~{20}\r\n%b)" % PICTURE[250:270])
        lines = await client.do("FETCH 1 BINARY.PEEK[3]")
        assert lines[-1].startswith(b"NO [UNKNOWN-CTE]")
        assert await client.ok("FETCH 1 BINARY.PEEK[9]") == [b"* 1 FETCH (BINARY[9] NIL)"]
        assert (await client.last("FETCH 1 BINARY[1.MIME]")).startswith(b"BAD")
        assert await client.ok("SEARCH UNSEEN") == [b"* SEARCH 1"]
        assert (await client.ok("FETCH 1 BINARY[1]"))[0].startswith(b"* 1 FETCH (FLAGS (\\Seen")
        assert (await client.ok("FETCH 1 BINARY[]"))[0].endswith(MIXED + b")")


async def test_a_large_part_comes_in_pieces(office: Office) -> None:
    picture = bytes(range(256)) * 4000
    message = b"Content-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(picture)
    async with office.logged_in() as client:
        await put(client, data=message)
        await client.ok("SELECT INBOX")
        await client.send("x FETCH 1 BINARY.PEEK[1]\r\n")
        found = b""
        while b"x OK" not in found[-100:]:
            found += await client.channel.receive()
        assert found.startswith(b"* 1 FETCH (BINARY[1] ~{%d}\r\n%b)" % (len(picture), picture))


async def test_a_binary_message_is_stored_so_that_all_can_read_it(office: Office) -> None:
    message = (
        b'Content-Type: multipart/mixed; boundary="b"\r\nContent-Transfer-Encoding: binary\r\n\r\n--b\r\n'
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n" + PICTURE + b"\r\n--b--\r\n"
    )
    async with office.logged_in() as client:
        assert (await client.last(b"APPEND INBOX ~{%d+}\r\n%b" % (len(message), message))).startswith(b"OK")
        await client.ok("SELECT INBOX")
        [line] = await client.ok("FETCH 1 BODY.PEEK[]")
        assert b"\0" not in line and b"Content-Transfer-Encoding: base64" in line and b"binary" not in line
        await client.send("y FETCH 1 BINARY.PEEK[1]\r\n")
        found = b""
        while b"y OK" not in found:
            found += await client.channel.receive()
        assert PICTURE in found
        assert (await client.last(b"APPEND INBOX ~{4+}\r\na: \0")).startswith(b"NO [UNKNOWN-CTE]")
    assert downgraded(LETTER) == LETTER
