"""Which remote account is polled when: periods, failed hosts and accounts, channels, changes of records while polls run.

An entry is one record of one account (or of the unified table). It is due a period after its last poll began; a failed one
after Delay Failed Accounts, all of a failed host after Delay Failed Hosts. All of it is computed from the settings when it is
asked, so a changed setting acts at once. The memory of an account lies in its own directory (`account.rpop`), so it follows a
rename and goes with a removal; polls of an account that is renamed or removed are ended first.
"""

from __future__ import annotations

import math
import os.path
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import trio

from appliance.formats.iplists import parse_address
from appliance.kernel.clock import Clock
from appliance.kernel.journal import Position
from appliance.kernel.log import Logger
from appliance.kernel.schedule import Schedule
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import SettingError, Settings, Storage
from appliance.kernel.statistics import Statistics
from appliance.kernel.tasks import TaskStatus
from appliance.modules.rpop.collecting import NotNow
from appliance.modules.rpop.connecting import HostFailed
from appliance.modules.rpop.mailbox import Broken, Denied
from appliance.modules.rpop.memory import Mark, Memory
from appliance.modules.rpop.polling import Poll, Poller
from appliance.modules.rpop.records import RecordError, Remote, checked, read_all
from appliance.modules.rpop.settings import ALLOW_SELF, CHANNELS, DELAY_ACCOUNTS, DELAY_HOSTS, TAG, UNIFIED, USE_APOP
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.objects.lifecycle import Change

__all__ = ["Entry", "Scheduler"]

UNIFIED_FILE: Final = "RPOPUnified.data"
MEMORY: Final = "rpop"
_KICKED: Final = "the session was ended"
_WAITS: Final = "waits for the schedule"


class Needs(Protocol):
    """What the journal is told and asked (`kernel.journal.Journal`)."""

    @property
    def position(self) -> Position: ...

    def register(self, needs: Callable[[], Position | None]) -> None: ...


class Entry:
    """One record at work. `begun` and `failed` are moments of trio's clock."""

    __slots__ = (
        "account",
        "again",
        "asked",
        "begun",
        "doing",
        "error",
        "failed",
        "finished",
        "host_failed",
        "last",
        "remote",
        "running",
        "scope",
        "unsaved",
    )

    def __init__(self, account: Account | None, remote: Remote) -> None:
        self.account = account
        self.remote = remote
        self.running = False
        #: A person wants it now.
        self.asked = False
        #: Its record was changed while it ran.
        self.again = False
        self.begun = -math.inf
        self.failed: float | None = None
        self.host_failed = False
        self.doing = ""
        #: When it was collected without trouble, Unix time, and what was wrong at last.
        self.last = 0
        self.error = ""
        self.finished = trio.Event()
        self.scope: trio.CancelScope | None = None
        #: The oldest frame of the journal that its memory's file does not know of.
        self.unsaved: Position | None = None

    @property
    def owner(self) -> str:
        """The account's full name, empty for unified ones."""
        return self.account.full_name if self.account is not None else ""


class Scheduler:
    """The component RPOP. `storage(path, mode)` makes the storage of a dictionary file, `base` is the base directory."""

    def __init__(
        self,
        poller: Poller,
        domains: Domains,
        settings: Settings,
        journal: Needs,
        schedule: Schedule,
        sessions: Sessions,
        log: Logger,
        clock: Clock,
        statistics: Statistics,
        storage: Callable[[str, int], Storage],
        base: str,
    ) -> None:
        self.settings = settings
        self.entries: dict[tuple[Account | None, str], Entry] = {}
        self._poller = poller
        self._domains = domains
        self._journal = journal
        self._schedule = schedule
        self._sessions = sessions
        self._log = log
        self._clock = clock
        self._storage = storage
        self._base = base
        self._failed_hosts: dict[str, float] = {}
        self._changed = trio.Event()
        self._locks: dict[Account | None, trio.Lock] = {}
        self._frozen: set[Account] = set()
        #: Polls of records that were taken away, which are about to end; a new one of the same mailbox waits for them.
        self._ending: dict[tuple[Account | None, str], Entry] = {}
        self._marks: list[tuple[int, Mark]] = []
        self._merged = False
        self._active = 0
        journal.register(self._needs)
        statistics.gauge("rpop.channels", lambda: self._active, "connections that collect mail")

    # -- the journal --------------------------------------------------------------------------------------------------

    def replayed(self, marks: Mapping[int, str]) -> None:
        """The marks of messages that the journal told of at the start."""
        for number in sorted(marks):
            mark = Mark.parse(marks[number])
            if mark is not None:
                self._marks.append((number, mark))

    def _needs(self) -> Position | None:
        if not self._merged:
            return 0
        return min((entry.unsaved for entry in self.entries.values() if entry.unsaved is not None), default=None)

    async def _merge(self) -> None:
        """Bring what the journal knows into the files of memory. Raises OSError."""
        owners: dict[str, list[tuple[int, Mark]]] = {}
        for number, mark in self._marks:
            owners.setdefault(mark.owner, []).append((number, mark))
        for owner, marks in owners.items():
            account = self._domains.find_account(owner) if owner else None
            if owner and account is None:
                continue
            async with self._lock(account):
                file = self._file(account)
                values = await file.load()
                known: dict[str, Memory] = {}
                for number, mark in marks:
                    memory = known.setdefault(mark.key, Memory(values.get(mark.key)))
                    memory.merge(number, mark)
                news = {key: memory.render() for key, memory in known.items() if memory.dirty}
                if news:
                    await file.save({**values, **news})
        self._marks = []
        self._merged = True

    # -- memory -------------------------------------------------------------------------------------------------------

    def _lock(self, account: Account | None) -> trio.Lock:
        return self._locks.setdefault(account, trio.Lock())

    def _file(self, account: Account | None) -> Storage:
        if account is None:
            return self._storage(os.path.join(self._base, "Settings", UNIFIED_FILE), 0o600)
        return account.domain.storage(account.file(MEMORY), 0o600)

    async def _remember(self, entry: Entry, memory: Memory) -> None:
        """Write the memory of an entry; records that are no more are left out. What cannot be written stays in the journal."""
        if not memory.dirty:
            entry.unsaved = None
            return
        account, key = entry.account, entry.remote.key
        try:
            async with self._lock(account):
                file = self._file(account)
                values = await file.load()
                keys = {known for owner, known in self.entries if owner is account}
                await file.save({k: v for k, v in {**values, key: memory.render()}.items() if k in keys})
        except OSError as error:
            self._log.failure("what was collected for %s cannot be written: %s", entry.owner or "all", error)
            return
        memory.dirty = False
        entry.unsaved = None

    # -- entries ------------------------------------------------------------------------------------------------------

    def _records(self) -> Iterator[tuple[Account | None, Remote]]:
        for remote in read_all(self.settings[UNIFIED], unified=True):
            yield None, remote
        for domain in self._domains.all():
            for name, records in domain.rpop.items():
                account = domain.account(name)
                if account is not None and not account.removed:
                    for remote in read_all(records):
                        yield account, remote

    def refresh(self) -> None:
        """The records have changed, or may have: entries follow. Polls of what is gone or is another now are ended."""
        wanted = {(account, remote.key): remote for account, remote in self._records()}
        for place, entry in list(self.entries.items()):
            if place not in wanted:
                del self.entries[place]
                if entry.running:
                    self._ending[place] = entry
                self._end(entry)
        for place, remote in wanted.items():
            known = self.entries.get(place)
            if known is None:
                self.entries[place] = Entry(place[0], remote)
            elif known.remote != remote:
                self._replace(known, remote)
        self._wake()

    def _follow(self, changed: frozenset[str]) -> None:
        if changed.intersection((ALLOW_SELF.key, USE_APOP.key)):
            # What was refused may be allowed now: failures hold nothing back.
            self._failed_hosts.clear()
            for entry in self.entries.values():
                if entry.failed is not None:
                    entry.failed, entry.host_failed, entry.begun = None, False, -math.inf
        if UNIFIED.key in changed:
            self.refresh()
        else:
            self._wake()

    def _replace(self, entry: Entry, remote: Remote) -> None:
        before, entry.remote = entry.remote, remote
        if (before.password, before.tls, before.verify, before.apop) != (
            remote.password,
            remote.tls,
            remote.verify,
            remote.apop,
        ):
            # What was wrong may be right now.
            entry.failed, entry.host_failed, entry.begun = None, False, -math.inf
            entry.again = entry.running
            self._end(entry)

    def _end(self, entry: Entry) -> None:
        if entry.scope is not None:
            entry.scope.cancel()

    def of(self, account: Account | None) -> list[Entry]:
        """The entries of an account, or the unified ones, in the order of their records."""
        return [entry for (owner, _), entry in self.entries.items() if owner is account]

    def poll_now(self, entry: Entry) -> None:
        """A person asks: neither the period nor a failure nor the schedule holds it back."""
        entry.asked = True
        if entry.running and entry.doing == _WAITS:
            entry.again = True
            self._end(entry)
        self._failed_hosts.pop(_host(entry), None)
        self._wake()

    def due(self, entry: Entry) -> float:
        """When it is polled next, a moment of trio's clock; infinite if never."""
        if entry.asked:
            return -math.inf
        if entry.remote.period is None or (entry.account is not None and entry.account in self._frozen):
            return math.inf
        if entry.failed is not None and not entry.host_failed:
            due = entry.failed + self.settings[DELAY_ACCOUNTS]
        else:
            due = entry.begun + entry.remote.period
        host = self._failed_hosts.get(_host(entry))
        return due if host is None else max(due, host + self.settings[DELAY_HOSTS])

    def next_poll(self, entry: Entry) -> float | None:
        """The same as Unix time; None: never."""
        due = self.due(entry)
        if due == math.inf or not self.settings[CHANNELS]:
            return None
        return self._clock.now() + max(0.0, due - trio.current_time())

    # -- the task -----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def run(self, *, task_status: TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        """Poll what is due, as long as this runs."""
        ends = self.settings.watch(self._follow)
        try:
            if not self._merged:
                await self._merge()
            await self._seal()
            self.refresh()
            task_status.started()
            await self._recall()
            async with trio.open_nursery() as nursery:
                while True:
                    changed = self._changed
                    wake = self._start_due(nursery)
                    if wake == math.inf:
                        await changed.wait()
                    else:
                        with trio.move_on_at(wake):
                            await changed.wait()
        finally:
            ends()

    async def _seal(self) -> None:
        """Unified records that came with a file of settings have clear passwords: not for long."""
        records = self.settings[UNIFIED]
        try:
            sealed = checked(records, self._domains.server_key, before=records, unified=True)
            if sealed != records:
                await self.settings.update({UNIFIED.key: sealed})
        except (RecordError, SettingError, OSError) as error:
            self._log.failure("the unified accounts are not in order: %s", error)

    async def _recall(self) -> None:
        """What the files know of earlier polls: one that was made a moment ago is not repeated by a restart."""
        for account in {owner for owner, _ in self.entries}:
            try:
                values = await self._file(account).load()
            except OSError as error:
                self._log.failure("what was collected cannot be read: %s", error)
                continue
            for entry in self.of(account):
                memory = Memory(values.get(entry.remote.key))
                self._show(entry, memory)
                age = self._clock.now() - memory.last
                if memory.last and not memory.error and age >= 0 and entry.begun == -math.inf:
                    entry.begun = trio.current_time() - age

    def _show(self, entry: Entry, memory: Memory) -> None:
        refused = next(memory.refusals, "")
        entry.last, entry.error = memory.last, memory.error or (f"not taken: {refused}" if refused else "")

    def _start_due(self, nursery: trio.Nursery) -> float:
        """Start what is due and has a channel; when to look again."""
        now, wake, limit = trio.current_time(), math.inf, self.settings[CHANNELS]
        if not limit:
            return wake
        waiting = [(self.due(entry), entry) for entry in self.entries.values() if not entry.running]
        waiting.sort(key=lambda pair: pair[0])
        for due, entry in waiting:
            if due > now:
                return due
            if self._active >= limit:
                return wake
            self._active += 1
            entry.running, entry.finished = True, trio.Event()
            nursery.start_soon(self._poll, entry)
        return wake

    async def _poll(self, entry: Entry) -> None:
        remote = entry.remote
        session = self._sessions.open(TAG, remote.host, self._clock.now())
        session.account = entry.owner or None
        log = self._log.session(session.number, remote.host)
        entry.scope, entry.again = session.scope, False
        asked, entry.asked = entry.asked, False
        ended = False
        try:
            with session.scope:
                place = entry.account, remote.key
                while (before := self._ending.get(place)) is not None and before is not entry:
                    await before.finished.wait()
                entry.doing = session.state = _WAITS
                async with self._schedule.session(TAG, override=asked, address=_only_address(remote)):
                    entry.begun = trio.current_time()

                    def about(text: str) -> None:
                        entry.doing = session.state = text

                    session.busy = True
                    await self._attempt(entry, remote, log, about, asked=asked)
            ended = session.scope.cancelled_caught
        finally:
            self._sessions.close(session)
            self._active -= 1
            self._ending = {place: other for place, other in self._ending.items() if other is not entry}
            entry.running, entry.doing, entry.scope = False, "", None
            if entry.again:
                entry.failed, entry.begun = None, -math.inf
            elif ended and (entry.account is None or entry.account not in self._frozen):
                entry.failed, entry.error = trio.current_time(), session.reason or _KICKED
            entry.finished.set()
            self._wake()

    async def _attempt(
        self, entry: Entry, remote: Remote, log: Logger, about: Callable[[str], None], *, asked: bool
    ) -> None:
        """One poll, and what is to be remembered of it."""
        try:
            memory = Memory((await self._file(entry.account).load()).get(remote.key))
        except OSError as error:
            log.failure("what was collected cannot be read: %s", error)
            entry.failed, entry.error = trio.current_time(), str(error)
            return
        if asked:
            memory.reconsider()

        async def save() -> None:
            await self._remember(entry, memory)

        def submitting() -> None:
            if entry.unsaved is None:
                entry.unsaved = self._journal.position

        poll = Poll(remote, entry.account, memory, log, save, about, submitting)
        entry.failed, entry.host_failed = None, False
        try:
            await self._poller.poll(poll)
        except (HostFailed, Broken, Denied, NotNow) as error:
            entry.failed, entry.host_failed = trio.current_time(), isinstance(error, HostFailed)
            if entry.host_failed:
                self._failed_hosts[_host(entry)] = entry.failed
            memory.failed(str(error))
            log.problem("%s@%s: %s", remote.name, remote.host, error)
        else:
            self._failed_hosts.pop(_host(entry), None)
            memory.succeeded(self._clock.now(), poll.note)
            if poll.collected:
                log.major("%s@%s: %d messages collected", remote.name, remote.host, poll.collected)
            else:
                log.low("%s@%s: nothing new", remote.name, remote.host)
        finally:
            with trio.CancelScope(shield=True):  # our own disk only
                await save()
        self._show(entry, memory)

    # -- objects that are renamed or removed --------------------------------------------------------------------------

    async def check(self, change: Change) -> None:
        """Nothing here refuses."""

    async def do(self, change: Change) -> None:
        """Polls of accounts that are about to move or go are ended, and none begins."""
        if change.kind == "create":
            return
        for entry in self._touched(change):
            assert entry.account is not None
            self._frozen.add(entry.account)
            entry.asked = False
            self._end(entry)
        for entry in self._touched(change):
            if entry.running:
                await entry.finished.wait()

    async def undo(self, change: Change) -> None:
        self.done(change)

    def done(self, change: Change) -> None:
        """The objects have their new names."""
        self._frozen.clear()
        self.refresh()

    def _touched(self, change: Change) -> list[Entry]:
        return [
            entry
            for entry in self.entries.values()
            if entry.account is not None
            and (
                entry.account is change.account if change.account is not None else entry.account.domain is change.domain
            )
        ]


def _host(entry: Entry) -> str:
    remote = entry.remote
    return ",".join(f"{host.name}:{remote.port(host)}" for host in remote.hosts)


def _only_address(remote: Remote) -> str:
    """The IP address of the only host, if that is one: traffic within this computer needs no line."""
    name = remote.hosts[0].name
    try:
        return str(parse_address(name)) if len(remote.hosts) == 1 else ""
    except ValueError:
        return ""
