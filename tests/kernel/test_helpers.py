"""Programs that the server starts."""

import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from appliance.kernel.helpers import HelperError, Helpers, TooSlow, clean_environment, split_command
from appliance.kernel.log import MemoryLog

PYTHON = [sys.executable, "-S", "-E", "-c"]
ECHO = "import sys\nfor line in sys.stdin:\n    print('got', line.strip(), flush=True)\n"


async def until(condition: object, seconds: float = 5) -> None:
    with trio.fail_after(seconds):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 - the other side is a process
            await trio.sleep(0.01)


async def test_a_command_gets_input_and_gives_output(tmp_path: Path) -> None:
    script = "import sys, os; d = sys.stdin.buffer.read(); print(len(d), sys.argv[1], os.getcwd()); sys.exit(3)"
    result = await Helpers().execute([*PYTHON, script, "$HOME; `x`"], input=b"x" * 300_000, directory=str(tmp_path))
    assert (result.code, result.output.decode().strip()) == (3, f"300000 $HOME; `x` {tmp_path}")


async def test_a_command_is_bounded_in_time_and_output() -> None:
    helpers = Helpers()
    began = time.monotonic()
    with pytest.raises(HelperError, match="took more than"):
        await helpers.execute([*PYTHON, "import time; time.sleep(60)"], timeout=0.3)
    with pytest.raises(HelperError, match="more than 1000 bytes"):
        await helpers.execute([*PYTHON, "while True: print('x' * 1000)"], limit=1000)
    with pytest.raises(HelperError, match="cannot be started: No such file"):
        await helpers.execute(["/no/such/program"])
    with pytest.raises(HelperError):
        await helpers.execute(["a\0b"])
    with trio.move_on_after(0.2):
        await helpers.execute([*PYTHON, "import time; time.sleep(60)"])
    assert time.monotonic() - began < 10 and len(helpers) == 0


async def test_variables_of_our_loader_are_not_handed_on() -> None:
    ours = {
        "PATH": "/bin",
        "LD_LIBRARY_PATH": "/opt/pillarbox",
        "LD_LIBRARY_PATH_ORIG": "/usr/local/lib",
        "LD_PRELOAD": "x.so",
        "PYTHONHOME": "/opt",
        "_MEIPASS2": "/tmp/x",
    }
    assert clean_environment(ours) == {"PATH": "/bin", "LD_LIBRARY_PATH": "/usr/local/lib"}
    helpers = Helpers({**os.environ, "LD_PRELOAD": "", "PYTHONHOME": "/nonsense"})
    result = await helpers.execute(
        [*PYTHON, "import os; print('PYTHONHOME' in os.environ, os.environ['MORE'])"], environment={"MORE": "yes"}
    )
    assert result.output.split() == [b"False", b"yes"]


def test_command_lines_are_words_without_a_shell() -> None:
    assert split_command("/usr/bin/filter -a 'two words' $HOME;x") == [
        "/usr/bin/filter",
        "-a",
        "two words",
        "$HOME;x",
    ]
    with pytest.raises(ValueError):
        split_command("'open")


async def test_a_helper_answers_lines_and_sees_the_end_of_its_input(tmp_path: Path) -> None:
    log, lines = MemoryLog(), list[bytes]()
    script = ECHO + "print('bye', flush=True); open(sys.argv[1], 'w').close()\n"
    done = tmp_path / "done"
    helpers = Helpers()
    helper = helpers.helper("filter", lambda: [*PYTHON, script, str(done)], log.source("EXTFILTER"), lines.append)
    with pytest.raises(HelperError, match="not running"):
        helper.send(b"1 x")
    async with trio.open_nursery() as nursery:
        await nursery.start(helper.run)
        await until(lambda: helper.running)
        helper.send(b"1 FILE a")
        helper.send(b"2 FILE b")
        with pytest.raises(HelperError, match="not a line"):
            helper.send(b"3\n4")
        await until(lambda: len(lines) == 2)
        nursery.cancel_scope.cancel()
    assert lines == [b"got 1 FILE a", b"got 2 FILE b"]
    assert os.listdir(tmp_path) == ["done"] and len(helpers) == 0
    assert "2 EXTFILTER filter has ended with code 0" in log.text()


async def test_a_helper_that_ends_is_started_again() -> None:
    log, lines = MemoryLog(), list[bytes]()
    script = "import sys, os; print(os.getpid(), flush=True); print('trouble', file=sys.stderr, flush=True)"
    events: list[str] = []
    helper = Helpers().helper(
        "auth",
        lambda: [*PYTHON, script],
        log.source("EXTAUTH"),
        lines.append,
        started=lambda: events.append("started"),
        ended=lambda: events.append("ended"),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(helper.run)
        await until(lambda: len(lines) == 2)
        await until(lambda: events.count("ended") == 2)
        nursery.cancel_scope.cancel()
    assert lines[0] != lines[1] and events == ["started", "ended"] * 2
    assert "3 EXTAUTH auth: trouble" in log.text()


async def test_a_helper_that_ignores_the_end_is_killed() -> None:
    helpers = Helpers()
    helper = helpers.helper(
        "stubborn",
        lambda: [*PYTHON, "import time\nprint('here', flush=True)\nwhile True: time.sleep(1)"],
        MemoryLog().source("X"),
        lambda line: None,
    )
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        await nursery.start(helper.run)
        await until(lambda: helper.running)

        async def kill() -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)
                helpers.kill_all()

        nursery.start_soon(kill)
        nursery.cancel_scope.cancel()
    assert time.monotonic() - began < 4 and len(helpers) == 0


async def test_a_program_that_dies_at_once_is_not_started_in_a_storm() -> None:
    log = MemoryLog()
    helper = Helpers().helper("brief", lambda: ["/bin/true"], log.source("X"), lambda line: None, pause=lambda: 0.0)
    async with trio.open_nursery() as nursery:
        await nursery.start(helper.run)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert 2 < helper.starts < 7


async def test_input_comes_in_pieces_and_need_not_be_taken() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 10_000

    helpers = Helpers()
    whole = await helpers.execute(["/usr/bin/wc", "-c"], input=pieces())
    assert whole.output.strip() == b"400000" and whole.took_all
    part = await helpers.execute(["/bin/true"], input=pieces())
    assert part.code == 0 and not part.took_all
    none = await helpers.execute(["/usr/bin/wc", "-c"], input=None)
    assert none.output.strip() == b"0" and none.took_all

    async def fails() -> AsyncIterator[bytes]:
        yield b"a"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await helpers.execute(["/bin/cat"], input=fails())
    assert len(helpers) == 0


async def test_output_can_be_cut_or_thrown_away() -> None:
    helpers = Helpers()
    cut = await helpers.execute([*PYTHON, "import sys; sys.stderr.write('e' * 5000)"], limit=1000, cut=True)
    assert cut.errors == b"e" * 1000 and cut.code == 0
    thrown = await helpers.execute([*PYTHON, "print('x' * 100_000)"], limit=10, discard=True)
    assert thrown.output == b"" and thrown.code == 0
    with pytest.raises(HelperError, match="more than 1000 bytes"):
        await helpers.execute([*PYTHON, "while True: print('x' * 1000)"], limit=1000, cut=True)


async def test_children_of_a_program_neither_hold_nor_survive_its_time(tmp_path: Path) -> None:
    helpers = Helpers()
    began = time.monotonic()
    script = "import subprocess, sys; subprocess.Popen(['/bin/sleep', '30']); print('done')"
    left = await helpers.execute([*PYTHON, script])
    assert left.output == b"done\n" and time.monotonic() - began < 5
    number = tmp_path / "pid"
    script = f"import subprocess, time; p = subprocess.Popen(['/bin/sleep', '30']); open({str(number)!r}, 'w').write(str(p.pid)); p.wait()"
    with pytest.raises(TooSlow):
        await helpers.execute([*PYTHON, script], timeout=0.5)
    await until(lambda: _gone(int(number.read_text())))


def _gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root starts programs as others")
async def test_a_program_of_another_user_has_nothing_of_ours() -> None:
    helpers = Helpers()
    found = await helpers.execute(["/usr/bin/id"], user="nobody")
    assert b"(nobody)" in found.output and b"root" not in found.output
    found = await helpers.execute(["/bin/sh", "-c", "echo $USER $HOME"], user="nobody")
    assert found.output.startswith(b"nobody /")
    with pytest.raises(HelperError, match="there is no user 'no-such-user'"):
        await helpers.execute(["/usr/bin/id"], user="no-such-user")


@pytest.mark.feature("INST-083", "FLT-041")
async def test_the_shutdown_gives_helpers_their_time_and_no_more() -> None:
    helpers = Helpers(grace=1.0)
    script = "import sys, time\nsys.stdin.read()\ntime.sleep(float(sys.argv[1]))\nprint('bye', flush=True)"
    lines: list[bytes] = []
    obedient, stubborn = (
        helpers.helper(name, lambda name=name: [*PYTHON, script, name], MemoryLog().source("X"), lines.append)  # type: ignore[misc]
        for name in ("0.1", "60")
    )
    async with trio.open_nursery() as vital:
        await vital.start(helpers.run)
        async with trio.open_nursery() as nursery:
            await nursery.start(obedient.run)
            await nursery.start(stubborn.run)
            await until(lambda: obedient.running and stubborn.running)
            await trio.sleep(0.2)
            began = time.monotonic()
            helpers.close()
            await until(lambda: lines == [b"bye"])
            nursery.cancel_scope.cancel()
        assert time.monotonic() - began < 2 and len(helpers) >= 1
        vital.cancel_scope.cancel()
    assert 0.4 < time.monotonic() - began < 4 and len(helpers) == 0
