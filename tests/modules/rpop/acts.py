"""What administrators and users of a server do about remote mailboxes."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from appliance.formats.data import Value, render
from appliance.kernel.operations import Caller
from appliance.router.route import Purpose, Refused, Route
from tests.modules.rpop.remote import HOST, RemoteImap, RemotePop
from tests.server.conftest import House, until

MAIL = "From: ann@far.test\nTo: somebody@else.test\nSubject: {0}\nDate: x\n\nThis is {0}.\n"


def record(remote: RemotePop | RemoteImap, **more: str) -> dict[str, Value]:
    values: dict[str, Value] = {
        "period": "1d",
        "authName": remote.name,
        "domain": f"{HOST}:{remote.port}",
        "password": remote.password,
    }
    if isinstance(remote, RemoteImap):
        values["protocol"] = "IMAP"
    return {**values, **more}


async def collect(house: House, account: str, *records: Mapping[str, Value]) -> None:
    cli = await house.cli()
    await cli(f"SetAccountRPOP {account} {render([dict(one) for one in records])}")
    await cli.line.aclose()


async def unified(house: House, *records: Mapping[str, Value]) -> None:
    cli = await house.cli()
    await cli(f"SetUnifiedRPOP {render([dict(one) for one in records])}")
    await cli.line.aclose()


async def poll(house: House, account: str = "") -> None:
    """Poll by hand, and wait for the end."""
    cli = await house.cli()
    await cli(f"PollRPOP {account}")
    await cli.line.aclose()
    await idle(house)


async def idle(house: House) -> None:
    entries = house.server.rpop.scheduler.entries

    def quiet() -> bool:
        return not any(entry.running or entry.asked for entry in entries.values())

    await trio.sleep(0.01)
    await until(quiet)


async def state(house: House, account: str = "") -> list[dict[str, str]]:
    cli = await house.cli()
    rows = await cli(f"ListRPOP {account}")
    await cli.line.aclose()
    assert isinstance(rows, list)
    return [{k: str(v) for k, v in row.items()} for row in rows if isinstance(row, dict)]


async def subjects(house: House, name: str, count: int) -> list[str]:
    """The subjects in an INBOX, once so many are there."""
    found: list[str] = []

    async def there() -> bool:
        nonlocal found
        texts = await house.inbox(name)
        found = [line[9:] for text in texts for line in text.splitlines() if line.startswith("Subject: ")]
        return len(found) >= count

    await until(there)
    return found


class Router:
    """Knows ann and a name that it cannot tell now."""

    async def route(self, address: str, purpose: Purpose, caller: Caller | None = None) -> Route:
        if address.startswith("later"):
            raise Refused("busy", permanent=False)
        if address.endswith("@box.test"):
            return Route("LOCAL", address, address.partition("@")[0], address)
        raise Refused("unknown")
