"""The two simplified rules: the automatic answer and the redirection of all mail (manual, chapter 28). They are rules of the
account like the others, under names of their own, so everything that shows or runs rules knows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from appliance.rules.actions import parse_addresses, parse_mail_text
from appliance.rules.lists import REPLIED
from appliance.rules.model import Action, Condition, Rule, RuleError

__all__ = ["REDIRECT", "VACATION", "AutoReply", "Redirection", "read_auto_reply", "read_redirection", "replaced"]

VACATION: Final = "#Vacation"
REDIRECT: Final = "#Redirect"
_REPLY_PRIORITY: Final = 2
_REDIRECT_PRIORITY: Final = 1


@dataclass(frozen=True, slots=True)
class AutoReply:
    """The answer that each author gets once. The text can be kept while it is off."""

    enabled: bool = False
    text: str = ""

    def rule(self) -> Rule | None:
        """RuleError for a text that is no message."""
        if not self.text.strip():
            if self.enabled:
                raise RuleError("Auto-Reply", "the text of the answer is missing")
            return None
        try:
            parse_mail_text(self.text)
        except ValueError as error:
            raise RuleError("Auto-Reply", str(error)) from None
        return Rule(
            _REPLY_PRIORITY if self.enabled else 0,
            VACATION,
            (Condition("Human Generated"), Condition("From", "not in", f"#{REPLIED}")),
            (Action("Reply with", self.text), Action("Remember 'From' in", REPLIED)),
        )


@dataclass(frozen=True, slots=True)
class Redirection:
    """All mail goes on to `addresses`; the options are those of the manual's form."""

    enabled: bool = False
    addresses: str = ""
    keep_copy: bool = False
    not_automatic: bool = True
    preserve_to: bool = True

    def rule(self) -> Rule | None:
        """RuleError for what is no list of addresses."""
        if not self.addresses.strip():
            if self.enabled:
                raise RuleError("Redirect All", "an address is missing")
            return None
        try:
            parse_addresses(self.addresses)
        except ValueError as error:
            raise RuleError("Redirect All", str(error)) from None
        actions = [Action("Mirror to" if self.preserve_to else "Redirect to", self.addresses.strip())]
        if not self.keep_copy:
            actions.append(Action("Discard"))
        conditions = (Condition("Human Generated"),) if self.not_automatic else ()
        return Rule(_REDIRECT_PRIORITY if self.enabled else 0, REDIRECT, conditions, tuple(actions))


def _named(rules: Iterable[Rule], name: str) -> Rule | None:
    return next((rule for rule in rules if rule.name == name), None)


def read_auto_reply(rules: Iterable[Rule]) -> AutoReply:
    """The form's values from a set."""
    rule = _named(rules, VACATION)
    if rule is None:
        return AutoReply()
    text = next((action.parameter for action in rule.actions if action.name == "Reply with"), "")
    return AutoReply(rule.priority > 0, text)


def read_redirection(rules: Iterable[Rule]) -> Redirection:
    """The form's values from a set."""
    rule = _named(rules, REDIRECT)
    if rule is None:
        return Redirection()
    names = {action.name: action.parameter for action in rule.actions}
    return Redirection(
        rule.priority > 0,
        names.get("Mirror to") or names.get("Redirect to", ""),
        "Discard" not in names,
        any(condition.name == "Human Generated" for condition in rule.conditions),
        "Mirror to" in names,
    )


def replaced(rules: Iterable[Rule], name: str, rule: Rule | None) -> list[Rule]:
    """The set with that rule in place of the one of the name, or without one."""
    rest = [one for one in rules if one.name != name]
    return rest if rule is None else [*rest, rule]
