"""Files of settings: dictionaries in the notation of data, written as a whole (new file, sync, rename).

A file that cannot be parsed never stops the start: it is kept aside as `NAME.damaged`, a Failure record names it, and the
defaults count. Keys that nobody declared are kept, because `Settings` hands back what it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from appliance.formats.data import DataError, Value, parse, render_file
from appliance.kernel.disk import Disk
from appliance.kernel.files import FILE_MODE
from appliance.kernel.log import Logger
from appliance.kernel.settings import Settings

__all__ = ["DictionaryFile", "SharedDictionary", "record_changes"]

MAX_FILE: Final = 64 << 20
"""Most bytes of a settings file; a larger one counts as damaged."""


class DictionaryFile:
    """A file that holds one dictionary: the Storage of a `Settings` object, or read and written by its owner."""

    def __init__(self, disk: Disk, path: str, log: Logger, mode: int = FILE_MODE) -> None:
        self.disk = disk
        self.path = path
        self.mode = mode
        self._log = log
        self._lock = trio.Lock()

    async def load(self) -> dict[str, Value]:
        """The dictionary; empty if there is no file or it is damaged. Raises OSError if the disk does not read."""
        async with self._lock:
            return await self._read()

    async def save(self, values: dict[str, Value]) -> None:
        """Durable when it returns; savers take turns, so the last one counts. Raises OSError, and the old file stays."""
        async with self._lock:
            await self._write(values)

    async def save_key(self, key: str, value: Value | None) -> None:
        """Put one key, or remove it with None; the others stay as they are in the file."""
        async with self._lock:
            values = await self._read()
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value
            await self._write(values)

    async def _write(self, values: dict[str, Value]) -> None:
        data = render_file(values).encode("utf-8", "surrogateescape")
        await self.disk.write_file(self.path, data, mode=self.mode, durable=True)

    async def _read(self) -> dict[str, Value]:
        try:
            data = await self.disk.read_bytes(self.path, MAX_FILE + 1)
        except FileNotFoundError:
            return {}
        if not data.strip():
            return await self._damaged("it is empty") if data else {}
        if len(data) > MAX_FILE:
            return await self._damaged("it is too large")
        warnings: list[str] = []
        try:
            value = parse(data, warnings=warnings)
        except DataError as error:
            return await self._damaged(str(error))
        if not isinstance(value, dict):
            return await self._damaged("it holds no dictionary")
        for warning in warnings:
            self._log.problem("%s: %s", self.path, warning)
        return value

    async def _damaged(self, reason: str) -> dict[str, Value]:
        aside = self.path + ".damaged"
        try:
            await self.disk.rename(self.path, aside)
        except OSError as error:
            self._log.failure("settings file %s is damaged (%s) and cannot be renamed: %s", self.path, reason, error)
        else:
            self._log.failure("settings file %s is damaged (%s): kept as %s, defaults count", self.path, reason, aside)
        return {}


def record_changes(settings: Settings, log: Logger) -> Callable[[], None]:
    """Write a record for each change of these settings: which keys, never the values. The answer ends it."""

    def write(changed: frozenset[str]) -> None:
        log.major("settings of %s are changed: %s", settings.group.name, ", ".join(sorted(changed)))

    return settings.watch(write)


class SharedDictionary:
    """A dictionary under one key of a DictionaryFile: the Storage of a part of a file that several own."""

    def __init__(self, file: DictionaryFile, key: str) -> None:
        self._file = file
        self._key = key

    async def load(self) -> dict[str, Value]:
        value = (await self._file.load()).get(self._key)
        return dict(value) if isinstance(value, dict) else {}

    async def save(self, values: dict[str, Value]) -> None:
        await self._file.save_key(self._key, dict(values))
