"""Access control lists of mailboxes (manual, chapter 23; RFC 4314).

An element is a name and rights. The stored rights are the manual's nine letters, l r s w i p c d a; today's k and x are c,
t and e are d. Effective rights of somebody are those of `anyone` and of his name, without those of `-name`. The owner, and
who may act as the owner, has all of them, whatever the list says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.accounts.box import Box
from appliance.accounts.client import AccountError
from appliance.accounts.session import OWNER, Session
from appliance.accounts.state import State
from appliance.mailstore import names
from appliance.mailstore.flags import DELETED, SEEN

__all__ = ["acl", "allowed_flags", "changed", "effective", "my_rights", "need", "need_outer", "rights_of", "set_acl"]

LETTERS: Final = "lrswipcda"
_TODAY: Final = {"k": "c", "x": "c", "t": "d", "e": "d"}
_SHOWN: Final = {"c": "ckx", "d": "dte"}
ANYONE: Final = "anyone"
MAX_ELEMENTS: Final = 1000
MAX_NAME: Final = 320


def stored(rights: str) -> str:
    """Rights in their stored letters and order. CANNOT for others."""
    known = {_TODAY.get(letter, letter) for letter in rights}
    if known - set(LETTERS):
        raise AccountError("CANNOT", "There is no such right")
    return "".join(letter for letter in LETTERS if letter in known)


def shown(rights: str) -> str:
    """Stored rights with today's letters beside the old ones."""
    return "".join(_SHOWN.get(letter, letter) for letter in rights)


def effective(acl: Mapping[str, str], who: str, domain: str) -> str:
    """The stored rights of `user@domain` in a mailbox of an account in `domain`."""
    who = who.lower()
    local, _, of = who.rpartition("@")
    ids = [who, local] if of == domain.lower() else [who]
    plus = set(acl.get(ANYONE, "")).union(*(acl.get(name, "") for name in ids))
    minus = set().union(*(acl.get("-" + name, "") for name in ids))
    return "".join(letter for letter in LETTERS if letter in plus - minus)


def rights_of(state: State, session: Session, box: Box) -> str:
    """What the session may do in the mailbox, in old and new letters."""
    if session.who is None:
        return OWNER
    return shown(effective(box.info.acl, session.who, state.account.domain.name))


def need(state: State, session: Session, box: Box, letter: str) -> None:
    """NOPERM without this right; NONEXISTENT for who may not even know of the mailbox."""
    if session.who is None:
        return
    rights = rights_of(state, session, box)
    if letter not in rights:
        if rights:
            raise AccountError("NOPERM", "You do not have the right to do this")
        raise AccountError("NONEXISTENT", "There is no such mailbox")


def need_outer(state: State, session: Session, name: str) -> None:
    """To make, remove or rename a mailbox one needs the right c on the outer one; at the top only the owner can."""
    if session.who is None:
        return
    outer = state.boxes.get(names.parent(name))
    if outer is None:
        raise AccountError("NOPERM", "You do not have the right to do this")
    need(state, session, outer, "c")


def allowed_flags(rights: str) -> int:
    """The flags that these rights let one change; -1 would be all."""
    bits = 0
    if "w" in rights:
        bits = ~(SEEN | DELETED)
    if "s" in rights:
        bits |= SEEN
    return bits | DELETED if "d" in rights else bits


def identifier(state: State, name: str) -> str:
    """The spelling of a name in a list: small letters, without the account's own domain. CANNOT."""
    text = name.lower().removesuffix("@" + state.account.domain.name.lower())
    bare = text.removeprefix("-")
    if not bare or len(bare) > MAX_NAME or text == "-" + ANYONE or bare.startswith("-") or not bare.isprintable():
        raise AccountError("CANNOT", "There cannot be such a name in the list")
    return text


def changed(state: State, before: Mapping[str, str], name: str, mode: str, rights: str) -> dict[str, str]:
    """The list with one element changed by `+`, `-` or `=`; an element without rights goes."""
    key, letters = identifier(state, name), stored(rights)
    old = before.get(key, "")
    if mode == "+":
        letters = stored(old + letters)
    elif mode == "-":
        letters = "".join(letter for letter in old if letter not in letters)
    after = {**before, key: letters}
    if not letters:
        del after[key]
    if len(after) > MAX_ELEMENTS:
        raise AccountError("LIMIT", "The list takes no more names")
    return after


async def acl(state: State, session: Session, name: str) -> dict[str, str]:
    box = state.find(name)
    need(state, session, box, "a")
    return dict(box.info.acl)


async def set_acl(state: State, session: Session, name: str, who: str, mode: str, rights: str) -> None:
    box = state.find(name)
    need(state, session, box, "a")
    box.info.acl = changed(state, box.info.acl, who, mode, rights)
    await state.save_info()


async def my_rights(state: State, session: Session, name: str) -> str:
    box = state.find(name)
    rights = rights_of(state, session, box)
    if not rights:
        raise AccountError("NONEXISTENT", "There is no such mailbox")
    return rights
