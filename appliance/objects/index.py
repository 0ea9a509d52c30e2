"""`Index.data`: the accounts of a domain as one file, read at the start instead of scanning (manual, chapter 18).

One record a line: `"name" TAB type TAB place`; later lines count more. `- TAB "name"` takes one out; names are quoted, so one
that begins with `-` is no such line. `!` begins a change of files: the lines of the change follow when it is done. If they do
not, or a line makes no sense, the file is not believed, the directory is scanned, and the file is written anew.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping
from typing import Final

from appliance.formats.data import DataError, parse, render_string
from appliance.kernel.disk import Disk
from appliance.kernel.files import Files

__all__ = ["AccountIndex", "Entry"]

FILE: Final = "Index.data"
#: The file lies in this directory of the domain, if there is one.
FOLDER: Final = "Index"

Entry = tuple[str, str]
"""Type and place of an account."""


class AccountIndex:
    """The file of one domain. `directory()` is the domain's, which a rename changes."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self.disk = disk
        self.directory = directory
        #: The file is there and kept in step.
        self.kept = False

    async def read(self) -> dict[str, Entry] | None:
        """Name -> entry; None if there is no file that can be believed."""
        found = await self.disk.run(_read, self.directory)
        if found is None:
            return None
        entries, lines = found
        if lines > len(entries):
            await self.write(entries)
        self.kept = True
        return entries

    async def write(self, entries: Mapping[str, Entry]) -> None:
        """The whole file anew."""
        data = "".join(map(_record, entries, entries.values())).encode()
        await self.disk.write_file(await self.disk.run(_place, self.directory), data)
        self.kept = True

    async def remove(self) -> None:
        """The administrator wants none."""
        self.kept = False
        await self.disk.unlink(await self.disk.run(_place, self.directory), missing_ok=True)

    async def begin(self) -> None:
        """Files are about to change."""
        if self.kept:
            await self._append("!\n")

    async def done(self, gone: Iterable[str], come: Mapping[str, Entry]) -> None:
        """They have: these names are no more, these are there."""
        if self.kept:
            lines = [f"-\t{_quoted(name)}\n" for name in gone]
            await self._append("".join((*lines, *map(_record, come, come.values()))))

    async def _append(self, text: str) -> None:
        await self.disk.append(await self.disk.run(_place, self.directory), text.encode(), durable=True)


def _quoted(name: str) -> str:
    text = render_string(name)
    return text if text.startswith('"') else f'"{text}"'


def _record(name: str, entry: Entry) -> str:
    return f"{_quoted(name)}\t{entry[0]}\t{_quoted(entry[1])}\n"


def _place(files: Files, directory: str) -> str:
    folder = os.path.join(directory, FOLDER)
    return os.path.join(folder if files.exists(folder) else directory, FILE)


def _read(files: Files, directory: str) -> tuple[dict[str, Entry], int] | None:
    try:
        data = files.read_bytes(_place(files, directory))
    except FileNotFoundError:
        return None
    if data and not data.endswith(b"\n"):
        return None
    entries: dict[str, Entry] = {}
    lines = data.decode("utf-8", "replace").splitlines()
    changing = False
    for line in lines:
        if line == "!":
            if changing:
                return None
            changing = True
            continue
        changing = False
        try:
            match line.split("\t"):
                case ["-", name]:
                    entries.pop(_plain(name), None)
                case [name, kind, place]:
                    entries[_plain(name)] = (kind, _plain(place))
                case _:
                    return None
        except DataError:
            return None
    return None if changing else (entries, len(lines))


def _plain(text: str) -> str:
    value = parse(text)
    if not isinstance(value, str):
        raise DataError("a string is expected")
    return value
