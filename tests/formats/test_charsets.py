import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats import charsets
from appliance.formats.mime import parse_structure


@pytest.mark.feature("STD-007", "STD-024")
@pytest.mark.parametrize("data", [b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xc0\xaf"])
def test_utf8_is_strict(data: bytes) -> None:
    text = charsets.decode_text(b"ok \xc3\xa9 " + data, "utf-8")
    assert text.startswith("ok é \ufffd")
    assert "/" not in text


@pytest.mark.feature("STD-025", "STD-027", "STD-028", "STD-029", "STD-030")
@pytest.mark.parametrize(
    ("data", "label", "text"),
    [
        (b"\x1b$B%F%9%H\x1b(B", "ISO-2022-JP", "テスト"),
        (b"\xf4\xc5\xd3\xd4", "KOI8-R", "Тест"),
        (b"\xa4\xa6", "koi8-u", "єі"),
        (b"\x1b$)C\x0e33\x0f", "iso-2022-kr", "납"),
        (b"Hi Mom +Jjo-!", "UTF-7", "Hi Mom ☺!"),
        (b"\x93x\x94", "iso-8859-1", "“x”"),
        (b"\xc3\xa9", "us-ascii", "é"),
        (b"\xe9", "us-ascii", "é"),
        (b"\xc3\xa9", "no-such-thing", "é"),
        (b"\xe9t\xe9", "utf-8", "été"),
        (b"\xa4", "ISO-8859-15", "€"),
        (b"x", "base64", "x"),
        (b"x", "unicode_escape", "x"),
        (b"\xe9", "", "é"),
    ],
)
def test_charsets(data: bytes, label: str, text: str) -> None:
    assert charsets.decode_text(data, label) == text


def test_unknown_labels() -> None:
    assert charsets.find_charset("x-nobody") is None
    assert charsets.find_charset("zip") is None
    assert charsets.find_charset("") is None
    assert charsets.find_charset(" UTF8 ") == "utf-8"


@pytest.mark.feature("STD-006")
@pytest.mark.parametrize(
    ("encoding", "encoded", "content"),
    [
        (b"base64", b"aGVs\nbG8=\n", b"hello"),
        (b"BASE64", b"aGVsbG8", b"hello"),
        (b"base64", b"aGV*sbG8=x", b"hello"),
        (b"base64", b"a", b""),
        (b"quoted-printable", b"h=C3=A9llo=\n world=20\n", b"h\xc3\xa9llo world \n"),
        (b"quoted-printable", b"100=% =zz", b"100=% =zz"),
        (b"8bit", b"\xe9", b"\xe9"),
        (b"x-unknown", b"abc", b"abc"),
    ],
)
def test_transfer_encodings(encoding: bytes, encoded: bytes, content: bytes) -> None:
    assert charsets.decode_transfer(encoded, encoding) == content
    assert charsets.is_known_encoding(encoding) is not encoding.startswith(b"x-")


@pytest.mark.feature("STD-006")
def test_text_of_a_part() -> None:
    data = (
        b"Content-Type: text/plain; charset=iso-8859-2\nContent-Transfer-Encoding: quoted-printable\n\n"
        b"=A3=F3d=BC\r\nmiasto\n"
    )
    part = parse_structure(data)
    assert charsets.text_of(data, part) == "Łódź\nmiasto\n"
    assert charsets.content_of(data, part, limit=3) == b"\xa3"


def test_comparison_keys() -> None:
    assert charsets.ascii_casemap(b"aZ\xe9{") == b"AZ\xe9{"
    assert charsets.unicode_casemap("ﬁÉ") == charsets.unicode_casemap("fié")
    assert charsets.unicode_casemap("Stra\u00dfe") == charsets.unicode_casemap("STRASSE")
    assert charsets.unicode_casemap("abc") == "ABC"


@settings(max_examples=200, deadline=None)
@given(
    st.binary() | st.text("+-=AZ\x1b$)C\x0e%", max_size=30).map(str.encode),
    st.sampled_from(["utf-7", "iso-2022-jp", "iso-2022-kr", "hz", "utf-16", "big5", "utf-8", "x", "idna", "punycode"])
    | st.text(max_size=10),
    st.sampled_from([b"base64", b"quoted-printable", b"7bit"]),
)
def test_any_bytes_give_text(data: bytes, label: str, encoding: bytes) -> None:
    charsets.decode_text(charsets.decode_transfer(data, encoding), label)
