"""STORE, EXPUNGE, COPY, MOVE and their UID forms (RFC 3501, 6.4; RFC 4315; RFC 6851)."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from appliance.access.imap.flagging import RECENT, bits, may_expunge, may_store
from appliance.access.imap.searching import named
from appliance.access.imap.selected import Selected
from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import AccountError, AccountSession, Fetch, Flag
from appliance.protocols.imap import Command, commands, render
from appliance.protocols.imap.sequence import compact

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

BATCH: Final = 2000
_PIECE: Final = 256 * 1024


def _writable(session: ImapSession) -> Selected:
    selected = session.mailbox()
    if selected.read_only:
        raise Refused("the mailbox is open for reading only", b"NOPERM")
    return selected


async def store(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Store)
    selected = _writable(session)
    flags, keywords = bits(arguments.flags)
    if not may_store(flags, keywords, selected.rights):
        raise Refused("you have no right to change these flags here", b"NOPERM")
    uids = named(selected, arguments.numbers, uid=arguments.uid)
    if arguments.silent and selected.has_news:
        # What others changed is told first: afterwards it could not be told from the change that must not be (RFC 3501, 6.4.6).
        await session.tell(expunge=False, uid=arguments.uid)
    known = 0
    since = arguments.unchanged_since
    if since >= 0:
        session.enable_condstore()
    modified: list[int] = []
    for start in range(0, len(uids), BATCH):
        batch = uids[start : start + BATCH]
        rows = await selected.account.store(selected.view_number, batch, arguments.mode, flags, keywords, since)
        if keywords:
            session.put(await selected.new_keywords(rows))
        if since < 0 and len(rows) < len(batch):
            # What others have removed, and this client does not know of yet, is as it was for it (RFC 2180, 4.2).
            stored = {row.uid for row in rows}
            gone = [uid for uid in batch if uid not in stored]
            account, view = selected.account, selected.view_number
            rows = sorted(rows + await account.untold_store(view, gone, arguments.mode, flags, keywords))
        known += len(rows)
        if since >= 0 and len(rows) < len(batch):
            stored = {row.uid for row in rows}
            rest = await selected.account.flags(selected.view_number, [uid for uid in batch if uid not in stored])
            modified += [row.uid for row in rest]
            known += len(rest)
        selected.own(rows)
        for first in range(0, len(rows), 500):
            uid = arguments.uid or selected.qresync
            lines = selected.flag_rows(rows[first : first + 500], uid=uid, silent=arguments.silent)
            await session.put_all(lines)
    code = None
    if modified:
        # RFC 7162, 3.1.3: what others changed meanwhile is named, in the numbers of the command.
        numbers = modified if arguments.uid else [number for number, _ in selected.view.numbered(modified)]
        code = b"MODIFIED " + compact(numbers)
    elif known < len(uids) and not arguments.uid:
        raise Refused("some of the messages are no longer there", b"EXPUNGEISSUED")
    return Ok(f"{command.name} completed", code, expunge=arguments.uid, uid=arguments.uid)


async def expunge(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Expunge)
    selected = _writable(session)
    if not may_expunge(selected.rights):
        raise Refused("you have no right to remove messages here", b"NOPERM")
    await remove_marked(selected, None if arguments.uids is None else named(selected, arguments.uids, uid=True))
    return await _removed(session, selected, "EXPUNGE completed")


async def _removed(session: ImapSession, selected: Selected, text: str) -> Ok:
    """What has gone is told first, and then up to which change all was (RFC 7162, 3.2.7)."""
    if not selected.qresync:
        return Ok(text, ask=True)
    await session.tell(expunge=True, uid=True, ask=True)
    return Ok(text, b"HIGHESTMODSEQ %d" % selected.modseq, updates=False)


async def remove_marked(selected: Selected, uids: array[int] | None) -> None:
    """Remove what is marked, among these if they are given; so many at a time that others need not wait for long."""
    account, view = selected.account, selected.view_number
    if len(selected.view) > BATCH:
        marked = await account.search(view, ["FLAG", int(Flag.DELETED)])
        uids = marked if uids is None else array("I", sorted(set(marked).intersection(uids)))
        for start in range(0, len(uids), BATCH):
            selected.view.vanish(await account.expunge(view, uids[start : start + BATCH]))
    elif uids is None or uids:
        selected.view.vanish(await account.expunge(view, uids))


async def copy(session: ImapSession, command: Command) -> Ok:
    """COPY: all of the messages or none."""
    arguments = command.arguments
    assert isinstance(arguments, commands.Copy)
    selected = session.mailbox()
    uids = named(selected, arguments.numbers, uid=arguments.uid)
    if uids and not arguments.uid and await _incomplete(selected, uids):
        raise Refused("some of the messages are no longer there", b"EXPUNGEISSUED", expunge=True)
    code = await _copied(session, command.tag, selected, uids, arguments.name, move=False) if uids else None
    return Ok("COPY completed", code, uid=arguments.uid)


async def _incomplete(selected: Selected, uids: array[int]) -> bool:
    """Has another session removed some of them? All are copied, or none (RFC 3501, 6.4.7; RFC 2180, 4.4)."""
    if selected.has_news or selected.view.pending:
        for start in range(0, len(uids), BATCH):
            batch = uids[start : start + BATCH]
            if len(await selected.account.flags(selected.view_number, batch)) < len(batch):
                return True
    return False


async def move(session: ImapSession, command: Command) -> Ok:
    """MOVE tells COPYUID before the EXPUNGE lines (RFC 6851, 4.3)."""
    arguments = command.arguments
    assert isinstance(arguments, commands.Copy)
    selected = _writable(session)
    if not (may_expunge(selected.rights) and may_store(Flag.DELETED, (), selected.rights)):
        raise Refused("you have no right to remove messages here", b"NOPERM")
    uids = named(selected, arguments.numbers, uid=arguments.uid)
    if uids:
        code = await _copied(session, command.tag, selected, uids, arguments.name, move=True)
        if code is not None:
            session.put(render.note("moved", code))
    return await _removed(session, selected, "MOVE completed")


async def _copied(
    session: ImapSession, tag: bytes, selected: Selected, uids: array[int], name: str, *, move: bool
) -> bytes | None:
    """The COPYUID code; None when none of the messages was there any more."""
    account, inner = await session.resolve(name)
    try:
        if account is selected.account and len(uids) > BATCH:
            async with session.progress(tag):
                validity, source, made = await account.copy(selected.view_number, uids, inner, move=move)
        elif account is selected.account:
            validity, source, made = await account.copy(selected.view_number, uids, inner, move=move)
        else:
            validity, source, made = await _across(selected, uids, account, inner)
            if move and source:
                selected.view.vanish(await selected.account.remove(selected.view_number, source))
    except AccountError as error:
        if error.code == "NONEXISTENT":
            raise Refused(error.text, b"TRYCREATE", expunge=True) from None
        raise
    if not made:
        return None
    if move and selected.holds(account, inner):
        # Into the mailbox where they are: under new UIDs, and not twice.
        selected.view.vanish(await account.remove(selected.view_number, source))
    if selected.holds(account, inner):
        selected.mine.update(made)
    return b"COPYUID %d %b %b" % (validity, compact(source), compact(made))


async def _across(
    selected: Selected, uids: array[int], target: AccountSession, name: str
) -> tuple[int, list[int], list[int]]:
    """Into another account: each message is a stream of its own; if one fails, those before it are taken back."""
    source: list[int] = []
    made: list[int] = []
    validity = 0
    try:
        for start in range(0, len(uids), 100):
            rows = await selected.account.fetch(selected.view_number, uids[start : start + 100], Fetch.NOTHING)
            for row in rows:
                handle = await target.append_begin(
                    name, row.flags & ~RECENT, row.keywords, row.date, row.zone, row.size
                )
                try:
                    offset = 0
                    while offset < row.size:
                        _, data = await selected.account.read(selected.view_number, row.uid, "", offset, _PIECE)
                        if not data:
                            raise AccountError("TEMPORARY", "a message was removed while it was copied")
                        await target.append_chunk(handle, data)
                        offset += len(data)
                except BaseException:
                    await target.append_abort(handle)
                    raise
                validity, uid = await target.append_commit(handle)
                source.append(row.uid)
                made.append(uid)
    except AccountError:
        if made:
            opened = await target.open(name)
            try:
                await target.remove(opened.view, made)
            finally:
                await target.release(opened.view)
        raise
    return validity, source, made
