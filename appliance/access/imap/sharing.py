"""Rights of others in a mailbox: SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314, and 2086 before it).

The stored letters are the old ones, l r s w i p c d a; k and x go with c, and t and e with d (manual, Mailbox Access Control
Lists). Both are shown, so clients of either time find theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.access.imap.session import Ok, Refused
from appliance.accounts.acl import LETTERS, shown
from appliance.accounts.client import AccountError
from appliance.accounts.session import OWNER
from appliance.protocols.imap import Command, commands, render

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

_KNOWN: Final = frozenset(LETTERS + "kxte")


def _named(command: Command) -> tuple[str, str]:
    arguments = command.arguments
    assert isinstance(arguments, commands.Identifier | commands.SetAcl)
    return arguments.name, arguments.identifier


async def set_acl(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.SetAcl)
    for letter in arguments.rights:
        if letter not in _KNOWN:
            raise Refused(f"the right {letter} is not supported", bad=True)  # RFC 4314, 3.1
    account, inner = await session.resolve(arguments.name)
    await account.set_acl(inner, arguments.identifier, arguments.mode, arguments.rights)
    return Ok("SETACL completed")


async def delete_acl(session: ImapSession, command: Command) -> Ok:
    name, identifier = _named(command)
    account, inner = await session.resolve(name)
    await account.set_acl(inner, identifier, "=", "")
    return Ok("DELETEACL completed")


async def get_acl(session: ImapSession, command: Command) -> Ok:
    """The owner comes first: he has all rights without a word in the list."""
    arguments = command.arguments
    assert isinstance(arguments, commands.Mailbox)
    account, inner = await session.resolve(arguments.name)
    entries = await account.acl(inner)
    told = [(_owner(account.name), OWNER), *((who, shown(rights)) for who, rights in entries.items())]
    session.put(render.acl(arguments.name, told, utf8=session.utf8))
    return Ok("GETACL completed")


def _owner(name: str) -> str:
    return name


async def list_rights(session: ImapSession, command: Command) -> Ok:
    """The owner's rights cannot be taken away; everybody else may be given each, and those that go together only together."""
    name, identifier = _named(command)
    account, inner = await session.resolve(name)
    if "a" not in await account.my_rights(inner):
        raise Refused("you have no right to administer this mailbox", b"NOPERM")
    who = identifier.lower()
    if who in (account.name, account.name.partition("@")[0]):
        session.put(render.list_rights(name, identifier, OWNER, (), utf8=session.utf8))
    else:
        words = [shown(letter) for letter in LETTERS]
        session.put(render.list_rights(name, identifier, "", words, utf8=session.utf8))
    return Ok("LISTRIGHTS completed")


async def my_rights(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.Mailbox)
    account, inner = await session.resolve(arguments.name)
    try:
        rights = await account.my_rights(inner)
    except AccountError as error:
        if error.code != "NONEXISTENT":
            raise
        # A folder without a mailbox has rights, too: those of the owner.
        rights = next((row.rights for row in await account.mailboxes() if row.name == inner), "")
        if not rights:
            raise
    session.put(render.my_rights(arguments.name, rights, utf8=session.utf8))
    return Ok("MYRIGHTS completed")
