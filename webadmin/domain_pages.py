"""The Accounts & Domains realm: domains, their objects, settings and defaults (manual, chapters 17 to 22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from starlette.responses import Response

from appliance.administration.forms import Panel, build, keep, read
from appliance.formats.data import Value
from appliance.kernel.operations import SERVER_RIGHTS, OperationError, Right
from appliance.kernel.settings import Settings
from appliance.objects.declarations import ACCOUNT, GROUP, GROUP_MEMBERS, SERVICES
from appliance.objects.domain import KINDS, Account, Domain, Forwarder, Group
from appliance.objects.domains import Domains
from webadmin import wording
from webadmin.preferences import ITEMS, preferences
from webadmin.site import NotFound, Page, matching, texts

#: Levels of a domain: path, title, operation that updates.
_LEVELS = {
    "Settings": ("Domain Settings", "UpdateDomainSettings"),
    "AccountDefaults": ("Account Defaults", "UpdateAccountDefaults"),
    "Template": ("Account Template", "UpdateAccountTemplate"),
}
_DEFAULTS = {
    "Domain": ("Domain Defaults", "UpdateDomainDefaults"),
    "Account": ("Account Defaults", "UpdateAllAccountsDefaults"),
}


async def _limit(page: Page) -> int:
    """Objects to be shown: as many as were asked for, else as many as the administrator prefers."""
    text = page.query("limit")
    if len(text) < 8 and text.isdigit() and int(text) > 0:
        return min(int(text), 10000)
    return (await preferences(page, "Domains"))[ITEMS]


def _lines(text: str) -> list[str]:
    return [part.strip() for part in text.replace(",", "\n").splitlines() if part.strip()]


class DomainPages:
    def __init__(self, domains: Domains) -> None:
        self.domains = domains

    def domain_of(self, page: Page, right: str = Right.DOMAIN) -> Domain:
        """The domain of the path. NotFound; Denied without the right."""
        domain = self.domains.get(page.name("domain"))
        if domain is None:
            raise NotFound("There is no such domain.")
        page.caller.require(right, domain.name)
        return domain

    @staticmethod
    def _path(domain: Domain, *parts: str) -> str:
        return "/".join(["/Domains", quote(domain.name), *(quote(part, safe="") for part in parts)])

    async def _apply(self, page: Page, settings: Settings, operation: str, **target: str) -> tuple[str, str]:
        """Apply a posted form of a level that inherits."""
        changes = read(settings, page.form, inherits=True)
        try:
            if changes:
                await page.perform(operation, **target, newSettings=changes)
        except OperationError as error:
            return "", error.text
        return ("Updated." if changes else "Nothing was changed."), ""

    @staticmethod
    def _panels(page: Page, settings: Settings, error: str, leave_out: Sequence[str] = ()) -> list[Panel]:
        """The panels of a level; after an error with what was posted."""
        panels = build(settings, inherits=True, leave_out=leave_out)
        if error:
            keep(panels, page.form, error)
        return panels

    # Domains -------------------------------------------------------------------------------------------------------

    async def index(self, page: Page) -> Response:
        """All domains that the caller administers; a new one."""
        error = ""
        if page.method == "POST":
            try:
                await page.perform("CreateDomain", domainName=page.field("name"))
                return page.go(f"/Domains/{quote(page.field('name').lower())}/", "The domain was created.")
            except OperationError as failure:
                error = failure.text
        mine = [domain for domain in self.domains if page.may(Right.DOMAIN, domain.name)]
        if not page.may(Right.DOMAINS) and len(mine) == 1 and not error:
            return page.go(self._path(mine[0]) + "/")
        names, count = matching([domain.name for domain in mine], page.query("filter"), limit := await _limit(page))
        rows = [
            (name, sum(1 for _ in domain.accounts()), domain.domain_aliases, domain.is_main)
            for name in names
            if (domain := self.domains.get(name)) is not None
        ]
        return page.show(
            "domains.html",
            title="Domains",
            limit=limit,
            rows=rows,
            count=count,
            error=error,
            name=page.field("name"),
            status=400 if error else 200,
        )

    async def defaults(self, page: Page) -> Response:
        """Server-wide defaults of domains or accounts."""
        page.caller.require(Right.DOMAINS)
        title, operation = _DEFAULTS.get(page.name("level"), ("", ""))
        if not operation:
            raise NotFound
        settings = self.domains.domain_defaults if page.name("level") == "Domain" else self.domains.account_defaults
        message, error = await self._apply(page, settings, operation) if page.method == "POST" else ("", "")
        panels = self._panels(page, settings, error, ("RealName", "Password"))
        return page.show(
            "level.html",
            title=title,
            panels=panels,
            message=message,
            error=error,
            services=SERVICES,
            tabs=(),
            status=400 if error else 200,
        )

    async def domain(self, page: Page) -> Response:
        """The objects of a domain; new ones."""
        domain = self.domain_of(page)
        error = ""
        if page.method == "POST":
            try:
                done = await self._create(page, domain)
                if done is not None:
                    return done
            except OperationError as failure:
                error = failure.text
        names, count = matching(
            sorted([*domain.objects, *domain.aliases]), page.query("filter"), limit := await _limit(page)
        )
        rows = [self._row(domain, name) for name in names]
        return page.show(
            "domain.html",
            title=domain.name,
            domain=domain,
            limit=limit,
            rows=rows,
            count=count,
            kinds=[(kind, wording.KINDS.get(kind, kind)) for kind in KINDS],
            error=error,
            tabs=self.tabs(page, domain),
            status=400 if error else 200,
        )

    def _row(self, domain: Domain, name: str) -> tuple[str, str, str, str]:
        """Name, kind, what it is, and where its page is."""
        if name in domain.aliases:
            target = domain.aliases[name]
            return name, "Alias", target, self._path(domain, "Accounts", target)
        found = domain.objects[name]
        if isinstance(found, Account):
            return name, "Account", found.kind, self._path(domain, "Accounts", name)
        if isinstance(found, Group):
            members = len(found.settings[GROUP_MEMBERS])
            return name, "Group", f"{members} member{'' if members == 1 else 's'}", self._path(domain, "Groups", name)
        assert isinstance(found, Forwarder)
        return name, "Forwarder", found.target, self._path(domain, "Forwarders")

    async def _create(self, page: Page, domain: Domain) -> Response | None:
        action, name = page.action, page.field("name").strip()
        full = f"{name}@{domain.name}"
        if action == "create-account":
            settings: dict[str, Value] = {}
            for key, field in (("Password", "password"), ("RealName", "real_name")):
                if page.field(field):
                    settings[key] = page.field(field)
            await page.perform(
                "CreateAccount", accountName=full, accountType=page.field("kind", KINDS[0]), settings=settings
            )
            return page.go(self._path(domain, "Accounts", name.lower()), f"The account {name} was created.")
        if action == "create-group":
            await page.perform("CreateGroup", groupName=full)
            return page.go(self._path(domain, "Groups", name.lower()), f"The group {name} was created.")
        if action == "create-forwarder":
            await page.perform("CreateForwarder", forwarderName=full, address=page.field("to").strip())
            return page.go(self._path(domain) + "/", f"The forwarder {name} was created.")
        if action == "rename":
            new = page.field("new_name").strip().lower()
            await page.perform("RenameDomain", oldDomainName=domain.name, newDomainName=new)
            return page.go(f"/Domains/{quote(new)}/", "The domain was renamed.")
        if action == "remove":
            if page.field("confirm").strip().lower() != domain.name:
                raise OperationError("Type the name of the domain to confirm its removal")
            await page.perform(
                "DeleteDomain", oldDomainName=domain.name, **({"force": True} if page.field("force") else {})
            )
            return page.go("/Domains/", "The domain was removed.")
        return None

    def tabs(self, page: Page, domain: Domain) -> Sequence[tuple[str, str]]:
        """The other pages of a domain: title and path."""
        tabs = [("Objects", self._path(domain) + "/")]
        tabs += [(title, self._path(domain, level)) for level, (title, _) in _LEVELS.items()]
        tabs += [("Forwarders", self._path(domain, "Forwarders")), ("Rules", self._path(domain, "Rules"))]
        tabs += [("Security", self._path(domain, "Security"))]
        if page.may(Right.DOMAINS):
            tabs += [("Domain Aliases", self._path(domain, "Aliases"))]
        return tabs

    async def level(self, page: Page) -> Response:
        """Domain settings, account defaults or template of a domain."""
        domain = self.domain_of(page)
        level = page.name("level")
        if level not in _LEVELS:
            raise NotFound
        title, operation = _LEVELS[level]
        settings = {
            "Settings": domain.settings,
            "AccountDefaults": domain.account_defaults,
            "Template": domain.template,
        }[level]
        message, error = ("", "")
        if page.method == "POST":
            message, error = await self._apply(page, settings, operation, domainName=domain.name)
        leave_out = () if level == "Settings" else ("RealName", "Password")
        return page.show(
            "level.html",
            title=f"{domain.name}: {title}",
            panels=self._panels(page, settings, error, leave_out),
            message=message,
            error=error,
            services=SERVICES,
            tabs=self.tabs(page, domain),
            status=400 if error else 200,
        )

    async def aliases(self, page: Page) -> Response:
        """The other names of a domain."""
        domain = self.domain_of(page, Right.DOMAINS)
        message = error = ""
        if page.method == "POST":
            try:
                await page.perform("SetDomainAliases", domainName=domain.name, newAliases=_lines(page.field("aliases")))
                message = "Updated."
            except OperationError as failure:
                error = failure.text
        return page.show(
            "names.html",
            title=f"{domain.name}: Domain Aliases",
            field="aliases",
            label="Names that are this domain too, one a line",
            text="\n".join(domain.domain_aliases),
            message=message,
            error=error,
            tabs=self.tabs(page, domain),
        )

    async def forwarders(self, page: Page) -> Response:
        """Forwarders as a table with an empty last row (manual, chapter 22)."""
        domain = self.domain_of(page)
        message = error = ""
        if page.method == "POST":
            try:
                await self._update_forwarders(page, domain)
                message = "Updated."
            except OperationError as failure:
                error = failure.text
        rows = sorted((forwarder.name, forwarder.target) for forwarder in domain.forwarders())
        return page.show(
            "forwarders.html",
            title=f"{domain.name}: Forwarders",
            rows=[*rows, ("", "")],
            message=message,
            error=error,
            tabs=self.tabs(page, domain),
        )

    async def _update_forwarders(self, page: Page, domain: Domain) -> None:
        wanted: dict[str, str] = {}
        for number in range(10000):
            if f"name.{number}" not in page.form:
                break
            name, target = page.field(f"name.{number}").strip().lower(), page.field(f"to.{number}").strip()
            if name and target:
                wanted[name] = target
        before = {forwarder.name: forwarder.target for forwarder in domain.forwarders()}
        # New ones first: what is refused then has cost nothing.
        for name, target in sorted(wanted.items(), key=lambda row: row[0] in before):
            old, full = before.get(name), f"{name}@{domain.name}"
            if old == target:
                continue
            if old is not None:
                await page.perform("DeleteForwarder", forwarderName=full)
            try:
                await page.perform("CreateForwarder", forwarderName=full, address=target)
            except OperationError:
                if old is not None:
                    await page.perform("CreateForwarder", forwarderName=full, address=old)
                raise
        for name in before.keys() - wanted.keys():
            await page.perform("DeleteForwarder", forwarderName=f"{name}@{domain.name}")

    # Accounts ------------------------------------------------------------------------------------------------------

    async def account(self, page: Page) -> Response:
        """Settings, password, aliases, rights, rename, removal of one account."""
        domain = self.domain_of(page)
        account = domain.account(page.name("name"))
        if account is None:
            raise NotFound("There is no such account.")
        await account.ready()
        message = error = ""
        if page.method == "POST":
            try:
                moved = await self._change_account(page, account)
                if moved is not None:
                    return moved
                message = "Updated."
            except OperationError as failure:
                error = failure.text
        server = [right.value for right in Right if right in SERVER_RIGHTS] if domain.is_main else []
        inside = [right.value for right in Right if right not in SERVER_RIGHTS]
        held = texts(await page.perform("GetAccountRights", accountName=account.full_name))
        return page.show(
            "account.html",
            title=account.full_name,
            account=account,
            panels=self._panels(page, account.settings, error if page.action in ("", "update") else ""),
            aliases="\n".join(domain.aliases_of(account)),
            rights=[("Server", server), ("Domain", inside)],
            words=wording.RIGHTS,
            held=held,
            grantable=[setting for setting in ACCOUNT if setting.grantable],
            services=SERVICES,
            message=message,
            error=error,
            status=400 if error else 200,
        )

    async def _change_account(self, page: Page, account: Account) -> Response | None:
        action, name = page.action, account.full_name
        if action == "rename":
            new = page.field("new_name").strip()
            await page.perform(
                "RenameAccount",
                oldAccountName=name,
                newAccountName=new if "@" in new else f"{new}@{account.domain.name}",
            )
            return page.go(self._path(account.domain, "Accounts", account.name), "The account was renamed.")
        if action == "remove":
            if page.field("confirm").strip().lower() != account.name:
                raise OperationError("Type the name of the account to confirm its removal")
            await page.perform("DeleteAccount", oldAccountName=name)
            return page.go(self._path(account.domain) + "/", "The account was removed.")
        if action == "aliases":
            await page.perform("SetAccountAliases", accountName=name, newAliases=_lines(page.field("aliases")))
        elif action == "rights":
            await page.perform(
                "SetAccountRights", accountName=name, newRights=[c for c in page.form.get("rights", ()) if c]
            )
        else:
            changes: Mapping[str, Value] = read(account.settings, page.form, inherits=True)
            password = changes.get("Password")
            others = {key: value for key, value in changes.items() if key != "Password"}
            if others:
                await page.perform("UpdateAccountSettings", accountName=name, newSettings=others)
            if password:
                await page.perform("SetAccountPassword", accountName=name, newPassword=password)
        return None

    # Groups --------------------------------------------------------------------------------------------------------

    async def group(self, page: Page) -> Response:
        """Settings and members of a group; rename and removal."""
        domain = self.domain_of(page)
        group = domain.find(page.name("name"))
        if not isinstance(group, Group):
            raise NotFound("There is no such group.")
        message = error = ""
        if page.method == "POST":
            try:
                if page.action == "rename":
                    await page.perform(
                        "RenameGroup", oldGroupName=group.full_name, newGroupName=page.field("new_name").strip()
                    )
                    return page.go(self._path(domain, "Groups", group.name), "The group was renamed.")
                if page.action == "remove":
                    await page.perform("DeleteGroup", groupName=group.full_name)
                    return page.go(self._path(domain) + "/", "The group was removed.")
                values = {**group.settings.stored(), **read(group.settings, page.form, inherits=False)}
                await page.perform("SetGroup", groupName=group.full_name, newSettings=values)
                message = "Updated."
            except OperationError as failure:
                error = failure.text
        return page.show(
            "group.html",
            title=group.full_name,
            group=group,
            panels=build(group.settings, inherits=False, only=GROUP),
            services=SERVICES,
            message=message,
            error=error,
            tabs=self.tabs(page, domain),
            status=400 if error else 200,
        )
