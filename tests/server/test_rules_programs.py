"""Programs, notices, filters and records of rules on the running server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from appliance.formats.data import Value, render
from appliance.rules import doing
from appliance.transfer.message import QueuedMessage
from tests.server.conftest import House, living, until
from tests.server.test_rules import FAR, arrived, idle, set_rules


def script(house: House, text: str, name: str = "program") -> str:
    """A program of the shell that everybody may run and that writes into a folder that everybody may write."""
    folder = house.base.parent / "programs"
    folder.mkdir(exist_ok=True)
    for path in (folder, *list(folder.parents)[:4]):
        if path.stat().st_uid == os.geteuid() and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o755)
    folder.chmod(0o777)
    file = folder / name
    file.write_text(f"#!/bin/sh\ncd_out={folder}\n{text}\n")
    file.chmod(0o755)
    return str(file)


def written(house: House, name: str) -> str:
    return (house.base.parent / "programs" / name).read_text()


async def as_nobody(house: House, *names: str) -> None:
    """Accounts whose programs run as somebody whom the operating system knows."""
    cli = await house.cli()
    for name in names:
        await cli(f"UpdateAccountSettings {name} {{OsUserName=nobody;}}")
    await cli.line.aclose()


@pytest.mark.feature("RULE-140", "RULE-144", "RULE-150", "RULE-152", "RULE-147")
async def test_a_program_of_an_account_gets_the_message_as_its_user(house: House) -> None:
    await house.update("LOCAL", LogLevel="5")
    await as_nobody(house, "ann")
    program = script(house, 'cat > $cd_out/in; (id -un; pwd; echo "$@") > $cd_out/who; echo well done')
    rule: Value = ["5", "run", [], [["Add Headers", "X-A: 1"], ["Execute", f'[RETPATH] {program} "a b" c']]]
    await set_rules(house, "ann", rule)
    await house.mail("ann@box.test", "From: jane@far.test\r\nSubject: hi\r\n\r\nbody", FAR)
    await arrived(house, "ann")
    text = written(house, "in")
    assert "X-A: 1\n" in text and "Subject: hi\n" in text and text.endswith("\nbody\n")
    user, directory, arguments = written(house, "who").splitlines()
    assert arguments == f"a b c -p {FAR}"
    if os.geteuid() == 0:
        assert user == "nobody" and directory != str(house.base)
    assert "well done" in await house.logged("wrote: well done")


@pytest.mark.feature("RULE-150", "RULE-142")
@pytest.mark.skipif(os.geteuid() != 0, reason="only a server that is root switches users")
async def test_nobody_runs_programs_as_root(house: House) -> None:
    cli = await house.cli()
    await cli("UpdateAccountSettings ann {OsUserName=root;}")
    program = script(house, "cat > $cd_out/in")
    await set_rules(house, "ann", ["5", "run", [], [["Execute", program]]])
    await house.mail("ann@box.test", "Subject: hi\r\n\r\nbody", "bob@box.test")
    (report,) = await arrived(house, "bob")
    assert "automated processing failed" in report
    assert "never started as root" in await house.logged("never started as root")
    assert not (house.base.parent / "programs" / "in").exists()


@pytest.mark.feature("RULE-142", "RULE-143", "RULE-141")
@pytest.mark.parametrize(
    ("tag", "text", "told", "logged"),
    [
        ("", "cat >/dev/null; echo secret >&2; exit 3", "automated processing failed", "ended with code 3: secret"),
        ("[STDERR] ", "cat >/dev/null; echo no room >&2; exit 1", "no room", "ended with code 1: no room"),
        ("", "exit 0", "automated processing failed", "did not read the whole message"),
    ],
)
async def test_a_program_that_fails(house: House, tag: str, text: str, told: str, logged: str) -> None:
    await as_nobody(house, "ann")
    await set_rules(house, "ann", ["5", "run", [], [["Execute", tag + script(house, text)]]])
    await house.mail("ann@box.test", "Subject: hi\r\n\r\n" + "x" * 70 + ("\r\n" + "x" * 70) * 4000, "bob@box.test")
    (report,) = await arrived(house, "bob")
    assert told in report and "secret" not in report.partition("Subject: hi")[0]
    assert logged in await house.logged(logged)
    assert not await house.inbox("ann")


@pytest.mark.feature("RULE-145")
async def test_a_program_that_never_ends_is_killed_with_its_children(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doing, "PROGRAM_SECONDS", 0.3)
    await as_nobody(house, "ann")
    program = script(house, "cat >/dev/null; sleep 77 & echo $! > $cd_out/child; sleep 78")
    await set_rules(house, "ann", ["5", "run", [], [["Execute", program]]])
    await house.mail("ann@box.test", "Subject: hi\r\n\r\nx", "bob@box.test")
    await arrived(house, "bob")
    child = int(written(house, "child"))
    await until(lambda: not _runs(child))
    assert "took more than" in await house.logged("took more than")


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.feature("RULE-146", "RULE-148", "RULE-149", "RULE-151", "RULE-147")
async def test_a_program_of_the_server(house: House) -> None:
    program = script(house, 'cat > $cd_out/in; (pwd; echo "$@"; cat "$3") > $cd_out/who')
    await set_rules(house, "server", ["5", "run", [], [["Execute", f"[RCPT][RETPATH] [FILE] {program} -x"]]])
    await house.mail("ann@box.test", "Subject: hi\r\n\r\nbody of it", FAR)
    await arrived(house, "ann")
    directory, arguments, *file = written(house, "who").splitlines()
    assert directory == str(house.base)
    words = arguments.split()
    assert words[:2] == ["-x", "-f"] and words[2].startswith("Queue/") and words[2].endswith(".msg")
    assert words[3:] == ["-p", FAR, "-r", "ann@box.test"]
    assert "body of it" in file and written(house, "in") == ""
    cli = await house.cli()
    with pytest.raises(Exception, match="rules of the server only"):
        await cli(f"SetAccountRules ann {render([['5', 'x', [], [['Execute', '[FILE] /bin/true']]]])}")


@pytest.mark.feature("QUEUE-053", "LOCAL-041", "RULE-014")
async def test_a_slow_program_holds_up_nobody_else(house: House) -> None:
    await as_nobody(house, "ann")  # with the one processor of a new server
    program = script(house, "cat >/dev/null; while [ ! -e $cd_out/go ]; do sleep 0.05; done")
    slow: Value = ["5", "slow", [["Subject", "is", "slow"]], [["Execute", program]]]
    await set_rules(house, "server", slow)
    await house.mail("bob@box.test", "Subject: slow\r\n\r\nx", FAR)
    await house.mail("bob@box.test", "Subject: fast\r\n\r\nx", FAR)
    (text,) = await arrived(house, "bob")
    assert "Subject: fast" in text
    await set_rules(house, "server")  # safe while it runs
    await set_rules(house, "ann", slow)
    await house.mail("ann@box.test", "Subject: slow\r\n\r\nx", FAR)
    await house.mail("bob@box.test", "Subject: third\r\n\r\nx", FAR)
    await arrived(house, "bob", 2)
    (house.base.parent / "programs" / "go").touch()
    await arrived(house, "bob", 3)
    await arrived(house, "ann")


@pytest.mark.feature("RULE-153", "RULE-154")
async def test_a_notice_to_the_users_machine(house: House) -> None:
    got: list[bytes] = []
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    house.server.notifier.port = listeners[0].socket.getsockname()[1]

    async def serve() -> None:
        stream = await listeners[0].accept()
        while data := await stream.receive_some():
            got.append(data)

    await house.inbox("ann")  # her last log-in came from this machine
    await set_rules(house, "ann", ["5", "tell", [], [["FingerNotify"]]])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await house.mail("ann@box.test", "Subject: hi\r\n\r\nx", FAR)
        await arrived(house, "ann")
        await until(lambda: b"".join(got) == b"nm_notifyuser\r\n")
        nursery.cancel_scope.cancel()
    page = await house.page("/Settings/Notifier")
    assert "LogLevel" in page.body and "QueueSize" in page.body
    await house.update("Notifier", QueueSize="0")
    assert not house.server.notifier.notify("10.0.0.1")


@pytest.mark.feature("RULE-155", "RULE-021", "QUEUE-128")
async def test_what_the_log_tells(house: House) -> None:
    await house.update("LOCAL", LogLevel="5")
    await house.update("Queue", EnqueuerLogLevel="5")
    rules: list[Value] = [
        ["9", "never", [["Subject", "is", "other"]], [["Discard"]]],
        ["5", "note", [], [["Write To Log", "look here"]]],
    ]
    await set_rules(house, "server", *rules)
    await set_rules(house, "ann", *rules)
    await house.mail("ann@box.test", "Subject: hi\r\n\r\nx", FAR)
    await arrived(house, "ann")
    log = await house.log()
    for tag, owner in (("ENQUEUERRULES", "server"), ("LOCAL", "ann@box.test")):
        lines = [line for line in log.splitlines() if f" {tag} " in line]
        assert any(f"RULES({owner}) rule 'never': not met: Subject is other" in line for line in lines)
        assert any(f"RULES({owner}) rule 'note': all conditions are met" in line for line in lines)
        (record,) = [line for line in lines if "look here" in line and "action" not in line]
        assert record.split()[1] == "2" and "[" in record


@pytest.mark.feature("RULE-156", "RULE-205")
async def test_an_external_filter_is_asked(house: House) -> None:
    asked: list[str] = []

    class Answer:
        action, text, added_header = "accept", "", b"X-Scanned: yes\n"

    class Filters:
        async def ask(self, name: str, message: QueuedMessage, added: bytes = b"") -> Answer:
            asked.append(name)
            if message.size > 3000:
                answer = Answer()
                answer.action, answer.text = "reject", "it has a virus"
                return answer
            return Answer()

    await set_rules(
        house, "server", ["5", "scan", [["Message Size", "greater than", "1K"]], [["ExternalFilter", "Virus"]]]
    )
    await house.mail("ann@box.test", "Subject: off\r\n\r\n" + "x" * 990 + "\r\n" + "y" * 900, FAR)
    await arrived(house, "ann")  # filtering is off: nothing happens
    house.server.rules.shop.filters = Filters()
    await house.mail("ann@box.test", "Subject: small\r\n\r\nx", FAR)
    await house.mail("ann@box.test", "Subject: middle\r\n\r\n" + "x" * 990 + "\r\n" + "y" * 900, FAR)
    texts = await arrived(house, "ann", 3)
    assert ["X-Scanned" in text for text in texts] == [False, False, True]
    await house.mail("ann@box.test", "Subject: big\r\n\r\n" + ("x" * 900 + "\r\n") * 4, "bob@box.test")
    (report,) = await arrived(house, "bob")
    assert "it has a virus" in report and asked == ["Virus"] * 3  # the report too


@pytest.mark.feature("RULE-079", "QUEUE-056", "RULE-053")
async def test_fields_of_the_servers_rules_are_seen_by_the_accounts(house: House) -> None:
    await set_rules(house, "server", ["5", "mark", [], [["Add Headers", "X-Level: r\u00f6d\nX-Other: 1"]]])
    await set_rules(
        house,
        "ann",
        ["9", "more", [["Header Field", "is", "x-other: *"]], [["Add Headers", "X-Mine: 2"]]],
        [
            "5",
            "see",
            [["Header Field", "is", "X-Level: r\u00f6d"], ["Header Field", "in", "X-Mine: *"]],
            [["Mark", "Flagged"]],
        ],
    )
    await house.mail("ann@box.test", "Subject: hi\r\n\r\nx", FAR)
    (text,) = await arrived(house, "ann")
    assert "X-Level: =?utf-8?" in text and "X-Mine: 2" in text
    line = await house.imap("ann")
    await line.imap("SELECT INBOX")
    assert "\\Flagged" in (await line.imap("FETCH 1 FLAGS"))[0]


@pytest.mark.feature("RULE-140", "RULE-090", "RULE-153")
async def test_what_was_done_is_not_done_again_after_a_restart(tmp_path: Path) -> None:
    """The account can not take the message after its rules have run; the server stops, and starts again."""
    base = tmp_path / "base"
    async with living(base) as house:
        await as_nobody(house, "ann")
        program = script(house, "cat >/dev/null; echo run >> $cd_out/runs")
        await set_rules(
            house,
            "ann",
            [
                "5",
                "all",
                [],
                [["Execute", program], ["Mirror to", "bob"], ["Store in", "~bob/INBOX"], ["Store in", "Work"]],
            ],
        )
        line = await house.imap("ann")
        await line.imap("CREATE Work")
        line = await house.imap("bob")
        await line.imap("SETACL INBOX ann li")
        real = house.server.accounts.deliver

        async def full(account: object, delivery: object) -> object:
            if getattr(account, "name", "") == "ann":
                raise OSError(28, "No space left on device")
            return await real(account, delivery)  # type: ignore[arg-type]

        house.server.accounts.deliver = full  # type: ignore[assignment,method-assign]
        await house.mail("ann@box.test", "From: jane@far.test\r\nSubject: hi\r\n\r\nx", FAR)
        await arrived(house, "bob", 2)
        await until(lambda: any(not one.done for one in house.server.transfer.spool.live.values()))
        assert not await house.inbox("ann")
    async with living(base) as house:
        cli = await house.cli()
        await cli("ReleaseQueue LOCAL ann@box.test")
        await arrived(house, "ann")
        await idle(house)
        assert len(await house.inbox("bob")) == 2
        line = await house.imap("ann")
        assert "MESSAGES 1" in (await line.imap("STATUS Work (MESSAGES)"))[0]
        assert written(house, "runs") == "run\n"
