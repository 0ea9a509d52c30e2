"""Rules as data (manual, chapter 28; chapter 20, the Rules column): conditions and actions are names with parameters.

The notation of a set is an array of rules `(priority, "name", (conditions), (actions))`, a condition `("Subject","is","*sale*")`
or `("Human Generated")`, an action `("Reject","text")` or `("Discard")`. This is one notation of the data; the engine knows
only the data, so another one can stand beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from appliance.formats.data import Value

__all__ = [
    "MAX_CONDITIONS",
    "MAX_PARAMETER",
    "MAX_RULES",
    "Action",
    "Condition",
    "Level",
    "Rule",
    "RuleError",
    "read_rule",
    "read_set",
    "render_set",
]

MAX_RULES: Final = 5000
MAX_CONDITIONS: Final = 100
"""Conditions of a rule at most, and actions."""
MAX_PARAMETER: Final = 64 << 10
"""Symbols of one parameter."""
MAX_NAME: Final = 200
MAX_PRIORITY: Final = 10
"""9 is the highest on the page; 10 is read, because later versions write it."""


class Level(Enum):
    """Whose rules they are."""

    SERVER = "server"
    DOMAIN = "domain"
    ACCOUNT = "account"


class RuleError(ValueError):
    """A rule that is not taken; the text names the rule and the word, for the person who wrote it."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f'Rule "{rule}": {reason}' if rule else reason)
        self.rule = rule
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Condition:
    """`operation` is empty where the condition has none."""

    name: str
    operation: str = ""
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """Priority 0 is disabled, 9 runs first. No conditions: it applies to every message."""

    priority: int
    name: str
    conditions: tuple[Condition, ...] = ()
    actions: tuple[Action, ...] = ()


def _text(value: Value, rule: str, what: str, limit: int = MAX_PARAMETER) -> str:
    if not isinstance(value, str):
        raise RuleError(rule, f"{what}: a string is expected")
    if len(value) > limit:
        raise RuleError(rule, f"{what}: at most {limit} symbols")
    if "\0" in value:
        raise RuleError(rule, f"{what}: a zero symbol is not possible")
    return value.replace("\r\n", "\n").replace("\r", "\n")


def _list(value: Value, rule: str, what: str) -> list[Value]:
    if not isinstance(value, list):
        raise RuleError(rule, f"{what}: an array is expected")
    if len(value) > MAX_CONDITIONS:
        raise RuleError(rule, f"{what}: at most {MAX_CONDITIONS}")
    return value


def _condition(value: Value, rule: str, number: int) -> Condition:
    what = f"condition {number}"
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list) or not 1 <= len(parts) <= 3:
        raise RuleError(rule, f"{what}: an array of name, operation and parameter is expected")
    texts = [_text(part, rule, what) for part in parts]
    return Condition(*texts)


def _action(value: Value, rule: str, number: int) -> Action:
    what = f"action {number}"
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list) or not 1 <= len(parts) <= 2:
        raise RuleError(rule, f"{what}: an array of name and parameter is expected")
    texts = [_text(part, rule, what) for part in parts]
    return Action(*texts)


def read_rule(value: Value, number: int = 1) -> Rule:
    """One rule from its notation; words are not looked at yet. Raises RuleError."""
    if not isinstance(value, list) or not 2 <= len(value) <= 5:
        raise RuleError(f"number {number}", "an array of priority, name, conditions and actions is expected")
    name = _text(value[1], f"number {number}", "the name", MAX_NAME).strip()
    if not name or "\n" in name:
        raise RuleError(f"number {number}", "the name is missing or has several lines")
    text = _text(value[0], name, "the priority").strip()
    if text.lower() in ("disabled", "inactive", ""):
        text = "0"
    if not text.isascii() or not text.isdigit() or len(text) > 2 or int(text) > MAX_PRIORITY:
        raise RuleError(name, f"the priority {text[:20]!r} is not 0 (disabled) to 9")
    conditions = _list(value[2], name, "conditions") if len(value) > 2 else []
    actions = _list(value[3], name, "actions") if len(value) > 3 else []
    return Rule(
        int(text),
        name,
        tuple(_condition(part, name, at) for at, part in enumerate(conditions, 1)),
        tuple(_action(part, name, at) for at, part in enumerate(actions, 1)),
    )


def read_set(value: Value | Sequence[Value]) -> list[Rule]:
    """All rules of a set in their stored order. Raises RuleError for the first wrong one."""
    if not isinstance(value, (list, tuple)):
        raise RuleError("", "an array of rules is expected")
    if len(value) > MAX_RULES:
        raise RuleError("", f"at most {MAX_RULES} rules")
    return [read_rule(part, number) for number, part in enumerate(value, 1)]


def _render(rule: Rule) -> Value:
    conditions: list[Value] = []
    for condition in rule.conditions:
        if condition.operation:
            conditions.append([condition.name, condition.operation, condition.parameter])
        else:
            conditions.append([condition.name])
    actions: list[Value] = [
        [action.name, action.parameter] if action.parameter else [action.name] for action in rule.actions
    ]
    return [str(rule.priority), rule.name, conditions, actions]


def render_set(rules: Iterable[Rule]) -> list[Value]:
    """The notation of a set."""
    return [_render(rule) for rule in rules]
