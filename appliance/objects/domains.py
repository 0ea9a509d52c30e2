"""All domains of the server, and every change of them (manual, chapters 17 to 22).

`Domains` is the `Authority` of callers: it knows rights and names. Changes of names go through `lifecycle`, so that rooms with
state of their own (open accounts, queues) take part or refuse.
"""

from __future__ import annotations

import os.path
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import trio

from appliance.formats.data import Value
from appliance.formats.passwords import Encryption, PasswordError, check_new, is_one_way, store, verify
from appliance.kernel.disk import Disk
from appliance.kernel.operations import SERVER_RIGHTS, OperationError, Right
from appliance.kernel.settings import SettingError, Settings, Storage
from appliance.objects import declarations as d
from appliance.objects import places
from appliance.objects.domain import KINDS, MAILDIR, MULTI, TEXT, Account, Domain, Forwarder, Group, Part
from appliance.objects.index import Entry
from appliance.objects.lifecycle import Change, Lifecycle
from appliance.objects.names import domain_name, is_one_address, object_name, split_name

NO_ACCOUNT, NO_DOMAIN = 512, 513


class Domains:
    """The registry. `main` is the main domain; the files lie in `{base}/Accounts` and `{base}/Domains`."""

    def __init__(
        self,
        disk: Disk,
        base: str,
        storage: Callable[[str, int], Storage],
        general: Settings,
        *,
        server_key: bytes = b"",
    ) -> None:
        self.disk = disk
        self.base = base
        self.storage = storage
        self.general = general
        self.server_key = server_key
        self.lifecycle = Lifecycle()
        self.domain_defaults = Settings(
            d.DOMAIN, storage(os.path.join(base, "Settings", "DomainDefaults.settings"), 0o640)
        )
        self.account_defaults = Settings(
            d.ACCOUNT, storage(os.path.join(base, "Settings", "AccountDefaults.settings"), 0o640)
        )
        self._domains: dict[str, Domain] = {}
        self._names: dict[str, Domain] = {}
        #: The log-in's check of a password, if there are log-ins.
        self.verifier: Callable[[Account, str], Awaitable[bool]] | None = None
        #: Asked after settings of domains were changed.
        self.followers: list[Callable[[], Awaitable[None]]] = []
        #: One change of names at a time; look-ups never wait for it.
        self._changing = trio.Lock()
        self.main: Domain

    # Start ---------------------------------------------------------------------------------------------------------

    async def load(self) -> bool:
        """Read everything; make what a first start lacks. True if the postmaster account was made just now."""
        await self.domain_defaults.load()
        await self.account_defaults.load()
        name = self.general[d.MAIN_DOMAIN].lower() or _host_name()
        self.main = await self._read(name, os.path.join(self.base, "Accounts"), main=True)
        domains = os.path.join(self.base, "Domains")
        for entry in sorted(await self.disk.listdir(domains)) if await self.disk.exists(domains) else []:
            if not entry.startswith(".") and entry.lower() != name:
                await self._read(entry.lower(), os.path.join(domains, entry), main=False)
        made = self.main.account("postmaster") is None
        if made:
            await self.create_account(
                self.main, "postmaster", settings={"Password": secrets.token_urlsafe(9)}, encode=False
            )
        # Also where the file of the rights was damaged or edited: otherwise nobody could ever give rights again.
        if made or not any(Right.MASTER in held for held in self.main.access.values()):
            self.main.access["postmaster"] = [Right.MASTER.value]
            await self.main.save_access()
        return made

    def _new(self, name: str, directory: str, *, main: bool) -> Domain:
        return Domain(
            name,
            directory,
            main=main,
            storage=self.storage,
            disk=self.disk,
            domain_defaults=self.domain_defaults,
            account_defaults=self.account_defaults,
        )

    async def _read(self, name: str, directory: str, *, main: bool) -> Domain:
        domain = self._new(name, directory, main=main)
        await self.disk.mkdir(os.path.join(directory, "Settings"), parents=True)
        await self.disk.run(places.move_old_files, directory)
        await domain.load()
        for local, (kind, place) in (await self._listed(domain)).items():
            if local not in domain.objects:
                domain.objects[local] = Account(domain, local, kind, place)
        await self._follow_index(domain)
        self._enter(domain)
        return domain

    async def _listed(self, domain: Domain) -> dict[str, Entry]:
        """All accounts: from the index if there has to be one and it is whole, else from the directories."""
        if domain.settings[d.GENERATE_INDEX]:
            listed = await domain.index.read()
            if listed is not None and all(kind in KINDS for kind, _ in listed.values()):
                return listed
            domain.index.kept = False
        return await self.disk.run(places.scan, domain.directory)

    async def _follow_index(self, domain: Domain) -> None:
        wanted = domain.settings[d.GENERATE_INDEX]
        if wanted and not domain.index.kept:
            await domain.index.write({a.name: (a.kind, a.place) for a in domain.accounts()})
        elif not wanted:
            await domain.index.remove()

    async def follow_settings(self) -> None:
        """Settings of domains were changed: files that depend on them are made or removed."""
        async with self._changing:
            for domain in self.all():
                if domain.settings[d.GENERATE_INDEX] != domain.index.kept:
                    await self._follow_index(domain)
        for follow in self.followers:
            await follow()

    def _enter(self, domain: Domain) -> None:
        self._domains[domain.name] = domain
        self._names[domain.name] = domain
        for alias in domain.domain_aliases:
            self._names.setdefault(alias, domain)

    # Look-ups ------------------------------------------------------------------------------------------------------

    def get(self, name: str) -> Domain | None:
        """The domain of a name or domain alias; the empty name is the main domain."""
        return self._names.get(name.lower()) if name else self.main

    def require(self, name: str) -> Domain:
        found = self.get(name)
        if found is None:
            raise OperationError(f"Unknown domain {name[:64]}", NO_DOMAIN)
        return found

    def all(self) -> list[Domain]:
        """Main first, then by name."""
        return [self.main, *(self._domains[n] for n in sorted(self._domains) if self._domains[n] is not self.main)]

    def __iter__(self) -> Iterator[Domain]:
        return iter(self.all())

    def find_account(self, name: str) -> Account | None:
        local, domain = split_name(name, self.main.name)
        found = self.get(domain)
        return found.account(local) if found else None

    async def require_account(self, name: str) -> Account:
        """The account of `user@domain` or an alias, ready. Raises OperationError."""
        local, domain = split_name(name, self.main.name)
        account = self.require(domain).account(local)
        if account is None:
            raise OperationError(f"Unknown account {name[:128]}", NO_ACCOUNT)
        return await account.ready()

    # Authority -----------------------------------------------------------------------------------------------------

    def rights(self, account: str) -> frozenset[str]:
        local, name = split_name(account, self.main.name)
        domain = self.get(name)
        if domain is None:
            return frozenset()
        codes = frozenset(domain.access.get(local.lower(), ()))
        # Server rights count in the main domain's file only (manual, chapter 25).
        return codes if domain.is_main else codes - SERVER_RIGHTS

    def domain_name(self, name: str) -> str | None:
        found = self.get(name)
        return found.name if found else None

    def administers(self, domain: str, other: str) -> bool:
        found = self.get(other)
        return found is not None and found.settings[d.ADMIN_DOMAIN].lower() == domain

    async def set_rights(self, account: Account, codes: list[str]) -> None:
        """Replace the rights. Raises OperationError for a server right outside the main domain, and where nobody would be
        left who can give rights."""
        if not account.domain.is_main and SERVER_RIGHTS.intersection(codes):
            raise OperationError("Server rights can be granted only to accounts of the main domain")
        access = account.domain.access
        loses = Right.MASTER in access.get(account.name, ()) and Right.MASTER not in codes
        if loses and not any(Right.MASTER in held for name, held in access.items() if name != account.name):
            raise OperationError("Nobody else can do everything: give that right to another account first")
        access[account.name] = list(dict.fromkeys(codes))
        await account.domain.save_access()

    # Domains -------------------------------------------------------------------------------------------------------

    async def create(self, name: str, settings: Mapping[str, Value] | None = None) -> Domain:
        name = domain_name(name)
        async with self._changing:
            if name in self._names:
                raise OperationError("Domain with this name already exists")
            directory = os.path.join(self.base, "Domains", name)
            domain = self._new(name, directory, main=False)
            _checked(domain.settings, settings or {})

            async def do() -> None:
                await self.disk.mkdir(os.path.join(directory, "Settings"), parents=True)
                await domain.settings.replace(settings or {})
                await self._follow_index(domain)
                self._enter(domain)

            await self.lifecycle.perform(Change("create", domain), _Last(do))
        return domain

    async def rename(self, domain: Domain, new_name: str) -> None:
        """Rename a secondary domain with its directory."""
        new_name = domain_name(new_name)
        async with self._changing:
            if domain.is_main:
                raise OperationError("The main domain is renamed on the General page")
            if new_name in self._names:
                raise OperationError("Domain with this name already exists")
            directory = os.path.join(self.base, "Domains", new_name)

            async def do() -> None:
                await self.disk.rename(domain.directory, directory)
                await self.disk.sync_directory(os.path.dirname(directory))
                self._forget(domain)
                domain.moved(new_name, directory)
                self._enter(domain)
                await domain.save_domain_aliases()

            await self.lifecycle.perform(Change("rename", domain, new_name=new_name), _Last(do))

    async def rename_main(self, new_name: str) -> None:
        """The main domain gets another name (General page); its files stay where they are."""
        new_name = domain_name(new_name)
        async with self._changing:
            if self._names.get(new_name, self.main) is not self.main:
                raise OperationError("Domain with this name already exists")

            async def do() -> None:
                await self.general.update({d.MAIN_DOMAIN.key: new_name})
                self._forget(self.main)
                self.main.name = new_name
                self._enter(self.main)

            await self.lifecycle.perform(Change("rename", self.main, new_name=new_name), _Last(do))

    async def remove(self, domain: Domain, *, force: bool = False) -> None:
        async with self._changing:
            if domain.is_main:
                raise OperationError("The main domain cannot be removed")
            if not force and any(True for _ in domain.accounts()):
                raise OperationError("The domain is not empty")

            async def do() -> None:
                # Out of sight at once, then removed: a crash between leaves a directory that is not read as a domain.
                hidden = os.path.join(os.path.dirname(domain.directory), f".removed-{domain.name}")
                await self.disk.rename(domain.directory, hidden)
                await self.disk.sync_directory(os.path.dirname(hidden))
                self._forget(domain)
                for account in domain.accounts():
                    account.removed = True
                await self.disk.remove_tree(hidden)

            await self.lifecycle.perform(Change("remove", domain), _Last(do))

    def _forget(self, domain: Domain) -> None:
        self._domains.pop(domain.name, None)
        for name in [n for n, owner in self._names.items() if owner is domain]:
            del self._names[name]

    async def set_domain_aliases(self, domain: Domain, names: list[str]) -> None:
        cleaned = list(dict.fromkeys(domain_name(name) for name in names))
        for name in cleaned:
            if self._names.get(name, domain) is not domain or name == domain.name:
                raise OperationError(f"Domain or domain alias {name} already exists")
        domain.domain_aliases = cleaned
        await domain.save_domain_aliases()
        self._forget(domain)
        self._enter(domain)

    # Accounts ------------------------------------------------------------------------------------------------------

    async def create_account(
        self,
        domain: Domain,
        name: str,
        kind: str = MULTI,
        settings: Mapping[str, Value] | None = None,
        *,
        encode: bool = True,
    ) -> Account:
        """A new account: template values, then `settings`. `encode` False stores the password as it is given."""
        local = object_name(name)
        if kind not in KINDS:
            raise OperationError(f"{kind[:32]!r} is not an account type")
        async with self._changing:
            self._free(domain, local)
            limit = domain.settings[d.ACCOUNTS_LIMIT]
            if limit is not None and sum(1 for _ in domain.accounts()) >= limit:
                raise OperationError("The limit of accounts in this domain is reached")
            values = dict(domain.template.stored())
            for setting in d.INITIAL:
                values.pop(setting.key, None)
            values.update(settings or {})
            aliases = d.ALIASES.parse(values.pop("Aliases")) if "Aliases" in values else ()
            account = Account(domain, local, kind, places.place(domain, local, kind))
            _checked(account.settings, values)
            if encode:
                await self._encode(account, values)

            async def do() -> None:
                await domain.index.begin()
                await self.disk.mkdir(account.directory, parents=True)
                account.settings.storage = domain.storage(account.file("settings"), 0o600)
                await account.settings.replace(values)
                if not values:
                    await account.settings.storage.save({})
                if kind == TEXT:
                    await self.disk.append(account.file("mbox"), b"", durable=True)
                elif kind == MAILDIR:
                    await self.disk.mkdir(account.file("mdir"))
                await self.disk.sync_directory(os.path.dirname(account.file("settings")))
                await self.disk.sync_directory(os.path.dirname(account.directory))
                await domain.index.done((), {local: (kind, account.place)})
                account._loaded = True
                domain.objects[local] = account

            await self.lifecycle.perform(Change("create", domain, account), _Last(do))
            if aliases:
                await self.set_aliases(account, list(aliases))
        return account

    async def rename_account(self, account: Account, new_name: str) -> None:
        """`new_name` may carry another domain: the account moves there. Refused while it is in use."""
        local, domain_of_new = split_name(new_name, account.domain.name)
        local, target = object_name(local), self.require(domain_of_new)
        async with self._changing:
            old_domain, old_name, old_place = account.domain, account.name, account.place
            if target is old_domain and local == old_name:
                raise OperationError("The account has this name already")
            self._free(target, local)
            await account.ready()
            place = places.place(target, local, account.kind)
            if target is old_domain and target.settings[d.RENAME_IN_PLACE]:
                place = os.path.join(os.path.dirname(old_place), os.path.basename(place))

            async def do() -> None:
                for domain in {old_domain, target}:
                    await domain.index.begin()
                await self.disk.run(
                    places.move,
                    account.kind,
                    os.path.join(old_domain.directory, old_place),
                    os.path.join(target.directory, place),
                )
                del old_domain.objects[old_name]
                account.moved(target, local, place)
                target.objects[local] = account
                if target is not old_domain:
                    await old_domain.index.done((old_name,), {})
                await target.index.done((old_name,) if target is old_domain else (), {local: (account.kind, place)})
                await self._follow(account, old_domain, old_name)

            await self.lifecycle.perform(Change("rename", old_domain, account, local, target), _Last(do))

    async def _follow(self, account: Account, old_domain: Domain, old_name: str) -> None:
        """Aliases, group members and rights follow a rename (manual, chapters 17 and 21)."""
        aliases = [alias for alias, name in old_domain.aliases.items() if name == old_name]
        for alias in aliases:
            del old_domain.aliases[alias]
            if account.domain.taken(alias) is None:
                account.domain.aliases[alias] = account.name
        if aliases:
            await old_domain.save_aliases()
            await account.domain.save_aliases()
        if old_name in old_domain.access:
            codes = old_domain.access.pop(old_name)
            await old_domain.save_access()
            kept = codes if account.domain.is_main else [c for c in codes if c not in SERVER_RIGHTS]
            account.domain.access[account.name] = kept
            await account.domain.save_access()
        if old_name in old_domain.rpop:
            account.domain.rpop[account.name] = old_domain.rpop.pop(old_name)
            await old_domain.save_rpop()
            await account.domain.save_rpop()
        replacement = account.name if account.domain is old_domain else account.full_name
        await self._members(old_domain, old_name, replacement)

    async def _members(self, domain: Domain, old: str, new: str | None) -> None:
        for group in list(domain.groups()):
            members = group.settings[d.GROUP_MEMBERS]
            if any(member.lower() == old for member in members):
                changed = [new if m.lower() == old else m for m in members if m.lower() != old or new is not None]
                await group.settings.update({d.GROUP_MEMBERS.key: [m for m in changed if m is not None]})

    async def remove_account(self, account: Account) -> None:
        """For good: mailboxes, settings, aliases, rights. Refused while it is in use."""
        async with self._changing:
            domain = account.domain

            async def do() -> None:
                await domain.index.begin()
                account.removed = True
                domain.objects.pop(account.name, None)
                aliases = domain.aliases_of(account)
                for alias in aliases:
                    del domain.aliases[alias]
                if aliases:
                    await domain.save_aliases()
                if domain.access.pop(account.name, None) is not None:
                    await domain.save_access()
                if domain.rpop.pop(account.name, None) is not None:
                    await domain.save_rpop()
                await self._members(domain, account.name, None)
                await self.disk.run(places.remove, account.kind, os.path.join(domain.directory, account.place))
                await domain.index.done((account.name,), {})

            await self.lifecycle.perform(Change("remove", domain, account), _Last(do))

    async def set_aliases(self, account: Account, names: list[str]) -> None:
        """Replace all aliases of the account."""
        cleaned = list(dict.fromkeys(object_name(name) for name in names))
        domain = account.domain
        for name in cleaned:
            if domain.aliases.get(name) != account.name:
                self._free(domain, name)
        domain.aliases = {a: n for a, n in domain.aliases.items() if n != account.name} | dict.fromkeys(
            cleaned, account.name
        )
        await domain.save_aliases()

    async def update_account(self, account: Account, changes: Mapping[str, Value], *, replace: bool = False) -> None:
        """Merge or replace settings; a password is stored in the account's encryption. Raises OperationError."""
        await account.ready()
        values = dict(changes)
        aliases = d.ALIASES.parse(values.pop("Aliases")) if "Aliases" in values else None
        _checked(account.settings, values)
        await self._encode(account, values)
        await (account.settings.replace(values) if replace else account.settings.update(values))
        if aliases is not None:
            await self.set_aliases(account, list(aliases))

    async def set_password(self, account: Account, password: str) -> None:
        await self.update_account(account, {d.PASSWORD.key: password})

    async def verify(self, account: Account, password: str) -> bool:
        """Whether it is a password of the account: `verifier` knows all kinds, without it the stored one counts."""
        if self.verifier is not None:
            return await self.verifier(account, password)
        stored = account.settings[d.PASSWORD].reveal()
        return bool(stored) and await trio.to_thread.run_sync(verify, stored, password, self.server_key)

    async def _encode(self, account: Account, values: dict[str, Value]) -> None:
        key = next((k for k in values if k.casefold() == d.PASSWORD.key.casefold()), None)
        given = values.get(key) if key is not None else None
        if (
            key is None
            or not isinstance(given, str)
            or given in ("default", "")
            or is_one_way(given)
            or given[:1] == "\x01"
        ):
            return
        chosen = values.get(d.ENCRYPTION.key)
        encryption = Encryption(
            d.ENCRYPTION.parse(chosen) if chosen not in (None, "default") else account.settings[d.ENCRYPTION]
        )
        try:
            check_new(given)
        except PasswordError as error:
            raise OperationError(str(error)) from None
        values[key] = await trio.to_thread.run_sync(
            lambda: store(given, encryption, salt=secrets.token_bytes(16), key=self.server_key)
        )

    def _free(self, domain: Domain, name: str) -> None:
        kind = domain.taken(name)
        if kind is not None:
            raise OperationError(f"{kind} with this name already exists")
        if name == "all" and domain.settings[d.MAIL_TO_ALL_FOR] != "nobody":
            raise OperationError("The name 'all' is reserved while mail to all is enabled")

    # Groups and forwarders -------------------------------------------------------------------------------------------

    async def create_group(self, domain: Domain, name: str, settings: Mapping[str, Value] | None = None) -> Group:
        local = object_name(name)
        async with self._changing:
            self._free(domain, local)
            group = Group(domain, local, Part({}, domain.save_groups))
            _checked(group.settings, settings or {})
            domain.objects[local] = group
            try:
                await group.settings.replace(settings or {})
                await domain.save_groups()
            except BaseException:
                del domain.objects[local]
                raise
        return group

    async def rename_group(self, group: Group, new_name: str) -> None:
        local, domain = object_name(split_name(new_name, "")[0]), group.domain
        async with self._changing:
            self._free(domain, local)
            old = group.name
            del domain.objects[old]
            group.name = local
            domain.objects[local] = group
            await domain.save_groups()
            await self._members(domain, old, local)

    async def remove_group(self, group: Group) -> None:
        async with self._changing:
            group.domain.objects.pop(group.name, None)
            await group.domain.save_groups()
            await self._members(group.domain, group.name, None)

    async def create_forwarder(self, domain: Domain, name: str, target: str) -> Forwarder:
        local, address = object_name(name), target.strip()
        if not address or len(address) > 320 or any(c in address for c in "\r\n\0"):
            raise OperationError("An E-mail address is expected")
        if not is_one_address(address):
            raise OperationError("A forwarder has one E-mail address; for several, make a group")
        async with self._changing:
            self._free(domain, local)
            forwarder = Forwarder(domain, local, address)
            domain.objects[local] = forwarder
            await domain.save_forwarders()
        return forwarder

    async def remove_forwarder(self, forwarder: Forwarder) -> None:
        async with self._changing:
            forwarder.domain.objects.pop(forwarder.name, None)
            await forwarder.domain.save_forwarders()


class _Last:
    """The change of the objects themselves, as the last participant."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do

    async def check(self, change: Change) -> None:
        del change

    async def do(self, change: Change) -> None:
        del change
        await self._do()

    async def undo(self, change: Change) -> None:
        """Never asked: nobody acts after it."""
        del change

    def done(self, change: Change) -> None:
        del change


def _checked(settings: Settings, values: Mapping[str, Value]) -> None:
    try:
        settings.check(values)
    except SettingError as error:
        raise OperationError(str(error)) from None


def _host_name() -> str:
    name = socket.getfqdn().lower()
    if name.partition(".")[0] == "localhost":  # a hosts file can give the loopback's name first
        name = socket.gethostname().lower()
    try:
        return domain_name(name)
    except OperationError:
        return "localhost"
