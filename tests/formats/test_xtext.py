import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.xtext import OriginalRecipient, decode_orcpt, decode_xtext, encode_orcpt, encode_xtext


def test_xtext() -> None:
    assert encode_xtext("QQ314159") == "QQ314159"
    assert encode_xtext("a+b=c d") == "a+2Bb+3Dc+20d"
    assert decode_xtext(b"a+2Bb+3Dc+20d") == "a+b=c d"
    for bad in ("a+2b", "a b", "a=b", "+", "+4", "+0A", "é"):
        with pytest.raises(ValueError):
            decode_xtext(bad)


@pytest.mark.parametrize(
    ("value", "recipient"),
    [
        ("rfc822;Bob+2Btag@Example.COM", ("rfc822", "Bob+tag@Example.COM")),
        ("RFC822;bob@a.com", ("rfc822", "bob@a.com")),
        ("utf-8;Бob@a.com", ("utf-8", "Бob@a.com")),
        (r"utf-8;\x{411}ob@a.com", ("utf-8", "Бob@a.com")),
    ],
)
def test_orcpt(value: str, recipient: tuple[str, str]) -> None:
    assert decode_orcpt(value) == recipient
    assert decode_orcpt(value.encode()) == recipient
    assert decode_orcpt(encode_orcpt(OriginalRecipient(*recipient))) == recipient


@pytest.mark.parametrize(
    "value", ["bob@a.com", ";x", "rfc822;", "rf c;x", "rfc822;a b", r"utf-8;\x{D800}", r"utf-8;\x{110000}", "utf-8;+0A"]
)
def test_refused(value: str) -> None:
    with pytest.raises(ValueError):
        decode_orcpt(value)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40))
def test_round_trips(text: str) -> None:
    assert decode_xtext(encode_xtext(text)) == text
    recipient = OriginalRecipient("utf-8", text)
    assert decode_orcpt(encode_orcpt(recipient)) == recipient


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30) | st.text("rfc822utf-;+0AF\\x{}", max_size=30) | st.binary())
def test_any_value_is_read_or_refused(value: str | bytes) -> None:
    try:
        decode_orcpt(value)
    except ValueError:
        pass
