"""The POP module as the listener and the supervisor see it: `serve` a connection, refuse one, bid farewell to one."""

from __future__ import annotations

from appliance.access.pop.gate import Surroundings
from appliance.access.pop.session import PopSession
from appliance.access.pop.settings import LISTENER
from appliance.kernel.channel import Channel
from appliance.kernel.listener import Listener, Network
from appliance.protocols import pop

TAG = "POP"


class PopService:
    """`surroundings` is shared by all sessions; its settings are of the group `settings.SETTINGS`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        statistics = surroundings.statistics
        statistics.counter("pop.sessions", "POP connections served")
        for name, text in (
            ("pop.logins", "POP log-ins"),
            ("pop.failures", "POP log-ins refused"),
            ("pop.messages", "messages sent to POP clients"),
            ("pop.removed", "messages removed by POP clients"),
        ):
            statistics.counter(name, text)

    def listener(self, network: Network) -> Listener:
        """The module's listener, to be run by the supervisor."""
        around = self._around
        return Listener(
            TAG,
            around.log,
            around.settings,
            LISTENER,
            self.serve,
            network,
            refusal=self.refusal,
            farewell=self.farewell,
        )

    async def serve(self, channel: Channel) -> None:
        """One connection from the greeting on. Raises ChannelError when it breaks."""
        self._around.statistics.counter("pop.sessions").add()
        log = self._around.log
        if channel.session is not None:
            log = log.session(channel.session.number)
        await PopSession(self._around, channel, log).run()

    @property
    def refusal(self) -> bytes:
        """What a client is told for whom there is no channel."""
        return pop.error(self._around.strings.text("POPBusy"), "SYS/TEMP")

    def farewell(self, reason: str) -> bytes:
        """What the client of a session is told that is ended from outside."""
        return pop.error(self._around.strings.text("POPClosing", reason), "SYS/TEMP")
