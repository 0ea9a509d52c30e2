"""Commands as an administrator types them, on the real registry of domains and accounts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.administration.cli import CommandLine
from appliance.formats.data import Value, parse, render_file
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.objects import declarations as d
from appliance.objects import operations as object_operations
from appliance.objects.domains import Domains


class FileStorage:
    def __init__(self, path: str) -> None:
        self.path = Path(path)

    async def load(self) -> dict[str, Value]:
        if not self.path.exists():
            return {}
        value = parse(self.path.read_bytes())
        assert isinstance(value, dict)
        return value

    async def save(self, values: dict[str, Value]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(render_file(dict(values)))


def storage(path: str, mode: int) -> Storage:
    return FileStorage(path)


class Office:
    def __init__(self, domains: Domains) -> None:
        self.domains = domains
        operations = Operations()
        object_operations.declare(domains, operations)
        self.line = CommandLine(operations)

    def caller(self, account: str) -> Caller:
        return Caller(account, account.rpartition("@")[2], "PWD", self.domains)

    async def say(self, line: str, who: str = "postmaster@office.test") -> Any:
        return await self.line.perform(self.caller(who), line)

    async def refused(self, line: str, who: str = "postmaster@office.test") -> int:
        with pytest.raises(OperationError) as caught:
            await self.say(line, who)
        return caught.value.code


@pytest.fixture
async def office(tmp_path: Path) -> Office:
    for part in ("Accounts", "Domains", "Settings"):
        os.mkdir(tmp_path / part)
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "office.test"}))
    await general.load()
    domains = Domains(InLoopDisk(), str(tmp_path), storage, general, server_key=b"k" * 32)
    await domains.load()
    client1 = await domains.create("client1.test")
    admin = await domains.create_account(client1, "admin")
    await domains.set_rights(admin, [Right.DOMAIN, Right.CREATE_ACCOUNTS, "RealName", "AccountsLogLevel"])
    return Office(domains)


ADMIN = "admin@client1.test"


@pytest.mark.feature("CLI-018")
@pytest.mark.parametrize("command", ["GetClusterRules", "GetClusterDomainDefaults", "CreateSharedDomain x.test"])
async def test_a_single_server_has_no_cluster_commands(office: Office, command: str) -> None:
    assert await office.refused(command) == 500


@pytest.mark.feature("CLI-019")
async def test_old_names_of_commands(office: Office) -> None:
    await office.say("CreateAccount u {RealName=Anna;}")
    assert await office.say("GetAccount u") == await office.say("GetAccountSettings u")
    await office.say("UpdateAccount u {RealName=Berta;}")
    assert (await office.say("GetAccount u"))["RealName"] == "Berta"
    await office.say("SetAccount u {MaxAccountSize=5M;}")
    assert "RealName" not in await office.say("GetAccount u")
    await office.say("UpdateDomain client1.test {AccountsLimit=7;}")
    assert await office.say("GetDomain client1.test") == await office.say("GetDomainSettings client1.test")
    await office.say("SetDomain client1.test {}")
    assert "AccountsLimit" not in await office.say("GetDomain client1.test")


@pytest.mark.feature("CLI-014", "CLI-028")
async def test_updates_merge_and_default_removes(office: Office) -> None:
    await office.say("UpdateAllAccountsDefaults {MaxAccountSize=9M;}")
    await office.say("CreateAccount u {RealName=Anna;MaxAccountSize=5M;}")
    await office.say("UpdateAccountSettings u {MaxAccountSize=default;}")
    explicit = await office.say("GetAccountSettings u")
    assert explicit["RealName"] == "Anna"
    assert "MaxAccountSize" not in explicit
    assert (await office.say("GetAccountEffectiveSettings u"))["MaxAccountSize"] == "9M"


@pytest.mark.feature("CLI-017", "CLI-028", "CLI-056")
async def test_a_domain_administrator_sets_what_he_was_granted(office: Office) -> None:
    await office.say("CreateAccount u {RealName=Anna;MaxAccountSize=5M;}", ADMIN)
    settings = await office.say("GetAccountSettings u@client1.test")
    assert settings["RealName"] == "Anna"
    assert "MaxAccountSize" not in settings
    await office.say("UpdateAccountSettings u {RealName=Berta;MaxAccountSize=5M;}", ADMIN)
    settings = await office.say("GetAccountSettings u@client1.test")
    assert settings["RealName"] == "Berta"
    assert "MaxAccountSize" not in settings
    await office.say("UpdateDomainSettings {AccountsLimit=7; AccountsLogLevel=5;}", ADMIN)
    settings = await office.say("GetDomainSettings client1.test")
    assert settings["AccountsLogLevel"] == "5"
    assert "AccountsLimit" not in settings


@pytest.mark.feature("CLI-030")
async def test_set_account_settings_replaces_and_is_for_system_administrators(office: Office) -> None:
    await office.say("CreateAccount u@client1.test {RealName=Anna;}")
    assert await office.refused("SetAccountSettings u {MaxAccountSize=5M;}", ADMIN) == 520
    await office.say("SetAccountSettings u@client1.test {MaxAccountSize=5M;}")
    settings = await office.say("GetAccountSettings u@client1.test")
    assert "RealName" not in settings
    assert settings["MaxAccountSize"] == "5M"


@pytest.mark.feature("CLI-054", "CLI-055", "CLI-066", "CLI-067", "CLI-068")
async def test_domain_settings_and_their_defaults(office: Office) -> None:
    assert await office.say("GetDomainSettings client1.test") == {}
    await office.say("UpdateDomainDefaults {AccountsLimit=77; AccountsLogLevel=5;}")
    assert (await office.say("GetDomainDefaults"))["AccountsLimit"] == "77"
    effective = await office.say("GetDomainEffectiveSettings client1.test")
    assert effective["AccountsLimit"] == "77"
    await office.say("SetDomainDefaults {AccountsLogLevel=4;}")
    assert "AccountsLimit" not in await office.say("GetDomainDefaults")
    effective = await office.say("GetDomainEffectiveSettings client1.test")
    assert effective["AccountsLogLevel"] == "4"
    assert effective["AccountsLimit"] != "77"
    assert await office.refused("UpdateDomainDefaults {AccountsLimit=1;}", ADMIN) == 520


@pytest.mark.feature("CLI-061", "CLI-062", "CLI-091")
async def test_the_template_of_a_domain(office: Office) -> None:
    await office.say("CreateAccount before")
    await office.say("UpdateAccountTemplate {MaxAccountSize=5M; RealName=New;}")
    assert await office.say("GetAccountTemplate office.test") == {"MaxAccountSize": "5M", "RealName": "New"}
    await office.say("CreateAccount after")
    assert (await office.say("GetAccountSettings after"))["MaxAccountSize"] == "5M"
    assert "MaxAccountSize" not in await office.say("GetAccountSettings before")
    await office.say("UpdateAccountTemplate {RealName=default;}")
    assert "RealName" not in await office.say("GetAccountTemplate")
    await office.say("SetAccountTemplate {RealName=Other;}")
    assert await office.say("GetAccountTemplate") == {"RealName": "Other"}


@pytest.mark.feature("CLI-074", "CLI-090", "CLI-089")
async def test_set_commands_replace_a_level(office: Office) -> None:
    await office.say("UpdateAllAccountsDefaults {MaxAccountSize=9M; MaxWebFiles=3;}")
    await office.say("SetAllAccountsDefaults {MaxWebFiles=4;}")
    assert await office.say("GetAllAccountsDefaults") == {"MaxWebFiles": "4"}
    await office.say("UpdateAccountDefaults client1.test {MaxAccountSize=9M; MaxWebFiles=3;}")
    await office.say("SetAccountDefaults client1.test {MaxWebFiles=5;}")
    assert await office.say("GetAccountDefaults client1.test") == {"MaxWebFiles": "5"}
    await office.say("UpdateDomainSettings client1.test {AccountsLimit=7; AccountsLogLevel=5;}")
    await office.say("SetDomainSettings client1.test {AccountsLogLevel=4;}")
    assert await office.say("GetDomainSettings client1.test") == {"AccountsLogLevel": "4"}
    assert await office.refused("SetDomainSettings client1.test {}", ADMIN) == 520


async def test_every_declared_command_can_be_typed(office: Office) -> None:
    """The spelling of each declaration, with a word for each parameter, is understood as it was declared."""
    samples: dict[str, Callable[[], str]] = {
        "string": lambda: "word1",
        "array": lambda: "(a)",
        "dictionary": lambda: "{a=b;}",
        "value": lambda: "x",
        "number": lambda: "7",
    }
    commands = office.line
    for operation in commands._operations.all():
        words = [operation.name]
        for parameter in operation.parameters:
            if parameter.keyword:
                words.append(parameter.keyword.lower())
            if parameter.kind == "word":
                words.append(parameter.words[0].upper())
            elif parameter.kind != "flag":
                words.append(samples[parameter.kind]())
        command = commands.parse(" ".join(words))
        assert command.operation is operation
        assert set(command.arguments) == {parameter.argument for parameter in operation.parameters}
        wanted = [parameter for parameter in operation.parameters if not parameter.optional]
        assert len(command.arguments) >= len(wanted)
