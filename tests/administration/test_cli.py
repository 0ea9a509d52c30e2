from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.administration.cli import CommandLine
from appliance.formats.data import Value
from appliance.kernel.operations import Caller, Operation, OperationError, Operations, Right


class People:
    """Rights and domains of a small server."""

    def __init__(self) -> None:
        self.given: dict[str, set[str]] = {
            "postmaster@main.example": {"Master"},
            "admin@client1.example": {"Domain", "CanCreateAccounts"},
        }
        self.administered: set[tuple[str, str]] = set()

    def rights(self, account: str) -> frozenset[str]:
        return frozenset(self.given.get(account, ()))

    def domain_name(self, name: str) -> str | None:
        known = {"main.example", "client1.example", "client2.example"}
        return name.lower() if name.lower() in known else None

    def administers(self, domain: str, other: str) -> bool:
        return (domain, other) in self.administered


PEOPLE = People()


def caller(account: str = "postmaster@main.example", people: People = PEOPLE) -> Caller:
    return Caller(account, account.split("@")[1], "PWD", people)


class Registry:
    """A few operations of every shape, which answer what they were given."""

    def __init__(self) -> None:
        self.operations = Operations()
        self.line = CommandLine(self.operations)
        self.calls: list[dict[str, Any]] = []
        many = self.operations
        of = {"right": Right.CREATE_ACCOUNTS, "of": "accountName"}
        self.declare(
            "CREATEACCOUNT accountName [type=MultiMailbox|TextMailbox] [EXTERNAL] [settings{}]", short=("cracnt",), **of
        )
        self.declare("RENAMEACCOUNT oldName INTO newName", right=Right.CREATE_ACCOUNTS, of="oldName")
        self.declare("GETACCOUNTINFO accountName KEY keyName", right=Right.DOMAIN, of="accountName", own=True)
        self.declare("SETACCOUNTALIASES accountName newAliases()", **of)
        self.declare("LISTACCOUNTS [domainName]", right=Right.DOMAIN, of="domainName")
        self.declare("WRITELOG level# text", right=Right.MONITOR)
        self.declare("SETMODULE name value*", right=Right.SETTINGS)
        self.declare("POSTALERT [domainName] ALERT alert", right=None)
        self.declare("POSTDOMAINALERT [domainName ALERT] newAlert", right=None)
        self.declare("LIST listName op=FEED [mode=silently|confirm] address", right=None)
        assert many.find("cracnt") is not None

    def declare(self, syntax: str, **options: Any) -> None:
        @self.operations.declare(syntax, **options)
        async def run(caller: Caller, **arguments: Any) -> Value | None:
            self.calls.append(arguments)
            return None

    async def said(self, line: str, who: Caller | None = None) -> dict[str, Any]:
        await self.line.perform(who or caller(), line)
        return self.calls.pop()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.feature("CLI-006", "CLI-020")
@pytest.mark.parametrize("name", ["CreateAccount", "CREATEACCOUNT", "createaccount", "cracnt", "CrAcnt"])
async def test_names_and_short_forms_in_any_case(registry: Registry, name: str) -> None:
    assert await registry.said(f"{name} x textMAILBOX External") == {
        "account_name": "x@main.example",
        "type": "TextMailbox",
        "external": True,
    }


@pytest.mark.feature("CLI-007")
async def test_parameters_are_of_the_data_notation(registry: Registry) -> None:
    got = await registry.said('CreateAccount "test" {Password="\\002AslUzT1JkPsocc"; Note="a \\"b\\"\\ec\\\\d";}')
    assert got["settings"] == {"Password": "\x02AslUzT1JkPsocc", "Note": 'a "b"\nc\\d'}


@pytest.mark.feature("CLI-008")
async def test_objects_stand_on_the_line(registry: Registry) -> None:
    assert (await registry.said("SetAccountAliases u ( a , b,(c))"))["new_aliases"] == ["a", "b", ["c"]]
    with pytest.raises(OperationError, match="Syntax error") as caught:
        await registry.said("CreateAccount x {a=b;")
    assert caught.value.code == 515
    with pytest.raises(OperationError):
        await registry.said("c=d;}")


@pytest.mark.feature("CLI-009")
async def test_bare_addresses_and_dotted_names(registry: Registry) -> None:
    assert await registry.said('LIST MyList@mydomain.com FEED confirm "Bill Jones" <BJones@company.com>') == {
        "list_name": "MyList@mydomain.com",
        "op": "FEED",
        "mode": "confirm",
        "address": '"Bill Jones" <BJones@company.com>',
    }
    assert (await registry.said("LIST l FEED <b@c.com>"))["address"] == "<b@c.com>"
    assert (await registry.said("LIST l FEED SILENTLY b@c.com"))["mode"] == "silently"
    assert (await registry.said("WriteLog 5 1.3.6.1.4.1"))["text"] == "1.3.6.1.4.1"
    assert (await registry.said("GetAccountInfo u Key ~boss/INBOX"))["key_name"] == "~boss/INBOX"


@pytest.mark.feature("CLI-010", "CLI-011")
async def test_the_domain_of_the_caller_is_meant_where_none_is_named(registry: Registry) -> None:
    admin = caller("admin@client1.example")
    assert (await registry.said("CreateAccount x", admin))["account_name"] == "x@client1.example"
    assert (await registry.said("CreateAccount x@Client1.EXAMPLE", admin))["account_name"] == "x@client1.example"
    assert (await registry.said("ListAccounts", admin))["domain_name"] == "client1.example"
    assert (await registry.said("ListAccounts"))["domain_name"] == "main.example"


@pytest.mark.feature("CLI-012")
async def test_a_star_is_ones_own_account(registry: Registry) -> None:
    user = caller("jim@main.example")
    assert (await registry.said("GetAccountInfo * Key LastLogin", user))["account_name"] == "jim@main.example"
    with pytest.raises(OperationError) as caught:
        await registry.said("GetAccountInfo other Key LastLogin", user)
    assert caught.value.code == 520


@pytest.mark.feature("CLI-002")
async def test_a_right_that_is_taken_away_counts_at_once() -> None:
    people, registry = People(), Registry()
    admin = caller("admin@client1.example", people)
    await registry.said("CreateAccount x", admin)
    people.given["admin@client1.example"].remove("CanCreateAccounts")
    with pytest.raises(OperationError):
        await registry.said("CreateAccount y", admin)


@pytest.mark.feature("CLI-016")
async def test_a_domain_administrator_stays_in_his_domains() -> None:
    people, registry = People(), Registry()
    admin = caller("admin@client1.example", people)
    for line in ("ListAccounts client2.example", "CreateAccount x@client2.example"):
        with pytest.raises(OperationError) as caught:
            await registry.said(line, admin)
        assert caught.value.code == 520
    people.administered.add(("client1.example", "client2.example"))
    people.given["admin@client1.example"].add("CanAdminSubDomains")
    assert (await registry.said("ListAccounts client2.example", admin))["domain_name"] == "client2.example"


async def test_optional_parts_are_told_apart_by_keyword_and_type(registry: Registry) -> None:
    assert (await registry.said("CreateAccount x {}"))["settings"] == {}
    assert await registry.said("PostAlert ALERT x") == {"alert": "x"}
    assert await registry.said("PostAlert c1 alert x") == {"domain_name": "c1", "alert": "x"}
    assert await registry.said('PostAlert "alert" ALERT alert') == {"domain_name": "alert", "alert": "alert"}
    assert await registry.said('PostDomainAlert "we move"') == {"new_alert": "we move"}
    got = await registry.said("PostDomainAlert c1 alert x")
    assert (got["domain_name"], got["new_alert"]) == ("c1", "x")
    assert (await registry.said("RenameAccount a@b into c"))["new_name"] == "c"
    assert await registry.said('WriteLog 5 "hello there"') == {"level": 5, "text": "hello there"}
    for value in ("x", "(x)", "{x=y;}"):
        assert (await registry.said(f"SetModule POP {value}"))["name"] == "POP"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", 500),
        ("   ", 500),
        ("Frobnicate x", 500),
        ("Create-Account x", 500),
        ("CreateAccount", 515),
        ("CreateAccount x y z", 515),
        ("CreateAccount {}", 515),
        ("RenameAccount a to b", 515),
        ("RenameAccount a INTO", 515),
        ("WriteLog high text", 515),
        ('CreateAccount "x', 515),
        ("CreateAccount x ]", 515),
        ("CreateAccount x, y", 515),
    ],
)
async def test_what_is_not_understood_is_refused_with_a_code(registry: Registry, line: str, code: int) -> None:
    with pytest.raises(OperationError) as caught:
        await registry.line.perform(caller(), line)
    assert caught.value.code == code
    assert not registry.calls


async def test_a_syntax_error_tells_the_syntax(registry: Registry) -> None:
    with pytest.raises(OperationError, match=r"RENAMEACCOUNT oldName INTO newName"):
        await registry.said("RenameAccount a b")
    with pytest.raises(OperationError, match=r"\[MultiMailbox\|TextMailbox\] \[EXTERNAL\] \[settings\]"):
        await registry.said("CreateAccount")


async def test_help(registry: Registry) -> None:
    everything = await registry.line.perform(caller(), "help")
    assert isinstance(everything, dict)
    assert "CREATEACCOUNT" in everything["Miscellaneous"]
    one = await registry.line.perform(caller(), "HELP cracnt")
    assert isinstance(one, dict)
    assert str(one["Syntax"]).startswith("CREATEACCOUNT accountName")
    assert one["ShortForms"] == ["cracnt"]
    with pytest.raises(OperationError):
        await registry.line.perform(caller(), "HELP frobnicate")


@given(st.text(alphabet=' \t"\\(){}[]<>=;,@.*aB1é\x00\x02', max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_line_is_understood_or_refused(text: str) -> None:
    line = Registry().line
    for name in ("", "CREATEACCOUNT ", "SETMODULE x "):
        try:
            command = line.parse(name + text)
        except OperationError as error:
            assert error.code in (500, 515)
        else:
            assert isinstance(command.operation, Operation)
