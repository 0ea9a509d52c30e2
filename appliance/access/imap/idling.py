"""IDLE (RFC 2177): changes are told as they happen, until DONE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from appliance.access.imap.session import Ok, Refused
from appliance.access.imap.settings import IDLE_TIMEOUT
from appliance.kernel.channel import ChannelTimeout
from appliance.kernel.notices import Subscription
from appliance.protocols.imap import Command, Done, Event, render

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession


class _Waiting:
    """Ends a wait for the client's next line when news come."""

    __slots__ = ("fresh", "news", "scope")

    def __init__(self, news: Subscription) -> None:
        self.news = news
        self.fresh = False
        self.scope: trio.CancelScope | None = None

    async def watch(self) -> None:
        while True:
            await self.news.wait()
            self.fresh = True
            if self.scope is not None:
                self.scope.cancel()

    async def line(self, session: ImapSession) -> Event | None:
        """The client's next line, None at the end of the stream. Raises ChannelTimeout."""
        deadline = trio.current_time() + session.around.settings[IDLE_TIMEOUT]
        while True:
            self.fresh = False
            await session.tell_alerts()
            await session.tell(expunge=True, ask=True)
            if session.watch is not None:  # the same events as without IDLE (RFC 5465, 4)
                await session.watch.tell(session)
            await session.flush()  # not within the scope: a send that is cut off breaks the connection
            with trio.CancelScope(deadline=deadline) as self.scope:
                if not self.fresh:
                    return await session.next_event()
            self.scope = None
            if trio.current_time() >= deadline:
                session.put(render.bye(session.around.strings.text("IMAPTimeout")))
                await session.flush()
                raise ChannelTimeout("the session was idle for too long")


async def idle(session: ImapSession, command: Command) -> Ok:
    account, selected = session.user(), session.selected
    session.put(session.server.idle())
    topics = [("alert", account.name), ("account", account.name), *(selected.news.topics if selected else ())]
    if session.watch is not None:
        topics += session.watch.topics
    event: Event | None = None
    failure: Exception | None = None
    with session.around.notices.subscribe(*topics) as news:
        waiting = _Waiting(news)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.watch)
            try:
                event = await waiting.line(session)
            except Exception as error:  # out of the nursery as itself, not in a group
                failure = error
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    session.busy(True)
    if event is None:
        session.over = True
    elif not isinstance(event, Done):
        raise Refused("expected DONE", bad=True)
    return Ok("IDLE completed")
