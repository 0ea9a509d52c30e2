"""The structure of a MIME message (RFC 2045, 2046): which part lies where, on the store form.

Offsets are of the store form (LF); sizes and line counts are of the wire form (CR LF), which is what clients see.
Input of any kind gives a structure: a multipart without a usable boundary is read as the text that a user would see.
"""

from __future__ import annotations

import re
from typing import Final

from appliance.formats.headers import first_fields, header_end
from appliance.formats.parameters import Parameters, parse_content_type

MAX_DEPTH: Final = 50
"""Deepest nesting of multiparts and messages; what is deeper is one part."""
MAX_PARTS: Final = 1000
"""Most parts of a message; the rest belongs to the last one."""

_TEXT_PLAIN: Final = (b"text", b"plain", ((b"charset", b"us-ascii"),))
_DIGEST_PART: Final = (b"message", b"rfc822", ())
_UNKNOWN: Final = (b"application", b"octet-stream", ())
_MESSAGES: Final = (b"rfc822", b"global")
_BOUNDARY_REST: Final = re.compile(rb"(--)?[ \t\r]*(?:\n|\Z)")
_ENCODING: Final = re.compile(rb"\s*([^\s;()\"]+)")


class Part:
    """One part: a whole message, a part of a multipart, or the message within a message/rfc822 part.

    `children` are the parts of a multipart; of a message/rfc822 part, the one message within.
    """

    __slots__ = (
        "body_start",
        "children",
        "end",
        "fields",
        "header_start",
        "is_message",
        "is_multipart",
        "lines",
        "parameters",
        "subtype",
        "type",
        "wire_size",
    )

    def __init__(self, header_start: int, body_start: int, end: int, fields: dict[bytes, bytes]) -> None:
        self.header_start = header_start
        self.body_start = body_start
        self.end = end
        self.fields = fields
        """Raw values of the part's header by lower-case name (the first of each name)."""
        self.type: bytes = b"text"
        """Media type and subtype as written; compare them in lower case."""
        self.subtype: bytes = b"plain"
        self.parameters: Parameters = ()
        self.is_multipart = False
        self.is_message = False
        self.children: list[Part] = []
        self.wire_size = 0
        """Octets and line ends of the body in wire form; 0 for a multipart, of which nobody asks them."""
        self.lines = 0

    @property
    def media_type(self) -> bytes:
        """`type/subtype` in lower case."""
        return b"%s/%s" % (self.type.lower(), self.subtype.lower())

    @property
    def encoding(self) -> bytes:
        """Content-Transfer-Encoding as written; `7bit` if there is none."""
        match = _ENCODING.match(self.fields.get(b"content-transfer-encoding", b""))
        return match[1] if match else b"7bit"

    def parameter(self, name: bytes) -> bytes | None:
        """A parameter of the Content-Type by its lower-case name."""
        return next((value for key, value in self.parameters if key == name), None)

    def find(self, path: tuple[int, ...]) -> Part | None:
        """The part that IMAP numbers with this path (RFC 9051, 6.4.5.1); an empty path is this part itself."""
        part = self
        at_message = True  # part is a message, so that part 1 of a body that is no multipart is that body
        for number in path:
            if part.is_message and not at_message:
                part, at_message = part.children[0], True
            if part.is_multipart:
                if not 1 <= number <= len(part.children):
                    return None
                part, at_message = part.children[number - 1], False
            elif number == 1 and at_message:
                at_message = False
            else:
                return None
        return part

    def section(self, path: tuple[int, ...], text: str = "") -> tuple[int, int] | None:
        """Where the section `path.text` lies in the store form; None if there is no such section.

        `text` is "" for the body of the part, or MIME, HEADER, TEXT. An empty path with "" is the whole message.
        """
        part = self.find(path)
        if part is None:
            return None
        if text == "MIME":
            return (part.header_start, part.body_start) if path else None
        if text == "":
            return (part.body_start if path else part.header_start), part.end
        if path:
            # With a number in front, HEADER and TEXT are those of a message within.
            if not part.is_message:
                return None
            part = part.children[0]
        return (part.header_start, part.body_start) if text == "HEADER" else (part.body_start, part.end)

    def walk(self) -> list[Part]:
        """This part and all below it, in order."""
        result = [self]
        for child in self.children:
            result += child.walk()
        return result


class _Parser:
    __slots__ = ("count", "data", "measure")

    def __init__(self, data: bytes, measure: bool) -> None:
        self.data = data
        self.count = 0
        self.measure = measure

    def part(
        self,
        start: int,
        end: int,
        depth: int,
        default: tuple[bytes, bytes, Parameters] = _TEXT_PLAIN,
    ) -> Part:
        data = self.data
        self.count += 1
        body_start = header_end(data, start, end)
        part = Part(start, body_start, end, first_fields(data, start, body_start) if body_start - start > 2 else {})
        raw = part.fields.get(b"content-type")
        content_type = default if raw is None else parse_content_type(raw) or _TEXT_PLAIN
        part.type, part.subtype, part.parameters = content_type
        kind = content_type[0].lower()
        if depth < MAX_DEPTH:
            if kind == b"multipart":
                boundary = part.parameter(b"boundary")
                if boundary:
                    part.is_multipart = True
                    self.multipart(part, boundary, depth)
                    return part
            elif kind == b"message" and part.subtype.lower() in _MESSAGES and self.count < MAX_PARTS:
                part.is_message = True
                part.children.append(self.part(body_start, end, depth + 1))
        if kind == b"multipart":  # no boundary, or too deep: readable as text
            part.type, part.subtype, part.parameters = _TEXT_PLAIN
        elif kind == b"message" and not part.is_message and part.subtype.lower() in _MESSAGES:
            part.type, part.subtype, part.parameters = _UNKNOWN  # too deep: clients expect an envelope of a message
        if self.measure:
            part.lines = data.count(b"\n", body_start, end)
            part.wire_size = end - body_start + part.lines
        return part

    def multipart(self, part: Part, boundary: bytes, depth: int) -> None:
        data, end = self.data, part.end
        default = _DIGEST_PART if part.subtype.lower() == b"digest" else _TEXT_PLAIN
        # The line end before a delimiter belongs to it (RFC 2046, 5.1.1), and the one before the body is the header's.
        delimiter = b"\n--" + boundary
        position = part.body_start - 1
        start = -1
        while self.count < MAX_PARTS:
            found = data.find(delimiter, position, end)
            if found < 0:
                break
            position = found + len(delimiter)
            match = _BOUNDARY_REST.match(data, position, end)
            if match is None:  # a longer boundary that begins with this one
                continue
            if start >= 0:
                part.children.append(self.part(start, max(found, start), depth + 1, default))
            if match[1]:
                start = -1
                break
            start = match.end()
            position = max(start - 1, position)
        if start >= 0 and (start < end or not part.children):
            part.children.append(self.part(start, end, depth + 1, default))
        if not part.children:
            # No delimiter at all. Every multipart has a part for clients, so the body is shown as text.
            self.count += 1
            child = Part(part.body_start, part.body_start, end, {})
            child.type, child.subtype, child.parameters = _TEXT_PLAIN
            child.lines = data.count(b"\n", part.body_start, end)
            child.wire_size = end - part.body_start + child.lines
            part.children.append(child)


def parse_structure(data: bytes, *, measure: bool = True) -> Part:
    """The structure of a message in store form. Never raises; at most 50 levels and 1000 parts. Without `measure` the sizes
    and line counts are left out: who looks for texts needs none."""
    return _Parser(data, measure).part(0, len(data), 0)


def find_section(data: bytes, path: tuple[int, ...]) -> Part | None:
    """The part with this number, `(1, 2)` for BODY[1.2]; None if there is none."""
    return parse_structure(data).find(path)
