"""Unified domain-wide accounts: one remote mailbox with the mail of a whole domain, distributed by a whole server."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.data import Value
from appliance.kernel.log import MemoryLog
from appliance.kernel.operations import Caller
from appliance.modules.rpop.distribution import Distribution
from appliance.modules.rpop.records import read
from appliance.router.route import Purpose, Refused, Route
from tests.modules.rpop.acts import Router, collect, idle, poll, record, state, subjects, unified
from tests.modules.rpop.remote import RemotePop, serving
from tests.server.conftest import POSTMASTER, House, Refusal, until


def mail(header: str, subject: str = "x") -> str:
    return f"{header}\nFrom: someone@far.test\nSubject: {subject}\nDate: x\n\ntext\n"


async def postmaster(box: House, count: int) -> str:
    """All texts of the postmaster's INBOX, once so many are there."""
    found: list[str] = []

    async def there() -> bool:
        line = await box.connect("POP")
        await line.ask("USER postmaster")
        await line.ask(f"PASS {POSTMASTER}")
        number = int((await line.ask("STAT")).split()[1])
        found.clear()
        for index in range(1, number + 1):
            await line.ask(f"RETR {index}")
            while (text := await line.line()) != ".":
                found.append(text)
        await line.aclose()
        return number >= count

    await until(there)
    return "\n".join(found)


@pytest.mark.feature("RPOP-040", "RPOP-042", "RPOP-043", "RPOP-044", "RPOP-046", "DIAL-020", "STD-077", "RPOP-053")
async def test_the_special_header_tells_whom_it_is_for(box: House, remote: RemotePop) -> None:
    cli = await box.cli()
    await cli("CreateAccount carl {Password=pw;}")
    remote.messages.clear()
    header = "Return-Path: <bounces@list.test>\nX-Real-To: ann@box.test,\n\tBOB@box.test\nTo: carl@box.test\nCc: ann@box.test"
    remote.put("u1", mail(header, "real"))
    async with serving(remote):
        await unified(box, record(remote, special="X-Real-To"))
        assert await subjects(box, "ann", 1) == ["real"] and await subjects(box, "bob", 1) == ["real"]
        await idle(box)
    for name in ("ann", "bob"):
        (text,) = await box.inbox(name)
        assert "X-Real-To" not in text and text.count("Return-Path") == 1
        assert "Return-Path: <bounces@list.test>" in text and "To: carl@box.test" in text
    assert await box.inbox("carl") == [] and remote.messages == {}
    (row,) = await state(box)
    assert row["Owner"] == "" and row["Error"] == ""


@pytest.mark.feature("RPOP-045")
async def test_the_sender_hears_of_an_unknown_real_name(box: House, remote: RemotePop) -> None:
    remote.messages.clear()
    remote.put("u1", mail("Return-Path: <bob@box.test>\nX-Real-To: nosuch@box.test\nTo: ann@box.test"))
    async with serving(remote):
        await unified(box, record(remote, special="X-Real-To"))
        found = await subjects(box, "bob", 1)
    (report,) = await box.inbox("bob")
    assert found and "nosuch@box.test" in report and "Return-Path: <>" in report
    assert await box.inbox("ann") == []


@pytest.mark.feature("RPOP-051", "DIAL-045")
async def test_bare_names_are_of_the_main_domain_or_the_one_that_the_row_names(box: House, remote: RemotePop) -> None:
    cli = await box.cli()
    await cli("CreateDomain second.test")
    await cli("CreateAccount dora@second.test {Password=pw;}")
    remote.messages.clear()
    remote.put("u1", mail("X-Real-To: ann", "first"))
    second = RemotePop(name="second")
    second.put("v1", mail("X-Real-To: dora", "second"))
    async with serving(remote, second):
        await unified(
            box, record(remote, special="X-Real-To"), record(second, special="x-real-to:", nameDomain="second.test")
        )
        assert await subjects(box, "ann", 1) == ["first"]
        await until(lambda: "dora@second.test" in "".join(p.read_text() for p in box.base.glob("SystemLogs/*")))
        await idle(box)
    line = await box.connect("POP")
    await line.ask("USER dora@second.test")
    await line.ask("PASS pw")
    assert (await line.ask("STAT")).startswith("+OK 1 ")


@pytest.mark.feature("RPOP-041", "RPOP-047", "RPOP-048", "RPOP-023", "PROT-019")
async def test_without_it_only_addresses_of_accounts_here_count(box: House, remote: RemotePop) -> None:
    remote.messages.clear()
    to = 'To: "Smith, Ann" <ann@box.test>, victim@outside.test\nTo: nosuch@box.test'
    header = f"{to}\nCc: group: bob@box.test, x@y.test;\nBcc: ann@box.test"
    remote.put("u1", mail(f"Return-Path: <ann@box.test>\n{header}", "named"))
    other = RemotePop(name="other")
    other.put("v1", mail("To: bob@box.test", "other"))
    async with serving(remote, other):
        await unified(box, record(remote), record(other))
        assert sorted(await subjects(box, "bob", 2)) == ["named", "other"]
        assert await subjects(box, "ann", 1) == ["named"]
        await idle(box)
    cli = await box.cli()
    assert await cli("ListQueues") in ([], "()")
    assert len(await box.inbox("ann")) == 1, "no report, no second copy"
    assert "victim@outside.test" not in await box.log()


@pytest.mark.feature("RPOP-049", "RPOP-065")
@pytest.mark.parametrize("individual", [False, True])
async def test_nobody_is_told_that_a_delivery_failed(box: House, remote: RemotePop, individual: bool) -> None:
    cli = await box.cli()
    await cli("UpdateAccountSettings ann {MaxAccountSize=1K;}")
    await box.update("LOCAL", LogLevel="5")
    remote.messages.clear()
    remote.put("u1", mail("Return-Path: <bob@box.test>\nTo: ann@box.test") + "x" * 5000)
    async with serving(remote):
        if individual:
            await collect(box, "ann", record(remote))
        else:
            await unified(box, record(remote))
        await until(lambda: remote.messages == {})
        await idle(box)
        await box.logged("account is full")
        await cli("RejectQueueMessage 1")
    await box.logged("[1] ann@box.test failed")
    await until(lambda: not box.server.transfer.spool.live)
    assert await box.inbox("bob") == []


@pytest.mark.feature("RPOP-050")
async def test_what_is_for_nobody_goes_to_the_postmaster(box: House, remote: RemotePop) -> None:
    remote.messages.clear()
    remote.put("u1", mail("To: members@list.test", "list mail"))
    remote.put("u2", "no header at all\n")
    async with serving(remote):
        await unified(box, record(remote))
        texts = await postmaster(box, 2)
    assert "list mail" in texts and "no header at all" in texts


@pytest.mark.feature("RPOP-023")
async def test_a_forged_special_header_relays_nothing(box: House, remote: RemotePop) -> None:
    remote.messages.clear()
    remote.put("u1", mail("X-Real-To: victim@outside.test, ann@box.test", "spam"))
    remote.put("u2", mail("X-Real-To: victim@outside.test", "only"))
    async with serving(remote):
        await unified(box, record(remote, special="X-Real-To"))
        assert await subjects(box, "ann", 1) == ["spam"]
        assert "only" in await postmaster(box, 1)
        await idle(box)
    cli = await box.cli()
    assert "outside.test" not in str(await cli("ListQueues"))
    assert "not relayed" in await box.log()


async def test_a_forged_special_header_runs_no_program(box: House, remote: RemotePop) -> None:
    remote.messages.clear()
    remote.put("u1", mail('X-Real-To: "[STDERR] touch /tmp/forged"@pipe, ann@box.test', "program"))
    async with serving(remote):
        await unified(box, record(remote, special="X-Real-To"))
        assert await subjects(box, "ann", 1) == ["program"]
        await idle(box)
    log = await box.log()
    assert "not relayed" in log and " PIPE" not in log


async def test_a_special_header_that_is_missing_leaves_the_usual_ones(box: House, remote: RemotePop) -> None:
    remote.messages.clear()
    remote.put("u1", mail("To: ann@box.test", "plain"))
    async with serving(remote):
        await unified(box, record(remote, special="X-Real-To"))
        assert await subjects(box, "ann", 1) == ["plain"]


async def test_a_group_is_an_address_here(box: House, remote: RemotePop) -> None:
    cli = await box.cli()
    await cli("CreateGroup support {Members=(ann,bob);}")
    remote.messages.clear()
    remote.put("u1", mail("To: support@box.test", "help"))
    async with serving(remote):
        await unified(box, record(remote))
        assert await subjects(box, "ann", 1) == ["help"] and await subjects(box, "bob", 1) == ["help"]


@pytest.mark.feature("RPOP-023")
async def test_collected_mail_may_go_to_all_of_a_domain_like_that_of_clients(box: House, remote: RemotePop) -> None:
    cli = await box.cli()
    await cli('UpdateDomainSettings box.test {MailToAllAction="Clients";}')
    remote.messages.clear()
    remote.put("u1", mail("Return-Path: <x@far.test>\nX-Real-To: all@box.test", "everybody"))
    async with serving(remote):
        await unified(box, record(remote, special="X-Real-To"))
        assert await subjects(box, "ann", 1) == ["everybody"] and await subjects(box, "bob", 1) == ["everybody"]


@pytest.mark.feature("RPOP-005", "RPOP-073")
async def test_the_table_by_command(box: House, remote: RemotePop) -> None:
    cli = await box.cli()
    remote.port = 9
    rows = record(remote), {**record(remote), "authName": "second", "period": "never"}
    await unified(box, *rows)
    kept = await cli("GetUnifiedRPOP")
    assert isinstance(kept, list) and len(kept) == 1 and "secret" not in str(kept)
    assert "secret" not in str(await cli("GetModule RPOP")) and "Unified" not in str(await cli("GetModule RPOP"))
    with pytest.raises(Refusal, match="record 1"):
        await unified(box, {"authName": "x"})
    with pytest.raises(Refusal):
        await (await box.cli("ann", "pw"))("GetUnifiedRPOP")
    await unified(box)
    assert await state(box) == []


@given(
    st.lists(
        st.tuples(st.sampled_from([b"To", b"X-Real-To", b"Return-Path", b"Cc"]), st.binary(max_size=30)), max_size=8
    )
)
@settings(max_examples=80, deadline=None)
def test_no_header_breaks_the_distribution(lines: list[tuple[bytes, bytes]]) -> None:
    import trio

    header = b"".join(name + b": " + value.replace(b"\n", b"\n ") + b"\n" for name, value in lines) + b"\n"
    row: dict[str, Value] = {"authName": "a", "domain": "b", "special": "X-Real-To"}
    remote = read(row, unified=True)
    log = MemoryLog().source("RPOP")

    async def run() -> None:
        found = await Distribution(Router(), lambda name: None, lambda: "box.test").address(header, remote, None, log)
        assert found.recipients and b"\nx-real-to:" not in b"\n" + found.header.lower()

    trio.run(run)


async def test_an_address_that_cannot_be_told_now_leaves_the_message_where_it_is(box: House, remote: RemotePop) -> None:
    remote.messages.clear()
    remote.put("u1", mail("To: ann@box.test", "wait"))
    real = box.server.router.route

    async def route(address: str, purpose: Purpose, caller: Caller | None = None) -> Route:
        raise Refused("the directory does not answer", permanent=False)

    poller = box.server.rpop.scheduler._poller
    poller._distribution._router.route = route  # type: ignore[method-assign]
    async with serving(remote):
        await unified(box, record(remote))
        await until(lambda: remote.fetched)
        await idle(box)
        (row,) = await state(box)
        assert "directory" in row["Error"] and list(remote.messages) == ["u1"]
        poller._distribution._router.route = real  # type: ignore[method-assign]
        await poll(box)
        assert await subjects(box, "ann", 1) == ["wait"]
