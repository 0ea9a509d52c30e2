"""Mail from and to programs of this computer, on the running server."""

import os
import re
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.server.conftest import House, Refusal, living, until

PROGRAMS = {
    # What it was called with, and what it got.
    "show": 'cat > "$0.in"; pwd > "$0.cwd"; : > "$0.args"; for a in "$@"; do echo "$a" >> "$0.args"; done; echo said',
    "execjoe": 'cat > "$0.in"; : > "$0.args"; for a in "$@"; do echo "$a" >> "$0.args"; done',
    "no": "cat > /dev/null; echo no >&2",
    "fail": 'cat > /dev/null; echo "it went" >&2; echo "wrong" >&2; exit 3',
    "quiet": "cat > /dev/null; exit 4",
    "head": "head -n 1",
    "slow": 'cat > /dev/null; echo "begin $1" >> "$0.log"; sleep ${2:-0.4}; echo "end $1" >> "$0.log"',
    "later": 'cat > /dev/null; test -e "$0.once" && exit 0; touch "$0.once"; exit 75',
    "hang": "cat > /dev/null; sleep 60",
    "file": 'cat > "$0.in"; echo "$@" > "$0.args"; tail -n 1 "$2" > "$0.tail"',
}


@pytest.fixture
async def pipe(house: House) -> AsyncIterator[House]:
    """A server with programs."""
    make_programs(house)
    await house.update("PIPE", ApplicationDirectory="apps", Processes="5", LogLevel="5")
    yield house


def make_programs(house: House) -> None:
    folder = house.base / "apps"
    folder.mkdir()
    for name, script in PROGRAMS.items():
        make_program(folder, name, script)
    (folder / "notes").write_text("no program")


def make_program(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def drop(house: House, text: str, name: str = "a.sub") -> Path:
    """Put a file into the Submitted folder as it has to be done: whole, under its name, in one step."""
    path = house.base / "Submitted" / name
    path.with_suffix(".tmp").write_bytes(text.encode())
    return path.with_suffix(".tmp").rename(path)


async def submit(house: House, text: str) -> None:
    """Put a file into the Submitted folder, and see to it."""
    path = drop(house, text)
    cli = await house.cli()
    await cli("CheckSubmitted")
    await cli.line.aclose()
    assert not path.exists()


async def to_program(house: House, local: str, text: str = "hello", *, sender: str = "ann") -> None:
    quoted = local.replace("\\", "\\\\").replace('"', '\\"')
    await submit(house, f'From: {sender}\nTo: "{quoted}"@pipe\nSubject: run\n\n{text}\n')


async def report(house: House, number: int = 1) -> str:
    found: list[str] = []

    async def there() -> bool:
        found[:] = await house.inbox("ann")
        return len(found) >= number

    await until(there)
    return found[number - 1]


def left(house: House, name: str) -> str:
    return (house.base / "apps" / name).read_text()


async def written(house: House, name: str) -> str:
    await until(lambda: (house.base / "apps" / name).exists())
    await until(lambda: (house.base / "apps" / name).stat().st_size)
    return left(house, name)


# The Submitted folder ------------------------------------------------------------------------------------------------


@pytest.mark.feature("PIPE-001", "PIPE-002", "PIPE-003", "PIPE-004", "PIPE-006", "QUEUE-005", "BASE-022", "MISC-022")
async def test_a_file_becomes_a_message_within_the_period(house: House) -> None:
    await house.update("PIPE", CheckSubmittedEvery="1s")
    text = "From: root\nTo: ann, bob@box.test\nSubject: x\n\none\n.\n..two\nFrom here\nlast without end"
    waiting = drop(house, text, "a.tmp")
    other = drop(house, text, "b.txt")
    await trio.sleep(1.2)
    assert waiting.exists() and not await house.inbox("ann")
    taken = waiting.rename(waiting.with_suffix(".sub"))
    found = await report(house)
    await until(lambda: not taken.exists())
    head, _, body = found.partition("\n\n")
    assert body == "one\n..\n...two\nFrom here\nlast without end"  # POP doubles the dots
    assert "From: root@box.test\n" in head and re.search(r"(?i)^Message-ID: <", head, re.M)
    assert re.search(r"^Received: from \S+ by box.test \(Pillarbox PIPE\)", head, re.M)
    assert other.exists() and len(await house.inbox("bob")) == 1
    assert sorted(os.listdir(house.base / "Submitted")) == ["b.txt"]


@pytest.mark.feature("PIPE-005", "PIPE-017", "QUEUE-034", "QUEUE-036", "PROT-118", "PROT-130", "PIPE-018")
async def test_what_cannot_be_a_message_is_kept_with_the_reason(house: House) -> None:
    await house.update("Banned", HeaderLines=["Subject: *lottery*"])
    folder = house.base / "Submitted"
    drop(house, "From: ann\nSubject: x\n\nnobody\n", "a.sub")
    drop(house, f"From: ann\nTo: bob\nSubject: {'x' * 120_000}\n\nlong\n", "b.sub")
    drop(house, "no header at all", "c.sub")
    drop(house, "", "d.sub")
    (folder / "link.sub").symlink_to(house.base / "ProcessID")
    (folder / "dir.sub").mkdir()
    drop(house, "From: ann\nTo: bob\n\nfine\r\n", "e.sub")
    drop(house, "From: ann\nTo: bob\nSubject: the lottery\n\nbanned\n", "f.sub")
    cli = await house.cli()
    assert await cli("CheckSubmitted") == "1"
    expected = ["a.bad", "a.bad.txt", "b.bad", "b.bad.txt", "c.bad", "c.bad.txt", "d.bad", "d.bad.txt"]
    expected += ["dir.sub", "f.bad", "f.bad.txt", "link.sub"]
    assert sorted(os.listdir(folder)) == expected
    assert (folder / "a.bad.txt").read_text() == "there are no recipients\n"
    assert "banned line" in (folder / "f.bad.txt").read_text()
    assert "field is too long" in (folder / "b.bad.txt").read_text()
    assert "1 PIPE a.sub is not submitted, it is kept as .bad: there are no recipients" in await house.log()
    page = await house.page("/Monitors/PIPE")
    assert "a.bad" in page.body and "there are no recipients" in page.body
    drop(house, "From: ann\n\nagain nobody\n", "a.sub")
    await cli("CheckSubmitted")
    assert (folder / "a.1.bad").exists()
    page = await house.page("/Monitors/PIPE", {"do-remove:a.1.bad": "1"})
    assert "a.1.bad" not in page.body and not (folder / "a.1.bad.txt").exists()
    (folder / "a.bad").write_text("From: bob\nTo: ann\nSubject: repaired\n\nx\n")
    page = await house.page("/Monitors/PIPE", {"do-again:a.bad": "1"})
    assert "a.bad" not in page.body and "Subject: repaired" in await report(house)
    for name in ("../Settings/Main.settings", "none.bad", "link.sub"):
        with pytest.raises(Refusal):
            await cli(f'RemoveSubmittedFile "{name}"')
    assert not house.crashes(await house.log())


@pytest.mark.feature("PIPE-008", "PIPE-009", "PIPE-010", "PIPE-011", "PIPE-016", "MISC-052", "PROT-018")
async def test_the_envelope_of_a_file_and_its_trust(house: House, stranger: str) -> None:
    del stranger
    await submit(
        house, "From: x@far.test\nReturn-Path: <bob@box.test>\nEnvelope-To: ann\nTo: bob\nBcc: q@q.test\n\nhi\n"
    )
    found = await report(house)
    assert "Return-Path: <bob@box.test>" in found and "To: bob" in found
    assert not re.search(r"(?im)^(bcc|envelope-to):", found) and not await house.inbox("bob")
    await house.update("Schedule", Schedule=[{"Day": "Monday", "From": "00:00", "To": "00:01", "Pause": "1m"}])
    await submit(house, "From: ann\nTo: someone@outside.test\n\nrelayed\n")
    cli = await house.cli()
    queues = await cli("ListQueues SMTP")
    assert "outside.test" in str(queues)


@pytest.mark.feature("PIPE-015", "MISC-046")
async def test_an_envelope_id_is_in_the_report(house: House) -> None:
    await submit(house, "From: ann\nTo: nobody-here@box.test\nEnvelope-ID: QQ314159\n\nx\n")
    found = await report(house)
    assert "Original-Envelope-Id: QQ314159" in found


@pytest.mark.feature("MISC-020", "MISC-021", "MISC-023")
async def test_required_fields_are_added_and_others_left(house: House) -> None:
    await submit(house, "From: bob\nTo: ann\nSubject: no date\n\nx\n")
    await submit(house, "Date: some time ago\nMessage-ID: <odd@x>\nFrom: bob\nTo: ann\nSubject: odd date\n\nx\n")
    await house.mail("ann@box.test", "only text, of a line\r\nand another", "bob@box.test")
    found = [await report(house, number) for number in (1, 2, 3)]
    by_subject = {name: text for name in ("no date", "odd date", "only text") for text in found if name in text}
    assert re.search(r"(?m)^Date: \w{3}, \d+ \w{3} \d{4} [\d:]+ [+-]\d{4}$", by_subject["no date"])
    assert by_subject["odd date"].count("Date: ") == 1 and "Message-ID: <odd@x>\n" in by_subject["odd date"]
    head, _, body = by_subject["only text"].partition("\n\n")
    assert body == "only text, of a line\nand another" and "Date: " in head and "From: <bob@box.test>" in head


@pytest.mark.feature("PIPE-019")
async def test_many_files_in_their_order(house: House) -> None:
    folder = house.base / "Submitted"
    for number in range(250):
        path = folder / f"{999 - number}.sub"
        path.write_text(f"From: bob\nTo: ann\nSubject: {number}\n\nx\n")
        os.utime(path, (1e9 + number, 1e9 + number))
    cli = await house.cli()
    assert await cli("CheckSubmitted") == "250"
    await until(lambda: not os.listdir(folder))

    async def all_there() -> bool:
        return len(await house.inbox("ann")) == 250

    await until(all_there, 20)
    subjects = [int(re.search(r"(?m)^Subject: (\d+)", text)[1]) for text in await house.inbox("ann")]  # type: ignore[index]
    assert sorted(subjects) == list(range(250))


async def test_a_large_file_streams(house: House) -> None:
    body = "x" * 70 + "\n"
    await submit(house, "From: bob\r\nTo: ann\r\nSubject: big\r\n\r\n" + (body * 10_000).replace("\n", "\r\n"))
    found = await report(house)
    assert found.count("x" * 70) == 10_000 and "\r" not in found


@pytest.mark.feature("PIPE-020")
@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
async def test_strangers_cannot_write_there(house: House) -> None:
    mode = stat.S_IMODE((house.base / "Submitted").stat().st_mode)
    assert not mode & 0o007 and mode & 0o700 == 0o700


@pytest.mark.feature("MISC-038")
async def test_files_of_a_server_that_was_down_and_of_a_crash(tmp_path: Path) -> None:
    base = tmp_path / "base"
    async with living(base) as house:
        await submit(house, "From: bob\nTo: ann\nSubject: before\n\nx\n")
        await report(house)
    folder = base / "Submitted"
    text = "From: bob\nTo: ann\nSubject: while down\n\nx\n"
    (folder / "down.sub").write_text(text)
    (folder / "half.987654321.taken").write_text(text.replace("while down", "half done"))
    async with living(base) as house:
        found = [await report(house, number) for number in (1, 2, 3)]
        subjects = sorted(re.search(r"(?m)^Subject: (.*)", one)[1] for one in found)  # type: ignore[index]
        assert subjects == ["before", "half done", "while down"]
        await until(lambda: not os.listdir(folder))


async def test_a_crash_between_the_message_and_its_file_doubles_nothing(tmp_path: Path) -> None:
    base = tmp_path / "base"
    async with living(base) as house:
        await house.update("PIPE", LogLevel="5", Processes="0")
        await submit(house, "From: bob\nTo: ann\nSubject: delivered\n\nx\n")
        await report(house)
        await to_program(house, "show")
        numbers = re.findall(r"\[(\d+)\] submitted from a.sub", await house.log())
    assert len(numbers) == 2
    folder = base / "Submitted"
    for number in numbers:
        (folder / f"a.{number}.taken").write_text("From: bob\nTo: ann\nSubject: again\n\nx\n")
    async with living(base) as house:
        assert not os.listdir(folder)
        cli = await house.cli()
        assert await cli("CheckSubmitted") == "0"
        assert len(await house.inbox("ann")) == 1


# Programs ------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("QUEUE-011")
async def test_one_message_reaches_recipients_of_all_kinds(pipe: House) -> None:
    await pipe.update("Schedule", Schedule=[{"Day": "Monday", "From": "00:00", "To": "00:01", "Pause": "1m"}])
    cli = await pipe.cli()
    await cli("CreateGroup team {Members=(bob);}")
    await submit(pipe, 'From: ann\nTo: ann, team, "show x"@pipe, joe@far.test\nSubject: all\n\nto everybody\n')
    assert "to everybody" in await report(pipe)
    assert (await written(pipe, "show.args")).splitlines() == ["x"]

    async def bob_has_it() -> list[str]:
        return await pipe.inbox("bob")

    await until(bob_has_it)
    assert "far.test" in str(await cli("ListQueues SMTP"))


@pytest.mark.feature("PIPE-050", "PIPE-055", "PIPE-056", "PIPE-072", "ROUTE-084")
async def test_a_program_gets_the_message_and_its_parameters(pipe: House) -> None:
    await to_program(pipe, 'show -l store "two words" $HOME', "the text")
    assert (await written(pipe, "show.args")).splitlines() == ["-l", "store", "two words", "$HOME"]
    got = left(pipe, "show.in")
    assert got.endswith("\n\nthe text\n") and "Subject: run\n" in got and "From: ann@box.test\n" in got
    assert left(pipe, "show.cwd").strip() == str(pipe.base)
    await pipe.logged("given to show")
    assert not await pipe.inbox("ann")


@pytest.mark.feature("PIPE-051", "PIPE-052", "PIPE-061")
async def test_router_records_lead_to_programs(pipe: House, stranger: str) -> None:
    table = 'apps.test = box.test\n<*@one.test> = exec*@pipe\n<*@two.test> = "execjoe\\ -u\\ *"@pipe\n'
    await pipe.update("Router", Table=table)
    line = await pipe.connect("SMTP", stranger)
    await line.smtp(f"EHLO [{stranger}]")
    said = await line.smtp("MAIL FROM:<>")
    assert said[:3] == "250", said
    assert (await line.smtp('RCPT TO:<"show -x"@pipe>'))[:3] == "550"
    assert (await line.smtp('RCPT TO:<"joe -x"@two.test>'))[:3] in ("550", "553")
    assert (await line.smtp("RCPT TO:<-rf@two.test>"))[:3] in ("550", "553")
    assert (await line.smtp("RCPT TO:<joe@one.test>"))[:3] == "250"
    await line.smtp("DATA")
    assert (await line.smtp("Subject: x\r\n\r\none\r\n."))[:3] == "250"
    await until(lambda: (pipe.base / "apps/execjoe.in").exists())
    await until(lambda: "one" in left(pipe, "execjoe.in"))
    assert left(pipe, "execjoe.args") == ""
    await line.smtp("MAIL FROM:<>")
    assert (await line.smtp("RCPT TO:<kim@two.test>"))[:3] == "250"
    await line.smtp("DATA")
    assert (await line.smtp("Subject: x\r\n\r\ntwo\r\n."))[:3] == "250"
    assert (await written(pipe, "execjoe.args")).splitlines() == ["-u", "kim"]
    await line.aclose()


async def test_no_stranger_starts_a_program_by_an_answer(pipe: House, stranger: str) -> None:
    """By a return-path, or by an address that an automatic reply goes to."""
    line = await pipe.connect("SMTP", stranger)
    await line.smtp(f"EHLO [{stranger}]")
    assert (await line.smtp('MAIL FROM:<"show -x"@pipe>'))[:1] == "5"
    await line.aclose()
    await submit(pipe, 'Return-Path: <"show -x"@pipe>\nFrom: ann\nTo: nobody-here\n\nx\n')
    await pipe.logged("failed: mail to programs is not accepted from here")
    cli = await pipe.cli()
    await cli('SetAccountRules bob ((5,vacation,(),(("Reply with","I am away"))))')
    await submit(pipe, 'From: "show -y"@pipe\nReturn-Path: <cat@far.test>\nTo: bob\nSubject: hi\n\nx\n')
    await submit(pipe, 'From: ann\nReply-To: "show -z"@pipe\nTo: bob\nSubject: hi\n\nx\n')
    await until(lambda: not pipe.server.transfer.spool.live or len(pipe.server.transfer.spool.live) < 3)
    await trio.sleep(0.5)
    assert not (pipe.base / "apps/show.in").exists()
    log = await pipe.log()
    assert log.count("failed: mail to programs is not accepted from here") >= 2


@pytest.mark.feature("PIPE-053", "PIPE-054", "PIPE-069")
async def test_only_programs_of_the_directory(pipe: House) -> None:
    await to_program(pipe, "../apps/show")
    assert "symbols that are not allowed" in await report(pipe)
    await to_program(pipe, "unknown")
    assert "program not found" in await report(pipe, 2)
    await to_program(pipe, "notes")
    found = await report(pipe, 3)
    assert "program not found" in found and "Return-Path: <>" in found and "Status: 5.3.5" in found
    await pipe.update("PIPE", ApplicationDirectory="")
    await to_program(pipe, "show")
    assert "no application directory is set" in await report(pipe, 4)
    assert not (pipe.base / "apps/show.in").exists()


@pytest.mark.feature("PIPE-057", "PIPE-058", "PIPE-067", "PIPE-055")
async def test_what_a_program_complains_of_is_told(pipe: House) -> None:
    await to_program(pipe, "no")
    assert re.search(r"automated processing failed\n +no\n", await report(pipe))
    await to_program(pipe, "[STDERR] fail")
    found = await report(pipe, 2)
    assert re.search(r"    it went\n    wrong\n", found) and "automated processing" not in found
    await to_program(pipe, "quiet")
    assert "automated processing failed" in await report(pipe, 3)
    await to_program(pipe, "head", "x" * 70 + "\n" + ("y" * 70 + "\n") * 5000)
    assert "did not read the whole message" in await report(pipe, 4)


@pytest.mark.feature("PIPE-059")
async def test_a_program_that_takes_too_long_is_killed(pipe: House) -> None:
    await pipe.update("PIPE", ProcessingTimeLimit="1s")
    await to_program(pipe, "hang")
    assert "took too long" in await report(pipe)
    assert len(pipe.server.helpers) == 0


@pytest.mark.feature("PIPE-060", "PIPE-061", "PIPE-071", "QUEUE-052")
async def test_messages_run_side_by_side(pipe: House) -> None:
    await pipe.update("PIPE", Processes="0")
    for name in "abcd":
        await to_program(pipe, f"slow {name}")
    cli = await pipe.cli()
    queues = await cli("ListQueues PIPE")
    assert isinstance(queues, list) and len(queues) == 4
    assert all(isinstance(row, dict) and str(row["Host"]).isdigit() for row in queues)
    await pipe.update("PIPE", Processes="3")
    await until(lambda: (pipe.base / "apps/slow.log").exists() and left(pipe, "slow.log").count("end") == 4)
    lines = [line.split()[0] for line in left(pipe, "slow.log").splitlines()]
    assert lines[:3] == ["begin"] * 3 and lines[3] == "end"


@pytest.mark.feature("PIPE-062", "PIPE-063")
async def test_a_named_queue_is_served_one_by_one(pipe: House) -> None:
    await pipe.update("PIPE", Processes="0")
    for name in ("queue[P1] slow a", "queue[P1] slow b 0.2", "queue[P2] slow x", "[STDERR]queue[P1] slow c 0.1"):
        await to_program(pipe, name)
    await pipe.update("PIPE", Processes="5")
    await until(lambda: (pipe.base / "apps/slow.log").exists() and left(pipe, "slow.log").count("end") == 4)
    lines = left(pipe, "slow.log").splitlines()
    assert [line for line in lines if not line.endswith("x")] == [
        f"{word} {name}" for name in "abc" for word in ("begin", "end")
    ]
    assert lines.index("begin x") < 2


@pytest.mark.feature("PIPE-064", "PIPE-065", "PIPE-066", "PIPE-068")
async def test_tags(pipe: House) -> None:
    await pipe.update("Router", Table='<robot> = "[RCPT][FILE] [RETPATH]file first"@pipe\n')
    await submit(pipe, "From: ann\nTo: robot\n\nthe last line\n")
    arguments = (await written(pipe, "file.args")).split()
    assert arguments[:2] == ["first", "-f"] and re.fullmatch(r"Queue/\d+\.msg", arguments[2])
    assert arguments[3:] == ["-p", "ann@box.test", "-r", "robot@box.test"]
    assert left(pipe, "file.in") == ""


async def test_a_temporary_failure_is_tried_again_if_wanted(pipe: House) -> None:
    await to_program(pipe, "later")
    assert "automated processing failed" in await report(pipe)
    (pipe.base / "apps/later.once").unlink()
    await pipe.update("PIPE", RetryDelay="1s")
    await to_program(pipe, "later")
    await pipe.logged("given to later")
    assert len(await pipe.inbox("ann")) == 1


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root starts programs as others")
async def test_programs_can_run_as_another_user(pipe: House) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        make_program(Path(place), "who", "cat > /dev/null; id -un >&2; id -Gn >&2")
        await pipe.update("PIPE", ApplicationDirectory=place, OSUserName="nobody")
        await to_program(pipe, "[STDERR] who")
        assert re.search(r"    nobody\n    nogroup\n", await report(pipe))
        await pipe.update("PIPE", OSUserName="no-such-user")
        await to_program(pipe, "[STDERR] who")
        assert "automated processing failed" in await report(pipe, 2)
    await pipe.logged("there is no user 'no-such-user'")


@pytest.mark.feature("PIPE-070", "QUEUE-124", "ADM-165")
async def test_the_monitor_shows_and_rejects(pipe: House) -> None:
    await to_program(pipe, "slow a 5")
    await until(lambda: (pipe.base / "apps/slow.log").exists())
    await pipe.update("PIPE", Processes="0")
    await to_program(pipe, "queue[ARCH] show")
    page = await pipe.page("/Monitors/PIPE")
    assert "<strong>slow</strong>" in page.body and "<strong>ARCH</strong>" in page.body
    page = await pipe.page("/Monitors/PIPE", {"do-reject:ARCH": "1", "text": "not today"})
    assert "ARCH" not in page.body
    assert "not today" in await report(pipe)
    page = await pipe.page("/Settings/PIPE")
    assert (
        page.status == 200 and "Application Directory" in page.body and "Check Submitted Directory Every" in page.body
    )


@pytest.mark.feature("PIPE-071")
async def test_mail_for_programs_survives_a_restart(tmp_path: Path) -> None:
    base = tmp_path / "base"
    async with living(base) as house:
        make_programs(house)
        await house.update("PIPE", ApplicationDirectory="apps", Processes="0")
        for name in "ab":
            await to_program(house, f"slow {name} 0")
        await to_program(house, "show")
    async with living(base) as house:
        await house.update("PIPE", Processes="3")
        await until(lambda: (base / "apps/slow.log").exists() and left(house, "slow.log").count("end") == 2)
        await written(house, "show.in")


# The Foreign Queue ---------------------------------------------------------------------------------------------------


@pytest.mark.feature(
    "PIPE-091",
    "PIPE-092",
    "PIPE-093",
    "PIPE-094",
    "PIPE-095",
    "PIPE-096",
    "QUEUE-130",
    "BASE-023",
    "CLU-170",
    "CLU-171",
)
async def test_a_foreign_queue_is_taken_in(tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    async with living(lost) as house:
        await house.update("PIPE", Processes="0", ApplicationDirectory="apps")
        for number in range(3):
            await submit(house, f'From: ann\nTo: "queue[A] show"@pipe\nSubject: rescued {number}\n\nx\n')
    base = tmp_path / "base"
    async with living(base) as house:
        make_programs(house)
        await house.update("PIPE", ApplicationDirectory="apps")
        queue = tmp_path / "rescued"
        (lost / "Queue").rename(queue)
        (queue / "17.tmp").write_text("half")
        (queue / "x.txt").write_text("notes")
        (house.base / "ForeignQueue").rmdir()
        (house.base / "ForeignQueue").symlink_to(queue)
        assert "files in the directory ForeignQueue" in (await house.page("/Monitors/PIPE")).body
        await house.update("PIPE", LogLevel="5")
        await house.page("/Monitors/PIPE", {"do-foreign": "1"})
        await house.logged("3 messages taken from the Foreign Queue")

        async def all_run() -> bool:
            return (await house.log()).count("given to show") == 3

        await until(all_run)
        await until(lambda: not [name for name in os.listdir(queue) if name.endswith((".msg", ".tmp"))])
        assert (queue / "x.txt").exists()
        (house.base / "ForeignQueue").unlink()
        cli = await house.cli()
        assert await cli("CheckForeignQueue") == "0"
