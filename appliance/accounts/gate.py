"""The gate: the one way into accounts.

`Accounts` keeps a task for each account that somebody uses (identity is the `Account` object, never its name), starts it on
demand and lets it close when it has been idle. Two things go through it: sessions, whose requests are data, and deliveries.
It also keeps time for all of them: every two seconds, or after 16 MiB, what was written is synced and K frames are made.

With `loopback` each request and answer is serialised both ways, so that nothing but data can pass; tests run so.
"""

from __future__ import annotations

import marshal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast

import trio

from appliance.accounts.account_task import IDLE, AccountTask, translated
from appliance.accounts.alerts import AlertSource
from appliance.accounts.client import AccountError, AccountSession
from appliance.accounts.delivery import Delivery, DeliveryResult, Twins
from appliance.accounts.fulltext import step, wanted
from appliance.accounts.recovery import Redo, Replay
from appliance.accounts.session import Session
from appliance.accounts.state import Shared, State
from appliance.kernel.clock import Clock
from appliance.kernel.disk import Disk
from appliance.kernel.journal import Frame, Journal, Position
from appliance.kernel.log import Logger
from appliance.kernel.notices import Notices
from appliance.kernel.operations import OperationError
from appliance.kernel.tasks import TaskStatus
from appliance.mailstore.index import IndexPool
from appliance.objects.domain import Account
from appliance.objects.lifecycle import Change

__all__ = ["Accounts"]

_T = TypeVar("_T")

CHECKPOINT: Final = 2.0
"""Seconds between two checkpoints."""
DIRTY: Final = 16 << 20
"""Bytes written after which a checkpoint does not wait for its time."""
_CLOSE: Final = 10.0
_GAP: Final = 0.05
"""Seconds between two steps of work that nobody waits for."""


class _NoAlerts:
    async def standing(self, account: Account) -> dict[str, str]:
        return {}

    def quota(self) -> tuple[int, str] | None:
        return None


class _Local:
    """Carries the requests of one session to the account's task."""

    def __init__(self, task: AccountTask, session: Session, loopback: bool, ended: Callable[[], None] | None) -> None:
        self._task = task
        self._ended = ended
        self._session = session
        self._loopback = loopback

    async def call(self, name: str, *arguments: Any) -> Any:
        task = self._task
        if not self._loopback:
            return await task.call(self._session, name, arguments)
        name, arguments = marshal.loads(marshal.dumps((name, arguments)))  # noqa: S302 - our own bytes
        answer = await task.call(self._session, name, arguments)
        return marshal.loads(marshal.dumps(answer))  # noqa: S302

    async def aclose(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
        with trio.CancelScope(shield=True):
            await self._task.end(self._session)


class Accounts:
    """All open accounts. `recover` first, then `run`, then everything else."""

    def __init__(
        self,
        disk: Disk,
        journal: Journal,
        clock: Clock,
        notices: Notices,
        log: Logger,
        *,
        alerts: AlertSource | None = None,
        loopback: bool = False,
        idle: float = IDLE,
    ) -> None:
        self.shared = Shared(disk, journal, clock, notices, log, IndexPool())
        self.shared.wrote = self._wrote
        self.alerts: AlertSource = alerts or _NoAlerts()
        self.loopback = loopback
        self.idle = idle
        self._tasks: dict[Account, AccountTask] = {}
        self._twins = Twins()
        self._nursery: trio.Nursery | None = None
        self._hurry = trio.Event()
        self._blocked: set[Account] = set()
        self._dirty_bytes = 0
        self._floor: Position | None = None
        journal.register(self._needs, self._relocate)

    # -- for everybody --------------------------------------------------------------------------------------------

    async def open(
        self,
        account: Account,
        *,
        caller: object = None,
        who: str | None = None,
        ended: Callable[[], None] | None = None,
    ) -> AccountSession:
        """A session of the account: with the owner's rights, or those that its mailboxes give to `who` (`user@domain`, a
        real name). `ended` is called when it is closed.

        AccountError: TEMPORARY, INUSE (it is being renamed or removed), CLOSED (it is gone, or the server stops).
        """
        task = await self._task(account)
        session = Session(None if who == account.full_name else who)
        task.sessions.add(session)
        return AccountSession(account.full_name, _Local(task, session, self.loopback, ended))

    async def deliver(self, account: Account, delivery: Delivery) -> DeliveryResult:
        """Store a message in the account. It is in the files, and safe once the deliverer's D frame with `record` is durable.

        AccountError: OVERQUOTA, NONEXISTENT (no such mailbox), BADNAME; TEMPORARY: try again later.
        """
        while True:
            task = await self._task(account)
            task.users += 1
            try:
                return await task.deliver(delivery)
            except AccountError as error:
                if error.code != "CLOSED" or account.removed or self._nursery is None:
                    raise
            finally:
                task.users -= 1

    async def deliver_all(
        self, account: Account, deliveries: Sequence[Delivery]
    ) -> list[DeliveryResult | AccountError]:
        """Store several messages in this order, together if they can be; each has a result of its own, as of `deliver`."""
        results: list[DeliveryResult | AccountError] = []
        while True:
            rest = deliveries[len(results) :]
            try:
                task = await self._task(account)
            except AccountError as error:
                return [*results, *(error for _ in rest)]
            task.users += 1
            try:
                answers = await task.deliver_all(rest)
            finally:
                task.users -= 1
            for answer in answers:
                if isinstance(answer, AccountError) and answer.code == "CLOSED":
                    break
                results.append(answer)
            if len(results) == len(deliveries) or account.removed or self._nursery is None:
                return [*results, *answers[len(answers) - len(deliveries) + len(results) :]]

    async def with_state(self, account: Account, work: Callable[[State], Awaitable[_T]]) -> _T:
        """Run `work` in the account's own task: for operations of this room. AccountError."""
        while True:
            task = await self._task(account)
            task.users += 1
            try:
                return cast(_T, await task.ask(partial(work, task.state)))
            except AccountError as error:
                if error.code != "CLOSED" or account.removed or self._nursery is None:
                    raise
            finally:
                task.users -= 1

    def is_open(self, account: Account) -> bool:
        return account in self._tasks

    def used(self, account: Account) -> tuple[int, int | None] | None:
        """Bytes used and the limit, without waiting; None if the account is not open now."""
        task = self._tasks.get(account)
        if task is None or not task.opened.is_set() or task.failure is not None:
            return None
        return task.state.used, task.state.limit

    async def close(self, account: Account) -> None:
        """Close the account now: its sessions find it closed, all of it is on disk. AccountError TEMPORARY if the disk does
        not take it."""
        task = self._tasks.get(account)
        if task is not None:
            await task.stop().wait()
            if not task.closed.is_set():
                raise AccountError("TEMPORARY", "The account cannot be made safe now, try again later")

    async def close_unused(self, account: Account) -> None:
        """Close the account now if nobody uses it: who walks over very many accounts leaves none of them open."""
        task = self._tasks.get(account)
        if task is not None and task.opened.is_set() and not (task.sessions or task.users or task.closing):
            await self.close(account)

    async def _task(self, account: Account) -> AccountTask:
        while True:
            if self._nursery is None or account.removed:
                raise AccountError("CLOSED", "The account is closed")
            if account in self._blocked:
                raise AccountError("INUSE", "The account is being changed, try again later")
            task = self._tasks.get(account)
            if task is None:
                task = AccountTask(account, State(account, self.shared), self._twins, self.alerts, self.idle)
                self._tasks[account] = task
                self._nursery.start_soon(self._live, task)
            elif task.closing:
                await task.stop().wait()
                continue
            if not task.opened.is_set():
                task.users += 1
                try:
                    await task.opened.wait()
                finally:
                    task.users -= 1
            if task.failure is not None:
                raise translated(task.failure)
            if not task.closing:
                return task

    async def _live(self, task: AccountTask) -> None:
        try:
            await task.run()
        finally:
            if self._tasks.get(task.account) is task:
                del self._tasks[task.account]
            if (position := task.state.needs()) is not None:
                self._floor = min(self._floor or position, position)  # not safe: the next start looks after it

    # -- the component --------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Vital: SyncFailed and JournalFailed end it, and the process has to start again. On cancellation all accounts are
        closed, which makes them safe."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    task_status.started()
                    nursery.start_soon(self._take_in_texts)
                    await self._checkpoints()
                finally:
                    self._nursery = None
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE):
                        await self._close_all()
        finally:
            self.shared.pool.close()

    async def _close_all(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.abandon()
        for task in tasks:
            await task.closed.wait()

    async def _checkpoints(self) -> None:
        while True:
            with trio.move_on_after(CHECKPOINT):
                await self._hurry.wait()
            self._hurry = trio.Event()
            await self.checkpoint()
            await self._look_outside()

    def _wrote(self, size: int) -> None:
        self._dirty_bytes += size
        if self._dirty_bytes > DIRTY:
            self.make_safe()

    def make_safe(self) -> None:
        """A checkpoint soon."""
        self._hurry.set()

    async def checkpoint(self) -> None:
        """What all accounts have written is synced, and K frames are on their way."""
        self._dirty_bytes = 0
        async with trio.open_nursery() as nursery:
            for task in list(self._tasks.values()):
                if task.opened.is_set() and not task.closing and task.state.unsafe:
                    nursery.start_soon(self._checkpoint, task)
        for task in list(self._tasks.values()):
            task.state.announce()

    async def _checkpoint(self, task: AccountTask) -> None:
        try:
            await task.ask(task.state.checkpoint)
        except AccountError:
            pass  # closed meanwhile, which is as good; a failed sync ends its task and all

    async def _take_in_texts(self) -> None:
        """Full-text indexes are filled in the gaps."""
        while True:
            await trio.sleep(CHECKPOINT)
            for task in list(self._tasks.values()):
                if not task.opened.is_set() or task.closing or task.failure is not None or not wanted(task.state):
                    continue
                try:
                    while True:
                        if task.closing or not await step(task.state):
                            break
                        await trio.sleep(_GAP)
                except Exception:  # nothing depends on it
                    self.shared.log.crash("%s: its texts cannot be taken in", task.account.full_name)

    async def _look_outside(self) -> None:
        for task in list(self._tasks.values()):
            if task.opened.is_set() and task.sessions and not task.closing and task.state.external:
                try:
                    await task.ask(task.state.look_outside)
                except AccountError:
                    pass

    def _needs(self) -> Position | None:
        positions = [task.state.needs() for task in self._tasks.values()]
        return min((at for at in (self._floor, *positions) if at is not None), default=None)

    async def _relocate(self, before: Position) -> None:
        await self.checkpoint()

    # -- start ----------------------------------------------------------------------------------------------------

    def replay(self, find: Callable[[str], Account | None]) -> Replay:
        """What a start feeds with the journal's frames (`take`) and then asks to make the accounts whole (`finish`)."""
        return Replay(self.shared, find)

    async def recover(
        self,
        frames: Iterable[tuple[Position, Frame]],
        find: Callable[[str], Account | None],
        stored: AsyncIterator[Redo] | None = None,
    ) -> list[str]:
        """`replay` at once: the names of the accounts that were made whole."""
        replay = self.replay(find)
        for position, frame in frames:
            replay.take(position, frame)
        return await replay.finish(stored)

    # -- names and files change: the room's part in it ------------------------------------------------------------

    async def check(self, change: Change) -> None:
        """Refused while an account is in use whose files are to move (manual, chapters 18 and 20)."""
        if change.kind == "create" or (change.account is None and change.domain.is_main):
            return
        for account in [change.account] if change.account is not None else change.domain.accounts():
            task = self._tasks.get(account)
            if task is not None and task.sessions:
                raise OperationError(f"{account.full_name} is in use")

    async def do(self, change: Change) -> None:
        if change.kind == "create":
            return
        accounts = [change.account] if change.account is not None else list(change.domain.accounts())
        self._blocked.update(accounts)
        try:
            for account in accounts:
                await self.close(account)
        except AccountError as error:
            self._blocked.difference_update(accounts)
            raise OperationError(error.text) from None
        except BaseException:
            self._blocked.difference_update(accounts)
            raise

    async def undo(self, change: Change) -> None:
        self.done(change)

    def done(self, change: Change) -> None:
        """The files lie where they belong: the accounts may be opened."""
        accounts = [change.account] if change.account is not None else list(change.domain.accounts())
        self._blocked.difference_update(accounts)
