"""The operations on rules and string lists (manual, chapter 16; the simplified rules and the trial are this server's own)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.formats.data import Value
from appliance.formats.headers import header_end
from appliance.formats.values import parse_boolean, render_boolean
from appliance.kernel.operations import Caller, OperationError, Operations, Right
from appliance.objects import declarations as d
from appliance.objects.domain import Account
from appliance.rules.actions import Grant
from appliance.rules.compiling import RuleSet, check_set, compile_set
from appliance.rules.granting import check_change, grant_of
from appliance.rules.model import Level, Rule, RuleError, read_set, render_set
from appliance.rules.rules import Rules
from appliance.rules.simple import (
    REDIRECT,
    VACATION,
    AutoReply,
    Redirection,
    read_auto_reply,
    read_redirection,
    replaced,
)
from appliance.rules.subject import Envelope, Subject
from appliance.rules.trying import MAX_TRIED, try_rules

__all__ = ["declare", "stored_rules"]

ACCOUNTS = "Accounts"
DOMAINS = "Domains"
SERVER = "Server settings"


def stored_rules(account: Account) -> list[Rule]:
    """The account's own set as data; what cannot be read is left out."""
    return _readable(account.settings[d.RULES])


def _readable(values: Iterable[Value]) -> list[Rule]:
    found: list[Rule] = []
    for value in values:
        try:
            found += read_set([value])
        except RuleError:
            continue
    return found


def _strings(values: Sequence[Value]) -> list[str]:
    if not all(isinstance(value, str) for value in values):
        raise OperationError("newStrings: an array of strings is expected", 515)
    return [str(value) for value in values]


def declare(operations: Operations, rules: Rules) -> None:
    """All operations of this room."""
    _declare_sets(operations, rules)
    _declare_simple(operations, rules)
    _declare_lists(operations, rules)
    _declare_trials(operations, rules)


async def _put(caller: Caller, account: Account, values: list[Value]) -> None:
    """Check and store the account's set. Raises OperationError."""
    try:
        clean = check_set(values, Level.ACCOUNT)
        check_change(stored_rules(account), read_set(clean), grant_of(caller, account))
    except RuleError as error:
        raise OperationError(str(error)) from None
    await account.settings.update({d.RULES.key: clean})


def _declare_sets(operations: Operations, rules: Rules) -> None:
    declare = operations.declare
    domains = rules.domains

    @declare(
        "GetAccountRules accountName",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        short=("gtacntrl",),
        section=ACCOUNTS,
        summary="The rules of an account.",
        result="array of rules",
    )
    async def get_account_rules(caller: Caller, account_name: str) -> Value:
        del caller
        account = await domains.require_account(account_name)
        return list(account.settings[d.RULES])

    @declare(
        "SetAccountRules accountName newRules()",
        right=Right.MODIFY_RULES,
        of="accountName",
        own=True,
        short=("stacntrl",),
        section=ACCOUNTS,
        summary="Replaces the rules of an account. Users change their own within what they are granted.",
    )
    async def set_account_rules(caller: Caller, account_name: str, new_rules: list[Value]) -> None:
        await _put(caller, await domains.require_account(account_name), new_rules)

    @declare(
        "GetDomainRules [domainName]",
        right=Right.DOMAIN,
        of="domainName",
        section=DOMAINS,
        summary="The rules that run for every account of a domain.",
        result="array of rules",
    )
    async def get_domain_rules(caller: Caller, domain_name: str) -> Value:
        del caller
        return list(domains.require(domain_name).settings[d.DOMAIN_RULES])

    @declare(
        "SetDomainRules [domainName] newRules()",
        right=Right.MODIFY_RULES,
        of="domainName",
        section=DOMAINS,
        summary="Replaces the rules that run for every account of a domain.",
    )
    async def set_domain_rules(caller: Caller, domain_name: str, new_rules: list[Value]) -> None:
        domain = domains.require(domain_name)
        try:
            clean = check_set(new_rules, Level.DOMAIN)
            everything = caller.account is None or caller.has(Right.DOMAINS)
            grant = Grant.ADMINISTRATOR if everything else Grant.ALL_BUT_EXEC
            check_change(_readable(domain.settings[d.DOMAIN_RULES]), read_set(clean), grant)
        except RuleError as error:
            raise OperationError(str(error)) from None
        await domain.settings.update({d.DOMAIN_RULES.key: clean})

    @declare(
        "GetServerRules",
        right=Right.SETTINGS,
        section=SERVER,
        summary="The Server-Wide Rules.",
        result="array of rules",
    )
    async def get_server_rules(caller: Caller) -> Value:
        del caller
        return list(rules.server_values())

    @declare(
        "SetServerRules newRules()",
        right=Right.SETTINGS,
        section=SERVER,
        summary="Replaces the Server-Wide Rules.",
    )
    async def set_server_rules(caller: Caller, new_rules: list[Value]) -> None:
        del caller
        try:
            await rules.set_server(new_rules)
        except RuleError as error:
            raise OperationError(str(error)) from None


def _declare_simple(operations: Operations, rules: Rules) -> None:
    declare = operations.declare
    domains = rules.domains

    @declare(
        "GetAccountAutoReply accountName",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        summary="The automatic answer of an account.",
        result="dictionary with Enabled and Text",
    )
    async def get_auto_reply(caller: Caller, account_name: str) -> Value:
        del caller
        found = read_auto_reply(stored_rules(await domains.require_account(account_name)))
        return {"Enabled": render_boolean(found.enabled), "Text": found.text}

    @declare(
        "SetAccountAutoReply accountName settings{}",
        right=Right.MODIFY_RULES,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        summary="Changes the automatic answer: Enabled, Text. Every user may do so for himself.",
    )
    async def set_auto_reply(caller: Caller, account_name: str, settings: dict[str, Value]) -> None:
        account = await domains.require_account(account_name)
        known = stored_rules(account)
        found = read_auto_reply(known)
        made = AutoReply(
            _boolean(settings, "Enabled", found.enabled), _text(settings, "Text", found.text).replace("\r\n", "\n")
        )
        _no_other(settings, ("Enabled", "Text"))
        await _simple(caller, account, VACATION, made)

    @declare(
        "GetAccountRedirect accountName",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        summary="Where all mail of an account is redirected to.",
        result="dictionary with Enabled, Addresses, KeepCopy, NotAutomatic, PreserveTo",
    )
    async def get_redirect(caller: Caller, account_name: str) -> Value:
        del caller
        found = read_redirection(stored_rules(await domains.require_account(account_name)))
        return {
            "Enabled": render_boolean(found.enabled),
            "Addresses": found.addresses,
            "KeepCopy": render_boolean(found.keep_copy),
            "NotAutomatic": render_boolean(found.not_automatic),
            "PreserveTo": render_boolean(found.preserve_to),
        }

    @declare(
        "SetAccountRedirect accountName settings{}",
        right=Right.MODIFY_RULES,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        summary="Changes the redirection of all mail: Enabled, Addresses, KeepCopy, NotAutomatic, PreserveTo.",
    )
    async def set_redirect(caller: Caller, account_name: str, settings: dict[str, Value]) -> None:
        account = await domains.require_account(account_name)
        found = read_redirection(stored_rules(account))
        made = Redirection(
            _boolean(settings, "Enabled", found.enabled),
            _text(settings, "Addresses", found.addresses),
            _boolean(settings, "KeepCopy", found.keep_copy),
            _boolean(settings, "NotAutomatic", found.not_automatic),
            _boolean(settings, "PreserveTo", found.preserve_to),
        )
        _no_other(settings, ("Enabled", "Addresses", "KeepCopy", "NotAutomatic", "PreserveTo"))
        await _simple(caller, account, REDIRECT, made)


def _boolean(settings: dict[str, Value], key: str, default: bool) -> bool:
    value = settings.get(key)
    if value is None:
        return default
    try:
        return parse_boolean(str(value))
    except ValueError as error:
        raise OperationError(f"{key}: {error}", 515) from None


def _text(settings: dict[str, Value], key: str, default: str) -> str:
    value = settings.get(key, default)
    if not isinstance(value, str):
        raise OperationError(f"{key}: a string is expected", 515)
    return value


def _no_other(settings: dict[str, Value], known: Sequence[str]) -> None:
    for key in settings:
        if key not in known:
            raise OperationError(f"{key[:60]}: one of {', '.join(known)} is expected", 515)


async def _simple(caller: Caller, account: Account, name: str, made: AutoReply | Redirection) -> None:
    """Put one simplified rule into the set; what cannot be read there stays as it is."""
    try:
        rule = made.rule()
        before = stored_rules(account)
        check_change(before, replaced(before, name, rule), grant_of(caller, account))
        new = [] if rule is None else check_set(render_set([rule]), Level.ACCOUNT)
    except RuleError as error:
        raise OperationError(str(error)) from None
    kept = [
        value
        for value in account.settings[d.RULES]
        if not (isinstance(value, list) and len(value) > 1 and value[1] == name)
    ]
    await account.settings.update({d.RULES.key: [*kept, *new]})


def _declare_lists(operations: Operations, rules: Rules) -> None:
    declare = operations.declare
    domains = rules.domains

    @declare(
        "GetAccountStringLists accountName",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        summary="The string lists that rules of the account look into.",
        result="dictionary of arrays",
    )
    async def get_lists(caller: Caller, account_name: str) -> Value:
        del caller
        found = await rules.lists.all(await domains.require_account(account_name))
        return {name: list(strings) for name, strings in found.items()}

    @declare(
        "SetAccountStringList accountName listName newStrings()",
        right=Right.MODIFY_RULES,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        summary="Replaces a string list.",
    )
    async def set_list(caller: Caller, account_name: str, list_name: str, new_strings: list[Value]) -> None:
        del caller
        try:
            await rules.lists.put(await domains.require_account(account_name), list_name, _strings(new_strings))
        except ValueError as error:
            raise OperationError(str(error), 515) from None

    @declare(
        "DeleteAccountStringList accountName listName",
        right=Right.MODIFY_RULES,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        summary="Removes a string list; without RepliedAddresses everybody gets the automatic answer again.",
    )
    async def delete_list(caller: Caller, account_name: str, list_name: str) -> None:
        del caller
        try:
            await rules.lists.put(await domains.require_account(account_name), list_name, None)
        except ValueError as error:
            raise OperationError(str(error), 515) from None


def _declare_trials(operations: Operations, rules: Rules) -> None:
    declare = operations.declare
    domains = rules.domains

    async def trial(account: Account | None, ready: RuleSet, message: str, sender: str, recipient: str) -> Value:
        data = message.replace("\r\n", "\n").encode("utf-8", "surrogateescape")
        if len(data) > MAX_TRIED:
            raise OperationError(f"The message has more than {MAX_TRIED} octets", 515)
        tests = await rules.tests(account, ready)
        recipients = [recipient] if recipient else []
        envelope = Envelope(
            sender,
            recipients,
            await rules.routes(recipients) if ready.routed else [],
            len(data) + data.count(b"\n"),
            rules.clock.local(rules.clock.now()),
        )
        subject = Subject(data[: header_end(data)], b"", envelope, lambda name: tests.get(name, lambda text: False))
        lines, end = try_rules(subject, ready)
        shown: list[Value] = [
            {
                "Rule": line.name,
                "Priority": str(line.priority),
                "Fires": render_boolean(line.fires),
                "Reached": render_boolean(line.reached),
                "Reason": line.reason,
                "Actions": list(line.actions),
            }
            for line in lines
        ]
        return {"Rules": shown, "Result": end}

    @declare(
        "TryAccountRules accountName MESSAGE message [FROM sender] [TO recipient]",
        right=Right.DOMAIN,
        of="accountName",
        own=True,
        section=ACCOUNTS,
        summary="Tells which rules of the account and of its domain would fire for a message; nothing is done.",
        result="dictionary with Rules and Result",
    )
    async def try_account(
        caller: Caller, account_name: str, message: str, sender: str = "", recipient: str = ""
    ) -> Value:
        del caller
        account = await domains.require_account(account_name)
        return await trial(account, rules.account_set(account), message, sender, recipient or account.full_name)

    @declare(
        "TryServerRules MESSAGE message [FROM sender] [TO recipient]",
        right=Right.SETTINGS,
        section=SERVER,
        summary="Tells which Server-Wide Rules would fire for a message; nothing is done.",
        result="dictionary with Rules and Result",
    )
    async def try_server(caller: Caller, message: str, sender: str = "", recipient: str = "") -> Value:
        del caller
        return await trial(None, rules.server_set(), message, sender, recipient)

    @declare(
        "TryDomainRules domainName MESSAGE message [FROM sender] [TO recipient]",
        right=Right.DOMAIN,
        of="domainName",
        section=DOMAINS,
        summary="Tells which rules of the domain would fire for a message; nothing is done.",
        result="dictionary with Rules and Result",
    )
    async def try_domain(
        caller: Caller, domain_name: str, message: str, sender: str = "", recipient: str = ""
    ) -> Value:
        del caller
        ready = compile_set(domains.require(domain_name).settings[d.DOMAIN_RULES], Level.DOMAIN)
        return await trial(None, ready, message, sender, recipient)
