"""Annotations of mailboxes and of the account: GETMETADATA, SETMETADATA (RFC 5464); special uses, which are one (RFC 6154)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import AccountError, AccountSession, Listed
from appliance.accounts.metadata import MAX_VALUE
from appliance.kernel.tasks import pace
from appliance.protocols.imap import Command, commands, render

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

SPECIAL_USE: Final = "/private/specialuse"
USES: Final = ("\\Archive", "\\Drafts", "\\Flagged", "\\Important", "\\Junk", "\\Sent", "\\Trash")
"""Uses that a mailbox may have (RFC 6154, RFC 8457); \\All is not among them, because no mailbox shows all messages."""
_SETTABLE: Final = frozenset(USES) - {"\\Flagged"}
_BY_NAME: Final = {
    "\\Archive": ("archive", "archives"),
    "\\Drafts": ("drafts",),
    "\\Junk": ("junk", "spam", "junk e-mail"),
    "\\Sent": ("sent", "sent items", "sent messages"),
    "\\Trash": ("trash", "deleted items", "deleted messages"),
}
"""What names mean where nobody has said anything else: users make them before their programs know of uses."""


async def _target(session: ImapSession, name: str) -> tuple[AccountSession, str]:
    return await session.resolve(name) if name else (session.user(), "")


async def get_metadata(session: ImapSession, command: Command) -> Ok:
    """Entries that are longer than MAXSIZE are left out, and how long they are is told (RFC 5464, 4.2.1)."""
    arguments = command.arguments
    assert isinstance(arguments, commands.GetMetadata)
    account, inner = await _target(session, arguments.name)
    for entry in arguments.entries:
        _check(entry)
    held = await account.metadata(inner)
    found: dict[str, bytes] = {}
    longest = 0
    for key in sorted(held):
        if any(_within(key, entry, arguments.depth) for entry in arguments.entries):
            value = held[key]
            if arguments.largest is not None and len(value) > arguments.largest:
                longest = max(longest, len(value))
            else:
                found[key] = value
    answer: list[tuple[str, bytes | None]] = list(found.items())
    if not arguments.depth:
        answer += [(entry, None) for entry in arguments.entries if entry not in held]
    if answer:
        session.put(render.metadata(arguments.name, answer, utf8=session.utf8))
    return Ok("GETMETADATA completed", b"METADATA LONGENTRIES %d" % longest if longest else None)


def _check(entry: str) -> None:
    if not entry.startswith(("/private/", "/shared/")) and entry not in ("/private", "/shared"):
        raise Refused("entries begin with /private/ or /shared/", bad=True)


def _within(key: str, entry: str, depth: int) -> bool:
    if key == entry:
        return True
    if not depth or not key.startswith(entry + "/"):
        return False
    return depth < 0 or "/" not in key[len(entry) + 1 :]


async def set_metadata(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.SetMetadata)
    account, inner = await _target(session, arguments.name)
    changes: dict[str, bytes | None] = {}
    for entry, value in arguments.changes:
        _check(entry)
        if value is not None and len(value) > MAX_VALUE:
            raise Refused("the value is too large", b"METADATA MAXSIZE %d" % MAX_VALUE)
        if entry == SPECIAL_USE and value is not None:
            value = " ".join(await _checked_uses(account, inner, value)).encode("ascii") or None
        changes[entry] = value
    try:
        await account.set_metadata(inner, changes)
    except AccountError as error:
        if error.code == "LIMIT":
            raise Refused(error.text, b"METADATA TOOMANY") from None
        raise
    return Ok("SETMETADATA completed")


async def _checked_uses(account: AccountSession, name: str, value: bytes) -> list[str]:
    words = value.decode("ascii", "replace").split()
    return await checked_uses(account, name, ["\\" + word.lstrip("\\").capitalize() for word in words])


async def checked_uses(account: AccountSession, name: str, uses: Iterable[str]) -> list[str]:
    """Uses that this mailbox may get: known ones, and none that another mailbox was given. USEATTR (RFC 6154, 3)."""
    wanted = list(uses)
    given = await _given(account, await account.mailboxes())
    for use in wanted:
        if use not in _SETTABLE:
            raise Refused(f"{use} cannot be given to a mailbox", b"USEATTR")
        if any(use in others for other, others in given.items() if other != name):
            raise Refused(f"another mailbox is {use}", b"USEATTR")
    return wanted


async def _given(account: AccountSession, rows: Sequence[Listed]) -> dict[str, list[str]]:
    """The uses that mailboxes were given, by their names; what was given and taken away is an empty list."""
    given: dict[str, list[str]] = {}
    for count, row in enumerate(rows, 1):
        if not count % 200:
            await pace()
        if row.selectable:
            try:
                value = (await account.metadata(row.name)).get(SPECIAL_USE)
            except AccountError:
                continue  # gone meanwhile
            if value is not None:
                given[row.name] = value.decode("ascii", "replace").split()
    return given


async def special_uses(account: AccountSession, rows: Sequence[Listed]) -> Mapping[str, list[str]]:
    """The special uses of mailboxes: as they were given, and by their names for the rest."""
    uses = await _given(account, rows)
    taken = {use for words in uses.values() for use in words}
    by_name = {row.name.lower(): row.name for row in rows if row.selectable and row.name not in uses}
    for use, names in _BY_NAME.items():
        if use not in taken:
            name = next((by_name[name] for name in names if name in by_name), None)
            if name is not None:
                uses[name] = [use]
    return uses
