"""The maildrop: the view of one mailbox that a POP session keeps from log-in to QUIT (RFC 1939, 5; manual, POP module).

The mailbox is not locked. Messages that come later are not seen; messages that others remove stay in the list as zombies
of size zero. Numbers are places in the snapshot, so they never change.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Callable, Iterator

from appliance.accounts.client import AccountError, AccountSession, Fetch, Flag, Opened, unpack

_ROWS = 500
_CHUNK = 128 * 1024
_FIRST_CHUNK = 16 * 1024


class NoSuchMessage(Exception):
    """There is no message of that number to be had; the text says why."""


class Maildrop:
    """Numbers are from 1; sizes are in octets of the wire form."""

    __slots__ = ("_account", "_changed", "_modseq", "_opened", "_seen", "_sizes", "_uids", "last", "marked")

    def __init__(self, account: AccountSession, opened: Opened, changed: Callable[[], bool]) -> None:
        self._account = account
        self._opened = opened
        self._changed = changed
        self._modseq = opened.modseq
        self._uids = array("Q")
        self._sizes = array("Q")
        self._seen: set[int] = set()
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
            for start in range(0, len(uids), _ROWS):
                for row in await account.fetch(opened.view, uids[start : start + _ROWS], Fetch.NOTHING):
                    if wanted is None or row.uid in wanted:
                        drop._uids.append(row.uid)
                        drop._sizes.append(row.size)
                        if row.flags & Flag.SEEN:
                            drop._seen.add(row.uid)
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

    async def set_seen(self, number: int) -> None:
        """Mark as read, if that is allowed here; a message of a mailbox without that right is read all the same."""
        uid = self.uid(number)
        if uid in self._seen or "s" not in self._opened.rights:
            return
        try:
            await self._account.store(self._opened.view, [uid], "+", int(Flag.SEEN), ())
        except AccountError:
            return
        self._seen.add(uid)

    @property
    def may_delete(self) -> bool:
        """Whether DELE can be carried out: the right "d", or "t" and "e" of today's names (RFC 4314, 2.1.1)."""
        rights = self._opened.rights
        return "d" in rights or ("t" in rights and "e" in rights)

    async def update(self) -> None:
        """Remove the marked messages; durable when it returns. Raises AccountError, and nothing is removed."""
        uids = [self.uid(number) for number in sorted(self.marked) if self.size(number)]
        if uids:
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
