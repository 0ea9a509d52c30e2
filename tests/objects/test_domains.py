"""Domains, accounts, aliases, groups, forwarders: names, files, settings levels, rights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.formats.data import Value, parse, render_file
from appliance.formats.passwords import verify
from appliance.kernel.disk import InLoopDisk
from appliance.kernel.operations import Caller, Denied, OperationError, Operations, Right
from appliance.kernel.settings import MemoryStorage, Settings, Storage
from appliance.objects import declarations as d
from appliance.objects import operations as object_operations
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.objects.lifecycle import Change


class FileStorage:
    """A dictionary file, for tests."""

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


async def start(base: Path, name: str = "office.test") -> Domains:
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": name}))
    await general.load()
    for part in ("Accounts", "Domains", "Settings"):
        (base / part).mkdir(exist_ok=True)
    domains = Domains(InLoopDisk(), str(base), storage, general, server_key=b"k" * 32)
    await domains.load()
    return domains


def caller(domains: Domains, account: str | None) -> Caller:
    domain = account.rpartition("@")[2] if account else domains.main.name
    return Caller(account, domain, "PWD", domains)


@pytest.fixture
async def domains(tmp_path: Path) -> Domains:
    return await start(tmp_path)


@pytest.fixture
def operations(domains: Domains) -> Operations:
    registry = Operations()
    object_operations.declare(domains, registry)
    return registry


@pytest.mark.feature("SEC-110", "BASE-018", "BASE-048", "BASE-051", "DATA-024")
async def test_first_start_makes_a_readable_postmaster_with_all_rights(domains: Domains, tmp_path: Path) -> None:
    text = (tmp_path / "Accounts/postmaster.macnt/account.settings").read_text()
    values = parse(text)
    assert isinstance(values, dict)
    assert isinstance(values["Password"], str)
    assert len(values["Password"]) >= 12
    assert caller(domains, "postmaster@office.test").has(Right.MASTER)
    assert not caller(domains, "nobody@office.test").has(Right.MONITOR)


@pytest.mark.feature("BASE-019", "CLI-078", "CLI-064", "CLI-065")
async def test_a_domain_gets_its_directory(domains: Domains, operations: Operations, tmp_path: Path) -> None:
    root = caller(domains, "postmaster@office.test")
    await operations.perform(root, "CREATEDOMAIN", {"domainName": "Client1.COM"})
    assert (tmp_path / "Domains/client1.com/Settings").is_dir()
    assert await operations.perform(root, "ListDomains") == ["office.test", "client1.com"]
    assert await operations.perform(root, "MainDomainName") == "office.test"
    with pytest.raises(OperationError, match="already exists"):
        await operations.perform(root, "CreateDomain", {"domainName": "client1.com"})


@pytest.mark.feature("BASE-048", "BASE-049", "BASE-050", "CLI-023", "CLI-022", "CLI-043", "OBJ-003")
async def test_accounts_of_all_types_survive_a_restart(
    domains: Domains, operations: Operations, tmp_path: Path
) -> None:
    root = caller(domains, "postmaster@office.test")
    await operations.perform(root, "CreateAccount", {"accountName": "John"})
    await operations.perform(root, "CreateAccount", {"accountName": "text", "accountType": "TextMailbox"})
    await operations.perform(root, "CreateAccount", {"accountName": "dir", "accountType": "MailDirMailbox"})
    assert (tmp_path / "Accounts/john.macnt/account.settings").is_file()
    assert (tmp_path / "Accounts/text.mbox").is_file()
    assert (tmp_path / "Accounts/dir.mdir").is_dir()
    again = await start(tmp_path)
    found = {account.name: account.kind for account in again.main.accounts()}
    assert found == {
        "postmaster": "MultiMailbox",
        "john": "MultiMailbox",
        "text": "TextMailbox",
        "dir": "MailDirMailbox",
    }
    assert again.find_account("JOHN@Office.Test") is not None
    assert await operations.perform(root, "GetAccountLocation", {"accountName": "text"}) == "text.mbox"


@pytest.mark.feature("CLI-004", "OBJ-002", "ACCT-074")
async def test_a_name_is_unique_over_all_kinds(domains: Domains) -> None:
    main = domains.main
    account = await domains.create_account(main, "sales")
    await domains.set_aliases(account, ["info"])
    await domains.create_group(main, "team", {"Members": ["sales"]})
    await domains.create_forwarder(main, "away", "x@example.org")
    for taken in ("sales", "info", "team", "away"):
        with pytest.raises(OperationError, match="with this name already exists"):
            await domains.create_account(main, taken)
        with pytest.raises(OperationError, match="with this name already exists"):
            await domains.create_group(main, taken)


@pytest.mark.feature("OBJ-004", "OBJ-005")
@pytest.mark.parametrize("name", ["", ".x", "x.", "a b", "x" * 129, "ä", "a@b", "a/b", "..", "a\0"])
async def test_wrong_names_are_refused(domains: Domains, name: str) -> None:
    with pytest.raises(OperationError):
        await domains.create_account(domains.main, name)


@pytest.mark.feature("OBJ-005")
async def test_the_longest_name_works(domains: Domains) -> None:
    assert (await domains.create_account(domains.main, "x" * 128)).name == "x" * 128


@pytest.mark.feature(
    "OBJ-013", "ACCT-087", "ACCT-089", "CLI-014", "CLI-057", "CLI-058", "CLI-072", "CLI-073", "CLI-029", "CLI-027"
)
async def test_settings_come_from_the_nearest_level(domains: Domains, operations: Operations) -> None:
    root = caller(domains, "postmaster@office.test")
    await operations.perform(root, "CreateDomain", {"domainName": "company.com"})
    await operations.perform(root, "CreateAccount", {"accountName": "a@company.com"})
    await operations.perform(root, "CreateAccount", {"accountName": "b"})
    await operations.perform(root, "UpdateAllAccountsDefaults", {"newSettings": {"MaxAccountSize": "10M"}})
    await operations.perform(
        root, "UpdateAccountDefaults", {"domainName": "company.com", "newSettings": {"MaxAccountSize": "30M"}}
    )

    async def size(name: str) -> Value:
        values = await operations.perform(root, "GetAccountEffectiveSettings", {"accountName": name})
        assert isinstance(values, dict)
        return values["MaxAccountSize"]

    assert (await size("a@company.com"), await size("b")) == ("30M", "10M")
    await operations.perform(
        root, "UpdateAccountSettings", {"accountName": "a@company.com", "newSettings": {"MaxAccountSize": "5M"}}
    )
    assert await size("a@company.com") == "5M"
    await operations.perform(
        root, "UpdateAccountSettings", {"accountName": "a@company.com", "newSettings": {"MaxAccountSize": "default"}}
    )
    assert await size("a@company.com") == "30M"
    explicit = await operations.perform(root, "GetAccountSettings", {"accountName": "a@company.com"})
    assert isinstance(explicit, dict)
    assert "MaxAccountSize" not in explicit


async def test_a_wrong_value_changes_nothing(domains: Domains, operations: Operations) -> None:
    root = caller(domains, "postmaster@office.test")
    with pytest.raises(OperationError, match="MaxAccountSize"):
        await operations.perform(root, "CreateAccount", {"accountName": "bad", "settings": {"MaxAccountSize": "lots"}})
    assert domains.main.find("bad") is None


async def test_unknown_keys_survive(domains: Domains, tmp_path: Path) -> None:
    account = await domains.create_account(domains.main, "u", settings={"FutureKey": "x", "RealName": "U"})
    await domains.update_account(account, {"RealName": "V"})
    values = parse((tmp_path / "Accounts/u.macnt/account.settings").read_text())
    assert values == {"FutureKey": "x", "RealName": "V"}


@pytest.mark.feature("CLI-031", "CLI-032", "ACCT-031")
async def test_new_passwords_are_stored_one_way(domains: Domains, operations: Operations) -> None:
    root = caller(domains, "postmaster@office.test")
    await operations.perform(root, "CreateAccount", {"accountName": "p", "settings": {"Password": "first word"}})
    account = await domains.require_account("p@office.test")
    stored = account.settings[d.PASSWORD].reveal()
    assert "first word" not in stored
    assert verify(stored, "first word", domains.server_key)
    await operations.perform(root, "SetAccountPassword", {"accountName": "p", "newPassword": "second"})
    await operations.perform(root, "VerifyAccountPassword", {"accountName": "p", "password": "second"})
    with pytest.raises(OperationError, match="wrong"):
        await operations.perform(root, "VerifyAccountPassword", {"accountName": "p", "password": "first word"})
    await domains.update_account(account, {"PasswordEncryption": "clear"})
    await domains.set_password(account, "third")
    assert account.settings[d.PASSWORD].reveal() == "third"
    assert "third" not in repr(account.settings[d.PASSWORD]) + f"{account.settings[d.PASSWORD]}"


@pytest.mark.feature(
    "CLI-025",
    "CLI-033",
    "CLI-034",
    "ACCT-075",
    "ACCT-078",
    "ACCT-080",
    "ACCT-081",
    "ACCT-082",
    "OBJ-011",
    "OBJ-030",
    "OBJ-041",
)
async def test_rename_takes_everything_along(domains: Domains, operations: Operations, tmp_path: Path) -> None:
    root = caller(domains, "postmaster@office.test")
    account = await domains.create_account(domains.main, "old", settings={"RealName": "Old"})
    await operations.perform(root, "SetAccountAliases", {"accountName": "old", "newAliases": ["second"]})
    await domains.create_group(domains.main, "team", {"Members": ["old", "x@y.z"]})
    await domains.create_forwarder(domains.main, "fwd", "old")
    await domains.set_rights(account, ["Monitor"])
    await operations.perform(root, "RenameAccount", {"oldAccountName": "old", "newAccountName": "new"})
    assert (tmp_path / "Accounts/new.macnt/account.settings").is_file()
    assert not (tmp_path / "Accounts/old.macnt").exists()
    assert await operations.perform(root, "GetAccountAliases", {"accountName": "new"}) == ["second"]
    group = await operations.perform(root, "GetGroup", {"groupName": "team"})
    assert isinstance(group, dict)
    assert group["Members"] == ["new", "x@y.z"]
    assert await operations.perform(root, "GetForwarder", {"forwarderName": "fwd"}) == "old"
    assert caller(domains, "new@office.test").has(Right.MONITOR)
    await operations.perform(root, "CreateDomain", {"domainName": "other.test"})
    await operations.perform(root, "RenameAccount", {"oldAccountName": "new", "newAccountName": "moved@other.test"})
    assert (tmp_path / "Domains/other.test/moved.macnt").is_dir()
    assert domains.find_account("second@other.test") is account
    assert not caller(domains, "moved@other.test").has(Right.MONITOR)
    assert account.settings[d.REAL_NAME] == "Old"


@pytest.mark.feature("CLI-026", "ACCT-083")
async def test_delete_account_removes_files_aliases_and_rights(
    domains: Domains, operations: Operations, tmp_path: Path
) -> None:
    root = caller(domains, "postmaster@office.test")
    account = await domains.create_account(domains.main, "gone", settings={"Aliases": ["alias"]})
    assert domains.find_account("alias@office.test") is account
    await domains.set_rights(account, ["Monitor"])
    await operations.perform(root, "DeleteAccount", {"oldAccountName": "gone"})
    assert domains.find_account("alias@office.test") is None
    assert not (tmp_path / "Accounts/gone.macnt").exists()
    assert domains.rights("gone@office.test") == frozenset()
    with pytest.raises(OperationError, match="Unknown account"):
        await operations.perform(root, "DeleteAccount", {"oldAccountName": "gone"})


@pytest.mark.feature("ACCT-079", "ACCT-084")
async def test_a_participant_can_refuse_and_is_undone(domains: Domains, tmp_path: Path) -> None:
    account = await domains.create_account(domains.main, "busy")
    seen: list[str] = []

    class First:
        async def check(self, change: Change) -> None:
            seen.append("check")

        async def do(self, change: Change) -> None:
            seen.append("do")

        def done(self, change: Change) -> None:
            seen.append(f"done {change.kind}")

        async def undo(self, change: Change) -> None:
            seen.append("undo")

    class InUse(First):
        async def do(self, change: Change) -> None:
            raise OperationError("The account is in use")

    domains.lifecycle.participants += [First(), InUse()]
    with pytest.raises(OperationError, match="in use"):
        await domains.rename_account(account, "free")
    assert seen == ["check", "check", "do", "undo"]
    assert domains.main.find("busy") is account
    assert (tmp_path / "Accounts/busy.macnt").is_dir()


@pytest.mark.feature("CLI-079", "CLI-080", "DOM-117")
async def test_domains_are_renamed_and_removed(domains: Domains, operations: Operations, tmp_path: Path) -> None:
    root = caller(domains, "postmaster@office.test")
    await operations.perform(root, "CreateDomain", {"domainName": "a.test"})
    await operations.perform(root, "CreateAccount", {"accountName": "u@a.test"})
    await operations.perform(root, "RenameDomain", {"oldDomainName": "a.test", "newDomainName": "b.test"})
    assert (tmp_path / "Domains/b.test/u.macnt").is_dir()
    account = domains.find_account("u@b.test")
    assert isinstance(account, Account)
    assert os.path.dirname(account.file("info")) == str(tmp_path / "Domains/b.test/u.macnt")
    with pytest.raises(OperationError, match="not empty"):
        await operations.perform(root, "DeleteDomain", {"oldDomainName": "b.test"})
    await operations.perform(root, "DeleteDomain", {"oldDomainName": "b.test", "force": True})
    assert not (tmp_path / "Domains/b.test").exists()
    assert (await start(tmp_path)).get("b.test") is None


@pytest.mark.feature("CLI-063", "CLI-084", "BASE-036")
async def test_domain_aliases(domains: Domains, operations: Operations, tmp_path: Path) -> None:
    root = caller(domains, "postmaster@office.test")
    await operations.perform(
        root, "SetDomainAliases", {"domainName": "office.test", "newAliases": ["mail.office.test"]}
    )
    assert domains.get("MAIL.office.test") is domains.main
    assert (await start(tmp_path)).get("mail.office.test") is not None
    with pytest.raises(OperationError, match="already exists"):
        await operations.perform(root, "CreateDomain", {"domainName": "mail.office.test"})


@pytest.mark.feature("SEC-112", "SEC-113", "SEC-106", "BASE-031", "CLI-039", "SEC-114")
async def test_server_rights_count_in_the_main_domain_only(
    domains: Domains, operations: Operations, tmp_path: Path
) -> None:
    root = caller(domains, "postmaster@office.test")
    await operations.perform(root, "CreateDomain", {"domainName": "c.test"})
    await operations.perform(root, "CreateAccount", {"accountName": "admin@c.test"})
    with pytest.raises(OperationError, match="main domain"):
        await operations.perform(root, "SetAccountRights", {"accountName": "admin@c.test", "newRights": ["Monitor"]})
    (tmp_path / "Domains/c.test/Settings/Access.settings").write_text("{admin=(Master,Domain,CanCreateAccounts);}")
    again = await start(tmp_path)
    who = caller(again, "admin@c.test")
    assert not who.has(Right.MASTER)
    assert who.has(Right.CREATE_ACCOUNTS)
    assert not who.has(Right.CREATE_ACCOUNTS, "office.test")


@pytest.mark.feature("CLI-002", "CLI-010", "CLI-011", "CLI-012", "CLI-016", "CLI-017", "SEC-107", "SEC-115", "SEC-108")
async def test_a_domain_administrator_stays_in_his_domain(domains: Domains, operations: Operations) -> None:
    root = caller(domains, "postmaster@office.test")
    for name in ("c1.test", "c2.test"):
        await operations.perform(root, "CreateDomain", {"domainName": name})
    await operations.perform(root, "CreateAccount", {"accountName": "admin@c1.test"})
    await operations.perform(
        root,
        "SetAccountRights",
        {"accountName": "admin@c1.test", "newRights": ["Domain", "CanCreateAccounts", "RealName"]},
    )
    admin = caller(domains, "admin@c1.test")
    await operations.perform(
        admin, "CreateAccount", {"accountName": "x", "settings": {"RealName": "X", "MaxAccountSize": "1M"}}
    )
    stored = await operations.perform(admin, "GetAccountSettings", {"accountName": "x"})
    assert stored == {"RealName": "X"}
    listed = await operations.perform(admin, "ListAccounts")
    assert isinstance(listed, dict)
    assert set(listed) == {"admin", "x"}
    with pytest.raises(Denied):
        await operations.perform(admin, "ListAccounts", {"domainName": "c2.test"})
    with pytest.raises(Denied):
        await operations.perform(admin, "CreateAccount", {"accountName": "y@c2.test"})
    with pytest.raises(Denied):
        await operations.perform(admin, "CreateForwarder", {"forwarderName": "f", "address": "a@b"})
    plain = caller(domains, "x@c1.test")
    assert await operations.perform(plain, "GetAccountSettings", {"accountName": "*"}) == {"RealName": "X"}
    with pytest.raises(Denied):
        await operations.perform(plain, "GetAccountSettings", {"accountName": "admin"})
    await operations.perform(root, "SetAccountRights", {"accountName": "admin@c1.test", "newRights": []})
    with pytest.raises(Denied):
        await operations.perform(admin, "ListAccounts")


@pytest.mark.feature("DOM-101", "BASE-043")
async def test_foldering_puts_new_accounts_into_subdirectories(
    domains: Domains, operations: Operations, tmp_path: Path
) -> None:
    root = caller(domains, "postmaster@office.test")
    for method, place in (
        ("2 Letters 1 Level", "js.sub/jsmith.macnt"),
        ("2 Letters 2 Levels", "k.sub/s.sub/ksmith.macnt"),
    ):
        await domains.main.settings.update({"Foldering": method})
        name = place.rsplit("/", 1)[1].split(".")[0]
        await operations.perform(root, "CreateAccount", {"accountName": name})
        assert (tmp_path / "Accounts" / place).is_dir()
        assert await operations.perform(root, "GetAccountLocation", {"accountName": name}) == place
    assert (await start(tmp_path)).find_account("ksmith") is not None


@pytest.mark.feature(
    "CLI-044",
    "CLI-045",
    "CLI-046",
    "CLI-047",
    "CLI-048",
    "CLI-049",
    "CLI-050",
    "CLI-051",
    "CLI-052",
    "CLI-053",
    "OBJ-031",
)
async def test_groups_and_forwarders_by_command(domains: Domains, operations: Operations, tmp_path: Path) -> None:
    root = caller(domains, "postmaster@office.test")
    await operations.perform(
        root, "CreateGroup", {"groupName": "g", "settings": {"Members": ["postmaster"], "RealName": "G"}}
    )
    await operations.perform(root, "RenameGroup", {"oldGroupName": "g", "newGroupName": "h"})
    assert await operations.perform(root, "ListGroups") == ["h"]
    assert await operations.perform(root, "GetGroup", {"groupName": "h"}) == {
        "Members": ["postmaster"],
        "RealName": "G",
    }
    await operations.perform(root, "SetGroup", {"groupName": "h", "newSettings": {"Members": ["a@b.c"]}})
    again = await start(tmp_path)
    group = again.main.find("h")
    assert group is not None
    assert group.settings["Members"] == ("a@b.c",)  # type: ignore[union-attr]
    await operations.perform(root, "DeleteGroup", {"groupName": "h"})
    await operations.perform(root, "CreateForwarder", {"forwarderName": "f", "address": "x@y.z"})
    assert await operations.perform(root, "ListForwarders") == ["f"]
    assert await operations.perform(root, "GetForwarder", {"forwarderName": "f"}) == "x@y.z"
    await operations.perform(root, "DeleteForwarder", {"forwarderName": "f"})
    assert (await start(tmp_path)).main.find("f") is None


@pytest.mark.feature("BASE-033")
async def test_remote_pop_records_are_kept_with_the_domain(
    domains: Domains, operations: Operations, tmp_path: Path
) -> None:
    root = caller(domains, "postmaster@office.test")
    await operations.perform(root, "CreateAccount", {"accountName": "r"})
    record: dict[str, Value] = {"domain": "pop.example", "name": "office", "password": "pw", "period": "10m"}
    domains.main.rpop["r"] = [record]
    await domains.main.save_rpop()
    await operations.perform(root, "RenameAccount", {"oldAccountName": "r", "newAccountName": "s"})
    assert parse((tmp_path / "Accounts/Settings/RPOP.data").read_text()) == {"s": [record]}
    assert (await start(tmp_path)).main.rpop == {"s": [record]}


async def test_somebody_is_always_left_who_can_do_everything(domains: Domains, operations: Operations) -> None:
    root = caller(domains, "postmaster@office.test")
    await domains.create_account(domains.main, "chief")
    taken: dict[str, Value] = {"accountName": "postmaster", "newRights": ["Monitor"]}
    with pytest.raises(OperationError, match="another account first"):
        await operations.perform(root, "SetAccountRights", taken)
    assert await operations.perform(root, "GetAccountRights", {"accountName": "postmaster"}) == ["Master"]
    await operations.perform(root, "SetAccountRights", {"accountName": "chief", "newRights": ["Master"]})
    await operations.perform(root, "SetAccountRights", taken)
    assert domains.main.access == {"chief": ["Master"], "postmaster": ["Monitor"]}


async def test_a_start_without_anybody_who_can_do_everything_gives_it_to_the_postmaster(tmp_path: Path) -> None:
    first = await start(tmp_path)
    await first.create_account(first.main, "chief")
    (tmp_path / "Accounts/Settings/Access.settings").write_text("{ chief = (Monitor); }")
    again = await start(tmp_path)
    assert again.main.access == {"chief": ["Monitor"], "postmaster": ["Master"]}
    (tmp_path / "Accounts/Settings/Access.settings").write_text("{ chief = (Master); }")
    assert (await start(tmp_path)).main.access == {"chief": ["Master"]}
