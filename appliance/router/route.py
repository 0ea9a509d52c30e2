"""What the router answers, and the seam by which modules take part (manual, chapter 27)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from appliance.kernel.operations import Caller


class Purpose(StrEnum):
    """What an address is routed for; some steps apply to mail only."""

    MAIL = "mail"
    RETURN_PATH = "return path"
    ACCESS = "access"
    MAILBOX = "mailbox"
    WEB = "web"
    WAKEUP = "wake-up"


@dataclass(slots=True)  # made anew for every address: a frozen one takes three times as long
class Route:
    """Where an address goes.

    `module` is SMTP, LOCAL, LIST, PIPE or SYSTEM (NULL); `host` is the module's queue (domain, `account@domain`);
    `address` is what the module needs of the address; `original` the address as it was asked for. `simple`: the address
    had no route in it. `relay`: a table record or forwarder set the can-relay mark. `mailbox`: direct mailbox addressing.
    `unified`: the local part goes into the envelope-recipients field. `generation` tells whether the answer still holds
    (`Router.current`). Nobody changes a route that he was given.
    """

    module: str
    host: str
    address: str
    original: str
    simple: bool = True
    relay: bool = False
    mailbox: str = ""
    unified: bool = False
    detail: str = ""
    generation: int = field(default=-1, compare=False, repr=False)


class Refused(Exception):
    """The address is not accepted. `permanent` False asks to try again later; `code` is an enhanced status (RFC 3463)."""

    def __init__(self, text: str, *, permanent: bool = True, code: str = "5.1.1") -> None:
        super().__init__(text)
        self.text = text
        self.permanent = permanent
        self.code = code


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A step changed the address: `local` and `domain` go through the router again from the beginning, except that the
    table is left out once if `table` is False (`.here`)."""

    local: str
    domain: str
    relay: bool = False
    table: bool = True


@dataclass(slots=True)
class Address:
    """An address on its way: `domain` is empty for the main domain; `simple` and `relay` are what has come together. Nobody
    changes it."""

    local: str
    domain: str
    original: str
    purpose: Purpose
    simple: bool
    relay: bool
    caller: Caller | None = None


class RouterStep(Protocol):
    """A module asked by the router in the first or the final round: ignore (None), rewrite, accept or raise Refused."""

    async def __call__(self, address: Address) -> Route | Rewritten | None: ...
