"""SORT and THREAD (RFC 5256; RFC 5957; options of RFC 5267): what the results of a search are ordered by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from appliance.access.imap.searching import extended, hits
from appliance.access.imap.selected import Selected
from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import Fetch
from appliance.formats.charsets import unicode_casemap
from appliance.formats.dates import parse_date_time
from appliance.formats.encodedwords import decode_words
from appliance.formats.mailboxes import parse_mailboxes
from appliance.protocols.imap import Command, commands, render, threads
from appliance.protocols.imap.subjects import base_subject

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

_T = TypeVar("_T")

BATCH: Final = 500
_INLINE: Final = 1000
"""So many messages are ordered on the spot; more of them in a worker, so that other sessions go on."""
_FIELDS: Final = {
    "CC": "Cc",
    "FROM": "From",
    "TO": "To",
    "SUBJECT": "Subject",
    "DATE": "Date",
    "DISPLAYFROM": "From",
    "DISPLAYTO": "To",
}


class _Facts:
    """What is known of each message: internal dates, sizes, and fields of the headers."""

    __slots__ = ("dates", "fields", "names", "sizes")

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(dict.fromkeys(names))
        self.dates: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        self.fields: dict[int, tuple[bytes | None, ...]] = {}

    async def read(self, selected: Selected, uids: Sequence[int], *, numbers: bool) -> None:
        account, view = selected.account, selected.view_number
        for start in range(0, len(uids), BATCH):
            batch = uids[start : start + BATCH]
            if numbers:
                for row in await account.fetch(view, batch, Fetch.NOTHING):
                    self.dates[row.uid], self.sizes[row.uid] = row.date, row.size
            if self.names:
                self.fields.update(await account.header_fields(view, batch, self.names))
            await trio.lowlevel.checkpoint()

    def field(self, uid: int, name: str) -> bytes:
        values = self.fields.get(uid)
        return (values[self.names.index(name)] if values is not None else None) or b""

    def sent(self, uid: int) -> float:
        """The Date field, or the internal date where there is none that can be read (RFC 5256, 2.2)."""
        when = parse_date_time(self.field(uid, "Date"))
        if when is None:
            return self.dates.get(uid, 0)
        try:
            return when.timestamp()
        except (OverflowError, ValueError):
            return 0


def _address(value: bytes, *, display: bool) -> str:
    """The part before the `@` of the first address, or what is shown for it (RFC 5957, 3)."""
    entries = parse_mailboxes(value)
    if not entries:
        return ""
    name, local, domain, _ = entries[0]
    if not display:
        return unicode_casemap((local or b"").decode("utf-8", "replace"))
    shown = decode_words(name or b"").strip()
    if not shown:
        shown = b"@".join(part for part in (local, domain) if part).decode("utf-8", "replace")
    return unicode_casemap(shown)


def _ordered(facts: _Facts, uids: Sequence[int], keys: Sequence[commands.SortKey]) -> list[int]:
    """The last key first: sorting keeps the order of equals."""
    order = list(uids)
    for key in reversed(keys):
        order.sort(key=_value(facts, key.name), reverse=key.reverse)
    return order


def _value(facts: _Facts, name: str) -> Callable[[int], Any]:
    match name:
        case "ARRIVAL":
            return lambda uid: facts.dates.get(uid, 0)
        case "SIZE":
            return lambda uid: facts.sizes.get(uid, 0)
        case "DATE":
            return facts.sent
        case "SUBJECT":
            return lambda uid: unicode_casemap(base_subject(decode_words(facts.field(uid, "Subject")))[0])
    field, display = _FIELDS[name], name.startswith("DISPLAY")
    return lambda uid: _address(facts.field(uid, field), display=display)


async def _aside(work: Callable[[], _T], count: int) -> _T:
    return work() if count <= _INLINE else await trio.to_thread.run_sync(work)


async def sort(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Sort)
    selected, asked = session.mailbox(), arguments.search
    async with session.progress(command.tag):
        uids, highest = await hits(session, selected, command, asked)
        names = [key.name for key in arguments.keys]
        facts = _Facts([_FIELDS[name] for name in names if name in _FIELDS])
        await facts.read(selected, uids, numbers=bool({"ARRIVAL", "SIZE", "DATE"} & set(names)))
        order = await _aside(lambda: _ordered(facts, uids, arguments.keys), len(uids))
    if "SAVE" in (asked.returned or ()):
        selected.saved = type(selected.saved)("I", sorted(order))
    results = order if asked.uid else [selected.view.number(uid) for uid in order]
    if asked.returned is None:
        session.put(render.numbers(results, b"SORT", highest))
    else:
        session.put(extended(command.tag, results, asked, highest))
    return Ok("SORT completed", expunge=asked.uid, uid=asked.uid)


async def thread(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Thread)
    selected, asked = session.mailbox(), arguments.search
    if arguments.algorithm not in ("ORDEREDSUBJECT", "REFERENCES"):
        raise Refused("the algorithm is not known", bad=True)
    by_references = arguments.algorithm == "REFERENCES"
    async with session.progress(command.tag):
        uids, _ = await hits(session, selected, command, asked)
        names = ["Subject", "Date", *(["Message-ID", "References", "In-Reply-To"] if by_references else [])]
        facts = _Facts(names)
        await facts.read(selected, uids, numbers=True)
        numbers = uids if asked.uid else [selected.view.number(uid) for uid in uids]

        def work() -> bytes:
            messages = [_message(facts, uid, number, by_references) for uid, number in zip(uids, numbers, strict=True)]
            roots = threads.references(messages) if by_references else threads.ordered_subject(messages)
            return threads.render(roots)

        text = await _aside(work, len(uids))
    session.put(b"* THREAD %b\r\n" % text if text else b"* THREAD\r\n")
    return Ok("THREAD completed", expunge=asked.uid, uid=asked.uid)


def _message(facts: _Facts, uid: int, number: int, by_references: bool) -> threads.Message:
    base, reply = base_subject(decode_words(facts.field(uid, "Subject")))
    identifier = b""
    chain: tuple[bytes, ...] = ()
    if by_references:
        identifier = next(iter(threads.message_ids(facts.field(uid, "Message-ID"))), b"")
        chain = threads.message_ids(facts.field(uid, "References"))
        if not chain:
            chain = threads.message_ids(facts.field(uid, "In-Reply-To"))[:1]
    return threads.Message(number, facts.sent(uid), unicode_casemap(base), reply, identifier, chain)
