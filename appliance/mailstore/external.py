"""An INBOX in a legacy mail spool, shared with other programs of the machine (manual, External Mailboxes).

Each look and each change holds an operating-system lock, flock (FileLevel) or fcntl (FileRange), as the site's mailers do. In
between anybody may have written: what was last seen of the file (size, time, identity) is compared under the lock, so no
offset is used in a file that is another by now. An addition is on disk before the lock is given back; the file is never cut,
and it keeps its identity when it is written anew, because other programs have it open.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from appliance.kernel.files import Files
from appliance.mailstore.mbox import MboxStore
from appliance.mailstore.store import Changed, Found, Record, Scan, Taken

try:
    import fcntl
except ImportError:  # a system without them has one kind of lock, in the opening itself
    fcntl = None  # type: ignore[assignment]

__all__ = ["FILE_LEVEL", "FILE_RANGE", "ExternalStore"]

FILE_LEVEL: Final = "FileLevel"
FILE_RANGE: Final = "FileRange"

WAIT: Final = 2.0
"""Seconds that a lock of another program is waited for."""
_PAUSE: Final = 0.05

_Seen = tuple[int, int, int]


class ExternalStore(MboxStore):
    """`save`: the path beside the account's files for the content while the spool file is written anew."""

    __slots__ = ("kind", "save", "seen")

    def __init__(self, path: str, save: str, kind: str) -> None:
        super().__init__(path)
        self.save = save
        self.kind = kind
        self.seen: _Seen | None = None

    # -- the lock -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, *, write: bool) -> Iterator[int]:
        """The file, locked. OSError EAGAIN if another program does not let go of it."""
        handle = os.open(self.path, os.O_RDWR if write else os.O_RDONLY)
        try:
            self._lock(handle, write)
            yield handle
        finally:
            os.close(handle)  # which gives the lock back

    def _lock(self, handle: int, write: bool) -> None:
        end = time.monotonic() + WAIT
        while True:
            try:
                if fcntl is None:
                    return
                if self.kind == FILE_RANGE:
                    _lock_range(handle, write)
                else:
                    fcntl.flock(handle, (fcntl.LOCK_EX if write else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() >= end:
                    raise OSError(errno.EAGAIN, "the mailbox is locked by another program", self.path) from error
            time.sleep(_PAUSE)

    def _look(self, handle: int) -> _Seen:
        info = os.fstat(handle)
        return info.st_size, info.st_mtime_ns, info.st_ino

    def _same(self, handle: int) -> bool:
        return self.seen is not None and self._look(handle) == self.seen

    def _require(self, handle: int) -> None:
        """What a reader hears when the file is another by now: look again."""
        if not self._same(handle):
            raise FileNotFoundError(errno.ENOENT, "the mailbox was changed by another program", self.path)

    def changed(self) -> bool:
        """Whether another program has written since it was last looked at. OSError."""
        with self._locked(write=False) as handle:
            return not self._same(handle)

    # -- what a store does --------------------------------------------------------------------------------------------

    def scan(self, files: Files, start: int = 0) -> Scan:
        with self._locked(write=False) as handle:
            self._finish(files)
            found = super().scan(files, start)
            self.seen = self._look(handle)
            return found

    def append(self, files: Files, size: int, records: Sequence[Record]) -> tuple[list[int], int]:
        with self._locked(write=True) as handle:
            if not self._same(handle):
                raise Changed(self.path)
            try:
                done = super().append(files, size, records)
                os.fsync(handle)
                return done
            finally:
                self.seen = self._look(handle)

    def take(self, files: Files, size: int, record: Record, source: str) -> Taken:
        with self._locked(write=True) as handle:
            if not self._same(handle):
                raise Changed(self.path)
            try:
                taken = super().take(files, size, record, source)
                os.fsync(handle)
                return taken
            finally:
                self.seen = self._look(handle)

    def take_back(self, files: Files, size: int, uids: Sequence[Found]) -> None:
        with self._locked(write=True) as handle:
            if self._same(handle):
                super().take_back(files, size, uids)
                self.seen = self._look(handle)

    def set_flags(self, files: Files, changes: Sequence[tuple[Found, Found]]) -> None:
        with self._locked(write=True) as handle:
            self._require(handle)
            super().set_flags(files, changes)
            self.seen = self._look(handle)

    def read(self, files: Files, messages: Sequence[Found]) -> list[bytes]:
        with self._locked(write=False) as handle:
            self._require(handle)
            return super().read(files, messages)

    def raw(self, files: Files, message: Found, start: int, size: int) -> bytes:
        with self._locked(write=False) as handle:
            self._require(handle)
            return super().raw(files, message, start, size)

    def compact(self, files: Files, without: Container[int] = ()) -> dict[int, int]:
        with self._locked(write=True) as handle:
            self._require(handle)
            work = self.save + "-work"
            copy = MboxStore(work)
            files.write_file(work, files.read_bytes(self.path))
            places = copy.compact(files, without)
            files.rename(work, self.save)
            files.sync_directory(os.path.dirname(self.save))
            self._finish(files)
            self.seen = self._look(handle)
            return places

    def _finish(self, files: Files) -> None:
        """Put the content that was saved into the spool file: the end of `compact`, also after a crash in between."""
        try:
            content = files.read_bytes(self.save)
        except FileNotFoundError:
            return
        handle = files.open(self.path, write=True)
        try:
            files.pwrite(handle, content, 0)
            files.truncate_handle(handle, len(content))
            files.fsync(handle)
        finally:
            files.close(handle)
        with suppress(FileNotFoundError):
            files.unlink(self.save)


def _lock_range(handle: int, write: bool) -> None:
    """The whole file, for this opening alone where the system can: an ordinary one would end with any other's closing."""
    kind = fcntl.F_WRLCK if write else fcntl.F_RDLCK
    wanted = getattr(fcntl, "F_OFD_SETLK", None)
    if wanted is None:
        fcntl.lockf(handle, (fcntl.LOCK_EX if write else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        return
    fcntl.fcntl(handle, wanted, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))
