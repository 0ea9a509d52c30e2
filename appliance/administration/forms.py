"""Forms made from declared settings: what a page shows, and what a posted form means. The pages only draw them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.formats.data import Value
from appliance.kernel.settings import DEFAULT, Rows, Setting, Settings

#: Values of a table's first column that mean "no such row" (manual: port 0, day Never, an empty name).
_NO_ROW = ("", "0", "Never")
#: Rows that a posted table may have.
MAX_ROWS = 1000


@dataclass(slots=True)
class Field:
    """One control. `inherited` is the text of the value that counts when there is none here, None at the top level."""

    key: str
    title: str
    control: str
    value: str = ""
    values: tuple[str, ...] = ()
    choices: tuple[tuple[str, str], ...] = ()
    help: str = ""
    inherited: str | None = None
    is_set: bool = True
    error: str = ""
    columns: tuple[Setting[Any], ...] = ()
    rows: list[list[Field]] = field(default_factory=list)


@dataclass(slots=True)
class Panel:
    """Fields under one heading, in the order of their declaration."""

    title: str
    fields: list[Field]


def _text(setting: Setting[Any], value: Value) -> str:
    if isinstance(value, list):
        return "\n".join(str(item) for item in value)
    return "" if setting.secret else str(value)


def _choices(setting: Setting[Any]) -> tuple[tuple[str, str], ...]:
    return tuple(getattr(setting.kind, "choices", ()))


def _label(setting: Setting[Any], value: Value) -> str:
    text = _text(setting, value)
    return dict(_choices(setting)).get(text, text.replace("\n", ", "))


def _field(setting: Setting[Any], settings: Settings, *, inherits: bool) -> Field:
    control = setting.kind.control
    explicit = settings.explicit(setting)
    is_set = explicit is not None
    shown = setting.kind.render(explicit if is_set else settings[setting])
    made = Field(setting.key, setting.title or setting.key, control, help=setting.help, is_set=is_set or not inherits)
    made.choices = _choices(setting)
    if isinstance(setting.kind, Rows):
        made.columns = setting.kind.columns
        rows = shown if isinstance(shown, list) else []
        for number, row in enumerate([*rows, {}]):
            cells = row if isinstance(row, dict) else {}
            made.rows.append(
                [
                    Field(
                        f"{setting.key}.{number}.{column.key}",
                        column.title or column.key,
                        column.kind.control,
                        value=_text(column, cells.get(column.key, column.kind.render(column.default))),
                        choices=_choices(column),
                    )
                    for column in setting.kind.columns
                ]
            )
        return made
    if isinstance(shown, list):
        made.values = tuple(str(item) for item in shown)
    made.value = _text(setting, shown) if is_set or not inherits else ""
    if inherits:
        above = settings.parent[setting] if settings.parent is not None else setting.default
        made.inherited = _label(setting, setting.kind.render(above))
    return made


def build(
    settings: Settings, *, inherits: bool, only: Iterable[Setting[Any]] | None = None, leave_out: Sequence[str] = ()
) -> list[Panel]:
    """The panels of a settings level; `inherits`: each field offers "default" and shows what would count then."""
    panels: dict[str, Panel] = {}
    for setting in only if only is not None else settings.group:
        if setting.kind.control == "raw" or setting.key in leave_out:
            continue
        panel = panels.setdefault(setting.panel, Panel(setting.panel, []))
        panel.fields.append(_field(setting, settings, inherits=inherits))
    return list(panels.values())


def keep(panels: Sequence[Panel], posted: Mapping[str, Sequence[str]], error: str) -> None:
    """Show again what was posted and not taken, with the error at its field; passwords have to be typed again."""
    for panel in panels:
        for made in panel.fields:
            if error.startswith(f"{made.key}: "):
                made.error = error[len(made.key) + 2 :]
            for cell in (cell for row in made.rows for cell in row):
                if cell.key in posted:
                    cell.value = posted[cell.key][-1]
            given = posted.get(made.key)
            if given is None or made.control in ("secret", "secretlines"):
                continue
            made.value = given[-1]
            if made.control == "services":
                made.values = tuple(given)
                made.is_set = made.inherited is None or DEFAULT not in given
            elif made.inherited is not None:
                made.is_set = given[-1].strip() not in ("", DEFAULT)


def read(settings: Settings, posted: Mapping[str, Sequence[str]], *, inherits: bool) -> dict[str, Value]:
    """The changes that a posted form asks for. A field that was not on the form is left alone; an empty one is `default`
    where the level inherits; an empty secret is no change."""
    changes: dict[str, Value] = {}
    for setting in settings.group:
        control = setting.kind.control
        if isinstance(setting.kind, Rows):
            rows = _rows(setting, setting.kind, posted)
            if rows is not None:
                changes[setting.key] = rows
            continue
        given = posted.get(setting.key)
        if given is None:
            continue
        last = given[-1].replace("\r\n", "\n")
        if control in ("secret", "secretlines"):
            if last:
                changes[setting.key] = last
        elif control == "services":
            words = [word for word in given if word and word != DEFAULT]
            changes[setting.key] = DEFAULT if inherits and DEFAULT in given else list(words)
        elif control == "words":
            items: list[Value] = [part.strip() for part in last.replace("\n", ",").split(",") if part.strip()]
            changes[setting.key] = DEFAULT if inherits and not items else items
        elif inherits and last.strip() in ("", DEFAULT):
            changes[setting.key] = DEFAULT
        else:
            changes[setting.key] = last if control == "lines" else last.strip()
    return _different(settings, changes, inherits=inherits)


def _different(settings: Settings, changes: dict[str, Value], *, inherits: bool) -> dict[str, Value]:
    """Without what says the same as before, so that a page sets nothing that its user did not change."""
    stored = settings.stored()
    kept: dict[str, Value] = {}
    for key, value in changes.items():
        setting = settings.group.find(key)
        assert setting is not None
        if value == DEFAULT:
            if settings.explicit(setting) is not None:
                kept[key] = value
            continue
        before = stored.get(key)
        if before is None and not inherits:
            before = setting.kind.render(settings[setting])
        try:
            same = before is not None and setting.kind.parse(value) == setting.kind.parse(before)
        except ValueError:
            same = False
        if not same:
            kept[key] = value
    return kept


def _rows(setting: Setting[Any], kind: Rows, posted: Mapping[str, Sequence[str]]) -> list[Value] | None:
    first = kind.columns[0].key
    if f"{setting.key}.0.{first}" not in posted:
        return None
    rows: list[Value] = []
    for number in range(MAX_ROWS):
        given = posted.get(f"{setting.key}.{number}.{first}")
        if given is None:
            break
        if given[-1].strip() in _NO_ROW:
            continue
        row: dict[str, Value] = {}
        for column in kind.columns:
            cell = posted.get(f"{setting.key}.{number}.{column.key}")
            if cell is not None:
                row[column.key] = cell[-1].replace("\r\n", "\n").strip()
        rows.append(row)
    return rows
