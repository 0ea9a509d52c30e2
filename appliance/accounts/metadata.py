"""Annotations of mailboxes and of the account, as IMAP METADATA has them (RFC 5464): entry names and values.

Entries begin with `/shared/` (everybody sees the same) or `/private/` (each user has his own). They are kept in
`account.info`: those of a mailbox with it, so they follow a rename and go with a deletion; those of the account (the empty
mailbox name) as an element of their own. Names are compared without regard to case. Values are bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

from appliance.accounts.acl import rights_of
from appliance.accounts.client import AccountError
from appliance.accounts.session import Session
from appliance.accounts.state import State
from appliance.formats.data import Value

__all__ = ["MAX_ENTRIES", "MAX_VALUE", "metadata", "set_metadata"]

MAX_VALUE: Final = 8192
"""Octets of one value."""
MAX_ENTRIES: Final = 64
"""Entries of one mailbox that one user sees."""
MAX_ALL: Final = 1024
"""Entries of one mailbox of all users."""
MAX_NAME: Final = 250

_ACCOUNT: Final = "Metadata"
_PRIVATE: Final = "/private/"
_SHARED: Final = "/shared/"
_ENTRY: Final = re.compile(r"/(?:private|shared)(?:/[!-$&-),-.0-~]+)+")
_BINARY: Final = "base64,"


def _encoded(value: bytes) -> str:
    """As it stands in the file: a text as itself."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    plain = text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable() and not text.startswith(_BINARY)
    if plain and (text or not value):
        return text
    return _BINARY + base64.b64encode(value).decode("ascii")


def _decoded(text: str) -> bytes:
    if text.startswith(_BINARY):
        try:
            return base64.b64decode(text[len(_BINARY) :], validate=True)
        except (binascii.Error, ValueError):
            return b""
    return text.encode("utf-8", "surrogateescape")


def _key(session: Session, entry: str) -> str:
    """Where an entry of this user is kept."""
    return f"{session.who}{entry}" if session.who is not None and entry.startswith(_PRIVATE) else entry


def _held(state: State, session: Session, name: str, *, write: bool) -> dict[str, str]:
    """The entries of a mailbox or of the account. NONEXISTENT, NOPERM."""
    if not name:
        if session.who is not None:
            raise AccountError("NOPERM", "You do not have the right to do this")
        found = state.info.values.get(_ACCOUNT)
        return {key: text for key, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}
    box = state.find(name)
    rights = rights_of(state, session, box)
    if "l" not in rights:
        raise AccountError("NONEXISTENT", "There is no such mailbox")
    if not set(rights) & set("rswip") or (write and not set(rights) & set("swipd")):
        raise AccountError("NOPERM", "You do not have the right to do this")
    return box.info.metadata


async def metadata(state: State, session: Session, name: str) -> dict[str, bytes]:
    """All entries of the mailbox that the session may see, by their names in small letters; "" is the account."""
    held = _held(state, session, name, write=False)
    mine = _key(session, _PRIVATE)
    told = {}
    for key, text in held.items():
        if key.startswith(_SHARED):
            told[key] = _decoded(text)
        elif key.startswith(mine):
            told[key[len(mine) - len(_PRIVATE) :]] = _decoded(text)
    return told


async def set_metadata(state: State, session: Session, name: str, changes: Mapping[str, bytes | None]) -> None:
    """Set entries, or take those away whose value is None: all or none, durable. CANNOT for what is no entry name, LIMIT."""
    held = _held(state, session, name, write=True)
    after = dict(held)
    for entry, value in changes.items():
        entry = entry.lower()
        if len(entry) > MAX_NAME or not _ENTRY.fullmatch(entry):
            raise AccountError("CANNOT", "There cannot be an entry of this name")
        if entry.startswith(_SHARED) and not name:
            raise AccountError("NOPERM", "The server's entries are not yours to change")
        if (
            entry.startswith(_SHARED)
            and session.who is not None
            and "w" not in rights_of(state, session, state.find(name))
        ):
            raise AccountError("NOPERM", "You do not have the right to do this")
        if value is None:
            after.pop(_key(session, entry), None)
        elif len(value) > MAX_VALUE:
            raise AccountError("LIMIT", "The value is too large")
        else:
            after[_key(session, entry)] = _encoded(value)
    mine = _key(session, _PRIVATE)
    if len(after) > MAX_ALL or sum(key.startswith((mine, _SHARED)) for key in after) > MAX_ENTRIES:
        raise AccountError("LIMIT", "There are too many entries")
    if after == held:
        return
    if name:
        box = state.find(name)
        await state.ensure(box, modseqs=1)
        box.next_modseq()  # RFC 7162, 3.2
        box.info.metadata = after
        state.publish(box)
    elif after:
        values: dict[str, Value] = dict(after)
        state.info.values[_ACCOUNT] = values
    else:
        state.info.values.pop(_ACCOUNT, None)
    await state.save_info()
