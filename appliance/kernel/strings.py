"""Texts that clients and users see: greetings, answers, reports. Declared beside their use, changed in one file.

A text may hold macros: `^0` to `^9` for values by position, `^X` for a value named by one letter, `^(name)` for one by its
name, `^^` for the sign itself. The administrator's own texts stand in `Settings/Strings.settings`, key by key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from appliance.kernel.log import Logger
from appliance.kernel.settings import MemoryStorage, Storage

__all__ = ["Strings"]

_MACRO = re.compile(r"\^(?:([0-9A-Za-z^])|\(([A-Za-z0-9_]{1,64})\))")


class Strings:
    """The table: declared defaults, and what was changed."""

    def __init__(self, storage: Storage | None = None, log: Logger | None = None) -> None:
        self._storage = storage or MemoryStorage()
        self._log = log
        self._defaults: dict[str, str] = {}
        self._changed: dict[str, str] = {}
        self._plain: dict[str, str] = {}

    def declare(self, key: str, default: str) -> str:
        """Declare a text once; answers the key. Raises ValueError if the key has another text already."""
        if self._defaults.setdefault(key, default) != default:
            raise ValueError(f"text {key} is declared twice")
        return key

    def declare_all(self, texts: Mapping[str, str]) -> None:
        for key, default in texts.items():
            self.declare(key, default)

    async def load(self) -> None:
        """Read the administrator's texts."""
        changed = {}
        for key, value in (await self._storage.load()).items():
            if isinstance(value, str):
                changed[key] = value
            elif self._log is not None:
                self._log.problem("text %s in Strings.settings is not a string", key)
        self._changed = changed
        self._plain.clear()

    async def change(self, changes: Mapping[str, str | None]) -> None:
        """Store other texts for some keys; None gives back the default."""
        values = await self._storage.load()
        for key, text in changes.items():
            if text is None:
                values.pop(key, None)
            else:
                values[key] = text
        await self._storage.save(values)
        await self.load()

    def template(self, key: str) -> str:
        """The text that counts, macros not replaced. Raises KeyError for a key that nobody declared."""
        default = self._defaults[key]
        return self._changed.get(key, default)

    def text(self, key: str, *values: object, **named: object) -> str:
        """The text with its macros replaced; a macro without a value stays as it is."""
        plain = self._plain.get(key)
        if plain is not None:
            return plain
        template = self.template(key)
        if "^" not in template:
            self._plain[key] = template
            return template

        def replace(match: re.Match[str]) -> str:
            sign = match[1] or match[2]
            if sign == "^":
                return "^"
            if sign.isdigit():
                return str(values[int(sign)]) if int(sign) < len(values) else match[0]
            return str(named[sign]) if sign in named else match[0]

        return _MACRO.sub(replace, template)

    def wire(self, key: str, *values: object, **named: object) -> bytes:
        """The same as bytes for a protocol answer: one line, whatever was put into the text."""
        return " ".join(self.text(key, *values, **named).split()).encode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        """(key, default, text that counts) of every declared text, by key."""
        for key in sorted(self._defaults):
            yield key, self._defaults[key], self.template(key)
