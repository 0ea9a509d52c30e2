"""Lists of addresses in header fields: RFC 5322, 3.4, with its obsolete forms and what mailers make of them.

The reader is for showing and searching, so it never refuses: what is not an address becomes the nearest thing to one.
Encoded words (RFC 2047) stay as they are. All parts are bytes, without their quoting.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_MAILBOXES: Final = 10_000
"""Most entries of one field; the rest is left out."""


class Mailbox(NamedTuple):
    """One entry, as IMAP wants it (RFC 9051, 7.5.2).

    A domain of None marks the borders of a group: at its begin `local` is the name of the group, at its end it is
    None too. An address that has no domain has an empty one. `route` is an obsolete source route, `@a,@b`.
    """

    name: bytes | None
    local: bytes | None
    domain: bytes | None
    route: bytes | None = None

    @property
    def is_address(self) -> bool:
        """Whether this is an address, not the border of a group."""
        return self.domain is not None


_GROUP_END: Final = Mailbox(None, None, None)

# Nearly every field: names of atoms or one quoted string, then the address; one match for each entry.
_COMMON = re.compile(
    rb"[ \t]*+(?:(?:\"([^\"\\]*)\"[ \t]*|([^\"(),.:;<>@\[\]\\\x00-\x1f]+))?"
    rb"<([^\"(),:;<>@\[\]\\\x00-\x20]+)@([^\"(),:;<>@\\\x00-\x20]+)>"
    rb"|([^\"(),:;<>@\[\]\\\x00-\x20]+)@([^\"(),:;<>@\[\]\\\x00-\x20]+))[ \t]*(?:,|$)"
)
# Unclosed quotes, literals and comments run to the end of the field: no text is looked at twice.
_TOKEN = re.compile(
    rb"([ \t]+)|\"([^\"\\]*(?:\\.[^\"\\]*)*)\"?|(\[[^\[\]\\]*(?:\\.[^\[\]\\]*)*\]?)|([<>@,;:])|(\()"
    rb"|([^ \t\"\[<>@,;:(]+)",
    re.DOTALL,
)
_COMMENT_SYMBOL = re.compile(rb"\\.|[()]", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_SPACE, _QUOTED, _LITERAL, _SPECIAL, _COMMENT, _ATOM = range(1, 7)

_Token = tuple[int, bytes]


def parse_mailboxes(value: bytes) -> list[Mailbox]:
    """The entries of the raw value of From, To, Cc and their like, in order. Never raises."""
    if b"\n" in value or b"\r" in value:
        value = value.replace(b"\r", b"").replace(b"\n", b"")
    result: list[Mailbox] = []
    position, length = 0, len(value)
    common = _COMMON.match
    while position < length:
        match = common(value, position)
        if match is None or len(result) >= MAX_MAILBOXES:
            break
        quoted, atoms, local, domain, bare_local, bare_domain = match.groups()
        if bare_local is not None:
            result.append(Mailbox(None, bare_local, bare_domain))
        else:
            result.append(Mailbox(quoted or (atoms.strip() if atoms else None) or None, local, domain))
        position = match.end()
    if position < length:
        _parse_rest(value, position, result)
    return result


def _tokens(value: bytes, position: int) -> list[_Token]:
    """What the text is made of; a comment is one token with its text."""
    result: list[_Token] = []
    length = len(value)
    while position < length:
        match = _TOKEN.match(value, position)
        if match is None:  # cannot be: the alternatives cover every byte
            break
        kind = match.lastindex or _ATOM
        position = match.end()
        if kind == _COMMENT:
            start, depth = position, 1
            for symbol in _COMMENT_SYMBOL.finditer(value, position):
                if symbol[0] == b"(":
                    depth += 1
                elif symbol[0] == b")":
                    depth -= 1
                    if not depth:
                        break
            else:
                symbol = None
            end = symbol.start() if symbol else length
            position = symbol.end() if symbol else length
            result.append((_COMMENT, _QUOTED_PAIR.sub(rb"\1", value[start:end])))
        elif kind == _QUOTED:
            result.append((_QUOTED, _QUOTED_PAIR.sub(rb"\1", match[2])))
        else:
            result.append((kind, match[kind]))
    return result


def _parse_rest(value: bytes, position: int, result: list[Mailbox]) -> None:
    words: list[_Token] = []  # of the entry, up to its brackets
    inside: list[_Token] | None = None  # of the brackets
    comment: bytes | None = None
    in_group = in_brackets = False

    def finish() -> None:
        nonlocal words, inside, comment, in_brackets
        if inside is not None:
            mailbox = _address(inside, _phrase(words) or comment)
        else:
            mailbox = _address(words, comment)
        if mailbox is not None and len(result) < MAX_MAILBOXES:
            result.append(mailbox)
        words, inside, comment, in_brackets = [], None, None, False

    for token in _tokens(value, position):
        kind, text = token
        if kind == _COMMENT:
            comment = text.strip() or comment
        elif kind != _SPECIAL or text == b"@":
            if in_brackets and inside is not None:
                inside.append(token)
            elif inside is None or kind != _SPACE:
                words.append(token)
        elif text == b"<":
            if inside is None:
                inside, in_brackets = [], True
        elif text == b">":
            in_brackets = False
        elif in_brackets and inside is not None and text in b",:" and _is_route(inside):
            inside.append(token)
        elif text == b":" and not in_group and inside is None:
            result.append(Mailbox(None, _phrase(words) or b"", None))
            words, comment, in_group = [], None, True
        elif text == b":":
            words.append((_ATOM, text))
        else:
            finish()
            if text == b";" and in_group:
                result.append(_GROUP_END)
                in_group = False
    finish()
    if in_group:
        result.append(_GROUP_END)


def _is_route(inside: list[_Token]) -> bool:
    """Whether the brackets begin with `@`: an obsolete source route, whose commas and colon separate no entries."""
    return next((text == b"@" for kind, text in inside if kind != _SPACE), False)


def _phrase(words: list[_Token]) -> bytes | None:
    """A display name: the words with one space wherever there was any."""
    parts: list[bytes] = []
    for kind, part in words:
        if kind != _SPACE:
            parts.append(part)
        elif parts and parts[-1] != b" ":
            parts.append(b" ")
    return b"".join(parts).strip() or None


def _address(words: list[_Token], name: bytes | None) -> Mailbox | None:
    """The address of tokens `local @ domain`, perhaps behind a route; None if there is nothing."""
    words = [word for word in words if word[0] != _SPACE] if (_SPECIAL, b"@") in words else words
    route = None
    if words and words[0] == (_SPECIAL, b"@") and (_SPECIAL, b":") in words:
        colon = words.index((_SPECIAL, b":"))
        route = b"".join(text for _, text in words[:colon])
        words = words[colon + 1 :]
    if (_SPECIAL, b"@") in words:
        last = len(words) - 1 - words[::-1].index((_SPECIAL, b"@"))
        local = b"".join(text for _, text in words[:last])
        domain = b"".join(text for _, text in words[last + 1 :])
        return Mailbox(name, local, domain, route)
    local = _phrase(words) or b""
    if not local and not name:
        return None
    return Mailbox(name, local, b"", route)
