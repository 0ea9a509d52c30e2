"""An INBOX in the mail spool of other programs, on the running server."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from appliance.mailstore import external
from appliance.modules.local import delivery
from tests.server.conftest import House, Refusal, until


@pytest.mark.feature("MBOX-106", "MBOX-107", "MBOX-110", "ACC-057", "ACC-058", "ACC-059")
async def test_mail_for_a_locked_spool_file_waits_and_comes(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert delivery.TROUBLE == 60  # a minute, which the test does not wait
    monkeypatch.setattr(delivery, "TROUBLE", 0.5)
    monkeypatch.setattr(external, "WAIT", 0.1)
    await house.update("LOCAL", LogLevel="4")
    spool = tmp_path / "spool"
    spool.mkdir()
    cli = await house.cli()
    with pytest.raises(Refusal, match="location"):
        await cli('CreateAccount "joe" EXTERNAL {Password="pw";}')
    await cli(f'UpdateDomainSettings "box.test" {{ExternalLocation="{spool}/*";}}')
    path = spool / "joe"
    path.write_bytes(b"From a@b.example Fri Jul  8 12:08:34 2011\nSubject: old\n\nold text\n\n")
    await cli('CreateAccount "joe" EXTERNAL {Password="pw";}')
    assert len(await house.inbox("joe")) == 1
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert (await house.mail("joe@box.test", "Subject: new\r\n\r\nnew text")).startswith("250")
        await house.logged("not stored in joe@box.test now")
        assert b"new text" not in path.read_bytes()
    await until(lambda: b"new text" in path.read_bytes())
    assert path.read_bytes().count(b"new text") == 1
    assert len(await house.inbox("joe")) == 2
    await cli('CreateAccount "jim" EXTERNAL {Password="pw";}')
    assert await house.inbox("jim") == []
    assert (spool / "jim").read_bytes() == b""
