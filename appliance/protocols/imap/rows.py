"""Rows of FETCH from values that are bytes already.

Ten thousand rows are one formatting step each: the asked items become a template and a tuple getter once, and every
message is a plain tuple. Texts of messages (`BODY[...]`) are sent apart, because they stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Final

COLUMNS: Final = (
    "MSN",
    "UID",
    "FLAGS",
    "INTERNALDATE",
    "RFC822.SIZE",
    "ENVELOPE",
    "BODYSTRUCTURE",
    "BODY",
    "MODSEQ",
    "EMAILID",
    "THREADID",
    "SAVEDATE",
    "PREVIEW",
)
"""The order of a row's tuple. Numbers are int, the others bytes in wire form; what no item asks for may be None, and missing
at the end."""
_FORMS: Final = {
    "UID": b"UID %d",
    "RFC822.SIZE": b"RFC822.SIZE %d",
    "MODSEQ": b"MODSEQ (%d)",
    "EMAILID": b"EMAILID (%b)",
}


class RowFormat:
    """The form of the rows for these items (names of `COLUMNS` but MSN)."""

    __slots__ = ("_getter", "_template", "names")

    def __init__(self, names: Sequence[str], *, tail: bytes = b")\r\n") -> None:
        self.names = tuple(names)
        words = [_FORMS.get(name) or b"%b %%b" % name.encode("ascii") for name in names]
        self._template = b"* %d FETCH (" + b" ".join(words) + tail
        self._getter: Callable[[tuple[object, ...]], object] = itemgetter(
            *(COLUMNS.index(name) for name in ("MSN", *names))
        )

    def join(self, rows: Iterable[tuple[object, ...]]) -> bytes:
        """All rows, in their order."""
        template, getter = self._template, self._getter
        return b"".join([template % getter(row) for row in rows])


class OpenRow(RowFormat):
    """The beginning of one row that texts follow: `* 1 FETCH (UID 7 `; the texts and `)` are the caller's."""

    __slots__ = ()

    def __init__(self, names: Sequence[str]) -> None:
        if names:
            super().__init__(names, tail=b" ")
        else:
            self.names = ()
            self._template = b"* %d FETCH ("
            self._getter = _number

    def begin(self, row: tuple[object, ...]) -> bytes:
        line: bytes = self._template % self._getter(row)
        return line


def _number(row: tuple[object, ...]) -> object:
    return row[0]
