"""The services of a server: each listener with its protocol and the rooms that it works on."""

from __future__ import annotations

import os
import platform
import secrets
from functools import partial
from typing import TYPE_CHECKING

from appliance.about import VERSION
from appliance.access.imap.gate import Surroundings as ImapSurroundings
from appliance.access.imap.service import ImapService
from appliance.access.imap.settings import LISTENER as IMAP_LISTENER
from appliance.access.imap.settings import LOG_LEVEL as IMAP_LOG
from appliance.access.imap.settings import TEXTS as IMAP_TEXTS
from appliance.access.pop.gate import Surroundings as PopSurroundings
from appliance.access.pop.service import PopService
from appliance.access.pop.settings import LOG_LEVEL as POP_LOG
from appliance.access.pop.settings import TEXTS as POP_TEXTS
from appliance.access.pwd.gate import Surroundings as PwdSurroundings
from appliance.access.pwd.service import PwdService
from appliance.access.pwd.settings import LOG_LEVEL as PWD_LOG
from appliance.access.pwd.settings import TEXTS as PWD_TEXTS
from appliance.accounts.foreign import ForeignAccounts
from appliance.accounts.login import LoginRefused
from appliance.administration.cli import CommandLine
from appliance.kernel.channel import Channel
from appliance.kernel.listener import Listener, Network, listener_settings
from appliance.kernel.operations import Caller
from appliance.kernel.settings import Group, LogLevel, Setting
from appliance.modules.local.settings import ENVELOPE_FIELD
from appliance.modules.smtp.settings import LISTENER as SMTP_LISTENER
from appliance.web.front import REFUSAL, HttpFront
from webadmin.app import application
from webadmin.domain_pages import DomainPages
from webadmin.monitor_pages import MonitorPages
from webadmin.settings_pages import Information, SettingsPages
from webadmin.site import NotAuthenticated, Site

if TYPE_CHECKING:
    from appliance.server import Server

__all__ = ["HTTPA", "Services"]

HTTP_LOG = Setting("LogLevel", LogLevel(), 2, "Log")
#: Services that are of no use to a host that may not log in.
_WITH_LOG_IN = frozenset({"POP", "IMAP", "PWD", "ACAP", "FTP"})
ADMIN_LISTENER = listener_settings([(8010, "Off"), (9010, "On")], channels=100)
HTTPA = Group("HTTPA", "WebAdmin Interface", (HTTP_LOG, *ADMIN_LISTENER))


class Services:
    """Makes the listeners of a server, in the order in which they open."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.network = Network(
            server.peers,
            server.tls,
            server.sessions,
            server.clock,
            server.supervisor.session_failed,
            server.statistics,
            server.options.port_offset,
        )

    def listeners(self) -> list[Listener]:
        """All of them, not yet open."""
        network = self.network
        found = [
            self._smtp(network),
            self._pop(network),
            self._imap(network),
            self._pwd(network),
            self._admin(network),
        ]
        for listener in found:
            if listener.name in _WITH_LOG_IN:
                listener.denial = partial(self.server.strings.text, "LoginNetwork")
        return found

    def _smtp(self, network: Network) -> Listener:
        server = self.server
        service = server.smtp.service
        listener = Listener(
            "SMTP",
            server.smtp.log,
            server.smtp_settings,
            SMTP_LISTENER,
            service.serve,
            network,
            refusal=service.refusal,
            farewell=service.farewell,
        )
        server.smtp.listening = listener.sockets
        return listener

    def _pop(self, network: Network) -> Listener:
        server = self.server
        server.strings.declare_all(POP_TEXTS)
        settings = server.pop_settings
        return PopService(
            PopSurroundings(
                logins=server.logins,
                settings=settings,
                notices=server.notices,
                log=server.log.source("POP", lambda: settings[POP_LOG]),
                strings=server.strings,
                statistics=server.statistics,
                host=server.host,
                unique=_token,
                digests=server.digests,
                recipients_field=lambda: server.local_settings[ENVELOPE_FIELD],
                version=VERSION,
                receiver=server.transfer.receiver,
                advertise_secure=server.advertise_secure,
                foreign=ForeignAccounts(server.accounts, server.domains, server.router.route, "POP"),
            )
        ).listener(network)

    def _imap(self, network: Network) -> Listener:
        server = self.server
        server.strings.declare_all(IMAP_TEXTS)
        settings = server.imap_settings
        log = server.log.source("IMAP", lambda: settings[IMAP_LOG])
        service = ImapService(
            ImapSurroundings(
                logins=server.logins,
                settings=settings,
                notices=server.notices,
                log=log,
                strings=server.strings,
                statistics=server.statistics,
                host=server.host,
                unique=_token,
                digests=server.digests,
                advertise_secure=server.advertise_secure,
                now=server.clock.now,
                version=VERSION,
                foreign=ForeignAccounts(server.accounts, server.domains, server.router.route),
            )
        )
        return Listener(
            "IMAP",
            log,
            settings,
            IMAP_LISTENER,
            service.serve,
            network,
            refusal=service.refusal,
            farewell=service.farewell,
        )

    def _pwd(self, network: Network) -> Listener:
        server = self.server
        server.strings.declare_all(PWD_TEXTS)
        settings = server.pwd_settings
        return PwdService(
            PwdSurroundings(
                logins=server.logins,
                domains=server.domains,
                commands=CommandLine(server.operations),
                settings=settings,
                log=server.log.source("PWD", lambda: settings[PWD_LOG]),
                strings=server.strings,
                statistics=server.statistics,
                host=server.host,
                unique=_token,
                version=VERSION,
            )
        ).listener(network)

    def _admin(self, network: Network) -> Listener:
        server = self.server
        log = server.log.source("HTTPA", lambda: server.admin_settings[HTTP_LOG])
        site = Site(server.operations, self._authenticate)
        pages = application(
            site,
            SettingsPages(server.components, server.strings, partial(information, server)),
            DomainPages(server.domains),
            MonitorPages(server.clock, server.log_reader, server.log_settings),
        )
        return Listener(
            "HTTPA", log, server.admin_settings, ADMIN_LISTENER, HttpFront(pages, log).serve, network, refusal=REFUSAL
        )

    async def _authenticate(self, name: str, password: str, channel: Channel, host: str) -> Caller:
        """A log-in to the WebAdmin Interface; a simple name is one of the domain that was addressed."""
        server = self.server
        if "@" not in name:
            addressed = server.domains.get(host) or server.domains.main
            name = f"{name}@{addressed.name}"
        try:
            login = await server.logins.password(name, password, "HTTPA", channel)
        except LoginRefused as refused:
            raise NotAuthenticated(refused.text) from None
        await login.session.aclose()
        account, domain = login.session.name, login.session.name.rpartition("@")[2]
        if channel.session is not None:
            channel.session.account = account
        return Caller(account, domain, "HTTPA", server.domains, channel.peer.address, channel.secure, channel.client)


async def information(server: Server) -> list[Information]:
    """What the General page tells about this server."""
    addresses = sorted(server.presence.local)
    servers = [f"[{address}]" + ("" if port == 53 else f":{port}") for address, port in await server.resolver.servers()]
    return [
        Information("Version", (f"Pillarbox {VERSION}",)),
        Information("Operating system", (f"{platform.system()} {platform.release()}",)),
        Information("Hardware", (f"{platform.machine()}, {os.cpu_count() or 1} processors",)),
        Information(
            "Local IP addresses",
            tuple(f"[{address}]" for address in addresses),
            frozenset(f"[{a}]" for a in addresses if server.presence.domain_of_address(a) is None),
        ),
        Information("DNS server addresses", tuple(servers)),
        Information("Up-time", (_span(server.clock.monotonic() - server.began),)),
    ]


def _span(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    return f"{days} d {rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"


def _token() -> str:
    return secrets.token_hex(16)
