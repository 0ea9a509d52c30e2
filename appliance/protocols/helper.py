"""The lines between the server and a program beside it: numbered requests, numbered answers (manual, chapters 8 and 28).

Each request and each answer is one line. A request begins with a number, its answer with the same one, and answers may come in
any order. The first request of all, `INTF version`, tells the program what the server knows; it answers with its own version
and the smaller one counts. Lines of the program that begin with `*` are remarks.

The conversation lives longer than the program: what was not answered is in `pending`, and `again` gives it for the next one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["MAX_ANSWER", "Answer", "Event", "HelperConversation", "Remark", "Stray"]

MAX_ANSWER: Final = 4096
"""Octets of an answer (manual, chapter 28). What a longer line has beyond them is dropped, the beginning counts."""
_LAST_NUMBER: Final = 2**31 - 1
_MAX_DIGITS: Final = 10


class Answer(NamedTuple):
    """The answer to a request that was pending: the first word in capitals, and the rest of the line. `cut`: it was longer
    than an answer may be."""

    number: int
    word: str
    rest: str
    cut: bool = False


class Remark(NamedTuple):
    """A line with a star: for the log only."""

    text: str


class Stray(NamedTuple):
    """A line that is no answer to anything that was asked."""

    text: str


Event = Answer | Remark | Stray


class HelperConversation:
    """The server's side. `version` is what the server speaks, `agreed` what counts: None until the program has answered."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.agreed: int | None = None
        self.pending: dict[int, str] = {}
        self._hello = 0
        self._last = 0
        self._buffer = b""
        self._skipping = False

    def hello(self) -> bytes:
        """The first line to a program that was just started: everything that the last one left is forgotten, but not what it
        was asked."""
        self.agreed = None
        self._buffer, self._skipping = b"", False
        self._hello = self._number()
        return self._line(self._hello, f"INTF {self.version}")

    def ask(self, text: str) -> tuple[int, bytes]:
        """The number of a new request and its line, without the line end. ValueError for a text of several lines."""
        if "\n" in text or "\r" in text:
            raise ValueError("a request is one line")
        number = self._number()
        self.pending[number] = text
        return number, self._line(number, text)

    def again(self) -> list[tuple[int, bytes]]:
        """The lines of all that is pending, under their old numbers, for a new program."""
        return [(number, self._line(number, text)) for number, text in self.pending.items()]

    def forget(self, number: int) -> None:
        """Nobody waits for that answer any more; if it comes, it is a stray."""
        self.pending.pop(number, None)

    def _number(self) -> int:
        self._last = self._last % _LAST_NUMBER + 1
        while self._last in self.pending:
            self._last = self._last % _LAST_NUMBER + 1
        return self._last

    @staticmethod
    def _line(number: int, text: str) -> bytes:
        return f"{number:05d} {text}".encode("utf-8", "surrogateescape")

    def receive(self, data: bytes) -> list[Event]:
        """What the next octets of the program's output say; an unfinished line waits for its end."""
        data = self._buffer + data
        self._buffer = b""
        events: list[Event] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if self._skipping:
                self._skipping = False
            else:
                self._take(data[start : min(end, start + MAX_ANSWER)], end - start > MAX_ANSWER + 1, events)
            start = end + 1
        rest = data[start:]
        if self._skipping:
            return events
        if len(rest) > MAX_ANSWER + 1:
            self._take(rest[:MAX_ANSWER], True, events)
            self._skipping = True
        else:
            self._buffer = rest
        return events

    def _take(self, raw: bytes, cut: bool, events: list[Event]) -> None:
        line = raw.decode("utf-8", "surrogateescape").strip("\r \t")
        if not line:
            return
        if line.startswith("*"):
            events.append(Remark(line[1:].strip()))
            return
        digits, _, rest = line.partition(" ")
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_DIGITS:
            events.append(Stray(line))
            return
        number = int(digits)
        word, _, rest = rest.strip().partition(" ")
        word, rest = word.upper(), rest.strip()
        if number == self._hello and self.agreed is None:
            self._greeted(word, rest)
        elif number in self.pending:
            events.append(Answer(number, word, rest, cut))
        else:
            events.append(Stray(line))

    def _greeted(self, word: str, rest: str) -> None:
        """`OK n` and `INTF n` are both in use; a program that knows no versions says ERROR."""
        digits = rest.split(" ", 1)[0]
        theirs = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < _MAX_DIGITS else 0
        self.agreed = min(self.version, theirs) if word in ("OK", "INTF") else 0
