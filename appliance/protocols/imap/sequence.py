"""Sets of sequence numbers or UIDs: `1,3:5,7:*` (RFC 3501, section 9: sequence-set)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from appliance.protocols.imap.cursor import MAX_NUMBER, Cursor, ParseError

STAR: Final = 0
"""`*` inside a range: the largest number in use."""

_SET = re.compile(rb"(?:[0-9]+|\*)(?::(?:[0-9]+|\*))?(?:,(?:[0-9]+|\*)(?::(?:[0-9]+|\*))?)*")


def _number(text: bytes) -> int:
    if text == b"*":
        return STAR
    # Ten digits hold every 32-bit number; longer ones are not even converted.
    value = int(text) if len(text) <= 10 else 0
    if not 0 < value <= MAX_NUMBER:
        raise ParseError("number out of range in a message set")
    return value


class SequenceSet:
    """Ranges as they were written, `STAR` for `*`. Bounded by the length of a command line."""

    __slots__ = ("parts",)

    def __init__(self, parts: Iterable[tuple[int, int]]) -> None:
        self.parts = tuple(parts)

    @classmethod
    def parse(cls, cursor: Cursor) -> SequenceSet:
        if cursor.skip(b"$"):
            return SAVED
        text = cursor.match(_SET, "a message set")[0]
        parts = []
        for part in text.split(b","):
            low, colon, high = part.partition(b":")
            first = _number(low)
            parts.append((first, _number(high) if colon else first))
        return cls(parts)

    def ranges(self, largest: int) -> list[tuple[int, int]]:
        """Ascending ranges that neither touch nor overlap, with `*` as `largest`. Empty when `largest` is 0 and all are `*`.

        A range reads both ways, and `n:*` always takes in the last message, even when n is larger (RFC 3501, 6.4.8).
        """
        spans = []
        for first, second in self.parts:
            low, high = first or largest, second or largest
            if low > high:
                low, high = high, low
            if high:
                spans.append((low or 1, high))
        if len(spans) < 2:
            return spans
        spans.sort()
        merged = [spans[0]]
        for low, high in spans[1:]:
            if low <= merged[-1][1] + 1:
                if high > merged[-1][1]:
                    merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        return merged

    @property
    def saved(self) -> bool:
        """Is it `$`, the result of the last search that saved it (RFC 5182)?"""
        return not self.parts

    def highest(self) -> int:
        """The largest number that is written in the set without `*` at the other end of its range, 0 for none."""
        return max((max(part) for part in self.parts if STAR not in part), default=0)

    def __bytes__(self) -> bytes:
        if not self.parts:
            return b"$"
        return b",".join(
            b"%b" % _text(low) if low == high else b"%b:%b" % (_text(low), _text(high)) for low, high in self.parts
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SequenceSet) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __repr__(self) -> str:
        return f"SequenceSet({bytes(self).decode('ascii')})"


SAVED: Final = SequenceSet(())


def _text(number: int) -> bytes:
    return b"%d" % number if number else b"*"


def _spans(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    iterator = iter(numbers)
    try:
        low = high = next(iterator)
    except StopIteration:
        return
    for number in iterator:
        if number == high + 1:
            high = number
        else:
            yield low, high
            low = high = number
    yield low, high


def compact(numbers: Iterable[int]) -> bytes:
    """Numbers as a set, in their order, neighbours as ranges: `304,319:320` (uid-set of RFC 4315)."""
    return b",".join(b"%d" % low if low == high else b"%d:%d" % (low, high) for low, high in _spans(numbers))
