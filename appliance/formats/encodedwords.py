"""Text in header fields: RFC 2047 encoded words, read tolerantly and written as the standard wants."""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64, a2b_qp
from typing import Final

from appliance.formats.charsets import decode_text
from appliance.formats.headers import unfold

MAX_WORD: Final = 75
"""Octets of one encoded word (RFC 2047, 2)."""
MAX_LINE: Final = 76
"""Octets of a line that has encoded words."""

_WORD: Final = re.compile(rb"=\?([^?\s]{1,80})\?([bBqQ])\?([^?]*)\?=")
_PLAIN: Final = re.compile(r"[\t\x20-\x7e]*")
_SAFE_IN_PHRASE: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~ ]+")


def _decode_word(match: re.Match[bytes]) -> tuple[str, bytes]:
    """Charset (without RFC 2231's language) and bytes of one word."""
    charset = match[1].partition(b"*")[0].decode("latin-1").lower()
    text = match[3]
    if match[2] in b"qQ":
        return charset, a2b_qp(text, header=True)
    try:
        return charset, a2b_base64(text + b"=" * (-len(text) % 4))
    except Base64Error:
        return "", match[0]


def decode_words(value: bytes) -> str:
    """A raw value as text: encoded words decoded, other bytes as UTF-8 or else Latin-1, on one line. Never raises.

    Blanks between encoded words go (RFC 2047, 6.2); neighbours in one charset are joined before decoding, because
    many mailers cut a character in two.
    """
    value = unfold(value)
    if b"=?" not in value:
        return decode_text(value, "utf-8")
    parts: list[str] = []
    pending, pending_charset = b"", ""
    position = 0
    for match in _WORD.finditer(value):
        between = value[position : match.start()]
        charset, data = _decode_word(match)
        is_next = position > 0 and not between.strip(b" \t")
        if pending and not (is_next and charset == pending_charset):
            parts.append(decode_text(pending, pending_charset))
            pending = b""
        if not is_next and between:
            parts.append(decode_text(between, "utf-8"))
        pending, pending_charset = pending + data, charset
        position = match.end()
    if pending:
        parts.append(decode_text(pending, pending_charset))
    parts.append(decode_text(value[position:], "utf-8"))
    return "".join(parts)


def _q_encode(data: bytes) -> bytes:
    return b"".join(b"%c" % c if c in _SAFE_IN_PHRASE else b"_" if c == 32 else b"=%02X" % c for c in data)


def _words(text: str, first_room: int) -> list[bytes]:
    """Encoded words in UTF-8, each with whole characters; Q if half of them is ASCII, else B."""
    use_q = sum(not character.isascii() for character in text) * 2 <= len(text)
    words: list[bytes] = []
    current = b""
    room = min(first_room, MAX_WORD) - 12
    for character in text:
        raw = character.encode("utf-8", "replace")
        if use_q:
            piece = _q_encode(raw)
            is_full = len(current) + len(piece) > room
        else:
            piece = raw
            is_full = (len(current) + len(piece) + 2) // 3 * 4 > room
        if is_full and current:
            words.append(current)
            current, room = b"", MAX_WORD - 12
        current += piece
    words.append(current)
    if use_q:
        return [b"=?utf-8?Q?%s?=" % word for word in words]
    return [b"=?utf-8?B?%s?=" % b64encode(word) for word in words]


def encode_words(text: str, *, name_length: int = 0) -> bytes:
    """A text for the value of an unstructured field (Subject) or a phrase, folded with LF and a blank where it is long.

    Pure ASCII that cannot be mistaken for an encoded word stays as it is. `name_length` is what already stands on the
    line. Line ends and control symbols become blanks, so nobody can add fields.
    """
    text = re.sub(r"[\x00-\x08\x0a-\x1f\x7f]+", " ", text)
    if _PLAIN.fullmatch(text) and "=?" not in text:
        return _fold(text.encode(), name_length)
    return b"\n ".join(_words(text, MAX_LINE - 2 - name_length))


def _fold(data: bytes, used: int) -> bytes:
    """Lines of at most 78 octets where there are blanks to fold at; the blanks stay (RFC 5322, 2.2.3)."""
    if used + len(data) <= 76:
        return data
    lines: list[bytes] = []
    line = b""
    for piece in re.findall(rb"[ \t]*[^ \t]+|[ \t]+$", data):
        if line and used + len(line) + len(piece) > 76 and piece.strip(b" \t"):
            lines.append(line)
            line, used = b"", 0
        line += piece
    lines.append(line)
    return b"\n".join(lines)


def encode_phrase(name: str) -> bytes:
    """A display name: atoms bare, other ASCII as a quoted string, all else as encoded words."""
    name = re.sub(r"[\x00-\x1f\x7f]+", " ", name).strip()
    if _ATOMS.fullmatch(name) and "=?" not in name:
        return name.encode()
    if name.isascii() and "=?" not in name:
        return b'"%s"' % name.replace("\\", "\\\\").replace('"', '\\"').encode()
    return encode_words(name)


def encode_mailbox(name: str, address: str) -> bytes:
    """`name <address>` for From, To and their like; only the address if there is no name. Non-ASCII addresses as UTF-8."""
    raw = re.sub(r"[\x00-\x1f\x7f<>]+", "", address).encode("utf-8", "surrogateescape")
    return b"%s <%s>" % (encode_phrase(name), raw) if name.strip() else raw
