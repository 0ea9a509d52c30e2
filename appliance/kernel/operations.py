"""Operations: every administrative act is declared once, in the room that owns it; CLI, WebAdmin and provisioning are faces.

A room declares an operation with the syntax of its command:

    @operations.declare("CREATEACCOUNT accountName [type=MultiMailbox|TextMailbox|MailDirMailbox] [EXTERNAL] [settings{}]",
                        right=Right.CREATE_ACCOUNTS, of="accountName", summary="Creates an account.")
    async def create_account(caller: Caller, account_name: str, type: str = "MultiMailbox",
                             external: bool = False, settings: dict[str, Value] | None = None) -> Value | None: ...

Parameter marks: `name` a string, `name()` an array, `name{}` a dictionary, `name*` any value, `name#` a number; `NAME`
a keyword, `a=X|Y` one of these words, `[...]` an optional part. A keyword alone in an optional part is a flag.
The function gets keyword arguments in snake_case; parts that were not given are left out.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from appliance.formats.data import Value


class Right(StrEnum):
    """Right codes as `Access.settings` holds them (manual, chapters 8 and 16)."""

    # Server rights: only accounts of the main domain have them.
    MASTER = "Master"
    SETTINGS = "Settings"
    DOMAINS = "AllDomains"
    DIRECTORY = "Directory"
    MONITOR = "Monitor"
    RELEASE_QUEUES = "CanReleaseQueues"
    REJECT_QUEUES = "CanRejectQueues"
    TUNE_LOGGER = "CanTuneLoggerSettings"
    # Domain rights.
    DOMAIN = "Domain"
    CREATE_ACCOUNTS = "CanCreateAccounts"
    CREATE_ALIASES = "CanCreateAliases"
    CREATE_GROUPS = "CanCreateGroups"
    CREATE_FORWARDERS = "CanCreateForwarders"
    CREATE_LISTS = "CanCreateLists"
    MODIFY_RULES = "CanModifyRules"
    MODIFY_RPOP = "CanModifyRPOP"
    MODIFY_SKINS = "CanModifySkins"
    POST_ALERTS = "CanPostAlerts"
    ACCESS_MAILBOXES = "CanAccessMailboxes"
    ACCESS_WEB_SITES = "WebSite"
    BASIC_SETTINGS = "BasicAccountSettings"
    WEB_USER_SETTINGS = "WebUserSettings"
    CERTIFICATE = "CertificateType"
    ADMIN_SUBDOMAINS = "CanAdminSubDomains"


SERVER_RIGHTS = frozenset(
    {
        Right.MASTER,
        Right.SETTINGS,
        Right.DOMAINS,
        Right.DIRECTORY,
        Right.MONITOR,
        Right.RELEASE_QUEUES,
        Right.REJECT_QUEUES,
        Right.TUNE_LOGGER,
    }
)


class OperationError(Exception):
    """An act that was refused or failed: a three-digit code of the CLI (500..599) and a text for people."""

    def __init__(self, text: str, code: int = 501) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


class Denied(OperationError):
    """The caller lacks a right."""

    def __init__(self, text: str = "You do not have the right to do this") -> None:
        super().__init__(text, 520)


class Authority(Protocol):
    """Who knows rights and domains (the objects room)."""

    def rights(self, account: str) -> frozenset[str]:
        """The rights of `user@domain`, read afresh: codes and granted setting keys; empty for unknown names."""
        ...

    def domain_name(self, name: str) -> str | None:
        """The real name of a domain or domain alias, None if there is none here."""
        ...

    def administers(self, domain: str, other: str) -> bool:
        """Whether `other` names `domain` as its administrator domain."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, from where: goes through every operation; the only way to ask "may he?".

    `account` is `user@domain` with real names, None is the server itself (start, provisioning), which may do everything.
    """

    account: str | None
    domain: str
    protocol: str
    authority: Authority
    address: str = ""
    secure: bool = True
    #: The address is one of the Client IP Addresses.
    client: bool = False

    def has(self, right: str, domain: str | None = None) -> bool:
        """Whether the right is held now; a domain right in `domain` (default: the caller's own)."""
        if self.account is None:
            return True
        rights = self.authority.rights(self.account)
        if Right.MASTER in rights:
            return True
        if right == Right.MASTER:
            return False
        if right in SERVER_RIGHTS:
            return right in rights
        if Right.DOMAINS in rights:
            return True
        target = domain or self.domain
        if Right.DOMAIN not in rights or (right != Right.DOMAIN and right not in rights):
            return False
        return target == self.domain or (
            Right.ADMIN_SUBDOMAINS in rights and self.authority.administers(self.domain, target)
        )

    def require(self, right: str, domain: str | None = None) -> None:
        """Raises Denied if the right is not held."""
        if not self.has(right, domain):
            raise Denied()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: `kind` is string, array, dictionary, value, number, word (one of `words`) or flag."""

    name: str
    kind: str
    optional: bool = False
    keyword: str = ""
    words: tuple[str, ...] = ()

    @property
    def argument(self) -> str:
        return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", self.name).lower()


Runner = Callable[..., Awaitable[Value | None]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A declared act. `of` names the parameter whose domain a domain right is checked in (an object name, or a domain)."""

    name: str
    parameters: tuple[Parameter, ...]
    syntax: str
    run: Runner
    right: str | None
    of: str | None
    own: bool
    summary: str
    result: str
    short: tuple[str, ...]
    section: str


_TOKEN = re.compile(r"\[|\]|[^\s\[\]]+")
_MARKS = {"()": "array", "{}": "dictionary", "*": "value", "#": "number"}


def parse_syntax(syntax: str) -> tuple[str, tuple[Parameter, ...]]:
    """The command name and parameters of a syntax text. Raises ValueError if the declaration is wrong."""
    tokens = _TOKEN.findall(syntax)
    if not tokens:
        raise ValueError("empty syntax")
    name, *rest = tokens
    parameters: list[Parameter] = []
    depth = 0
    keyword = ""
    for token in rest:
        if token == "[":
            depth += 1
        elif token == "]":
            depth -= 1
            if keyword:
                parameters.append(Parameter(keyword.lower(), "flag", True, keyword))
                keyword = ""
        elif token.isupper() and "=" not in token:
            keyword = token
        elif "=" in token:
            label, words = token.split("=", 1)
            parameters.append(Parameter(label, "word", depth > 0, keyword, tuple(words.split("|"))))
            keyword = ""
        else:
            kind = "string"
            for mark, meaning in _MARKS.items():
                if token.endswith(mark):
                    kind, token = meaning, token[: -len(mark)]
            parameters.append(Parameter(token, kind, depth > 0, keyword))
            keyword = ""
    if depth or keyword:
        raise ValueError(f"syntax of {name} does not close")
    return name, tuple(parameters)


class Operations:
    """The registry: declared by rooms at wiring, performed by the faces."""

    def __init__(self) -> None:
        self._by_name: dict[str, Operation] = {}
        self._all: list[Operation] = []
        self._running = 0
        self._performed = 0

    def declare(
        self,
        syntax: str,
        *,
        right: str | None,
        of: str | None = None,
        own: bool = False,
        summary: str = "",
        result: str = "",
        short: tuple[str, ...] = (),
        section: str = "",
    ) -> Callable[[Runner], Runner]:
        """Declare an operation; `right` None: any authenticated user; `own`: `*` as `of` means the caller's own account,
        for which no right is needed; `short` are other names of the command."""
        name, parameters = parse_syntax(syntax)

        def decorate(run: Runner) -> Runner:
            operation = Operation(
                name, parameters, syntax, run, right, of, own, summary, result, short, section or "Miscellaneous"
            )
            for key in (name, *short):
                if key.casefold() in self._by_name:
                    raise ValueError(f"operation {key} is declared twice")
                self._by_name[key.casefold()] = operation
            self._all.append(operation)
            return run

        return decorate

    def find(self, name: str) -> Operation | None:
        return self._by_name.get(name.casefold())

    def all(self) -> tuple[Operation, ...]:
        return tuple(self._all)

    async def perform(self, caller: Caller, name: str, arguments: Mapping[str, Any] | None = None) -> Value | None:
        """Check the right and run. `arguments` are keyed by parameter name or snake_case argument name.

        `*` as the account becomes the caller's own (where the operation allows it), an object name without a domain
        gets the caller's domain. Raises OperationError.
        """
        operation = self.find(name)
        if operation is None:
            raise OperationError(f"Unknown command {name[:64]}", 500)
        given = dict(arguments or {})
        values: dict[str, Any] = {}
        for parameter in operation.parameters:
            for key in (parameter.name, parameter.argument):
                if key in given:
                    values[parameter.argument] = given.pop(key)
            if parameter.argument not in values and not parameter.optional:
                raise OperationError(f"{operation.name}: {parameter.name} is missing", 500)
        if given:
            raise OperationError(f"{operation.name}: unknown parameter {next(iter(given))}", 500)
        self._authorize(caller, operation, values)
        self._running += 1
        try:
            return await operation.run(caller, **values)
        except OSError as error:
            # A full or failing disk is no program error: who asked is told, and the session goes on.
            raise OperationError(f"{operation.name}: {error.strerror or error}", 541) from error
        finally:
            self._running -= 1
            self._performed += 1

    def generation(self) -> int:
        """A number that is another one after each operation: what was found out before may be different now. -1 while one
        is at work."""
        return -1 if self._running else self._performed

    def _authorize(self, caller: Caller, operation: Operation, values: dict[str, Any]) -> None:
        domain: str | None = None
        own = False
        if operation.of is not None:
            argument = Parameter(operation.of, "string").argument
            target = values.get(argument)
            is_domain = "domain" in operation.of.lower()
            if target is None or (target == "*" and is_domain):
                if is_domain:
                    values[argument] = caller.domain
                domain = caller.domain
            elif target == "*" and operation.own:
                if caller.account is None:
                    raise OperationError("There is no account of your own")
                values[argument], domain, own = caller.account, caller.domain, True
            elif is_domain:
                domain = caller.authority.domain_name(str(target)) or str(target)
            else:
                local, at, name = str(target).rpartition("@")
                domain = (caller.authority.domain_name(name) or name) if at else caller.domain
                values[argument] = f"{local}@{domain}" if at else f"{target}@{domain}"
                own = operation.own and values[argument] == caller.account
        if not own and operation.right is not None:
            caller.require(operation.right, domain)
