"""IMAP4, as much of the client's side as collecting mail needs (RFC 3501, RFC 4315, RFC 2595): commands in, bytes out; bytes
in, events out.

`data_to_send` gives what may be sent now; a command with a literal waits for the server's "+" in the midst (RFC 3501, 7.5).
`next_event` gives a `Greeting`, `Untagged` data, and a `Tagged` answer for each command, in the order in which the server
speaks. The text of a message that a FETCH brings comes as `Body` pieces of any size, and behind them the `Fetched` that names
its UID: only then, and with a positive `Tagged`, is it known to be whole.

No I/O and no clock. A response without the message text is at most 64 KiB; literals that nobody asked for are skipped.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.protocols.imap.names import encode_utf7
from appliance.protocols.sasl import ClientMechanism, SaslError, decode, encode

__all__ = ["Body", "Event", "Fetched", "Greeting", "ImapClient", "ImapError", "Tagged", "Untagged", "uid_set"]

MAX_RESPONSE: Final = 64 << 10
MAX_CAPABILITIES: Final = 500
MAX_SET: Final = 6000
"""Characters of one set of UIDs."""

_LITERAL: Final = re.compile(rb"\{([0-9]{1,18})\+?\}\Z")
_STATUS: Final = re.compile(rb"(OK|NO|BAD|BYE|PREAUTH)(?: |$)", re.IGNORECASE)
_CODE: Final = re.compile(r"\[([A-Za-z0-9.-]{1,60})(?: ([^\]]{0,4096}))?\]\s*")
_NUMBERED: Final = re.compile(rb"([0-9]{1,10}) ([A-Za-z]{1,20})(?: |$)")
_WHOLE: Final = re.compile(rb"(?:BODY\[\]|RFC822)(?:<0>)? \Z", re.IGNORECASE)
_QUOTED_BODY: Final = re.compile(rb'[( ](?:BODY\[\]|RFC822) "((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_UID: Final = re.compile(rb"[( ]UID ([0-9]{1,10})(?=[ )])", re.IGNORECASE)
_SIZE: Final = re.compile(rb"[( ]RFC822\.SIZE ([0-9]{1,18})(?=[ )])", re.IGNORECASE)
_FLAGS: Final = re.compile(rb"[( ]FLAGS \(([^()]*)\)", re.IGNORECASE)
_QUOTABLE: Final = re.compile(r"[ -~]{0,512}\Z")


class ImapError(Exception):
    """The server does not speak IMAP; the connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """The first response: `kind` is OK, PREAUTH or BYE."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """The end of a command: `status` is OK, NO or BAD; `code` a response code such as AUTHENTICATIONFAILED (RFC 5530)."""

    command: str
    status: str
    text: str
    code: str = ""

    @property
    def positive(self) -> bool:
        return self.status == "OK"


@dataclass(frozen=True, slots=True)
class Untagged:
    """Data that is no FETCH: its name in capitals, its number (EXISTS), the rest of the line; of OK and its like the code."""

    name: str
    number: int
    text: str
    code: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """A piece of a message's text, in wire form."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A FETCH response. `uid`, `size` 0 if not told, `flags` None; `body`: the text came before as Body pieces."""

    uid: int
    size: int
    flags: frozenset[str] | None
    body: bool


Event = Greeting | Tagged | Untagged | Body | Fetched


class _Command:
    """A command in parts: the server's "+" comes between them."""

    __slots__ = ("mechanism", "parts", "tag", "word")

    def __init__(self, tag: str, word: str, parts: Sequence[bytes], mechanism: ClientMechanism | None = None) -> None:
        self.tag = tag
        self.word = word
        self.parts = deque(parts)
        self.mechanism = mechanism


class ImapClient:
    """One connection's protocol state."""

    __slots__ = (
        "_body_left",
        "_buffer",
        "_has_body",
        "_last_tag",
        "_out",
        "_parts",
        "_sent",
        "_size",
        "_skip_left",
        "_waiting",
        "capabilities",
        "greeted",
    )

    def __init__(self) -> None:
        #: Words in capitals; empty until the server told them.
        self.capabilities: frozenset[str] = frozenset()
        self.greeted = False
        self._buffer = bytearray()
        self._last_tag = 0
        self._waiting: deque[_Command] = deque()
        self._sent: deque[_Command] = deque()
        self._out: list[bytes] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._body_left = 0
        self._skip_left = 0
        self._has_body = False

    # -- commands -----------------------------------------------------------------------------------------------------

    def capability(self) -> None:
        """CAPABILITY; the answer is in `capabilities`."""
        self._add("CAPABILITY", [b"CAPABILITY\r\n"])

    def start_tls(self) -> None:
        """STARTTLS; after its OK comes the handshake, then `secured`."""
        self._add("STARTTLS", [b"STARTTLS\r\n"])

    def secured(self) -> None:
        """TLS has started: what was said before does not count (RFC 3501, 6.2.1). Ask CAPABILITY again."""
        self.capabilities = frozenset()

    def login(self, name: str, password: str) -> None:
        """LOGIN."""
        self._add("LOGIN", self._composed(["LOGIN", name, password]))

    def authenticate(self, method: str, mechanism: ClientMechanism) -> None:
        """AUTHENTICATE; with SASL-IR the first response rides on the command (RFC 4959)."""
        line = f"AUTHENTICATE {method}".encode()
        if mechanism.initial and "SASL-IR" in self.capabilities:
            line += b" " + (encode(mechanism.step(b"")) or b"=")
        self._add("AUTHENTICATE", [line + b"\r\n"], mechanism)

    def select(self, mailbox: str, *, readonly: bool = False) -> None:
        """SELECT, or EXAMINE; `mailbox` as people read it."""
        word = "EXAMINE" if readonly else "SELECT"
        name = "INBOX" if mailbox.upper() == "INBOX" else encode_utf7(mailbox)
        self._add(word, self._composed([word, name]))

    def survey(self) -> None:
        """UIDs, sizes and flags of all messages, as Fetched events. Not for an empty mailbox."""
        self._add("SURVEY", [b"UID FETCH 1:* (UID RFC822.SIZE FLAGS)\r\n"])

    def fetch(self, uid: int) -> None:
        """The text of one message; \\Seen is not set."""
        self._add("FETCH", [b"UID FETCH %d (UID BODY.PEEK[])\r\n" % uid])

    def mark_deleted(self, uids: str) -> None:
        """\\Deleted for a set of UIDs (`uid_set`)."""
        self._add("STORE", [f"UID STORE {uids} +FLAGS.SILENT (\\Deleted)\r\n".encode()])

    def expunge(self, uids: str = "") -> None:
        """UID EXPUNGE of a set (RFC 4315; needs UIDPLUS), or EXPUNGE of all that is marked."""
        self._add("EXPUNGE", [f"UID EXPUNGE {uids}\r\n".encode() if uids else b"EXPUNGE\r\n"])

    def logout(self) -> None:
        """LOGOUT."""
        self._add("LOGOUT", [b"LOGOUT\r\n"])

    def _add(self, word: str, parts: Sequence[bytes], mechanism: ClientMechanism | None = None) -> None:
        self._last_tag += 1
        tag = f"A{self._last_tag}"
        first, *others = parts
        self._waiting.append(_Command(tag, word, [tag.encode() + b" " + first, *others], mechanism))

    def _composed(self, words: Sequence[str]) -> list[bytes]:
        """A command word and its astrings, cut where the server has to say "+" first."""
        parts, line = [], words[0].encode()
        for word in words[1:]:
            if _QUOTABLE.match(word):
                line += b' "' + word.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'
                continue
            data = word.encode("utf-8", "surrogateescape")
            if b"\0" in data:
                raise ValueError("a zero octet in a name or password")
            parts.append(line + b" {%d}\r\n" % len(data))
            line = data
        return [*parts, line + b"\r\n"]

    # -- wire ---------------------------------------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """What may be sent now; empty if the server must speak first, or there is nothing to say."""
        out, self._out = self._out, []
        # One command at a time, but a FETCH may follow a FETCH: they cannot get in each other's way (RFC 3501, 5.5).
        while self._waiting and self.greeted:
            command = self._waiting[0]
            if self._sent and not (command.word == "FETCH" and self._sent[-1].word == "FETCH"):
                break
            self._waiting.popleft()
            self._sent.append(command)
            out.append(command.parts.popleft())
        return b"".join(out)

    @property
    def pending(self) -> int:
        """Answers that must still come."""
        return len(self._sent) + len(self._waiting) + (not self.greeted)

    @property
    def buffered(self) -> bool:
        """Whether bytes of the server wait that belong to no event yet."""
        return bool(self._buffer or self._parts)

    def receive(self, data: bytes) -> None:
        """Bytes off the connection. The caller takes all events before it reads more, which bounds the buffer."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """The next event, None if more input is needed (or `data_to_send` has something). Raises ImapError."""
        buffer = self._buffer
        while True:
            if self._body_left:
                if not buffer:
                    return None
                piece = bytes(buffer[: self._body_left])
                del buffer[: len(piece)]
                self._body_left -= len(piece)
                return Body(piece)
            if self._skip_left:
                if not buffer:
                    return None
                count = min(self._skip_left, len(buffer))
                del buffer[:count]
                self._skip_left -= count
                continue
            end = buffer.find(b"\n")
            if end < 0 or self._size + end > MAX_RESPONSE:
                if self._size + max(end, len(buffer)) > MAX_RESPONSE:
                    raise ImapError("a response that is too long")
                return None
            line = bytes(buffer[:end]).removesuffix(b"\r")
            del buffer[: end + 1]
            self._size += len(line)
            self._parts.append(line)
            literal = _LITERAL.search(line)
            if literal is not None:
                self._take_literal(line[: literal.start()], int(literal[1]))
                continue
            event = self._response(b"".join(self._parts))
            if event is not None:
                return event

    def _take_literal(self, before: bytes, length: int) -> None:
        """The bytes that follow are the message's text, or of no interest; `{n}` stays in the line as their place."""
        if _WHOLE.search(before) and not self._has_body and self._parts[0][:2] == b"* ":
            self._has_body = True
            self._body_left = length
        else:
            self._skip_left = length

    def _response(self, line: bytes) -> Event | None:
        has_body, self._has_body = self._has_body, False
        self._parts, self._size = [], 0
        if line[:2] == b"* ":
            return self._untagged(line[2:], has_body)
        if not self.greeted:
            raise ImapError("a greeting that is none")
        if line[:1] == b"+":
            self._continue(line[2:])
            return None
        return self._tagged(line)

    def _untagged(self, line: bytes, has_body: bool) -> Event | None:
        status = _STATUS.match(line)
        if status is not None:
            kind, text = status[1].decode().upper(), _text(line[status.end() :])
            code, value = _code(text)
            if code == "CAPABILITY":
                self._know(value)
            if not self.greeted:
                self.greeted = True
                return Greeting(kind, text)
            return Untagged(kind, 0, text, code, value)
        if not self.greeted:
            raise ImapError("a greeting that is none")
        numbered = _NUMBERED.match(line)
        if numbered is not None:
            name = numbered[2].decode().upper()
            if name == "FETCH":
                return self._fetched(line[numbered.end() - 1 :], has_body)
            return Untagged(name, int(numbered[1]), "")
        word, _, rest = line.partition(b" ")
        name = word[:40].decode("ascii", "replace").upper()
        if name == "CAPABILITY":
            self._know(_text(rest))
        return Untagged(name, 0, _text(rest))

    def _fetched(self, line: bytes, has_body: bool) -> Event:
        flags = _FLAGS.search(line)
        items = line if flags is None else line[: flags.start() + 1] + line[flags.end() :]
        uid, size = _UID.search(items), _SIZE.search(items)
        made = Fetched(
            int(uid[1]) if uid else 0,
            int(size[1]) if size else 0,
            frozenset(flags[1].decode("ascii", "replace").upper().split()) if flags else None,
            has_body,
        )
        if not has_body and (quoted := _QUOTED_BODY.search(line)) is not None:
            # A short text may come as a quoted string; its piece goes first, the line once more behind it.
            self._buffer[:0] = (
                b"* 1 FETCH " + line.replace(quoted[0], quoted[0][:1] + b"BODY[] {0}\r\n").strip() + b"\r\n"
            )
            text = re.sub(rb"\\(.)", rb"\1", quoted[1])
            return Body(text)
        return made

    def _tagged(self, line: bytes) -> Event:
        tag, _, rest = line.partition(b" ")
        if not self._sent or tag != self._sent[0].tag.encode():
            raise ImapError("an answer that nobody asked for")
        status = _STATUS.match(rest)
        if status is None or status[1].upper() not in (b"OK", b"NO", b"BAD"):
            raise ImapError("an answer that is none")
        command = self._sent.popleft()
        text = _text(rest[status.end() :])
        code, value = _code(text)
        if code == "CAPABILITY":
            self._know(value)
        kind = status[1].decode().upper()
        if command.word == "STARTTLS" and kind == "OK" and self._buffer:
            raise ImapError("the server sent more behind its answer to STARTTLS")
        if kind == "OK" and command.parts:
            raise ImapError("the server answered a command that it has not got yet")
        if kind == "OK" and command.mechanism is not None and not command.mechanism.complete:
            raise ImapError("the server ended the authentication too early")
        return Tagged(command.word, kind, _CODE.sub("", text, count=1) or text, code)

    def _continue(self, challenge: bytes) -> None:
        command = self._sent[0] if self._sent else None
        if command is not None and command.parts:
            self._out.append(command.parts.popleft())
            return
        if command is None or command.mechanism is None:
            raise ImapError("a challenge out of turn")
        try:
            self._out.append(encode(command.mechanism.step(decode(challenge))) + b"\r\n")
        except SaslError:
            self._out.append(b"*\r\n")  # give up; the server answers BAD

    def _know(self, words: str) -> None:
        self.capabilities = frozenset(words.upper().split()[:MAX_CAPABILITIES])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()


def _code(text: str) -> tuple[str, str]:
    found = _CODE.match(text)
    return (found[1].upper(), found[2] or "") if found else ("", "")


def uid_set(uids: Iterable[int]) -> list[str]:
    """UIDs as sets of a length that every server takes (RFC 2683, 3.2.1.5), neighbours put together."""
    spans: list[list[int]] = []
    for uid in sorted(set(uids)):
        if spans and uid == spans[-1][1] + 1:
            spans[-1][1] = uid
        else:
            spans.append([uid, uid])
    sets: list[str] = []
    words: list[str] = []
    length = 0
    for low, high in spans:
        word = str(low) if low == high else f"{low}:{high}"
        if words and length + len(word) + 1 > MAX_SET:
            sets.append(",".join(words))
            words, length = [], 0
        words.append(word)
        length += len(word) + 1
    if words:
        sets.append(",".join(words))
    return sets
