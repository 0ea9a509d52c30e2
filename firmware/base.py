"""The base directory before the server runs: its tree, its format number, its lock (manual, chapters 2 and 4)."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from appliance.formats.data import DataError, parse, render_file
from appliance.kernel.files import OsFiles

#: Directories of a base directory; each may be a symbolic link.
DIRECTORIES = (
    "Settings",
    "Queue",
    "BadFiles",
    "Accounts",
    "Domains",
    "Submitted",
    "ForeignQueue",
    "SystemLogs",
    "Directory",
)
#: Raised when files change so that an older server could not read them; a newer server converts forward.
FORMAT = 1
_FORMAT_FILE = os.path.join("Settings", "Format.settings")
_GROUP = "mail"
_MODE = 0o2750
_SUBMITTED_MODE = 0o3730


class BaseError(Exception):
    """The base directory cannot be used; the text is for the console."""


def prepare(base: str) -> None:
    """Make what is missing, check the format number. Raises BaseError."""
    files = OsFiles()
    try:
        new = not files.exists(base)
        files.make_directories(base, mode=0o750)
        if new:
            _give_to_group(base)
        for name in DIRECTORIES:
            path = os.path.join(base, name)
            if not files.exists(path):
                files.mkdir(path, mode=0o750)
                _give_to_group(path, _SUBMITTED_MODE if name == "Submitted" else _MODE)
        files.sync_directory(base)
        path = os.path.join(base, _FORMAT_FILE)
        if not files.exists(path):
            files.write_file(path, render_file({"Format": str(FORMAT)}).encode())
            return
        found = _format(files.read_bytes(path, 4096))
    except OSError as error:
        raise BaseError(f"{error.filename or base}: {error.strerror}") from None
    if found > FORMAT:
        raise BaseError(f"{base} was made by a newer version (format {found}; this version knows {FORMAT})")


def _format(data: bytes) -> int:
    try:
        value = parse(data)
    except DataError:
        return FORMAT
    text = value.get("Format", "") if isinstance(value, dict) else ""
    return int(text) if isinstance(text, str) and text.isdigit() else FORMAT


def _give_to_group(path: str, mode: int = _MODE) -> None:
    """Members of the group `mail` may look, where there is such a group and we may give to it. What is made in the directory
    later gets its group (the bit "set group"). Into Submitted they may put files, which nobody else of them sees or moves:
    what is there counts as trusted."""
    if sys.platform == "win32":
        return
    import grp

    with suppress(KeyError, PermissionError):
        os.chown(path, -1, grp.getgrnam(_GROUP).gr_gid)
        os.chmod(path, mode)


class Lock:
    """`ProcessID`: the number of the process, held by a lock of the operating system while it runs.

    A file left by a dead process is taken over; a second server on the same directory is refused.
    """

    def __init__(self, base: str) -> None:
        """Raises BaseError if another server runs there."""
        self._path = os.path.join(base, "ProcessID")
        try:
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o640)
        except OSError as error:
            raise BaseError(f"{self._path}: {error.strerror}") from None
        try:
            _lock(self._handle)
        except OSError:
            number = os.read(self._handle, 32).decode("ascii", "replace").strip()
            os.close(self._handle)
            raise BaseError(f"another server (process {number or 'unknown'}) uses {base}") from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, b"%d\n" % os.getpid(), 0) if hasattr(os, "pwrite") else os.write(
            self._handle, b"%d\n" % os.getpid()
        )

    def release(self) -> None:
        """Remove the file, then the lock."""
        with suppress(OSError):
            os.unlink(self._path)
        with suppress(OSError):
            os.close(self._handle)


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        # Beyond the number, so that the file can be read while it is locked.
        os.lseek(handle, 1024, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
