"""Where the files of accounts lie: the foldering methods, renames, accounts that were moved while the server was stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.kernel.operations import OperationError
from tests.objects.test_index import names, perform, started


async def located(base: Path, method: str, name: str) -> str:
    domains = await started(base)
    await perform(domains, "UpdateDomainSettings", domainName="office.test", newSettings={"Foldering": method})
    await perform(domains, "CreateAccount", accountName=name)
    account = domains.main.account(name)
    assert account is not None
    assert (base / "Accounts" / account.place).is_dir()
    assert name in names(await started(base)), "the next start finds it"
    return account.place


@pytest.mark.feature("DOM-101", "DOM-102", "DOM-103")
@pytest.mark.parametrize(
    ("method", "name", "place"),
    [
        ("flat", "jsmith", "jsmith.macnt"),
        ("2 Letters 1 Level", "jsmith", "js.sub/jsmith.macnt"),
        ("2 Letters 1 Level", "j", "j.sub/j.macnt"),
        ("2 Letters 1 Level", "j.s", "j_.sub/j.s.macnt"),
        ("2 Letters 2 Levels", "jsmith", "j.sub/s.sub/jsmith.macnt"),
        ("2 Letters 2 Levels", "a", "a.sub/a.macnt"),
        ("2 Letters 2 Levels", "a.b", "a.sub/_.sub/a.b.macnt"),
    ],
)
async def test_the_place_of_a_new_account(tmp_path: Path, method: str, name: str, place: str) -> None:
    assert await located(tmp_path, method, name) == place


@pytest.mark.feature("DOM-104", "DOM-105")
@pytest.mark.parametrize(("method", "levels"), [("Hashed 1 Level", 1), ("Hashed 2 Levels", 2)])
async def test_hashed_places_spread_accounts(tmp_path: Path, method: str, levels: int) -> None:
    places = {await located(tmp_path, method, f"user{number}") for number in range(12)}
    folders = {place.rpartition("/")[0] for place in places}
    assert len(folders) > 6
    assert all(place.count(".sub/") == levels for place in places)


@pytest.mark.feature("DOM-106")
async def test_another_method_leaves_old_accounts_where_they_are(tmp_path: Path) -> None:
    assert await located(tmp_path, "2 Letters 1 Level", "old") == "ol.sub/old.macnt"
    assert await located(tmp_path, "flat", "new") == "new.macnt"
    account = (await started(tmp_path)).main.account("old")
    assert account is not None and account.place == "ol.sub/old.macnt"


@pytest.mark.feature("DOM-107", "DOM-108")
async def test_accounts_are_moved_while_the_server_is_stopped(tmp_path: Path) -> None:
    await located(tmp_path, "flat", "ann")
    other_disk = tmp_path / "other"
    (other_disk / "deep.sub").mkdir(parents=True)
    (tmp_path / "Accounts" / "far.sub").symlink_to(other_disk)
    shutil.move(tmp_path / "Accounts" / "ann.macnt", other_disk / "deep.sub")
    account = (await started(tmp_path)).main.account("ann")
    assert account is not None and account.place == "far.sub/deep.sub/ann.macnt"


@pytest.mark.feature("DOM-109")
@pytest.mark.parametrize("in_place", [True, False])
async def test_the_place_after_a_rename(tmp_path: Path, in_place: bool) -> None:
    await located(tmp_path, "2 Letters 1 Level", "ann")
    domains = await started(tmp_path)
    settings = {"RenameInPlace": "YES" if in_place else "NO"}
    await perform(domains, "UpdateDomainSettings", domainName="office.test", newSettings=settings)
    await perform(domains, "RenameAccount", oldAccountName="ann", newAccountName="zoe")
    place = "an.sub/zoe.macnt" if in_place else "zo.sub/zoe.macnt"
    assert (tmp_path / "Accounts" / place).is_dir()
    account = (await started(tmp_path)).main.account("zoe")
    assert account is not None and account.place == place
    with pytest.raises(OperationError):
        await perform(domains, "RenameAccount", oldAccountName="zoe", newAccountName="zoe")
