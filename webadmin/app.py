"""The WebAdmin Interface as one ASGI application: its paths (manual, chapters 4 and 5)."""

from __future__ import annotations

from itertools import islice
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from appliance.kernel.operations import Right
from webadmin.domain_pages import DomainPages
from webadmin.helpers_pages import HelpersPages
from webadmin.monitor_pages import MonitorPages
from webadmin.pipe_pages import PipePages
from webadmin.preferences import PreferencesPages, prepare
from webadmin.protection_pages import ProtectionPages
from webadmin.rpop_pages import RpopPages
from webadmin.rules_pages import RulesPages
from webadmin.security_pages import SecurityPages
from webadmin.settings_pages import SettingsPages
from webadmin.site import REALMS, Handler, Page, Realm, Site
from webadmin.smtp_pages import SmtpPages

_GET, _FORM = ["GET"], ["GET", "POST"]


async def _start(page: Page, *, first_steps: str = "") -> Response:
    open_realms = [realm for realm in REALMS if realm.open_to(page.caller)]
    if not open_realms:
        return page.go("/Rules/", "Your account has no right to administer this server; these are your own rules.")
    if len(open_realms) == 1:
        return page.go(open_realms[0].path)
    return page.show("start.html", title="Administration", first_steps=first_steps)


async def _directory(page: Page) -> Response:
    return page.show("directory.html", title="Directory")


def application(site: Site, settings: SettingsPages, domains: DomainPages, monitors: MonitorPages) -> Starlette:
    """All pages."""
    settings_realm, domains_realm, directory_realm, monitors_realm = REALMS
    site.prepare = prepare
    rules = RulesPages(domains.domains)
    rpop = RpopPages(settings, domains.domains, monitors.clock)
    protection = ProtectionPages(settings.registry, settings.strings, settings.information)
    smtp = SmtpPages(settings, monitors.clock)

    def route(path: str, handler: Handler, realm: Realm | None, methods: list[str]) -> Route:
        return Route(path, site.endpoint(handler, realm, methods), methods=[*methods, "OPTIONS"])

    async def start(page: Page) -> Response:
        """The name that was addressed decides: the server, or one of its other domains (manual, chapter 5)."""
        addressed = domains.domains.get(page.host)
        if addressed is not None and not addressed.is_main and page.may(Right.DOMAIN, addressed.name):
            return page.go(f"/Domains/{quote(addressed.name)}/")
        main = domains.domains.main
        alone = len(list(islice(main.accounts(), 2))) < 2 and page.may(Right.MASTER)
        return await _start(page, first_steps=main.name if alone else "")

    async def domain_start(page: Page) -> Response:
        """For a domain whose name leads nowhere: the path has it."""
        return page.go(f"/Domains/{quote(page.name('domain'))}/")

    return Starlette(
        routes=[
            Route("/static/{name}", site.static.endpoint, methods=_GET),
            route("/", start, None, _GET),
            route("/MainAdmin/", _start, None, _GET),
            route("/Rules/", rules.own_list, None, _FORM),
            route("/Rules/Try", rules.own_trial, None, _FORM),
            route("/Rules/{number}", rules.own_rule, None, _FORM),
            route("/RPOP/", rpop.own, None, _FORM),
            route("/DomainAdmin/{domain}/", domain_start, None, _GET),
            route("/Settings/", settings.index, settings_realm, _GET),
            route("/Settings/Strings", settings.strings_page, settings_realm, _FORM),
            route("/Settings/IPAddresses", protection.addresses, settings_realm, _FORM),
            route("/Settings/Protection", protection.protection, settings_realm, _FORM),
            route("/Settings/Banned", protection.banned, settings_realm, _FORM),
            route("/Settings/Helpers", HelpersPages(settings.registry).helpers, settings_realm, _FORM),
            route("/Settings/Rules", rules.server_list, settings_realm, _FORM),
            route("/Settings/Rules/Try", rules.server_trial, settings_realm, _FORM),
            route("/Settings/Rules/{number}", rules.server_rule, settings_realm, _FORM),
            route("/Settings/SMTP", smtp.module, settings_realm, _FORM),
            route("/Settings/RPOP", rpop.module, settings_realm, _FORM),
            route("/Settings/{name}", settings.component, settings_realm, _FORM),
            route("/Domains/", domains.index, domains_realm, _FORM),
            route("/Domains/-/Preferences", PreferencesPages("Domains").page, domains_realm, _FORM),
            route("/Domains/-/{level}", domains.defaults, domains_realm, _FORM),
            route("/Domains/{domain}/", domains.domain, domains_realm, _FORM),
            route("/Domains/{domain}/Aliases", domains.aliases, domains_realm, _FORM),
            route("/Domains/{domain}/Forwarders", domains.forwarders, domains_realm, _FORM),
            route("/Domains/{domain}/Accounts/{name}", domains.account, domains_realm, _FORM),
            route("/Domains/{domain}/Accounts/{name}/RPOP", rpop.account, domains_realm, _FORM),
            route("/Domains/{domain}/Accounts/{name}/Rules", rules.account_list, domains_realm, _FORM),
            route("/Domains/{domain}/Accounts/{name}/Rules/Try", rules.account_trial, domains_realm, _FORM),
            route("/Domains/{domain}/Accounts/{name}/Rules/{number}", rules.account_rule, domains_realm, _FORM),
            route("/Domains/{domain}/Rules", rules.domain_list, domains_realm, _FORM),
            route("/Domains/{domain}/Rules/Try", rules.domain_trial, domains_realm, _FORM),
            route("/Domains/{domain}/Rules/{number}", rules.domain_rule, domains_realm, _FORM),
            route("/Domains/{domain}/Groups/{name}", domains.group, domains_realm, _FORM),
            route("/Domains/{domain}/Security", SecurityPages(domains).security, domains_realm, _FORM),
            route("/Domains/{domain}/{level}", domains.level, domains_realm, _FORM),
            route("/Directory/", _directory, directory_realm, _GET),
            route("/Monitors/", monitors.index, monitors_realm, _GET),
            route("/Monitors/Preferences", PreferencesPages("Monitors").page, monitors_realm, _FORM),
            route("/Monitors/Access", monitors.access, monitors_realm, _FORM),
            route("/Monitors/Queue", monitors.queue, monitors_realm, _FORM),
            route("/Monitors/Queue/{id}", monitors.message, monitors_realm, _FORM),
            route("/Monitors/SMTP", smtp.monitor, monitors_realm, _FORM),
            route("/Monitors/RPOP", rpop.monitor, monitors_realm, _FORM),
            route("/Monitors/PIPE", PipePages().monitor, monitors_realm, _FORM),
            route("/Monitors/Logs", monitors.logs, monitors_realm, _FORM),
            route("/Monitors/Logs/{file}", monitors.log, monitors_realm, _GET),
        ]
    )
