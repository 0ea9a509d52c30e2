"""APPEND, and the unfinished streamed ones of a session: their bytes lie in a file beside the account's until they are whole."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from appliance.accounts.acl import need
from appliance.accounts.client import AccountError
from appliance.accounts.writing import Item, check_quota, keyword_bits, put, put_file, settle
from appliance.formats.wire import ToStore, to_store
from appliance.kernel.files import Files
from appliance.kernel.tasks import pace

if TYPE_CHECKING:
    from appliance.accounts.box import Box
    from appliance.accounts.session import Session
    from appliance.accounts.state import State

__all__ = ["Append", "Whole", "append", "append_abort", "append_begin", "append_chunk", "append_commit", "discard"]

MAX_CHUNK: Final = 256 * 1024
MAX_APPENDS: Final = 4
_LARGE: Final = 1 << 16


class Append:
    """A message that is still coming."""

    __slots__ = ("codec", "date", "flags", "keywords", "name", "path", "size", "stored")

    def __init__(self, name: str, flags: int, keywords: Sequence[str], date: int, path: str) -> None:
        self.name = name
        self.flags = flags
        self.keywords = tuple(keywords)
        self.date = date
        self.path = path
        self.codec = ToStore()
        self.size = 0
        self.stored = 0


class Whole(NamedTuple):
    """A message that came in one piece, as the request `append` has it."""

    session: Session
    name: str
    flags: int
    keywords: Sequence[str]
    date: int
    zone: int
    data: bytes


async def append(state: State, wanted: Sequence[Whole]) -> list[tuple[int, int] | AccountError | OSError]:
    """Store what several sessions have sent, with one flush; each stands for itself. UIDVALIDITY and UID of each."""
    results: list[tuple[int, int] | AccountError | OSError] = [(0, 0)] * len(wanted)
    plan: dict[str, tuple[Box, list[Item], list[int]]] = {}
    total = 0
    for number, one in enumerate(wanted):
        try:
            box = state.find(one.name)
            need(state, one.session, box, "i")
            if len(one.data) > MAX_CHUNK:
                raise AccountError("LIMIT", "A message of this size has to be streamed")
            check_quota(state, total + len(one.data))
            bits = await keyword_bits(state, box, one.keywords)
        except (AccountError, OSError) as error:
            results[number] = error
            continue
        total += len(one.data)
        _, items, numbers = plan.setdefault(box.name, (box, [], []))
        items.append(Item(one.flags, bits, one.date, b"", to_store(one.data)))
        numbers.append(number)
        if len(one.data) > _LARGE:
            await pace()
    try:
        placed = await put(state, [(box, items) for box, items, _ in plan.values()]) if plan else []
    except (AccountError, OSError) as error:
        if len(wanted) == 1:
            return [error]
        return [(await append(state, [one]))[0] for one in wanted]  # one of them may be the cause
    await settle(state, [(box, made) for (box, _, _), made in zip(plan.values(), placed, strict=True)])
    for (box, _, numbers), made in zip(plan.values(), placed, strict=True):
        for number, place in zip(numbers, made, strict=True):
            results[number] = (box.info.validity, place.uid)
    return results


async def append_begin(
    state: State, session: Session, name: str, flags: int, keywords: Sequence[str], date: int, zone: int, size: int
) -> int:
    box = state.find(name)
    need(state, session, box, "i")
    check_quota(state, size)
    if len(session.appends) >= MAX_APPENDS:
        raise AccountError("LIMIT", "Too many unfinished messages")
    handle = session.handle()
    path = state.temporary()
    await state.shared.disk.run(_make, path)
    session.appends[handle] = Append(box.name, flags, keywords, date, path)
    return handle


def _make(files: Files, path: str) -> None:
    files.close(files.open(path, write=True, create=True, truncate=True))


def _find(session: Session, handle: int) -> Append:
    append = session.appends.get(handle)
    if append is None:
        raise AccountError("CLOSED", "There is no such unfinished message")
    return append


async def append_chunk(state: State, session: Session, handle: int, data: bytes) -> None:
    """Runs beside the account's task: the file is the session's own."""
    append = _find(session, handle)
    append.size += len(data)
    try:
        if len(data) > MAX_CHUNK:
            raise AccountError("LIMIT", "The piece is too large")
        check_quota(state, append.size)
        store = append.codec.feed(data)
        await state.shared.disk.pwrite(append.path, store, append.stored)
        append.stored += len(store)
    except BaseException:
        await append_abort(state, session, handle)
        raise


async def append_commit(state: State, session: Session, handle: int) -> tuple[int, int]:
    append = _find(session, handle)
    del session.appends[handle]
    try:
        rest = append.codec.finish()
        if rest:
            await state.shared.disk.pwrite(append.path, rest, append.stored)
        box = state.find(append.name)
        need(state, session, box, "i")
        check_quota(state, append.size)
        bits = await keyword_bits(state, box, append.keywords)
        placed = await put_file(state, box, Item(append.flags, bits, append.date, b"", b""), append.path)
        await settle(state, [(box, [placed])])
    finally:
        await discard(state, [append])
    return box.info.validity, placed.uid


async def append_abort(state: State, session: Session, handle: int) -> None:
    append = session.appends.pop(handle, None)
    if append is not None:
        await discard(state, [append])


async def discard(state: State, appends: Sequence[Append]) -> None:
    """Remove the files of unfinished messages."""
    with trio.CancelScope(shield=True):
        for append in appends:
            with suppress(OSError):
                await state.shared.disk.unlink(append.path, missing_ok=True)
