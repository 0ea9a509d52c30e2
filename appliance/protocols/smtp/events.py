"""What a client can say to an SMTP server: one small class for each command, and the pieces of a message."""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.formats.addresses import Path
from appliance.protocols.smtp.replies import Reply


@dataclass(frozen=True, slots=True)
class Helo:
    """HELO, with the name as it was sent."""

    name: str


@dataclass(frozen=True, slots=True)
class Ehlo:
    """EHLO, with the name as it was sent."""

    name: str


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM. `size` in octets of the wire form (RFC 1870); `body` 7BIT, 8BITMIME or empty; `ret` FULL, HDRS or empty;
    `envid` and `auth` decoded from xtext, None if absent; an `auth` of "" is `<>` (RFC 4954, 5)."""

    path: Path
    size: int | None = None
    body: str = ""
    ret: str = ""
    envid: str | None = None
    auth: str | None = None
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO. `notify`: None if absent, else NEVER alone or a choice of SUCCESS, FAILURE, DELAY; `orcpt` as
    `rfc822;user@domain`, decoded from xtext."""

    path: Path
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """DATA: at least one recipient was accepted."""


@dataclass(frozen=True, slots=True)
class DataChunk:
    """A piece of the message in store form (lines end with LF), dots unstuffed, at most 64 KiB and a line end."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DataEnd:
    """The end of the message: octets of its wire form, and the reply that refuses it, if it broke a rule on the way.

    With a refusal some pieces may have been given out before, and none after the rule was broken.
    """

    size: int
    refusal: Reply | None = None


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT: a chunk of `size` octets follows (RFC 3030). It has no reply of its own: pieces follow, then ChunkEnd, or DataEnd
    if it is the last one. Refuse the message now, and no piece of it is given out."""

    size: int
    last: bool
    first: bool
    """Whether the message begins with it."""


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """The end of a chunk that is not the last: octets of the message so far, and the reply that refuses it, if any."""

    size: int
    refusal: Reply | None = None


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY."""

    argument: str


@dataclass(frozen=True, slots=True)
class Expn:
    """EXPN."""

    argument: str


@dataclass(frozen=True, slots=True)
class Help:
    """HELP."""

    argument: str


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS. No input is buffered behind it."""


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH with the method in capitals and perhaps the decoded initial response."""

    method: str
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The line after a 334 reply: base64, or "*" to give up; `sasl.decode` reads it."""

    line: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Etrn:
    """ETRN (RFC 1985) of a node name; `option` is the leading `@` or `#`, or empty."""

    node: str
    option: str = ""


@dataclass(frozen=True, slots=True)
class Atrn:
    """ATRN (RFC 2645), with the domain names it lists."""

    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """TURN (RFC 821)."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that is no valid command now; `reply` is its answer. `unknown`: not even the word is known."""

    reply: Reply
    unknown: bool = False


Event = (
    Helo | Ehlo | Mail | Rcpt | Data | DataChunk | DataEnd | Rset | Noop | Vrfy | Expn | Help | Quit | StartTls | Auth
) | (AuthResponse | Etrn | Atrn | Turn | Bdat | ChunkEnd | Bad)
