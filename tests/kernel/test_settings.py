"""Settings: kinds, the chain, updates, unknown keys, change notices."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.formats.data import Value
from appliance.kernel.settings import (
    Addresses,
    Choice,
    Group,
    Kind,
    Limit,
    LogLevel,
    MemoryStorage,
    Number,
    Rows,
    Secret,
    SecretText,
    Setting,
    SettingError,
    Settings,
    SettingsRegistry,
    Size,
    Text,
    Time,
    Words,
    YesNo,
)

SIZE = Setting("MaxSize", Size(), None, synonyms=("Limit",))
COUNT = Setting("Count", Number(1, 10), 5)
NAME = Setting("Name", Text(limit=10), "")
GROUP = Group("Test", "Test", (SIZE, COUNT, NAME))


@pytest.mark.feature("DATA-009", "DATA-033", "DATA-034")
@pytest.mark.parametrize(
    ("kind", "value", "typed"),
    [
        (YesNo(), "YES", True),
        (YesNo(), "no", False),
        (YesNo(), "+", True),
        (Number(0, 9), "9", 9),
        (Size(), "50M", 52428800),
        (Size(), "2k", 2048),
        (Size(), "unlimited", None),
        (Size(), "-1", None),
        (Time(), "30m", 1800),
        (Time(), "2d", 172800),
        (Limit(), "-1", None),
        (Limit(), "7", 7),
        (Choice("a", ("b", "Label B")), "LABEL b", "b"),
        (Words(), "a, b\nc", ("a", "b", "c")),
        (Words(), ["a", "", "b"], ("a", "b")),
        (LogLevel(), "All Info", 5),
        (LogLevel(), "3", 3),
        (LogLevel(), "Major", 2),
    ],
)
def test_values_are_read(kind: Kind[Any], value: Value, typed: object) -> None:
    assert kind.parse(value) == typed
    assert kind.parse(kind.render(kind.parse(value))) == typed


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (YesNo(), "maybe"),
        (Number(0, 9), "10"),
        (Number(0, 9), "x"),
        (Number(), ["1"]),
        (Size(), "much"),
        (Time(10, 20), "5"),
        (Choice("a"), "b"),
        (Text(limit=3), "four"),
        (Text(), "two\nlines"),
        (Words(limit=1), "a,b"),
        (LogLevel(), "6"),
        (Addresses(), "1.2.3"),
        (Rows(COUNT), [{"Count": "99"}]),
        (Rows(COUNT), "text"),
    ],
)
def test_wrong_values_are_refused_with_a_text(kind: Kind[Any], value: Value) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        kind.parse(value)


async def chain(*levels: dict[str, Value]) -> Settings:
    parent: Settings | None = None
    for values in levels:
        parent = Settings(GROUP, MemoryStorage(dict(values)), parent)
        assert await parent.load() == []
    assert parent is not None
    return parent


@pytest.mark.feature("OBJ-013")
async def test_the_nearest_explicit_value_counts() -> None:
    level = await chain({"Count": "1", "Name": "server"}, {"Count": "2"}, {})
    assert (level[COUNT], level[NAME], level[SIZE]) == (2, "server", None)
    assert level.explicit(COUNT) is None
    assert level.parent is not None
    await level.parent.update({"Count": "default"})
    assert level[COUNT] == 1
    assert level.effective() == {"MaxSize": "unlimited", "Count": "1", "Name": "server"}


@pytest.mark.feature("CLI-014", "CLI-015")
async def test_update_merges_and_replace_replaces() -> None:
    level = await chain({"Count": "3", "Future": "kept", "limit": "1M"})
    assert level[SIZE] == 1 << 20
    changed = await level.update({"COUNT": "4", "Name": "n"})
    assert changed == {"Count", "Name"}
    assert level.stored() == {"Count": "4", "Name": "n", "Future": "kept", "limit": "1M"}
    await level.update({"MaxSize": "2M"})
    assert level.stored() == {"Count": "4", "Name": "n", "Future": "kept", "MaxSize": "2M"}
    await level.replace({"Name": "only"})
    assert level.stored() == {"Future": "kept", "Name": "only"}
    assert level[COUNT] == 5


async def test_one_wrong_value_changes_nothing() -> None:
    level = await chain({"Count": "3"})
    with pytest.raises(SettingError, match=r"Count: .*between 1 and 10"):
        await level.update({"Name": "new", "Count": "11"})
    assert level.stored() == {"Count": "3"}


@pytest.mark.feature("DATA-026")
async def test_a_stored_value_that_does_not_parse_is_kept_without_effect() -> None:
    level = Settings(GROUP, MemoryStorage({"Count": "many", "Name": "x"}))
    errors = await level.load()
    assert [error.key for error in errors] == ["Count"]
    assert level[COUNT] == 5
    await level.update({"Name": "y"})
    assert level.stored() == {"Count": "many", "Name": "y"}


async def test_watchers_hear_of_changes_once_they_are_stored() -> None:
    level = await chain({})
    heard: list[frozenset[str]] = []
    end = level.watch(heard.append)
    await level.update({"Count": "2"})
    await level.update({"Count": "2"})
    end()
    await level.update({"Count": "3"})
    assert heard == [frozenset({"Count"})]


async def test_a_failed_save_changes_nothing() -> None:
    class Full(MemoryStorage):
        async def save(self, values: dict[str, Value]) -> None:
            raise OSError(28, "No space left on device")

    level = Settings(GROUP, Full({"Count": "2"}))
    await level.load()
    with pytest.raises(OSError, match="No space"):
        await level.update({"Count": "3"})
    assert level[COUNT] == 2


def test_a_key_is_declared_once() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        Group("X", "X", (COUNT, Setting("COUNT", Number(), 1)))
    registry = SettingsRegistry()
    registry.add(Settings(GROUP, MemoryStorage()))
    with pytest.raises(ValueError, match="twice"):
        registry.add(Settings(GROUP, MemoryStorage()))
    assert registry.find("test") is not None


def test_secrets_print_as_a_mark() -> None:
    secret = SecretText().parse("sesame")
    assert secret.reveal() == "sesame"
    assert "sesame" not in f"{secret} {secret!r} %s {secret:>10}" % secret
    assert isinstance(secret, Secret)
    assert SecretText().render(secret) == "sesame"
