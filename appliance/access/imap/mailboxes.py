"""Commands on mailboxes by name: SELECT to STATUS, NAMESPACE (RFC 3501, 6.3; RFC 3691, RFC 2342)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

from appliance.access.imap.annotations import SPECIAL_USE, checked_uses
from appliance.access.imap.flagging import may_expunge, permanent
from appliance.access.imap.selected import Selected
from appliance.access.imap.session import Ok, Refused
from appliance.access.imap.settings import MAX_APPEND
from appliance.access.imap.storing import remove_marked
from appliance.accounts.client import AccountError, AccountSession
from appliance.mailstore.names import split_format
from appliance.protocols.imap import Command, commands, render
from appliance.protocols.imap.dates import DateTexts
from appliance.protocols.imap.names import decode_utf7

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

STATUS_ITEMS: Final = {
    "MESSAGES": "MESSAGES",
    "RECENT": "RECENT",
    "UIDNEXT": "UIDNEXT",
    "UIDVALIDITY": "UIDVALIDITY",
    "UNSEEN": "UNSEEN",
    "DELETED": "DELETED",
    "SIZE": "SIZE",
    "INTERNALSIZE": "INTERNALSIZE",
    "OLDEST": "OLDEST",
    "HIGHESTMODSEQ": "HIGHESTMODSEQ",
    "DELETED-STORAGE": "",
    "MAILBOXID": "",
    "APPENDLIMIT": "",
}
"""Items of STATUS and the gate's names of their values. OLDEST comes in seconds since 1970, 0 for an empty mailbox."""


def _name(command: Command) -> str:
    arguments = command.arguments
    assert isinstance(arguments, commands.Mailbox)
    return arguments.name


async def select(session: ImapSession, command: Command) -> Ok:
    """SELECT and EXAMINE. Whatever happens, the mailbox before is not selected any more (RFC 3501, 6.3.1)."""
    arguments = command.arguments
    assert isinstance(arguments, commands.Select)
    name = arguments.name
    read_only = command.name == "EXAMINE"
    if arguments.resync is not None and "QRESYNC" not in session.enabled:
        raise Refused("ENABLE QRESYNC comes first", bad=True)
    if session.selected is not None:
        session.put(render.note("the mailbox before is closed", b"CLOSED"))
    await session.deselect()
    if arguments.condstore:
        session.enable_condstore()
    account, inner = await session.resolve(name)
    opened = await account.open(inner, write=not read_only)
    selected = Selected(account, name, inner, opened, session.around.notices, read_only=read_only)
    if not set("swtedi") & set(opened.rights):
        selected.read_only = True
    selected.condstore = "CONDSTORE" in session.enabled
    selected.qresync = "QRESYNC" in session.enabled
    if session.rev2:
        selected.speak_rev2()
    session.selected = selected
    session.put(selected.flags_line())
    session.put(render.exists(len(selected.view)))
    if session.rev2:  # RFC 9051, 6.3.2
        session.put(render.listing([], name, utf8=session.utf8))
    else:
        session.put(render.recent(selected.recent))
        if opened.first_unseen:
            session.put(render.note("first unseen message", b"UNSEEN %d" % opened.first_unseen))
    flags = render.flag_list(permanent(selected.writable, selected.keywords))
    session.put(render.note("flags that can be set", b"PERMANENTFLAGS " + flags))
    session.put(render.note("UIDs are valid", b"UIDVALIDITY %d" % opened.uidvalidity))
    session.put(render.note("next UID", b"UIDNEXT %d" % opened.uidnext))
    session.put(render.note("highest mod-sequence", b"HIGHESTMODSEQ %d" % opened.modseq))
    session.put(render.note("the mailbox for ever", b"MAILBOXID (%b)" % mailbox_id(account, opened.uidvalidity)))
    resync = arguments.resync
    if resync is not None and resync.uidvalidity == opened.uidvalidity:
        gone, rows = await selected.earlier(resync.modseq, resync.known)
        session.put(render.vanished(gone, earlier=True))
        for start in range(0, len(rows), 500):
            await session.put_all(selected.flag_rows(rows[start : start + 500], uid=True))
    return Ok(f"{command.name} completed", b"READ-ONLY" if selected.read_only else b"READ-WRITE", updates=False)


async def close(session: ImapSession, command: Command) -> Ok:
    """CLOSE removes what is marked, and says nothing of it; UNSELECT does not remove."""
    selected = session.mailbox()
    code: bytes | None = None
    try:
        if command.name == "CLOSE" and not selected.read_only and may_expunge(selected.rights):
            await remove_marked(selected, None)
            if selected.qresync:
                changes = await selected.account.changes(selected.view_number, selected.modseq)
                code = b"HIGHESTMODSEQ %d" % changes.modseq
    finally:
        await session.deselect()
    return Ok(f"{command.name} completed", code, updates=False)


def mailbox_id(account: AccountSession, uidvalidity: int) -> bytes:
    """No two mailboxes of an account ever have the same UIDVALIDITY, and it stays through a rename (RFC 8474, 4)."""
    return b"F%x-%08x" % (uidvalidity, crc32(account.name.encode("utf-8", "surrogateescape")))


async def create(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Create)
    try:
        decode_utf7(arguments.name)
    except ValueError:
        raise Refused("the name is not in modified UTF-7", b"CANNOT") from None
    account, inner = await session.resolve(arguments.name)
    uses = []
    if arguments.uses:
        if account is not session.user() or arguments.folder:
            raise Refused("special uses are for own mailboxes", b"USEATTR")
        uses = await checked_uses(account, inner, arguments.uses)
    await account.create(inner + "/" if arguments.folder else inner)
    if arguments.folder:
        return Ok("CREATE completed")
    inner = split_format(inner)[0]
    if uses:
        await account.set_metadata(inner, {SPECIAL_USE: " ".join(uses).encode("ascii")})
    try:
        known = await account.status(inner)
    except AccountError:
        return Ok("CREATE completed")  # who makes a mailbox in another account need not be able to read it
    return Ok("CREATE completed", b"MAILBOXID (%b)" % mailbox_id(account, known["UIDVALIDITY"]))


async def delete(session: ImapSession, command: Command) -> Ok:
    account, inner = await session.resolve(_name(command))
    if inner == "INBOX":
        raise Refused("INBOX cannot be deleted", b"CANNOT")
    await account.delete(inner)
    return Ok("DELETE completed")


async def rename(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Rename)
    try:
        decode_utf7(arguments.new)
    except ValueError:
        raise Refused("the name is not in modified UTF-7", b"CANNOT") from None
    account, old = await session.resolve(arguments.old)
    other, new = await session.resolve(arguments.new)
    if account is not other:
        raise Refused("a mailbox cannot move to another account", b"CANNOT")
    await account.rename(old, new.rstrip("/"))
    return Ok("RENAME completed")


async def subscribe(session: ImapSession, command: Command) -> Ok:
    """Any name can be subscribed, foreign or not existing ones too: the list is the client's."""
    await session.user().subscribe(_name(command), command.name == "SUBSCRIBE")
    return Ok(f"{command.name} completed")


async def status(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Status)
    check_items(arguments.items)
    if "HIGHESTMODSEQ" in arguments.items:
        session.enable_condstore()
    account, inner = await session.resolve(arguments.name)
    values = await status_values(session, account, inner, arguments.items)
    session.put(render.status(arguments.name, values, utf8=session.utf8))
    return Ok("STATUS completed")


def check_items(items: tuple[str, ...]) -> None:
    for item in items:
        if item not in STATUS_ITEMS:
            raise Refused(f"unknown status item {item}", bad=True)


async def status_values(
    session: ImapSession, account: AccountSession, name: str, items: tuple[str, ...]
) -> list[tuple[str, int | bytes]]:
    """Items and their values, in the order asked; OLDEST is missing for an empty mailbox."""
    known = await account.status(name)
    values: list[tuple[str, int | bytes]] = []
    for item in dict.fromkeys(items):
        if item == "DELETED-STORAGE":
            values.append((item, (await account.totals(name))[item]))
        elif item == "MAILBOXID":
            values.append((item, b"(%b)" % mailbox_id(account, known["UIDVALIDITY"])))
        elif item == "APPENDLIMIT":
            limit = session.around.settings[MAX_APPEND]
            values.append((item, b"NIL" if limit is None else limit))
        elif item != "OLDEST":
            values.append((item, known[STATUS_ITEMS[item]]))
        elif known["OLDEST"] and known["MESSAGES"]:
            values.append((item, DateTexts().text(known["OLDEST"], 0)))
    return values


async def namespace(session: ImapSession, command: Command) -> Ok:
    """The mailboxes of others begin with `~`, where there are any (manual, IMAP module)."""
    others = [("~", "/")] if session.around.foreign is not None else []
    session.put(render.namespace([("", "/")], others, []))
    return Ok("NAMESPACE completed")
