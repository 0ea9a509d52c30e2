import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.kernel.packing import PackingError, Value, pack, unpack

VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_what_is_packed_comes_back(value: Value) -> None:
    assert unpack(pack(value)) == value


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_octets_are_a_value_or_an_error(data: bytes) -> None:
    try:
        unpack(data)
    except PackingError:
        pass


def test_long_octets_and_odd_text() -> None:
    value: Value = [b"x" * 70000, "ä\udcff", -(1 << 63), 1 << 70, ()]
    assert unpack(pack(value)) == [b"x" * 70000, "ä\udcff", -(1 << 63), 1 << 70, []]


def test_limits() -> None:
    nested: Value = []
    for _ in range(40):
        nested = [nested]
    with pytest.raises(TypeError):
        pack(nested)
    with pytest.raises(PackingError):
        unpack(pack([1, 2])[:-1])
    with pytest.raises(PackingError):
        unpack(pack(1) + b"x")
