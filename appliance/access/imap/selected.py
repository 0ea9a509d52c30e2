"""The selected mailbox of a session: its picture, and bringing it up to date (RFC 3501, 5.2 and 7.4.1).

The gate says what has changed since a mod-sequence. Flags that this session has set itself come back there too; they were
told already (or must not be told, .SILENT), so rows that carry just the mod-sequence of our own change are passed over.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Iterable, Sequence

from appliance.access.imap.flagging import RECENT, FlagTexts
from appliance.accounts.client import AccountSession, FlagRow, Opened, unpack
from appliance.kernel.notices import Notices, Subscription
from appliance.protocols.imap import MessageView, render
from appliance.protocols.imap.sequence import SequenceSet

_BATCH = 500
_FRESH = 1000


class Selected:
    """`name` as the client called it; `account` is the one that holds it, under the name `inner`."""

    __slots__ = (
        "_modseq",
        "_news",
        "_own",
        "_recent",
        "_told_recent",
        "_untold",
        "account",
        "condstore",
        "flag_texts",
        "fresh",
        "inner",
        "keywords",
        "mine",
        "name",
        "qresync",
        "read_only",
        "rev2",
        "rights",
        "saved",
        "uidnext",
        "uidvalidity",
        "view",
        "view_number",
    )

    def __init__(
        self, account: AccountSession, name: str, inner: str, opened: Opened, notices: Notices, *, read_only: bool
    ) -> None:
        self.account = account
        #: Mod-sequences are told with flags (RFC 7162, 3.1).
        self.condstore = False
        #: UIDs of removed messages are told, not their numbers (RFC 7162, 3.2).
        self.qresync = False
        #: Nothing is said of \Recent (RFC 9051, appendix E).
        self.rev2 = False
        #: UIDs that the last search saved, for `$` (RFC 5182).
        self.saved: array[int] = array("I")
        #: For NOTIFY: UIDs that came, until they are told of, and those that this session put here itself.
        self.fresh: list[int] = []
        self.mine: set[int] = set()
        self._untold = False
        self.name = name
        self.inner = inner
        self.read_only = read_only
        self.view = MessageView(unpack(opened.uids))
        self.view_number = opened.view
        self.rights = opened.rights
        self.keywords = opened.keywords
        #: \Recent messages as ranges of UIDs: those that came last (the gate hands the marks over in one go).
        self._recent = [(self.view.uids[-opened.recent], self.view.uids[-1])] if opened.recent else []
        self._told_recent = opened.recent
        self.uidvalidity = opened.uidvalidity
        self.uidnext = opened.uidnext
        self.flag_texts = FlagTexts()
        self._modseq = opened.modseq
        self._own: dict[int, int] = {}
        self._news = notices.subscribe(("mailbox", account.name, inner))

    @property
    def news(self) -> Subscription:
        return self._news

    @property
    def modseq(self) -> int:
        """All changes up to this one were told."""
        return self._modseq

    @property
    def has_news(self) -> bool:
        """Is there something that `updates` would look at?"""
        return self._news.pending

    @property
    def recent(self) -> int:
        r"""How many messages are \Recent for this session."""
        uids = self.view.uids
        return sum(bisect_right(uids, high) - bisect_left(uids, low) for low, high in self._recent)

    def speak_rev2(self) -> None:
        """The client has enabled IMAP4rev2: nothing is said of \\Recent."""
        self.rev2 = True
        self.flag_texts.forget_recent()

    def holds(self, account: AccountSession, inner: str) -> bool:
        """Is it this mailbox?"""
        return account is self.account and inner == self.inner

    async def release(self) -> None:
        """Give the view back."""
        self._news.close()
        await self.account.release(self.view_number)

    def own(self, rows: Iterable[FlagRow]) -> None:
        """The session itself made these changes."""
        for row in rows:
            self._own[row.uid] = row.modseq

    def known(self, uids: Iterable[int]) -> list[int]:
        """Those that the client can name."""
        return [uid for _, uid in self.view.numbered(uids)]

    def flag_rows(self, rows: Sequence[FlagRow], *, uid: bool, silent: bool = False) -> bytes:
        """FETCH lines with the flags, for the messages that the client knows. `silent`: mod-sequences at most."""
        if silent and not self.condstore:
            return b""
        lines = []
        text = self.flag_texts.text
        for (number, _), row in zip(self.view.numbered([row.uid for row in rows]), self._known_rows(rows), strict=True):
            words = [b"UID %d" % row.uid] if uid else []
            if not silent:
                words.append(b"FLAGS " + text(row.flags, row.keywords))
            if self.condstore:
                words.append(b"MODSEQ (%d)" % row.modseq)
            lines.append(b"* %d FETCH (%b)\r\n" % (number, b" ".join(words)))
        return b"".join(lines)

    def _known_rows(self, rows: Sequence[FlagRow]) -> list[FlagRow]:
        return [row for row in rows if self.view.number(row.uid)]

    async def new_keywords(self, rows: Iterable[FlagRow]) -> bytes:
        """A FLAGS line and PERMANENTFLAGS when keywords appear that were not told (RFC 3501, 7.2.6)."""
        from appliance.access.imap.flagging import permanent

        names = {name for row in rows for name in row.keywords}
        if names.issubset(self.keywords):
            return b""
        self.keywords = await self.account.keywords(self.view_number)
        return self.flags_line() + render.note(
            "flags that can be set", b"PERMANENTFLAGS " + render.flag_list(permanent(self.writable, self.keywords))
        )

    @property
    def writable(self) -> str:
        """The rights, none in a mailbox that was opened by EXAMINE."""
        return "" if self.read_only else self.rights

    def flags_line(self) -> bytes:
        from appliance.access.imap.flagging import MARKS
        from appliance.protocols.imap.flags import SYSTEM_FLAGS

        return render.flags([*SYSTEM_FLAGS, *MARKS, *self.keywords])

    def _arrived(self, rows: Sequence[FlagRow]) -> None:
        if self.view.extend(row.uid for row in rows):
            self._untold = True
            self.fresh = [*self.fresh[-_FRESH:], *(row.uid for row in rows)][-_FRESH:]
        fresh = [row.uid for row in rows if row.flags & RECENT]
        if fresh:
            self._recent.append((fresh[0], fresh[-1]))

    async def earlier(self, modseq: int, known: SequenceSet | None) -> tuple[array[int], list[FlagRow]]:
        """What a client that was away since `modseq` has missed among the UIDs it knows: those removed, and flags."""
        changes = await self.account.changes(self.view_number, modseq)
        self._arrived(changes.new)
        gone, rows = unpack(changes.vanished), [*changes.changed]
        if known is None:
            return gone, rows
        ranges = known.ranges(self.uidnext)
        some = array("I")
        for low, high in ranges:
            some.extend(gone[bisect_left(gone, low) : bisect_right(gone, high)])
        starts = [low for low, _ in ranges]
        return some, [row for row in rows if (at := bisect_right(starts, row.uid)) and row.uid <= ranges[at - 1][1]]

    async def updates(self, *, expunge: bool, uid: bool, ask: bool, others: bool = True) -> AsyncIterator[bytes]:
        """What to tell: flags, EXPUNGE where it is allowed, EXISTS, RECENT. `ask`: look even if no notice came. Without
        `others` only what this session has removed itself."""
        if others and (self._news.take() or ask or self._own):
            changes = await self.account.changes(self.view_number, self._modseq)
            own, self._own = self._own, {}
            self._modseq = changes.modseq
            self.uidnext = changes.uidnext
            rows = [row for row in changes.changed if own.get(row.uid) != row.modseq]
            if rows:
                yield await self.new_keywords(rows)
            for start in range(0, len(rows), _BATCH):
                yield self.flag_rows(rows[start : start + _BATCH], uid=uid)
            self.view.vanish(unpack(changes.vanished))
            self._arrived(changes.new)
        if expunge and self.view.pending:
            uids = self.view.pending_uids() if self.qresync else []
            gone = self.view.pending_uids()
            numbers = self.view.expunge()
            await self.account.told(self.view_number, gone)
            if uids:
                yield render.vanished(uids)
                numbers = []
            for start in range(0, len(numbers), _BATCH):
                yield render.expunges(numbers[start : start + _BATCH])
        if self._untold:
            self._untold = False
            yield render.exists(len(self.view))
        recent = 0 if self.rev2 else self.recent
        if recent != self._told_recent and not self.rev2:
            self._told_recent = recent
            yield render.recent(recent)
