"""The PWD module as the listener and the supervisor see it: `serve` a connection, refuse one, bid farewell to one."""

from __future__ import annotations

from appliance.access.pwd.gate import Surroundings
from appliance.access.pwd.session import PwdSession
from appliance.access.pwd.settings import LISTENER
from appliance.kernel.channel import Channel
from appliance.kernel.listener import Listener, Network
from appliance.protocols import pwd

TAG = "PWD"


class PwdService:
    """`surroundings` is shared by all sessions; its settings are of the group `settings.SETTINGS`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        for name, text in (
            ("pwd.sessions", "PWD connections served"),
            ("pwd.logins", "PWD log-ins"),
            ("pwd.failures", "PWD log-ins refused"),
            ("pwd.changes", "passwords changed by their owners"),
            ("pwd.commands", "commands of the command line"),
        ):
            surroundings.statistics.counter(name, text)

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
        self._around.statistics.counter("pwd.sessions").add()
        log = self._around.log
        if channel.session is not None:
            log = log.session(channel.session.number)
        await PwdSession(self._around, channel, log).run()

    @property
    def refusal(self) -> bytes:
        """What a client is told for whom there is no channel."""
        return pwd.reply(pwd.FAILED, self._around.strings.text("PWDBusy"))

    def farewell(self, reason: str) -> bytes:
        """What the client of a session is told that is ended from outside."""
        return pwd.reply(pwd.FAILED, self._around.strings.text("PWDClosing", reason))
