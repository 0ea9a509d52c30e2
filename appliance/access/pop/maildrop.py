"""The maildrop: the view of one mailbox that a POP session keeps from log-in to QUIT (RFC 1939, 5; manual, POP module).

The mailbox is not locked. Messages that come later are not seen; messages that others remove stay in the list as zombies
of size zero. Numbers are places in the snapshot, so they never change.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Callable, Iterator

from appliance.accounts.client import AccountError, AccountSession, Fetch, Flag, Opened, unpack

_SEEN = int(Flag.SEEN)
_ROWS = 500
_MANY = 2000
_CHUNK = 128 * 1024
_FIRST_CHUNK = 16 * 1024
#: Messages that are read together when a client takes one after the other, and the bytes of them that may wait for it.
_AHEAD = 32
_AHEAD_BYTES = 256 * 1024


class NoSuchMessage(Exception):
    """There is no message of that number to be had; the text says why."""


class Maildrop:
    """Numbers are from 1; sizes are in octets of the wire form."""

    __slots__ = (
        "_account",
        "_ahead",
        "_changed",
        "_modseq",
        "_next",
        "_opened",
        "_seen",
        "_shown",
        "_sizes",
        "_uids",
        "_window",
        "last",
        "marked",
    )

    def __init__(self, account: AccountSession, opened: Opened, changed: Callable[[], bool]) -> None:
        self._account = account
        self._opened = opened
        self._changed = changed
        self._modseq = opened.modseq
        self._uids = array("Q")
        self._sizes = array("Q")
        self._seen: set[int] = set()
        #: UIDs of messages that `settle` will mark as read.
        self._shown: list[int] = []
        #: Texts that were read before they were asked for, by UID; at most `_window` at a time, fetched from `_next` on.
        self._ahead: dict[int, bytes] = {}
        self._window = 1
        self._next = 0
        #: Numbers marked by DELE.
        self.marked: set[int] = set()
        #: The highest number touched since log-in or RSET (RFC 1460, LAST).
        self.last = 0

    @classmethod
    async def open(
        cls,
        account: AccountSession,
        mailbox: str,
        name: str = "",
        header: str = "X-Real-To",
        *,
        changed: Callable[[], bool],
    ) -> Maildrop:
        """The maildrop of a mailbox; only messages for `name` (as the field `header` lists them) if it is given.

        `changed` tells whether the mailbox may have changed since it was last asked. Raises AccountError.
        """
        opened = await account.open(mailbox)
        drop = cls(account, opened, changed)
        try:
            uids = unpack(opened.uids)
            wanted = set(await drop._addressed_to(name, header)) if name else None
            for start in range(0, len(uids), _MANY):
                rows = await account.columns(opened.view, uids[start : start + _MANY], Fetch.NOTHING)
                for uid, size, flags in zip(rows.uids, rows.sizes, rows.flags, strict=True):
                    if wanted is None or uid in wanted:
                        drop._uids.append(uid)
                        drop._sizes.append(size)
                        if flags & _SEEN:
                            drop._seen.add(uid)
        except BaseException:
            await account.release(opened.view)
            raise
        return drop

    async def _addressed_to(self, name: str, header: str) -> list[int]:
        """UIDs of the messages whose field lists the name; the search narrows, the names are then compared whole."""
        view = self._opened.view
        found = await self._account.search(view, ["HEADER", header, name])
        matching: list[int] = []
        for start in range(0, len(found), _ROWS):
            left = list(found[start : start + _ROWS])
            while left:
                rows = await self._account.fetch(view, left, Fetch.NOTHING, "HEADER")
                if not rows:
                    break
                done = {row.uid for row in rows}
                for row in rows:
                    content = row.content
                    if content is None:  # too large to ride along
                        _, content = await self._account.read(view, row.uid, "HEADER", 0, _CHUNK)
                    if lists_name(content, header, name):
                        matching.append(row.uid)
                left = [uid for uid in left if uid not in done]
        return matching

    def __len__(self) -> int:
        return len(self._uids)

    @property
    def uidvalidity(self) -> int:
        """Of the mailbox, as at log-in."""
        return self._opened.uidvalidity

    async def refresh(self) -> None:
        """Let messages that others have removed become zombies."""
        if not self._changed():
            return
        changes = await self._account.changes(self._opened.view, self._modseq)
        self._modseq = changes.modseq
        gone = set(unpack(changes.vanished))
        if gone:
            for index, uid in enumerate(self._uids):
                if uid in gone:
                    self._sizes[index] = 0
                    self._ahead.pop(uid, None)

    def total(self) -> tuple[int, int]:
        """How many messages are neither marked nor zombies, and the sum of their sizes."""
        sizes = [size for number, size in enumerate(self._sizes, 1) if size and number not in self.marked]
        return len(sizes), sum(sizes)

    def check(self, number: int) -> None:
        """Raises NoSuchMessage for a number out of the list or marked as deleted."""
        if not 1 <= number <= len(self._uids):
            raise NoSuchMessage("no such message")
        if number in self.marked:
            raise NoSuchMessage("the message is marked as deleted")

    def size(self, number: int) -> int:
        """Octets; 0 for a zombie."""
        return self._sizes[number - 1]

    def uid(self, number: int) -> int:
        """The UID in the mailbox."""
        return self._uids[number - 1]

    def numbers(self) -> Iterator[int]:
        """Those that are not marked."""
        return (number for number in range(1, len(self._uids) + 1) if number not in self.marked)

    async def text(self, number: int) -> bytes | None:
        """The whole message in wire form, or None if it is too large for one piece: `content` streams it.

        Messages that are taken in their order are read ahead, so that several cost one request; a message that was removed
        meanwhile is not given out. Raises NoSuchMessage, AccountError.
        """
        uid = self.uid(number)
        if self._ahead:
            await self.refresh()
        data = self._ahead.pop(uid, None)
        if data is not None:
            self._next = number + 1
            return data
        if self.size(number) > _CHUNK:
            return None
        self._window = min(_AHEAD, self._window * 2) if number == self._next else 1
        self._next = number + 1
        self._ahead.clear()
        for row in await self._account.fetch(self._opened.view, self._following(number), Fetch.NOTHING, ""):
            if row.content is not None:
                self._ahead[row.uid] = row.content
            elif row.uid == uid:
                return None
        data = self._ahead.pop(uid, None)
        if data is None:
            self._sizes[number - 1] = 0
            raise NoSuchMessage("the message was deleted")
        return data

    def _following(self, number: int) -> list[int]:
        """UIDs of the message and of those behind it that are worth reading with it."""
        uids = [self.uid(number)]
        total = self.size(number)
        for later in range(number + 1, min(number + self._window, len(self._uids) + 1)):
            size = self.size(later)
            total += size
            if total > _AHEAD_BYTES:
                break
            if size and later not in self.marked:
                uids.append(self.uid(later))
        return uids

    async def content(self, number: int, *, whole: bool = True) -> AsyncGenerator[bytes, None]:
        """The message in wire form, in pieces; small ones at first if not the `whole` is likely to be wanted.

        Raises NoSuchMessage when it was removed by somebody else, before the first piece or between two.
        """
        uid = self.uid(number)
        offset = 0
        length = _CHUNK if whole else _FIRST_CHUNK
        while True:
            try:
                size, data = await self._account.read(self._opened.view, uid, "", offset, length)
            except AccountError as error:
                if error.code == "NONEXISTENT":
                    self._sizes[number - 1] = 0
                    raise NoSuchMessage("the message was deleted") from None
                raise
            if size < 0:
                self._sizes[number - 1] = 0
                raise NoSuchMessage("the message was deleted")
            yield data
            offset += len(data)
            length = _CHUNK
            if offset >= size or not data:
                return

    def shown(self, number: int) -> None:
        """The message was read by the user; `settle` marks it so."""
        uid = self.uid(number)
        if uid not in self._seen and "s" in self._opened.rights:
            self._seen.add(uid)
            self._shown.append(uid)

    async def settle(self) -> None:
        """Mark what was `shown` as read, all in one; where that fails the messages were read all the same."""
        if not self._shown:
            return
        uids, self._shown = self._shown, []
        try:
            await self._account.store(self._opened.view, uids, "+", int(Flag.SEEN), ())
        except AccountError:
            self._seen.difference_update(uids)

    @property
    def may_delete(self) -> bool:
        """Whether DELE can be carried out: the right "d", or "t" and "e" of today's names (RFC 4314, 2.1.1)."""
        rights = self._opened.rights
        return "d" in rights or ("t" in rights and "e" in rights)

    async def update(self) -> None:
        """Remove the marked messages; durable when it returns. Raises AccountError, and nothing is removed."""
        uids = [self.uid(number) for number in sorted(self.marked) if self.size(number)]
        if uids:
            self._shown = [uid for uid in self._shown if uid not in uids]
            await self._account.remove(self._opened.view, uids)
        self.marked.clear()


def lists_name(header: bytes, field: str, name: str) -> bool:
    """Whether a field of the header (wire form) lists the name: whole, in any case of letters, names divided by commas."""
    wanted = name.encode("utf-8", "surrogateescape").lower()
    mark = field.encode("ascii", "replace").lower() + b":"
    unfolded = header.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    for line in unfolded.split(b"\r\n"):
        if line[: len(mark)].lower() == mark:
            for part in line[len(mark) :].split(b","):
                if part.strip().strip(b"<>").lower() == wanted:
                    return True
    return False
