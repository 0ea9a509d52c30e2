"""One table of every session: number, tag, address, account, state. Read by logs, monitors, limits, kick and shutdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import trio

from appliance.formats.data import Value
from appliance.kernel.operations import Caller, OperationError, Operations, Right


class Session:
    """One client connection (or one outgoing one, or one web log-in). Its number is unique in the life of the process."""

    __slots__ = ("account", "address", "busy", "kicked", "number", "reason", "scope", "started", "state", "tag")

    def __init__(self, number: int, tag: str, address: str, started: float) -> None:
        self.number = number
        self.tag = tag
        self.address = address
        self.started = started
        self.account: str | None = None
        self.state = ""
        #: True while a command is in hand; the shutdown lets it end (supervisor).
        self.busy = False
        self.kicked = False
        self.reason = ""
        #: The outermost cancel scope of the session.
        self.scope = trio.CancelScope()

    @property
    def label(self) -> str:
        """The tag of its log records, `POP-12357`."""
        return f"{self.tag}-{self.number}"

    def kick(self, reason: str) -> None:
        """End the session: an idle one at once; its protocol says good-bye with `reason` if it can."""
        self.kicked = True
        self.reason = reason
        self.scope.cancel()


class Sessions:
    """The table."""

    def __init__(self) -> None:
        self._last = 0
        self._open: dict[int, Session] = {}
        self._by_address: Counter[tuple[str, str]] = Counter()
        self._by_tag: Counter[str] = Counter()

    def open(self, tag: str, address: str, now: float) -> Session:
        self._last += 1
        session = Session(self._last, tag, address, now)
        self._open[session.number] = session
        self._by_address[tag, address] += 1
        self._by_tag[tag] += 1
        return session

    def close(self, session: Session) -> None:
        """Take it out; harmless when it is out already."""
        if self._open.pop(session.number, None) is not None:
            self._by_tag[session.tag] -= 1
            key = (session.tag, session.address)
            self._by_address[key] -= 1
            if not self._by_address[key]:
                del self._by_address[key]

    def count(self, tag: str, address: str | None = None) -> int:
        """Open sessions of a tag, all or of one address."""
        return self._by_tag[tag] if address is None else self._by_address[tag, address]

    def of_account(self, account: str) -> list[Session]:
        return [session for session in self._open.values() if session.account == account]

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)


def declare(operations: Operations, sessions: Sessions) -> None:
    """The operations of the Access monitor (manual, chapter 37, Monitoring)."""

    @operations.declare(
        "ListSessions [tag]",
        right=Right.MONITOR,
        section="Monitoring",
        summary="The open sessions, all or those of one tag.",
        result="array of dictionaries",
    )
    async def list_sessions(caller: Caller, tag: str = "") -> Value:
        del caller
        rows: list[Value] = []
        for session in sessions:
            if not tag or session.tag.casefold() == tag.casefold():
                rows.append(
                    {
                        "ID": str(session.number),
                        "Tag": session.tag,
                        "Address": session.address,
                        "Account": session.account or "",
                        "Started": str(int(session.started)),
                        "Status": session.state,
                        "Running": "YES" if session.busy else "NO",
                    }
                )
        return rows

    @operations.declare(
        "KillSession sessionNumber#", right=Right.MONITOR, section="Monitoring", summary="Ends a session."
    )
    async def kill_session(caller: Caller, session_number: int) -> None:
        del caller
        for session in sessions:
            if session.number == session_number:
                session.kick("closed by the administrator")
                return
        raise OperationError("There is no such session")
