"""Filters as programs of their own beside the server: real children over real pipes."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from appliance.filters.answers import FilterAnswer
from appliance.filters.filters import ContentFilters
from appliance.filters.settings import HELPERS
from appliance.formats.data import Value
from appliance.kernel.helpers import Helpers
from appliance.kernel.log import MemoryLog
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.transfer.message import QueuedMessage, Recipient, Source

HEAD = """\
import os, sys, time
def lines():
    for line in sys.stdin:
        open("asked", "a").write(line)
        number, word, *rest = line.split()
        if word == "INTF":
            print(number, "OK", sys.argv[1], flush=True)
        else:
            yield number, rest[0]
def say(*words):
    print(*words, flush=True)
"""
HAPPY = "for number, name in lines():\n    say(number, 'OK')\n"


async def until(condition: Callable[[], object], seconds: float = 8) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the other side is a process
            await trio.sleep(0.01)


class World:
    """Filters with programs of Python in a base directory of their own."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.log = MemoryLog()
        self.helpers = Helpers(grace=1)
        self.settings = Settings(HELPERS, MemoryStorage())
        self.limit = 10
        self.copies: list[str] = []
        self.filters = ContentFilters(
            self.settings,
            self.helpers,
            str(base),
            self.log,
            lambda: self.limit,
            mirror=self.mirror,
            delays=(0.05, 0.1),
        )
        (base / "Queue").mkdir()
        self.number = 0

    async def mirror(self, message: QueuedMessage, address: str) -> None:
        self.copies.append(f"{message.id} {address}")

    def program(self, script: str, name: str = "filter.py", version: str = "2") -> str:
        (self.base / name).write_text(HEAD + script)
        return f'"{sys.executable}" -S -E {name} {version}'

    async def use(self, *paths: str, **more: str) -> None:
        rows: list[Value] = [
            {"Name": f"f{number}", "Enabled": "YES", "LogLevel": "5", "ProgramPath": path, **more}
            for number, path in enumerate(paths, 1)
        ]
        await self.settings.update({"ContentFilters": rows})

    def message(self, text: bytes = b"Subject: x\n\nbody\n") -> QueuedMessage:
        self.number += 1
        message = QueuedMessage(self.number, "a@b.test", Source("SMTP"), [Recipient(0, "c@d.test")], 0.0, len(text))
        message.contents = Contents(self.base / "Queue", text)
        return message

    async def ask(self, name: str = "") -> FilterAnswer:
        return await self.filters.ask(name, self.message())

    def asked(self) -> list[str]:
        path = self.base / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.filters.run)
            yield
            nursery.cancel_scope.cancel()


class Contents:
    """Gives a message its file."""

    def __init__(self, queue: Path, text: bytes) -> None:
        self.queue = queue
        self.text = text

    async def file(self, message: QueuedMessage) -> str:
        path = self.queue / f"{message.id}.msg"
        path.write_bytes(b"S SMTP - -\nP <a@b.test>\nR w <c@d.test>\n\n" + self.text)
        return str(path)

    async def content(self, message: QueuedMessage) -> bytes:
        return self.text

    async def head(self, message: QueuedMessage, limit: int) -> bytes:
        return self.text[:limit]

    async def chunks(self, message: QueuedMessage) -> AsyncIterator[bytes]:
        yield self.text


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def together(*acts: Callable[[], Awaitable[FilterAnswer]]) -> list[FilterAnswer]:
    answers: list[FilterAnswer | None] = [None] * len(acts)

    async def one(number: int, act: Callable[[], Awaitable[FilterAnswer]]) -> None:
        answers[number] = await act()

    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            for number, act in enumerate(acts):
                nursery.start_soon(one, number, act)
    return [answer for answer in answers if answer is not None]


def zombies() -> list[str]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in children if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()]


@pytest.mark.feature("FLT-034", "FLT-063", "FLT-064", "RULE-190", "BASE-010", "FLT-081")
async def test_a_program_is_started_in_the_base_directory_and_asked_about_files(world: World) -> None:
    script = "for number, name in lines():\n    say(number, 'ERROR', repr(os.getcwd() + open(name).read()[-5:]))\n"
    await world.use(world.program(script))
    async with world.living():
        answer = await world.ask()
    assert answer.action == "reject" and answer.text == repr(f"{world.base}body\n")
    assert world.asked() == ["00001 INTF 2", "00002 FILE Queue/1.msg"]


@pytest.mark.feature("FLT-031", "RULE-203")
async def test_a_program_path_is_words_and_quotes(world: World) -> None:
    folder = world.base / "my dir"
    folder.mkdir()
    script = folder / "filter"
    script.write_text(f"#!{sys.executable} -SE\n{HEAD}for n, name in lines(): say(n, 'ERROR', repr(sys.argv[2:]))\n")
    script.chmod(0o755)
    await world.use('"my dir/filter" 2 -x "a b" "c"')
    async with world.living():
        assert (await world.ask()).text == "['-x', 'a b', 'c']"


@pytest.mark.feature("FLT-007", "FLT-004")
async def test_a_filter_that_is_off_accepts_everything(world: World) -> None:
    await world.settings.update({"ContentFilters": [{"Name": "off", "ProgramPath": "nothing"}]})
    async with world.living():
        assert (await world.ask()).action == "accept"
        assert (await world.ask("off")).action == "accept"
        assert (await world.ask("unknown")).action == "accept"
    assert not world.helpers and world.asked() == []


@pytest.mark.feature("FLT-061", "FLT-062", "RULE-192")
async def test_answers_in_any_order_belong_to_their_requests(world: World) -> None:
    script = "kept = []\nfor n, name in lines():\n    kept.append((n, name))\n    if len(kept) == 3:\n"
    script += "        for n, name in reversed(kept): say(n, 'ERROR', name)\n"
    await world.use(world.program(script))
    async with world.living():
        answers = await together(world.ask, world.ask, world.ask)
    assert sorted(answer.text for answer in answers) == ["Queue/1.msg", "Queue/2.msg", "Queue/3.msg"]
    assert [answer.text for answer in answers] != [""] and len(world.asked()) == 4


@pytest.mark.feature("FLT-003", "FLT-062", "RULE-192", "RULE-207")
async def test_as_many_at_a_time_as_there_are_processors(world: World) -> None:
    script = "import threading\ndef work(n):\n    time.sleep(0.3)\n    say(n, 'OK')\n"
    script += "for n, name in lines(): threading.Thread(target=work, args=(n,)).start()\n"
    await world.use(world.program(script))
    async with world.living():
        await until(lambda: world.asked())
        began = trio.current_time()
        world.limit = 4
        await together(*[world.ask] * 4)
        assert trio.current_time() - began < 0.9
        world.limit = 1
        began = trio.current_time()
        await together(*[world.ask] * 3)
        assert trio.current_time() - began > 0.85


@pytest.mark.feature("FLT-037", "RULE-200", "FLT-043", "FLT-042")
async def test_what_a_dead_program_left_is_asked_again(world: World) -> None:
    script = "for n, name in lines():\n    if not os.path.exists('died'):\n        open('died', 'w').close()\n"
    script += "        os._exit(7)\n    say(n, 'OK')\n"
    await world.use(world.program(script), AutoRestart="0s")
    async with world.living():
        answers = await together(world.ask, world.ask)
    assert [answer.action for answer in answers] == ["accept", "accept"]
    files = [line.split()[2] for line in world.asked() if "FILE" in line]
    assert files.count("Queue/1.msg") == 2 and files.count("Queue/2.msg") >= 1
    assert "f1 has ended with code 7" in world.log.text()
    assert not zombies()


@pytest.mark.feature("FLT-036", "RULE-199")
async def test_a_program_that_does_not_answer_in_time_is_ended(world: World) -> None:
    script = "for n, name in lines():\n    if not os.path.exists('hung'):\n        open('hung', 'w').close()\n"
    script += "        time.sleep(60)\n    say(n, 'OK')\n"
    await world.use(world.program(script), TimeOut="1s", AutoRestart="0s")
    async with world.living():
        with trio.fail_after(5):
            assert (await world.ask()).action == "accept"
    assert "3 EXTFILTER f1: no answer in 1 s, it is ended" in world.log.text()
    assert [line.split()[1] for line in world.asked()] == ["INTF", "FILE", "INTF", "FILE"]


@pytest.mark.feature("FLT-038", "FLT-015", "RULE-201")
async def test_without_auto_restart_it_stays_down_until_it_is_started(world: World) -> None:
    script = "for n, name in lines():\n    if not os.path.exists('died'):\n        open('died', 'w').close()\n"
    script += "        os._exit(7)\n    say(n, 'OK')\n"
    await world.use(world.program(script), AutoRestart="Disabled")
    async with world.living(), trio.open_nursery() as nursery:
        answers: list[FilterAnswer] = []

        async def ask() -> None:
            answers.append(await world.ask())

        nursery.start_soon(ask)
        await until(lambda: world.filters.status()[0]["State"] == "down" and (world.base / "died").exists())
        await trio.sleep(0.3)
        (row,) = world.filters.status()
        assert not answers and row["Error"] == "it has ended with code 7" and row["Waiting"] == "1"
        await world.filters.settled(start=True)
        await until(lambda: answers)
    assert answers[0].action == "accept"


@pytest.mark.feature("FLT-033", "RULE-202")
async def test_a_program_that_cannot_be_started_is_told(world: World) -> None:
    await world.use("no/such/program", AutoRestart="Disabled")
    async with world.living():
        await world.filters.settled()
        (row,) = world.filters.status()
    assert row["State"] == "down" and "no/such/program cannot be started: No such file" in str(row["Error"])


@pytest.mark.feature("FLT-011", "RULE-195")
async def test_a_message_that_is_put_off_is_shown_again(world: World) -> None:
    script = "count = 0\nfor n, name in lines():\n    count += 1\n"
    script += "    say(n, 'REJECTED \"licence\"' if count < 3 else 'OK')\n"
    await world.use(world.program(script))
    async with world.living():
        assert (await world.ask()).action == "accept"
    assert len(world.asked()) == 4 and "3 EXTFILTER [1] is put off for 0.05 s: licence" in world.log.text()


async def test_a_message_that_kills_the_program_does_not_hold_up_the_others(world: World) -> None:
    script = "for n, name in lines():\n    if 'poison' in open(name).read(): os._exit(1)\n    say(n, 'OK')\n"
    await world.use(world.program(script), AutoRestart="0s")
    world.filters._delays = (60.0, 60.0)
    async with world.living(), trio.open_nursery() as nursery:
        nursery.start_soon(world.filters.ask, "", world.message(b"Subject: poison\n\n"))
        await until(lambda: world.asked())
        answers = await together(*[world.ask] * 5)
        assert [answer.action for answer in answers] == ["accept"] * 5
        await until(lambda: "is put off" in world.log.text())
        nursery.cancel_scope.cancel()


@pytest.mark.feature("FLT-068", "FLT-042")
async def test_noise_and_second_answers_do_no_harm(world: World) -> None:
    script = "for n, name in lines():\n    say('* busy'); say('99999 OK'); say('rubbish', chr(0)); say(n, 'WHAT')\n"
    script += "    say(n, 'OK'); say(n, 'DISCARD')\n"
    await world.use(world.program(script))
    async with world.living():
        for _ in range(3):
            assert (await world.ask()).action == "accept"
        await until(lambda: world.log.text().count("not asked for") >= 9)
    assert "'WHAT' is no answer of a filter" in world.log.text()


async def test_a_program_that_floods_is_ended(world: World) -> None:
    script = "for n, name in lines():\n    if os.path.exists('flooded'): say(n, 'OK')\n    else:\n"
    script += "        open('flooded', 'w').close()\n        while True: say('x' * 3000)\n"
    await world.use(world.program(script), AutoRestart="0s")
    async with world.living():
        with trio.fail_after(10):
            assert (await world.ask()).action == "accept"
    assert "f1 talks without answering, it is ended" in world.log.text()


@pytest.mark.feature("FLT-041", "INST-083")
async def test_a_program_that_ignores_its_end_has_five_seconds(world: World) -> None:
    assert Helpers().grace == 5.0
    await world.use(world.program("sys.stdin.readline()\nopen('up', 'w').close()\nwhile True: time.sleep(9)\n"))
    async with world.living():
        await until(lambda: (world.base / "up").exists())
        began = trio.current_time()
    assert 0.9 < trio.current_time() - began < 2.5 and len(world.helpers) == 0


async def test_the_log_has_what_was_said_at_its_level(world: World) -> None:
    await world.use(world.program(HAPPY))
    async with world.living():
        await world.ask()
        text = world.log.text()
        assert "5 EXTFILTER f1: 00002 FILE Queue/1.msg" in text and "5 EXTFILTER f1: 00002 OK" in text
        before = text.count("FILE")
        await world.use(world.program(HAPPY), LogLevel="3")
        await world.ask()
        assert world.log.text().count("FILE") == before


@pytest.mark.feature("FLT-016")
async def test_several_filters_in_order_and_changes_while_a_message_waits(world: World) -> None:
    first = world.program("for n, name in lines(): say(n, 'ADDHEADER', '\"X-One: 1\"')\n", "one.py")
    second = world.program("for n, name in lines():\n    time.sleep(60)\n", "two.py")
    await world.use(first, second)
    async with world.living(), trio.open_nursery() as nursery:
        answers: list[FilterAnswer] = []

        async def ask() -> None:
            answers.append(await world.ask())

        nursery.start_soon(ask)
        await until(lambda: len(world.asked()) == 4)
        third = world.program("for n, name in lines(): say(n, 'ADDHEADER', '\"X-Two: 2\" MIRRORTO arc@x.test OK')\n")
        await world.use(first, third)
        await until(lambda: answers)
        assert answers[0].added_header == b"X-One: 1\nX-Two: 2\n"
        assert world.copies == ["1 arc@x.test"]
        assert (await world.ask("F1")).added_header == b"X-One: 1\n"


async def test_a_filter_switched_off_releases_what_waits(world: World) -> None:
    await world.use(world.program("for n, name in lines(): pass\n"))
    async with world.living(), trio.open_nursery() as nursery:
        nursery.start_soon(world.ask)
        await until(lambda: len(world.asked()) == 2)
        await world.settings.update({"ContentFilters": []})
        await until(lambda: not nursery.child_tasks)


async def test_a_cancelled_question_is_forgotten(world: World) -> None:
    script = "for n, name in lines():\n    if name != 'Queue/1.msg': say(n, 'OK')\n"
    await world.use(world.program(script))
    world.limit = 1
    async with world.living():
        with trio.move_on_after(0.3):
            await world.ask()
        with trio.fail_after(3):
            assert (await world.ask()).action == "accept"
        assert world.filters.status()[0]["Waiting"] == "0"


async def test_error_output_without_measure_does_no_harm(world: World) -> None:
    script = "for n, name in lines():\n    sys.stderr.write('e' * 3_000_000)\n"
    script += "    for i in range(5000): sys.stderr.write('trouble\\n')\n    say(n, 'OK')\n"
    await world.use(world.program(script))
    async with world.living():
        for _ in range(2):
            assert (await world.ask()).action == "accept"
    text = world.log.text()
    assert "3 EXTFILTER f1: eee" in text and text.count("f1: ") < 300 and max(map(len, text.splitlines())) < 1200


async def test_answers_that_are_rubbish(world: World) -> None:
    """A program that says anything at all, and now and then what it should."""
    script = "import random\nr = random.Random(3)\nfor n, name in lines():\n    for i in range(r.randrange(40)):\n"
    script += "        sys.stdout.buffer.write(bytes(r.choice(b'0123 OKERDISCARD*\\\\\"\\n\\r\\xff') for j in range(r.randrange(300))))\n"
    script += "    sys.stdout.buffer.write(b'\\n')\n    say(n, 'ERROR', name)\n"
    await world.use(world.program(script))
    async with world.living():
        answers = await together(*[world.ask] * 30)
    assert sorted(answer.text for answer in answers) == sorted(f"Queue/{number}.msg" for number in range(1, 31))
