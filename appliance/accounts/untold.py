"""Messages that one session has removed and another does not know to be gone: for that one they can still be read and flagged
(RFC 2180, 4.1 and 4.2; manual, Simultaneous Access).

In an .mbox the bytes stay where they are until the file is written anew; of a file in an .mdir a second name is kept. What
every session was told of, or has closed, is forgotten. None of this outlives the account's being open.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from appliance.accounts.client import AccountError, Fetch, Flag, unpack
from appliance.accounts.sections import cut, section_path
from appliance.formats.bodystructure import summary
from appliance.formats.wire import to_wire
from appliance.kernel.files import Files
from appliance.mailstore.flags import SETTABLE
from appliance.mailstore.mdir import MdirStore
from appliance.mailstore.store import Found, Store

if TYPE_CHECKING:
    from appliance.accounts.box import Box, View
    from appliance.accounts.session import Session
    from appliance.accounts.state import State

__all__ = ["Untold", "keep", "sweep", "told", "untold", "untold_read", "untold_store"]

MAX_KEPT: Final = 10_000
"""Most messages of a mailbox that are kept for those who do not know."""
INLINE: Final = 256 * 1024


class Untold:
    """One message that is gone, and the views in which it is not."""

    __slots__ = ("date", "flags", "found", "keywords", "modseq", "path", "views", "wire")

    def __init__(self, found: Found, wire: int, modseq: int, keywords: tuple[str, ...], path: str) -> None:
        self.found = found
        self.wire = wire
        self.modseq = modseq
        self.flags = found.flags & SETTABLE
        self.keywords = keywords
        self.path = path
        self.views: set[View] = set()

    def row(self) -> tuple[int, int, tuple[str, ...], int]:
        return self.found.uid, self.flags, self.keywords, self.modseq


async def keep(state: State, box: Box, indices: Sequence[int]) -> None:
    """Before messages are removed: keep them for the views that have them."""
    from appliance.accounts.columns import words

    if len(box.views) < 2 or len(box.untold) + len(indices) > MAX_KEPT:
        return
    table = box.table
    kept: list[Untold] = []
    for at in indices:
        found = table.found(at)
        views = {view for view in box.views if found.uid < view.uidnext}
        if views and found.uid not in box.foreign:
            path = state.temporary() if isinstance(box.store, MdirStore) else ""
            one = Untold(found, table.wires[at], table.modseqs[at], words(box, table.keywords[at]), path)
            one.views = views
            kept.append(one)
    if isinstance(box.store, MdirStore) and kept:
        await state.shared.disk.run(_link, box.store, [(one.found, one.path) for one in kept])
    for one in kept:
        box.untold[one.found.uid] = one


def _link(files: Files, store: MdirStore, work: list[tuple[Found, str]]) -> None:
    for found, path in work:
        with suppress(OSError):  # then it cannot be read any more, which is no harm
            files.link(store.file_of(found), path)


async def sweep(state: State, box: Box) -> None:
    """Forget what no open view misses."""
    over = [uid for uid, one in box.untold.items() if not one.views & box.views]
    paths = [one.path for uid in over if (one := box.untold.pop(uid)).path]
    if paths:
        await state.shared.disk.run(_unlink, paths)


def _unlink(files: Files, paths: list[str]) -> None:
    for path in paths:
        with suppress(OSError):
            files.unlink(path)


def _find(view: View, uid: int) -> Untold | None:
    one = view.box.untold.get(uid)
    return one if one is not None and view in one.views else None


async def told(state: State, session: Session, number: int, packed: bytes) -> None:
    view = session.view(number)
    for uid in unpack(packed):
        one = view.box.untold.get(uid)
        if one is not None:
            one.views.discard(view)
    await sweep(state, view.box)


async def untold(
    state: State, session: Session, number: int, packed: bytes, what: int, section: str | None
) -> list[tuple[Any, ...]]:
    view = session.view(number)
    path = None if section is None else section_path(section)
    rows: list[tuple[Any, ...]] = []
    for uid in unpack(packed):
        one = _find(view, uid)
        if one is None:
            continue
        envelope = structure = body = content = None
        if what or path is not None:
            try:
                data = await _content(state, view, one)
            except OSError:
                continue
            if what:
                made = summary(data)
                envelope = made.envelope if what & Fetch.ENVELOPE else None
                structure = made.bodystructure if what & Fetch.BODYSTRUCTURE else None
                body = made.body if what & Fetch.BODY else None
            if path is not None and one.wire <= INLINE:
                content = to_wire(cut(data, path) or b"")
        rows.append((*one.row(), one.wire, one.found.date, 0, envelope, structure, body, content))
    return rows


async def untold_read(
    state: State, session: Session, number: int, uid: int, section: str, offset: int, length: int
) -> tuple[int, bytes]:
    view = session.view(number)
    one = _find(view, uid)
    if one is None:
        raise AccountError("NONEXISTENT", "The message is gone")
    try:
        piece = cut(await _content(state, view, one), section_path(section))
    except OSError:
        raise AccountError("NONEXISTENT", "The message is gone") from None
    if piece is None:
        return -1, b""
    data = to_wire(piece)
    return len(data), data[offset : offset + max(0, min(length, INLINE))]


async def untold_store(
    state: State, session: Session, number: int, packed: bytes, mode: str, flags: int, keywords: Sequence[str]
) -> list[tuple[int, int, tuple[str, ...], int]]:
    """Flags that nobody will see but the one who sets them."""
    view = session.view(number)
    rows = []
    for uid in unpack(packed):
        one = _find(view, uid)
        if one is None:
            continue
        changed = flags & int(Flag.SEEN | Flag.ANSWERED | Flag.FLAGGED | Flag.DELETED | Flag.DRAFT)
        if mode == "+":
            one.flags |= changed
            one.keywords = tuple(dict.fromkeys((*one.keywords, *keywords)))
        elif mode == "-":
            one.flags &= ~changed
            one.keywords = tuple(word for word in one.keywords if word not in keywords)
        else:
            one.flags, one.keywords = changed, tuple(keywords)
        rows.append(one.row())
    return rows


async def _content(state: State, view: View, one: Untold) -> bytes:
    async with view.box:
        if _find(view, one.found.uid) is not one:
            raise FileNotFoundError
        return await state.shared.disk.run(_read, view.box.store, one.found, one.path)


def _read(files: Files, store: Store, found: Found, path: str) -> bytes:
    return files.read_bytes(path) if path else store.read(files, [found])[0]
