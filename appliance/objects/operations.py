"""The administrative operations on domains, accounts, groups and forwarders (manual, chapter 16)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from appliance.formats.data import Value
from appliance.formats.passwords import verify
from appliance.kernel.operations import SERVER_RIGHTS, Caller, OperationError, Operations, Right
from appliance.kernel.settings import SettingError, Settings
from appliance.objects import declarations as d
from appliance.objects.domain import Account, Forwarder, Group
from appliance.objects.domains import NO_ACCOUNT, Domains
from appliance.objects.names import split_name

ACCOUNTS, GROUPS, FORWARDERS, DOMAINS = "Accounts", "Groups", "Forwarders", "Domains"


def _strings(values: list[Value], what: str) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise OperationError(f"{what}: an array of strings is expected", 515)
    return [str(value) for value in values]


class ObjectOperations:
    """Declares them; one instance a server."""

    def __init__(self, domains: Domains, operations: Operations) -> None:
        self.domains = domains
        self._declare_accounts(operations)
        self._declare_groups(operations)
        self._declare_domains(operations)

    def granted(self, caller: Caller, settings: Settings, values: Mapping[str, Value], domain: str) -> dict[str, Value]:
        """What of `values` the caller may set: a domain administrator only what he was granted (manual, chapter 8)."""
        if caller.has(Right.DOMAINS) or caller.account is None:
            return dict(values)
        rights = self.domains.rights(caller.account)
        allowed: dict[str, Value] = {}
        for key, value in values.items():
            setting = settings.group.find(key)
            basic = setting in (d.REAL_NAME, d.PASSWORD) and Right.BASIC_SETTINGS in rights
            if setting is not None and (basic or (setting.grantable and setting.key in rights)):
                allowed[key] = value
        del domain
        return allowed

    @staticmethod
    def _visible(caller: Caller, values: dict[str, Value], domain: str) -> dict[str, Value]:
        """Stored passwords are shown to those who may set them, never in one's own view."""
        if not caller.has(Right.DOMAINS) and not caller.has(Right.BASIC_SETTINGS, domain):
            values.pop(d.PASSWORD.key, None)
        return values

    def _group(self, name: str) -> Group:
        local, domain = split_name(name, self.domains.main.name)
        found = self.domains.require(domain).find(local)
        if not isinstance(found, Group):
            raise OperationError(f"Unknown group {name[:128]}", NO_ACCOUNT)
        return found

    def _forwarder(self, name: str) -> Forwarder:
        local, domain = split_name(name, self.domains.main.name)
        found = self.domains.require(domain).find(local)
        if not isinstance(found, Forwarder):
            raise OperationError(f"Unknown forwarder {name[:128]}", NO_ACCOUNT)
        return found

    async def _apply(self, settings: Settings, values: Mapping[str, Value], *, replace: bool) -> None:
        try:
            await (settings.replace(values) if replace else settings.update(values))
        except SettingError as error:
            raise OperationError(str(error)) from None

    def _declare_accounts(self, operations: Operations) -> None:
        domains = self.domains
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
            if external:
                raise OperationError("No external INBOX location is set for this domain")
            values = self.granted(caller, domain.account_defaults, settings or {}, domain.name)
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
            return self._visible(caller, account.settings.stored(), account.domain.name)

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
            return self._visible(
                caller, {**account.settings.stored(), **account.settings.effective()}, account.domain.name
            )

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
            values = self.granted(caller, account.settings, new_settings, account.domain.name)
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
            stored = account.settings[d.PASSWORD].reveal()
            good = bool(stored) and await trio.to_thread.run_sync(verify, stored, password, domains.server_key)
            if not good:
                raise OperationError("The password is wrong", 500)

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
            await domains.set_aliases(await domains.require_account(account_name), _strings(new_aliases, "newAliases"))

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
            codes = _strings(new_rights, "newRights")
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

    def _declare_groups(self, operations: Operations) -> None:
        domains = self.domains
        declare = operations.declare

        @declare(
            "ListGroups [domainName]",
            right=Right.DOMAIN,
            of="domainName",
            section=GROUPS,
            summary="Lists the groups.",
            result="array",
        )
        async def list_groups(caller: Caller, domain_name: str) -> Value:
            del caller
            return list(sorted(group.name for group in domains.require(domain_name).groups()))

        @declare(
            "CreateGroup groupName [settings{}]",
            right=Right.CREATE_GROUPS,
            of="groupName",
            section=GROUPS,
            summary="Creates a group.",
        )
        async def create_group(caller: Caller, group_name: str, settings: dict[str, Value] | None = None) -> None:
            local, name = split_name(group_name, caller.domain)
            await domains.create_group(domains.require(name), local, settings or {})

        @declare(
            "RenameGroup oldGroupName INTO newGroupName",
            right=Right.CREATE_GROUPS,
            of="oldGroupName",
            section=GROUPS,
            summary="Renames a group.",
        )
        async def rename_group(caller: Caller, old_group_name: str, new_group_name: str) -> None:
            del caller
            await domains.rename_group(self._group(old_group_name), new_group_name)

        @declare(
            "DeleteGroup groupName",
            right=Right.CREATE_GROUPS,
            of="groupName",
            section=GROUPS,
            summary="Removes a group.",
        )
        async def delete_group(caller: Caller, group_name: str) -> None:
            del caller
            await domains.remove_group(self._group(group_name))

        @declare(
            "GetGroup groupName",
            right=Right.DOMAIN,
            of="groupName",
            section=GROUPS,
            summary="A group's settings and members.",
            result="dictionary",
        )
        async def get_group(caller: Caller, group_name: str) -> Value:
            del caller
            return self._group(group_name).settings.stored()

        @declare(
            "SetGroup groupName newSettings{}",
            right=Right.CREATE_GROUPS,
            of="groupName",
            section=GROUPS,
            summary="Replaces a group's settings and members.",
        )
        async def set_group(caller: Caller, group_name: str, new_settings: dict[str, Value]) -> None:
            del caller
            await self._apply(self._group(group_name).settings, new_settings, replace=True)

        @declare(
            "ListForwarders [domainName]",
            right=Right.DOMAIN,
            of="domainName",
            section=FORWARDERS,
            summary="Lists the forwarders.",
            result="array",
        )
        async def list_forwarders(caller: Caller, domain_name: str) -> Value:
            del caller
            return list(sorted(f.name for f in domains.require(domain_name).forwarders()))

        @declare(
            "CreateForwarder forwarderName TO address",
            right=Right.CREATE_FORWARDERS,
            of="forwarderName",
            section=FORWARDERS,
            summary="Creates a forwarder.",
        )
        async def create_forwarder(caller: Caller, forwarder_name: str, address: str) -> None:
            local, name = split_name(forwarder_name, caller.domain)
            await domains.create_forwarder(domains.require(name), local, address)

        @declare(
            "DeleteForwarder forwarderName",
            right=Right.CREATE_FORWARDERS,
            of="forwarderName",
            section=FORWARDERS,
            summary="Removes a forwarder.",
        )
        async def delete_forwarder(caller: Caller, forwarder_name: str) -> None:
            del caller
            await domains.remove_forwarder(self._forwarder(forwarder_name))

        @declare(
            "GetForwarder forwarderName",
            right=Right.DOMAIN,
            of="forwarderName",
            section=FORWARDERS,
            summary="The address of a forwarder.",
            result="string",
        )
        async def get_forwarder(caller: Caller, forwarder_name: str) -> Value:
            del caller
            return self._forwarder(forwarder_name).target

    def _declare_domains(self, operations: Operations) -> None:
        domains = self.domains
        declare = operations.declare

        @declare(
            "ListDomains",
            right=Right.DOMAINS,
            short=("lstdmn",),
            section=DOMAINS,
            summary="Lists all domains.",
            result="array",
        )
        async def list_domains(caller: Caller) -> Value:
            del caller
            return [str(domain.name) for domain in domains]

        @declare("MainDomainName", right=None, section=DOMAINS, summary="The name of the main domain.", result="string")
        async def main_domain_name(caller: Caller) -> Value:
            del caller
            return domains.main.name

        @declare(
            "RenameMainDomain newDomainName",
            right=Right.SETTINGS,
            section=DOMAINS,
            summary="Gives the main domain another name.",
        )
        async def rename_main_domain(caller: Caller, new_domain_name: str) -> None:
            del caller
            await domains.rename_main(new_domain_name)

        @declare(
            "ListAdminDomains [domainName]",
            right=Right.DOMAIN,
            of="domainName",
            section=DOMAINS,
            summary="Lists the domains administered from a domain.",
            result="array",
        )
        async def list_admin_domains(caller: Caller, domain_name: str) -> Value:
            del caller
            name = domains.require(domain_name).name
            return list(d.name for d in domains if domains.administers(name, d.name))

        @declare(
            "CreateDomain domainName [settings{}]",
            right=Right.DOMAINS,
            short=("crdmn",),
            section=DOMAINS,
            summary="Creates a secondary domain.",
        )
        async def create_domain(caller: Caller, domain_name: str, settings: dict[str, Value] | None = None) -> None:
            del caller
            await domains.create(domain_name, settings or {})

        @declare(
            "RenameDomain oldDomainName INTO newDomainName",
            right=Right.DOMAINS,
            short=("rndmn",),
            section=DOMAINS,
            summary="Renames a secondary domain.",
        )
        async def rename_domain(caller: Caller, old_domain_name: str, new_domain_name: str) -> None:
            del caller
            await domains.rename(domains.require(old_domain_name), new_domain_name)

        @declare(
            "DeleteDomain oldDomainName [FORCE]",
            right=Right.DOMAINS,
            short=("dldmn",),
            section=DOMAINS,
            summary="Removes a domain; with FORCE also one that has accounts.",
        )
        async def delete_domain(caller: Caller, old_domain_name: str, force: bool = False) -> None:
            del caller
            await domains.remove(domains.require(old_domain_name), force=force)

        @declare(
            "GetDomainAliases domainName",
            right=Right.DOMAIN,
            of="domainName",
            short=("gtdmnals",),
            section=DOMAINS,
            summary="The aliases of a domain.",
            result="array",
        )
        async def get_domain_aliases(caller: Caller, domain_name: str) -> Value:
            del caller
            return list(domains.require(domain_name).domain_aliases)

        @declare(
            "SetDomainAliases domainName newAliases()",
            right=Right.DOMAINS,
            of="domainName",
            short=("stdmnals",),
            section=DOMAINS,
            summary="Replaces the aliases of a domain.",
        )
        async def set_domain_aliases(caller: Caller, domain_name: str, new_aliases: list[Value]) -> None:
            del caller
            await domains.set_domain_aliases(domains.require(domain_name), _strings(new_aliases, "newAliases"))

        self._declare_level(
            operations,
            "DomainSettings",
            lambda name: domains.require(name).settings,
            shorts={"get": ("GetDomain", "gtdmn"), "update": ("UpdateDomain", "upddmn"), "set": ("SetDomain",)},
            effective=True,
        )
        self._declare_level(
            operations,
            "AccountDefaults",
            lambda name: domains.require(name).account_defaults,
            shorts={"get": ("gtacndfl",), "update": ("updacndfl",), "set": ("stacndfl",)},
        )
        self._declare_level(
            operations,
            "AccountTemplate",
            lambda name: domains.require(name).template,
            shorts={"get": ("gtacntmp",), "update": ("updacntmp",), "set": ("stacntmp",)},
        )
        self._declare_server_level(
            operations,
            "DomainDefaults",
            domains.domain_defaults,
            shorts={"get": ("gtdmndfl",), "update": ("upddmndfl",), "set": ()},
        )
        self._declare_server_level(
            operations,
            "AllAccountsDefaults",
            domains.account_defaults,
            shorts={"get": ("gtalacndfl",), "update": ("updalacndfl",), "set": ()},
        )

    def _declare_level(
        self,
        operations: Operations,
        noun: str,
        level: Callable[[str], Settings],
        *,
        shorts: Mapping[str, tuple[str, ...]],
        effective: bool = False,
    ) -> None:
        """Get, Update and Set of one level of a domain."""

        @operations.declare(
            f"Get{noun} [domainName]",
            right=Right.DOMAIN,
            of="domainName",
            short=shorts["get"],
            section=DOMAINS,
            summary="The values that are set at this level.",
            result="dictionary",
        )
        async def get(caller: Caller, domain_name: str) -> Value:
            del caller
            return level(domain_name).stored()

        if effective:

            @operations.declare(
                f"Get{noun.replace('Settings', 'EffectiveSettings')} [domainName]",
                right=Right.DOMAIN,
                of="domainName",
                section=DOMAINS,
                summary="The values with inherited ones.",
                result="dictionary",
            )
            async def get_effective(caller: Caller, domain_name: str) -> Value:
                del caller
                return {**level(domain_name).stored(), **level(domain_name).effective()}

        @operations.declare(
            f"Update{noun} [domainName] newSettings{{}}",
            right=Right.DOMAIN,
            of="domainName",
            short=shorts["update"],
            section=DOMAINS,
            summary="Changes the named values; 'default' removes one.",
        )
        async def update(caller: Caller, domain_name: str, new_settings: dict[str, Value]) -> None:
            settings = level(domain_name)
            await self._apply(settings, self.granted(caller, settings, new_settings, domain_name), replace=False)

        @operations.declare(
            f"Set{noun} [domainName] newSettings{{}}",
            right=Right.DOMAINS,
            of="domainName",
            short=shorts["set"],
            section=DOMAINS,
            summary="Replaces all values of this level.",
        )
        async def replace(caller: Caller, domain_name: str, new_settings: dict[str, Value]) -> None:
            del caller
            await self._apply(level(domain_name), new_settings, replace=True)

    def _declare_server_level(
        self, operations: Operations, noun: str, settings: Settings, *, shorts: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Get, Update and Set of a server-wide default level."""

        @operations.declare(
            f"Get{noun}",
            right=Right.DOMAINS,
            short=shorts["get"],
            section=DOMAINS,
            summary="The server-wide default values.",
            result="dictionary",
        )
        async def get(caller: Caller) -> Value:
            del caller
            return settings.stored()

        @operations.declare(
            f"Update{noun} newSettings{{}}",
            right=Right.DOMAINS,
            short=shorts["update"],
            section=DOMAINS,
            summary="Changes the named server-wide defaults.",
        )
        async def update(caller: Caller, new_settings: dict[str, Value]) -> None:
            del caller
            await self._apply(settings, new_settings, replace=False)

        @operations.declare(
            f"Set{noun} newSettings{{}}",
            right=Right.DOMAINS,
            short=shorts["set"],
            section=DOMAINS,
            summary="Replaces the server-wide defaults.",
        )
        async def replace(caller: Caller, new_settings: dict[str, Value]) -> None:
            del caller
            await self._apply(settings, new_settings, replace=True)
