import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.formats.wildcards import match, matches, matches_any, split_list, substitute


@pytest.mark.parametrize(
    ("pattern", "text", "star"),
    [
        ("*.old.com", "Mail.OLD.com", "Mail"),
        ("system-*.my.com", "system-7.my.com", "7"),
        ("dept-*", "dept-", ""),
        ("exact", "Exact", ""),
        ("exact", "exacter", None),
        ("a*a", "a", None),
        ("LoginPage%*", "loginpage%joe", "joe"),
        ("*", "", ""),
        ("x*", "y", None),
        ("*x", "y", None),
    ],
)
def test_one_star(pattern: str, text: str, star: str | None) -> None:
    assert match(pattern, text) == star


def test_case_can_matter() -> None:
    assert match("A*", "ab", casefold=False) is None
    assert match("A*", "Ab", casefold=False) == "b"
    assert not matches("*viagra*", "buy VIAGRA", casefold=False)


def test_two_stars_have_no_answer() -> None:
    with pytest.raises(ValueError, match="more than one"):
        match("*a*", "a")


def test_substitute() -> None:
    assert substitute("postmaster@*-dept.my.com", "sales") == "postmaster@sales-dept.my.com"


@pytest.mark.parametrize(
    ("picture", "text", "fits"),
    [
        ("*@*stalker.com", "a@mail.stalker.com", True),
        ("*viagra*", "buy viagra now", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "ac", False),
        ("ab*ba", "aba", False),
        ("", "", True),
        ("**", "x", True),
        ("*a*a*", "a", False),
    ],
)
def test_pictures(picture: str, text: str, fits: bool) -> None:
    assert matches(picture, text) is fits


def test_lists() -> None:
    names = split_list(" office*.company.com, partner.com ,,")
    assert names == ["office*.company.com", "partner.com"]
    assert matches_any(names, "OFFICE7.company.com")
    assert not matches_any(names, "x.partner.com")


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_agrees_with_the_shell(picture: str, text: str) -> None:
    assert matches(picture, text) == fnmatch.fnmatchcase(text, picture)
