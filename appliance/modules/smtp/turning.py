"""On-demand mail relay, the side that keeps the mail (RFC 2645, and TURN of old mailers; manual, chapter 29).

A host that can not be called logs in and says ATRN: we answer, and become the client on its connection. The name that it has
logged in with is the name of its domain; the router tells the queue, as it does for ETRN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from appliance.kernel.channel import Channel
from appliance.kernel.operations import Caller
from appliance.modules.smtp.routing import MODULE, WAKEUP_USER
from appliance.modules.smtp.sending import SmtpSender
from appliance.modules.smtp.surroundings import Routing, Turned
from appliance.protocols.smtp import Reply
from appliance.router.route import Purpose, Refused

_LOGIN: Final = Reply(530, "authentication is required", "5.7.0")
_REFUSED: Final = "ATRN request refused"


class Turning:
    """`main()` is the main domain's name."""

    def __init__(self, sender: SmtpSender, router: Routing, main: Callable[[], str]) -> None:
        self._sender = sender
        self._router = router
        self._main = main

    async def __call__(
        self, domains: Sequence[str], account: str | None, caller: Caller
    ) -> tuple[Reply, Turned | None]:
        """The answer to ATRN or TURN of an account; after a positive one, what sends the mail."""
        if account is None:
            return _LOGIN, None
        if len(domains) > 1:
            return Reply(450, f"{_REFUSED}: one domain at a time", "4.5.4"), None
        name = self._login_name(account)
        if domains and domains[0].lower() != name:
            return Reply(450, f"{_REFUSED}: you have logged in as {name}", "4.7.1"), None
        try:
            route = await self._router.route(f"{WAKEUP_USER}@{name}", Purpose.WAKEUP, caller)
        except Refused as refused:
            return Reply(450, f"{_REFUSED}: {refused.text}", "4.7.1"), None
        sender = self._sender
        if route.module != MODULE or not (sender.is_held(name) or sender.is_held(route.host)):
            return Reply(450, f"{_REFUSED}: mail for {name} is not held here", "4.7.1"), None
        if not sender.waiting(route.host):
            return Reply(453, "you have no mail", "4.3.0"), None

        async def send(channel: Channel) -> None:
            await sender.send_over(route.host, channel)

        return Reply(250, "OK now reversing the connection", "2.0.0"), send

    def _login_name(self, account: str) -> str:
        """What the client has logged in as: an account of the main domain is named without it."""
        local, _, domain = account.lower().rpartition("@")
        return local if domain == self._main().lower() else account.lower()
