"""Messages that no program makes: thousands of parts within parts, boundaries that do not match, headers of a megabyte."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Client, Office


def nested(depth: int) -> bytes:
    parts = [b"Subject: deep\r\n"]
    for level in range(depth):
        parts.append(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (level, level))
    return b"".join(parts) + b"\r\nneedle\r\n"


def letters(depth: int) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" * depth + b"Subject: inner\r\n\r\nneedle\r\n"


MONSTERS = {
    "nested multiparts": nested(10_000),
    "nested messages": letters(10_000),
    "many parts": b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    + b"--b\r\n\r\nx\r\n" * 20_000
    + b"needle\r\n--b--\r\n",
    "no end": b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nneedle\r\n',
    "no boundary at all": b'Content-Type: multipart/mixed; boundary="b"\r\n\r\nneedle\r\n',
    "no boundary parameter": b"Content-Type: multipart/mixed\r\n\r\nneedle\r\n",
    "boundary within boundary": b'Content-Type: multipart/mixed; boundary="a"\r\n\r\n--aa\r\n\r\n--a\r\n\r\nneedle\r\n--a--a\r\n--a--\r\n',
    "a megabyte of subject": b"Subject: " + b"x" * (1 << 20) + b"\r\nTo: a@b.c\r\n\r\nneedle\r\n",
    "a megabyte of folds": b"Subject: a\r\n" + b" b\r\n" * (1 << 18) + b"\r\nneedle\r\n",
    "a megabyte of addresses": b"To: " + b"a@b.c, " * 150_000 + b"d@e.f\r\n\r\nneedle\r\n",
    "a megabyte of encoded words": b"Subject: " + b"=?utf-8?q?x?= " * 75_000 + b"\r\n\r\nneedle\r\n",
    "a megabyte of references": b"References: " + b"<a@b> " * 170_000 + b"\r\n\r\nneedle\r\n",
    "a megabyte of brackets": b"Subject: " + b"[" * (1 << 20) + b"\r\n\r\nneedle\r\n",
    "replies to replies": b"Subject: " + b"re: " * 250_000 + b"x\r\n\r\nneedle\r\n",
    "parameters": b"Content-Type: text/plain" + b"; a=b" * 200_000 + b"\r\n\r\nneedle\r\n",
    "comments": b"Date: " + b"(" * 500_000 + b"\r\nFrom: " + b"(" * 500_000 + b"\r\n\r\nneedle\r\n",
    "no header": b"\r\nneedle\r\n",
    "only colons": b":" * 100_000 + b"\r\n\r\nneedle\r\n",
    "nothing but line ends": b"\r\n" * 200_000 + b"needle\r\n",
    "broken encodings": b"Content-Type: text/plain; charset=nope\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!needle=\r\n====\r\n",
    "octets": b"Subject: \xff\xfe\r\nContent-Type: text/html\r\n\r\n"
    + b"<" * 200_000
    + bytes(range(1, 256))
    + b"needle\r\n",
}
COMMANDS = [
    "FETCH 1 (ENVELOPE BODYSTRUCTURE BODY)",
    "FETCH 1 (BODY.PEEK[1] BODY.PEEK[1.1.1.1.1] BODY.PEEK[1.MIME] BODY.PEEK[1.HEADER])",
    "FETCH 1 (BODY.PEEK[HEADER.FIELDS (SUBJECT TO)] PREVIEW EMAILID)",
    "FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])",
    "FETCH 1 BODY.PEEK[]<0.100>",
    "SEARCH BODY needle TEXT needle SUBJECT zzz",
    "SEARCH OR SENTSINCE 1-Jan-2020 HEADER REFERENCES nope",
    "SORT (SUBJECT FROM TO CC DATE DISPLAYFROM) UTF-8 ALL",
    "THREAD REFERENCES UTF-8 ALL",
    "THREAD ORDEREDSUBJECT UTF-8 ALL",
]


async def tried(client: Client, name: str, data: bytes) -> list[str]:
    """What took longer than it may."""
    assert (await client.last(b"APPEND INBOX {%d+}\r\n%b" % (len(data), data))).startswith(b"OK"), name
    await client.ok("SELECT INBOX")
    slow = []
    for command in COMMANDS:
        begin = time.perf_counter()
        await client.send(b"x " + command.encode() + b"\r\n")
        found = b""
        while b"\nx " not in b"\n" + found[-400:]:
            found += await client.channel.receive()
        tail = (b"\n" + found).rpartition(b"\nx ")[2]
        assert tail.startswith((b"OK", b"NO [UNKNOWN-CTE]")), (name, command, tail)
        took = time.perf_counter() - begin
        if took > 1.5:
            slow.append(f"{name}: {command} took {took:.1f} s")
    await client.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)")
    await client.ok("CLOSE")
    return slow


@pytest.mark.feature("IMAP-074")
async def test_monsters_do_no_harm(office: Office) -> None:
    slow: list[str] = []
    async with office.logged_in() as client:
        for name, data in MONSTERS.items():
            slow += await tried(client, name, data)
    assert not slow, "\n".join(slow)
