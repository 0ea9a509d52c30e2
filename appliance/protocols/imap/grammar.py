"""The table from the names of commands to the parsers of their arguments.

A parser reads what follows the name of the command. Wrong syntax raises ParseError; what a command may do, and when, is
the session's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from appliance.protocols.imap import grammar_account as account
from appliance.protocols.imap import grammar_mailboxes as mailboxes
from appliance.protocols.imap import grammar_messages as messages
from appliance.protocols.imap.commands import Arguments, Command
from appliance.protocols.imap.cursor import Cursor, ParseError

PARSERS: Final[dict[str, Callable[[Cursor], Arguments]]] = {
    "AUTHENTICATE": account.authenticate,
    "CAPABILITY": account.nothing,
    "CHECK": account.nothing,
    "CLOSE": account.nothing,
    "COMPRESS": account.compress,
    "COPY": messages.copy,
    "CREATE": mailboxes.create,
    "DELETE": mailboxes.mailbox,
    "DELETEACL": mailboxes.identifier,
    "ENABLE": account.enable,
    "EXAMINE": mailboxes.select,
    "EXPUNGE": messages.expunge,
    "FETCH": messages.fetch,
    "GETACL": mailboxes.mailbox,
    "GETMETADATA": mailboxes.get_metadata,
    "GETQUOTA": mailboxes.quota_root,
    "GETQUOTAROOT": mailboxes.mailbox,
    "ID": account.identity,
    "IDLE": account.nothing,
    "LIST": mailboxes.list_,
    "LISTRIGHTS": mailboxes.identifier,
    "LOGIN": account.login,
    "LOGOUT": account.nothing,
    "LSUB": mailboxes.lsub,
    "MOVE": messages.copy,
    "MYRIGHTS": mailboxes.mailbox,
    "NAMESPACE": account.nothing,
    "NOOP": account.nothing,
    "NOTIFY": account.notify,
    "PARTIAL": messages.partial,
    "RENAME": mailboxes.rename,
    "SEARCH": messages.search,
    "SELECT": mailboxes.select,
    "SETACL": mailboxes.set_acl,
    "SETMETADATA": mailboxes.set_metadata,
    "SETQUOTA": mailboxes.set_quota,
    "SORT": messages.sort,
    "STARTTLS": account.nothing,
    "STATUS": mailboxes.status,
    "STORE": messages.store,
    "SUBSCRIBE": mailboxes.mailbox,
    "THREAD": messages.thread,
    "UNSELECT": account.nothing,
    "UNSUBSCRIBE": mailboxes.mailbox,
}
"""Every command but those of `STREAMED`, by its name."""

UID_PARSERS: Final[dict[str, Callable[[Cursor], Arguments]]] = {
    "COPY": lambda cursor: messages.copy(cursor, uid=True),
    "EXPUNGE": messages.uid_expunge,
    "FETCH": lambda cursor: messages.fetch(cursor, uid=True),
    "MOVE": lambda cursor: messages.copy(cursor, uid=True),
    "SEARCH": lambda cursor: messages.search(cursor, uid=True),
    "SORT": lambda cursor: messages.sort(cursor, uid=True),
    "STORE": lambda cursor: messages.store(cursor, uid=True),
    "THREAD": lambda cursor: messages.thread(cursor, uid=True),
}

STREAMED: Final = frozenset({"APPEND", "REPLACE", "UID REPLACE"})
"""Commands that bring messages, which are streamed."""


def parse_name(cursor: Cursor) -> tuple[bytes, str]:
    """The tag and the name in capitals; "UID FETCH" and the like in one. Raises ParseError when there is no such command."""
    tag = cursor.tag()
    cursor.space()
    name = cursor.word("a command")
    if name == "UID":
        cursor.space()
        name = cursor.word("a command")
        if name in UID_PARSERS or name == "REPLACE":
            return tag, f"UID {name}"
    elif name in PARSERS or name in STREAMED:
        return tag, name
    raise ParseError("unknown command")


def parse(cursor: Cursor) -> Command:
    """A whole command that is not of `STREAMED`. Raises ParseError, and LiteralNeeded when octets are missing."""
    tag, name = parse_name(cursor)
    if name in STREAMED:
        messages.target(cursor, name)
        raise ParseError(f"{name} without a message")
    if name.startswith("UID "):
        name = name[4:]
        arguments = UID_PARSERS[name](cursor)
    else:
        arguments = PARSERS[name](cursor)
    cursor.end()
    return Command(tag, name, arguments)
