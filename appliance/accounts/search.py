"""SEARCH: a program of nested lists, tried on the messages of a mailbox (RFC 3501, 6.4.4).

    ["ALL"]  ["AND", p, ...]  ["OR", p, ...]  ["NOT", p]
    ["FLAG", bit]  ["KEYWORD", name]  ["UIDS", packed UIDs]  ["MODSEQ", n] (that or higher)
    ["ARRIVED", seconds since 1970] (then or later)
    ["SINCE", day]  ["BEFORE", day]  ["ON", day], and the same with SENT in front: the Date field; a day as `date.toordinal()`
    ["LARGER", octets]  ["SMALLER", octets]  ["HEADER", field, text]  ["SUBJECT", text] ...  ["BODY", text]  ["TEXT", text]

What costs nothing is tried first, in slices on the event loop; contents are read in slices by disk jobs, only those of the
messages that are still in question. Texts are compared as decoded Unicode without regard to case.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import Any, Final

import trio

from appliance.accounts.box import Box, View
from appliance.accounts.client import AccountError, pack, unpack
from appliance.accounts.fulltext import narrowed
from appliance.accounts.matching import InBody
from appliance.accounts.session import Session
from appliance.accounts.state import State
from appliance.formats.charsets import decode_text, unicode_casemap
from appliance.formats.dates import parse_date_time
from appliance.formats.encodedwords import decode_words
from appliance.formats.headers import fields, get
from appliance.formats.mailboxes import parse_mailboxes
from appliance.kernel.files import Files
from appliance.mailstore.flags import RECENT
from appliance.mailstore.store import Found, Store
from appliance.mailstore.table import Table

__all__ = ["search"]

MAX_NODES: Final = 2000
MAX_DEPTH: Final = 150
_SLICE: Final = 5000
_RUN: Final = 100_000
_READ_COUNT: Final = 128
_READ_BYTES: Final = 2 << 20
_HEADER: Final = 64 << 10
_LARGEST: Final = 32 << 20
"""Of larger messages only so much is searched."""
_EPOCH: Final = 719163
"""1970-01-01 as an ordinal."""
_ADDRESSES: Final = frozenset({b"from", b"to", b"cc", b"bcc", b"sender", b"reply-to"})
_FIELDS: Final = ("SUBJECT", "FROM", "TO", "CC", "BCC")

_Test = Callable[[bytes], bool]


async def search(state: State, session: Session, number: int, program: Any, charset: str) -> bytes:
    view = session.view(number)
    _check(program, 0, [MAX_NODES])
    box = view.box
    # The columns themselves: what is taken out of the table leaves them alone, what comes later lies behind their end.
    snapshot = Table()
    snapshot.replace(box.table.columns())
    run = _Run(state, view, snapshot, charset)
    hits = await run.filter(program, range(len(snapshot)))
    return pack(snapshot.uids[at] for at in hits)


def _check(program: Any, depth: int, left: list[int]) -> None:
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0 or not isinstance(program, (list, tuple)) or not program:
        raise AccountError("CANNOT", "The search is too complex")
    if not isinstance(program[0], str) or (program[0] == "NOT" and len(program) != 2):
        raise AccountError("CANNOT", "There is no such search key")
    if program[0] in ("AND", "OR", "NOT"):
        for part in program[1:]:
            _check(part, depth + 1, left)


def _bit(program: Sequence[Any]) -> int:
    """The flag that a message must have, or with NOT must not have; 0 for any other program."""
    match program:
        case ["FLAG", int(bit)] | ["NOT", ["FLAG", int(bit)]] if (
            bit != RECENT and 0 < bit < 1 << 16 and not bit & bit - 1
        ):
            return bit
    return 0


def _cost(program: Sequence[Any]) -> int:
    name = program[0]
    if name in ("AND", "OR", "NOT"):
        return max((_cost(part) for part in program[1:]), default=0)
    if name in ("BODY", "TEXT"):
        return 3
    return 2 if name == "HEADER" or name in _FIELDS or name.startswith("SENT") else 1


class _Run:
    """One search."""

    def __init__(self, state: State, view: View, table: Table, charset: str) -> None:
        self.state = state
        self.view = view
        self.table = table
        self.charset = charset

    async def filter(self, program: Sequence[Any], candidates: Sequence[int]) -> list[int]:
        """Those of the candidates (ascending indices) that the program fits, ascending."""
        name = program[0]
        if not candidates:
            return []
        if name == "AND":
            for part in sorted(program[1:], key=_cost):
                candidates = await self.filter(part, candidates)
            return list(candidates)
        if name == "OR":
            left: Sequence[int] = candidates
            found: list[int] = []
            for part in sorted(program[1:], key=_cost):
                hits = await self.filter(part, left)
                found += hits
                gone = set(hits)
                left = [at for at in left if at not in gone]
            return sorted(found)
        bit = _bit(program)
        if bit and isinstance(candidates, range):
            return await self._flagged(bit, len(candidates), name != "NOT")
        if name == "NOT":
            out = set(await self.filter(program[1], candidates))
            return [at for at in candidates if at not in out]
        test = self._cheap(program)
        if test is None:
            return await self._read(program, candidates)
        result: list[int] = []
        for start in range(0, len(candidates), _SLICE):
            result += filter(test, candidates[start : start + _SLICE])
            await trio.lowlevel.checkpoint()
        return result

    async def _flagged(self, bit: int, count: int, there: bool) -> list[int]:
        """All messages with or without a flag, by a look at one byte of each."""
        shift = 0 if bit < 256 else 1
        if sys.byteorder == "big":
            shift = 1 - shift
        wanted = bytes(((value << (8 if bit > 255 else 0)) & bit != 0) == there for value in range(256))
        found: list[int] = []
        for start in range(0, count, _RUN):
            stop = min(count, start + _RUN)
            plane = self.table.flags[start:stop].tobytes()[shift::2].translate(wanted)
            found += compress(range(start, stop), plane)
            await trio.lowlevel.checkpoint()
        return found

    def _cheap(self, program: Sequence[Any]) -> Callable[[int], bool] | None:
        """A test by numbers alone, None if the message has to be read."""
        table, view = self.table, self.view
        match program:
            case ["ALL"]:
                return lambda at: True
            case ["FLAG", int(bit)]:
                if bit == RECENT:
                    return lambda at: view.is_recent(table.uids[at])
                flags = table.flags
                return lambda at: bool(flags[at] & bit)
            case ["KEYWORD", str(word)]:
                names = [name.casefold() for name in view.box.info.keywords]
                mask = 1 << names.index(word.casefold()) if word.casefold() in names else 0
                keywords = table.keywords
                return lambda at: bool(keywords[at] & mask)
            case ["UIDS", bytes(packed)]:
                wanted = unpack(packed)
                uids = table.uids

                def among(at: int) -> bool:
                    place = bisect_left(wanted, uids[at])
                    return place < len(wanted) and wanted[place] == uids[at]

                wanted = type(wanted)("I", sorted(wanted))
                return among
            case ["MODSEQ", int(modseq)]:
                modseqs = table.modseqs
                return lambda at: modseqs[at] >= modseq
            case ["LARGER", int(octets)]:
                wires = table.wires
                return lambda at: wires[at] > octets
            case ["SMALLER", int(octets)]:
                wires = table.wires
                return lambda at: wires[at] < octets
            case ["ARRIVED", int(seconds)]:
                dates = table.dates
                return lambda at: dates[at] >= seconds
            case ["SINCE" | "BEFORE" | "ON" as relation, int(day)]:
                dates = table.dates
                begin = (day - _EPOCH) * 86400
                if relation == "SINCE":
                    return lambda at: dates[at] >= begin
                if relation == "BEFORE":
                    return lambda at: dates[at] < begin
                return lambda at: begin <= dates[at] < begin + 86400
            case ["HEADER" | "BODY" | "TEXT" | "SENTSINCE" | "SENTBEFORE" | "SENTON", *_]:
                return None
            case [str(field), _] if field in _FIELDS:
                return None
        raise AccountError("CANNOT", "There is no such search key")

    def _text(self, text: Any) -> str:
        if isinstance(text, bytes):
            text = decode_text(text, self.charset)
        if not isinstance(text, str):
            raise AccountError("CANNOT", "There is no such search key")
        return unicode_casemap(text)

    def _costly(self, program: Sequence[Any]) -> tuple[_Test, bool]:
        """A test of a content, and whether the header is enough."""
        match program:
            case ["HEADER", str(field), text]:
                return _Header(field, self._text(text)), True
            case ["BODY", text]:
                return InBody(self._text(text), whole=False), False
            case ["TEXT", text]:
                return InBody(self._text(text), whole=True), False
            case [str(relation), int(day)] if relation.startswith("SENT"):
                return _Sent(relation[4:], day), True
            case [str(field), text]:
                return _Header(field, self._text(text)), True
        raise AccountError("CANNOT", "There is no such search key")

    async def _read(self, program: Sequence[Any], candidates: Sequence[int]) -> list[int]:
        test, header = self._costly(program)
        result: list[int] = []
        at = 0
        box = self.view.box
        if not header and (known := await narrowed(self.state, box, self._text(program[1]))) is not None:
            upto, found = known
            uids = self.table.uids
            candidates = [index for index in candidates if uids[index] > upto or uids[index] in found]
        while at < len(candidates):
            part: list[int] = []
            total = 0
            while at < len(candidates) and len(part) < _READ_COUNT and total < _READ_BYTES:
                index = candidates[at]
                length = self.table.lengths[index]
                total += min(length, _HEADER if header else _LARGEST)
                part.append(index)
                at += 1
            hits = await self._slice(box, part, test, header)
            result += [index for index, hit in zip(part, hits, strict=True) if hit]
        return result

    async def _slice(self, box: Box, part: list[int], test: _Test, header: bool) -> list[bool]:
        for _ in range(5):
            async with box:
                # The messages as they are now: an .mbox may have been written anew, names in an .mdir change with flags.
                founds: list[Found | None] = []
                for index in part:
                    now = box.table.index(self.table.uids[index])
                    founds.append(box.table.found(now) if now >= 0 else None)
                try:
                    return await self.state.shared.disk.run(_try, box.store, founds, test, header)
                except FileNotFoundError:
                    continue
        raise AccountError("TEMPORARY", "The mailbox is being changed")


def _try(files: Files, store: Store, founds: list[Found | None], test: _Test, header: bool) -> list[bool]:
    limit = _HEADER if header else _LARGEST
    whole = [found for found in founds if found is not None and found.length <= limit]
    contents = iter(store.read(files, whole))
    return [found is not None and test(_content(files, store, found, limit, contents)) for found in founds]


def _content(files: Files, store: Store, found: Found, limit: int, contents: Iterator[bytes]) -> bytes:
    return next(contents) if found.length <= limit else store.raw(files, found, 0, limit)


class _Header:
    """A field holds a text; any such field if the text is empty."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name.encode("utf-8", "surrogateescape").lower()
        self.text = text

    def __call__(self, content: bytes) -> bool:
        text = self.text
        for field in fields(content):
            if field.name.lower() != self.name:
                continue
            if not text or text in unicode_casemap(decode_words(field.value)):
                return True
            if self.name in _ADDRESSES and b"(" in field.value and text in unicode_casemap(_envelope(field.value)):
                return True
        return False


def _envelope(value: bytes) -> str:
    """Addresses as an envelope has them (RFC 3501, 6.4.4): without comments in the middle of them."""
    return ", ".join(
        f"{decode_words(name or b'')} <{b'@'.join(part for part in (local, domain) if part).decode('utf-8', 'replace')}>"
        for name, local, domain, _ in parse_mailboxes(value[:_HEADER])
    )


class _Sent:
    """The Date field is of a day, zones disregarded."""

    def __init__(self, relation: str, day: int) -> None:
        self.relation = relation
        self.day = day

    def __call__(self, content: bytes) -> bool:
        value = get(content, b"date")
        when = parse_date_time(value) if value is not None else None
        if when is None:
            return False
        day = when.date().toordinal()
        if self.relation == "SINCE":
            return day >= self.day
        return day < self.day if self.relation == "BEFORE" else day == self.day
