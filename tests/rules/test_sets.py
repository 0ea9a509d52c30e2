"""Sets of rules: their notation, what is refused, order, and what a change of one's own set may touch."""

from __future__ import annotations

import pytest

from appliance.formats.data import Value, parse, render
from appliance.rules.actions import Grant, parse_addresses, parse_command, parse_mail_text, parse_marks, parse_store
from appliance.rules.compiling import check_set, compile_set, merge
from appliance.rules.granting import check_change
from appliance.rules.model import Level, Rule, RuleError, read_set
from appliance.rules.simple import AutoReply, Redirection, read_auto_reply, read_redirection, replaced


def test_the_notation() -> None:
    text = '((9,"Спам",(("Subject",is,"*UCE*"),("human generated")),(("add header","X-A: 1\\eX-B: 2"),(discard))),(disabled,b,(),()))'
    value = parse(text)
    assert isinstance(value, list)
    clean = check_set(value, Level.ACCOUNT)
    assert clean == [
        [
            "9",
            "Спам",
            [["Subject", "is", "*UCE*"], ["Human Generated"]],
            [["Add Headers", "X-A: 1\nX-B: 2"], ["Discard"]],
        ],
        ["0", "b", [], []],
    ]
    assert check_set(parse(render(clean)), Level.ACCOUNT) == clean
    assert read_set(clean)[1] == Rule(0, "b")


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("x", "array of rules"),
        (["x"], "number 1"),
        ([["5"]], "number 1"),
        ([["high", "a", [], []]], "high"),
        ([["5", "", [], []]], "name"),
        ([["5", "a", "x", []]], "conditions"),
        ([["5", "a", [[]], []]], "condition 1"),
        ([["5", "a", [], [["Discard", "x"]]]], "no parameter"),
        ([["5", "a", [], [["Mark", "Red"]]]], "Red"),
        ([["5", "a", [], [["Add Headers", "no field"]]]], "no field"),
        ([["5", "a", [], [["React with", "Subject: x\n\nbody"]]]], "To, Cc or Bcc"),
        ([["5", "a", [], [["Reply with", "[no-such-charset]x"]]]], "no-such-charset"),
        ([["5", "a", [], [["Reply with", "+not a field\n\nx"]]]], "line 1"),
        ([["5", "a", [], [["Execute", 'prog "unclosed']]]], "command"),
        ([["5", "a", [], [["Execute", "[RETPATH]"]]]], "program is missing"),
        ([["5", "a", [], [["Store in", "~bob"]]]], "~account/mailbox"),
        ([["5", "a", [], [["ExternalFilter"]]]], "server only"),
        ([["5", "a" * 201, [], []]], "200"),
        ([["5", "a", [["From", "is", "x\0"]], []]], "zero symbol"),
        ([["5", "a", [["From", "is", "x" * 70000]], []]], "symbols"),
    ],
)
def test_what_is_refused(value: Value, word: str) -> None:
    with pytest.raises(RuleError, match=word.replace("(", r"\(")):
        check_set(value, Level.ACCOUNT)


@pytest.mark.feature("RULE-006")
def test_order() -> None:
    def rules(*names: str) -> list[Value]:
        return [[name[0], name, [], []] for name in names]

    one, two = compile_set(rules("1c", "9a", "5x"), Level.SERVER), compile_set(rules("5y", "0off", "9b"), Level.SERVER)
    assert [rule.rule.name for rule in merge([one, two]).rules] == ["9a", "9b", "5x", "5y", "1c"]


def test_a_stored_rule_that_is_not_known_harms_no_other() -> None:
    ready = compile_set(
        [["5", "new", [], [["Teleport", "x"]]], "junk", ["5", "good", [], [["Discard"]]]], Level.ACCOUNT
    )
    assert [rule.rule.name for rule in ready.rules] == ["good"]
    assert len(ready.problems) == 2 and "Teleport" in ready.problems[0]
    assert compile_set("x", Level.ACCOUNT).rules == ()


def test_parameters() -> None:
    assert parse_marks("Read, Flagged,unread") == (4, 1)
    assert parse_store("~ann/Work") == ("ann", "Work") and parse_store("Entwürfe") == ("", "Entw&APw-rfe")
    assert parse_addresses('Ann <a@b.test>, "odd, name"@x.test, bob') == ["a@b.test", '"odd, name"@x.test', "bob"]
    for bad in ("", ",", "a b", "a@b@", "<>", "x@y,\x00z"):
        with pytest.raises(ValueError, match="address"):
            parse_addresses(bad)
    command = parse_command('[RCPT] [file][STDERR] prog "a b" c')
    assert command.words == ["prog", "a b", "c"] and command.file and command.recipients and command.errors
    assert not command.return_path
    assert parse_mail_text("[utf-8]+A: 1\nB: 2\n\nbody\n") == ("utf-8", "A: 1\nB: 2", "body\n")
    assert parse_mail_text("plain") == ("", None, "plain")


@pytest.mark.feature("RULE-175", "RULE-172")
def test_the_simplified_rules_are_rules() -> None:
    answer = AutoReply(True, "away").rule()
    assert answer is not None and answer.priority == 2
    for redirection in (Redirection(True, "a@b.test, c"), Redirection(False, "a", True, False, False)):
        rule = redirection.rule()
        assert rule is not None and rule.priority == (1 if redirection.enabled else 0)
        rules = replaced([answer, rule], "#Redirect", rule)
        assert read_redirection(rules) == redirection and read_auto_reply(rules) == AutoReply(True, "away")
    assert AutoReply().rule() is None and read_auto_reply([]) == AutoReply()
    for bad in (AutoReply(True, " "), AutoReply(True, "[x]y"), Redirection(True, ""), Redirection(True, "a b")):
        with pytest.raises(RuleError):
            bad.rule()


@pytest.mark.feature("RULE-017", "RULE-018")
def test_who_may_change_what() -> None:
    def one(name: str, action: str, parameter: str = "") -> Rule:
        return read_set([["5", name, [], [[action, parameter] if parameter else [action]]]])[0]

    filtering, sending, program = one("f", "Discard"), one("s", "Reply with", "x"), one("p", "Execute", "x")
    answer = AutoReply(True, "away").rule()
    assert answer is not None
    check_change([], [filtering], Grant.FILTER_ONLY)
    check_change([], [filtering, sending], Grant.ALL_BUT_EXEC)
    check_change([program], [answer, program], Grant.NO)
    check_change([program, filtering], [program], Grant.FILTER_ONLY)
    for before, after, grant in (
        ([], [sending], Grant.FILTER_ONLY),
        ([], [program], Grant.ALL_BUT_EXEC),
        ([program], [], Grant.ALL_BUT_EXEC),
        ([program], [Rule(1, "p", (), program.actions)], Grant.ALL_BUT_EXEC),
        ([program], [program, program], Grant.ALL_BUT_EXEC),
        ([filtering], [], Grant.NO),
        ([], [Rule(9, "#Vacation", (), sending.actions)], Grant.FILTER_ONLY),
    ):
        with pytest.raises(Exception, match=r"Rule|rule"):
            check_change(before, after, grant)
