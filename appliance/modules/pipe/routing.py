"""The Router's step of PIPE: the domain `pipe` (manual, chapter 33).

Mail to programs comes by Router records and by senders who are trusted. A stranger who writes to `"program parameters"@pipe`
himself is refused, and so is one whose address would put more than a plain name into a record's `*`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

from appliance.kernel.strings import Strings
from appliance.modules.pipe.addressing import is_tame, parse_pipe
from appliance.router.parsing import parse
from appliance.router.route import Address, Purpose, Refused, Rewritten, Route

__all__ = ["DOMAIN", "MODULE", "PipeRouting"]

MODULE: Final = "PIPE"
DOMAIN: Final = "pipe"


class PipeRouting:
    """`first` is the router's step. A message without a named queue gets one of its own, with a number."""

    def __init__(self, strings: Callable[[], Strings]) -> None:
        self._strings = strings
        self._numbers = count(1)

    async def first(self, address: Address) -> Route | Rewritten | None:
        if address.domain.lower() != DOMAIN or address.purpose not in (Purpose.MAIL, Purpose.RETURN_PATH):
            return None
        try:
            wanted = parse_pipe(address.local)
        except ValueError as error:
            raise Refused(str(error), code="5.1.3") from None
        local, domain = parse(address.original)
        direct = domain.lower() == DOMAIN
        if not direct and not is_tame(local) and local in address.local:
            raise Refused("the name has symbols that are not allowed for a program", code="5.1.3")
        caller = address.caller
        if address.purpose is Purpose.RETURN_PATH and not address.relay:
            raise Refused("a program is no sender", code="5.1.7")
        stranger = caller is not None and caller.account is None and caller.protocol == "SMTP" and not caller.client
        if stranger and not address.relay:
            raise Refused(self._strings().text("PipeNotDirect"), code="5.7.1")
        host = wanted.queue or str(next(self._numbers))
        return Route(MODULE, host, address.local, address.original, address.simple, address.relay)
