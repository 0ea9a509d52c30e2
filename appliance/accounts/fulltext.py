"""The full-text index of accounts that want one: asked by SEARCH, filled when there is nothing else to do.

It lags: what it has not taken in yet is read by a search as without it. A step takes some messages of one mailbox, beside the
account's task, and never two at a time for one account.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Final

from appliance.accounts.box import Box
from appliance.accounts.client import AccountError
from appliance.accounts.state import State
from appliance.kernel.disk import LONG
from appliance.kernel.files import Files
from appliance.mailstore import fulltext
from appliance.mailstore.external import ExternalStore
from appliance.objects import declarations as d

__all__ = ["narrowed", "step", "wanted"]

_COUNT: Final = 200
_BYTES: Final = 2 << 20


def wanted(state: State) -> bool:
    """The account has the index switched on."""
    return bool(state.account.settings[d.FULL_TEXT])


def _usable(state: State, box: Box) -> bool:
    return wanted(state) and not box.foreign and not isinstance(box.store, ExternalStore)


async def narrowed(state: State, box: Box, text: str) -> tuple[int, set[int]] | None:
    """Up to which UID the index goes and who may have the text there; None if it cannot help."""
    if len(text) < fulltext.SHORTEST or "\0" in text or not _usable(state, box):
        return None
    try:
        text.encode("utf-8")
        upto, found = await state.shared.disk.run(
            fulltext.candidates, _path(state), box.info.id, box.info.validity, text
        )
    except (sqlite3.Error, OSError, UnicodeEncodeError):
        return None
    return (upto, found) if upto else None


def _path(state: State) -> str:
    return state.account.file("search")


async def step(state: State) -> bool:
    """Take in some messages; whether there may be more to do."""
    for box in list(state.boxes.values()):
        if not box.loaded or not _usable(state, box) or box.searched >= box.uidnext - 1:
            continue
        try:
            await _take_in(state, box)
        except (sqlite3.Error, OSError, AccountError) as error:
            state.log.problem("%s: the full-text index of %s: %s", state.name, box.name, str(error))
            box.searched = box.uidnext  # not again while it is open
        return True
    return False


async def _take_in(state: State, box: Box) -> None:
    disk, info = state.shared.disk, box.info
    if box.searched < 0:
        box.searched = await disk.run(fulltext.reached, _path(state), info.id, info.validity)
    async with box:
        table = box.table
        begin = table.from_uid(box.searched + 1)
        end, total = begin, 0
        while end < len(table) and end - begin < _COUNT and total < _BYTES:
            total += table.lengths[end]
            end += 1
        founds = [table.found(at) for at in range(begin, end)]
        upto = founds[-1].uid if end < len(table) else box.uidnext - 1
        work = partial(fulltext.add, store=box.store, box=info.id, validity=info.validity, founds=founds, upto=upto)
        try:
            await disk.run_in(LONG, _add, work, _path(state))
        except FileNotFoundError:
            return  # flags of an .mdir message were changed meanwhile: next time
    box.searched = max(box.searched, upto)


def _add(files: Files, work: partial[None], path: str) -> None:
    work(files, path)
