"""SMTP's steps in the router, and the names of queues."""

from __future__ import annotations

import pytest

from appliance.kernel.settings import MemoryStorage, Settings
from appliance.modules.smtp.retries import retry_delay, warning_ages
from appliance.modules.smtp.routing import SmtpRouting, Target, envelope_address, parse_queue
from appliance.modules.smtp.settings import SMTP
from appliance.router.parsing import parse
from appliance.router.route import Address, Purpose, Refused, Rewritten, Route


async def go(text: str, purpose: Purpose = Purpose.MAIL, **values: str) -> str:
    settings = Settings(SMTP, MemoryStorage(dict(values)))
    await settings.load()
    routing = SmtpRouting(settings)
    address = Address(*parse(text), text, purpose, True, False)
    for name, step in (("first", routing.first), ("final", routing.final)):
        try:
            answer: Route | Rewritten | None = await step(address)
        except Refused as refused:
            return f"refused {refused.code}"
        if isinstance(answer, Route):
            return f"{name} {answer.module} {answer.host} {answer.address}"
    return "-"


@pytest.mark.feature("SMTP-121", "SMTP-122", "SMTP-123", "SMTP-124", "SMTP-125", "SMTP-126")
@pytest.mark.parametrize(
    ("text", "goes"),
    [
        ("u@[10.0.0.5]", "first SMTP [10.0.0.5] u@[10.0.0.5]"),
        ("u@10.0.0.5", "first SMTP [10.0.0.5] u@[10.0.0.5]"),
        ("u@[10.0.0.5:26]", "first SMTP [10.0.0.5:26] u@[10.0.0.5]"),
        ("u@[IPv6:2001:db8::1]", "first SMTP [IPv6:2001:db8::1] u@[IPv6:2001:db8::1]"),
        ("u@[nothing]", "refused 5.1.2"),
        ("u@[10.0.0.5:99999]", "refused 5.1.2"),
        ("u%client1.com@host.com.smtp", "first SMTP host.com u@client1.com"),
        ("u%a%b@host.com.smtp", "first SMTP host.com u%a@b"),
        ("u@Host.com.smtp", "first SMTP host.com u@host.com"),
        ("u@nodot.smtp", "first SMTP nodot u@nodot"),
        ("u@mail.x.test.26.smtp", "first SMTP mail.x.test:26 u@mail.x.test"),
        ("u@127.0.0.1.26.smtp", "first SMTP [127.0.0.1:26] u@[127.0.0.1]"),
        ("u@127.0.0.1.smtp", "first SMTP [127.0.0.1] u@[127.0.0.1]"),
        ("u@[127.0.0.1].smtp", "first SMTP [127.0.0.1] u@[127.0.0.1]"),
        ("u%client1.com@[127.0.0.1:26].smtp", "first SMTP [127.0.0.1:26] u@client1.com"),
        ("u@.smtp", "refused 5.1.2"),
        ("u@X.test", "final SMTP x.test u@x.test"),
        ("u%client1.com@host.com", "final SMTP host.com u%client1.com@host.com"),
        ("u@nodot", "-"),
        ("Client1.com-wakeup", "first SMTP wakeup:client1.com Client1.com-wakeup"),
        ("nodot-wakeup", "-"),
        ("u", "-"),
    ],
)
async def test_where_addresses_go(text: str, goes: str) -> None:
    assert await go(text) == goes


@pytest.mark.feature("SMTP-072", "SMTP-123", "SMTP-074")
async def test_forwarding_takes_the_final_round_only() -> None:
    forward = "Smart.test"
    assert await go("u@x.test", ForwardTo=forward) == "final SMTP smart.test u@x.test"
    assert await go("u@[10.0.0.5]", ForwardTo=forward) == "first SMTP [10.0.0.5] u@[10.0.0.5]"
    assert await go("u@x.test.smtp", ForwardTo=forward) == "first SMTP x.test u@x.test"
    assert await go("wakeup@x.test", Purpose.WAKEUP, ForwardTo=forward) == "final SMTP x.test wakeup@x.test"
    assert await go("u@x.test", Purpose.ACCESS, ForwardTo=forward) == "-"


@pytest.mark.parametrize(
    ("queue", "target"),
    [
        ("x.test", Target("", "x.test", 0, False)),
        ("x.test:26", Target("", "x.test", 26, True)),
        ("[10.0.0.5]", Target("10.0.0.5", "[10.0.0.5]", 0, True)),
        ("[10.0.0.5:26]", Target("10.0.0.5", "[10.0.0.5:26]", 26, True)),
        ("[IPv6:::1]", Target("::1", "[IPv6:::1]", 0, True)),
        ("[::1]:26", Target("::1", "[::1]:26", 26, True)),
    ],
)
def test_names_of_queues(queue: str, target: Target) -> None:
    assert parse_queue(queue) == target


@pytest.mark.parametrize("queue", ["", "a b", "x:y", "x.test:70000", "[1.2.3]"])
def test_what_names_no_queue(queue: str) -> None:
    with pytest.raises(ValueError, match=r"host|port"):
        parse_queue(queue)


def test_envelope_addresses() -> None:
    assert envelope_address("u%a") == "u@a"
    assert envelope_address("u%a@b") == "u%a@b"
    assert envelope_address("%a") == "%a"


@pytest.mark.feature("SMTP-076", "SMTP-078")
async def test_intervals() -> None:
    settings = Settings(SMTP, MemoryStorage())
    assert [retry_delay(settings, age) for age in (0, 1799, 1800, 90000)] == [1800, 1800, 3600, 3600]
    assert warning_ages(settings) == (10800,)
    await settings.update({"WarnAfter": "1d,3h,soon,0"})
    assert warning_ages(settings) == (10800, 86400)
