"""SEARCH programs against messages that people write."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from appliance.accounts.client import AccountError, Flag, pack
from appliance.formats.wire import to_wire
from tests.accounts.serving import Start

MESSAGES = [
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.com>\nSubject: =?iso-8859-1?Q?Gr=FC=DFe?=\n"
    b"Date: Mon, 1 Jan 2024 23:30:00 -0500\n\nplain words\n",
    b"From: Ann <ann@example.com>\nTo: Bob <bob@office.test>\nSubject: Report\nContent-Type: text/plain; charset=koi8-r\n"
    b"Content-Transfer-Encoding: quoted-printable\nX-Tag: one\n\n=F0=D2=C9=D7=C5=D4 and =\nmore\n",
    b"Subject: parts\nContent-Type: multipart/mixed; boundary=x\n\npreamble\n--x\nContent-Type: text/plain\n\nfirst part\n"
    b"--x\nContent-Type: application/pdf; name=invoice.pdf\nContent-Transfer-Encoding: base64\n\nc2VjcmV0\n--x--\n",
]
SIZES = [len(to_wire(content)) for content in MESSAGES]
NEW_YEAR = date(2024, 1, 1).toordinal()

CASES: list[tuple[list[Any], list[int]]] = [
    (["ALL"], [1, 2, 3]),
    (["HEADER", "subject", "GRÜSSE"], [1]),
    (["HEADER", "From", "JÜRGEN"], [1]),
    (["HEADER", "X-Tag", ""], [2]),
    (["TO", "bob"], [2]),
    (["BODY", "привет AND more"], [2]),
    (["BODY", "report"], []),
    (["TEXT", "report"], [2]),
    (["TEXT", "invoice.pdf"], [3]),
    (["BODY", "first PART"], [3]),
    (["NOT", ["BODY", "words"]], [2, 3]),
    (["OR", ["SUBJECT", "parts"], ["FROM", "ann"], ["FLAG", int(Flag.SEEN)]], [1, 2, 3]),
    (["AND", ["FLAG", int(Flag.SEEN)], ["KEYWORD", "work"]], [1]),
    (["KEYWORD", "none"], []),
    (["SENTON", NEW_YEAR], [1]),
    (["SENTBEFORE", NEW_YEAR], []),
    (["SENTSINCE", NEW_YEAR], [1]),
    (["SINCE", date(2023, 11, 16).toordinal()], [3]),
    (["BEFORE", date(2023, 11, 15).toordinal()], [1]),
    (["ON", date(2023, 11, 15).toordinal()], [2]),
    (["LARGER", SIZES[0]], [at for at, size in enumerate(SIZES, 1) if size > SIZES[0]]),
    (["SMALLER", SIZES[1]], [at for at, size in enumerate(SIZES, 1) if size < SIZES[1]]),
    (["UIDS", pack([3, 1, 9])], [1, 3]),
    (["FLAG", int(Flag.RECENT)], [1, 2, 3]),
    (["HEADER", "subject", "gr\xfc".encode("latin-1")], [1]),
]


async def test_programs(start: Start) -> None:
    async with start() as server:
        alice = await server.account()
        session = await server.session()
        for number, content in enumerate(MESSAGES):
            await server.deliver(alice, content, date=1_700_000_000 + number * 86400)
        opened = await session.open("INBOX")
        await session.store(opened.view, [1], "+", int(Flag.SEEN), ["Work"])
        for program, expected in CASES:
            found = await session.search(opened.view, program, "ISO-8859-1")
            assert list(found) == expected, program


@pytest.mark.parametrize(
    "program", [[], ["WHAT"], ["AND", ["NOT"]], [["ALL"]], ["HEADER", 5, 5], ["FLAG", "x"], ["NOT", []]]
)
async def test_programs_that_are_none(start: Start, program: list[Any]) -> None:
    async with start() as server:
        alice = await server.account()
        session = await server.session()
        await server.deliver(alice, MESSAGES[0])
        opened = await session.open("INBOX")
        with pytest.raises(AccountError) as caught:
            await session.search(opened.view, program)
        assert caught.value.code == "CANNOT"


async def test_a_search_of_endless_depth_is_refused(start: Start) -> None:
    async with start() as server:
        await server.account()
        session = await server.session()
        opened = await session.open("INBOX")
        program: list[Any] = ["ALL"]
        for _ in range(500):
            program = ["NOT", program]
        with pytest.raises(AccountError):
            await session.search(opened.view, program)
