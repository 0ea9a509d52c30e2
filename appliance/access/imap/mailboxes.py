"""Commands on mailboxes by name: SELECT to STATUS, NAMESPACE, quota, rights (RFC 3501, 6.3; RFC 3691, 2342, 2087)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.access.imap.flagging import may_expunge, permanent
from appliance.access.imap.selected import Selected
from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import AccountError, AccountSession
from appliance.protocols.imap import Command, commands, render
from appliance.protocols.imap.dates import DateTexts

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
    session.selected = selected
    session.put(selected.flags_line())
    session.put(render.exists(len(selected.view)))
    session.put(render.recent(selected.recent))
    if opened.first_unseen:
        session.put(render.note("first unseen message", b"UNSEEN %d" % opened.first_unseen))
    flags = render.flag_list(permanent(selected.writable, selected.keywords))
    session.put(render.note("flags that can be set", b"PERMANENTFLAGS " + flags))
    session.put(render.note("UIDs are valid", b"UIDVALIDITY %d" % opened.uidvalidity))
    session.put(render.note("next UID", b"UIDNEXT %d" % opened.uidnext))
    session.put(render.note("highest mod-sequence", b"HIGHESTMODSEQ %d" % opened.modseq))
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
    try:
        if command.name == "CLOSE" and not selected.read_only and may_expunge(selected.rights):
            await selected.account.expunge(selected.view_number)
    finally:
        await session.deselect()
    return Ok(f"{command.name} completed", updates=False)


async def create(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Create)
    account, inner = await session.resolve(arguments.name)
    await account.create(inner + "/" if arguments.folder else inner)
    return Ok("CREATE completed")


async def delete(session: ImapSession, command: Command) -> Ok:
    account, inner = await session.resolve(_name(command))
    if inner == "INBOX":
        raise Refused("INBOX cannot be deleted", b"CANNOT")
    await account.delete(inner)
    return Ok("DELETE completed")


async def rename(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Rename)
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
    session.put(render.status(arguments.name, await status_values(account, inner, arguments.items)))
    return Ok("STATUS completed")


def check_items(items: tuple[str, ...]) -> None:
    for item in items:
        if item not in STATUS_ITEMS:
            raise Refused(f"unknown status item {item}", bad=True)


async def status_values(account: AccountSession, name: str, items: tuple[str, ...]) -> list[tuple[str, int | bytes]]:
    """Items and their values, in the order asked; OLDEST is missing for an empty mailbox."""
    known = await account.status(name)
    values: list[tuple[str, int | bytes]] = []
    for item in dict.fromkeys(items):
        value = known[STATUS_ITEMS[item]]
        if item != "OLDEST":
            values.append((item, value))
        elif value and known["MESSAGES"]:
            values.append((item, DateTexts().text(value, 0)))
    return values


async def namespace(session: ImapSession, command: Command) -> Ok:
    """The mailboxes of others begin with `~`, where there are any (manual, IMAP module)."""
    others = [("~", "/")] if session.around.foreign is not None else []
    session.put(render.namespace([("", "/")], others, []))
    return Ok("NAMESPACE completed")


async def my_rights(session: ImapSession, command: Command) -> Ok:
    name = _name(command)
    account, inner = await session.resolve(name)
    for listed in await account.mailboxes():
        if listed.name == inner:
            session.put(render.my_rights(name, listed.rights))
            return Ok("MYRIGHTS completed")
    raise Refused("no such mailbox", b"NONEXISTENT")


# -- quota: one root for an account, "" for one's own and ~name for another's ----------------------------------------


async def get_quota(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.QuotaRoot)
    root = arguments.root
    if root and not root.startswith("~"):
        raise Refused("no such quota root", b"NONEXISTENT")
    account = (await session.resolve(f"{root}/INBOX"))[0] if root else session.user()
    session.put(await _quota(account, root))
    return Ok("GETQUOTA completed")


async def get_quota_root(session: ImapSession, command: Command) -> Ok:
    name = _name(command)
    account, inner = await session.resolve(name)
    try:
        await account.status(inner)
    except AccountError as error:
        if error.code != "NONEXISTENT":
            raise
    root = name.partition("/")[0] if name.startswith("~") else ""
    session.put(render.quota_root(name, [root]))
    session.put(await _quota(account, root))
    return Ok("GETQUOTAROOT completed")


async def _quota(account: AccountSession, root: str) -> bytes:
    """STORAGE in units of 1,024 octets, nothing for an account without a limit (RFC 2087, 3 and 5.1)."""
    info = await account.info()
    limit = info.get("limit")
    if limit is None:
        return render.quota(root, [])
    return render.quota(root, [("STORAGE", (int(info["used"]) + 1023) // 1024, int(limit) // 1024)])


async def set_quota(session: ImapSession, command: Command) -> Ok:
    raise Refused("limits are set by the administrator", b"NOPERM")
