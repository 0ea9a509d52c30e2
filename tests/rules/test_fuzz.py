"""Whatever is put in: rule texts, macros, address lists, messages of strangers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.data import Value, parse, render
from appliance.rules.actions import ACTIONS, parse_addresses, parse_command, parse_mail_text
from appliance.rules.answers import NoAnswer, expand, reaction_to, reply_to
from appliance.rules.compiling import check_set, compile_set
from appliance.rules.conditions import CONDITIONS, OPERATIONS
from appliance.rules.model import Level, RuleError
from appliance.rules.outgoing import copy_of
from appliance.rules.pictures import literal, picture
from appliance.rules.trying import try_rules
from tests.rules.messages import ANN, NOW, subject

FUZZ = settings(max_examples=60, deadline=None)
WORDS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["*", "*@*", "#List", "5", "100K", "8:15am", "5 Jan 2026", "Mon", "a@b.test, c", "To: a\n\nx", "A: b"]
    ),
)
CONDITION = st.one_of(
    st.tuples(st.sampled_from(list(CONDITIONS)), st.sampled_from(OPERATIONS), WORDS).map(list),
    st.lists(WORDS, max_size=4),
)
ACTION = st.one_of(st.tuples(st.sampled_from(list(ACTIONS)), WORDS).map(list), st.lists(WORDS, max_size=3))
RULE = st.tuples(st.sampled_from(["0", "5", "9"]), WORDS, st.lists(CONDITION, max_size=4), st.lists(ACTION, max_size=4))
ANY = st.recursive(st.text(max_size=10), lambda inner: st.one_of(st.lists(inner, max_size=4)), max_leaves=20)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"From", b"To", b"Subject", b"Cc", b"Reply-To", b"Date", b"Message-ID", b"X-Y", b"Received"]),
        st.one_of(st.binary(max_size=60), st.text(max_size=30).map(str.encode)),
    ),
    max_size=8,
).map(lambda fields: b"".join(b"%s: %s\n" % (name, value.replace(b"\n", b"")) for name, value in fields) + b"\n")


@FUZZ
@given(st.one_of(st.lists(RULE.map(list), max_size=4), ANY), HEADERS, st.sampled_from(Level))
def test_sets(value: list[Value], header: bytes, level: Level) -> None:
    """A set is refused as a whole with a text, or it can be stored, read again, and asked about any message."""
    try:
        clean = check_set(value, level)
    except RuleError as error:
        assert str(error)
        clean = []
    assert check_set(parse(render(clean)), level) == clean
    about = subject(header, lists={"List": ["a@b.test", "*x*"]})
    try_rules(about, compile_set(value, level))


@FUZZ
@given(st.text(max_size=60), HEADERS)
def test_answers(text: str, header: bytes) -> None:
    """Any text that is taken makes a message of whole lines, or none."""
    about = subject(header)
    expand(text, about)
    for make in (reply_to, reaction_to):
        try:
            parse_mail_text(text, has_header=make is reaction_to)
        except ValueError:
            continue
        try:
            made = make(text, about, ANN, NOW)
        except NoAnswer:
            continue
        assert made.header.endswith(b"\n\n") and b"\n\n" not in made.header[:-2] and made.recipients
        assert all("\n" not in recipient and "@" in recipient for recipient in made.recipients)


@FUZZ
@given(st.text(alphabet='ab@.,"<>( )\\\n\0é', max_size=40), HEADERS)
def test_addresses(text: str, header: bytes) -> None:
    try:
        found = parse_addresses(text)
    except ValueError:
        return
    assert found and all("\n" not in address and "\0" not in address for address in found)
    for kind in ("Redirect to", "Forward to", "Mirror to"):
        made = copy_of(kind, text, subject(header), b"", ANN, NOW)
        assert made.header.endswith(b"\n\n") and len(made.recipients) == len(found)


@FUZZ
@given(st.text(alphabet="ab*", max_size=12), st.text(alphabet="ab", max_size=12))
def test_pictures(text: str, line: str) -> None:
    """As a plain search with every possibility says; and what fits has the longest piece."""

    def slow(pattern: str, rest: str) -> bool:
        if not pattern:
            return not rest
        if pattern[0] == "*":
            return any(slow(pattern[1:], rest[at:]) for at in range(len(rest) + 1))
        return bool(rest) and rest[0] == pattern[0] and slow(pattern[1:], rest[1:])

    while "**" in text:
        text = text.replace("**", "*")
    assert picture(text)(line) == slow(text, line)
    assert not picture(text)(line) or literal(text) in line


@FUZZ
@given(st.text(alphabet="ab[]FILERPTHSDC \"'\\", max_size=40))
def test_commands(text: str) -> None:
    try:
        command = parse_command(text)
    except ValueError:
        return
    assert command.words
