"""Servers that write to each other, all in this process: they share nothing."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.interop.pillarbox import PASSWORD, Setup
from tests.server.conftest import HOST, House, living, until


async def introduce(one: House, other: House) -> None:
    """`one` knows where the other's domain is."""
    name = other.setup.main_domain
    await one.update("Router", Table=f"{name} = {name}@{HOST}.{other.port('SMTP')}.smtp")


async def pair(stack: AsyncExitStack, folder: Path, loopback: bool = False) -> tuple[House, House]:
    left = await stack.enter_async_context(
        living(folder / "left", Setup(main_domain="left.test", accounts=("ann",)), loopback=loopback)
    )
    right = await stack.enter_async_context(
        living(folder / "right", Setup(main_domain="right.test", accounts=("bob",)), loopback=loopback)
    )
    await introduce(left, right)
    await introduce(right, left)
    return left, right


@pytest.mark.parametrize("loopback", [False, True], ids=["direct", "serialised"])
async def test_two_servers_in_one_process_exchange_mail(tmp_path: Path, loopback: bool) -> None:
    async with AsyncExitStack() as stack:
        left, right = await pair(stack, tmp_path, loopback=loopback)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(left.mail, "bob@right.test", f"Subject: to {number}\r\n\r\ntext", "ann@left.test")
                nursery.start_soon(right.mail, "ann@left.test", f"Subject: fro {number}\r\n\r\ntext", "bob@right.test")

        async def complete(house: House, name: str) -> bool:
            return len(await house.inbox(name)) == 5

        await until(lambda: complete(right, "bob"))
        await until(lambda: complete(left, "ann"))
        got = await right.inbox("bob")
        assert sorted(text.partition("Subject: ")[2][:4] for text in got) == [f"to {n}" for n in range(5)]
        assert all(text.count("Received: ") == 2 for text in got)
        for house, foreign in ((left, "right.test"), (right, "left.test")):
            assert not house.crashes(await house.log())
            cli = await house.cli()
            assert foreign not in str(await cli("ListDomains"))
            sessions = house.server.sessions
            assert all(session.account != f"bob@{foreign}" for session in sessions)


async def test_an_unknown_name_over_there_comes_back_as_a_report(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        left, right = await pair(stack, tmp_path)
        await left.mail("nobody@right.test", "Subject: lost\r\n\r\ntext", "ann@left.test")

        async def reported() -> bool:
            return bool(await left.inbox("ann"))

        await until(reported, 30)
        (report,) = await left.inbox("ann")
        assert "Action: failed" in report and "nobody@right.test" in report and "550" in report
        assert not right.crashes(await right.log())


async def test_mail_reads_over_imap_while_the_writer_restarts(tmp_path: Path) -> None:
    """The second life finds what the first one left."""
    setup = Setup(accounts=("ann", "bob"))
    async with living(tmp_path / "base", setup) as house:
        await house.mail("bob@box.test", "Subject: first\r\n\r\ntext")
    async with living(tmp_path / "base", setup) as house:

        async def there() -> bool:
            return bool(await house.inbox("bob"))

        await until(there)
        await house.mail("bob@box.test", "Subject: second\r\n\r\ntext")
        imap = await house.imap("bob", PASSWORD)

        async def both() -> bool:
            return "* STATUS INBOX (MESSAGES 2)" in await imap.imap("STATUS INBOX (MESSAGES)")

        await until(both)
