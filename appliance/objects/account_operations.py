"""The operations on accounts (manual, chapter 16, Account Administration)."""

from __future__ import annotations

from appliance.formats.data import Value
from appliance.kernel.operations import SERVER_RIGHTS, Caller, OperationError, Operations, Right
from appliance.objects import declarations as d
from appliance.objects.acts import change, granted, strings, visible
from appliance.objects.domain import MAILDIR, Account
from appliance.objects.domains import Domains
from appliance.objects.names import split_name

ACCOUNTS = "Accounts"
_PREFERENCES = 20


def declare(domains: Domains, operations: Operations) -> None:
    declare = operations.declare

    @declare(
        "ListAccounts [domainName]",
        right=Right.DOMAIN,
        of="domainName",
        short=("lstacnt",),
        section=ACCOUNTS,
        summary="Lists the accounts of a domain.",
        result="dictionary with the account names as keys",
    )
    async def list_accounts(caller: Caller, domain_name: str) -> Value:
        del caller
        return {account.name: account.kind for account in domains.require(domain_name).accounts()}

    @declare(
        "CreateAccount accountName [accountType=MultiMailbox|TextMailbox|MailDirMailbox] [EXTERNAL] [settings{}]",
        right=Right.CREATE_ACCOUNTS,
        of="accountName",
        short=("cracnt",),
        section=ACCOUNTS,
        summary="Creates an account.",
    )
    async def create_account(
        caller: Caller,
        account_name: str,
        account_type: str = "MultiMailbox",
        external: bool = False,
        settings: dict[str, Value] | None = None,
    ) -> None:
        local, name = split_name(account_name, caller.domain)
        domain = domains.require(name)
        values = granted(domains, caller, domain.account_defaults, settings or {})
        if external:
            if not domain.settings[d.EXTERNAL_LOCATION]:
                raise OperationError("No external INBOX location is set for this domain")
            if account_type == MAILDIR:
                raise OperationError("An external INBOX is a text mailbox")
            values = {**(values or {}), d.EXTERNAL_INBOX.key: "YES"}
        await domains.create_account(domain, local, account_type, values)

    @declare(
        "RenameAccount oldAccountName INTO newAccountName",
        right=Right.CREATE_ACCOUNTS,
        of="oldAccountName",
        short=("rnacnt",),
        section=ACCOUNTS,
        summary="Renames an account; the new name may be in another domain.",
    )
    async def rename_account(caller: Caller, old_account_name: str, new_account_name: str) -> None:
        account = await domains.require_account(old_account_name)
        _, new_domain = split_name(new_account_name, account.domain.name)
        caller.require(Right.CREATE_ACCOUNTS, domains.require(new_domain).name)
        await domains.rename_account(account, new_account_name)

    @declare(
        "DeleteAccount oldAccountName",
        right=Right.CREATE_ACCOUNTS,
        of="oldAccountName",
        short=("dlacnt",),
        section=ACCOUNTS,
        summary="Removes an account with all that it holds.",
    )
    async def delete_account(caller: Caller, old_account_name: str) -> None:
        account = await domains.require_account(old_account_name)
        if account.full_name == caller.account:
            raise OperationError("You cannot remove your own account")
        await domains.remove_account(account)

    @declare(
        "GetAccountSettings accountName",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        short=("GetAccount", "gtacnt"),
        section=ACCOUNTS,
        summary="The settings that are set for the account itself.",
        result="dictionary",
    )
    async def get_account_settings(caller: Caller, account_name: str) -> Value:
        account = await domains.require_account(account_name)
        return visible(caller, account.settings.stored(), account.domain.name)

    @declare(
        "GetAccountEffectiveSettings accountName",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        summary="The settings with inherited values.",
        result="dictionary",
    )
    async def get_account_effective_settings(caller: Caller, account_name: str) -> Value:
        account = await domains.require_account(account_name)
        return visible(caller, {**account.settings.stored(), **account.settings.effective()}, account.domain.name)

    @declare(
        "UpdateAccountSettings accountName newSettings{}",
        right=Right.DOMAIN,
        of="accountName",
        short=("UpdateAccount", "updacnt"),
        section=ACCOUNTS,
        summary="Changes the named settings; 'default' removes one.",
    )
    async def update_account_settings(caller: Caller, account_name: str, new_settings: dict[str, Value]) -> None:
        account = await domains.require_account(account_name)
        values = granted(domains, caller, account.settings, new_settings)
        await domains.update_account(account, values)

    @declare(
        "SetAccountSettings accountName newSettings{}",
        right=Right.DOMAINS,
        of="accountName",
        short=("SetAccount", "stacnt"),
        section=ACCOUNTS,
        summary="Replaces all settings of the account.",
    )
    async def set_account_settings(caller: Caller, account_name: str, new_settings: dict[str, Value]) -> None:
        del caller
        await domains.update_account(await domains.require_account(account_name), new_settings, replace=True)

    @declare(
        "SetAccountPassword accountName TO newPassword",
        right=Right.BASIC_SETTINGS,
        of="accountName",
        section=ACCOUNTS,
        summary="Sets the password.",
    )
    async def set_account_password(caller: Caller, account_name: str, new_password: str) -> None:
        del caller
        await domains.set_password(await domains.require_account(account_name), new_password)

    @declare(
        "VerifyAccountPassword accountName PASSWORD password",
        right=Right.DOMAIN,
        of="accountName",
        section=ACCOUNTS,
        summary="Checks a password.",
    )
    async def verify_account_password(caller: Caller, account_name: str, password: str) -> None:
        del caller
        account = await domains.require_account(account_name)
        if not await domains.verify(account, password):
            raise OperationError("The password is wrong", 500)

    @declare(
        "GetWebAdminPreferences",
        right=None,
        section=ACCOUNTS,
        summary="What one prefers to see on the WebAdmin pages, realm by realm.",
        result="dictionary",
    )
    async def get_preferences(caller: Caller) -> Value:
        if caller.account is None:
            return {}
        account = await domains.require_account(caller.account)
        return dict(account.settings[d.PREFERENCES])

    @declare(
        "SetWebAdminPreferences realm newPreferences{}",
        right=None,
        section=ACCOUNTS,
        summary="Sets one's own preferences for a realm of the WebAdmin pages.",
    )
    async def set_preferences(caller: Caller, realm: str, new_preferences: dict[str, Value]) -> None:
        if caller.account is None:
            raise OperationError("Preferences belong to an account")
        account = await domains.require_account(caller.account)
        known = {**account.settings[d.PREFERENCES], realm: new_preferences}
        if len(known) > _PREFERENCES or len(new_preferences) > _PREFERENCES:
            raise OperationError("There are not so many preferences")
        await change(account.settings, {d.PREFERENCES.key: known}, replace=False)

    @declare(
        "GetAccountAliases accountName",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        short=("gtacntals",),
        section=ACCOUNTS,
        summary="The aliases of an account.",
        result="array",
    )
    async def get_account_aliases(caller: Caller, account_name: str) -> Value:
        del caller
        account = await domains.require_account(account_name)
        return list(account.domain.aliases_of(account))

    @declare(
        "SetAccountAliases accountName newAliases()",
        right=Right.CREATE_ALIASES,
        of="accountName",
        short=("stacntals",),
        section=ACCOUNTS,
        summary="Replaces the aliases of an account.",
    )
    async def set_account_aliases(caller: Caller, account_name: str, new_aliases: list[Value]) -> None:
        del caller
        await domains.set_aliases(await domains.require_account(account_name), strings(new_aliases, "newAliases"))

    @declare(
        "GetAccountRights accountName",
        right=Right.DOMAIN,
        of="accountName",
        short=("gtacntrght",),
        section=ACCOUNTS,
        summary="The access rights of an account.",
        result="array of codes",
    )
    async def get_account_rights(caller: Caller, account_name: str) -> Value:
        del caller
        account = await domains.require_account(account_name)
        return list(account.domain.access.get(account.name, []))

    @declare(
        "SetAccountRights accountName newRights()",
        right=Right.DOMAINS,
        of="accountName",
        short=("stacntrght",),
        section=ACCOUNTS,
        summary="Replaces the access rights of an account.",
    )
    async def set_account_rights(caller: Caller, account_name: str, new_rights: list[Value]) -> None:
        account = await domains.require_account(account_name)
        codes = strings(new_rights, "newRights")
        old = account.domain.access.get(account.name, [])
        # Server rights are given and taken by the unlimited right only (manual, chapter 8).
        if {str(c) for c in SERVER_RIGHTS} & (set(codes) ^ set(old)):
            caller.require(Right.MASTER)
        await domains.set_rights(account, codes)

    @declare(
        "GetAccountLocation accountName",
        right=Right.DOMAINS,
        of="accountName",
        section=ACCOUNTS,
        summary="Where the account lies, relative to its domain's directory.",
        result="string",
    )
    async def get_account_location(caller: Caller, account_name: str) -> Value:
        del caller
        account: Account = await domains.require_account(account_name)
        suffix = {"TextMailbox": ".mbox", "MailDirMailbox": ".mdir"}.get(account.kind, "")
        return account.place + suffix
