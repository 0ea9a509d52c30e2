"""The server: reads the base directory, wires the rooms explicitly, opens the root nursery.

Nothing registers itself by being imported, and nothing is shared between two servers of one process. The order of the start
is the order of `_start`: log, settings, journal, domains, replay, accounts, transfer, modules, listeners.
"""

from __future__ import annotations

import os.path
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import trio

from appliance import server_operations
from appliance.about import VERSION
from appliance.access.imap.settings import SETTINGS as IMAP
from appliance.access.pop.settings import SETTINGS as POP
from appliance.access.pwd.settings import SETTINGS as PWD
from appliance.accounts import alerting as alert_operations
from appliance.accounts import operations as account_operations
from appliance.accounts.alerting import Alerts
from appliance.accounts.external import LOG_LEVEL as EXTAUTH_LOG
from appliance.accounts.external import TAG as EXTAUTH
from appliance.accounts.external import ExternalAuthenticator
from appliance.accounts.frames import Safe, decode
from appliance.accounts.gate import Accounts
from appliance.accounts.login import Logins, SenderLogins
from appliance.accounts.recovery import Redo
from appliance.filters.filters import ContentFilters
from appliance.filters.mirroring import Mirroring
from appliance.filters.settings import HELPERS
from appliance.kernel import components, log_reading
from appliance.kernel import schedule as schedule_operations
from appliance.kernel import sessions as session_operations
from appliance.kernel.clock import Clock, SystemClock
from appliance.kernel.disk import Disk, WorkerDisk
from appliance.kernel.helpers import Helpers
from appliance.kernel.journal import Journal
from appliance.kernel.listener import Listener, OpenSocket
from appliance.kernel.log import LOG, Log, Logger
from appliance.kernel.log_reading import LogReader
from appliance.kernel.network import descriptor_limit, local_addresses
from appliance.kernel.notices import Notices
from appliance.kernel.operations import Caller, OperationError, Operations
from appliance.kernel.peers import IP_ADDRESSES, Peers
from appliance.kernel.resolver import DNR, DNR_LOG, Resolver
from appliance.kernel.schedule import SCHEDULE, SCHEDULE_LOG, Schedule
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import Group, Settings, SettingsRegistry, Storage
from appliance.kernel.settings_files import DictionaryFile
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.supervisor import CRASH_RECOVERY, INTERNALS_LOG, Supervisor
from appliance.kernel.tasks import TaskStatus
from appliance.kernel.tls import TLS, TLS_LOG, Tls
from appliance.modules.list.groups import GroupModule
from appliance.modules.list.settings import LIST
from appliance.modules.list.settings import LOG_LEVEL as LIST_LOG
from appliance.modules.local.content import content_of, stored_content
from appliance.modules.local.delivery import LocalModule
from appliance.modules.local.routing import LocalRouting
from appliance.modules.local.settings import ALERT_ON, ALERT_PERCENT, ALERT_TEXT, LOCAL
from appliance.modules.local.settings import LOG_LEVEL as LOCAL_LOG
from appliance.modules.pipe.module import PipeModule
from appliance.modules.pipe.routing import PipeRouting
from appliance.modules.pipe.settings import LOG_LEVEL as PIPE_LOG
from appliance.modules.pipe.settings import PIPE
from appliance.modules.rpop.module import Rooms as RpopRooms
from appliance.modules.rpop.module import RpopModule
from appliance.modules.rpop.settings import RPOP
from appliance.modules.smtp.module import Rooms, SmtpModule
from appliance.modules.smtp.protection import operations as protection_operations
from appliance.modules.smtp.protection.settings import PROTECTION
from appliance.modules.smtp.routing import SmtpRouting
from appliance.modules.smtp.settings import SMTP
from appliance.modules.smtp.surroundings import Sender
from appliance.objects import declarations as d
from appliance.objects import operations as object_operations
from appliance.objects.domains import Domains
from appliance.objects.presence import Presence
from appliance.objects.security import DomainSecurity
from appliance.router.router import LOG_LEVEL as ROUTER_LOG
from appliance.router.router import ROUTER, Router
from appliance.rules import operations as rule_operations
from appliance.rules.doing import Workshop
from appliance.rules.lists import StringLists
from appliance.rules.notifier import NOTIFIER, NOTIFIER_LOG, Notifier
from appliance.rules.rules import Rules
from appliance.services import HTTPA, Services
from appliance.transfer.banned import BANNED
from appliance.transfer.outflow import Outflow
from appliance.transfer.recovery import StoredBefore
from appliance.transfer.reports import TEXTS as REPORT_TEXTS
from appliance.transfer.settings import ENQUEUER_LOG, ENQUEUER_PROCESSORS, QUEUE, TEMPFILES
from appliance.transfer.transfer import Transfer

GENERAL = Group("General", "General", (d.MAIN_DOMAIN, CRASH_RECOVERY, INTERNALS_LOG, d.CONSERVATIVE))

#: Seconds that the end of the transfer may take.
_CLOSE = 2.0


class Privilege(Protocol):
    """The process's root privilege (manual, chapter 4). `state` is root, dropped or none."""

    @property
    def state(self) -> str: ...

    async def drop(self) -> str: ...
    async def restore(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What the command line decides. `console` gets each log line; `trouble` what belongs into the operating system's log;
    `loopback` serialises every request to an account (tests); `programs(word)` gives the arguments that start a program which
    comes with the server; `privilege` gives root up and takes it back."""

    base: str
    port_offset: int = 0
    log_all: bool = False
    console: Callable[[bytes], object] | None = None
    trouble: Callable[[str], None] | None = None
    loopback: bool = False
    programs: Callable[[str], Sequence[str] | None] = lambda word: None
    privilege: Privilege | None = None


class _EarlySink:
    """Keeps what settings files have to report until there is a log (whose own settings are in such a file)."""

    def __init__(self) -> None:
        self.log: Log | None = None
        self.everything = False
        self._kept: list[tuple[int, str, str]] = []

    def put(self, level: int, tag: str, text: str) -> None:
        if self.log is not None:
            self.log.put(level, tag, text)
        else:
            self._kept.append((level, tag, text))

    def attach(self, log: Log) -> None:
        self.log = log
        for record in self._kept:
            log.put(*record)
        self._kept.clear()


class Server:
    """One server. `run` serves until `stop`; `disk` and `clock` may be given by tests.

    `provision` is awaited when the domains and all components are there and before the first listener opens.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        disk: Disk | None = None,
        clock: Clock | None = None,
        provision: Callable[[Server], Awaitable[None]] | None = None,
    ) -> None:
        self.options = options
        self.disk = disk or WorkerDisk()
        self.clock = clock or SystemClock()
        self.provision = provision
        self.statistics = Statistics()
        self.sessions = Sessions()
        self.notices = Notices()
        self.operations = Operations()
        self.components = SettingsRegistry()
        self.helpers = Helpers()
        self.listeners: list[Listener] = []
        self.began = self.clock.monotonic()
        #: What `digests` answers until the settings of a domain change.
        self._digests: bool | None = None
        #: Set when everything is open.
        self.ready = trio.Event()
        #: True if this start made the postmaster account.
        self.first_start = False
        sink = _EarlySink()
        self._files_log = Logger(sink, "SYSTEM", lambda: 5)
        self._make_components()
        self.log = Log(
            self.disk,
            self._path("SystemLogs"),
            self.log_settings,
            self.clock,
            everything=options.log_all,
            console=options.console,
            trouble=options.trouble,
            version=f"Pillarbox {VERSION}",
        )
        sink.attach(self.log)
        self.system = self.log.source("SYSTEM", lambda: self.general[INTERNALS_LOG])
        self.supervisor = Supervisor(self.general, self.system, self.sessions, self.statistics, trouble=options.trouble)
        self.strings = Strings(self._storage(self._path("Settings", "Strings.settings"), 0o640), self.system)

    def _path(self, *names: str) -> str:
        return os.path.join(self.options.base, *names)

    def _storage(self, path: str, mode: int) -> Storage:
        return DictionaryFile(self.disk, path, self._files_log, mode)

    def _component(self, group: Group) -> Settings:
        secret = any(setting.secret for setting in group)
        path = self._path("Settings", f"{group.name}.settings")
        return self.components.add(Settings(group, self._storage(path, 0o600 if secret else 0o640)))

    def _make_components(self) -> None:
        """Everything that has settings, in the order of the Settings pages."""
        self.general = self._component(GENERAL)
        self.router_settings = self._component(ROUTER)
        self.smtp_settings = self._component(SMTP)
        self.local_settings = self._component(LOCAL)
        self.list_settings = self._component(LIST)
        self.rpop_settings = self._component(RPOP)
        self.pipe_settings = self._component(PIPE)
        self.helper_settings = self._component(HELPERS)
        self.pop_settings = self._component(POP)
        self.imap_settings = self._component(IMAP)
        self.pwd_settings = self._component(PWD)
        self.admin_settings = self._component(HTTPA)
        self.address_settings = self._component(IP_ADDRESSES)
        self.schedule_settings = self._component(SCHEDULE)
        self.queue_settings = self._component(QUEUE)
        self.temp_settings = self._component(TEMPFILES)
        self.notifier_settings = self._component(NOTIFIER)
        self.banned_settings = self._component(BANNED)
        self.protection_settings = self._component(PROTECTION)
        self.login_settings = self._component(d.LOGIN_SECURITY)
        self.resolver_settings = self._component(DNR)
        self.tls_settings = self._component(TLS)
        self.log_settings = self._component(LOG)

    def _nearly_full(self) -> tuple[int, str] | None:
        settings = self.local_settings
        return (settings[ALERT_PERCENT], settings[ALERT_TEXT]) if settings[ALERT_ON] else None

    def host(self) -> str:
        return self.domains.main.name

    # Life ------------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`. Raises ComponentFailed when a failure ended it; ValueError of a provisioning file."""
        await self.supervisor.run(self._start, task_status=task_status)

    def stop(self, reason: str = "") -> None:
        self.supervisor.stop(reason)

    def sockets(self) -> list[OpenSocket]:
        """All open sockets, in the order of their services."""
        return [socket for listener in self.listeners for socket in listener.sockets()]

    async def _start(self) -> None:
        start = self.supervisor.start
        await self._load_settings()
        await start("log", self.log.run, vital=True)
        await start("helpers", self.helpers.run, vital=True)
        self.supervisor.accepting.append(self.helpers.close)
        self.supervisor.helpers.append(self.helpers.kill_all)
        self.system.major("Pillarbox %s starts, base directory %s", VERSION, self.options.base)
        self.system.major("at most %d descriptors may be open", descriptor_limit())
        await self._open_domains()
        await self._open_transfer()
        self._make_modules()
        await self._make_rules()
        self._declare_operations()
        if self.provision is not None:
            await self.provision(self)
        await self.presence.refresh(local_addresses())
        self.presence.lookup = self._addresses_of
        self.domains.followers.append(self._follow_domains)
        await start("domain addresses", self.presence.run)
        self.tls.host_name = self.domains.main.name
        await start("tls", self.tls.run)
        await start("SMTP sending", self.smtp.sender.run)
        await start("filters", self.filters.run)
        await start("External Authenticator", self.external.run)
        await self.pipe.recover()
        await start("notifier", self.notifier.run)
        self.transfer.start()
        await start("PIPE", self.pipe.run)
        await start("RPOP", self.rpop.scheduler.run)
        services = Services(self)
        await start("time limits", services.network.patience.run)
        for listener in services.listeners():
            self.listeners.append(listener)
            self.supervisor.accepting.append(listener.stop_accepting)
            await start(listener.name, listener.run)
        await start("SMTP wake-ups", self.smtp.wakeup.run)
        self.supervisor.checkpoint += [self.accounts.checkpoint, self.local.counting.save]
        self.ready.set()

    async def _addresses_of(self, domain: str, by_mx: bool) -> list[str]:
        """The addresses that the DNS gives for a domain, or for the first of its mail hosts (manual, chapter 18)."""
        if not by_mx:
            return await self.resolver.addresses(domain)
        hosts = await self.resolver.mx(domain)
        return await self.resolver.addresses(hosts[0].name) if hosts else []

    async def _follow_domains(self) -> None:
        self._digests = None
        await self.presence.refresh(local_addresses())
        await self.tls.refresh()

    async def _load_settings(self) -> None:
        try:
            for settings in self.components.all():
                for error in await settings.load():
                    self.system.failure("%s settings: %s", settings.group.name, error)
            await self.strings.load()
        except OSError as error:
            # The log's own settings are among them; with its defaults it still tells why nothing runs.
            self.system.failure("%s cannot be read: %s", error.filename, error.strerror)
            await self.supervisor.start("log", self.log.run, vital=True)
            raise

    async def _server_key(self) -> bytes:
        """The key of reversible passwords and of decoys; made at the first start."""
        storage = self._storage(self._path("Settings", "ServerKey.settings"), 0o600)
        values = await storage.load()
        text = values.get("Key")
        if not isinstance(text, str) or len(text) != 64:
            text = secrets.token_hex(32)
            await storage.save({**values, "Key": text})
        return bytes.fromhex(text)

    async def _open_domains(self) -> None:
        self.domains = Domains(
            self.disk, self.options.base, self._storage, self.general, server_key=await self._server_key()
        )
        self.first_start = await self.domains.load()
        self.presence = Presence(self.domains, self._storage, self.system)
        self.peers = Peers(self.address_settings, self.clock)
        self.peers.domain_of = self.presence.domain_of_address
        self.router = Router(
            self.domains,
            self.router_settings,
            self.log.source("ROUTER", lambda: self.router_settings[ROUTER_LOG]),
            self.presence.assigned,
        )
        self.router.generation = self.operations.generation
        local = self.local_routing = LocalRouting(self.domains, self.local_settings)
        smtp = SmtpRouting(self.smtp_settings)
        self.router.first += [local.first, smtp.first, PipeRouting(lambda: self.strings).first]
        self.router.final += [local.final, smtp.final]
        self.schedule = Schedule(
            self.schedule_settings, self.clock, self.log.source("TCP", lambda: self.schedule_settings[SCHEDULE_LOG])
        )
        self.resolver = Resolver(
            self.resolver_settings,
            self.clock,
            self.disk,
            self.log.source("DNR", lambda: self.resolver_settings[DNR_LOG]),
            self.schedule,
            self.statistics,
        )
        self.peers.names = self.resolver
        self.tls = Tls(
            self.tls_settings,
            self.disk,
            self._path("Settings"),
            self.clock,
            self.log.source("TLS", lambda: self.tls_settings[TLS_LOG]),
            self.statistics,
        )
        self.tls.domains = self.presence

    # Messages --------------------------------------------------------------------------------------------------------

    async def _open_transfer(self) -> None:
        """Journal, transfer and accounts; what a crash left is made whole before anything else happens."""
        start = self.supervisor.start
        self.journal = await Journal.open(self.disk, self._path("Queue"))
        await start("journal", self.journal.run, vital=True)
        self.strings.declare_all(REPORT_TEXTS)
        self.transfer = Transfer(
            self.disk,
            self.journal,
            self.options.base,
            self.clock,
            self.log,
            self.queue_settings,
            self.temp_settings,
            self.router,
            self.strings,
            self.host,
            self.banned_settings,
        )
        self.transfer.enqueuer.current = self.router.current
        self.transfer.count(self.statistics)
        self.alerts = Alerts(self._storage(self._path("Settings", "Alerts.data"), 0o640), self.clock)
        self.accounts = Accounts(
            self.disk,
            self.journal,
            self.clock,
            self.notices,
            self.log.source("ACCOUNT", lambda: self.domains.main.settings[d.ACCOUNT_LOG]),
            alerts=self.alerts,
            loopback=self.options.loopback,
        )
        self.alerts.nearly_full = self._nearly_full
        self.accounts.shared.conservative = lambda: self.general[d.CONSERVATIVE]
        self.accounts.shared.safe = self.transfer.safe
        self.transfer.spool.make_safe = self.accounts.make_safe
        self.domains.lifecycle.participants.append(self.accounts)
        self._make_rpop()
        await self._replay()
        await start("accounts", self.accounts.run, vital=True)
        await start("transfer", self._run_transfer, vital=True)

    def _make_rpop(self) -> None:
        """Before the replay, because the journal asks it what may go, and the replay tells it what had come."""
        self.rpop = RpopModule(
            RpopRooms(
                settings=self.rpop_settings,
                log=self.log,
                statistics=self.statistics,
                clock=self.clock,
                domains=self.domains,
                router=self.router,
                receiver=self.transfer.receiver,
                journal=self.journal,
                addresses=self.resolver.addresses,
                context=lambda verify: self.tls.client_context(verify=verify),
                schedule=self.schedule,
                sessions=self.sessions,
                host=self.host,
                storage=self._storage,
                base=self.options.base,
            )
        )

    async def _run_transfer(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """When it ends, the journal still runs: what waits is put into files, so that the Queue directory alone tells all."""
        try:
            await self.transfer.run(task_status=task_status)
        finally:
            with trio.CancelScope(deadline=trio.current_time() + _CLOSE, shield=True):
                await self.transfer.close()

    async def _replay(self) -> None:
        recovery = self.transfer.recovery
        replay = self.accounts.replay(self.domains.find_account)
        async for position, frame in self.journal.replay():
            recovery.replay(position, frame)
            replay.take(position, frame)
            known = decode(frame)
            if isinstance(known, Safe):
                recovery.safe(known.account, position)
        await recovery.finish()
        self.rpop.scheduler.replayed(recovery.marks)
        for name in await replay.finish(self._redo()):
            self.system.major("%s was made whole", name)

    async def _redo(self) -> AsyncIterator[Redo]:
        spool = self.transfer.spool
        for before in self.transfer.recovery.stored():

            async def content(before: StoredBefore = before) -> bytes:
                data = before.content if before.content is not None else await spool.content(before.message)
                return stored_content(data)

            yield Redo(before.position, before.stored.account, before.stored.record, content)

    def _make_modules(self) -> None:
        self.logins = Logins(
            self.accounts,
            self.domains,
            self.router.route,
            self.peers,
            self.login_settings,
            self.strings,
            self.clock,
            self.system,
        )
        self.external = ExternalAuthenticator(
            self.helper_settings,
            self.helpers,
            self.options.base,
            self.log.source(EXTAUTH, lambda: self.helper_settings[EXTAUTH_LOG]),
        )
        self.logins.external = self.external
        self.domains.verifier = self.logins.verify
        self.local_routing.consult = self.external.make
        self.local = LocalModule(
            self.domains,
            self.local_settings,
            self.accounts,
            self.transfer,
            self.log.source("LOCAL", lambda: self.local_settings[LOCAL_LOG]),
            self.clock,
            self.strings,
            self.statistics,
        )
        self.local.attach()
        self.groups = GroupModule(
            self.domains,
            self.list_settings,
            self.transfer,
            self.log.source("LIST", lambda: self.list_settings[LIST_LOG]),
            self.clock,
            self.strings,
            self.statistics,
        )
        self.groups.attach()
        self.pipe = PipeModule(
            self.pipe_settings,
            self.disk,
            self.options.base,
            self.helpers,
            self.transfer,
            self.clock,
            self.log.source("PIPE", lambda: self.pipe_settings[PIPE_LOG]),
            self.strings,
            self.statistics,
            self.host,
        )
        self.pipe.attach()
        self.filters = ContentFilters(
            self.helper_settings,
            self.helpers,
            self.options.base,
            self.log,
            lambda: self.queue_settings[ENQUEUER_PROCESSORS],
            builtin=self.options.programs,
            outside=self.transfer.enqueuer.outside,
            mirror=Mirroring(self.transfer),
            statistics=self.statistics,
        )
        self.outflow = Outflow(self.clock, self.system, self._outflow_limit, self._outflow_alarm)
        self.transfer.receiver.caps = partial(self.outflow.check, self.router)
        self.smtp = SmtpModule(
            Rooms(
                settings=self.smtp_settings,
                strings=self.strings,
                log=self.log,
                statistics=self.statistics,
                clock=self.clock,
                router=self.router,
                transfer=self.transfer,
                logins=SenderLogins(self.logins, Sender),
                authority=self.domains,
                peers=self.peers,
                protection=self.protection_settings,
                outflow=self.outflow,
                resolver=self.resolver,
                schedule=self.schedule,
                tls=self.tls,
                sessions=self.sessions,
                host=self.host,
                digests=self.digests,
                advertise_secure=self.advertise_secure,
                version=VERSION,
                domains=lambda: [domain.name for domain in self.domains],
                sending_address=self.presence.sending_address,
            )
        )

    def _outflow_limit(self, name: str) -> int | None:
        account = self.domains.find_account(name)
        return account.settings[d.OUTFLOW] if account is not None else None

    async def _outflow_alarm(self, name: str, text: str) -> None:
        """The user, and whoever has taken his password, sees it; so does the postmaster."""
        for account in {name, f"postmaster@{self.host()}"}:
            with suppress(OperationError):
                await self.operations.perform(
                    self.system_caller("SMTP"),
                    "POSTACCOUNTALERT",
                    {"accountName": account, "newAlert": f"{name}: {text}"},
                )

    async def _make_rules(self) -> None:
        """The rule engine, between the enqueuer, local delivery and the filters."""
        notifier_log = self.log.source("NOTIFIER", lambda: self.notifier_settings[NOTIFIER_LOG])
        self.notifier = Notifier(self.notifier_settings, notifier_log, self.schedule)
        shop = Workshop(
            domains=self.domains,
            accounts=self.accounts,
            transfer=self.transfer,
            helpers=self.helpers,
            notifier=self.notifier,
            lists=StringLists(),
            clock=self.clock,
            base=self.options.base,
            content=content_of,
            filters=self.filters,
        )
        self.rules = Rules(
            shop,
            self.router,
            self._storage(self._path("Settings", "Rules.settings"), 0o600),
            self.host,
            self.log.source("ENQUEUERRULES", lambda: self.queue_settings[ENQUEUER_LOG]),
            self.log.source("LOCAL", lambda: self.local_settings[LOCAL_LOG]),
            self.strings,
        )

        def changed(some: bool) -> None:
            self.transfer.enqueuer.rules = self.rules.server_rules if some else None

        self.rules.changed = changed
        await self.rules.load()
        self.local.rules = self.rules

    # Administration --------------------------------------------------------------------------------------------------

    def _declare_operations(self) -> None:
        operations = self.operations
        object_operations.declare(self.domains, operations)
        DomainSecurity(self.domains, self.clock).declare(operations)
        self.router.declare(operations)
        self.transfer.declare(operations)
        self.local.counting.declare(operations)
        self.rpop.declare(operations)
        self.filters.declare(operations)
        self.pipe.declare(operations)
        rule_operations.declare(operations, self.rules)
        self.smtp.wakeup.declare(operations)
        protection_operations.declare(operations, self.smtp.guard, self.system)
        schedule_operations.declare(operations, self.schedule)
        alert_operations.declare(self.alerts, self.accounts, self.domains, operations)
        account_operations.declare(self.accounts, self.domains, self.logins, self.sessions, operations)
        components.declare(
            operations, self.components, self.system, {f"{GENERAL.name}.{d.MAIN_DOMAIN.key}": self.domains.rename_main}
        )
        session_operations.declare(operations, self.sessions)
        self.log_reader = LogReader(self.log)
        log_reading.declare(operations, self.log_reader, self.log, self.system)

        server_operations.declare(self, operations)

    def system_caller(self, protocol: str) -> Caller:
        """The server itself: start-up and provisioning."""
        return Caller(None, self.domains.main.name, protocol, self.domains)

    def advertise_secure(self) -> bool:
        """Whether methods of authentication that send no password are listed."""
        return self.login_settings[d.ADVERTISE_SECURE]

    def digests(self) -> bool:
        """Whether methods that need a readable password make sense: some default says that passwords are kept so."""
        if self._digests is None:
            levels = (self.domains.account_defaults, *(domain.account_defaults for domain in self.domains))
            self._digests = any(level[d.ENCRYPTION] != "U-crpt" for level in levels)
        return self._digests or self.external.enabled
