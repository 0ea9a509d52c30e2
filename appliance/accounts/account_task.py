"""The account's own task: requests one after the other, deliveries that wait together, closing when nobody is left.

Changes happen here only. What only looks (fetch, read, search, changes, flags) runs in the session's task over the same
state, between two awaits of this one, and its file work is its own disk job.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio

from appliance.accounts import acl, appending, changing, columns, metadata, naming, probing, reading, shared, untold
from appliance.accounts.alerts import AlertSource, confirm_alerts, info
from appliance.accounts.client import AccountError
from appliance.accounts.delivery import Delivery, DeliveryResult, Twins, deliver
from appliance.accounts.furnishing import furnish
from appliance.accounts.search import search
from appliance.accounts.session import Session
from appliance.accounts.state import State, SyncFailed
from appliance.kernel.journal import JournalError, JournalFailed
from appliance.objects.domain import Account

__all__ = ["DIRECT", "SERIAL", "AccountTask", "translated"]

QUEUE: Final = 64
"""Requests that may wait for an account; who comes then waits for room."""
IDLE: Final = 60.0
"""Seconds after which an account that nobody uses is closed."""
UNSEEN: Final = "there is no such account, or you have no access to it"
"""What another user hears of a mailbox that he may not know of, or that does not exist."""
_BATCH: Final = 64
_BATCH_BYTES: Final = 8 << 20

Handler = Callable[..., Awaitable[Any]]

#: Requests that run in the session's own task.
DIRECT: Final[dict[str, Handler]] = {
    "aliases": shared.aliases,
    "changes": reading.changes,
    "columns": columns.columns,
    "fetch": reading.fetch,
    "flags": reading.flags,
    "info": info,
    "keywords": reading.keywords,
    "mailboxes": naming.mailboxes,
    "metadata": metadata.metadata,
    "my_rights": acl.my_rights,
    "append_chunk": appending.append_chunk,
    "decoded": probing.decoded,
    "header_fields": probing.header_fields,
    "identities": probing.identities,
    "previews": probing.previews,
    "told": untold.told,
    "untold": untold.untold,
    "untold_read": untold.untold_read,
    "untold_store": untold.untold_store,
    "validities": probing.validities,
    "read": reading.read,
    "search": search,
    "subscriptions": naming.subscriptions,
}

#: Requests that run in the account's task.
SERIAL: Final[dict[str, Handler]] = {
    "acl": acl.acl,
    "set_acl": acl.set_acl,
    "set_aliases": shared.set_aliases,
    "set_metadata": metadata.set_metadata,
    "append_abort": appending.append_abort,
    "append_begin": appending.append_begin,
    "append_commit": appending.append_commit,
    "copy": changing.copy,
    "create": naming.create,
    "delete": naming.delete,
    "expunge": changing.expunge,
    "open": reading.open_view,
    "release": reading.release,
    "remove": changing.remove,
    "rename": naming.rename,
    "set_subscription": naming.set_subscription,
    "status": reading.status,
    "store": changing.store,
    "subscribe": naming.subscribe,
    "totals": probing.totals,
}


def _alike(one: Request, other: Request) -> bool:
    return (one.delivery is None) == (other.delivery is None)


def translated(error: Exception) -> AccountError:
    """What a failure means to a client."""
    if isinstance(error, AccountError):
        return error
    if isinstance(error, (OSError, JournalError)):
        return AccountError("TEMPORARY", "The account cannot be used now, try again later")
    return AccountError("TEMPORARY", "Internal error")


class Request:
    """Work for the account's task. `result` or `error` is set before `done`."""

    __slots__ = ("append", "delivery", "done", "error", "result", "work")

    def __init__(
        self,
        work: Callable[[], Awaitable[Any]] | None,
        delivery: Delivery | None = None,
        append: appending.Whole | None = None,
    ) -> None:
        self.work = work
        self.delivery = delivery
        self.append = append
        self.result: Any = None
        self.error: Exception | None = None
        self.done = trio.Event()


class AccountTask:
    """One open account. `run` is its task; `ask` and `deliver` are for everybody else."""

    def __init__(self, account: Account, state: State, twins: Twins, alerts: AlertSource, idle: float = IDLE) -> None:
        self.account = account
        self.state = state
        self.alerts = alerts
        self.sessions: set[Session] = set()
        self.closed = trio.Event()
        self.closing = False
        self.opened = trio.Event()
        self.failure: Exception | None = None
        #: Tasks between getting hold of this account and the end of their request.
        self.users = 0
        self._twins = twins
        self._idle = idle
        self._send, self._receive = trio.open_memory_channel[Request](QUEUE)
        self._scope = trio.CancelScope()
        self._stopped: trio.Event | None = None
        self._last = False

    async def ask(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run `work` in the account's task. AccountError."""
        return await self._wait(Request(work))

    async def deliver(self, delivery: Delivery) -> DeliveryResult:
        """Store a message. AccountError (OVERQUOTA, NONEXISTENT, TEMPORARY ...)."""
        result = await self._wait(Request(None, delivery))
        assert isinstance(result, DeliveryResult)
        return result

    async def deliver_all(self, deliveries: Sequence[Delivery]) -> list[DeliveryResult | AccountError]:
        """Store several messages, in this order; each stands for itself."""
        requests = [Request(None, delivery) for delivery in deliveries]
        handed = 0
        try:
            for request in requests:
                try:
                    self._send.send_nowait(request)
                except trio.WouldBlock:
                    await self._send.send(request)
                handed += 1
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            with trio.CancelScope(shield=True):
                for request in requests[:handed]:
                    await request.done.wait()
        answers: list[DeliveryResult | AccountError] = []
        for number, request in enumerate(requests):
            if number >= handed:
                answers.append(AccountError("CLOSED", "The account is closed"))
            elif request.error is not None:
                answers.append(translated(request.error))
            else:
                answers.append(request.result)
        return answers

    async def _wait(self, request: Request) -> Any:
        try:
            await self._send.send(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise AccountError("CLOSED", "The account is closed") from None
        with trio.CancelScope(shield=True):  # the request will be done: its caller learns how it ended
            await request.done.wait()
        if request.error is not None:
            raise translated(request.error)
        return request.result

    async def call(self, session: Session, name: str, arguments: tuple[Any, ...]) -> Any:
        """One request of a session. AccountError."""
        handler = DIRECT.get(name)
        if session.closed or self.closed.is_set():
            raise AccountError("CLOSED", "The account is closed")
        try:
            if handler is not None:
                return await handler(self.state, session, *arguments)
            if name == "alerts":
                return await self.ask(lambda: confirm_alerts(self.state, session, self.alerts, *arguments))
            if name == "append":
                return await self._wait(Request(None, append=appending.Whole(session, *arguments)))
            work = SERIAL.get(name)
            if work is None:
                raise AccountError("CANNOT", "There is no such request")
            return await self.ask(lambda: work(self.state, session, *arguments))
        except (OSError, JournalError) as error:
            raise translated(error) from error
        except AccountError as error:
            if session.who is not None and error.code == "NONEXISTENT":
                raise AccountError(error.code, UNSEEN) from None
            raise

    async def end(self, session: Session) -> None:
        """A session gives back all that it holds."""
        if session.closed:
            return
        session.closed = True
        for view in session.views.values():
            view.box.views.discard(view)
        session.views.clear()
        appends = list(session.appends.values())
        session.appends.clear()
        self.sessions.discard(session)
        if appends:
            await appending.discard(self.state, appends)

    def stop(self) -> trio.Event:
        """Close the account after what waits now; sessions find it closed. The event tells that it is `closed`, or that the
        disk did not take it: then it stays open."""
        self.closing = True
        self._scope.cancel()
        if self._stopped is None:
            self._stopped = trio.Event()
        return self._stopped

    def abandon(self) -> None:
        """The same at the end of the server: it closes in any case, and the next start makes it whole."""
        self._last = True
        self.stop()

    # -- the task -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The life of the open account. SyncFailed and JournalFailed go on to the server, which has to start again."""
        try:
            with trio.CancelScope(shield=True):
                await self._open()
                if self.failure is None:
                    await self._serve()
        finally:
            self.closing = True
            self.opened.set()
            self.closed.set()
            self._tell()
            self._send.close()
            self._refuse_rest()
            for session in self.sessions:
                session.closed = True
            self._receive.close()

    async def _open(self) -> None:
        try:
            await self.state.load()
            if self.state.new:
                await furnish(self.state)
        except (OSError, AccountError, JournalError) as error:
            self.state.log.failure("%s cannot be opened: %s", self.account.full_name, error)
            self.failure = error
        self.opened.set()

    async def _serve(self) -> None:
        while True:
            batch: list[Request] = []
            with trio.move_on_after(0 if self.closing else self._idle) as self._scope:
                batch.append(await self._receive.receive())
            if not batch and not self.closing and (self.sessions or self.users):
                continue
            # What waits is taken together, so that deliveries share one hop to the disk.
            while len(batch) < _BATCH:
                try:
                    batch.append(self._receive.receive_nowait())
                except trio.WouldBlock:
                    break
            if batch:
                await self._handle(batch)
                if self.state.info_stale and self.state.shared.conservative():
                    await self._write_info()
                continue
            # Closing leaves the state as good as it was, so who comes meanwhile, or a disk that is full, just keeps it open.
            done = await self._shut()
            if self._last or (done and (self.closing or not (self.sessions or self.users))):
                self.closing = True
                return
            self.closing = False
            self._tell()

    async def _write_info(self) -> None:
        try:
            await self.state.save_info()
        except OSError as error:
            self.state.log.failure("%s: account.info cannot be written: %s", self.account.full_name, error)

    async def _handle(self, batch: list[Request]) -> None:
        """In their order; deliveries that stand together are one write, and so are messages that clients append."""
        together: list[Request] = []
        size = 0
        for request in batch:
            content = request.delivery.content if request.delivery is not None else b""
            grown = size + (len(content) if isinstance(content, bytes) else 0)
            grown += len(request.append.data) if request.append is not None else 0
            if together and (request.work is not None or not _alike(together[0], request) or grown > _BATCH_BYTES):
                await self._store(together)
                together, grown = [], grown - size
            if request.work is not None:
                await self._work(request)
                size = 0
            else:
                together.append(request)
                size = grown
        if together:
            await self._store(together)

    async def _store(self, requests: list[Request]) -> None:
        if requests[0].delivery is not None:
            await self._deliver(requests)
        else:
            await self._together(requests, self._append)

    async def _append(self, requests: list[Request]) -> Sequence[object]:
        return await appending.append(
            self.state, [request.append for request in requests if request.append is not None]
        )

    async def _work(self, request: Request) -> None:
        assert request.work is not None
        try:
            request.result = await request.work()
        except Exception as error:
            self._failed(error)
            request.error = error
            if isinstance(error, (SyncFailed, JournalFailed)):
                raise
        finally:
            request.done.set()

    async def _deliver(self, requests: list[Request]) -> None:
        async def work(requests: list[Request]) -> Sequence[object]:
            deliveries = [request.delivery for request in requests if request.delivery is not None]
            results = await deliver(self.state, deliveries, self._twins)
            self.state.echo = True
            return results

        await self._together(requests, work)

    async def _together(
        self, requests: list[Request], work: Callable[[list[Request]], Awaitable[Sequence[object]]]
    ) -> None:
        """Requests of one kind at once. Each gets its own result."""
        try:
            for request, result in zip(requests, await work(requests), strict=True):
                if isinstance(result, Exception):
                    request.error = result
                else:
                    request.result = result
        except Exception as error:
            self._failed(error)
            for request in requests:
                request.error = error
            if isinstance(error, (SyncFailed, JournalFailed)):
                raise
        finally:
            for request in requests:
                request.done.set()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, (OSError, JournalError, SyncFailed)):
            self.state.log.failure("%s: %s", self.account.full_name, error)
        elif not isinstance(error, AccountError):
            self.state.log.crash("%s: a request failed", self.account.full_name)

    def _tell(self) -> None:
        stopped, self._stopped = self._stopped, None
        if stopped is not None:
            stopped.set()

    async def _shut(self) -> bool:
        try:
            await self.state.close()
        except (OSError, AccountError) as error:
            self.state.log.failure("%s cannot be closed well: %s", self.account.full_name, error)
            return False
        return True

    def _refuse_rest(self) -> None:
        while True:
            try:
                request = self._receive.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return
            request.error = AccountError("CLOSED", "The account is closed")
            request.done.set()
