"""The receiving side as the listener sees it: `serve` a connection, refuse one, bid farewell to one."""

from __future__ import annotations

from appliance.kernel.channel import Channel
from appliance.kernel.log import Logger
from appliance.modules.smtp.protection.settings import TEXTS as PROTECTION_TEXTS
from appliance.modules.smtp.receiving import ReceivingSession
from appliance.modules.smtp.settings import TEXTS
from appliance.modules.smtp.surroundings import Surroundings
from appliance.protocols.smtp import Reply

TAG = "SMTP"


class SmtpService:
    """`surroundings` is shared by all sessions; its texts are declared here."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        surroundings.strings.declare_all(TEXTS)
        surroundings.strings.declare_all(PROTECTION_TEXTS)
        for name, text in (
            ("smtp.sessions", "SMTP connections served"),
            ("smtp.logins", "SMTP log-ins"),
            ("smtp.received", "messages received by SMTP"),
            ("smtp.received.bytes", "octets of messages received by SMTP"),
            ("smtp.received.recipients", "recipients of messages received by SMTP"),
        ):
            surroundings.statistics.counter(name, text)

    async def serve(self, channel: Channel) -> None:
        """One connection from the greeting on. Raises ChannelError when it breaks."""
        self._around.statistics.counter("smtp.sessions").add()
        log = self._around.log
        if channel.session is not None:
            log = log.session(channel.session.number)
        await ReceivingSession(self._around, channel, log).run()

    async def receive(self, channel: Channel, log: Logger) -> None:
        """Be the server on a connection that we have made to get mail (ATRN). Raises ChannelError when it breaks."""
        self._around.statistics.counter("smtp.sessions").add()
        await ReceivingSession(self._around, channel, log, called=True).run()

    @property
    def refusal(self) -> bytes:
        """What a client is told for whom there is no channel."""
        return Reply(421, self._around.strings.text("SMTPBusy"), "4.3.2").render()

    def farewell(self, reason: str) -> bytes:
        """What the client of a session is told that is ended from outside."""
        return Reply(421, self._around.strings.text("SMTPClosing", reason), "4.3.2").render()
