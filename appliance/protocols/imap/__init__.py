"""IMAP4rev1 and IMAP4rev2 on the wire, the server's side (RFC 3501, RFC 9051 and their extensions).

Bytes in, commands out; answers in, bytes out: no I/O and no clock. `ImapServer` splits the stream into events, `commands`
holds one small class for each kind of arguments, `grammar` and the modules around it parse them, `render` and `rows` write
the answers, and `view` maps sequence numbers to UIDs.
"""

from appliance.protocols.imap.commands import Command
from appliance.protocols.imap.cursor import ParseError
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
from appliance.protocols.imap.server import ImapServer
from appliance.protocols.imap.view import MessageView

__all__ = [
    "Bad",
    "Cancelled",
    "Command",
    "Data",
    "Done",
    "Event",
    "ImapServer",
    "LiteralWanted",
    "Message",
    "MessageEnd",
    "MessageView",
    "ParseError",
    "Response",
    "TextPart",
    "Url",
]
