"""Commands on the messages of the selected mailbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.accounts.client import Flag

if TYPE_CHECKING:
    from .conftest import Client, Post

SEEN, DELETED, FLAGGED = int(Flag.SEEN), int(Flag.DELETED), int(Flag.FLAGGED)


def letter(number: int, extra: bytes = b"", body: bytes = b"") -> bytes:
    return b"From: ann%d@example.org\r\nSubject: letter %d\r\n%b\r\n%b" % (number, number, extra, body)


@pytest.mark.feature("IMAP-068", "IMAP-069", "IMAP-075")
async def test_fetch_of_rows(post: Post) -> None:
    [uid] = post.fill(1, flags=SEEN)
    size = len(post.account.mailboxes["INBOX"].messages[uid].data)
    async with post.logged_in("INBOX") as client:
        assert await client.ok("FETCH 1 (UID FLAGS INTERNALDATE RFC822.SIZE)") == [
            b'* 1 FETCH (UID 101 FLAGS (\\Seen \\Recent) INTERNALDATE " 1-Feb-2020 09:20:30 +0000" RFC822.SIZE %d)'
            % size
        ]
        [envelope] = await client.ok("FETCH 1 ENVELOPE")
        ann = b'((NIL NIL "ann1" "example.org"))'
        assert ann + b" " + ann + b" " + ann in envelope  # From, Sender, Reply-To
        assert await client.ok("FETCH 1 ALL") == await client.ok("FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)")
        assert await client.ok("FETCH 1 FAST") == await client.ok("FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE)")
        assert await client.ok("FETCH 1 FULL") == await client.ok(
            "FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY)"
        )
        [structure] = await client.ok("FETCH 1 BODYSTRUCTURE")
        assert structure.lower().startswith(b'* 1 fetch (bodystructure ("text" "plain"')


@pytest.mark.feature("IMAP-070", "IMAP-071", "IMAP-076", "IMAP-119", "IMAP-120", "IMAP-121", "STD-064")
async def test_fetch_of_texts(post: Post) -> None:
    data = letter(1, b"X-Test: 1\r\n", b"0123456789 body\r\n")
    head, body = data[: -len(b"0123456789 body\r\n")], b"0123456789 body\r\n"
    for _ in range(4):
        post.account.put(data)

    def text(label: bytes, octets: bytes) -> bytes:
        return b"%b {%d}\r\n%b" % (label, len(octets), octets)

    async with post.logged_in("INBOX") as client:
        assert {b"IMAP4", b"IMAP4rev1"} <= set((await client.ok("CAPABILITY"))[0].split())
        assert await client.ok("FETCH 1 RFC822.HEADER") == [b"* 1 FETCH (" + text(b"RFC822.HEADER", head) + b")"]
        assert await client.ok("FETCH 1 BODY.PEEK[TEXT]") == [b"* 1 FETCH (" + text(b"BODY[TEXT]", body) + b")"]
        assert await client.ok("FETCH 1 RFC822.PEEK") == [b"* 1 FETCH (" + text(b"RFC822", data) + b")"]
        assert await client.ok("FETCH 1 RFC822.TEXT.PEEK") == [b"* 1 FETCH (" + text(b"RFC822.TEXT", body) + b")"]
        assert await client.ok("FETCH 1 BODY.PEEK[]<0.10>") == [b"* 1 FETCH (" + text(b"BODY[]<0>", data[:10]) + b")"]
        assert await client.ok("FETCH 1 BODY.PEEK[TEXT]<5.3>") == [
            b"* 1 FETCH (" + text(b"BODY[TEXT]<5>", b"567") + b")"
        ]
        assert await client.ok("FETCH 1 BODY.PEEK[]<9999.3>") == [b"* 1 FETCH (" + text(b"BODY[]<9999>", b"") + b")"]
        assert await client.ok("FETCH 1 BODY.PEEK[7]") == [b"* 1 FETCH (BODY[7] NIL)"]
        fields = b"Subject: letter 1\r\nX-Test: 1\r\n\r\n"
        label = b"BODY[HEADER.FIELDS (subject X-Test)]"
        assert await client.ok("FETCH 1 BODY.PEEK[HEADER.FIELDS (subject X-Test)]") == [
            b"* 1 FETCH (" + text(label, fields) + b")"
        ]
        others = b"From: ann1@example.org\r\nX-Test: 1\r\n\r\n"
        assert await client.ok("FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (Subject)]") == [
            b"* 1 FETCH (" + text(b"BODY[HEADER.FIELDS.NOT (Subject)]", others) + b")"
        ]
        assert await client.ok("FETCH 1 RFC822.HEADER.LINES (Subject X-Test)") == [
            b"* 1 FETCH (" + text(b"RFC822.HEADER", fields) + b")"
        ]
        assert await client.ok("FETCH 1 RFC822.HEADER.LINES.NOT (Subject)") == [
            b"* 1 FETCH (" + text(b"RFC822.HEADER", others) + b")"
        ]
        assert await client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Recent))"]  # none of these marks
        assert await client.ok("PARTIAL 1 RFC822.TEXT 1 10") == [
            b"* 1 FETCH (FLAGS (\\Seen \\Recent) " + text(b"RFC822.TEXT", body[:10]) + b")"
        ]
        for number, item in ((2, "BODY[]"), (3, "RFC822"), (4, "RFC822.TEXT")):
            octets = body if item.endswith("TEXT") else data
            assert await client.ok(f"FETCH {number} {item}") == [
                b"* %d FETCH (FLAGS (\\Seen \\Recent) %b)" % (number, text(item.encode(), octets))
            ]
            assert await client.ok(f"FETCH {number} (UID {item})") == [
                b"* %d FETCH (UID %d %b)" % (number, 100 + number, text(item.encode(), octets))
            ]
    assert all(m.flags == SEEN for m in post.account.mailboxes["INBOX"].messages.values())


@pytest.mark.feature("IMAP-072", "IMAP-009")
async def test_large_and_many_texts_stream(post: Post) -> None:
    large = letter(1, body=b"0123456789abcdef" * 50_000)
    post.account.put(large)
    for number in range(2, 30):
        post.account.put(letter(number, body=b"x" * 100_000))
    async with post.logged_in("INBOX") as client:
        lines = await client.ok("FETCH 1:* (UID BODY.PEEK[])")
        assert [int(line.split(b" ")[1]) for line in lines] == list(range(1, 30))
        assert lines[0] == b"* 1 FETCH (UID 101 BODY[] {%d}\r\n%b)" % (len(large), large)
        assert lines[28].endswith(b"x" * 100_000 + b")")
        assert await client.ok("FETCH 1 BODY.PEEK[]<300000.400000>") == [
            b"* 1 FETCH (BODY[]<300000> {400000}\r\n%b)" % large[300_000:700_000]
        ]
    # The large one goes in pieces, the others in answers of a limited size, never all at once.
    assert post.account.calls.count("read") >= 6
    assert post.account.calls.count("fetch") > 2
    assert post.statistics.counter("imap.messages").value == 30


@pytest.mark.feature("IMAP-009")
async def test_a_thousand_rows_in_order(post: Post) -> None:
    post.fill(1200)
    async with post.logged_in("INBOX") as client:
        lines = await client.ok("FETCH 1:1000 (FLAGS UID)")
        assert lines == [b"* %d FETCH (FLAGS (\\Recent) UID %d)" % (n, n + 100) for n in range(1, 1001)]


@pytest.mark.feature("IMAP-085", "IMAP-089", "IMAP-091", "IMAP-092", "IMAP-088")
async def test_sets(post: Post) -> None:
    async with post.logged_in("INBOX") as client:
        assert await client.ok("FETCH 1:* FLAGS") == []
        assert await client.ok("UID FETCH 1:* FLAGS") == []
        assert await client.ok("STORE 1:* +FLAGS (\\Seen)") == []
        for uid in (101, 103, 110):
            post.account.put(b"x", uid=uid)
        assert b"* 3 EXISTS" in await client.ok("NOOP")
        assert await client.ok("UID FETCH 101:105,200 (FLAGS)") == [
            b"* 1 FETCH (UID 101 FLAGS (\\Recent))",
            b"* 2 FETCH (UID 103 FLAGS (\\Recent))",
        ]
        assert [line[:9] for line in await client.ok("FETCH 3,1:2,2 FLAGS")] == [
            b"* 1 FETCH",
            b"* 2 FETCH",
            b"* 3 FETCH",
        ]
        assert await client.ok("UID FETCH 500:* FLAGS") == [b"* 3 FETCH (UID 110 FLAGS (\\Recent))"]
        assert (await client.last("FETCH 4 FLAGS")).startswith(b"BAD")
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 101 103 110"]
        assert await client.ok("SEARCH ALL") == [b"* SEARCH 1 2 3"]
        assert await client.ok("UID STORE 999 +FLAGS (\\Seen)") == []


@pytest.mark.feature("IMAP-077", "IMAP-078", "IMAP-080", "IMAP-086", "IMAP-057")
async def test_store(post: Post) -> None:
    post.fill(2)
    async with post.logged_in("INBOX") as client, post.logged_in("INBOX") as other:
        assert await client.ok("STORE 1 +FLAGS (\\Flagged)") == [b"* 1 FETCH (FLAGS (\\Flagged \\Recent))"]
        assert await client.ok("STORE 1 FLAGS (\\Seen \\Draft)") == [b"* 1 FETCH (FLAGS (\\Seen \\Draft \\Recent))"]
        assert await client.ok("STORE 1 -FLAGS (\\Draft)") == [b"* 1 FETCH (FLAGS (\\Seen \\Recent))"]
        assert await other.ok("NOOP") == [b"* 1 FETCH (FLAGS (\\Seen))"]
        assert await client.ok("STORE 1 +FLAGS.SILENT (\\Answered)") == []
        assert await client.ok("NOOP") == []
        assert await other.ok("NOOP") == [b"* 1 FETCH (FLAGS (\\Answered \\Seen))"]
        assert await client.ok("UID STORE 102 +FLAGS (\\Deleted)") == [
            b"* 2 FETCH (UID 102 FLAGS (\\Deleted \\Recent))"
        ]
        assert len(await client.ok("FETCH 2 BODY.PEEK[]")) == 1  # it stays until it is expunged
        lines = await client.ok("STORE 1:2 +FLAGS (Later $MDNSent)")
        assert lines[0].startswith(b"* FLAGS (")
        assert b"Later" in lines[0]
        assert lines[2:] == [
            b"* 1 FETCH (FLAGS (\\Answered \\Seen \\Recent $MDNSent Later))",
            b"* 2 FETCH (FLAGS (\\Deleted \\Recent $MDNSent Later))",
        ]
        assert await client.ok("SEARCH KEYWORD Later") == [b"* SEARCH 1 2"]
        await client.ok("STORE 2 -FLAGS.SILENT (Later)")
        assert await client.ok("SEARCH UNKEYWORD Later") == [b"* SEARCH 2"]
        assert await client.ok("SEARCH KEYWORD $MDNSent") == [b"* SEARCH 1 2"]


@pytest.mark.feature("IMAP-079")
@pytest.mark.parametrize(
    ("rights", "allowed"), [("lrs", {"\\Seen"}), ("lrsw", {"\\Seen", "\\Flagged", "Work"}), ("lrd", {"\\Deleted"})]
)
async def test_rights_of_flags(post: Post, rights: str, allowed: set[str]) -> None:
    post.boss.put(b"x")
    post.boss.mailboxes["INBOX"].rights = rights
    async with post.logged_in("~boss/INBOX") as client:
        for flag in ("\\Seen", "\\Flagged", "\\Deleted", "Work"):
            last = await client.last(f"STORE 1 +FLAGS ({flag})")
            assert last.startswith(b"OK" if flag in allowed else b"NO"), flag


async def test_without_the_right_reading_marks_nothing(post: Post) -> None:
    post.boss.put(b"Subject: x\r\n\r\nx")
    post.boss.mailboxes["INBOX"].rights = "lrw"
    async with post.logged_in("~boss/INBOX") as client:
        await client.ok("FETCH 1 BODY[]")
        assert await client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS (\\Recent))"]


@pytest.mark.feature("IMAP-053", "IMAP-052", "IMAP-114", "IMAP-051", "STD-110")
async def test_expunge_close_unselect(post: Post) -> None:
    post.fill(5)
    async with post.logged_in("INBOX") as client:
        await client.ok("STORE 2:3 +FLAGS.SILENT (\\Deleted)")
        await client.ok("CHECK")
        assert await client.ok("EXPUNGE") == [b"* 2 EXPUNGE", b"* 2 EXPUNGE", b"* 3 RECENT"]
        assert await client.ok("FETCH 2 UID") == [b"* 2 FETCH (UID 104)"]
        await client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok("UNSELECT") == []
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 3)"]
        await client.ok("EXAMINE INBOX")
        assert await client.ok("CLOSE") == []
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 3)"]
        await client.ok("SELECT INBOX")
        assert await client.ok("CLOSE") == []
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 2)"]
        assert (await client.last("CLOSE")).startswith(b"BAD")


@pytest.mark.feature("IMAP-108", "STD-053")
async def test_uid_expunge(post: Post) -> None:
    post.fill(3, flags=DELETED)
    async with post.logged_in("INBOX") as client:
        assert b"* 2 EXPUNGE" in await client.ok("UID EXPUNGE 102,500")
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 101 103"]
        last = await client.last("APPEND INBOX {1+}\r\nx")
        assert last.startswith(b"OK [APPENDUID 77 104]")
        last = await client.last("COPY 1 INBOX")
        assert last.startswith(b"OK [COPYUID 77 101 105]")
        assert await client.ok("UID FETCH 104:105 UID") == [b"* 3 FETCH (UID 104)", b"* 4 FETCH (UID 105)"]


@pytest.mark.feature("IMAP-082", "IMAP-087", "IMAP-084", "IMAP-049")
async def test_copy(post: Post) -> None:
    post.fill(2, flags=FLAGGED, date=1600000000)
    async with post.logged_in("INBOX") as client:
        assert (await client.last("COPY 1 nosuch")).startswith(b"NO [TRYCREATE]")
        await client.ok("CREATE box")
        assert (await client.last("UID COPY 101,102 box")).startswith(b"OK [COPYUID 77 101:102 101:102]")
        await client.ok("SELECT box")
        assert await client.ok("FETCH 1 (FLAGS INTERNALDATE)") == [
            b'* 1 FETCH (FLAGS (\\Flagged \\Recent) INTERNALDATE "13-Sep-2020 12:26:40 +0000")'
        ]
        post.account.limit = post.account.used() + 10
        assert (await client.last("COPY 1:2 INBOX")).startswith(b"NO [OVERQUOTA]")
        assert (await client.last("APPEND INBOX {20+}\r\n" + "x" * 20)).startswith(b"NO [OVERQUOTA]")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 2)"]
        assert (await client.last("UID COPY 999 box")).startswith(b"OK COPY")


@pytest.mark.feature("IMAP-083")
async def test_copy_to_another_account_is_all_or_nothing(post: Post) -> None:
    post.fill(3)
    post.boss.limit = len(letter(1)) * 2
    async with post.logged_in("INBOX") as client:
        assert (await client.last("COPY 1:3 ~boss/INBOX")).startswith(b"NO [OVERQUOTA]")
        assert not post.boss.mailboxes["INBOX"].messages
        assert (await client.last("COPY 1:3 ~boss/nosuch")).startswith(b"NO [TRYCREATE]")
        post.boss.limit = None
        await client.ok("UID MOVE 102 ~boss/INBOX")
        assert len(post.boss.mailboxes["INBOX"].messages) == 1
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 101 103"]


async def test_move(post: Post) -> None:
    post.fill(3)
    async with post.logged_in("INBOX") as client:
        await client.ok("CREATE box")
        lines = await client.ok("MOVE 1,3 box")
        assert lines[0].startswith(b"* OK [COPYUID 77 101,103 101:102]")
        assert lines[1:3] == [b"* 1 EXPUNGE", b"* 2 EXPUNGE"]
        assert (await client.last("MOVE 1 nosuch")).startswith(b"NO [TRYCREATE]")
        await client.ok("EXAMINE INBOX")
        assert (await client.last("MOVE 1 box")).startswith(b"NO")


async def searched(client: Client, keys: str | bytes) -> list[int]:
    [line] = await client.ok(b"SEARCH " + (keys.encode() if isinstance(keys, str) else keys))
    assert line.startswith(b"* SEARCH")
    return [int(word) for word in line.split()[2:]]


@pytest.mark.feature("IMAP-056", "IMAP-058", "IMAP-059", "IMAP-060", "IMAP-061", "IMAP-062", "IMAP-063", "IMAP-064")
async def test_search(post: Post) -> None:
    flags = [Flag.ANSWERED, Flag.DELETED, Flag.DRAFT, Flag.FLAGGED, Flag.SEEN]
    days = [1577836800, 1580515200, 1580601600, 1583020800, 1583107200]  # 1 Jan, 1 Feb, 2 Feb, 1 Mar, 2 Mar 2020
    for number, (flag, day) in enumerate(zip(flags, days, strict=True), 1):
        extra = b"Date: Sat, %d Feb 2020 10:00:00 +0000\r\nCc: team%d@example.org\r\n" % (number, number)
        body = "größe".encode() if number == 3 else b"x" * (1000 if number == 5 else 1) + b" inside\r\n"
        post.account.put(letter(number, extra, body), flags=int(flag), date=day)
    async with post.logged_in("INBOX") as client:
        for number, key in enumerate(("ANSWERED", "DELETED", "DRAFT", "FLAGGED", "SEEN"), 1):
            assert await searched(client, key) == [number]
            assert await searched(client, "UN" + key) == [n for n in range(1, 6) if n != number]
        assert await searched(client, "RECENT") == [1, 2, 3, 4, 5]
        assert await searched(client, "NEW") == [1, 2, 3, 4]
        assert await searched(client, "OLD") == []
        assert await searched(client, "FROM ANN2@") == [2]
        assert await searched(client, "CC team3") == [3]
        assert await searched(client, "TO team3") == []
        assert await searched(client, 'SUBJECT "Letter 4"') == [4]
        assert await searched(client, 'HEADER Cc ""') == [1, 2, 3, 4, 5]
        assert await searched(client, "BODY inside") == [1, 2, 4, 5]
        assert await searched(client, "BODY letter") == []
        assert await searched(client, "TEXT letter") == [1, 2, 3, 4, 5]
        assert await searched(client, "SINCE 1-Feb-2020") == [2, 3, 4, 5]
        assert await searched(client, "BEFORE 01-Feb-2020") == [1]
        assert await searched(client, 'ON "2-Feb-2020"') == [3]
        assert await searched(client, "SENTSINCE 4-Feb-2020") == [4, 5]
        assert await searched(client, "SENTBEFORE 2-Feb-2020") == [1]
        assert await searched(client, "SENTON 02-Feb-2020") == [2]
        assert await searched(client, "LARGER 900") == [5]
        assert await searched(client, "SMALLER 900") == [1, 2, 3, 4]
        assert await searched(client, "2:3") == [2, 3]
        assert await searched(client, "UID 104:*") == [4, 5]
        assert await searched(client, "ALL") == [1, 2, 3, 4, 5]
        assert await searched(client, "OR SEEN (FLAGGED NOT DELETED)") == [4, 5]
        assert await searched(client, "1:4 NOT (OR 1 2)") == [3, 4]
        assert await searched(client, "CHARSET UTF-8 BODY {7+}\r\ngröße".encode()) == [3]
        assert await searched(client, b"CHARSET ISO-8859-1 BODY {5+}\r\n" + "größe".encode("latin-1")) == [3]
        assert (await client.last("SEARCH CHARSET foo ALL")).startswith(b"NO [BADCHARSET (")
        assert (await client.last("SEARCH CHARSET base64 ALL")).startswith(b"NO [BADCHARSET (")
        assert (await client.last("SEARCH NOPE")).startswith(b"BAD")
        assert (await client.last("SEARCH 9")).startswith(b"BAD")


@pytest.mark.feature("IMAP-067")
async def test_search_nesting(post: Post) -> None:
    post.fill(1)
    async with post.logged_in("INBOX") as client:
        assert await searched(client, "(" * 30 + "ALL" + ")" * 30) == [1]
        assert (await client.last("SEARCH " + "(" * 31 + "ALL" + ")" * 31)).startswith(b"BAD")
        assert await searched(client, "NOT " * 90 + "ALL") == [1]
        await client.ok("NOOP")


async def test_extended_search(post: Post) -> None:
    post.fill(5)
    async with post.logged_in("INBOX") as client:
        assert await client.ok("SEARCH RETURN (MIN MAX COUNT) ALL") == [b'* ESEARCH (TAG "t3") MIN 1 MAX 5 COUNT 5']
        assert await client.ok("UID SEARCH RETURN () 2:4") == [b'* ESEARCH (TAG "t4") UID ALL 102:104']
        assert await client.ok("SEARCH RETURN (COUNT MIN) DELETED") == [b'* ESEARCH (TAG "t5") COUNT 0']


@pytest.mark.feature("IMAP-046", "IMAP-050")
async def test_append(post: Post) -> None:
    async with post.logged_in("INBOX") as client:
        await client.send('a APPEND INBOX (\\Seen Later) " 1-Feb-2020 10:20:30 +0100" {5}\r\n')
        assert (await client.line()).startswith(b"+ ")
        await client.send("hello\r\n")
        lines = await client.answer(b"a")
        assert b"* 1 EXISTS" in lines
        assert lines[-1].startswith(b"OK [APPENDUID 77 101]")
        assert await client.ok("FETCH 1 (FLAGS INTERNALDATE)") == [
            b'* 1 FETCH (FLAGS (\\Seen \\Recent Later) INTERNALDATE " 1-Feb-2020 09:20:30 +0000")'
        ]
        await client.send("b APPEND nosuch {5}\r\n")  # refused before it is sent
        assert (await client.answer(b"b"))[0].startswith(b"NO [TRYCREATE]")
        assert (await client.last("APPEND nosuch {5+}\r\nhello")).startswith(b"NO [TRYCREATE]")
        await client.send("c APPEND INBOX {0}\r\n")
        assert (await client.answer(b"c"))[0].startswith(b"NO")
        await client.ok("NOOP")
    async with post.client() as client:
        await client.line()
        assert (await client.last("APPEND INBOX {5+}\r\nhello")).startswith(b"BAD")
        await client.ok("NOOP")


@pytest.mark.feature("IMAP-047")
async def test_a_large_message_goes_through_in_pieces(post: Post) -> None:
    data = b"0123456789abcdef" * 200_000
    async with post.logged_in() as client:
        await client.send(b"a APPEND INBOX {%d}\r\n" % len(data))
        await client.line()
        await client.send(data + b"\r\n")
        assert (await client.answer(b"a"))[-1].startswith(b"OK [APPENDUID")
    assert post.account.mailboxes["INBOX"].messages[101].data == data + b"\r\n"
    assert post.account.calls.count("append_chunk") > 10
    post.account.broken = "append_chunk"
    async with post.logged_in() as client:
        assert (await client.last(b"APPEND INBOX {%d+}\r\n%b" % (len(data), data))).startswith(b"NO [UNAVAILABLE]")
        await client.ok("NOOP")
    assert len(post.account.mailboxes["INBOX"].messages) == 1


@pytest.mark.feature("IMAP-111", "STD-108")
async def test_several_messages_in_one_append(post: Post) -> None:
    async with post.logged_in() as client:
        last = await client.last(
            "APPEND INBOX (\\Draft) {3+}\r\nabc {300000+}\r\n" + "x" * 300_000 + " (\\Seen) {1+}\r\nz"
        )
        assert last.startswith(b"OK [APPENDUID 77 101:103]")
        assert [m.flags for m in post.account.mailboxes["INBOX"].messages.values()] == [16, 0, 1]
        post.account.limit = post.account.used() + 4
        last = await client.last("APPEND INBOX {3+}\r\nabc {3+}\r\ndef")
        assert last.startswith(b"NO [OVERQUOTA]")
        assert len(post.account.mailboxes["INBOX"].messages) == 3
        assert (await client.last("APPEND INBOX {3+}\r\nabc nonsense")).startswith(b"BAD")
        assert len(post.account.mailboxes["INBOX"].messages) == 3
        await client.ok("NOOP")


async def test_the_size_limit_for_messages(post: Post) -> None:
    await post.settings.update({"MaxMessageSize": "1K"})
    async with post.logged_in() as client:
        await client.send("a APPEND INBOX {2000}\r\n")
        assert (await client.answer(b"a"))[0].startswith(b"NO [TOOBIG]")
        await client.ok("APPEND INBOX {2+}\r\nok")
