"""The message inside DATA: dots, line ends and bounds; both directions, in pieces. And the message in chunks of BDAT.

Only CR LF . CR LF ends a message. A CR or LF that stands alone is never taken for a line end while its end is searched,
and it is either refused or made a line end of its own, so what goes on to another server has only CR LF in it: nothing
that the two servers could read differently (RFC 5321, 4.1.1.4; known as SMTP smuggling).
"""

from __future__ import annotations

import re
from typing import Final

from appliance.protocols.smtp.replies import Reply

CHUNK: Final = 65536
"""Bytes of a message that are gathered before a piece is given out."""
MAX_FIELD: Final = 100 * 1024
"""Bytes of one header field with its folding."""

TOO_BIG: Final = Reply(552, "message is larger than this server accepts", "5.3.4")
BARE_LINE_END: Final = Reply(550, "message has a CR or LF that stands alone", "5.6.11")
FIELD_TOO_LONG: Final = Reply(554, "message has a header field that is too long", "5.6.0")
HAS_NUL: Final = Reply(554, "message has NUL symbols", "5.6.0")

_FIELD_START: Final = re.compile(rb"\n(?![ \t])")


class DataReader:
    """Takes a message out of the connection's buffer.

    While a message is read the buffer begins with the line end before the text that was not taken yet (the one of the
    DATA command at first), so the end is found by one search, and so are dots at the start of a line.

    `clean`: lone CR and LF are made line ends instead of being refused. `limit`: octets of the wire form, 0 for no limit.
    NUL is refused: no valid message has it (RFC 5322, 4; RFC 5321, 4.5.2 leaves it to the receiver), and programs that
    read mailboxes cut lines there.
    """

    __slots__ = (
        "_after_line",
        "_clean",
        "_ended",
        "_field",
        "_first",
        "_in_header",
        "_limit",
        "_scanned",
        "refusal",
        "size",
    )

    def __init__(self, *, limit: int = 0, clean: bool = False) -> None:
        self._limit = limit
        self._clean = clean
        self._scanned = 0
        self._first = True
        self._in_header = True
        self._after_line = False
        self._field = 0
        self._ended = False
        self.size = 0
        self.refusal: Reply | None = None

    @property
    def ended(self) -> bool:
        """Whether the end was found and taken out of the buffer."""
        return self._ended

    def refuse(self, reply: Reply) -> None:
        """Give out no more pieces; the first reply counts."""
        if self.refusal is None:
            self.refusal = reply

    def take(self, buffer: bytearray) -> bytes | None:
        """The next piece in store form (maybe empty, when it was the last or was refused), None if more is needed."""
        end = buffer.find(b"\r\n.\r\n", self._scanned)
        if end >= 0:
            # Long waits in the buffer are cut too: a piece is never much larger than CHUNK.
            if end <= CHUNK * 2:
                raw = bytes(buffer[: end + 2])
                del buffer[: end + 5]
                self._ended = True
                return self._piece(raw)
            self._scanned = max(0, end - CHUNK)
            cut = self._cut(buffer, CHUNK)
        else:
            self._scanned = max(0, len(buffer) - 4)
            if len(buffer) <= CHUNK:
                return None
            cut = self._cut(buffer, len(buffer) - 2)
        raw = bytes(buffer[:cut])
        del buffer[:cut]
        self._scanned = max(0, self._scanned - cut)
        return self._piece(raw)

    @staticmethod
    def _cut(buffer: bytearray, limit: int) -> int:
        """Where to cut: before a line end, which stays in the buffer; within a line only if it fills all."""
        cut = buffer.rfind(b"\r\n", 1, limit)
        if cut > 0:
            return cut
        return limit - 1 if buffer[limit - 1] == 0x0D else limit

    def _piece(self, raw: bytes) -> bytes:
        store = raw.replace(b"\r\n", b"\n")
        lines = len(raw) - len(store)
        # After the replacement every CR stood alone, and LF beyond the number of replacements did too.
        if b"\r" in store or store.count(b"\n") != lines:
            if self._clean:
                store = store.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            else:
                self.refuse(BARE_LINE_END)
        if b"\0" in store:
            self.refuse(HAS_NUL)
        size = len(raw)
        if b"\n." in store:
            stuffed = len(store)
            store = store.replace(b"\n.", b"\n")
            size -= stuffed - len(store)
        if self._in_header:
            self._watch_header(store)
        if self._first:
            self._first = False
            store = store[1:]
            size -= 2
        self.size += size
        if self._limit and self.size > self._limit:
            self.refuse(TOO_BIG)
        return store if self.refusal is None else b""

    def _watch_header(self, store: bytes) -> None:
        # A piece begins with a line end, so after a piece that ended with one (a cut at the empty line) it is the end.
        end = 0 if self._after_line else store.find(b"\n\n")
        self._after_line = store.endswith(b"\n")
        header = store if end < 0 else store[:end]
        self._in_header = end < 0
        if end >= 0 and self._field + len(header) <= MAX_FIELD:
            return  # all fields of it together are short enough
        fields = _FIELD_START.split(header)
        if max(self._field + len(fields[0]), *map(len, fields)) > MAX_FIELD:
            self.refuse(FIELD_TOO_LONG)
        self._field = len(fields[-1]) + (self._field if len(fields) == 1 else 0)


class ChunkReader:
    """Takes a message that comes in chunks of told lengths (BDAT, RFC 3030): `begin` for each chunk, then `take` its pieces
    until it has `ended`. No dots are stuffed; a line end may be cut by the border of two chunks. The bounds and the rules for
    lone line ends and NUL are those of DataReader; a last line without its end gets one.
    """

    __slots__ = ("_clean", "_ended", "_held", "_last", "_left", "_limit", "_line_end", "refusal", "size")

    def __init__(self, *, limit: int = 0, clean: bool = False) -> None:
        self._limit = limit
        self._clean = clean
        self._left = 0
        self._last = False
        self._ended = True
        self._held = b""
        self._line_end = True
        self.size = 0
        self.refusal: Reply | None = None

    @property
    def ended(self) -> bool:
        """Whether the chunk was taken to its end."""
        return self._ended

    @property
    def last(self) -> bool:
        """Whether the chunk is the last one of the message."""
        return self._last

    def refuse(self, reply: Reply) -> None:
        """Give out no more pieces; the first reply counts."""
        if self.refusal is None:
            self.refusal = reply

    def begin(self, size: int, last: bool) -> None:
        """A chunk of that many octets comes."""
        self._left, self._last, self._ended = size, last, False
        self.size += size
        if self._limit and self.size > self._limit:
            self.refuse(TOO_BIG)

    def take(self, buffer: bytearray) -> bytes | None:
        """The next piece in store form (maybe empty), None if more input is needed."""
        wanted = min(self._left, CHUNK)
        if len(buffer) < wanted:
            if self.refusal is not None:
                self._left -= len(buffer)
                buffer.clear()
            return None
        raw = self._held + bytes(buffer[:wanted])
        del buffer[:wanted]
        self._left -= wanted
        self._ended = not self._left
        self._held = b""
        if raw.endswith(b"\r") and not (self._ended and self._last):
            raw, self._held = raw[:-1], b"\r"
        store = raw.replace(b"\r\n", b"\n")
        if b"\r" in store or store.count(b"\n") != len(raw) - len(store):
            if self._clean:
                store = store.replace(b"\r", b"\n")
            else:
                self.refuse(BARE_LINE_END)
        if b"\0" in store:
            self.refuse(HAS_NUL)
        if store:
            self._line_end = store.endswith(b"\n")
        if self._ended and self._last and not self._line_end:
            store += b"\n"
        return store if self.refusal is None else b""


class DataWriter:
    """Store form in, the bytes behind DATA out: CR LF, dots stuffed (RFC 5321, 4.5.2), the final dot.

    A CR that stands alone in a stored message would be a line end for some servers; it goes out as a blank.
    """

    __slots__ = ("_line_start",)

    def __init__(self) -> None:
        self._line_start = True

    def feed(self, chunk: bytes) -> bytes:
        """The wire form of a piece of the message."""
        if not chunk:
            return b""
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r", b" ")
        if self._line_start and chunk.startswith(b"."):
            chunk = b"." + chunk
        self._line_start = chunk.endswith(b"\n")
        if b"\n." in chunk:
            chunk = chunk.replace(b"\n.", b"\n..")
        return chunk.replace(b"\n", b"\r\n")

    def finish(self) -> bytes:
        """The end, with a line end if the message had none."""
        return b".\r\n" if self._line_start else b"\r\n.\r\n"
