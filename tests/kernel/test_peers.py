"""What an address is."""

import pytest
import trio
import trio.testing

from appliance.kernel.clock import TrioClock
from appliance.kernel.peers import IP_ADDRESSES, PeerKind, Peers, same_address
from appliance.kernel.settings import MemoryStorage, Settings


def peers() -> Peers:
    return Peers(Settings(IP_ADDRESSES, MemoryStorage()), TrioClock())


async def test_lists_count_at_once() -> None:
    known = peers()
    assert known.kind("192.0.2.7") == PeerKind.STRANGER
    await known.settings.update({"ClientAddresses": "192.0.2.0-192.0.2.9 ; the LAN\n2001:db8::/32"})
    assert known.kind("192.0.2.7") == PeerKind.CLIENT == known.kind("2001:db8::1")
    assert known.kind("192.0.2.10") == PeerKind.STRANGER
    await known.settings.update({"DeniedAddresses": "192.0.2.7\n127.0.0.0/8"})
    assert known.kind("192.0.2.7") == PeerKind.DENIED
    assert known.kind("127.0.0.1") == PeerKind.SELF and not known.denied("127.0.0.1")
    known.member = lambda address: address == "198.51.100.1"
    assert known.kind("198.51.100.1") == PeerKind.MEMBER


@pytest.mark.feature("PROT-033")
async def test_log_ins_from_this_computer_are_always_possible() -> None:
    known = peers()
    assert known.may_log_in("203.0.113.1")
    await known.settings.update({"ClientOnly": "YES"})
    assert not known.may_log_in("203.0.113.1")
    assert known.may_log_in("127.0.0.1") and known.may_log_in("::1")
    await known.settings.update({"ClientAddresses": "203.0.113.1"})
    assert known.may_log_in("203.0.113.1")


@pytest.mark.feature("PROT-042", "PROT-043", "PROT-045")
async def test_a_mobile_user_makes_his_address_a_client(autojump_clock: trio.testing.MockClock) -> None:
    known = peers()
    known.logged_in("203.0.113.1")
    assert not known.client("203.0.113.1")  # the switch is off
    known.logged_out("203.0.113.1")
    await known.settings.update({"RememberMobile": "YES", "KeepMobile": "10m", "MobileLimit": "2"})
    known.logged_in("203.0.113.1")
    known.logged_in("203.0.113.1")
    assert known.client("203.0.113.1") and not known.listed("203.0.113.1")
    known.logged_out("203.0.113.1")
    await trio.sleep(3600)
    assert known.client("203.0.113.1")  # one session is still open
    known.logged_out("203.0.113.1")
    await trio.sleep(599)
    assert known.client("203.0.113.1")
    await trio.sleep(2)
    assert not known.client("203.0.113.1")
    for last in (2, 3, 4):
        known.logged_in(f"203.0.113.{last}")
    assert [known.client(f"203.0.113.{last}") for last in (2, 3, 4)] == [True, True, False], "these are here"
    known.logged_out("203.0.113.3")
    known.logged_in("203.0.113.5")
    assert [known.client(f"203.0.113.{last}") for last in (2, 3, 5)] == [True, False, True], "the oldest who has gone"


def test_one_site_counts_as_one_address() -> None:
    assert same_address("192.0.2.1") == "192.0.2.1"
    assert same_address("2001:db8::1") == same_address("2001:db8::ffff:1") != same_address("2001:db8:0:1::1")
    assert same_address("::ffff:192.0.2.1") == "192.0.2.1"
