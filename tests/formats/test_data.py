import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.data import MAX_DEPTH, DataError, Value, parse, parse_prefix, render, render_file

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
VALUES: st.SearchStrategy[Value] = st.recursive(
    TEXTS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


@pytest.mark.feature("DATA-001")
@pytest.mark.parametrize("atom", ["MyName", "My2ndName", "50"])
def test_atom(atom: str) -> None:
    assert parse(atom, lenient=False) == atom
    assert render(atom) == atom


@pytest.mark.feature("DATA-002", "DATA-003", "DATA-004", "DATA-005", "DATA-006", "DATA-007", "DATA-008", "DATA-011")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"My Name with spaces and the . sign"', "My Name with spaces and the . sign"),
        (r'"a \"string\" within string"', 'a "string" within string'),
        (r'"Single \\ backslash"', "Single \\ backslash"),
        (r'"TEXT3\rTEXT67\nTEXT78"', "TEXT3\rTEXT67\nTEXT78"),
        (r'"Line1\eLine2"', "Line1\nLine2"),
        (r'"Line1:\tField1\tField2"', "Line1:\tField1\tField2"),
        (r'"\002AslUz"', "\x02AslUz"),
        (r'"\065\012"', "A\x0c"),
        (r'"\195\169t\195\169"', "été"),
        ('""', ""),
        ('"abc" "def"', "abcdef"),
        ('"abc"\n\t"d\\te"  "f"', "abcd\tef"),
        ("[QUJD\n REVG]", "QUJDREVG"),
    ],
)
def test_strings(text: str, value: str) -> None:
    assert parse(text, lenient=False) == value
    assert parse(render(value), lenient=False) == value


@pytest.mark.feature("DATA-005")
def test_line_ends_are_written_as_the_neutral_symbol() -> None:
    assert render("Line1\nLine2\r\t\x07") == r'"Line1\eLine2\r\t\007"'


@pytest.mark.feature("DATA-009")
def test_scalars_are_strings() -> None:
    assert parse("{ClientOnly=YES; Limit=50;}") == {"ClientOnly": "YES", "Limit": "50"}


@pytest.mark.feature("DATA-010")
def test_utf8_and_stray_bytes_survive() -> None:
    assert parse('{RealName="Жанна Économe";}'.encode()) == {"RealName": "Жанна Économe"}
    assert render("Économe") == '"Économe"'
    stray = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert render(stray) == r'"caf\233"'
    assert parse(render(stray)) == stray


@pytest.mark.feature("DATA-012", "DATA-013", "DATA-014", "DATA-015")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('(Element1 , "Element2" , "Element 3")', ["Element1", "Element2", "Element 3"]),
        ("()", []),
        ("( \n )", []),
        (
            '(Element1 , ("Sub Element1", SubElement2) , "Element 3")',
            ["Element1", ["Sub Element1", "SubElement2"], "Element 3"],
        ),
        (
            '(\nElement1  ,\r\n  (    "Sub Element1",\n   SubElement2  )\n\t,\n"Element 3"  )',
            ["Element1", ["Sub Element1", "SubElement2"], "Element 3"],
        ),
        ('("a" "b",{k=();},c)', ["ab", {"k": []}, "c"]),
    ],
)
def test_arrays(text: str, value: Value) -> None:
    assert parse(text, lenient=False) == value


@pytest.mark.feature("DATA-016", "DATA-017", "DATA-018", "DATA-020", "DATA-021", "DATA-022")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            '{Key1=Element1; Key2 ="Element2" ; "Third Key"="Element 3"; }',
            {"Key1": "Element1", "Key2": "Element2", "Third Key": "Element 3"},
        ),
        ("{}", {}),
        ("{a=1;A=2;}", {"a": "1", "A": "2"}),
        (
            '{Key1=(Elem1,Elem2); Key2={Sub1="XXX 1"; Sub2=X245;}; }',
            {"Key1": ["Elem1", "Elem2"], "Key2": {"Sub1": "XXX 1", "Sub2": "X245"}},
        ),
        (
            '{\n Key1  =   (Elem1,Elem2)   ;\n  Key2 = {  Sub1 = "XXX 1";\n    Sub2=X245;  };\n}\n',
            {"Key1": ["Elem1", "Elem2"], "Key2": {"Sub1": "XXX 1", "Sub2": "X245"}},
        ),
        ('{a={b=(c,{d="";});};}', {"a": {"b": ["c", {"d": ""}]}}),
        ('{"a" "b"=x;}', {"ab": "x"}),
    ],
)
def test_dictionaries(text: str, value: Value) -> None:
    assert parse(text, lenient=False) == value
    assert parse(render(value), lenient=False) == value
    assert parse(render_file(value), lenient=False) == value


@pytest.mark.feature("DATA-016")
def test_missing_last_semicolon() -> None:
    warnings: list[str] = []
    assert parse("{a=1; b=2}", warnings=warnings) == {"a": "1", "b": "2"}
    assert warnings == ["';' is missing at line 1, column 10"]
    with pytest.raises(DataError, match="';'"):
        parse("{a=1; b=2}", lenient=False)
    with pytest.raises(DataError):
        parse("{a=1 b=2;}")


@pytest.mark.feature("DATA-019")
def test_repeated_key_last_one_wins() -> None:
    warnings: list[str] = []
    assert parse("{a=1;\n a=2;}", warnings=warnings) == {"a": "2"}
    assert len(warnings) == 1
    assert "'a' is repeated" in warnings[0]


@pytest.mark.feature("DATA-024", "DATA-025")
def test_file_forms() -> None:
    text = '{\n Key1 = (\n  Elem1,\n  (Elem2)\n );\n Key2 = {\n  Sub1 = "XXX 1";\n  Sub2 = ();\n };\n}\n'
    value: Value = {"Key2": {"Sub2": [], "Sub1": "XXX 1"}, "Key1": ["Elem1", ["Elem2"]]}
    assert render_file(value) == text
    assert parse(text.replace("\n", "\r\n").encode()) == value


@pytest.mark.feature("DATA-010", "DATA-028")
def test_latin1_file_is_read_with_a_warning() -> None:
    warnings: list[str] = []
    assert parse(b'{Name="Ren\xe9";}', warnings=warnings) == {"Name": "René"}
    assert len(warnings) == 1
    assert parse(b'\xef\xbb\xbf{Name="Ren\xc3\xa9";}') == {"Name": "René"}
    with pytest.raises(DataError):
        parse(b'{Name="Ren\xe9";}', lenient=False)


@pytest.mark.feature("DATA-029")
def test_rules_notation() -> None:
    text = '((9,"Vacation, all",(("Human Generated"),("Subject",in,"a*,b*")),(("Reply with","I am\\eaway"),(Discard))))'
    value = parse(text, lenient=False)
    assert value == [
        [
            "9",
            "Vacation, all",
            [["Human Generated"], ["Subject", "in", "a*,b*"]],
            [["Reply with", "I am\naway"], ["Discard"]],
        ]
    ]
    assert parse(render(value), lenient=False) == value


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, 1),
        ("(a,", 1, 4),
        ("(a,)", 1, 4),
        ("{a=1;\n b}", 2, 3),
        ('"open', 1, 1),
        ('"raw\nline"', 1, 1),
        (r'"\x"', 1, 1),
        (r'"a\000"', 1, 1),
        (r'"\256"', 1, 1),
        ("a b", 1, 3),
        ("{(a)=b;}", 1, 2),
        ("\0", 1, 1),
    ],
)
def test_errors_say_where(text: str, line: int, column: int) -> None:
    with pytest.raises(DataError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.feature("DATA-014", "DATA-021")
def test_depth() -> None:
    assert parse("(" * 30 + ")" * 30)
    assert parse("(" * MAX_DEPTH + ")" * MAX_DEPTH)
    with pytest.raises(DataError, match="levels"):
        parse("(" * (MAX_DEPTH + 1) + ")" * (MAX_DEPTH + 1))
    with pytest.raises(DataError):
        parse("{a=" * 50_000)
    deep: Value = []
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(DataError):
        render(deep)


@pytest.mark.feature("DATA-011")
def test_parameters_are_taken_one_by_one() -> None:
    text = 'user@dom.com "two words" "three" {a=(b,"c" "d");} key=value'
    found: list[Value] = []
    position = 0
    while position < len(text):
        value, position = parse_prefix(text, position)
        found.append(value)
    assert found == ["user@dom.com", "two words", "three", {"a": ["b", "cd"]}, "key=value"]
    with pytest.raises(DataError):
        parse_prefix("x", 1)


@pytest.mark.feature("DATA-001", "DATA-002")
def test_writer_quotes_what_is_not_letters_and_digits() -> None:
    assert render({"b": "user@dom.com", "a": "x-1", "c": "50M"}) == '{a="x-1";b="user@dom.com";c=50M;}'


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_round_trip(value: Value) -> None:
    assert parse(render(value), lenient=False) == value
    assert parse(render_file(value).encode(), lenient=False) == value


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('{}()=;," \\ae019\n\r\0[]\udce9\ud800')) | st.binary())
def test_any_input_is_a_value_or_a_data_error(text: str | bytes) -> None:
    try:
        render(parse(text))
    except DataError:
        pass
    if isinstance(text, str):
        try:
            parse_prefix(text, 0)
        except DataError:
            pass


@pytest.mark.parametrize("piece", ['"', '"\\"', "a ", "(", "a=", "a,", '"a" ', " ", "{a=", "\\n", "a=a;", '"a"='])
def test_long_nonsense_takes_linear_time(piece: str) -> None:
    started = time.perf_counter()
    for start in ("", "(", "{", '"', '("a\\n'):
        try:
            parse(start + piece * (200_000 // len(piece)))
        except DataError:
            pass
    assert time.perf_counter() - started < 3
