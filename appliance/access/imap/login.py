"""STARTTLS, LOGIN, AUTHENTICATE (RFC 3501, 6.2; RFC 4959; referrals of RFC 2221)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.access.imap.capabilities import methods
from appliance.access.imap.gate import Login, LoginRefused
from appliance.access.imap.session import MAX_FAILURES, SERVICE, Ok, Refused
from appliance.access.imap.settings import IDLE_TIMEOUT
from appliance.protocols import sasl
from appliance.protocols.imap import Bad, Cancelled, Command, Response, render
from appliance.protocols.imap.authentication import Authenticate
from appliance.protocols.imap.authentication import Login as LoginArguments

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession


async def starttls(session: ImapSession, command: Command) -> Ok:
    channel = session.channel
    if channel.encrypted:
        raise Refused("TLS is on already", bad=True)
    if not channel.can_start_tls:
        raise Refused("TLS is not available here")
    if session.server.buffered:
        # What came in the clear must not count as said inside TLS (RFC 3501, 6.2.1).
        session.over = True
        raise Refused("commands were sent before TLS had started", bad=True)
    session.put(render.ok(command.tag, "begin TLS"))
    await session.flush()
    await channel.start_tls()
    return Ok("", updates=False)


async def login(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, LoginArguments)
    if not session.clear_allowed:
        raise Refused(session.around.strings.text("IMAPSecureOnly"), b"PRIVACYREQUIRED")
    try:
        granted = await session.around.logins.password(arguments.user, arguments.password, SERVICE, session.channel)
    except LoginRefused as error:
        raise _refused(session, error) from None
    return await _granted(session, granted)


async def authenticate(session: ImapSession, command: Command) -> Ok:
    arguments = command.arguments
    assert isinstance(arguments, Authenticate)
    around = session.around
    unique = around.unique()
    mechanism = sasl.server_mechanism(
        arguments.mechanism,
        challenge=f"<{unique}@{around.host()}>".encode(),
        nonce=unique.encode("ascii"),
        realm=around.host(),
        service="imap",
    )
    if mechanism is None:
        raise Refused("the authentication method is not supported", b"CANNOT")
    if arguments.mechanism not in methods(session, hidden=True):
        if arguments.mechanism in sasl.CLEAR_METHODS:
            raise Refused(around.strings.text("IMAPSecureOnly"), b"PRIVACYREQUIRED")
        raise Refused("the authentication method is not supported", b"CANNOT")
    claimed = ""
    try:
        step = mechanism.step(arguments.initial)
        while not isinstance(step, sasl.Done):
            if isinstance(step, sasl.Lookup):
                claimed = step.authcid
                step = mechanism.keys(await around.logins.keys(step.authcid, step.method, session.channel))
                continue
            session.put(session.server.challenge(step.data))
            event = await session.next_event()
            if isinstance(event, Cancelled):
                raise Refused("authentication was cancelled", bad=True)
            if not isinstance(event, Response):
                session.over = event is None
                raise Refused(event.text if isinstance(event, Bad) else "no response", bad=True)
            step = mechanism.step(event.data)
        granted = await around.logins.proven(step, SERVICE, session.channel)
        if isinstance(step.evidence, sasl.DigestMd5Proof):
            await _reply(session, step.evidence.reply, granted)
    except LoginRefused as error:
        raise _refused(session, error) from None
    except sasl.SaslRefused:
        raise await _disproved(session, claimed) from None
    except sasl.SaslError as error:
        raise Refused(str(error), bad=True) from None
    return await _granted(session, granted)


async def _reply(session: ImapSession, proof: bytes, granted: Login) -> None:
    """The server's own proof, to which the client says nothing (RFC 2831, 2.1.3)."""
    session.put(session.server.challenge(proof))
    event = await session.next_event()
    if not isinstance(event, Response) or event.data:
        await granted.session.aclose()
        session.over = event is None
        raise Refused("authentication was cancelled", bad=True)


async def _disproved(session: ImapSession, name: str) -> Refused:
    """The mechanism itself found the proof wrong: the same as a wrong password, its pause included."""
    try:
        await session.around.logins.refuse(name, SERVICE, session.channel)
    except LoginRefused as error:
        return _refused(session, error)
    return _refused(session, LoginRefused(session.around.strings.text("IMAPIncorrect")))


def _refused(session: ImapSession, error: LoginRefused) -> Refused:
    if "@" in error.referral:
        user, _, host = error.referral.rpartition("@")
        url = f"IMAP://{_url(user)};AUTH=*@{_url(host)}/".encode("ascii")
        return Refused(session.around.strings.text("IMAPMoved"), b"REFERRAL " + url)
    session.failures += 1
    session.around.statistics.counter("imap.failures").add()
    if session.failures >= MAX_FAILURES:
        session.put(render.bye(session.around.strings.text("IMAPTooManyFailures")))
        session.over = True
    return Refused(error.text, b"UNAVAILABLE" if error.temporary else b"AUTHENTICATIONFAILED")


def _url(text: str) -> str:
    """An encoded user or host of an IMAP URL (RFC 2192, 3)."""
    from urllib.parse import quote

    return quote(text, safe="&=~.-_$+!*'(),")


async def _granted(session: ImapSession, granted: Login) -> Ok:
    """The password was right: alerts, then the positive answer."""
    account = session.account = granted.session
    session.server.authenticated()
    session.channel.timeout = session.around.settings[IDLE_TIMEOUT]
    session.alerts = session.around.notices.subscribe(("alert", account.name), ("account", account.name))
    if session.channel.session is not None:
        session.channel.session.account = account.name
    session.around.statistics.counter("imap.logins").add()
    session.log.major("%s logged in from [%s]", account.name, session.channel.peer.address)
    await session.tell_alerts()
    return Ok("logged in", b"CAPABILITY " + session.capabilities().encode("ascii"))
