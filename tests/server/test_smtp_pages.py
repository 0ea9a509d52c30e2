"""SMTP's settings, Wake Up Now, and the monitor of connections and host queues, on a running server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.interop.pillarbox import PASSWORD
from tests.server.conftest import HOST, House, Refusal, until


class Stub:
    """Something that listens: it greets, and answers 250 to all that it is told; or says nothing at all."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.mute = False
        self.port = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        if self.mute:
            await trio.sleep_forever()
        await stream.send_all(b"220 stub\r\n")
        async for data in stream:
            for line in data.decode().splitlines():
                self.lines.append(line)
                await stream.send_all(b"221 bye\r\n" if line == "QUIT" else b"250 fine\r\n")


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    stub = Stub()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, stub.serve, 0)
        stub.port = listeners[0].socket.getsockname()[1]
        yield stub
        nursery.cancel_scope.cancel()


@pytest.mark.feature("SMTP-104", "DIAL-024", "SMTP-103")
async def test_wake_up_now(house: House, stub: Stub) -> None:
    page = await house.page("/Settings/SMTP")
    assert page.status == 200 and "Wake Up Now" not in page.body
    form = page.form() | {"WakeupHost": f"{HOST}:{stub.port}", "WakeupPeriod": "1h", "do-update": "1"}
    form["ATRNName"] = "somebody"
    page = await house.page("/Settings/SMTP", form)
    assert "Wake Up Now" in page.body
    await until(lambda: "ETRN box.test" in stub.lines)  # the first one, at once
    await until(lambda: house.server.smtp.wakeup.last is not None)
    stub.lines.clear()
    page = await house.page("/Settings/SMTP", {"do-wake": "1"})
    assert page.status == 200
    await until(lambda: stub.lines[-2:] == ["ETRN box.test", "QUIT"])
    assert "SMTPW-" in await house.logged("wake-up: box.test: 250 fine")
    page = await house.page("/Settings/SMTP")
    assert "done, box.test: 250 fine" in page.body
    with pytest.raises(Refusal):
        await (await house.cli("ann", PASSWORD))("WakeUpNow")


@pytest.mark.feature("SMTP-127")
async def test_the_settings_by_page_and_by_command(house: House) -> None:
    cli = await house.cli()
    settings = await cli("GetModule SMTP")
    assert isinstance(settings, dict)
    page = await house.page("/Settings/SMTP")
    for key in [
        "SendChannels",
        "ForwardTo",
        "AuthName",
        "RetryEvery",
        "KeepTrying",
        "RetryLater",
        "RetryLaterAfter",
        "WarnAfter",
        "HostChannels",
        "AddChannelAfter",
        "TLSDomains",
        "TLSPossible",
        "SizeLimit",
        "RcptLimit",
        "AdvertiseAuth",
        "Advertise8Bit",
        "VerifyPath",
        "ForceAuth",
        "WakeupPeriod",
        "WakeupHost",
        "UseATRN",
        "ATRNName",
        "RelayFrom",
        "RelayToClients",
        "RelayBackup",
        "WakeupFrom",
        "HoldDomains",
    ]:
        assert key in settings, key
        assert f'name="{key}"' in page.body, key
    await house.page("/Settings/SMTP", page.form() | {"HoldDomains": "client.com", "do-update": "1"})
    settings = await cli("GetModule SMTP")
    assert isinstance(settings, dict) and "client.com" in str(settings["HoldDomains"])
    await cli("UpdateModule SMTP {HostChannels=7;}")
    assert 'value="7"' in (await house.page("/Settings/SMTP")).body
    assert (await house.page("/Settings/SMTP", name="ann", password=PASSWORD)).status == 401


@pytest.mark.feature("SMTP-128", "SMTP-129")
async def test_the_monitor(house: House, stub: Stub) -> None:
    stub.mute = True
    await house.update("SMTP", LogLevel="4")
    hop = f"{HOST}.{stub.port}.smtp"
    await house.update("Router", Table=f"slow.test = slow.test@{hop}\ndead.test = dead.test@{HOST}.1.smtp")
    assert (await house.mail("zoe@slow.test")).startswith("250")
    assert (await house.mail("zoe@dead.test")).startswith("250")
    incoming = await house.connect("SMTP")
    await until(lambda: "SMTPO" in {session.tag for session in house.server.sessions})
    await house.logged("the queue waits for")
    page = await house.page("/Monitors/SMTP")
    assert page.status == 200
    assert f"[{HOST}:{stub.port}]" in page.body and "next attempt" in page.body
    assert "connecting" in page.body
    assert page.body.count('name="do-end:') >= 2  # the incoming and the outgoing one
    before = (await house.log()).count("the queue waits for")
    page = await house.page("/Monitors/SMTP", {f"do-release:[{HOST}:1]": "1"})
    assert page.status == 200

    async def again() -> bool:
        return (await house.log()).count("the queue waits for") > before

    await until(again)
    page = await house.page("/Monitors/SMTP", {f"do-reject:[{HOST}:1]": "1", "text": "we gave this host up"})
    assert page.status == 200

    async def told() -> bool:
        return any("we gave this host up" in text for text in await house.inbox())

    await until(told, 20)
    await incoming.aclose()
