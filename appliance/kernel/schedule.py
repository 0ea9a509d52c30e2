"""The TCP Activity Schedule: when this server may make outgoing traffic (manual, chapter 15).

Without a row there is no restriction. A row names days, a window of local time (over midnight if it ends before it begins;
the day is the one of its beginning), and a pause. What goes out does so within `async with schedule.session(kind)`, which
waits until it may. A *TCP session* of the line begins with the first of them and ends when none is left; the pause counts
from its end. When a window ends, what runs may finish and nothing new begins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar, Token
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any, Final

import trio

from appliance.formats.data import Value
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, Operations, Right
from appliance.kernel.settings import Choice, Group, Kind, LogLevel, Rows, Setting, Settings, Time

__all__ = ["SCHEDULE", "SCHEDULE_LOG", "Schedule", "Session", "declare"]

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_GROUPS: Final = {"Every day": range(7), "Weekdays": range(5), "Weekends": range(5, 7)}
_LOOK: Final = 60.0  # seconds between two looks at the clock, which may be set meanwhile
_TIME = re.compile(r"\s*([0-9]{1,2}):([0-9]{2})\s*")


class TimeOfDay(Kind[int]):
    """`HH:MM` as seconds after midnight; 24:00 is the end of the day."""

    def parse(self, value: Value) -> int:
        match = _TIME.fullmatch(value) if isinstance(value, str) else None
        if match is None or int(match[2]) > 59 or int(match[1]) * 60 + int(match[2]) > 1440:
            raise ValueError("a time of day such as 19:30 is expected")
        return int(match[1]) * 3600 + int(match[2]) * 60

    def render(self, value: int) -> Value:
        return f"{value // 3600:02d}:{value % 3600 // 60:02d}"


DAY = Setting("Day", Choice("Never", "Every day", *_DAYS, "Weekdays", "Weekends"), "Never", "Day(s) of Week")
FROM = Setting("From", TimeOfDay(), 0, "When")
TO = Setting("To", TimeOfDay(), 86400, "-")
PAUSE = Setting("Pause", Time(0, 86400), 0, "Pause")

Row = Mapping[str, Any]


class _Elements(Rows):
    """The table; a row for the day Never is left out: so the page removes one."""

    def parse(self, value: Value) -> tuple[Row, ...]:
        return tuple(row for row in super().parse(value) if row[DAY.key] != "Never")


ELEMENTS: Setting[tuple[Row, ...]] = Setting("Schedule", _Elements(DAY, FROM, TO, PAUSE, limit=100), (), "Schedule")
SCHEDULE_LOG = Setting("LogLevel", LogLevel(), 2, "Log")
SCHEDULE = Group("Schedule", "TCP Activity Schedule", (SCHEDULE_LOG, ELEMENTS))


def _on_day(row: Row, weekday: int) -> bool:
    day = row[DAY.key]
    return weekday in _GROUPS[day] if day in _GROUPS else _DAYS[weekday] == day


def _in_window(row: Row, local: datetime) -> bool:
    second = local.hour * 3600 + local.minute * 60 + local.second
    begin, end = row[FROM.key], row[TO.key]
    if begin < end:
        return begin <= second < end and _on_day(row, local.weekday())
    if second >= begin:
        return _on_day(row, local.weekday())
    return second < end and _on_day(row, (local.weekday() - 1) % 7)


class Schedule:
    """The answers, and the sessions that are under way."""

    def __init__(self, settings: Settings, clock: Clock, log: Logger) -> None:
        self.settings = settings
        self.active = 0
        """Sessions under way."""
        self._clock = clock
        self._log = log
        self._ended = float("-inf")
        self._changed = trio.Event()
        self._inside: ContextVar[bool] = ContextVar("inside a session", default=False)
        settings.watch(lambda changed: self._wake())

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    @property
    def unlimited(self) -> bool:
        """There is no schedule: something may go out at any time."""
        return not self.settings[ELEMENTS]

    def window_open(self) -> bool:
        """Whether the time of day allows traffic."""
        rows = self.settings[ELEMENTS]
        if not rows:
            return True
        local = self._clock.local(self._clock.now())
        return any(_in_window(row, local) for row in rows)

    def open_now(self) -> bool:
        """Whether something may go out now: within a window, and the pause is over or a TCP session is under way."""
        return self.until_open() == 0

    def until_open(self) -> float:
        """Seconds until something may go out: 0 now, infinite if no window ever opens."""
        rows = self.settings[ELEMENTS]
        if not rows:
            return 0.0
        now = self._clock.now()
        local = self._clock.local(now)
        best = float("inf")
        for row in rows:
            pause = 0.0 if self.active else max(0.0, self._ended + row[PAUSE.key] - now)
            if _in_window(row, local):
                if not pause:
                    return 0.0
                if _in_window(row, self._clock.local(now + pause)):
                    best = min(best, pause)
                    continue
            best = min(best, max(self._next_begin(row, local, now), pause))
        return best

    def _next_begin(self, row: Row, local: datetime, now: float) -> float:
        """Seconds to the next moment at which a window of this row begins."""
        for ahead in range(9):
            day = local.date() + timedelta(days=ahead)
            if _on_day(row, day.weekday()):
                moment = self._moment(day, row[FROM.key], now)
                if moment > now:
                    return moment - now
        return float("inf")

    def _moment(self, day: date, second: int, now: float) -> float:
        """When the local clock shows that time; the zone's offset may be another one then."""
        wanted = datetime(day.year, day.month, day.day) + timedelta(seconds=second)
        moment = now + (wanted - self._clock.local(now).replace(tzinfo=None)).total_seconds()
        return moment + (wanted - self._clock.local(moment).replace(tzinfo=None)).total_seconds()

    def permits(self) -> bool:
        """Whether this task may send packets now: it is within a session, or one could begin."""
        return self._inside.get() or self.open_now()

    def session(self, kind: str, *, override: bool = False, address: str = "") -> Session:
        """`async with schedule.session("SMTPO"):` waits until it may go out.

        `override`: a person asked for it (Wake Up Now, a queue released by hand). An `address` on this computer
        (loopback) is no traffic. Within another session it begins at once.
        """
        return Session(self, kind, override, address)

    async def wait_open(self) -> None:
        """Until something may go out."""
        while (wait := self.until_open()) > 0:
            changed = self._changed
            with trio.move_on_after(min(wait, _LOOK)):
                await changed.wait()

    def _begin(self, kind: str) -> None:
        self.active += 1
        if self.active == 1:
            self._log.major("TCP session begins: %s", kind)
        else:
            self._log.low("%s joins the TCP session", kind)

    def _end(self, kind: str) -> None:
        self.active -= 1
        if self.active:
            self._log.low("%s leaves the TCP session", kind)
            return
        self._ended = self._clock.now()
        self._log.major("TCP session ends")
        self._wake()


class Session:
    """The right to make outgoing traffic, as a context manager."""

    __slots__ = ("_address", "_counted", "_kind", "_override", "_schedule", "_token")

    def __init__(self, schedule: Schedule, kind: str, override: bool, address: str) -> None:
        self._schedule = schedule
        self._kind = kind
        self._override = override
        self._address = address
        self._counted = False
        self._token: Token[bool] | None = None

    async def __aenter__(self) -> None:
        schedule = self._schedule
        await trio.lowlevel.checkpoint()
        if schedule._inside.get() or self._address.startswith("127.") or self._address == "::1":
            return
        wait = schedule.until_open()
        if wait and self._override:
            schedule._log.major("%s is asked for by hand and does not wait for the schedule", self._kind)
        elif wait:
            schedule._log.low("%s waits for the schedule", self._kind)
            await schedule.wait_open()
        self._counted = True
        self._token = schedule._inside.set(True)
        schedule._begin(self._kind)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._counted:
            if self._token is not None:
                self._schedule._inside.reset(self._token)
            self._schedule._end(self._kind)


def declare(operations: Operations, schedule: Schedule) -> None:
    """Declare the operation that shows the state of the line."""

    @operations.declare(
        "GETSCHEDULESTATUS",
        right=Right.MONITOR,
        summary="Shows whether outgoing traffic is allowed now.",
        result="A dictionary: Open, Seconds (until it opens, absent if never), Sessions.",
        section="Schedule",
    )
    async def status(caller: Caller) -> Value | None:
        wait = schedule.until_open()
        answer: dict[str, Value] = {"Open": "NO" if wait else "YES", "Sessions": str(schedule.active)}
        if wait and wait != float("inf"):
            answer["Seconds"] = str(int(wait))
        return answer
