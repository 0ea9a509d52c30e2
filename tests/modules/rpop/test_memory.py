"""What is remembered of remote accounts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.modules.rpop.memory import Mark, Memory, Numbers, plain_uid

KEY = "POP a@b"


@given(st.lists(st.integers(1, 60)), st.sets(st.integers(1, 60)))
@settings(max_examples=100, deadline=None)
def test_numbers_are_a_set(added: list[int], listed: set[int]) -> None:
    numbers = Numbers()
    for number in added:
        numbers.add(number)
    assert all((n in numbers) == (n in added) for n in range(65))
    assert all((n in Numbers(str(numbers))) == (n in added) for n in range(65))
    numbers.keep(sorted(listed))
    assert all((n in numbers) == (n in added) for n in listed)


@pytest.mark.parametrize("text", ["x", "5:3", "1:99999999999", "1,,2", "3,1"])
def test_damaged_numbers_are_no_trouble(text: str) -> None:
    assert 7 not in Numbers(text)


@pytest.mark.feature("RPOP-016")
def test_uids_of_any_form() -> None:
    raw = [b"abc", b"a b", b"x" * 500, b"\xff", b"sha256:cheat", b"-1"]
    assert len({plain_uid(one) for one in raw}) == len(raw)
    assert plain_uid(b"abc") == "abc" and " " not in plain_uid(b"a b")


def test_it_comes_back_as_it_was() -> None:
    memory = Memory()
    memory.add("u1", 5)
    memory.add("u2", 9)
    memory.refuse("u3", "too large")
    memory.succeeded(100, "")
    again = Memory(memory.render())
    assert again.has("u1") and again.has("u2") and not again.has("u3") and again.refused("u3")
    assert (again.last, again.message, list(again.refusals)) == (100, 9, ["too large"])
    again.keep(["u2"])
    assert not again.has("u1") and not again.refused("u3") and again.has("u2")
    again.forget(["u2"])
    assert not again.has("u2")


def test_marks_that_are_older_than_the_file_say_nothing_new() -> None:
    memory = Memory({"Message": "7"})
    assert not memory.merge(7, Mark("", KEY, "old"))
    assert memory.merge(8, Mark("", KEY, "new")) and memory.has("new") and not memory.has("old")
    assert memory.merge(9, Mark("", "IMAP a@b/INBOX", "3/12")) and memory.has("3/12") and memory.validity == 3


def test_a_mark_survives_its_text() -> None:
    mark = Mark("ann@box.test", KEY, "u/1 x")
    assert Mark.parse(mark.render()) == mark
    assert Mark.parse("x") is None and Mark.parse("a\n\nb") is None


def test_another_validity_means_other_messages() -> None:
    memory = Memory()
    memory.begin(3)
    memory.add("3/5", 1)
    assert memory.has("3/5")
    memory.begin(4)
    assert not memory.has("4/5") and not memory.has("3/5")
