"""Character sets of mail: bytes of any label to text, part bodies to text for searching and showing, comparison keys.

Reading never fails: an unknown label or broken bytes give the nearest text. UTF-8 is strict (RFC 3629): overlong
forms, surrogates and five-byte forms become U+FFFD.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from binascii import a2b_base64, a2b_qp
from typing import Final

from appliance.formats.mime import Part

# Labels that mail uses and the codec library does not know, or means differently. Windows sets are supersets of the
# ISO sets that careless mailers name (the practice of browsers).
_LABELS: Final = {
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "iso-8859-8-i": "iso-8859-8",
    "iso-8859-8-e": "iso-8859-8",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
    "ks_c_5601-1987": "cp949",
    "euc-kr": "cp949",
    "x-gbk": "gb18030",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "unicode-1-1-utf-7": "utf-7",
    "unicode-1-1-utf-8": "utf-8",
    "x-unknown": "cp1252",
    "unknown-8bit": "cp1252",
    "default": "cp1252",
    "binary": "cp1252",
    "iso-2022-jp": "iso2022_jp_ext",
    "koi8-ru": "koi8-u",
    "x-mac-roman": "mac-roman",
    "macintosh": "mac-roman",
}
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+()-]{0,79}")
# Codecs of the library that are no character sets of mail: they can be huge, or are not text at all.
_NO_CHARSETS: Final = frozenset(
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
)
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/=]+")
_UPPER: Final = bytes(range(97)) + bytes(range(65, 91)) + bytes(range(123, 256))


def find_charset(label: str) -> str | None:
    """The codec for a charset label of any case (RFC 2978); None if it is not known."""
    label = label.strip().strip("\"'").lower()
    if not _LABEL.fullmatch(label):
        return None
    try:
        info = codecs.lookup(_LABELS.get(label, label))
        if info.name.replace("-", "_") in _NO_CHARSETS:
            return None
    except (LookupError, ValueError):
        return None
    # The library's table holds zlib, base64 and the like too.
    return info.name if getattr(info, "_is_text_encoding", True) else None


def decode_text(data: bytes, label: str) -> str:
    """Bytes of a charset as text. An unknown label is taken as UTF-8 if the bytes are, else as Windows Latin-1.

    Bytes that are labelled UTF-8 or ASCII but are no UTF-8 are Latin-1, which is nearly always the truth.
    """
    codec = find_charset(label) if label else "utf-8"
    if codec in (None, "utf-8", "cp1252"):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            if codec == "utf-8" and _has_utf8(data):
                return data.decode("utf-8", "replace")
            return data.decode("cp1252", "replace")
    try:
        return data.decode(codec or "utf-8", "replace")
    except (LookupError, ValueError):
        return data.decode("cp1252", "replace")


def _has_utf8(data: bytes) -> bool:
    """Whether damaged bytes were meant as UTF-8: some sequence in them is right, or only UTF-8's lead bytes occur."""
    kept = data.decode("utf-8", "ignore")
    return not kept.isascii() or not re.search(rb"[\xa0-\xff](?![\x80-\xff])", data)


def _decode_base64(symbols: bytes) -> bytes:
    if len(symbols) % 4 == 1:  # one symbol is not even a byte
        symbols = symbols[:-1]
    return a2b_base64(symbols + b"=" * (-len(symbols) % 4))


def decode_transfer(data: bytes, encoding: bytes) -> bytes:
    """The content behind a Content-Transfer-Encoding (RFC 2045, 6). Broken input gives what can be read of it."""
    kind = encoding.strip().lower()
    if kind == b"base64":
        # Padding in the middle: encoded pieces put together.
        return b"".join(map(_decode_base64, _NOT_BASE64.sub(b"", data).rstrip(b"=").split(b"=")))
    if kind == b"quoted-printable":
        return a2b_qp(data)
    return data


def is_known_encoding(encoding: bytes) -> bool:
    """Whether `decode_transfer` can decode it; IMAP's BINARY must refuse others."""
    return encoding.strip().lower() in (b"", b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable")


def content_of(data: bytes, part: Part, limit: int | None = None) -> bytes:
    """The decoded content of a part of a message in store form; of at most `limit` bytes of its encoded body."""
    end = part.end if limit is None else min(part.end, part.body_start + limit)
    return decode_transfer(data[part.body_start : end], part.encoding)


def text_of(data: bytes, part: Part, limit: int | None = None) -> str:
    """The text of a part, with LF as line end: decoded, from its charset, tolerant."""
    label = (part.parameter(b"charset") or b"us-ascii").decode("latin-1")
    return decode_text(content_of(data, part, limit), label).replace("\r\n", "\n")


def ascii_casemap(data: bytes) -> bytes:
    """The comparison key of i;ascii-casemap (RFC 4790, 9.2): letters a-z in upper case, all else as it is."""
    return data.translate(_UPPER)


def unicode_casemap(text: str) -> str:
    """A key for searching text without regard to case: upper case, compatibility forms and accents taken apart.

    For letters that have one upper-case letter this is i;unicode-casemap (RFC 5051); ligatures and sharp s match
    their spelled-out forms as well.
    """
    if text.isascii():
        return text.upper()
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).upper())
