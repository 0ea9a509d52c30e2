"""The files of the journal: their names, their layout, and how one is written and read. Synchronous, over `Files`.

A segment is `<epoch>-<n>.jnl`, made in full length, written from front to back and used again under another name when
nobody needs its frames. Because of that, what stands behind the last frame may be an older frame, whole and with a good
checksum; so each frame carries its epoch and its position, and positions only rise. The first frame that does not verify
ends the segment.

    segment   magic "PBXJ", version u16, zero u16, epoch u32, n u32, base position u64, CRC u32 of what stands before;
              frames from octet 64 on
    frame     length u32, type u8, version u8, zero u16, epoch u32, position u64, CRC u32 of these 20 octets and the payload;
              payload

All numbers are little-endian, CRCs are those of zlib. A position counts octets of frames since the first one of the base
directory; it is unique and never goes back, also from epoch to epoch.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from appliance.kernel.files import Files

__all__ = [
    "FRAME_HEAD",
    "Frame",
    "FrameType",
    "Segment",
    "SegmentWriter",
    "find_segments",
    "read_frame",
    "read_segment",
    "scan",
]

SEGMENT_HEAD: Final = 64
FRAME_HEAD: Final = 24
SPARE: Final = "spare.jnl"

_NAME = re.compile(r"^(\d{1,10})-(\d{1,10})\.jnl$")
_SEGMENT = struct.Struct("<4sHHIIQ")
_FRAME = struct.Struct("<IBBHIQ")
_CRC = struct.Struct("<I")
_MAGIC = b"PBXJ"
_VERSION = 1


class FrameType(IntEnum):
    """What a frame says. The value is the letter that the durability protocol calls it by."""

    MESSAGE = ord("M")
    ENQUEUED = ord("E")
    DELIVERED = ord("D")
    STATUS = ord("Q")
    WRITING = ord("W")
    SAFE = ord("K")
    MARK = ord("U")
    FINISHED = ord("F")


class Frame(NamedTuple):
    """One record: its type and its contents, usually made by `packing.pack`."""

    type: int
    payload: bytes


class Segment(NamedTuple):
    """A segment file as found: every frame in it has a position in `base <= position < ceiling`."""

    path: str
    epoch: int
    number: int
    base: int
    ceiling: int


def find_segments(files: Files, directory: str) -> list[Segment]:
    """The segments of a directory in the order in which they were written.

    Files whose head does not verify, or tells another name (a recycled one whose rename was not finished), hold nothing.
    """
    found: list[Segment] = []
    for name in files.listdir(directory):
        match = _NAME.match(name)
        if match is None:
            continue
        path = os.path.join(directory, name)
        epoch, number = int(match[1]), int(match[2])
        head = files.read_bytes(path, SEGMENT_HEAD)
        base = _base(head, epoch, number)
        if base is None:
            found.append(Segment(path, epoch, number, 0, 0))
        else:
            found.append(Segment(path, epoch, number, base, base + files.stat(path).size))
    return sorted(found, key=lambda segment: (segment.epoch, segment.number))


def _base(head: bytes, epoch: int, number: int) -> int | None:
    if len(head) < SEGMENT_HEAD:
        return None
    magic, version, _, its_epoch, its_number, base = _SEGMENT.unpack_from(head)
    if magic != _MAGIC or version != _VERSION or (its_epoch, its_number) != (epoch, number):
        return None
    if _CRC.unpack_from(head, _SEGMENT.size)[0] != zlib.crc32(head[: _SEGMENT.size]):
        return None
    return int(base)


def scan(data: bytes) -> Iterator[tuple[int, Frame]]:
    """(position, frame) of each frame of a segment's octets that verifies, up to the first that does not."""
    if len(data) < SEGMENT_HEAD:
        return
    _, _, _, epoch, number, _ = _SEGMENT.unpack_from(data)
    base = _base(data[:SEGMENT_HEAD], epoch, number)
    if base is None:
        return
    last = base - 1
    at = SEGMENT_HEAD
    end = len(data)
    view = memoryview(data)
    while at + FRAME_HEAD <= end:
        length, kind, version, _, its_epoch, position = _FRAME.unpack_from(data, at)
        start = at + FRAME_HEAD
        if its_epoch != epoch or position <= last or version != _VERSION or length > end - start:
            return
        crc = zlib.crc32(view[start : start + length], zlib.crc32(view[at : at + _FRAME.size]))
        if crc != _CRC.unpack_from(data, at + _FRAME.size)[0]:
            return
        yield position, Frame(kind, data[start : start + length])
        last = position
        at = start + length


def read_frame(files: Files, segment: Segment, position: int) -> Frame:
    """The frame at that position. OSError if there is none that verifies."""
    handle = files.open(segment.path)
    try:
        at = SEGMENT_HEAD + position - segment.base
        head = files.pread(handle, FRAME_HEAD, at)
        if len(head) == FRAME_HEAD:
            length, kind, version, _, epoch, its_position = _FRAME.unpack_from(head)
            if (version, epoch, its_position) == (_VERSION, segment.epoch, position) and length <= segment.ceiling:
                payload = files.pread(handle, length, at + FRAME_HEAD)
                if len(payload) == length:
                    crc = zlib.crc32(payload, zlib.crc32(head[: _FRAME.size]))
                    if crc == _CRC.unpack_from(head, _FRAME.size)[0]:
                        return Frame(kind, payload)
    finally:
        files.close(handle)
    raise OSError(errno.EIO, f"no frame at {position}", segment.path)


def read_segment(files: Files, segment: Segment) -> list[tuple[int, Frame]]:
    """All frames of a segment that verify."""
    if segment.ceiling == 0:
        return []
    return list(scan(files.read_bytes(segment.path)))


class SegmentWriter:
    """Writes frames to the current segment, and goes on to the next when it is full. Lives in the journal's worker.

    One spare segment is kept prepared, so that going on needs no space. After it was taken and no other could be made,
    `short` is true: what is left of the current segment is then the reserve for finishing what was accepted.
    """

    def __init__(self, directory: str, size: int, epoch: int) -> None:
        self.directory = directory
        self.size = size
        self.epoch = epoch
        self.number = 0
        self.short = False
        """There was no space for a spare segment the last time."""
        self.recycling = True
        """Segments that nobody needs are used again instead of being removed."""
        self._handle = -1
        self._at = 0

    @property
    def room(self) -> int:
        """The largest payload that fits into a segment."""
        return self.size - SEGMENT_HEAD - FRAME_HEAD

    @property
    def path(self) -> str:
        return os.path.join(self.directory, f"{self.epoch}-{self.number}.jnl")

    def begin(self, files: Files, position: int) -> Segment:
        """Go on in a new segment, whose first frame will be at `position`."""
        spare = self.prepare(files)
        number = self.number + 1
        path = os.path.join(self.directory, f"{self.epoch}-{number}.jnl")
        head = _SEGMENT.pack(_MAGIC, _VERSION, 0, self.epoch, number, position)
        handle = files.open(spare, write=True)
        try:
            files.pwrite(handle, (head + _CRC.pack(zlib.crc32(head))).ljust(SEGMENT_HEAD, b"\0"), 0)
            files.fsync(handle)
        finally:
            files.close(handle)  # Windows renames no open file
        files.rename(spare, path)
        files.sync_directory(self.directory)
        handle = files.open(path, write=True)
        if self._handle >= 0:
            files.close(self._handle)
        self._handle = handle
        self._at = SEGMENT_HEAD
        self.number = number
        return Segment(path, self.epoch, number, position, position + self.size)

    def prepare(self, files: Files) -> str:
        """Make the spare segment if it is not there; returns its path."""
        spare = os.path.join(self.directory, SPARE)
        try:
            if files.stat(spare).size == self.size:
                return spare
        except FileNotFoundError:
            pass
        handle = files.open(spare, write=True, create=True)
        try:
            files.truncate_handle(handle, 0)
            files.preallocate(handle, self.size)
            files.fsync(handle)
        except BaseException:
            files.close(handle)
            files.unlink(spare)
            raise
        files.close(handle)
        return spare

    def recycle(self, files: Files, segment: Segment) -> bool:
        """Take a segment away for good: it becomes the spare one, or goes. False if there is no space even for that."""
        spare = os.path.join(self.directory, SPARE)
        try:
            if self.recycling and not files.exists(spare) and files.stat(segment.path).size == self.size:
                files.rename(segment.path, spare)
            else:
                files.unlink(segment.path)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        files.sync_directory(self.directory)
        return True

    def write(self, files: Files, batch: Sequence[tuple[int, Frame]]) -> list[Segment]:
        """Write and flush these frames; returns the segments begun on the way.

        A segment that is left is flushed before anything is written to the next. After an OSError nothing is certain.
        """
        begun: list[Segment] = []
        buffers: list[bytes] = []
        pending = 0
        for position, (kind, payload) in batch:
            if self._at + pending + FRAME_HEAD + len(payload) > self.size:
                self._flush(files, buffers, pending)
                buffers, pending = [], 0
                begun.append(self.begin(files, position))
            head = _FRAME.pack(len(payload), kind, _VERSION, 0, self.epoch, position)
            buffers.append(head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))))
            buffers.append(payload)
            pending += FRAME_HEAD + len(payload)
        self._flush(files, buffers, pending)
        return begun

    def replenish(self, files: Files) -> bool:
        """Make the spare segment; False where there is no space for it."""
        try:
            self.prepare(files)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.short = True
        else:
            self.short = False
        return not self.short

    def _flush(self, files: Files, buffers: list[bytes], length: int) -> None:
        if buffers:
            files.pwritev(self._handle, buffers, self._at)
            files.fdatasync(self._handle)
            self._at += length

    def close(self, files: Files) -> None:
        if self._handle >= 0:
            files.close(self._handle)
            self._handle = -1
