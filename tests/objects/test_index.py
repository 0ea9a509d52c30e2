"""The index of accounts: kept in step, believed only when it is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.disk import InLoopDisk
from appliance.kernel.log import MemoryLog
from appliance.kernel.operations import Caller, Operations
from appliance.kernel.settings import MemoryStorage, Settings
from appliance.kernel.settings_files import DictionaryFile
from appliance.objects import declarations as d
from appliance.objects import operations as object_operations
from appliance.objects.domains import Domains


async def started(base: Path) -> Domains:
    general = Settings(d.GENERAL, MemoryStorage({"DomainName": "office.test"}))
    await general.load()
    for part in ("Accounts", "Domains", "Settings"):
        (base / part).mkdir(exist_ok=True)
    disk, log = InLoopDisk(), MemoryLog().source("FILES")
    domains = Domains(disk, str(base), lambda path, mode: DictionaryFile(disk, path, log, mode), general)
    await domains.load()
    return domains


async def perform(domains: Domains, name: str, **arguments: object) -> None:
    operations = Operations()
    object_operations.declare(domains, operations)
    await operations.perform(Caller(None, "office.test", "TEST", domains), name, arguments)


def names(domains: Domains) -> list[str]:
    return sorted(account.name for account in domains.main.accounts())


@pytest.fixture
async def domains(tmp_path: Path) -> Domains:
    made = await started(tmp_path)
    await perform(made, "CreateAccount", accountName="ann")
    await perform(made, "UpdateDomainSettings", domainName="office.test", newSettings={"FolderIndex": "YES"})
    return made


@pytest.mark.feature("BASE-044", "DOM-110")
async def test_the_file_is_made_at_once_and_read_instead_of_a_scan(domains: Domains, tmp_path: Path) -> None:
    text = (tmp_path / "Accounts/Index.data").read_text()
    assert '"ann"\tMultiMailbox\t"ann.macnt"\n' in text
    (tmp_path / "Accounts/late.macnt").mkdir()
    assert names(await started(tmp_path)) == ["ann", "postmaster"], "nobody looked into the directory"
    (tmp_path / "Accounts/Index.data").unlink()
    assert names(await started(tmp_path)) == ["ann", "late", "postmaster"]
    assert '"late"' in (tmp_path / "Accounts/Index.data").read_text()
    await perform(domains, "UpdateDomainSettings", domainName="office.test", newSettings={"FolderIndex": "NO"})
    assert not (tmp_path / "Accounts/Index.data").exists()


@pytest.mark.feature("BASE-044", "DOM-111")
async def test_every_change_is_in_the_file_at_once(domains: Domains, tmp_path: Path) -> None:
    await perform(domains, "CreateAccount", accountName="bob", accountType="TextMailbox")
    assert names(await started(tmp_path)) == ["ann", "bob", "postmaster"]
    domains = await started(tmp_path)
    await perform(domains, "RenameAccount", oldAccountName="bob", newAccountName="carl")
    assert '-\t"bob"\n"carl"\tTextMailbox\t"carl"\n' in (tmp_path / "Accounts/Index.data").read_text()
    domains = await started(tmp_path)
    assert names(domains) == ["ann", "carl", "postmaster"]
    assert "-\t" not in (tmp_path / "Accounts/Index.data").read_text(), "a start makes it short"
    await perform(domains, "DeleteAccount", oldAccountName="ann")
    domains = await started(tmp_path)
    assert names(domains) == ["carl", "postmaster"]
    carl = domains.main.account("carl")
    assert carl is not None and carl.kind == "TextMailbox"


@pytest.mark.feature("BASE-045")
async def test_a_name_that_looks_like_a_removal(domains: Domains, tmp_path: Path) -> None:
    await perform(domains, "CreateAccount", accountName="-x")
    assert names(await started(tmp_path)) == ["-x", "ann", "postmaster"]
    domains = await started(tmp_path)
    await perform(domains, "DeleteAccount", oldAccountName="-x")
    assert names(await started(tmp_path)) == ["ann", "postmaster"]


@pytest.mark.feature("BASE-046")
@pytest.mark.parametrize("tail", ["!\n", '"bob"\tMultiM', "no record\n", '"bob"\tFancy\t"bob"\n', "\0\n"])
async def test_a_file_that_is_not_whole_is_not_believed(domains: Domains, tmp_path: Path, tail: str) -> None:
    """A crash in the middle of a change: all directories are looked through, `.sub` trees too, and the file is new."""
    file = tmp_path / "Accounts/Index.data"
    (tmp_path / "Accounts/b.sub/o.sub/bob.macnt").mkdir(parents=True)
    file.write_text(file.read_text() + tail)
    assert names(await started(tmp_path)) == ["ann", "bob", "postmaster"]
    assert '"bob"\tMultiMailbox\t"b.sub/o.sub/bob.macnt"\n' in file.read_text()
    assert names(await started(tmp_path)) == ["ann", "bob", "postmaster"]


@pytest.mark.feature("BASE-046")
async def test_a_change_that_failed_is_looked_after(domains: Domains, tmp_path: Path) -> None:
    (tmp_path / "Accounts/dirk.macnt").write_text("in the way")
    with pytest.raises(Exception, match=r"exists|[Dd]irectory"):
        await perform(domains, "CreateAccount", accountName="dirk")
    await perform(domains, "CreateAccount", accountName="emil")
    (tmp_path / "Accounts/dirk.macnt").unlink()
    assert names(await started(tmp_path)) == ["ann", "emil", "postmaster"]


@pytest.mark.feature("DOM-112")
async def test_the_file_lies_in_the_directory_index_if_there_is_one(domains: Domains, tmp_path: Path) -> None:
    (tmp_path / "Accounts/Index").mkdir()
    domains = await started(tmp_path)
    await perform(domains, "CreateAccount", accountName="bob")
    assert '"bob"' in (tmp_path / "Accounts/Index/Index.data").read_text()
    assert names(await started(tmp_path)) == ["ann", "bob", "postmaster"]


@pytest.mark.feature("BASE-047")
async def test_service_files_of_old_versions_are_moved(tmp_path: Path) -> None:
    old = tmp_path / "Domains" / "second.test"
    old.mkdir(parents=True)
    (old / "Domain.settings").write_text("{AccountsLimit=7;}")
    (old / "Access.settings").write_text("{ann=(Domain);}")
    (old / "Aliases.data").write_text("{sales=ann;}")
    (old / "ann.macnt").mkdir()
    domains = await started(tmp_path)
    second = domains.require("second.test")
    assert second.settings[d.ACCOUNTS_LIMIT] == 7
    assert domains.rights("ann@second.test") == {"Domain"}
    assert second.account("sales") is second.account("ann") is not None
    assert sorted(path.name for path in old.iterdir()) == ["Settings", "ann.macnt"]
