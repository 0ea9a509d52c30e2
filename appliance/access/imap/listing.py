"""LIST and LSUB: patterns over the names that the gate gives (RFC 3501, 6.3.8 and 6.3.9; RFC 5258; RFC 5819; manual, IMAP module)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from appliance.access.imap.mailboxes import check_items, status_values
from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import AccountError, AccountSession, Listed
from appliance.protocols.imap import Command, commands, render
from appliance.protocols.imap.names import SEPARATOR, ListPattern

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

MAX_MARKED: Final = 100
"""With more mailboxes in the answer none is looked at for \\Marked: it would cost more than it tells (RFC 3501, 7.2.2)."""
_VALUES: Final = ("UIDVALIDITY", "MESSAGES", "UIDNEXT", "UNSEEN", "INTERNALSIZE", "OLDEST")
_SELECTION: Final = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "CHILDREN", *_VALUES})


def combined(reference: str, patterns: Iterable[ListPattern]) -> list[ListPattern]:
    """Patterns as they are meant together with the reference, which just stands before them."""
    return [ListPattern(reference + pattern.text) for pattern in patterns]


def matches(patterns: Iterable[ListPattern], name: str) -> bool:
    if name == "INBOX":  # in any case of letters
        return any(ListPattern(pattern.text.upper()).matches(name) for pattern in patterns)
    return any(pattern.matches(name) for pattern in patterns)


def outer(name: str) -> list[str]:
    """All outer levels of a name, the outermost first."""
    levels = name.split(SEPARATOR)
    return [SEPARATOR.join(levels[:count]) for count in range(1, len(levels))]


async def list_(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.List)
    for option in arguments.selection:
        if option not in _SELECTION:
            raise Refused(f"unknown option {option}", bad=True)
    check_items(arguments.status)
    if [pattern.text for pattern in arguments.patterns] == [""]:
        session.put(render.listing(["\\Noselect"], ""))
        return Ok("LIST completed")
    patterns = combined(arguments.reference, arguments.patterns)
    account, prefix = session.user(), ""
    if all(pattern.text.startswith("~") for pattern in patterns):
        account, prefix = await _others(session, patterns)
    names = [row._replace(name=prefix + row.name) for row in await account.mailboxes()]
    wanted = (*arguments.selection, *(arguments.returned or ()))
    subscribed = set(await session.user().subscriptions()) if "SUBSCRIBED" in wanted else set()
    if "SUBSCRIBED" in arguments.selection:
        await _subscribed(session, patterns, names, subscribed)
        return Ok("LIST completed")
    found = [row for row in names if matches(patterns, row.name)]
    values = tuple(option for option in _VALUES if option in arguments.selection)
    look = sum(row.selectable for row in found) <= MAX_MARKED
    for row in found:
        attributes = _attributes(row)
        if row.name in subscribed:
            attributes.append("\\Subscribed")
        line = b""
        if row.selectable and (look or values or arguments.status):
            inner = row.name.removeprefix(prefix)
            attributes += await _looked_at(account, inner, values)
            if arguments.status and "r" in row.rights:
                line = await _status(account, row.name, inner, arguments.status)
        await session.put_all(render.listing(attributes, row.name) + line)
    return Ok("LIST completed")


async def _others(session: ImapSession, patterns: list[ListPattern]) -> tuple[AccountSession, str]:
    """The account that patterns such as `~boss/*` speak of."""
    owners = {pattern.text.partition(SEPARATOR)[0] for pattern in patterns}
    if len(owners) != 1 or any(sign in next(iter(owners)) for sign in "*%"):
        raise Refused("name one account, as in ~name/*", b"CANNOT")
    owner = owners.pop()
    account, _ = await session.resolve(f"{owner}/INBOX")
    return account, f"{owner}/"


def _attributes(row: Listed) -> list[str]:
    attributes = ["\\HasChildren" if row.children else "\\HasNoChildren"]
    if not row.selectable:
        attributes.insert(0, "\\Noselect")
    return attributes


async def _looked_at(account: AccountSession, name: str, values: tuple[str, ...]) -> list[str]:
    """\\Marked or \\Unmarked, and the asked values as `\\NAME(value)` (manual, Additional LIST extensions)."""
    try:
        known = dict(await status_values(account, name, ("RECENT", *values)))
    except AccountError:
        return []  # gone meanwhile, or not to be read
    words = ["\\Marked" if known["RECENT"] else "\\Unmarked"]
    for item in values:
        if item in known:
            value = known[item]
            words.append(f"\\{item}({value.decode('ascii') if isinstance(value, bytes) else value})")
    return words


async def _status(account: AccountSession, name: str, inner: str, items: tuple[str, ...]) -> bytes:
    try:
        return render.status(name, await status_values(account, inner, items))
    except AccountError:
        return b""


async def _subscribed(
    session: ImapSession, patterns: list[ListPattern], names: list[Listed], subscribed: set[str]
) -> None:
    """LIST (SUBSCRIBED): also names that do not exist (RFC 5258, 3.1)."""
    existing = {row.name: row for row in names}
    for name in sorted(subscribed):
        if matches(patterns, name):
            row = existing.get(name)
            if row is not None:
                attributes = _attributes(row)
            else:
                attributes = [] if name.startswith("~") else ["\\NonExistent"]
            await session.put_all(render.listing([*attributes, "\\Subscribed"], name))


async def lsub(session: ImapSession, command: Command) -> Ok:
    """Subscribed names; with `%` also \\Noselect for an outer level of one that does not match itself (RFC 3501, 6.3.9)."""
    arguments = command.arguments
    assert isinstance(arguments, commands.List)
    if arguments.patterns[0].text == "":
        session.put(render.listing(["\\Noselect"], "", command=b"LSUB"))
        return Ok("LSUB completed")
    patterns = combined(arguments.reference, arguments.patterns)
    found: dict[str, bool] = {}
    levels = any("%" in pattern.text for pattern in patterns)
    for name in await session.user().subscriptions():
        if matches(patterns, name):
            found[name] = True
        elif levels:
            for level in outer(name):
                if matches(patterns, level):
                    found.setdefault(level, False)
    for name, itself in sorted(found.items()):
        await session.put_all(render.listing([] if itself else ["\\Noselect"], name, command=b"LSUB"))
    return Ok("LSUB completed")
