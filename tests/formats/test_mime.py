import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.mime import MAX_DEPTH, MAX_PARTS, Part, find_section, parse_structure

# The example of RFC 9051, 6.4.5.1, with texts.
MESSAGE = b"""From: joe@a.com
Content-Type: multipart/mixed; boundary=AAA

preamble
--AAA

one
line two
--AAA
Content-Type: application/octet-stream

two--AAA
--AAAB
--AAA
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/mixed; boundary="BBB"

--BBB
Content-Type: text/plain

three one
--BBB
Content-Type: application/octet-stream

three two
--BBB--

--AAA
Content-Type: multipart/mixed; boundary=CCC

--CCC
Content-Type: image/gif

four one
--CCC
Content-Type: message/rfc822

Subject: deep

four two
--CCC--
--AAA--
epilogue
"""


def body(part: Part | None) -> bytes:
    assert part is not None
    return MESSAGE[part.body_start : part.end]


@pytest.mark.feature("STD-005")
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((1,), b"one\nline two"),
        ((2,), b"two--AAA\n--AAAB"),
        ((3, 1), b"three one"),
        ((3, 2), b"three two"),
        ((4, 1), b"four one"),
        ((4, 2), b"Subject: deep\n\nfour two"),
        ((4, 2, 1), b"four two"),
    ],
)
def test_numbers_of_parts(path: tuple[int, ...], text: bytes) -> None:
    assert body(find_section(MESSAGE, path)) == text


@pytest.mark.parametrize("path", [(0,), (5,), (1, 1), (3, 3), (4, 2, 2), (4, 2, 1, 1)])
def test_numbers_that_do_not_exist(path: tuple[int, ...]) -> None:
    assert find_section(MESSAGE, path) is None


@pytest.mark.parametrize(
    ("path", "name", "text"),
    [
        ((), "HEADER", MESSAGE[: MESSAGE.index(b"preamble")]),
        ((), "TEXT", MESSAGE[MESSAGE.index(b"preamble") :]),
        ((), "", MESSAGE),
        ((2,), "MIME", b"Content-Type: application/octet-stream\n\n"),
        ((3,), "HEADER", b'Subject: inner\nContent-Type: multipart/mixed; boundary="BBB"\n\n'),
        ((3,), "MIME", b"Content-Type: message/rfc822\n\n"),
        ((4, 2), "HEADER", b"Subject: deep\n\n"),
        ((4, 2), "TEXT", b"four two"),
        ((4, 2, 1), "MIME", b"Subject: deep\n\n"),
        ((1,), "HEADER", None),
        ((), "MIME", None),
        ((9,), "TEXT", None),
    ],
)
def test_sections(path: tuple[int, ...], name: str, text: bytes | None) -> None:
    place = parse_structure(MESSAGE).section(path, name)
    assert (None if place is None else MESSAGE[slice(*place)]) == text


def test_sections_of_a_message_without_multipart() -> None:
    data = b"Subject: x\n\nhello\n"
    structure = parse_structure(data)
    assert structure.section((1,)) == (12, 18)
    assert structure.section((1,), "MIME") == (0, 12)
    assert structure.section((2,)) is None
    assert structure.section((1, 1)) is None
    wrapped = parse_structure(b"Content-Type: message/rfc822\n\n" + data)
    assert wrapped.section((1,)) == (30, 48)
    assert wrapped.section((1, 1)) == (42, 48)
    assert wrapped.section((1,), "HEADER") == (30, 42)


def test_sizes_are_of_the_wire_form() -> None:
    part = find_section(MESSAGE, (1,))
    assert part is not None
    assert (part.wire_size, part.lines) == (len(b"one\r\nline two"), 1)
    assert parse_structure(b"A: b\n\na\nb\n").wire_size == 6


@pytest.mark.feature("STD-005")
def test_kinds() -> None:
    digest = parse_structure(b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\nhello\n--b--\n")
    assert digest.children[0].media_type == b"message/rfc822"
    assert digest.children[0].children[0].fields[b"subject"] == b" x"
    part = find_section(MESSAGE, (2,))
    assert part is not None
    assert (part.media_type, part.encoding) == (b"application/octet-stream", b"7bit")
    assert len(parse_structure(MESSAGE).walk()) == 11


@pytest.mark.parametrize(
    ("data", "types", "text"),
    [
        (b"Content-Type: multipart/mixed\n\nreadable\n", [b"text/plain"], b"readable\n"),
        (
            b"Content-Type: multipart/mixed; boundary=b\n\nreadable\n",
            [b"multipart/mixed", b"text/plain"],
            b"readable\n",
        ),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nopen", [b"multipart/mixed", b"text/plain"], b"open"),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b--\n", [b"multipart/mixed", b"text/plain"], b"--b--\n"),
        (
            b"Content-Type: multipart/mixed; boundary=b\n\n--b  \n\nx\n--b-- \n",
            [b"multipart/mixed", b"text/plain"],
            b"x",
        ),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b--\n", [b"multipart/mixed", b"text/plain"], b""),
        (b"Content-Type: nonsense\n\nx", [b"text/plain"], b"x"),
        (b"", [b"text/plain"], b""),
        (b"no header at all", [b"text/plain"], b""),
    ],
)
def test_broken_messages(data: bytes, types: list[bytes], text: bytes) -> None:
    parts = parse_structure(data).walk()
    assert [part.media_type for part in parts] == types
    assert data[parts[-1].body_start : parts[-1].end] == text


def test_bounds() -> None:
    many = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * (MAX_PARTS * 2)
    assert len(parse_structure(many).walk()) <= MAX_PARTS + 2
    deep = b"Content-Type: message/rfc822\n\n" * (MAX_DEPTH * 3)
    assert len(parse_structure(deep).walk()) == MAX_DEPTH + 1
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(MAX_DEPTH * 3))
    started = time.perf_counter()
    assert parse_structure(nested + b"x" * 1_000_000).walk()[-1].media_type == b"text/plain"
    assert time.perf_counter() - started < 2


PIECES = st.lists(
    st.sampled_from(
        [
            b"\n",
            b"\n\n",
            b"\n--b\n",
            b"\n--b--\n",
            b"\n--c\n",
            b"Content-Type: multipart/mixed; boundary=b\n\n",
            b"Content-Type: multipart/digest; boundary=c\n\n",
            b"Content-Type: message/rfc822\n\n",
            b"x",
            b"\r",
        ]
    ),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(PIECES.map(b"".join) | st.binary())
def test_any_bytes_have_a_structure(data: bytes) -> None:
    def check(part: Part, start: int, end: int) -> None:
        assert start <= part.header_start <= part.body_start <= part.end <= end
        assert not part.is_multipart or part.children
        place = part.body_start
        for child in part.children:
            check(child, place, part.end)
            place = child.end

    check(parse_structure(data), 0, len(data))
