"""The RPOP module in one piece, over the rooms of a server."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from appliance.kernel.clock import Clock
from appliance.kernel.journal import Journal
from appliance.kernel.log import Logger
from appliance.kernel.network import local_addresses
from appliance.kernel.operations import Operations
from appliance.kernel.schedule import Schedule
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import Settings, Storage
from appliance.kernel.statistics import Statistics
from appliance.modules.rpop import operations as rpop_operations
from appliance.modules.rpop.connecting import Connector
from appliance.modules.rpop.distribution import Distribution, Routing
from appliance.modules.rpop.polling import Poller
from appliance.modules.rpop.scheduler import Scheduler
from appliance.modules.rpop.settings import LOG_LEVEL, TAG
from appliance.objects.domains import Domains
from appliance.transfer.receiver import Receiver

if TYPE_CHECKING:
    import ssl

__all__ = ["Rooms", "RpopModule"]


class LogSource(Protocol):
    """Gives loggers: the Log."""

    def source(self, tag: str, level: Callable[[], int]) -> Logger: ...


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the server has ready: `addresses(name)` asks the resolver, `context(verify)` gives a client's TLS context, `host()`
    is the main domain's name, `storage(path, mode)` the storage of a dictionary file."""

    settings: Settings
    log: LogSource
    statistics: Statistics
    clock: Clock
    domains: Domains
    router: Routing
    receiver: Receiver
    journal: Journal
    addresses: Callable[[str], Awaitable[Sequence[str]]]
    context: Callable[[bool], Awaitable[ssl.SSLContext]]
    schedule: Schedule
    sessions: Sessions
    host: Callable[[], str]
    storage: Callable[[str, int], Storage]
    base: str


class RpopModule:
    """Make it before the replay; `scheduler.replayed` takes the marks of the journal, `scheduler.run` is the component."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self.connector = Connector(rooms.settings, rooms.addresses, _own, rooms.context, rooms.domains.server_key)
        poller = Poller(
            self.connector,
            Distribution(rooms.router, rooms.domains.find_account, rooms.host),
            rooms.receiver,
            rooms.settings,
            rooms.clock,
            rooms.statistics,
            rooms.host,
        )
        self.scheduler = Scheduler(
            poller,
            rooms.domains,
            rooms.settings,
            rooms.journal,
            rooms.schedule,
            rooms.sessions,
            rooms.log.source(TAG, lambda: rooms.settings[LOG_LEVEL]),
            rooms.clock,
            rooms.statistics,
            rooms.storage,
            rooms.base,
        )
        rooms.domains.lifecycle.participants.append(self.scheduler)

    def declare(self, operations: Operations) -> None:
        """The operations on remote accounts."""
        rpop_operations.declare(operations, self._rooms.domains, self._rooms.settings, self.scheduler)


def _own(address: str) -> bool:
    """Whether an address is one of this computer."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or parsed.is_unspecified or str(parsed) in local_addresses()
