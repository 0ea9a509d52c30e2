"""Rules: the list, the editor, the trial, and the simplified forms (manual, chapter 28) - of the server, of a domain, of an account.

The same pages serve all three levels, and a user's own rules; what may be changed is the operations' business. Nothing but
rows of a table and selections, so they work without JavaScript.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from appliance.formats.data import Value
from appliance.kernel.operations import Denied, OperationError, Right
from appliance.objects.domain import Account
from appliance.objects.domains import Domains
from appliance.rules.actions import ACTIONS, Grant
from appliance.rules.conditions import CONDITIONS, OPERATIONS
from appliance.rules.granting import grant_of, may_change
from appliance.rules.model import Action, Condition, Level, Rule, RuleError, read_rule, render_set
from appliance.rules.simple import REDIRECT, VACATION, read_auto_reply, read_redirection
from webadmin.site import NotFound, Page, table

#: Empty rows of conditions and of actions that a form offers.
_EMPTY_ROWS = 2
_MAX_ROWS = 100
PRIORITIES = ("0", *map(str, range(1, 10)))


@dataclass(frozen=True, slots=True)
class _Target:
    """Whose rules a page shows. `arguments` name them for the operations `Get...`, `Set...` and `Try...Rules`."""

    title: str
    path: str
    noun: str
    level: Level
    arguments: Mapping[str, str]
    crumbs: Sequence[tuple[str, str]]
    grant: Grant
    account: Account | None = None


@dataclass(slots=True)
class _Row:
    """A rule on the list."""

    number: int
    name: str
    priority: str
    locked: bool
    summary: str


class RulesPages:
    """Each level has three pages: `..._list`, `..._rule` and `..._trial`."""

    def __init__(self, domains: Domains) -> None:
        self.domains = domains

    # -- whose rules ---------------------------------------------------------------------------------------------------

    def _server(self, page: Page) -> _Target:
        page.caller.require(Right.SETTINGS)
        crumbs = [("Settings", "/Settings/")]
        return _Target("Server-Wide Rules", "/Settings/Rules", "Server", Level.SERVER, {}, crumbs, Grant.ADMINISTRATOR)

    def _domain(self, page: Page) -> _Target:
        domain = self.domains.get(page.name("domain"))
        if domain is None:
            raise NotFound("There is no such domain.")
        page.caller.require(Right.DOMAIN, domain.name)
        path = f"/Domains/{quote(domain.name)}"
        grant = Grant.ADMINISTRATOR if page.may(Right.DOMAINS) else Grant.ALL_BUT_EXEC
        if not page.may(Right.MODIFY_RULES, domain.name):
            grant = Grant.NO
        return _Target(
            f"{domain.name}: Rules",
            f"{path}/Rules",
            "Domain",
            Level.DOMAIN,
            {"domainName": domain.name},
            [("Domains", "/Domains/"), (domain.name, f"{path}/")],
            grant,
        )

    async def _account(self, page: Page) -> _Target:
        domain = self.domains.get(page.name("domain"))
        account = domain.account(page.name("name")) if domain is not None else None
        if domain is None or account is None:
            raise NotFound("There is no such account.")
        page.caller.require(Right.DOMAIN, domain.name)
        path = f"/Domains/{quote(domain.name)}"
        own = f"{path}/Accounts/{quote(account.name, safe='')}"
        crumbs = [("Domains", "/Domains/"), (domain.name, f"{path}/"), (account.name, own)]
        return await self._of_account(page, account, f"{own}/Rules", crumbs)

    async def _own(self, page: Page) -> _Target:
        account = self.domains.find_account(page.caller.account or "")
        if account is None:
            raise NotFound("There is no such account.")
        return await self._of_account(page, account, "/Rules", [])

    async def _of_account(self, page: Page, account: Account, path: str, crumbs: Sequence[tuple[str, str]]) -> _Target:
        await account.ready()
        return _Target(
            f"{account.full_name}: Rules",
            path,
            "Account",
            Level.ACCOUNT,
            {"accountName": account.full_name},
            crumbs,
            grant_of(page.caller, account),
            account,
        )

    async def server_list(self, page: Page) -> Response:
        return await self._list(page, self._server(page))

    async def server_rule(self, page: Page) -> Response:
        return await self._rule(page, self._server(page))

    async def server_trial(self, page: Page) -> Response:
        return await self._trial(page, self._server(page))

    async def domain_list(self, page: Page) -> Response:
        return await self._list(page, self._domain(page))

    async def domain_rule(self, page: Page) -> Response:
        return await self._rule(page, self._domain(page))

    async def domain_trial(self, page: Page) -> Response:
        return await self._trial(page, self._domain(page))

    async def account_list(self, page: Page) -> Response:
        return await self._list(page, await self._account(page))

    async def account_rule(self, page: Page) -> Response:
        return await self._rule(page, await self._account(page))

    async def account_trial(self, page: Page) -> Response:
        return await self._trial(page, await self._account(page))

    async def own_list(self, page: Page) -> Response:
        return await self._list(page, await self._own(page))

    async def own_rule(self, page: Page) -> Response:
        return await self._rule(page, await self._own(page))

    async def own_trial(self, page: Page) -> Response:
        return await self._trial(page, await self._own(page))

    # -- the list ------------------------------------------------------------------------------------------------------

    async def _values(self, page: Page, target: _Target) -> list[Value]:
        found = await page.perform(f"Get{target.noun}Rules", **target.arguments)
        return list(found) if isinstance(found, list) else []

    async def _set(self, page: Page, target: _Target, values: list[Value]) -> None:
        await page.perform(f"Set{target.noun}Rules", **target.arguments, newRules=values)

    async def _list(self, page: Page, target: _Target) -> Response:
        message = error = ""
        if page.method == "POST":
            try:
                done = await self._change(page, target)
                if isinstance(done, Response):
                    return done
                message = done
            except Denied as failure:
                error = failure.text
            except OperationError as failure:
                error = failure.text
        values = await self._values(page, target)
        rules = [_readable(value, number) for number, value in enumerate(values, 1)]
        rows = [
            _Row(number, rule.name, str(rule.priority), not _open(rule, target), _summary(rule))
            for number, rule in enumerate(rules)
            if not (target.account is not None and rule.name in (VACATION, REDIRECT))
        ]
        rows.sort(key=lambda row: -int(row.priority))
        known = [rule for rule in rules if rule.name in (VACATION, REDIRECT)]
        return page.show(
            "rules.html",
            title=target.title,
            target=target,
            rows=rows,
            priorities=PRIORITIES,
            may=target.grant > Grant.NO,
            reply=read_auto_reply(known),
            redirection=read_redirection(known),
            may_redirect=target.grant >= Grant.ALL_BUT_EXEC,
            lists=await self._lists(page, target),
            message=message or page.message,
            error=error,
            status=400 if error else 200,
        )

    async def _lists(self, page: Page, target: _Target) -> dict[str, list[str]]:
        if target.account is None:
            return {}
        found = await page.perform("GetAccountStringLists", **target.arguments)
        if not isinstance(found, dict):
            return {}
        return {name: [str(text) for text in strings] for name, strings in found.items() if isinstance(strings, list)}

    async def _change(self, page: Page, target: _Target) -> Response | str:
        action = page.action
        if action == "add":
            return await self._add(page, target)
        if action == "reply":
            settings: dict[str, Value] = {"Enabled": "YES" if page.field("reply") else "NO", "Text": page.field("text")}
            await page.perform("SetAccountAutoReply", **target.arguments, settings=settings)
            return "The automatic answer was updated."
        if action == "redirect":
            settings = {
                "Enabled": "YES" if page.field("redirect") else "NO",
                "Addresses": page.field("addresses"),
                "KeepCopy": "YES" if page.field("keep") else "NO",
                "NotAutomatic": "YES" if page.field("human") else "NO",
                "PreserveTo": "YES" if page.field("preserve") else "NO",
            }
            await page.perform("SetAccountRedirect", **target.arguments, settings=settings)
            return "The redirection was updated."
        if action == "clear":
            await page.perform("DeleteAccountStringList", **target.arguments, listName="RepliedAddresses")
            return "The list of replied addresses was cleared."
        if action == "list":
            strings: list[Value] = [line.strip() for line in page.field("strings").splitlines() if line.strip()]
            name = page.field("list").strip().removeprefix("#")
            if strings:
                await page.perform("SetAccountStringList", **target.arguments, listName=name, newStrings=strings)
            else:
                await page.perform("DeleteAccountStringList", **target.arguments, listName=name)
            return f"The list {name} was updated."
        return await self._update(page, target)

    async def _add(self, page: Page, target: _Target) -> Response:
        name = page.field("new").strip()
        if not name:
            raise OperationError("The name of the new rule is missing")
        values = await self._values(page, target)
        await self._set(page, target, [*values, ["0", name, [], []]])
        return page.go(
            f"{target.path}/{len(values)}", f"The rule {name} was added. It is disabled until you choose a priority."
        )

    async def _update(self, page: Page, target: _Target) -> str:
        """Names, priorities and removals, from the rows that the form had."""
        values = await self._values(page, target)
        kept: list[Value] = []
        for number, value in enumerate(values):
            rule = value if isinstance(value, list) and len(value) > 1 else ["0", "", [], []]
            if f"was.{number}" not in page.form:
                kept.append(value)
                continue
            if page.field(f"was.{number}") != str(rule[1]):
                raise OperationError("The rules were changed by somebody else meanwhile; nothing was updated")
            if page.field(f"delete.{number}"):
                continue
            name = page.field(f"name.{number}").strip() or str(rule[1])
            priority = page.field(f"priority.{number}") or str(rule[0])
            kept.append([priority, name, *rule[2:]])
        if kept == values:
            return "Nothing was changed."
        await self._set(page, target, kept)
        return "Updated."

    # -- one rule ------------------------------------------------------------------------------------------------------

    async def _rule(self, page: Page, target: _Target) -> Response:
        values = await self._values(page, target)
        text = page.name("number")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else -1
        if not 0 <= number < len(values):
            raise NotFound("There is no such rule.")
        rule = _readable(values[number], number + 1)
        error = ""
        if page.method == "POST":
            posted = _posted(page, rule)
            try:
                if page.field("was") != rule.name:
                    raise OperationError("The rules were changed by somebody else meanwhile; nothing was updated")
                new = list(values)
                new[number : number + 1] = [] if page.action == "remove" else render_set([posted])
                await self._set(page, target, new)
                if page.action == "remove":
                    return page.go(target.path + ("/" if target.path == "/Rules" else ""), "The rule was removed.")
                return page.go(f"{target.path}/{number}", "Updated.")
            except OperationError as failure:
                error, rule = failure.text, posted
        conditions = [*rule.conditions, *[Condition("")] * _EMPTY_ROWS][:_MAX_ROWS]
        actions = [*rule.actions, *[Action("")] * _EMPTY_ROWS][:_MAX_ROWS]
        server = target.level is Level.SERVER
        return page.show(
            "rule.html",
            title=f"Rule: {rule.name}",
            target=target,
            rule=rule,
            was=_readable(values[number], number + 1).name,
            locked=not _open(rule, target) and not error,
            conditions=conditions,
            actions=actions,
            condition_kinds=[kind for kind in CONDITIONS.values() if server or not kind.server_only],
            action_kinds=[
                kind for kind in ACTIONS.values() if (server or not kind.server_only) and kind.grant <= target.grant
            ],
            operations=OPERATIONS,
            priorities=PRIORITIES,
            message=page.message,
            error=error,
            status=400 if error else 200,
        )

    # -- the trial -----------------------------------------------------------------------------------------------------

    async def _trial(self, page: Page, target: _Target) -> Response:
        error = end = ""
        rows: list[Mapping[str, Value]] = []
        if page.method == "POST":
            arguments: dict[str, Any] = dict(target.arguments)
            arguments["message"] = page.field("message").lstrip("\r\n")
            for key in ("sender", "recipient"):
                if page.field(key).strip():
                    arguments[key] = page.field(key).strip()
            try:
                found = await page.perform(f"Try{target.noun}Rules", **arguments)
                if isinstance(found, dict):
                    rows, end = table(found.get("Rules")), str(found.get("Result", ""))
            except OperationError as failure:
                error = failure.text
        return page.show(
            "rules_trial.html",
            title=f"{target.title}: try a message",
            target=target,
            rows=rows,
            end=end,
            text=page.field("message") or "From: somebody@example.com\nTo: you@example.com\nSubject: hello\n\ntext",
            error=error,
            status=400 if error else 200,
        )


def _readable(value: Value, number: int) -> Rule:
    """The rule, or one that says that it cannot be read."""
    try:
        return read_rule(value, number)
    except RuleError:
        return Rule(0, f"number {number} (cannot be read)")


def _open(rule: Rule, target: _Target) -> bool:
    return target.grant is Grant.ADMINISTRATOR or may_change(rule, target.grant)


def _summary(rule: Rule) -> str:
    """What the rule does, in one line."""
    actions = ", ".join(f"{action.name} {action.parameter}".strip().partition("\n")[0][:40] for action in rule.actions)
    conditions = len(rule.conditions)
    when = "all messages" if not conditions else f"{conditions} condition{'' if conditions == 1 else 's'}"
    return f"{when}: {actions or 'nothing'}"[:160]


def _posted(page: Page, before: Rule) -> Rule:
    """The rule as the form has it; fields that are missing stay as they were."""
    priority = page.field("priority", str(before.priority))
    name = page.field("name", before.name).strip() or before.name
    conditions: Sequence[Condition] = before.conditions
    if "condition.0" in page.form:
        found = []
        for number in range(_MAX_ROWS):
            kind = CONDITIONS.get(page.field(f"condition.{number}"))
            if kind is not None:
                operation = page.field(f"operation.{number}") if kind.operations else ""
                found.append(Condition(kind.name, operation, page.field(f"with.{number}") if kind.operations else ""))
        conditions = found
    actions: Sequence[Action] = before.actions
    if "action.0" in page.form:
        done = []
        for number in range(_MAX_ROWS):
            word = page.field(f"action.{number}")
            if word in ACTIONS:
                text = page.field(f"parameter.{number}").replace("\r\n", "\n")
                done.append(Action(word, "" if ACTIONS[word].control == "none" else text))
        actions = done
    level = int(priority) if priority in PRIORITIES else before.priority
    return Rule(level, name, tuple(conditions), tuple(actions))
