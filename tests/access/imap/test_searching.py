"""SEARCH with options, SORT, THREAD, save and partial results, through the wire and the real gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from appliance.access.imap import session as module
from appliance.accounts import account_task

if TYPE_CHECKING:
    from .conftest import Client, Office


async def put(client: Client, text: str, date: str = "", mailbox: str = "INBOX") -> None:
    data = text.replace("\n", "\r\n").encode()
    when = f' "{date}"' if date else ""
    assert (
        await client.last(b"APPEND %b%b {%d+}\r\n%b" % (mailbox.encode(), when.encode(), len(data), data))
    ).startswith(b"OK")


async def letters(client: Client, *subjects: str) -> None:
    for number, subject in enumerate(subjects, 1):
        await put(
            client,
            f"From: {chr(96 + number)}@x.org\nSubject: {subject}\nDate: {10 + number} Jan 2020 10:00:00 +0000\n\nt{number}\n",
        )


async def test_results_as_sets(office: Office) -> None:
    async with office.logged_in() as client:
        await letters(client, "one", "two", "three", "two")
        await client.ok("SELECT INBOX")
        assert await client.ok("SEARCH RETURN (MIN MAX COUNT ALL) SUBJECT two") == [
            b'* ESEARCH (TAG "t7") MIN 2 MAX 4 COUNT 2 ALL 2,4'
        ]
        assert await client.ok("UID SEARCH RETURN () 1:3") == [b'* ESEARCH (TAG "t8") UID ALL 1:3']
        assert await client.ok("SEARCH RETURN (COUNT MIN) SUBJECT nothing") == [b'* ESEARCH (TAG "t9") COUNT 0']
        assert await client.ok("SEARCH RETURN (PARTIAL 2:3) ALL") == [b'* ESEARCH (TAG "t10") PARTIAL (2:3 2:3)']
        assert await client.ok("SEARCH RETURN (PARTIAL -1:-2) ALL") == [b'* ESEARCH (TAG "t11") PARTIAL (-1:-2 3:4)']
        assert await client.ok("SEARCH RETURN (PARTIAL 9:12) ALL") == [b'* ESEARCH (TAG "t12") PARTIAL (9:12 NIL)']
        assert (await client.last("SEARCH RETURN (PARTIAL 1:2 ALL) ALL")).startswith(b"BAD")
        assert (await client.last("SEARCH RETURN (NOPE) ALL")).startswith(b"BAD")
        assert (await client.last("SEARCH RETURN (PARTIAL 1:-2) ALL")).startswith(b"BAD")
        assert [line[:9] for line in await client.ok("UID FETCH 1:* UID (PARTIAL -1:-2)")] == [
            b"* 3 FETCH",
            b"* 4 FETCH",
        ]


async def test_a_saved_result(office: Office) -> None:
    async with office.logged_in() as client, office.logged_in() as other:
        await letters(client, "one", "two", "three", "two")
        await client.ok("SELECT INBOX")
        assert await client.ok("SEARCH RETURN (SAVE) SUBJECT two") == []
        assert await client.ok("FETCH $ UID") == [b"* 2 FETCH (UID 2)", b"* 4 FETCH (UID 4)"]
        assert await client.ok("UID SEARCH UID $ FROM b@") == [b"* SEARCH 2"]
        assert await client.ok("SEARCH NOT $") == [b"* SEARCH 1 3"]
        await client.ok("STORE $ +FLAGS.SILENT (\\Flagged)")
        assert (await client.last("COPY $ INBOX")).startswith(b"OK [COPYUID")
        assert b" COUNT 6" in (await client.ok("SEARCH RETURN (SAVE COUNT) ALL"))[0]
        await client.ok("SEARCH RETURN (SAVE MIN) SUBJECT two")
        assert await client.ok("SEARCH $") == [b"* SEARCH 2"]
        await other.ok("SELECT INBOX")
        await other.ok("STORE 2 +FLAGS (\\Deleted)")
        await other.ok("EXPUNGE")
        await client.ok("NOOP")
        assert await client.ok("SEARCH $") == [b"* SEARCH"]
        assert await client.ok("FETCH $ UID") == []
        assert (await client.last("SEARCH RETURN (SAVE) CHARSET nope SUBJECT x")).startswith(b"NO [BADCHARSET")
        await client.ok("SELECT INBOX")
        assert await client.ok("FETCH $ UID") == []


async def test_within_a_time(office: Office) -> None:
    async with office.logged_in() as client:
        await put(client, "Subject: old\n\nx\n", "01-Jan-2020 00:00:00 +0000")
        await put(client, "Subject: new\n\nx\n")
        await client.ok("SELECT INBOX")
        assert await client.ok("SEARCH YOUNGER 3600") == [b"* SEARCH 2"]
        assert await client.ok("SEARCH OLDER 3600") == [b"* SEARCH 1"]
        assert (await client.last("SEARCH OLDER 0")).startswith(b"BAD")


async def test_sort(office: Office) -> None:
    async with office.logged_in() as client:
        await put(
            client, "From: Zoe <a@x>\nTo: t@x\nSubject: Re: beta\nDate: 3 Jan 2020 10:00:00 +0000\n\nlonger text\n"
        )
        await put(client, "From: Ann <b@x>\nTo: s@x\nSubject: alpha\nDate: 1 Jan 2020 23:30:00 -0200\n\nx\n")
        await put(
            client, "From: c@x\nCc: q@x\nSubject: =?utf-8?q?beta?= (fwd)\nDate: 2 Jan 2020 00:00:00 +0000\n\nxx\n"
        )
        await client.ok("SELECT INBOX")
        orders = {
            "SUBJECT": "2 1 3",
            "SUBJECT DATE": "2 3 1",
            "REVERSE SUBJECT DATE": "3 1 2",
            "DATE": "3 2 1",
            "FROM": "1 2 3",
            "REVERSE FROM": "3 2 1",
            "DISPLAYFROM": "2 3 1",
            "TO": "3 2 1",
            "CC": "1 2 3",
            "REVERSE SIZE": "1 3 2",
        }
        for keys, order in orders.items():
            assert await client.ok(f"SORT ({keys}) UTF-8 ALL") == [f"* SORT {order}".encode()], keys
        assert await client.ok("UID SORT (SUBJECT) UTF-8 NOT SUBJECT alpha") == [b"* SORT 1 3"]
        assert await client.ok("SORT RETURN (MIN COUNT ALL) (DATE) UTF-8 ALL") == [
            b'* ESEARCH (TAG "t%d") MIN 3 COUNT 3 ALL 3,2,1' % (next(client.tags) - 1)
        ]
        assert (await client.last("SORT (NOPE) UTF-8 ALL")).startswith(b"BAD")
        assert (await client.last("SORT (REVERSE) UTF-8 ALL")).startswith(b"BAD")
        assert (await client.last("SORT (DATE) NOPE ALL")).startswith(b"NO [BADCHARSET")


async def test_threads(office: Office) -> None:
    async with office.logged_in() as client:

        async def letter(number: int, subject: str, references: str = "") -> None:
            await put(
                client,
                f"Message-ID: <{number}@x>\nSubject: {subject}\nDate: {number} Jan 2020 10:00:00 +0000\n{references}\n\nx\n",
            )

        await letter(1, "plan", "X: y")
        await letter(2, "Re: plan", "References: <1@x>")
        await letter(3, "Re: plan", "In-Reply-To: <2@x>")
        await letter(4, "Re: plan", "References: <1@x>")
        await letter(5, "other", "References: <missing@x>")
        await letter(6, "Re: other", "References: <missing@x>")
        await letter(7, "Re: lonely", "References: <none@x>")
        await client.ok("SELECT INBOX")
        assert await client.ok("THREAD REFERENCES UTF-8 ALL") == [b"* THREAD (1 (2 3)(4))((5)(6))(7)"]
        assert await client.ok("THREAD ORDEREDSUBJECT UTF-8 ALL") == [b"* THREAD (1 (2)(3)(4))(5 6)(7)"]
        assert await client.ok("UID THREAD REFERENCES UTF-8 UID 2:3") == [b"* THREAD (2 3)"]
        assert await client.ok("THREAD REFERENCES UTF-8 SUBJECT nothing") == [b"* THREAD"]
        assert (await client.last("THREAD NOPE UTF-8 ALL")).startswith(b"BAD")


async def test_a_long_search_tells_that_it_goes_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS", 0.01)
    async with office.logged_in() as client:
        await letters(client, "one")
        await client.ok("SELECT INBOX")

        async def slow(*arguments: object) -> bytes:
            await trio.sleep(0.035)
            return b"\1\0\0\0"

        monkeypatch.setitem(account_task.DIRECT, "search", slow)
        lines = await client.ok("SEARCH BODY t1")
        assert lines[-1] == b"* SEARCH 1"
        assert lines[0] == b'* OK [INPROGRESS ("t4" NIL NIL)] still working'


async def test_charsets_in_todays_protocol(office: Office) -> None:
    async with office.logged_in() as client:
        await put(client, "Subject: =?koi8-r?B?8NLJ18XU?=\nContent-Type: text/plain; charset=koi8-r\n\nx\n")
        await client.ok("ENABLE IMAP4rev2")
        await client.ok("SELECT INBOX")
        word = "привет".encode()
        assert (await client.ok(b"SEARCH SUBJECT {%d+}\r\n%b" % (len(word), word)))[0].endswith(b" ALL 1")
        assert (await client.ok("SEARCH CHARSET UTF-8 SUBJECT nothing"))[0].startswith(b"* ESEARCH (TAG ")
        await client.ok("ENABLE UTF8=ACCEPT")
        assert (await client.last("SEARCH CHARSET UTF-8 SUBJECT x")).startswith(b"BAD")
        assert (await client.ok(b'SEARCH SUBJECT "%b"' % word))[0].endswith(b" ALL 1")
