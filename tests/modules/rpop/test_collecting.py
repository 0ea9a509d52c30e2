"""Individual remote mailboxes are collected by a whole server, as its users see it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trustme

from appliance.modules.rpop import polling
from tests.modules.rpop.acts import MAIL, collect, idle, poll, record, state, subjects
from tests.modules.rpop.remote import RemoteImap, RemotePop, serving
from tests.server.conftest import House, Refusal, living, until


@pytest.mark.feature("RPOP-001", "RPOP-063", "RPOP-072", "QUEUE-002", "STD-076", "RPOP-024")
async def test_messages_come_to_the_account_and_leave_the_server(box: House, remote: RemotePop) -> None:
    async with serving(remote):
        await collect(box, "ann", record(remote))
        assert await subjects(box, "ann", 2) == ["one", "two"]
        await idle(box)
    assert remote.messages == {}
    texts = await box.inbox("ann")
    assert texts[1].endswith("This is two.\n.dotted\n..twice") or ".dotted" in texts[1]
    assert "To: somebody@else.test" in texts[0]
    assert await box.inbox("bob") == []
    log = await box.log()
    assert "RPOP" in log and "RETR 1" in log and "collected from office@" in log
    assert "secret" not in log
    assert not box.crashes(log)


@pytest.mark.feature("RPOP-015", "RPOP-016")
async def test_what_is_left_on_the_server_comes_once_over_restarts_too(tmp_path: Path, remote: RemotePop) -> None:
    remote.uids = lambda number, uid: f"{number} {uid} with blanks \x7f and more" + "x" * 200
    async with serving(remote):
        async with living(tmp_path / "base") as box:
            await box.update("RPOP", AllowSelfPoll="YES")
            await collect(box, "ann", record(remote, leave="YES"))
            assert await subjects(box, "ann", 2) == ["one", "two"]
            remote.put("u3", MAIL.format("three"))
            await poll(box, "ann")
            assert await subjects(box, "ann", 3) == ["one", "two", "three"]
            del remote.messages["u1"]
        async with living(tmp_path / "base") as box:
            await poll(box, "ann")
            assert await subjects(box, "ann", 3) == ["one", "two", "three"]
            remembered = next((tmp_path / "base").rglob("account.rpop")).read_text()
            assert remembered.count("sha256:") == 2
    assert sorted(remote.messages) == ["u2", "u3"]
    assert remote.fetched == ["u1", "u2", "u3"]


@pytest.mark.feature("RPOP-018")
async def test_leaving_needs_uids(box: House, remote: RemotePop) -> None:
    remote.uidl = False
    async with serving(remote):
        await collect(box, "ann", record(remote, leave="YES"))
        await idle(box)
        (row,) = await state(box, "ann")
    assert "UIDL" in row["Error"] and row["State"] == "failed" and remote.fetched == []


@pytest.mark.feature("RPOP-017")
async def test_a_server_that_tells_no_counts(box: House, remote: RemotePop) -> None:
    remote.quiet = True
    async with serving(remote):
        await collect(box, "ann", record(remote, leave="YES"))
        await subjects(box, "ann", 2)
        await poll(box, "ann")
    assert remote.fetched == ["u1", "u2"]


@pytest.mark.feature("RPOP-002")
async def test_a_quit_that_is_not_confirmed_doubles_nothing(box: House, remote: RemotePop) -> None:
    remote.drop_at = "QUIT"
    async with serving(remote):
        await collect(box, "ann", record(remote))
        assert await subjects(box, "ann", 2) == ["one", "two"]
        await idle(box)
        (row,) = await state(box, "ann")
        assert "not confirmed" in row["Error"] and len(remote.messages) == 2
        remote.drop_at = ""
        remote.put("u3", MAIL.format("three"))
        await poll(box, "ann")
        assert await subjects(box, "ann", 3) == ["one", "two", "three"]
    assert remote.messages == {} and remote.fetched == ["u1", "u2", "u3"]


@pytest.mark.feature("RPOP-002")
async def test_a_line_that_breaks_in_a_message_loses_and_doubles_nothing(box: House, remote: RemotePop) -> None:
    for number in range(3, 8):
        remote.put(f"u{number}", MAIL.format(number))
    remote.drop_at = "RETR 4"
    async with serving(remote):
        await collect(box, "ann", record(remote))
        await until(lambda: remote.sessions >= 2)
        remote.drop_at = ""
        await idle(box)
        await poll(box, "ann")
        assert await subjects(box, "ann", 7) == ["one", "two", "3", "4", "5", "6", "7"]
    assert remote.messages == {}
    assert sorted(remote.fetched) == sorted(f"u{number}" for number in range(1, 8))


@pytest.mark.feature("RPOP-009")
async def test_a_message_that_breaks_off_is_not_half_delivered(box: House, remote: RemotePop) -> None:
    remote.drop_after = 60
    async with serving(remote):
        await collect(box, "ann", record(remote))
        await until(lambda: remote.sessions and not remote.drop_after)
        await idle(box)
        (row,) = await state(box, "ann")
        assert row["State"] == "failed" and await box.inbox("ann") == []
        await poll(box, "ann")
        assert await subjects(box, "ann", 2) == ["one", "two"]


async def test_without_uids_little_is_at_stake(box: House, remote: RemotePop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "WITHOUT_UIDS", 2)
    remote.uidl = False
    for number in range(3, 6):
        remote.put(f"u{number}", MAIL.format(number))
    async with serving(remote):
        await collect(box, "ann", record(remote))
        assert await subjects(box, "ann", 5) == ["one", "two", "3", "4", "5"]
        await idle(box)
    assert remote.messages == {} and remote.sessions == 3 and remote.commands.count("QUIT") == 3


async def test_uids_that_are_not_unique_lose_nothing(box: House, remote: RemotePop) -> None:
    remote.uids = lambda number, uid: f"{number} same"
    async with serving(remote):
        await collect(box, "ann", record(remote))
        assert await subjects(box, "ann", 2) == ["one", "two"]
        await idle(box)
    assert remote.messages == {}


@pytest.mark.feature("RPOP-021", "QUEUE-034", "QUEUE-036")
async def test_messages_that_are_not_taken_block_nobody(box: House, remote: RemotePop) -> None:
    cli = await box.cli()
    await cli('SetBanned {HeaderLines = ("X-Bad: yes"); BodyLines = ("buy now");}')
    remote.messages.clear()
    remote.put("bad1", "X-Bad: yes\n" + MAIL.format("banned header"))
    remote.put("bad2", MAIL.format("long field") + "")
    remote.messages["bad2"] = b"Subject: " + b"y" * 120_000 + b"\r\n\r\ntext\r\n"
    remote.put("bad3", MAIL.format("banned line") + "buy now\n" + "rest\n" * 10)
    remote.put("good", MAIL.format("good"))
    async with serving(remote):
        await collect(box, "ann", record(remote))
        assert await subjects(box, "ann", 1) == ["good"]
        await idle(box)
        assert sorted(remote.messages) == ["bad1", "bad2", "bad3"]
        (row,) = await state(box, "ann")
        assert "stays on the server" in row["Error"] and row["Last"]
        before = list(remote.fetched)
        cli = await box.cli()
        await cli(
            f'SetAccountRPOP ann ({{authName=office; domain="127.0.0.1:{remote.port}"; password=secret; period=30s;}})'
        )
        box.server.rpop.scheduler.of(box.server.domains.main.account("ann"))[0].begun = -1e9
        box.server.rpop.scheduler.refresh()
        await until(lambda: remote.sessions == 2)
        await idle(box)
        assert remote.fetched == before
        await cli("SetBanned {}")
        await poll(box, "ann")
        assert sorted(await subjects(box, "ann", 3)) == ["banned header", "banned line", "good"]


async def test_a_message_over_the_limit_stays_and_is_not_even_fetched(box: House, remote: RemotePop) -> None:
    await box.update("Queue", MessageSizeLimit="100K")
    remote.put("big", MAIL.format("big") + "x" * 70 + "\n" * 200_000)
    remote.put("liar", MAIL.format("liar") + ("x" * 70 + "\n") * 3000)
    remote.sizes["liar"] = 500
    remote.put("last", MAIL.format("last"))
    async with serving(remote):
        await collect(box, "ann", record(remote))
        assert await subjects(box, "ann", 3) == ["one", "two", "last"]
        await idle(box)
    assert sorted(remote.messages) == ["big", "liar"] and "big" not in remote.fetched


@pytest.mark.feature("RPOP-012", "RPOP-013")
@pytest.mark.parametrize(
    ("wanted", "module", "stamp", "used"),
    [
        ("YES", "YES", "<1.2@host>", True),
        ("NO", "YES", "<1.2@host>", False),
        ("YES", "NO", "<1.2@host>", False),
        ("YES", "YES", "", False),
    ],
)
async def test_apop_if_all_three_say_so(
    box: House, remote: RemotePop, wanted: str, module: str, stamp: str, used: bool
) -> None:
    await box.update("RPOP", UseAPOP=module)
    remote.stamp = stamp
    async with serving(remote):
        await collect(box, "ann", record(remote, APOP=wanted))
        await subjects(box, "ann", 2)
    assert any(command.startswith("APOP") for command in remote.commands) == used
    assert ("PASS secret" in remote.commands) != used


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.feature("RPOP-014")
async def test_tls_is_used_where_it_is_asked_for_or_offered(
    box: House, remote: RemotePop, authority: trustme.CA
) -> None:
    import ssl

    remote.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(remote.context)
    async with serving(remote):
        await collect(box, "ann", record(remote, TLS="STLS"))
        await idle(box)
        (row,) = await state(box, "ann")
        assert "TLS" in row["Error"] and "USER office" not in remote.commands
        await collect(box, "ann", record(remote, TLS="STLS", verify="NO"))
        assert await subjects(box, "ann", 2) == ["one", "two"]
        await idle(box)
        remote.put("u3", MAIL.format("three"))
        remote.commands.clear()
        await collect(box, "ann", record(remote))
        await poll(box, "ann")
        assert await subjects(box, "ann", 3) and "STLS" in remote.commands
        assert "with POP3S" in (await box.inbox("ann"))[2]
        remote.context = None
        remote.commands.clear()
        await collect(box, "ann", record(remote, TLS="STLS", verify="NO"))
        await poll(box, "ann")
        assert "USER office" not in remote.commands


@pytest.mark.feature("RPOP-014")
async def test_tls_before_the_greeting_and_imap(box: House, authority: trustme.CA) -> None:
    import ssl

    remote = RemoteImap(context=ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    assert remote.context is not None
    authority.issue_cert("127.0.0.1").configure_cert(remote.context)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)

    async def context(verify: bool) -> ssl.SSLContext:
        assert verify
        return ours

    box.server.rpop.connector.context = context
    remote.put(4, MAIL.format("four"))
    async with serving(remote):
        await collect(box, "ann", record(remote, TLS="YES"))
        assert await subjects(box, "ann", 1) == ["four"]
        await idle(box)
    assert remote.mailboxes["INBOX"] == {}
    assert "with IMAPS" in (await box.inbox("ann"))[0]


async def test_imap_collects_a_mailbox_and_removes_only_what_it_took(box: House) -> None:
    remote = RemoteImap(deleted={5})
    for uid, name in ((4, "four"), (5, "gone"), (9, "nine")):
        remote.put(uid, MAIL.format(name))
    remote.put(1, MAIL.format("other"), "Bills")
    async with serving(remote):
        await collect(box, "ann", record(remote), record(remote, mailbox="Bills", leave="YES"))
        assert sorted(await subjects(box, "ann", 3)) == ["four", "nine", "other"]
        await idle(box)
    assert list(remote.mailboxes["INBOX"]) == [5] and list(remote.mailboxes["Bills"]) == [1]
    assert 'EXAMINE "Bills"' in remote.commands


async def test_imap_without_uidplus_touches_nothing_of_others(box: House) -> None:
    remote = RemoteImap(deleted={5}, capabilities="IMAP4rev1")
    remote.put(4, MAIL.format("four"))
    remote.put(5, MAIL.format("gone"))
    async with serving(remote):
        await collect(box, "ann", record(remote))
        assert await subjects(box, "ann", 1) == ["four"]
        await idle(box)
        assert "EXPUNGE" not in remote.commands and sorted(remote.mailboxes["INBOX"]) == [4, 5]
        remote.deleted.discard(5)
        await poll(box, "ann")
        assert sorted(await subjects(box, "ann", 2)) == ["four", "gone"]
    assert remote.mailboxes["INBOX"] == {} and remote.fetched == [4, 5]


async def test_imap_left_on_the_server_comes_once_until_the_validity_changes(box: House) -> None:
    remote = RemoteImap()
    for uid in (4, 6, 9):
        remote.put(uid, MAIL.format(uid))
    async with serving(remote):
        await collect(box, "ann", record(remote, leave="YES"))
        await subjects(box, "ann", 3)
        await idle(box)
        remote.put(12, MAIL.format(12))
        await poll(box, "ann")
        assert await subjects(box, "ann", 4) == ["4", "6", "9", "12"]
        await idle(box)
        assert 'Numbers = "4:9,12"' in next(box.base.rglob("account.rpop")).read_text()
        remote.validity = 8
        await poll(box, "ann")
        assert len(await subjects(box, "ann", 8)) == 8
        remote.mailboxes["INBOX"].clear()
        await poll(box, "ann")
        (row,) = await state(box, "ann")
        assert row["Error"] == ""


async def test_imap_that_breaks_before_the_removal_doubles_nothing(box: House) -> None:
    remote = RemoteImap(drop_at="UID STORE")
    remote.put(4, MAIL.format("four"))
    async with serving(remote):
        await collect(box, "ann", record(remote))
        await subjects(box, "ann", 1)
        await idle(box)
        remote.drop_at = ""
        await poll(box, "ann")
        assert await subjects(box, "ann", 1) == ["four"]
    assert remote.fetched == [4] and remote.mailboxes["INBOX"] == {}


@pytest.mark.feature("RPOP-019")
async def test_nobody_collects_from_this_server_itself_unless_it_is_allowed(box: House, remote: RemotePop) -> None:
    await box.update("RPOP", AllowSelfPoll="NO")
    async with serving(remote):
        await collect(box, "ann", record(remote))
        await idle(box)
        (row,) = await state(box, "ann")
        assert "this server itself" in row["Error"] and remote.sessions == 0
        # Once it is allowed, the delay after the failure is no more.
        await box.update("RPOP", AllowSelfPoll="YES")
        assert await subjects(box, "ann", 2)


@pytest.mark.feature("RPOP-009", "RPOP-066")
async def test_the_last_result_is_shown(box: House, remote: RemotePop) -> None:
    async with serving(remote):
        await collect(box, "ann", record(remote, password="wrong"))
        await idle(box)
        (row,) = await state(box, "ann")
        assert "wrong password" in row["Error"] and row["Last"] == "" and row["State"] == "failed"
        assert 1700 <= int(row["Next"]) - box.server.clock.now() <= 1801
        await collect(box, "ann", record(remote))
        await subjects(box, "ann", 2)
        await idle(box)
        (row,) = await state(box, "ann")
        assert row["Error"] == "" and abs(int(row["Last"]) - box.server.clock.now()) < 20


@pytest.mark.feature("RPOP-010", "RPOP-011", "DIAL-034")
async def test_the_next_address_of_a_list_is_used(box: House, remote: RemotePop) -> None:
    dead = trio.socket.socket()
    await dead.bind(("127.0.0.1", 0))
    async with serving(remote):
        hosts = f"127.0.0.1:{dead.getsockname()[1]}, 127.0.0.1:{remote.port}"
        await collect(box, "ann", record(remote, domain=hosts))
        assert await subjects(box, "ann", 2) == ["one", "two"]
    dead.close()


@pytest.mark.feature("RPOP-020")
async def test_garbage_harms_no_other(box: House, remote: RemotePop) -> None:
    async def garbage(stream: trio.SocketStream) -> None:
        await stream.send_all(b"\x00\xff<<<>>>" * 3000 + b"\r\n")
        await stream.aclose()

    async with serving(remote), trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, garbage, [listener])
        bad = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        await collect(box, "ann", record(remote, domain=bad), record(remote))
        assert await subjects(box, "ann", 2) == ["one", "two"]
        await idle(box)
        rows = await state(box, "ann")
        assert [row["State"] for row in rows] == ["failed", "waiting"]
        nursery.cancel_scope.cancel()
    assert not box.crashes(await box.log())


@pytest.mark.feature("RPOP-060", "RPOP-071")
async def test_records_follow_the_account(box: House, remote: RemotePop) -> None:
    other = RemotePop(name="second")
    other.put("x1", MAIL.format("from the second"))
    third = RemotePop(name="third")
    async with serving(remote, other, third):
        await collect(box, "ann", record(remote, leave="YES"), record(other), record(third))
        assert sorted(await subjects(box, "ann", 3)) == ["from the second", "one", "two"]
        await idle(box)
        cli = await box.cli()
        assert "office" in (box.base / "Accounts/Settings/RPOP.data").read_text()
        await cli("RenameAccount ann into carol")
        remote.put("u3", MAIL.format("three"))
        await poll(box, "carol")
        assert sorted(await subjects(box, "carol", 4)) == ["from the second", "one", "three", "two"]
        assert remote.fetched == ["u1", "u2", "u3"]
        await cli("DeleteAccount carol")
        assert await state(box) == []
        assert "office" not in (box.base / "Accounts/Settings/RPOP.data").read_text()


@pytest.mark.feature("RPOP-071")
async def test_a_poll_ends_before_its_account_goes(box: House, remote: RemotePop) -> None:
    remote.gate = trio.Event()
    async with serving(remote):
        await collect(box, "ann", record(remote))
        await until(lambda: "RETR 1" in remote.commands)
        cli = await box.cli()
        await cli("DeleteAccount ann")
        remote.gate.set()
        await trio.sleep(0.1)
    assert len(remote.messages) == 2
    assert not box.crashes(await box.log())


@pytest.mark.feature("RPOP-022")
async def test_settings_may_change_while_it_polls(box: House, remote: RemotePop) -> None:
    remote.gate = trio.Event()
    async with serving(remote):
        await collect(box, "ann", record(remote))
        await until(lambda: "RETR 1" in remote.commands)
        await collect(box, "ann", record(remote, period="2m"))
        await box.update("RPOP", Channels="0")
        await box.update("RPOP", Channels="5", DelayFailedHosts="1h")
        await collect(box, "ann", record(remote, period="2m", APOP="YES"))
        remote.gate.set()
        assert sorted(await subjects(box, "ann", 2)) == ["one", "two"]
        await idle(box)
        (row,) = await state(box, "ann")
        assert row["Period"] == "2m" and row["Error"] == ""
    assert remote.messages == {} and len(await box.inbox("ann")) == 2 and not box.crashes(await box.log())


@pytest.mark.feature("RPOP-064")
async def test_rules_of_the_server_and_of_the_account_are_applied(box: House, remote: RemotePop) -> None:
    cli = await box.cli()
    await cli('SetServerRules ((5,mark,(),(("Add Header","X-Seen: by the server"))))')
    await cli("SetAccountRules ann ((5,drop,((Subject,is,two)),((Discard))))")
    async with serving(remote):
        await collect(box, "ann", record(remote))
        await box.logged("[2] ann@box.test delivered")
        assert await subjects(box, "ann", 1) == ["one"]
        await idle(box)
    (text,) = await box.inbox("ann")
    assert "X-Seen: by the server" in text and remote.messages == {}


async def test_mail_that_goes_round_in_circles_ends(box: House, remote: RemotePop) -> None:
    remote.messages.clear()
    remote.put("loop", "Received: from x by y; z\n" * 60 + MAIL.format("loop"))
    async with serving(remote):
        await collect(box, "ann", record(remote))
        await idle(box)
        (row,) = await state(box, "ann")
    assert "hops" in row["Error"] and list(remote.messages) == ["loop"]


@pytest.mark.feature("RPOP-067", "RPOP-068")
async def test_users_have_limits_and_administrators_have_none(box: House, remote: RemotePop) -> None:
    from tests.interop.pillarbox import PASSWORD

    user = await box.cli("ann", PASSWORD)
    one = '{authName=a%d; domain="127.0.0.1"; password=x; period=%s;}'
    with pytest.raises(Refusal, match="may not change"):
        await user(f"SetAccountRPOP * ({one % (1, '1h')})")
    cli = await box.cli()
    await cli("UpdateAccountSettings ann {RPOPAllowed=YES;}")
    with pytest.raises(Refusal, match="15m"):
        await user(f"SetAccountRPOP * ({one % (1, '1m')})")
    await user(f"SetAccountRPOP * ({one % (1, '1h')}, {one % (2, '1h')}, {one % (3, '1h')})")
    with pytest.raises(Refusal, match="3 remote"):
        await user(f"SetAccountRPOP * ({','.join(one % (n, '1h') for n in range(4))})")
    await cli(f"SetAccountRPOP ann ({','.join(one % (n, '1m') for n in range(4))})")
    records = await user("GetAccountRPOP *")
    assert isinstance(records, list) and len(records) == 4
    with pytest.raises(Refusal):
        await user("SetAccountRPOP bob ()")


@pytest.mark.feature("RPOP-069")
async def test_a_domain_has_a_limit(box: House) -> None:
    cli = await box.cli()
    one = '{authName=a%d; domain="127.0.0.1"; password=x; period=1h;}'
    await cli("UpdateDomainSettings box.test {RPOPLimit=2;}")
    await cli(f"SetAccountRPOP ann ({one % 1}, {one % 2})")
    with pytest.raises(Refusal, match="2 remote"):
        await cli(f"SetAccountRPOP bob ({one % 3})")
    await cli("UpdateDomainSettings box.test {RPOPLimit=0;}")
    await cli("SetAccountRPOP ann ()")
    with pytest.raises(Refusal):
        await cli(f"SetAccountRPOP ann ({one % 3})")


@pytest.mark.feature("RPOP-072", "RPOP-073")
async def test_passwords_are_sealed_and_can_be_written_back(box: House, remote: RemotePop) -> None:
    async with serving(remote):
        await collect(box, "ann", record(remote, extra="kept"))
        await subjects(box, "ann", 2)
        cli = await box.cli()
        records = await cli("GetAccountRPOP ann")
        assert isinstance(records, list) and isinstance(records[0], dict)
        assert records[0]["authName"] == "office" and records[0]["extra"] == "kept"
        assert "secret" not in str(records)
        assert "secret" not in (box.base / "Accounts/Settings/RPOP.data").read_text()
        await collect(box, "bob", records[0])
        remote.put("u3", MAIL.format("three"))
        await poll(box, "bob")
        assert "three" in await subjects(box, "bob", 1)
    for wrong in (
        "{authName=a;}",
        "{domain=b;}",
        '{authName=a; domain="x y";}',
        "{authName=a; domain=b; period=often;}",
    ):
        with pytest.raises(Refusal):
            await cli(f"SetAccountRPOP ann ({wrong})")
