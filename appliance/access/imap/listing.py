"""LIST and LSUB: patterns over the names that the gate gives (RFC 3501, 6.3.8 and 6.3.9; RFC 5258; RFC 5819; RFC 6154; RFC
8440; manual, IMAP module).

Mailbox aliases stand among the mailboxes, each with what lies below it in the account that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from appliance.access.imap.annotations import special_uses
from appliance.access.imap.mailboxes import check_items, status_values
from appliance.access.imap.session import Ok, Refused
from appliance.accounts.client import AccountError, AccountSession
from appliance.accounts.shared import resolved
from appliance.kernel.tasks import pace
from appliance.protocols.imap import Command, commands, render
from appliance.protocols.imap.names import SEPARATOR, ListPattern

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

MAX_MARKED: Final = 100
"""With more mailboxes in the answer none is looked at for \\Marked: it would cost more than it tells (RFC 3501, 7.2.2)."""
_VALUES: Final = ("UIDVALIDITY", "MESSAGES", "UIDNEXT", "UNSEEN", "INTERNALSIZE", "OLDEST")
_SELECTION: Final = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "CHILDREN", "SPECIAL-USE", *_VALUES})
_RETURNED: Final = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "STATUS", "MYRIGHTS"})


class Entry(NamedTuple):
    """A name of the list and where its mailbox is. `rights` are empty for what does not exist."""

    name: str
    selectable: bool
    children: bool
    rights: str
    account: AccountSession | None
    inner: str


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


async def entries(session: ImapSession, patterns: list[ListPattern]) -> list[Entry]:
    """All names that these patterns can speak of: one's own and those behind aliases, or those of the account they name."""
    if patterns and all(pattern.text.startswith("~") for pattern in patterns):
        account, prefix = await _others(session, patterns)
        return [Entry(prefix + row[0], row[1], row[2], row[3], account, row[0]) for row in await account.mailboxes()]
    account = session.user()
    found = [Entry(*row, account, row[0]) for row in await account.mailboxes()]
    for alias, target in sorted((await account.aliases()).items()):
        found += await _behind(session, alias, target)
    return found


async def _behind(session: ImapSession, alias: str, target: str) -> list[Entry]:
    """The alias and what lies below it; an alias of what is not there is left out."""
    owner, inner = resolved({}, target)
    try:
        account = await session.others(owner) if owner else session.user()
        rows = await account.mailboxes()
    except (AccountError, Refused):
        return []
    if not inner:  # a whole account
        whole = [Entry(alias, False, bool(rows), "", account, "")] if rows else []
        return whole + [Entry(f"{alias}/{row.name}", *row[1:], account, row.name) for row in rows]
    found = []
    for row in rows:
        if row.name == inner or row.name.startswith(inner + SEPARATOR):
            found.append(Entry(alias + row.name[len(inner) :], *row[1:], account, row.name))
    return found


async def list_(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, commands.List)
    selection = arguments.selection
    for option in selection:
        if option not in _SELECTION:
            raise Refused(f"unknown option {option}", bad=True)
    for option in arguments.returned or ():
        if option not in _RETURNED:
            raise Refused(f"unknown option {option}", bad=True)
    if "RECURSIVEMATCH" in selection and not {"SUBSCRIBED", "SPECIAL-USE"} & set(selection):
        raise Refused("RECURSIVEMATCH needs something that matches", bad=True)  # RFC 5258, 3.1
    check_items(arguments.status)
    if [pattern.text for pattern in arguments.patterns] == [""]:
        session.put(render.listing(["\\Noselect"], ""))
        return Ok("LIST completed")
    await _Answer(session, arguments).tell()
    return Ok("LIST completed")


class _Answer:
    """One LIST at work."""

    __slots__ = ("arguments", "patterns", "session", "subscribed", "uses", "values")

    def __init__(self, session: ImapSession, arguments: commands.List) -> None:
        self.session = session
        self.arguments = arguments
        self.patterns = combined(arguments.reference, arguments.patterns)
        self.subscribed: set[str] = set()
        self.uses: dict[str, list[str]] = {}
        self.values = tuple(option for option in _VALUES if option in arguments.selection)

    async def tell(self) -> None:
        session, arguments = self.session, self.arguments
        selection, returned = set(arguments.selection), set(arguments.returned or ())
        known = await entries(session, self.patterns)
        if "SUBSCRIBED" in selection | returned:
            self.subscribed = set(await session.user().subscriptions())
        own = session.user()
        if any(entry.account is own for entry in known):
            self.uses = dict(await special_uses(own, await own.mailboxes()))
        wanted: set[str] | None = None
        if "SUBSCRIBED" in selection:
            wanted = set(self.subscribed)
        if "SPECIAL-USE" in selection:
            used = {entry.name for entry in known if entry.account is own and entry.inner in self.uses}
            wanted = used if wanted is None else wanted & used
        await self._rows(known, wanted, recursive="RECURSIVEMATCH" in selection)

    async def _rows(self, known: list[Entry], wanted: set[str] | None, *, recursive: bool) -> None:
        by_name = {entry.name: entry for entry in known}
        found: list[tuple[Entry, bool]] = []
        if wanted is None:
            found = [(entry, False) for entry in known if matches(self.patterns, entry.name)]
        else:
            above: set[str] = set()
            if recursive:
                # Of children that are told themselves nothing more is said at their parents (RFC 5258, 3.5).
                above = {level for name in wanted if not matches(self.patterns, name) for level in outer(name)}
            for name in sorted(wanted | above, key=lambda name: (name != "INBOX", name)):
                # A parent that is wanted for its children only is told if it matches and they do (RFC 5258, 3.5).
                if matches(self.patterns, name):
                    missing = Entry(name, False, False, "", None, "")
                    found.append((by_name.get(name, missing), name in above))
        look = sum(entry.selectable for entry, _ in found) <= MAX_MARKED
        for count, (entry, info) in enumerate(found, 1):
            await self._row(entry, info, look=look)
            if not count % 200:
                await pace()

    async def _row(self, entry: Entry, info: bool, *, look: bool) -> None:
        session, arguments = self.session, self.arguments
        attributes = _attributes(entry)
        if entry.name in self.subscribed:
            attributes.append("\\Subscribed")
        if entry.account is session.user():
            attributes += self.uses.get(entry.inner, [])
        rest = b""
        account = entry.account
        if account is not None and entry.selectable:
            if look or self.values:
                attributes += await _looked_at(session, account, entry.inner, self.values)
            if arguments.status and "r" in entry.rights:
                rest = await _status(session, account, entry, arguments.status)
        if "MYRIGHTS" in (arguments.returned or ()) and entry.rights:
            rest += render.my_rights(entry.name, entry.rights, utf8=session.utf8)
        more = b'("CHILDINFO" (%b))' % self._childinfo() if info else b""
        await session.put_all(render.listing(attributes, entry.name, utf8=session.utf8, more=more) + rest)

    def _childinfo(self) -> bytes:
        return b" ".join(
            b'"%b"' % option.encode("ascii")
            for option in ("SUBSCRIBED", "SPECIAL-USE")
            if option in self.arguments.selection
        )


async def _others(session: ImapSession, patterns: list[ListPattern]) -> tuple[AccountSession, str]:
    """The account that patterns such as `~boss/*` speak of."""
    owners = {pattern.text.partition(SEPARATOR)[0] for pattern in patterns}
    if len(owners) != 1 or any(sign in next(iter(owners)) for sign in "*%"):
        raise Refused("name one account, as in ~name/*", b"CANNOT")
    owner = owners.pop()
    return await session.others(owner[1:]), f"{owner}/"


def _attributes(entry: Entry) -> list[str]:
    if entry.account is None:  # subscribed, and not known here
        return [] if entry.name.startswith("~") else ["\\NonExistent"]
    attributes = ["\\HasChildren" if entry.children else "\\HasNoChildren"]
    if not entry.selectable:
        attributes.insert(0, "\\Noselect")
    return attributes


async def _looked_at(session: ImapSession, account: AccountSession, name: str, values: tuple[str, ...]) -> list[str]:
    """\\Marked or \\Unmarked, and the asked values as `\\NAME(value)` (manual, Additional LIST extensions)."""
    try:
        known = dict(await status_values(session, account, name, ("RECENT", *values)))
    except AccountError:
        return []  # gone meanwhile, or not to be read
    words = ["\\Marked" if known["RECENT"] else "\\Unmarked"]
    for item in values:
        if item in known:
            value = known[item]
            words.append(f"\\{item}({value.decode('ascii') if isinstance(value, bytes) else value})")
    return words


async def _status(session: ImapSession, account: AccountSession, entry: Entry, items: tuple[str, ...]) -> bytes:
    try:
        values = await status_values(session, account, entry.inner, items)
    except AccountError:
        return b""
    return render.status(entry.name, values, utf8=session.utf8)


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
        attributes = [] if itself else ["\\Noselect"]
        await session.put_all(render.listing(attributes, name, command=b"LSUB", utf8=session.utf8))
    return Ok("LSUB completed")
