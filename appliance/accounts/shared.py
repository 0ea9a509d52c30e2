"""Names that stand for mailboxes elsewhere: `~account/mailbox`, and the aliases of an account (manual, chapters 23 and 35).

An alias is a name of the top level that stands for a mailbox, mostly of another account, or with `~account` alone for all
mailboxes of that account. `resolved` turns any name of a client into the account that has the mailbox and its name there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.accounts.client import AccountError
from appliance.accounts.session import Session
from appliance.accounts.state import State
from appliance.formats.data import Value

__all__ = ["aliases", "resolved", "set_aliases"]

MAX_ALIASES: Final = 1000
_KEY: Final = "MailboxAliases"


def resolved(aliases: Mapping[str, str], name: str) -> tuple[str, str]:
    """The account after `~` (empty: one's own) and the mailbox there; an empty mailbox is the account as a folder. An alias
    is followed once, with what lies below it: `boss/Urgent` is `~chief/Urgent` if `boss` stands for `~chief`."""
    top, slash, rest = name.removeprefix("/").partition("/")
    target = aliases.get(top) if not top.startswith("~") else None
    if target is not None:
        name = target.rstrip("/") + slash + rest
    if not name.startswith("~"):
        return "", name
    account, _, mailbox = name[1:].partition("/")
    return account, mailbox


def known(state: State) -> dict[str, str]:
    """The aliases of the account; a mailbox of the same name comes first."""
    found = state.info.values.get(_KEY)
    if not isinstance(found, dict):
        return {}
    return {
        name: target
        for name, target in found.items()
        if isinstance(target, str) and name not in state.boxes and name not in state.folders
    }


async def aliases(state: State, session: Session) -> dict[str, str]:
    if session.who is not None:
        raise AccountError("NOPERM", "This is the owner's alone")
    return known(state)


async def set_aliases(state: State, session: Session, wanted: Mapping[str, str]) -> None:
    """Put these in place of all aliases; durable. BADNAME, ALREADYEXISTS, LIMIT."""
    if session.who is not None:
        raise AccountError("NOPERM", "This is the owner's alone")
    if len(wanted) > MAX_ALIASES:
        raise AccountError("LIMIT", "There are too many mailbox aliases")
    values: dict[str, Value] = {}
    for name, target in wanted.items():
        if "/" in name:
            raise AccountError("BADNAME", "the name of a mailbox alias has no /")
        if state.normal(name) in state.boxes or name in state.folders:
            raise AccountError("ALREADYEXISTS", f"There is a mailbox {name}")
        account, mailbox = resolved({}, target)
        if target.startswith("~") and not account:
            raise AccountError("BADNAME", "the mailbox alias stands for no account")
        if mailbox or not account:
            state.normal(mailbox)
        values[name] = target
    if values:
        state.info.values[_KEY] = values
    else:
        state.info.values.pop(_KEY, None)
    await state.save_info()
