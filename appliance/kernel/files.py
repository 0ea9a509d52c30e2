"""The synchronous file operations that everything the server stores goes through.

`Files` is the narrow waist: a few primitive operations, each of which a test can record, replay, delay or let fail
(those of the tests). Composite work (an mbox store, an index rebuild) is written as plain functions over a `Files` and handed to
`Disk.run` as one job. Nothing here is asynchronous and nothing here may be called from the event loop.

What the file system promises, and so what callers may rely on (POSIX plus the usual reading of it):

- written bytes are durable after `fsync` or `fdatasync` of that file, not before;
- a new name, a rename or a removal is durable after `sync_directory` of the directory, not before;
- `rename` replaces in one step: after a crash there is either the old or the new file.

A failed sync is final. The kernel may have thrown the dirty pages away, so a second sync that succeeds proves nothing.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat as stat_module
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["DIRECTORY_MODE", "FILE_MODE", "SECRET_MODE", "FileInfo", "Files", "OsFiles", "escape_name", "unescape_name"]

FILE_MODE = 0o640
DIRECTORY_MODE = 0o750
SECRET_MODE = 0o600
"""Keys and settings with passwords."""

_IOV_MAX = 512  # POSIX guarantees 16, Linux and the BSDs give 1024
_BINARY = getattr(os, "O_BINARY", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What `stat` tells: size in bytes, times in Unix seconds."""

    size: int
    modified: float
    is_directory: bool
    links: int
    inode: int


class Files(ABC):
    """Primitive file operations, and the few composites that everybody needs. A handle is a small integer.

    Every operation raises OSError as the operating system does (FileNotFoundError, ENOSPC, EIO, ...).
    """

    # -- one open file ------------------------------------------------------------------------------------------------

    @abstractmethod
    def open(
        self,
        path: str,
        *,
        write: bool = False,
        create: bool = False,
        exclusive: bool = False,
        truncate: bool = False,
        mode: int = FILE_MODE,
    ) -> int:
        """Open for reading, or for reading and writing with `write`. `exclusive` fails if the name exists."""

    @abstractmethod
    def close(self, handle: int) -> None: ...

    @abstractmethod
    def pread(self, handle: int, size: int, offset: int) -> bytes:
        """At most `size` bytes; fewer only at the end of the file."""

    @abstractmethod
    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        """Write all buffers at `offset`, completely; OSError(ENOSPC) where not everything fits. Returns the byte count."""

    @abstractmethod
    def size(self, handle: int) -> int: ...

    @abstractmethod
    def truncate_handle(self, handle: int, size: int) -> None: ...

    @abstractmethod
    def preallocate(self, handle: int, size: int) -> None:
        """Reserve space for the first `size` bytes, so that writing them cannot run out of space."""

    @abstractmethod
    def fsync(self, handle: int) -> None:
        """Contents and length are durable afterwards."""

    @abstractmethod
    def fdatasync(self, handle: int) -> None:
        """Contents, and the length if it changed, are durable afterwards; times may not be."""

    # -- names --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def rename(self, source: str, target: str) -> None:
        """Replace `target` in one step."""

    @abstractmethod
    def hard_link(self, source: str, target: str) -> None: ...

    @abstractmethod
    def unlink(self, path: str) -> None: ...

    @abstractmethod
    def mkdir(self, path: str, *, mode: int = DIRECTORY_MODE) -> None: ...

    @abstractmethod
    def rmdir(self, path: str) -> None: ...

    @abstractmethod
    def sync_directory(self, path: str) -> None:
        """Names made, changed and removed in this directory are durable afterwards."""

    @abstractmethod
    def listdir(self, path: str) -> list[str]: ...

    @abstractmethod
    def stat(self, path: str) -> FileInfo: ...

    @abstractmethod
    def set_times(self, path: str, modified: float) -> None: ...

    @abstractmethod
    def free_space(self, path: str) -> int:
        """Bytes that the run-as user may still fill on the file system of `path`."""

    # -- composites ---------------------------------------------------------------------------------------------------

    def pwrite(self, handle: int, data: bytes, offset: int) -> int:
        return self.pwritev(handle, (data,), offset)

    def append(self, handle: int, data: bytes) -> int:
        """Write at the end of the file; returns the offset where the data begins. One writer at a time."""
        offset = self.size(handle)
        self.pwritev(handle, (data,), offset)
        return offset

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def read_bytes(self, path: str, limit: int | None = None) -> bytes:
        """The whole file, or its first `limit` bytes."""
        handle = self.open(path)
        try:
            size = self.size(handle)
            return self.pread(handle, size if limit is None else min(size, limit), 0)
        finally:
            self.close(handle)

    def write_file(self, path: str, data: bytes, *, mode: int = FILE_MODE, durable: bool = True) -> None:
        """Put `data` in place of the file: a crash leaves either the old or the new one.

        A temporary name in the same directory, then write, sync, rename, directory sync; `durable=False` leaves the two
        syncs out. The temporary name ends in `.new` and is overwritten by the next attempt.
        """
        temporary = path + ".new"
        handle = self.open(temporary, write=True, create=True, truncate=True, mode=mode)
        try:
            self.pwritev(handle, (data,), 0)
            if durable:
                self.fsync(handle)
        except BaseException:
            self.close(handle)
            self.unlink(temporary)
            raise
        self.close(handle)
        self.rename(temporary, path)
        if durable:
            self.sync_directory(os.path.dirname(path))

    def append_file(self, path: str, data: bytes, *, mode: int = FILE_MODE, durable: bool = False) -> int:
        """Append to a file that is made if missing; returns the offset where the data begins.

        An append that fails half-way is cut off again.
        """
        handle = self.open(path, write=True, create=True, mode=mode)
        try:
            offset = self.size(handle)
            try:
                self.pwritev(handle, (data,), offset)
            except OSError:
                self.truncate_handle(handle, offset)
                raise
            if durable:
                self.fdatasync(handle)
            return offset
        finally:
            self.close(handle)

    def truncate(self, path: str, size: int) -> None:
        handle = self.open(path, write=True)
        try:
            self.truncate_handle(handle, size)
        finally:
            self.close(handle)

    def sync(self, path: str) -> None:
        """Make the contents of a file, or the names in a directory, durable."""
        if self.stat(path).is_directory:
            self.sync_directory(path)
            return
        handle = self.open(path, write=True)
        try:
            self.fsync(handle)
        finally:
            self.close(handle)

    def copy(self, source: str, target: str, *, mode: int = FILE_MODE) -> None:
        """Make `target`, which must not exist, with the bytes of `source`; a failed copy leaves nothing."""
        reader = self.open(source)
        try:
            writer = self.open(target, write=True, create=True, exclusive=True, mode=mode)
            try:
                offset = 0
                while chunk := self.pread(reader, 1 << 18, offset):
                    offset += self.pwritev(writer, (chunk,), offset)
            except BaseException:
                self.close(writer)
                self.unlink(target)
                raise
            self.close(writer)
        finally:
            self.close(reader)

    def link(self, source: str, target: str) -> bool:
        """A second name for the file; where the file system refuses that, a copy. True if it is a link."""
        try:
            self.hard_link(source, target)
        except OSError as error:
            if error.errno not in _LINK_REFUSED:
                raise
            self.copy(source, target)
            return False
        return True

    def make_directories(self, path: str, *, mode: int = DIRECTORY_MODE) -> None:
        """The directory and every one above it that is missing; no error if it exists."""
        try:
            if self.stat(path).is_directory:
                return
        except FileNotFoundError:
            self.make_directories(os.path.dirname(path), mode=mode)
        try:
            self.mkdir(path, mode=mode)
        except FileExistsError:
            if not self.stat(path).is_directory:
                raise

    def remove_tree(self, path: str) -> None:
        """The directory with everything in it. Symbolic links are removed, never followed."""
        for name in self.listdir(path):
            inner = os.path.join(path, name)
            if not os.path.islink(inner) and self.stat(inner).is_directory:
                self.remove_tree(inner)
            else:
                self.unlink(inner)
        self.rmdir(path)


_LINK_REFUSED = frozenset(
    {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}
)


class OsFiles(Files):
    """The operating system's files. New files belong to `owner` (user id, group id) if it is given: the run-as user,
    also while the server still runs as root."""

    __slots__ = ("owner",)

    def __init__(self, owner: tuple[int, int] | None = None) -> None:
        self.owner = owner if hasattr(os, "fchown") else None

    def open(
        self,
        path: str,
        *,
        write: bool = False,
        create: bool = False,
        exclusive: bool = False,
        truncate: bool = False,
        mode: int = FILE_MODE,
    ) -> int:
        flags = (os.O_RDWR if write else os.O_RDONLY) | _BINARY | _CLOEXEC
        if truncate:
            flags |= os.O_TRUNC
        if not create:
            return os.open(path, flags)
        if self.owner is None:
            return os.open(path, flags | os.O_CREAT | (os.O_EXCL if exclusive else 0), mode)
        try:
            handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            if exclusive:
                raise
            return os.open(path, flags | os.O_CREAT, mode)
        os.fchown(handle, *self.owner)
        return handle

    def close(self, handle: int) -> None:
        os.close(handle)

    if hasattr(os, "pread"):

        def pread(self, handle: int, size: int, offset: int) -> bytes:
            data = os.pread(handle, size, offset)
            if len(data) in (0, size):
                return data
            parts = [data]
            got = len(data)
            while got < size and (more := os.pread(handle, size - got, offset + got)):
                parts.append(more)
                got += len(more)
            return b"".join(parts)

        def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
            start = offset
            for first in range(0, len(buffers), _IOV_MAX):
                part = buffers[first : first + _IOV_MAX]
                wanted = sum(map(len, part))
                written = os.pwritev(handle, part, offset)
                if written < wanted:
                    rest = memoryview(b"".join(part))
                    while written < wanted:
                        count = os.pwrite(handle, rest[written:], offset + written)
                        if count == 0:
                            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                        written += count
                offset += wanted
            return offset - start

    else:  # Windows has no positional calls; a handle is used by one job at a time

        def pread(self, handle: int, size: int, offset: int) -> bytes:
            os.lseek(handle, offset, os.SEEK_SET)
            parts: list[bytes] = []
            while size > 0 and (more := os.read(handle, size)):
                parts.append(more)
                size -= len(more)
            return b"".join(parts)

        def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
            os.lseek(handle, offset, os.SEEK_SET)
            data = memoryview(b"".join(buffers))
            written = 0
            while written < len(data):
                written += os.write(handle, data[written:])
            return written

    def size(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def truncate_handle(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def preallocate(self, handle: int, size: int) -> None:
        if size <= 0:
            return
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, 0, size)
                return
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
        offset = os.fstat(handle).st_size
        zeros = bytes(1 << 18)
        while offset < size:
            offset += self.pwritev(handle, (zeros[: size - offset],), offset)

    def fsync(self, handle: int) -> None:
        if sys.platform == "darwin":
            import fcntl

            fcntl.fcntl(handle, 51)  # F_FULLFSYNC: plain fsync stops at the drive's own cache there
        else:
            os.fsync(handle)

    def fdatasync(self, handle: int) -> None:
        if hasattr(os, "fdatasync"):
            os.fdatasync(handle)
        else:
            self.fsync(handle)

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def hard_link(self, source: str, target: str) -> None:
        os.link(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str, *, mode: int = DIRECTORY_MODE) -> None:
        os.mkdir(path, mode)
        if self.owner is not None:
            os.chown(path, *self.owner)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def sync_directory(self, path: str) -> None:
        if os.name == "nt":
            return  # NTFS journals names; a directory cannot be opened for a sync
        handle = os.open(path or ".", os.O_RDONLY | _CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def stat(self, path: str) -> FileInfo:
        found = os.stat(path)
        return FileInfo(found.st_size, found.st_mtime, stat_module.S_ISDIR(found.st_mode), found.st_nlink, found.st_ino)

    def set_times(self, path: str, modified: float) -> None:
        os.utime(path, (modified, modified))

    def free_space(self, path: str) -> int:
        return shutil.disk_usage(path).free


_ALWAYS_UNFIT = re.compile(r"[/\x00]|%(?=[0-9A-Fa-f]{2})")
_UNFIT_ON_WINDOWS = re.compile(r'[<>:"/\\|?*\x00-\x1f]|%(?=[0-9A-Fa-f]{2})|[. ]$')
_DEVICES = re.compile(r"(?i)^(con|prn|aux|nul|com[1-9]|lpt[1-9])(?=\.|$)")
_ESCAPED = re.compile(r"%([0-9A-F]{2})")


def escape_name(name: str, windows: bool = os.name == "nt") -> str:
    """A file name for any text: what the file system cannot hold becomes `%XX`, and `unescape_name` gives it back.

    Everywhere `/`, NUL, the names `.` and `..`, and a `%` that would read as an escape; on Windows also the characters that
    are reserved there, a dot or space at the end, and device names (`con.mbox` becomes `%63on.mbox`).
    """
    if name in (".", ".."):
        return "%2E" + name[1:]
    if not windows:
        return _ALWAYS_UNFIT.sub(lambda match: f"%{ord(match[0]):02X}", name)
    name = _UNFIT_ON_WINDOWS.sub(lambda match: f"%{ord(match[0]):02X}", name)
    if _DEVICES.match(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    return name


def unescape_name(name: str) -> str:
    """The text that `escape_name` was given."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), name)
