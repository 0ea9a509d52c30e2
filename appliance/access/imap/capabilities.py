"""What is announced, and the commands of any state: CAPABILITY, NOOP, LOGOUT, ID, ENABLE (RFC 3501, 6.1; RFC 2971; RFC 5161)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.access.imap.session import Ok
from appliance.protocols import sasl
from appliance.protocols.imap import Command, render
from appliance.protocols.imap.commands import Enable, Identity

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

BASE: Final = ("IMAP4rev1", "IMAP4", "LITERAL+", "SASL-IR", "ID", "ENABLE", "LOGIN-REFERRALS")
LOGGED_IN: Final = (
    "NAMESPACE",
    "IDLE",
    "UIDPLUS",
    "UNSELECT",
    "MOVE",
    "CHILDREN",
    "MULTIAPPEND",
    "QUOTA",
    "ESEARCH",
    "STATUS=SIZE",
    "CONDSTORE",
    "QRESYNC",
    "LIST-STATUS",
    "X-INTERNALSIZE",
)


def methods(session: ImapSession) -> tuple[str, ...]:
    """The SASL methods worth offering here and now, strongest first."""
    secure = sasl.SECURE_METHODS if session.around.digests() else ("SCRAM-SHA-256",)
    return (*secure, *(sasl.CLEAR_METHODS if session.clear_allowed else ()))


def capabilities(session: ImapSession) -> list[str]:
    """Before log-in also how to log in; LOGINDISABLED where a password would travel in the clear (RFC 3501, 6.2.3)."""
    if session.account is not None:
        return [*BASE, *LOGGED_IN]
    names = [*BASE]
    if session.channel.can_start_tls:
        names.append("STARTTLS")
    if not session.clear_allowed:
        names.append("LOGINDISABLED")
    return [*names, *(f"AUTH={name}" for name in methods(session)), *LOGGED_IN]


async def capability(session: ImapSession, command: Command) -> Ok:
    session.put(render.capability(session.capabilities()))
    return Ok("CAPABILITY completed")


async def noop(session: ImapSession, command: Command) -> Ok:
    """Also CHECK: flags are on their way to the disk in any case, and what the gate has said is durable stays."""
    return Ok(f"{command.name} completed", ask=True)


async def logout(session: ImapSession, command: Command) -> Ok:
    await session.deselect()
    session.put(render.bye(session.around.strings.text("IMAPBye")))
    session.over = True
    return Ok("LOGOUT completed", updates=False)


async def identify(session: ImapSession, command: Command) -> Ok:
    """Names of programs go to the log: they explain many a strange command."""
    arguments = command.arguments
    assert isinstance(arguments, Identity)
    if arguments.fields and session.log.enabled(4):
        session.log.low("client is %s", ", ".join(f"{name}={value}" for name, value in arguments.fields))
    session.put(render.identity([("name", "Pillarbox"), ("version", session.around.version)]))
    return Ok("ID completed")


async def enable(session: ImapSession, command: Command) -> Ok:
    """What is not known is left out of the answer (RFC 5161, 3.1)."""
    arguments = command.arguments
    assert isinstance(arguments, Enable)
    known = [name for name in dict.fromkeys(arguments.names) if name in ("CONDSTORE", "QRESYNC")]
    if known:
        session.enable_condstore()
    if "QRESYNC" in known:
        session.enabled.add("QRESYNC")
        if session.selected is not None:
            session.selected.qresync = True
    session.put(render.enabled(known))
    return Ok("ENABLE completed")
