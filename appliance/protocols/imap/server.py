"""The server's side of a connection: a stream of octets becomes events, within bounds.

Theory of operation. Text is collected up to the end of a line. A line that ends in the header of a literal goes on after
its octets: arguments are collected (bounded), messages of APPEND are streamed as they come. Whatever is refused is skipped
up to where the next command must begin: the announced octets of a literal without waiting, and the rest of the line. After
a refused waiting literal nothing follows, because the client did not send it.

    COMMAND --header--> LITERAL --octets--> COMMAND --end of line--> Command
       |  \\--APPEND's message--> DECIDE --accept--> STREAM --octets--> TAIL --end of line--> (COMMAND), or DECIDE again
       |                            \\--refuse--> SKIP / COMMAND
       \\--error--> SKIP --octets--> DROP --end of line--> COMMAND

A message that is put together (CATENATE) is one DECIDE for the message and one for each of its texts; between them the mode
is PARTS, in which `_text` is what is left of the line.

Two lines are not commands: the answer to a challenge, and DONE. The session says so by `challenge` and `idle`.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

from appliance.protocols.imap.authentication import challenge, decode
from appliance.protocols.imap.commands import MessageHead, Target
from appliance.protocols.imap.cursor import Cursor, LiteralNeeded, ParseError
from appliance.protocols.imap.events import (
    Bad,
    Cancelled,
    Data,
    Done,
    Event,
    LiteralWanted,
    Message,
    MessageEnd,
    Response,
    TextPart,
    Url,
)
from appliance.protocols.imap.grammar import STREAMED, parse, parse_name
from appliance.protocols.imap.grammar_messages import message_head, target

STRANGER_LINE: Final = 16 * 1024
"""Longest text of a command before log-in; room for a large token of a SASL mechanism."""
STRANGER_LITERAL: Final = 1024
"""Largest literal before log-in: a name or a password."""
COMMAND_LINE: Final = 128 * 1024
"""Longest text of a command after log-in: clients name thousands of UIDs in one line (RFC 2683, 3.2.1.5)."""
ARGUMENT_LITERAL: Final = 64 * 1024
"""Largest literal of an argument after log-in."""
MAX_LITERALS: Final = 64
"""Most literals of one command."""
MAX_SKIPPED: Final = 16 * 1024 * 1024
"""What is skipped at most for the sake of a refused argument."""

_HEADER = re.compile(rb"\{([0-9]{1,10})(\+?)\}$")
_LONG_HEADER = re.compile(rb"\{[0-9]{11,}\+?\}$")
_TAG = re.compile(rb'([^\x00-\x20\x7f-\xff(){%*"\\+]{1,256}) ')


class _Mode(Enum):
    COMMAND = auto()
    LITERAL = auto()
    DECIDE = auto()
    STREAM = auto()
    PARTS = auto()
    TAIL = auto()
    SKIP = auto()
    DROP = auto()
    ANSWER = auto()
    IDLE = auto()


class ImapServer:
    """Feed it with `receive`, ask `next_event` until it says None. Only feed it then, and memory stays bounded."""

    GO_ON: Final = b"+ OK\r\n"

    __slots__ = (
        "_after",
        "_append",
        "_buffer",
        "_closing",
        "_left",
        "_line",
        "_literal",
        "_literals",
        "_mode",
        "_octets",
        "_scanned",
        "_text",
        "_waits",
        "utf8",
    )

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._mode = _Mode.COMMAND
        self._line = STRANGER_LINE
        self._literal = STRANGER_LITERAL
        #: The command so far: its text, its literals, and their size together.
        self._text = b""
        self._literals: list[bytes] = []
        self._octets = 0
        #: Octets that the current literal still lacks, or that are to be skipped.
        self._left = 0
        #: The tag and the target of the APPEND at work; what is announced waits to be asked for.
        self._append: tuple[bytes, Target] = (b"", Target(""))
        self._waits = False
        #: Where to go on after the octets that come: to the end of the message, or to its next part.
        self._after = _Mode.TAIL
        #: A parenthesis closes the message, after its literal (RFC 6855, 4).
        self._closing = False
        #: Mailbox names come in UTF-8 (RFC 6855, 3; RFC 9051, 5.1).
        self.utf8 = False

    @property
    def buffered(self) -> int:
        """Octets that are not used yet; must be 0 before TLS starts (RFC 3501, 6.2.1)."""
        return len(self._buffer)

    @property
    def fresh(self) -> bool:
        """Between two commands, nothing of the next one has come: the moment for time-outs and good-byes."""
        return self._mode is _Mode.COMMAND and not self._buffer and not self._text

    def authenticated(self) -> None:
        """The client is no stranger any more: the larger bounds hold."""
        self._line = COMMAND_LINE
        self._literal = ARGUMENT_LITERAL

    def receive(self, data: bytes) -> None:
        self._buffer += data

    # What the session decides ------------------------------------------------------------------------------------

    def challenge(self, data: bytes) -> bytes:
        """The line to send with this challenge; the next line is the answer to it."""
        self._mode = _Mode.ANSWER
        return challenge(data)

    def idle(self) -> bytes:
        """The line to send for IDLE; the next line must be DONE."""
        self._mode = _Mode.IDLE
        return b"+ idling\r\n"

    def accept_message(self) -> bytes:
        """Let the announced message, or the text of it, come; what to send for that, which may be nothing."""
        if self._mode is _Mode.PARTS:
            return b""
        if self._mode is not _Mode.DECIDE:
            raise RuntimeError("no message is announced")
        self._mode = _Mode.STREAM
        return self.GO_ON if self._waits else b""

    def refuse(self) -> None:
        """Do not take the announced message, or no more of the one that is coming; nor what follows in its command."""
        if self._mode is _Mode.DECIDE and self._waits:
            self._reset()
        elif self._mode in (_Mode.DECIDE, _Mode.STREAM):
            self._mode = _Mode.SKIP
        elif self._mode is _Mode.TAIL:
            self._mode = _Mode.DROP
        elif self._mode is _Mode.PARTS:
            if self._text:
                self._bad(self._text.rstrip(b"\n"), "")
            else:
                self._mode = _Mode.DROP

    # What came ---------------------------------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """The next event; None when more octets are needed."""
        while True:
            mode = self._mode
            if mode is _Mode.DECIDE:
                raise RuntimeError("a message is announced: accept or refuse it")
            if mode is _Mode.SKIP:
                if not self._skip():
                    return None
                continue
            if mode is _Mode.STREAM:
                if self._left:
                    return self._stream()
                self._mode = mode = self._after
            if mode is _Mode.PARTS and self._text:
                try:
                    event = self._part()
                except ParseError as error:
                    return self._bad_tail(self._append[0], self._text.rstrip(b"\n"), str(error))
                if event is not None:
                    return event
                continue
            if mode is _Mode.LITERAL:
                if len(self._buffer) < self._left:
                    return None
                self._literals.append(self._take(self._left))
                self._mode = _Mode.COMMAND if self._after is _Mode.COMMAND else _Mode.PARTS
                if self._mode is _Mode.PARTS:
                    line = self._next_line()
                    if line is None:
                        self._mode = _Mode.LITERAL
                        self._buffer[:0] = self._literals.pop()
                        return self._too_long()
                    self._text += line + (b"\n" if line.endswith(b"}") else b"")
                continue
            line = self._next_line()
            if line is None:
                return self._too_long()
            event = self._use_line(mode, line)
            if event is not None:
                return event

    def _use_line(self, mode: _Mode, line: bytes) -> Event | None:
        if mode is _Mode.COMMAND:
            return self._command(line)
        if mode is _Mode.DROP:
            self._drop(line)
            return None
        if mode is _Mode.TAIL:
            return self._tail(line)
        if mode is _Mode.PARTS:
            self._text = line + (b"\n" if line.endswith(b"}") else b"") or b" "
            return None
        self._mode = _Mode.COMMAND
        if mode is _Mode.IDLE:
            if line.strip().upper() == b"DONE":
                return Done()
            return Bad(None, "expected DONE")
        if line == b"*":
            return Cancelled()
        try:
            return Response(decode(line))
        except ParseError as error:
            return Bad(None, str(error))

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._scanned = 0
        return data

    def _next_line(self) -> bytes | None:
        """The next whole line without its end, which is CRLF; a bare LF is taken too."""
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            return None
        line = self._take(end + 1)
        return line[:-2] if line.endswith(b"\r\n") else line[:-1]

    def _too_long(self) -> Bad | None:
        """No end of line is here. Keep what may still become a command, within the bound."""
        if self._mode is _Mode.DROP:
            del self._buffer[:-32]
            self._scanned = len(self._buffer)
            return None
        if len(self._text) + len(self._buffer) <= self._line:
            return None
        text = self._text or bytes(self._buffer[:300])
        mode, self._mode = self._mode, _Mode.DROP
        self._forget()
        tag = None
        if mode is _Mode.COMMAND:
            tag = _tag_of(text)
        elif mode in (_Mode.TAIL, _Mode.PARTS):
            tag = self._append[0]
        return Bad(tag, "line too long")

    def _forget(self) -> None:
        self._text = b""
        self._literals = []
        self._octets = 0

    def _reset(self) -> None:
        self._forget()
        self._left = 0
        self._mode = _Mode.COMMAND

    # Commands ----------------------------------------------------------------------------------------------------

    def _command(self, line: bytes) -> Event | None:
        if len(self._text) + len(line) > self._line:
            return self._bad(line, "line too long")
        header = _HEADER.search(line) if line.endswith(b"}") else None
        if header is None:
            if _LONG_HEADER.search(line):
                return self._bad(line, "literal too large", code=b"TOOBIG", fatal=True)
            text, literals = self._text + line, self._literals
            self._reset()
            if not text:
                return None  # clients send a line end too many after a literal
            try:
                cursor = Cursor(text, literals, utf8=self.utf8)
                tag, name = parse_name(cursor)
                if name in STREAMED:
                    return self._without_literal(tag, name, cursor)
                return parse(Cursor(text, literals, utf8=self.utf8))
            except LiteralNeeded:  # cannot be: every header is followed by its octets
                return Bad(_tag_of(text), "malformed literal")
            except ParseError as error:
                return Bad(_tag_of(text), str(error))
        text = self._text + line + b"\n"
        cursor = Cursor(text, self._literals, utf8=self.utf8)
        try:
            tag, name = parse_name(cursor)
            if name in STREAMED:
                try:
                    place = target(cursor, name)
                    head = message_head(cursor)
                except LiteralNeeded:
                    pass  # the literal is the mailbox name
                else:
                    self._append = (tag, place)
                    return self._announce(head, Message(tag, place, head, True), cursor.rest())
        except ParseError as error:
            return self._bad(line, str(error))
        size, waits = int(header[1]), not header[2]
        if size > self._literal or len(self._literals) >= MAX_LITERALS or self._octets + size > 4 * self._literal:
            return self._bad(line, "literal too large", code=b"TOOBIG", fatal=size > MAX_SKIPPED)
        self._text = text
        self._octets += size
        self._left = size
        self._after = _Mode.COMMAND
        self._mode = _Mode.LITERAL
        return LiteralWanted(tag, size) if waits else None

    def _without_literal(self, tag: bytes, name: str, cursor: Cursor) -> Event:
        """APPEND whose line ends without a literal: it may be put together from other messages alone."""
        place = target(cursor, name)
        head = message_head(cursor)
        self._append = (tag, place)
        return self._announce(head, Message(tag, place, head, True), cursor.rest())

    def _bad(self, line: bytes, words: str, *, code: bytes | None = None, fatal: bool = False) -> Bad:
        """Refuse the command of which `line` came last; skip what the client sends unasked."""
        tag = _tag_of(self._text or line)
        self._reset()
        header = _HEADER.search(line)
        if header is not None and header[2]:
            self._left = int(header[1])
            self._mode = _Mode.SKIP
            fatal = fatal or self._left > MAX_SKIPPED
        return Bad(tag, words, code, fatal)

    def _skip(self) -> bool:
        """Is all skipped?"""
        size = min(self._left, len(self._buffer))
        del self._buffer[:size]
        self._scanned = 0
        self._left -= size
        if self._left:
            return False
        self._mode = _Mode.DROP
        return True

    def _drop(self, line: bytes) -> None:
        header = _HEADER.search(line)
        self._reset()
        if header is not None and header[2]:
            self._left = int(header[1])
            self._mode = _Mode.SKIP

    # Messages of APPEND ------------------------------------------------------------------------------------------

    def _announce(self, head: MessageHead, message: Message, rest: bytes) -> Message:
        self._forget()
        self._closing = head.utf8
        self._after = _Mode.PARTS if head.parts else _Mode.TAIL
        if head.parts:
            self._text = rest or b" "
            self._mode = _Mode.PARTS
            return message
        self._left = head.size
        self._waits = head.waits
        self._mode = _Mode.DECIDE
        return message

    def _part(self) -> Event | None:
        """The next part of a message that is put together, from `_text`; None: the end of the list was read."""
        cursor = Cursor(self._text, self._literals, utf8=self.utf8)
        while cursor.skip(b" "):
            pass
        if cursor.skip(b")"):
            rest = cursor.rest()
            self._forget()
            self._mode = _Mode.TAIL
            self._buffer[:0] = rest.rstrip(b"\n") + b"\r\n"
            self._scanned = 0
            return None
        word = cursor.word("TEXT or URL")
        cursor.space()
        if word == "TEXT":
            size, waiting_not, _ = cursor.message_literal()
            self._forget()
            self._left, self._waits = size, not waiting_not
            self._mode = _Mode.DECIDE
            return TextPart(size)
        if word != "URL":
            raise ParseError("expected TEXT or URL")
        try:
            url = cursor.astring()
        except LiteralNeeded:
            return self._url_literal()
        self._text = cursor.rest() or b" "
        del self._literals[: cursor.taken]
        return Url(url.decode("utf-8", "surrogateescape"))

    def _url_literal(self) -> Event | None:
        header = _HEADER.search(self._text[:-1])
        assert header is not None
        size = int(header[1])
        if size > self._literal:
            return self._bad_tail(self._append[0], self._text[:-1], "literal too large")
        self._left = size
        self._mode = _Mode.LITERAL
        return None if header[2] else LiteralWanted(self._append[0], size)

    def _stream(self) -> Data | None:
        if not self._buffer:
            return None
        data = self._take(min(self._left, len(self._buffer)))
        self._left -= len(data)
        return Data(data)

    def _tail(self, line: bytes) -> Event:
        """What follows a message: the end of the command, or the next message, which is told after the end of this one."""
        tag, place = self._append
        if self._closing:
            if not line.startswith(b")"):
                return self._bad_tail(tag, line, "expected )")
            self._closing = False
            line = line[1:]
        if not line.strip():
            self._reset()
            return MessageEnd(True)
        if self._text:  # the end was told, now the next one
            self._text = b""
            cursor = Cursor(line + (b"\n" if line.endswith(b"}") else b""), utf8=self.utf8)
            try:
                if place.replaced is not None:
                    raise ParseError("REPLACE takes one message")
                head = message_head(cursor)
            except (ParseError, LiteralNeeded) as error:
                return self._bad_tail(tag, line, str(error))
            return self._announce(head, Message(tag, place, head, False), cursor.rest())
        self._text = b"+"
        self._buffer[:0] = line + b"\r\n"
        self._scanned = 0
        return MessageEnd(False)

    def _bad_tail(self, tag: bytes, line: bytes, words: str) -> Bad:
        bad = self._bad(line, words)
        return bad._replace(tag=tag)


def _tag_of(text: bytes) -> bytes | None:
    """The tag of a command that could not be parsed."""
    found = _TAG.match(text)
    return found[1] if found else None
