"""String lists: named lists of strings in the account's datasets, that conditions look into (`#BlockedSenders`) and that the
action Remember 'From' in fills (manual, chapter 28, String Lists).

They stand in the account's `.dst` file under one key. At most `MAX_STRINGS` strings a list: the oldest go first, so that a list of
answered authors cannot grow for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from weakref import WeakKeyDictionary

import trio

from appliance.formats.data import Value
from appliance.kernel.settings import Storage
from appliance.objects.domain import Account
from appliance.rules.pictures import Test, pictures

__all__ = ["MAX_LISTS", "MAX_STRINGS", "REPLIED", "StringLists"]

REPLIED: Final = "RepliedAddresses"
"""The authors who got the automatic answer."""
MAX_STRINGS: Final = 10_000
MAX_LISTS: Final = 200
MAX_STRING: Final = 1000
_KEY: Final = "StringLists"


class _Lists:
    """The lists of one account, as they are in its file; and the questions made of them."""

    def __init__(self, values: dict[str, list[str]]) -> None:
        self.values = values
        self.tests: dict[str, Test] = {}

    def name(self, wanted: str) -> str:
        """The spelling under which a list is kept."""
        low = wanted.lower()
        return next((name for name in self.values if name.lower() == low), wanted)


class StringLists:
    """All string lists of a server; a file is read when a rule first asks for it."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Account, _Lists] = WeakKeyDictionary()
        self._locks: WeakKeyDictionary[Account, trio.Lock] = WeakKeyDictionary()

    @staticmethod
    def _storage(account: Account) -> Storage:
        return account.domain.storage(account.file("dst"), 0o600)

    async def _load(self, account: Account) -> _Lists:
        known = self._known.get(account)
        if known is None:
            stored = (await self._storage(account).load()).get(_KEY)
            values: dict[str, list[str]] = {}
            for name, strings in stored.items() if isinstance(stored, dict) else ():
                if isinstance(strings, list):
                    values[name] = [text for text in strings if isinstance(text, str)]
            known = self._known[account] = _Lists(values)
        return known

    async def test(self, account: Account, name: str) -> Test:
        """Whether a lower-case string is in the list; a list that is not there has none. OSError."""
        lists = await self._load(account)
        key = name.lower()
        test = lists.tests.get(key)
        if test is None:
            test = lists.tests[key] = pictures(lists.values.get(lists.name(name), ()))
        return test

    async def all(self, account: Account) -> dict[str, list[str]]:
        """Names and strings. OSError."""
        lists = await self._load(account)
        return {name: list(strings) for name, strings in lists.values.items()}

    async def put(self, account: Account, name: str, strings: Sequence[str] | None) -> None:
        """Replace a list, or remove it with None. ValueError for one that is too long; OSError."""
        if not name or len(name) > 128 or any(symbol < " " for symbol in name):
            raise ValueError("the name of a string list is expected")
        if strings is not None and (len(strings) > MAX_STRINGS or any(len(text) > MAX_STRING for text in strings)):
            raise ValueError(f"at most {MAX_STRINGS} strings of {MAX_STRING} symbols")
        async with self._lock(account):
            lists = await self._load(account)
            values = {key: text for key, text in lists.values.items() if key.lower() != name.lower()}
            if strings is not None:
                values[lists.name(name)] = list(dict.fromkeys(strings))
                if len(values) > MAX_LISTS:
                    raise ValueError(f"at most {MAX_LISTS} lists")
            await self._save(account, values)

    async def remember(self, account: Account, name: str, text: str) -> bool:
        """Add one string; whether it is new. OSError."""
        text = text[:MAX_STRING]
        async with self._lock(account):
            lists = await self._load(account)
            key = lists.name(name)
            strings = lists.values.get(key, [])
            low = text.lower()
            if any(known.lower() == low for known in strings):
                return False
            if key not in lists.values and len(lists.values) >= MAX_LISTS:
                return False
            values: Mapping[str, list[str]] = {**lists.values, key: [*strings, text][-MAX_STRINGS:]}
            await self._save(account, dict(values))
            return True

    def _lock(self, account: Account) -> trio.Lock:
        lock = self._locks.get(account)
        if lock is None:
            lock = self._locks[account] = trio.Lock()
        return lock

    async def _save(self, account: Account, values: dict[str, list[str]]) -> None:
        storage = self._storage(account)
        file = await storage.load()
        kept: dict[str, Value] = {name: list(strings) for name, strings in values.items()}
        await storage.save({**file, _KEY: kept})
        self._known[account] = _Lists(values)
