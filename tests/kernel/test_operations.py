"""Operations: declared syntax, parameters, rights of the caller."""

from __future__ import annotations

import pytest

from appliance.formats.data import Value
from appliance.kernel.operations import Caller, Denied, OperationError, Operations, Right, parse_syntax


class Office:
    """An authority with fixed rights."""

    def __init__(self, **rights: set[str]) -> None:
        self.by_name = rights

    def rights(self, account: str) -> frozenset[str]:
        return frozenset(self.by_name.get(account.partition("@")[0], ()))

    def domain_name(self, name: str) -> str | None:
        return {"a.test": "a.test", "alias.test": "a.test", "b.test": "b.test"}.get(name.lower())

    def administers(self, domain: str, other: str) -> bool:
        return (domain, other) == ("a.test", "b.test")


def who(office: Office, name: str, domain: str = "a.test") -> Caller:
    return Caller(f"{name}@{domain}", domain, "PWD", office)


def test_syntax_is_the_declaration() -> None:
    name, parameters = parse_syntax(
        "CreateAccount accountName [type=Multi|Text] [EXTERNAL] [TO target] [settings{}] [n#]"
    )
    assert name == "CreateAccount"
    assert [(p.name, p.kind, p.optional, p.keyword) for p in parameters] == [
        ("accountName", "string", False, ""),
        ("type", "word", True, ""),
        ("external", "flag", True, "EXTERNAL"),
        ("target", "string", True, "TO"),
        ("settings", "dictionary", True, ""),
        ("n", "number", True, ""),
    ]
    assert parameters[0].argument == "account_name"
    with pytest.raises(ValueError, match="close"):
        parse_syntax("X [a")


@pytest.mark.feature("SEC-100", "ADM-004", "SEC-107", "ADM-078", "ADM-147")
def test_what_rights_imply() -> None:
    office = Office(
        root={"Master"}, all={"AllDomains"}, admin={"Domain", "CanCreateAccounts"}, sub={"Domain", "CanAdminSubDomains"}
    )
    assert who(office, "root").has(Right.MONITOR)
    assert who(office, "root").has(Right.CREATE_GROUPS, "b.test")
    assert not who(office, "all").has(Right.SETTINGS)
    assert not who(office, "all").has(Right.MASTER)
    assert who(office, "all").has(Right.CREATE_GROUPS, "b.test")
    assert who(office, "admin").has(Right.CREATE_ACCOUNTS)
    assert not who(office, "admin").has(Right.CREATE_GROUPS)
    assert not who(office, "admin").has(Right.CREATE_ACCOUNTS, "b.test")
    assert who(office, "sub").has(Right.DOMAIN, "b.test")
    assert not who(office, "sub", "b.test").has(Right.DOMAIN, "a.test")
    assert not who(office, "nobody").has(Right.DOMAIN)
    assert Caller(None, "a.test", "START", office).has(Right.MASTER)


async def test_perform_checks_completes_and_runs() -> None:
    operations = Operations()
    seen: list[tuple[str, str]] = []

    @operations.declare("Look name", right=Right.DOMAIN, of="name", own=True, short=("lk",))
    async def look(caller: Caller, name: str) -> Value:
        seen.append((str(caller.account), name))
        return name

    @operations.declare("Scan [domainName]", right=Right.DOMAIN, of="domainName")
    async def scan(caller: Caller, domain_name: str) -> Value:
        return domain_name

    office = Office(admin={"Domain"})
    admin, plain = who(office, "admin"), who(office, "plain")
    assert await operations.perform(admin, "lk", {"name": "x"}) == "x@a.test"
    assert await operations.perform(admin, "LOOK", {"name": "x@alias.test"}) == "x@a.test"
    assert await operations.perform(plain, "look", {"name": "*"}) == "plain@a.test"
    assert await operations.perform(plain, "look", {"name": "plain"}) == "plain@a.test"
    assert await operations.perform(admin, "scan") == "a.test"
    assert await operations.perform(admin, "scan", {"domainName": "*"}) == "a.test"
    for caller, name in ((plain, "other"), (admin, "x@b.test"), (admin, "x@unknown.test")):
        with pytest.raises(Denied):
            await operations.perform(caller, "look", {"name": name})
    with pytest.raises(OperationError, match="Unknown command"):
        await operations.perform(admin, "nothing")
    with pytest.raises(OperationError, match="name is missing"):
        await operations.perform(admin, "look")
    with pytest.raises(OperationError, match="unknown parameter"):
        await operations.perform(admin, "look", {"name": "x", "more": "y"})
    assert len(seen) == 4


def test_a_name_is_declared_once() -> None:
    operations = Operations()

    async def nothing(caller: Caller) -> None:
        return None

    operations.declare("A", right=None)(nothing)
    with pytest.raises(ValueError, match="twice"):
        operations.declare("B", right=None, short=("a",))(nothing)
