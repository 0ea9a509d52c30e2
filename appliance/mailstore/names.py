"""Mailbox names and the files they stand for (manual, chapter 23).

A name is kept in wire form (modified UTF-7) with `/` between its levels. `a/b` is the file `a.folder/b.mbox` or the
directory `a.folder/b.mdir` below the account's directory; `X.mbox` and `X.folder` together are a mailbox that is also a
folder. Everything a stranger could abuse in a name is refused here, so no name leaves the account's directory.
"""

from __future__ import annotations

import os
import re
from typing import Final

from appliance.kernel.files import Files, escape_name, unescape_name

INBOX: Final = "INBOX"
FOLDER: Final = ".folder"
FORMATS: Final = (".mbox", ".mdir")

MAX_LEVELS: Final = 32
MAX_LEVEL_BYTES: Final = 240
"""Bytes of one level as a file name, so that an extension still fits into the 255 of file systems."""

_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


class BadName(ValueError):
    """A name that cannot be a mailbox; the text says why."""


def normal(name: str) -> str:
    """The one spelling of a name: a leading `/` is dropped, a top-level INBOX is in capitals. Raises BadName."""
    name = name.removeprefix("/").removesuffix("/")
    if not name:
        raise BadName("the mailbox name is empty")
    if name[0] == "~":
        raise BadName("names that begin with ~ belong to other accounts")
    levels = name.split("/")
    if len(levels) > MAX_LEVELS:
        raise BadName("the mailbox name has too many levels")
    for level in levels:
        if not level:
            raise BadName("the mailbox name has an empty level")
        if level[0] == "." or level[-1] == "." or level[0] == " " or level[-1] == " ":
            raise BadName("a level of the mailbox name begins or ends with a dot or a space")
        if _CONTROL.search(level):
            raise BadName("the mailbox name has control characters")
        if len(os.fsencode(escape_name(level))) > MAX_LEVEL_BYTES:
            raise BadName("the mailbox name is too long")
    if levels[0].upper() == INBOX:
        levels[0] = INBOX
    return "/".join(levels)


def parent(name: str) -> str:
    """The outer name, empty for the top level."""
    return name.rpartition("/")[0]


def outer(name: str) -> list[str]:
    """All outer names, the outermost first."""
    levels = name.split("/")
    return ["/".join(levels[:count]) for count in range(1, len(levels))]


def split_format(name: str) -> tuple[str, str]:
    """`name.mdir` is `name` in the format `.mdir`; without such an ending the format is empty."""
    for ending in FORMATS:
        if name.endswith(ending) and len(name) > len(ending) and name[-len(ending) - 1] != "/":
            return name[: -len(ending)], ending
    return name, ""


def relative(name: str) -> str:
    """The path of the name below the account's directory, without an extension."""
    levels = [escape_name(level) for level in name.split("/")]
    return "/".join([level + FOLDER for level in levels[:-1]] + levels[-1:])


def scan(files: Files, directory: str) -> tuple[dict[str, str], list[str]]:
    """What is in an account's directory: mailboxes with their format, and names of folders. Strange files are passed over."""
    boxes: dict[str, str] = {}
    folders: list[str] = []
    _scan(files, directory, "", 1, boxes, folders)
    return boxes, folders


def _scan(files: Files, directory: str, prefix: str, depth: int, boxes: dict[str, str], folders: list[str]) -> None:
    for entry in sorted(files.listdir(directory)):
        stem, ending = os.path.splitext(entry)
        if not stem or ending not in (".mbox", ".mdir", FOLDER):
            continue
        name = prefix + unescape_name(stem)
        try:
            if normal(name) != name:
                continue
        except BadName:
            continue
        if ending == FOLDER:
            if depth < MAX_LEVELS:
                folders.append(name)
                _scan(files, f"{directory}/{entry}", name + "/", depth + 1, boxes, folders)
        elif name not in boxes:
            boxes[name] = ending
