import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.encodedwords import decode_words, encode_mailbox, encode_phrase, encode_words
from appliance.formats.mailboxes import parse_mailboxes


@pytest.mark.feature("STD-004")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=\n  =?utf-8?b?Yg==?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?utf-8?B?UmU6IGNhZsOp?=", "Re: café"),
        (b"=?utf-8?Q?=C3?= =?utf-8?Q?=A9?=", "é"),
        (b"=?utf-8*en?Q?x?= y", "x y"),
        (b"(=?ISO-2022-JP?B?GyRCJUYlOSVIGyhC?=)", "(テスト)"),
        (b"=?utf-8?B?UmU6?=x", "Re:x"),
        (b"=?no-such?Q?=C3=A9?=", "é"),
        (b"=?utf-8?X?a?=", "=?utf-8?X?a?="),
        (b"=?utf-8?Q?open", "=?utf-8?Q?open"),
        ("naïve".encode(), "naïve"),
        (b"na\xefve", "naïve"),
        (b"folded\r\n line", "folded line"),
    ],
)
def test_decode(value: bytes, text: str) -> None:
    assert decode_words(value) == text


@pytest.mark.feature("STD-004")
def test_encode() -> None:
    assert encode_words("Hello") == b"Hello"
    assert encode_words("Grüße") == b"=?utf-8?Q?Gr=C3=BC=C3=9Fe?="
    assert encode_words("Тест") == b"=?utf-8?B?0KLQtdGB0YI=?="
    assert encode_words("=?utf-8?Q?x?=") != b"=?utf-8?Q?x?="
    assert encode_words("a\r\nBcc: everyone") == b"a Bcc: everyone"
    long = encode_words("word " * 40 + "end", name_length=9)
    assert all(len(line) <= 78 for line in long.split(b"\n"))


def test_mailboxes() -> None:
    assert encode_phrase("Joe Doe") == b"Joe Doe"
    assert encode_phrase('Doe, "J"') == b'"Doe, \\"J\\""'
    assert encode_mailbox("", "a@b.c") == b"a@b.c"
    assert encode_mailbox("José", "a@b.c") == b"=?utf-8?Q?Jos=C3=A9?= <a@b.c>"
    assert encode_mailbox("x\nBcc: y", "a@b.c>\nz") == b'"x Bcc: y" <a@b.cz>'


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\x85\u2028\u2029"), max_size=120)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(0, 20))
def test_what_is_written_is_read_again(text: str, used: int) -> None:
    text = text.strip()
    value = encode_words(text, name_length=used)
    assert decode_words(value) == text
    lines = value.split(b"\n")
    if b"=?" in value and not text.isascii():
        assert used + len(lines[0]) <= 76
        assert all(len(line) <= 76 for line in lines)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_a_name_survives_in_an_address_list(name: str) -> None:
    (mailbox,) = parse_mailboxes(encode_mailbox(name, "a@b.c"))
    assert (mailbox.local, mailbox.domain) == (b"a", b"b.c")
    assert decode_words(mailbox.name or b"").split() == name.split()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"=?", b"?=", b"?Q?", b"?B?", b"utf-8", b"=", b"A", b" ", b"\n ", b"\xe9"])).map(b"".join)
)
def test_any_bytes_are_text(value: bytes) -> None:
    decode_words(value)


@pytest.mark.parametrize("piece", [b"=?", b"=?a?q?", b"=?a?q?x?=", b"=?a?b?a?= ", b"?", b" ", b"a ", "é ".encode()])
def test_long_nonsense_takes_linear_time(piece: bytes) -> None:
    started = time.perf_counter()
    text = decode_words(piece * (100_000 // len(piece)))
    encode_words(text)
    assert time.perf_counter() - started < 3
