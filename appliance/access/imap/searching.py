"""SEARCH and UID SEARCH (RFC 3501, 6.4.4; RETURN options: RFC 4731): the keys as a program for the gate.

Sequence numbers mean something to this session only, so they become UIDs here. The gate answers for the mailbox as it is;
what the client does not know of yet is left out.
"""

from __future__ import annotations

import codecs
from array import array
from typing import TYPE_CHECKING, Any, Final

from appliance.access.imap.flagging import bit, mark
from appliance.access.imap.selected import Selected
from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import pack
from appliance.protocols.imap import Command, commands, render, searchkey
from appliance.protocols.imap.sequence import compact

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

_RETURNED: Final = frozenset({"MIN", "MAX", "ALL", "COUNT"})
_BAD_CHARSET: Final = b"BADCHARSET (US-ASCII UTF-8)"


class _Program:
    """Translates keys; see `accounts.client.AccountSession.search`."""

    __slots__ = ("_charset", "_selected", "modseq")

    def __init__(self, selected: Selected, charset: str | None) -> None:
        self._selected = selected
        self._charset = "utf-8"
        #: Mod-sequences are among the keys.
        self.modseq = False
        if charset is not None:
            try:
                self._charset = codecs.lookup(charset).name
                "".encode(self._charset)
            except (LookupError, ValueError):  # also names that codecs cannot hold, and codecs that are not for text
                raise Refused("the charset is not known", _BAD_CHARSET) from None

    def _text(self, octets: bytes) -> str:
        try:
            return octets.decode(self._charset)
        except UnicodeDecodeError:
            raise Refused("the text does not fit its charset", _BAD_CHARSET) from None

    def key(self, key: searchkey.SearchKey) -> list[Any]:
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
            case searchkey.Size(octets, larger):
                return ["LARGER" if larger else "SMALLER", octets]
            case searchkey.ModSeq(least):
                self.modseq = True
                return ["MODSEQ", least]
            case searchkey.Numbers(numbers, uid):
                view = self._selected.view
                try:
                    return ["UIDS", pack(view.by_uid(numbers) if uid else view.by_number(numbers))]
                except IndexError:
                    raise Refused("there is no message of that number", bad=True) from None
            case searchkey.Not(inner):
                return ["NOT", self.key(inner)]
            case searchkey.And(keys):
                return ["AND", *map(self.key, keys)]
            case searchkey.Or(keys):
                return ["OR", *map(self.key, keys)]


def _inverted(program: list[Any], on: bool) -> list[Any]:
    return program if on else ["NOT", program]


async def search(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Search)
    selected = session.mailbox()
    for option in arguments.returned or ():
        if option not in _RETURNED:
            raise Refused(f"unknown option {option}", bad=True)
    translator = _Program(selected, arguments.charset)
    program = translator.key(arguments.key)
    if translator.modseq:
        session.enable_condstore()
    highest = 0
    hits: list[int] = []
    if len(selected.view):
        found = await selected.account.search(selected.view_number, program)
        if translator.modseq:
            highest = await _highest(selected, found)
        hits = [uid if arguments.uid else number for number, uid in selected.view.numbered(found)]
    if arguments.returned is None:
        session.put(render.search(hits, highest))
    else:
        session.put(_extended(command.tag, hits, arguments.returned or ("ALL",), highest, uid=arguments.uid))
    return Ok("SEARCH completed", expunge=arguments.uid, uid=arguments.uid)


def _extended(tag: bytes, hits: list[int], returned: tuple[str, ...], modseq: int, *, uid: bool) -> bytes:
    """`* ESEARCH`; MIN, MAX and ALL are missing where nothing was found (RFC 4731, 3.1)."""
    words = [b"* ESEARCH (TAG %b)" % render.string(tag)]
    if uid:
        words.append(b"UID")
    if hits and "MIN" in returned:
        words.append(b"MIN %d" % hits[0])
    if hits and "MAX" in returned:
        words.append(b"MAX %d" % hits[-1])
    if "COUNT" in returned:
        words.append(b"COUNT %d" % len(hits))
    if hits and "ALL" in returned:
        words.append(b"ALL %b" % compact(hits))
    if modseq:
        words.append(b"MODSEQ %d" % modseq)
    return b" ".join(words) + b"\r\n"


async def _highest(selected: Selected, uids: array[int]) -> int:
    """The highest mod-sequence of these messages, 0 for none."""
    highest = 0
    for start in range(0, len(uids), 2000):
        rows = await selected.account.flags(selected.view_number, uids[start : start + 2000])
        highest = max(highest, max((row.modseq for row in rows), default=0))
    return highest
