"""The SMTP module in one piece: the receiving service and the sender, over the rooms of a server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.kernel.channel import Channel
from appliance.kernel.clock import Clock
from appliance.kernel.listener import Listener, Network, OpenSocket
from appliance.kernel.log import Logger
from appliance.kernel.network import local_addresses
from appliance.kernel.operations import Authority
from appliance.kernel.peers import Peers
from appliance.kernel.resolver import Resolver
from appliance.kernel.schedule import Schedule
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.kernel.strings import Strings
from appliance.kernel.tls import Tls
from appliance.modules.smtp.connecting import Connector
from appliance.modules.smtp.hosts import HostFinder
from appliance.modules.smtp.protection.guard import make_guard
from appliance.modules.smtp.relaying import Relaying
from appliance.modules.smtp.resolving import ResolverNames
from appliance.modules.smtp.sending import TAG as SENDING_TAG
from appliance.modules.smtp.sending import SmtpSender
from appliance.modules.smtp.service import TAG, SmtpService
from appliance.modules.smtp.settings import LISTENER, LOG_LEVEL
from appliance.modules.smtp.surroundings import Logins, Routing, Surroundings
from appliance.modules.smtp.turning import Turning
from appliance.modules.smtp.verifying import PathVerifier
from appliance.modules.smtp.wakeup import TAG as WAKEUP_TAG
from appliance.modules.smtp.wakeup import WakeupClient
from appliance.transfer.outflow import Outflow
from appliance.transfer.transfer import Transfer


class LogSource(Protocol):
    """Gives loggers: the Log."""

    def source(self, tag: str, level: Callable[[], int]) -> Logger: ...


def _no_names() -> Sequence[str]:
    return ()


def _any_address(domain: str, received: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the server has ready: `host()` is the main domain's name, `digests()` whether methods that need a readable
    password are listed, `domains()` the names of all domains, the main one first; `sending_address` as in SmtpSender."""

    settings: Settings
    strings: Strings
    log: LogSource
    statistics: Statistics
    clock: Clock
    router: Routing
    transfer: Transfer
    logins: Logins
    authority: Authority
    peers: Peers
    protection: Settings
    outflow: Outflow
    resolver: Resolver
    schedule: Schedule
    tls: Tls
    sessions: Sessions
    host: Callable[[], str]
    digests: Callable[[], bool]
    version: str
    domains: Callable[[], Sequence[str]] = _no_names
    advertise_secure: Callable[[], bool] = lambda: True
    sending_address: Callable[[str, str], str] = _any_address


class SmtpModule:
    """`listener(network)` serves clients, `sender.run` and `wakeup.run` are components of the supervisor's. `listening` gives the open
    sockets of the listener, so that mail is never sent to ourselves."""

    def __init__(self, rooms: Rooms) -> None:
        self.listening: Callable[[], Sequence[OpenSocket]] = _nothing_open
        settings = self._settings = rooms.settings
        level = _level(settings)
        names = ResolverNames(rooms.resolver)
        finder = HostFinder(settings, names, is_own=self._is_own, own_names=lambda: [rooms.host()])

        connector = Connector(settings, finder, lambda verify: rooms.tls.client_context(verify=verify), rooms.host)
        self.sender = SmtpSender(
            connector,
            rooms.router,
            rooms.schedule,
            rooms.sessions,
            rooms.log.source(SENDING_TAG, level),
            rooms.clock,
            rooms.statistics,
            rooms.sending_address,
        )
        self.sender.attach(rooms.transfer.queues)
        self.log = rooms.log.source(TAG, level)
        guard = make_guard(
            rooms.protection,
            rooms.peers,
            rooms.resolver,
            rooms.clock,
            self.log,
            rooms.statistics,
            rooms.outflow,
        )
        self.guard = guard
        self.service = SmtpService(
            Surroundings(
                settings=settings,
                strings=rooms.strings,
                log=self.log,
                statistics=rooms.statistics,
                clock=rooms.clock,
                router=rooms.router,
                receiver=rooms.transfer.receiver,
                relaying=Relaying(
                    settings,
                    is_client=rooms.peers.client,
                    addresses=names.known_addresses,
                    exchangers=names.known_exchangers,
                    own_name=rooms.host,
                ),
                verifier=PathVerifier(
                    names,
                    is_client=rooms.peers.client,
                    listed=lambda address: rooms.peers.denied(address) or guard.blacklists.listed(address),
                ),
                guard=guard,
                logins=rooms.logins,
                authority=rooms.authority,
                host=rooms.host,
                unique=lambda: secrets.token_hex(12),
                digests=rooms.digests,
                version=rooms.version,
                release=self.sender.release,
                advertise_secure=rooms.advertise_secure,
                turn=Turning(self.sender, rooms.router, rooms.host),
            )
        )
        self._is_client = rooms.peers.client
        self.wakeup = WakeupClient(
            connector,
            names,
            self._receive,
            lambda: rooms.domains() or [rooms.host()],
            rooms.schedule,
            rooms.sessions,
            rooms.log.source(WAKEUP_TAG, level),
            rooms.clock,
            rooms.statistics,
        )

    async def _receive(self, channel: Channel, log: Logger) -> None:
        """Take the mail of a host that we have called."""
        channel.client = self._is_client(channel.peer.address)
        await self.service.receive(channel, log)

    def listener(self, network: Network) -> Listener:
        """The listener of the receiving side; to be run by the supervisor."""
        service = self.service
        listener = Listener(
            TAG,
            self.log,
            self._settings,
            LISTENER,
            service.serve,
            network,
            refusal=service.refusal,
            farewell=service.farewell,
        )
        self.listening = listener.sockets
        return listener

    def _is_own(self, address: str, port: int) -> bool:
        """Whether our own listener takes what is sent there."""
        sockets = [one for one in self.listening() if one.port == port]
        if not sockets:
            return False
        if any(one.address == address for one in sockets):
            return True
        return any(one.address == "all" for one in sockets) and (
            address.startswith("127.") or address == "::1" or address in local_addresses()
        )


def _level(settings: Settings) -> Callable[[], int]:
    return lambda: settings[LOG_LEVEL]


def _nothing_open() -> Sequence[OpenSocket]:
    return ()
