"""A disk that fails at every call in turn: nothing that was acknowledged is lost, and nothing half-written is left."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from appliance.accounts.client import AccountError, AccountSession, Fetch, Flag, unpack
from appliance.formats.wire import to_wire
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.operations import OperationError
from tests.accounts.serving import MESSAGE, Server, server
from tests.kernel.disk_testing import FailingFiles

BIG = MESSAGE + b"x" * 3000 + b"\n"


async def story(life: Server, session: AccountSession, acknowledged: dict[str, list[bytes]]) -> None:
    """Each step may fail; what did not is written down."""
    alice = await life.account()
    for number in range(4):
        try:
            _, ticket = await life.deliver_recorded(alice, MESSAGE if number % 2 else BIG)
            life.journal.hurry()
            await ticket.durable()
            acknowledged["INBOX"].append(to_wire(MESSAGE if number % 2 else BIG))
        except AccountError as error:
            assert error.code == "TEMPORARY"
        try:
            await session.append("box", int(Flag.SEEN), [], 0, 0, to_wire(BIG))
            acknowledged["box"].append(to_wire(BIG))
        except AccountError as error:
            assert error.code == "TEMPORARY"
    opened = await session.open("INBOX")
    uids = unpack(opened.uids)
    try:
        _, _, made = await session.copy(opened.view, uids, "box")
        acknowledged["box"] += acknowledged["INBOX"][: len(made)]
    except AccountError as error:
        assert error.code == "TEMPORARY"


@pytest.mark.parametrize(
    ("code", "kind", "at"),
    [
        (errno.ENOSPC, "Text Mailbox", 0),
        (errno.EIO, "Text Mailbox", 4),
        (errno.ENOSPC, "MailDir Mailbox", 0),
        (errno.EIO, "MailDir Mailbox", 4),
    ],
)
async def test_calls_fail(tmp_path: Path, code: int, kind: str, at: int) -> None:
    """Every eighth call; the four cases together look at every fourth of each format."""
    while True:
        base = tmp_path / str(at)
        base.mkdir()
        files = FailingFiles(-1, code=code, kinds=["create", "pwritev", "fsync", "rename", "link"])
        acknowledged: dict[str, list[bytes]] = {"INBOX": [], "box": []}
        messages: dict[int, bytes] = {}
        try:
            async with server(base, disk=InLoopDisk(files)) as life:
                life.messages = messages
                await life.account(DefaultMailboxType=kind)
                session = await life.session()
                await session.create("box")
                files.fail_at = files.calls + at
                await story(life, session, acknowledged)
                files.fail_at = -1
        except* Exception as group:  # a sync that failed stops the server
            assert files.failed, group
        async with server(base, messages=messages) as life:
            session = await life.session()
            for name, expected in acknowledged.items():
                opened = await session.open(name)
                rows = await session.fetch(opened.view, unpack(opened.uids), Fetch.NOTHING, "")
                contents = [row.content for row in rows]
                for content in expected:
                    assert content in contents, f"call {at}: {files.fail_at} {name}"
                    contents.remove(content)
                assert set(contents) <= {to_wire(BIG), to_wire(MESSAGE)}
        if not files.failed:
            break
        at += 8
    assert at > 10


async def test_a_full_disk_keeps_an_account_open_until_it_is_safe(tmp_path: Path, autojump_clock: MockClock) -> None:
    files = FailingFiles(-1, times=None, kinds=["create", "pwritev"])
    async with server(tmp_path, disk=InLoopDisk(files), idle=5) as life:
        alice = await life.account()
        session = await life.session()
        await session.append("INBOX", 0, [], 0, 0, to_wire(BIG))
        await session.aclose()
        files.fail_at = files.calls
        files.kinds = frozenset({"create"})
        await trio.sleep(30)
        assert life.accounts.is_open(alice)
        with pytest.raises(OperationError, match="cannot be made safe"):
            await life.domains.rename_account(alice, "alicia")
        files.fail_at = -1
        session = await life.session()
        assert (await session.status("INBOX"))["MESSAGES"] == 1
        await session.aclose()
        await trio.sleep(30)
        assert not life.accounts.is_open(alice)
        await life.domains.rename_account(alice, "alicia")
        await trio.sleep(2)
        assert (await (await life.session("alicia")).status("INBOX"))["MESSAGES"] == 1
