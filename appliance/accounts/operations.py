"""The operations of this room: mailboxes, subscriptions, account information, closing an account (manual, chapter 16)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from appliance.accounts import naming, shared
from appliance.accounts.acl import acl, changed, need, rights_of, stored
from appliance.accounts.client import AccountError
from appliance.accounts.gate import Accounts
from appliance.accounts.login import Logins
from appliance.accounts.session import Session
from appliance.accounts.state import State
from appliance.formats.data import Value
from appliance.formats.dates import format_gmt, from_epoch
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.sessions import Sessions
from appliance.objects.domains import Domains
from appliance.protocols.imap.names import ListPattern

__all__ = ["declare"]

_T = TypeVar("_T")
MAILBOXES: Final = "Mailbox administration"
ACCOUNTS: Final = "Account administration"
_CODES: Final = {"NONEXISTENT": 524, "ALREADYEXISTS": 525, "LIMIT": 526, "OVERQUOTA": 526, "INUSE": 527}


def box_information(state: State, name: str) -> dict[str, Value]:
    """What GETMAILBOXINFO tells of a mailbox."""
    box = state.find(name)
    info = box.info
    told: dict[str, Value] = {
        "UIDValidity": str(info.validity),
        "UIDNext": str(box.uidnext),
        "Messages": str(info.messages),
        "Unseen": str(info.unseen),
        "Size": str(info.size),
        "Class": box.store.path.rpartition(".")[2],
    }
    if info.messages:
        told["Oldest"] = format_gmt(from_epoch(info.oldest))
    return told


async def _listing(state: State, session: Session, pattern: str) -> dict[str, Value]:
    try:
        wanted = ListPattern(pattern)
    except ValueError:
        raise AccountError("BADNAME", "the filter has too many wildcards") from None
    result: dict[str, Value] = {}
    for name, selectable, children, _ in naming.listing(state, session):
        if not wanted.matches(name):
            continue
        if not selectable:
            result[name] = []
            continue
        may_read = "r" in rights_of(state, session, state.boxes[name])
        told: Value = box_information(state, name) if may_read else []
        result[name] = [told] if children or name in state.folders else told
    return result


class _Room:
    """Runs work in accounts and turns their errors into those of operations."""

    def __init__(self, accounts: Accounts, domains: Domains) -> None:
        self.accounts = accounts
        self.domains = domains

    async def session(self, caller: Caller, account_name: str, auth: str) -> Session:
        """The owner's session, or that of the account named by AUTH with the rights it has."""
        if not auth:
            return Session()
        account = await self.domains.require_account(account_name)
        other = await self.domains.require_account(auth if "@" in auth else f"{auth}@{caller.domain}")
        acting = Caller(other.full_name, other.domain.name, caller.protocol, self.domains)
        owner = other is account or acting.has(Right.ACCESS_MAILBOXES, account.domain.name)
        return Session(None if owner else other.full_name)

    async def work(self, name: str, work: Callable[[State], Awaitable[_T]]) -> _T:
        account = await self.domains.require_account(name)
        try:
            return await self.accounts.with_state(account, work)
        except AccountError as error:
            raise OperationError(error.text, _CODES.get(error.code, 501)) from None


def declare(accounts: Accounts, domains: Domains, logins: Logins, sessions: Sessions, operations: Operations) -> None:
    """Declare them."""
    room = _Room(accounts, domains)
    mailbox = partial(operations.declare, right=Right.ACCESS_MAILBOXES, of="accountName", own=True, section=MAILBOXES)

    @mailbox(
        "LISTMAILBOXES accountName [FILTER filter] [AUTH authAccountName]",
        short=("lstmbx",),
        summary="Lists mailboxes; the filter has the wildcards of IMAP.",
        result="dictionary with mailbox names as keys",
    )
    async def list_mailboxes(
        caller: Caller, account_name: str, filter: str = "*", auth_account_name: str = ""
    ) -> Value:
        session = await room.session(caller, account_name, auth_account_name)
        return await room.work(account_name, lambda state: _listing(state, session, filter))

    @mailbox("CREATEMAILBOX accountName MAILBOX mailboxName [AUTH authAccountName]", summary="Creates a mailbox.")
    async def create_mailbox(caller: Caller, account_name: str, mailbox_name: str, auth_account_name: str = "") -> None:
        session = await room.session(caller, account_name, auth_account_name)
        await room.work(account_name, lambda state: naming.create(state, session, mailbox_name))

    @mailbox(
        "DELETEMAILBOX accountName what=MAILBOX|MAILBOXES mailboxName [AUTH authAccountName]",
        summary="Deletes a mailbox, with MAILBOXES also all that lie below it.",
    )
    async def delete_mailbox(
        caller: Caller, account_name: str, what: str, mailbox_name: str, auth_account_name: str = ""
    ) -> None:
        session = await room.session(caller, account_name, auth_account_name)
        subtree = what.upper() == "MAILBOXES"
        await room.work(account_name, lambda state: naming.delete(state, session, mailbox_name, subtree))

    @mailbox(
        "RENAMEMAILBOX accountName what=MAILBOX|MAILBOXES mailboxName INTO newName [AUTH authAccountName]",
        summary="Renames a mailbox, with MAILBOXES also all that lie below it.",
    )
    async def rename_mailbox(
        caller: Caller, account_name: str, what: str, mailbox_name: str, new_name: str, auth_account_name: str = ""
    ) -> None:
        session = await room.session(caller, account_name, auth_account_name)
        subtree = what.upper() == "MAILBOXES"
        await room.work(account_name, lambda state: naming.rename(state, session, mailbox_name, new_name, subtree))

    @mailbox(
        "GETMAILBOXINFO accountName MAILBOX mailboxName [AUTH authAccountName]",
        summary="Tells counts, sizes and numbers of a mailbox.",
        result="dictionary",
    )
    async def get_mailbox_info(
        caller: Caller, account_name: str, mailbox_name: str, auth_account_name: str = ""
    ) -> Value:
        session = await room.session(caller, account_name, auth_account_name)

        async def work(state: State) -> dict[str, Value]:
            need(state, session, state.find(mailbox_name), "r")
            return box_information(state, mailbox_name)

        return await room.work(account_name, work)

    @mailbox(
        "GETMAILBOXACL accountName MAILBOX mailboxName [AUTH authAccountName]",
        summary="Tells the access control list of a mailbox.",
        result="dictionary of names and rights",
    )
    async def get_acl(caller: Caller, account_name: str, mailbox_name: str, auth_account_name: str = "") -> Value:
        session = await room.session(caller, account_name, auth_account_name)
        return dict(await room.work(account_name, lambda state: acl(state, session, mailbox_name)))

    @mailbox(
        "SETMAILBOXACL accountName MAILBOX mailboxName [AUTH authAccountName] newACL{}",
        summary="Changes the access control list of a mailbox: rights with + in front are added, with - taken away.",
    )
    async def change_acl(
        caller: Caller,
        account_name: str,
        mailbox_name: str,
        new_acl: dict[str, Value],
        auth_account_name: str = "",
    ) -> None:
        session = await room.session(caller, account_name, auth_account_name)

        async def work(state: State) -> None:
            box = state.find(mailbox_name)
            need(state, session, box, "a")
            after = box.info.acl
            for name, rights in new_acl.items():
                if not isinstance(rights, str):
                    raise AccountError("CANNOT", "Rights are a string")
                mode = rights[0] if rights[:1] in ("+", "-") else "="
                after = changed(state, after, name, mode, rights.lstrip("+-"))
            box.info.acl = after
            await state.save_info()

        await room.work(account_name, work)

    @mailbox(
        "GETMAILBOXRIGHTS accountName MAILBOX mailboxName AUTH authAccountName",
        summary="Tells what an account may do in a mailbox.",
        result="string of rights",
    )
    async def get_rights(caller: Caller, account_name: str, mailbox_name: str, auth_account_name: str) -> Value:
        session = await room.session(caller, account_name, auth_account_name)

        async def work(state: State) -> str:
            return stored(rights_of(state, session, state.find(mailbox_name)))

        return await room.work(account_name, work)

    @mailbox("GETACCOUNTSUBSCRIPTION accountName", summary="Tells the subscription list.", result="array")
    async def get_subscription(caller: Caller, account_name: str) -> Value:
        del caller
        return list(await room.work(account_name, lambda state: naming.subscriptions(state, Session())))

    @mailbox("SETACCOUNTSUBSCRIPTION accountName newSubscription()", summary="Sets the subscription list.")
    async def set_subscription(caller: Caller, account_name: str, new_subscription: list[Any]) -> None:
        del caller
        wanted = [name for name in new_subscription if isinstance(name, str)]
        await room.work(account_name, lambda state: naming.set_subscription(state, Session(), wanted))

    @mailbox(
        "GETMAILBOXALIASES accountName",
        summary="Tells the mailbox aliases.",
        result="dictionary of names and mailboxes",
    )
    async def get_aliases(caller: Caller, account_name: str) -> Value:
        del caller
        return dict(await room.work(account_name, lambda state: shared.aliases(state, Session())))

    @mailbox("SETMAILBOXALIASES accountName newAliases{}", summary="Sets the mailbox aliases.")
    async def set_aliases(caller: Caller, account_name: str, new_aliases: dict[str, Value]) -> None:
        del caller
        wanted = {name: target for name, target in new_aliases.items() if isinstance(target, str)}
        if len(wanted) != len(new_aliases):
            raise OperationError("A mailbox alias stands for one mailbox")
        await room.work(account_name, lambda state: shared.set_aliases(state, Session(), wanted))

    @operations.declare(
        "GetAccountInfo accountName KEY keyName",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        short=("gtacntinf",),
        summary="Tells an element of the account's information, for example LastLogin.",
        result="the element, an empty string if there is none",
    )
    async def get_account_info(caller: Caller, account_name: str, key_name: str) -> Value:
        del caller

        async def work(state: State) -> Value:
            if key_name == "StorageUsed":
                return str(state.used)
            return state.info.values.get("#" + key_name, "")

        return await room.work(account_name, work)

    @operations.declare(
        "KillAccountSessions accountName",
        right=Right.DOMAIN,
        of="accountName",
        section=ACCOUNTS,
        summary="Ends all sessions of an account and closes it.",
    )
    async def kill_sessions(caller: Caller, account_name: str) -> None:
        del caller
        account = await domains.require_account(account_name)
        for session in sessions.of_account(account.full_name):
            session.kick("closed by an administrator")
        await accounts.close(account)
