"""A site on a line that is open at times only, and its provider."""

from __future__ import annotations

import datetime
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import dns.message
import dns.rdatatype
import dns.rrset
import pytest
import trio

from appliance.formats.data import Value
from tests.interop.pillarbox import PASSWORD, Setup
from tests.server.conftest import HOST, House, living, until


class Names:
    """A DNS server on a UDP port that counts what it is asked; every name is this computer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.outstanding = self.most = 0
        self.delay = 0.0
        self.udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = 0

    async def open(self) -> None:
        await self.udp.bind((HOST, 0))
        self.port = int(self.udp.getsockname()[1])

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                wire, address = await self.udp.recvfrom(4096)
                nursery.start_soon(self.answer, wire, address)

    async def answer(self, wire: bytes, address: tuple[str, int]) -> None:
        answer = dns.message.make_response(dns.message.from_wire(wire))
        (question,) = answer.question
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{kind} {question.name.to_text(True)}")
        if kind in ("A", "MX"):
            data = HOST if kind == "A" else f"10 {question.name}"
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, data))
        self.outstanding += 1
        self.most = max(self.most, self.outstanding)
        await trio.sleep(self.delay)
        self.outstanding -= 1
        await self.udp.sendto(answer.to_wire(), address)


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    made = Names()
    async with trio.open_nursery() as nursery:
        await made.open()
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def use(house: House, names: Names) -> None:
    await house.update("DNR", DNSAddresses="Custom", CustomAddresses=[f"{HOST}:{names.port}"])


def not_now() -> list[Value]:
    """A schedule whose only window begins in two hours."""
    begin = datetime.datetime.now() + datetime.timedelta(hours=2)
    end = begin + datetime.timedelta(minutes=1)
    return [{"Day": "Every day", "From": f"{begin:%H:%M}", "To": f"{end:%H:%M}"}]


async def close_line(house: House) -> None:
    await house.update("Schedule", Schedule=not_now())
    cli = await house.cli()
    status = await cli("GETSCHEDULESTATUS")
    assert isinstance(status, dict) and status["Open"] == "NO"


async def open_line(house: House) -> None:
    await house.update("Schedule", Schedule="default")


async def holds(house: House, name: str, count: int) -> None:
    async def there() -> bool:
        return len(await house.inbox(name)) == count

    await until(there, 20)


async def queue_of(house: House) -> str:
    cli = await house.cli()
    found = str(await cli("ListQueues"))
    await cli.line.aclose()
    return found


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[tuple[House, House]]:
    """A small office (box.test) and its provider (provider.test, with the users ann and bob)."""
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(
            living(tmp_path / "provider", Setup(main_domain="provider.test", accounts=("ann", "bob")))
        )
        office = await stack.enter_async_context(living(tmp_path / "office"))
        yield office, provider


def route_to(house: House, *domains: str) -> str:
    return "\n".join(f"{name} = {name}@{HOST}.{house.port('SMTP')}.smtp" for name in domains)


@pytest.mark.feature("DIAL-008", "DIAL-011")
async def test_mail_waits_for_the_line_and_people_do_not(site: tuple[House, House]) -> None:
    office, provider = site
    await provider.update("Router", Table="second.test = provider.test")
    await office.update("Router", Table=route_to(provider, "provider.test", "second.test"))
    await close_line(office)
    for recipient in ("ann@provider.test", "bob@provider.test", "ann@second.test"):
        assert (await office.mail(recipient)).startswith("250")
    assert (await office.mail("bob@box.test", sender="zoe@outside.test")).startswith("250")
    await holds(office, "bob", 1)
    assert (await (await office.imap("bob")).imap("SELECT INBOX"))[-1].startswith("a OK")
    await trio.sleep(0.5)
    assert await provider.inbox("ann") == await provider.inbox("bob") == []
    assert "provider.test" in await queue_of(office) or str(provider.port("SMTP")) in await queue_of(office)
    await open_line(office)
    await holds(provider, "ann", 2)
    await holds(provider, "bob", 1)


@pytest.mark.feature("DIAL-030", "DIAL-031")
async def test_people_of_the_office_do_not_raise_the_line(house: House, names: Names, stranger: str) -> None:
    await use(house, names)
    await house.update("IPAddresses", ClientAddresses=stranger)
    await house.update("SMTP", VerifyPath="non-clients")
    await close_line(house)
    line = await house.connect("SMTP", stranger)
    for command in ("EHLO pc.office", "MAIL FROM:<zoe@far.test>", "RCPT TO:<x@away.test>", "RCPT TO:<bob>", "DATA"):
        assert (await line.smtp(command))[:1] in "23", command
    assert (await line.smtp("Subject: out\r\n\r\ntext\r\n.")).startswith("250")
    pop = await house.connect("POP", stranger)
    await pop.ask("USER ann")
    assert (await pop.ask(f"PASS {PASSWORD}")).startswith("+OK")
    imap = await house.connect("IMAP", stranger)
    assert (await imap.imap(f"LOGIN bob {PASSWORD}"))[-1].startswith("a OK")
    await imap.imap("SELECT INBOX")
    assert (await house.page("/Domains/")).status == 200
    await trio.sleep(0.5)
    assert names.asked == [], "not a packet"

    await open_line(house)
    await until(lambda: "MX away.test" in names.asked)


async def test_a_stranger_is_verified_only_while_the_line_is_open(house: House, names: Names, stranger: str) -> None:
    await use(house, names)
    await close_line(house)
    line = await house.connect("SMTP", stranger)
    await line.smtp("EHLO pc.office")
    assert (await line.smtp("MAIL FROM:<zoe@far.test>"))[:1] == "4"
    assert names.asked == []
    await open_line(house)
    assert (await line.smtp("MAIL FROM:<zoe@far.test>"))[:1] == "2"
    assert "MX far.test" in names.asked


@pytest.mark.feature("DIAL-033")
async def test_all_mail_goes_to_one_host_that_knows_us(site: tuple[House, House], names: Names) -> None:
    office, provider = site
    await use(office, names)
    await provider.update("Router", Table="far.test = provider.test\naway.test = provider.test")
    await office.update(
        "SMTP", ForwardTo=f"{HOST}", DefaultPort=str(provider.port("SMTP")), AuthName="bob", AuthPassword=PASSWORD
    )
    assert (await office.mail("ann@far.test")).startswith("250")
    assert (await office.mail("ann@away.test")).startswith("250")
    await holds(provider, "ann", 2)
    for text in await provider.inbox("ann"):
        assert " with ESMTPSA " in text or " with ESMTPA " in text, "authenticated"
    assert names.asked == [], "the host is an address: no names are asked for"


@pytest.mark.feature("DIAL-035")
async def test_few_questions_at_once_on_a_slow_line(house: House, names: Names) -> None:
    await use(house, names)
    await house.update("DNR", ConcurrentRequests="2")
    names.delay = 0.1
    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(house.mail, f"x@host{number}.test")
    await until(lambda: sum(word.startswith("MX") for word in names.asked) == 8)
    assert names.most == 2


@pytest.mark.feature("DIAL-006")
async def test_rows_of_the_schedule_page(house: House) -> None:
    form = (await house.page("/Settings/Schedule")).form()
    assert form["Schedule.0.Day"] == "Never" and "Schedule.1.Day" not in form
    row = {"Schedule.0.Day": "Monday", "Schedule.0.From": "19:30", "Schedule.0.To": "07:30", "Schedule.0.Pause": "5m"}
    await house.page("/Settings/Schedule", form | row | {"do-update": "1"})
    form = (await house.page("/Settings/Schedule")).form()
    assert {key: form[key] for key in row} == row
    assert form["Schedule.1.Day"] == "Never"
    second = {"Schedule.1.Day": "Weekends", "Schedule.1.From": "10:00", "Schedule.1.To": "11:00"}
    await house.page("/Settings/Schedule", form | second | {"do-update": "1"})
    form = (await house.page("/Settings/Schedule")).form()
    await house.page("/Settings/Schedule", form | {"Schedule.0.Day": "Never", "do-update": "1"})
    form = (await house.page("/Settings/Schedule")).form()
    assert form["Schedule.0.Day"] == "Weekends" and form["Schedule.1.Day"] == "Never"


async def hold_for(provider: House, office: House, *more: str) -> None:
    """The provider keeps mail for the office's domain until it is asked for."""
    await provider.update("Router", Table=route_to(office, "box.test", *more))
    await provider.update("SMTP", HoldDomains=["*"])
    assert (await provider.mail("ann@box.test", sender="bob@provider.test")).startswith("250")
    await trio.sleep(0.4)
    assert await office.inbox("ann") == []


@pytest.mark.feature("DIAL-040", "DIAL-043")
@pytest.mark.parametrize("argument", ["box.test", "@box.test", "#box.test"])
async def test_etrn_releases_what_is_held(site: tuple[House, House], argument: str) -> None:
    office, provider = site
    await hold_for(provider, office)
    line = await provider.connect("SMTP")
    await line.smtp("EHLO office.box.test")
    assert (await line.smtp("ETRN nowhere.test"))[:3] in ("251", "458", "459", "501", "550")
    assert await office.inbox("ann") == []
    assert (await line.smtp(f"ETRN {argument}"))[:3] in ("250", "252", "253")
    await holds(office, "ann", 1)


@pytest.mark.feature("DIAL-040", "ROUTE-086")
async def test_etrn_from_clients_only(site: tuple[House, House], stranger: str) -> None:
    office, provider = site
    await hold_for(provider, office)
    await provider.update("SMTP", WakeupFrom="clients")
    line = await provider.connect("SMTP", stranger)
    await line.smtp("EHLO office.box.test")
    assert (await line.smtp("ETRN box.test"))[:1] in "45"
    await trio.sleep(0.3)
    assert await office.inbox("ann") == []
    await provider.update("SMTP", WakeupFrom="everybody")
    assert (await line.smtp("ETRN box.test"))[:1] == "2"
    await holds(office, "ann", 1)


@pytest.mark.feature("DIAL-042", "ROUTE-085")
async def test_a_message_wakes_the_queue(site: tuple[House, House]) -> None:
    office, provider = site
    await hold_for(provider, office)
    assert (await provider.mail("box.test-wakeup@provider.test", sender="bob@provider.test")).startswith("250")
    await holds(office, "ann", 1)
    assert "wakeup" not in await queue_of(provider)


@pytest.mark.feature("DIAL-044")
async def test_two_domains_of_a_customer_share_a_queue(site: tuple[House, House]) -> None:
    office, provider = site
    await office.update("Router", Table="second.test = box.test")
    table = f"{route_to(office, 'box.test')}\nsecond.test = second.test@{HOST}.{office.port('SMTP')}.smtp"
    await hold_for(provider, office)
    await provider.update("Router", Table=table)
    assert (await provider.mail("bob@second.test", sender="bob@provider.test")).startswith("250")
    await trio.sleep(0.4)
    assert await office.inbox("bob") == []
    line = await provider.connect("SMTP")
    await line.smtp("EHLO office.box.test")
    assert (await line.smtp("ETRN box.test"))[:1] == "2"
    await holds(office, "ann", 1)
    await holds(office, "bob", 1)


@pytest.mark.feature("DIAL-046", "DIAL-043")
async def test_an_operator_releases_a_queue(site: tuple[House, House]) -> None:
    office, provider = site
    await hold_for(provider, office)
    cli = await provider.cli()
    queues = await cli("ListQueues")
    assert isinstance(queues, list)
    (name,) = {str(q["Host"]) for q in queues if isinstance(q, dict) and q["Module"] == "SMTP"}
    await cli(f'RELEASESMTPQUEUE "{name}"')
    await holds(office, "ann", 1)
