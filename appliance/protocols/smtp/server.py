"""SMTP, the server's side (RFC 5321): bytes in, events out; replies in, bytes out.

Two rules. A command is an event only where the order of commands allows it; everything else is a `Bad` with its reply.
And each event except Bdat and DataChunk waits for exactly one `reply`, which moves the state: a 250 to MAIL opens a
transaction, a 250 to RCPT makes DATA and BDAT possible, a 354 begins the message, a 334 waits for a response, a 220 to
STARTTLS for TLS.

    CONNECTED --HELO, EHLO--> IDLE --MAIL--> SENDER --RCPT--> RECIPIENTS --DATA--> MESSAGE --end--> IDLE
    RECIPIENTS --BDAT--> MESSAGE --end of a chunk--> CHUNKS --BDAT--> MESSAGE --end of the last one--> IDLE
    IDLE --AUTH--> IDLE (authenticated)         RSET, HELO, EHLO --> IDLE         any --QUIT--> ENDED
    any --STARTTLS--> TLS --secured()--> CONNECTED

Commands may come in batches (RFC 2920): they wait in the buffer until the replies before them were given. No I/O, no
clock. A command line has at most 4,096 bytes (RFC 5321 and the extensions ask for 512 and some hundred more), a response
of AUTH 12,288 (RFC 4954, 4); a longer line is skipped and answered with 500. A line end in commands may be a bare LF,
because people type them and old devices send them; control symbols in a line are refused. In a message only CR LF counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Final

from appliance.formats.addresses import AddressError
from appliance.protocols.sasl import SaslMalformed, decode_initial
from appliance.protocols.smtp import events
from appliance.protocols.smtp.content import ChunkReader, DataReader
from appliance.protocols.smtp.events import Event
from appliance.protocols.smtp.parameters import ParameterError, parse_mail, parse_rcpt
from appliance.protocols.smtp.replies import ProtocolError, Reply

MAX_LINE: Final = 4096
MAX_RESPONSE: Final = 12288
MAX_BUFFER: Final = 256 * 1024
"""Bytes that may wait untaken; a caller that takes all events before it reads more never comes near."""


class State(Enum):
    """Where the dialogue stands."""

    CONNECTED = auto()
    IDLE = auto()
    SENDER = auto()
    RECIPIENTS = auto()
    MESSAGE = auto()
    CHUNKS = auto()
    RESPONSE = auto()
    TLS = auto()
    ENDED = auto()


_ANY: Final = frozenset({State.CONNECTED, State.IDLE, State.SENDER, State.RECIPIENTS, State.CHUNKS})
_NO_TRANSACTION: Final = frozenset({State.IDLE})
_IN_TRANSACTION: Final = frozenset({State.SENDER, State.RECIPIENTS})
_CAN_RESET: Final = _IN_TRANSACTION | {State.CHUNKS}

# The order of commands (RFC 5321, 4.1.4): where each may stand. MAIL wants a greeting before it, RCPT a sender, DATA a
# recipient and no chunk before it (RFC 3030, 2); AUTH (RFC 4954, 4), ETRN (RFC 1985, 5) and the turning commands stand
# outside of a transaction.
ORDER: Final[dict[bytes, frozenset[State]]] = {
    b"HELO": _ANY,
    b"EHLO": _ANY,
    b"MAIL": _NO_TRANSACTION,
    b"RCPT": _IN_TRANSACTION,
    b"DATA": frozenset({State.RECIPIENTS}),
    b"BDAT": frozenset({State.RECIPIENTS, State.CHUNKS}),
    b"RSET": _ANY,
    b"NOOP": _ANY,
    b"VRFY": _ANY,
    b"EXPN": _ANY,
    b"HELP": _ANY,
    b"QUIT": _ANY,
    b"STARTTLS": _ANY,
    b"AUTH": _NO_TRANSACTION,
    b"ETRN": _NO_TRANSACTION,
    b"ATRN": _NO_TRANSACTION,
    b"TURN": _NO_TRANSACTION,
}

_GREET_FIRST: Final = Reply(503, "say EHLO or HELO first", "5.5.1")
_IN_PROGRESS: Final = Reply(503, "a mail transaction is in progress", "5.5.1")
_MAIL_FIRST: Final = Reply(503, "MAIL is needed first", "5.5.1")
_RCPT_FIRST: Final = Reply(503, "no valid recipients", "5.5.1")
_CHUNKS_FIRST: Final = Reply(503, "the last chunk of the message is missing", "5.5.1")
_TOO_LONG: Final = Reply(500, "line is too long", "5.5.6")
_CONTROLS: Final = Reply(500, "command has control symbols", "5.5.2")
_UNKNOWN: Final = Reply(500, "unknown command", "5.5.1")
_FOREIGN: Final = Reply(421, "this is SMTP", "4.7.0")
_NO_PARAMETERS: Final = Reply(501, "this command takes no parameters", "5.5.4")
_AUTHENTICATED: Final = Reply(503, "already authenticated", "5.5.1")
_INPUT_BEHIND: Final = Reply(501, "no input may follow STARTTLS", "5.5.2")

#: A browser that a web page sends here would say SMTP commands in the body of its request.
_OTHER_PROTOCOLS: Final = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"})

_CONTROL_SYMBOLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NAME = re.compile(r"[^\s\x00-\x20\x7f]{1,255}")
_NODE = re.compile(r"[@#]?[A-Za-z0-9_\x80-\U0010ffff](?:[A-Za-z0-9_.\-\x80-\U0010ffff]{0,254})")
_METHOD = re.compile(rb"[A-Za-z0-9_-]{1,20}")
_CHUNK = re.compile(rb"([0-9]{1,18})(?:[ \t]+(LAST))?", re.IGNORECASE)


class SmtpServer:
    """One connection's protocol state: `receive` what came, take events by `next_event` until it gives None."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_misplaced",
        "_open",
        "_reader",
        "_refused",
        "_scanned",
        "_skip",
        "_skipping",
        "authenticated",
        "clean",
        "extended",
        "helo",
        "size_limit",
        "state",
    )

    def __init__(self, *, size_limit: int = 0, clean: bool = False, utf8: bool = False) -> None:
        self.state = State.CONNECTED
        #: Octets that a message may have, 0 for no limit; may be changed between messages.
        self.size_limit = size_limit
        #: Make line ends of lone CR and LF in messages instead of refusing them.
        self.clean = clean
        #: The name of the last HELO or EHLO, and whether it was EHLO.
        self.helo = ""
        self.extended = False
        self.authenticated = False
        self._refused = () if utf8 else (b"SMTPUTF8",)
        self._buffer = bytearray()
        self._scanned = 0
        self._skipping = False
        self._reader: DataReader | ChunkReader | None = None
        #: The message that comes in chunks, between them.
        self._chunks: ChunkReader | None = None
        #: Octets of a chunk that nobody wants, and what is to be said at their end.
        self._skip = 0
        self._misplaced: events.Bad | None = None
        self._open: Event | None = None

    # -- input --------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes off the connection. Raises ProtocolError if far more was received than was taken."""
        if len(self._buffer) + len(data) > MAX_BUFFER:
            raise ProtocolError("too much input waits")
        self._buffer += data

    @property
    def buffered(self) -> bool:
        """Whether the client has sent more than was taken: more commands of a batch."""
        return bool(self._buffer)

    @property
    def in_message(self) -> bool:
        """Whether the input is the text of a message."""
        return self.state is State.MESSAGE or self._misplaced is not None

    def unused(self) -> bytes:
        """Take what was received and not used: for the protocol that goes on when the roles were turned."""
        data = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        return data

    def next_event(self) -> Event | None:
        """The next event, or None if more input is needed. The reply to the one before must have been given."""
        if self._open is not None:
            raise RuntimeError("the event before has no reply yet")
        if self._reader is not None:
            return self._message(self._reader)
        if self._misplaced is not None:
            return self._skipped()
        if self.state in (State.TLS, State.ENDED):
            return None
        event = self._line()
        if type(event) is not events.Bdat:
            self._open = event
        return event

    def _message(self, reader: DataReader | ChunkReader) -> Event | None:
        while not reader.ended:
            piece = reader.take(self._buffer)
            if piece is None:
                return None
            if piece:
                return events.DataChunk(piece)
        self._reader = None
        if isinstance(reader, ChunkReader) and not reader.last:
            self._open = events.ChunkEnd(reader.size, reader.refusal)
        else:
            self._chunks = None
            self._open = events.DataEnd(reader.size, reader.refusal)
        return self._open

    def _skipped(self) -> Event | None:
        """The octets of a chunk that came out of order are no commands (RFC 3030, 2)."""
        taken = min(self._skip, len(self._buffer))
        del self._buffer[:taken]
        self._skip -= taken
        if self._skip:
            return None
        self._open, self._misplaced = self._misplaced, None
        return self._open

    def _line(self) -> Event | None:
        response = self.state is State.RESPONSE
        limit = MAX_RESPONSE if response else MAX_LINE
        buffer = self._buffer
        while True:
            end = buffer.find(b"\n", self._scanned)
            if end < 0:
                if len(buffer) > limit:
                    buffer.clear()
                    self._skipping = True
                self._scanned = len(buffer)
                return None
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            self._scanned = 0
            if self._skipping or len(line) > limit:
                self._skipping = False
                if response:
                    self.state = State.IDLE
                return events.Bad(_TOO_LONG)
            line = line.removesuffix(b"\r")
            return events.AuthResponse(line) if response else self._command(line)

    def _command(self, line: bytes) -> Event | None:
        if _CONTROL_SYMBOLS.search(line):
            return events.Bad(_CONTROLS)
        word, _, rest = line.partition(b" ")
        word = word.upper()
        if word not in ORDER:
            return events.Bad(_FOREIGN if word in _OTHER_PROTOCOLS else _UNKNOWN, unknown=True)
        if self.state not in ORDER[word]:
            return self._misplace(word, rest)
        try:
            return _PARSERS[word](self, rest.strip(b" \t"))
        except ParameterError as error:
            return events.Bad(Reply(555 if error.unknown else 501, str(error), "5.5.4"))
        except AddressError as error:
            sender = word == b"MAIL"
            return events.Bad(Reply(501 if sender else 553, str(error), "5.1.7" if sender else "5.1.3"))
        except SaslMalformed as error:
            return events.Bad(Reply(501, str(error), "5.5.2"))
        except _Syntax as error:
            return events.Bad(Reply(501, str(error), "5.5.4"))

    def _misplace(self, word: bytes, rest: bytes) -> Event | None:
        bad = events.Bad(self._out_of_order(word))
        chunk = _CHUNK.fullmatch(rest.strip(b" \t")) if word == b"BDAT" else None
        if chunk is None or not int(chunk[1]):
            return bad
        self._skip, self._misplaced = int(chunk[1]), bad
        return self._skipped()

    def _out_of_order(self, word: bytes) -> Reply:
        if self.state is State.CONNECTED:
            return _GREET_FIRST
        if self.state is State.CHUNKS:
            return _CHUNKS_FIRST
        if word in (b"DATA", b"BDAT"):
            return _RCPT_FIRST if self.state is State.SENDER else _MAIL_FIRST
        return _MAIL_FIRST if word == b"RCPT" else _IN_PROGRESS

    # -- output -------------------------------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> bytes:
        """The bytes of the reply to the last event; the state moves as the reply tells."""
        event, self._open = self._open, None
        match event:
            case None:
                raise RuntimeError("there is no event to reply to")
            case events.Helo() | events.Ehlo() if reply.positive:
                self.helo, self.extended = event.name, isinstance(event, events.Ehlo)
                self.state, self._chunks = State.IDLE, None
            case events.Mail() if reply.positive:
                self.state = State.SENDER
            case events.Rcpt() if reply.positive:
                self.state = State.RECIPIENTS
            case events.Data() if reply.code == 354:
                self.state = State.MESSAGE
                self._reader = DataReader(limit=self.size_limit, clean=self.clean)
                self._buffer[0:0] = b"\r\n"  # the line end before the text: see DataReader
            case events.DataEnd():
                self.state = State.IDLE
            case events.ChunkEnd():
                self.state = State.CHUNKS if reply.positive else State.IDLE
                if not reply.positive:
                    self._chunks = None
            case events.Rset() if reply.positive:
                self.reset()
            case events.Auth() | events.AuthResponse():
                self.state = State.RESPONSE if reply.code == 334 else State.IDLE
                self.authenticated = reply.positive
            case events.StartTls() if reply.code == 220:
                self.state = State.TLS
            case events.Quit() | events.Atrn() | events.Turn() if reply.positive:
                self.state = State.ENDED
            case _:
                pass
        if reply.code == 421:
            self.state = State.ENDED
        return reply.render()

    def refuse_message(self, reply: Reply) -> None:
        """While a message comes: give out no more of it; its DataEnd will have this reply as refusal."""
        if self._reader is not None:
            self._reader.refuse(reply)

    def reset(self) -> None:
        """Give up the transaction, as RSET does."""
        if self.state in _CAN_RESET:
            self.state, self._chunks = State.IDLE, None

    def secured(self) -> None:
        """TLS has started: all that was said before is forgotten (RFC 3207, 4.2)."""
        self.state = State.CONNECTED
        self.helo, self.extended, self.authenticated = "", False, False
        self._chunks = None
        self._buffer.clear()
        self._scanned = 0

    # -- commands -----------------------------------------------------------------------------------------------------

    def _helo(self, rest: bytes) -> Event:
        return events.Helo(_client_name(rest))

    def _ehlo(self, rest: bytes) -> Event:
        return events.Ehlo(_client_name(rest))

    def _mail(self, rest: bytes) -> Event:
        return parse_mail(_behind(rest, b"FROM:"), self._refused)

    def _rcpt(self, rest: bytes) -> Event:
        return parse_rcpt(_behind(rest, b"TO:"))

    def _bdat(self, rest: bytes) -> Event:
        chunk = _CHUNK.fullmatch(rest)
        if chunk is None:
            raise _Syntax("the size of the chunk is expected, and perhaps LAST")
        first = self._chunks is None
        if self._chunks is None:
            self._chunks = ChunkReader(limit=self.size_limit, clean=self.clean)
        size, last = int(chunk[1]), chunk[2] is not None
        self._chunks.begin(size, last)
        self._reader, self.state = self._chunks, State.MESSAGE
        return events.Bdat(size, last, first)

    def _starttls(self, rest: bytes) -> Event:
        if rest:
            return events.Bad(_NO_PARAMETERS)
        # Commands sent in clear text behind STARTTLS would be carried out as if they had come inside TLS.
        return events.Bad(_INPUT_BEHIND) if self._buffer else events.StartTls()

    def _auth(self, rest: bytes) -> Event:
        if self.authenticated:
            return events.Bad(_AUTHENTICATED)
        words = rest.split()
        if not 1 <= len(words) <= 2 or not _METHOD.fullmatch(words[0]):
            raise _Syntax("a method and at most one initial response are expected")
        return events.Auth(words[0].decode().upper(), decode_initial(words[1]) if len(words) == 2 else None)

    def _etrn(self, rest: bytes) -> Event:
        node = _text(rest)
        if not _NODE.fullmatch(node):
            raise _Syntax("a node name is expected")
        option = node[0] if node[0] in "@#" else ""
        return events.Etrn(node[len(option) :], option)

    def _atrn(self, rest: bytes) -> Event:
        names = tuple(name.strip() for name in _text(rest).split(",")) if rest else ()
        if not all(_NODE.fullmatch(name) for name in names):
            raise _Syntax("domain names are expected")
        return events.Atrn(names)


class _Syntax(ValueError):
    """The parameters of a command are malformed; the text says what was expected."""


def _text(rest: bytes) -> str:
    return rest.decode("utf-8", "surrogateescape")


def _client_name(rest: bytes) -> str:
    name = _text(rest)
    if not _NAME.fullmatch(name):
        raise _Syntax("the name of the client is expected")
    return name


def _behind(rest: bytes, word: bytes) -> bytes:
    """What stands behind FROM: or TO:, which some senders write with a blank before the colon."""
    start = rest[: len(word)].upper()
    if start == word:
        return rest[len(word) :]
    head, colon, tail = rest.partition(b":")
    if colon and head.strip().upper() + colon == word:
        return tail
    raise _Syntax(f"{word.decode()} and an address are expected")


_Parser = Callable[[SmtpServer, bytes], Event]


def _plain(event: Event) -> _Parser:
    return lambda server, rest: events.Bad(_NO_PARAMETERS) if rest else event


def _argument(make: Callable[[str], Event], *, needed: bool = False) -> _Parser:
    def parse(server: SmtpServer, rest: bytes) -> Event:
        if needed and not rest:
            raise _Syntax("a parameter is expected")
        return make(_text(rest))

    return parse


_PARSERS: Final[dict[bytes, _Parser]] = {
    b"HELO": SmtpServer._helo,
    b"EHLO": SmtpServer._ehlo,
    b"MAIL": SmtpServer._mail,
    b"RCPT": SmtpServer._rcpt,
    b"DATA": _plain(events.Data()),
    b"BDAT": SmtpServer._bdat,
    b"RSET": _plain(events.Rset()),
    b"NOOP": lambda server, rest: events.Noop(),
    b"VRFY": _argument(events.Vrfy, needed=True),
    b"EXPN": _argument(events.Expn, needed=True),
    b"HELP": _argument(events.Help),
    b"QUIT": _plain(events.Quit()),
    b"STARTTLS": SmtpServer._starttls,
    b"AUTH": SmtpServer._auth,
    b"ETRN": SmtpServer._etrn,
    b"ATRN": SmtpServer._atrn,
    b"TURN": _plain(events.Turn()),
}


def ehlo_reply(domain: str, capabilities: Iterable[str]) -> Reply:
    """The positive reply to EHLO: the server's name, then each capability with its parameters (`SIZE 1000`)."""
    return Reply(250, "\n".join((domain, *capabilities)))
