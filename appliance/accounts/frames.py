"""What the accounts room writes into the journal, W and K frames, and the records that ride in the deliverers' D frames.

    W  about to write: a mailbox, its length before, and the marks below which its numbers may be given out from now on;
       or, with `placed`, what a client's APPEND, COPY or MOVE has written, and with `moved` what is to go for it elsewhere
    K  all that was written to the account before is safe on disk

Accounts go by their full name: a rename waits for a K, so a name between two K frames is one account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.kernel.journal import Frame, FrameType
from appliance.kernel.packing import PackingError, Value, pack, unpack

__all__ = ["Moved", "Placed", "Safe", "Writing", "decode", "pack_record", "unpack_record"]

_VERSION: Final = 2


@dataclass(slots=True)
class Placed:
    """One stored message: `start` is where its From-line begins (an .mdir: its UID) in this `generation` of the mailbox file,
    `length` and `crc` are those of the stored content, `added` what stands in front of the message's own."""

    mailbox: str
    number: int
    generation: int
    uid: int
    flags: int
    keywords: int
    date: int
    return_path: bytes
    added: bytes
    start: int
    length: int
    crc: int

    def fields(self) -> list[Value]:
        return [
            self.mailbox,
            self.number,
            self.generation,
            self.uid,
            self.flags,
            self.keywords,
            self.date,
            self.return_path,
            self.added,
            self.start,
            self.length,
            self.crc,
        ]


@dataclass(slots=True)
class Moved:
    """UIDs that leave a mailbox, one for each message placed, in the same order: a MOVE is one act, after a crash too."""

    mailbox: str
    number: int
    uids: list[int]


@dataclass(slots=True)
class Writing:
    """`length` -1: nothing is going to be written behind it, only the marks count. For an .mdir it is the next UID.
    `generation` counts how often the file was written anew: offsets of another one mean nothing."""

    account: str
    mailbox: str
    number: int
    generation: int
    length: int
    uid_mark: int
    modseq_mark: int
    placed: list[Placed] = field(default_factory=list)
    moved: Moved | None = None

    def frame(self) -> Frame:
        fields: list[Value] = [_VERSION, self.account, self.mailbox, self.number, self.generation, self.length]
        placed: list[Value] = [place.fields() for place in self.placed]
        fields += [self.uid_mark, self.modseq_mark, placed]
        if self.moved is not None:
            fields.append([self.moved.mailbox, self.moved.number, list(self.moved.uids)])
        return Frame(FrameType.WRITING, pack(fields))


@dataclass(slots=True)
class Safe:
    account: str

    def frame(self) -> Frame:
        return Frame(FrameType.SAFE, pack([_VERSION, self.account]))


def decode(frame: Frame) -> Writing | Safe | None:
    """The frame's contents; None for frames of other rooms, of later versions and damaged ones."""
    if frame.type not in (FrameType.WRITING, FrameType.SAFE):
        return None
    try:
        fields: Any = unpack(frame.payload)
        if fields[0] != _VERSION:
            return None
        if frame.type == FrameType.SAFE:
            return Safe(fields[1])
        _, account, mailbox, number, generation, length, uid_mark, modseq_mark, placed = fields[:9]
        made = [Placed(*place) for place in placed]
        moved = Moved(*fields[9]) if len(fields) > 9 else None
        return Writing(account, mailbox, number, generation, length, uid_mark, modseq_mark, made, moved)
    except (PackingError, TypeError, ValueError, IndexError):
        return None


def pack_record(placed: Sequence[Placed]) -> bytes:
    """What a deliverer keeps in its D frame, for the redo."""
    fields: list[Value] = [place.fields() for place in placed]
    return pack([_VERSION, fields])


def unpack_record(record: bytes) -> list[Placed]:
    """What `pack_record` was given; nothing for a record that is damaged or of a later version."""
    try:
        found: Any = unpack(record)
        return [Placed(*place) for place in found[1]] if found[0] == _VERSION else []
    except (PackingError, TypeError, IndexError):
        return []
