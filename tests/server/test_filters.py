"""External filters on the running server: programs of their own, rules that call them, mail that comes in by each way."""

import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from appliance.formats.data import Value, render
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import House, Refusal, living, until

PROGRAM = """\
import os, sys, time, threading
def say(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()
def judge(text):
    if "virus" in text: return 'ERROR "found a virus\\\\ecalled Eicar"'
    if "drop" in text: return "DISCARD"
    if "early" in text and "X-Early" in text: return 'ADDHEADER "X-Seen: early"'
    if "spam" in text: return 'ADDHEADER "X-Spam: yes\\\\eX-Score: 7"'
    if "wait" in text and not os.path.exists("waited"):
        open("waited", "w").close()
        return 'REJECTED "licence"'
    if "environment" in text: return 'ADDHEADER "X-Env: %s %s"' % (os.environ.get("PILLAR_TEST"), os.getcwd())
    return "OK"
running = most = 0
def work(number, name):
    global running, most
    running += 1
    if running > most:
        most = running
        with open("most", "w") as file: file.write(str(most))
    answer = judged(name)
    running -= 1
    say(number, answer)
def judged(name):
    with open(name) as file:
        text = file.read()
    subject = text.partition("Subject: ")[2].partition("\\n")[0]
    if "slow" in subject: time.sleep(0.2)
    if "hang" in subject: time.sleep(60)
    with open("seen", "a") as log: log.write(subject + "\\n")
    return judge(subject + ("X-Early" if "\\nH X-Early" in text.partition("\\n\\n")[0] else ""))
for line in sys.stdin:
    number, word, name = line.split()
    if word == "INTF": say(number, "OK 2")
    elif len(sys.argv) > 1: work(number, name)
    else: threading.Thread(target=work, args=(number, name), daemon=True).start()
if os.path.exists("stubborn"): time.sleep(60)
"""


def seen(house: House) -> list[str]:
    path = house.base / "seen"
    return path.read_text().splitlines() if path.exists() else []


async def use_filter(house: House, **more: str) -> None:
    """A filter, and a rule of the server that lets it see all mail."""
    (house.base / "filter.py").write_text(PROGRAM)
    row: dict[str, Value] = {
        "Name": "scanner",
        "Enabled": "YES",
        "LogLevel": "5",
        "ProgramPath": f'"{sys.executable}" -SE filter.py',
        "AutoRestart": "0s",
    }
    await house.update("Helpers", ContentFilters=[{**row, **more}])


async def rules(house: House, *made: Value, of: str = "SetServerRules") -> None:
    cli = await house.cli()
    await cli(f"{of} {render(list(made))}")
    await cli.line.aclose()


def scan_all(*conditions: Value, priority: str = "5") -> Value:
    return [priority, "scan", list(conditions), [["ExternalFilter", ""]]]


async def subjects(house: House, name: str = "ann") -> list[str]:
    texts = await house.inbox(name)
    return sorted(re.search(r"(?m)^Subject: (.*)", text)[1] for text in texts)  # type: ignore[index]


async def arrived(house: House, *expected: str, name: str = "ann", seconds: float = 10) -> None:
    async def there() -> bool:
        return await subjects(house, name) == sorted(expected)

    await until(there, seconds)


async def send(house: House, subject: str, to: str = "ann@box.test") -> None:
    answer = await house.mail(to, f"Subject: {subject}\r\n\r\ntext", "bob@box.test")
    assert answer.startswith("250"), answer


@pytest.fixture
async def scanned(house: House) -> AsyncIterator[House]:
    """A server all of whose mail is scanned."""
    await use_filter(house)
    await rules(house, scan_all())
    yield house


@pytest.mark.feature(
    "FLT-009", "FLT-010", "FLT-012", "FLT-013", "FLT-066", "FLT-005", "RULE-193", "RULE-194", "RULE-196"
)
@pytest.mark.feature("RULE-197", "FLT-039", "RULE-204", "PROT-122")
async def test_what_a_filter_says_happens(scanned: House) -> None:
    for subject in ("fine", "virus here", "drop it", "spam today"):
        await send(scanned, subject)
    await arrived(scanned, "fine", "spam today")
    found = next(text for text in await scanned.inbox("ann") if "spam today" in text)
    assert "X-Spam: yes\nX-Score: 7\n" in found.partition("\n\n")[0]
    await until(lambda: len(seen(scanned)) >= 5)  # the report too

    async def reported() -> list[str]:
        return await scanned.inbox("bob")

    await until(reported)
    (report,) = await reported()
    assert re.search(r"found a virus\n +called Eicar\n", report)
    log = await scanned.log()
    assert re.search(r" 5 EXTFILTER scanner: \d{5} FILE Queue/\d+\.msg", log)
    assert re.search(r' 5 EXTFILTER scanner: \d{5} ERROR "found a virus', log)


@pytest.mark.feature("FLT-011", "RULE-195")
async def test_a_message_that_is_put_off_comes_later_and_once(scanned: House) -> None:
    scanned.server.filters._delays = (0.1, 0.2)
    await send(scanned, "wait for it")
    await arrived(scanned, "wait for it")
    assert seen(scanned) == ["wait for it"] * 2
    await scanned.logged("is put off for 0.1 s: licence")


@pytest.mark.feature("FLT-001")
async def test_mail_is_scanned_whatever_way_it_came(scanned: House) -> None:
    cli = await scanned.cli()
    await cli("CreateGroup team {Members=(ann,bob);}")
    await rules(
        scanned,
        ["5", "on", [["Subject", "is", "redirect*"]], [["Redirect to", "ann@box.test"]]],
        of="SetAccountRules bob",
    )
    pop = await scanned.connect("POP")
    await pop.ask("USER bob")
    await pop.ask(f"PASS {PASSWORD}")
    await pop.ask("XTND XMIT")
    await pop.send(b"From: bob@box.test\r\nTo: ann@box.test\r\nSubject: by pop virus\r\n\r\nx\r\n.\r\n")
    await pop.line()
    (scanned.base / "Submitted/a.sub").write_text("From: bob\nTo: ann\nSubject: by file virus\n\nx\n")
    await cli("CheckSubmitted")
    await send(scanned, "by smtp virus")
    await send(scanned, "by list", "team@box.test")
    await send(scanned, "redirect me", "bob@box.test")
    await until(lambda: {"by pop virus", "by file virus", "by smtp virus"} <= set(seen(scanned)))
    await until(lambda: seen(scanned).count("by list") == 2 and seen(scanned).count("redirect me") == 2)
    await arrived(scanned, "by list", "redirect me")


@pytest.mark.feature("FLT-004", "FLT-005", "FLT-007", "FLT-008", "RULE-205")
async def test_a_rule_decides_what_is_scanned(house: House) -> None:
    await use_filter(house)
    await send(house, "virus without a rule")
    await arrived(house, "virus without a rule")
    assert seen(house) == []
    marked: Value = ["9", "mark", [], [["Add Headers", "X-Early: 1"]]]
    sorted_out: Value = ["1", "sort", [["Header Field", "is", "X-Spam: yes"]], [["Add Headers", "X-Later: 1"]]]
    await rules(house, marked, scan_all(["Subject", "is", "scan*"]), sorted_out)
    await send(house, "virus not asked for")
    await send(house, "scan spam")
    await send(house, "scan early")
    await arrived(house, "virus without a rule", "virus not asked for", "scan spam", "scan early")
    assert sorted(seen(house)) == ["scan early", "scan spam"]
    assert "X-Seen: early" in next(text for text in await house.inbox("ann") if "scan early" in text)
    found = next(text for text in await house.inbox("ann") if "scan spam" in text)
    assert "X-Early: 1" in found and "X-Later: 1" in found
    await house.update("Helpers", ContentFilters=[])
    await send(house, "scan virus")
    await arrived(house, "virus without a rule", "virus not asked for", "scan spam", "scan early", "scan virus")


@pytest.mark.feature("FLT-006")
async def test_only_rules_of_the_server_scan(house: House) -> None:
    with pytest.raises(Refusal):
        await rules(house, scan_all(), of="SetAccountRules ann")


@pytest.mark.feature("FLT-002", "FLT-003", "FLT-015", "FLT-016", "FLT-036", "FLT-062")
async def test_a_filter_that_hangs_holds_only_what_needs_it(house: House) -> None:
    """With one Enqueuer processor, which is the default."""
    await use_filter(house, TimeOut="1h")
    await rules(house, scan_all(["Subject", "is", "*scan*"]))
    for number in range(5):
        await send(house, f"scan hang {number}")
    began = time.monotonic()
    for number in range(10):
        await send(house, f"free {number}")
    await arrived(house, *[f"free {number}" for number in range(10)])
    assert time.monotonic() - began < 8
    await rules(house, scan_all(["Subject", "is", "*scan*"], priority="7"))
    # The program is looked after: it ends, and a better one takes its place.
    program = house.base / "filter.py"
    program.write_text(program.read_text().replace('"hang" in subject', '"never" in subject'))
    cli = await house.cli()
    house.server.helpers.grace = 0.2
    await cli("RestartHelper scanner")
    await arrived(house, *[f"free {n}" for n in range(10)], *[f"scan hang {n}" for n in range(5)])


@pytest.mark.feature("FLT-003", "RULE-192", "RULE-207")
async def test_scans_side_by_side_follow_the_processors(scanned: House) -> None:
    """20 messages of 0.2 seconds each, while others pass."""
    await scanned.update("Queue", EnqueuerProcessors="3")
    await rules(scanned, scan_all(["Subject", "is", "slow*"]))
    for number in range(20):
        await send(scanned, f"slow {number}")
    await send(scanned, "free")

    async def free_is_there() -> bool:
        return "free" in await subjects(scanned)

    await until(free_is_there)
    assert len(seen(scanned)) < 20
    await until(lambda: len(seen(scanned)) == 20)
    assert (scanned.base / "most").read_text() == "3"


@pytest.mark.feature("FLT-015", "FLT-037", "FLT-042", "FLT-043", "RULE-200")
async def test_a_program_that_is_killed_loses_nothing(scanned: House) -> None:
    names = [f"slow {number}" for number in range(12)]
    killed = 0

    async def killer() -> None:
        nonlocal killed
        while killed < 4:
            await trio.sleep(0.25)
            (row,) = scanned.server.filters.status()
            if "Process" in row:
                os.kill(int(str(row["Process"])), signal.SIGKILL)
                killed += 1

    # A message that was there at three ends is put off, whether it is to blame or not.
    scanned.server.filters._delays = (0.1, 0.2)
    await scanned.update("Queue", EnqueuerProcessors="3")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(killer)
        for name in names:
            await send(scanned, name)
    await arrived(scanned, *names, seconds=20)
    assert killed == 4 and set(seen(scanned)) == set(names)
    assert not scanned.crashes(await scanned.log())


@pytest.mark.feature("FLT-035", "FLT-044", "FLT-034", "RULE-190", "BASE-010")
async def test_an_enabled_filter_starts_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLAR_TEST", "inherited")
    async with living(tmp_path / "base") as house:
        await use_filter(house)
        await rules(house, scan_all())
    async with living(tmp_path / "base") as house:
        await send(house, "environment")
        await arrived(house, "environment")
        (text,) = await house.inbox("ann")
        assert f"X-Env: inherited {house.base}" in text


async def test_mail_that_waits_for_a_filter_survives_a_restart(tmp_path: Path) -> None:
    async with living(tmp_path / "base") as house:
        await use_filter(house, TimeOut="1h")
        await rules(house, scan_all(["Subject", "is", "*hang*"]))
        house.server.helpers.grace = 0.2
        for number in range(3):
            await send(house, f"hang {number}")
        await until(lambda: house.server.filters.status()[0].get("Waiting") == "3")
        program = house.base / "filter.py"
        program.write_text(program.read_text().replace('"hang" in subject', '"never" in subject'))
    async with living(tmp_path / "base") as house:
        await arrived(house, "hang 0", "hang 1", "hang 2")
        assert sorted(seen(house)) == ["hang 0", "hang 1", "hang 2"]


async def test_an_administrator_can_reject_what_waits_for_a_filter(house: House) -> None:
    await use_filter(house, TimeOut="1h")
    await rules(house, scan_all(["Subject", "is", "*hang*"]))
    house.server.helpers.grace = 0.2
    await send(house, "hang")
    await until(lambda: house.server.filters.status()[0].get("Waiting") == "1")
    (number,) = house.server.transfer.spool.live
    cli = await house.cli()
    assert await cli(f"RejectQueueMessage {number}") == "1"

    async def told() -> list[str]:
        return await house.inbox("bob")

    await until(told)
    assert not await house.inbox("ann")


@pytest.mark.feature("FLT-041", "INST-083")
async def test_a_filter_that_does_not_end_does_not_hold_the_server(tmp_path: Path) -> None:
    async with living(tmp_path / "base") as house:
        await use_filter(house)
        (house.base / "stubborn").write_text("")
        house.server.helpers.grace = 1.5
        await until(lambda: "Process" in house.server.filters.status()[0])
        pid = int(str(house.server.filters.status()[0]["Process"]))
        await rules(house, scan_all())
        began = time.monotonic()
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "the shutdown took more than" not in await house.log()


@pytest.mark.feature("FLT-014", "QUEUE-056")
async def test_fields_go_with_the_message_to_other_hosts_too(scanned: House) -> None:
    await scanned.update("Schedule", Schedule=[{"Day": "Monday", "From": "00:00", "To": "00:01", "Pause": "1m"}])
    (scanned.base / "Submitted/a.sub").write_text("From: bob\nTo: ann, x@far.test\nSubject: spam\n\nx\n")
    cli = await scanned.cli()
    await cli("CheckSubmitted")
    await arrived(scanned, "spam")
    (text,) = await scanned.inbox("ann")
    (message,) = scanned.server.transfer.spool.live.values()
    assert "X-Spam: yes" in text and message.added_header == b"X-Spam: yes\nX-Score: 7\n"


@pytest.mark.feature("FLT-017")
async def test_a_loop_and_a_filter(scanned: House) -> None:
    hops = "".join(f"Received: from a by b; {number}\r\n" for number in range(40))
    answer = await scanned.mail("ann@box.test", f"{hops}Subject: loop\r\n\r\nx", "bob@box.test")
    assert answer.startswith("5")
    (scanned.base / "Submitted/a.sub").write_text(
        "From: bob\nTo: ann\n" + hops.replace("\r", "") + "Subject: loop\n\nx\n"
    )
    cli = await scanned.cli()
    assert await cli("CheckSubmitted") == "0"
    await send(scanned, "fine")
    await arrived(scanned, "fine")
    assert not scanned.crashes(await scanned.log())


@pytest.mark.feature("FLT-030", "FLT-033", "FLT-038", "FLT-040", "RULE-201", "RULE-202")
async def test_the_page(house: House) -> None:
    (house.base / "filter.py").write_text(PROGRAM)
    assert 'href="/Settings/Helpers"' in (await house.page("/Settings/General")).body
    page = await house.page("/Settings/Helpers")
    assert "Content Filtering" in page.body and "External Authentication" in page.body
    form = page.form()
    form["ContentFilters.0.Name"] = "first"
    form["ContentFilters.0.Enabled"] = "YES"
    form["ContentFilters.0.ProgramPath"] = "no/such/program"
    form["ContentFilters.0.AutoRestart"] = "Disabled"
    page = await house.page("/Settings/Helpers", form)
    assert "cannot be started: No such file" in page.body and "not running" in page.body
    form = page.form()
    form["ContentFilters.0.ProgramPath"] = f'"{sys.executable}" -SE filter.py'
    page = await house.page("/Settings/Helpers", form)
    assert '<span class="badge">running</span>' in page.body and "cannot be started" not in page.body
    pid = int(re.search(r"Process (\d+)", page.body)[1])  # type: ignore[index]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: house.server.filters.status()[0]["State"] == "down")
    assert "not running" in (await house.page("/Settings/Helpers")).body
    await house.update("TempFiles", RecycleTempFiles="NO")
    page = await house.page("/Settings/Helpers", (await house.page("/Settings/Helpers")).form())
    assert '<span class="badge">running</span>' in page.body and "first" in page.body
    form = page.form()
    form["ContentFilters.1.Name"] = "FIRST"
    assert "there are two filters" in (await house.page("/Settings/Helpers", form)).body
    form["ContentFilters.1.Name"] = ""
    form["ContentFilters.0.Name"] = ""
    page = await house.page("/Settings/Helpers", form)
    assert "filter.py" not in page.body and house.server.filters.status() == []
