"""File operations that misbehave or remember, for tests: recording with replay of every crash, failing, slow.

They wrap another `Files` and see its primitive operations only, which is enough: everything else is made of those.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from appliance.kernel.files import DIRECTORY_MODE, FILE_MODE, FileInfo, Files, OsFiles

__all__ = ["FailingFiles", "Operation", "RecordingFiles", "SlowFiles", "WrappedFiles", "crashes", "replay", "survivors"]


class WrappedFiles(Files):
    """Everything goes to the inner `Files`; a base for those that change a few operations."""

    def __init__(self, inner: Files | None = None) -> None:
        self.inner = inner or OsFiles()

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
        return self.inner.open(path, write=write, create=create, exclusive=exclusive, truncate=truncate, mode=mode)

    def close(self, handle: int) -> None:
        self.inner.close(handle)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return self.inner.pread(handle, size, offset)

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        return self.inner.pwritev(handle, buffers, offset)

    def size(self, handle: int) -> int:
        return self.inner.size(handle)

    def truncate_handle(self, handle: int, size: int) -> None:
        self.inner.truncate_handle(handle, size)

    def preallocate(self, handle: int, size: int) -> None:
        self.inner.preallocate(handle, size)

    def fsync(self, handle: int) -> None:
        self.inner.fsync(handle)

    def fdatasync(self, handle: int) -> None:
        self.inner.fdatasync(handle)

    def rename(self, source: str, target: str) -> None:
        self.inner.rename(source, target)

    def hard_link(self, source: str, target: str) -> None:
        self.inner.hard_link(source, target)

    def unlink(self, path: str) -> None:
        self.inner.unlink(path)

    def mkdir(self, path: str, *, mode: int = DIRECTORY_MODE) -> None:
        self.inner.mkdir(path, mode=mode)

    def rmdir(self, path: str) -> None:
        self.inner.rmdir(path)

    def sync_directory(self, path: str) -> None:
        self.inner.sync_directory(path)

    def listdir(self, path: str) -> list[str]:
        return self.inner.listdir(path)

    def stat(self, path: str) -> FileInfo:
        return self.inner.stat(path)

    def set_times(self, path: str, modified: float) -> None:
        self.inner.set_times(path, modified)

    def free_space(self, path: str) -> int:
        return self.inner.free_space(path)


class SlowFiles(WrappedFiles):
    """Each flush takes `flush` seconds longer, like a slow disk."""

    def __init__(self, flush: float = 0.005, inner: Files | None = None) -> None:
        super().__init__(inner)
        self.flush = flush

    def fsync(self, handle: int) -> None:
        time.sleep(self.flush)
        super().fsync(handle)

    def fdatasync(self, handle: int) -> None:
        time.sleep(self.flush)
        super().fdatasync(handle)

    def sync_directory(self, path: str) -> None:
        time.sleep(self.flush)
        super().sync_directory(path)


class FailingFiles(WrappedFiles):
    """Raises OSError at chosen calls.

    `fail_at` counts changing calls from 0; with `times` failures from there on (None: for ever). `kinds` narrows it to some
    operations (`"fdatasync"`, `"pwritev"`, ...). A failing write first writes half of its bytes, as a full disk does.
    """

    def __init__(
        self,
        fail_at: int = -1,
        *,
        code: int = errno.ENOSPC,
        times: int | None = 1,
        kinds: Iterable[str] | None = None,
        inner: Files | None = None,
    ) -> None:
        super().__init__(inner)
        self.fail_at = fail_at
        self.code = code
        self.times = times
        self.kinds = None if kinds is None else frozenset(kinds)
        self.calls = 0
        self.failed = 0

    def _hit(self, kind: str) -> bool:
        if self.kinds is not None and kind not in self.kinds:
            return False
        number = self.calls
        self.calls += 1
        if self.fail_at < 0 or number < self.fail_at:
            return False
        if self.times is not None and number >= self.fail_at + self.times:
            return False
        self.failed += 1
        return True

    def _check(self, kind: str) -> None:
        if self._hit(kind):
            raise OSError(self.code, os.strerror(self.code))

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
        if create:
            self._check("create")
        return super().open(path, write=write, create=create, exclusive=exclusive, truncate=truncate, mode=mode)

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        if self._hit("pwritev"):
            data = b"".join(buffers)
            super().pwritev(handle, (data[: len(data) // 2],), offset)
            raise OSError(self.code, os.strerror(self.code))
        return super().pwritev(handle, buffers, offset)

    def truncate_handle(self, handle: int, size: int) -> None:
        self._check("truncate")
        super().truncate_handle(handle, size)

    def preallocate(self, handle: int, size: int) -> None:
        self._check("preallocate")
        super().preallocate(handle, size)

    def fsync(self, handle: int) -> None:
        self._check("fsync")
        super().fsync(handle)

    def fdatasync(self, handle: int) -> None:
        self._check("fdatasync")
        super().fdatasync(handle)

    def rename(self, source: str, target: str) -> None:
        self._check("rename")
        super().rename(source, target)

    def hard_link(self, source: str, target: str) -> None:
        self._check("link")
        super().hard_link(source, target)

    def mkdir(self, path: str, *, mode: int = DIRECTORY_MODE) -> None:
        self._check("mkdir")
        super().mkdir(path, mode=mode)

    def sync_directory(self, path: str) -> None:
        self._check("sync_directory")
        super().sync_directory(path)


@dataclass(frozen=True, slots=True)
class Operation:
    """One recorded change. `file` numbers a file in the order of creation, independent of its names; paths are relative."""

    kind: str  # create write truncate allocate sync rename link unlink mkdir rmdir sync_directory mark
    file: int = -1
    path: str = ""
    target: str = ""
    offset: int = 0
    data: bytes = b""


class RecordingFiles(WrappedFiles):
    """Writes down every change below `root`, in order, for `replay` and `survivors`.

    What is there at the beginning counts as durable; `start` is the length of the record behind it. Not for several worker
    threads at once: use it under an in-loop disk.
    """

    def __init__(self, root: str, inner: Files | None = None) -> None:
        super().__init__(inner)
        self.root = root
        self.log: list[Operation] = []
        self._names: dict[str, int] = {}
        self._handles: dict[int, int] = {}
        self._count = 0
        for directory, directories, names in os.walk(root):
            for name in sorted(directories):
                self.log.append(Operation("mkdir", path=self._relative(os.path.join(directory, name))))
            for name in sorted(names):
                path = self._relative(os.path.join(directory, name))
                self._names[path] = self._count
                self.log.append(Operation("create", self._count, path))
                with open(os.path.join(directory, name), "rb") as stream:
                    self.log.append(Operation("write", self._count, data=stream.read()))
                self.log.append(Operation("sync", self._count))
                self._count += 1
            self.log.append(Operation("sync_directory", path=self._relative(directory)))
        self.start = len(self.log)

    def mark(self, text: str) -> None:
        """Put a note into the record: what the outside has been told at this moment."""
        self.log.append(Operation("mark", path=text))

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.root)

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
        handle = super().open(path, write=write, create=create, exclusive=exclusive, truncate=truncate, mode=mode)
        name = self._relative(path)
        file = self._names.get(name)
        if file is None:
            file = self._names[name] = self._count
            self._count += 1
            self.log.append(Operation("create", file, name))
        elif truncate:
            self.log.append(Operation("truncate", file, name, offset=0))
        self._handles[handle] = file
        return handle

    def pwritev(self, handle: int, buffers: Sequence[bytes], offset: int) -> int:
        self.log.append(Operation("write", self._handles[handle], offset=offset, data=b"".join(buffers)))
        return super().pwritev(handle, buffers, offset)

    def truncate_handle(self, handle: int, size: int) -> None:
        self.log.append(Operation("truncate", self._handles[handle], offset=size))
        super().truncate_handle(handle, size)

    def preallocate(self, handle: int, size: int) -> None:
        self.log.append(Operation("allocate", self._handles[handle], offset=size))
        super().preallocate(handle, size)

    def fsync(self, handle: int) -> None:
        super().fsync(handle)
        self.log.append(Operation("sync", self._handles[handle]))

    def fdatasync(self, handle: int) -> None:
        super().fdatasync(handle)
        self.log.append(Operation("sync", self._handles[handle]))

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        old, new = self._relative(source), self._relative(target)
        if old in self._names:
            self._names[new] = self._names.pop(old)
        else:  # a directory: what lies in it moves along
            for name in [name for name in self._names if name.startswith(old + os.sep)]:
                self._names[new + name[len(old) :]] = self._names.pop(name)
        self.log.append(Operation("rename", path=old, target=new))

    def hard_link(self, source: str, target: str) -> None:
        super().hard_link(source, target)
        old, new = self._relative(source), self._relative(target)
        self._names[new] = self._names[old]
        self.log.append(Operation("link", path=old, target=new))

    def unlink(self, path: str) -> None:
        super().unlink(path)
        self._names.pop(self._relative(path), None)
        self.log.append(Operation("unlink", path=self._relative(path)))

    def mkdir(self, path: str, *, mode: int = DIRECTORY_MODE) -> None:
        super().mkdir(path, mode=mode)
        self.log.append(Operation("mkdir", path=self._relative(path)))

    def rmdir(self, path: str) -> None:
        super().rmdir(path)
        self.log.append(Operation("rmdir", path=self._relative(path)))

    def sync_directory(self, path: str) -> None:
        super().sync_directory(path)
        self.log.append(Operation("sync_directory", path=self._relative(path)))


_NAMES = frozenset({"create", "rename", "link", "unlink", "mkdir", "rmdir"})
_CONTENTS = frozenset({"write", "truncate", "allocate"})


def survivors(log: Sequence[Operation], keep: Callable[[Operation], bool]) -> list[Operation]:
    """What may be on the disk after power goes at the end of `log`.

    Everything that a sync made safe, and of the rest what `keep` chooses: `lambda op: True` is a plain crash of the process,
    `lambda op: False` the worst loss of power, a random choice anything between. Changes of names in one directory stay in
    their order (as journalling file systems keep them); contents of different files, and contents and names, do not.
    A name that is lost takes the contents with it.
    """
    synced_after: dict[int, int] = {}
    names_after: dict[str, int] = {}
    for index, operation in enumerate(log):
        if operation.kind == "sync":
            synced_after[operation.file] = index
        elif operation.kind == "sync_directory":
            names_after[operation.path] = index
    lost: set[str] = set()
    result: list[Operation] = []
    for index, operation in enumerate(log):
        if operation.kind in _CONTENTS:
            if index < synced_after.get(operation.file, -1) or keep(operation):
                result.append(operation)
        elif operation.kind in _NAMES:
            directories = {os.path.dirname(operation.path) or "."}
            if operation.target:
                directories.add(os.path.dirname(operation.target) or ".")
            safe = any(index < names_after.get(directory, -1) for directory in directories)
            # The first loss in a directory loses what comes after it there, unless that was made safe.
            if safe or (not (directories & lost) and keep(operation)):
                result.append(operation)
            else:
                lost |= directories
    return result


def replay(operations: Iterable[Operation], into: str) -> None:
    """Carry recorded operations out in the empty directory `into`, as a disk would hold them after the crash."""
    paths: dict[int, str] = {}  # file -> a backing file; names are laid over it at the end
    names: dict[str, int] = {}
    directories: set[str] = set()
    store: dict[int, bytearray] = {}
    for operation in operations:
        kind = operation.kind
        if kind == "create":
            names[operation.path] = operation.file
            store.setdefault(operation.file, bytearray())
        elif kind == "write":
            content = store.setdefault(operation.file, bytearray())
            end = operation.offset + len(operation.data)
            if len(content) < end:
                content.extend(bytes(end - len(content)))
            content[operation.offset : end] = operation.data
        elif kind in ("truncate", "allocate"):
            content = store.setdefault(operation.file, bytearray())
            if len(content) < operation.offset:
                content.extend(bytes(operation.offset - len(content)))
            elif kind == "truncate":
                del content[operation.offset :]
        elif kind == "rename":
            if operation.path in names:
                names[operation.target] = names.pop(operation.path)
            elif operation.path in directories:
                _move_directory(operation.path, operation.target, names, directories)
        elif kind == "link":
            if operation.path in names:
                names[operation.target] = names[operation.path]
        elif kind == "unlink":
            names.pop(operation.path, None)
        elif kind == "mkdir":
            directories.add(operation.path)
        elif kind == "rmdir":
            directories.discard(operation.path)
    for directory in sorted(directories):
        os.makedirs(os.path.join(into, directory), exist_ok=True)
    for name, file in names.items():
        path = os.path.join(into, name)
        if not os.path.isdir(os.path.dirname(path)):
            continue  # its directory is gone
        if file in paths:
            os.link(paths[file], path)
            continue
        with open(path, "wb") as stream:
            stream.write(store.get(file, b""))
        paths[file] = path


def _move_directory(source: str, target: str, names: dict[str, int], directories: set[str]) -> None:
    inside = source + os.sep
    for directory in [directory for directory in directories if directory == source or directory.startswith(inside)]:
        directories.discard(directory)
        directories.add(target + directory[len(source) :])
    for name in [name for name in names if name.startswith(inside)]:
        names[target + name[len(source) :]] = names.pop(name)


def crashes(
    log: Sequence[Operation], seed: int = 0, each: int = 2, start: int = 0, step: int = 1
) -> Iterator[tuple[int, list[Operation]]]:
    """(length of the prefix, what survives) for every prefix: all of it, the least of it, and `each` random choices.

    `start` is the shortest prefix; with `step` only every so many-th is taken.
    """
    chance = random.Random(seed)
    for length in range(start, len(log) + 1, step):
        prefix = log[:length]
        yield length, survivors(prefix, lambda _: True)
        yield length, survivors(prefix, lambda _: False)
        for _ in range(each):
            yield length, survivors(prefix, lambda _: chance.random() < 0.5)
