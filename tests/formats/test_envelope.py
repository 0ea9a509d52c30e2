from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.envelope import render_envelope
from appliance.formats.imapstrings import nstring, string


def test_example_of_the_standard() -> None:
    header = b"""Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev1 WG mtg summary and minutes
To: imap@cac.washington.edu
cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.edu>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII

"""
    gray = b'(("Terry Gray" NIL "gray" "cac.washington.edu"))'
    assert render_envelope(header) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes" '
        + b" ".join([gray, gray, gray])
        + b' ((NIL NIL "imap" "cac.washington.edu"))'
        b' ((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU"))'
        b' NIL NIL "<B27397-0100000@cac.washington.edu>")'
    )


def test_missing_and_empty_fields() -> None:
    assert render_envelope(b"\nbody") == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
    header = b"Subject:\nFrom: a@b.c\nSender: \nReply-To: d@e.f\nTo: friends:;\n\n"
    assert render_envelope(header) == (
        b'(NIL "" ((NIL NIL "a" "b.c")) ((NIL NIL "a" "b.c")) ((NIL NIL "d" "e.f"))'
        b' ((NIL NIL "friends" NIL)(NIL NIL NIL NIL)) NIL NIL NIL NIL)'
    )


def test_strings() -> None:
    assert string(b'a "b" \\') == b'"a \\"b\\" \\\\"'
    assert string("é".encode()) == b"{2}\r\n\xc3\xa9"
    assert string(b"a\r\nb\0") == b"{4}\r\na\r\nb"
    assert nstring(None) == b"NIL"
    assert nstring(b"") == b'""'
    assert render_envelope(b"Subject: \xe9t\xe9\n folded\n\n").startswith(b"(NIL {10}\r\n\xe9t\xe9 folded NIL")


@settings(max_examples=100, deadline=None)
@given(st.binary())
def test_any_bytes_have_an_envelope(data: bytes) -> None:
    envelope = render_envelope(b"From: " + data + b"\nSubject: " + data)
    assert envelope.startswith(b"(")
    assert b"\0" not in envelope
