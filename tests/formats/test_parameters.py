import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.parameters import decode_parameters, parse_content_type, parse_disposition, parse_parameters


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b" text/plain", (b"text", b"plain", ())),
        (b"Text/HTML; Charset=UTF-8", (b"Text", b"HTML", ((b"charset", b"UTF-8"),))),
        (
            b' multipart/mixed;\r\n\tboundary="a b;c\\"d"; x=y ;',
            (b"multipart", b"mixed", ((b"boundary", b'a b;c"d'), (b"x", b"y"))),
        ),
        (
            b"text/plain; charset=us-ascii (Plain text); name=my file.txt",
            (b"text", b"plain", ((b"charset", b"us-ascii"), (b"name", b"my file.txt"))),
        ),
        (b"text", None),
        (b"", None),
        (b"; charset=x", None),
    ],
)
def test_content_type(raw: bytes, expected: object) -> None:
    assert parse_content_type(raw) == expected


@pytest.mark.feature("STD-002")
def test_disposition() -> None:
    assert parse_disposition(b' attachment; filename="a b.pdf"; size=12') == (
        b"attachment",
        ((b"filename", b"a b.pdf"), (b"size", b"12")),
    )
    assert parse_disposition(b"") is None


@pytest.mark.feature("STD-026", "STD-002")
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"; filename=plain.txt", "plain.txt"),
        (b"; filename*=utf-8''%E2%82%AC%20rates.txt", "€ rates.txt"),
        (b"; filename*0=long; filename*1=name.txt", "longname.txt"),
        (b"; filename*1*=%a4.txt; filename*0*=iso-8859-15'en'in%20", "in €.txt"),
        (b"; filename*0*=utf-8''%C3; filename*1*=%A9; filename*2=.txt", "é.txt"),
        (b"; filename*0=a; filename*2=b", "a"),
        (b"; filename*=no-such-charset''%C3%A9", "é"),
        (b"; filename=a.txt; filename*=utf-8''b.txt", "b.txt"),
        (b"; filename=\xe9", "é"),
    ],
)
def test_continuations(raw: bytes, text: str) -> None:
    assert decode_parameters(parse_parameters(raw)) == {"filename": text}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b";", b"=", b'"', b"\\", b"a", b"*", b"0", b"'", b"%", b" ", b"(", b"\xe9"])).map(
        b"".join
    )
)
def test_any_bytes_are_taken(raw: bytes) -> None:
    decode_parameters(parse_parameters(raw))
    parse_content_type(b"a/b" + raw)
    parse_disposition(raw)


@pytest.mark.parametrize(
    "piece", [b";", b"; ", b";a", b";a=", b';a="', b'"', b"(", b";a=(", b" ", b"\\", b";a ", b";a=b"]
)
def test_long_nonsense_takes_linear_time(piece: bytes) -> None:
    started = time.perf_counter()
    value = piece * (100_000 // len(piece))
    parse_content_type(b"a/b" + value)
    parse_content_type(b"a/b;a=" + value)
    parse_content_type(value)
    decode_parameters(parse_parameters(value))
    assert time.perf_counter() - started < 2
