"""Notices: short news that sessions wait for (new mail, flags, alerts, changed settings), by topic, without a queue.

A subscriber keeps one wake-up event and the set of topics that changed since it last looked; news merge, so nothing grows.
A notice carries no data: who wakes asks the owner (the gate of the account) what is new.
"""

from __future__ import annotations

from collections.abc import Hashable

import trio


class Subscription:
    """`await wait()` answers the topics that changed since the last wait. Close it, or use it as a context manager."""

    __slots__ = ("_changed", "_event", "_notices", "topics")

    def __init__(self, notices: Notices, topics: tuple[Hashable, ...]) -> None:
        self._notices = notices
        self.topics = topics
        self._changed: set[Hashable] = set()
        self._event: trio.Event | None = None

    def take(self) -> set[Hashable]:
        """The topics that changed, without waiting."""
        changed, self._changed = self._changed, set()
        return changed

    @property
    def pending(self) -> bool:
        """Is there something to `take`?"""
        return bool(self._changed)

    async def arrived(self) -> None:
        """Wait until there is something to `take`."""
        while not self._changed:
            self._event = trio.Event()
            await self._event.wait()

    async def wait(self) -> set[Hashable]:
        await self.arrived()
        return self.take()

    def _wake(self, topic: Hashable) -> None:
        self._changed.add(topic)
        if self._event is not None:
            self._event.set()
            self._event = None

    def close(self) -> None:
        self._notices._remove(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Notices:
    """Topics are hashable values; the accounts room uses ("mailbox", account name, mailbox name) and ("alert", account)."""

    def __init__(self) -> None:
        self._subscribers: dict[Hashable, set[Subscription]] = {}

    def subscribe(self, *topics: Hashable) -> Subscription:
        subscription = Subscription(self, topics)
        for topic in topics:
            self._subscribers.setdefault(topic, set()).add(subscription)
        return subscription

    def publish(self, topic: Hashable) -> None:
        for subscription in self._subscribers.get(topic, ()):
            subscription._wake(topic)

    def _remove(self, subscription: Subscription) -> None:
        for topic in subscription.topics:
            subscribers = self._subscribers.get(topic)
            if subscribers is not None:
                subscribers.discard(subscription)
                if not subscribers:
                    del self._subscribers[topic]
