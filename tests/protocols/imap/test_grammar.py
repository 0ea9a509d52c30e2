"""The grammar productions, each by itself."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols.imap import render
from appliance.protocols.imap.commands import Copy, Create, Fetch, List, Search, SetAcl, Store
from appliance.protocols.imap.cursor import Cursor, LiteralNeeded, ParseError
from appliance.protocols.imap.dates import DateTexts, Moment, parse_date, parse_date_time
from appliance.protocols.imap.fetchitem import parse_items
from appliance.protocols.imap.flags import FlagList
from appliance.protocols.imap.grammar import parse
from appliance.protocols.imap.names import ListPattern, decode_utf7, encode_utf7, normal
from appliance.protocols.imap.searchkey import (
    All,
    And,
    Dated,
    Flagged,
    Header,
    KeyParser,
    Not,
    Numbers,
    Or,
    SearchKey,
    Size,
    Text,
)
from appliance.protocols.imap.sequence import SequenceSet, compact

quick = settings(max_examples=60, deadline=None)


def keys(text: bytes, *literals: bytes) -> SearchKey:
    return KeyParser(Cursor(text, literals)).program()


@pytest.mark.parametrize(
    ("text", "largest", "ranges"),
    [
        (b"1:*", 10, [(1, 10)]),
        (b"*:4", 10, [(4, 10)]),
        (b"12:*", 10, [(10, 12)]),
        (b"3,1:2,2", 10, [(1, 3)]),
        (b"5:3,9", 10, [(3, 5), (9, 9)]),
        (b"*", 0, []),
        (b"1:*", 0, [(1, 1)]),
    ],
)
def test_sets_become_ascending_ranges(text: bytes, largest: int, ranges: list[tuple[int, int]]) -> None:
    assert SequenceSet.parse(Cursor(text)).ranges(largest) == ranges


@pytest.mark.parametrize("text", [b"0", b"1:0", b"4294967296", b"99999999999999999999", b"x", b""])
def test_wrong_sets(text: bytes) -> None:
    with pytest.raises(ParseError):
        SequenceSet.parse(Cursor(text))


@quick
@given(st.sets(st.integers(1, 300), min_size=1))
def test_compact_says_the_same_numbers(numbers: set[int]) -> None:
    ranges = SequenceSet.parse(Cursor(compact(sorted(numbers)))).ranges(1000)
    assert {n for low, high in ranges for n in range(low, high + 1)} == numbers


@quick
@given(st.text())
def test_modified_utf7_round_trip(text: str) -> None:
    if any("\ud800" <= c <= "\udfff" for c in text):
        return
    wire = encode_utf7(text)
    assert wire.isascii()
    assert decode_utf7(wire) == text


def test_modified_utf7_of_the_rfc() -> None:
    assert encode_utf7("~peter/mail/台北/日本語") == "~peter/mail/&U,BTFw-/&ZeVnLIqe-"
    assert decode_utf7("&BB8EQAQ4BDIENQRC-") == "Привет"
    for wrong in ("&", "a&b", "&U,BTFw", "&AAA!-"):
        with pytest.raises(ValueError, match="UTF-7"):
            decode_utf7(wrong)


def test_names() -> None:
    assert normal(b"inbox") == "INBOX"
    assert normal(b"InBox/Sub") == "INBOX/Sub"
    assert normal(b"x/inbox") == "x/inbox"
    assert normal(b"/INBOX") == "INBOX"
    assert normal("Entwürfe".encode()) == "Entw&APw-rfe"
    assert normal(b"~boss/INBOX") == "~boss/INBOX"
    for wrong in (b"a\rb", b"\xff\xfe", b"x" * 2000, b"\x01"):
        with pytest.raises(ParseError):
            normal(wrong)


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("*", ["a", "a/b", ""], []),
        ("%", ["a", ""], ["a/b"]),
        ("a/%/%", ["a/b/c"], ["a/b", "a/b/c/d"]),
        ("*c", ["a/b/c", "c"], ["a/b/cd"]),
        ("a%b*c", ["axb/yc", "abc"], ["a/b/c", "axb"]),
        ("INBOX", ["INBOX"], ["INBOX/x", "inbox"]),
        ("%/x%", ["a/x", "a/xyz"], ["a/b/x"]),
    ],
)
def test_patterns(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    compiled = ListPattern(pattern)
    assert [name for name in fits if not compiled.matches(name)] == []
    assert [name for name in fits_not if compiled.matches(name)] == []


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not ListPattern("*a" * 32).matches("a" * 31 + "b" * 500)
    with pytest.raises(ParseError):
        ListPattern("*" * 33)


def test_dates() -> None:
    assert parse_date(Cursor(b"1-Feb-2020")) == date(2020, 2, 1)
    assert parse_date(Cursor(b'"01-FEB-2020"')) == date(2020, 2, 1)
    assert parse_date_time(Cursor(b'" 1-Feb-2020 10:20:30 +0100"')) == Moment(1580548830, 60)
    assert DateTexts().text(1580548830, 60) == b'" 1-Feb-2020 10:20:30 +0100"'
    assert DateTexts().text(-1, -90) == b'"31-Dec-1969 22:29:59 -0130"'
    for wrong in (b"31-Feb-2020", b"1-Foo-2020", b"1 Feb 2020"):
        with pytest.raises(ParseError):
            parse_date(Cursor(wrong))


@quick
@given(st.integers(0, 2**33), st.integers(-720, 840))
def test_internal_dates_read_as_they_were_written(seconds: int, zone: int) -> None:
    assert parse_date_time(Cursor(DateTexts().text(seconds, zone))) == Moment(seconds, zone)


def test_flags() -> None:
    parsed = FlagList.parse(Cursor(b"(\\seen \\Recent \\X Later later $MDNSent)"))
    assert parsed == FlagList(("\\Seen",), ("Later", "$MDNSent"))
    assert FlagList.parse(Cursor(b"\\Seen \\Deleted")).system == ("\\Seen", "\\Deleted")
    assert FlagList.parse(Cursor(b"()")) == FlagList((), ())


@pytest.mark.parametrize(
    ("text", "labels", "sources", "marks"),
    [
        (b"RFC822", [b"RFC822"], [""], True),
        (b"RFC822.HEADER", [b"RFC822.HEADER"], ["HEADER"], False),
        (b"body.peek[1.2.mime]", [b"BODY[1.2.MIME]"], ["1.2.MIME"], False),
        (b"BODY[]<0.10>", [b"BODY[]<0>"], [""], True),
        (b"(BODY[TEXT] BODY[2])", [b"BODY[TEXT]", b"BODY[2]"], ["TEXT", "2"], True),
        (
            b'BODY.PEEK[HEADER.FIELDS ("From" To)]',
            [b"BODY[HEADER.FIELDS (From To)]"],
            ["HEADER"],
            False,
        ),
        (b"BODY.PEEK[3.HEADER.FIELDS.NOT (X)]", [b"BODY[3.HEADER.FIELDS.NOT (X)]"], ["3.HEADER"], False),
        (b"RFC822.HEADER.LINES (From Subject)", [b"RFC822.HEADER"], ["HEADER"], False),
        (b"RFC822.PEEK", [b"RFC822"], [""], False),
    ],
)
def test_fetch_items(text: bytes, labels: list[bytes], sources: list[str], marks: bool) -> None:
    items = parse_items(Cursor(text))
    assert [item.label for item in items] == labels
    assert [item.section.source for item in items if item.section is not None] == sources
    assert all(item.marks is marks for item in items)


def test_macros() -> None:
    assert [i.name for i in parse_items(Cursor(b"all"))] == ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"]
    assert [i.name for i in parse_items(Cursor(b"FAST"))] == ["FLAGS", "INTERNALDATE", "RFC822.SIZE"]
    assert [i.name for i in parse_items(Cursor(b"FULL"))][-1] == "BODY"
    assert [i.name for i in parse_items(Cursor(b"(BODY BODYSTRUCTURE UID)"))] == ["BODY", "BODYSTRUCTURE", "UID"]


@pytest.mark.parametrize(
    "text", [b"BODY[", b"BODY[MIME]", b"BODY[1.]", b"BODY[0]", b"BODY[X]", b"()", b"BODY[]<1.0>", b"NOPE", b"(ALL)"]
)
def test_wrong_fetch_items(text: bytes) -> None:
    with pytest.raises(ParseError):
        parse_items(Cursor(text))


def test_search_keys() -> None:
    assert keys(b"OR SEEN (FLAGGED NOT DELETED)") == Or(
        (Flagged("\\Seen", True), And((Flagged("\\Flagged", True), Not(Flagged("\\Deleted", True)))))
    )
    assert keys(b'FROM "Smith" SINCE 1-Feb-1994') == And(
        (Header(b"From", b"Smith"), Dated("SINCE", date(1994, 2, 1), False))
    )
    assert keys(b"NEW") == And((Flagged("\\Recent", True), Flagged("\\Seen", False)))
    assert keys(b'HEADER X-Test ""') == Header(b"X-Test", b"")
    assert keys(b"2:4") == Numbers(SequenceSet([(2, 4)]), False)
    assert keys(b"UID 105:*") == Numbers(SequenceSet([(105, 0)]), True)
    assert keys(b"BODY {3}\n", b"a b") == Text("BODY", b"a b")
    assert keys(b"LARGER 5") == Size(5, True)
    assert keys(b"not not all") == All()


def test_a_chain_of_ors_is_flat() -> None:
    chain = keys(b"OR " * 400 + b"SEEN " * 400 + b"DELETED")
    assert isinstance(chain, Or)
    assert len(chain.keys) == 401
    assert keys(b"OR SEEN OR DRAFT FLAGGED") == keys(b"OR OR SEEN DRAFT FLAGGED")


@pytest.mark.feature("IMAP-067")
def test_thirty_parentheses_and_no_more() -> None:
    assert keys(b"(" * 30 + b"SEEN" + b")" * 30) == Flagged("\\Seen", True)
    for text in (b"(" * 31 + b"SEEN" + b")" * 31, b"NOT " * 5000 + b"SEEN", b"OR (SEEN) (" * 3000, b"SEEN " * 1001):
        with pytest.raises(ParseError):
            keys(text)


def test_commands() -> None:
    assert parse(Cursor(b"a uid copy 1:2 box")).arguments == Copy(SequenceSet([(1, 2)]), "box", True)
    assert parse(Cursor(b"a CREATE a/b/")).arguments == Create("a/b", True)
    assert parse(Cursor(b"a STORE 1 +FLAGS.SILENT (\\Seen)")).arguments == Store(
        SequenceSet([(1, 1)]), "+", FlagList(("\\Seen",), ()), True, False
    )
    listing = parse(Cursor(b'a LIST (CHILDREN UNSEEN) "" "ma%"')).arguments
    assert listing == List("", (ListPattern("ma%"),), ("CHILDREN", "UNSEEN"))
    extended = parse(Cursor(b'a LIST () "" (INBOX Sent/%) RETURN (CHILDREN STATUS (MESSAGES))')).arguments
    assert isinstance(extended, List)
    assert extended.returned == ("CHILDREN", "STATUS")
    assert extended.status == ("MESSAGES",)
    search = parse(Cursor(b"a UID SEARCH CHARSET utf-8 TEXT {3}\n", [b"\xd0\x9fx"])).arguments
    assert search == Search(Text("TEXT", b"\xd0\x9fx"), "UTF-8", True)
    assert parse(Cursor(b"a SETACL box user +lr")).arguments == SetAcl("box", "user", "+", "lr")
    partial = parse(Cursor(b"a PARTIAL 3 RFC822 1 1024")).arguments
    assert isinstance(partial, Fetch)
    assert partial.items[0].partial == (0, 1024)
    assert parse(Cursor(b"a NOOP  ")).name == "NOOP"


@pytest.mark.parametrize(
    "text",
    [
        b"a",
        b"a NOPE",
        b"a LOGIN x",
        b"a NOOP x",
        b"a UID NOOP",
        b"+a NOOP",
        b'a LOGIN "x" "y',
        b"a FETCH 1",
        b"a APPEND box",
        b"a SELECT",
        b'a SELECT ""',
        b"a STORE 1 FLAG ()",
        b"a SEARCH",
        b"a SEARCH NOT",
        b"a AUTHENTICATE PLAIN !!",
        b"a ID (x)",
    ],
)
def test_wrong_commands(text: bytes) -> None:
    with pytest.raises(ParseError):
        parse(Cursor(text))


def test_a_secret_is_not_printed() -> None:
    assert "pass" not in repr(parse(Cursor(b"a LOGIN user pass")))
    assert "pass" not in repr(parse(Cursor(b"a AUTHENTICATE PLAIN cGFzc3Bhc3M=")))


@quick
@given(st.binary(max_size=80))
def test_noise_is_refused_and_nothing_else(noise: bytes) -> None:
    for lead in (b"", b"a SEARCH ", b"a FETCH 1 ", b"a LIST ", b"a STORE ", b"a ID "):
        try:
            parse(Cursor(lead + noise, [b"x"]))
        except (ParseError, LiteralNeeded):
            pass


def test_strings_take_the_form_that_fits() -> None:
    assert render.string(b'a"b\\') == b'"a\\"b\\\\"'
    assert render.string(b"gr\xfcn") == b"{4}\r\ngr\xfcn"
    assert render.string(b"a\r\nb") == b"{4}\r\na\r\nb"
    assert render.nstring(None) == b"NIL"
    assert render.astring(b"nil") == b'"nil"'
    assert render.astring(b"INBOX") == b"INBOX"
    assert render.mailbox("My Mail") == b'"My Mail"'
    assert render.mailbox("a]b") == b'"a]b"'


@quick
@given(st.binary(max_size=60).filter(lambda b: b"\0" not in b))
def test_a_written_string_is_read_again(text: bytes) -> None:
    for wire in (render.string(text), render.astring(text)):
        if wire.startswith(b"{"):
            assert Cursor(wire.split(b"\n", 1)[0].rstrip(b"\r") + b"\n", [text]).astring() == text
        else:
            assert Cursor(wire).astring() == text


def test_lines() -> None:
    assert render.ok(b"a1", "done\r\nthings") == b"a1 OK done things\r\n"
    assert render.no(b"a1", "no such mailbox", b"TRYCREATE") == b"a1 NO [TRYCREATE] no such mailbox\r\n"
    assert render.bad(None, "what?") == b"* BAD what?\r\n"
    assert render.numbers([], b"SEARCH") == b"* SEARCH\r\n"
    assert render.numbers([2, 5], b"SEARCH") == b"* SEARCH 2 5\r\n"
    assert render.listing(["\\Noselect"], "a b") == b'* LIST (\\Noselect) "/" "a b"\r\n'
    assert render.status("x", [("MESSAGES", 2), ("OLDEST", b'"d"')]) == b'* STATUS x (MESSAGES 2 OLDEST "d")\r\n'
    assert render.namespace([("", "/")], [("~", "/")], []) == b'* NAMESPACE (("" "/")) (("~" "/")) NIL\r\n'
    assert render.quota("", [("STORAGE", 2048, 10240)]) == b'* QUOTA "" (STORAGE 2048 10240)\r\n'
    assert render.identity([("name", "Pillarbox"), ("x", None)]) == b'* ID ("name" "Pillarbox" "x" NIL)\r\n'
    assert render.my_rights("box", "") == b'* MYRIGHTS box ""\r\n'
