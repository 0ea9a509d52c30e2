"""Texts for clients, and the counters that monitors read."""

import pytest

from appliance.kernel.settings import MemoryStorage
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings


async def test_texts_have_macros_and_can_be_changed() -> None:
    storage = MemoryStorage({"POP.Greeting": "Hello from ^0, ^^ ^1 ^X ^(who)", "Unknown": "kept", "Bad": ["x"]})
    strings = Strings(storage)
    strings.declare("POP.Greeting", "^0 ready")
    strings.declare("POP.Bye", "bye, ^(who)")
    strings.declare("POP.Bye", "bye, ^(who)")
    with pytest.raises(ValueError, match="twice"):
        strings.declare("POP.Bye", "so long")
    assert strings.text("POP.Greeting", "mail.example") == "mail.example ready"
    await strings.load()
    assert strings.text("POP.Greeting", "a", X=5) == "Hello from a, ^ ^1 5 ^(who)"
    assert strings.text("POP.Bye", who="^0") == "bye, ^0"
    assert strings.wire("POP.Bye", who="a\r\n+OK b") == b"bye, a +OK b"
    await strings.change({"POP.Greeting": None, "POP.Bye": "ciao"})
    assert strings.text("POP.Greeting", "x") == "x ready" and strings.text("POP.Bye") == "ciao"
    assert storage.values == {"POP.Bye": "ciao", "Unknown": "kept", "Bad": ["x"]}
    assert next(iter(strings)) == ("POP.Bye", "bye, ^(who)", "ciao")


def test_counters_and_gauges_are_read_by_name() -> None:
    statistics = Statistics()
    received = statistics.counter("smtp.received", "messages")
    received.add()
    received.add(2)
    statistics.gauge("smtp.channels", lambda: 7)
    assert statistics.counter("smtp.received") is received
    assert statistics.snapshot() == {"smtp.received": 3, "smtp.channels": 7}
    with pytest.raises(ValueError):
        statistics.counter("smtp.channels")
