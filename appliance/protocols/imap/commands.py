"""Commands and their arguments: one small class for each kind. `grammar` parses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from appliance.protocols.imap import names
from appliance.protocols.imap.authentication import Authenticate, Login
from appliance.protocols.imap.dates import Moment
from appliance.protocols.imap.fetchitem import FetchItem
from appliance.protocols.imap.flags import FlagList
from appliance.protocols.imap.searchkey import SearchKey
from appliance.protocols.imap.sequence import SequenceSet


class Nothing(NamedTuple):
    """A command without arguments."""


class Resync(NamedTuple):
    """What a client remembers of a mailbox (RFC 7162, 3.2.5). `known`: the UIDs it has, None for all."""

    uidvalidity: int
    modseq: int
    known: SequenceSet | None


class Select(NamedTuple):
    """SELECT and EXAMINE. `condstore`: the client asks for mod-sequences (RFC 7162, 3.1.8)."""

    name: str
    condstore: bool = False
    resync: Resync | None = None


class Mailbox(NamedTuple):
    """DELETE, SUBSCRIBE, UNSUBSCRIBE, GETACL, MYRIGHTS, GETQUOTAROOT."""

    name: str


class Create(NamedTuple):
    """`folder`: the name ended in the separator, so only names below it are announced (RFC 3501, 6.3.3); `uses`: the special
    uses that it shall have, as `\\Drafts` (RFC 6154, 3)."""

    name: str
    folder: bool
    uses: tuple[str, ...] = ()


class Rename(NamedTuple):
    old: str
    new: str


class List(NamedTuple):
    """LIST and LSUB. Options in capitals: `selection` before the reference, `returned` after RETURN (RFC 5258);
    `status`: the items of RETURN (STATUS (...)) (RFC 5819)."""

    reference: str
    patterns: tuple[names.ListPattern, ...]
    selection: tuple[str, ...] = ()
    returned: tuple[str, ...] | None = None
    status: tuple[str, ...] = ()


class Status(NamedTuple):
    """Items in capitals, known or not."""

    name: str
    items: tuple[str, ...]


class Target(NamedTuple):
    """Where the messages of APPEND or REPLACE go. `replaced`: the message that goes with it (RFC 8508), None for APPEND."""

    name: str
    replaced: SequenceSet | None = None
    uid: bool = False


class MessageHead(NamedTuple):
    """What stands before the literal of a message to append. `waits`: the client waits for a `+` line; `binary`: it is a
    literal8 (RFC 3516); `parts`: the message is put together from parts (RFC 4469), and `size` is 0; `utf8`: its header may be in
    UTF-8, and a parenthesis follows the literal (RFC 6855, 4)."""

    flags: FlagList
    date: Moment | None
    size: int
    waits: bool
    binary: bool = False
    parts: bool = False
    utf8: bool = False


class Window(NamedTuple):
    """A part of a result (RFC 9394): from `first` to `last`, counted from 1, or from the end with both negative."""

    first: int
    last: int

    def __bytes__(self) -> bytes:
        return b"%d:%d" % (self.first, self.last)

    def of(self, results: Sequence[int]) -> Sequence[int]:
        """That part of a result."""
        low, high = sorted((abs(self.first), abs(self.last)))
        if self.first > 0:
            return results[low - 1 : high]
        count = len(results)
        return results[max(0, count - high) : max(0, count - low + 1)]


class Search(NamedTuple):
    """`charset` in capitals, None when none was named; `uid`: answer with UIDs; `returned`: options of RFC 4731 and 5182,
    None for an answer of the old form; `window`: the option PARTIAL."""

    key: SearchKey
    charset: str | None
    uid: bool
    returned: tuple[str, ...] | None = None
    window: Window | None = None


class SortKey(NamedTuple):
    """`name` is ARRIVAL, CC, DATE, FROM, SIZE, SUBJECT, TO (RFC 5256), DISPLAYFROM or DISPLAYTO (RFC 5957)."""

    name: str
    reverse: bool


class Sort(NamedTuple):
    """A search whose results have an order."""

    keys: tuple[SortKey, ...]
    search: Search


class Thread(NamedTuple):
    """`algorithm` in capitals; it may be one that is not known."""

    algorithm: str
    search: Search


class Fetch(NamedTuple):
    """`changed_since`: only messages with a higher mod-sequence (RFC 7162, 3.1.4.1), None for all; `vanished`: tell also
    which of these UIDs were removed since (3.2.6); `window`: only this part of them (RFC 9394)."""

    numbers: SequenceSet
    items: tuple[FetchItem, ...]
    uid: bool
    changed_since: int | None = None
    vanished: bool = False
    window: Window | None = None


class Store(NamedTuple):
    """`mode` is "=", "+" or "-"; `unchanged_since`: not where the mod-sequence is higher (RFC 7162, 3.1.3), -1 for anyway."""

    numbers: SequenceSet
    mode: str
    flags: FlagList
    silent: bool
    uid: bool
    unchanged_since: int = -1


class Copy(NamedTuple):
    """COPY and MOVE (RFC 6851)."""

    numbers: SequenceSet
    name: str
    uid: bool


class Expunge(NamedTuple):
    """`uids` only for UID EXPUNGE (RFC 4315, 2.1)."""

    uids: SequenceSet | None


class Identity(NamedTuple):
    """ID: what the client says of itself, names in lower case (RFC 2971)."""

    fields: tuple[tuple[str, str], ...]


class Enable(NamedTuple):
    """Capabilities in capitals (RFC 5161)."""

    names: tuple[str, ...]


class SetAcl(NamedTuple):
    """`mode` is "=", "+" or "-" (RFC 4314, 3.1)."""

    name: str
    identifier: str
    mode: str
    rights: str


class Identifier(NamedTuple):
    """DELETEACL and LISTRIGHTS."""

    name: str
    identifier: str


class QuotaRoot(NamedTuple):
    """GETQUOTA."""

    root: str


class SetQuota(NamedTuple):
    root: str
    limits: tuple[tuple[str, int], ...]


class GetMetadata(NamedTuple):
    """Entry names in small letters; `depth` 0, 1 or -1 for all below; `largest`: longer values stay out (RFC 5464, 4.2).
    The empty name is the account."""

    name: str
    entries: tuple[str, ...]
    depth: int = 0
    largest: int | None = None


class SetMetadata(NamedTuple):
    """Entry names in small letters and their values, None to take one away (RFC 5464, 4.3)."""

    name: str
    changes: tuple[tuple[str, bytes | None], ...]


class Compress(NamedTuple):
    """`algorithm` in capitals (RFC 4978)."""

    algorithm: str


class NotifyEvents(NamedTuple):
    """Events in capitals; `items`: what to tell of new messages at once (RFC 5465, 5)."""

    names: tuple[str, ...]
    items: tuple[FetchItem, ...] = ()


class NotifyGroup(NamedTuple):
    """`which` is SELECTED, SELECTED-DELAYED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE or MAILBOXES; `names` of the last two."""

    which: str
    names: tuple[str, ...]
    events: NotifyEvents


class Notify(NamedTuple):
    """NOTIFY SET; no groups for NOTIFY NONE. `status`: tell the present state at once (RFC 5465, 3.1)."""

    groups: tuple[NotifyGroup, ...]
    status: bool = False


Arguments = (
    Nothing
    | Login
    | Authenticate
    | Select
    | Mailbox
    | Create
    | Rename
    | List
    | Status
    | Search
    | Sort
    | Thread
    | Fetch
    | Store
    | Copy
    | Expunge
    | Identity
    | Enable
    | SetAcl
    | Identifier
    | QuotaRoot
    | SetQuota
    | GetMetadata
    | SetMetadata
    | Compress
    | Notify
)


class Command(NamedTuple):
    """A whole command. `name` in capitals, without UID: the arguments say `uid`."""

    tag: bytes
    name: str
    arguments: Arguments
