"""IMAP4rev1 on the wire, the server's side (RFC 3501 and its small extensions): bytes in, commands out; answers in, bytes out.

No I/O and no clock. `ImapServer` splits the stream into events, `commands` holds one small class for each kind of
arguments, the other modules one grammar production each, `render` and `rows` write the answers, and `view` maps sequence
numbers to UIDs.
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
]
