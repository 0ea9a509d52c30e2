"""What is remembered of a remote account: which of its messages are here already, which are not wanted, the last result.

A message that was submitted is remembered by its UID until the other server has confirmed its removal, or for as long as it
lists it. The mark that the message itself carries in the journal (`Mark`) is durable in the same moment as the message, so
the file may lag: at a start the marks of the journal are merged (`Memory.merge`), and the journal keeps them until the file is
written. Message ids tell which marks the file knows already.

POP3 has UIDs of any form; they are kept as texts, those that are odd or long as their hash. IMAP has ascending numbers
within a UIDVALIDITY; they are kept as ranges.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

from appliance.formats.data import Value

__all__ = ["Mark", "Memory", "Numbers", "plain_uid"]

MAX_UID: Final = 128
_PLAIN: Final = re.compile(rb"[!-~]{1,%d}\Z" % MAX_UID)
_RANGES: Final = re.compile(r"[0-9]{1,10}(?::[0-9]{1,10})?(?:,[0-9]{1,10}(?::[0-9]{1,10})?)*")
_MAX_ERROR: Final = 300
_MAX_REFUSED: Final = 10_000


def plain_uid(raw: bytes) -> str:
    """A UID in a form that can be kept: itself, or its hash where it is long or has odd octets."""
    if _PLAIN.match(raw) and not raw.startswith(b"sha256:"):
        return raw.decode("ascii")
    return "sha256:" + hashlib.sha256(raw).hexdigest()


class Mark(NamedTuple):
    """What a collected message carries in the journal: whose account, which mailbox, which UID.

    `owner` is the account's full name, empty for unified ones.
    """

    owner: str
    key: str
    uid: str

    def render(self) -> str:
        return "\n".join(self)

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """None for a text that is no mark."""
        parts = text.split("\n")
        return cls(*parts) if len(parts) == 3 and all(parts[1:]) else None


class Numbers:
    """A set of numbers as ascending ranges that do not touch."""

    __slots__ = ("_high", "_low")

    def __init__(self, text: str = "") -> None:
        self._low: list[int] = []
        self._high: list[int] = []
        if text and _RANGES.fullmatch(text):
            for part in text.split(","):
                low, _, high = part.partition(":")
                self._append(int(low), int(high or low))

    def _append(self, low: int, high: int) -> None:
        if high < low:
            return
        if self._high and low <= self._high[-1] + 1:
            if low >= self._low[-1]:
                self._high[-1] = max(self._high[-1], high)
                return
            for number in range(low, min(high, low + 100_000) + 1):
                self.add(number)
            return
        self._low.append(low)
        self._high.append(high)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._low, number) - 1
        return at >= 0 and number <= self._high[at]

    def __bool__(self) -> bool:
        return bool(self._low)

    def add(self, number: int) -> None:
        at = bisect_right(self._low, number) - 1
        if at >= 0 and number <= self._high[at]:
            return
        joins_left = at >= 0 and self._high[at] + 1 == number
        joins_right = at + 1 < len(self._low) and self._low[at + 1] == number + 1
        if joins_left and joins_right:
            self._high[at] = self._high[at + 1]
            del self._low[at + 1], self._high[at + 1]
        elif joins_left:
            self._high[at] = number
        elif joins_right:
            self._low[at + 1] = number
        else:
            self._low.insert(at + 1, number)
            self._high.insert(at + 1, number)

    def keep(self, listed: Iterable[int]) -> None:
        """Only those that are listed (ascending). Neighbours of the list become one range, though numbers between them are
        in it then: no server gives those out again."""
        kept = Numbers()
        before = False
        for number in listed:
            known = number in self
            if known and before:
                kept._high[-1] = number
            elif known:
                kept._append(number, number)
            before = known
        self._low, self._high = kept._low, kept._high

    def __str__(self) -> str:
        return ",".join(
            str(low) if low == high else f"{low}:{high}" for low, high in zip(self._low, self._high, strict=True)
        )


class Memory:
    """The memory of one remote account. `dirty`: the file does not know all of it."""

    def __init__(self, value: Value | None = None) -> None:
        values = value if isinstance(value, dict) else {}
        self.last = _number(values.get("Last"))
        """When it was collected without trouble, Unix time; 0: never."""
        self.error = str(values.get("Error", ""))
        """What went wrong at the last attempt."""
        self.message = _number(values.get("Message"))
        """The newest message id that came from there."""
        self.validity = _number(values.get("UIDValidity"))
        self._numbers = Numbers(str(values.get("Numbers", "")))
        self._uids = set(str(values.get("UIDs", "")).split())
        refused = values.get("Refused")
        self._refused = {str(uid): str(text) for uid, text in refused.items()} if isinstance(refused, dict) else {}
        self.dirty = False

    def render(self) -> dict[str, Value]:
        """As it is stored. UIDs are one text, which is quick to write and to read."""
        values: dict[str, Value] = {}
        if self.last:
            values["Last"] = str(self.last)
        if self.error:
            values["Error"] = self.error
        if self.message:
            values["Message"] = str(self.message)
        if self.validity:
            values["UIDValidity"] = str(self.validity)
        if self._numbers:
            values["Numbers"] = str(self._numbers)
        if self._uids:
            values["UIDs"] = " ".join(sorted(self._uids))
        if self._refused:
            values["Refused"] = dict(self._refused)
        return values

    # -- results ------------------------------------------------------------------------------------------------------

    def succeeded(self, now: float, note: str = "") -> None:
        self.last, self.error, self.dirty = int(now), note[:_MAX_ERROR], True

    def failed(self, text: str) -> None:
        self.error, self.dirty = text[:_MAX_ERROR], True

    # -- messages -----------------------------------------------------------------------------------------------------

    def begin(self, validity: int) -> None:
        """The UIDs that follow are numbers of this UIDVALIDITY; those of another one mean nothing any more."""
        if validity != self.validity:
            self.validity, self._numbers, self._uids, self.dirty = validity, Numbers(), set(), True
            self._refused = {}

    def has(self, uid: str) -> bool:
        """Whether the message was submitted here."""
        if self.validity:
            number = self._number(uid)
            return number is not None and number in self._numbers
        return uid in self._uids

    def add(self, uid: str, message: int) -> None:
        """It was submitted, under this message id."""
        self.message = max(self.message, message)
        self.dirty = True
        if not uid:
            return
        if self.validity:
            number = self._number(uid)
            if number is not None:
                self._numbers.add(number)
        else:
            self._uids.add(uid)

    def _number(self, uid: str) -> int | None:
        validity, _, number = uid.partition("/")
        return int(number) if validity == str(self.validity) and number.isdigit() else None

    def keep(self, listed: Collection[str]) -> None:
        """Forget what the server does not list any more."""
        if self.validity:
            before = str(self._numbers)
            self._numbers.keep(sorted(filter(None, map(self._number, listed))))
            self.dirty |= str(self._numbers) != before
        elif not self._uids <= set(listed):
            self._uids &= set(listed)
            self.dirty = True
        if not self._refused.keys() <= set(listed):
            self._refused = {uid: text for uid, text in self._refused.items() if uid in set(listed)}
            self.dirty = True

    def forget(self, uids: Iterable[str]) -> None:
        """Their removal was confirmed. (Numbers are kept: they never come again, and `keep` tidies up.)"""
        if not self.validity:
            self._uids.difference_update(uids)
            self.dirty = True

    def refuse(self, uid: str, reason: str) -> None:
        """It is not wanted: it stays on the server and is not fetched again."""
        if uid and len(self._refused) < _MAX_REFUSED:
            self._refused[uid] = reason[:_MAX_ERROR]
            self.dirty = True

    def refused(self, uid: str) -> bool:
        return uid in self._refused

    @property
    def refusals(self) -> Iterator[str]:
        """Why messages were refused."""
        return iter(self._refused.values())

    def reconsider(self) -> None:
        """Give what was refused another chance."""
        self.dirty |= bool(self._refused)
        self._refused = {}

    def merge(self, message: int, mark: Mark) -> bool:
        """A mark of the journal, in the order of their message ids; False if the file knew of it."""
        if message <= self.message:
            return False
        uid = mark.uid
        if mark.key.startswith("IMAP "):
            validity = _number(uid.partition("/")[0])
            if validity:
                self.begin(validity)
        self.add(uid, message)
        return True


def _number(value: Value | None) -> int:
    return int(value) if isinstance(value, str) and value.isdigit() and len(value) < 19 else 0
