"""Writing answers (RFC 3501, section 7 and 9): the right form of each string, and the lines that are not rows of FETCH."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from appliance.protocols.imap.names import shown
from appliance.protocols.imap.sequence import compact

MAX_QUOTED: Final = 1000
"""Longer strings go out as literals: clients have line buffers."""

_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_QUOTABLE = re.compile(rb"[^\x00\r\n\x80-\xff]*")
_LINE_ENDS = re.compile(rb"[\x00\r\n]")
_TEXT_BREAKS = re.compile(r"[\x00-\x1f\x7f]+")


def quoted(text: bytes) -> bytes:
    """`quoted`; `text` has neither line ends, NUL nor octets above 127."""
    return b'"%b"' % text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def literal(data: bytes) -> bytes:
    return b"{%d}\r\n%b" % (len(data), data)


def string(text: bytes) -> bytes:
    """`string`: quoted if it can be, else a literal."""
    if len(text) <= MAX_QUOTED and _QUOTABLE.fullmatch(text):
        return quoted(text)
    return literal(text)


def nstring(text: bytes | None) -> bytes:
    return b"NIL" if text is None else string(text)


def astring(text: bytes) -> bytes:
    """`astring`: an atom if it can be and cannot be taken for NIL, else a string."""
    if _ATOM.fullmatch(text) and text.upper() != b"NIL":
        return text
    return string(text)


def mailbox(name: str, *, utf8: bool = False) -> bytes:
    """A mailbox name of the server's form; in UTF-8 for clients that asked for it."""
    text = shown(name, utf8=utf8)
    if utf8 and not text.isascii():
        return quoted(text) if not _LINE_ENDS.search(text) else literal(text)
    return astring(text)


def flag_list(names: Iterable[str]) -> bytes:
    return b"(%b)" % " ".join(names).encode("ascii", "replace")


def text(words: str) -> bytes:
    """Human text on one line (resp-text); never empty, because the grammar asks for a character."""
    line = _TEXT_BREAKS.sub(" ", words).strip()
    return line.encode("utf-8", "surrogateescape") or b"-"


def _condition(lead: bytes, status: bytes, words: str, code: bytes | None) -> bytes:
    if code is None:
        return b"%b %b %b\r\n" % (lead, status, text(words))
    return b"%b %b [%b] %b\r\n" % (lead, status, code, text(words))


def ok(tag: bytes, words: str, code: bytes | None = None) -> bytes:
    return _condition(tag, b"OK", words, code)


def no(tag: bytes, words: str, code: bytes | None = None) -> bytes:
    return _condition(tag, b"NO", words, code)


def bad(tag: bytes | None, words: str, code: bytes | None = None) -> bytes:
    """Tagged, or untagged when the tag could not be read."""
    return _condition(tag or b"*", b"BAD", words, code)


def note(words: str, code: bytes | None = None) -> bytes:
    """An untagged OK: greetings, alerts, codes of SELECT."""
    return _condition(b"*", b"OK", words, code)


def bye(words: str, code: bytes | None = None) -> bytes:
    return _condition(b"*", b"BYE", words, code)


def alert(words: str) -> bytes:
    """Text that the client must show to its user (RFC 3501, 7.1)."""
    return _condition(b"*", b"OK", words, b"ALERT")


def capability(names: Iterable[str]) -> bytes:
    return b"* CAPABILITY %b\r\n" % " ".join(names).encode("ascii")


def enabled(names: Iterable[str]) -> bytes:
    return b"* %b\r\n" % " ".join(["ENABLED", *names]).encode("ascii")


def exists(count: int) -> bytes:
    return b"* %d EXISTS\r\n" % count


def recent(count: int) -> bytes:
    return b"* %d RECENT\r\n" % count


def flags(names: Iterable[str]) -> bytes:
    return b"* FLAGS %b\r\n" % flag_list(names)


def expunges(numbers: Iterable[int]) -> bytes:
    """One line for each number, in the order in which they take effect."""
    return b"".join([b"* %d EXPUNGE\r\n" % number for number in numbers])


def vanished(uids: Iterable[int], *, earlier: bool = False) -> bytes:
    """UIDs of removed messages in the place of EXPUNGE lines, or (`earlier`) while the client was away (RFC 7162, 3.2.10)."""
    numbers = compact(uids)
    if not numbers:
        return b""
    return b"* VANISHED (EARLIER) %b\r\n" % numbers if earlier else b"* VANISHED %b\r\n" % numbers


def listing(
    attributes: Sequence[str], name: str, *, command: bytes = b"LIST", utf8: bool = False, more: bytes = b""
) -> bytes:
    """A row of LIST or LSUB; `more`: extended data, in its parentheses (RFC 5258, 6)."""
    end = b" " + more if more else b""
    return b'* %b %b "/" %b%b\r\n' % (command, flag_list(attributes), mailbox(name, utf8=utf8), end)


def status(name: str, values: Iterable[tuple[str, int | bytes]], *, utf8: bool = False) -> bytes:
    """A STATUS row; a value of bytes is in its wire form already."""
    items = b" ".join(
        [
            b"%b %b" % (item.encode("ascii"), value if isinstance(value, bytes) else b"%d" % value)
            for item, value in values
        ]
    )
    return b"* STATUS %b (%b)\r\n" % (mailbox(name, utf8=utf8), items)


def acl(name: str, entries: Iterable[tuple[str, str]], *, utf8: bool = False) -> bytes:
    """`* ACL mailbox identifier rights ...` (RFC 4314, 3.6)."""
    words = [b"* ACL", mailbox(name, utf8=utf8)]
    for identifier, rights in entries:
        words += [_identifier(identifier), astring(rights.encode("ascii"))]
    return b" ".join(words) + b"\r\n"


def _identifier(text: str) -> bytes:
    return astring(text.encode("utf-8", "surrogateescape"))


def list_rights(name: str, identifier: str, required: str, optional: Iterable[str], *, utf8: bool = False) -> bytes:
    """`* LISTRIGHTS` (RFC 4314, 3.7); rights that go together are one word."""
    words = [b"* LISTRIGHTS", mailbox(name, utf8=utf8), _identifier(identifier), astring(required.encode("ascii"))]
    words += [astring(rights.encode("ascii")) for rights in optional]
    return b" ".join(words) + b"\r\n"


def my_rights(name: str, rights: str, *, utf8: bool = False) -> bytes:
    return b"* MYRIGHTS %b %b\r\n" % (mailbox(name, utf8=utf8), astring(rights.encode("ascii")))


def metadata(name: str, entries: Iterable[tuple[str, bytes | None]], *, utf8: bool = False) -> bytes:
    """`* METADATA` with values (RFC 5464, 4.4.1)."""
    words = b" ".join([b"%b %b" % (astring(key.encode("ascii")), nstring8(value)) for key, value in entries])
    return b"* METADATA %b (%b)\r\n" % (mailbox(name, utf8=utf8) if name else b'""', words)


def metadata_changed(name: str, entries: Iterable[str], *, utf8: bool = False) -> bytes:
    """`* METADATA` without values: these have changed (RFC 5464, 4.4.2)."""
    words = b" ".join([astring(key.encode("ascii")) for key in entries])
    return b"* METADATA %b %b\r\n" % (mailbox(name, utf8=utf8) if name else b'""', words)


def nstring8(value: bytes | None) -> bytes:
    """NIL, a string, or a literal8 where no string can hold it."""
    if value is not None and b"\0" in value:
        return b"~" + literal(value)
    return nstring(value)


def numbers(numbers: Iterable[int], command: bytes, modseq: int = 0) -> bytes:
    """`* SEARCH` or `* SORT`, also with no hit. `modseq`: the highest of the hits, when mod-sequences were searched
    (RFC 7162, 3.1.5)."""
    words = [b"* " + command, *(b"%d" % number for number in numbers)]
    if modseq:
        words.append(b"(MODSEQ %d)" % modseq)
    return b" ".join(words) + b"\r\n"


def quota(root: str, resources: Iterable[tuple[str, int, int]]) -> bytes:
    """Name, use and limit of each resource (RFC 2087, 5.1); STORAGE counts units of 1,024 octets."""
    items = b" ".join([b"%b %d %d" % (name.encode("ascii"), used, limit) for name, used, limit in resources])
    return b"* QUOTA %b (%b)\r\n" % (mailbox(root), items)


def quota_root(name: str, roots: Iterable[str], *, utf8: bool = False) -> bytes:
    return b" ".join([b"* QUOTAROOT", mailbox(name, utf8=utf8), *map(mailbox, roots)]) + b"\r\n"


def namespace(
    personal: Sequence[tuple[str, str]], others: Sequence[tuple[str, str]], shared: Sequence[tuple[str, str]]
) -> bytes:
    """Prefix and separator of each namespace of each kind (RFC 2342, section 5)."""

    def kind(spaces: Sequence[tuple[str, str]]) -> bytes:
        if not spaces:
            return b"NIL"
        pairs = [b"(%b %b)" % (string(prefix.encode("utf-8")), quoted(mark.encode("ascii"))) for prefix, mark in spaces]
        return b"(%b)" % b"".join(pairs)

    return b"* NAMESPACE %b %b %b\r\n" % (kind(personal), kind(others), kind(shared))


def identity(fields: Iterable[tuple[str, str | None]]) -> bytes:
    """`* ID` (RFC 2971, 3.1)."""
    words = [
        b"%b %b" % (string(name.encode("utf-8")), nstring(None if value is None else value.encode("utf-8")))
        for name, value in fields
    ]
    return b"* ID %b\r\n" % (b"(%b)" % b" ".join(words) if words else b"NIL")
