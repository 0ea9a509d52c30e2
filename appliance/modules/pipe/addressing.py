"""Addresses of programs: `"[FILE] queue[PROC1] program parameters"@pipe` (manual, chapter 33).

Tags and the queue stand before the program, in any order and any case. Parameters are words; quotation marks hold words
together, and `\\ ` is a blank too (that is how Router records write it). There is no shell, so no other symbol means anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["TAGS", "PipeAddress", "is_tame", "parse_pipe"]

TAGS: Final = ("FILE", "RETPATH", "RCPT", "STDERR")
MAX_ARGUMENTS: Final = 100

_PREFIX: Final = re.compile(r"\s*(?:\[(FILE|RETPATH|RCPT|STDERR)\]|queue\[([A-Za-z0-9]{1,64})\])\s*", re.IGNORECASE)
_QUEUE: Final = re.compile(r"\s*queue\[", re.IGNORECASE)
_WORD: Final = re.compile(r'(?:[^\s"]|"[^"]*(?:"|$))+')
_UNTAME: Final = re.compile(r"[\s\"'\\\[\]\x00-\x1f]|^-")


@dataclass(frozen=True, slots=True)
class PipeAddress:
    """`queue` is empty for a queue of the message's own."""

    program: str
    arguments: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    queue: str = ""


def parse_pipe(local: str) -> PipeAddress:
    """The parts of a local part without its quoting. ValueError for what names no program that may be started."""
    text = local.replace("\\ ", " ")
    tags: set[str] = set()
    queue = ""
    at = 0
    while (match := _PREFIX.match(text, at)) is not None:
        if match[1]:
            tags.add(match[1].upper())
        elif queue:
            raise ValueError("there are two queue names")
        else:
            queue = match[2]
        at = match.end()
    if _QUEUE.match(text, at):
        raise ValueError("a queue name consists of letters and digits")
    words = [word.replace('"', "") for word in _WORD.findall(text, at)]
    if not words or not words[0]:
        raise ValueError("the program is missing")
    program = words[0]
    if program.startswith(".") or any(char in program for char in "/\\\0") or not program.isprintable():
        raise ValueError("the program name has symbols that are not allowed")
    if len(words) > MAX_ARGUMENTS or any("\0" in word for word in words):
        raise ValueError("too many parameters, or such that cannot be passed on")
    return PipeAddress(program, tuple(words[1:]), frozenset(tags), queue)


def is_tame(name: str) -> bool:
    """Whether a name that a stranger chose can stand in the place of a `*` without becoming more than one word, an option or
    a tag."""
    return _UNTAME.search(name) is None
