"""Quota: GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208, and 2087 before it).

Each account is one root: "" is one's own and ~name another's. STORAGE counts units of 1,024 octets, MAILBOX mailboxes; only
what has a limit is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import AccountError, AccountSession
from appliance.protocols.imap import Command, commands, render

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession


async def get_quota(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.QuotaRoot)
    root = arguments.root
    if root and not root.startswith("~"):
        raise Refused("no such quota root", b"NONEXISTENT")
    account = await session.others(root[1:]) if root else session.user()
    session.put(await _quota(account, root))
    return Ok("GETQUOTA completed")


async def get_quota_root(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Mailbox)
    name = arguments.name
    account, inner = await session.resolve(name)
    try:
        await account.status(inner)
    except AccountError as error:
        if error.code != "NONEXISTENT":  # a name that is still to be made has a root, too (RFC 9208, 4.1.2)
            raise
    root = "" if account is session.user() else name.partition("/")[0] if name.startswith("~") else f"~{account.name}"
    session.put(render.quota_root(name, [root], utf8=session.utf8))
    session.put(await _quota(account, root))
    return Ok("GETQUOTAROOT completed")


async def _quota(account: AccountSession, root: str) -> bytes:
    info = await account.info()
    resources: list[tuple[str, int, int]] = []
    limit = info.get("limit")
    if limit is not None:
        resources.append(("STORAGE", (int(info["used"]) + 1023) // 1024, int(limit) // 1024))
    most = info.get("mailboxes_limit")
    if most is not None:
        resources.append(("MAILBOX", sum(row.selectable for row in await account.mailboxes()), int(most)))
    return render.quota(root, resources)


async def set_quota(session: ImapSession, command: Command) -> Ok:
    raise Refused("limits are set by the administrator", b"NOPERM")
