"""Is a host blacklisted? (Manual, chapter 7, Blacklisting Offenders.)

The order: clients are never asked about; a white-hole address is not blacklisted; an address of our own list is; then the
names of the address, which may protect it or condemn it; then lists in DNS. Without such settings no question is asked and
no packet sent.
"""

from __future__ import annotations

from typing import Final

from appliance.formats.wildcards import matches
from appliance.kernel.log import Logger
from appliance.kernel.peers import ReverseNames, confirmed_name
from appliance.kernel.resolver import NoSuchName, ResolverTrouble
from appliance.kernel.settings import Settings
from appliance.modules.smtp.protection.dnslists import DnsLists
from appliance.modules.smtp.protection.settings import (
    BLACK_BY_NAME,
    BLACK_NAMES,
    BLACKLISTED,
    RBL_SERVERS,
    USE_RBL,
    WHITE_BY_NAME,
    WHITE_HOLE,
    WHITE_NAMES,
)

OWN: Final = ""
"""Listed by the list of our own."""
_NAMES: Final = 10


class Blacklists:
    """The answers; `names` is the resolver."""

    def __init__(self, settings: Settings, names: ReverseNames, lists: DnsLists, log: Logger) -> None:
        self.settings = settings
        self._names = names
        self.lists = lists
        self._log = log

    def active(self) -> bool:
        """Whether there is anything to look up for a stranger."""
        settings = self.settings
        if settings[BLACKLISTED]:
            return True
        if settings[USE_RBL] and settings[RBL_SERVERS]:
            return True
        return bool(settings[BLACK_NAMES]) and settings[BLACK_BY_NAME]

    def listed(self, address: str) -> bool:
        """On our own list, and not a white hole. At once."""
        settings = self.settings
        listed = settings[BLACKLISTED]
        return bool(listed) and address in listed and address not in settings[WHITE_HOLE]

    async def check(self, address: str) -> str | None:
        """None for a host that is not blacklisted, else who says so: a list in DNS, a name of the host, or OWN."""
        settings = self.settings
        if address in settings[WHITE_HOLE]:
            return None
        if address in settings[BLACKLISTED]:
            return OWN
        white_names = settings[WHITE_NAMES] if settings[WHITE_BY_NAME] else ()
        if white_names and await confirmed_name(self._names, address, white_names):
            return None
        if settings[BLACK_BY_NAME] and (name := await self._bad_name(address)) is not None:
            return name
        return await self.lists.check(address) if settings[USE_RBL] else None

    async def _bad_name(self, address: str) -> str | None:
        """The name, or the resolver's words for its absence, that a picture matches."""
        try:
            texts = (await self._names.pointer(address, quick=True))[:_NAMES]
        except NoSuchName as error:
            texts = [str(error).rpartition(": ")[2]]
        except ResolverTrouble as error:
            self._log.low("the name of %s cannot be found: %s", address, error)
            return None
        pictures = self.settings[BLACK_NAMES]
        return next((text for text in texts if any(matches(picture, text) for picture in pictures)), None)
