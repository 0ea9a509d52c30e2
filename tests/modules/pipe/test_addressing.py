"""Addresses of programs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.modules.pipe.addressing import PipeAddress, is_tame, parse_pipe


@pytest.mark.feature("PIPE-050", "PIPE-062", "PIPE-063", "PIPE-068", "PIPE-072", "PIPE-051")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("execjoe", PipeAddress("execjoe")),
        ("execjoe -l store", PipeAddress("execjoe", ("-l", "store"))),
        ("execall\\ -u\\ joe", PipeAddress("execall", ("-u", "joe"))),
        ('prog "two words" x"y z" $HOME;`id`', PipeAddress("prog", ("two words", "xy z", "$HOME;`id`"))),
        ("queue[PROC1] procin -mark", PipeAddress("procin", ("-mark",), queue="PROC1")),
        ("[RCPT][FILE] prog", PipeAddress("prog", (), frozenset({"RCPT", "FILE"}))),
        ("[retpath]queue[A1][STDERR]prog a", PipeAddress("prog", ("a",), frozenset({"RETPATH", "STDERR"}), "A1")),
        ("queue[q] [FILE] prog [FILE]", PipeAddress("prog", ("[FILE]",), frozenset({"FILE"}), "q")),
    ],
)
def test_programs_tags_and_queues(text: str, expected: PipeAddress) -> None:
    assert parse_pipe(text) == expected


BAD = ["", "  ", "[FILE]", "../sh", "/bin/sh", "a/b", "..", ".x", "a\\b", '"/bin/sh" x', "queue[a b] prog", "queue[] p"]
BAD += ["queue[a] queue[b] p", "queue[x" + "y" * 64 + "] p", "p\0q", "p " + "a " * 200]


@pytest.mark.feature("PIPE-053")
@pytest.mark.parametrize("text", BAD)
def test_nothing_outside_of_the_directory(text: str) -> None:
    with pytest.raises(ValueError):
        parse_pipe(text)


def test_names_that_stay_one_word() -> None:
    assert is_tame("joe.miller+x") and is_tame("jürgen")
    assert not any(map(is_tame, ["joe x", "-x", 'a"b', "a\\ b", "[FILE]", "a\tb", "a'b"]))


@given(st.text(alphabet='ab/\\. "[]FILEqueue\0\n-', max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_name_of_the_directory_or_nothing(text: str) -> None:
    try:
        found = parse_pipe(text)
    except ValueError:
        return
    assert found.program and found.program not in (".", "..") and not set(found.program) & set("/\\\0\n")
