"""All protection of the receiving side in one hand, as a session sees it."""

from __future__ import annotations

from typing import Protocol

from appliance.kernel.channel import Channel
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.peers import Peers, ReverseNames
from appliance.kernel.settings import Settings
from appliance.kernel.statistics import Statistics
from appliance.modules.smtp.protection.blacklists import Blacklists
from appliance.modules.smtp.protection.devices import Device, Devices
from appliance.modules.smtp.protection.dnslists import DnsLists, ListNames
from appliance.modules.smtp.protection.harvest import Harvesters
from appliance.modules.smtp.protection.settings import DELAY, MAX_DELAY, MESSAGE_LIMIT, PATIENCE
from appliance.transfer.outflow import Outflow


class _Resolver(ReverseNames, ListNames, Protocol): ...


class Guard:
    """What is shared by all sessions. Questions about things that are switched off cost a look-up of a setting."""

    def __init__(
        self,
        settings: Settings,
        peers: Peers,
        blacklists: Blacklists,
        clock: Clock,
        log: Logger,
        statistics: Statistics,
        outflow: Outflow,
    ) -> None:
        self.settings = settings
        self.peers = peers
        self.blacklists = blacklists
        self.devices = Devices(settings, clock)
        self.harvesters = Harvesters(settings, clock)
        self.outflow = outflow
        self._log = log
        self._blacklisted = statistics.counter("smtp.blacklisted", "SMTP connections of blacklisted hosts")
        self._harvesters = statistics.counter("smtp.harvesters", "hosts that tried too many unknown recipients")

    def is_client(self, address: str) -> bool:
        """A client now, if it was none when the session began: its user may have read his mail since."""
        return self.peers.client(address)

    def fixed_client(self, address: str) -> bool:
        """A client for good."""
        return self.peers.listed(address)

    async def check(self, channel: Channel) -> str | None:
        """Whether a stranger's host is blacklisted, and by whom."""
        address = channel.peer.address
        found = await self.blacklists.check(address)
        if found is not None:
            self._blacklisted.add()
            self._log.problem("host %s is blacklisted%s", address, f" by {found}" if found else "")
        return found

    def unknown_recipient(self, channel: Channel) -> bool:
        """A stranger named a recipient that does not exist; whether that was once too often."""
        if not self.harvesters.note(channel.peer.address):
            return False
        self._harvesters.add()
        self._log.problem("host %s names too many unknown recipients", channel.peer.address)
        return True

    def barred(self, channel: Channel) -> bool:
        """Whether the host has tried too many names."""
        return self.harvesters.barred(channel.peer.address)

    def delay(self, errors: int) -> float:
        """Seconds that the reply to this error waits."""
        more = errors - self.settings[PATIENCE]
        return min(self.settings[MAX_DELAY], self.settings[DELAY] * more) if more > 0 else 0.0

    def session_is_full(self, messages: int) -> bool:
        """Whether a session has had as many messages as it may have."""
        limit = self.settings[MESSAGE_LIMIT]
        return limit is not None and messages >= limit

    def status(self) -> dict[str, list[str]]:
        """What is turned away, left out or stopped now, by kind."""
        return {
            "Harvesters": self.harvesters.turned_away(),
            "Lists": self.blacklists.lists.left_out(),
            "Devices": self.devices.rates.exceeded(),
            "Accounts": self.outflow.rates.exceeded(),
        }

    def reset(self, name: str) -> bool:
        """Begin anew with an address, a list or an account; whether it was known."""
        found = (self.harvesters, self.blacklists.lists, self.devices.rates, self.outflow.rates)
        return any([one.reset(name) for one in found])

    def device(self, channel: Channel) -> Device | None:
        """The device that sends from there, if it is one that cannot log in."""
        return self.devices.find(channel.peer.address)

    def device_permits(self, channel: Channel, device: Device) -> bool:
        """Whether a device may have one recipient more; it is counted then."""
        address, rates = channel.peer.address, self.devices.rates
        if rates.take(address, device.limit):
            return True
        if rates.news(address):
            self._log.failure(
                "device %s <%s>: %d recipients in an hour are reached", address, device.sender, device.limit
            )
        return False


def make_guard(
    settings: Settings,
    peers: Peers,
    resolver: _Resolver,
    clock: Clock,
    log: Logger,
    statistics: Statistics,
    outflow: Outflow | None = None,
) -> Guard:
    """With its parts. Without `outflow` accounts have no caps."""
    lists = DnsLists(settings, resolver, clock, log)
    blacklists = Blacklists(settings, resolver, lists, log)
    return Guard(settings, peers, blacklists, clock, log, statistics, outflow or Outflow(clock, log, _no_limit))


def _no_limit(account: str) -> int | None:
    return None
