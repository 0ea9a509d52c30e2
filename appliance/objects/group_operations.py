"""The operations on groups and forwarders (manual, chapter 16)."""

from __future__ import annotations

from appliance.formats.data import Value
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.objects.acts import change
from appliance.objects.domain import Forwarder, Group
from appliance.objects.domains import NO_ACCOUNT, Domains
from appliance.objects.names import split_name

GROUPS, FORWARDERS = "Groups", "Forwarders"


def _find_group(domains: Domains, name: str) -> Group:
    local, domain = split_name(name, domains.main.name)
    found = domains.require(domain).find(local)
    if not isinstance(found, Group):
        raise OperationError(f"Unknown group {name[:128]}", NO_ACCOUNT)
    return found


def _find_forwarder(domains: Domains, name: str) -> Forwarder:
    local, domain = split_name(name, domains.main.name)
    found = domains.require(domain).find(local)
    if not isinstance(found, Forwarder):
        raise OperationError(f"Unknown forwarder {name[:128]}", NO_ACCOUNT)
    return found


def declare(domains: Domains, operations: Operations) -> None:
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
        await domains.rename_group(_find_group(domains, old_group_name), new_group_name)

    @declare(
        "DeleteGroup groupName",
        right=Right.CREATE_GROUPS,
        of="groupName",
        section=GROUPS,
        summary="Removes a group.",
    )
    async def delete_group(caller: Caller, group_name: str) -> None:
        del caller
        await domains.remove_group(_find_group(domains, group_name))

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
        return _find_group(domains, group_name).settings.stored()

    @declare(
        "SetGroup groupName newSettings{}",
        right=Right.CREATE_GROUPS,
        of="groupName",
        section=GROUPS,
        summary="Replaces a group's settings and members.",
    )
    async def set_group(caller: Caller, group_name: str, new_settings: dict[str, Value]) -> None:
        del caller
        await change(_find_group(domains, group_name).settings, new_settings, replace=True)

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
        await domains.remove_forwarder(_find_forwarder(domains, forwarder_name))

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
        return _find_forwarder(domains, forwarder_name).target
