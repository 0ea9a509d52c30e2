"""The Submitted folder: files `NAME.sub` become messages (manual, chapter 33).

A file is first renamed to `NAME.N.taken`, durably, where N is the id that its message will have; the file is removed when the
message is durable. So a start after a crash knows for each such file whether its message was made: then the file goes, else it
is `NAME.sub` again. A file that cannot be a message becomes `NAME.bad`, and `NAME.bad.txt` says why.

Only regular files count. Whoever may write here is trusted, which is why the directory is closed to others.
"""

from __future__ import annotations

import os
import re
import stat as modes
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from appliance.formats.dates import format_date_time
from appliance.formats.headers import header_end
from appliance.formats.wire import ToStore
from appliance.kernel.clock import Clock
from appliance.kernel.disk import SYNC, Disk
from appliance.kernel.files import Files
from appliance.kernel.journal import JournalError
from appliance.kernel.log import Logger
from appliance.modules.pipe.envelope import Submitted, read_header
from appliance.modules.pipe.routing import MODULE
from appliance.transfer.message import Envelope, Source
from appliance.transfer.receiver import MAX_HEADER, NoSpace
from appliance.transfer.transfer import Transfer

__all__ = ["SubmittedFolder"]

SUBMIT: Final = ".sub"
BAD: Final = ".bad"
TAKEN: Final = ".taken"
BATCH: Final = 100
"""Files that are taken at a time."""
_PIECE: Final = 256 << 10
_LARGE: Final = 32 << 10
"""Octets of a header that is not looked at on the loop."""
_MODE: Final = 0o3730 if sys.platform != "win32" else 0o700
"""For the directory: its group may put files in, and everybody only moves his own."""
_TAKEN: Final = re.compile(r"(.+)\.([0-9]{1,18})\.taken", re.DOTALL)


class _File(NamedTuple):
    name: str
    size: int
    owner: str


class SubmittedFolder:
    """`recover` at the start, then `scan` now and then. `host()` is the main domain."""

    def __init__(
        self, disk: Disk, base: str, transfer: Transfer, clock: Clock, log: Logger, host: Callable[[], str]
    ) -> None:
        self.directory = os.path.join(base, "Submitted")
        self.taken = 0
        """Messages that came this way since the start."""
        self._left_over: list[str] = []
        self._disk = disk
        self._transfer = transfer
        self._clock = clock
        self._log = log
        self._host = host

    async def recover(self, known: Callable[[int], bool]) -> None:
        """After a restart, when it is known which messages were made: finish what a crash interrupted."""
        await self._disk.run(_make_directory, self.directory)
        for name in await self._disk.listdir(self.directory):
            match = _TAKEN.fullmatch(name)
            if match is None:
                continue
            if known(int(match[2])):
                await self._disk.unlink(os.path.join(self.directory, name), missing_ok=True)
                self._log.low("%s%s was submitted before the restart", match[1], SUBMIT)
            else:
                await self._disk.run(_put_back, self.directory, name, match[1])

    async def scan(self) -> int:
        """Submit what is there, oldest first; how many messages."""
        count = 0
        while self._left_over:
            await self._disk.unlink(os.path.join(self.directory, self._left_over[-1]), missing_ok=True)
            self._left_over.pop()
        while True:
            files = await self._disk.run(_look, self.directory)
            if not files:
                return count
            self._transfer.spool.check_space()
            numbers = [await self._transfer.spool.new_id() for _ in files]
            pairs = [(file.name, _taken_name(file.name, number)) for file, number in zip(files, numbers, strict=True)]
            there = await self._disk.run_in(SYNC, _claim, self.directory, pairs)
            claimed = len(there)
            if claimed < len(files):
                self._log.problem("%d files of the Submitted folder cannot be taken", len(files) - claimed)
            for file, number in zip(files, numbers, strict=True):
                name = _taken_name(file.name, number)
                if name not in there:
                    continue
                try:
                    count += await self._take(file, name, number)
                except (NoSpace, JournalError, OSError) as error:
                    if isinstance(error, JournalError):
                        there.discard(name)  # nobody knows whether there is a message; the next start does
                    await self._disk.run(_give_back, self.directory, [one for one in pairs if one[1] in there])
                    raise
                there.discard(name)
            if claimed < BATCH:
                return count

    async def submit_again(self, name: str) -> bool:
        """A `.bad` file is `.sub` again; False if there is none of that name."""
        return await self._disk.run(_submit_again, self.directory, name)

    async def remove(self, name: str) -> bool:
        """Remove a `.bad` file and its reason; False if there is none of that name."""
        return await self._disk.run(_remove, self.directory, name)

    async def _take(self, file: _File, name: str, number: int) -> int:
        """Make the message; 1 if there is one now. NoSpace, JournalError, OSError: not now."""
        path = os.path.join(self.directory, name)
        try:
            await self._submit(file, path, number)
        except (ValueError, PermissionError) as error:
            reason = "it cannot be read" if isinstance(error, PermissionError) else str(error)
            self._log.failure("%s is not submitted, it is kept as %s: %s", file.name, BAD, reason)
            await self._disk.run(_put_aside, self.directory, name, file.name[: -len(SUBMIT)], reason)
            return 0
        try:
            await self._disk.unlink(path, missing_ok=True)
        except OSError as error:
            # Never given back: there is a message of it.
            self._log.failure("%s cannot be removed: %s", path, error)
            self._left_over.append(name)
        self.taken += 1
        self._log.low("[%d] submitted from %s by %s", number, file.name, file.owner)
        return 1

    async def _submit(self, file: _File, path: str, number: int) -> None:
        head = await self._disk.pread(path, _PIECE, 0)
        limit = _PIECE
        while header_end(head) == len(head) and limit <= len(head) <= MAX_HEADER:
            limit *= 2
            head = await self._disk.pread(path, limit, 0)
        end = header_end(head)
        if end > MAX_HEADER:
            raise ValueError("the header is too long")
        lines = head[:end].replace(b"\r\n", b"\n")
        if lines and not lines.endswith(b"\n"):
            lines += b"\n"
        if len(lines) < _LARGE:
            said = read_header(lines, self._host())
        else:
            said = await self._disk.run(_read_header, lines, self._host())  # off the loop
        if not said.recipients:
            raise ValueError("there are no recipients")
        async with self._transfer.begin(Source(MODULE, trusted=True)) as submission:
            submission.id = number
            submission.sender, submission.envid = said.sender, said.envid
            submission.smtputf8 = not all(address.isascii() for address in (said.sender, *said.recipients))
            for address in said.recipients:
                submission.add(Envelope(address))
            await submission.write(self._received(file.owner, number) + said.header)
            async for piece in self._body(path, end, file.size, crlf=b"\r\n" in head[:end]):
                await submission.write(piece)
            await submission.submit()

    async def _body(self, path: str, at: int, size: int, *, crlf: bool) -> AsyncIterator[bytes]:
        """What follows the header, in the store's form, with an end to its last line."""
        store = ToStore()
        last = b"\n"
        while at < size:
            piece = await self._disk.pread(path, _PIECE, at)
            if not piece:
                break
            at += len(piece)
            if crlf:
                piece = store.feed(piece)
            if piece:
                last = piece[-1:]
                yield piece
        rest = store.finish()
        if rest or last != b"\n":
            yield rest + b"\n"

    def _received(self, owner: str, number: int) -> bytes:
        """Loops through programs end by it, and it tells who has put the file there."""
        date = format_date_time(self._clock.local(self._clock.now()))
        text = f"Received: from {owner} by {self._host()} (Pillarbox PIPE)\n  with LOCAL id {number}; {date}\n"
        return text.encode("ascii", "replace")


def _taken_name(name: str, number: int) -> str:
    return f"{name[: -len(SUBMIT)]}.{number}{TAKEN}"


# -- jobs of the disk workers -----------------------------------------------------------------------------------------


def _make_directory(files: Files, directory: str) -> None:
    if files.exists(directory):
        return
    files.mkdir(directory, mode=_MODE & 0o777)
    if sys.platform != "win32":
        os.chmod(directory, _MODE)


def _look(files: Files, directory: str) -> list[_File]:
    """The oldest regular files that are to be submitted."""
    try:
        names = [name for name in files.listdir(directory) if name.endswith(SUBMIT) and len(name) > len(SUBMIT)]
    except FileNotFoundError:
        _make_directory(files, directory)
        return []
    found: list[tuple[float, _File]] = []
    for name in names:
        try:
            status = os.lstat(os.path.join(directory, name))
        except FileNotFoundError:
            continue
        if modes.S_ISREG(status.st_mode):
            found.append((status.st_mtime, _File(name, status.st_size, str(status.st_uid))))
    found.sort()
    return [file._replace(owner=_user(file.owner)) for _, file in found[:BATCH]]


def _user(number: str) -> str:
    """The name of a user of the system, fit for a header field."""
    if sys.platform == "win32":
        return "local"
    import pwd

    try:
        name = pwd.getpwuid(int(number)).pw_name
    except KeyError:
        name = f"uid-{number}"
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _read_header(files: Files, lines: bytes, host: str) -> Submitted:
    del files
    return read_header(lines, host)


def _claim(files: Files, directory: str, pairs: Sequence[tuple[str, str]]) -> set[str]:
    """Rename, durably; those that could be. What cannot be renamed cannot be removed either, and must not be submitted."""
    there = set()
    for name, taken in pairs:
        with suppress(OSError):
            files.rename(os.path.join(directory, name), os.path.join(directory, taken))
            there.add(taken)
    files.sync_directory(directory)
    return there


def _give_back(files: Files, directory: str, pairs: Sequence[tuple[str, str]]) -> None:
    for name, taken in pairs:
        _put_back(files, directory, taken, name[: -len(SUBMIT)])


def _put_back(files: Files, directory: str, taken: str, stem: str) -> None:
    try:
        files.rename(os.path.join(directory, taken), _free(files, directory, stem, SUBMIT))
    except FileNotFoundError:
        return


def _put_aside(files: Files, directory: str, taken: str, stem: str, reason: str) -> None:
    target = _free(files, directory, stem, BAD)
    files.rename(os.path.join(directory, taken), target)
    files.write_file(target + ".txt", (reason + "\n").encode("utf-8", "replace"), durable=False)


def _bad_file(files: Files, directory: str, name: str) -> str:
    """The path of a `.bad` file; empty if the name is not one of the directory's."""
    return os.path.join(directory, name) if name.endswith(BAD) and name in files.listdir(directory) else ""


def _submit_again(files: Files, directory: str, name: str) -> bool:
    path = _bad_file(files, directory, name)
    if not path:
        return False
    files.rename(path, _free(files, directory, name[: -len(BAD)], SUBMIT))
    _unlink(files, path + ".txt")
    return True


def _remove(files: Files, directory: str, name: str) -> bool:
    path = _bad_file(files, directory, name)
    if not path:
        return False
    files.unlink(path)
    _unlink(files, path + ".txt")
    return True


def _unlink(files: Files, path: str) -> None:
    try:
        files.unlink(path)
    except FileNotFoundError:
        return


def _free(files: Files, directory: str, stem: str, extension: str) -> str:
    """A name that nobody has."""
    path = os.path.join(directory, stem + extension)
    number = 0
    while files.exists(path):
        number += 1
        path = os.path.join(directory, f"{stem}.{number}{extension}")
    return path
