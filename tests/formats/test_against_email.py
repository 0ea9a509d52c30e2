"""The scanners against an independent implementation: the standard library's email package."""

import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.formats.bodystructure import summary
from appliance.formats.charsets import content_of, text_of
from appliance.formats.dates import parse_date_time
from appliance.formats.encodedwords import decode_words
from appliance.formats.headers import fields, first_fields
from appliance.formats.mailboxes import parse_mailboxes
from appliance.formats.mime import Part, parse_structure
from appliance.formats.parameters import decode_parameters, parse_disposition
from appliance.formats.wire import to_wire

POLICY = email.policy.SMTP.clone(linesep="\n")
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=60)
NAMES = st.text("abcé €.-_ 1", min_size=1, max_size=40).map(str.strip).filter(bool)


@st.composite
def messages(draw: st.DrawFn) -> EmailMessage:
    message = EmailMessage(policy=POLICY)
    message["Subject"] = "S" + draw(TEXT) + "s"
    message["From"] = "Joe <joe@a.com>"
    message.set_content(draw(TEXT) + "\nend")
    if draw(st.booleans()):
        message.add_alternative(f"<p>{draw(TEXT)}</p>", subtype="html")
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            message.add_attachment(
                draw(st.binary(max_size=200)), maintype="application", subtype="x", filename=draw(NAMES)
            )
        else:
            inner = EmailMessage(policy=POLICY)
            inner["Subject"] = "inner"
            inner.set_content("inner text")
            message.add_attachment(inner)
    return message


def leaves(part: Part) -> list[Part]:
    return [leaf for child in part.children for leaf in leaves(child)] if part.children else [part]


@pytest.mark.feature("STD-002", "STD-004", "STD-005", "STD-006", "STD-026")
@settings(max_examples=60, deadline=None)
@given(messages())
def test_same_parts_contents_and_names(message: EmailMessage) -> None:
    data = message.as_bytes()
    structure = parse_structure(data)
    theirs = list(email.message_from_bytes(data, policy=POLICY).walk())
    ours = structure.walk()
    assert [part.media_type.decode() for part in ours] == [part.get_content_type() for part in theirs]
    assert decode_words(structure.fields[b"subject"]).split() == str(theirs[0]["subject"]).split()
    for mine, other in zip(ours, theirs, strict=True):
        if mine.children:
            continue
        if mine.type == b"text":
            assert text_of(data, mine).rstrip("\n") == other.get_content().rstrip("\n")
        else:
            assert content_of(data, mine) == other.get_content()
            parsed = parse_disposition(mine.fields[b"content-disposition"])
            assert parsed is not None
            assert decode_parameters(parsed[1])["filename"] == other.get_filename()
    assert summary(data).wire_size == len(to_wire(data))


def test_sections_give_what_was_put_in() -> None:
    message = EmailMessage(policy=POLICY)
    message.set_content("first")
    message.add_attachment(b"second", maintype="application", subtype="x", filename="a")
    data = message.as_bytes()
    part = parse_structure(data).find((2,))
    assert part is not None
    assert content_of(data, part) == b"second"


FIELDS = st.lists(
    st.tuples(st.sampled_from(["To", "X-A", "Received"]), st.text("ab ,;<>@\t", max_size=30).map(str.strip)), max_size=6
)


@settings(max_examples=100, deadline=None)
@given(FIELDS)
def test_same_fields(pairs: list[tuple[str, str]]) -> None:
    data = "".join(f"{name}: {value}\n" for name, value in pairs).encode() + b"\nbody\n"
    theirs = email.message_from_bytes(data, policy=email.policy.compat32)
    assert [(field.name.decode(), field.text.decode()) for field in fields(data)] == theirs.items()
    assert set(first_fields(data)) == {name.lower().encode() for name in theirs}


@pytest.mark.parametrize(
    "value",
    [
        "a@b.c",
        "Joe <a@b.c>, x@y.z",
        '"Doe, J" <a@b.c>',
        "G: a@b.c, d@e.f;",
        "a@b.c (Joe)",
        "Joe (x) Doe <a@b.c>",
        '"a b"@c.d',
    ],
)
def test_same_addresses(value: str) -> None:
    ours = [entry.domain and (entry.local or b"") + b"@" + entry.domain for entry in parse_mailboxes(value.encode())]
    theirs = [address.replace('"', "").encode() for _, address in getaddresses([value]) if address]
    assert [address for address in ours if address] == theirs


@settings(max_examples=100, deadline=None)
@given(st.datetimes(min_value=datetime(1971, 1, 1)))
def test_same_dates(when: datetime) -> None:
    assert parse_date_time(format_datetime(when)) == when.replace(microsecond=0, tzinfo=UTC)
