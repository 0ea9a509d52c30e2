"""The operations on the server as a whole: its end, what it takes from the operating system, its privilege."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.formats.data import Value
from appliance.kernel.network import local_addresses
from appliance.kernel.operations import Caller, OperationError, Operations, Right

if TYPE_CHECKING:
    from appliance.server import Server

__all__ = ["declare"]

SECTION = "Server settings"


def declare(server: Server, operations: Operations) -> None:
    """Declare them."""

    @operations.declare("Shutdown", right=Right.MONITOR, section="Monitoring", summary="Stops the server in order.")
    async def shutdown(caller: Caller) -> None:
        server.system.major("shutdown asked for by %s", caller.account or "the server")
        server.stop(f"by {caller.account}")

    privilege = server.options.privilege

    @operations.declare("DropRoot", right=Right.SETTINGS, section=SECTION, summary="Gives up root; it can be restored.")
    async def drop_root(caller: Caller) -> None:
        if privilege is None:
            raise OperationError("The server does not run as root")
        try:
            name = await privilege.drop()
        except OSError as error:
            raise OperationError(f"Root cannot be dropped: {error}") from None
        server.system.major("root is dropped by %s, the user is %s now", caller.account or "the server", name)

    @operations.declare("RestoreRoot", right=Right.SETTINGS, section=SECTION, summary="Is root again.")
    async def restore_root(caller: Caller) -> None:
        if privilege is None:
            raise OperationError("The server does not run as root")
        try:
            await privilege.restore()
        except OSError as error:
            raise OperationError(f"Root cannot be restored: {error}") from None
        server.system.major("root is restored by %s", caller.account or "the server")

    @operations.declare(
        "GetRootState",
        right=Right.SETTINGS,
        section=SECTION,
        summary="Whether root is held (root), dropped for now (dropped) or out of reach (none).",
        result="string",
    )
    async def root_state(caller: Caller) -> Value:
        del caller
        return "none" if privilege is None else privilege.state

    @operations.declare(
        "RefreshOSData",
        right=Right.SETTINGS,
        section=SECTION,
        summary="Reads addresses and DNS servers anew.",
    )
    async def refresh(caller: Caller) -> None:
        del caller
        await server.resolver.refresh()
        await server.presence.refresh(local_addresses())
        for listener in server.listeners:
            listener.refresh()
