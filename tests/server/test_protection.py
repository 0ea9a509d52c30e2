"""Protection on the running server: DNS over a real socket, the pages, the command line, log-ins from outside."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest
import trio

from appliance.formats.data import Value
from tests.interop.nameserver import NameServer
from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import HOST, House, Line, Refusal, living, until

DENIED = "access from your network is denied"


class Zone(NameServer):
    """Names in `silent` get no answer."""

    def __init__(self) -> None:
        super().__init__(HOST, {}, 0)
        self.silent = ""

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        found = super().answer(query)
        return None if self.silent and self.silent in query.question[0].name.to_text() else found

    def put(self, name: str, *records: str) -> None:
        self.records[name + "."] = list(records)

    def asked_for(self, text: str) -> int:
        return sum(text in question for question in self.asked)


@pytest.fixture
def zone() -> Iterator[Zone]:
    made = Zone()
    with made:
        yield made


def turned(address: str) -> str:
    return ".".join(reversed(address.split(".")))


async def resolve(house: House, zone: Zone) -> None:
    await house.update("DNR", DNSAddresses="Custom", CustomAddresses=[zone.address], InitialTimeout="1")


async def transaction(house: House, source: str, *commands: str) -> list[str]:
    """A session from that address; the replies to its commands."""
    line = await house.connect("SMTP", source)
    await line.smtp("EHLO pc1")
    found = [await line.smtp(command) for command in commands]
    await line.aclose()
    return found


async def relayed(house: House, source: str) -> bool:
    """Whether mail from there may go anywhere."""
    line = await house.connect("SMTP", source)
    await line.smtp("HELO pc1")
    await line.smtp("MAIL FROM:<ann@box.test>")
    reply = await line.smtp("RCPT TO:<x@away.test>")
    await line.aclose()
    return reply.startswith("250")


def plain(name: str = "ann") -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{name}\0{PASSWORD}".encode()).decode()


# -- blacklists --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("PROT-097", "PROT-098", "PROT-099", "PROT-095", "PROT-101", "SMTP-066", "SMTP-065", "STD-045")
async def test_lists_in_dns(house: House, zone: Zone, stranger: str) -> None:
    await resolve(house, zone)
    await house.update("SMTP", LogLevel="Problems")
    zone.put(f"{turned(stranger)}.second.test", "A 127.0.0.3")
    await house.update("Protection", UseRBL="YES", RBLServers=[{"Server": "first.test"}, {"Server": "second.test"}])
    replies = await transaction(house, stranger, "MAIL FROM:<ann@box.test>", "RCPT TO:<bob@box.test>")
    assert replies[0].startswith("250")
    assert replies[1].startswith("591") and f"{stranger} (second.test)" in replies[1]
    assert "blacklist-admin@box.test" in replies[1]
    record = await house.logged(f"{turned(stranger)}.first.test")
    assert "DNR-" in record and "A:host name is unknown" in record and record.split()[1] == "3"
    assert "second.test" in await house.logged("is blacklisted by")
    (admin,) = (await transaction(house, stranger, "MAIL FROM:<ann@box.test>", "RCPT TO:<blacklist-admin@any.test>"))[
        1:
    ]
    assert admin.startswith("250")

    await house.update("DNR", LogLevel="Major & Failures")
    await house.update("Protection", RBLServers=[{"Server": "third.test"}])
    replies = await transaction(house, stranger, "MAIL FROM:<ann@box.test>", "RCPT TO:<bob@box.test>")
    assert replies[1].startswith("250") and zone.asked_for("third.test") == 1
    assert "third.test" not in (await house.log()).replace("changed Protection", "")
    assert zone.asked_for("127.in-addr") == 0


@pytest.mark.feature("PROT-100")
async def test_a_dead_list_costs_its_time_once(house: House, zone: Zone, stranger: str) -> None:
    await resolve(house, zone)
    zone.silent = "dead.test"
    await house.update("Protection", UseRBL="YES", RBLServers=[{"Server": "dead.test"}])
    commands = ("MAIL FROM:<ann@box.test>", "RCPT TO:<bob@box.test>")
    start = trio.current_time()
    assert (await transaction(house, stranger, *commands))[1].startswith("250")
    assert 1.5 < trio.current_time() - start < 4
    assert zone.asked_for("dead.test") == 2, "asked twice, with the initial time-out"
    start = trio.current_time()
    assert (await transaction(house, stranger, *commands))[1].startswith("250")
    assert trio.current_time() - start < 1 and zone.asked_for("dead.test") == 2


@pytest.mark.feature("PROT-104", "PROT-102", "PROT-103", "PROT-023", "PROT-020", "PROT-021", "PROT-022")
async def test_one_question_for_the_name_of_an_address(house: House, zone: Zone, stranger: str) -> None:
    await resolve(house, zone)
    commands = ("MAIL FROM:<ann@box.test>", "RCPT TO:<bob@box.test>")
    await house.update("Protection", BlacklistByName="YES", BlacklistNames=["*.bad.test", "host name is unknown"])
    await house.update("IPAddresses", ClientByName="YES", ClientNames=["*.campus.test"])
    assert "(host name is unknown)" in (await transaction(house, stranger, *commands))[1]
    assert zone.asked_for("PTR") == 1
    name = f"{turned(stranger)}.in-addr.arpa"
    zone.put(name, "PTR dsl-7.bad.test.")
    await (await house.cli())("RefreshOSData")
    await house.update("IPAddresses", ClientNames=["*.campus.test", "*.school.test"])
    assert "(dsl-7.bad.test)" in (await transaction(house, stranger, *commands))[1]
    assert zone.asked_for("PTR") == 2

    zone.put(name, "PTR h1.campus.test.")
    zone.put("h1.campus.test", "A 192.0.2.200")
    await (await house.cli())("RefreshOSData")
    await house.update("IPAddresses", ClientNames=["*.campus.test"])
    assert not await relayed(house, stranger), "the name does not have the address"
    zone.put("h1.campus.test", f"A {stranger}")
    await (await house.cli())("RefreshOSData")
    await house.update("IPAddresses", ClientOnly="YES", ClientNames=["*.campus.test", "*.x.test"])
    await house.update("SMTP", AdvertiseAuth="non-clients")
    assert await relayed(house, stranger)
    line = await house.connect("SMTP", stranger)
    assert "AUTH" not in await line.smtp("EHLO pc1")
    await house.update("POP", ClearTextLogin="YES")
    pop = await house.connect("POP", stranger)
    await pop.ask("USER ann")
    assert (await pop.ask(f"PASS {PASSWORD}")).startswith("+OK"), "a client by name may log in"
    assert zone.asked_for("PTR") == 4
    cli = await house.cli()
    assert await cli(f"CheckAddress {stranger}") == {"Kind": "client"}


@pytest.mark.feature("SMTP-033", "PROT-034", "PROT-030", "PROT-031", "PROT-032")
async def test_log_ins_from_clients_only(house: House, stranger: str) -> None:
    for module in ("POP", "IMAP", "PWD"):
        await house.update(module, ClearTextLogin="YES")
    await house.update("SMTP", ClearAuth="everybody")
    assert (await transaction(house, stranger, plain()))[0].startswith("235")
    await house.update("IPAddresses", ClientOnly="YES")
    for service in ("POP", "IMAP", "PWD"):
        line = await house.connect(service, stranger, greeting=False)
        assert DENIED in await line.line()
        assert await line.line() == ""
    auth, mail, here = await transaction(house, stranger, plain(), "MAIL FROM:<>", "RCPT TO:<bob@box.test>")
    assert auth.startswith("535") and DENIED in auth
    assert mail.startswith("250") and here.startswith("250"), "mail comes in as before"
    assert await house.imap("ann"), "and so do people at this computer"


@pytest.mark.feature("SMTP-029", "SEC-010", "SEC-011", "SEC-012", "SMTP-028")
async def test_secure_methods_are_listed_as_the_option_says(house: House) -> None:
    """CRAM-MD5 needs a readable password; NTLM is never listed, because it is not there."""
    cli = await house.cli()
    await cli("UpdateAccountDefaults {PasswordEncryption=A-crpt;}")
    await cli(f"SetAccountPassword ann TO {PASSWORD}")

    async def listed() -> list[str]:
        smtp, pop, imap = [await house.connect(service) for service in ("SMTP", "POP", "IMAP")]
        (line,) = [line for line in (await smtp.smtp("EHLO pc1")).split("\n") if line[4:].startswith("AUTH ")]
        await pop.send(b"CAPA\r\n")
        while not (sasl := await pop.line()).startswith("SASL"):
            pass
        capability = (await imap.imap("CAPABILITY"))[0]
        return [line[9:], sasl[5:], " ".join(word[5:] for word in capability.split() if word.startswith("AUTH="))]

    for words in await listed():
        assert {"SCRAM-SHA-256", "CRAM-MD5", "PLAIN"} <= set(words.split()) and "NTLM" not in words
    await house.update("LoginSecurity", AdvertiseSecureSASL="NO")
    assert {frozenset(words.split()) for words in await listed()} == {frozenset({"PLAIN", "LOGIN"})}
    line = await house.connect("SMTP")
    await line.smtp("EHLO pc1")
    challenge = base64.b64decode((await line.smtp("AUTH CRAM-MD5"))[4:])
    digest = hmac.new(PASSWORD.encode(), challenge, "md5").hexdigest()
    assert (await line.smtp(base64.b64encode(f"ann {digest}".encode()).decode())).startswith("235")


async def logged_in(house: House, service: str, source: str, name: str = "ann") -> Line | None:
    """A session of the user from there."""
    line = await house.connect(service, source)
    if service == "IMAP":
        answer = (await line.imap(f"LOGIN {name} {PASSWORD}"))[-1]
    else:
        await line.ask(f"USER {name}")
        answer = await line.ask(f"PASS {PASSWORD}")
    return line if answer.startswith(("a OK", "+OK", "2")) else None


async def log_in(house: House, service: str, source: str, name: str = "ann") -> Line:
    line = await logged_in(house, service, source, name)
    assert line is not None, "the log-in was refused"
    return line


@pytest.mark.feature("PROT-036", "PROT-037", "PROT-049", "PROT-051")
async def test_services_of_accounts_and_domains(house: House, stranger: str) -> None:
    await house.update("POP", ClearTextLogin="YES")
    await house.update("SMTP", ClearAuth="everybody")
    await house.update("IPAddresses", RememberMobile="YES", KeepMobile="0")
    cli = await house.cli()
    every = "Mail,POP,IMAP,PWD,WebMail,WebSite,FTP,TLS"
    await cli(f"UpdateAccountSettings ann {{AccessModes=({every},Relay);}}")
    assert await logged_in(house, "POP", stranger) is None, "no Mobile service"
    assert await logged_in(house, "POP", HOST) is not None
    line = await log_in(house, "POP", stranger, "bob")
    assert await relayed(house, stranger)
    await line.ask("QUIT")
    await line.aclose()
    await until(lambda: not house.server.peers.client(stranger))
    await cli(f"UpdateAccountSettings bob {{AccessModes=({every},Mobile);}}")
    line = await log_in(house, "POP", stranger, "bob")
    assert not await relayed(house, stranger), "without the Relay service the address is no client's"
    await line.aclose()
    auth, _, outside = await transaction(
        house, stranger, plain("bob"), "MAIL FROM:<bob@box.test>", "RCPT TO:<x@away.test>"
    )
    assert auth.startswith("235") and outside.startswith("550")

    await cli(f"UpdateAccountSettings bob {{AccessModes=({every},Mobile,Relay);}}")
    await cli(f"UpdateDomainSettings box.test {{DomainAccessModes=({every},Relay);}}")
    assert await logged_in(house, "POP", stranger, "bob") is None, "the domain has no Mobile service"
    await cli(f"UpdateDomainSettings box.test {{DomainAccessModes=({every},Mobile);}}")
    line = await log_in(house, "POP", stranger, "bob")
    assert not await relayed(house, stranger)
    await line.aclose()


@pytest.mark.feature("SMTP-035", "PROT-041", "PROT-042", "PROT-045", "PROT-046", "PROT-048")
@pytest.mark.parametrize("service", ["IMAP", "POP", "PWD"])
async def test_read_then_send(house: House, stranger: str, service: str) -> None:
    await house.update(service, ClearTextLogin="YES")
    line = await log_in(house, service, stranger)
    assert not await relayed(house, stranger), "switched off"
    await line.aclose()
    await house.update("IPAddresses", RememberMobile="YES", KeepMobile="1")
    smtp = await house.connect("SMTP", stranger)
    for command in ("EHLO pc1", "MAIL FROM:<ann@box.test>"):
        await smtp.smtp(command)
    assert (await smtp.smtp("RCPT TO:<x@away.test>")).startswith("450")
    line = await log_in(house, service, stranger)
    assert (await smtp.smtp("RCPT TO:<x@away.test>")).startswith("250"), "the same session goes on"
    await line.aclose()
    assert await relayed(house, stranger), "some time after the session too"
    await until(lambda: not house.server.peers.client(stranger))
    assert not await relayed(house, stranger)


# -- administration ----------------------------------------------------------------------------------------------------


@pytest.mark.feature("PROT-150", "PROT-151", "PROT-153", "PROT-001", "PROT-002", "PROT-003", "PROT-004")
async def test_the_command_line(house: House, stranger: str) -> None:
    cli = await house.cli()
    assert not await relayed(house, stranger)
    head = ".".join(str(int(part)).zfill(3) for part in stranger.split("."))
    text = f"; our networks\\e10.0.0.0/8 ; LAN\\e\\e{stranger}-{head} ; the box"
    await cli(f'SetClientIPs "{text}"')
    assert await cli("GetClientIPs") == text.replace("\\e", "\n") or await cli("GetClientIPs") == text
    assert await relayed(house, stranger)
    await cli('SetClientIPs ""')
    assert not await relayed(house, stranger)
    await cli(f'SetBlacklistedIPs "{stranger}"')
    commands = ("MAIL FROM:<ann@box.test>", "RCPT TO:<bob@box.test>")
    assert (await transaction(house, stranger, *commands))[1].startswith("591")
    assert await cli(f"CheckAddress {stranger}") == {"Kind": "stranger", "Blacklisted": "Blacklisted IP Addresses"}
    await cli(f'SetWhiteHoleIPs "{stranger}"')
    assert (await transaction(house, stranger, *commands))[1].startswith("250")
    assert (await cli("GetBlacklistedIPs"), await cli("GetWhiteHoleIPs")) == (stranger, stranger)
    with pytest.raises(Refusal):
        await cli('SetClientIPs "nonsense"')

    options = await cli("GetProtection")
    assert isinstance(options, dict)
    assert {"ClientOnly", "ClientByName", "UseRBL", "RBLServers", "WhiteHoleByName", "Devices"} <= options.keys()
    assert "ClientAddresses" not in options and "BlacklistedAddresses" not in options
    await cli('SetProtection {UseRBL=YES;RBLServers=({Server="rbl.test";});RememberMobile=YES;}')
    options = await cli("GetProtection")
    assert isinstance(options, dict) and (options["UseRBL"], options["RememberMobile"]) == ("YES", "YES")
    assert await cli("GetBlacklistedIPs") == stranger, "the lists stay"
    await cli("SetProtection {}")
    options = await cli("GetProtection")
    assert isinstance(options, dict) and (options["UseRBL"], options["RememberMobile"]) == ("NO", "NO")
    with pytest.raises(Refusal):
        await cli("SetProtection {Nonsense=YES;}")
    await cli('SetBanned {HeaderLines=("X-Bad: 1");}')
    assert await cli("GetBanned") == {"HeaderLines": ["X-Bad: 1"]}

    await cli("SetAccountRights bob (Monitor)")
    monitor = await house.cli("bob", PASSWORD)
    for command in (
        "GetClientIPs",
        'SetClientIPs ""',
        "GetProtection",
        "SetProtection {}",
        "GetBanned",
        "SetBanned {}",
    ):
        with pytest.raises(Refusal):
            await monitor(command)


@pytest.mark.feature("PROT-154", "PROT-119")
async def test_the_pages(house: House, stranger: str) -> None:
    for path in ("/Settings/IPAddresses", "/Settings/Protection", "/Settings/Banned"):
        page = await house.page(path)
        for other in ("/Settings/IPAddresses", "/Settings/Protection", "/Settings/Banned"):
            assert f'href="{other}"' in page.body
    clients = await house.page("/Settings/IPAddresses")
    assert "Reject all Logins from Non-Client IP Addresses" in clients.body and "Process as a Client" in clients.body
    form = clients.form() | {"ClientAddresses": f"; ours\r\n{stranger} ; scanner room", "do-update": "1"}
    assert "Updated." in (await house.page("/Settings/IPAddresses", form)).body
    assert str((await house.page("/Settings/IPAddresses")).form()["ClientAddresses"]).endswith("; scanner room")
    assert await relayed(house, stranger)
    form = (await house.page("/Settings/IPAddresses")).form() | {"address": stranger, "do-test": "1"}
    assert "a client address" in (await house.page("/Settings/IPAddresses", form)).body

    form = (await house.page("/Settings/Protection")).form()
    form |= {"RBLServers.0.Server": "rbl.test", "UseRBL": "YES", "Devices.0.Sender": "scan@box.test"}
    form |= {"Devices.0.Addresses": "10.0.0.7", "BlacklistedAddresses": "10.9.9.9 ; bad"}
    assert "Updated." in (await house.page("/Settings/Protection", form | {"do-update": "1"})).body
    form = (await house.page("/Settings/Protection")).form()
    assert form["RBLServers.0.Server"] == "rbl.test" and form["RBLServers.1.Server"] == ""
    assert form["BlacklistedAddresses"] == "10.9.9.9 ; bad"
    tested = await house.page("/Settings/Protection", {"address": "10.0.0.7", "do-test": "1"})
    assert "a device that sends as scan@box.test" in tested.body
    bad = await house.page("/Settings/Protection", form | {"BlacklistedAddresses": "10.9.9", "do-update": "1"})
    assert bad.status == 400 and "line 1" in bad.body
    await house.page("/Settings/Protection", form | {"RBLServers.0.Server": "", "do-update": "1"})
    assert (await house.page("/Settings/Protection")).form()["RBLServers.0.Server"] == ""

    banned: dict[str, str | list[str]] = {"HeaderLines": ["X-Bad: 1", ""], "BodyLines": ["*viagra*"], "do-update": "1"}
    assert "Updated." in (await house.page("/Settings/Banned", banned)).body
    assert (await house.mail("bob@box.test", "X-Bad: 1\r\n\r\nx")).startswith("554")
    assert (await house.mail("bob@box.test", "Subject: 1\r\n\r\ncheap viagra here")).startswith("554")
    await house.page("/Settings/Banned", {"HeaderLines": ["", ""], "BodyLines": [""], "do-update": "1"})
    assert (await house.mail("bob@box.test", "X-Bad: 1\r\n\r\ncheap viagra here")).startswith("250")


@pytest.mark.feature("PROT-113", "PROT-114", "PROT-115", "PROT-116", "PROT-117", "SMTP-058")
async def test_banned_lines(house: House) -> None:
    cli = await house.cli()
    encoded = base64.b64encode(b"buy our pills").decode()
    await cli(
        'SetBanned {HeaderLines=("X-Bad: 1","Subject: one\\e two","Subject: *casino*");'
        f'BodyLines=("This line is bad","*pill factory*","{encoded}");}}'
    )
    for text, code in (
        ("X-Bad: 1\r\nSubject: x\r\n\r\nx", "554"),
        ("x-bad: 1\r\nSubject: x\r\n\r\nx", "250"),
        ("X-Bad: 12\r\nSubject: x\r\n\r\nx", "250"),
        ("Subject: one\r\n two\r\n\r\nx", "554"),
        ("Subject: one two\r\n\r\nx", "250"),
        ("Subject: your\r\n casino\r\n bonus\r\n\r\nx", "554"),
        ("Subject: x\r\n\r\nfirst\r\nThis line is bad\r\nlast", "554"),
        ("Subject: x\r\n\r\nThis line is bad.", "250"),
        ("Subject: x\r\n\r\nthis line is bad", "250"),
        ("Subject: x\r\n\r\nthe pill factory is here", "554"),
        (f"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}", "554"),
        ("Subject: x\r\n\r\nbuy our pills", "250"),
    ):
        assert (await house.mail("bob@box.test", text))[:3] == code, text


@pytest.mark.feature("PROT-112")
async def test_a_trap_is_an_error_for_mail_that_does_not_come_by_smtp(house: House) -> None:
    await house.update("Router", Table="<trap> = spamtrap")
    line = await log_in(house, "POP", HOST)
    assert (await line.ask("XTND XMIT")).startswith("+OK")
    await line.send(b"From: ann@box.test\r\nTo: trap@box.test, bob@box.test\r\nSubject: out\r\n\r\ntext\r\n.\r\n")
    assert (await line.line()).startswith("+OK")
    await line.aclose()

    async def reported() -> bool:
        return any("Blacklisted Address" in text and "trap@box.test" in text for text in await house.inbox("ann"))

    await until(reported)
    assert len(await house.inbox("bob")) == 1, "the others get it"


@pytest.mark.feature("PROT-052")
async def test_without_relay_other_ways_stay_open(house: House) -> None:
    cli = await house.cli()
    await cli("UpdateAccountSettings ann {AccessModes=(Mail,POP,IMAP,PWD,Mobile,TLS);}")
    line = await log_in(house, "POP", HOST)
    await line.ask("XTND XMIT")
    await line.send(b"From: ann@box.test\r\nTo: x@away.test\r\nSubject: out\r\n\r\ntext\r\n.\r\n")
    assert (await line.line()).startswith("+OK")
    await line.aclose()
    await until(lambda: house.server.transfer.queues.get("SMTP", "away.test") is not None)


@pytest.mark.feature("PROT-121")
async def test_rules_of_the_server_refuse_what_has_no_to(house: House) -> None:
    cli = await house.cli()
    rule = '(5,"no To",(("Header Field",is,"To: ")),((Reject,"say whom you write to")))'
    await cli(f"SetServerRules ({rule})")
    await house.mail("bob@box.test", "To: bob@box.test\r\nSubject: good\r\n\r\nx")
    await house.mail("bob@box.test", "To: \r\nSubject: bad\r\n\r\nx")

    async def bounced() -> bool:
        return any("say whom you write to" in text for text in await house.inbox("ann"))

    await until(bounced)
    (text,) = await house.inbox("bob")
    assert "Subject: good" in text


@pytest.mark.feature("PROT-132")
async def test_reports_are_never_for_all(house: House) -> None:
    cli = await house.cli()
    await cli("UpdateDomainSettings box.test {MailToAllAction=anybody;}")
    assert (await house.mail("all@box.test", "Subject: null\r\n\r\nx", sender="")).startswith(("250", "5"))
    assert (await house.mail("all@box.test", "Subject: good\r\n\r\nx")).startswith("250")

    async def good() -> bool:
        return any("Subject: good" in text for text in await house.inbox("bob"))

    await until(good)
    assert not any("Subject: null" in text for text in await house.inbox("bob"))


@pytest.mark.feature("PROT-017", "SMTP-055")
async def test_what_was_accepted_is_never_refused_for_relaying(house: House, stranger: str) -> None:
    """By a log-in, a mark of the Router, a client host, a domain that we back up: all of it waits for its host."""
    await house.update("SMTP", ClearAuth="everybody", HoldDomains=["*"])
    table = "<out> = a@marked.test\nback.test = b@[192.0.2.9]"
    await house.update("Router", Table=table)
    await house.update("IPAddresses", ClientAddresses="192.0.2.9")
    line = await house.connect("SMTP", stranger)
    for command in ("EHLO pc1", "MAIL FROM:<>", "RCPT TO:<out@box.test>", "RCPT TO:<x@[192.0.2.9]>", "DATA"):
        assert (await line.smtp(command))[:1] in "23", command
    assert (await line.smtp("Subject: x\r\n\r\nx\r\n.")).startswith("250")
    for command in (plain(), "MAIL FROM:<ann@box.test>", "RCPT TO:<x@away.test>", "DATA"):
        assert (await line.smtp(command))[:1] in "23", command
    assert (await line.smtp("Subject: x\r\n\r\nx\r\n.")).startswith("250")
    # What let them in is gone when they are sent.
    await house.update("IPAddresses", ClientAddresses="")
    await house.update("Router", Table="")
    queues = house.server.transfer.queues
    for host in ("marked.test", "[192.0.2.9]", "away.test"):
        await until(lambda host=host: queues.get("SMTP", host) is not None)  # type: ignore[misc]
    assert await house.inbox("ann") == []
    assert "we do not relay" not in await house.log()


async def test_an_account_that_sends_too_much_is_stopped_and_people_are_told(house: House) -> None:
    cli = await house.cli()
    await cli("UpdateAccountSettings ann {MailOutFlow=2;}")
    pop = await log_in(house, "POP", HOST)
    line = await house.connect("SMTP")
    for command in ("EHLO pc1", plain(), "MAIL FROM:<ann@box.test>"):
        await line.smtp(command)
    codes = [
        (await line.smtp(f"RCPT TO:<{name}>"))[:3] for name in ("a@x.test", "b@x.test", "c@x.test", "bob@box.test")
    ]
    assert codes == ["250", "250", "450", "250"]
    for recipients, answer in (("x@away.test, bob@box.test", "-ERR"), ("bob@box.test, ann@box.test", "+OK")):
        await pop.ask("XTND XMIT")
        await pop.send(f"From: ann@box.test\r\nTo: {recipients}\r\nSubject: out\r\n\r\ntext\r\n.\r\n".encode())
        assert (await pop.line()).startswith(answer), recipients
    for account in ("ann", "postmaster"):
        alerts = await cli(f"GETACCOUNTALERTS {account}")
        assert "2 recipients an hour" in str(alerts), account
    assert await cli("GetProtectionStatus") == {
        "Harvesters": [],
        "Lists": [],
        "Devices": [],
        "Accounts": ["ann@box.test"],
    }
    page = await house.page("/Settings/Protection")
    assert "an account that has sent too much" in page.body
    await house.page("/Settings/Protection", {"do-reset:ann@box.test": "1"})
    assert "Stopped now" not in (await house.page("/Settings/Protection")).body
    assert (await line.smtp("RCPT TO:<d@x.test>")).startswith("250")
    with pytest.raises(Refusal):
        await cli("ResetProtection nobody@box.test")
    again = await house.connect("POP")
    await again.ask("USER ann")
    assert "ALERT" in await again.ask(f"PASS {PASSWORD}")
    assert await house.logged("ann@box.test: the limit of outgoing mail is reached")


async def test_a_scanner_sends_to_everybody(house: House, stranger: str) -> None:
    devices: list[Value] = [{"Sender": "scanner@box.test", "Addresses": stranger, "PerHour": "2"}]
    await house.update("Protection", Devices=devices)
    await house.update("SMTP", HoldDomains=["*"])
    line = await house.connect("SMTP", stranger)
    for command in ("HELO scanner", "MAIL FROM:<root@localhost>", "RCPT TO:<x@away.test>", "RCPT TO:<bob@box.test>"):
        assert (await line.smtp(command)).startswith("250"), command
    assert (await line.smtp("RCPT TO:<y@away.test>")).startswith("450")
    await line.smtp("DATA")
    assert (await line.smtp("From: Scan <root@localhost>\r\nSubject: scan\r\n\r\nx\r\n.")).startswith("250")
    await until(lambda: house.inbox("bob"))
    (text,) = await house.inbox("bob")
    assert "\nFrom: Scan <scanner@box.test>" in text and "Return-Path: <scanner@box.test>" in text


@pytest.mark.feature("SMTP-127", "SMTP-128", "SMTP-129")
async def test_settings_and_monitors(house: House) -> None:
    page = await house.page("/Settings/SMTP")
    for key in ("RelayFrom", "SizeLimit", "RcptLimit", "VerifyPath", "ForceAuth", "HoldDomains", "Channels"):
        assert key in page.form() or f'name="{key}' in page.body, key
    cli = await house.cli()
    settings = await cli("GetModule SMTP")
    assert isinstance(settings, dict) and settings["RelayFrom"] == "clients"
    await cli("UpdateModule SMTP {SizeLimit=5M;HoldDomains=(held.test);}")
    assert (await house.page("/Settings/SMTP")).form()["SizeLimit"] == "5M"

    line = await house.connect("SMTP")
    await line.smtp("EHLO pc1")
    assert "SMTP" in (access := (await house.page("/Monitors/Access")).body) and HOST in access
    for number in range(3):
        await house.mail("x@held.test", f"Subject: {number}\r\n\r\nx")
    queue = await house.page("/Monitors/Queue")
    assert "held.test" in queue.body
    form: dict[str, str | list[str]] = {"text": "not today", "do-reject:SMTP:held.test": "1"}
    assert (await house.page("/Monitors/Queue", form)).status == 200

    async def told() -> bool:
        return sum(text.count("not today") > 0 for text in await house.inbox("ann")) == 3

    await until(told)
    await house.mail("x@held.test", "Subject: 4\r\n\r\nx")
    queues = house.server.transfer.queues
    await until(lambda: queues.get("SMTP", "held.test") is not None)
    live = house.server.transfer.spool.live.values()
    (number,) = [one.id for one in live if any("held.test" in recipient.address for recipient in one.waiting)]
    await house.page(f"/Monitors/Queue/{number}", {"text": "nor this", "do-reject": "1"})

    async def this_one() -> bool:
        return any("nor this" in text for text in await house.inbox("ann"))

    await until(this_one)


async def test_settings_last(tmp_path: Path, stranger: str) -> None:
    async with living(tmp_path / "base") as house:
        cli = await house.cli()
        await cli(f'SetBlacklistedIPs "{stranger} ; for ever"')
    async with living(tmp_path / "base") as house:
        cli = await house.cli()
        assert await cli("GetBlacklistedIPs") == f"{stranger} ; for ever"
