"""The IMAP module as the listener and the supervisor see it: `serve` a connection, refuse one, bid farewell to one."""

from __future__ import annotations

from appliance.access.imap.dispatch import RULES
from appliance.access.imap.gate import Surroundings
from appliance.access.imap.session import ImapSession
from appliance.access.imap.settings import LISTENER
from appliance.kernel.channel import Channel
from appliance.kernel.listener import Listener, Network
from appliance.protocols.imap import render

TAG = "IMAP"


class ImapService:
    """`surroundings` is shared by all sessions; its settings hold `settings.SETTINGS` beside the listener's own."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        for name, text in (
            ("imap.sessions", "IMAP connections served"),
            ("imap.logins", "IMAP log-ins"),
            ("imap.failures", "IMAP log-ins refused"),
            ("imap.messages", "texts of messages sent to IMAP clients"),
            ("imap.appended", "messages stored by IMAP clients"),
        ):
            surroundings.statistics.counter(name, text)

    async def serve(self, channel: Channel) -> None:
        """One connection from the greeting on. Raises ChannelError when it breaks."""
        self._around.statistics.counter("imap.sessions").add()
        log = self._around.log
        if channel.session is not None:
            log = log.session(channel.session.number)
        await ImapSession(self._around, channel, log, RULES).run()

    @property
    def refusal(self) -> bytes:
        """What a client is told for whom there is no channel."""
        return render.bye(self._around.strings.text("IMAPBusy"), b"UNAVAILABLE")

    def farewell(self, reason: str) -> bytes:
        """What the client of a session is told that is ended from outside."""
        return render.bye(self._around.strings.text("IMAPClosing", reason))

    def listener(self, network: Network) -> Listener:
        """The component that opens this service's sockets and serves them."""
        return Listener(
            TAG,
            self._around.log,
            self._around.settings,
            LISTENER,
            self.serve,
            network,
            refusal=self.refusal,
            farewell=self.farewell,
        )
