"""SMTP, the client's side (RFC 5321): commands in, bytes out; bytes in, answers out.

The caller says what it wants by `hello`, `auth`, `mail`, `rcpt`, `data` and so on. `data_to_send` gives what may be sent
now: with PIPELINING (RFC 2920) a whole batch up to a command that must be the last of one (EHLO, AUTH, STARTTLS, DATA,
QUIT), else one command at a time. `next_answer` gives the reply to each command, in order; the greeting is the first.
AUTH answers challenges by itself, so its answer is the final reply.

A server that takes DATA in a batch after it refused every recipient waits for a message: `abandon_message` sends an
empty one (RFC 2920, 3.1). No I/O, no clock; bounds of replies: see `replies`.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from appliance.formats.addresses import Path
from appliance.formats.xtext import OriginalRecipient, encode_orcpt, encode_xtext
from appliance.protocols.sasl import ClientMechanism, SaslError, decode, encode
from appliance.protocols.smtp.replies import ProtocolError, Reply, ReplyReader

# Commands that must be the last of a batch (RFC 2920, 3.1; RFC 3207; RFC 4954).
_LAST: Final = frozenset({"EHLO", "HELO", "AUTH", "STARTTLS", "DATA", "QUIT", "ETRN", "ATRN", "TURN", "NOOP", "."})

MAX_BATCH: Final = 16384
"""Octets of commands in a batch: what a peer's receive buffer takes even if it reads nothing yet."""


class Answer(NamedTuple):
    """The reply to a command: `command` is its word, "" for the greeting or what nobody asked for, "." for a message;
    `argument` is the address of RCPT."""

    command: str
    argument: str
    reply: Reply


class _Command(NamedTuple):
    word: str
    argument: str
    line: bytes


class Capabilities:
    """What a server offers in its reply to EHLO. Keywords are kept in capitals."""

    __slots__ = ("_lines",)

    def __init__(self, text: str = "") -> None:
        self._lines: dict[str, tuple[str, ...]] = {}
        for line in text.split("\n")[1:]:
            words = line.upper().split()
            if not words:
                continue
            key, mark, value = words[0].partition("=")  # `AUTH=LOGIN` and `SIZE=1000` are old forms
            parameters = ((value,) if mark else ()) + tuple(words[1:])
            known = self._lines.get(key, ())
            self._lines[key] = known + tuple(word for word in parameters if word and word not in known)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._lines

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of AUTH."""
        return self._lines.get("AUTH", ())

    @property
    def size(self) -> int:
        """The largest message in octets, 0 if it is not told."""
        values = self._lines.get("SIZE", ())
        return int(values[0]) if values and values[0].isascii() and values[0].isdigit() and len(values[0]) < 20 else 0


class SmtpClient:
    """One connection's protocol state."""

    __slots__ = ("_mechanism", "_out", "_reader", "_sent", "_waiting", "capabilities", "greeted", "secure")

    def __init__(self) -> None:
        self.capabilities = Capabilities()
        self.greeted = False
        self.secure = False
        self._reader = ReplyReader()
        self._waiting: deque[_Command] = deque()
        self._sent: deque[_Command] = deque()
        self._out = b""
        self._mechanism: ClientMechanism | None = None

    # -- commands -----------------------------------------------------------------------------------------------------

    def hello(self, name: str, *, extended: bool = True) -> None:
        """EHLO, or HELO for a server that does not know it."""
        self._add("EHLO" if extended else "HELO", name)

    def start_tls(self) -> None:
        """STARTTLS; after its 220 comes the handshake, then `secured`."""
        self._add("STARTTLS")

    def secured(self) -> None:
        """TLS has started: what the server said before does not count (RFC 3207, 4.2). Say EHLO again."""
        self.capabilities = Capabilities()
        self.secure = True

    def auth(self, method: str, mechanism: ClientMechanism) -> None:
        """AUTH. Where the client speaks first, the response rides on the command (RFC 4954, 4)."""
        line = f"AUTH {method}".encode()
        if mechanism.initial:
            line += b" " + (encode(mechanism.step(b"")) or b"=")
        self._mechanism = mechanism
        self._waiting.append(_Command("AUTH", method, line + b"\r\n"))

    def mail(
        self,
        sender: Path,
        *,
        size: int = 0,
        eight_bit: bool = False,
        ret: str = "",
        envid: str | None = None,
        auth: str | None = None,
        utf8: bool = False,
    ) -> None:
        """MAIL FROM, with those parameters that the server knows."""
        offers = self.capabilities
        words = [f"MAIL FROM:{sender}"]
        if size and "SIZE" in offers:
            words.append(f"SIZE={size}")
        if eight_bit and "8BITMIME" in offers:
            words.append("BODY=8BITMIME")
        if "DSN" in offers:
            if ret:
                words.append(f"RET={ret}")
            if envid:
                words.append(f"ENVID={encode_xtext(envid)}")
        if auth is not None and "AUTH" in offers:
            words.append(f"AUTH={encode_xtext(auth) or '<>'}")
        if utf8 and "SMTPUTF8" in offers:
            words.append("SMTPUTF8")
        self._add_words("MAIL", sender.address, words)

    def rcpt(self, recipient: Path, *, notify: tuple[str, ...] | None = None, orcpt: str | None = None) -> None:
        """RCPT TO, with those parameters that the server knows."""
        words = [f"RCPT TO:{recipient}"]
        if "DSN" in self.capabilities:
            if notify:
                words.append(f"NOTIFY={','.join(notify)}")
            if orcpt:
                kind, _, address = orcpt.partition(";")
                words.append(f"ORCPT={encode_orcpt(OriginalRecipient(kind, address))}")
        self._add_words("RCPT", recipient.address, words)

    def data(self) -> None:
        """DATA; after its 354 the caller sends the message by a DataWriter, then calls `message_sent`."""
        self._add("DATA")

    def message_sent(self) -> None:
        """The final dot is out: its answer is the next, with the command "."."""
        self._sent.append(_Command(".", "", b""))

    def abandon_message(self) -> None:
        """End the message with nothing in it: its answer comes with the command "."."""
        self._waiting.append(_Command(".", "", b".\r\n"))

    def rset(self) -> None:
        """RSET."""
        self._add("RSET")

    def noop(self) -> None:
        """NOOP."""
        self._add("NOOP")

    def quit(self) -> None:
        """QUIT."""
        self._add("QUIT")

    def etrn(self, node: str) -> None:
        """ETRN (RFC 1985)."""
        self._add("ETRN", node)

    def atrn(self, domain: str = "") -> None:
        """ATRN (RFC 2645). After a positive answer the roles are turned."""
        self._add("ATRN", domain)

    def _add(self, word: str, argument: str = "") -> None:
        self._add_words(word, argument, [word, argument] if argument else [word])

    def _add_words(self, word: str, argument: str, words: list[str]) -> None:
        line = " ".join(words).encode("utf-8", "surrogateescape")
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise ValueError("a command cannot have line ends in it")
        self._waiting.append(_Command(word, argument, line + b"\r\n"))

    # -- wire ---------------------------------------------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """What may be sent now; empty if an answer must come first, or there is nothing to say."""
        out, self._out = [self._out] if self._out else [], b""
        batches = "PIPELINING" in self.capabilities
        total = 0
        while self._waiting and self.greeted and self._mechanism_idle():
            if self._sent and (not batches or self._sent[-1].word in _LAST):
                break
            if total + len(self._waiting[0].line) > MAX_BATCH and total:
                break
            command = self._waiting.popleft()
            self._sent.append(command)
            out.append(command.line)
            total += len(command.line)
        return b"".join(out)

    def _mechanism_idle(self) -> bool:
        return not (self._sent and self._sent[0].word == "AUTH")

    @property
    def pending(self) -> int:
        """Answers that must still come, to commands that were sent or wait to be sent."""
        return len(self._sent) + len(self._waiting) + (not self.greeted)

    @property
    def buffered(self) -> bool:
        """Whether bytes of the server wait that answer nothing yet."""
        return self._reader.buffered

    def receive(self, data: bytes) -> None:
        """Bytes off the connection."""
        self._reader.receive(data)

    def next_answer(self) -> Answer | None:
        """The next answer, None if more input is needed (or `data_to_send` has something). Raises ProtocolError."""
        while (reply := self._reader.next_reply()) is not None:
            if not self.greeted:
                self.greeted = True
                return Answer("", "", reply)
            if not self._sent:
                return Answer("", "", reply)
            command = self._sent[0]
            if command.word == "AUTH" and reply.code == 334:
                self._respond(reply)
                return None
            self._sent.popleft()
            return self._answered(command, reply)
        return None

    def _answered(self, command: _Command, reply: Reply) -> Answer:
        if 300 <= reply.code < 400 and not (command.word == "DATA" and reply.code == 354):
            raise ProtocolError(f"{reply.code} is no answer to {command.word}")
        if command.word == "EHLO" and reply.positive:
            self.capabilities = Capabilities(reply.text)
        elif command.word == "STARTTLS" and reply.positive:
            # Answers sent in clear text behind the 220 would be taken as if they had come inside TLS.
            if self._reader.buffered:
                raise ProtocolError("the server sent more behind its answer to STARTTLS")
        elif command.word == "AUTH":
            mechanism, self._mechanism = self._mechanism, None
            if reply.positive and mechanism is not None and not mechanism.complete:
                raise ProtocolError("the server ended the authentication too early")
        return Answer(command.word, command.argument, reply)

    def _respond(self, reply: Reply) -> None:
        if self._mechanism is None:
            raise ProtocolError("a challenge came out of turn")
        try:
            self._out = encode(self._mechanism.step(decode(reply.text.strip().encode("ascii", "replace")))) + b"\r\n"
        except SaslError:
            self._out = b"*\r\n"  # give up; the server answers 501
