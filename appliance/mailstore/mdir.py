"""The .mdir format: a directory, a file for each message, its state in the file's name.

    UID-flags-timestamp-lines        0000000017-SF-20261121040208-42

The timestamp is when the message was added, in GMT; `lines` is the count of its lines, so the wire size (file size plus
lines) is known without reading. Readers take what other versions write: a UID without leading zeros, a timestamp 0, no
count of lines. A flag change is a rename. Several mailboxes may hold hard links to one file, so contents never change.
"""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Sequence
from itertools import chain
from typing import Final
from zlib import crc32

from appliance.kernel.files import Files
from appliance.mailstore import flags as letters
from appliance.mailstore.store import Changed, Found, Record, Scan, Taken

__all__ = ["MdirStore"]

_NAME: Final = re.compile(r"(\d{1,10})-([A-Za-z]*)-(\d{1,14})(?:-(\d{1,12}))?")
_CHUNK: Final = 1 << 20
_LAST: Final = 253402300799
NO_LINES: Final = -1
"""The place of a message whose file name has no count of lines."""


def stamp(moment: int) -> str:
    """`yyyymmddhhmmss` in GMT; 0 stays `0`."""
    if not moment:
        return "0"
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(min(max(moment, 0), _LAST)))


def from_stamp(text: str) -> int:
    """Seconds since 1970; 0 for what is not such a text."""
    if len(text) != 14:
        return 0
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    if not (year >= 1970 and 1 <= month <= 12 and 1 <= day <= 31):
        return 0
    return calendar.timegm((year, month, day, int(text[8:10]), int(text[10:12]), int(text[12:14])))


def file_name(message: Found) -> str:
    """The name a message has."""
    name = f"{message.uid:010d}-{letters.letters(message.flags & ~letters.INTERNAL, message.keywords)}-{stamp(message.date)}"
    return name if message.place == NO_LINES else f"{name}-{message.place}"


class MdirStore:
    """One .mdir directory. Keeps the names of files that are named otherwise than by `file_name`, and which are not synced."""

    __slots__ = ("fresh", "odd", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.odd: dict[int, str] = {}
        self.fresh: dict[int, str] = {}

    def create(self, files: Files) -> None:
        """Make the empty directory; FileExistsError if it is there."""
        files.mkdir(self.path)

    def prepare(self, content: bytes) -> tuple[bytes, int]:
        return content, 0

    def _file(self, message: Found) -> str:
        return f"{self.path}/{self.odd.get(message.uid) or file_name(message)}"

    def scan(self, files: Files, start: int = 0) -> Scan:
        """All messages in the order of their UIDs. `length` is taken from the file, so this costs a look at each one."""
        messages: list[Found] = []
        self.odd = {}
        total = 0
        for message in self.names(files):
            size = files.stat(self._file(message)).size
            messages.append(message._replace(length=size))
            total += size
        return Scan(messages, 0, total)

    def names(self, files: Files) -> list[Found]:
        """What the directory alone tells, by UID: lengths are missing (0)."""
        found: dict[int, Found] = {}
        for name in files.listdir(self.path):
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            flags, keywords = letters.parse(match[2].encode("ascii"))
            lines = NO_LINES if match[4] is None else int(match[4])
            message = Found(int(match[1]), lines, 0, flags, keywords, from_stamp(match[3]))
            if not 0 < message.uid < 1 << 32:
                continue
            if message.uid in found:
                continue  # a second name of one UID: what a copy by hand may leave; the first one counts
            found[message.uid] = message
            if name != file_name(message):
                self.odd[message.uid] = name
        # In parts: one long sort of a million numbers would hold all other threads.
        parts: dict[int, list[int]] = {}
        for uid in found:
            parts.setdefault(uid >> 15, []).append(uid)
        return [found[uid] for part in sorted(parts) for uid in sorted(parts[part])]

    def append(self, files: Files, size: int, records: Sequence[Record]) -> tuple[list[int], int]:
        made: list[str] = []
        places: list[int] = []
        try:
            for record in records:
                lines = sum(part.count(b"\n") for part in record.content)
                message = Found(record.uid, lines, 0, record.flags, record.keywords, record.date)
                path = f"{self.path}/{file_name(message)}"
                try:
                    handle = files.open(path, write=True, create=True, exclusive=True)
                except FileExistsError:
                    raise Changed(self.path) from None
                made.append(path)
                try:
                    size += files.pwritev(handle, record.content, 0)
                finally:
                    files.close(handle)
                self.fresh[record.uid] = path
                places.append(lines)
        except (OSError, Changed):
            for path in made:
                files.unlink(path)
            for record in records:
                self.fresh.pop(record.uid, None)
            raise
        return places, size

    def take_back(self, files: Files, size: int, uids: Sequence[Found]) -> None:
        self.remove(files, uids)

    def take(self, files: Files, size: int, record: Record, source: str) -> Taken:
        crc = length = lines = 0
        ahead = sum(map(len, record.content))
        temporary = f"{self.path}/new-{record.uid}"
        writer = files.open(temporary, write=True, create=True, truncate=True)
        reader = files.open(source)
        try:
            chunks = iter(lambda: files.pread(reader, _CHUNK, length - ahead), b"")
            for chunk in chain(record.content, chunks):
                files.pwritev(writer, (chunk,), length)
                length += len(chunk)
                crc = crc32(chunk, crc)
                lines += chunk.count(b"\n")
        except BaseException:
            files.close(writer)
            files.unlink(temporary)
            raise
        finally:
            files.close(reader)
        files.close(writer)
        message = Found(record.uid, lines, length, record.flags, record.keywords, record.date)
        target = f"{self.path}/{file_name(message)}"
        files.rename(temporary, target)
        self.fresh[record.uid] = target
        return Taken(lines, length, crc, length + lines, record.flags, size + length)

    def link(self, files: Files, source: str, message: Found) -> None:
        """Take another mailbox's file as this message. OSError where that is refused or the file is gone."""
        files.link(source, f"{self.path}/{file_name(message)}")

    def file_of(self, message: Found) -> str:
        """The path of the file of this message."""
        return self._file(message)

    def set_flags(self, files: Files, changes: Sequence[tuple[Found, Found]]) -> None:
        for old, new in changes:
            source = self._file(old)
            self.odd.pop(old.uid, None)
            target = f"{self.path}/{file_name(new)}"
            if source != target:
                files.rename(source, target)
            if old.uid in self.fresh:
                self.fresh[old.uid] = target

    def remove(self, files: Files, messages: Sequence[Found]) -> None:
        """Unlink the files; those that are gone already do not matter."""
        for message in messages:
            try:
                files.unlink(self._file(message))
            except FileNotFoundError:
                pass
            self.odd.pop(message.uid, None)
            self.fresh.pop(message.uid, None)

    def read(self, files: Files, messages: Sequence[Found]) -> list[bytes]:
        return [files.read_bytes(self._file(message)) for message in messages]

    def raw(self, files: Files, message: Found, start: int, size: int) -> bytes:
        handle = files.open(self._file(message))
        try:
            return files.pread(handle, size, start)
        finally:
            files.close(handle)

    def sync(self, files: Files) -> None:
        for path in tuple(self.fresh.values()):
            files.sync(path)
        files.sync_directory(self.path)
        self.fresh.clear()
