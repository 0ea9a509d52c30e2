"""What is found in a message: the quick answers are those of the long way."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.accounts.matching import InBody
from appliance.formats.charsets import text_of, unicode_casemap
from appliance.formats.encodedwords import decode_words
from appliance.formats.mime import parse_structure


def slow(content: bytes, text: str, whole: bool) -> bool:
    """The rule itself, with nothing spared."""
    if not text:
        return True
    for part in parse_structure(content).walk():
        header = content[part.header_start : part.body_start] if whole or part.header_start else b""
        if text in unicode_casemap(decode_words(header)):
            return True
        is_text = part.type.lower() == b"text" and not part.is_multipart and not part.is_message
        if is_text and text in unicode_casemap(text_of(content, part)):
            return True
    return False


def message(body: bytes, *fields: str, subject: str = "Hello") -> bytes:
    head = [f"Subject: {subject}", "MIME-Version: 1.0", *fields, "", ""]
    return "\n".join(head).encode("utf-8") + body


PLAIN = message(b"The quick brown\nfox jumps over\n")
QUOTED = message(
    quopri.encodestring(
        "Grüße aus Köln: der schnelle braune Fuchs springt über den faulen Hund, immer wieder\n".encode()
    ),
    "Content-Type: text/plain; charset=utf-8",
    "Content-Transfer-Encoding: quoted-printable",
)
BASE64 = message(
    base64.encodebytes("ÄÖÜ needle in base64".encode("latin-1")),
    'Content-Type: TEXT/HTML; charset="ISO-8859-1"',
    "Content-Transfer-Encoding: BASE64",
)
SEVEN = message(b"+AMQ-pfel +AGE-bc", "Content-Type: text/plain; charset=utf-7")
JAPANESE = message("これはＡＢＣです".encode("iso2022_jp"), "Content-Type: text/plain; charset=iso-2022-jp")
FILE = message(base64.encodebytes(b"needle"), "Content-Type: application/pdf", "Content-Transfer-Encoding: base64")
FOLDED = message(b"x", subject="one\n two =?utf-8?q?thr=C3=A9e?=")
PARTS = message(
    b"--b\nContent-Type: text/plain;\n name=some\n thing\n\nfirst\n"
    b"--b\nContent-Disposition: inline; filename=needle.txt\n\nsecond\n--b--\n",
    "Content-Type: multipart/mixed; boundary=b",
)


@pytest.mark.parametrize(
    ("content", "text", "body", "whole"),
    [
        (PLAIN, "QUICK", True, True),
        (PLAIN, "fox", True, True),
        (PLAIN, "hello", False, True),
        (PLAIN, "grüße", False, False),
        (QUOTED, "grüsse", True, True),
        (QUOTED, "KÖLN", True, True),
        (QUOTED, "faulen hund, immer", True, True),
        (QUOTED, "=C3", False, False),
        (BASE64, "needle", True, True),
        (BASE64, "äöü", True, True),
        (SEVEN, "äpfel abc", True, True),
        (JAPANESE, "abc", True, True),
        (FILE, "needle", False, False),
        (FOLDED, "one two", False, True),
        (FOLDED, "thrée", False, True),
        (PARTS, "needle", True, True),
        (PARTS, "some thing", True, True),
        (PARTS, "second", True, True),
        (PARTS, "", True, True),
    ],
)
def test_found_or_not(content: bytes, text: str, body: bool, whole: bool) -> None:
    key = unicode_casemap(text)
    assert (InBody(key, whole=False)(content), InBody(key, whole=True)(content)) == (body, whole)
    assert (slow(content, key, False), slow(content, key, True)) == (body, whole)


LINES = st.sampled_from(
    """Subject: abc| def|--b|--b--||Content-Type: text/plain|Content-Type: multipart/mixed; boundary=b|abc=|DEF|=61bc d
Content-Type: text/html; charset=utf-7|Content-Transfer-Encoding: quoted-printable|Content-Transfer-Encoding: base64|YWJjZA==
é|ａｂｃ|=?utf-8?q?abc?=|message/rfc822|+AGE-bc|Content-Type: message/rfc822|\tcharset*0*=utf-7|charset=iso-2022-jp""".replace(
        "\n", "|"
    ).split("|")
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=14), st.sampled_from(["ABC", "C D", "É", "ABC DEF", "ABCDEF", "=", "A"]), st.booleans())
def test_quick_answers_are_right(lines: list[str], text: str, whole: bool) -> None:
    content = "\n".join(lines).encode()
    key = unicode_casemap(text)
    assert InBody(key, whole=whole)(content) == slow(content, key, whole)
