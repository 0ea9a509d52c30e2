"""What FETCH asks for: items, macros, sections and partial ranges (RFC 3501, 6.4.5; section 9: fetch-att, section).

The leftovers of RFC 1730 are understood too: RFC822.PEEK, RFC822.TEXT.PEEK and RFC822.HEADER.LINES with its `.NOT` form.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from appliance.protocols.imap.cursor import MAX_NUMBER, Cursor, ParseError
from appliance.protocols.imap.render import astring

MAX_ITEMS: Final = 64
"""Most items of one FETCH."""
MAX_FIELDS: Final = 256
"""Most field names of one section."""
MAX_PARTS: Final = 50
"""Deepest part number."""

SIMPLE: Final = frozenset(
    {
        "FLAGS",
        "UID",
        "INTERNALDATE",
        "RFC822.SIZE",
        "ENVELOPE",
        "BODY",
        "BODYSTRUCTURE",
        "MODSEQ",
        "EMAILID",
        "THREADID",
        "SAVEDATE",
        "PREVIEW",
    }
)
"""Items without sections: what is not the text of a message."""
MACROS: Final = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}

_ITEM = re.compile(rb"[A-Za-z0-9.]+")
_SECTION = re.compile(rb"((?:[0-9]{1,9}\.)*[0-9]{1,9})?(\.?)([A-Za-z.]*)")
_PARTIAL = re.compile(rb"<([0-9]{1,19})(?:\.([0-9]{1,10}))?>")  # without a count: to the end, as some clients ask
_FIELD = re.compile(rb"[!-9;-~]+")


class Section(NamedTuple):
    """A part of a message. `part`: its numbers; `text`: "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME;
    `fields`: the names for the two FIELDS forms, as the client wrote them."""

    part: tuple[int, ...] = ()
    text: str = ""
    fields: tuple[bytes, ...] = ()

    @property
    def source(self) -> str:
        """The section that holds the octets: the same, with HEADER for a selection of its fields."""
        numbers = ".".join(map(str, self.part))
        text = "HEADER" if self.fields else self.text
        return f"{numbers}.{text}" if numbers and text else numbers or text

    def __bytes__(self) -> bytes:
        text = b".".join(
            [*(b"%d" % number for number in self.part), *([self.text.encode("ascii")] if self.text else [])]
        )
        return b"%b (%b)" % (text, b" ".join(map(astring, self.fields))) if self.fields else text

    @classmethod
    def parse(cls, cursor: Cursor) -> Section:
        """What stands between the brackets."""
        found = cursor.match(_SECTION, "a section")
        part = tuple(int(number) for number in found[1].split(b".")) if found[1] else ()
        text = found[3].decode("ascii").upper()
        if bool(part and text) != bool(found[2]):
            raise ParseError("malformed section")
        if not all(0 < number < 100_000 for number in part) or len(part) > MAX_PARTS:
            raise ParseError("part number out of range")
        if text in ("HEADER.FIELDS", "HEADER.FIELDS.NOT"):
            cursor.space()
            return cls(part, text, tuple(cursor.listed(field_name, most=MAX_FIELDS)))
        if text not in ("", "HEADER", "TEXT", "MIME") or (text == "MIME" and not part):
            raise ParseError("unknown section")
        return cls(part, text)


class FetchItem(NamedTuple):
    """One item. `name` is from `SIMPLE`, or "BODY[" for every text of a message; `label` is its name in the answer.

    For texts: `section`; `partial` as offset and count (at least 1) or None; `marks` says that it sets \\Seen. "BINARY[" is
    a part without its transfer encoding, and "BINARY.SIZE[" how large that is (RFC 3516). `lazy`: a preview only if it is at
    hand (RFC 8970).
    """

    name: str
    label: bytes
    section: Section | None = None
    partial: tuple[int, int] | None = None
    marks: bool = False
    lazy: bool = False


def field_name(cursor: Cursor) -> bytes:
    """The name of a header field: an astring of printable characters without a colon (RFC 5322, 3.6.8)."""
    name = cursor.astring()
    if not _FIELD.fullmatch(name):
        raise ParseError("malformed field name")
    return name


def simple(name: str) -> FetchItem:
    """An item of `SIMPLE`."""
    return FetchItem(name, name.encode("ascii"))


_HEADER: Final = Section((), "HEADER")
_TEXT: Final = Section((), "TEXT")
_FIXED: Final = {
    "RFC822": FetchItem("BODY[", b"RFC822", Section(), marks=True),
    "RFC822.PEEK": FetchItem("BODY[", b"RFC822", Section()),
    "RFC822.HEADER": FetchItem("BODY[", b"RFC822.HEADER", _HEADER),
    "RFC822.TEXT": FetchItem("BODY[", b"RFC822.TEXT", _TEXT, marks=True),
    "RFC822.TEXT.PEEK": FetchItem("BODY[", b"RFC822.TEXT", _TEXT),
}


def parse_item(cursor: Cursor) -> FetchItem:
    """One `fetch-att`."""
    name = cursor.match(_ITEM, "a fetch item")[0].decode("ascii").upper()
    if name in ("BODY", "BODY.PEEK") and cursor.skip(b"["):
        section = Section.parse(cursor)
        cursor.expect(b"]")
        partial, label = _partial(cursor, b"BODY[%b]" % bytes(section))
        return FetchItem("BODY[", label, section, partial, name == "BODY")
    if name in ("BINARY", "BINARY.PEEK", "BINARY.SIZE"):
        return _binary(cursor, name)
    if name == "PREVIEW" and cursor.text[cursor.position : cursor.position + 7].upper() == b" (LAZY)":
        cursor.position += 7  # modifiers of FETCH may follow an item in the same way (RFC 8970, 6)
        return FetchItem("PREVIEW", b"PREVIEW", lazy=True)
    if name in SIMPLE:
        return simple(name)
    if name in _FIXED:
        return _FIXED[name]
    if name in ("RFC822.HEADER.LINES", "RFC822.HEADER.LINES.NOT"):
        cursor.space()
        fields = tuple(cursor.listed(field_name, most=MAX_FIELDS))
        text = "HEADER.FIELDS.NOT" if name.endswith(".NOT") else "HEADER.FIELDS"
        return FetchItem("BODY[", b"RFC822.HEADER", Section((), text, fields))
    raise ParseError(f"unknown fetch item {name}")


def _binary(cursor: Cursor, name: str) -> FetchItem:
    """`BINARY[1.2]<0.100>`: the section has numbers only (RFC 3516, 7)."""
    cursor.expect(b"[")
    section = Section.parse(cursor)
    cursor.expect(b"]")
    if section.text:
        raise ParseError("a binary section has numbers only")
    if name == "BINARY.SIZE":
        return FetchItem("BINARY.SIZE[", b"BINARY.SIZE[%b]" % bytes(section), section)
    partial, label = _partial(cursor, b"BINARY[%b]" % bytes(section))
    return FetchItem("BINARY[", label, section, partial, name == "BINARY")


def _partial(cursor: Cursor, label: bytes) -> tuple[tuple[int, int] | None, bytes]:
    """`<offset.count>` if it is there, and the label with it."""
    if not cursor.ahead(b"<"):
        return None, label
    found = cursor.match(_PARTIAL, "a partial range")
    offset, count = int(found[1]), int(found[2]) if found[2] else MAX_NUMBER
    if not 0 < count <= MAX_NUMBER or offset >= 1 << 63:
        raise ParseError("partial range out of bounds")
    return (offset, count), b"%b<%d>" % (label, offset)


def parse_items(cursor: Cursor) -> tuple[FetchItem, ...]:
    """A macro, one item, or a list of items; each item once."""
    if cursor.ahead(b"("):
        return tuple(dict.fromkeys(cursor.listed(parse_item, most=MAX_ITEMS)))
    word = cursor.text[cursor.position : cursor.position + 4].rstrip(b" ").decode("ascii", "replace").upper()
    if word in MACROS and (
        len(cursor.text) == cursor.position + len(word) or cursor.text[cursor.position + len(word)] == 32
    ):
        cursor.position += len(word)
        return tuple(simple(name) for name in MACROS[word])
    return (parse_item(cursor),)
