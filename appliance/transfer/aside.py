"""BadFiles: files that cannot be read are put there, under their own names, for somebody to look at; nothing is thrown away."""

from __future__ import annotations

import os

from appliance.kernel.disk import Disk
from appliance.kernel.files import Files

__all__ = ["keep_aside", "put_aside"]


async def put_aside(disk: Disk, path: str, folder: str) -> bool:
    """Move the file into the folder; False if it is gone. OSError."""
    return await disk.run(_move, path, os.path.join(folder, os.path.basename(path)))


async def keep_aside(disk: Disk, name: str, folder: str, data: bytes) -> None:
    """Write these octets into a new file of the folder. OSError."""
    await disk.run(_write, os.path.join(folder, name), data)


def _free(files: Files, target: str) -> str:
    files.make_directories(os.path.dirname(target))
    name, number = target, 0
    while files.exists(name):
        number += 1
        name = f"{target}.{number}"
    return name


def _move(files: Files, path: str, target: str) -> bool:
    if not files.exists(path):
        return False
    files.rename(path, _free(files, target))
    return True


def _write(files: Files, target: str, data: bytes) -> None:
    files.write_file(_free(files, target), data)
