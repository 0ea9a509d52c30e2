"""The password protocol ("poppassd") and the carrier of the command line, the server's side (manual, PWD module).

No RFC describes it; this is the grammar:

    greeting  200 text <challenge>
    USER name            300 send the password
    PASS password        200 | 5xx            the password is the rest of the line as it stands
    APOP name digest     200 | 5xx            digest as in POP (RFC 1939, 7)
    AUTH method [initial-response]            300 base64-challenge, then 200 | 5xx
    STLS                 200, then TLS begins
    NEWPASS password     200 | 5xx            after log-in
    QUIT                 200
    anything else after log-in is a command of the command line: 200 OK | 200 data follow, data | 5xx text

Bytes in, commands out; replies as bytes. No I/O and no clock. Lines end with LF or CR-LF; a line is at most 8,192 bytes,
for who may send more the session raises `limit` after log-in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.protocols.lines import Apop, Auth, LineBuffer, Pass, Response, Stls, TooLong, User
from appliance.protocols.sasl import SaslMalformed, decode_initial

MAX_LINE = 8192
MAX_ADMINISTRATOR_LINE = 1024 * 1024

SUCCESS = 200
INLINE = 201
CONTINUE = 300
INCORRECT = 500
FAILED = 501
SYNTAX = 515


@dataclass(frozen=True, slots=True)
class NewPass:
    """NEWPASS."""

    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


@dataclass(frozen=True, slots=True)
class Line:
    """A command of the command line. It may hold passwords, so it is not for logs as it stands."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bad:
    """What is to be answered with this code and text; the session goes on."""

    code: int
    text: str


Event = User | Pass | Apop | Auth | Response | NewPass | Stls | Quit | Line | Bad


class PwdServer:
    """One connection's protocol state: `receive` what came, take events by `next_event` until it gives None."""

    __slots__ = ("_awaiting", "_input", "_logged_in", "_name", "limit")

    def __init__(self) -> None:
        #: Most bytes of a line without its end.
        self.limit = MAX_LINE
        self._input = LineBuffer()
        self._awaiting = False
        self._logged_in = False
        self._name: str | None = None

    def receive(self, data: bytes) -> None:
        """Bytes off the connection. The caller takes all events before it reads more, which bounds the buffer."""
        self._input.data += data

    @property
    def buffered(self) -> bool:
        """Whether the client has sent more than was taken: input that must not survive a start of TLS."""
        return bool(self._input.data)

    def next_event(self) -> Event | None:
        """The next command, or None if more input is needed. An over-long line is one Bad, the rest of it is dropped."""
        line = self._input.next(self.limit)
        if line is None:
            return None
        awaiting, self._awaiting = self._awaiting, False
        if isinstance(line, TooLong):
            return Bad(SYNTAX, "the line is too long")
        return Response(line) if awaiting else self.event(line)

    def event(self, line: bytes) -> Event:
        """The event of one line without its end."""
        text = line.decode("utf-8", "surrogateescape")
        word, _, rest = text.partition(" ")
        match word.upper():
            case "QUIT" if not rest.strip():
                return Quit()
            case "USER" | "PASS" | "APOP" | "AUTH" | "STLS" as name:
                if self._logged_in:
                    return Bad(FAILED, "you are logged in already")
                return self._log_in(name, rest)
            case "NEWPASS" if self._logged_in:
                return NewPass(rest)
        if not self._logged_in:
            return Bad(INCORRECT, "log in first")
        return Line(text)

    def _log_in(self, command: str, rest: str) -> Event:
        if command == "USER":
            self._name = rest.strip() or None
            return User(self._name) if self._name else Bad(SYNTAX, "the name is missing")
        if command == "PASS":
            if self._name is None:
                return Bad(SYNTAX, "send USER first")
            name, self._name = self._name, None
            return Pass(name, rest)
        if command == "APOP":
            name, _, digest = rest.strip().rpartition(" ")
            return Apop(name.strip(), digest) if name.strip() else Bad(SYNTAX, "name and digest are needed")
        if command == "STLS":
            # Commands sent in clear text behind STLS would be carried out as if they had come inside TLS.
            return Bad(SYNTAX, "no input may follow STLS") if self._input.data else Stls()
        words = rest.split()
        if not 1 <= len(words) <= 2:
            return Bad(SYNTAX, "a method is needed")
        try:
            initial = decode_initial(words[1].encode("utf-8", "surrogateescape")) if len(words) == 2 else None
        except SaslMalformed as error:
            return Bad(SYNTAX, str(error))
        return Auth(words[0].upper(), initial)

    def challenge_sent(self) -> None:
        """The next line is the client's response."""
        self._awaiting = True

    def logged_in(self) -> None:
        """The client is who it says: NEWPASS and the command line are valid from now on."""
        self._logged_in = True

    def secured(self) -> None:
        """TLS has started: what was said before is forgotten."""
        self._input.clear()
        self._name = None


_LINE_ENDS = str.maketrans("\r\n", "  ")


def _shown(text: str) -> bytes:
    return text.translate(_LINE_ENDS).encode("utf-8", "surrogateescape")


def reply(code: int, text: str) -> bytes:
    """A reply of one line; line ends in the text become blanks."""
    return b"%d %b\r\n" % (code, _shown(text))


def challenge(encoded: bytes) -> bytes:
    """A base64 challenge of AUTH, perhaps an empty one."""
    return b"%d %b\r\n" % (CONTINUE, encoded)


def data(rendered: str) -> bytes:
    """The answer of a command with output: the positive line, then the data on a line of its own."""
    return b"%d data follow\r\n%b\r\n" % (SUCCESS, _shown(rendered))


def inline_data(rendered: str) -> bytes:
    """The same for a client that asked for INLINE: all on one line."""
    return b"%d %b\r\n" % (INLINE, _shown(rendered))
