"""Settings: each is declared once, and load, save, validation, CLI, forms and the reference page come from the declaration.

A room declares `Setting` objects and gathers them in a `Group` (the manual's component: "SMTP", "Router", "Domain", "Account").
At run time a `Settings` object holds the explicit values of one group at one level (server, domain default, domain, account)
and knows the level above it. A value is looked up through that chain at use and never copied, so a change of a default
counts at once. Unknown keys survive load and save (another version, or another room, may know them).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, cast, overload

from appliance.formats.data import Value
from appliance.formats.iplists import AddressList
from appliance.formats.values import (
    parse_boolean,
    parse_size,
    parse_time,
    render_boolean,
    render_size,
    render_time,
)

T = TypeVar("T")

#: The word that means "no explicit value here, inherit" in every update (manual, chapter 16).
DEFAULT = "default"

MAX_TEXT = 1 << 20


class SettingError(ValueError):
    """A value that a setting does not take. `key` names the setting, the text tells what was wrong."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}" if key else reason)
        self.key = key
        self.reason = reason


class Secret(str):
    """A value that prints as a mark, wherever it is printed by accident; `reveal()` is the deliberate way."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def reveal(self) -> str:
        return str.__str__(self)


class Kind(Generic[T]):
    """How values of a setting are checked (`parse`), stored (`render`) and edited (`control` names the form control)."""

    control = "text"

    def parse(self, value: Value) -> T:
        """The typed value. Raises ValueError with a text for the user."""
        raise ValueError("no value is possible")

    def render(self, value: T) -> Value:
        return str(value)


def _string(value: Value) -> str:
    if not isinstance(value, str):
        raise ValueError("a string is expected")
    return value


class Text(Kind[str]):
    """Free text of at most `limit` characters; `lines` allows line ends."""

    def __init__(self, *, limit: int = 4096, lines: bool = False) -> None:
        self.limit = limit
        self.lines = lines
        self.control = "lines" if lines else "text"

    def parse(self, value: Value) -> str:
        text = _string(value)
        if len(text) > self.limit:
            raise ValueError(f"at most {self.limit} characters")
        if not self.lines and ("\n" in text or "\r" in text):
            raise ValueError("one line is expected")
        return text


class SecretText(Kind[Secret]):
    """A password or key: stored as it is, never shown."""

    control = "secret"

    def parse(self, value: Value) -> Secret:
        text = _string(value)
        if len(text) > 4096:
            raise ValueError("at most 4096 characters")
        return Secret(text)

    def render(self, value: Secret) -> Value:
        return value.reveal()


class SecretLines(SecretText):
    """A key of several lines (PEM). In a field of one line a browser would join them."""

    control = "secretlines"


class YesNo(Kind[bool]):
    control = "checkbox"

    def parse(self, value: Value) -> bool:
        return parse_boolean(_string(value))

    def render(self, value: bool) -> Value:
        return render_boolean(value)


class Number(Kind[int]):
    """A whole number between bounds, both included."""

    control = "number"

    def __init__(self, low: int = 0, high: int = 2**31 - 1) -> None:
        self.low = low
        self.high = high

    def parse(self, value: Value) -> int:
        text = _string(value).strip()
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{text[:40]!r} is not a whole number") from None
        if not self.low <= number <= self.high:
            raise ValueError(f"{number} is not between {self.low} and {self.high}")
        return number


class Limit(Kind[int | None]):
    """A number, or None for unlimited (stored as `unlimited`; `-1` is read too)."""

    control = "number"

    def parse(self, value: Value) -> int | None:
        text = _string(value).strip()
        if text == "-1" or text[:1] in ("u", "U"):
            return None
        return Number().parse(text)

    def render(self, value: int | None) -> Value:
        return "unlimited" if value is None else str(value)


class Size(Kind[int | None]):
    """Bytes, with K or M; None is unlimited."""

    control = "size"

    def parse(self, value: Value) -> int | None:
        return parse_size(_string(value))

    def render(self, value: int | None) -> Value:
        return render_size(value)


class Time(Kind[int]):
    """Seconds, with s, m, h or d, between bounds."""

    control = "time"

    def __init__(self, low: int = 0, high: int = 10 * 365 * 86400) -> None:
        self.low = low
        self.high = high

    def parse(self, value: Value) -> int:
        seconds = parse_time(_string(value))
        if not self.low <= seconds <= self.high:
            raise ValueError(f"not between {render_time(self.low)} and {render_time(self.high)}")
        return seconds

    def render(self, value: int) -> Value:
        return render_time(value)


class Choice(Kind[str]):
    """One of a few words; each stored word has a label for people. Case does not matter on input."""

    control = "choice"

    def __init__(self, *choices: str | tuple[str, str]) -> None:
        self.choices = tuple(c if isinstance(c, tuple) else (c, c) for c in choices)

    def parse(self, value: Value) -> str:
        text = _string(value).strip().casefold()
        for stored, label in self.choices:
            if text in (stored.casefold(), label.casefold()):
                return stored
        raise ValueError("one of " + ", ".join(stored for stored, _ in self.choices) + " is expected")


class Words(Kind[tuple[str, ...]]):
    """A list of words: an array, or one text separated by commas or line ends; at most `limit` of them."""

    control = "words"

    def __init__(self, *, limit: int = 10000) -> None:
        self.limit = limit

    def parse(self, value: Value) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.replace("\n", ",").split(",")]
        if not isinstance(value, list):
            raise ValueError("a list is expected")
        if len(value) > self.limit:
            raise ValueError(f"at most {self.limit} items")
        return tuple(word for word in map(_string, value) if word)

    def render(self, value: tuple[str, ...]) -> Value:
        return list(value)


class Addresses(Kind[AddressList]):
    """A multi-line list of IP addresses and ranges with comments (manual, chapter 10, Restrictions)."""

    control = "lines"

    def parse(self, value: Value) -> AddressList:
        text = _string(value)
        if len(text) > MAX_TEXT:
            raise ValueError("the list is too long")
        return AddressList.parse(text)

    def render(self, value: AddressList) -> Value:
        return value.text


class Raw(Kind[Any]):
    """Any value of the notation, checked by a function if one is given (raises ValueError)."""

    control = "raw"

    def __init__(self, check: Callable[[Value], Value] | None = None) -> None:
        self.check = check

    def parse(self, value: Value) -> Value:
        return self.check(value) if self.check else value

    def render(self, value: Any) -> Value:
        return cast(Value, value)


class Rows(Kind[tuple[Mapping[str, Any], ...]]):
    """A table: an array of dictionaries whose columns are settings of their own (listener sockets, schedule elements)."""

    control = "table"

    def __init__(self, *columns: Setting[Any], limit: int = 1000) -> None:
        self.columns = columns
        self.limit = limit

    def parse(self, value: Value) -> tuple[Mapping[str, Any], ...]:
        if not isinstance(value, list):
            raise ValueError("an array of dictionaries is expected")
        if len(value) > self.limit:
            raise ValueError(f"at most {self.limit} rows")
        rows = []
        for number, row in enumerate(value, 1):
            if not isinstance(row, dict):
                raise ValueError(f"row {number}: a dictionary is expected")
            cells: dict[str, Any] = {}
            for column in self.columns:
                try:
                    cells[column.key] = column.kind.parse(row[column.key]) if column.key in row else column.default
                except ValueError as error:
                    raise ValueError(f"row {number}, {column.key}: {error}") from None
            rows.append(cells)
        return tuple(rows)

    def render(self, value: tuple[Mapping[str, Any], ...]) -> Value:
        return [{c.key: c.kind.render(row[c.key]) for c in self.columns} for row in value]


#: Log levels (manual, chapter 6): a record is stored if its level is not higher than the component's setting.
LEVELS = (
    ("0", "Crashes"),
    ("1", "Failures"),
    ("2", "Major & Failures"),
    ("3", "Problems"),
    ("4", "Low-Level"),
    ("5", "All Info"),
)


class LogLevel(Kind[int]):
    control = "choice"
    choices = LEVELS

    def parse(self, value: Value) -> int:
        text = _string(value).strip().casefold()
        for stored, label in LEVELS:
            if text in (stored, label.casefold(), label.casefold().replace(" ", "")) or (
                text == "major" and stored == "2"
            ):
                return int(stored)
        raise ValueError("one of " + ", ".join(label for _, label in LEVELS) + " is expected")


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """One setting, declared by the room that uses it.

    `attribute` is the Directory attribute, `column` the import column (both default to none), `grantable` says that a
    domain administrator can be granted this setting by its key, `restart` that a change acts at the next start only.
    """

    key: str
    kind: Kind[T]
    default: T
    title: str = ""
    panel: str = ""
    help: str = ""
    synonyms: tuple[str, ...] = ()
    attribute: str = ""
    column: str = ""
    grantable: bool = False
    secret: bool = False
    restart: bool = False

    def parse(self, value: Value) -> T:
        """The typed value. Raises SettingError that names the key."""
        try:
            return self.kind.parse(value)
        except ValueError as error:
            raise SettingError(self.key, str(error)) from None


Consistent = Callable[[Mapping[str, Any], frozenset[str]], Awaitable[None]]


class Group:
    """The declared settings of one component, found by key or synonym without regard to case.

    `consistent(values, changed)` looks at a change before it is stored: the effective typed values by key as they would be,
    and the keys that change. It raises SettingError for values that do not go together.
    """

    def __init__(
        self, name: str, title: str, settings: Iterable[Setting[Any]], consistent: Consistent | None = None
    ) -> None:
        self.name = name
        self.title = title
        self.consistent = consistent
        self.settings = tuple(settings)
        self._by_key: dict[str, Setting[Any]] = {}
        for setting in self.settings:
            for key in (setting.key, *setting.synonyms):
                if key.casefold() in self._by_key:
                    raise ValueError(f"{name}: setting {key} is declared twice")
                self._by_key[key.casefold()] = setting

    def find(self, key: str) -> Setting[Any] | None:
        return self._by_key.get(key.casefold())

    def __iter__(self) -> Iterator[Setting[Any]]:
        return iter(self.settings)


class Storage(Protocol):
    """Where the explicit values of one level live (a dictionary file; a key of another file; a test's memory)."""

    async def load(self) -> dict[str, Value]: ...

    async def save(self, values: dict[str, Value]) -> None:
        """Durable when it returns. Raises OSError."""
        ...


@dataclass(slots=True)
class MemoryStorage:
    """Values that live as long as the process."""

    values: dict[str, Value] = field(default_factory=dict)

    async def load(self) -> dict[str, Value]:
        return dict(self.values)

    async def save(self, values: dict[str, Value]) -> None:
        self.values = dict(values)


class Settings:
    """The explicit values of a group at one level, and the chain above it.

    `settings[SETTING]` is the effective typed value (explicit here, else of the parent levels, else the declared default);
    it never awaits. `update` and `replace` check everything first and change nothing on an error.
    """

    __slots__ = ("_explicit", "_stored", "_watchers", "group", "parent", "storage")

    def __init__(self, group: Group, storage: Storage, parent: Settings | None = None) -> None:
        self.group = group
        self.storage = storage
        self.parent = parent
        self._stored: dict[str, Value] = {}
        self._explicit: dict[str, Any] = {}
        self._watchers: list[Callable[[frozenset[str]], None]] = []

    async def load(self) -> list[SettingError]:
        """Read the stored values. A value that does not parse is ignored but kept, and reported in the answer."""
        values = await self.storage.load()
        errors: list[SettingError] = []
        explicit: dict[str, Any] = {}
        for key, value in values.items():
            setting = self.group.find(key)
            if setting is None or value == DEFAULT:
                continue
            try:
                explicit[setting.key] = setting.parse(value)
            except SettingError as error:
                errors.append(error)
        self._stored, self._explicit = values, explicit
        return errors

    @overload
    def __getitem__(self, setting: Setting[T]) -> T: ...
    @overload
    def __getitem__(self, setting: str) -> Any: ...
    def __getitem__(self, setting: Setting[T] | str) -> T | Any:
        if isinstance(setting, str):
            found = self.group.find(setting)
            if found is None:
                raise KeyError(setting)
            setting = found
        level: Settings | None = self
        while level is not None:
            if setting.key in level._explicit:
                return level._explicit[setting.key]
            level = level.parent
        return setting.default

    def explicit(self, setting: Setting[T]) -> T | None:
        """The value set at this very level, or None."""
        return cast("T | None", self._explicit.get(setting.key))

    def stored(self) -> dict[str, Value]:
        """The values set at this level as the notation has them, unknown keys included."""
        return dict(self._stored)

    def effective(self) -> dict[str, Value]:
        """All declared settings with the values that count, as the notation has them."""
        return {setting.key: setting.kind.render(self[setting]) for setting in self.group}

    def check(self, changes: Mapping[str, Value]) -> dict[str, Any]:
        """The typed values of `changes`. Raises SettingError naming the first bad one."""
        typed: dict[str, Any] = {}
        for key, value in changes.items():
            setting = self.group.find(key)
            if setting is not None and value != DEFAULT:
                typed[setting.key] = setting.parse(value)
        return typed

    async def update(self, changes: Mapping[str, Value]) -> frozenset[str]:
        """Merge: keys that are not named stay, the value `default` removes one. Answers the keys that changed."""
        self.check(changes)
        values = dict(self._stored)
        for key, value in changes.items():
            setting = self.group.find(key)
            names = (setting.key, *setting.synonyms) if setting else (key,)
            folded = {name.casefold() for name in names}
            for present in [k for k in values if k.casefold() in folded] if setting else [key]:
                values.pop(present, None)
            if value != DEFAULT:
                values[names[0]] = setting.kind.render(setting.parse(value)) if setting else value
        return await self._put(values)

    async def replace(self, values: Mapping[str, Value]) -> frozenset[str]:
        """All explicit values at this level become `values`; keys that no setting declares stay if not named."""
        self.check(values)
        kept = {key: value for key, value in self._stored.items() if self.group.find(key) is None}
        for key, value in values.items():
            if value == DEFAULT:
                kept.pop(key, None)
            else:
                setting = self.group.find(key)
                kept[setting.key if setting else key] = setting.kind.render(setting.parse(value)) if setting else value
        return await self._put(kept)

    async def _put(self, values: dict[str, Value]) -> frozenset[str]:
        explicit: dict[str, Any] = {}
        for key, value in values.items():
            setting = self.group.find(key)
            if setting is not None and value != DEFAULT:
                # A stored value that no longer parses (checked by the callers for new ones) stays stored, without effect.
                try:
                    explicit[setting.key] = setting.parse(value)
                except SettingError:
                    continue
        changed = frozenset(
            key for key in {*self._stored, *values} if self._stored.get(key, DEFAULT) != values.get(key, DEFAULT)
        )
        if changed:
            if self.group.consistent is not None:
                above = {s.key: s.default if self.parent is None else self.parent[s] for s in self.group}
                await self.group.consistent({**above, **explicit}, changed)
            await self.storage.save(values)
            self._stored, self._explicit = values, explicit
            for watcher in tuple(self._watchers):
                watcher(changed)
        return changed

    def watch(self, watcher: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        """Call `watcher(changed keys)` after each change at this level is stored; the answer ends it."""
        self._watchers.append(watcher)

        def end() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return end


class SettingsRegistry:
    """The server-level components by name: for GetModule/UpdateModule, WebAdmin pages and the reference page."""

    def __init__(self) -> None:
        self._components: dict[str, Settings] = {}

    def add(self, settings: Settings) -> Settings:
        name = settings.group.name.casefold()
        if name in self._components:
            raise ValueError(f"component {settings.group.name} is registered twice")
        self._components[name] = settings
        return settings

    def find(self, name: str) -> Settings | None:
        return self._components.get(name.casefold())

    def all(self) -> Sequence[Settings]:
        return tuple(self._components.values())
