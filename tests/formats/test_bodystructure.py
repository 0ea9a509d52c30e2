import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.bodystructure import render_body, render_bodystructure, summary
from appliance.formats.envelope import render_envelope
from appliance.formats.wire import to_wire

PLAIN = b"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\n\none\ntwo\n"

MIXED = b"""Content-Type: multipart/mixed; boundary=b

--b
Content-Disposition: inline
Content-Language: en, de

hi
--b
Content-Type: application/pdf; name="a \\"b\\".pdf"
Content-Transfer-Encoding: BASE64
Content-ID: <1@a>
Content-Description: the
 paper
Content-MD5: Q2hlY2s=
Content-Disposition: attachment; filename="a.pdf"
Content-Location: http://a/

QUJD
--b
Content-Type: message/rfc822

Subject: inner

text

--b--
"""


@pytest.mark.feature("STD-006")
def test_single_part() -> None:
    assert render_body(PLAIN) == b'("TEXT" "PLAIN" ("charset" "US-ASCII") NIL NIL "7bit" 10 2)'
    assert render_bodystructure(PLAIN) == (
        b'("TEXT" "PLAIN" ("charset" "US-ASCII") NIL NIL "7bit" 10 2 NIL NIL NIL NIL)'
    )
    assert render_body(b"\nx") == b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0)'


@pytest.mark.feature("STD-002", "STD-005")
def test_multipart() -> None:
    inner = b'(NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL)'
    text = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 1'
    pdf = b'("application" "pdf" ("name" "a \\"b\\".pdf") "<1@a>" "the paper" "BASE64" 4'
    assert render_body(MIXED) == (
        b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2 0)'
        + (pdf + b")")
        + (b'("message" "rfc822" NIL NIL NIL "7bit" 24 ' + inner + b" " + text + b") 3)")
        + b' "mixed")'
    )
    full = render_bodystructure(MIXED)
    assert b'"7bit" 2 0 NIL ("inline" NIL) ("en" "de") NIL)' in full
    assert pdf + b' "Q2hlY2s=" ("attachment" ("filename" "a.pdf")) NIL "http://a/")' in full
    assert (
        b'("message" "rfc822" NIL NIL NIL "7bit" 24 ' + inner + b" " + text + b" NIL NIL NIL NIL) 3 NIL NIL NIL NIL)"
        in full
    )
    assert full.endswith(b' "mixed" ("boundary" "b") NIL NIL NIL)')


def test_8_bit_in_a_parameter_is_a_literal() -> None:
    assert b'("name" {2}\r\n\xc3\xa9)' in render_body(b'Content-Type: text/plain; name="\xc3\xa9"\n\n')


def test_summary() -> None:
    result = summary(MIXED)
    assert result.envelope == render_envelope(MIXED)
    assert result.bodystructure == render_bodystructure(MIXED)
    assert result.body == render_body(MIXED)
    assert result.wire_size == len(to_wire(MIXED))
    assert MIXED[result.header_size :].startswith(b"--b\n")


def check_imap(data: bytes) -> None:
    """Parentheses balance outside of strings, and literals have their length."""
    position = depth = 0
    while position < len(data):
        symbol = data[position : position + 1]
        if symbol == b'"':
            position += 1
            while data[position : position + 1] != b'"':
                position += 2 if data[position : position + 1] == b"\\" else 1
        elif symbol == b"{":
            end = data.index(b"}\r\n", position)
            position = end + 2 + int(data[position + 1 : end])
        elif symbol == b"(":
            depth += 1
        elif symbol == b")":
            depth -= 1
            assert depth >= 0
        else:
            assert symbol in b" " or symbol.isalnum()
        position += 1
    assert depth == 0


PIECES = st.lists(
    st.sampled_from(
        [
            b"\n",
            b"\n\n",
            b"\n--b\n",
            b"\n--b--\n",
            b"Content-Type: multipart/mixed; boundary=b\n",
            b"Content-Type: message/rfc822\n\n",
            b'Content-Disposition: x; y="\\"\xe9',
            b"Content-Language: a, ,b",
            b'Subject: \\"\r',
            b"From: a <",
        ]
    ),
    max_size=15,
)


@settings(max_examples=200, deadline=None)
@given(PIECES.map(b"".join) | st.binary())
def test_any_bytes_give_well_formed_answers(data: bytes) -> None:
    result = summary(data)
    check_imap(result.envelope)
    check_imap(result.bodystructure)
    check_imap(result.body)
