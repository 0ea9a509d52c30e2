"""Giving up root, and taking it back: the reversible mode (manual, chapter 4, Server Root Privilege).

The effective user changes and the real one stays root, so the way back is open; that is why the mode protects against mistakes
and not against somebody who runs code of his own in the process. For that there is `--dropRoot`, which has no way back.
"""

from __future__ import annotations

import os
import sys

import trio

from appliance.kernel.files import OsFiles
from firmware.platform import give_tree, run_as

__all__ = ["RootPrivilege"]


class RootPrivilege:
    """`base` is the base directory, all of which has to belong to the user that the process becomes."""

    def __init__(self, base: str, files: OsFiles) -> None:
        self._base = base
        self._files = files
        self._before: tuple[int, list[int]] | None = None
        self._changing = trio.Lock()

    @property
    def state(self) -> str:
        """`root`; `dropped`, and it can come back; `none` where there is nothing to drop or no way back."""
        if sys.platform == "win32":
            return "none"
        if self._before is not None:
            return "dropped" if os.getuid() == 0 else "none"
        return "root" if os.geteuid() == 0 else "none"

    async def drop(self) -> str:
        """Become the other user; his name. PermissionError if the process is not root."""
        async with self._changing:
            user = run_as()
            if sys.platform == "win32" or self.state != "root" or user is None:
                raise PermissionError("the server does not run as root")
            self._files.owner = (user.user, -1)  # from now on; then what is there already
            await trio.to_thread.run_sync(give_tree, self._base, user.user)
            self._before = os.getegid(), os.getgroups()
            os.setgroups([user.group])
            os.setegid(user.group)
            os.seteuid(user.user)
            return user.name

    async def restore(self) -> None:
        """Be root again. PermissionError if it was not dropped, or for good."""
        async with self._changing:
            if sys.platform == "win32" or self._before is None or self.state != "dropped":
                raise PermissionError("root cannot be restored")
            group, groups = self._before
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)
            self._before = None
