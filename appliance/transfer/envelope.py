"""The head of `Queue/N.msg`: lines of text that say all about a message, then an empty line, then the message.

Helper programs and rescued queues read it, so it is an interface. One item a line, the letter first; unknown letters are
ignored, options of a line are separated by blanks:

    S module [remote-address [local-address]]     where it came from; `-` for an address that is missing
    P [T] [C] [U] [X] [A=account] [E=envid] [F|H] <return-path>
                                    T trusted, C client address, U needs SMTPUTF8, X server rules are done,
                                    F or H: return all or the headers
    T seconds                       when it was accepted, Unix time
    R w[SFDN] <recipient> [<orcpt>] one for each recipient; the first letter is its state: w waiting, d done. It is patched
                                    in place, which never changes the length
    H field                         a header field put on by server rules, one line of it at a time

Text is UTF-8; in values blanks, control characters, `<`, `>` and backslashes are `\\XX` (hexadecimal).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from appliance.transfer.message import Envelope, QueuedMessage, Source

__all__ = ["DONE", "MAX_HEAD", "WAITING", "Head", "HeadError", "find_marks", "parse_head", "render_head"]

MAX_HEAD: Final = 16 << 20
"""Most octets of a head that is read; enough for 100,000 recipients."""
WAITING: Final = b"w"
DONE: Final = b"d"

_UNFIT: Final = re.compile(r"[\x00-\x20<>\\\x7f]")
_ESCAPE: Final = re.compile(r"\\([0-9A-Fa-f]{2})")
_RECIPIENT: Final = re.compile(r"^R ([wd])([SFDN]*) <([^<>]*)>(?: <([^<>]*)>)?$")
_PATH: Final = re.compile(r"^P(.*?) ?<([^<>]*)>$")


class HeadError(ValueError):
    """The octets are not the head of a message file."""


@dataclass(slots=True)
class Head:
    """What a head says."""

    source: Source
    sender: str
    recipients: list[tuple[Envelope, bool]] = field(default_factory=list)
    """Each with True if it is done."""
    arrived: float = 0.0
    ret: str = ""
    envid: str = ""
    smtputf8: bool = False
    ruled: bool = False
    added_header: bytes = b""
    length: int = 0
    marks: tuple[int, ...] = ()


def _out(text: str) -> str:
    return _UNFIT.sub(lambda match: f"\\{ord(match[0]):02X}", text)


def _in(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


def render_head(message: QueuedMessage) -> tuple[bytes, tuple[int, ...]]:
    """The head with its empty line, and the offsets of the status letters."""
    source = message.source
    lines = [f"S {_out(source.module)} {_out(source.address) or '-'} {_out(source.local_address) or '-'}\n"]
    path = "P"
    for letter, is_set in (
        ("T", source.trusted),
        ("C", source.client),
        ("U", message.smtputf8),
        ("X", message.ruled),
        ("F", message.ret == "full"),
        ("H", message.ret == "hdrs"),
    ):
        if is_set:
            path += f" {letter}"
    if source.account is not None:
        path += f" A={_out(source.account)}"
    if message.envid:
        path += f" E={_out(message.envid)}"
    lines.append(f"{path} <{_out(message.sender)}>\n")
    lines.append(f"T {message.arrived:.3f}\n")
    for line in message.added_header.splitlines():
        lines.append("H " + line.decode("utf-8", "surrogateescape") + "\n")
    parts = [line.encode("utf-8", "surrogateescape") for line in lines]
    at = sum(map(len, parts))
    marks: list[int] = []
    for recipient in message.recipients:
        state = WAITING if recipient.outcome is None else DONE
        text = f"{recipient.notify} <{_out(recipient.address)}>"
        if recipient.orcpt:
            text += f" <{_out(recipient.orcpt)}>"
        line = b"R " + state + text.encode("utf-8", "surrogateescape") + b"\n"
        marks.append(at + 2)
        parts.append(line)
        at += len(line)
    parts.append(b"\n")
    return b"".join(parts), tuple(marks)


def find_marks(read: Callable[[int, int], bytes]) -> list[int]:
    """The offsets of the status letters; `read(size, offset)` gives octets of the file."""
    data, size = b"", 4096
    while True:
        data = read(size, 0)
        end = data.find(b"\n\n")
        if end < 0:
            end = data.find(b"\n\r\n")
        if end >= 0 or len(data) < size or size > MAX_HEAD:
            break
        size *= 4
    marks = [0] if data.startswith(b"R ") else []
    at = data.find(b"\nR ", 0, end + 1)
    while at >= 0:
        marks.append(at + 1)
        at = data.find(b"\nR ", at + 3, end + 1)
    return [at + 2 for at in marks]


def parse_head(data: bytes) -> Head:
    """Read the head at the beginning of a message file. CR-LF line ends are taken too. HeadError if there is none."""
    sender: str | None = None
    source = Source("QUEUE")
    head = Head(source, "")
    marks: list[int] = []
    options: set[str] = set()
    account: str | None = None
    added: list[bytes] = []
    at = 0
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            raise HeadError("the head has no end")
        raw = data[at:end].removesuffix(b"\r")
        if not raw:
            at = end + 1
            break
        line = raw.decode("utf-8", "surrogateescape")
        if line.startswith("R"):
            match = _RECIPIENT.match(line)
            if match is None:
                raise HeadError("a recipient line that cannot be read")
            marks.append(at + 2)
            head.recipients.append((Envelope(_in(match[3]), match[2], _in(match[4] or "")), match[1] == "d"))
        elif line.startswith("P"):
            match = _PATH.match(line)
            if match is None or sender is not None:
                raise HeadError("a return-path line that cannot be read")
            sender = _in(match[2])
            for option in match[1].split():
                if option.startswith("A="):
                    account = _in(option[2:])
                elif option.startswith("E="):
                    head.envid = _in(option[2:])
                else:
                    options.add(option)
        elif line.startswith("S "):
            words = [_in(word) if word != "-" else "" for word in [*line[2:].split(" "), "-", "-"]]
            source = Source(words[0], words[1], words[2])
        elif line.startswith("T "):
            try:
                head.arrived = float(line[2:])
            except ValueError:
                raise HeadError("a time that cannot be read") from None
        elif line.startswith("H "):
            added.append(raw[2:] + b"\n")
        elif not re.match(r"[A-Z](?: |$)", line):
            raise HeadError("a line that is no envelope line")
        at = end + 1
    if sender is None or not head.recipients:
        raise HeadError("no return-path or no recipient")
    head.sender = sender
    head.source = Source(source.module, source.address, source.local_address, account, "T" in options, "C" in options)
    head.ret = "full" if "F" in options else "hdrs" if "H" in options else ""
    head.smtputf8 = "U" in options
    head.ruled = "X" in options
    # Of rules that had not come to their end they are put on again.
    head.added_header = b"".join(added) if head.ruled else b""
    head.length = at
    head.marks = tuple(marks)
    return head
