"""The External Authenticator: a real program that knows passwords and makes names, seen through the wire."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest
import trio

from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import House, Refusal, until

PROGRAM = """
import hmac, os, socket, sys, threading, time

version, port = int(sys.argv[1]), int(sys.argv[2])
log = open(sys.argv[3], "a", buffering=1)

def answer(text):
    os.write(1, (text + "\\n").encode())

def command(text):
    with socket.create_connection(("127.0.0.1", port)) as line:
        file = line.makefile("rw", newline="\\r\\n")
        file.readline()
        for one in ("USER postmaster", "PASS postmaster-pw", text):
            print(one, file=file, flush=True)
            file.readline()

def slow(number):
    time.sleep(1)
    answer(f"{number} OK")

for line in sys.stdin:
    log.write(line)
    number, verb, *rest = line.split(" ")
    rest = [word.strip() for word in rest if not word.startswith("(")]
    if verb == "INTF":
        answer(f"* here I am\\n{number} OK {version}")
    elif verb == "VRFY" and rest[1] == "slow":
        threading.Thread(target=slow, args=(number,)).start()
    elif verb == "VRFY" and rest[1] == "die" and not os.path.exists(sys.argv[3] + ".died"):
        open(sys.argv[3] + ".died", "w").close()
        os._exit(3)
    elif verb == "VRFY" and rest[1] == "hang":
        pass
    elif verb == "VRFY":
        answer(f"{number} OK" if rest[1] in ("outside", "slow", "die") else f"{number} ERROR not the one")
    elif verb == "SASL(CRAM-MD5)":
        right = hmac.new(b"outside", rest[2].encode(), "md5").hexdigest() == rest[1]
        answer(f"{number} OK" if right else f"{number} ERROR wrong digest")
    elif verb == "NEW":
        name = rest[0].partition("@")[0]
        if name.startswith("new"):
            command(f"CreateAccount {rest[0]} {{Password=made;}}")
            answer(f"{number} OK")
        elif name.startswith("fwd"):
            command(f"CreateForwarder {rest[0]} TO ann@box.test")
            answer(f"{number} OK")
        else:
            answer(f"{number} ERROR nobody")
"""


class Site:
    """A server with the program on its Helpers page."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self.log = folder / "program log.txt"
        self.program = folder / "program.py"
        self.program.write_text(dedent(PROGRAM))

    async def switch_on(self, version: int = 1, **settings: str) -> None:
        path = f'"{sys.executable}" {self.program} {version} {self.house.port("PWD")} "{self.log}"'
        names = {f"ExternalAuthenticator{key}": value for key, value in settings.items()}
        await self.house.update("Helpers", ExternalAuthenticator="YES", ExternalAuthenticatorPath=path, **names)
        await until(self.log.exists)

    def asked(self, text: str) -> list[str]:
        """Requests with this text, without their numbers."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.partition(" ")[2] for line in lines if text in line]

    async def login(self, password: str, name: str = "ann") -> str:
        line = await self.house.connect("IMAP")
        answer = (await line.imap(f'LOGIN {name} "{password}"'))[-1]
        await line.aclose()
        return answer.split()[1]


@pytest.fixture
async def site(house: House, tmp_path: Path) -> Site:
    cli = await house.cli()
    await cli("UpdateAccountSettings ann {UseExtPassword=YES;}")
    return Site(house, tmp_path)


@pytest.mark.feature("SEC-060", "SEC-061", "SEC-063", "SEC-064", "SEC-065", "SEC-068", "SEC-069", "SEC-078")
async def test_passwords_are_asked_for(site: Site) -> None:
    assert await site.login("outside") == "NO"
    await site.switch_on(Log="5")
    assert await site.login("outside") == "OK"
    assert await site.login("nonsense") == "NO"
    assert site.asked("INTF") == ["INTF 1"]
    assert site.asked("VRFY") == ["VRFY (IMAP) ann@box.test outside", "VRFY (IMAP) ann@box.test nonsense"]
    log = await site.house.log()
    assert "EXTAUTH 00002 VRFY ann@box.test ***" in log and "EXTAUTH * here I am" in log
    assert "ann@box.test refused: not the one" in log and "outside" not in log
    await site.house.update("Helpers", ExternalAuthenticator="NO")
    assert await site.login("outside") == "NO"
    await site.house.logged("EXTAUTH has ended")


@pytest.mark.feature("SEC-030", "SEC-031", "SEC-076", "SEC-032")
async def test_the_own_password_counts_first_and_others_only_where_allowed(site: Site) -> None:
    await site.switch_on()
    assert await site.login(PASSWORD) == "OK"
    assert site.asked("VRFY") == []
    cli = await site.house.cli()
    await cli("UpdateAccountSettings ann {UseExtPassword=NO;}")
    assert await site.login("outside") == "NO"
    assert site.asked("VRFY") == []
    await cli("UpdateAccountSettings ann {UseExtPassword=default;}")
    await cli("UpdateAllAccountsDefaults {UseExtPassword=YES;}")
    assert await site.login("outside") == "OK"
    await cli("UpdateAccountSettings ann {UseAppPassword=NO;}")
    assert await site.login(PASSWORD) == "NO"


@pytest.mark.feature("SEC-064", "SEC-066")
async def test_the_mode_is_for_programs_that_know_it(site: Site) -> None:
    await site.switch_on(version=0)
    assert await site.login("outside") == "OK"
    assert site.asked("VRFY") == ["VRFY ann@box.test outside"]
    await (await site.house.cli())("VerifyAccountPassword ann PASSWORD outside")
    assert site.asked("VRFY")[1:] == ["VRFY ann@box.test outside"]


@pytest.mark.feature("SEC-067")
async def test_answers_to_challenges(site: Site) -> None:
    import base64
    import hmac

    await site.switch_on()
    for password, wanted in (("outside", "+OK"), ("wrong", "-ERR")):
        line = await site.house.connect("POP")
        challenge = base64.b64decode((await line.ask("AUTH CRAM-MD5")).split()[1])
        digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
        assert (await line.ask(base64.b64encode(f"ann {digest}".encode()).decode())).startswith(wanted)
        await line.aclose()
    assert site.asked("SASL(CRAM-MD5) (POP) ann@box.test")


@pytest.mark.feature("SEC-070")
async def test_a_slow_answer_delays_nobody_else(site: Site) -> None:
    await site.switch_on()
    order: list[str] = []

    async def one(password: str) -> None:
        assert await site.login(password) == "OK"
        order.append(password)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "slow")
        await until(lambda: site.asked("slow"))
        nursery.start_soon(one, "outside")
    assert order == ["outside", "slow"]


@pytest.mark.feature("SEC-079", "SEC-080", "SEC-081")
async def test_a_program_that_dies_or_hangs(site: Site) -> None:
    await site.switch_on(Restart="0", TimeOut="1")
    assert await site.login("die") == "OK"
    assert len(site.asked("INTF")) == 2 and len(site.asked("die")) == 2
    assert await site.login("hang") == "NO"
    assert "no answer in 1 s, the program is ended" in await site.house.log()
    assert await site.login("outside") == "OK"


@pytest.mark.feature("SEC-062")
async def test_a_program_that_does_not_start(site: Site) -> None:
    await site.house.update("Helpers", ExternalAuthenticator="YES", ExternalAuthenticatorPath="/no/such/program")
    await site.house.logged("/no/such/program")
    await site.house.update("Helpers", ExternalAuthenticatorTimeOut="1", ExternalAuthenticatorRestart="0")
    assert await site.login("outside") == "NO"
    assert await site.login(PASSWORD) == "OK"


@pytest.mark.feature("SEC-071", "SEC-072", "SEC-073", "SEC-074", "SEC-075", "LOCAL-025", "DOM-066", "ACC-031")
async def test_unknown_names_are_made(site: Site) -> None:
    house = site.house
    await site.switch_on()
    assert not (await house.mail("newton@box.test")).startswith("250")
    assert site.asked("NEW") == []
    cli = await house.cli()
    await cli("UpdateDomainSettings box.test {ConsultExternalAuth=YES;}")
    assert (await house.mail("newton@box.test")).startswith("250")
    assert (await house.mail("fwd1@box.test", "Subject: forwarded\r\n\r\ntext")).startswith("250")
    assert (await house.mail("nobody@box.test")).startswith("5")
    assert site.asked("NEW") == ["NEW newton@box.test", "NEW fwd1@box.test", "NEW nobody@box.test"]
    await until(lambda: house.inbox("ann"))
    assert await site.login("made", "newman") == "OK"
    with pytest.raises(Refusal):
        await cli("GetAccountInfo nobody KEY LastLogin")


async def test_without_an_answer_senders_try_again(site: Site) -> None:
    await site.switch_on()
    cli = await site.house.cli()
    await cli("UpdateDomainSettings box.test {ConsultExternalAuth=YES;}")
    await site.house.update(
        "Helpers",
        ExternalAuthenticatorTimeOut="1",
        ExternalAuthenticatorRestart="0",
        ExternalAuthenticatorPath="/no/such/program",
    )
    assert (await site.house.mail("newton@box.test")).startswith("4")
