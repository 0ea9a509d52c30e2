import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.formats import values


@pytest.mark.feature("DATA-033")
@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("50K", 51200),
        ("50k", 51200),
        ("50M", 52428800),
        ("50 m", 52428800),
        ("-1", None),
        ("unlimited", None),
        ("U", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert values.parse_size(text) == size
    assert values.parse_size(values.render_size(size)) == size


@pytest.mark.feature("DATA-034")
@pytest.mark.parametrize(
    ("text", "seconds"), [("45", 45), ("45s", 45), ("30m", 1800), ("2H", 7200), ("7d", 604800), ("0", 0)]
)
def test_times(text: str, seconds: int) -> None:
    assert values.parse_time(text) == seconds
    assert values.parse_time(values.render_time(seconds)) == seconds


def test_canonical_texts() -> None:
    assert [values.render_size(n) for n in (None, 0, 1000, 2048, 1 << 20)] == ["unlimited", "0", "1000", "2K", "1M"]
    assert [values.render_time(n) for n in (0, 45, 90, 1800, 7200, 86400)] == ["0s", "45s", "90s", "30m", "2h", "1d"]
    assert (values.render_boolean(True), values.render_boolean(False)) == ("YES", "NO")
    assert (values.parse_number("25"), values.parse_number("unlimited"), values.render_number(None)) == (
        25,
        None,
        "unlimited",
    )


@pytest.mark.feature("DATA-009")
@pytest.mark.parametrize(
    ("text", "value"), [("YES", True), ("y", True), ("1", True), ("+", True), ("NO", False), ("0", False), ("-", False)]
)
def test_booleans(text: str, value: bool) -> None:
    assert values.parse_boolean(text) is value


@pytest.mark.parametrize("text", ["", "M", "5T", "five", "--1", "1.5M", "٣"])
def test_refused(text: str) -> None:
    for parse in (values.parse_size, values.parse_time, values.parse_number):
        with pytest.raises(ValueError, match="is not a"):
            parse(text)


def test_refused_booleans() -> None:
    for text in ("", "maybe"):
        with pytest.raises(ValueError, match="neither"):
            values.parse_boolean(text)


@given(st.text(max_size=20))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for parse in (values.parse_size, values.parse_time, values.parse_number, values.parse_boolean):
        try:
            parse(text)
        except ValueError:
            pass
