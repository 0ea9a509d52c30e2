"""Connections that are kept for a moment after a queue is empty, because more mail for the same host is likely to come.

Only where mail for the host went out a moment before, and only while no schedule limits the traffic: elsewhere a connection
ends with its queue. Idle ones count as channels, and go as soon as others need theirs. One that the other server has ended, or
on which it has said anything, is not used again.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import trio

from appliance.kernel.channel import Channel
from appliance.kernel.tasks import TaskStatus
from appliance.modules.smtp.dialogue import Dialogue

#: Seconds that an idle connection is kept; servers end one that is idle for longer, at the earliest, after 300 (RFC 5321).
IDLE: Final = 2.0
#: Hosts that got mail so many seconds ago are busy.
BUSY: Final = 10.0
#: Seconds after which a connection ends, however busy: records in the DNS may have changed.
LIFE: Final = 300.0
_REMEMBERED: Final = 1000
_LOOK: Final = 0.5


class Link:
    """A connection that is ready for the next transaction; `name` is the other server's."""

    __slots__ = ("born", "channel", "dialogue", "name", "reused", "until")

    def __init__(self, dialogue: Dialogue, channel: Channel, name: str) -> None:
        self.dialogue = dialogue
        self.channel = channel
        self.name = name
        self.born = trio.current_time()
        self.reused = False
        """The last message went over it in an earlier turn: that it broke meanwhile says nothing about the host."""
        self.until = 0.0
        """While it is kept: when that ends, in trio's time."""


class Keeper:
    """`allowed()` tells whether connections may be kept at all, `room()` how many more may be open."""

    def __init__(self, allowed: Callable[[], bool], room: Callable[[], int]) -> None:
        self._allowed = allowed
        self._room = room
        self._kept: dict[str, list[Link]] = {}
        self._count = 0
        self._served: OrderedDict[str, float] = OrderedDict()
        self._wake: trio.Event | None = None

    def __len__(self) -> int:
        """Idle connections."""
        return self._count

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Ends what was kept long enough; without it nothing is kept."""
        wake = self._wake = trio.Event()
        try:
            task_status.started()
            while True:
                await wake.wait()
                wake = self._wake = trio.Event()
                while self._count:
                    await trio.sleep(_LOOK)
                    self._end(trio.current_time())
        finally:
            self._wake = None
            self._end(float("inf"))

    def take(self, queue: str) -> Link | None:
        """A kept connection for a queue; the caller has to close it, or to give it back."""
        links = self._kept.get(queue)
        while links:
            link = links[-1]
            self._drop(queue, link)
            if link.channel.silent:
                link.reused = True
                return link
            link.channel.close()
        return None

    def give(self, queue: str, link: Link) -> bool:
        """Keep it; False if it is to be ended."""
        now = trio.current_time()
        before = self._served.pop(queue, float("-inf"))
        self._served[queue] = now
        if len(self._served) > _REMEMBERED:
            self._served.popitem(last=False)
        if self._wake is None or now - before > BUSY or now - link.born > LIFE:
            return False
        if not self._allowed() or self._room() < 0:
            return False
        link.until = now + IDLE
        self._kept.setdefault(queue, []).append(link)
        self._count += 1
        self._wake.set()
        return True

    def make_room(self) -> None:
        """A connection is about to be opened: let idle ones go if there would be too many."""
        while self._count and self._room() < 0:
            queue = random.choice(list(self._kept))  # noqa: S311 - the oldest is just what a round of hosts needs next
            link = self._kept[queue][0]
            self._drop(queue, link)
            link.dialogue.leave()

    def clear(self) -> None:
        """End all of them: something changed."""
        self._end(float("inf"))

    def _drop(self, queue: str, link: Link) -> None:
        links = self._kept[queue]
        links.remove(link)
        if not links:
            del self._kept[queue]
        self._count -= 1

    def _end(self, now: float) -> None:
        for queue, links in list(self._kept.items()):
            for link in [link for link in links if link.until <= now]:
                self._drop(queue, link)
                link.dialogue.leave()
