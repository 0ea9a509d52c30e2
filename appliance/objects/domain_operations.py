"""The operations on domains and on default settings (manual, chapter 16, Domain Administration)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from appliance.formats.data import Value
from appliance.kernel.operations import Caller, Operations, Right
from appliance.kernel.settings import Settings
from appliance.objects.acts import change, granted, strings
from appliance.objects.domains import Domains

DOMAINS = "Domains"


def declare(domains: Domains, operations: Operations) -> None:
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
        await domains.set_domain_aliases(domains.require(domain_name), strings(new_aliases, "newAliases"))

    _declare_level(
        domains,
        operations,
        "DomainSettings",
        lambda name: domains.require(name).settings,
        shorts={"get": ("GetDomain", "gtdmn"), "update": ("UpdateDomain", "upddmn"), "set": ("SetDomain",)},
        effective=True,
    )
    _declare_level(
        domains,
        operations,
        "AccountDefaults",
        lambda name: domains.require(name).account_defaults,
        shorts={"get": ("gtacndfl",), "update": ("updacndfl",), "set": ("stacndfl",)},
    )
    _declare_level(
        domains,
        operations,
        "AccountTemplate",
        lambda name: domains.require(name).template,
        shorts={"get": ("gtacntmp",), "update": ("updacntmp",), "set": ("stacntmp",)},
    )
    _declare_server_level(
        domains,
        operations,
        "DomainDefaults",
        domains.domain_defaults,
        shorts={"get": ("gtdmndfl",), "update": ("upddmndfl",), "set": ()},
    )
    _declare_server_level(
        domains,
        operations,
        "AllAccountsDefaults",
        domains.account_defaults,
        shorts={"get": ("gtalacndfl",), "update": ("updalacndfl",), "set": ()},
    )


def _declare_level(
    domains: Domains,
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
        await change(settings, granted(domains, caller, settings, new_settings), replace=False)
        await domains.follow_settings()

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
        await change(level(domain_name), new_settings, replace=True)
        await domains.follow_settings()


def _declare_server_level(
    domains: Domains, operations: Operations, noun: str, settings: Settings, *, shorts: Mapping[str, tuple[str, ...]]
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
        await change(settings, new_settings, replace=False)
        await domains.follow_settings()

    @operations.declare(
        f"Set{noun} newSettings{{}}",
        right=Right.DOMAINS,
        short=shorts["set"],
        section=DOMAINS,
        summary="Replaces the server-wide defaults.",
    )
    async def replace(caller: Caller, new_settings: dict[str, Value]) -> None:
        del caller
        await change(settings, new_settings, replace=True)
        await domains.follow_settings()
