"""POP3, the server's side (RFC 1939, RFC 2449, RFC 2595, RFC 5034): bytes in, commands out; replies as bytes.

Two rules hold everywhere. A command is an event only in a state that allows it, so whoever acts on an event need not
ask again; what is wrong (unknown, out of turn, malformed, too long) is a `Bad` with the text of the answer. And the
session moves the state: `challenge_sent` when a SASL challenge went out, `logged_in`, `secured`.

    AUTHORIZATION --USER--> AUTHORIZATION (name kept) --PASS--> (logged_in) TRANSACTION --QUIT--> UPDATE
                  --APOP, AUTH--> (logged_in) TRANSACTION
                  --QUIT--> UPDATE, which has nothing to do

No I/O and no clock. A line is at most 4,096 bytes (RFC 2449, 4 asks for 255), a SASL response 8,192.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from appliance.protocols.dotted import DottedReader
from appliance.protocols.lines import Apop, Auth, LineBuffer, Pass, Response, Stls, TooLong, User
from appliance.protocols.sasl import SaslMalformed, decode_initial

MAX_LINE = 4096
MAX_RESPONSE_LINE = 8192
_MAX_DIGITS = 9


class State(Enum):
    """RFC 1939, 3."""

    AUTHORIZATION = auto()
    TRANSACTION = auto()
    UPDATE = auto()


@dataclass(frozen=True, slots=True)
class AuthList:
    """AUTH without a parameter: which methods are there?"""


@dataclass(frozen=True, slots=True)
class Capa:
    """CAPA (RFC 2449, 5)."""


@dataclass(frozen=True, slots=True)
class Stat:
    """STAT."""


@dataclass(frozen=True, slots=True)
class List:
    """LIST of one message, or of all."""

    number: int | None = None


@dataclass(frozen=True, slots=True)
class Uidl:
    """UIDL of one message, or of all."""

    number: int | None = None


@dataclass(frozen=True, slots=True)
class Retr:
    """RETR."""

    number: int


@dataclass(frozen=True, slots=True)
class Top:
    """TOP: the header and `lines` lines of the body."""

    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Dele:
    """DELE."""

    number: int


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Last:
    """LAST (RFC 1460): the highest number that was touched."""


@dataclass(frozen=True, slots=True)
class Xmit:
    """XTND XMIT (RFC 1082): a message of the client follows once `body_wanted` was called."""


@dataclass(frozen=True, slots=True)
class Body:
    """A piece of that message in wire form, dots undone; `last` at its end."""

    data: bytes = field(repr=False)
    last: bool


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT; `update` says that it came from a logged-in user, whose marks are now carried out."""

    update: bool


@dataclass(frozen=True, slots=True)
class Bad:
    """What is to be answered with -ERR and this text; the session goes on."""

    text: str


Event = (
    User | Pass | Apop | Auth | AuthList | Response | Capa | Stls | Stat | List | Uidl | Retr | Top | Dele | Rset | Noop
) | (Last | Xmit | Body | Quit | Bad)


class PopServer:
    """One connection's protocol state: `receive` what came, take events by `next_event` until it gives None."""

    __slots__ = ("_awaiting", "_body", "_input", "_name", "state")

    def __init__(self) -> None:
        self.state = State.AUTHORIZATION
        self._input = LineBuffer()
        self._awaiting = False
        self._body: DottedReader | None = None
        self._name: str | None = None

    def receive(self, data: bytes) -> None:
        """Bytes off the connection. The caller takes all events before it reads more, which bounds the buffer."""
        self._input.data += data

    @property
    def buffered(self) -> bool:
        """Whether the client has sent more than was taken: input that must not survive a start of TLS."""
        return bool(self._input.data)

    def next_event(self) -> Event | None:
        """The next command, or None if more input is needed."""
        if self._body is not None:
            data, last = self._body.take(self._input.data)
            if last:
                self._body = None
            return Body(data, last) if data or last else None
        line = self._input.next(MAX_RESPONSE_LINE if self._awaiting else MAX_LINE)
        if line is None:
            return None
        awaiting, self._awaiting = self._awaiting, False
        if isinstance(line, TooLong):
            return Bad("line is too long")
        return Response(line) if awaiting else self.event(line)

    def event(self, line: bytes) -> Event:
        """The event of one command line without its end."""
        word, _, rest = line.partition(b" ")
        known = _COMMANDS.get(word.upper())
        if known is None:
            return Bad("unknown command")
        states, parse = known
        if self.state not in states:
            return Bad("log in first" if self.state is State.AUTHORIZATION else "command is not valid in this state")
        return parse(self, rest)

    def challenge_sent(self) -> None:
        """The next line is the client's response."""
        self._awaiting = True

    def body_wanted(self) -> None:
        """What comes next is a message."""
        self._body = DottedReader()

    def logged_in(self) -> None:
        """The client is who it says: commands of the maildrop are valid from now on."""
        self.state = State.TRANSACTION

    def secured(self) -> None:
        """TLS has started: what was said before is forgotten (RFC 2595, 4)."""
        self._input.clear()
        self._name = None

    def _user(self, rest: bytes) -> Event:
        name = _text(rest)
        if not name:
            return Bad("name is missing")
        self._name = name
        return User(name)

    def _pass(self, rest: bytes) -> Event:
        if self._name is None:
            return Bad("send USER first")
        # The password is the rest of the line as it stands, blanks too (RFC 1939, 7).
        name, self._name = self._name, None
        return Pass(name, rest.decode("utf-8", "surrogateescape"))

    def _apop(self, rest: bytes) -> Event:
        name, _, digest = _text(rest).rpartition(" ")
        return Apop(name.strip(), digest) if name.strip() else Bad("name and digest are needed")

    def _auth(self, rest: bytes) -> Event:
        words = rest.split()
        if not words:
            return AuthList()
        if len(words) > 2:
            return Bad("too many parameters")
        try:
            initial = decode_initial(words[1]) if len(words) == 2 else None
        except SaslMalformed as error:
            return Bad(str(error))
        return Auth(words[0].decode("ascii", "replace").upper(), initial)

    def _stls(self, rest: bytes) -> Event:
        # Commands sent in clear text behind STLS would be carried out as if they had come inside TLS.
        if self._input.data:
            return Bad("no input may follow STLS")
        return Stls()

    def _quit(self, rest: bytes) -> Event:
        update = self.state is State.TRANSACTION
        self.state = State.UPDATE
        return Quit(update)


def _text(rest: bytes) -> str:
    return rest.strip().decode("utf-8", "surrogateescape")


def _number(word: bytes) -> int:
    """A message number or line count; ValueError if it is none."""
    if not word.isdigit() or len(word) > _MAX_DIGITS:
        raise ValueError
    return int(word)


def _plain(event: Event) -> _Parser:
    return lambda server, rest: event


def _one(make: Callable[[int], Event]) -> _Parser:
    def parse(server: PopServer, rest: bytes) -> Event:
        try:
            return make(_number(rest.strip()))
        except ValueError:
            return Bad("message number is missing or malformed")

    return parse


def _maybe(make: Callable[[int | None], Event]) -> _Parser:
    with_number = _one(make)

    def parse(server: PopServer, rest: bytes) -> Event:
        return with_number(server, rest) if rest.strip() else make(None)

    return parse


def _top(server: PopServer, rest: bytes) -> Event:
    words = rest.split()
    try:
        if len(words) == 2:
            return Top(_number(words[0]), _number(words[1]))
    except ValueError:
        pass
    return Bad("message number and line count are needed")


def _extended(server: PopServer, rest: bytes) -> Event:
    return Xmit() if rest.strip().upper() == b"XMIT" else Bad("unknown extension")


_Parser = Callable[[PopServer, bytes], Event]
_START = frozenset({State.AUTHORIZATION})
_MAILDROP = frozenset({State.TRANSACTION})
_ANY = _START | _MAILDROP

# The state table: which command may be said when (RFC 1939, 4-7), and who reads its parameters.
_COMMANDS: dict[bytes, tuple[frozenset[State], _Parser]] = {
    b"USER": (_START, PopServer._user),
    b"PASS": (_START, PopServer._pass),
    b"APOP": (_START, PopServer._apop),
    b"AUTH": (_START, PopServer._auth),
    b"STLS": (_START, PopServer._stls),
    b"CAPA": (_ANY, _plain(Capa())),
    b"STAT": (_MAILDROP, _plain(Stat())),
    b"LIST": (_MAILDROP, _maybe(List)),
    b"UIDL": (_MAILDROP, _maybe(Uidl)),
    b"RETR": (_MAILDROP, _one(Retr)),
    b"TOP": (_MAILDROP, _top),
    b"DELE": (_MAILDROP, _one(Dele)),
    b"RSET": (_MAILDROP, _plain(Rset())),
    b"NOOP": (_ANY, _plain(Noop())),
    b"LAST": (_MAILDROP, _plain(Last())),
    b"XTND": (_MAILDROP, _extended),
    b"QUIT": (_ANY, PopServer._quit),
}

_LINE_ENDS = str.maketrans("\r\n", "  ")


def _shown(text: str) -> bytes:
    return text.translate(_LINE_ENDS).encode("utf-8", "surrogateescape")


def ok(text: str = "") -> bytes:
    """A positive reply of one line."""
    return b"+OK " + _shown(text) + b"\r\n" if text else b"+OK\r\n"


def error(text: str, code: str = "") -> bytes:
    """A negative reply; `code` is an extended response code such as "SYS/TEMP" (RFC 2449, 8; RFC 3206)."""
    mark = b"[" + code.encode("ascii") + b"] " if code else b""
    return b"-ERR " + mark + _shown(text) + b"\r\n"


def challenge(encoded: bytes) -> bytes:
    """A continuation with a base64 challenge, perhaps an empty one (RFC 5034, 4)."""
    return b"+ " + encoded + b"\r\n"


def listing(text: str, lines: Iterable[bytes]) -> bytes:
    """A positive reply with lines; the lines are ours and begin with no dot."""
    return ok(text) + b"".join([line + b"\r\n" for line in lines]) + b".\r\n"


_DOT = re.compile(rb"\n\.")


class DotStuffer:
    """A message in wire form as the body of a multi-line reply (RFC 1939, 3), chunk by chunk."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"

    def feed(self, chunk: bytes) -> bytes:
        """The chunk with lines that begin with a dot doubled there."""
        if not chunk:
            return b""
        tail = self._tail
        self._tail = (tail + chunk[-2:])[-2:]
        # The search for two bytes is the quicker one, and mostly all that is needed.
        stuffed = chunk.replace(b"\r\n.", b"\r\n..") if _DOT.search(chunk) else chunk
        # A line end may be split from its dot, or be split itself, by the border of the chunks.
        if (tail == b"\r\n" and chunk[:1] == b".") or (tail[-1:] == b"\r" and chunk[:2] == b"\n."):
            at = 0 if chunk[:1] == b"." else 1
            stuffed = stuffed[:at] + b"." + stuffed[at:]
        return stuffed

    def finish(self) -> bytes:
        """The line with the lone dot, after a line end if the message has none at its end."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"


class TopCutter:
    """The header, the blank line and the first lines of the body of a message in wire form, chunk by chunk."""

    __slots__ = ("_body", "_left", "_tail", "done")

    def __init__(self, lines: int) -> None:
        self._left = lines
        self._body = False
        self._tail = b"\r\n"
        #: Whether nothing more will come.
        self.done = False

    def feed(self, chunk: bytes) -> bytes:
        """The part of the chunk that belongs to it."""
        if self.done or not chunk:
            return b""
        start = 0
        if not self._body:
            joined = self._tail + chunk
            end = joined.find(b"\r\n\r\n")
            if end < 0:
                self._tail = joined[-3:]
                return chunk
            self._body = True
            start = end + 4 - len(self._tail)
        parts = chunk[start:].split(b"\n", self._left) if self._left else [b"", chunk[start:]]
        if len(parts) <= self._left:
            self._left -= len(parts) - 1
            return chunk
        self.done = True
        return chunk[: len(chunk) - len(parts[-1])]
