import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats import addresses
from appliance.formats.addresses import AddressError, Path, parse_path, parse_path_prefix


@pytest.mark.parametrize(
    ("wire", "path"),
    [
        (b"<>", Path("", "")),
        (b"<user@example.com>", Path("user", "example.com")),
        (b" <User.Name+tag@Example.COM.>", Path("User.Name+tag", "Example.COM")),
        (b"<postmaster>", Path("postmaster", "")),
        (b'<"two words"@example.com>', Path("two words", "example.com")),
        (rb'<"q\"\\u>@"@example.com>', Path('q"\\u>@', "example.com")),
        (b"<@a.com,@b.com:user@c.com>", Path("user", "c.com", ("a.com", "b.com"))),
        (b"<user@[10.0.0.1]>", Path("user", "[10.0.0.1]")),
        (b"<user@[IPv6:2001:db8::1]>", Path("user", "[IPv6:2001:db8::1]")),
        (b"<user@[x-tag:thing]>", Path("user", "[x-tag:thing]")),
        ("<жанна@почта.рф>".encode(), Path("жанна", "почта.рф")),
        (b"user@example.com", Path("user", "example.com")),
        (b"<a..b.@example.com>", Path("a..b.", "example.com")),
        (b"<local%other@example.com>", Path("local%other", "example.com")),
        (b"<FAX=+1234@host_name>", Path("FAX=+1234", "host_name")),
    ],
)
def test_paths(wire: bytes, path: Path) -> None:
    assert parse_path(wire) == path
    assert parse_path(str(path).encode()) == path._replace(route=())


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"<",
        b"<user@example.com",
        b"<user@>",
        b"<@example.com>",
        b"<us er@example.com>",
        b"<user@-example.com>",
        b"<user@exa..mple.com>",
        b"<user@[300.0.0.1]>",
        b"<user@[IPv6:zz]>",
        b"<user@[10.0.0.1>",
        b'<""@example.com>',
        b'<"open@example.com>',
        b"<\xff@example.com>",
        b"<a@b@c>",
        b"<user@example.com>x",
        b"<u\x00ser@example.com>",
        b"<" + b"a" * 65 + b"@example.com>",
        b"<a@" + b"b" * 64 + b".com>",
        b"<a@" + b"b." * 128 + b"com>",
        b"<" + b"a" * 60 + b"@" + b"b." * 97 + b"c>",
        b"<@" + b"a" * 300 + b":user@example.com>",
    ],
)
def test_refused(wire: bytes) -> None:
    with pytest.raises(AddressError):
        parse_path(wire)


def test_bounds_of_the_standard_are_reached() -> None:
    assert parse_path(b"<" + b"a" * 64 + b"@example.com>").local == "a" * 64
    longest = b"<" + b"a" * 60 + b"@" + b"b." * 96 + b"c>"
    assert len(longest) == 256
    assert len(parse_path(longest).domain) == 193
    assert len(parse_path(b"<" + b"a" * 100 + b"@example.com>", max_local=200).local) == 100


def test_prefix_leaves_the_parameters() -> None:
    for wire in (b'<"a b>"@c.com> SIZE=5', b"a@c.com SIZE=5", b"<> SIZE=5", "<é@c.com> SIZE=5".encode()):
        _, end = parse_path_prefix(wire)
        assert wire[end:] == b" SIZE=5"


def test_split_and_join() -> None:
    assert addresses.split_address('"a@b"@c.com') == ("a@b", "c.com")
    assert addresses.split_address("a@b@c.com") == ("a@b", "c.com")
    assert addresses.split_address("joe") == ("joe", "")
    assert addresses.join_address("a@b", "c.com") == '"a@b"@c.com'
    assert addresses.join_address("joe", "") == "joe"
    assert addresses.parse_address('"two words"@c.com') == ("two words", "c.com")
    with pytest.raises(AddressError):
        addresses.parse_address("a@c.com, b@c.com")


def test_literals() -> None:
    assert addresses.literal_address("[10.0.0.1]") == ipaddress.ip_address("10.0.0.1")
    assert addresses.literal_address("[IPv6:::1]") == ipaddress.ip_address("::1")
    assert addresses.literal_address("example.com") is None


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_local_part_can_be_quoted(local: str) -> None:
    quoted = addresses.quote_local(local)
    assert addresses.unquote_local(quoted) == local
    assert addresses.split_address(quoted + "@c.com") == (local, "c.com")
    if len(local.encode()) <= 64:
        assert parse_path(f"<{quoted}@c.com>".encode()) == Path(local, "c.com")


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('<>@a.,:"\\[] é\x00'), max_size=20).map(str.encode) | st.binary(max_size=30))
def test_any_bytes_are_a_path_or_an_error(wire: bytes) -> None:
    try:
        path, end = parse_path_prefix(wire)
    except AddressError:
        return
    assert 0 <= end <= len(wire)
    assert parse_path(str(path).encode(), max_local=100)[:2] == path[:2]
