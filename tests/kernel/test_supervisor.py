"""The supervisor: what fails is started again, what is vital stops the process, and the end comes in time."""

import time
from collections.abc import Callable

import pytest
import trio
import trio.testing

from appliance.kernel.channel import Channel, ChannelClosed
from appliance.kernel.log import MemoryLog
from appliance.kernel.memory_channel import channel_pair
from appliance.kernel.sessions import Sessions
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.supervisor import GENERAL, ComponentFailed, LoopWatch, Supervisor, pace, run_session
from appliance.kernel.tasks import Pace, TaskStatus


def supervisor(**options: object) -> tuple[Supervisor, MemoryLog]:
    log = MemoryLog()
    made = Supervisor(Settings(GENERAL, MemoryStorage()), log.source("SYSTEM"), Sessions(), **options)  # type: ignore[arg-type]
    return made, log


async def serve_for_ever(*, task_status: TaskStatus) -> None:
    task_status.started()
    await trio.sleep_forever()


class Failing:
    """Fails `times` times, a second after each start, then works."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.starts: list[float] = []

    async def run(self, *, task_status: TaskStatus) -> None:
        self.starts.append(trio.current_time())
        task_status.started()
        await trio.sleep(1)
        if len(self.starts) <= self.times:
            raise RuntimeError("boom")
        await trio.sleep_forever()


@pytest.mark.feature("ADM-044")
async def test_a_failed_component_is_started_again_with_growing_delays(
    autojump_clock: trio.testing.MockClock,
) -> None:
    boss, log = supervisor()
    failing = Failing(3)

    async def start() -> None:
        await boss.start("SMTP", failing.run)

    async with trio.open_nursery() as nursery:
        await nursery.start(boss.run, start)
        await trio.sleep(30)
        boss.stop()
    gaps = [b - a for a, b in zip(failing.starts, failing.starts[1:], strict=False)]
    assert gaps == [pytest.approx(2), pytest.approx(3), pytest.approx(5)]
    assert boss.restarts.value == 3
    assert "0 SYSTEM exception raised in SMTP: RuntimeError: boom" in log.text()
    assert 'raise RuntimeError("boom")' in log.text()


@pytest.mark.feature("ADM-044")
@pytest.mark.parametrize("vital", [True, False])
async def test_a_vital_failure_or_any_without_crash_recovery_stops_the_process(
    autojump_clock: trio.testing.MockClock, vital: bool
) -> None:
    boss, _ = supervisor()
    if not vital:
        await boss.settings.update({"CrashRecovery": "NO"})
    saved = []

    async def save() -> None:
        saved.append(True)

    boss.checkpoint.append(save)

    async def start() -> None:
        await boss.start("SPOOL", Failing(1).run, vital=vital)
        await boss.start("OTHER", serve_for_ever)

    with pytest.raises(ComponentFailed, match="SPOOL") as caught:
        await boss.run(start)
    assert isinstance(caught.value.__cause__, RuntimeError | ExceptionGroup)
    assert saved == [True] and trio.current_time() < 10


async def test_a_start_that_fails_stops_what_has_started(autojump_clock: trio.testing.MockClock) -> None:
    boss, log = supervisor()

    async def broken(*, task_status: TaskStatus) -> None:
        raise OSError("no disk")

    async def start() -> None:
        await boss.start("LOG", serve_for_ever, vital=True)
        await boss.start("SPOOL", broken, vital=True)

    with pytest.raises(ComponentFailed):
        await boss.run(start)
    assert "0 SYSTEM exception raised in the start: OSError: no disk" in log.text()


async def test_the_server_comes_up_without_a_broken_component(autojump_clock: trio.testing.MockClock) -> None:
    boss, log = supervisor()
    tries: list[float] = []

    async def broken_at_first(*, task_status: TaskStatus) -> None:
        tries.append(trio.current_time())
        if len(tries) < 3:
            raise OSError("not yet")
        await serve_for_ever(task_status=task_status)

    async def start() -> None:
        await boss.start("SNMP", broken_at_first)
        await boss.start("POP", serve_for_ever)

    async with trio.open_nursery() as nursery:
        await nursery.start(boss.run, start)
        assert trio.current_time() == 0
        await trio.sleep(10)
        boss.stop()
    assert tries == [0, 1, 3] and "OSError: not yet" in log.text()


def open_session(boss: Supervisor, serve: Callable[[Channel], object]) -> tuple[Channel, Channel]:
    near, far = channel_pair()
    far.session = boss.sessions.open("POP", "192.0.2.1", 0)
    return near, far


async def test_the_shutdown_keeps_its_times(autojump_clock: trio.testing.MockClock) -> None:
    events: dict[str, float] = {}
    boss, log = supervisor()
    began = 0.0

    def note(name: str) -> None:
        events[name] = round(trio.current_time() - began, 1)

    async def save() -> None:
        note("checkpoint")

    boss.accepting.append(lambda: note("accepting"))
    boss.checkpoint.append(save)
    boss.sockets.append(lambda: note("sockets"))
    boss.helpers.append(lambda: note("helpers"))

    async def command(channel: Channel, seconds: float) -> None:
        session = channel.session
        assert session is not None
        session.busy = True
        await trio.sleep(seconds)
        await channel.send(b"250 done\r\n")
        session.busy = False
        await channel.receive()

    async def idle(channel: Channel) -> None:
        await channel.receive()

    async def stubborn(*, task_status: TaskStatus) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    nears = []

    async def start() -> None:
        await boss.start("LOG", serve_for_ever, vital=True)
        await boss.start("STUBBORN", stubborn)

    async with trio.open_nursery() as nursery:
        for seconds in (-1.0, 0.5, 30.0):
            near, far = open_session(boss, idle)
            nears.append(near)

            async def serve(channel: Channel, seconds: float = seconds) -> None:
                await (idle(channel) if seconds < 0 else command(channel, seconds))

            async def one(far: Channel = far, serve: Callable[[Channel], object] = serve) -> None:
                await run_session(
                    serve,  # type: ignore[arg-type]
                    far,
                    boss.sessions,
                    log.source("POP"),
                    failed=boss.session_failed,
                    farewell=lambda reason: f"421 {reason}\r\n".encode(),
                )

            nursery.start_soon(one)
        nursery.start_soon(boss.run, start)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        boss.stop("test")
        texts: list[tuple[float, bytes]] = []
        for near in nears:
            got = b""
            while data := await near.receive():
                got += data
            texts.append((round(trio.current_time() - began, 1), got))
        bye = b"421 the server is shutting down\r\n"
        assert texts == [(0.0, bye), (0.5, b"250 done\r\n" + bye), (1.5, bye)]
    assert events == {"accepting": 0.0, "checkpoint": 2.5, "sockets": 3.0, "helpers": 5.0}
    assert len(boss.sessions) == 0


@pytest.mark.feature("ADM-044")
@pytest.mark.parametrize("recovery", ["YES", "NO"])
async def test_a_program_error_in_a_session_ends_that_session(
    autojump_clock: trio.testing.MockClock, recovery: str
) -> None:
    boss, log = supervisor()
    await boss.settings.update({"CrashRecovery": recovery})

    async def broken(channel: Channel) -> None:
        raise ValueError("bug")

    near, far = open_session(boss, broken)
    await run_session(broken, far, boss.sessions, log.source("POP").session(1), failed=boss.session_failed)
    assert await near.receive() == b"" and len(boss.sessions) == 0
    assert "0 POP-1 exception raised in POP-1: ValueError: bug" in log.text()
    assert boss.crashes.value == 1
    assert boss.stopping.is_set() == (recovery == "NO")


async def test_a_broken_connection_is_no_program_error() -> None:
    boss, log = supervisor()

    async def reset(channel: Channel) -> None:
        async with trio.open_nursery():
            raise ChannelClosed("Connection reset by peer")

    _, far = open_session(boss, reset)
    await run_session(reset, far, boss.sessions, log.source("POP"), failed=boss.session_failed)
    assert log.text() == "4 POP connection ended: Connection reset by peer" and boss.crashes.value == 0


def work(seconds: float) -> None:
    time.sleep(seconds)


async def test_the_watch_dog_names_who_holds_the_loop() -> None:
    async def hold() -> None:
        work(0.015)

    async def polite() -> None:
        steps = Pace()
        for _ in range(20):
            work(0.001)
            await steps.step()
        await pace()

    with LoopWatch() as watch:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
        assert watch.holds == 1 and "hold" in watch.worst.task and watch.worst.seconds > 0.01
        async with trio.open_nursery() as nursery:
            nursery.start_soon(polite)
        assert not any("polite" in hold.task for hold in watch.last)
