"""SMTP, both sides, without I/O: `SmtpServer` takes bytes and gives commands, `SmtpClient` the other way round."""

from __future__ import annotations

from appliance.protocols.smtp.client import Answer, Capabilities, SmtpClient
from appliance.protocols.smtp.content import DataReader, DataWriter
from appliance.protocols.smtp.replies import ProtocolError, Reply, ReplyReader
from appliance.protocols.smtp.server import SmtpServer, State, ehlo_reply

__all__ = [
    "Answer",
    "Capabilities",
    "DataReader",
    "DataWriter",
    "ProtocolError",
    "Reply",
    "ReplyReader",
    "SmtpClient",
    "SmtpServer",
    "State",
    "ehlo_reply",
]
