"""Counters and gauges by name: written where things happen, read by monitors (pages, SNMP, metrics, events)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Counter", "Gauge", "Statistics"]


class Counter:
    """A number that only grows; hold the object and `add` to it, which costs one addition."""

    __slots__ = ("help", "name", "value")

    def __init__(self, name: str, help: str) -> None:
        self.name = name
        self.help = help
        self.value = 0

    def add(self, amount: int = 1) -> None:
        self.value += amount


class Gauge(NamedTuple):
    """A number that is asked for when somebody looks."""

    name: str
    help: str
    read: Callable[[], float]


class Statistics:
    """All counters and gauges of a server. Names are dotted, the room first: `smtp.received`."""

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}

    def counter(self, name: str, help: str = "") -> Counter:
        """The counter of that name, made at the first call."""
        if name in self._gauges:
            raise ValueError(f"{name} is a gauge")
        if name not in self._counters:
            self._counters[name] = Counter(name, help)
        return self._counters[name]

    def gauge(self, name: str, read: Callable[[], float], help: str = "") -> None:
        """Declare a gauge; a second one of the same name takes its place (a restarted component declares again)."""
        if name in self._counters:
            raise ValueError(f"{name} is a counter")
        self._gauges[name] = Gauge(name, help, read)

    def counters(self) -> tuple[Counter, ...]:
        return tuple(self._counters.values())

    def gauges(self) -> tuple[Gauge, ...]:
        return tuple(self._gauges.values())

    def snapshot(self) -> dict[str, float]:
        """All values now."""
        values: dict[str, float] = {counter.name: counter.value for counter in self._counters.values()}
        for gauge in self._gauges.values():
            values[gauge.name] = gauge.read()
        return values
