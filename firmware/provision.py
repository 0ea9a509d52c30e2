"""First-boot provisioning: a TOML file that sets a server up (`--Provision FILE`).

The whole file is checked before anything is applied; an error names the line and the key, and nothing is changed. Applying
is done through the declared operations and settings, as the administrator would do it, and may be repeated: what exists is
brought to the file's values.

    [server]
    main_domain = "office.example"
    postmaster_password = "..."
    router = ["<sales> = bill", "*.old.example = office.example"]

    [settings.SMTP]                 # any component and its keys
    RelayFrom = "clients"

    [[domain]]    name, aliases, settings
    [[account]]   name, domain, password, type, real_name, aliases, rights, settings, rpop
    [[group]]     name, domain, members, settings
    [[forwarder]] name, domain, to
    [[listener]]  service, port, address, tls ("off", "on", "ext")
    [client_addresses] list = ["192.168.0.0/16"]
    [[schedule]]  days, from, to, pause
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.formats.data import Value
from appliance.kernel.operations import Caller, OperationError, Operations
from appliance.kernel.settings import SettingError, Settings, SettingsRegistry
from appliance.objects import declarations as d
from appliance.objects.names import domain_name, object_name
from appliance.router.table import RoutingTable, TableError

#: Bytes of a provisioning file.
MAX_FILE = 16 << 20


class ProvisionError(Exception):
    """The file cannot be applied; the text names file, line and key."""


@dataclass(slots=True)
class _Item:
    """One checked table: its values, and where it stands for messages."""

    where: str
    line: int
    values: dict[str, Any] = field(default_factory=dict)


_TEXT, _TEXTS, _TABLE, _NUMBER, _TABLES = "a string", "a list of strings", "a table", "a number", "a list of tables"
_SCHEMA: dict[str, dict[str, str]] = {
    "server": {"main_domain": _TEXT, "postmaster_password": _TEXT, "router": _TEXTS},
    "domain": {"name": _TEXT, "aliases": _TEXTS, "settings": _TABLE},
    "account": {
        "name": _TEXT,
        "domain": _TEXT,
        "password": _TEXT,
        "type": _TEXT,
        "real_name": _TEXT,
        "aliases": _TEXTS,
        "rights": _TEXTS,
        "settings": _TABLE,
        "rpop": _TABLES,
    },
    "group": {"name": _TEXT, "domain": _TEXT, "members": _TEXTS, "settings": _TABLE},
    "forwarder": {"name": _TEXT, "domain": _TEXT, "to": _TEXT},
    "listener": {"service": _TEXT, "port": _NUMBER, "address": _TEXT, "tls": _TEXT},
    "client_addresses": {"list": _TEXTS},
    "schedule": {"days": _TEXT, "from": _TEXT, "to": _TEXT, "pause": _TEXT},
}
_REQUIRED = {
    "domain": ("name",),
    "account": ("name",),
    "group": ("name",),
    "forwarder": ("name", "to"),
    "listener": ("service", "port"),
}
_LISTS = ("domain", "account", "group", "forwarder", "listener", "schedule")


def _fits(value: Any, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str)
    if kind == _NUMBER:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == _TABLE:
        return isinstance(value, dict)
    if kind == _TABLES:
        return isinstance(value, list) and all(isinstance(v, dict) for v in value)
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def to_value(value: Any) -> Value:
    """A TOML value in the notation of settings: numbers and booleans become their texts."""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    if isinstance(value, list):
        return [to_value(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_value(v) for k, v in value.items()}
    return str(value)


class Provision:
    """A parsed and checked file. `Provision(path)` checks its form, `check` its sense for a server, `apply` does it."""

    def __init__(self, path: str) -> None:
        """Raises ProvisionError."""
        self.path = path
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise ProvisionError(f"{path}: {error.strerror}") from None
        if len(raw) > MAX_FILE:
            raise ProvisionError(f"{path}: the file is too large")
        try:
            self._text = raw.decode("utf-8")
            data = tomllib.loads(self._text)
        except UnicodeDecodeError as error:
            raise ProvisionError(f"{path}: not UTF-8 at byte {error.start}") from None
        except tomllib.TOMLDecodeError as error:
            raise ProvisionError(f"{path}: {error}") from None
        self.items: dict[str, list[_Item]] = {name: [] for name in _SCHEMA}
        self.settings: dict[str, _Item] = {}
        for name, value in data.items():
            self._take(name, value)

    def _fail(self, line: int, key: str, reason: str) -> ProvisionError:
        return ProvisionError(f"{self.path}, line {line}: {key}: {reason}")

    def _line(self, header: str, occurrence: int = 0, key: str = "") -> int:
        """The line of a table header (its n-th occurrence), or of a key in that table."""
        pattern = re.compile(r"^\s*\[{1,2}\s*" + re.escape(header) + r"\s*\]{1,2}")
        seen, start = -1, 0
        lines = self._text.splitlines()
        for number, text in enumerate(lines, 1):
            if pattern.match(text):
                seen += 1
                if seen == occurrence:
                    start = number
                    break
        if not key:
            return start or 1
        for number in range(start + 1, len(lines) + 1):
            text = lines[number - 1].strip()
            if start and text.startswith("["):
                break
            if re.match(r"[\"']?" + re.escape(key) + r"[\"']?\s*[=.]", text):
                return number
        return start or 1

    def _take(self, name: str, value: Any) -> None:
        if name == "settings":
            if not isinstance(value, dict):
                raise self._fail(self._line("settings"), name, "a table of components is expected")
            for component, values in value.items():
                if not isinstance(values, dict):
                    raise self._fail(
                        self._line("settings", 0, component), f"settings.{component}", "a table is expected"
                    )
                line = self._line(f"settings.{component}")
                self.settings[component] = _Item(f"settings.{component}", line, values)
            return
        if name not in _SCHEMA:
            raise self._fail(self._top_line(name), name, "unknown key")
        tables = value if name in _LISTS else [value]
        if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
            wanted = "[[" + name + "]]" if name in _LISTS else "[" + name + "]"
            raise self._fail(self._top_line(name), name, f"{wanted} is expected")
        for number, table in enumerate(tables):
            line = self._line(name, number)
            for key, item in table.items():
                kind = _SCHEMA[name].get(key)
                if kind is None:
                    raise self._fail(self._line(name, number, key), f"{name}.{key}", "unknown key")
                if not _fits(item, kind):
                    raise self._fail(self._line(name, number, key), f"{name}.{key}", f"{kind} is expected")
            for key in _REQUIRED.get(name, ()):
                if key not in table:
                    raise self._fail(line, f"{name}.{key}", "is missing")
            self.items[name].append(_Item(name, line, table))

    def _top_line(self, name: str) -> int:
        for number, text in enumerate(self._text.splitlines(), 1):
            if re.match(r"\s*\[{0,2}\s*[\"']?" + re.escape(name) + r"\b", text):
                return number
        return 1

    def _key_line(self, item: _Item, key: str) -> int:
        lines = self._text.splitlines()
        for number in range(item.line + 1, len(lines) + 1):
            text = lines[number - 1].strip()
            if text.startswith("["):
                break
            if re.match(r"[\"']?" + re.escape(key) + r"[\"']?\s*[=.]", text):
                return number
        return item.line

    # Sense ---------------------------------------------------------------------------------------------------------

    def _checked(self, item: _Item, key: str, act: Callable[[], object]) -> None:
        try:
            act()
        except SettingError as error:
            line = self._key_line(item, error.key) if error.key else item.line
            line = line if line != item.line else self._key_line(item, key)
            raise self._fail(line, f"{item.where}.{error.key or key}", error.reason) from None
        except (OperationError, TableError, ValueError) as error:
            raise self._fail(self._key_line(item, key), f"{item.where}.{key}", str(error)) from None

    def check(self, components: SettingsRegistry) -> None:
        """Whether everything can be applied. Raises ProvisionError naming line and key; changes nothing."""
        domains = {""}
        for item in self.items["server"]:
            values = item.values
            if "main_domain" in values:
                self._checked(item, "main_domain", lambda v=values: domains.add(domain_name(v["main_domain"])))  # type: ignore[misc]
            if "router" in values:
                self._checked(item, "router", lambda v=values: RoutingTable("\n".join(v["router"])))  # type: ignore[misc]
        account_group = {"account": d.ACCOUNT, "domain": d.DOMAIN, "group": d.GROUP}
        for name in ("domain", "account", "group", "forwarder"):
            for item in self.items[name]:
                values = item.values
                if name == "domain":
                    self._checked(item, "name", lambda v=values: domains.add(domain_name(v["name"])))  # type: ignore[misc]
                else:
                    local = values["name"].partition("@")[0]
                    self._checked(item, "name", lambda n=local: object_name(n))  # type: ignore[misc]
                for alias in values.get("aliases", ()):
                    legal = domain_name if name == "domain" else object_name
                    self._checked(item, "aliases", lambda a=alias, t=legal: t(a))  # type: ignore[misc]
                group = account_group.get(name)
                if group is not None:
                    probe = Settings(group, _Nowhere())
                    extra = to_value(values.get("settings", {}))
                    self._checked(item, "settings", lambda p=probe, e=extra: p.check(e))  # type: ignore[misc]
        for component, item in self.settings.items():
            found = components.find(component)
            if found is None:
                raise self._fail(item.line, item.where, "there is no such component")
            for key, value in item.values.items():
                if found.group.find(key) is None:
                    raise self._fail(self._key_line(item, key), f"{item.where}.{key}", "there is no such setting")
                self._checked(item, key, lambda f=found, k=key, v=value: f.check({k: to_value(v)}))  # type: ignore[misc]
        for item, component, key, value in self._tables():
            found = components.find(component)
            if found is None or found.group.find(key) is None:
                raise self._fail(
                    self._key_line(item, "service"), f"{item.where}.service", f"there is no service {component}"
                )
            self._checked(item, "", lambda f=found, k=key, v=value: f.check({k: v}))  # type: ignore[misc]

    def _tables(self) -> list[tuple[_Item, str, str, Value]]:
        """What the tables with names of their own set: (item, component, key, value)."""
        made: list[tuple[_Item, str, str, Value]] = []
        for item in self.items["client_addresses"]:
            made.append((item, "IPAddresses", "ClientAddresses", "\n".join(item.values.get("list", ()))))
        sockets: dict[str, tuple[_Item, list[Value]]] = {}
        for item in self.items["listener"]:
            values = item.values
            row = {
                "Port": str(values["port"]),
                "Address": values.get("address", "all"),
                "TLS": values.get("tls", "off"),
            }
            sockets.setdefault(values["service"].upper(), (item, []))[1].append(to_value(row))
        made += [(item, service, "Listener", rows) for service, (item, rows) in sockets.items()]
        elements: list[Value] = []
        names = {"days": "Day", "from": "From", "to": "To", "pause": "Pause"}
        for item in self.items["schedule"]:
            elements.append({names[key]: str(value) for key, value in item.values.items()})
        if elements:
            made.append((self.items["schedule"][0], "Schedule", "Schedule", elements))
        return made

    # Doing ---------------------------------------------------------------------------------------------------------

    async def apply(self, caller: Caller, operations: Operations, components: SettingsRegistry) -> None:
        """Bring the server to the file's values. Raises ProvisionError for what `check` could not see (a taken name)."""
        for item in self.items["server"]:
            values = item.values
            if "main_domain" in values:
                name = await operations.perform(caller, "MainDomainName")
                if name != values["main_domain"].lower():
                    await self._perform(
                        item, caller, operations, "RenameMainDomain", newDomainName=values["main_domain"]
                    )
            if "postmaster_password" in values:
                await self._password(
                    item,
                    caller,
                    operations,
                    f"postmaster@{await self._main(caller, operations)}",
                    values["postmaster_password"],
                )
            if "router" in values:
                await self._perform(item, caller, operations, "SetRouterTable", newTable="\n".join(values["router"]))
        main = await self._main(caller, operations)
        for component, item in self.settings.items():
            found = components.find(component)
            assert found is not None
            await found.update({key: to_value(value) for key, value in item.values.items()})
        for _, component, key, value in self._tables():
            found = components.find(component)
            assert found is not None
            await found.update({key: value})
        existing = set(_names(await operations.perform(caller, "ListDomains")))
        for item in self.items["domain"]:
            values = item.values
            name = domain_name(values["name"])
            if name not in existing:
                await self._perform(item, caller, operations, "CreateDomain", domainName=name)
            if values.get("settings"):
                await self._perform(
                    item,
                    caller,
                    operations,
                    "UpdateDomainSettings",
                    domainName=name,
                    newSettings=to_value(values["settings"]),
                )
            if "aliases" in values:
                await self._perform(
                    item, caller, operations, "SetDomainAliases", domainName=name, newAliases=list(values["aliases"])
                )
        for item in self.items["account"]:
            await self._account(item, caller, operations, main)
        for item in self.items["group"]:
            name = _full(item.values, main)
            settings = {"Members": list(item.values.get("members", ())), **_dictionary(item.values.get("settings", {}))}
            listed = _names(await operations.perform(caller, "ListGroups", {"domainName": name.rpartition("@")[2]}))
            if name.partition("@")[0].lower() not in listed:
                await self._perform(item, caller, operations, "CreateGroup", groupName=name)
            await self._perform(item, caller, operations, "SetGroup", groupName=name, newSettings=settings)
        for item in self.items["forwarder"]:
            name = _full(item.values, main)
            listed = _names(await operations.perform(caller, "ListForwarders", {"domainName": name.rpartition("@")[2]}))
            if name.partition("@")[0].lower() in listed:
                await self._perform(item, caller, operations, "DeleteForwarder", forwarderName=name)
            await self._perform(
                item, caller, operations, "CreateForwarder", forwarderName=name, address=item.values["to"]
            )

    async def _main(self, caller: Caller, operations: Operations) -> str:
        return str(await operations.perform(caller, "MainDomainName"))

    async def _account(self, item: _Item, caller: Caller, operations: Operations, main: str) -> None:
        values = item.values
        name = _full(values, main)
        listed = _names(await operations.perform(caller, "ListAccounts", {"domainName": name.rpartition("@")[2]}))
        settings = _dictionary(values.get("settings", {}))
        if "real_name" in values:
            settings["RealName"] = values["real_name"]
        if name.partition("@")[0].lower() not in listed:
            arguments: dict[str, Any] = {"accountName": name, "settings": settings}
            if "type" in values:
                arguments["accountType"] = values["type"]
            await self._perform(item, caller, operations, "CreateAccount", **arguments)
        elif settings:
            await self._perform(
                item, caller, operations, "UpdateAccountSettings", accountName=name, newSettings=settings
            )
        if "password" in values:
            await self._password(item, caller, operations, name, values["password"])
        if "aliases" in values:
            await self._perform(
                item, caller, operations, "SetAccountAliases", accountName=name, newAliases=list(values["aliases"])
            )
        if "rights" in values:
            await self._perform(
                item, caller, operations, "SetAccountRights", accountName=name, newRights=list(values["rights"])
            )
        if "rpop" in values:
            await self._perform(
                item, caller, operations, "SetAccountRPOP", accountName=name, newRecords=to_value(values["rpop"])
            )

    async def _password(self, item: _Item, caller: Caller, operations: Operations, name: str, password: str) -> None:
        """Set it only if it is not the account's already: hashing is slow, and a repeated start changes nothing."""
        try:
            await operations.perform(caller, "VerifyAccountPassword", {"accountName": name, "password": password})
        except OperationError:
            await self._perform(item, caller, operations, "SetAccountPassword", accountName=name, newPassword=password)

    async def _perform(self, item: _Item, caller: Caller, operations: Operations, name: str, **arguments: Any) -> None:
        try:
            await operations.perform(caller, name, arguments)
        except OperationError as error:
            raise self._fail(
                item.line, item.where, f"{arguments.get('accountName', '')} {error.text}".strip()
            ) from None


class _Nowhere:
    async def load(self) -> dict[str, Value]:
        return {}

    async def save(self, values: dict[str, Value]) -> None:
        """Only used to check values."""


def _full(values: dict[str, Any], main: str) -> str:
    name = values["name"]
    return name if "@" in name else f"{name}@{values.get('domain') or main}"


def _names(value: Value | None) -> list[str]:
    return [str(v) for v in value] if isinstance(value, (list, dict)) else []


def _dictionary(value: Any) -> dict[str, Value]:
    made = to_value(value)
    return made if isinstance(made, dict) else {}
