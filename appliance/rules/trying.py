"""Try this message: which rules would fire for it, and why the others would not. Nothing is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from appliance.rules.compiling import RuleSet
from appliance.rules.doing import header_lines
from appliance.rules.subject import Subject

__all__ = ["MAX_TRIED", "Tried", "try_rules"]

MAX_TRIED: Final = 1 << 20
"""Octets of a message that is tried."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a rule would make of the message: `fires`, or the condition that is not met; its actions as texts. `reached` is
    False for rules behind one that ended the processing."""

    name: str
    priority: int
    reached: bool
    fires: bool
    reason: str
    actions: tuple[str, ...] = ()


def try_rules(subject: Subject, rules: RuleSet) -> tuple[list[Tried], str]:
    """A line for each rule that is switched on, and what becomes of the message in the end."""
    answer: list[Tried] = []
    end = ""
    for rule in rules.rules:
        name, priority = rule.rule.name, rule.rule.priority
        if end:
            answer.append(Tried(name, priority, False, False, "not looked at any more"))
            continue
        missed = rule.missed(subject)
        if missed:
            condition = rule.rule.conditions[missed - 1]
            words = " ".join(part for part in (condition.name, condition.operation, condition.parameter) if part)
            answer.append(Tried(name, priority, True, False, f"condition {missed} is not met: {words[:300]}"))
            continue
        actions: list[str] = []
        for action, kind in rule.actions:
            actions.append(f"{action.name} {action.parameter}".strip()[:500])
            if action.name == "Add Headers":
                subject.add(header_lines(action.parameter))
            if kind.ends:
                end = action.name
                break
        reason = "all conditions are met" if rule.rule.conditions else "it has no conditions"
        answer.append(Tried(name, priority, True, True, reason, tuple(actions)))
    return answer, {"Discard": "discarded", "Reject": "rejected"}.get(end, "stored")
