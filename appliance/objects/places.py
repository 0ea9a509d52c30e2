"""Where the files of accounts lie in a domain's directory, and the jobs of the disk that make, find, move and remove them."""

from __future__ import annotations

import hashlib
import os.path

from appliance.kernel.files import Files
from appliance.objects import declarations as d
from appliance.objects.domain import MAILDIR, MULTI, TEXT, Domain
from appliance.objects.index import Entry

__all__ = ["move", "move_old_files", "place", "remove", "scan"]

_SUFFIXES = {".macnt": MULTI, ".mbox": TEXT, ".mdir": MAILDIR}


def _letters(name: str, count: int) -> list[str]:
    digest = hashlib.sha256(name.encode()).digest()
    return [chr(97 + digest[i] % 26) for i in range(count)]


def place(domain: Domain, name: str, kind: str) -> str:
    """The relative path of a new account under the domain's foldering method (manual, chapter 18)."""
    method = domain.settings[d.FOLDERING]
    # A folder's name neither begins nor ends with a point: such files are hidden, or not possible everywhere.
    letters = list(name[:2].replace(".", "_"))
    folders = {
        "flat": [],
        "2 Letters 1 Level": ["".join(letters) + ".sub"],
        "2 Letters 2 Levels": [letter + ".sub" for letter in letters],
        "Hashed 1 Level": ["".join(_letters(name, 2)) + ".sub"],
        "Hashed 2 Levels": [letter + ".sub" for letter in _letters(name, 2)],
    }[method]
    return os.path.join(*folders, name + ".macnt" if kind == MULTI else name)


#: Service files that early versions kept in the domain's directory itself.
_OLD_FILES = ("Access.settings", "Domain.settings", "Template.settings", "RPOP.data", "Aliases.data")


def move_old_files(files: Files, directory: str) -> None:
    """Bring them to their place, unless there is one already."""
    for name in _OLD_FILES:
        old, new = os.path.join(directory, name), os.path.join(directory, "Settings", name)
        if files.exists(old) and not files.exists(new):
            files.rename(old, new)
            files.sync_directory(os.path.dirname(new))


def scan(files: Files, directory: str) -> dict[str, Entry]:
    """All accounts of a domain directory and its `.sub` trees."""
    found: dict[str, Entry] = {}
    stack = [""]
    while stack:
        below = stack.pop()
        entries = files.listdir(os.path.join(directory, below))
        names = set(entries)
        for entry in entries:
            stem, suffix = os.path.splitext(entry)
            if suffix == ".sub":
                stack.append(os.path.join(below, entry))
            elif suffix in _SUFFIXES and stem and (suffix == ".macnt" or f"{stem}.settings" in names):
                kind = _SUFFIXES[suffix]
                found.setdefault(stem.lower(), (kind, os.path.join(below, entry if kind == MULTI else stem)))
    return found


_SINGLE_FILES = (".mbox", ".mdir", ".settings", ".info", ".index", ".public", ".prefs", ".dst", ".rpop")


def _paths(files: Files, kind: str, path: str) -> list[str]:
    if kind == MULTI:
        return [path]
    return [path + suffix for suffix in _SINGLE_FILES if files.exists(path + suffix)]


def move(files: Files, kind: str, old: str, new: str) -> None:
    """All files of an account, durably."""
    files.make_directories(os.path.dirname(new))
    for path in _paths(files, kind, old):
        files.rename(path, new + path[len(old) :])
    for parent in {os.path.dirname(old), os.path.dirname(new)}:
        files.sync_directory(parent)


def remove(files: Files, kind: str, path: str) -> None:
    """All files of an account, for good."""
    for item in _paths(files, kind, path):
        if files.stat(item).is_directory:
            files.remove_tree(item)
        else:
            files.unlink(item)
    files.sync_directory(os.path.dirname(path))
