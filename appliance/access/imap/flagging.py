"""Flags between the gate's bits and the client's words (RFC 3501, 2.3.2). Marks of ours without a system flag are shown as keywords."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from appliance.accounts.client import Flag
from appliance.protocols.imap import render
from appliance.protocols.imap.flags import SYSTEM_FLAGS, FlagList

_SYSTEM: Final = {
    "\\Answered": Flag.ANSWERED,
    "\\Flagged": Flag.FLAGGED,
    "\\Deleted": Flag.DELETED,
    "\\Seen": Flag.SEEN,
    "\\Draft": Flag.DRAFT,
    "\\Recent": Flag.RECENT,
}
_MARKS: Final = {"$Redirected": Flag.REDIRECTED, "$MDNSent": Flag.MDN_SENT, "$Media": Flag.MEDIA}
_MARKS_UPPER: Final = {name.upper(): (name, flag) for name, flag in _MARKS.items()}
_WORDS: Final = tuple((int(flag), name) for name, flag in (*_SYSTEM.items(), *_MARKS.items()))
_MAX_TEXTS: Final = 1024

SEEN: Final = int(Flag.SEEN)
RECENT: Final = int(Flag.RECENT)
MARKS: Final = tuple(_MARKS)


def bit(name: str) -> int:
    """The bit of a system flag."""
    return int(_SYSTEM[name])


def mark(name: str) -> tuple[str, int] | None:
    """The mark of ours that a keyword (any case) stands for, and its bit."""
    found = _MARKS_UPPER.get(name.upper())
    return None if found is None else (found[0], int(found[1]))


def bits(flags: FlagList) -> tuple[int, tuple[str, ...]]:
    """The mask and the real keywords of what a client wrote."""
    mask = 0
    for name in flags.system:
        mask |= bit(name)
    keywords = []
    for name in flags.keywords:
        ours = mark(name)
        if ours is None:
            keywords.append(name)
        else:
            mask |= ours[1]
    return mask, tuple(keywords)


class FlagTexts:
    """`(\\Seen Later)` for bits and keywords; few of them are different, so they are remembered."""

    __slots__ = ("_recent", "_texts")

    def __init__(self) -> None:
        self._recent = True
        self._texts: dict[tuple[int, tuple[str, ...]], bytes] = {}

    def forget_recent(self) -> None:
        """No \\Recent is told any more (RFC 9051, appendix E)."""
        self._recent = False
        self._texts.clear()

    def text(self, flags: int, keywords: tuple[str, ...]) -> bytes:
        found = self._texts.get((flags, keywords))
        if found is None:
            if len(self._texts) >= _MAX_TEXTS:
                self._texts.clear()
            shown = flags if self._recent else flags & ~RECENT
            words = [name for value, name in _WORDS if shown & value]
            found = self._texts[flags, keywords] = render.flag_list([*words, *keywords])
        return found


def may_store(flags: int, keywords: Iterable[str], rights: str) -> bool:
    """\\Seen needs s, \\Deleted d (t in today's letters), all others w (RFC 4314, 4)."""
    if flags & Flag.SEEN and "s" not in rights:
        return False
    if flags & Flag.DELETED and not may_delete(rights):
        return False
    others = flags & ~(Flag.SEEN | Flag.DELETED)
    return not ((others or tuple(keywords)) and "w" not in rights)


def may_delete(rights: str) -> bool:
    return "d" in rights or "t" in rights


def may_expunge(rights: str) -> bool:
    return "d" in rights or "e" in rights


def permanent(rights: str, keywords: Iterable[str]) -> list[str]:
    """PERMANENTFLAGS: what may be set here, `\\*` for new keywords."""
    names = [name for name in SYSTEM_FLAGS if may_store(bit(name), (), rights)]
    if "w" in rights:
        names += [*MARKS, *keywords, "\\*"]
    return names
