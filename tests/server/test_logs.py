"""The log of the running server, as files and as pages."""

from __future__ import annotations

import functools
import re
import resource
from base64 import b64encode
from pathlib import Path

import pytest
import trio

from tests.interop.pillarbox import Setup
from tests.server.conftest import POSTMASTER, House, living, until

SECRET = "xyzzy-plugh"


def plain(name: str, password: str) -> str:
    return b64encode(f"\0{name}\0{password}".encode()).decode()


async def say_everywhere(house: House, password: str) -> None:
    """Every way to say a password; all at once, because a wrong one waits for its answer."""

    async def smtp(*words: str) -> None:
        line = await house.connect("SMTP")
        await line.smtp("EHLO me.test")
        for word in words:
            await line.smtp(word)

    async def lines(service: str, *words: str) -> None:
        line = await house.connect(service)
        for word in words:
            await line.ask(word)

    encoded = plain("ann", password)
    async with trio.open_nursery() as nursery:
        start = nursery.start_soon
        start(smtp, f"AUTH PLAIN {encoded}")
        start(smtp, "AUTH LOGIN", b64encode(b"ann").decode(), b64encode(password.encode()).decode())
        start(lines, "POP", "USER ann", f"PASS {password}")
        start(lines, "POP", f"AUTH PLAIN {encoded}")
        start(lines, "IMAP", f'a LOGIN ann "{password}"')
        start(lines, "IMAP", f"a LOGIN ann {{{len(password)}}}", password)
        start(lines, "IMAP", f"a AUTHENTICATE PLAIN {encoded}")
        start(lines, "IMAP", "a AUTHENTICATE PLAIN", encoded)
        start(lines, "PWD", "USER ann", f"PASS {password}", f"NEWPASS {password}")
        start(functools.partial(house.page, "/Settings/", name="ann", password=password))


@pytest.mark.feature("LOG-012")
async def test_no_password_is_ever_in_the_log(tmp_path: Path) -> None:
    """Right and wrong ones, with everything logged."""
    wrong = "frotz-nitfol"
    async with living(tmp_path / "base", Setup(accounts=("ann",), password=SECRET), log_all=True) as house:
        await say_everywhere(house, SECRET)
        await say_everywhere(house, wrong)
        cli = await house.cli()
        await cli(f'SetAccountPassword ann TO "{wrong}"')
        await cli(f'UpdateAccountSettings ann {{Password="{wrong}";}}')
        await cli(f'UpdateModule SMTP {{AuthName=me;AuthPassword="{wrong}";}}')
        log = await house.log()
    assert len(log.splitlines()) > 60
    assert "ann" in log
    for word in (SECRET, wrong, POSTMASTER):
        assert word not in log
        assert b64encode(word.encode()).decode().rstrip("=") not in log
        assert plain("ann", word).rstrip("=") not in log


@pytest.mark.feature("LOG-018")
async def test_a_new_message_is_logged_with_its_sender(house: House) -> None:
    await house.update("Queue", LogLevel="4")
    answer = await house.mail("bob@box.test", sender="ann@box.test")
    record = await house.logged("<ann@box.test>")
    assert f" 4 QUEUE [{answer.split()[2]}] accepted" in record


@pytest.mark.feature("LOG-017")
async def test_the_start_tells_the_descriptor_limit(house: House) -> None:
    """And who is refused because they run short is named."""
    record = await house.logged("descriptors")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert f" 2 SYSTEM at most {soft} descriptors" in record
    house.server.listeners[1]._network.descriptors = 40
    line = await house.connect("POP", greeting=False)
    assert await line.rest() == b""
    assert " 1 POP " in await house.logged("descriptors run short")


@pytest.mark.feature("LOG-050", "LOG-051")
async def test_the_page_lists_the_log_files(house: House) -> None:
    logs = house.base / "SystemLogs"
    (logs / "2001-04-04").write_text("old\n")
    (logs / "2001-05-05").write_text("older log\n")
    today = max(path.name for path in logs.iterdir())
    body = (await house.page("/Monitors/Logs")).body
    rows = re.findall(r"<tr><td>(.*?)</td><td><a href=\"/Monitors/Logs/[^\"]*\">([^<]*)</a></td><td[^>]*>([^<]*)", body)
    assert [name for _, name, _ in rows] == [today, "2001-05-05", "2001-04-04"]
    assert ["*" in mark for mark, _, _ in rows] == [True, False, False]
    assert rows[1][2].split()[0] == "10"
    assert "3 selected" in body

    body = (await house.page("/Monitors/Logs?filter=2001-04")).body
    assert "2001-04-04" in body
    assert today not in body and "2001-05-05" not in body
    assert "1 selected" in body


@pytest.mark.feature("LOG-052")
async def test_marked_log_files_are_deleted(house: House) -> None:
    logs = house.base / "SystemLogs"
    for name in ("2001-04-04", "2001-05-05", "2001-06-06"):
        (logs / name).write_text("old\n")
    await house.page("/Monitors/Logs", {"file": ["2001-04-04", "2001-06-06"], "do-delete": "1"})
    left = sorted(path.name for path in logs.iterdir())
    assert left[0] == "2001-05-05"
    assert len(left) == 2, "the marked ones and no other"


@pytest.mark.feature("LOG-001", "LOG-007")
async def test_records_of_all_services_stand_in_one_file_by_session(house: House) -> None:
    for module in ("SMTP", "POP", "IMAP"):
        await house.update(module, LogLevel="5")
    pop, imap = await house.connect("POP"), await house.connect("IMAP")
    await pop.ask("USER nobody")
    await imap.imap("NOOP")
    await pop.ask("CAPA")
    log = await house.log()
    tags = set(re.findall(r" ((?:POP|IMAP)-\d+) ", log))
    assert len(tags) == 2
    one = next(tag for tag in tags if tag.startswith("POP"))
    lines = [line for line in log.splitlines() if f" {one} " in line]
    assert len(lines) > 2
    assert not any("IMAP" in line for line in lines)


async def test_a_stranger_cannot_break_a_line(house: House) -> None:
    await house.update("SMTP", LogLevel="5")
    line = await house.connect("SMTP")
    await line.send(b"EHLO a\0b\x1b[2Jc\x7f" + b"x" * 300 + b"\r\n")
    await until(lambda: True)
    await line.smtp()
    log = await house.log()
    assert all(char.isprintable() or char == "\n" for char in log)
