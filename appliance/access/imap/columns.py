"""FETCH of whole mailboxes without texts: rows are formatted from columns, with nothing done for each message but that.

Ten thousand rows of flags, sizes and finished ENVELOPE and BODYSTRUCTURE are what a client asks for when it comes; this is
the way of those. Items beyond `ITEMS` go the longer way of `fetching`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from appliance.access.imap.selected import Selected
from appliance.accounts.client import Columns, Fetch
from appliance.protocols.imap import MessageView
from appliance.protocols.imap.dates import DateTexts

__all__ = ["FLAGS_ONLY", "ITEMS", "ColumnFormat", "numbers_of"]

ITEMS: Final = frozenset({"UID", "FLAGS", "MODSEQ", "RFC822.SIZE", "INTERNALDATE", "ENVELOPE", "BODYSTRUCTURE", "BODY"})
FLAGS_ONLY: Final = frozenset({"UID", "FLAGS", "MODSEQ", "RFC822.SIZE", "INTERNALDATE"})
"""What needs no texts."""
_FORMS: Final = {"UID": b"UID %d", "RFC822.SIZE": b"RFC822.SIZE %d", "MODSEQ": b"MODSEQ (%d)"}


def numbers_of(view: MessageView, uids: Sequence[int]) -> Sequence[int]:
    """The sequence numbers of UIDs (ascending) that the client knows."""
    if not uids:
        return ()
    known = view.uids
    at = bisect_left(known, uids[0])
    if known[at : at + len(uids)] == array("I", uids):
        return range(at + 1, at + 1 + len(uids))
    return [number for number, _ in view.numbered(uids)]


class ColumnFormat:
    """Rows of these items (of `ITEMS`)."""

    __slots__ = ("_dates", "_names", "_selected", "_template", "what")

    def __init__(self, selected: Selected, names: Sequence[str]) -> None:
        self._selected = selected
        self._names = tuple(names)
        self._dates = DateTexts()
        words = [_FORMS.get(name) or b"%b %%b" % name.encode("ascii") for name in names]
        self._template = b"* %d FETCH (" + b" ".join(words) + b")\r\n"
        self.what = Fetch.NOTHING
        for name, bit in (("ENVELOPE", Fetch.ENVELOPE), ("BODYSTRUCTURE", Fetch.BODYSTRUCTURE), ("BODY", Fetch.BODY)):
            if name in names:
                self.what |= bit

    def join(self, rows: Columns) -> bytes:
        """All rows in their order."""
        columns: list[Sequence[object]] = [numbers_of(self._selected.view, rows.uids)]
        columns += [self._column(name, rows) for name in self._names]
        template = self._template
        return b"".join([template % row for row in zip(*columns, strict=True)])

    def _column(self, name: str, rows: Columns) -> Sequence[object]:
        found: Sequence[object] | None = None
        match name:
            case "UID":
                found = rows.uids
            case "FLAGS":
                text = self._selected.flag_texts.text
                pairs = list(zip(rows.flags, rows.keywords, strict=True))
                texts = {pair: text(*pair) for pair in set(pairs)}
                found = [texts[pair] for pair in pairs]
            case "MODSEQ":
                found = rows.modseqs
            case "RFC822.SIZE":
                found = rows.sizes
            case "INTERNALDATE":
                date = self._dates.text
                found = [date(moment, 0) for moment in rows.dates]
            case "ENVELOPE":
                found = rows.envelopes
            case "BODYSTRUCTURE":
                found = rows.structures
            case "BODY":
                found = rows.bodies
        assert found is not None
        return found
