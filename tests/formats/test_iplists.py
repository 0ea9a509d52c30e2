import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.iplists import AddressList, AddressListError, parse_address

LIST = """; our networks
192.168.0.4-192.168.0.8 ; this is a comment

10.34.50.01-10.34.59.99 % leading zeros
[172.16.0.5] - the printer
  % nothing here
- nor here
127.0.0.0/8
2001:db8::/32 ; documentation
fe80::1 - fe80::ff - link
1.2.3.4-5.6.7.8"""


@pytest.mark.feature("DATA-030", "LSN-042")
@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("192.168.0.3", False),
        ("192.168.0.4", True),
        ("192.168.0.6", True),
        ("192.168.0.8", True),
        ("192.168.0.9", False),
        ("10.34.50.0", False),
        ("10.34.50.1", True),
        ("10.34.59.99", True),
        ("172.16.0.5", True),
        ("[172.16.0.5]", True),
        ("172.16.0.6", False),
        ("127.255.255.255", True),
        ("128.0.0.0", False),
        ("2001:db8:ffff::1", True),
        ("[2001:db9::]", False),
        ("fe80::80", True),
        ("::ffff:192.168.0.6", True),
        ("nonsense", False),
    ],
)
def test_addresses(address: str, inside: bool) -> None:
    assert (address in AddressList.parse(LIST)) is inside
    if inside and address != "nonsense":
        assert parse_address(address) in AddressList.parse(LIST.replace("\n", "\r\n"))


@pytest.mark.feature("DATA-030")
def test_text_and_comments_are_kept() -> None:
    parsed = AddressList.parse(LIST)
    assert parsed.text == LIST
    assert [entry.comment for entry in parsed.entries] == [
        "this is a comment",
        "leading zeros",
        "the printer",
        "",
        "documentation",
        "link",
        "",
    ]
    assert AddressList.parse(LIST) == parsed
    assert not AddressList.parse("; nobody\n")


@pytest.mark.parametrize(
    "line",
    [
        "300.1.1.1",
        "1.2.3",
        "host.dom",
        "1.2.3.4 5.6.7.8",
        "1.2.3.9-1.2.3.4",
        "1.2.3.4-::1",
        "1.2.3.4/33",
        "1.2.3.4-5.6",
    ],
)
def test_error_names_the_line(line: str) -> None:
    with pytest.raises(AddressListError) as caught:
        AddressList.parse("10.0.0.1\n" + line)
    assert caught.value.line == 2


RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(RANGES, st.integers(0, 400))
def test_agrees_with_a_plain_search(ranges: list[tuple[int, int]], number: int) -> None:
    address = ipaddress.IPv4Address(number)
    text = "\n".join(f"{ipaddress.IPv4Address(a)}-{ipaddress.IPv4Address(a + n)}" for a, n in ranges)
    assert (address in AddressList.parse(text)) == any(a <= number <= a + n for a, n in ranges)


@settings(max_examples=100, deadline=None)
@given(st.text("0123456789.:abf/-;%[] \n\r", max_size=40) | st.text(max_size=20))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    try:
        AddressList.parse(text)
    except AddressListError:
        pass
