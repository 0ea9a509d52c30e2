"""The operations on the lists and options of protection (manual, chapter 16, Server Settings)."""

from __future__ import annotations

from functools import partial
from typing import Any

from appliance.formats.data import Value
from appliance.formats.iplists import AddressList, parse_address
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.peers import CLIENTS, PeerKind
from appliance.kernel.settings import Setting, SettingError, Settings
from appliance.modules.smtp.protection.guard import Guard
from appliance.modules.smtp.protection.settings import BLACKLISTED, WHITE_HOLE

_LISTS = (CLIENTS, BLACKLISTED, WHITE_HOLE)


def declare(operations: Operations, guard: Guard, log: Logger) -> None:
    """The three lists as texts, the options of the pages as one dictionary, and what is known of an address."""
    addresses, protection = guard.peers.settings, guard.settings
    setting = partial(operations.declare, right=Right.SETTINGS, section="Server settings")

    async def put(caller: Caller, settings: Settings, values: dict[str, Value], *, replace: bool) -> None:
        try:
            changed = await (settings.replace(values) if replace else settings.update(values))
        except SettingError as error:
            raise OperationError(str(error)) from None
        if changed:
            who = caller.account or "the server"
            log.major("%s changed %s: %s", who, settings.group.name, ", ".join(sorted(changed)))

    async def set_list(caller: Caller, settings: Settings, one: Setting[AddressList], text: str) -> None:
        await put(caller, settings, {one.key: text}, replace=False)

    @setting("GetClientIPs", summary="The Client IP Addresses.", result="string")
    async def get_clients(caller: Caller) -> Value:
        del caller
        return addresses[CLIENTS].text

    @setting("SetClientIPs newAddresses", summary="Replaces the Client IP Addresses.")
    async def set_clients(caller: Caller, new_addresses: str) -> None:
        await set_list(caller, addresses, CLIENTS, new_addresses)

    @setting("GetBlacklistedIPs", summary="The Blacklisted IP Addresses.", result="string")
    async def get_blacklisted(caller: Caller) -> Value:
        del caller
        return protection[BLACKLISTED].text

    @setting("SetBlacklistedIPs newAddresses", summary="Replaces the Blacklisted IP Addresses.")
    async def set_blacklisted(caller: Caller, new_addresses: str) -> None:
        await set_list(caller, protection, BLACKLISTED, new_addresses)

    @setting("GetWhiteHoleIPs", summary="The UnBlacklistable (White Hole) IP Addresses.", result="string")
    async def get_white_hole(caller: Caller) -> Value:
        del caller
        return protection[WHITE_HOLE].text

    @setting("SetWhiteHoleIPs newAddresses", summary="Replaces the UnBlacklistable (White Hole) IP Addresses.")
    async def set_white_hole(caller: Caller, new_addresses: str) -> None:
        await set_list(caller, protection, WHITE_HOLE, new_addresses)

    @setting("GetProtection", summary="The options of the Protection pages.", result="dictionary")
    async def get_protection(caller: Caller) -> Value:
        del caller
        lists = {one.key for one in _LISTS}
        found = {**addresses.effective(), **protection.effective()}
        return {key: value for key, value in found.items() if key not in lists}

    @setting(
        "SetProtection newSettings{}",
        summary="Replaces the options of the Protection pages; those that are not named get their defaults.",
    )
    async def set_protection(caller: Caller, new_settings: dict[str, Value]) -> None:
        new: list[tuple[Settings, dict[str, Value]]] = []
        unknown = set(new_settings)
        for settings in (addresses, protection):
            lists = {one.key: one for one in _LISTS if settings.group.find(one.key) is not None}
            values: dict[str, Value] = {
                key: settings[one].text for key, one in lists.items() if settings.explicit(one) is not None
            }
            for key, value in new_settings.items():
                one: Setting[Any] | None = settings.group.find(key)
                if one is not None and one.key not in lists:
                    values[one.key] = value
                    unknown.discard(key)
            new.append((settings, values))
        if unknown:
            raise OperationError(f"{', '.join(sorted(unknown))}: unknown option")
        for settings, values in new:
            try:
                settings.check(values)
            except SettingError as error:
                raise OperationError(str(error)) from None
        for settings, values in new:
            await put(caller, settings, values, replace=True)

    @setting(
        "GetProtectionStatus",
        summary="Hosts that are turned away, lists in DNS that are left out, devices and accounts that have sent too much.",
        result="dictionary of Harvesters, Lists, Devices, Accounts: arrays of names",
    )
    async def get_status(caller: Caller) -> Value:
        del caller
        return {kind: list(names) for kind, names in guard.status().items()}

    @setting(
        "ResetProtection name",
        summary="Begins anew with a name of that status: an address, a list or an account.",
    )
    async def reset(caller: Caller, name: str) -> None:
        if not guard.reset(name):
            raise OperationError("Nothing is known of this name")
        log.major("%s: protection begins anew with %s", caller.account or "the server", name)

    @setting(
        "CheckAddress address",
        summary="What is known of an address: client, blacklisted and by whom, device.",
        result="dictionary of Kind, and of Blacklisted, Device where they apply",
    )
    async def check_address(caller: Caller, address: str) -> Value:
        del caller
        try:
            text = str(parse_address(address))
        except ValueError as error:
            raise OperationError(str(error)) from None
        kind = guard.peers.kind(text)
        if kind is PeerKind.STRANGER and await guard.peers.detect(text):
            kind = PeerKind.CLIENT
        found: dict[str, Value] = {"Kind": kind.value}
        if kind is PeerKind.STRANGER and (by := await guard.blacklists.check(text)) is not None:
            found["Blacklisted"] = by or "Blacklisted IP Addresses"
        device = guard.devices.find(text)
        if device is not None:
            found["Device"] = device.sender
        return found
