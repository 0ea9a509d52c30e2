"""What `ImapServer.next_event` says, beside `Command`."""

from __future__ import annotations

from typing import NamedTuple

from appliance.protocols.imap.commands import Command, MessageHead, Target


class LiteralWanted(NamedTuple):
    """The client waits for `+ ` before it sends `size` octets of an argument: send `ImapServer.GO_ON`."""

    tag: bytes
    size: int


class Bad(NamedTuple):
    """Refuse with BAD; the rest of what came with it is skipped. `tag` is None when it could not be read.

    `fatal`: so much would have to be skipped that the connection is better closed.
    """

    tag: bytes | None
    text: str
    code: bytes | None = None
    fatal: bool = False


class Message(NamedTuple):
    """A message of an APPEND is announced. Answer with `accept_message` or `refuse`.

    `first` is False for further messages of one command (RFC 3502). If the head says so, the message comes in parts, each
    announced in its turn: `Url` or `TextPart` (RFC 4469).
    """

    tag: bytes
    target: Target
    head: MessageHead
    first: bool


class TextPart(NamedTuple):
    """A part of the message is announced. Answer with `accept_message` or `refuse`; its octets come as `Data`."""

    size: int


class Url(NamedTuple):
    """A part of the message is what this URL names."""

    url: str


class Data(NamedTuple):
    """Octets of the accepted message, as they came."""

    octets: bytes


class MessageEnd(NamedTuple):
    """The accepted message is complete. `last`: so is the command."""

    last: bool


class Response(NamedTuple):
    """The client's answer to a challenge, decoded."""

    data: bytes

    def __repr__(self) -> str:
        return "Response(***)"


class Cancelled(NamedTuple):
    """The client answered a challenge with `*`: BAD (RFC 3501, 6.2.2)."""


class Done(NamedTuple):
    """The line DONE ends IDLE (RFC 2177)."""


Event = Command | LiteralWanted | Bad | Message | TextPart | Url | Data | MessageEnd | Response | Cancelled | Done
