"""What the operating system gives: background process, descriptor limit, its log, giving up root (manual, chapters 2 and 4)."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from dataclasses import dataclass

#: Users that the process becomes when it gives up root, the first that exists; else user 1.
USERS = ("pillarbox", "cgatepro", "nobody")


def raise_descriptor_limit() -> int:
    """As many open files as we may have; the limit that counts."""
    if sys.platform == "win32":
        return 8192
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 1 << 20)
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def settle_memory() -> None:
    """What the start has made stays: the garbage collector need not walk it again, and comes less often. A server makes few
    cycles and many short-lived objects; the default makes it look through all of them for every few messages."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 50)


def share_the_interpreter() -> None:
    """While a worker computes, the event loop gets the interpreter back after 1 ms instead of 5: with each answer it asks
    for it several times, so others wait for 20 ms instead of 90 while ten thousand messages are copied."""
    sys.setswitchinterval(0.001)


def to_background() -> None:
    """Go on as a background process, standard streams on the null device (--Daemon)."""
    if sys.platform == "win32":
        return
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)
    os.close(null)


def os_log(text: str) -> None:
    """A record in the operating system's log, facility mail: start, shutdown, program errors."""
    if sys.platform == "win32":
        return
    import syslog

    syslog.openlog("pillarbox", syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_NOTICE, text)


@dataclass(frozen=True, slots=True)
class RunAs:
    """Who the process is without root."""

    name: str
    user: int
    group: int


def run_as() -> RunAs | None:
    """Whom the process becomes when it gives up root; None if it is not root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    for name in USERS:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return RunAs(name, found.pw_uid, found.pw_gid)
    return RunAs("1", 1, 1)


def give_tree(base: str, user: int) -> None:
    """All below `base` belongs to the user; groups stay. Links are not followed out of it."""
    if sys.platform == "win32":
        return
    os.chown(base, user, -1, follow_symlinks=False)
    for folder, folders, files in os.walk(base):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):  # a temporary file that is gone meanwhile
                os.chown(os.path.join(folder, name), user, -1, follow_symlinks=False)


def drop_root() -> str | None:
    """Give up root for good; the name of the user that we are now, or None if we were not root."""
    found = run_as()
    if sys.platform == "win32" or found is None:
        return None
    os.setgroups([found.group])
    os.setgid(found.group)
    os.setuid(found.user)
    return found.name
