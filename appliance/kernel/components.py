"""The operations on the server-level settings of components: one set for all (manual, chapter 16, Server Settings)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from appliance.formats.data import Value
from appliance.kernel.log import Logger
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import SettingError, Settings, SettingsRegistry

SECTION = "Server settings"
NO_MODULE = 516


def declare(
    operations: Operations,
    registry: SettingsRegistry,
    logger: Logger,
    acts: Mapping[str, Callable[[str], Awaitable[None]]] | None = None,
) -> None:
    """ListModules, GetModule, UpdateModule, SetModule over the registered components.

    `acts`: settings, as `Component.Key`, whose change is an act of another room (the main domain's name).
    """

    def find(name: str) -> Settings:
        found = registry.find(name)
        if found is None:
            raise OperationError(f"Unknown module {name[:64]}", NO_MODULE)
        return found

    async def change(caller: Caller, name: str, values: dict[str, Value], *, replace: bool) -> None:
        settings = find(name)
        values = dict(values)
        for key in list(values):
            setting = settings.group.find(key)
            act = (acts or {}).get(f"{settings.group.name}.{setting.key}") if setting is not None else None
            if act is not None:
                value = str(values.pop(key))
                if setting is not None and value != settings[setting]:
                    await act(value)
                if replace and setting is not None:
                    values[setting.key] = settings[setting]
        try:
            changed = await (settings.replace(values) if replace else settings.update(values))
        except SettingError as error:
            raise OperationError(str(error)) from None
        if changed:
            who = caller.account or "the server"
            logger.major("%s changed %s: %s", who, settings.group.name, ", ".join(sorted(changed)))

    @operations.declare(
        "ListModules",
        right=Right.SETTINGS,
        section=SECTION,
        summary="The components that have settings.",
        result="array",
    )
    async def list_modules(caller: Caller) -> Value:
        del caller
        names: list[Value] = [settings.group.name for settings in registry.all()]
        return names

    @operations.declare(
        "GetModule moduleName",
        right=Right.SETTINGS,
        section=SECTION,
        summary="The settings of a component.",
        result="dictionary",
    )
    async def get_module(caller: Caller, module_name: str) -> Value:
        del caller
        settings = find(module_name)
        hidden = {setting.key for setting in settings.group if setting.secret}
        values = {**settings.stored(), **settings.effective()}
        return {key: value for key, value in values.items() if key not in hidden}

    @operations.declare(
        "UpdateModule moduleName newSettings{}",
        right=Right.SETTINGS,
        section=SECTION,
        summary="Changes the named settings of a component; 'default' removes one.",
    )
    async def update_module(caller: Caller, module_name: str, new_settings: dict[str, Value]) -> None:
        await change(caller, module_name, new_settings, replace=False)

    @operations.declare(
        "SetModule moduleName newSettings{}",
        right=Right.SETTINGS,
        section=SECTION,
        summary="Replaces the settings of a component.",
    )
    async def set_module(caller: Caller, module_name: str, new_settings: dict[str, Value]) -> None:
        await change(caller, module_name, new_settings, replace=True)
