"""Lists of addresses in DNS: black ones (RBL) and white ones (RFC 5782; manual, chapter 7, Using DNS-based Blacklisting).

All are asked at once, each at most twice. A list that does not answer is left out for a while, so a dead one costs its
time-out once. A white list outweighs the black ones; among these the first of the table counts. A closed line is no fault
of the lists.
"""

from __future__ import annotations

import ipaddress
from typing import Final, Protocol

import trio

from appliance.formats.iplists import AddressList
from appliance.kernel.clock import Clock
from appliance.kernel.log import Logger
from appliance.kernel.resolver import LineClosed, ResolverTrouble
from appliance.kernel.settings import Settings
from appliance.modules.smtp.protection.settings import (
    LIST_CODES,
    LIST_NAME,
    LIST_USE,
    RBL_PAUSE,
    RBL_SERVERS,
    RBL_TIMEOUT,
    WHITE,
)

#: Answers that mean "listed" (manual); 127.0.0.1 and everything outside is a sign of a list that is gone.
_USUAL: Final = AddressList.parse("127.0.0.2-127.1.255.255")


class ListNames(Protocol):
    """The resolver: the addresses of a name in a list, empty if it is not listed. Raises ResolverTrouble."""

    async def listed(self, name: str) -> list[str]: ...


def question(address: str) -> str:
    """The labels that stand for an address in front of a list's name (RFC 5782, 2.1 and 2.4)."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return parsed.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


class DnsLists:
    """Asks them."""

    def __init__(self, settings: Settings, names: ListNames, clock: Clock, log: Logger) -> None:
        self.settings = settings
        self._names = names
        self._clock = clock
        self._log = log
        #: Lists that gave no answer, and until when they are left out.
        self._silent: dict[str, float] = {}

    async def check(self, address: str) -> str | None:
        """The name of the first black list that has the address; None if there is none, or a white one has it."""
        try:
            labels = question(address)
        except ValueError:
            return None
        now = self._clock.monotonic()
        rows = self.settings[RBL_SERVERS]
        asked = [row for row in rows if self._silent.get(_name(row), 0.0) <= now]
        hits: set[str] = set()
        missing = {_name(row) for row in asked}

        async def ask(name: str, codes: AddressList) -> None:
            try:
                answers = await self._names.listed(f"{labels}.{name}")
            except LineClosed:
                pass
            except ResolverTrouble as error:
                self._leave_out(name, str(error))
            else:
                if any(answer in (codes or _USUAL) for answer in answers):
                    hits.add(name)
            missing.discard(name)

        with trio.move_on_after(self.settings[RBL_TIMEOUT]):
            async with trio.open_nursery() as nursery:
                for row in asked:
                    nursery.start_soon(ask, _name(row), row[LIST_CODES.key])
        for name in missing:
            self._leave_out(name, "no answer in time")
        if any(_name(row) in hits and row[LIST_USE.key] == WHITE for row in asked):
            return None
        return next((_name(row) for row in asked if _name(row) in hits), None)

    def left_out(self) -> list[str]:
        """The lists that are not asked now."""
        now = self._clock.monotonic()
        return [name for name, until in self._silent.items() if until > now]

    def reset(self, name: str) -> bool:
        """Ask a list again; whether it was left out."""
        return self._silent.pop(name, None) is not None

    def _leave_out(self, name: str, reason: str) -> None:
        pause = self.settings[RBL_PAUSE]
        self._log.problem("the list %s is left out for %d seconds: %s", name, pause, reason)
        self._silent = {
            key: until for key, until in self._silent.items() if until > self._clock.monotonic() and key != name
        }
        self._silent[name] = self._clock.monotonic() + pause


def _name(row: dict[str, object]) -> str:
    return str(row[LIST_NAME.key]).strip().strip(".").lower()
