"""The conversation with a helper program."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.protocols.helper import MAX_ANSWER, Answer, HelperConversation, Remark, Stray


@pytest.mark.feature("FLT-060", "FLT-061", "FLT-062", "FLT-063", "FLT-068")
def test_requests_are_numbered_and_answers_come_in_any_order() -> None:
    talk = HelperConversation(2)
    assert talk.hello() == b"00001 INTF 2"
    first, line = talk.ask("FILE Queue/17.msg")
    assert line == b"00002 FILE Queue/17.msg"
    second, _ = talk.ask("FILE Queue/18.msg")
    assert talk.receive(b"3 ok\r\n* scanning\n000") == [Answer(second, "OK", ""), Remark("scanning")]
    assert talk.receive(b'02 ERROR "no"\n') == [Answer(first, "ERROR", '"no"')]
    talk.forget(first)
    talk.forget(second)
    assert talk.receive(b"00002 OK\n99999 OK\nhello\n\n-1 OK\n") == [
        Stray("00002 OK"),
        Stray("99999 OK"),
        Stray("hello"),
        Stray("-1 OK"),
    ]


@pytest.mark.feature("FLT-064", "RULE-191")
@pytest.mark.parametrize(
    ("answer", "agreed"),
    [(b"OK 2", 2), (b"INTF 1", 1), (b"OK 7", 2), (b"ERROR unknown command", 0), (b"OK", 0), (b"ok 2 hi", 2)],
)
def test_the_smaller_version_counts(answer: bytes, agreed: int) -> None:
    talk = HelperConversation(2)
    talk.hello()
    assert talk.agreed is None
    assert talk.receive(b"1 " + answer + b"\n") == []
    assert talk.agreed == agreed


def test_a_new_program_gets_what_the_last_one_left() -> None:
    talk = HelperConversation(2)
    talk.hello()
    number, line = talk.ask("FILE a")
    talk.receive(b"1 OK 1\n00002 O")
    assert talk.hello() == b"00003 INTF 2" and talk.agreed is None
    assert talk.again() == [(number, line)]
    assert talk.receive(b"2 OK\n") == [Answer(number, "OK", "")]
    with pytest.raises(ValueError):
        talk.ask("two\nlines")


@pytest.mark.feature("FLT-065", "RULE-198", "FLT-067")
def test_answers_have_4096_bytes_and_longer_ones_are_cut() -> None:
    talk = HelperConversation(2)
    number, _ = talk.ask("FILE a")
    whole = b"00001 ERROR " + b"x" * (MAX_ANSWER - 12)
    assert len(whole) == MAX_ANSWER
    assert talk.receive(whole[:50]) == []
    (answer,) = talk.receive(whole[50:] + b"\n")
    assert isinstance(answer, Answer) and len(answer.rest) == MAX_ANSWER - 12 and not answer.cut
    (answer,) = talk.receive(whole + b"yy")
    assert isinstance(answer, Answer) and answer.cut and len(answer.rest) == MAX_ANSWER - 12
    talk.forget(number)
    assert talk.receive(b"zz" * 100_000) == [] and talk.receive(b"zz\n* fine\n") == [Remark("fine")]


@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_any_output_in_any_pieces(pieces: list[bytes], step: int) -> None:
    whole, parts = HelperConversation(2), HelperConversation(2)
    for talk in (whole, parts):
        talk.hello()
        talk.ask("FILE a")
    data = b"\n".join(pieces) + b"\n2 OK\n"
    events = whole.receive(data)
    split = [event for at in range(0, len(data), step) for event in parts.receive(data[at : at + step])]
    assert split == events and Answer(2, "OK", "") in events
