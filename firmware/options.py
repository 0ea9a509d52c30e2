"""The command line of the server (manual, chapter 4, Command Line Options).

Option names are compared without regard to case; a parameter is the next argument. Options of the manual that have no effect
here are accepted, so that old start-up files go on working.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Extra options may stand in this file of the base directory, separated by white space or lines.
PARAMETER_FILE = "Startup.options"

if sys.platform == "win32":
    DEFAULT_BASE = r"C:\Pillarbox"
elif sys.platform == "darwin":
    DEFAULT_BASE = "/var/Pillarbox"
else:
    DEFAULT_BASE = "/var/Pillarbox"


class OptionError(Exception):
    """A wrong command line; the text says what is wrong."""


@dataclass(slots=True)
class Options:
    """What the command line says. `port_offset` is added to every listener port."""

    base: str = DEFAULT_BASE
    application: str = ""
    shared_base: str = ""
    provision: str = ""
    port_offset: int = 0
    log_to_console: bool = False
    log_all: bool = False
    no_web_cache: bool = False
    daemon: bool = False
    no_lock_file: bool = False
    drop_root: bool = False
    #: Accepted without effect, as given.
    ignored: list[str] = field(default_factory=list)


_FLAGS = {
    "logtoconsole": "log_to_console",
    "logall": "log_all",
    "nowebcache": "no_web_cache",
    "daemon": "daemon",
    "nolockfile": "no_lock_file",
    "droproot": "drop_root",
}
_VALUES = {
    "base": "base",
    "cgatebase": "base",
    "cgateapplication": "application",
    "application": "application",
    "sharedbase": "shared_base",
    "provision": "provision",
}
_IGNORED_FLAGS = frozenset(
    {
        "batchlogon",
        "sharedfiles",
        "clustercontroller",
        "clustermember",
        "clusterfrontend",
        "clusterbackend",
        "staticbackend",
        "staticfrontend",
    }
)

USAGE = """usage: pillarbox [OPTION [PARAMETER]]...
  --Base DIR            base directory, all data (also --CGateBase)
  --Application DIR     application directory (also --CGateApplication)
  --SharedBase DIR      shared domains of a cluster
  --Provision FILE      apply a first-boot file (TOML)
  --PortOffset N        add N to every listener port
  --LogToConsole        copy the log to standard output
  --LogAll              store records of all levels
  --NoWebCache          read web interface files anew each time
  --Daemon              run in the background
  --noLockFile          make no ProcessID file
  --dropRoot            give up root for good after the start
  --Version, --Help

programs that come with it:
  pillarbox sendmail, pillarbox mail          submit a message; also by links of these names
  pillarbox scan-clamav, scan-spamd, scan-rspamd
                        external filters for ClamAV, SpamAssassin, rspamd (--help tells more)
"""


def parse(arguments: Sequence[str]) -> Options:
    """Raises OptionError. `--Help` and `--Version` are the caller's."""
    options = Options()
    given = list(arguments)
    while given:
        word = given.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise OptionError(f"unknown option {word}")
        name = word[2:].lower()
        if name in _FLAGS:
            setattr(options, _FLAGS[name], True)
        elif name in _VALUES:
            setattr(options, _VALUES[name], _parameter(word, given))
        elif name == "portoffset":
            options.port_offset = _number(word, _parameter(word, given))
        elif name in ("threadsscope", "threadscope"):
            scope = _parameter(word, given)
            if scope not in ("system", "process"):
                raise OptionError(f"{word}: system or process is expected, not {scope}")
            options.ignored.append(name)
        elif name in _IGNORED_FLAGS:
            options.ignored.append(name)
        else:
            raise OptionError(f"unknown option {word}")
    return options


def with_parameter_file(arguments: Sequence[str]) -> Options:
    """The command line together with the base directory's parameter file; the command line counts more.

    Raises OptionError, naming the file for an error in it.
    """
    options = parse(arguments)
    path = Path(options.base) / PARAMETER_FILE
    if not path.is_file():
        return options
    try:
        parse(path.read_text(encoding="utf-8").split())
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from None
    merged = parse([*path.read_text(encoding="utf-8").split(), *arguments])
    merged.base = options.base
    return merged


def _parameter(word: str, given: list[str]) -> str:
    if not given or not given[0]:
        raise OptionError(f"{word} needs a parameter")
    return given.pop(0)


def _number(word: str, text: str) -> int:
    if not text.isdigit() or int(text) > 60000:
        raise OptionError(f"{word}: a number from 0 to 60000 is expected, not {text}")
    return int(text)
