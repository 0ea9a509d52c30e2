"""The AUTH dialogue of a receiving session (RFC 4954): replies to AUTH and to the lines after it."""

from __future__ import annotations

from appliance.kernel.channel import Channel
from appliance.modules.smtp.settings import ADVERTISE_AUTH, CLEAR_AUTH, applies
from appliance.modules.smtp.surroundings import LoginRefused, Sender, Surroundings
from appliance.protocols import sasl
from appliance.protocols.smtp import Reply

SERVICE = "SMTP"

_CANCELLED = Reply(501, "authentication cancelled", "5.7.0")
_UNKNOWN = Reply(504, "this method is not known here", "5.5.4")
_ENCRYPT = Reply(538, "encryption is required for this method", "5.7.11")
_WELCOME = Reply(235, "authentication is successful", "2.7.0")


class Authentication:
    """One session's exchange; `sender` is set when it has succeeded, `failures` counts the others."""

    __slots__ = ("_around", "_channel", "_mechanism", "_name", "failures", "sender")

    def __init__(self, around: Surroundings, channel: Channel) -> None:
        self._around = around
        self._channel = channel
        self._mechanism: sasl.ServerMechanism | None = None
        self._name = ""
        self.sender: Sender | None = None
        self.failures = 0

    def _clear_allowed(self) -> bool:
        return self._channel.secure or applies(self._around.settings[CLEAR_AUTH], self._channel)

    def methods(self) -> tuple[str, ...]:
        """What EHLO lists; a method that is not listed may work all the same."""
        if not applies(self._around.settings[ADVERTISE_AUTH], self._channel):
            return ()
        usable = self._usable()
        return (
            usable if self._around.advertise_secure() else tuple(name for name in usable if name in sasl.CLEAR_METHODS)
        )

    def _usable(self) -> tuple[str, ...]:
        digests = self._around.digests()
        secure = tuple(name for name in sasl.SECURE_METHODS if digests or name.startswith("SCRAM"))
        return secure + (sasl.CLEAR_METHODS if self._clear_allowed() else ())

    async def begin(self, method: str, initial: bytes | None) -> Reply:
        """The reply to AUTH."""
        if method in sasl.CLEAR_METHODS and not self._clear_allowed():
            return _ENCRYPT
        around = self._around
        challenge = f"<{around.unique()}@{around.host()}>".encode()
        mechanism = sasl.server_mechanism(method, challenge=challenge, nonce=around.unique().encode())
        if mechanism is None or method not in self._usable():
            return _UNKNOWN
        self._mechanism, self._name = mechanism, ""
        return await self._step(mechanism, initial)

    async def respond(self, line: bytes) -> Reply:
        """The reply to a response."""
        mechanism = self._mechanism
        assert mechanism is not None
        try:
            response = sasl.decode(line)
        except sasl.SaslCancelled:
            return self._fail(_CANCELLED)
        except sasl.SaslMalformed as error:
            return self._fail(Reply(501, str(error), "5.5.2"))
        return await self._step(mechanism, response)

    async def _step(self, mechanism: sasl.ServerMechanism, response: bytes | None) -> Reply:
        logins, channel = self._around.logins, self._channel
        try:
            step = mechanism.step(response)
            if isinstance(step, sasl.Lookup):
                self._name = step.authcid
                step = mechanism.keys(await logins.keys(step.authcid, step.method, channel))
            if isinstance(step, sasl.Challenge):
                return Reply(334, sasl.encode(step.data).decode("ascii"))
            assert isinstance(step, sasl.Done)
            if isinstance(step.evidence, sasl.PlainPassword) and not step.authzid:
                sender = await logins.password(step.authcid, step.evidence.password, SERVICE, channel)
            else:
                sender = await logins.proven(step, SERVICE, channel)
        except sasl.SaslMalformed as error:
            return self._fail(Reply(501, str(error), "5.5.2"))
        except sasl.SaslRefused as error:
            try:
                await logins.refuse(self._name, SERVICE, channel)
            except LoginRefused as refusal:
                return self._fail(Reply(535, refusal.text, "5.7.8"))
            return self._fail(Reply(535, str(error), "5.7.8"))
        except LoginRefused as refusal:
            if refusal.temporary:
                return self._fail(Reply(454, refusal.text, "4.7.0"))
            return self._fail(Reply(535, refusal.text, "5.7.8"))
        self.sender, self._mechanism = sender, None
        return _WELCOME

    def _fail(self, reply: Reply) -> Reply:
        self._mechanism = None
        self.failures += 1
        return reply
