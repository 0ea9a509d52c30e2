"""Memory that was freed goes back to the system, where the C library keeps it for itself: after a start that has read a long
journal, or when many contents were let go, the process would stay as large as it once was."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back"]


def give_back() -> None:
    """Some milliseconds. Does nothing where the C library is not glibc."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except (AttributeError, OSError):
            return
