"""First-boot files: what is wrong is named with line and key, and nothing changes; what is right is applied, and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.disk import InLoopDisk
from appliance.kernel.log import MemoryLog
from appliance.kernel.operations import Caller, Operations
from appliance.kernel.settings import MemoryStorage, Settings, SettingsRegistry, Storage
from appliance.modules.local.settings import LOCAL
from appliance.objects import declarations as d
from appliance.objects import operations as object_operations
from appliance.objects.domains import Domains
from appliance.router.router import ROUTER, Router
from firmware.provision import Provision, ProvisionError

GOOD = """
[server]
main_domain = "office.example"
postmaster_password = "root pw"
router = ["<sales> = ann", "*.old.example = office.example"]

[settings.LOCAL]
Processors = 3
SendAlerts = false

[[domain]]
name = "client.example"
aliases = ["mail.client.example"]
settings = { MailToUnknown = "Discarded" }

[[account]]
name = "ann"
password = "ann pw"
real_name = "Ann"
aliases = ["anna"]
rights = ["Monitor"]
settings = { MaxAccountSize = "5M" }

[[account]]
name = "bob@client.example"
type = "TextMailbox"
password = "bob pw"

[[group]]
name = "team"
members = ["ann", "x@y.example"]

[[forwarder]]
name = "away"
to = "far@y.example"
"""


class World:
    def __init__(self, base: Path) -> None:
        self.base = base

    async def start(self) -> None:
        general = Settings(d.GENERAL, MemoryStorage({"DomainName": "host.example"}))
        await general.load()
        memory: dict[str, Storage] = {}
        self.domains = Domains(
            InLoopDisk(),
            str(self.base),
            lambda path, mode: memory.setdefault(path, MemoryStorage()),
            general,
            server_key=b"k" * 32,
        )
        await self.domains.load()
        self.registry = SettingsRegistry()
        router = self.registry.add(Settings(ROUTER, MemoryStorage()))
        self.local = self.registry.add(Settings(LOCAL, MemoryStorage()))
        self.operations = Operations()
        object_operations.declare(self.domains, self.operations)
        self.router = Router(self.domains, router, MemoryLog().source("ROUTER"))
        self.router.declare(self.operations)

    async def provision(self, text: str) -> None:
        path = self.base / "first.toml"
        path.write_text(text)
        provision = Provision(str(path))
        provision.check(self.registry)
        await provision.apply(
            Caller(None, self.domains.main.name, "START", self.domains), self.operations, self.registry
        )


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.start()
    return made


async def test_a_file_sets_the_server_up_and_may_be_applied_again(world: World) -> None:
    for _ in range(2):
        await world.provision(GOOD)
        domains = world.domains
        assert [domain.name for domain in domains] == ["office.example", "client.example"]
        assert domains.domain_name("mail.client.example") == "client.example"
        ann = await domains.require_account("anna@office.example")
        assert ann.settings[d.MAX_ACCOUNT_SIZE] == 5 << 20
        assert domains.rights("ann@office.example") == {"Monitor"}
        bob = await domains.require_account("bob@client.example")
        assert bob.kind == "TextMailbox"
        root = Caller("postmaster@office.example", "office.example", "PWD", domains)
        for name, password in (
            ("ann@office.example", "ann pw"),
            ("bob@client.example", "bob pw"),
            ("postmaster", "root pw"),
        ):
            await world.operations.perform(root, "VerifyAccountPassword", {"accountName": name, "password": password})
        group = await world.operations.perform(root, "GetGroup", {"groupName": "team"})
        assert isinstance(group, dict)
        assert group["Members"] == ["ann", "x@y.example"]
        assert await world.operations.perform(root, "GetForwarder", {"forwarderName": "away"}) == "far@y.example"
        assert world.router.table().apply("sales", "") is not None
        assert world.local["Processors"] == 3
        assert world.local["SendAlerts"] is False
        assert domains.require("client.example").settings[d.UNKNOWN_NAMES] == "Discarded"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server\n", r"line 1"),
        ("[server]\nmain_domain = 5\n", r"line 2: server\.main_domain: a string is expected"),
        ("[server]\n\nmain_domain = 'a b'\n", r"line 3: server\.main_domain: .*not a domain name"),
        ("[server]\nrouter = ['a = b', 'nonsense']\n", r"line 2: server\.router: line 2: '=' is missing"),
        ("[nothing]\n", r"line 1: nothing: unknown key"),
        ("[[account]]\nname='a'\n[[account]]\npassword='x'\n", r"line 3: account\.name: is missing"),
        ("[[account]]\nname='a'\ncolour='x'\n", r"line 3: account\.colour: unknown key"),
        ("[[account]]\nname='a b'\n", r"line 2: account\.name: .*cannot be a name"),
        ("[[account]]\nname='a'\nsettings={MaxAccountSize='much'}\n", r"line 3: account\.MaxAccountSize"),
        ("[settings.NONE]\na=1\n", r"line 1: settings\.NONE: there is no such component"),
        ("[settings.LOCAL]\nProcessors=1\nNoSuch=1\n", r"line 3: settings\.LOCAL\.NoSuch: there is no such setting"),
        ("[settings.LOCAL]\nProcessors='lots'\n", r"line 2: settings\.LOCAL\.Processors: 'lots' is not a whole number"),
        ("[account]\nname='a'\n", r"line 1: account: \[\[account\]\] is expected"),
    ],
)
async def test_a_broken_file_is_refused_with_line_and_key(world: World, text: str, message: str) -> None:
    good_part = "[[domain]]\nname = 'made.example'\n"
    with pytest.raises(ProvisionError, match=message):
        await world.provision(text)
    with pytest.raises(ProvisionError):
        await world.provision(text + good_part)
    assert world.domains.get("made.example") is None


async def test_a_file_that_is_not_there_or_not_text(world: World, tmp_path: Path) -> None:
    with pytest.raises(ProvisionError, match="No such file"):
        Provision(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ProvisionError, match="not UTF-8"):
        Provision(str(tmp_path / "bad.toml"))
