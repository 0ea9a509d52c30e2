"""What a filter program says of a message (manual, chapter 28, Content Filtering API).

    OK                        goes on
    ERROR "text"              rejected, the text is for the sender
    DISCARD                   dropped, nobody is told
    REJECTED "text"           not now: asked again later
    FAILURE "text"            the program could not look at it: asked again later
    ADDHEADER "Field: value"  the message gets these header lines, and goes on (interface 2)
    MIRRORTO "address"        a copy goes there, and the message goes on (interface 2)

Words of the last two may stand in front of another one: `ADDHEADER "X-Virus: none" MIRRORTO archive@office.test OK`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["ACCEPT", "FilterAnswer", "UnknownAnswer", "parse_answer", "quoted"]

Action = Literal["accept", "discard", "reject", "postpone"]

MAX_MIRRORS: Final = 10
"""Addresses of one answer."""
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|$)')
_ESCAPE: Final = re.compile(r"\\([0-9]{3}|.)")
_LETTERS: Final = {"e": "\n", "n": "\n", "r": "\r", "t": "\t"}
_FIELD: Final = re.compile(r"[!-9;-~]{1,200}[ \t]*:")
_UNFIT: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_VERDICTS: Final[dict[str, Action]] = {
    "OK": "accept",
    "ERROR": "reject",
    "DISCARD": "discard",
    "REJECTED": "postpone",
    "FAILURE": "postpone",
}


class UnknownAnswer(ValueError):
    """The line has no verdict that is known; the text says what it has."""


@dataclass(frozen=True, slots=True)
class FilterAnswer:
    """`text` may have several lines. `added_header`: whole lines with their LF. `mirror`: who else gets a copy. `remarks`:
    what of the answer could not be used, for the log."""

    action: Action = "accept"
    text: str = ""
    added_header: bytes = b""
    mirror: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


ACCEPT: Final = FilterAnswer()


def quoted(text: str) -> str:
    """A text as a string of an answer line."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\t", "\\t")
    return '"' + text.replace("\n", "\\e") + '"'


def parse_answer(word: str, rest: str, version: int | None = None) -> FilterAnswer:
    """The meaning of an answer line without its number. `version` is the interface that was agreed on, None if the program
    never told its own. Raises UnknownAnswer."""
    header: list[str] = []
    mirror: list[str] = []
    remarks: list[str] = []
    while word in ("ADDHEADER", "MIRRORTO"):
        text, rest = _parameter(rest, whole=word == "ADDHEADER")
        if version is not None and version < 2:
            remarks.append(f"{word} needs interface 2, the program has said {version}")
        elif word == "ADDHEADER":
            _add_lines(text, header, remarks)
        elif _is_address(text) and len(mirror) < MAX_MIRRORS:
            mirror.append(text)
        else:
            remarks.append(f"no copy can go to {text[:100]!r}")
        word, _, rest = rest.partition(" ")
        word, rest = word.upper() or "OK", rest.strip()
    action = _VERDICTS.get(word)
    if action is None:
        raise UnknownAnswer(f"{word[:40]!r} is no answer of a filter")
    text = _parameter(rest, whole=True)[0] if rest else ""
    if action != "accept":
        header.clear()
    added = "".join(line + "\n" for line in header).encode("utf-8", "surrogateescape")
    return FilterAnswer(action, text, added, tuple(mirror), tuple(remarks))


def _parameter(rest: str, *, whole: bool) -> tuple[str, str]:
    """A string, and what follows it. Without quotes it is the rest of the line, or one word. A string that has no end is one
    that was cut."""
    match = _STRING.match(rest)
    if match is not None:
        return _ESCAPE.sub(_symbol, match[1]), rest[match.end() :].strip()
    if whole:
        return rest, ""
    word, _, rest = rest.partition(" ")
    return word, rest.strip()


def _symbol(match: re.Match[str]) -> str:
    name = match[1]
    if name.isdigit() and len(name) == 3:
        code = int(name)
        return chr(code) if 0 < code < 128 else chr(0xDC00 + code) if 128 <= code < 256 else ""
    return _LETTERS.get(name, name)


def _add_lines(text: str, header: list[str], remarks: list[str]) -> None:
    """Fields of the text; what would end the header, or is no field, is left out."""
    field = False
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = _UNFIT.sub("", line).rstrip()
        if not line:
            continue
        if _FIELD.match(line) is not None or (field and line[0] in " \t"):
            header.append(line)
            field = True
        else:
            field = False
            remarks.append(f"not a header field: {line[:100]!r}")


def _is_address(text: str) -> bool:
    return 0 < len(text) <= 320 and not any(char in text for char in "\n\r\0<>") and text.isprintable()
