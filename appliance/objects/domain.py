"""A domain and the objects in it: accounts, aliases, groups, forwarders (manual, chapters 17 to 22).

Names and places are known from the start; settings of an account are read when it is first used (`ready`). Identity is the
object, never its name: a rename changes `name`, the object stays.
"""

from __future__ import annotations

import os.path
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from appliance.formats.data import Value
from appliance.kernel.disk import Disk
from appliance.kernel.settings import Group as SettingsGroup
from appliance.kernel.settings import Settings, Storage
from appliance.objects import declarations as d
from appliance.objects.index import AccountIndex

MULTI = "MultiMailbox"
TEXT = "TextMailbox"
MAILDIR = "MailDirMailbox"
KINDS = (MULTI, TEXT, MAILDIR)


class Account:
    """An account. `place` is its path in the domain's directory: `js.sub/john.macnt` of a multi-mailbox account, or
    `john` (the common beginning of `john.mbox`, `john.settings`, `john.info`) of a single-mailbox one."""

    __slots__ = ("__weakref__", "_loaded", "domain", "external", "kind", "name", "place", "removed", "settings")

    def __init__(self, domain: Domain, name: str, kind: str, place: str) -> None:
        self.domain = domain
        self.name = name
        self.kind = kind
        self.place = place
        self.removed = False
        self.external = False
        self.settings = Settings(d.ACCOUNT, domain.storage(self.file("settings"), 0o600), domain.account_defaults)
        self._loaded = False

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.domain.name}"

    @property
    def directory(self) -> str:
        """The directory that holds its files: its own, or for a single-mailbox account the one it shares."""
        path = os.path.join(self.domain.directory, self.place)
        return path if self.kind == MULTI else os.path.dirname(path)

    def file(self, what: str) -> str:
        """The path of a service file: `account.settings` or `john.settings`."""
        path = os.path.join(self.domain.directory, self.place)
        return os.path.join(path, f"account.{what}") if self.kind == MULTI else f"{path}.{what}"

    async def ready(self) -> Account:
        """Its settings are read; call before the first look at them. Raises OSError other than "no such file"."""
        if not self._loaded:
            await self.settings.load()
            self._loaded = True
        return self

    def moved(self, domain: Domain, name: str, place: str) -> None:
        """It has another name or domain now; its settings file went along."""
        self.domain, self.name, self.place = domain, name, place
        self.settings.storage = domain.storage(self.file("settings"), 0o600)
        self.settings.parent = domain.account_defaults

    def serves(self, service: str) -> bool:
        """Whether the service is switched on for it and its domain (manual, Enabled Services)."""
        return service in self.settings[d.ACCESS_MODES] and service in self.domain.settings[d.DOMAIN_ACCESS_MODES]


class Part:
    """Storage of one level that lives in memory as a part of a bigger file; `save_all` writes that file."""

    def __init__(self, values: Mapping[str, Value], save_all: Callable[[], Awaitable[None]]) -> None:
        self.values = dict(values)
        self._save_all = save_all

    async def load(self) -> dict[str, Value]:
        return dict(self.values)

    async def save(self, values: dict[str, Value]) -> None:
        before, self.values = self.values, dict(values)
        try:
            await self._save_all()
        except BaseException:
            self.values = before
            raise


class Group:
    """A group: a name that stands for several addresses."""

    __slots__ = ("domain", "name", "part", "settings")

    def __init__(self, domain: Domain, name: str, part: Part) -> None:
        self.domain = domain
        self.name = name
        self.part = part
        self.settings = Settings(d.GROUP, part)

    @property
    def full_name(self) -> str:
        return f"{self.name}@{self.domain.name}"


@dataclass(slots=True)
class Forwarder:
    """A name that is another address."""

    domain: Domain
    name: str
    target: str

    def address(self) -> str:
        """The target; one without `@` and `%` is in the forwarder's own domain."""
        return self.target if "@" in self.target or "%" in self.target else f"{self.target}@{self.domain.name}"


Object = Account | Group | Forwarder


class Domain:
    """A domain. `storage(path, mode)` makes the storage of a dictionary file."""

    def __init__(
        self,
        name: str,
        directory: str,
        *,
        main: bool,
        storage: Callable[[str, int], Storage],
        disk: Disk,
        domain_defaults: Settings,
        account_defaults: Settings,
    ) -> None:
        self.name = name
        self.directory = directory
        self.is_main = main
        self.storage = storage
        self.index = AccountIndex(disk, directory)
        self.objects: dict[str, Object] = {}
        #: Alias -> account, both as names.
        self.aliases: dict[str, str] = {}
        #: Names that are this domain too.
        self.domain_aliases: list[str] = []
        #: Account -> its records of remote POP accounts, as they are stored.
        self.rpop: dict[str, list[Value]] = {}
        #: Account -> right codes.
        self.access: dict[str, list[str]] = {}
        self._attach(domain_defaults, account_defaults)

    def _attach(self, domain_defaults: Settings, account_defaults: Settings) -> None:
        self.settings = self._file(d.DOMAIN, "Domain.settings", domain_defaults)
        self.account_defaults = self._file(d.ACCOUNT, "AccountDefaults.settings", account_defaults)
        self.template = self._file(d.ACCOUNT_TEMPLATE, "Template.settings", None)

    def _file(self, group: SettingsGroup, name: str, parent: Settings | None) -> Settings:
        return Settings(group, self.storage(self.path(name), 0o640), parent)

    def path(self, name: str) -> str:
        """The path of one of its service files."""
        return os.path.join(self.directory, "Settings", name)

    def moved(self, name: str, directory: str) -> None:
        """It has another name now and its directory was renamed."""
        self.name, self.directory = name, directory
        self.index.directory = directory
        for settings, file in (
            (self.settings, "Domain.settings"),
            (self.account_defaults, "AccountDefaults.settings"),
            (self.template, "Template.settings"),
        ):
            settings.storage = self.storage(self.path(file), 0o640)
        for account in self.accounts():
            account.moved(self, account.name, account.place)

    def find(self, local: str) -> Object | None:
        """The object of a name or alias, without regard to case."""
        name = local.lower()
        return self.objects.get(self.aliases.get(name, name))

    def account(self, local: str) -> Account | None:
        found = self.find(local)
        return found if isinstance(found, Account) else None

    def taken(self, name: str) -> str | None:
        """What has this name already ("Account", "alias" ...), or None: a name is unique over all kinds."""
        if name in self.aliases:
            return "alias"
        found = self.objects.get(name)
        return type(found).__name__ if found is not None else None

    def accounts(self) -> Iterator[Account]:
        return (o for o in self.objects.values() if isinstance(o, Account))

    def groups(self) -> Iterator[Group]:
        return (o for o in self.objects.values() if isinstance(o, Group))

    def forwarders(self) -> Iterator[Forwarder]:
        return (o for o in self.objects.values() if isinstance(o, Forwarder))

    def aliases_of(self, account: Account) -> list[str]:
        return sorted(alias for alias, name in self.aliases.items() if name == account.name)

    # Files that hold one dictionary of the whole domain ----------------------------------------------------------

    async def save_aliases(self) -> None:
        await self.storage(self.path("Aliases.data"), 0o640).save(dict(self.aliases))

    async def save_domain_aliases(self) -> None:
        await self.storage(self.path("DomainAliases.data"), 0o640).save(
            {name: self.name for name in self.domain_aliases}
        )

    async def save_groups(self) -> None:
        values: dict[str, Value] = {group.name: dict(group.part.values) for group in self.groups()}
        await self.storage(self.path("Groups.data"), 0o640).save(values)

    async def save_forwarders(self) -> None:
        values: dict[str, Value] = {forwarder.name: forwarder.target for forwarder in self.forwarders()}
        await self.storage(self.path("Forwarders.data"), 0o640).save(values)

    async def save_access(self) -> None:
        values: dict[str, Value] = {name: list(codes) for name, codes in self.access.items() if codes}
        await self.storage(self.path("Access.settings"), 0o640).save(values)

    async def save_rpop(self) -> None:
        values: dict[str, Value] = {name: list(records) for name, records in self.rpop.items() if records}
        await self.storage(self.path("RPOP.data"), 0o600).save(values)

    async def load(self) -> None:
        """Read the domain's own files (not the accounts')."""
        await self.settings.load()
        await self.account_defaults.load()
        await self.template.load()
        aliases = await self.storage(self.path("Aliases.data"), 0o640).load()
        self.aliases = {alias.lower(): str(name).lower() for alias, name in aliases.items()}
        self.domain_aliases = [
            name.lower() for name in await self.storage(self.path("DomainAliases.data"), 0o640).load()
        ]
        rpop = await self.storage(self.path("RPOP.data"), 0o600).load()
        self.rpop = {name.lower(): records for name, records in rpop.items() if isinstance(records, list)}
        access = await self.storage(self.path("Access.settings"), 0o640).load()
        self.access = {
            name.lower(): [str(code) for code in codes] if isinstance(codes, list) else [str(codes)]
            for name, codes in access.items()
        }
        for name, values in (await self.storage(self.path("Groups.data"), 0o640).load()).items():
            if isinstance(values, dict):
                group = Group(self, name.lower(), Part(values, self.save_groups))
                await group.settings.load()
                self.objects[group.name] = group
        for name, target in (await self.storage(self.path("Forwarders.data"), 0o640).load()).items():
            if isinstance(target, str):
                self.objects[name.lower()] = Forwarder(self, name.lower(), target)
