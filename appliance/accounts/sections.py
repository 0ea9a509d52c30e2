"""Sections of messages as IMAP names them, cut from store form and given in wire form."""

from __future__ import annotations

from typing import Final

from appliance.accounts.client import AccountError
from appliance.formats.headers import header_end
from appliance.formats.mime import parse_structure
from appliance.formats.wire import UnquoteFrom, to_wire
from appliance.kernel.files import Files
from appliance.mailstore.flags import QUOTED
from appliance.mailstore.store import Found, Store

__all__ = ["Reader", "Section", "cut", "section_path"]

Section = tuple[tuple[int, ...], str]
"""A part's path and HEADER, TEXT, MIME or nothing."""

_CHUNK: Final = 1 << 18
_SMALL: Final = 1 << 20
_LARGEST: Final = 1 << 27
"""Messages whose numbered parts are looked up; of larger ones only the whole, HEADER and TEXT can be had."""


def section_path(section: str) -> Section:
    """`1.2.MIME` as its path and its last word. CANNOT for anything else."""
    words = section.upper().split(".") if section else []
    text = words.pop() if words and words[-1] in ("HEADER", "TEXT", "MIME") else ""
    if (
        len(words) > 60
        or not all(word.isdecimal() and 0 < len(word) < 6 for word in words)
        or (text == "MIME" and not words)
    ):
        raise AccountError("CANNOT", "There is no such section")
    return tuple(map(int, words)), text


def cut(content: bytes, section: Section) -> bytes | None:
    """The section of a message in store form; None if there is none."""
    path, text = section
    if path:
        place = parse_structure(content).section(path, text)
        return None if place is None else content[place[0] : place[1]]
    if not text:
        return content
    end = header_end(content)
    return content[:end] if text == "HEADER" else content[end:]


class Reader:
    """Gives a section piece by piece; going forward costs no more than the pieces. Its `read` is a disk job."""

    __slots__ = ("_at", "_end", "_raw", "_rest", "_section", "_start", "_unquote", "_wire", "section", "total", "uid")

    def __init__(self, uid: int, name: str, section: Section) -> None:
        self.uid = uid
        self.section = name
        self._section = section
        self.total = -2
        self._start = self._end = 0
        self._rewind()

    def _rewind(self) -> None:
        self._at = 0  # wire offset of the next byte to give
        self._raw = 0  # offset in the stored bytes
        self._wire = 0  # offset in the store form
        self._rest = b""
        self._unquote = UnquoteFrom()

    def fits(self, uid: int, name: str, offset: int) -> bool:
        """Whether it is worth going on with this one."""
        return uid == self.uid and name == self.section

    def read(self, files: Files, store: Store, found: Found, offset: int, length: int) -> tuple[int, bytes]:
        """The wire size of the section, -1 if there is none, and at most `length` bytes from `offset`."""
        if self.total == -2:
            self._locate(files, store, found)
        if self.total <= 0 or offset >= self.total:
            return self.total, b""
        if offset < self._at:
            self._rewind()
        parts: list[bytes] = []
        while length > 0:
            piece = self._rest or self._next(files, store, found)
            if not piece:
                break
            skip = min(len(piece), max(0, offset - self._at))
            taken = piece[skip : skip + length]
            self._rest = piece[skip + len(taken) :]
            self._at += skip + len(taken)
            if taken:
                parts.append(taken)
                length -= len(taken)
                offset += len(taken)
        return self.total, b"".join(parts)

    def _locate(self, files: Files, store: Store, found: Found) -> None:
        path, text = self._section
        self._start, self._end = 0, 1 << 62
        if found.length <= _SMALL or path:
            if found.length > _LARGEST:
                self.total = -1
                return
            content = store.read(files, [found])[0]
            if path:
                place = parse_structure(content).section(path, text)
                if place is None:
                    self.total = -1
                    return
                self._start, self._end = place
            elif text:
                end = header_end(content)
                self._start, self._end = (0, end) if text == "HEADER" else (end, len(content))
            piece = content[self._start : self._end]
            self.total = len(piece) + piece.count(b"\n")
            return
        if text:
            head = store.read(files, [found])[0] if found.flags & QUOTED else store.raw(files, found, 0, _SMALL)
            end = header_end(head)
            self._start, self._end = (0, end) if text == "HEADER" else (end, 1 << 62)
        total = 0
        while piece := self._next(files, store, found):
            total += len(piece)
        self.total = total
        self._rewind()

    def _next(self, files: Files, store: Store, found: Found) -> bytes:
        """The next piece of the section in wire form, empty at its end."""
        while self._wire < self._end:
            if not found.flags & QUOTED:
                if self._raw < self._start:
                    self._raw = self._wire = self._start
                raw = store.raw(files, found, self._raw, min(_CHUNK, self._end - self._raw))
                if not raw:
                    return b""
                self._raw += len(raw)
                self._wire += len(raw)
                return to_wire(raw)
            raw = store.raw(files, found, self._raw, _CHUNK)
            self._raw += len(raw)
            piece = self._unquote.feed(raw) if raw else self._unquote.finish()
            begin = self._wire
            self._wire += len(piece)
            piece = piece[max(0, self._start - begin) : max(0, self._end - begin)]
            if piece:
                return to_wire(piece)
            if not raw:
                return b""
        return b""
