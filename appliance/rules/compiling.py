"""A set of rules, made ready once: checked, sorted by priority, its conditions made into questions.

What is stored may come from another version or another hand: a rule with a word that is not known is left out and reported, the
others work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.formats.data import Value
from appliance.rules.actions import ActionKind, check_action
from appliance.rules.conditions import Question, compile_condition
from appliance.rules.model import Action, Level, Rule, RuleError, read_rule, read_set, render_set
from appliance.rules.subject import Subject

__all__ = ["CompiledRule", "RuleSet", "check_set", "compile_rule", "compile_set", "merge"]


class CompiledRule:
    """A rule as it is run. `key` is its name, with a number behind it if several have that name: it names what the rule does in
    the journal."""

    __slots__ = ("actions", "first", "key", "lists", "questions", "routed", "rule")

    def __init__(
        self,
        rule: Rule,
        questions: tuple[Question, ...],
        actions: tuple[tuple[Action, ActionKind], ...],
        lists: frozenset[str],
        routed: bool,
    ) -> None:
        self.rule = rule
        self.key = rule.name
        self.questions = questions
        self.first = questions[0] if questions else None
        """Asked before anything else: most rules end there."""
        self.actions = actions
        self.lists = lists
        self.routed = routed

    def missed(self, subject: Subject) -> int:
        """The number of the first condition that is not met, from 1; 0 if all are."""
        for number, question in enumerate(self.questions, 1):
            if not question(subject):
                return number
        return 0


class RuleSet:
    """The rules that are switched on, the highest priority first; equal ones in their stored order."""

    __slots__ = ("lists", "problems", "routed", "rules")

    def __init__(self, rules: Sequence[CompiledRule], problems: Sequence[str] = ()) -> None:
        self.rules = tuple(sorted(rules, key=lambda one: -one.rule.priority))
        self.problems = tuple(problems)
        self.lists = frozenset().union(*(one.lists for one in self.rules))
        self.routed = any(one.routed for one in self.rules)


def compile_rule(rule: Rule, level: Level) -> CompiledRule:
    """Raises RuleError that names the rule, the condition or action, and the wrong word."""
    questions: list[Question] = []
    conditions = []
    lists: set[str] = set()
    routed = False
    for number, condition in enumerate(rule.conditions, 1):
        try:
            clean, question, kind = compile_condition(condition, level)
        except ValueError as error:
            raise RuleError(rule.name, f"condition {number}: {error}") from None
        conditions.append(clean)
        questions.append(question)
        routed = routed or kind.routed
        if clean.operation in ("in", "not in") and clean.parameter.startswith("#"):
            lists.add(clean.parameter[1:].strip())
    actions: list[tuple[Action, ActionKind]] = []
    for number, action in enumerate(rule.actions, 1):
        try:
            actions.append(check_action(action, level))
        except ValueError as error:
            raise RuleError(rule.name, f"action {number}: {error}") from None
    clean_rule = Rule(rule.priority, rule.name, tuple(conditions), tuple(action for action, _ in actions))
    return CompiledRule(clean_rule, tuple(questions), tuple(actions), frozenset(lists), routed)


def check_set(value: Value | Sequence[Value], level: Level) -> list[Value]:
    """The set as it is stored, its words written properly. Raises RuleError."""
    return render_set(compile_rule(rule, level).rule for rule in read_set(value))


def compile_set(value: Value, level: Level) -> RuleSet:
    """What is stored, ready to run; what is wrong in it is told in `problems`."""
    rules: list[CompiledRule] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, part in enumerate(value if isinstance(value, list) else [], 1):
        try:
            rule = read_rule(part, number)
            if not rule.priority:
                continue
            ready = compile_rule(rule, level)
        except RuleError as error:
            problems.append(str(error))
            continue
        seen[rule.name] = count = seen.get(rule.name, 0) + 1
        if count > 1:
            ready.key = f"{rule.name}~{count}"
        rules.append(ready)
    return RuleSet(rules, problems)


def merge(sets: Iterable[RuleSet]) -> RuleSet:
    """Several sets as one: rules of equal priority in the order of the sets."""
    many = list(sets)
    return RuleSet([rule for one in many for rule in one.rules], [text for one in many for text in one.problems])
