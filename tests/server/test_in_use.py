"""Objects that somebody uses, and settings that are acts, on the running server."""

from __future__ import annotations

import pytest

from tests.server.conftest import House, Refusal, until


@pytest.mark.feature("ACCT-079", "ACCT-084", "CLI-025", "CLI-026", "DOM-114")
async def test_an_account_in_use_is_neither_renamed_nor_removed(house: House) -> None:
    cli = await house.cli()
    reader = await house.imap("ann")
    assert (await reader.imap("SELECT INBOX"))[-1].startswith("a OK")
    for command in ('RenameAccount "ann" INTO "eve"', 'DeleteAccount "ann"'):
        with pytest.raises(Refusal, match="in use"):
            await cli(command)
    assert (await reader.imap("NOOP"))[-1].startswith("a OK")
    await reader.imap("LOGOUT")
    await reader.aclose()

    async def renamed() -> bool:
        try:
            await cli('RenameAccount "ann" INTO "eve"')
        except Refusal:
            return False
        return True

    await until(renamed)
    other = await house.imap("eve")
    await other.aclose()


@pytest.mark.feature("ADM-040")
async def test_the_main_domain_is_renamed_where_its_setting_is_changed(house: House) -> None:
    cli = await house.cli()
    before = str(await cli("MainDomainName"))
    await house.update("General", DomainName="renamed.test")
    cli = await house.cli()
    assert await cli("MainDomainName") == "renamed.test"
    assert (await house.mail("ann@renamed.test", sender="x@y.example"))[:3] == "250"
    assert before != "renamed.test"
