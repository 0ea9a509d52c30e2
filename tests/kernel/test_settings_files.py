"""Settings on disk: what is written is there after a crash, and a damaged file never stops the start."""

import os
from pathlib import Path

import pytest
import trio

from appliance.kernel.disk import InLoopDisk
from appliance.kernel.files import SECRET_MODE
from appliance.kernel.log import MemoryLog
from appliance.kernel.settings import Group, Number, Setting, Settings, Text
from appliance.kernel.settings_files import DictionaryFile, SharedDictionary, record_changes

CHANNELS = Setting("Channels", Number(0, 1000), 100)
PROMPT = Setting("Prompt", Text(), "ready")
POP = Group("POP", "POP", [CHANNELS, PROMPT])


def file(directory: Path, name: str = "POP.settings") -> tuple[DictionaryFile, MemoryLog]:
    log = MemoryLog()
    return DictionaryFile(InLoopDisk(), str(directory / name), log.source("SYSTEM")), log


async def test_values_and_unknown_keys_survive_a_restart(tmp_path: Path) -> None:
    (tmp_path / "POP.settings").write_bytes(b"{\r\n Channels = 7;\r\n Later = {a = (1, 2);};\r\n}\r\n")
    storage, log = file(tmp_path)
    settings = Settings(POP, storage)
    assert await settings.load() == [] and settings[CHANNELS] == 7
    await settings.update({"Prompt": "Grüße"})
    again = Settings(POP, file(tmp_path)[0])
    await again.load()
    assert (again[CHANNELS], again[PROMPT]) == (7, "Grüße")
    assert again.stored()["Later"] == {"a": ["1", "2"]}
    assert log.records == []


@pytest.mark.parametrize("content", [b"{ Channels = 7;", b"(a, b)", b"\0\0\0\0", b" \n", b"{a=\xff\xfe"])
async def test_a_damaged_file_is_kept_aside_and_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "POP.settings").write_bytes(content)
    storage, log = file(tmp_path)
    settings = Settings(POP, storage)
    await settings.load()
    assert settings[CHANNELS] == 100
    assert (tmp_path / "POP.settings.damaged").read_bytes() == content
    level, _, text = log.records[0]
    assert level == 1 and "POP.settings" in text and "damaged" in text
    await settings.update({"Channels": "9"})
    assert (await file(tmp_path)[0].load())["Channels"] == "9"


async def test_a_missing_or_new_file_is_no_damage(tmp_path: Path) -> None:
    storage, log = file(tmp_path)
    assert await storage.load() == {}
    (tmp_path / "POP.settings").touch()
    assert await storage.load() == {} and log.records == []


async def test_parts_of_a_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    shared, _ = file(tmp_path, "Domain.settings")
    await shared.save({"Other": "kept", "A": "no dictionary"})
    first, second = SharedDictionary(shared, "A"), SharedDictionary(shared, "B")
    assert await first.load() == {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.save, {"x": "1"})
        nursery.start_soon(second.save, {"y": "2"})
    assert await shared.load() == {"Other": "kept", "A": {"x": "1"}, "B": {"y": "2"}}


@pytest.mark.feature("LOG-015")
async def test_changes_are_recorded_without_their_values(tmp_path: Path) -> None:
    storage, log = file(tmp_path)
    settings = Settings(POP, storage)
    end = record_changes(settings, log.source("SYSTEM"))
    await settings.update({"Channels": "7", "Prompt": "a secret"})
    await settings.update({"Channels": "7"})
    end()
    await settings.update({"Channels": "8"})
    assert log.text() == "2 SYSTEM settings of POP are changed: Channels, Prompt"


@pytest.mark.skipif(os.name == "nt", reason="modes are Unix")
async def test_secret_files_are_for_the_owner_only(tmp_path: Path) -> None:
    log = MemoryLog()
    path = tmp_path / "TLS.settings"
    await DictionaryFile(InLoopDisk(), str(path), log.source("SYSTEM"), SECRET_MODE).save({"Key": "x"})
    assert path.stat().st_mode & 0o777 == 0o600
