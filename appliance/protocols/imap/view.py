"""Which sequence number is which message: one session's picture of a mailbox.

UIDs stand in one sorted array of 32-bit words (400 KB for 100,000 messages); a sequence number is an index plus one, and
a UID is found by bisection. What vanishes from the mailbox stays in the picture until the session may say so: no EXPUNGE
line may come in the answers of FETCH, STORE and SEARCH (RFC 3501, 7.4.1), and until then numbers keep their meaning.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from appliance.protocols.imap.sequence import SequenceSet

_MANY: Final = 2000


class MessageView:
    """The messages that the client knows of."""

    __slots__ = ("_gone", "uids")

    def __init__(self, uids: Iterable[int] = ()) -> None:
        self.uids: array[int] = array("I", uids)
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self.uids)

    @property
    def pending(self) -> bool:
        """Are there messages whose removal has not been told?"""
        return bool(self._gone)

    def pending_uids(self) -> list[int]:
        """Their UIDs, ascending."""
        return sorted(self._gone)

    def gone(self, uid: int) -> bool:
        return uid in self._gone

    def number(self, uid: int) -> int:
        """The sequence number of a UID; 0 when the client does not know it."""
        index = bisect_left(self.uids, uid)
        return index + 1 if index < len(self.uids) and self.uids[index] == uid else 0

    def uid(self, number: int) -> int:
        """Raises IndexError outside of 1..len."""
        if number < 1:
            raise IndexError(number)
        return self.uids[number - 1]

    # What a command names ----------------------------------------------------------------------------------------

    def by_number(self, numbers: SequenceSet) -> array[int]:
        """The UIDs of a set of sequence numbers, ascending. Raises IndexError when a number is larger than the mailbox.

        On an empty mailbox `1:*` and the like name nothing; `n:*` is the last message where n is too large.
        """
        count = len(self.uids)
        if count and numbers.highest() > count:
            raise IndexError(numbers.highest())
        found = array("I")
        for low, high in numbers.ranges(count):
            found.extend(self.uids[low - 1 : min(high, count)])
        return found

    def by_uid(self, numbers: SequenceSet) -> array[int]:
        """The UIDs of a UID set that exist here, ascending; `*` is the last message (RFC 3501, 6.4.8)."""
        if not self.uids:
            return array("I")
        found = array("I")
        for low, high in numbers.ranges(self.uids[-1]):
            found.extend(self.uids[bisect_left(self.uids, low) : bisect_right(self.uids, high)])
        return found

    def numbered(self, uids: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Sequence number and UID for each known one of `uids`, which ascend; faster than `number` for neighbours."""
        known, index, count = self.uids, 0, len(self.uids)
        for uid in uids:
            if index < count and known[index] != uid:
                index = bisect_left(known, uid, index if known[index] < uid else 0)
            if index < count and known[index] == uid:
                index += 1
                yield index, uid

    # What happens to the mailbox ---------------------------------------------------------------------------------

    def extend(self, uids: Iterable[int]) -> int:
        """Messages that came; those that are not above the last known UID are left out. How many were taken."""
        last = self.uids[-1] if self.uids else 0
        before = len(self.uids)
        for uid in uids:
            if uid > last:
                self.uids.append(uid)
                last = uid
        return len(self.uids) - before

    def vanish(self, uids: Collection[int]) -> None:
        """Messages that were removed from the mailbox; told at the next `expunge`."""
        if len(uids) > _MANY:  # all numbers that are not in use may come, millions of them
            self._gone.update(set(self.uids).intersection(uids))
        else:
            self._gone.update(uid for uid in uids if self.number(uid))

    def expunge(self) -> list[int]:
        """Take out what has vanished. The numbers for EXPUNGE lines, ascending, each as it is when its turn comes."""
        if not self._gone:
            return []
        numbers: list[int] = []
        kept = array("I")
        start = 0
        for told, uid in enumerate(sorted(self._gone)):
            index = bisect_left(self.uids, uid, start)
            kept.extend(self.uids[start:index])
            start = index + 1
            numbers.append(start - told)
        kept.extend(self.uids[start:])
        self.uids = kept
        self._gone = set()
        return numbers
