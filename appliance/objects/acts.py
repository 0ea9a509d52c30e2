"""What the operations on objects share: which settings a caller may set and see, and how a level is changed."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.formats.data import Value
from appliance.kernel.operations import Caller, OperationError, Right
from appliance.kernel.settings import SettingError, Settings
from appliance.objects import declarations as d
from appliance.objects.domains import Domains


def strings(values: list[Value], what: str) -> list[str]:
    """An array of strings. Raises OperationError."""
    if not all(isinstance(value, str) for value in values):
        raise OperationError(f"{what}: an array of strings is expected", 515)
    return [str(value) for value in values]


def granted(domains: Domains, caller: Caller, settings: Settings, values: Mapping[str, Value]) -> dict[str, Value]:
    """What of `values` the caller may set: a domain administrator only what he was granted (manual, chapter 8)."""
    if caller.account is None or caller.has(Right.DOMAINS):
        return dict(values)
    rights = domains.rights(caller.account)
    allowed: dict[str, Value] = {}
    for key, value in values.items():
        setting = settings.group.find(key)
        basic = setting in (d.REAL_NAME, d.PASSWORD) and Right.BASIC_SETTINGS in rights
        if setting is not None and (basic or (setting.grantable and setting.key in rights)):
            allowed[key] = value
    return allowed


def visible(caller: Caller, values: dict[str, Value], domain: str) -> dict[str, Value]:
    """Stored passwords are shown to those who may set them, never in one's own view."""
    if not caller.has(Right.DOMAINS) and not caller.has(Right.BASIC_SETTINGS, domain):
        values.pop(d.PASSWORD.key, None)
    return values


async def change(settings: Settings, values: Mapping[str, Value], *, replace: bool) -> None:
    """Merge or replace a level. Raises OperationError."""
    try:
        await (settings.replace(values) if replace else settings.update(values))
    except SettingError as error:
        raise OperationError(str(error)) from None
