"""Every setting of every component can be changed while the server runs, and reads as it was set."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.formats.data import Value, parse, render
from appliance.kernel import certificates
from appliance.kernel import settings as s
from appliance.kernel.helper_settings import Restart
from appliance.kernel.listener import SocketTable
from appliance.kernel.settings import Group, Setting
from appliance.objects import declarations as d
from tests.server.conftest import House, Refusal, until

#: Where any text would not do, or would end the test.
SPECIAL: dict[str, Value] = {
    "DomainName": "other.test",
    "Devices": [{"Sender": "scanner@box.test", "Addresses": "10.0.0.7", "PerHour": "20"}],
    "Schedule": [{"Day": "Monday", "From": "19:30", "To": "07:30", "Pause": "10m"}],
    "Unified": [{"authName": "office", "domain": "pop.provider.test", "period": "1h"}],
    "WebAdminPreferences": {"Domains": {"Items": "7"}},
    "Table": "old.test = new.test\n<all-*> = ann ; everything",
}


def other_value(setting: Setting[Any]) -> Value:
    """A value that is not the default."""
    kind, default = setting.kind, setting.default
    if setting.key in SPECIAL:
        return SPECIAL[setting.key]
    match kind:
        case SocketTable():
            return [{"Port": "9", "Address": "127.0.0.3", "TLS": "Off", "Restriction": "Deny", "List": "10.0.0.1"}]
        case s.Rows():
            return [{column.key: other_value(column) for column in kind.columns}]
        case s.Raw():
            return ["TLS"] if kind.control == "services" else ["another"]
        case Restart():
            return "17s"
        case s.YesNo():
            return "NO" if default else "YES"
        case s.Number():
            return str(kind.low + 1 if default == kind.low else kind.low)
        case s.Limit():
            return "17"
        case s.Size():
            return "123K"
        case s.Time():
            return kind.render(kind.low + 1 if default == kind.low else kind.low)
        case s.Choice():
            return next(word for word, _ in kind.choices if word != default)
        case s.LogLevel():
            return "4" if default != 4 else "3"
        case s.Addresses():
            return "10.0.0.1-10.0.0.9 ; theirs"
        case s.Words():
            return ["one.test", "two.test"]
        case s.SecretText() | s.Text():
            return "another"
    return "another"


async def test_every_setting_is_changed_on_a_running_server(house: House) -> None:
    cli = await house.cli()
    modules = await cli("ListModules")
    assert isinstance(modules, list) and len(modules) > 10
    count = 0
    for name in map(str, modules):
        settings = house.server.components.find(name)
        assert settings is not None
        before = await cli(f"GetModule {name}")
        assert isinstance(before, dict)
        for setting in settings.group:
            if (name, setting.key) == ("PWD", "Channels"):
                continue  # they are what the test stands on
            if setting.panel == "Server Certificate":
                continue  # they are changed together, see below
            await change(cli, house, settings.group, setting)
            count += 1
        after = await cli(f"GetModule {name}")
        assert after == before, f"{name}: what was taken back is as it was"
    assert count > 80
    log = await house.log()
    assert not house.crashes(log)
    assert "postmaster@box.test changed SMTP: SizeLimit" in log


async def test_key_and_certificate_of_the_server_are_changed_together(house: House) -> None:
    cli = await house.cli()
    key = certificates.make_key()
    own = certificates.self_signed(key, certificates.Attributes(["own.test"]), 1_790_000_000)
    before = await cli("GetModule TLS")
    for wrong in ({"PrivateKey": key}, {"Certificate": "garbage"}, {"PrivateKey": "garbage"}, {"CAChain": "garbage"}):
        with pytest.raises(Refusal, match=next(iter(wrong)) + "|Certificate"):
            await cli(f"UpdateModule TLS {render(dict(wrong))}")
        assert await cli("GetModule TLS") == before
    await cli(f"UpdateModule TLS {render({'PrivateKey': key, 'Certificate': own, 'CAChain': own})}")
    after = await cli("GetModule TLS")
    assert isinstance(after, dict) and after["Certificate"] == own and after["CAChain"] == own
    assert "cannot be used" not in await house.log()


async def change(cli: Any, house: House, group: Group, setting: Setting[Any]) -> None:
    """Set it, look at it through every door and in the file, and take it back."""
    settings = house.server.components.find(group.name)
    assert settings is not None
    back = settings.stored().get(setting.key, "default")
    wanted = setting.kind.render(setting.parse(other_value(setting)))
    assert wanted != setting.kind.render(setting.default), f"{group.name} {setting.key}: no other value"
    if group.name == "PWD" and setting.key == "Listener":
        port = str(house.port("PWD") - house.offset)
        wanted = [{"Port": port, "Address": "all", "TLS": "Off", "Restriction": "Deny", "List": "10.0.0.1"}]
    await cli(f"UpdateModule {group.name} {render({setting.key: wanted})}")
    if not setting.secret:
        assert (await cli(f"GetModule {group.name}"))[setting.key] == wanted, f"{group.name} {setting.key}"
    file = house.base / "Settings" / f"{group.name}.settings"
    stored = parse(file.read_bytes())
    assert isinstance(stored, dict) and stored[setting.key] == wanted
    await cli(f"UpdateModule {group.name} {render({setting.key: back})}")


@pytest.mark.feature("LSN-009")
async def test_the_listeners_follow_and_open_connections_stay(house: House) -> None:
    imap = await house.imap()
    other = house.port("IMAP") + 4
    rows: list[Value] = [{"Port": str(other - house.offset), "Address": "127.0.0.1"}]
    await house.update("IMAP", Listener=rows)

    async def moved() -> bool:
        try:
            await (await house.connect(other)).aclose()
        except OSError:
            return False
        return True

    await until(moved)
    with pytest.raises(OSError):
        await house.connect("IMAP")
    assert (await imap.imap("NOOP"))[-1].startswith("a OK")


@pytest.mark.parametrize(
    ("noun", "group", "target", "create"),
    [
        ("DomainSettings", d.DOMAIN, "second.test", "CreateDomain second.test"),
        ("DomainDefaults", d.DOMAIN, "", ""),
        ("AccountDefaults", d.ACCOUNT, "box.test", ""),
        ("AllAccountsDefaults", d.ACCOUNT, "", ""),
        ("AccountTemplate", d.ACCOUNT_TEMPLATE, "box.test", ""),
        ("AccountSettings", d.ACCOUNT, "bob", ""),
    ],
)
async def test_every_setting_of_domains_and_accounts(
    house: House, noun: str, group: Group, target: str, create: str
) -> None:
    cli = await house.cli()
    if create:
        await cli(create)
    count = 0
    for setting in group:
        if setting is d.PASSWORD:
            continue  # stored in another form than it is given
        wanted = setting.kind.render(setting.parse(other_value(setting)))
        before = await cli(f"Get{noun} {target}")
        await cli(f"Update{noun} {target} {render({setting.key: wanted})}")
        found = await cli(f"Get{noun} {target}")
        assert isinstance(found, dict) and found[setting.key] == wanted, setting.key
        await cli(f"Update{noun} {target} {render({setting.key: 'default'})}")
        assert await cli(f"Get{noun} {target}") == before, setting.key
        count += 1
    assert count > 10
    assert not house.crashes(await house.log())
