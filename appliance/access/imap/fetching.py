"""FETCH, UID FETCH, PARTIAL (RFC 3501, 6.4.5): rows in batches, texts inline or streamed."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from appliance.access.imap.columns import FLAGS_ONLY, ITEMS, ColumnFormat
from appliance.access.imap.flagging import SEEN, may_store
from appliance.access.imap.searching import named
from appliance.access.imap.selected import Selected
from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import AccountError, Fetch, FlagRow, Row, pack
from appliance.formats.headers import select_fields
from appliance.protocols.imap import Command, commands, render
from appliance.protocols.imap.dates import DateTexts
from appliance.protocols.imap.fetchitem import FetchItem, Section, simple
from appliance.protocols.imap.rows import OpenRow, RowFormat

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

BATCH: Final = 500
FLAG_BATCH: Final = 2000
_EXTRA: Final = ("EMAILID", "THREADID", "SAVEDATE", "PREVIEW")
PIECE: Final = 128 * 1024
_PACE: Final = 20
MAX_HEADER: Final = 256 * 1024
"""A header whose fields are picked is read up to here."""


class Fetching:
    """One command at work."""

    __slots__ = (
        "columns",
        "dates",
        "extra",
        "inline",
        "marking",
        "marks",
        "missing",
        "plain",
        "selected",
        "session",
        "texts",
        "unknown",
        "what",
    )

    def __init__(self, session: ImapSession, selected: Selected, items: Sequence[FetchItem], *, uid: bool) -> None:
        self.session = session
        self.selected = selected
        if uid and not any(item.name == "UID" for item in items):
            items = [simple("UID"), *items]
        self.columns = tuple(dict.fromkeys(item.name for item in items if item.section is None))
        self.texts = tuple(item for item in items if item.section is not None)
        self.what = Fetch.NOTHING
        for name, bit in (("ENVELOPE", Fetch.ENVELOPE), ("BODYSTRUCTURE", Fetch.BODYSTRUCTURE), ("BODY", Fetch.BODY)):
            if name in self.columns:
                self.what |= bit
        #: Columns that are asked for apart: there are no finished texts of them.
        self.extra = [name for name in _EXTRA if name in self.columns]
        #: The text that comes along with the rows: the first that is wanted whole.
        whole = [
            item.section.source
            for item in self.texts
            if item.partial is None and item.section is not None and item.name == "BODY["
        ]
        self.inline = whole[0] if whole else None
        self.marks = (
            any(item.marks for item in self.texts) and not selected.read_only and may_store(SEEN, (), selected.rights)
        )
        self.dates = DateTexts()
        self.plain = RowFormat(self.columns) if not self.texts else OpenRow(self.columns)
        #: For messages that become \Seen by this command: their flags are told, too.
        self.marking = self.plain
        if self.marks:
            told = ("FLAGS", "MODSEQ") if selected.condstore else ("FLAGS",)
            self.marking = OpenRow((*self.columns, *(name for name in told if name not in self.columns)))
        self.missing = False
        #: A part has an encoding that cannot be undone.
        self.unknown = False

    async def listing(self, uids: Sequence[int]) -> None:
        """All messages, when no texts are wanted: rows come as columns."""
        selected = self.selected
        form = ColumnFormat(selected, self.columns)
        step = FLAG_BATCH if FLAGS_ONLY.issuperset(self.columns) else BATCH
        for start in range(0, len(uids), step):
            part = uids[start : start + step]
            rows = await selected.account.columns(selected.view_number, part, form.what)
            await self.session.put_all(form.join(rows))
            if len(rows.uids) < len(part):
                here = set(rows.uids)
                await self._untold([uid for uid in part if uid not in here])
            await trio.lowlevel.checkpoint()

    async def batch(self, uids: Sequence[int]) -> None:
        """Up to `BATCH` messages."""
        selected = self.selected
        left = uids
        absent: list[int] = []
        while left:
            rows = await selected.account.fetch(selected.view_number, left, self.what, self.inline)
            if len(rows) < len(left):
                # Short because of the size of the texts, or because messages are gone: those between two rows are.
                here = {row.uid for row in rows}
                last = rows[-1].uid if rows else 0
                absent += [uid for uid in left if uid not in here and (uid < last or not rows)]
                left = [uid for uid in left if uid > last] if rows else ()
            else:
                left = ()
            if rows:
                await self._tell(rows, await self._mark(rows) if self.marks else {})
        if absent:
            await self._untold(absent)

    async def _tell(self, rows: Sequence[Row], marked: dict[int, FlagRow]) -> None:
        selected = self.selected
        more = await self._more([row.uid for row in rows]) if self.extra else None
        if self.texts:
            numbers = [number for number, _ in selected.view.numbered([row.uid for row in rows])]
            for count, (number, row) in enumerate(zip(numbers, rows, strict=True), 1):
                await self._with_texts(number, row, marked, () if more is None else more(row.uid))
                if not count % _PACE:  # what is small is not sent for each row, and others want to go on
                    await trio.lowlevel.checkpoint()
        else:
            await self.session.put_all(self._lines(rows, more))
            await trio.lowlevel.checkpoint()

    async def _untold(self, uids: Sequence[int]) -> None:
        """Messages that others have removed, and that are there for this client until it is told (RFC 2180, 4.1)."""
        rows = await self.selected.account.untold(self.selected.view_number, uids, self.what, self.inline)
        self.missing = self.missing or len(rows) < len(uids)
        if rows:
            await self._tell(rows, {})

    async def _more(self, uids: Sequence[int]) -> Callable[[int], tuple[bytes | None, ...]]:
        """The columns behind MODSEQ: EMAILID, THREADID, SAVEDATE, PREVIEW. Messages are in no threads that the server keeps,
        and it does not keep when they were saved: these are NIL (RFC 8474, 5.2; RFC 8514, 4.2)."""
        selected = self.selected
        names: dict[int, str] = {}
        previews: dict[int, str] = {}
        if "EMAILID" in self.extra:
            names = await selected.account.identities(selected.view_number, uids)
        if "PREVIEW" in self.extra:
            previews = await selected.account.previews(selected.view_number, uids)

        def of(uid: int) -> tuple[bytes | None, ...]:
            preview = render.string(previews[uid].encode("utf-8")) if uid in previews else b"NIL"
            return names.get(uid, "M").encode("ascii"), b"NIL", b"NIL", preview

        return of

    def _lines(self, rows: Sequence[Row], more: Callable[[int], tuple[bytes | None, ...]] | None) -> bytes:
        """Rows without texts: one formatting step each."""
        flags, date = self.selected.flag_texts.text, self.dates.text
        numbers = self.selected.view.numbered([row[0] for row in rows])
        dated = "INTERNALDATE" in self.columns
        return self.plain.join(
            [
                (
                    number,
                    row.uid,
                    flags(row.flags, row.keywords),
                    date(row.date, row.zone) if dated else None,
                    row.size,
                    row.envelope,
                    row.bodystructure,
                    row.body,
                    row.modseq,
                    *(() if more is None else more(row.uid)),
                )
                for (number, _), row in zip(numbers, rows, strict=True)
            ]
        )

    async def _mark(self, rows: Sequence[Row]) -> dict[int, FlagRow]:
        """Set \\Seen where it is not; the new state of those messages."""
        unseen = [row.uid for row in rows if not row.flags & SEEN]
        if not unseen:
            return {}
        selected = self.selected
        stored = await selected.account.store(selected.view_number, unseen, "+", SEEN, ())
        selected.own(stored)
        return {row.uid: row for row in stored}

    async def _with_texts(
        self, number: int, row: Row, marked: dict[int, FlagRow], more: tuple[bytes | None, ...]
    ) -> None:
        session, selected = self.session, self.selected
        now = marked.get(row.uid)
        form = self.plain if now is None else self.marking
        assert isinstance(form, OpenRow)
        flags, modseq = (row.flags, row.modseq) if now is None else (now.flags, now.modseq)
        begin = form.begin(
            (
                number,
                row.uid,
                selected.flag_texts.text(flags, row.keywords),
                self.dates.text(row.date, row.zone),
                row.size,
                row.envelope,
                row.bodystructure,
                row.body,
                modseq,
                *more,
            )
        )
        session.put(begin)
        for index, item in enumerate(self.texts):
            session.put((b" " if index else b"") + item.label + b" ")
            await self._text(row, item)
        session.around.statistics.counter("imap.messages").add()
        await session.put_all(b")\r\n")

    async def _text(self, row: Row, item: FetchItem) -> None:
        """The literal of one text, or NIL for a part that the message does not have."""
        section = item.section
        assert section is not None
        source = section.source
        if item.name != "BODY[":
            await self._decoded(row.uid, item, source)
            return
        inline = row.content if source == self.inline else None
        if section.fields:
            data = inline if inline is not None else await self._whole(row.uid, source, MAX_HEADER)
            await self._put(None if data is None else _fields(data, section), item.partial)
        elif inline is not None:
            await self._put(inline, item.partial)
        else:
            await self._stream(row.uid, source, item.partial)

    async def _decoded(self, uid: int, item: FetchItem, source: str) -> None:
        """BINARY and BINARY.SIZE (RFC 3516, 4). An answer cannot be taken back, so what cannot be decoded is told as NIL,
        and the tagged answer says why."""
        session, selected = self.session, self.selected
        offset, count = item.partial or (0, 1 << 62)
        try:
            size, data = await selected.account.decoded(
                selected.view_number, uid, source, offset, 0 if item.name == "BINARY.SIZE[" else min(PIECE, count)
            )
        except AccountError as error:
            if error.code != "NONEXISTENT":
                await session.broken(error.text)
            size, data = -1, b""
        if size < -1:
            self.unknown = True
        if item.name == "BINARY.SIZE[":
            session.put(b"%d" % max(0, size))
            return
        if size < 0:
            session.put(b"NIL")
            return
        left = max(0, min(count, size - offset))
        # A NUL may come in any piece but the first, so longer parts are literal8 at once.
        session.put((b"~" if left > len(data) or b"\0" in data else b"") + b"{%d}\r\n" % left)
        while True:
            await session.put_all(data[:left])
            left -= len(data)
            offset += len(data)
            if left <= 0:
                return
            try:
                _, data = await selected.account.decoded(selected.view_number, uid, source, offset, min(PIECE, left))
            except AccountError as error:
                await session.broken(error.text)
            if not data:
                await session.broken("the message was removed while it was read")

    async def _put(self, data: bytes | None, partial: tuple[int, int] | None) -> None:
        if data is None:
            self.session.put(b"NIL")
            return
        if partial is not None:
            data = data[partial[0] : partial[0] + partial[1]]
        self.session.put(b"{%d}\r\n" % len(data))
        await self.session.put_all(data)

    async def _whole(self, uid: int, source: str, limit: int) -> bytes | None:
        size, data = await self._read(uid, source, 0, limit)
        return None if size < 0 else data

    async def _read(self, uid: int, source: str, offset: int, length: int) -> tuple[int, bytes]:
        """A piece of a text, from where messages are that others have removed, too."""
        account, view = self.selected.account, self.selected.view_number
        try:
            return await account.read(view, uid, source, offset, length)
        except AccountError as error:
            if error.code != "NONEXISTENT":
                raise
        return await account.untold_read(view, uid, source, offset, length)

    async def _stream(self, uid: int, source: str, partial: tuple[int, int] | None) -> None:
        """A text that is not at hand, in pieces; the length is told first, so what follows must be as long."""
        session = self.session
        offset, count = partial or (0, 1 << 62)
        try:
            size, data = await self._read(uid, source, offset, min(PIECE, count))
        except AccountError as error:
            if error.code != "NONEXISTENT":
                await session.broken(error.text)
            size, data = -1, b""
        if size < 0:
            session.put(b"NIL")
            return
        left = max(0, min(count, size - offset))
        session.put(b"{%d}\r\n" % left)
        while True:
            data = data[:left]
            await session.put_all(data)
            left -= len(data)
            offset += len(data)
            if not left:
                return
            try:
                _, data = await self._read(uid, source, offset, min(PIECE, left))
            except AccountError as error:
                await session.broken(error.text)
            if not data:
                await session.broken("the message was removed while it was read")


def _fields(header: bytes, section: Section) -> bytes:
    return select_fields(header, section.fields, others=section.text.endswith(".NOT"))


async def fetch(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Fetch)
    selected = session.mailbox()
    uids = named(selected, arguments.numbers, uid=arguments.uid)
    items = arguments.items
    if arguments.changed_since is not None:
        if not any(item.name == "MODSEQ" for item in items):
            items = (*items, simple("MODSEQ"))
        if arguments.vanished:
            if "QRESYNC" not in session.enabled:
                raise Refused("ENABLE QRESYNC comes first", bad=True)
            gone, _ = await selected.earlier(arguments.changed_since, arguments.numbers)
            session.put(render.vanished(gone, earlier=True))
        wanted = ["AND", ["UIDS", pack(uids)], ["MODSEQ", arguments.changed_since + 1]]
        uids = await selected.account.search(selected.view_number, wanted) if uids else uids
    if any(item.name == "MODSEQ" for item in items):
        session.enable_condstore()
    if arguments.window is not None:  # counted among the messages that the other modifiers leave (RFC 9394, 3.3)
        uids = array("I", arguments.window.of(uids))
    work = Fetching(session, selected, items, uid=arguments.uid)
    if not work.texts and ITEMS.issuperset(work.columns):
        await work.listing(uids)
    else:
        for start in range(0, len(uids), BATCH):
            await work.batch(uids[start : start + BATCH])
    if work.unknown:
        raise Refused("a part has an encoding that is not known", b"UNKNOWN-CTE")
    if work.missing and not arguments.uid:
        # RFC 2180, 4.1.2: the others are told, and that some are no more.
        raise Refused("some of the messages are no longer there", b"EXPUNGEISSUED")
    return Ok(f"{command.name} completed", expunge=arguments.uid, uid=arguments.uid)
