"""Wire form (lines end with CR LF) and store form (LF), and the quoting of `From ` lines in mbox files.

The law: wire -> store -> wire gives the same bytes for every message without a bare LF. A CR alone and CR CR LF
survive. A bare LF, which no valid message has, becomes a line end. Quoting puts one `>` before every line that begins
with `>*From `, and unquoting takes one away, so it is exact in both directions.
"""

from __future__ import annotations

import re
from typing import Final

_FROM_LINE: Final = re.compile(rb"^(>*From )", re.MULTILINE)
_FROM_LINE_LATER: Final = re.compile(rb"(?<=\n)(>*From )")
_QUOTED_LINE: Final = re.compile(rb"^>(>*From )", re.MULTILINE)
_QUOTED_LINE_LATER: Final = re.compile(rb"(?<=\n)>(>*From )")
_UNFINISHED: Final = re.compile(rb">*(F(?:r(?:om?)?)?)?\Z")


def to_store(data: bytes) -> bytes:
    """Wire form to store form of a whole message."""
    return data.replace(b"\r\n", b"\n")


def to_wire(data: bytes) -> bytes:
    """Store form to wire form of a whole message, or of any piece of one."""
    return data.replace(b"\n", b"\r\n")


def wire_size(store: bytes) -> int:
    """Bytes that the wire form of this store form has."""
    return len(store) + store.count(b"\n")


class ToStore:
    """`to_store` for data that comes in pieces."""

    __slots__ = ("_cr",)

    def __init__(self) -> None:
        self._cr = False

    def feed(self, chunk: bytes) -> bytes:
        """The store form of what can be told so far: a CR at the end waits for the next piece."""
        if self._cr:
            chunk = b"\r" + chunk
        self._cr = chunk.endswith(b"\r")
        if self._cr:
            chunk = chunk[:-1]
        return chunk.replace(b"\r\n", b"\n")

    def finish(self) -> bytes:
        """What still waits at the end of the message."""
        rest = b"\r" if self._cr else b""
        self._cr = False
        return rest


class ToWire:
    """`to_wire` for data that comes in pieces; it needs no memory, and is a class so that both directions look alike."""

    __slots__ = ()

    def feed(self, chunk: bytes) -> bytes:
        """The wire form of the piece."""
        return chunk.replace(b"\n", b"\r\n")

    def finish(self) -> bytes:
        """Nothing ever waits."""
        return b""


def _may_have_from(data: bytes) -> bool:
    return data.startswith((b"From ", b">")) or b"\nFrom " in data or b">From " in data


def quote_from(data: bytes) -> bytes:
    """One `>` more before each line of the store form that begins with `>*From `."""
    return _FROM_LINE.sub(rb">\1", data) if _may_have_from(data) else data


def unquote_from(data: bytes) -> bytes:
    """One `>` less before each line of the store form that begins with `>+From `."""
    return _QUOTED_LINE.sub(rb"\1", data) if b">From " in data else data


class QuoteFrom:
    """`quote_from` for data that comes in pieces. At most four bytes wait for the next piece."""

    __slots__ = ("_held", "_in_start")

    def __init__(self) -> None:
        self._held = b""
        self._in_start = True  # the data goes on at the start of a line, or within the `>` there

    def feed(self, chunk: bytes) -> bytes:
        """The quoted form of what can be told so far."""
        data, in_start = self._held + chunk, self._in_start
        start = data.rfind(b"\n") + 1
        self._held, self._in_start = b"", False
        if (start or in_start) and (match := _UNFINISHED.match(data, start)):
            self._held, self._in_start = match[1] or b"", True
            data = data[: len(data) - len(self._held)]
        if b"From " not in data:
            return data
        return (_FROM_LINE if in_start else _FROM_LINE_LATER).sub(rb">\1", data)

    def finish(self) -> bytes:
        """What still waits at the end of the message."""
        rest, self._held, self._in_start = self._held, b"", True
        return rest


class UnquoteFrom:
    """`unquote_from` for data that comes in pieces. At most five bytes wait for the next piece."""

    __slots__ = ("_held", "_in_start")

    def __init__(self) -> None:
        self._held = b""
        self._in_start = True

    def feed(self, chunk: bytes) -> bytes:
        """The unquoted form of what can be told so far."""
        data, in_start = self._held + chunk, self._in_start
        start = data.rfind(b"\n") + 1
        self._held, self._in_start = b"", False
        if (start or in_start) and (match := _UNFINISHED.match(data, start)):
            # One `>` of the run waits too, because it is the one that may have to go.
            length = len(match[1] or b"") + (len(match[0]) > len(match[1] or b""))
            self._held, self._in_start = data[len(data) - length :], True
            data = data[: len(data) - length]
        if b">From " not in data:
            return data
        return (_QUOTED_LINE if in_start else _QUOTED_LINE_LATER).sub(rb"\1", data)

    def finish(self) -> bytes:
        """What still waits at the end of the message."""
        rest, self._held, self._in_start = self._held, b"", True
        return rest
