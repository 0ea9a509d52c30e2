"""The engine: asks the conditions of a set, the highest priority first, and has the actions done.

The conditions and actions are data; what an action does is `doing.Doer`'s business. What ends the processing: an action that
says so, or one that fails. A failed action leaves the rest of its rule undone, so a Discard behind a Store in that could not
store never loses a message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from appliance.kernel.log import Logger
from appliance.rules.actions import parse_marks
from appliance.rules.compiling import CompiledRule, RuleSet
from appliance.rules.model import Action
from appliance.rules.ruling import Ruling
from appliance.rules.subject import Subject

__all__ = ["FAILED", "ActionFailed", "Doer", "Run", "process"]

FAILED: Final = "automated processing failed"
"""The text of a rejection that no rule worded; what the sender reads is an entry of the server's strings."""


class ActionFailed(Exception):
    """An action could not be done. `verdict` is what becomes of the message: `keep` it, `reject` it with `text`, or look at it
    again `later`."""

    def __init__(self, reason: str, verdict: str = "keep", text: str = FAILED) -> None:
        super().__init__(reason)
        self.reason = reason
        self.verdict = verdict
        self.text = text


@dataclass(slots=True)
class Run:
    """One message on its way through one set. `number` is the message's, for the log; `added` what the rules put on."""

    number: int
    scope: str
    subject: Subject
    added: bytes = b""
    flags: int = 0
    ruling: Ruling = field(default_factory=Ruling)
    fired: list[str] = field(default_factory=list)

    def add(self, lines: bytes) -> None:
        self.added += lines
        self.subject.add(lines)


class Doer(Protocol):
    """Does what reaches beyond the message: stores, submits, starts programs."""

    async def do(self, run: Run, rule: CompiledRule, number: int, action: Action) -> None:
        """Raises ActionFailed."""
        ...


async def process(run: Run, rules: RuleSet, doer: Doer, log: Logger) -> Ruling:
    """Apply the set. Errors of the disk (OSError) come through; then everything may be asked again."""
    subject = run.subject
    chatty = log.enabled(5)
    for rule in rules.rules:
        first = rule.first
        missed = 1 if first is not None and not first(subject) else rule.missed(subject)
        if missed:
            if chatty:
                condition = rule.rule.conditions[missed - 1]
                words = " ".join(part for part in (condition.name, condition.operation, condition.parameter) if part)
                log.all("[%d] RULES(%s) rule '%s': not met: %s", run.number, run.scope, rule.rule.name, words[:200])
            continue
        log.low("[%d] RULES(%s) rule '%s': all conditions are met", run.number, run.scope, rule.rule.name)
        run.fired.append(rule.rule.name)
        if not await _act(run, rule, doer, log):
            break
    run.ruling.flags = run.flags
    run.ruling.added = run.added
    return run.ruling


async def _act(run: Run, rule: CompiledRule, doer: Doer, log: Logger) -> bool:
    """Do the actions of a rule that fits; whether lower rules are looked at."""
    for number, (action, kind) in enumerate(rule.actions, 1):
        if log.enabled(4):
            words = f"{action.name} {action.parameter}".partition("\n")[0][:100]
            log.low("[%d] RULES(%s) rule '%s': action %s", run.number, run.scope, rule.rule.name, words.strip())
        if kind.ends:
            if action.name == "Discard":
                run.ruling.action = "discard"
            elif action.name == "Reject":
                run.ruling.action, run.ruling.text = "reject", action.parameter
            return False
        try:
            if action.name == "Mark":
                put, taken = parse_marks(action.parameter)
                run.flags = run.flags & ~taken | put
            elif not await _done(run, rule, number, action, doer):
                return False
        except ActionFailed as failure:
            # A mistake in a rule that sends mail back has to be seen at the usual log level.
            log.record(
                1 if failure.verdict == "reject" else 3,
                "[%d] RULES(%s) rule '%s': %s failed: %s",
                run.number,
                run.scope,
                rule.rule.name,
                action.name,
                failure.reason,
            )
            if failure.verdict == "reject":
                run.ruling.action, run.ruling.text = "reject", failure.text
            elif failure.verdict == "later":
                run.ruling.action, run.ruling.text = "later", failure.reason
            return False
    return True


async def _done(run: Run, rule: CompiledRule, number: int, action: Action, doer: Doer) -> bool:
    await doer.do(run, rule, number, action)
    return run.ruling.action == "keep"
