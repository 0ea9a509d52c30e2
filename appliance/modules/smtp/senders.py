"""Who says he is the sender? The HELO name, the return-path, and whether it needs a log-in (manual, chapters 7 and 29)."""

from __future__ import annotations

from typing import Final

from appliance.formats.addresses import join_address
from appliance.kernel.channel import Channel
from appliance.modules.smtp.settings import FORCE_AUTH, NON_CLIENTS, VERIFY_PATH, applies
from appliance.modules.smtp.surroundings import Surroundings
from appliance.protocols.smtp import Reply
from appliance.protocols.smtp import events as e
from appliance.router.route import Purpose, Refused

_UNKNOWN_DOMAIN: Final = "5.1.2"


def qualified(channel: Channel, local: str, domain: str) -> str:
    """The address; a name without a domain is one of the domain that the local address belongs to."""
    return join_address(local, domain or channel.domain or "")


def temporary(code: str) -> str:
    """The enhanced status of a refusal for now."""
    return "4" + code[1:]


class SenderCheck:
    """The checks of one session. `called`: we made the connection, so nothing is verified."""

    __slots__ = ("_around", "_called", "_channel", "_helo", "_helo_objection", "local")

    def __init__(self, around: Surroundings, channel: Channel, *, called: bool) -> None:
        self._around = around
        self._channel = channel
        self._called = called
        self._helo: str | None = None
        self._helo_objection: Reply | None = None
        #: Whether the last return-path is one of this server.
        self.local = False

    async def objection(self, event: e.Mail, helo: str, *, known: bool) -> Reply | None:
        """Why mail from this sender is not taken; `known`: the session has authenticated."""
        around, channel, path = self._around, self._channel, event.path
        self.local = False
        verify = not (known or channel.member or self._called) and applies(around.settings[VERIFY_PATH], channel)
        if path.is_null:
            return await self._hello(helo) if verify else None
        if verify and not path.domain:
            return Reply(553, "a return-path needs a domain", "5.1.7")
        try:
            route = await around.router.route(qualified(channel, path.local, path.domain), Purpose.RETURN_PATH)
        except Refused as refused:
            if not refused.permanent:
                return Reply(451, refused.text, temporary(refused.code))
            # A scanner or a phone may call itself what it likes; a name of ours that is nobody's is refused always.
            if refused.code == _UNKNOWN_DOMAIN and not verify:
                return None
            return Reply(550, f"{path.address}: {refused.text}", "5.1.8" if refused.code == "5.1.2" else refused.code)
        self.local = route.module not in ("SMTP", "SYSTEM")
        if self.local and not known and self._must_authenticate():
            return Reply(530, around.strings.text("SMTPForceAuth"), "5.7.0")
        # What the router keeps here is taken without a question to DNS (manual, chapter 7).
        if not verify or route.module != "SMTP":
            return None
        return await self._hello(helo) or await around.verifier.objection(route, channel)

    async def _hello(self, helo: str) -> Reply | None:
        """The name of HELO is looked at when mail comes, not at once: a user on the road, whose computer has a name that no
        server knows, authenticates in between."""
        if helo != self._helo:
            reply = await self._around.verifier.hello_objection(helo, self._channel)
            if reply is not None and reply.temporary:
                return reply
            self._helo, self._helo_objection = helo, reply
        return self._helo_objection

    def _must_authenticate(self) -> bool:
        """Force AUTH; an address that is a client's for a time only does not help."""
        whom = self._around.settings[FORCE_AUTH]
        if whom != NON_CLIENTS:
            return applies(whom, self._channel)
        return not self._around.guard.fixed_client(self._channel.peer.address)
