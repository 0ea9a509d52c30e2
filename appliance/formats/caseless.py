"""A dictionary whose keys do not care about case: attributes of the Directory, data sets of web pages.

Stored dictionaries (see `data`) do care; this is for what is made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TypeVar

_V = TypeVar("_V")


class CaselessDict(MutableMapping[str, _V]):
    """Finds a value by any spelling of its key; a key keeps the spelling that was set last, and its place in the order."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, _V] | Iterable[tuple[str, _V]] = ()) -> None:
        self._items: dict[str, tuple[str, _V]] = {}
        for key, value in items.items() if isinstance(items, Mapping) else items:
            self[key] = value

    def __getitem__(self, key: str) -> _V:
        return self._items[key.lower()][1]

    def __setitem__(self, key: str, value: _V) -> None:
        self._items[key.lower()] = (key, value)

    def __delitem__(self, key: str) -> None:
        del self._items[key.lower()]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._items

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"CaselessDict({dict(self.items())!r})"
