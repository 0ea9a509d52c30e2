"""Records of remote accounts as somebody writes them."""

from __future__ import annotations

import pytest

from appliance.formats.data import Value
from appliance.modules.rpop.records import RecordError, checked, read
from appliance.modules.rpop.settings import HOST, HostPort

KEY = b"k" * 32
RECORD: dict[str, Value] = {"authName": "office", "domain": "pop.far.test", "password": "pw", "period": "10m"}


def test_a_record_is_stored_in_its_own_spelling() -> None:
    (stored,) = checked([{**RECORD, "Leave": "1", "tls": "yes", "apop": "no", "Mine": "x"}], KEY)
    assert isinstance(stored, dict)
    assert list(stored) == ["period", "authName", "domain", "password", "leave", "APOP", "TLS", "Mine"]
    assert (stored["leave"], stored["TLS"], stored["APOP"], stored["Mine"]) == ("YES", "YES", "NO", "x")
    remote = read(stored)
    assert remote.secret(KEY) == "pw" and remote.secret(b"x" * 32) is None
    assert remote.port(remote.hosts[0]) == 995 and remote.implicit_tls(remote.hosts[0])
    assert "pw" not in repr(remote)


def test_the_same_password_again_changes_nothing() -> None:
    first = checked([RECORD], KEY)
    assert checked([RECORD], KEY, before=first) == first
    assert checked([{**RECORD, "password": "other"}], KEY, before=first) != first
    assert checked(first, KEY, before=first) == first


@pytest.mark.feature("RPOP-010", "RPOP-011")
@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("pop.far.test", [("pop.far.test", 0)]),
        ("POP.far.test:111", [("pop.far.test", 111)]),
        ("10.0.0.1, 10.0.0.2:111", [("10.0.0.1", 0), ("10.0.0.2", 111)]),
        ("::1,[::1]:111,[10.0.0.1]", [("::1", 0), ("::1", 111), ("10.0.0.1", 0)]),
    ],
)
def test_hosts(text: str, hosts: list[tuple[str, int]]) -> None:
    parsed = HOST.kind.parse(text)
    assert parsed == tuple(HostPort(*host) for host in hosts)
    assert HOST.kind.parse(HOST.kind.render(parsed)) == parsed


@pytest.mark.parametrize(
    "text", ["", ",", "a b", "x:0", "x:99999", "x:y", "-x", "a..b", "user@host", ",".join("abcdefghijkl")]
)
def test_no_hosts(text: str) -> None:
    with pytest.raises(ValueError):
        HOST.kind.parse(text)


@pytest.mark.parametrize(
    "change",
    [{"domain": "x y"}, {"authName": ""}, {"leave": "perhaps"}, {"TLS": "SSL"}, {"period": "2y"}, {"password": "a\nb"}],
)
def test_what_is_wrong_is_told_with_its_row(change: dict[str, Value]) -> None:
    with pytest.raises(RecordError, match="record 2"):
        checked([RECORD, {**RECORD, "authName": "other", **change}], KEY)


def test_the_same_mailbox_twice_is_refused() -> None:
    with pytest.raises(RecordError, match="twice"):
        checked([RECORD, {**RECORD, "leave": "YES"}], KEY)
    assert (
        len(checked([RECORD, {**RECORD, "protocol": "IMAP"}, {**RECORD, "protocol": "IMAP", "mailbox": "B"}], KEY)) == 3
    )


def test_encryption_by_port() -> None:
    for port, implicit in ((110, False), (995, True), (111, True)):
        remote = read({**RECORD, "TLS": "YES", "domain": f"h.test:{port}"})
        assert remote.implicit_tls(remote.hosts[0]) == implicit and remote.must_encrypt
    assert not read({**RECORD, "TLS": "STLS"}).implicit_tls(HostPort("h", 0))
    assert read({**RECORD, "protocol": "IMAP", "TLS": "YES"}).port(HostPort("h", 0)) == 993
