"""Values with parameters: Content-Type, Content-Disposition (RFC 2045, 5.1; RFC 2183), and their RFC 2231 forms."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from appliance.formats.headers import unfold

MAX_PARAMETERS: Final = 200
"""Most parameters of one value; the rest is left out."""

Parameters = tuple[tuple[bytes, bytes], ...]

_PARAMETER = re.compile(rb";\s*([^\s=;\"]+)\s*=\s*(?:\"([^\"\\]*(?:\\.[^\"\\]*)*)\"?|([^;\"]*))[^;]*", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT = re.compile(rb"\([^()\"]*\)")
_MEDIA_TYPE = re.compile(rb"\s*([^\s/;()<>@,:\\\"\[\]?=]+)\s*/\s*([^\s/;()<>@,:\\\"\[\]?=]+)")
_TOKEN = re.compile(rb"\s*([^\s;()<>@,:\\\"/\[\]?=]+)")
_SEGMENT = re.compile(r"(.+?)(?:\*([0-9]{1,4}))?(\*)?")


def parse_parameters(value: bytes, position: int = 0) -> Parameters:
    """The `; name=value` pairs behind `position` of an unfolded value: names in lower case, values without quoting.

    Values without quotes may hold blanks, as many mailers write file names. Never raises.
    """
    result: list[tuple[bytes, bytes]] = []
    for name, quoted, plain in _PARAMETER.findall(value, position):
        if plain:
            if b"(" in plain:
                plain = _COMMENT.sub(b"", plain)
            result.append((name.lower(), plain.strip()))
        else:
            result.append((name.lower(), _QUOTED_PAIR.sub(rb"\1", quoted) if b"\\" in quoted else quoted))
        if len(result) >= MAX_PARAMETERS:
            break
    return tuple(result)


def parse_content_type(raw: bytes) -> tuple[bytes, bytes, Parameters] | None:
    """Type, subtype (both as written) and parameters of a raw value; None if it is not of the form `type/subtype`."""
    value = unfold(raw)
    match = _MEDIA_TYPE.match(value)
    if match is None:
        return None
    return match[1], match[2], parse_parameters(value, match.end()) if match.end() < len(value) else ()


def parse_disposition(raw: bytes) -> tuple[bytes, Parameters] | None:
    """The word (as written) and the parameters of a raw Content-Disposition; None if there is no word."""
    value = unfold(raw)
    match = _TOKEN.match(value)
    if match is None:
        return None
    return match[1], parse_parameters(value, match.end())


def decode_parameters(parameters: Parameters) -> dict[str, str]:
    """Parameters as texts: RFC 2231 pieces joined in order and decoded, other values as UTF-8 or Latin-1.

    The extended form of a name wins over its plain form. Encoded words within values (against RFC 2047, but common)
    are left to the caller.
    """
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for raw_name, value in parameters:
        match = _SEGMENT.fullmatch(raw_name.decode("latin-1"))
        if match is None:
            continue
        name, number, extended = match.groups()
        if number is None and not extended:
            plain.setdefault(name, _text(value))
        else:
            pieces.setdefault(name, {}).setdefault(int(number or 0), (value, extended is not None))
    for name, numbered in pieces.items():
        charset = "utf-8"
        data = b""
        for expected, number in enumerate(sorted(numbered)):
            if number != expected:
                break  # RFC 2231, 3: what stands behind a gap does not belong to the value
            value, is_extended = numbered[number]
            if is_extended and number == 0 and value.count(b"'") >= 2:
                label, _, value = value.split(b"'", 2)
                charset = label.decode("latin-1") or "utf-8"
            data += unquote_to_bytes(value) if is_extended else value
        try:
            plain[name] = data.decode(charset)
        except (LookupError, ValueError):
            plain[name] = _text(data)
    return plain


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
