"""The door as the protocols see it: what a face asks of `accounts.login`, whatever it gets for a log-in that is granted."""

from __future__ import annotations

from typing import Protocol, TypeVar

from appliance.formats.passwords import ScramKeys
from appliance.kernel.channel import Channel
from appliance.protocols.sasl import Done

__all__ = ["Door"]

Granted = TypeVar("Granted", covariant=True)


class Door(Protocol[Granted]):
    """Its calls raise `LoginRefused`."""

    async def password(self, name: str, password: str, service: str, channel: Channel) -> Granted:
        """A log-in by clear password."""
        ...

    async def keys(self, name: str, method: str, channel: Channel) -> ScramKeys:
        """The keys for a SCRAM log-in; decoys for a name without any."""
        ...

    async def proven(self, done: Done, service: str, channel: Channel) -> Granted:
        """A log-in by what a mechanism came to."""
        ...

    async def refuse(self, name: str, service: str, channel: Channel) -> None:
        """Count a proof that a mechanism found wrong as a wrong password, and raise LoginRefused as for one."""
        ...
