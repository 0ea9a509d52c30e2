"""`account.info`: the volatile data of an account, as a dictionary of text that an administrator can read.

For each mailbox its number, UIDVALIDITY and the marks below which UIDs and mod-sequences may have been given out; counts
and the size and time of the file they were true for; the names of its keywords. For the account the subscription, and the
elements with a `#` (last log-in and the like). Keys that are not known here survive.

Marks are reserved in blocks and the file is synced before the first number of a block is used, so after a crash counting
goes on from the mark and no number is used twice. A file that is lost or damaged is made anew from the mailboxes, under new
UIDVALIDITY values, since which UIDs were used is lost with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from appliance.formats.data import DataError, Value, parse, render_file

__all__ = ["BoxInfo", "Info", "InfoDamaged"]

_MAX = 1 << 62


class InfoDamaged(ValueError):
    """The file is not what this server writes."""


@dataclass(slots=True)
class BoxInfo:
    """One mailbox. Counts are true if the file has `file_size` and `file_time`."""

    id: int
    validity: int
    uid_mark: int = 1
    modseq_mark: int = 1
    generation: int = 0
    recent_from: int = 1
    """Messages from this UID on are \\Recent for the next session that opens the mailbox for writing."""
    messages: int = 0
    unseen: int = 0
    deleted: int = 0
    recent: int = 0
    size: int = 0
    """Sum of wire sizes."""
    oldest: int = 0
    dead: int = 0
    file_size: int = -1
    file_time: float = 0.0
    keywords: list[str] = field(default_factory=list)
    acl: dict[str, str] = field(default_factory=dict)
    """Who may do what here beside the owner: names and stored rights."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Annotations, see `accounts.metadata`."""


_NUMBERS = {
    "ID": "id",
    "UIDValidity": "validity",
    "UIDMark": "uid_mark",
    "ModSeqMark": "modseq_mark",
    "Generation": "generation",
    "RecentFrom": "recent_from",
    "Messages": "messages",
    "Unseen": "unseen",
    "Deleted": "deleted",
    "Recent": "recent",
    "Size": "size",
    "Oldest": "oldest",
    "Dead": "dead",
    "FileSize": "file_size",
}
assert set(_NUMBERS.values()) <= {f.name for f in fields(BoxInfo)}


@dataclass(slots=True)
class Info:
    """The whole file. `values` are all other elements as they stand, `#` ones included."""

    boxes: dict[str, BoxInfo] = field(default_factory=dict)
    subscription: list[str] = field(default_factory=list)
    next_id: int = 1
    last_validity: int = 0
    values: dict[str, Value] = field(default_factory=dict)

    def new_box(self, now: int) -> BoxInfo:
        """A number and a UIDVALIDITY that no mailbox of this account ever had."""
        self.last_validity = max(now, self.last_validity + 1)
        box = BoxInfo(self.next_id, self.last_validity)
        self.next_id += 1
        return box

    def render(self) -> bytes:
        boxes: dict[str, Value] = {}
        for name, box in self.boxes.items():
            entry: dict[str, Value] = {key: str(getattr(box, attribute)) for key, attribute in _NUMBERS.items()}
            entry["FileTime"] = repr(box.file_time)
            if box.keywords:
                entry["Keywords"] = list(box.keywords)
            if box.acl:
                entry["ACL"] = dict(box.acl)
            if box.metadata:
                entry["Metadata"] = dict(box.metadata)
            boxes[name] = entry
        values: dict[str, Value] = dict(self.values)
        values["Mailboxes"] = boxes
        values["Subscription"] = list(self.subscription)
        values["NextID"] = str(self.next_id)
        values["LastValidity"] = str(self.last_validity)
        return render_file(values).encode("utf-8", "surrogateescape")

    @classmethod
    def parse(cls, data: bytes) -> Info:
        """Raises InfoDamaged."""
        try:
            value = parse(data)
            if not isinstance(value, dict):
                raise InfoDamaged("not a dictionary")
            info = cls()
            boxes = value.pop("Mailboxes", {})
            if not isinstance(boxes, dict):
                raise InfoDamaged("Mailboxes is not a dictionary")
            for name, entry in boxes.items():
                if not isinstance(entry, dict):
                    raise InfoDamaged(f"{name} is not a dictionary")
                info.boxes[name] = _box(entry)
            subscription = value.pop("Subscription", [])
            if not isinstance(subscription, list):
                raise InfoDamaged("Subscription is not an array")
            info.subscription = [name for name in subscription if isinstance(name, str)]
            info.next_id = _number(value.pop("NextID", "1"))
            info.last_validity = _number(value.pop("LastValidity", "0"))
            info.values = value
        except (DataError, KeyError, ValueError) as error:
            raise InfoDamaged(str(error)) from error
        if any(box.id >= info.next_id for box in info.boxes.values()):
            raise InfoDamaged("NextID is too low")
        return info


def _number(value: Value) -> int:
    if not isinstance(value, str):
        raise InfoDamaged("a number is expected")
    number = int(value)
    if not -1 <= number < _MAX:
        raise InfoDamaged(f"{number} is out of range")
    return number


def _box(entry: dict[str, Value]) -> BoxInfo:
    box = BoxInfo(_number(entry["ID"]), _number(entry["UIDValidity"]))
    for key, attribute in _NUMBERS.items():
        if key in entry:
            setattr(box, attribute, _number(entry[key]))
    time = entry.get("FileTime", "0")
    box.file_time = float(time) if isinstance(time, str) else 0.0
    acl = entry.get("ACL", {})
    if isinstance(acl, dict):
        box.acl = {name: rights for name, rights in acl.items() if isinstance(rights, str)}
    notes = entry.get("Metadata", {})
    if isinstance(notes, dict):
        box.metadata = {name: text for name, text in notes.items() if isinstance(text, str)}
    words = entry.get("Keywords", [])
    box.keywords = [word for word in words if isinstance(word, str)][:26] if isinstance(words, list) else []
    return box
