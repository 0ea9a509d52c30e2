"""One message on its way in: from the first octet to the reply that it is durable, by DATA or in chunks (BDAT)."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.kernel.channel import Channel
from appliance.kernel.journal import JournalError
from appliance.kernel.log import Logger
from appliance.modules.smtp.protection.devices import Device, forced_from
from appliance.modules.smtp.received import has_header, missing_header, received_field
from appliance.modules.smtp.senders import qualified
from appliance.modules.smtp.surroundings import Sender, Surroundings
from appliance.protocols.smtp import Reply, SmtpServer
from appliance.protocols.smtp import events as e
from appliance.transfer.message import Envelope, Source
from appliance.transfer.receiver import Malformed, NoSpace, Submission, TooLarge, TooManyHops


class Intake:
    """`begin`, then `write` each piece, then `end`; `abandon` at any time."""

    __slots__ = ("_account", "_around", "_channel", "_device", "_log", "_server", "_submission", "host", "messages")

    def __init__(self, around: Surroundings, channel: Channel, server: SmtpServer, log: Logger) -> None:
        self._around = around
        self._channel = channel
        self._server = server
        self._log = log
        self._submission: Submission | None = None
        self._account: str | None = None
        self._device: Device | None = None
        #: The name that this server has for the client.
        self.host = ""
        #: How many messages the session has begun.
        self.messages = 0

    def begin(
        self, mail: e.Mail, recipients: Sequence[Envelope], sender: Sender | None, device: Device | None
    ) -> Reply | None:
        """A message comes; the refusal if there is no room for it."""
        around, channel = self._around, self._channel
        self._account = account = sender.account if sender is not None else None
        self._device = device
        trusted = account is not None or channel.client or device is not None
        source = Source("SMTP", channel.peer.address, channel.local.address, account, trusted, channel.client)
        try:
            submission = around.receiver.begin(source)
        except NoSpace:
            return Reply(452, self._text("SMTPNoSpace"), "4.3.1")
        if device is not None:
            submission.sender = device.sender
        elif not mail.path.is_null:
            submission.sender = qualified(channel, mail.path.local, mail.path.domain)
        submission.ret = mail.ret.lower()
        submission.envid = mail.envid or ""
        submission.smtputf8 = mail.utf8
        for recipient in recipients:
            submission.add(recipient)
        self._submission = submission
        self.messages += 1
        return None

    async def write(self, piece: bytes) -> None:
        """A piece of it; if it cannot be taken, the rest is read and refused at the end."""
        submission = self._submission
        assert submission is not None
        if not submission.size:
            if self._device is not None:
                piece = forced_from(piece, self._device.sender)
            piece = self._trace() + (b"" if has_header(piece) else missing_header(submission.sender)) + piece
        try:
            await submission.write(piece)
        except (ValueError, NoSpace, JournalError, OSError) as error:
            self._server.refuse_message(self._refusal(error))

    async def end(self, event: e.DataEnd) -> Reply:
        """The reply to the whole message: a positive one when it is durable."""
        submission, statistics = self._submission, self._around.statistics
        try:
            if event.refusal is not None:
                self._log.problem("message refused: %s", event.refusal)
                return event.refusal
            assert submission is not None
            if not submission.size:
                await submission.write(self._trace() + missing_header(submission.sender))
            number = await submission.submit()
        except (ValueError, NoSpace, JournalError, OSError) as error:
            reply = self._refusal(error)
            self._log.problem("message refused: %s", reply)
            return reply
        finally:
            await self.abandon()
        statistics.counter("smtp.received").add()
        statistics.counter("smtp.received.bytes").add(event.size)
        statistics.counter("smtp.received.recipients").add(len(submission.recipients))
        self._log.low("[%d] received, %d bytes, from <%s>", number, event.size, submission.sender)
        return Reply(250, self._text("SMTPAccepted", number), "2.0.0")

    async def abandon(self) -> None:
        """Nothing of an unfinished message stays. Harmless without one."""
        submission, self._submission = self._submission, None
        if submission is not None:
            await submission.abandon()

    def _trace(self) -> bytes:
        submission, session = self._submission, self._channel.session
        assert submission is not None
        recipients = submission.recipients
        return received_field(
            self._channel,
            self._server,
            host=self.host,
            version=self._around.version,
            number=f"{session.number if session is not None else 0}.{self.messages}",
            account=self._account,
            recipient=recipients[0].address if len(recipients) == 1 else "",
            clock=self._around.clock,
        )

    def _text(self, key: str, *values: object) -> str:
        return self._around.strings.text(key, *values)

    def _refusal(self, error: Exception) -> Reply:
        """The reply to a message that could not be taken."""
        if isinstance(error, TooLarge):
            return Reply(552, str(error), "5.3.4")
        if isinstance(error, TooManyHops):
            return Reply(554, str(error), "5.4.6")
        if isinstance(error, Malformed):
            return Reply(554, str(error), "5.6.0")
        if isinstance(error, NoSpace):
            return Reply(452, self._text("SMTPNoSpace"), "4.3.1")
        self._log.failure("message cannot be stored: %s", error)
        return Reply(451, self._text("SMTPTrouble"), "4.3.0")
