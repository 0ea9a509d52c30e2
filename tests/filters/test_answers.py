"""What answers of filter programs mean."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.filters.answers import ACCEPT, UnknownAnswer, parse_answer, quoted


@pytest.mark.feature("FLT-009", "RULE-193", "FLT-010", "RULE-194", "FLT-012", "RULE-196", "FLT-066")
def test_the_verdicts() -> None:
    assert parse_answer("OK", "") == ACCEPT
    assert parse_answer("DISCARD", "").action == "discard"
    refused = parse_answer("ERROR", r'"two\eline \"report\" \\ \065"')
    assert (refused.action, refused.text) == ("reject", 'two\nline "report" \\ A')
    assert parse_answer("ERROR", "no quotes at all").text == "no quotes at all"
    assert parse_answer("REJECTED", '"licence"').action == "postpone"
    assert parse_answer("FAILURE", "").action == "postpone"
    with pytest.raises(UnknownAnswer, match="HELLO"):
        parse_answer("HELLO", "world")


@pytest.mark.feature("FLT-013", "RULE-197")
def test_header_lines_are_whole_fields() -> None:
    answer = parse_answer("ADDHEADER", r'"X-Spam: yes\eX-Score: 7\e  (of 5)"', 2)
    assert answer.added_header == b"X-Spam: yes\nX-Score: 7\n  (of 5)\n" and answer.action == "accept"
    assert parse_answer("ADDHEADER", "X-Virus: none", 2).added_header == b"X-Virus: none\n"
    hostile = parse_answer("ADDHEADER", r'"X-A: b\e\eBody\e folded\eX-C: d\000"', 2)
    assert hostile.added_header == b"X-A: b\nX-C: d\n" and len(hostile.remarks) == 2
    several = parse_answer("ADDHEADER", '"X-A: b" MIRRORTO archive@box.test ADDHEADER "X-C: d" OK', 2)
    assert several.added_header == b"X-A: b\nX-C: d\n" and several.mirror == ("archive@box.test",)
    rejected = parse_answer("ADDHEADER", '"X-A: b" ERROR "bad"', 2)
    assert (rejected.action, rejected.text, rejected.added_header) == ("reject", "bad", b"")


@pytest.mark.feature("FLT-064", "RULE-191")
def test_an_older_program_adds_nothing() -> None:
    answer = parse_answer("ADDHEADER", '"X-A: b"', 1)
    assert answer.added_header == b"" and answer.action == "accept" and "interface 2" in answer.remarks[0]
    assert parse_answer("ADDHEADER", '"X-A: b"', None).added_header


@given(st.text(max_size=200))
def test_strings_come_back(text: str) -> None:
    expected = text.replace("\r", "")
    assert parse_answer("ERROR", quoted(text)).text == expected


@given(
    st.sampled_from(["OK", "ERROR", "ADDHEADER", "MIRRORTO", "REJECTED", "X", ""]),
    st.text(alphabet='ab:\\"e0 OK\t\x00\udcff', max_size=60),
    st.sampled_from([None, 0, 1, 2]),
)
@settings(max_examples=300, deadline=None)
def test_any_answer_gives_safe_header_lines(word: str, rest: str, version: int | None) -> None:
    try:
        answer = parse_answer(word, rest, version)
    except UnknownAnswer:
        return
    lines = answer.added_header.split(b"\n")
    assert lines[-1] == b"" and all(line for line in lines[:-1])
    assert not answer.added_header or answer.added_header[:1] not in b" \t"
