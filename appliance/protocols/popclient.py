"""POP3, the client's side (RFC 1939, RFC 2449, RFC 2595, RFC 5034): commands in, bytes out; bytes in, events out.

The caller says what it wants by `user`, `uidl`, `retrieve` and so on. `data_to_send` gives what may be sent now: one command
at a time, or with PIPELINING (RFC 2449, 6.6) all up to one that must be the last of a batch. `next_event` gives, in the order
of the commands, an `Answer` for each; behind a positive one to CAPA, LIST or UIDL come `Lines`, behind one to RETR come
`Piece`s of the message in wire form, up to one that is marked `last`.

No I/O and no clock. An answer's line is at most 8,192 bytes, a line of a listing 1,024, a listing 200,000 lines.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from appliance.protocols.dotted import DottedReader
from appliance.protocols.sasl import ClientMechanism, SaslError, decode, encode

__all__ = [
    "Answer",
    "Capabilities",
    "Event",
    "Lines",
    "Piece",
    "PopClient",
    "PopError",
    "numbered",
    "size_of",
    "totals",
]

MAX_LINE: Final = 8192
MAX_LISTED_LINE: Final = 1024
MAX_LISTED: Final = 200_000
MAX_BATCH: Final = 4096
"""Bytes of commands that are sent at once."""

_STAMP: Final = re.compile(rb"<[!-;=?A-~]{1,250}@[!-;=?-~]{1,250}>")
_CODE: Final = re.compile(r"\[([A-Za-z0-9/_-]{1,60})\]\s*")
_NUMBER: Final = re.compile(rb"[0-9]{1,9}\Z")
#: Their answers change what may be sent next.
_LAST: Final = frozenset({"CAPA", "STLS", "AUTH", "USER", "PASS", "APOP", "QUIT"})


class PopError(Exception):
    """The server does not speak POP3; the connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status of a command ("" for the greeting). `code` is an extended response code such as "IN-USE" (RFC 2449, 8)."""

    command: str
    argument: str
    positive: bool
    text: str
    code: str = ""

    def __str__(self) -> str:
        return self.text or ("+OK" if self.positive else "-ERR")


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of a listing, without their ends."""

    command: str
    lines: tuple[bytes, ...]
    last: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message: whole lines in wire form, dots undone."""

    number: int
    data: bytes = field(repr=False)
    last: bool


Event = Answer | Lines | Piece


class Capabilities:
    """What CAPA said: words in capitals with their parameters (RFC 2449, 5)."""

    __slots__ = ("_words",)

    def __init__(self, lines: tuple[bytes, ...] = ()) -> None:
        self._words: dict[str, tuple[str, ...]] = {}
        for line in lines[:100]:
            words = line.decode("ascii", "replace").upper().split()
            if words:
                self._words[words[0]] = tuple(words[1:])

    def __contains__(self, word: str) -> bool:
        return word in self._words

    def __bool__(self) -> bool:
        return bool(self._words)

    @property
    def methods(self) -> tuple[str, ...]:
        """The SASL methods of AUTH."""
        return self._words.get("SASL", ())


class _Command(NamedTuple):
    word: str
    argument: str
    line: bytes


class PopClient:
    """One connection's protocol state."""

    __slots__ = (
        "_buffer",
        "_capable",
        "_listed",
        "_mechanism",
        "_out",
        "_reader",
        "_rest",
        "_sent",
        "_waiting",
        "capabilities",
        "greeted",
        "stamp",
    )

    def __init__(self) -> None:
        self.capabilities = Capabilities()
        self.greeted = False
        #: The greeting's time stamp, which APOP needs (RFC 1939, 7); empty if there is none.
        self.stamp = b""
        self._buffer = bytearray()
        self._waiting: deque[_Command] = deque()
        self._sent: deque[_Command] = deque()
        self._out = b""
        self._reader: DottedReader | None = None
        self._rest = b""
        self._listed = 0
        self._capable: tuple[bytes, ...] = ()
        self._mechanism: ClientMechanism | None = None

    # -- commands -----------------------------------------------------------------------------------------------------

    def capa(self) -> None:
        """CAPA; `capabilities` is there behind its last Lines."""
        self._add("CAPA")

    def stls(self) -> None:
        """STLS (RFC 2595, 4); after its positive answer comes the handshake, then `secured`."""
        self._add("STLS")

    def secured(self) -> None:
        """TLS has started: what was said before does not count. Ask CAPA again."""
        self.capabilities = Capabilities()

    def user(self, name: str) -> None:
        """USER."""
        self._add("USER", name)

    def password(self, password: str) -> None:
        """PASS."""
        self._add("PASS", password, secret=True)

    def apop(self, name: str, password: str) -> None:
        """APOP with the digest of the greeting's time stamp and the password."""
        secret = password.encode("utf-8", "surrogateescape")
        digest = hashlib.md5(self.stamp + secret, usedforsecurity=False).hexdigest()
        self._add("APOP", f"{name} {digest}", secret=True)

    def auth(self, method: str, mechanism: ClientMechanism) -> None:
        """AUTH. Where the client speaks first, the response rides on the command (RFC 5034, 4) if the line stays short."""
        line = f"AUTH {method}".encode()
        self._out = b""
        self._mechanism = mechanism
        if mechanism.initial:
            line += b" " + (encode(mechanism.step(b"")) or b"=")
        self._waiting.append(_Command("AUTH", method, line + b"\r\n"))

    def stat(self) -> None:
        """STAT; read its answer by `totals`."""
        self._add("STAT")

    def list(self) -> None:
        """LIST of all; read its lines by `numbered`."""
        self._add("LIST")

    def uidl(self) -> None:
        """UIDL of all; read its lines by `numbered`."""
        self._add("UIDL")

    def retrieve(self, number: int) -> None:
        """RETR."""
        self._add("RETR", str(number))

    def delete(self, number: int) -> None:
        """DELE."""
        self._add("DELE", str(number))

    def noop(self) -> None:
        """NOOP."""
        self._add("NOOP")

    def quit(self) -> None:
        """QUIT: its positive answer says that what was marked by DELE is gone."""
        self._add("QUIT")

    def _add(self, word: str, argument: str = "", *, secret: bool = False) -> None:
        line = (f"{word} {argument}" if argument else word).encode("utf-8", "surrogateescape")
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError("a command cannot have line ends in it")
        self._waiting.append(_Command(word, "" if secret else argument, line + b"\r\n"))

    # -- wire ---------------------------------------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """What may be sent now; empty if an answer must come first, or there is nothing to say."""
        out, self._out = [self._out] if self._out else [], b""
        batches = "PIPELINING" in self.capabilities
        total = 0
        while self._waiting and self.greeted:
            if self._sent and (not batches or self._sent[-1].word in _LAST):
                break
            if total and total + len(self._waiting[0].line) > MAX_BATCH:
                break
            command = self._waiting.popleft()
            self._sent.append(command)
            out.append(command.line)
            total += len(command.line)
        return b"".join(out)

    @property
    def pending(self) -> int:
        """Answers that must still come."""
        return len(self._sent) + len(self._waiting) + (not self.greeted)

    @property
    def buffered(self) -> bool:
        """Whether bytes of the server wait that belong to no event yet."""
        return bool(self._buffer)

    def receive(self, data: bytes) -> None:
        """Bytes off the connection. The caller takes all events before it reads more, which bounds the buffer."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """The next event, None if more input is needed (or `data_to_send` has something). Raises PopError."""
        if self._reader is not None:
            return self._read_on(self._reader)
        while True:
            end = self._buffer.find(b"\n")
            if end < 0 or end > MAX_LINE:
                if max(end, len(self._buffer)) > MAX_LINE:
                    raise PopError("an answer that is too long")
                return None
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            if not self.greeted:
                return self._greeting(line)
            if not self._sent:
                raise PopError("an answer that nobody asked for")
            command = self._sent[0]
            if line[:1] == b"+" and line[:3].upper() != b"+OK":
                if command.word != "AUTH" or self._mechanism is None or line[:2] not in (b"+", b"+ "):
                    raise PopError("a challenge out of turn")
                self._respond(line[2:])
                return None
            self._sent.popleft()
            return self._answered(command, line)

    def _greeting(self, line: bytes) -> Answer:
        answer = _answer("", "", line)
        self.greeted = True
        stamp = _STAMP.search(line)
        if stamp is not None and answer.positive:
            self.stamp = stamp[0]
        return answer

    def _answered(self, command: _Command, line: bytes) -> Answer:
        answer = _answer(command.word, command.argument, line)
        if answer.positive and command.word in ("CAPA", "LIST", "UIDL", "RETR"):
            self._reader, self._rest, self._listed, self._capable = DottedReader(), b"", 0, ()
            self._sent.appendleft(command)
        elif command.word == "AUTH":
            mechanism, self._mechanism = self._mechanism, None
            if answer.positive and mechanism is not None and not mechanism.complete:
                raise PopError("the server ended the authentication too early")
        elif command.word == "STLS" and answer.positive and self._buffer:
            # What was sent in clear text behind the answer would be taken as if it had come inside TLS (RFC 2595, 4).
            raise PopError("the server sent more behind its answer to STLS")
        return answer

    def _read_on(self, reader: DottedReader) -> Event | None:
        command = self._sent[0]
        data, last = reader.take(self._buffer)
        if not data and not last:
            return None
        if last:
            self._reader = None
            self._sent.popleft()
        if command.word == "RETR":
            return Piece(int(command.argument), data, last)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        self._listed += len(lines)
        if self._listed > MAX_LISTED or max(map(len, (*lines, self._rest))) > MAX_LISTED_LINE:
            raise PopError(f"the answer to {command.word} is too long")
        found = tuple(line.removesuffix(b"\r") for line in lines)
        if command.word == "CAPA":
            self._capable += found[:100]
            if last:
                self.capabilities = Capabilities(self._capable)
        return Lines(command.word, found, last)

    def _respond(self, challenge: bytes) -> None:
        assert self._mechanism is not None
        try:
            self._out = encode(self._mechanism.step(decode(challenge))) + b"\r\n"
        except SaslError:
            self._out = b"*\r\n"  # give up; the server answers -ERR


def _answer(command: str, argument: str, line: bytes) -> Answer:
    head = line[:4].upper()
    if head.startswith(b"+OK"):
        positive, rest = True, line[3:]
    elif head == b"-ERR":
        positive, rest = False, line[4:]
    else:
        raise PopError("an answer that is neither +OK nor -ERR")
    text = rest.decode("utf-8", "replace").strip()
    code = "" if positive else (found[1].upper() if (found := _CODE.match(text)) else "")
    return Answer(command, argument, positive, text, code)


def numbered(line: bytes) -> tuple[int, bytes] | None:
    """Message number and the rest of a line of LIST or UIDL; None for what is no such line.

    Whatever stands behind the number is the UID, blanks within it too: servers keep no rule (RFC 1939, 7, has one).
    """
    number, _, rest = line.strip().partition(b" ")
    if not _NUMBER.match(number):
        return None
    return int(number), rest.strip()


def size_of(rest: bytes) -> int:
    """The size in a line of LIST; 0 if there is none."""
    word = rest.split(b" ", 1)[0]
    return int(word) if word.isdigit() and len(word) < 19 else 0


def totals(answer: Answer) -> int:
    """How many messages the answer to STAT tells of; 0 if it tells nothing."""
    word = answer.text.split(" ", 1)[0]
    return int(word) if word.isascii() and word.isdigit() and len(word) < 10 else 0
