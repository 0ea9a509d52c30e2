"""SEARCH and UID SEARCH (RFC 3501, 6.4.4; RFC 9051, 6.4.4; RFC 4731, 5182, 5032, 9394, 8474): the keys as a program for the gate.

Sequence numbers mean something to this session only, so they become UIDs here. The gate answers for the mailbox as it is;
what the client does not know of yet is left out.
"""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from appliance.access.imap.flagging import bit, mark
from appliance.access.imap.selected import Selected
from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import pack
from appliance.protocols.imap import Command, commands, render, searchkey
from appliance.protocols.imap.sequence import SequenceSet, compact

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

RETURNED: Final = frozenset({"MIN", "MAX", "ALL", "COUNT", "SAVE", "PARTIAL"})
LONG: Final = 5000
"""A search in a mailbox of more messages than this tells that it goes on; so does one that reads texts."""
_BAD_CHARSET: Final = b"BADCHARSET (US-ASCII UTF-8)"


class Program:
    """Translates keys; see `accounts.search`."""

    __slots__ = ("_charset", "_selected", "_session", "modseq", "reads")

    def __init__(self, session: ImapSession, selected: Selected, charset: str | None) -> None:
        self._session = session
        self._selected = selected
        self._charset = "utf-8"
        #: Mod-sequences are among the keys.
        self.modseq = False
        #: Messages have to be read for it.
        self.reads = False
        if charset is not None:
            try:
                self._charset = codecs.lookup(charset).name
                "".encode(self._charset)
            except (LookupError, ValueError):  # also names that codecs cannot hold, and codecs that are not for text
                raise Refused("the charset is not known", _BAD_CHARSET) from None

    def _text(self, octets: bytes) -> str:
        self.reads = True
        try:
            return octets.decode(self._charset)
        except UnicodeDecodeError:
            raise Refused("the text does not fit its charset", _BAD_CHARSET) from None

    async def key(self, key: searchkey.SearchKey) -> list[Any]:
        match key:
            case searchkey.All():
                return ["ALL"]
            case searchkey.Flagged(flag, on):
                return _inverted(["FLAG", bit(flag)], on)
            case searchkey.Keyword(name, on):
                ours = mark(name)
                return _inverted(["KEYWORD", name] if ours is None else ["FLAG", ours[1]], on)
            case searchkey.Header(field, text):
                return ["HEADER", field.decode("ascii"), self._text(text)]
            case searchkey.Text(where, text):
                return [where, self._text(text)]
            case searchkey.Dated(relation, day, sent):
                return [("SENT" if sent else "") + relation, day.toordinal()]
            case searchkey.Saved(relation, day):
                return [
                    relation,
                    day.toordinal(),
                ]  # no mailbox keeps save dates: the internal date stands in (RFC 8514, 4.3)
            case searchkey.SaveDates():
                return ["NOT", ["ALL"]]
            case searchkey.Within(seconds, younger):
                now = int(self._session.around.now())
                return ["ARRIVED", now - seconds] if younger else ["NOT", ["ARRIVED", now - seconds + 1]]
            case searchkey.Identified(kind, identifier):
                return ["UIDS", pack(await self._identified(identifier) if kind == "EMAILID" else ())]
            case searchkey.Size(octets, larger):
                return ["LARGER" if larger else "SMALLER", octets]
            case searchkey.ModSeq(least):
                self.modseq = True
                return ["MODSEQ", least]
            case searchkey.Numbers(numbers, uid):
                return ["UIDS", pack(named(self._selected, numbers, uid=uid))]
            case searchkey.Not(inner):
                return ["NOT", await self.key(inner)]
            case searchkey.And(keys):
                return ["AND", *[await self.key(inner) for inner in keys]]
            case searchkey.Or(keys):
                return ["OR", *[await self.key(inner) for inner in keys]]

    async def _identified(self, identifier: str) -> list[int]:
        selected = self._selected
        self.reads = True
        found = []
        for start in range(0, len(selected.view), 500):
            uids = selected.view.uids[start : start + 500]
            known = await selected.account.identities(selected.view_number, uids)
            found += [uid for uid, name in known.items() if name == identifier]
        return sorted(found)


def _inverted(program: list[Any], on: bool) -> list[Any]:
    return program if on else ["NOT", program]


def named(selected: Selected, numbers: SequenceSet, *, uid: bool) -> array[int]:
    """The UIDs of the messages that a command names."""
    if numbers.saved:
        return array("I", selected.known(selected.saved))
    if uid:
        return selected.view.by_uid(numbers)
    try:
        return selected.view.by_number(numbers)
    except IndexError:
        raise Refused("there is no message of that number", bad=True) from None


async def hits(
    session: ImapSession, selected: Selected, command: Command, asked: commands.Search
) -> tuple[list[int], int]:
    """The UIDs that fit and that the client knows of, ascending; and, if mod-sequences were asked for, the highest of them."""
    for option in asked.returned or ():
        if option not in RETURNED:
            raise Refused(f"unknown option {option}", bad=True)
    translator = Program(session, selected, asked.charset)
    program = await translator.key(asked.key)
    if translator.modseq:
        session.enable_condstore()
    if not len(selected.view):
        return [], 0
    if translator.reads or len(selected.view) > LONG:
        async with session.progress(command.tag):
            found = await selected.account.search(selected.view_number, program)
    else:
        found = await selected.account.search(selected.view_number, program)
    uids = selected.known(found)
    return uids, await _highest(selected, _counted(uids, asked)) if translator.modseq else 0


def _counted(uids: Sequence[int], asked: commands.Search) -> Sequence[int]:
    """The messages whose mod-sequences make the one that is told: those that are named (RFC 4731, 3.2; RFC 9394, 3.1)."""
    options = set(asked.returned or ())
    if not uids or not options or options & {"ALL", "COUNT"} or options == {"SAVE"}:
        return uids
    named = set(asked.window.of(uids)) if asked.window is not None else set()
    if "MIN" in options:
        named.add(uids[0])
    if "MAX" in options:
        named.add(uids[-1])
    return sorted(named)


async def search(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Search)
    selected = session.mailbox()
    saves = "SAVE" in (arguments.returned or ())
    if arguments.charset is not None and "UTF8=ACCEPT" in session.enabled:
        raise Refused("after UTF8=ACCEPT a search names no charset", bad=True)  # RFC 6855, 3
    try:
        uids, highest = await hits(session, selected, command, arguments)
    except Refused as refused:
        if saves and not refused.bad:  # RFC 5182, 2.1: a search that fails leaves an empty result
            selected.saved = array("I")
        raise
    if saves:
        selected.saved = array("I", _saved(uids, arguments))
    results = uids if arguments.uid else [number for number, _ in selected.view.numbered(uids)]
    if arguments.returned is None and not session.rev2:
        session.put(render.numbers(results, b"SEARCH", highest))
    else:
        session.put(extended(command.tag, results, arguments, highest))
    return Ok("SEARCH completed", expunge=arguments.uid, uid=arguments.uid)


def _saved(uids: Sequence[int], arguments: commands.Search) -> list[int]:
    """What `$` stands for then: all, unless only the first, the last or a part was asked for (RFC 5182, 2.4; RFC 9394, 3.2)."""
    options = set(arguments.returned or ())
    if options & {"ALL", "COUNT"} or not options & {"MIN", "MAX", "PARTIAL"}:
        return list(uids)
    kept: set[int] = set()
    if uids and "MIN" in options:
        kept.add(uids[0])
    if uids and "MAX" in options:
        kept.add(uids[-1])
    if arguments.window is not None:
        kept.update(arguments.window.of(uids))
    return sorted(kept)


def extended(tag: bytes, results: Sequence[int], arguments: commands.Search, modseq: int) -> bytes:
    """`* ESEARCH`; MIN, MAX and ALL are missing where nothing was found (RFC 4731, 3.1). Nothing at all is said when the
    result is only to be saved."""
    returned = arguments.returned or ("ALL",)
    if set(returned) == {"SAVE"}:
        return b""
    words = [b"* ESEARCH (TAG %b)" % render.string(tag)]
    if arguments.uid:
        words.append(b"UID")
    if results and "MIN" in returned:
        words.append(b"MIN %d" % results[0])
    if results and "MAX" in returned:
        words.append(b"MAX %d" % results[-1])
    if "COUNT" in returned:
        words.append(b"COUNT %d" % len(results))
    if results and "ALL" in returned:
        words.append(b"ALL %b" % compact(results))
    if arguments.window is not None:
        words.append(b"PARTIAL (%b %b)" % (bytes(arguments.window), compact(arguments.window.of(results)) or b"NIL"))
    if modseq:
        words.append(b"MODSEQ %d" % modseq)
    return b" ".join(words) + b"\r\n"


async def _highest(selected: Selected, uids: Sequence[int]) -> int:
    """The highest mod-sequence of these messages, 0 for none."""
    highest = 0
    for start in range(0, len(uids), 2000):
        rows = await selected.account.flags(selected.view_number, uids[start : start + 2000])
        highest = max(highest, max((row.modseq for row in rows), default=0))
    return highest
