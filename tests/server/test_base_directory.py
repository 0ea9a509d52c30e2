"""What lies in the base directory, and that the files are the truth: edited, moved, read by others."""

from __future__ import annotations

import datetime
import poplib
import re
import shutil
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.formats.data import parse
from tests.interop.command_line import CommandLine
from tests.interop.pillarbox import PASSWORD, ROOT, Pillarbox, Setup
from tests.interop.processes import LOOPBACK, eventually
from tests.server.conftest import House, living

SCRIPT = ROOT / "packaging" / "pillarbox.init"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def dictionary(path: Path) -> dict[str, object]:
    value = parse(path.read_bytes())
    assert isinstance(value, dict)
    return dict(value)


@pytest.mark.feature("BASE-012")
async def test_each_page_changes_one_file(house: House) -> None:
    folder = house.base / "Settings"
    for page, field, value in (
        ("POP", "Timeout", "77s"),
        ("SMTP", "RcptLimit", "55"),
        ("DNR", "Timeout", "3s"),
        ("Queue", "HopLimit", "40"),
        ("IPAddresses", "MobileLimit", "12"),
    ):
        form = (await house.page(f"/Settings/{page}")).form()
        if field not in form:
            field = next(key for key in form if "Time" in key or "Limit" in key)
        before = contents(folder)
        assert (await house.page(f"/Settings/{page}", form | {field: value, "do-update": "1"})).status == 200
        after = contents(folder)
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        assert changed == {f"{page}.settings"}
        assert dictionary(folder / f"{page}.settings")[field] == value


@pytest.mark.feature("BASE-011", "BASE-013", "PROT-035")
async def test_a_lock_out_is_rescued_in_the_file(tmp_path: Path, stranger: str) -> None:
    base = tmp_path / "base"
    file = base / "Settings" / "IPAddresses.settings"

    async def log_in(house: House) -> str:
        line = await house.connect("POP", stranger, greeting=False)
        greeting = await line.line()
        if not greeting.startswith("+OK"):
            return greeting
        await line.ask("USER ann")
        return await line.ask(f"PASS {PASSWORD}")

    async with living(base) as house:
        await house.update("POP", ClearTextLogin="YES")
        assert (await log_in(house)).startswith("+OK")
        await house.update("IPAddresses", ClientOnly="YES")
        assert (await log_in(house)).startswith("-ERR")
    assert dictionary(file)["ClientOnly"] == "YES"
    file.write_text("{ClientOnly=NO;}")
    async with living(base) as house:
        assert (await log_in(house)).startswith("+OK")
    file.write_text("{ ClientOnly = YES;\n ClientAddresses = " + f'"{stranger}"' + ";\n}\n")
    async with living(base) as house:
        assert (await log_in(house)).startswith("+OK"), "it is a client now"


def to_crlf(base: Path) -> int:
    """What a copy in text mode from a system with other line ends makes of the files."""
    count = 0
    for path in base.rglob("*"):
        if path.suffix in (".settings", ".data", ".info"):
            data = path.read_bytes()
            path.write_bytes(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
            count += 1
    return count


@pytest.mark.feature("BASE-006", "INST-064", "DATA-025")
async def test_a_tree_with_other_line_ends_starts(tmp_path: Path) -> None:
    base = tmp_path / "base"
    async with living(base) as house:
        cli = await house.cli()
        await cli("CreateDomain second.test")
        await cli(f'CreateAccount zoe@second.test {{Password={PASSWORD};RealName="Zoe Z";}}')
        await cli("SetAccountAliases zoe@second.test (zz)")
        await cli('CreateGroup team@second.test {Members=(zoe,ann@box.test);RealName="The team";}')
        await cli('UpdateModule Router {Table="old.test = box.test\\e; comment\\e<sales> = ann";}')
        await cli("UpdateModule SMTP {SizeLimit=2M;}")
        imap = await house.imap()
        await imap.imap("CREATE Archive")
        await imap.imap("SUBSCRIBE Archive")
        before = [await cli(f"GetModule {name}") for name in ("SMTP", "Router", "General", "TLS")]
        account = await cli("GetAccountSettings zoe@second.test")
    assert to_crlf(base) > 8
    async with living(base) as house:
        cli = await house.cli()
        assert [await cli(f"GetModule {name}") for name in ("SMTP", "Router", "General", "TLS")] == before
        assert await cli("GetAccountSettings zoe@second.test") == account
        assert await cli("GetAccountAliases zoe@second.test") == ["zz"]
        await house.imap("zz@second.test")
        imap = await house.imap()
        assert any("Archive" in line for line in await imap.imap('LSUB "" *'))
        assert (await house.mail("team@second.test")).startswith("250")
        log = await house.log()
        assert "damaged" not in log and not house.crashes(log)


@pytest.mark.feature("BASE-024")
async def test_the_page_of_logs_shows_the_directory(house: House) -> None:
    """Named by the day, further files of a day with the time."""
    cli = await house.cli()
    await cli("UpdateLogSettings {OrIfLargerThan=2K;}")
    await cli("UpdateModule PWD {LogLevel=5;}")
    for number in range(60):
        await cli(f'WRITELOG 1 "{"x" * 200} {number}"')
        if number % 10 == 0:
            await house.log()
    await house.log()
    names = sorted(path.name for path in (house.base / "SystemLogs").iterdir())
    day = f"{datetime.datetime.now():%Y-%m-%d}"
    assert names[0] == day and len(names) > 1
    assert all(re.fullmatch(rf"{day}(_\d\d-\d\d\S*)?", name) for name in names)
    body = (await house.page("/Monitors/Logs")).body
    assert sorted(re.findall(r'"/Monitors/Logs/[^"]*">([^<]*)</a>', body)) == names


@pytest.mark.feature("BASE-025")
async def test_a_record_is_a_line(house: House) -> None:
    await house.update("SMTP", LogLevel="5")
    await house.mail("bob@box.test", "Subject: odd\r\n\r\n\x01\r\nline\r\n")
    lines = (await house.log()).splitlines()
    assert len(lines) > 10
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} [0-5] [A-Z][A-Za-z-]*[0-9]*\S* \S", line) for line in lines)


@pytest.mark.feature("BASE-030", "BASE-032", "BASE-034", "BASE-035")
async def test_the_files_of_a_domain_hold_what_the_command_line_says(house: House) -> None:
    cli = await house.cli()
    await cli("CreateDomain second.test")
    await cli("CreateAccount zoe@second.test")
    await cli("CreateAccount yan@second.test")
    main, second = house.base / "Accounts" / "Settings", house.base / "Domains" / "second.test" / "Settings"
    assert main.is_dir() and second.is_dir()
    await cli("UpdateDomainSettings second.test {AccountsLimit=9;MailToUnknown=Discarded;}")
    assert dictionary(second / "Domain.settings") == await cli("GetDomainSettings second.test")
    assert dictionary(second / "Domain.settings")["AccountsLimit"] == "9"
    await cli('UpdateAccountTemplate second.test {RealName="New here";MaxAccountSize=3M;}')
    assert dictionary(second / "Template.settings") == await cli("GetAccountTemplate second.test")
    await cli("CreateAccount new@second.test")
    new = await cli("GetAccountSettings new@second.test")
    assert isinstance(new, dict) and new["MaxAccountSize"] == "3M" and new["RealName"] == "New here"
    await cli("SetAccountAliases zoe@second.test (z1,z2)")
    await cli("SetAccountAliases yan@second.test (y1)")
    assert dictionary(second / "Aliases.data") == {"z1": "zoe", "z2": "zoe", "y1": "yan"}
    assert not (main / "Aliases.data").exists()


async def test_the_objects_of_a_domain_survive_a_restart(tmp_path: Path) -> None:
    base = tmp_path / "base"
    asked = (
        "GetGroup team",
        "GetForwarder out",
        "GetDomainAlerts box.test",
        "GetAccountDefaults box.test",
        "GetDomainSettings box.test",
        "GetAccountTemplate box.test",
        "ListAccounts",
    )
    async with living(base) as house:
        cli = await house.cli()
        await cli('CreateGroup team {Members=(ann,bob);RealName="The team";}')
        await cli("CreateForwarder out TO someone@elsewhere.test")
        await cli('PostDomainAlert box.test ALERT "closed tomorrow"')
        await cli("UpdateAccountDefaults box.test {MaxMailboxes=22;}")
        before = [await cli(command) for command in asked]
    async with living(base) as house:
        cli = await house.cli()
        assert [await cli(command) for command in asked] == before
    assert "22" in str(before) and "closed tomorrow" in str(before) and "someone@elsewhere.test" in str(before)


@pytest.mark.feature("BASE-061")
@pytest.mark.parametrize("kind", ["MultiMailbox", "TextMailbox", "MailDirMailbox"])
async def test_the_location_of_an_account_is_below_the_domain(house: House, kind: str) -> None:
    cli = await house.cli()
    await cli('UpdateDomainSettings box.test {Foldering="2 Letters 2 Levels";}')
    await cli(f"CreateAccount john {kind}")
    place = str(await cli("GetAccountLocation john"))
    assert place.startswith("j.sub/o.sub/john.m")
    assert (house.base / "Accounts" / place).exists()
    assert await cli("GetAccountLocation ann") == "ann.macnt"


@pytest.mark.feature("BASE-063")
def test_the_manual_warns_about_the_password_file() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    assert "do not edit" in text.lower() and "while the server runs" in text


@pytest.mark.feature("BASE-070")
async def test_case_counts_in_mailbox_names_but_not_in_inbox(house: House) -> None:
    imap = await house.imap()
    assert (await imap.imap("CREATE Plans"))[-1].startswith("a OK")
    created = (await imap.imap("CREATE plans"))[-1].startswith("a OK")
    same = (house.base / "Accounts" / "ann.macnt" / "PLANS.mbox").exists()
    assert created is not same, "two files where the file system makes a difference, else a refusal"
    for name in ("inbox", "InBox"):
        assert (await imap.imap(f"CREATE {name}"))[-1].startswith("a NO")
        assert (await imap.imap(f"SELECT {name}"))[-1].startswith("a OK")


@pytest.mark.feature("BASE-009")
@pytest.mark.parametrize("action", ["start", "stop"])
def test_a_script_in_the_base_directory_is_run_before_start_and_stop(tmp_path: Path, action: str) -> None:
    (tmp_path / "Startup.sh").write_text('echo "mine before $1"\n')
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $PPID > {tmp_path}/ProcessID\n")
    program.chmod(0o755)
    variables = {"PATH": "/usr/bin:/bin", "BASEFOLDER": str(tmp_path), "PROGRAM": str(program)}
    done = subprocess.run(["sh", SCRIPT, action], env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"mine before {action}" and "Pillarbox" in lines[1]


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in sorted(folder.rglob("*"))}


@pytest.mark.feature("BASE-001", "INST-001")
def test_the_application_directory_is_read_only(tmp_path: Path) -> None:
    """A copy of the program that cannot be written: mail and administration work, nothing in it has changed."""
    application = tmp_path / "application"
    for package in ("appliance", "firmware", "webadmin"):
        shutil.copytree(ROOT / package, application / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in application.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    application.chmod(0o555)
    before = stamps(application)
    mounted = (
        f"mount --bind {application} {application} && mount -o remount,ro,bind {application} && "
        f'! touch {application}/new 2>/dev/null && cd {application} && exec {sys.executable} -m firmware.main "$@"'
    )
    private = subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0
    program = (
        ["unshare", "--mount", "sh", "-c", mounted, "sh"]
        if private
        else ["sh", "-c", f'cd {application} && exec {sys.executable} -m firmware.main "$@"', "sh"]
    )
    server = Pillarbox(tmp_path / "server", Setup(main_domain="fixed.test", accounts=("ann",)), program)
    try:
        server.start(("SMTP", "POP", "IMAP", "PWD"), environment={"PYTHONPATH": str(application)})
        exchange(server)
    finally:
        assert server.stop() == 0, server.logs()
    assert stamps(application) == before
    for path in (application, *application.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def exchange(server: Pillarbox) -> None:
    with CommandLine(server.port("PWD"), "postmaster", server.setup.postmaster_password) as cli:
        cli("CreateAccount bob {Password=pw;}")
        cli("UpdateModule SMTP {SizeLimit=2M;}")
    with smtplib.SMTP(LOOPBACK, server.port("SMTP")) as client:
        client.sendmail("a@example.org", ["bob@fixed.test"], "Subject: hello\r\n\r\ntext\r\n")

    def count() -> int:
        pop = poplib.POP3(LOOPBACK, server.port("POP"))
        pop.user("bob")
        pop.pass_("pw")
        found = pop.stat()[0]
        pop.quit()
        return found

    assert eventually(count) == 1, server.logs()
