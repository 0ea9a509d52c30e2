"""NOTIFY: the client says of which mailboxes it wants to hear what, and is told without asking (RFC 5465)."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from appliance.access.imap.fetching import Fetching
from appliance.access.imap.mailboxes import status_values
from appliance.access.imap.session import Ok, Refused
from appliance.access.imap.settings import IDLE_TIMEOUT
from appliance.accounts.client import AccountError, AccountSession, Listed
from appliance.kernel.notices import Subscription
from appliance.protocols.imap import Command, commands, render
from appliance.protocols.imap.grammar_account import EVENTS
from appliance.protocols.imap.names import SEPARATOR

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

MAX_WATCHED: Final = 1000
"""Most mailboxes that one session watches."""
_MESSAGES: Final = frozenset({"MESSAGENEW", "MESSAGEEXPUNGE", "FLAGCHANGE"})
_SUPPORTED: Final = (
    "MessageNew",
    "MessageExpunge",
    "FlagChange",
    "MailboxName",
    "SubscriptionChange",
    "MailboxMetadataChange",
    "ServerMetadataChange",
)


class _Space:
    """The mailboxes of one account, as the client was last told of them."""

    __slots__ = ("account", "annotations", "children", "prefix", "status", "validities")

    def __init__(self, account: AccountSession, prefix: str) -> None:
        self.account = account
        self.prefix = prefix
        self.validities: dict[str, int] = {}
        self.children: dict[str, Listed] = {}
        self.status: dict[str, tuple[int, ...]] = {}
        self.annotations: dict[str, Mapping[str, bytes]] = {}

    async def look(self) -> None:
        self.validities = await self.account.validities()
        self.children = {row.name: row for row in await self.account.mailboxes()}


class Watch:
    """What one client wants to hear."""

    __slots__ = ("_groups", "_late", "_news", "_spaces", "_subscribed", "delayed", "events", "items")

    def __init__(self, groups: Iterable[commands.NotifyGroup]) -> None:
        self._groups = [group for group in groups if not group.which.startswith("SELECTED")]
        chosen = next((group for group in groups if group.which.startswith("SELECTED")), None)
        #: Events of the selected mailbox, and what to tell of its new messages.
        self.events = frozenset(chosen.events.names) if chosen is not None else frozenset()
        self.items = chosen.events.items if chosen is not None else ()
        self.delayed = chosen is None or chosen.which != "SELECTED"
        self._spaces: list[_Space] = []
        self._subscribed: set[str] = set()
        self._news: Subscription | None = None
        self._late: set[Hashable] = set()

    @property
    def topics(self) -> tuple[Hashable, ...]:
        """The notices that are waited for."""
        return self._news.topics if self._news is not None else ()

    def close(self) -> None:
        if self._news is not None:
            self._news.close()

    # -- what is watched ----------------------------------------------------------------------------------------------

    async def begin(self, session: ImapSession, *, status: bool) -> None:
        """Find the mailboxes; with `status` tell how each is now. Refused."""
        own = session.user()
        self._spaces = [_Space(own, "")]
        owners = {
            name.partition(SEPARATOR)[0] for group in self._groups for name in group.names if name.startswith("~")
        }
        for owner in sorted(owners):
            try:
                self._spaces.append(_Space(await session.others(owner[1:]), owner + SEPARATOR))
            except (AccountError, Refused):
                continue  # what does not exist, or must not be known, is passed over
        self._subscribed = set(await own.subscriptions())
        for space in self._spaces:
            await space.look()
        self._listen(session)  # first, so that nothing is missed between the look and the subscription
        for space in self._spaces:
            await self._remember(session, space, tell=status)

    async def _remember(self, session: ImapSession, space: _Space, *, tell: bool, new: Collection[str] = ()) -> None:
        for name, row in space.children.items():
            events = self._of(space.prefix + name)
            if events & _MESSAGES and row.selectable:
                if "r" not in row.rights:
                    if tell:
                        session.put(render.listing(["\\NoAccess"], space.prefix + name, utf8=session.utf8))
                    continue
                await self._status(session, space, name, events, always=tell or name in new)
            if "MAILBOXMETADATACHANGE" in events and row.selectable:
                space.annotations[name] = await _annotations(space.account, name)
        if any("SERVERMETADATACHANGE" in group.events.names for group in self._groups) and not space.prefix:
            space.annotations[""] = await _annotations(space.account, "")

    def _of(self, name: str) -> frozenset[str]:
        """The events that the client wants of the mailbox."""
        found: set[str] = set()
        for group in self._groups:
            if self._covers(group, name):
                found.update(group.events.names)
        return frozenset(found)

    def _covers(self, group: commands.NotifyGroup, name: str) -> bool:
        match group.which:
            case "PERSONAL" | "INBOXES":
                return not name.startswith("~")
            case "SUBSCRIBED":
                return name in self._subscribed
            case "SUBTREE":
                return any(name == top or name.startswith(top + SEPARATOR) for top in group.names)
        return name in group.names

    def _listen(self, session: ImapSession) -> None:
        topics: list[Hashable] = []
        for space in self._spaces:
            topics.append(("info", space.account.name))
            topics += [
                ("mailbox", space.account.name, name)
                for name, row in space.children.items()
                if row.selectable and "r" in row.rights and self._of(space.prefix + name) & _MESSAGES
            ]
        if len(topics) > MAX_WATCHED:
            raise Refused("these are too many mailboxes to watch", b"NOTIFICATIONOVERFLOW")
        news = session.around.notices.subscribe(*topics)
        if self._news is not None:
            self._late |= self._news.take()  # what came while the mailboxes were looked at
            self._news.close()
        self._news = news

    # -- what happens -------------------------------------------------------------------------------------------------

    async def tell(self, session: ImapSession) -> None:
        """What has happened, into the output."""
        await session.tell(expunge=not self.delayed, uid=True)
        if self._news is None:
            return
        while changed := self._late | self._news.take():
            self._late = set()
            for space in self._spaces:
                if ("info", space.account.name) in changed:
                    await self._names(session, space)
                    await self._changed_annotations(session, space)
                for topic in changed:
                    if isinstance(topic, tuple) and topic[:2] == ("mailbox", space.account.name):
                        await self._mailbox(session, space, topic[2])

    async def _mailbox(self, session: ImapSession, space: _Space, name: str) -> None:
        selected = session.selected
        if selected is not None and selected.account is space.account and selected.inner == name:
            return
        events = self._of(space.prefix + name)
        if events & _MESSAGES:
            await self._status(session, space, name, events, always=False)

    async def _status(
        self, session: ImapSession, space: _Space, name: str, events: frozenset[str], *, always: bool
    ) -> None:
        items = ["MESSAGES", "UIDNEXT", "UIDVALIDITY"]
        if "FLAGCHANGE" in events:
            items += ["HIGHESTMODSEQ", "UNSEEN"]
        elif "CONDSTORE" in session.enabled:
            items.append("HIGHESTMODSEQ")
        try:
            values = await status_values(session, space.account, name, tuple(items))
        except AccountError:
            return  # gone: its name tells
        known = tuple(value for _, value in values if isinstance(value, int))
        if "FLAGCHANGE" not in events and "CONDSTORE" in session.enabled:
            known = known[:-1]  # a mod-sequence alone is a change of flags
        before = space.status.get(name)
        space.status[name] = known
        if always or (before is not None and before != known):
            session.put(render.status(space.prefix + name, values, utf8=session.utf8))

    async def _names(self, session: ImapSession, space: _Space) -> None:
        """Mailboxes that came, went or have another name, and subscriptions."""
        before, rows = space.validities, space.children
        await space.look()
        new = [name for name in space.children if name not in rows]
        if rows.keys() != space.children.keys():
            await self._remember(session, space, tell=False, new=new)
            self._listen(session)
            # What came between the look and the subscription is seen by another look.
            self._late.update(("mailbox", space.account.name, name) for name in new)
        gone = [name for name in rows if name not in space.children]
        for name, old in _moves(before, space.validities, new, gone):
            if "MAILBOXNAME" in self._of(space.prefix + name) | self._of(space.prefix + (old or name)):
                more = b""
                if old is not None:
                    more = b'("OLDNAME" (%b))' % render.mailbox(space.prefix + old, utf8=session.utf8)
                self._row(session, space, name, more)
        if space.prefix:
            return
        subscribed = set(await space.account.subscriptions())
        changed, self._subscribed = subscribed ^ self._subscribed, subscribed
        for name in sorted(changed):
            if "SUBSCRIPTIONCHANGE" in self._of(name):
                self._row(session, space, name)

    def _row(self, session: ImapSession, space: _Space, name: str, more: bytes = b"") -> None:
        row = space.children.get(name)
        if row is None:
            attributes = ["\\NonExistent"]
        else:
            attributes = ["\\HasChildren" if row.children else "\\HasNoChildren"]
            if not row.selectable:
                attributes.insert(0, "\\Noselect")
        if space.prefix + name in self._subscribed:
            attributes.append("\\Subscribed")
        session.put(render.listing(attributes, space.prefix + name, utf8=session.utf8, more=more))

    async def _changed_annotations(self, session: ImapSession, space: _Space) -> None:
        for name, before in list(space.annotations.items()):
            now = await _annotations(space.account, name)
            space.annotations[name] = now
            entries = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
            if entries:
                session.put(render.metadata_changed(space.prefix + name if name else "", entries, utf8=session.utf8))

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def receive(self, session: ImapSession) -> bytes:
        """What the client sends next; news go out meanwhile. Raises ChannelTimeout."""
        deadline = trio.current_time() + session.around.settings[IDLE_TIMEOUT]
        while True:
            await self.tell(session)
            await session.flush()
            topics: list[Hashable] = [("alert", session.user().name), ("account", session.user().name)]
            if session.selected is not None:
                topics += session.selected.news.topics
            data: bytes | None = None
            failure: Exception | None = None
            with session.around.notices.subscribe(*topics) as more:
                if session.selected is not None and session.selected.has_news and self.events:
                    continue
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_until, more, nursery.cancel_scope)
                    if self._news is not None:
                        nursery.start_soon(self._peek, nursery.cancel_scope)
                    try:
                        data = await session.channel.receive_before(deadline)
                    except Exception as error:  # out of the nursery as itself, not in a group
                        failure = error
                    nursery.cancel_scope.cancel()
            if failure is not None:
                raise failure
            if data is not None:
                return data

    async def _peek(self, scope: trio.CancelScope) -> None:
        """Ends the wait, and leaves the news where they are."""
        assert self._news is not None
        await self._news.arrived()
        scope.cancel()


async def _until(news: Subscription, scope: trio.CancelScope) -> None:
    await news.wait()
    scope.cancel()


async def _annotations(account: AccountSession, name: str) -> Mapping[str, bytes]:
    try:
        return await account.metadata(name)
    except AccountError:
        return {}


def _moves(
    before: Mapping[str, int], now: Mapping[str, int], new: Iterable[str], gone: Iterable[str]
) -> list[tuple[str, str | None]]:
    """Names to tell of, each with its old one if it is the same mailbox; children that moved along are left out. With what
    came or went, the level above it changes too (RFC 5465, 5.4)."""
    by_validity = {validity: name for name, validity in before.items()}
    missing = set(gone)
    told: dict[str, str | None] = {}
    for name in sorted(new):
        old = by_validity.get(now.get(name, 0))
        if old is None or old not in missing:
            told[name] = None
            continue
        missing.discard(old)
        outer, old_outer = name.rpartition(SEPARATOR), old.rpartition(SEPARATOR)
        if not (told.get(outer[0]) == old_outer[0] and outer[2] == old_outer[2] and outer[0] in told):
            told[name] = old
    for name in sorted(missing):
        told[name] = None
    for name in [name for name, old in told.items() if old is None]:
        parent = name.rpartition(SEPARATOR)[0]
        if parent:
            told.setdefault(parent, None)
    return sorted(told.items())


async def notify(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Notify)
    for group in arguments.groups:
        names = set(group.events.names)
        if not names <= EVENTS or "ANNOTATIONCHANGE" in names:
            raise Refused("there is no such event", b"BADEVENT (%b)" % " ".join(_SUPPORTED).encode("ascii"))
        pair = {"MESSAGENEW", "MESSAGEEXPUNGE"} & names
        if len(pair) == 1 or ("FLAGCHANGE" in names and not pair):
            raise Refused("MessageNew and MessageExpunge come together", bad=True)
        if group.which.startswith("SELECTED") and not names <= _MESSAGES:
            raise Refused("only events of messages go with the selected mailbox", bad=True)
        if group.events.items and not group.which.startswith("SELECTED"):
            raise Refused("only of the selected mailbox messages can be told", bad=True)
    if sum(group.which.startswith("SELECTED") for group in arguments.groups) > 1:
        raise Refused("the selected mailbox is named twice", bad=True)
    fresh: Watch | None = None
    if arguments.groups:
        fresh = Watch(arguments.groups)
        try:
            await fresh.begin(session, status=arguments.status)
        except BaseException:
            fresh.close()
            raise
        await session.tell(expunge=True, uid=True, ask=True)  # RFC 5465, 3.1: as if NOOP had been said
    else:
        fresh = Watch(())  # nothing at all, not even of the selected mailbox
    if session.watch is not None:
        session.watch.close()
    session.watch = fresh
    return Ok("NOTIFY completed", updates=False)


async def tell_new(session: ImapSession, watch: Watch) -> None:
    """FETCH lines for messages that came into the selected mailbox, but for those that this session put there."""
    selected = session.selected
    if selected is None or not watch.items:
        return
    fresh, selected.fresh = selected.fresh, []
    uids = [uid for uid in fresh if uid not in selected.mine]
    selected.mine.difference_update(fresh)
    for start in range(0, len(uids), 100):
        await Fetching(session, selected, watch.items, uid=True).batch(uids[start : start + 100])
