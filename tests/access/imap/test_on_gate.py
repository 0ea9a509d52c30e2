"""Sessions on the real gate and real files, every request serialised: what only the two together can prove."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Client, Office


def letter(number: int, extra: bytes = b"", body: bytes = b"") -> bytes:
    return b"From: ann%d@example.org\r\nTo: jim@example.com\r\nSubject: letter %d\r\n%b\r\n%b" % (
        number,
        number,
        extra,
        body or b"text %d\r\n" % number,
    )


async def append(client: Client, data: bytes, mailbox: str = "INBOX", before: bytes = b"") -> bytes:
    return await client.last(b"APPEND %b %b{%d+}\r\n%b" % (mailbox.encode(), before, len(data), data))


async def filled(client: Client, count: int, mailbox: str = "INBOX") -> None:
    for number in range(1, count + 1):
        assert (await append(client, letter(number), mailbox)).startswith(b"OK")


@pytest.mark.feature(
    "IMAP-046", "IMAP-069", "IMAP-070", "IMAP-077", "IMAP-053", "IMAP-082", "IMAP-108", "IMAP-021", "IMAP-022"
)
async def test_a_day_in_the_life(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        await filled(client, 3)
        assert b"* 3 RECENT" in await client.ok("SELECT INBOX")
        lines = await other.ok("SELECT INBOX")
        assert b"* 0 RECENT" in lines
        assert any(line.startswith(b"* OK [UNSEEN 1]") for line in lines)
        [size] = await client.ok("FETCH 2 RFC822.SIZE")
        [whole] = await client.ok("FETCH 2 RFC822")
        assert whole == b"* 2 FETCH (FLAGS (\\Seen \\Recent) RFC822 {%d}\r\n%b)" % (len(letter(2)), letter(2))
        assert size == b"* 2 FETCH (RFC822.SIZE %d)" % len(letter(2))
        assert await other.ok("NOOP") == [b"* 2 FETCH (FLAGS (\\Seen))"]
        await client.ok("CREATE box")
        last = await client.last("COPY 2:3 box")
        found = re.match(rb"OK \[COPYUID (\d+) (\S+) (\S+)\]", last)
        assert found
        await client.ok("STORE 1 +FLAGS (\\Deleted)")
        assert b"* 1 EXPUNGE" in await client.ok("EXPUNGE")
        assert b"* 1 EXPUNGE" in await other.ok("NOOP")
        await other.ok("SELECT box")
        lines = await other.ok("FETCH 1:* (UID FLAGS)")
        assert [line for line in lines if b"\\Seen" in line] == lines[:1]
        assert await other.ok(b"UID SEARCH UID " + found[3]) == [
            b"* SEARCH " + b" ".join(re.findall(rb"UID (\d+)", b" ".join(lines)))
        ]


@pytest.mark.feature("IMAP-051", "IMAP-077", "IMAP-090", "IMAP-033")
async def test_all_of_it_outlives_a_restart(
    tmp_path: Path, real_office: Callable[[Path], AbstractAsyncContextManager[Office]]
) -> None:
    async with real_office(tmp_path) as office, office.logged_in() as client:
        await filled(client, 3)
        await client.ok("SELECT INBOX")
        await client.ok("STORE 2 +FLAGS (\\Flagged Work)")
        await client.ok("STORE 1 +FLAGS (\\Deleted)")
        await client.ok("EXPUNGE")
        await client.ok("SUBSCRIBE ~sales/x")
        await client.ok("CHECK")
        before = await client.ok("STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES)")
        uids = await client.ok("UID SEARCH ALL")
    async with real_office(tmp_path) as office, office.logged_in() as client:
        after = await client.ok("STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES)")
        assert after[0].split()[4] == before[0].split()[4]
        assert int(after[0].split()[6]) >= int(before[0].split()[6])  # numbers are left out, never used again
        await client.ok("SELECT INBOX")
        assert await client.ok("UID SEARCH ALL") == uids
        assert await client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Flagged Work))"]
        assert await client.ok('LSUB "" *') == [b'* LSUB () "/" ~sales/x']


@pytest.mark.feature("IMAP-025", "IMAP-026", "IMAP-027", "IMAP-030", "IMAP-031", "IMAP-039")
async def test_names(office: Office) -> None:
    async with office.logged_in() as client:

        async def names(pattern: str = "*") -> list[bytes]:
            return [line.rsplit(b" ", 1)[1] for line in await client.ok(f'LIST "" "{pattern}"')]

        await client.ok("CREATE a/b/c")
        assert await names() == [b"INBOX", b"a", b"a/b", b"a/b/c"]
        await client.ok("CREATE ABC/")
        [line] = await client.ok('LIST "" ABC')
        assert b"\\Noselect" in line
        assert (await client.last("SELECT ABC")).startswith(b"NO")
        await client.ok("CREATE ABC/in")
        await client.ok("CREATE ABC")
        await client.ok("SELECT ABC")
        assert b"ABC/in" in await names()
        await client.ok("CREATE big.mdir")
        await client.ok("CREATE small.mbox")
        assert {b"big", b"small"} <= set(await names("%"))
        directory = Path(office.jim.directory)
        assert (directory / "big.mdir").is_dir()
        assert (directory / "small.mbox").is_file()
        await filled(client, 1, "big")
        await client.ok("CREATE x/sub")
        await client.ok("CREATE x")
        await client.ok("RENAME x new/place/y")
        assert {b"new", b"new/place", b"new/place/y", b"new/place/y/sub"} <= set(await names())
        await client.ok("DELETE new/place/y")
        [line] = await client.ok('LIST "" new/place/y')
        assert b"\\Noselect" in line
        assert b"new/place/y/sub" in await names()
        await filled(client, 1)
        await client.ok("RENAME INBOX old")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]
        assert await client.ok("STATUS old (MESSAGES)") == [b"* STATUS old (MESSAGES 1)"]
        assert (await client.last("CREATE ../evil")).startswith(b"NO")


@pytest.mark.feature("IMAP-045", "IMAP-050", "IMAP-049")
async def test_what_cannot_be(office: Office) -> None:
    async with office.logged_in("INBOX") as client:
        assert (await client.last("STATUS nosuch (MESSAGES)")).startswith(b"NO")
        assert (await append(client, b"x", "nosuch")).startswith(b"NO [TRYCREATE]")
        assert (await client.last("RENAME nosuch x")).startswith(b"NO")
        await office.jim.settings.update({"MaxAccountSize": "1K"})
        await filled(client, 1)
        assert (await append(client, letter(1, body=b"x" * 2000))).startswith(b"NO [OVERQUOTA]")
        for _ in range(4):
            await append(client, letter(1, body=b"y" * 150))
        last = await client.last("COPY 1:* INBOX")
        assert last.startswith(b"NO [OVERQUOTA]"), last
        [quota] = await client.ok('GETQUOTA ""')
        assert re.fullmatch(rb'\* QUOTA "" \(STORAGE 1 1\)', quota), quota


@pytest.mark.feature("IMAP-047", "IMAP-048", "IMAP-072", "IMAP-111")
async def test_messages_come_back_as_they_went_in(office: Office) -> None:
    large = letter(1, body=b"From here\r\n>From there\r\n\xff\xfe.\r\n" * 40_000)
    async with office.logged_in("INBOX") as client:
        for data in (letter(1), large, letter(3) + b"no line end"):
            assert (await append(client, data)).startswith(b"OK [APPENDUID")
        lines = await client.ok("FETCH 1:3 BODY.PEEK[]")
        assert lines[0] == b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(letter(1)), letter(1))
        assert lines[1] == b"* 2 FETCH (BODY[] {%d}\r\n%b)" % (len(large), large)
        assert lines[2].startswith(b"* 3 FETCH (BODY[] {87}")
        assert b"no line end\r\n)" in lines[2]
        assert await client.ok("FETCH 2 BODY.PEEK[TEXT]<100000.7>") == [
            b"* 2 FETCH (BODY[TEXT]<100000> {7}\r\n%b)" % large.partition(b"\r\n\r\n")[2][100_000:100_007]
        ]
        last = await client.last(b"APPEND INBOX {%d+}\r\n%b {%d+}\r\n%b" % (len(large), large, 3, b"abc"))
        assert last.startswith(b"OK [APPENDUID")
        assert await client.ok("SEARCH ALL") == [b"* SEARCH 1 2 3 4 5"]


NESTED = (
    b"From: Ann <ann@example.org>\r\nTo: jim@example.com\r\nSubject: nested\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\npreamble\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n'
    b"first\r\n--b\r\nContent-Type: message/rfc822\r\nContent-Description: inside\r\n\r\nFrom: bob@example.org\r\n"
    b'Subject: inner\r\nContent-Type: multipart/alternative; boundary="c"\r\n\r\n--c\r\nContent-Type: text/plain\r\n\r\n'
    b"inner text\r\n--c\r\nContent-Type: text/html\r\n\r\n<p>\r\n--c--\r\n--b\r\n"
    b'Content-Type: image/png; name="a b.png"; x-odd=1\r\nContent-ID: <id@x>\r\nContent-Transfer-Encoding: base64\r\n'
    b'Content-Disposition: attachment; filename="a b.png"; size=3\r\n\r\nAAAA\r\n--b--\r\n'
)


@pytest.mark.feature("IMAP-073", "IMAP-074", "IMAP-119")
async def test_sections(office: Office) -> None:
    async with office.logged_in("INBOX") as client:
        await append(client, NESTED)

        async def section(name: str) -> bytes:
            [line] = await client.ok(f"FETCH 1 BODY.PEEK[{name}]")
            found = re.match(rb"\* 1 FETCH \(BODY\[[^]]*\] \{(\d+)\}\r\n(.*)\)$", line, re.S)
            assert found, line
            assert len(found[2]) == int(found[1])
            return found[2]

        assert await section("") == NESTED
        assert await section("HEADER") == NESTED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        assert await section("TEXT") == NESTED.partition(b"\r\n\r\n")[2]
        assert await section("HEADER.FIELDS (Subject)") == b"Subject: nested\r\n\r\n"
        assert b"Subject" not in await section("HEADER.FIELDS.NOT (Subject)")
        assert await section("1") == b"first"
        assert await section("1.MIME") == b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
        assert (await section("2")).startswith(b"From: bob@example.org\r\n")
        assert (await section("2.HEADER")).endswith(b'boundary="c"\r\n\r\n')
        assert await section("2.HEADER.FIELDS (Subject)") == b"Subject: inner\r\n\r\n"
        assert (await section("2.TEXT")).startswith(b"--c\r\n")
        assert await section("2.1") == b"inner text"
        assert await section("2.2") == b"<p>"
        assert await section("3") == b"AAAA"
        [line] = await client.ok("FETCH 1 (BODY.PEEK[] BODYSTRUCTURE)")
        assert line.endswith(NESTED + b")")
        [line] = await client.ok("FETCH 1 BODYSTRUCTURE")
        low = line.lower()
        for piece in (
            b'"name" "a b.png"',
            b'"x-odd" "1"',
            b'"<id@x>"',
            b'("attachment" (',
            b'"inside"',
            b'"alternative"',
        ):
            assert piece in low, piece
        assert b'")("' not in low
        assert (await client.last("FETCH 1 BODY.PEEK[9.9]")).startswith(b"OK")


@pytest.mark.feature("IMAP-065", "IMAP-066", "IMAP-056", "IMAP-057", "IMAP-058", "IMAP-060", "IMAP-061")
async def test_search(office: Office) -> None:
    word = "Привет"
    encoded = b"=?koi8-r?B?" + base64.b64encode(word.encode("koi8-r")) + b"?="
    body = base64.b64encode(f"слово {word}".encode("koi8-r")) + b"\r\n"
    kind = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n"
    async with office.logged_in("INBOX") as client:
        await append(client, b"From: x@y\r\nSubject: %b\r\n\r\nplain\r\n" % encoded, before=b"(\\Seen) ")
        date = b'"01-Feb-2020 10:20:30 +0000" '
        await append(client, letter(2, kind + b"Date: Sat, 1 Feb 2020 10:20:30 +0000\r\n", body), before=date)
        await append(client, letter(3, body=b"x" * 5000 + b"\r\n"), before=b"(Work) ")
        query = word.encode()

        async def found(keys: bytes) -> bytes:
            [line] = await client.ok(b"SEARCH " + keys)
            return line[8:].strip()

        assert await found(b"CHARSET UTF-8 SUBJECT {%d+}\r\n%b" % (len(query), query)) == b"1"
        assert await found(b"CHARSET UTF-8 BODY {%d+}\r\n%b" % (len(query), query)) == b"2"
        assert await found(b"CHARSET UTF-8 TEXT {%d+}\r\n%b" % (len(query), query)) == b"1 2"
        assert await found(b"SEEN") == b"1"
        assert await found(b"UNSEEN RECENT") == b"2 3"
        assert await found(b"NEW") == b"2 3"
        assert await found(b"KEYWORD work") == b"3"
        assert await found(b"ON 1-Feb-2020") == b"2"
        assert await found(b"SENTON 1-Feb-2020") == b"2"
        assert await found(b"LARGER 5000") == b"3"
        assert await found(b"FROM ann2 OR 1 2:3") == b"2"
        assert await found(b'HEADER Date ""') == b"2"
        assert await found(b"NOT 2:3") == b"1"


@pytest.mark.feature("IMAP-106", "IMAP-054", "IMAP-055", "ACC-037", "ACC-038", "ACC-040", "MBOX-104", "IMAP-081")
async def test_several_sessions(office: Office) -> None:
    async with office.logged_in() as one, office.logged_in() as two:
        await filled(one, 4)
        assert b"* 4 RECENT" in await one.ok("SELECT INBOX")
        assert b"* 0 RECENT" in await two.ok("SELECT INBOX")
        await one.send("i IDLE\r\n")
        await one.line()
        await two.ok("STORE 2 +FLAGS (\\Deleted)")
        assert await one.line() == b"* 2 FETCH (FLAGS (\\Deleted \\Recent))"
        await append(two, letter(5))
        assert await one.line() == b"* 5 EXISTS"
        await one.send("DONE\r\n")
        await one.answer(b"i")
        await two.ok("EXPUNGE")
        lines = await one.ok("FETCH 2:3 RFC822.SIZE")
        assert sorted(line[:9] for line in lines) == [b"* 2 FETCH", b"* 3 FETCH"]
        assert b"* 2 EXPUNGE" in await one.ok("NOOP")
        assert (await one.ok("UID SEARCH ALL")) == (await two.ok("UID SEARCH ALL"))


def unfinished(office: Office) -> list[Path]:
    """Files of jim's that are there for a while only."""
    return list(Path(office.jim.directory).glob("*.tmp"))


@pytest.mark.feature("IMAP-055", "ACC-038", "ACC-039", "STD-057")
@pytest.mark.parametrize("ending", ["mbox", "mdir"])
async def test_what_another_removed_is_there_until_one_is_told(office: Office, ending: str) -> None:
    async with office.logged_in() as one, office.logged_in() as two:
        await one.ok(f"CREATE box.{ending}")
        await filled(one, 4, "box")
        await append(one, letter(5, body=b"line\r\n" * 50_000), "box")
        for client in (one, two):
            await client.ok("SELECT box")
        await two.ok("STORE 2,5 +FLAGS.SILENT (\\Deleted)")
        await one.ok("NOOP")
        await two.ok("EXPUNGE")
        size = len(letter(5, body=b"line\r\n" * 50_000))
        lines = await one.ok("FETCH 1:5 (UID RFC822.SIZE)")
        assert sorted(lines)[1] == b"* 2 FETCH (UID 2 RFC822.SIZE %d)" % len(letter(2))
        assert sorted(lines)[4] == b"* 5 FETCH (UID 5 RFC822.SIZE %d)" % size
        assert (await one.ok("FETCH 2 BODY.PEEK[]"))[0].endswith(letter(2) + b")")
        assert (await one.ok("FETCH 2 (ENVELOPE BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))[0].count(b"letter 2") == 2
        assert (await one.ok("FETCH 5 BODY.PEEK[]"))[0].endswith(
            b"{%d}\r\n" % size + letter(5, body=b"line\r\n" * 50_000) + b")"
        )
        assert await one.ok("STORE 2:3 +FLAGS (\\Flagged)") == [
            b"* 2 FETCH (FLAGS (\\Flagged \\Deleted))",
            b"* 3 FETCH (FLAGS (\\Flagged \\Recent))",
        ]
        told = await one.do("COPY 1:3 INBOX")
        assert told[-1].startswith(b"NO [EXPUNGEISSUED]")
        assert [line for line in told[:-1] if b"EXPUNGE" in line] == [b"* 2 EXPUNGE", b"* 4 EXPUNGE"]
        assert await one.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]
        assert await one.ok("UID FETCH 2 FLAGS") == []
        assert not unfinished(office)


async def test_a_selected_mailbox_is_deleted(office: Office) -> None:
    async with office.logged_in() as one, office.logged_in() as two:
        await one.ok("CREATE box")
        await filled(one, 1, "box")
        await one.ok("SELECT box")
        await two.ok("DELETE box")
        lines = await one.do("FETCH 1 FLAGS")
        assert lines[-1].startswith(b"NO") or lines[-1].startswith(b"OK")


async def test_move_between_accounts(office: Office) -> None:
    office.domains.main.access["jim"] = ["Domain", "CanAccessMailboxes"]
    async with office.logged_in() as client:
        await filled(client, 3)
        await client.ok("SELECT INBOX")
        assert (await client.last("UID MOVE 1:* ~boss/INBOX")).startswith(b"OK")
        assert await client.ok("STATUS ~boss/INBOX (MESSAGES)") == [b"* STATUS ~boss/INBOX (MESSAGES 3)"]
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]


@pytest.mark.feature(
    "MBOX-004",
    "MBOX-007",
    "MBOX-008",
    "MBOX-009",
    "MBOX-010",
    "MBOX-011",
    "MBOX-012",
    "MBOX-013",
    "MBOX-014",
    "MBOX-015",
    "MBOX-016",
    "MBOX-021",
    "MBOX-022",
    "MBOX-025",
    "MBOX-121",
)
async def test_mailboxes_and_folders(office: Office) -> None:
    async with office.logged_in() as client:

        async def attributes(name: str) -> bytes:
            [line] = await client.ok(f'LIST "" "{name}"')
            return line[8 : line.index(b")")]

        await client.ok("CREATE X")
        await filled(client, 1, "X")
        assert b"\\HasNoChildren" in await attributes("X")
        await client.ok("CREATE X/Y")
        assert b"\\HasChildren" in await attributes("X")
        assert b"\\Noselect" not in await attributes("X")
        await filled(client, 1, "X/Y")
        await client.ok("DELETE X")
        assert b"\\Noselect" in await attributes("X")
        assert await client.ok("STATUS X/Y (MESSAGES)") == [b"* STATUS X/Y (MESSAGES 1)"]
        await client.ok("CREATE F/")
        assert b"\\Noselect" in await attributes("F")
        assert (await append(client, b"x", "F")).startswith(b"NO")
        await client.ok("CREATE F")
        assert (await append(client, b"x", "F")).startswith(b"OK")
        await client.ok("CREATE a/b/c")
        await client.ok("RENAME F p/q/x")
        assert b"\\HasChildren" in await attributes("p/q")
        assert (await client.last("DELETE InBox")).startswith(b"NO")
        await client.ok("CREATE Work")
        await client.ok("CREATE work")
        await filled(client, 1, "Work")
        assert await client.ok("STATUS work (MESSAGES)") == [b"* STATUS work (MESSAGES 0)"]
        await client.ok("SELECT /Work")
        for wrong in ('""', "~boss/", "~boss", "//"):
            assert not (await client.last(f"CREATE {wrong}")).startswith(b"OK"), wrong
        await client.ok("CREATE big.mdir")
        assert (Path(office.jim.directory) / "big.mdir").is_dir()
        await filled(client, 2)
        await client.ok("RENAME INBOX old")
        assert await client.ok("STATUS old (MESSAGES)") == [b"* STATUS old (MESSAGES 2)"]
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]


@pytest.mark.feature("IMAP-024", "MBOX-018", "MBOX-019", "MBOX-020", "IMAP-043", "IMAP-033", "MBOX-150", "MBOX-151")
async def test_inbox_and_other_scripts(office: Office) -> None:
    async with office.logged_in() as client:
        await filled(client, 1)
        for name in ("inbox", "InBox", "INBOX"):
            assert b"* 1 EXISTS" in await client.ok(f"SELECT {name}")
            await client.ok(f"SUBSCRIBE {name}")
        await client.ok("CREATE a/inbox")
        await client.ok("CREATE &BB8EQAQ4BDIENQRC-")
        names = [line.rsplit(b" ", 1)[1] for line in await client.ok('LIST "" *')]
        assert names == [b"INBOX", b"&BB8EQAQ4BDIENQRC-", b"a", b"a/inbox"]
        await client.ok("SUBSCRIBE ~sales/x")
        await client.ok("SUBSCRIBE gone")
        assert {line.rsplit(b" ", 1)[1] for line in await client.ok('LSUB "" *')} == {b"INBOX", b"~sales/x", b"gone"}
        await client.ok("UNSUBSCRIBE gone")
        assert await client.ok('LSUB "" gone') == []


@pytest.mark.feature("IMAP-028", "MBOX-023")
async def test_the_limit_of_mailboxes(office: Office) -> None:
    await office.jim.settings.update({"MaxMailboxes": "3"})
    async with office.logged_in() as client:
        await client.ok("CREATE a")
        await client.ok("CREATE b")
        assert (await client.last("CREATE c")).startswith(b"NO")
        await client.ok("DELETE b")
        await client.ok("CREATE c")


@pytest.mark.feature("IMAP-040", "IMAP-044", "IMAP-115", "IMAP-116", "IMAP-117", "MBOX-044", "MBOX-045", "MBOX-046")
async def test_status_and_marks(office: Office) -> None:
    async with office.logged_in() as client:
        assert await client.ok("STATUS INBOX (OLDEST MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]
        await append(client, letter(1), before=b'(\\Seen) "02-Feb-2020 10:20:30 +0000" ')
        await append(client, letter(2), before=b'"01-Feb-2020 10:20:30 +0000" ')
        oldest = b'OLDEST " 1-Feb-2020 10:20:30 +0000"'
        assert await client.ok("STATUS INBOX (MESSAGES UNSEEN OLDEST)") == [
            b"* STATUS INBOX (MESSAGES 2 UNSEEN 1 %b)" % oldest
        ]
        [line] = await client.ok("STATUS INBOX (INTERNALSIZE SIZE)")
        found = re.search(rb"INTERNALSIZE (\d+) SIZE (\d+)", line)
        assert found
        assert int(found[2]) == len(letter(1)) + len(letter(2))
        assert abs(int(found[1]) - int(found[2])) < 600
        assert int(found[1]) != int(found[2])
        [line] = await client.ok('LIST (UNSEEN) "" INBOX')
        assert b"\\Marked" in line
        assert b"\\UNSEEN(1)" in line
        await client.ok("SELECT INBOX")
        assert b"\\Unmarked" in (await client.ok('LIST "" INBOX'))[0]
        await client.ok("STORE 2 +FLAGS (\\Deleted \\Seen)")
        await client.ok("EXPUNGE")
        [line] = await client.ok("STATUS INBOX (UNSEEN OLDEST)")
        assert line == b'* STATUS INBOX (UNSEEN 0 OLDEST " 2-Feb-2020 10:20:30 +0000")'


@pytest.mark.feature("IMAP-015", "ACC-011", "ACC-012", "ACC-021", "ACC-027", "ACC-028", "ACC-029")
async def test_names_of_log_ins(office: Office) -> None:
    await office.domains.set_aliases(office.jim, ["jim.smith"])
    await office.table.update({"Table": "<boss2> = jim@example.com\n"})
    async with office.logged_in() as client:
        await filled(client, 1)
    for name in ("jim", "JIM", "jim@example.com", "jim%example.com", "jim.smith", "jim.smith@example.com", "boss2"):
        async with office.client() as client:
            await client.line()
            await client.ok(f"LOGIN {name} secret")
            assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 1)"], name


@pytest.mark.feature("IMAP-016", "IMAP-113", "ACC-026", "STD-055", "STD-056", "ROUTE-131")
async def test_a_name_that_lives_elsewhere(office: Office) -> None:
    await office.table.update({"Table": "<j.smith> = John@othercompany.com\n"})
    async with office.client() as client:
        await client.line()
        assert (await client.last("LOGIN j.smith x")) == (
            b"NO [REFERRAL IMAP://John;AUTH=*@othercompany.com/] account has been moved to a remote system"
        )


def digest(password: bytes, challenge: bytes) -> bytes:
    return base64.b64encode(b"jim " + hmac.HMAC(password, base64.b64decode(challenge), "md5").hexdigest().encode())


@pytest.mark.feature("IMAP-013", "IMAP-017", "ACC-003")
async def test_switches_of_the_account(office: Office, autojump_clock: object) -> None:
    plain = base64.b64encode(b"\0jim@example.com\0secret")
    await office.settings.update({"ClearTextLogin": "YES"})
    await office.jim.settings.update({"RequireAPOP": "YES"})
    async with office.client("192.0.2.7", domain="example.com") as client:
        await client.line()
        assert (await client.last("LOGIN jim secret")).startswith(b"NO")
        assert (await client.last(b"AUTHENTICATE PLAIN " + plain)).startswith(b"NO")
        await client.send("a AUTHENTICATE CRAM-MD5\r\n")
        challenge = (await client.line())[2:]
        await client.send(digest(b"secret", challenge) + b"\r\n")
        assert (await client.answer(b"a"))[-1].startswith(b"OK")
    async with office.client("127.0.0.1") as client:  # never leaves the machine, as inside TLS
        await client.line()
        await client.ok("LOGIN jim secret")
    await office.jim.settings.update({"RequireAPOP": "NO", "AccessModes": ["POP", "Mail", "TLS", "Mobile"]})
    async with office.client() as client:
        await client.line()
        last = await client.last("LOGIN jim secret")
        assert last.startswith(b"NO")
        assert last.endswith(b"this service is not enabled for the account")
    await office.jim.settings.update({"AccessModes": ["IMAP", "Mail", "TLS"]})
    async with office.client("192.0.2.7", domain="example.com") as client:
        await client.line()
        last = await client.last("LOGIN jim secret")
        assert last.startswith(b"NO")
        assert last.endswith(b"access from your network is denied")


@pytest.mark.feature("IMAP-128", "MBOX-067", "ACC-042", "ACC-044", "MBOX-100", "MBOX-102")
async def test_administrators_enter_by_name(office: Office) -> None:
    boss = office.domains.find_account("boss")
    assert boss is not None
    await office.domains.set_aliases(boss, ["chief"])
    async with office.logged_in() as client:
        for name in ("~boss/INBOX", "~chief/INBOX", "~nobody/INBOX"):
            last = await client.last(f"SELECT {name}")
            assert last == b"NO [NONEXISTENT] there is no such account, or you have no access to it", name
        await filled(client, 1)
        assert await client.ok("STATUS ~jim/INBOX (MESSAGES)") == [b"* STATUS ~jim/INBOX (MESSAGES 1)"]
    office.domains.main.access["jim"] = ["Master"]
    async with office.logged_in() as client:
        await filled(client, 2, "~boss/INBOX")
        assert b"* 2 EXISTS" in await client.ok("SELECT ~boss/INBOX")
        assert await client.ok("STATUS ~chief/INBOX (MESSAGES)") == [b"* STATUS ~chief/INBOX (MESSAGES 2)"]


@pytest.mark.feature("SEC-003", "STD-015", "IMAP-011")
async def test_digest_md5(office: Office, autojump_clock: object) -> None:
    import hashlib

    def hexed(text: bytes) -> bytes:
        return hashlib.md5(text, usedforsecurity=False).hexdigest().encode()

    async def exchange(client: Client, password: bytes) -> bytes:
        await client.send("a AUTHENTICATE DIGEST-MD5\r\n")
        challenge = base64.b64decode((await client.line())[2:])
        found = re.match(rb'realm="([^"]*)",nonce="([^"]*)"', challenge)
        assert found
        realm, nonce = found.groups()
        first = hashlib.md5(b"jim:%b:%b" % (realm, password), usedforsecurity=False).digest() + b":%b:cn" % nonce
        middle = b"%b:00000001:cn:auth" % nonce
        proof = hexed(b"%b:%b:%b" % (hexed(first), middle, hexed(b"AUTHENTICATE:imap/x")))
        text = (
            b'username="jim",realm="%b",nonce="%b",cnonce="cn",nc=00000001,qop=auth,digest-uri="imap/x",response=%b'
            % (
                realm,
                nonce,
                proof,
            )
        )
        await client.send(base64.b64encode(text) + b"\r\n")
        line = await client.line()
        if line.startswith(b"+ "):
            wanted = hexed(b"%b:%b:%b" % (hexed(first), middle, hexed(b":imap/x")))
            assert base64.b64decode(line[2:]) == b"rspauth=" + wanted
            await client.send("\r\n")
            line = await client.line()
        return line

    async with office.client() as client:
        await client.line()
        assert (await exchange(client, b"wrong")).startswith(b"a NO [AUTHENTICATIONFAILED]")
        await client.send("a AUTHENTICATE DIGEST-MD5\r\n")
        await client.line()
        await client.send("*\r\n")
        assert (await client.line()).startswith(b"a BAD")
        assert (await exchange(client, b"secret")).startswith(b"a OK [CAPABILITY ")
        await client.ok("SELECT INBOX")


async def test_removals_tell_how_far_all_was_told(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        await client.ok("ENABLE QRESYNC")
        await filled(client, 5)
        await client.ok("SELECT INBOX")
        await client.ok("STORE 1,4 +FLAGS.SILENT (\\Deleted)")
        lines = await client.do("EXPUNGE")
        assert lines[0] == b"* VANISHED 1,4"
        found = re.match(rb"OK \[HIGHESTMODSEQ (\d+)\]", lines[-1])
        assert found
        [status] = await other.ok("STATUS INBOX (HIGHESTMODSEQ)")
        assert status == b"* STATUS INBOX (HIGHESTMODSEQ %b)" % found[1]
        await other.ok("SELECT INBOX")
        await other.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        [line] = await client.ok("NOOP")
        assert line.startswith(b"* 2 FETCH (UID 3 FLAGS (\\Deleted \\Recent) MODSEQ (")
        await client.ok("CREATE box")
        assert (await client.last("UID MOVE 2 box")).startswith(b"OK [HIGHESTMODSEQ ")
        assert (await client.last("CLOSE")).startswith(b"OK [HIGHESTMODSEQ ")
        assert (await other.ok("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 1)"
