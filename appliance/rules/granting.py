"""Who may write which rules (manual, chapter 20, Processing Options; chapter 8).

A user writes his own rules within the account's grant; rules with actions beyond it, made by an administrator, he sees and cannot
change. The automatic answer is always his. Programs are started for those who have the grant, or by administrators of all
domains; a domain administrator has no more of them than the account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.kernel.operations import Caller, Denied, Right
from appliance.objects import declarations as d
from appliance.objects.domain import Account
from appliance.rules.actions import Grant, find_action
from appliance.rules.model import Rule, RuleError
from appliance.rules.simple import VACATION, AutoReply, read_auto_reply

__all__ = ["beyond", "check_change", "grant_of", "may_change"]

_WORDS: Final = {
    "No": Grant.NO,
    "Filter Only": Grant.FILTER_ONLY,
    "All But Exec": Grant.ALL_BUT_EXEC,
    "Any": Grant.ANY,
}


def grant_of(caller: Caller, account: Account) -> Grant:
    """What the caller may put into rules of the account."""
    own = _WORDS.get(account.settings[d.RULES_ALLOWED], Grant.NO)
    if caller.account is None or caller.has(Right.DOMAINS):
        return Grant.ADMINISTRATOR
    if caller.has(Right.MODIFY_RULES, account.domain.name):
        return max(own, Grant.ALL_BUT_EXEC)
    return own if caller.account == account.full_name else Grant.NO


def beyond(rule: Rule, grant: Grant) -> str:
    """The first action of the rule that the grant does not cover; empty if it covers them all."""
    for action in rule.actions:
        kind = find_action(action.name)
        if kind is None or kind.grant > grant:
            return action.name
    return ""


def may_change(rule: Rule, grant: Grant) -> bool:
    """Whether the rule is open to change and removal: the automatic answer is, to everybody."""
    if rule.name == VACATION and _is_answer(rule):
        return True
    return grant > Grant.NO and not beyond(rule, grant)


def _is_answer(rule: Rule) -> bool:
    """Whether the rule is what the form of the automatic answer makes."""
    made = read_auto_reply([rule])
    try:
        return AutoReply(made.enabled, made.text).rule() == rule
    except RuleError:
        return False


def check_change(before: Sequence[Rule], after: Sequence[Rule], grant: Grant) -> None:
    """May a set become the other one? Raises RuleError that names the rule and the action, or Denied."""
    if grant is Grant.ADMINISTRATOR:
        return
    kept = list(after)
    for rule in before:
        if not may_change(rule, grant):
            if rule not in kept:
                raise RuleError(rule.name, "it was made by an administrator, you cannot change or remove it")
            kept.remove(rule)
    for rule in kept:
        if may_change(rule, grant):
            continue
        if grant is Grant.NO:
            raise Denied("You may not make rules, only the automatic answer")
        raise RuleError(rule.name, f"you may not use the action {beyond(rule, grant)}")
