"""What is announced, and the commands of any state: CAPABILITY, NOOP, LOGOUT, ID, ENABLE (RFC 3501, 6.1; RFC 2971; RFC 5161)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.access.imap.deflate import Deflate
from appliance.access.imap.session import Ok, Refused
from appliance.access.imap.settings import MAX_APPEND
from appliance.protocols import sasl
from appliance.protocols.imap import Command, render
from appliance.protocols.imap.commands import Compress, Enable, Identity

if TYPE_CHECKING:
    from appliance.access.imap.session import ImapSession

BASE: Final = "IMAP4rev1 IMAP4rev2 IMAP4 LITERAL+ SASL-IR ID ENABLE LOGIN-REFERRALS"
LOGGED_IN: Final = (
    "NAMESPACE IDLE UIDPLUS UNSELECT MOVE CHILDREN MULTIAPPEND UTF8=ACCEPT ACL RIGHTS=kxte QUOTA QUOTA=RES-STORAGE "
    "QUOTA=RES-MAILBOX ESEARCH SEARCHRES WITHIN PARTIAL SORT SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES "
    "LIST-EXTENDED LIST-STATUS LIST-MYRIGHTS SPECIAL-USE CREATE-SPECIAL-USE STATUS=SIZE CONDSTORE QRESYNC BINARY CATENATE "
    "REPLACE METADATA NOTIFY OBJECTID PREVIEW COMPRESS=DEFLATE INPROGRESS X-INTERNALSIZE"
)
_ENABLED: Final = {
    "CONDSTORE": "CONDSTORE",
    "QRESYNC": "QRESYNC",
    "UTF8=ACCEPT": "UTF8=ACCEPT",
    "IMAP4REV2": "IMAP4rev2",
}


def methods(session: ImapSession, *, hidden: bool = False) -> tuple[str, ...]:
    """The SASL methods worth offering here and now, strongest first. `hidden`: also those that are not to be announced, and
    are served all the same (manual, Login Security)."""
    clear = sasl.CLEAR_METHODS if session.clear_allowed else ()
    if not (hidden or session.around.advertise_secure()):
        return clear
    secure = (*sasl.SECURE_METHODS, "DIGEST-MD5") if session.around.digests() else ("SCRAM-SHA-256",)
    return (*secure, *clear)


def capabilities(session: ImapSession) -> str:
    """Before log-in also how to log in; LOGINDISABLED where a password would travel in the clear (RFC 3501, 6.2.3)."""
    limit = session.around.settings[MAX_APPEND]
    limited = "APPENDLIMIT" if limit is None else f"APPENDLIMIT={limit}"
    if session.account is not None:
        return f"{BASE} {LOGGED_IN} {limited}"
    words = [BASE]
    if session.channel.can_start_tls:
        words.append("STARTTLS")
    if not session.clear_allowed:
        words.append("LOGINDISABLED")
    return " ".join([*words, *(f"AUTH={name}" for name in methods(session)), LOGGED_IN, limited])


async def capability(session: ImapSession, command: Command) -> Ok:
    session.put(render.capability([session.capabilities()]))
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
    known = [name for name in dict.fromkeys(arguments.names) if name in _ENABLED]
    fresh = [name for name in known if name not in session.enabled]
    if "CONDSTORE" in known or "QRESYNC" in known:
        session.enable_condstore()
    session.enabled.update(known)
    if session.selected is not None:
        session.selected.qresync = "QRESYNC" in session.enabled
        if session.rev2:
            session.selected.speak_rev2()
    if "UTF8=ACCEPT" in known or "IMAP4REV2" in known:
        session.server.utf8 = True
    session.put(render.enabled([_ENABLED[name] for name in fresh]))
    return Ok("ENABLE completed")


async def compress(session: ImapSession, command: Command) -> Ok:
    """The tagged OK is the last that goes out as it is (RFC 4978, 3)."""
    arguments = command.arguments
    assert isinstance(arguments, Compress)
    if session.deflate is not None:
        raise Refused("compression is on already", b"COMPRESSIONACTIVE")
    if arguments.algorithm != "DEFLATE":
        raise Refused("the algorithm is not known", bad=True)
    if session.server.buffered:
        session.over = True
        raise Refused("commands were sent before the compression began", bad=True)
    await session.tell(expunge=True)
    session.put(render.ok(command.tag, "compression is on"))
    await session.flush()
    session.deflate = Deflate()
    return Ok("", updates=False)
