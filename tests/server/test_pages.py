"""Every page of the WebAdmin Interface on the running server."""

from __future__ import annotations

import base64
import re

import trio

from tests.server.conftest import POSTMASTER, House


async def test_every_page_that_is_linked_can_be_opened(house: House) -> None:
    """From the entrance on, as somebody who clicks everything; with something in the queue and in the logs."""
    cli = await house.cli()
    await cli("CreateGroup team {Members=(ann);}")
    await cli("CreateDomain client.test")
    await house.update("Schedule", Schedule=[{"Day": "Monday", "From": "00:00", "To": "00:01"}])
    assert (await house.mail("x@away.test")).startswith("250")
    seen: set[str] = set()
    ahead = ["/"]
    while ahead:
        path = ahead.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            answer = await house.page(path)
        except trio.TooSlowError:
            raise AssertionError(f"{path}: no answer") from None
        assert answer.status == 200, f"{path}: {answer.status}"
        if "<html" in answer.body.lower():
            ahead += [link.partition("#")[0] for link in re.findall(r'href="(/[^"]*)"', answer.body)]
        assert len(seen) < 200
    assert len(seen) > 25
    assert any(path.startswith("/Monitors/Queue/") for path in seen)
    log = await house.log()
    assert not house.crashes(log) and "Traceback" not in log


async def test_a_browser_that_is_stopped_while_it_sends_is_no_crash(house: House) -> None:
    line = await house.connect("HTTPA", greeting=False)
    words = base64.b64encode(f"postmaster:{POSTMASTER}".encode()).decode()
    await line.send(
        f"POST /Settings/Router HTTP/1.1\r\nHost: box.test\r\nAuthorization: Basic {words}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5000\r\n\r\nTable=".encode()
    )
    await trio.sleep(0.2)
    await line.aclose()
    await trio.sleep(0.2)
    log = await house.log()
    assert not house.crashes(log) and "Traceback" not in log
    assert (await house.page("/Settings/Router")).status == 200
